"""Arithmetic and elementwise functions: each is its forward text and, below it, one gradient rule per operand."""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from math import sqrt as root
from typing import Any

from ..engine.modes import defaults
from ..engine.op import INPUTS, NOTHING, OUTPUT, Op, apply, constant
from ..engine.tensor import Tensor
from .convert import astype, constant_like
from .explain import named


def elementary(
    name: str, formula: str, forward: Callable, *rules: Any, reads: int = INPUTS, promotes: bool = True
) -> Callable[..., Tensor]:
    """A function of Tensors from its texts on arrays; without rules it has no derivative. ``.op`` is its operation."""
    members: dict[str, Any] = {"forward": staticmethod(forward), "backward": rules or None, "__doc__": formula}
    members |= {"reads": reads if rules else NOTHING, "promotes": promotes and bool(rules), "__module__": __name__}
    op = type("".join(map(str.capitalize, name.split("_"))), (Op,), members)

    def function(*operands: Any) -> Tensor:
        return apply(op, *operands)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{formula}, elementwise with broadcasting."
    function.op = op  # type: ignore[attr-defined]
    return function


add = elementary(
    "add", "a + b", lambda xp, a, b: xp.add(a, b),
    lambda xp, g, y, a, b: g,
    lambda xp, g, y, a, b: g, reads=NOTHING)  # fmt: skip
subtract = elementary(
    "subtract", "a - b", lambda xp, a, b: xp.subtract(a, b),
    lambda xp, g, y, a, b: g,
    lambda xp, g, y, a, b: -g, reads=NOTHING)  # fmt: skip
multiply = elementary(
    "multiply", "a b", lambda xp, a, b: xp.multiply(a, b),
    lambda xp, g, y, a, b: g * b,
    lambda xp, g, y, a, b: g * a)  # fmt: skip
divide = elementary(  # b * b would underflow first
    "divide", "a / b (of integers too: the result has the default dtype)", lambda xp, a, b: xp.divide(a, b),
    lambda xp, g, y, a, b: g / b,
    lambda xp, g, y, a, b: -(g / b) * (a / b))  # fmt: skip
maximum = elementary(
    "maximum", "The larger of a and b (at a tie each gets half the gradient)", lambda xp, a, b: xp.maximum(a, b),
    lambda xp, g, y, a, b: xp.where(a == b, 0.5 * g, xp.where(a > b, g, 0.0)),
    lambda xp, g, y, a, b: xp.where(a == b, 0.5 * g, xp.where(a < b, g, 0.0)))  # fmt: skip
minimum = elementary(
    "minimum", "The smaller of a and b (at a tie each gets half the gradient)", lambda xp, a, b: xp.minimum(a, b),
    lambda xp, g, y, a, b: xp.where(a == b, 0.5 * g, xp.where(a < b, g, 0.0)),
    lambda xp, g, y, a, b: xp.where(a == b, 0.5 * g, xp.where(a > b, g, 0.0)))  # fmt: skip


def _power_by_base(xp, g, y, a, b):
    if isinstance(b, (int, float)):
        return g * (b * a ** (b - 1)) if b else xp.zeros_like(g)
    return g * b * a ** xp.where((a == 0) & (b == 0), 1.0, b - 1)


def _power_by_exponent(xp, g, y, a, b):
    if isinstance(a, (int, float)):
        a = xp.full_like(g, a)
    return g * y * xp.log(xp.where(a == 0, 1.0, a))


power = elementary(
    "power", "a^b (the gradient by a is 0 where b = 0, by b where a = 0)", lambda xp, a, b: a**b,
    _power_by_base, _power_by_exponent, reads=INPUTS | OUTPUT)  # fmt: skip

negative = elementary("negative", "-x", lambda xp, x: -x, lambda xp, g, y, x: -g, reads=NOTHING)
exp = elementary("exp", "e^x", lambda xp, x: xp.exp(x), lambda xp, g, y, x: g * y, reads=OUTPUT)
expm1 = elementary(
    "expm1", "e^x - 1, exact for small x", lambda xp, x: xp.expm1(x),
    lambda xp, g, y, x: g * (y + 1.0), reads=OUTPUT)  # fmt: skip
log = elementary("log", "ln x", lambda xp, x: xp.log(x), lambda xp, g, y, x: g / x)
log1p = elementary(
    "log1p", "ln(1 + x), exact for small x", lambda xp, x: xp.log1p(x), lambda xp, g, y, x: g / (x + 1.0))  # fmt: skip
sqrt = elementary(
    "sqrt", "x^(1/2) (the gradient at 0 is infinite, as IEEE has 1/0)", lambda xp, x: xp.sqrt(x),
    lambda xp, g, y, x: g / (y * 2.0), reads=OUTPUT)  # fmt: skip
sin = elementary("sin", "sin x", lambda xp, x: xp.sin(x), lambda xp, g, y, x: g * xp.cos(x))
cos = elementary("cos", "cos x", lambda xp, x: xp.cos(x), lambda xp, g, y, x: -g * xp.sin(x))
tanh = elementary("tanh", "tanh x", lambda xp, x: xp.tanh(x), lambda xp, g, y, x: g * (1.0 - y * y), reads=OUTPUT)
erf = elementary(
    "erf", "2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x", lambda xp, x: xp.erf(x),
    lambda xp, g, y, x: g * (xp.exp(-x * x) * (2 / root(pi))))  # fmt: skip
abs = elementary(
    "abs", "|x| (the gradient at 0 is 0)", lambda xp, x: xp.absolute(x), lambda xp, g, y, x: g * xp.sign(x),
    promotes=False)  # fmt: skip
sign = elementary(
    "sign", "-1, 0 or 1 (the gradient is 0)", lambda xp, x: xp.sign(x), lambda xp, g, y, x: xp.zeros_like(g),
    reads=NOTHING, promotes=False)  # fmt: skip
copy = elementary(
    "copy", "x in memory of its own", lambda xp, x: xp.copy(x), lambda xp, g, y, x: g,
    reads=NOTHING, promotes=False)  # fmt: skip


class Clip(Op):
    """y = min(max(x, low), high); the gradient passes where low <= x <= high."""

    promotes = True

    @staticmethod
    def forward(xp, x, low, high):
        return xp.clip(x, low, high)

    @staticmethod
    def _rule(xp, g, y, x, low, high):
        if low is not None:
            g = xp.where(x >= low, g, 0.0)
        return g if high is None else xp.where(x <= high, g, 0.0)

    backward = (_rule,)


class Where(Op):
    """y = a where the condition holds, else b."""

    @staticmethod
    def forward(xp, condition, a, b):
        return xp.where(condition, a, b)

    backward = (
        lambda xp, g, y, condition, a, b: xp.zeros_like(g),
        lambda xp, g, y, condition, a, b: xp.where(condition, g, 0.0),
        lambda xp, g, y, condition, a, b: xp.where(condition, 0.0, g),
    )


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """Limit values to [min, max]; the gradient passes where they are inside, the limits included.

    Raises:
        ValueError: neither limit is given, or min > max.
    """
    if min is None and max is None:
        raise ValueError("clip: give min, max or both; got neither")
    min, max = (limit if limit is None else constant(Clip, limit) for limit in (min, max))
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        with named("clip"):
            x = x if min is None else maximum(x, min)
            return x if max is None else minimum(x, max)
    if min is not None and max is not None and min > max:
        raise ValueError(f"clip: min must not be above max; got min={min}, max={max}")
    return apply(Clip, x, params=(min, max))


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """``a`` where ``condition`` holds, else ``b``, with broadcasting.

    >>> import tinygrad_norm as tn
    >>> tn.where(tn.tensor([True, False]), 1.0, 2.0)
    tensor([1., 2.])
    """
    condition, a, b = constant(Where, condition), constant(Where, a), constant(Where, b)
    floats = [x.dtype for x in (a, b) if is_float(x)]
    if not floats and (isinstance(a, float) or isinstance(b, float)):
        floats = [defaults.dtype]
    if len(floats) == 1:  # integers and Python numbers take the float's dtype
        a, b = (x if is_float(x) else as_float(x, condition, floats[0]) for x in (a, b))
    return apply(Where, condition, a, b)


def is_float(x: Any) -> bool:
    """Whether x is a floating Tensor (or a complex one, in a complex step)."""
    return isinstance(x, Tensor) and x.dtype.kind in "fc"


def as_float(x: Any, like: Any, dtype: Any) -> Any:
    """A number or an integer tensor as a float constant beside ``like``."""
    if isinstance(x, (int, float)):
        return constant_like(like, x, dtype)
    return astype(x, dtype)
