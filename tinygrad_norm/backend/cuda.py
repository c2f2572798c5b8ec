"""The host side of ``kernels.cu``: a call that a kernel can serve is served by it; the rest goes to ``super()``.

Nothing here names an array library. A backend mixes :class:`CudaKernels` in and says how a kernel is launched: on a
GPU, or, as the tests do, thread by thread on the host.
"""

from __future__ import annotations

import math
from typing import Any

import numpy

from .dtypes import FLOATS
from .kernels import Axes, Kernels
from .launching import CHUNK, KEPT, Gains, Launching, Layout, fits, layout, real_dtype
from .special import MASK, Special, mix
from .updates import Updates

Array = Any


class CudaKernels(Launching, Special, Kernels, Updates):
    """Overrides of Special, Kernels and Updates by CUDA kernels, with the same signatures and meaning."""

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
        if work.columns or (work.apart and centre):
            self.columns_forward(x, weight, bias, y, (shift, mean, var, rstd), work, eps)
        else:
            self.on_slices("norm_slices", x.dtype, work.slices, work.n, x, weight, bias, y, shift, mean, var, rstd,
                           *work[:3], period, each, float(eps))  # fmt: skip
        return y, (shift, mean, var, rstd)

    def columns_forward(
        self: Any, x: Array, weight: Any, bias: Any, y: Array, stats: tuple, work: Layout, eps: float
    ) -> None:
        """Statistics of every slice, first of parts of its columns; then y."""
        rows, columns, real = work.runs, work.slices * work.length, real_dtype(x)
        count = self.parts(rows, columns, CHUNK)
        parts = self.empty((count, columns, 5), real)
        scaled = self.empty((work.slices, 4), real)
        self.on_columns("column_parts", x.dtype, columns, count, x, parts, rows, columns)
        self.on_columns("column_statistics", x.dtype, work.slices, 1, parts, *stats, scaled, count, work.slices,
                        work.length, float(eps))  # fmt: skip
        self.on_columns("norm_columns", x.dtype, columns, self.tall(rows), x, scaled, weight, bias, y, rows, columns,
                        work.length)  # fmt: skip

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
        if work.columns or (work.apart and shift is not None):
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
            sums = self.column_sums(g, x, stats, work.slices, work.n, 1, 1).reshape(2, *weight.shape)
        return gx, sums

    def columns_backward(
        self: Any, g: Array, x: Array, stats: tuple, weight: Any, work: Layout, wanted: bool
    ) -> tuple[Any, Any]:
        """gx, if it is wanted, and the two rows sum(g) and sum(g xhat) in the shape of the statistics."""
        shift, mean, _, rstd = stats
        rows, columns = work.runs, work.slices * work.length
        sums = self.column_sums(g, x, stats, rows, columns, work.length, 0)
        if work.length > 1:
            with self.errstate(all="ignore"):
                sums = self.sum(sums.reshape(2, work.slices, work.length), 2)
        gx = self.empty(x.shape, rstd.dtype) if wanted else None
        if wanted:
            self.on_columns("norm_columns_backward", x.dtype, columns, self.tall(rows), g, x, shift, mean, rstd, weight,
                            sums, gx, rows, columns, work.length)  # fmt: skip
        return gx, sums.reshape(2, *work.kept)

    def column_sums(
        self: Any, g: Array, x: Array, stats: tuple, rows: int, columns: int, length: int, of_rows: int
    ) -> Array:
        """sum(g) and sum(g xhat) over the rows, (2, columns); the statistics are the slices' or the rows'."""
        shift, mean, _, rstd = stats
        count = self.parts(rows, columns, KEPT)
        parts = self.empty((2, count, columns), rstd.dtype)
        self.on_columns("column_sums", x.dtype, columns, count, g, x, shift, mean, rstd, parts, rows, columns, length,
                        of_rows)  # fmt: skip
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

    def relu(self: Any, x: Array) -> Array:
        return self.of_each("relu", x) if x.dtype in FLOATS and x.size else super().relu(x)

    def erf(self: Any, x: Array) -> Array:
        return self.of_each("erf_of", x) if x.dtype in FLOATS and x.size else super().erf(x)

    def of_each(self: Any, name: str, x: Array) -> Array:
        """A function of each element, in the dtype of ``x``."""
        x = self.contiguous(x)
        y = self.empty(x.shape, x.dtype)
        self.elementwise(name, x.dtype, x.size, x, y, x.size)
        return y

    def add_bias(self: Any, y: Array, bias: Array) -> None:
        columns = y.shape[-1]
        if y.dtype not in FLOATS or not y.size or not y.flags.c_contiguous or not fits(bias, y.dtype, columns):
            super().add_bias(y, bias)
            return
        rows = y.size // columns
        self.on_columns("add_bias", y.dtype, columns, self.tall(rows), y, bias, rows, columns)

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


def signed(v: int) -> int:
    """A 64-bit pattern as a signed number."""
    return v - (1 << 64) if v >> 63 else v
