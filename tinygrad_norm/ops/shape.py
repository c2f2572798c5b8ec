"""The same elements in another shape or order, without copying."""

from __future__ import annotations

from math import prod as product
from operator import index as integer
from typing import Any

from ..backend import normal_axes
from ..engine.op import NOTHING, Op, apply
from ..engine.tensor import Tensor, describe
from .axes import either_spelling


class Reshape(Op):
    """y = the elements of x, in order, in another shape."""

    reads = NOTHING
    view = True

    @staticmethod
    def forward(xp, x, shape):
        return xp.reshape(x, shape)

    backward = (lambda xp, g, y, x, shape: xp.reshape(g, x.shape),)


class Transpose(Op):
    """y = x with its dimensions in another order."""

    reads = NOTHING
    view = True

    @staticmethod
    def forward(xp, x, axes):
        return xp.transpose(x, axes)

    backward = (lambda xp, g, y, x, axes: xp.transpose(g, tuple(axes.index(i) for i in range(len(axes)))),)


class BroadcastTo(Op):
    """y = x repeated along dimensions of length 1; the sweep sums the gradient back."""

    reads = NOTHING
    view = True

    @staticmethod
    def forward(xp, x, shape):
        return xp.broadcast_to(x, shape)

    backward = (lambda xp, g, y, x, shape: g,)


class Flip(Op):
    """y = x in reverse order along ``axis``."""

    reads = NOTHING
    view = True

    @staticmethod
    def forward(xp, x, axis):
        return xp.flip(x, axis)

    backward = (lambda xp, g, y, x, axis: xp.flip(g, axis),)


def reshape(x: Any, *shape: Any) -> Tensor:
    """The same elements in another shape; one length may be -1."""
    shape = lengths(shape)
    if -1 not in shape and product(shape) != x.size:
        raise ValueError(f"reshape: {describe(x)} has {x.size} elements; the new shape must hold as many; got {shape}")
    return apply(Reshape, x, params=(shape,))


def lengths(shape: tuple) -> tuple[int, ...]:
    """``(2, 3)`` from either f(2, 3) or f((2, 3))."""
    return tuple(map(integer, shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape))


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merge the dimensions from ``start_dim`` to ``end_dim`` into one."""
    if x.ndim == 0:
        return reshape(x, 1)
    start, end = (normal_axes(d, x.ndim, "flatten: ")[0] for d in (start_dim, end_dim))
    if start > end:
        raise ValueError(
            f"flatten: start_dim must not be behind end_dim; got {start_dim} and {end_dim} for {x.ndim} dimensions"
        )
    return reshape(x, (*x.shape[:start], product(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def transpose(x: Any, *axes: Any) -> Tensor:
    """Permute all dimensions; without axes, reverse them.

    Raises:
        ValueError: the axes are not a permutation of all dimensions; PyTorch's two-axis form is ``swapaxes``.
    """
    order = lengths(axes) if axes else tuple(range(x.ndim))[::-1]
    if sorted(a + x.ndim if a < 0 else a for a in order) != list(range(x.ndim)):
        hint = "; to exchange two, write swapaxes(a, b)" if len(order) == 2 else ""
        raise ValueError(f"transpose: axes must name each of the {x.ndim} dimensions once; got {order}{hint}")
    return apply(Transpose, x, params=(tuple(a % x.ndim for a in order),))


permute = transpose


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Exchange two dimensions."""
    order = list(range(x.ndim))
    a, b = (normal_axes(axis, x.ndim, "swapaxes: ")[0] for axis in (axis1, axis2))
    order[a], order[b] = b, a
    return apply(Transpose, x, params=(tuple(order),))


@either_spelling
def squeeze(x: Any, axis: Any = None) -> Tensor:
    """Drop the dimensions of length 1, or only ``axis``.

    Raises:
        ValueError: ``axis`` is not of length 1.
    """
    axes = tuple(i for i, n in enumerate(x.shape) if n == 1) if axis is None else normal_axes(axis, x.ndim, "squeeze: ")
    for a in axes:
        if x.shape[a] != 1:
            raise ValueError(f"squeeze: axis {a} of {describe(x)} must have length 1; got {x.shape[a]}")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


@either_spelling
def expand_dims(x: Any, axis: Any) -> Tensor:
    """Insert dimensions of length 1, at these places of the result."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    axes = normal_axes(axes, x.ndim + len(axes), "expand_dims: ")
    lengths = iter(x.shape)
    return reshape(x, tuple(1 if i in axes else next(lengths) for i in range(x.ndim + len(axes))))


def broadcast_to(x: Any, *shape: Any) -> Tensor:
    """Repeat along dimensions of length 1, without copying."""
    return apply(BroadcastTo, x, params=(lengths(shape),))


def expand(x: Tensor, *shape: Any) -> Tensor:
    """PyTorch's ``expand``: ``broadcast_to`` where -1 keeps a length."""
    sizes = lengths(shape)
    extra = len(sizes) - x.ndim
    if any(n == -1 and i < extra for i, n in enumerate(sizes)):
        raise ValueError(f"expand: -1 keeps an existing length, but {tuple(sizes)} adds dimensions to {describe(x)}")
    return broadcast_to(x, tuple(x.shape[i - extra] if n == -1 else n for i, n in enumerate(sizes)))


@either_spelling
def flip(x: Any, axis: Any = None) -> Tensor:
    """Reverse the order along ``axis`` (all by default)."""
    return apply(Flip, x, params=(axis,))
