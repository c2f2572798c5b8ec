"""Indexing, and its adjoint."""

from __future__ import annotations

from typing import Any

import numpy

from ..backend import BACKENDS
from ..engine.op import NOTHING, Op, apply
from ..engine.tensor import Tensor, describe, namespace


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


def getitem(x: Tensor, index: Any) -> Tensor:
    """``x[index]`` with slices, integers, None, ``...``, booleans and integer arrays; repeated indices accumulate."""
    index = plain_index(x, index)
    return apply(Getitem, x, params=(namespace(x._data).checked_index(x.shape, index),))


def plain_index(x: Tensor, index: Any) -> Any:
    """An index in the array library's own terms; index arrays are copied, so that nobody can change them later."""
    if isinstance(index, tuple):  # a tuple inside it is a list of integers, as for NumPy
        return tuple(plain_index(x, list(i) if isinstance(i, tuple) else i) for i in index)
    if isinstance(index, (int, slice, type(None), type(Ellipsis))):
        return index
    if isinstance(index, Tensor):
        index = index._data
    if isinstance(index, (list, range, numpy.generic)):
        index = listed(index)
    kind = getattr(getattr(index, "dtype", None), "kind", None)
    if kind not in ("i", "u", "b"):
        raise TypeError(
            f"getitem: an index must be an integer, a slice, None, ..., or integers or booleans; got {describe(index)}"
        )
    if kind != "b" and index.ndim == 0:
        return int(index)
    return beside(x, BACKENDS[type(index)].copy(index))


def listed(index: Any) -> numpy.ndarray:
    """Integers or booleans in a list as an array; an empty one holds integers."""
    return numpy.asarray(index) if numpy.size(index) else numpy.zeros(numpy.shape(index), numpy.int64)


def beside(x: Tensor, index: Any) -> Any:
    """An index array on the device of x."""
    xp = BACKENDS[type(x._data)]
    return index if type(index) is xp.array_type else xp.from_host(BACKENDS[type(index)].to_host(index))


def index_add(shape: tuple[int, ...], index: Any, values: Tensor) -> Tensor:
    """Zeros of ``shape`` with ``values`` added at ``index``; repeated indices accumulate."""
    index = namespace(values._data).checked_index(shape, plain_index(values, index))
    return apply(IndexAdd, values, params=(tuple(shape), index))
