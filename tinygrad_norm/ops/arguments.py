"""Numbers that functions, layers and loaders are given, checked once for all of them."""

from __future__ import annotations

from typing import Any

import numpy

from ..engine.tensor import Tensor, describe


def whole_number(function: str, name: str, value: Any, least: int = 1) -> int:
    """``value`` as an int, or an error when it is not an integer or less than ``least``.

    >>> whole_number("Linear", "in_features", 3)
    3
    """
    if isinstance(value, (int, numpy.integer)) and not isinstance(value, bool) and value >= least:
        return int(value)
    raise ValueError(f"{function}: {name} must be an integer of at least {least}; got {value!r}")


def number_in(function: str, name: str, value: Any, low: float, high: float) -> float:
    """``value`` as a float, or an error when it is not a number in [low, high].

    A Tensor is none: operations do not differentiate by their settings, and its gradient would be lost.

    >>> number_in("Dropout", "p", 0.5, 0, 1)
    0.5
    """
    if type(value) is float and low <= value <= high:
        return value
    real = isinstance(value, (int, float, numpy.integer, numpy.floating)) and not isinstance(value, bool)
    if real and low <= value <= high:
        return float(value)
    rule = f"{function}: {name} must be a number in [{low}, {high}]; got "
    if isinstance(value, Tensor):
        raise TypeError(f"{rule}{describe(value)}, which no gradient would reach; write .item()")
    raise ValueError(f"{rule}{value!r}")


def sizes_of(function: str, name: str, value: Any) -> tuple[int, ...]:
    """A shape, from an int or a sequence of ints of at least 1.

    >>> sizes_of("LayerNorm", "normalized_shape", 3)
    (3,)
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not values:
        raise ValueError(f"{function}: {name} must name at least one dimension; got {value!r}")
    return tuple(whole_number(function, name, n) for n in values)
