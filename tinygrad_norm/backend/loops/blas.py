"""Products of matrices inside a compiled loop, by the function with which NumPy multiplies them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy

from ..openblas import gemm

# For so many products of numbers OpenBLAS uses no threads of its own; with AVX-512 it then takes matrices as they lie.
MOST = (1 << 19) - 1
FEW = 16  # rows, and columns, that are worth a call


def multiply(a, b, c, add):
    """c = a b, or c += a b. Rows may be parts of longer ones."""
    c[...] = a @ b + c if add else a @ b


@lru_cache
def compile_multiply() -> None:
    """Let compiled loops call BLAS where they say ``multiply``; their machine code finds it by its name.

    Parts of the matrices are multiplied at a time, of at least ``FEW`` rows and columns and at most ``MOST`` products.
    """
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
            deep = min(inner, MOST // FEW**2)
            wide = min(columns, MOST // FEW // deep)
            high = MOST // (deep * wide)
            for k in range(0, inner, deep):
                for j in range(0, columns, wide):
                    for i in range(0, rows, high):
                        function(
                            by_rows, as_it_lies, as_it_lies,
                            min(high, rows - i), min(wide, columns - j), min(deep, inner - k), one,
                            a[i:, k:].ctypes, apart(a), b[k:, j:].ctypes, apart(b),
                            real(add or k > 0), c[i:, j:].ctypes, apart(c),
                        )  # fmt: skip

        return compiled
