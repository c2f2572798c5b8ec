"""Writing into a tensor's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from ..backend import BACKENDS
from ..engine.modes import modes
from ..engine.op import constant, mark_edited
from ..engine.tensor import Tensor, describe
from .explain import with_rule
from .index import beside, listed


class Write:
    """The name under which ``x[...] = value`` speaks in error messages."""

    name = "assignment"


def checked_edit(x: Tensor) -> Tensor:
    """``x``, if it may be edited now: not while recording, when its gradient would miss the edit."""
    if modes.recording and x._node is not None:
        what = "a leaf that needs a gradient" if x.is_leaf else f"a recorded result of {x._node.op.name}"
        raise RuntimeError(
            f"in-place edit of {what} ({describe(x)}) while recording; write x = x + v instead of x += v, "
            "or edit inside `with tn.no_grad():`"
        )
    return x


def edit(x: Tensor, function: Callable[..., Tensor], other: Any) -> Tensor:
    """``x += other`` and its like: the result of ``function(x, other)`` is written into the memory of x."""
    return x.copy_(function(checked_edit(x), other))


def assign(x: Tensor, index: Any, value: Any) -> None:
    """``x[index] = value``, with ``value`` broadcast; kinds of dtypes must agree (no float into an integer tensor)."""
    checked_edit(x)
    if isinstance(value, (list, tuple)):
        value = BACKENDS[type(x._data)].from_host(numpy.asarray(value))
    value = constant(Write, value) if not isinstance(value, Tensor) else value
    if isinstance(value, Tensor):
        if modes.recording and value._node is not None:
            raise RuntimeError(
                f"assignment: {describe(value)} needs a gradient, which an in-place write would lose; "
                "build the result with tn.where or tn.concatenate, or write inside `with tn.no_grad():`"
            )
        if value.device != x.device:
            raise TypeError(
                f"assignment: target on {x.device!r}, value on {value.device!r}; write value.to({x.device!r})"
            )
        value = value._data
    kind = value.dtype if hasattr(value, "dtype") else numpy.min_scalar_type(value)
    if not numpy.can_cast(kind, x.dtype, "same_kind") and not (kind.kind == "u" and x.dtype.kind in "iu"):
        raise TypeError(f"assignment: {kind} values do not go into a tensor of dtype {x.dtype}; write .astype first")
    data = x._data
    xp = BACKENDS[type(data)]
    if not xp.writable(data):
        raise ValueError(f"assignment: {describe(x)} is a broadcast or read-only view; write x.clone() first")
    if kind.kind in "iu" and x.dtype.kind in "iu" and not numpy.can_cast(kind, x.dtype):
        value = in_range(xp, xp.asarray(value), x)
    try:
        data[xp.checked_index(x.shape, index_of(x, index))] = value
    except (IndexError, ValueError) as error:
        text = f"assignment: target {describe(x)}, value {describe(value)}: {with_rule(error)}"
        raise type(error)(text) from error
    mark_edited(x)


def in_range(xp: Any, value: Any, x: Tensor) -> Any:
    """Integers that the dtype of x holds, or an error with the first that it does not."""
    target = describe(x)

    def error(position: int, number: float) -> Exception:
        return ValueError(f"assignment: {target} cannot hold {int(number)}; write .astype of it first")

    return xp.refuse((xp.astype(value, x.dtype) != value).reshape(-1), value.reshape(-1), error).reshape(value.shape)


def index_of(x: Tensor, index: Any) -> Any:
    """An index with Tensors replaced by their arrays, on the device of x."""
    if isinstance(index, tuple):
        return tuple(index_of(x, i) for i in index)
    if isinstance(index, Tensor):
        index = index._data
    if isinstance(index, list):
        index = listed(index)
    return beside(x, index) if type(index) in BACKENDS else index
