"""Every command that a page shows: its program, options, files and extras exist."""

import re
import shlex
from configparser import ConfigParser
from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.cases import SECTIONS
from tinygrad_norm.cli import parser as command_line

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(
    r"^(?: {4})?((?:\S+/)?(?:[A-Z_]+=\S+ )*(?:tinygrad-norm|python3?|pip|bash|coverage|nvidia-smi) .*)$"
)
SHOWN = [
    (page.name, re.split(" > | #", part)[0].strip())
    for page in PAGES
    for line in page.read_text(encoding="utf-8").splitlines()
    if (found := COMMAND.match(line))
    for part in found[1].split("&&")
]
EXTRAS = ConfigParser(interpolation=None)
EXTRAS.read(ROOT / "setup.cfg", encoding="utf-8")


def parsed(parser, words):
    try:
        return parser.parse_args(words)
    except SystemExit as end:
        assert not end.code, words  # 0: --help


def check(words):
    """The words of one command; what is left of a check here is a command that no test runs or parses."""
    program, *rest = words
    program = program.rsplit("/", 1)[-1]
    if program == "tinygrad-norm":
        parsed(command_line(), rest)
    elif program in ("python", "python3", "pip"):
        if rest[:2] == ["-m", "benchmarks"]:
            chosen = parsed(run.parser(), rest[2:]).only
            assert set((chosen or "train").split(",")) <= set(SECTIONS), chosen
        elif rest[:2] == ["-m", "pytest"]:
            assert all(word.startswith("-") or (ROOT / word).exists() for word in rest[2:] if word not in ARGUMENTS)
        elif "install" in rest:
            for extra in re.findall(r"\[(.*?)\]", " ".join(rest)):
                assert all(EXTRAS.has_option("options.extras_require", name) for name in extra.split(",")), extra
        elif rest[:1] != ["-m"]:
            assert (ROOT / rest[0]).is_file(), rest
    elif program == "bash":
        assert (ROOT / rest[0]).is_file(), rest
    else:
        assert program in ("coverage", "nvidia-smi"), words


ARGUMENTS = ("slow or not slow", "slow", "promises", "strict", "cuda", "$RANDOM")


@pytest.mark.parametrize("page, command", SHOWN, ids=lambda text: text[:60])
def test_a_command_that_is_shown_can_be_written(page, command):
    check(shlex.split(command))


def test_the_commands_are_found():
    assert len(SHOWN) > 25 and {page for page, _ in SHOWN} >= {
        "README.md",
        "quickstart.md",
        "claims.md",
        "performance.md",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        "tinygrad-norm compair", "tinygrad-norm claims --onyl 3", "python -m benchmarks --only nrms",
        "python examples/a.py", 'pip install ".[faster]"', "python -m pytest tests/test_nothing.py", "conda install x",
    ],
)  # fmt: skip
def test_a_wrong_command_is_seen(wrong, capsys):
    with pytest.raises(AssertionError):
        check(shlex.split(wrong))
