"""Every term of every normalization is broken once, and the tests must notice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "mutate_norms.py"
RULES = Path(__file__).parent / "mutate_rules.py"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each mutant lives in a forked process")


def run(*options, script=SCRIPT):
    return subprocess.run([sys.executable, str(script), *options], capture_output=True, text=True)


def test_a_mutant_that_nothing_notices_is_reported():
    """That unit_backward widens float16 is seen by tests that --quick leaves out."""
    done = run("Kernels.unit_backward", "--quick")
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stderr
    assert [line for line in lines if "SURVIVED" in line] == [line for line in lines if "`self.wide(g)` as `g`" in line]
    assert len(lines) > 8


@pytest.mark.slow
@pytest.mark.promise("P1")
def test_every_mutant_of_the_normalizations_is_noticed(record_property):
    done = run()
    assert done.returncode == 0, (
        "\n".join(line for line in done.stdout.splitlines() if "SURVIVED" in line) + done.stderr
    )
    killed, total = (int(word) for word in done.stdout.splitlines()[-1].split()[:3:2])
    assert killed == total > 500
    record_property("figure", f"{killed} of {total} mutants of the normalizations noticed")


def test_mutants_of_one_rule():
    done = run("Tanh", script=RULES)
    killed, total = (int(word) for word in done.stdout.splitlines()[-1].split()[:3:2])
    assert done.returncode == 0 and killed == total > 10, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.promise("P1")
def test_mutants_of_all_rules_are_noticed(record_property):
    done = run(script=RULES)
    killed, total = (int(word) for word in done.stdout.splitlines()[-1].split()[:3:2])
    assert done.returncode == 0 and killed >= 0.95 * total and total > 1000, done.stdout + done.stderr
    record_property("figure", f"{killed} of {total} mutants of gradient rules noticed ({100 * killed / total:.1f} %)")
