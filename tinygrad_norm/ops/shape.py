"""Moving elements without changing them: shapes, indexing, joining."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod as product
from typing import Any

import numpy

from ..backend import BACKENDS, normal_axes
from ..engine.op import NOTHING, Each, Op, apply
from ..engine.tensor import Tensor, describe


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


class Getitem(Op):
    """y = x[index]."""

    reads = NOTHING
    view = True

    @staticmethod
    def forward(xp, x, index):
        return x[index]

    backward = (lambda xp, g, y, x, index: xp.index_add(x.shape, index, g),)


class IndexAdd(Op):
    """y = zeros with x added at ``index``, repeated indices accumulating: the adjoint of x[index]."""

    reads = NOTHING

    @staticmethod
    def forward(xp, x, shape, index):
        return xp.index_add(shape, index, x)

    backward = (lambda xp, g, y, x, shape, index: g[index],)


class Concatenate(Op):
    """y = the inputs one after the other along ``axis``."""

    reads = NOTHING

    @staticmethod
    def forward(xp, *args):
        *arrays, axis = args
        return xp.concatenate(arrays, axis)

    @staticmethod
    def _rule(i, xp, g, y, *args):
        *inputs, axis = args
        axis %= g.ndim
        start = sum(x.shape[axis] for x in inputs[:i])
        return g[(slice(None),) * axis + (slice(start, start + inputs[i].shape[axis]),)]

    backward = Each(_rule.__func__)


class Pad(Op):
    """y = x with ``widths`` = ((before, after), ...) constant values around it."""

    reads = NOTHING

    @staticmethod
    def forward(xp, x, widths, value):
        return xp.pad(x, widths, constant_values=value)

    backward = (
        lambda xp, g, y, x, widths, value: g[
            tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))
        ],
    )


def reshape(x: Any, shape: Any) -> Tensor:
    """The same elements in another shape; one length may be -1."""
    shape = (int(shape),) if isinstance(shape, (int, numpy.integer)) else tuple(int(n) for n in shape)
    if x.shape == shape:
        shape = x.shape
    elif product(n for n in shape if n != -1) != x.size and -1 not in shape:
        raise ValueError(f"reshape: {describe(x)} has {x.size} elements; shape {shape} holds {product(shape)}")
    return apply(Reshape, x, params=(shape,))


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merge the dimensions from ``start_dim`` to ``end_dim`` into one."""
    if x.ndim == 0:
        return reshape(x, 1)
    start, end = (normal_axes(d, x.ndim)[0] for d in (start_dim, end_dim))
    if start > end:
        raise ValueError(f"flatten: start_dim must not be behind end_dim; got {start_dim} and {end_dim} for {x.ndim} dimensions")
    return reshape(x, (*x.shape[:start], product(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def transpose(x: Any, *axes: Any) -> Tensor:
    """Permute all dimensions; without axes, reverse them.

    Raises:
        ValueError: the axes are not a permutation of all dimensions; PyTorch's two-axis form is ``swapaxes``.
    """
    if len(axes) == 1 and not isinstance(axes[0], int):
        axes = axes[0]
    order = tuple(range(x.ndim))[::-1] if not axes else tuple(int(a) for a in axes)
    if sorted(a + x.ndim if a < 0 else a for a in order) != list(range(x.ndim)):
        hint = "; to exchange two, write swapaxes(a, b)" if len(order) == 2 else ""
        raise ValueError(f"transpose: axes must name each of the {x.ndim} dimensions once; got {order}{hint}")
    return apply(Transpose, x, params=(tuple(a % x.ndim for a in order),))


permute = transpose


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Exchange two dimensions."""
    order = list(range(x.ndim))
    a, b = normal_axes(axis1, x.ndim)[0], normal_axes(axis2, x.ndim)[0]
    order[a], order[b] = b, a
    return apply(Transpose, x, params=(tuple(order),))


def squeeze(x: Any, axis: Any = None) -> Tensor:
    """Drop the dimensions of length 1, or only ``axis``.

    Raises:
        ValueError: ``axis`` is not of length 1.
    """
    axes = tuple(i for i, n in enumerate(x.shape) if n == 1) if axis is None else normal_axes(axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ValueError(f"squeeze: axis {a} of {describe(x)} has length {x.shape[a]}, not 1")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def expand_dims(x: Any, axis: Any) -> Tensor:
    """Insert dimensions of length 1, at these places of the result."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    axes = normal_axes(axes, x.ndim + len(axes))
    lengths = iter(x.shape)
    return reshape(x, tuple(1 if i in axes else next(lengths) for i in range(x.ndim + len(axes))))


def broadcast_to(x: Any, shape: Sequence[int]) -> Tensor:
    """Repeat along dimensions of length 1, without copying."""
    return apply(BroadcastTo, x, params=(tuple(shape),))


def expand(x: Tensor, *shape: Any) -> Tensor:
    """PyTorch's ``expand``: ``broadcast_to`` where -1 keeps a length."""
    sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    extra = len(sizes) - x.ndim
    if any(n == -1 and i < extra for i, n in enumerate(sizes)):
        raise ValueError(f"expand: -1 keeps an existing length, but {tuple(sizes)} adds dimensions to {describe(x)}")
    return broadcast_to(x, tuple(x.shape[i - extra] if n == -1 else n for i, n in enumerate(sizes)))


def flip(x: Any, axis: Any = None) -> Tensor:
    """Reverse the order along ``axis`` (all by default)."""
    return apply(Flip, x, params=(axis,))


def getitem(x: Tensor, index: Any) -> Tensor:
    """``x[index]`` with slices, integers, None, ``...``, booleans and integer arrays; repeated indices accumulate."""
    return apply(Getitem, x, params=(plain_index(x, index),))


def plain_index(x: Tensor, index: Any) -> Any:
    """An index in the array library's own terms; index arrays are copied, so that nobody can change them later."""
    if isinstance(index, tuple):
        return tuple(plain_index(x, i) for i in index)
    if isinstance(index, (int, slice, type(None), type(Ellipsis))):
        return index
    if isinstance(index, Tensor):
        index = index._data
    if isinstance(index, (list, range, numpy.generic)):
        index = numpy.asarray(index, dtype=None if len(numpy.shape(index)) == 0 or len(index) else numpy.int64)
    kind = getattr(getattr(index, "dtype", None), "kind", None)
    if kind not in ("i", "u", "b"):
        raise TypeError(f"getitem: an index is an integer, a slice, None, ..., or integers or booleans; got {describe(index)}")
    if kind != "b" and index.ndim == 0:
        return int(index)
    xp = BACKENDS[type(x._data)]
    return xp.copy(index) if type(index) is xp.array_type else xp.from_host(BACKENDS[type(index)].to_host(index).copy())


def index_add(shape: tuple[int, ...], index: Any, values: Tensor) -> Tensor:
    """Zeros of ``shape`` with ``values`` added at ``index``; repeated indices accumulate."""
    return apply(IndexAdd, values, params=(tuple(shape), plain_index(values, index)))


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Join along an existing axis.

    Raises:
        ValueError: there is nothing to join, or other lengths differ.
    """
    if not len(tensors):
        raise ValueError("concatenate: needs at least one tensor; got none")
    return apply(Concatenate, *tensors, params=(axis,))


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Join along a new axis."""
    return concatenate([expand_dims(t, axis) for t in tensors], axis)


def split(x: Tensor, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Cut along ``axis`` into that many equal sections, or before each of the given indices (NumPy's meaning).

    Raises:
        ValueError: the length cannot be divided evenly; PyTorch's ``split(size)`` is ``split(length // size)``.
    """
    (axis,) = normal_axes(axis, x.ndim)
    n = x.shape[axis]
    if isinstance(sections, int):
        if sections < 1 or n % sections:
            raise ValueError(
                f"split: axis {axis} of length {n} cannot be cut into {sections} equal sections; "
                "give the indices to cut before instead"
            )
        cuts = list(range(n // sections, n, n // sections)) if n else [0] * (sections - 1)
    else:
        cuts = list(sections)
    before = (slice(None),) * axis
    return [x[(*before, slice(a, b))] for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


def pad(x: Any, widths: Any, value: float = 0.0) -> Tensor:
    """Surround with a constant: ``widths`` is one number, or (before, after) for every axis, as in NumPy."""
    if isinstance(widths, int):
        widths = ((widths, widths),) * x.ndim
    widths = tuple((int(a), int(b)) for a, b in widths)
    if len(widths) != x.ndim or any(n < 0 for pair in widths for n in pair):
        raise ValueError(f"pad: give (before, after), not negative, for each of the {x.ndim} dimensions; got {widths}")
    return apply(Pad, x, params=(widths, value))


def repeat(x: Tensor, repeats: int, axis: int | None = None) -> Tensor:
    """Each element ``repeats`` times in a row (NumPy's meaning; PyTorch's ``repeat`` is ``tile``)."""
    if axis is None:
        x, axis = reshape(x, -1), 0
    (axis,) = normal_axes(axis, x.ndim)
    shape = x.shape
    y = broadcast_to(expand_dims(x, axis + 1), (*shape[: axis + 1], repeats, *shape[axis + 1 :]))
    return reshape(y, (*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :]))


def tile(x: Tensor, reps: int | Sequence[int]) -> Tensor:
    """The whole array ``reps`` times along each dimension."""
    counts = (reps,) if isinstance(reps, int) else tuple(reps)
    counts = (1,) * (x.ndim - len(counts)) + counts
    shape = (1,) * (len(counts) - x.ndim) + x.shape
    pairs = reshape(x, tuple(m for n in shape for m in (1, n)))
    wide = broadcast_to(pairs, tuple(m for r, n in zip(counts, shape, strict=True) for m in (r, n)))
    return reshape(wide, tuple(r * n for r, n in zip(counts, shape, strict=True)))
