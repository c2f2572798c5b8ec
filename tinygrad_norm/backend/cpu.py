"""NumPy as a backend."""

from __future__ import annotations

import threading
from math import inf, prod
from typing import Any

import numpy

from .base import BLOCK, Backend
from .kernels import FAR, Axes, gained, length

# Below these, squares that matter in a sum may be subnormal: the smallest normal number over the machine epsilon.
TINY = {"f": 2.0**-103, "d": 2.0**-970}

LONGEST = 4096  # elements of a row that one dot product adds up
ONES = {char: numpy.ones(LONGEST, char) for char in TINY}

# An array that nobody writes to, made and dropped. Of freed memory glibc keeps for the next arrays twice the largest
# that was ever freed (up to 32 MiB) and gives back what is more; without this, arrays of some MiB come page by page
# from the system each time, which takes as long as a normalization's arithmetic.
numpy.empty((1 << 25) - (1 << 16), "uint8")

PAGE, QUARTER = 4096, 1024  # bytes

_kept = threading.local()


class CPU(Backend, library=numpy):
    """NumPy on the host; a kernel is overridden only where a measurement shows the override faster."""

    device = "cpu"
    array_type = numpy.ndarray
    library_sum = staticmethod(numpy.add.reduce)  # numpy.sum without its wrapper, a third of the time of small sums
    piece_bytes = 1 << 21  # of a convolution: what many processors' caches hold for each core
    errstate = staticmethod(numpy.errstate)
    eigh = staticmethod(numpy.linalg.eigh)

    def to_host(self, x: numpy.ndarray) -> numpy.ndarray:
        return x

    def from_host(self, x: numpy.ndarray) -> numpy.ndarray:
        return x

    def readonly(self, x: numpy.ndarray) -> numpy.ndarray:
        view = x.view()
        view.flags.writeable = False
        return view

    def scatter_add(self, out: numpy.ndarray, index: Any, values: numpy.ndarray) -> None:
        """out[index] += values, with repeated indices accumulating."""
        numpy.add.at(out, index, values)

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> numpy.ndarray:
        """Kept for the next call of the same thread unless it is large: new memory costs more than what is written."""
        size = prod(shape) * dtype.itemsize
        if size > self.piece_bytes:
            return numpy.empty(shape, dtype)
        kept = vars(_kept)
        if name not in kept or kept[name].size < size:
            kept[name] = numpy.empty(size, "uint8")
        return kept[name][:size].view(dtype).reshape(shape)

    def at_once(self, n: int, lines: int, line: int) -> int:
        """As many as stay in the cache, of which many lines that begin whole pages apart share few places."""
        n = max(min(n, self.piece_bytes // (lines * line)), 1)
        return n - 1 if n > 1 and lines > 64 and n * line % PAGE == 0 else n

    def multiply_columns(self, a: numpy.ndarray, b: numpy.ndarray, out: numpy.ndarray) -> None:
        """A few columns at once: up to a million products, OpenBLAS multiplies matrices as they lie, 15 % faster."""
        step = 1_000_000 // (a.shape[1] * a.shape[2]) // 16 * 16  # whole vectors
        whole = b.shape[2] // step * step if step >= 64 else 0  # else too few for that
        if whole:
            numpy.matmul(a[:, None], in_parts(b[:, :, :whole], step), out=in_parts(out[:, :, :whole], step))
        if whole < b.shape[2]:
            numpy.matmul(a, b[:, :, whole:], out=out[:, :, whole:])

    def multiply_rows(self, a: numpy.ndarray, b: numpy.ndarray) -> numpy.ndarray:
        """A few rows at once, for the same reason, and each row of b in one run."""
        step = 1_000_000 // (a.shape[1] * b.shape[2]) // 16 * 16
        whole = b.shape[1] // step * step if step >= 64 else 0
        if not whole:
            return numpy.matmul(a, b)
        if step < 512:
            rows = self.scratch("rows", b.shape, b.dtype)
            rows[...] = b
            b = rows
        total = numpy.matmul(in_parts(a[:, :, :whole], step), b[:, :whole].reshape(len(b), -1, step, b.shape[2])).sum(1)
        return total + numpy.matmul(a[:, :, whole:], b[:, whole:])

    def norm_forward(
        self, x: numpy.ndarray, weight: Any, bias: Any, axes: Axes, eps: float, centre: bool = True
    ) -> tuple[numpy.ndarray, tuple]:
        """Without scaling, and with the first element as shift, unless the statistics then show that more is needed."""
        wide = self.wide(x)
        with self.errstate(all="ignore"):
            d, stats = self.statistics(wide, axes, eps, centre)
            _, mean, var, rstd = stats
            far = centre and length(x, axes) > FAR
            if self.out_of_range(var, eps) or (far and ((mean * rstd) ** 2).max() > FAR):
                return super().norm_forward(x, weight, bias, axes, eps, centre)
            return self.astype(gained(d, rstd, weight, bias, centre), x.dtype), stats

    def laid_apart(self, size: int, dtype: Any, place: int) -> numpy.ndarray:
        """At the beginning of a cache line, and of another quarter of a memory page for each of four places.

        Measured with the compiled Adam: 29 us to 8 for 26,634 parameters, 532 us to 76 for 269,322; NumPy's arrays
        begin 16 bytes into a line, large ones all 16 bytes into a page, where a store delays the loads of the others.
        """
        item = numpy.dtype(dtype).itemsize
        memory = numpy.empty(size + PAGE // item, dtype)
        start = (place * QUARTER - memory.ctypes.data) % PAGE // item
        return memory[start : start + size]

    def unit_forward(self, v: numpy.ndarray, axes: Axes, eps: float) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Without scaling, unless a sum of squares then shows that it was needed."""
        wide = self.wide(v)
        with self.errstate(all="ignore"):
            square = self.sum_products(wide, wide, axes)
            if self.out_of_range(square, 0.0):
                return super().unit_forward(v, axes, eps)
            norm = numpy.sqrt(square)
            return self.astype(wide / numpy.maximum(norm, eps), v.dtype), norm

    def relu_backward(self, g: numpy.ndarray, y: numpy.ndarray) -> numpy.ndarray:
        """As a product of g's bits with 1 or 0: as fast as one of numbers (``where`` takes 2 to 10 times as long)."""
        return (g.view(f"i{g.itemsize}") * (y > 0)).view(g.dtype)

    def weight_norm_forward(
        self, v: numpy.ndarray, length: numpy.ndarray, axes: Axes, eps: float
    ) -> tuple[numpy.ndarray, numpy.ndarray]:
        """w = (v / norm) length, unless a slice's norm is out of range."""
        if v.dtype.char in TINY:
            with self.errstate(all="ignore"):
                square = self.sum_products(v, v, axes)
                norm = numpy.sqrt(square)
                if not self.out_of_range(square, 0.0):
                    w = v / numpy.maximum(norm, eps)  # first, as the generic kernel: a power of two changes no bit
                    w *= length
                    return w, norm
        return super().weight_norm_forward(v, length, axes, eps)

    def weight_norm_backward(
        self, g: numpy.ndarray, v: numpy.ndarray, length: numpy.ndarray, norm: numpy.ndarray, axes: Axes, eps: float,
        needs: tuple[bool, bool],
    ) -> tuple[Any, Any]:  # fmt: skip
        """gv = (g - u (u . g)) (length / norm) and glength = u . g, unless a norm or factor is out of range."""
        with self.errstate(all="ignore"):
            limited = numpy.where(norm == 0, inf, numpy.maximum(norm, eps))
            factor = length / limited
            if v.dtype != norm.dtype or not (ordinary(norm) and ordinary(factor)):
                return super().weight_norm_backward(g, v, length, norm, axes, eps, needs)
            gv = v / limited
            along = self.sum_products(g, gv, axes)
            gv *= -(numpy.where(norm < eps, 0.0, along) if eps else along)
            gv += g
            gv *= factor
            return gv, along

    def sum(self, x: numpy.ndarray, axis: Any = None, keepdims: bool = False) -> numpy.ndarray:
        """Of rows and columns as products with ones: BLAS adds several numbers at once."""
        kind = summed(x, axis)
        if kind == "rows":
            total = numpy.vecdot(x, ONES[x.dtype.char][: x.shape[-1]])
            return total[..., None] if keepdims else total
        if kind == "columns":
            total = self.sum_rows(x, 0)
            return total if keepdims else total[0]
        return super().sum(x, axis, keepdims)

    def sum_products(self, a: numpy.ndarray, b: numpy.ndarray, axes: Axes) -> numpy.ndarray:
        """Of rows and columns without the products in memory."""
        kind = summed(a, axes) if a.dtype == b.dtype else ""
        if not kind or kind != summed(b, axes):
            return super().sum_products(a, b, axes)
        return self.column_products(a, b) if kind == "columns" else numpy.vecdot(a, b)[..., None]

    def column_products(self, a: numpy.ndarray, b: numpy.ndarray) -> numpy.ndarray:
        """In blocks of rows, as ``sum_rows``."""
        rows, columns = a.shape
        whole = rows // BLOCK * BLOCK
        total = numpy.einsum("ij,ij->j", a[whole:], b[whole:])[None]
        if not whole:
            return total
        blocks = (v[:whole].reshape(rows // BLOCK, BLOCK, columns) for v in (a, b))
        return self.sum_rows(numpy.einsum("bij,bij->bj", *blocks), 0) + total

    def out_of_range(self, var: numpy.ndarray, eps: float) -> bool:
        """Whether a variance overflowed (or is NaN), or is so small that squares lost digits, and eps no larger."""
        if not var.size or not var.max() < inf:
            return True
        tiny = TINY[var.dtype.char]
        return eps < tiny and bool(var.min() < tiny)

    def sum_rows(self, x: numpy.ndarray, axis: int) -> numpy.ndarray:
        """Column sums as products with ones, in blocks of rows: BLAS adds several rows at once.

        Measured against ``sum(axis=0)``, one thread, float32: 9 us to 15 on 256x512, 1.08 ms to 1.38 on 8192x1024.
        """
        if x.ndim != 2 or axis != 0 or x.dtype.char not in "fd" or not x.flags.c_contiguous:
            return super().sum_rows(x, axis)
        rows, columns = x.shape
        ones = ONES[x.dtype.char][None, :BLOCK]
        if rows <= BLOCK:
            return ones[:, :rows] @ x
        whole = rows // BLOCK * BLOCK
        partial = numpy.matmul(ones, x[:whole].reshape(-1, BLOCK, columns)).reshape(-1, columns)
        total = self.sum_rows(partial, 0)
        return total + ones[:, : rows - whole] @ x[whole:] if whole < rows else total


def in_parts(x: numpy.ndarray, step: int) -> numpy.ndarray:
    """(G, M, parts step) as (G, parts, M, step)."""
    return x.reshape(*x.shape[:2], -1, step).swapaxes(1, 2)


def summed(x: numpy.ndarray, axis: Any) -> str:
    """What of an array of floats in C order a sum over ``axis`` adds up: "rows", "columns", or "" for anything else."""
    if x.ndim < 2 or x.dtype.char not in TINY or not x.flags.c_contiguous:
        return ""
    if axis == (x.ndim - 1,) and x.shape[-1] <= LONGEST:
        return "rows"
    return "columns" if axis == (0,) and x.ndim == 2 else ""


def ordinary(x: numpy.ndarray) -> bool:
    """Whether all numbers are finite, and those that are not 0 so large that they have all their digits."""
    size = abs(x)
    least = size.min(initial=inf) or size.min(where=size > 0, initial=inf)
    return bool(size.max(initial=0.0) < inf and least >= TINY[x.dtype.char])
