"""Sums, means and extremes over axes."""

from __future__ import annotations

from builtins import max as largest
from math import prod as product
from typing import Any

from ..backend import Backend, normal_axes
from ..engine import tensor
from ..engine.op import INPUTS, NOTHING, OUTPUT, Op, apply
from ..engine.tensor import Tensor
from .axes import either_spelling


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
        return xp.broadcast_to(kept(xp, g * (1.0 / largest(n, 1)), x, axis, keepdims), x.shape)

    backward = (_rule,)


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


@either_spelling
def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Sum over ``axis`` (None: all; an int; a tuple)."""
    return apply(Sum, x, params=(axis, keepdims))


@either_spelling
def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Mean over ``axis``; integers give the default dtype."""
    return apply(Mean, x, params=(axis, keepdims))


@either_spelling
def max(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Largest value over ``axis``; tied values share the gradient evenly."""
    return apply(Max, x, params=(axis, keepdims))


@either_spelling
def min(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Smallest value over ``axis``; tied values share the gradient evenly."""
    return apply(Min, x, params=(axis, keepdims))


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo broadcasting: sum ``x`` down to ``shape``, the adjoint of ``broadcast_to``."""
    return Backend.sum_to(tensor.xp, x, shape)
