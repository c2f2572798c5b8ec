"""The numerical kernels, each written once for every array library: normalization, unit vectors, losses, masks.

``self`` is the array namespace (a Backend). A compiled or CUDA version overrides a method and keeps its signature.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy

from .windows import Windows

Array = Any
Axes = tuple[int, ...]

# Of n numbers, none is more than sqrt(n - 1) standard deviations from their mean (Samuelson 1968). So up to this n, the
# first is near enough to the rest to serve as shift; beyond, its distance is looked at. An element far away costs
# digits: every x - shift is rounded to one part in 2^24 of it, and in their mean that adds up.
FAR = 64


class Kernels(Windows):
    """Kernels in terms of ``self``'s array functions; mixed into every Backend."""

    if_true: Any

    # ---- statistics and normalization: one recipe for batch, layer, group, instance and RMS norm

    def norm_forward(
        self: Any, x: Array, weight: Any, bias: Any, axes: Axes, eps: float, centre: bool = True
    ) -> tuple[Array, tuple[Any, Any, Array, Array]]:
        """y = (x - mean) / sqrt(var + eps) * weight + bias, with mean and (biased) var taken over ``axes``.

        ``weight`` and ``bias`` (or None) broadcast against x. Without ``centre`` the mean is not subtracted and ``var``
        is the mean square. Returns y and ``stats = (shift, mean, var, rstd)``: the true mean is shift + mean. ``rstd``
        is 0 where var + eps is 0.

        Range: every slice is first scaled by a power of two to have no element above 1, and eps with it. That is exact,
        and no square overflows or vanishes: y is right for all numbers, gradients for standard deviations whose
        reciprocal is a number. ``var`` itself is infinite where the dtype cannot hold it.
        """
        dtype = x.dtype
        x = self.wide(x)
        with self.errstate(all="ignore"):
            largest = self.max(self.abs(x), axis=axes, keepdims=True) if x.size else self.ones((), x.dtype)
            k = self.frexp(self.maximum(largest, eps**0.5))[1]
            x, small_eps = self.ldexp(x, -k), self.ldexp(self.full_like(largest, eps), -2 * k)
            d, (shift, mean, var, rstd) = self.statistics(x, axes, small_eps, centre)
            if centre and length(x, axes) > FAR:
                nearer = self.where((mean * rstd) ** 2 > FAR, shift + mean, shift)
                d, (shift, mean, var, rstd) = self.statistics(x, axes, small_eps, centre, nearer)
            y = self.astype(gained(d, rstd, weight, bias, centre), dtype)
            shift, mean = (None if v is None else self.ldexp(v, k) for v in (shift, mean))
            # Without variance only eps counts, which scaled may vanish.
            rstd = self.where(var == 0, self.inverse_root(self.full_like(var, eps)), self.ldexp(rstd, -k))
            return y, (shift, mean, self.ldexp(var, 2 * k), rstd)

    def statistics(
        self: Any, x: Array, axes: Axes, eps: Any, centre: bool, shift: Array | None = None
    ) -> tuple[Array, tuple[Any, Any, Array, Array]]:
        """d = x - mean (or x) and ``(shift, mean, var, 1 / sqrt(var + eps))``; the last is 0 where var + eps is 0."""
        d, shift, mean = self.centred(x, axes, shift) if centre else (x, None, None)
        var = self.sum_products(d, d, axes) * (1.0 / length(x, axes))
        return d, (shift, mean, var, self.inverse_root(var + eps))

    def inverse_root(self: Any, v: Array) -> Array:
        """1 / sqrt(v), and 0 where v is 0."""
        return 1.0 / self.sqrt(self.where(v == 0, numpy.inf, v))

    def centred(self: Any, x: Array, axes: Axes, shift: Array | None = None) -> tuple[Array, Array, Array]:
        """(x - shift) - mean, shift and mean, the mean being that of x - shift.

        By default shift is the first element of each slice: so a constant slice is centred to exact zeros, and a large
        common mean costs no precision.
        """
        if shift is None:
            shift = x[tuple(slice(0, 1) if a in axes else slice(None) for a in range(x.ndim))]
        d = x - shift
        mean = self.sum(d, axes, True) * (1.0 / length(x, axes))
        d -= mean
        return d, shift, mean

    def sum_products(self: Any, a: Array, b: Array, axes: Axes) -> Array:
        """sum(a b) over ``axes``, which stay, of length 1."""
        return self.sum(a * b, axes, True)

    def norm_backward(
        self: Any, g: Array, x: Array, stats: tuple[Any, Any, Array, Array], weight: Any, axes: Axes,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Any, Any, Any]:  # fmt: skip
        """Gradients of ``norm_forward`` by x, weight and bias, in the dtype of the statistics; None where not needed.

        With xhat the standardized x and h = g weight:
        gx = rstd (h - mean(h) - xhat mean(h xhat)), gweight = sum(g xhat), gbias = sum(g).
        A weight that is the same all over each slice, as batch norm's, is a factor of all this, and multiplied last.
        Whole arrays are written over where they can be: new memory costs more than the arithmetic.
        """
        shift, mean, _, rstd = stats
        g = self.wide(g)
        gx = gweight = None
        with self.errstate(all="ignore"):
            # Always (x - shift) - mean: rounding shift + mean first makes gweight wrong by 11 % at mean 1e6.
            if shift is None:
                xhat = x * rstd
            else:
                xhat = x - shift
                xhat -= mean
                xhat *= rstd
            same = None if weight is None else constant_axes(weight, x.ndim)
            if needs[1]:
                total = self.sum_products(g, xhat, same)
                gweight = total.reshape(weight.shape)
            if needs[0]:
                n = length(x, axes)
                h = g if weight is None or same == axes else g * weight
                if not (needs[1] and same == axes):
                    total = self.sum_products(h, xhat, axes)
                gx = xhat
                gx *= total * (-1.0 / n)
                gx += h
                if shift is not None:
                    gx -= self.sum(h, axes, True) * (1.0 / n)
                if same == axes:
                    gx *= weight
                gx *= rstd
        return gx, gweight, g if needs[2] else None

    # ---- unit vectors: weight norm, cosine, normalize

    def unit_forward(self: Any, v: Array, axes: Axes, eps: float) -> tuple[Array, Array]:
        """u = v / max(||v||, eps) and the norm, over ``axes``; u = 0 where the norm and eps are both 0.

        Every slice is first scaled by a power of two to have its largest element in [1/2, 1): exact, so squares neither
        overflow nor vanish, and scaling v by a power of two changes no bit of u.
        """
        dtype = v.dtype
        v = self.wide(v)
        with self.errstate(all="ignore"):
            exponent = self.frexp(self.max(self.abs(v), axis=axes, keepdims=True))[1] if v.size else 0
            scaled = self.ldexp(v, -exponent)
            length = self.sqrt(self.sum_products(scaled, scaled, axes))
            norm = self.ldexp(length, exponent)
            u = scaled / self.where(length == 0, self.ones_like(length), length)
            if eps:
                u = self.where(norm < eps, v / eps, u)
            return self.astype(u, dtype), norm

    def unit_backward(self: Any, g: Array, u: Array, norm: Array, axes: Axes, eps: float) -> Array:
        """gv = (g - u (u . g)) / ||v||, in the norm's dtype; g / eps below the clamp; 0 where v = 0."""
        g = self.wide(g)
        with self.errstate(all="ignore"):
            along = self.sum_products(g, u, axes)
            if eps:
                along = self.where(norm < eps, 0.0, along)
            gv = u * -along
            gv += g
            gv /= self.where(norm == 0, numpy.inf, self.maximum(norm, eps))
            return gv

    def weight_norm_forward(self: Any, v: Array, length: Array, axes: Axes, eps: float) -> tuple[Array, Array]:
        """w = length u and the norm of v, with u = v / max(||v||, eps) over ``axes``."""
        u, norm = self.unit_forward(v, axes, eps)
        return length * u, norm

    def weight_norm_backward(
        self: Any, g: Array, v: Array, length: Array, norm: Array, axes: Axes, eps: float, needs: tuple[bool, bool]
    ) -> tuple[Any, Any]:
        """Gradients of ``weight_norm_forward`` by v and length; the latter may have to be summed to its shape."""
        u, _ = self.unit_forward(v, axes, eps)
        return self.unit_backward(g * length, u, norm, axes, eps) if needs[0] else None, g * u if needs[1] else None

    # ---- bias, activations, losses and masks

    def add_bias(self: Any, y: Array, bias: Array) -> None:
        """y += bias, one number for each element of the last dimension."""
        y += bias

    def relu(self: Any, x: Array) -> Array:
        """max(x, 0), elementwise."""
        return self.maximum(x, 0)

    def relu_backward(self: Any, g: Array, y: Array) -> Array:
        """g where y > 0, else 0."""
        return self.where(y > 0, g, 0)

    def cross_entropy_forward(
        self: Any, logits: Array, labels: Array, weights: Array, smoothing: float
    ) -> tuple[Array, Array]:
        """Row losses -w_n ((1 - s) log p_label + s mean(log p)), and the softmax p.

        ``logits`` (N, C); ``labels`` (N,) integers in [0, C); ``weights`` (N,), 0 for an ignored row.
        """
        wide = self.wide(logits)
        z = wide - self.max(wide, axis=1, keepdims=True)
        e = self.exp(z)
        total = self.sum(e, 1, True)
        chosen = self.take_along_axis(z, labels[:, None], axis=1)[:, 0]
        loss = self.log(total)[:, 0] - chosen
        if smoothing:
            loss = loss + smoothing * (chosen - self.mean(z, 1))
        loss = self.where(weights == 0, 0.0, loss * weights)  # a row that does not count may hold NaN
        return loss, e / total

    def cross_entropy_backward(self: Any, g: Array, p: Array, labels: Array, weights: Array, smoothing: float) -> Array:
        """Gradient of the row losses by the logits: g_n w_n (p - (1 - s) onehot(label) - s / C)."""
        scale = (g * weights)[:, None]
        rows = self.arange(p.shape[0])
        grad = p - smoothing / p.shape[1] if smoothing else self.copy(p)
        grad[rows, labels] -= 1.0 - smoothing
        return self.where(scale == 0, 0.0, grad * scale)

    def dropout_mask(self: Any, seed: int, counter: int, shape: tuple[int, ...], p: float, dtype: Any) -> Array:
        """Elementwise 0 with probability p, else 1 / (1 - p); a pure function of (seed, counter)."""
        keep = self.bits(seed, counter, shape) >= numpy.uint64(min(int(p * 2**64), 2**64 - 1))
        return keep.astype(dtype) * (1.0 / (1.0 - p) if p < 1 else 0.0)

    def wide(self: Any, x: Array) -> Array:
        """``x`` in at least float32, in which statistics of float16 are computed."""
        return x.astype(numpy.float32) if x.dtype == numpy.float16 else x


def length(x: Array, axes: Axes) -> int:
    """How many values a slice over ``axes`` has; 1 when it has none, so that one may divide by it."""
    return max(prod(x.shape[a] for a in axes), 1)


def constant_axes(weight: Array, ndim: int) -> Axes:
    """The axes of an array with ``ndim`` dimensions along which a weight that is broadcast to it does not change."""
    shape = (1,) * (ndim - weight.ndim) + weight.shape
    return tuple(a for a, n in enumerate(shape) if n == 1)


def gained(d: Array, rstd: Array, weight: Any, bias: Any, own: bool) -> Array:
    """d * rstd * weight + bias, in d's place if it is one's own; None stands for 1 and 0."""
    if own:
        d *= rstd
    else:
        d = d * rstd
    if weight is not None:
        d *= weight
    if bias is not None:
        d += bias
    return d
