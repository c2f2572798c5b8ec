"""The README: its example runs, its commands are those that are tested, its picture and links are there."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SET_UP = "python3 -m venv --without-pip .venv && python3 -m pip --python .venv/bin/python install -q "


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_example_has_twelve_lines_and_runs(tmp_path):
    (block,) = blocks("python")
    assert len([line for line in block.splitlines() if line]) == 12
    command = [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{block}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"accuracy on 450 unseen images: ([\d.]+)%", done.stdout)[1]) > 95
    assert list(tmp_path.iterdir()) == []


def test_the_example_is_the_quickstart():
    script = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")
    (block,) = blocks("python")
    assert ast.unparse(ast.parse(block)) == ast.unparse(ast.parse(script).body[1:])  # but for its comments


def test_there_are_exactly_two_set_up_commands():
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert commands == [line for line in TEXT.splitlines() if line.startswith("python3 -m venv")]
    assert commands == [
        f'{SET_UP}".[lab]" && .venv/bin/tinygrad-norm compare',
        f'{SET_UP}".[test]" && .venv/bin/python -m pytest',
    ]


def test_picture_and_links_are_there():
    targets = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert "docs/images/compare.png" in targets and "docs/tour.md" in targets
    for target in targets:
        assert (ROOT / target).exists(), target
    assert (ROOT / "docs" / "images" / "compare.png").stat().st_size < 150_000


def test_it_says_what_it_is_not():
    assert "no relation to the tinygrad project" in TEXT
    assert len(TEXT.splitlines()) < 75
