"""Reductions: sums, means, extremes and what is made of them."""

from __future__ import annotations

from math import prod as product
from typing import Any

from ..backend import normal_axes
from ..engine.op import INPUTS, NOTHING, OUTPUT, Op, apply
from ..engine.tensor import Tensor, describe
from .elementwise import copy, discrete, sqrt
from .shape import concatenate, reshape, transpose


def kept(xp, g, x, axis, keepdims):
    """A reduced array with the reduced axes put back as length 1, so that it broadcasts against x."""
    if keepdims or g.ndim == x.ndim:
        return g
    axes = normal_axes(axis, x.ndim)
    return xp.reshape(g, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


class Sum(Op):
    """y = the sum of x over ``axis``."""

    reads = NOTHING

    @staticmethod
    def forward(xp, x, axis, keepdims):
        return xp.sum(x, axis=axis, keepdims=keepdims)

    backward = (lambda xp, g, y, x, axis, keepdims: xp.broadcast_to(kept(xp, g, x, axis, keepdims), x.shape),)


class Mean(Op):
    """y = the mean of x over ``axis``."""

    reads = NOTHING
    promotes = True

    @staticmethod
    def forward(xp, x, axis, keepdims):
        return xp.mean(x, axis=axis, keepdims=keepdims)

    @staticmethod
    def _rule(xp, g, y, x, axis, keepdims):
        n = product(x.shape[a] for a in normal_axes(axis, x.ndim))
        return xp.broadcast_to(kept(xp, g * (1.0 / max(n, 1)), x, axis, keepdims), x.shape)

    backward = (_rule.__func__,)


def _share_among_ties(xp, g, y, x, axis, keepdims):
    ties = xp.astype(x == kept(xp, y, x, axis, keepdims), g.dtype)
    return ties * kept(xp, g, x, axis, keepdims) / xp.sum(ties, axis=axis, keepdims=True)


class Max(Op):
    """y = the largest of x over ``axis``; tied values share the gradient evenly."""

    reads = INPUTS | OUTPUT

    @staticmethod
    def forward(xp, x, axis, keepdims):
        return xp.max(x, axis=axis, keepdims=keepdims)

    backward = (_share_among_ties,)


class Min(Op):
    """y = the smallest of x over ``axis``; tied values share the gradient evenly."""

    reads = INPUTS | OUTPUT

    @staticmethod
    def forward(xp, x, axis, keepdims):
        return xp.min(x, axis=axis, keepdims=keepdims)

    backward = (_share_among_ties,)


class Cumsum(Op):
    """y_i = x_0 + ... + x_i along ``axis``."""

    reads = NOTHING

    @staticmethod
    def forward(xp, x, axis):
        return xp.cumsum(x, axis=axis)

    backward = (lambda xp, g, y, x, axis: xp.flip(xp.cumsum(xp.flip(g, axis), axis), axis),)


class Logsumexp(Op):
    """y = ln(sum(e^x)) over ``axis``, with the largest x taken out first so that nothing overflows."""

    reads = INPUTS | OUTPUT
    promotes = True

    @staticmethod
    def forward(xp, x, axis, keepdims):
        top = xp.max(xp.real(x), axis=axis, keepdims=True)
        top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
        y = xp.log(xp.sum(xp.exp(x - top), axis=axis, keepdims=True)) + top
        return y if keepdims else y.reshape(tuple(n for i, n in enumerate(x.shape) if i not in normal_axes(axis, x.ndim)))

    backward = (
        lambda xp, g, y, x, axis, keepdims: kept(xp, g, x, axis, keepdims) * xp.exp(x - kept(xp, y, x, axis, keepdims)),
    )


class Std(Op):
    """y = sqrt(sum((x - mean)^2) / (n - ddof)); the gradient of a constant slice is 0."""

    promotes = True

    @staticmethod
    def composite(x, axis, ddof, keepdims):
        return sqrt(var(x, axis, ddof, keepdims))

    @staticmethod
    def forward(xp, x, axis, ddof, keepdims):
        n = product(x.shape[a] for a in normal_axes(axis, x.ndim))
        d = x - xp.mean(x, axis=axis, keepdims=True)
        y = xp.sqrt(xp.sum(d * d, axis=axis, keepdims=keepdims) * (1.0 / (n - ddof)))
        return y, None

    @staticmethod
    def backward(xp, g, y, saved, needs, x, axis, ddof, keepdims):
        n = product(x.shape[a] for a in normal_axes(axis, x.ndim))
        d = x - xp.mean(x, axis=axis, keepdims=True)
        std = xp.sqrt(xp.sum(d * d, axis=axis, keepdims=True) * (1.0 / (n - ddof)))
        scale = xp.where(std == 0, 0.0, kept(xp, g, x, axis, keepdims) / xp.where(std == 0, 1.0, std))
        return (d * (scale * (1.0 / (n - ddof))),)


Any_, All_, Argmax, Argmin = map(discrete, "any all argmax argmin".split())


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Sum over ``axis`` (None: all; an int; a tuple)."""
    return apply(Sum, x, params=(axis, keepdims))


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Mean over ``axis``; integers give the default dtype."""
    return apply(Mean, x, params=(axis, keepdims))


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Largest value over ``axis``; tied values share the gradient evenly."""
    return apply(Max, x, params=(axis, keepdims))


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Smallest value over ``axis``; tied values share the gradient evenly."""
    return apply(Min, x, params=(axis, keepdims))


def var(x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """Variance over ``axis``: the sum of (x - mean)^2 divided by n - ddof.

    Raises:
        ValueError: there are no more than ``ddof`` values to average.
    """
    n = checked_count(x, axis, ddof, "var")
    d = x - mean(x, axis, keepdims=True)
    return sum(d * d, axis, keepdims) * (1.0 / (n - ddof))


def std(x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """Standard deviation over ``axis``, the square root of ``var``; a constant slice has gradient 0.

    Raises:
        ValueError: there are no more than ``ddof`` values to average.
    """
    checked_count(x, axis, ddof, "std")
    return apply(Std, x, params=(axis, ddof, keepdims))


def checked_count(x: Any, axis: Any, ddof: int, function: str) -> int:
    """How many values each slice over ``axis`` has; more than ``ddof``."""
    n = product(x.shape[a] for a in normal_axes(axis, x.ndim))
    if n <= ddof:
        raise ValueError(f"{function}: needs more than ddof={ddof} values per slice; got {n} (axis={axis} of {describe(x)})")
    return n


def prod(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Product over ``axis``, multiplied in pairs, so that the gradient is right where factors are 0."""
    axes = normal_axes(axis, x.ndim)
    rest = [i for i in range(x.ndim) if i not in axes]
    y = transpose(x, (*axes, *rest))
    y = reshape(y, (product(x.shape[a] for a in axes), *(x.shape[i] for i in rest)))
    if y.shape[0] == 0:
        y = sum(y, 0, keepdims=True) + 1  # an empty product is 1
    while y.shape[0] > 1:
        half = y.shape[0] // 2
        pairs = y[:half] * y[half : 2 * half]
        y = pairs if y.shape[0] % 2 == 0 else concatenate([pairs, y[2 * half :]])
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape)) if keepdims else tuple(x.shape[i] for i in rest)
    return reshape(copy(y), shape)


def cumsum(x: Tensor, axis: int | None = None) -> Tensor:
    """Running sum along ``axis``; of the flattened values when ``axis`` is None."""
    return apply(Cumsum, reshape(x, -1) if axis is None else x, params=(0 if axis is None else axis,))


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """ln(sum(e^x)) over ``axis``, without overflow."""
    return apply(Logsumexp, x, params=(axis, keepdims))


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether any element over ``axis`` is true."""
    return apply(Any_, x, params=(axis, None, keepdims))


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over ``axis`` are true."""
    return apply(All_, x, params=(axis, None, keepdims))


def argmax(x: Any, axis: int | None = None) -> Tensor:
    """Index of the (first) largest value over ``axis``; into the flattened values when ``axis`` is None."""
    return apply(Argmax, x, params=(axis,))


def argmin(x: Any, axis: int | None = None) -> Tensor:
    """Index of the (first) smallest value over ``axis``; into the flattened values when ``axis`` is None."""
    return apply(Argmin, x, params=(axis,))
