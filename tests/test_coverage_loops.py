"""The loops of backend/loops as the plain Python they are written in, against the generic kernels.

test_kernels.py compares them as Numba compiles them, where no line can be traced, and only where Numba is installed.
"""

import numpy
import pytest
import test_kernels
from test_kernels import USES

from tinygrad_norm.backend import loops
from tinygrad_norm.backend.jit import JIT, base, training, windows

# The loops add up in blocks of 1024 terms of a row and of 64 rows.
SHAPES = [(0, 3), (3, 0), (1, 1), (3, 5), (70, 3), (2, 1100), (3, 2, 4)]


@pytest.mark.parametrize("name", USES)
def test_the_plain_loops_agree_with_the_generic_kernel(name, monkeypatch):
    used = set()

    def plain(loop, char):
        used.add(loop)
        (file,) = (file for file in loops.FILES if loop in file.LOOPS)
        return getattr(file, loop)

    for file in loops.FILES:
        for helper, function in list(vars(file).items()):
            if hasattr(function, "py_func"):  # an earlier test has compiled it
                monkeypatch.setattr(file, helper, function.py_func)
    for module in (base, training):
        monkeypatch.setattr(module, "compiled", plain)
    monkeypatch.setattr(windows, "gemm", lambda name: 1)  # a BLAS is not called
    monkeypatch.setattr(JIT, "smallest", 1)
    monkeypatch.setattr(JIT, "shortest", 1)
    monkeypatch.setattr(test_kernels, "SHAPES", SHAPES)
    monkeypatch.setattr(test_kernels, "FILLS", ["normal", "constant", "mixed", "nan"])
    with numpy.errstate(all="ignore"):
        getattr(test_kernels, f"check_{name}")(JIT())
    assert used == set(USES[name])
