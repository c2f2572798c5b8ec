"""What the kernels of ``kernels.cu`` ask of their arguments, and how many threads they get."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy

from .dtypes import FLOATS
from .kernels import Axes

Array = Any

# As in kernels.cu.
KEPT, COLUMNS, CHUNK, LANES = 8, 32, 16, 16

ENOUGH = 2048  # blocks fill any GPU; more partial sums would only be more to add up
TALLEST = 65535  # gridDim.y that CUDA takes
MANY, LARGE = 512, 1 << 20  # so many blocks keep any GPU busy, so many elements are worth more than one launch
HUGE = 1 << 16  # elements, beyond which one block for a slice is too few when there are only few slices
FEW = 16


class Layout(NamedTuple):
    """A contiguous array as (runs, slices, length), reduced over the first and the last; length 1 means columns."""

    runs: int
    slices: int
    length: int
    kept: tuple[int, ...]  # the shape of the statistics

    @property
    def n(self) -> int:
        """Elements of a slice."""
        return self.runs * self.length

    @property
    def columns(self) -> bool:
        """Whether neighbours in memory belong to different slices."""
        return self.length == 1 and self.runs > 1

    @property
    def apart(self) -> bool:
        """Whether slices are too few for a block each to keep the GPU busy, and have runs to be taken apart into."""
        large = self.slices < MANY and self.n * self.slices > LARGE
        return self.length > 1 and self.runs > 1 and large and self.slices * self.length < 1 << 31


class Gains(NamedTuple):
    """Weight and bias: for each slice or (``each`` = 1) each of its elements; again after ``period`` slices."""

    weight: Any
    bias: Any
    period: int
    each: int


class Launching:
    """Mixed into a Backend: from arrays and numbers to a launched kernel."""

    flag: Any = None
    """None, or a float64 array on the device whose first number is not 0 once a check has found a bad value: then the
    optimizers' steps are 0 and no state changes, and nobody has waited for the GPU."""

    most_threads = 512  # of a block, as in kernels.cu
    lanes = 8  # threads that share a column, at most LANES

    def launch(self, name: str, dtype: Any, blocks: tuple[int, int], threads: tuple[int, int], *args: Any) -> None:
        """Run a kernel of ``kernels.cu``, compiled for the dtype, on a grid of blocks of threads.

        Args:
            name: of the kernel.
            dtype: of the arrays that the kernel calls ``stored``.
            blocks: gridDim.x and .y.
            threads: blockDim.x and .y.
            args: arrays for pointers, 0 for a null pointer, int for long long, float for double: what CuPy accepts.
        """
        raise NotImplementedError

    def contiguous(self: Any, x: Array) -> Array:
        """``x``, or a C-ordered copy."""
        return x if x.flags.c_contiguous else self.copy(x)

    def alike(self: Any, g: Array, x: Array) -> tuple[Any, Any]:
        """Both contiguous and of one dtype, float16 widened where needed; (None, None) where that is not enough."""
        if g.dtype != x.dtype:
            g, x = self.wide(g), self.wide(x)
        return (self.contiguous(g), self.contiguous(x)) if g.dtype == x.dtype else (None, None)

    def gains(self: Any, x: Array, work: Layout, weight: Any, bias: Any) -> Gains | None:
        """Weight and bias as the kernels read them; None where none can."""
        given = [(1,) * (x.ndim - v.ndim) + v.shape for v in (weight, bias) if v is not None]
        shape = max(given, key=prod, default=(1,) * x.ndim)
        lie = lies(x.shape, shape, work)
        if lie is None or any(prod(other) > 1 and other != shape for other in given):
            return None
        full, period, each = lie
        weight, bias = (
            v if v is None else self.wide(self.contiguous(self.broadcast_to(v, full))) for v in (weight, bias)
        )
        if any(v is not None and v.dtype != real_dtype(x) for v in (weight, bias)):
            return None
        return Gains(weight, bias, period, each)

    def on_slices(self: Any, name: str, dtype: Any, slices: int, n: int, *args: Any) -> None:
        """Launch a kernel with one block for each slice of n elements, KEPT of them to a thread if that is enough."""
        threads = 32
        while threads < self.most_threads and threads * KEPT < n:
            threads *= 2
        self.launch(name, dtype, (slices, 1), (threads, 1), *nulls(args))

    def on_columns(self: Any, name: str, dtype: Any, columns: int, parts: int, *args: Any) -> None:
        """Launch a kernel with blocks of COLUMNS columns, the rows divided among ``parts`` blocks."""
        self.launch(name, dtype, (-(-columns // COLUMNS), parts), (COLUMNS, self.lanes), *nulls(args))

    def elementwise(self: Any, name: str, dtype: Any, size: int, *args: Any) -> None:
        """Launch a kernel that goes over ``size`` elements."""
        self.launch(name, dtype, (min(-(-size // 256), ENOUGH), 1), (256, 1), *nulls(args))

    def parts(self: Any, rows: int, columns: int, chunk: int) -> int:
        """Among how many blocks to divide the rows, each thread taking ``chunk`` rows or a multiple."""
        return min(-(-rows // (chunk * self.lanes)), max(1, ENOUGH // -(-columns // COLUMNS)))

    def tall(self: Any, rows: int) -> int:
        """Blocks for an elementwise pass over columns, each thread taking KEPT rows, or more if there are too many."""
        return min(-(-rows // (KEPT * self.lanes)), TALLEST)


def layout(x: Array, axes: Axes) -> Layout | None:
    """The array as (runs, slices, length), or None where it is no such array or no kernel would be good at it."""
    groups: list[list[int]] = []
    for axis, n in enumerate(x.shape):
        if n != 1:
            reduced = axis in axes
            if groups and groups[-1][0] == reduced:
                groups[-1][1] *= n
            else:
                groups.append([reduced, n])
    if not groups or not groups[0][0]:
        groups.insert(0, [True, 1])
    if not groups[-1][0]:
        groups.append([True, 1])
    sizes = [n for _, n in groups]
    runs, slices, length = (1, 1, *sizes) if len(sizes) == 1 else sizes if len(sizes) == 3 else (0, 0, 0)
    if not runs * slices * length or x.dtype not in FLOATS or runs * length >= 1 << 31 or slices >= 1 << 31:
        return None
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
    work = Layout(runs, slices, length, kept)
    return None if work.n > HUGE and slices < FEW and not (work.columns or work.apart) else work


def lies(x: tuple[int, ...], shape: tuple[int, ...], work: Layout) -> tuple[tuple[int, ...], int, int] | None:
    """For a gain of this shape: the shape it is to be broadcast to, and Gains' period and each; None for no kernel."""
    varies = [axis for axis, n in enumerate(shape) if n != 1]
    if not varies:
        return (work.kept, work.slices, 0) if work.runs > 1 else (shape, 1, 0)
    first, last = varies[0], varies[-1] + 1
    if len(shape) != len(x) or shape[first:last] != x[first:last]:
        return None
    every, values = prod(x[last:]), prod(shape)  # one value for so many neighbours
    if work.runs > 1:
        return (shape, values, 0) if (every, values) == (work.length, work.slices) else None
    each = every < work.n
    full = shape[:last] + (x if each else work.kept)[last:]
    return None if each and prod(full) % work.n else (full, prod(full) // (work.n if each else 1), int(each))


def fits(x: Array, dtype: Any, size: int) -> bool:
    """Whether a kernel can read ``x`` as so many numbers of that dtype."""
    return x.dtype == dtype and x.size == size and x.flags.c_contiguous


def real_dtype(x: Array) -> numpy.dtype:
    """The dtype of statistics: at least float32."""
    return numpy.dtype(numpy.float64 if x.dtype.char == "d" else numpy.float32)


def nulls(args: tuple) -> list:
    """Kernel arguments with null pointers for None, of which CuPy would make something else."""
    return [0 if v is None else v for v in args]


def signed(v: int) -> int:
    """A 64-bit pattern as a signed number."""
    return v - (1 << 64) if v >> 63 else v
