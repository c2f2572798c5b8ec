"""The host side of ``kernels.cu``: which call a kernel can serve, with how many threads; the rest goes to ``super()``.

Nothing here names an array library. A backend mixes :class:`CudaKernels` in and says how a kernel is launched: on a
GPU, or, as the tests do, thread by thread on the host.
"""

from __future__ import annotations

import math
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from .dtypes import FLOATS
from .kernels import Axes, Kernels
from .special import MASK, mix
from .updates import Updates

Array = Any

SOURCE = Path(__file__).with_name("kernels.cu")
OPTIONS = ("-std=c++17",)  # for the compiler, beside -DSTORED=...
STORED = {"e": "float16", "f": "float", "d": "double"}  # dtype.char -> what kernels.cu is compiled with as STORED

# As in kernels.cu.
KEPT, COLUMNS, CHUNK, LANES = 8, 32, 16, 16

ENOUGH = 2048  # blocks fill any GPU; more partial sums would only be more to add up
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


class Gains(NamedTuple):
    """Weight and bias: for each slice or (``each`` = 1) each of its elements; again after ``period`` slices."""

    weight: Any
    bias: Any
    period: int
    each: int


class CudaKernels(Kernels, Updates):
    """Overrides of Kernels and Updates by CUDA kernels, with the same signatures and meaning."""

    flag: Any = None
    """None, or a float64 array on the device whose first number is not 0 once a check has found a bad value: then the
    optimizers' steps are 0 and no state changes, and nobody has waited for the GPU."""

    most_threads = 512  # of a block, as in kernels.cu
    lanes = 8  # threads that share a column, at most LANES

    def launch(self, name: str, dtype: Any, blocks: tuple[int, int], threads: tuple[int, int], *args: Any) -> None:
        """Run a kernel of ``kernels.cu``, compiled with STORED[dtype.char], on a grid of blocks of threads.

        Args:
            name: of the kernel.
            dtype: of the arrays that the kernel calls ``stored``.
            blocks: gridDim.x and .y.
            threads: blockDim.x and .y.
            args: arrays for pointers, 0 for a null pointer, int for long long, float for double: what CuPy accepts.
        """
        raise NotImplementedError

    # ---- normalization

    def norm_forward(
        self: Any, x: Array, weight: Any, bias: Any, axes: Axes, eps: float, centre: bool = True
    ) -> tuple[Array, tuple[Any, Any, Array, Array]]:
        work = layout(x, axes)
        gains = None if work is None else self.gains(x, work, weight, bias)
        if work is None or gains is None or (work.columns and not centre):
            return super().norm_forward(x, weight, bias, axes, eps, centre)
        real, x = real_dtype(x), self.contiguous(x)
        y = self.empty(x.shape, x.dtype)
        shift, mean = (self.empty(work.kept, real) if centre else None for _ in range(2))
        var, rstd = (self.empty(work.kept, real) for _ in range(2))
        weight, bias, period, each = gains
        if work.columns:
            self.columns_forward(x, weight, bias, y, (shift, mean, var, rstd), work, eps)
        else:
            self.on_slices("norm_slices", x.dtype, work.slices, work.n, x, weight, bias, y, shift, mean, var, rstd,
                           *work[:3], period, each, float(eps))  # fmt: skip
        return y, (shift, mean, var, rstd)

    def columns_forward(
        self: Any, x: Array, weight: Any, bias: Any, y: Array, stats: tuple, work: Layout, eps: float
    ) -> None:
        """Statistics of every column, first of parts of it; then y."""
        rows, columns, real = work.runs, work.slices, real_dtype(x)
        count = self.parts(rows, columns, CHUNK)
        parts = self.empty((count, columns, 5), real)
        scaled = self.empty((columns, 4), real)
        self.on_columns("column_parts", x.dtype, columns, count, x, parts, rows, columns)
        self.on_columns("column_statistics", x.dtype, columns, 1, parts, *stats, scaled, count, columns, float(eps))
        self.on_columns("norm_columns", x.dtype, columns, self.tall(rows), x, scaled, weight, bias, y, rows, columns)

    def norm_backward(
        self: Any, g: Array, x: Array, stats: tuple[Any, Any, Array, Array], weight: Any, axes: Axes,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Any, Any, Any]:  # fmt: skip
        """As in Kernels; gradients of weight and bias come already summed where a kernel can.

        That is, where the weight is one for each slice or one for each element of a slice: the bias is then taken to be
        so too.
        """
        shift, rstd = stats[0], stats[3]
        work = layout(x, axes)
        gains = None if work is None else self.gains(x, work, weight, None)
        if work is None or gains is None or g.shape != x.shape or (work.columns and shift is None):
            return super().norm_backward(g, x, stats, weight, axes, needs)
        g, x = self.alike(g, x)
        if g is None or any(s is not None and not fits(s, rstd.dtype, work.slices) for s in stats):
            return super().norm_backward(g, x, stats, weight, axes, needs)
        if work.columns:
            gx, sums = self.columns_backward(g, x, stats, gains.weight, work, needs[0])
        else:
            gx, sums = self.slices_backward(g, x, stats, weight, gains, work, needs)
        gweight = gbias = None
        if weight is not None and sums is not None:
            gbias, gweight = sums
            if work.runs == 1 and not gains.each:
                gbias = None  # one weight for several slices: nothing is known of the bias
        rest = (False, needs[1] and gweight is None, needs[2] and gbias is None)
        if any(rest):
            _, w, b = super().norm_backward(g, x, stats, weight, axes, rest)
            gweight, gbias = w if rest[1] else gweight, b if rest[2] else gbias
        return gx if needs[0] else None, gweight if needs[1] else None, gbias if needs[2] else None

    def slices_backward(
        self: Any, g: Array, x: Array, stats: tuple, weight: Any, gains: Gains, work: Layout, needs: tuple
    ) -> tuple[Any, Any]:
        """gx, and the two rows sum(g) and sum(g xhat) in the shape of the weight or of the statistics, or None."""
        shift, mean, _, rstd = stats
        gain, _, period, each = gains
        by_affine = weight is not None and (needs[1] or needs[2])
        gx = sums = None
        if by_affine and not each:
            sums = self.empty((2, *work.kept), rstd.dtype)
        if needs[0] or sums is not None:
            gx = self.empty(x.shape, rstd.dtype)
            self.on_slices("norm_slices_backward", x.dtype, work.slices, work.n, g, x, shift, mean, rstd, gain, gx,
                           sums, *work[:3], period, each)  # fmt: skip
        if by_affine and each and weight.size == work.n:
            sums = self.column_sums(g, x, stats, work.slices, work.n, 1).reshape(2, *weight.shape)
        return gx, sums

    def columns_backward(
        self: Any, g: Array, x: Array, stats: tuple, weight: Any, work: Layout, wanted: bool
    ) -> tuple[Any, Any]:
        """gx, if it is wanted, and the two rows sum(g) and sum(g xhat) in the shape of the statistics."""
        shift, mean, _, rstd = stats
        rows, columns = work.runs, work.slices
        sums = self.column_sums(g, x, stats, rows, columns, 0)
        gx = self.empty(x.shape, rstd.dtype) if wanted else None
        if wanted:
            self.on_columns("norm_columns_backward", x.dtype, columns, self.tall(rows), g, x, shift, mean, rstd, weight,
                            sums, gx, rows, columns)  # fmt: skip
        return gx, sums.reshape(2, *work.kept)

    def column_sums(self: Any, g: Array, x: Array, stats: tuple, rows: int, columns: int, of_rows: int) -> Array:
        """sum(g) and sum(g xhat) over the rows, (2, columns); the statistics are the columns' or the rows'."""
        shift, mean, _, rstd = stats
        count = self.parts(rows, columns, KEPT)
        parts = self.empty((2, count, columns), rstd.dtype)
        self.on_columns("column_sums", x.dtype, columns, count, g, x, shift, mean, rstd, parts, rows, columns, of_rows)
        if count == 1:
            return parts[:, 0]
        sums = self.empty((2, columns), rstd.dtype)
        self.on_columns("column_totals", x.dtype, columns, 1, parts, sums, count, columns)
        return sums

    # ---- unit vectors, losses, activations, masks

    def unit_forward(self: Any, v: Array, axes: Axes, eps: float) -> tuple[Array, Array]:
        work = layout(v, axes)
        if work is None or work.runs > 1:
            return super().unit_forward(v, axes, eps)
        v = self.contiguous(v)
        u, norm = self.empty(v.shape, v.dtype), self.empty(work.kept, real_dtype(v))
        self.on_slices("unit_slices", v.dtype, work.slices, work.n, v, u, norm, work.n, float(eps))
        return u, norm

    def unit_backward(self: Any, g: Array, u: Array, norm: Array, axes: Axes, eps: float) -> Array:
        work = layout(u, axes)
        h, v = self.alike(g, u) if work is not None and work.runs == 1 and g.shape == u.shape else (None, None)
        if work is None or h is None or v is None or not fits(norm, real_dtype(v), work.slices):
            return super().unit_backward(g, u, norm, axes, eps)
        gv = self.empty(u.shape, norm.dtype)
        self.on_slices("unit_slices_backward", v.dtype, work.slices, work.n, h, v, norm, gv, work.n, float(eps))
        return gv

    def cross_entropy_forward(
        self: Any, logits: Array, labels: Array, weights: Array, smoothing: float
    ) -> tuple[Array, Array]:
        work = layout(logits, (1,))
        if work is None or not fits(weights, real_dtype(logits), len(logits)) or labels.dtype.kind not in "iu":
            return super().cross_entropy_forward(logits, labels, weights, smoothing)
        rows, classes = logits.shape
        labels = self.contiguous(self.astype(labels, numpy.int64))
        loss, p = self.empty(rows, weights.dtype), self.empty(logits.shape, weights.dtype)
        self.on_slices("cross_entropy", logits.dtype, rows, classes, self.contiguous(logits), labels, weights, loss, p,
                       classes, float(smoothing))  # fmt: skip
        return loss, p

    def cross_entropy_backward(self: Any, g: Array, p: Array, labels: Array, weights: Array, smoothing: float) -> Array:
        work = layout(p, (1,))
        if (
            work is None
            or p.dtype.char == "e"
            or labels.dtype.kind not in "iu"
            or any(v.dtype != p.dtype for v in (g, weights))
        ):
            return super().cross_entropy_backward(g, p, labels, weights, smoothing)
        rows, classes = p.shape
        g, p, weights, labels = map(self.contiguous, (g, p, weights, self.astype(labels, numpy.int64)))
        grad = self.empty(p.shape, p.dtype)
        self.on_slices("cross_entropy_backward", p.dtype, rows, classes, g, p, labels, weights, grad, classes,
                       float(smoothing))  # fmt: skip
        return grad

    def relu_backward(self: Any, g: Array, y: Array) -> Array:
        if g.shape != y.shape or g.dtype != y.dtype or y.dtype not in FLOATS or not y.size:
            return super().relu_backward(g, y)
        gx = self.empty(y.shape, y.dtype)
        self.elementwise("relu_backward", y.dtype, y.size, self.contiguous(g), self.contiguous(y), gx, y.size)
        return gx

    def dropout_mask(self: Any, seed: int, counter: int, shape: tuple[int, ...], p: float, dtype: Any) -> Array:
        mask = self.empty(shape, dtype)
        if mask.dtype not in FLOATS or not mask.size:
            return super().dropout_mask(seed, counter, shape, p, dtype)
        key, least = mix(mix(seed & MASK) ^ (counter & MASK)), min(int(p * 2**64), MASK)
        kept = 1.0 / (1.0 - p) if p < 1 else 0.0
        self.elementwise("dropout_mask", mask.dtype, mask.size, mask, mask.size, signed(key), signed(least), kept)
        return mask

    # ---- optimizers

    def sgd_update(
        self: Any, g: Array, p: Any, velocity: Any, lr: float, momentum: float, weight_decay: float, nesterov: bool
    ) -> None:
        velocity = velocity if momentum else None
        self.update("sgd", g, p, velocity, lr, momentum, weight_decay, nesterov and momentum != 0)

    def adam_update(
        self: Any, g: Array, p: Any, m: Array, v: Array, t: int, lr: float, beta1: float, beta2: float, eps: float,
        weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        root = math.sqrt(1.0 - beta2**t)
        decay, decay_step = (0.0, lr * weight_decay) if decoupled else (weight_decay, 0.0)
        self.update("adam", g, p, m, v, lr * root / (1.0 - beta1**t), beta1, beta2, eps * root, decay, decay_step)

    def rmsprop_update(
        self: Any, g: Array, p: Any, square_mean: Array, mean: Any, velocity: Any, lr: float, alpha: float, eps: float,
        weight_decay: float, momentum: float,
    ) -> None:  # fmt: skip
        velocity = velocity if momentum else None
        self.update("rmsprop", g, p, square_mean, mean, velocity, lr, alpha, eps, weight_decay, momentum)

    def adagrad_update(
        self: Any, g: Array, p: Any, square_sum: Array, t: int, lr: float, lr_decay: float, weight_decay: float,
        eps: float,
    ) -> None:  # fmt: skip
        self.update("adagrad", g, p, square_sum, lr / (1.0 + (t - 1) * lr_decay), eps, weight_decay)

    def update(self: Any, name: str, g: Array, *rest: Any) -> None:
        """Launch an optimizer's kernel: arrays first, then the flag, the size, and the numbers."""
        arrays = [v for v in rest if not isinstance(v, (int, float))]
        if g.size:
            self.elementwise(name, g.dtype, g.size, g, *arrays, self.flag, g.size, *map(float, rest[len(arrays) :]))

    # ---- what the kernels ask of their arguments, and how many threads they get

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
        return min(-(-rows // (KEPT * self.lanes)), 65535)


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
    return None if work.n > HUGE and slices < FEW and not work.columns else work


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
