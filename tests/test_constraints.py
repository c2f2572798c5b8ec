"""The versions that .ci/run and .ci/release install are those that setup.cfg promises, the oldest and newer ones."""

from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent


def requirements(*extras):
    """What setup.cfg asks for, by name: for itself and for these extras."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    texts = [config["options"]["install_requires"], *(config["options.extras_require"][extra] for extra in extras)]
    found = [Requirement(line) for text in texts for line in text.strip().splitlines()]
    return {requirement.name: requirement.specifier for requirement in found}


def constraints(name):
    """The pinned versions, by name; several where they depend on Python's version."""
    pinned = {}
    for line in (ROOT / ".ci" / name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            (exact,) = requirement.specifier
            assert exact.operator == "==", line
            pinned.setdefault(requirement.name, []).append(Version(exact.version))
    return pinned


@pytest.mark.parametrize("name, specifier", requirements("data", "fast", "lab", "viz", "test").items())
def test_the_oldest_version_that_is_promised_is_the_oldest_that_is_tested(name, specifier):
    (lowest,) = specifier
    assert lowest.operator == ">="
    assert constraints("constraints-oldest.txt")[name] == [Version(lowest.version)]


EXTRAS = ("test", "gputest", "data", "lab", "viz", "fast", "docs", "dev")  # as in .ci/steps


@pytest.mark.parametrize("name, specifier", requirements(*EXTRAS).items())
def test_what_ci_installs_is_pinned_and_promised(name, specifier):
    pinned = constraints("constraints-newest.txt")[name]
    assert all(version in specifier for version in pinned)
    assert f'".[{",".join(EXTRAS)}]"' in (ROOT / ".ci" / "steps").read_text(encoding="utf-8")
