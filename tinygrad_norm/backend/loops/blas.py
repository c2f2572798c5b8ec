"""Products of matrices inside a compiled loop, by the function with which NumPy multiplies them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy

from ..openblas import gemm

# For so many products of numbers OpenBLAS uses no threads of its own; with AVX-512 it then takes matrices as they lie.
MOST = 1 << 19


def multiply(a, b, c, add):
    """c = a b, or c += a b. Rows may be parts of longer ones."""
    c[...] = a @ b + c if add else a @ b


@lru_cache
def compile_multiply() -> None:
    """Let compiled loops call BLAS where they say ``multiply``; their machine code finds it by its name."""
    if gemm("sgemm") is None:
        return  # nothing that multiplies will be compiled

    import llvmlite.binding
    from numba import extending, types

    functions = {}
    flag, size, matrix = types.int32, types.int64, types.voidptr
    for name, real in (("sgemm", types.float32), ("dgemm", types.float64)):
        llvmlite.binding.add_symbol(f"tinygrad_norm_{name}", gemm(name))
        order, sizes, where = [flag] * 3, [size] * 3, [matrix, size]
        signature = types.void(*order, *sizes, real, *where, *where, real, *where)
        functions[real] = types.ExternalFunction(f"tinygrad_norm_{name}", signature)

    @extending.register_jitable
    def apart(x: Any) -> Any:
        """How many elements apart rows begin; of a single row, NumPy may say anything."""
        return max(x.strides[0] // x.itemsize, x.shape[1])

    @extending.overload(multiply)
    def in_parts(a: Any, b: Any, c: Any, add: Any) -> Any:
        function: Any = functions[a.dtype]
        real = numpy.dtype(str(a.dtype)).type
        by_rows, as_it_lies, one = numpy.int32(101), numpy.int32(111), real(1)

        def compiled(a: Any, b: Any, c: Any, add: Any) -> None:
            rows, inner, columns = c.shape[0], a.shape[1], c.shape[1]
            step = max(1, MOST // (inner * columns))
            for first in range(0, rows, step):
                function(
                    by_rows, as_it_lies, as_it_lies, min(step, rows - first), columns, inner, one,
                    a[first:].ctypes, apart(a), b.ctypes, apart(b), real(add), c[first:].ctypes, apart(c),
                )  # fmt: skip

        return compiled
