"""What this room is given: parameters and numbers, checked once for all who take them."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from numbers import Real
from typing import Any, TypeAlias

from ..engine import Tensor
from ..engine.tensor import describe

Params: TypeAlias = Iterable[Any]
"""Parameters, (name, Parameter) pairs, or, for an optimizer, dicts of them with settings of their own."""


def number(where: str, name: str, value: Any, low: float, high: float = inf, above: bool = False) -> float:
    """``value`` as a Python float in [low, high), or in (low, high) where ``above``.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not in the range (NaN is in none).

    >>> number("SGD", "lr", 1, 0.0)
    1.0
    """
    if type(value) is not float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{where}: {name} must be a number; got {describe(value)}")
        value = float(value)
    if not low <= value < high or (above and value == low):
        raise ValueError(f"{where}: {name} must be in {'(' if above else '['}{low:g}, {high:g}); got {value!r}")
    return value


def listed(where: str, params: Any) -> list:
    """An ordered iterable as a list, or an error that says what to write instead."""
    hint = ""
    if hasattr(params, "named_parameters"):
        hint = "; write model.named_parameters()"
    elif isinstance(params, Tensor):
        hint = "; write [x] for a single one"
    elif isinstance(params, (set, frozenset)):
        hint = ", which has no order; write a list"
    elif isinstance(params, Iterable) and not isinstance(params, (str, dict)):
        return list(params)
    raise TypeError(
        f"{where}: params must be a list or another iterable of Parameters or of (name, Parameter) pairs; "
        f"got {describe(params) if not hint else 'a ' + type(params).__name__}{hint}"
    )


def named(where: str, params: Any) -> list[tuple[str | None, Tensor]]:
    """Parameters or (name, Parameter) pairs as pairs; the name is None where none was given.

    Raises:
        TypeError: something in it is not a Tensor of floats, or needs no gradient.
        ValueError: it is the result of an operation.
    """
    pairs = []
    for i, item in enumerate(listed(where, params)):
        name, p = item if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) else (None, item)
        what = f"params[{i}]" if name is None else repr(name)
        if not isinstance(p, Tensor):
            raise TypeError(f"{where}: {what} must be a Parameter or a (name, Parameter) pair; got {describe(p)}")
        if not p.is_leaf:
            raise ValueError(
                f"{where}: {what} ({describe(p)}) is a result inside a graph; pass the leaf it was computed from"
            )
        # A frozen Parameter is meant; a plain tensor that nobody asked a gradient of is a mistake.
        if p.dtype.kind != "f" or (type(p) is Tensor and not p.requires_grad):
            raise TypeError(
                f"{where}: {what} ({describe(p)}) needs no gradient; write tn.tensor(..., requires_grad=True)"
            )
        pairs.append((name, p))
    return pairs
