"""Joining, cutting and repeating."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backend import normal_axes
from ..engine.op import NOTHING, Each, Op, apply
from ..engine.tensor import Tensor
from .axes import either_spelling
from .convert import operand
from .shape import broadcast_to, expand_dims, reshape


class Concatenate(Op):
    """y = the inputs one after the other along ``axis``."""

    reads = NOTHING
    promotes = True

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

    backward = Each(_rule)


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


@either_spelling
def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Join along an existing axis.

    Raises:
        ValueError: there is nothing to join, or other lengths differ.
    """
    if not len(tensors):
        raise ValueError("concatenate: needs at least one tensor; got none")
    return apply(Concatenate, *tensors, params=(axis,))


@either_spelling
def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Join along a new axis; all must have one shape."""
    shapes = list(dict.fromkeys(tuple(operand("stack", t).shape) for t in tensors))
    if len(shapes) > 1:
        raise ValueError(f"stack: tensors must have one shape; got {' and '.join(map(str, shapes))}")
    return concatenate([expand_dims(t, axis) for t in tensors], axis)


@either_spelling
def split(x: Tensor, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Cut along ``axis`` into that many equal sections, or before each of the given indices (NumPy's meaning).

    Raises:
        ValueError: the length cannot be divided evenly; PyTorch's ``split(size)`` is ``split(length // size)``.
    """
    (axis,) = normal_axes(axis, operand("split", x).ndim, "split: ")
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
    """Surround with a constant: ``widths`` is one number, (before, after), or one such pair per axis, as in NumPy."""
    operand("pad", x)
    if isinstance(widths, int):
        widths = ((widths, widths),) * x.ndim
    elif len(widths) == 2 and all(isinstance(n, int) for n in widths):
        widths = (tuple(widths),) * x.ndim
    widths = tuple((int(a), int(b)) for a, b in widths)
    if len(widths) != x.ndim or any(n < 0 for pair in widths for n in pair):
        raise ValueError(f"pad: give (before, after), not negative, for each of the {x.ndim} dimensions; got {widths}")
    return apply(Pad, x, params=(widths, value))


def repeat(x: Tensor, repeats: int, axis: int | None = None) -> Tensor:
    """Each element ``repeats`` times in a row (NumPy's meaning; PyTorch's ``repeat`` is ``tile``)."""
    if axis is None:
        x, axis = reshape(x, -1), 0
    (axis,) = normal_axes(axis, x.ndim, "repeat (its second number is an axis; PyTorch's repeat is tile): ")
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
