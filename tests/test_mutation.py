"""Every term of every normalization is broken once, and the tests must notice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "mutate_norms.py"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each mutant lives in a forked process")


def run(*options):
    return subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True)


def test_a_mutant_that_nothing_notices_is_reported():
    """That unit_backward widens float16 is seen by tests that --quick leaves out."""
    done = run("Kernels.unit_backward", "--quick")
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stderr
    assert [line for line in lines if "SURVIVED" in line] == [line for line in lines if "`self.wide(g)` as `g`" in line]
    assert len(lines) > 15


@pytest.mark.slow
def test_every_mutant_of_the_normalizations_is_noticed():
    done = run()
    assert done.returncode == 0, (
        "\n".join(line for line in done.stdout.splitlines() if "SURVIVED" in line) + done.stderr
    )
    killed, total = (int(word) for word in done.stdout.splitlines()[-1].split()[:3:2])
    assert killed == total > 550
