"""The examples: short, run in a folder of their own in seconds, and say what they promise."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SAYS = {
    "broken_backward": ["every gradient is right", "every one by the factor 1.0001", "passed: True, but: gradcheck"],
    "custom_op": ["hypotenuse: [5.0, 13.0]", "every gradient is right"],
    "quickstart": ["accuracy on 450 unseen images: 9"],
    "residual": ["False       False          2.30", "True        True           0.0"],
    "second_order": ["x^4 at 2: 16, derivatives 32, 48, 48", "step 7: distance to the minimum"],
    "swap_backend": ["accuracy on unseen images 9", "the checkpoint on the CPU takes a"],
    "spiral": ["norm=None:", "norm=layer:", "wrote spiral.png"],
    "test_my_op": ["8 passed"],
    "xor": ["a line:    loss 0.6931", "[1.0, 1.0]  0   0 with "],
}
WRITES = {"spiral": ["spiral.png", "spiral_curves.png"], "swap_backend": ["swap.npz"]}
DRAWS = {"spiral"}


def test_every_example_is_known():
    assert {path.stem for path in EXAMPLES} == set(SAYS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_short_and_says_what_one_learns(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 70
    assert text.startswith('"""') and "What one learns" in text.split('"""')[1]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    if path.stem in DRAWS and not find_spec("matplotlib"):
        pytest.skip("matplotlib is not installed")
    command = [sys.executable, "-W", "error"]
    if path.stem.startswith("test_"):
        command += ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path]
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": os.fspath(ROOT)}
    done = subprocess.run([*command, path], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in SAYS[path.stem]:
        assert words in done.stdout
    written = {p.name for p in tmp_path.iterdir()}
    assert written == set(WRITES.get(path.stem, []))
