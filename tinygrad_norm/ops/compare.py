"""Comparisons and tests, elementwise: functions without a derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..engine.tensor import Tensor, describe
from .elementwise import elementary

equal = elementary("equal", "a == b", lambda xp, a, b: xp.equal(a, b))
not_equal = elementary("not_equal", "a != b", lambda xp, a, b: xp.not_equal(a, b))
less = elementary("less", "a < b", lambda xp, a, b: xp.less(a, b))
less_equal = elementary("less_equal", "a <= b", lambda xp, a, b: xp.less_equal(a, b))
greater = elementary("greater", "a > b", lambda xp, a, b: xp.greater(a, b))
greater_equal = elementary("greater_equal", "a >= b", lambda xp, a, b: xp.greater_equal(a, b))
logical_and = elementary("logical_and", "a and b", lambda xp, a, b: xp.logical_and(a, b))
logical_or = elementary("logical_or", "a or b", lambda xp, a, b: xp.logical_or(a, b))
logical_not = elementary("logical_not", "not x", lambda xp, x: xp.logical_not(x))
isfinite = elementary("isfinite", "whether x is neither infinite nor NaN", lambda xp, x: xp.isfinite(x))
isnan = elementary("isnan", "whether x is NaN", lambda xp, x: xp.isnan(x))


def operator(symbol: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``&``, ``|`` and ``~``, which NumPy and PyTorch apply to each bit of an integer: here for booleans only."""

    def checked(*operands: Any) -> Tensor:
        for x in operands:
            if not isinstance(x, bool) and getattr(x, "dtype", None) != "bool":
                raise TypeError(
                    f"{symbol} is for boolean tensors, as comparisons give them; got {describe(x)}; write "
                    f"tn.{function.__name__}(...) to take every number but 0 as true"
                )
        return function(*operands)

    return checked


and_, or_, invert = operator("&", logical_and), operator("|", logical_or), operator("~", logical_not)
