"""When a compiled loop computes, and when NumPy does."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy

from ..cpu import CPU
from ..loops import compiled, rows

Array = numpy.ndarray
REAL = (numpy.dtype("float32"), numpy.dtype("float64"))

BY_ROW = set(rows.LOOPS)


class Compiled(CPU):
    """The CPU backend with loops for C-contiguous float32 and float64 arrays.

    Attributes:
        smallest: elements from which on compiled kernels are used. They win below, too; but scripts that never have
            more are spared the import of Numba.
        shortest: the same for the length of a row where rows are independent, so that no bit of a row's result depends
            on how many rows there are.
    """

    smallest, shortest = 512, 16

    def loop(self, name: str, shape: tuple[int, ...], *arrays: Array) -> Any:
        """The compiled loop, if arrays of this shape are work enough for it and it takes these arrays; else None."""
        dtype = arrays[0].dtype
        if dtype not in REAL or not self.enough(name, shape):
            return None
        for a in arrays:
            if a.dtype != dtype or not a.flags.carray:  # contiguous, aligned, and writable, as Numba expects
                return None
        return compiled(name, dtype.char)

    def enough(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether a loop over arrays of this shape is worth an import."""
        if name in BY_ROW:
            return shape[1] >= self.shortest and shape[0] > 0
        return prod(shape) >= self.smallest
