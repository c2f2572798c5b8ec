"""Arithmetic and elementwise functions: forward and the gradient rules side by side."""

from __future__ import annotations

from math import pi, sqrt as root
from typing import Any

from ..engine.modes import FLOATS, as_dtype, defaults
from ..engine.op import INPUTS, NOTHING, OUTPUT, Op, apply
from ..engine.tensor import Tensor


class Add(Op):
    """y = a + b."""

    reads = NOTHING
    promotes = True

    @staticmethod
    def forward(xp, a, b):
        return xp.add(a, b)

    backward = (
        lambda xp, g, y, a, b: g,
        lambda xp, g, y, a, b: g,
    )


class Subtract(Op):
    """y = a - b."""

    reads = NOTHING
    promotes = True

    @staticmethod
    def forward(xp, a, b):
        return xp.subtract(a, b)

    backward = (
        lambda xp, g, y, a, b: g,
        lambda xp, g, y, a, b: -g,
    )


class Multiply(Op):
    """y = a b."""

    promotes = True

    @staticmethod
    def forward(xp, a, b):
        return xp.multiply(a, b)

    backward = (
        lambda xp, g, y, a, b: g * b,
        lambda xp, g, y, a, b: g * a,
    )


class Divide(Op):
    """y = a / b."""

    promotes = True

    @staticmethod
    def forward(xp, a, b):
        return xp.divide(a, b)

    backward = (
        lambda xp, g, y, a, b: g / b,
        lambda xp, g, y, a, b: -(g / b) * (a / b),  # b * b would underflow first
    )


class Power(Op):
    """y = a^b; by a the gradient is 0 where b = 0, by b it is 0 where a = 0."""

    reads = INPUTS | OUTPUT
    promotes = True

    @staticmethod
    def forward(xp, a, b):
        return a**b

    @staticmethod
    def _by_base(xp, g, y, a, b):
        if isinstance(b, (int, float)):
            return g * b * a ** (b - 1) if b else xp.zeros_like(g)
        return g * b * a ** xp.where(b == 0, 1.0, b - 1)

    @staticmethod
    def _by_exponent(xp, g, y, a, b):
        if isinstance(a, (int, float)):
            a = xp.full_like(g, a)
        return g * y * xp.where(a == 0, 0.0, xp.log(xp.where(a == 0, 1.0, a)))

    backward = (_by_base.__func__, _by_exponent.__func__)


class Negative(Op):
    """y = -x."""

    reads = NOTHING

    @staticmethod
    def forward(xp, x):
        return xp.negative(x)

    backward = (lambda xp, g, y, x: -g,)


class Exp(Op):
    """y = e^x."""

    reads = OUTPUT
    promotes = True

    @staticmethod
    def forward(xp, x):
        return xp.exp(x)

    backward = (lambda xp, g, y, x: g * y,)


class Expm1(Op):
    """y = e^x - 1, exact for small x."""

    reads = OUTPUT
    promotes = True

    @staticmethod
    def forward(xp, x):
        return xp.expm1(x)

    backward = (lambda xp, g, y, x: g * (y + 1.0),)


class Log(Op):
    """y = ln x."""

    promotes = True

    @staticmethod
    def forward(xp, x):
        return xp.log(x)

    backward = (lambda xp, g, y, x: g / x,)


class Log1p(Op):
    """y = ln(1 + x), exact for small x."""

    promotes = True

    @staticmethod
    def forward(xp, x):
        return xp.log1p(x)

    backward = (lambda xp, g, y, x: g / (x + 1.0),)


class Sqrt(Op):
    """y = x^(1/2); the gradient at 0 is infinite, as IEEE has 1/0."""

    reads = OUTPUT
    promotes = True

    @staticmethod
    def forward(xp, x):
        return xp.sqrt(x)

    backward = (lambda xp, g, y, x: g / (y * 2.0),)


class Abs(Op):
    """y = |x|; the gradient at 0 is 0."""

    @staticmethod
    def forward(xp, x):
        if x.dtype.kind == "c":  # a complex step: analytic on either side, not the modulus
            return xp.where(xp.real(x) < 0, -x, x)
        return xp.abs(x)

    backward = (lambda xp, g, y, x: g * xp.sign(x),)


class Sign(Op):
    """y = -1, 0 or 1; the gradient is 0."""

    reads = NOTHING

    @staticmethod
    def forward(xp, x):
        return xp.sign(x)

    backward = (lambda xp, g, y, x: xp.zeros_like(g),)


class Sin(Op):
    """y = sin x."""

    promotes = True

    @staticmethod
    def forward(xp, x):
        return xp.sin(x)

    backward = (lambda xp, g, y, x: g * xp.cos(x),)


class Cos(Op):
    """y = cos x."""

    promotes = True

    @staticmethod
    def forward(xp, x):
        return xp.cos(x)

    backward = (lambda xp, g, y, x: -g * xp.sin(x),)


class Tanh(Op):
    """y = tanh x."""

    reads = OUTPUT
    promotes = True

    @staticmethod
    def forward(xp, x):
        return xp.tanh(x)

    backward = (lambda xp, g, y, x: g * (1.0 - y * y),)


class Erf(Op):
    """y = 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x."""

    promotes = True

    @staticmethod
    def forward(xp, x):
        return xp.erf(x)

    backward = (lambda xp, g, y, x: g * (xp.exp(-x * x) * (2 / root(pi))),)


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

    backward = (_rule.__func__,)


class Where(Op):
    """y = a where the condition holds, else b."""

    @staticmethod
    def forward(xp, condition, a, b):
        return xp.where(condition, a, b)

    backward = (
        None,
        lambda xp, g, y, condition, a, b: xp.where(condition, g, 0.0),
        lambda xp, g, y, condition, a, b: xp.where(condition, 0.0, g),
    )


class Maximum(Op):
    """y = the larger of a and b; at a tie each gets half the gradient."""

    promotes = True

    @staticmethod
    def forward(xp, a, b):
        return xp.maximum(a, b)

    backward = (
        lambda xp, g, y, a, b: xp.where(a == b, 0.5 * g, xp.where(a > b, g, 0.0)),
        lambda xp, g, y, a, b: xp.where(a == b, 0.5 * g, xp.where(a < b, g, 0.0)),
    )


class Minimum(Op):
    """y = the smaller of a and b; at a tie each gets half the gradient."""

    promotes = True

    @staticmethod
    def forward(xp, a, b):
        return xp.minimum(a, b)

    backward = (
        lambda xp, g, y, a, b: xp.where(a == b, 0.5 * g, xp.where(a < b, g, 0.0)),
        lambda xp, g, y, a, b: xp.where(a == b, 0.5 * g, xp.where(a > b, g, 0.0)),
    )


class Astype(Op):
    """y = x in another dtype; the sweep brings the gradient back to x's."""

    reads = NOTHING

    @staticmethod
    def forward(xp, x, dtype):
        return x.astype(dtype)

    backward = (lambda xp, g, y, x, dtype: g,)


class Copy(Op):
    """y = x, in memory of its own."""

    reads = NOTHING

    @staticmethod
    def forward(xp, x):
        return xp.copy(x)

    backward = (lambda xp, g, y, x: g,)


class ToDevice(Op):
    """y = x on another device."""

    reads = NOTHING

    @staticmethod
    def forward(xp, x, device, home):
        return xp.to_device(x, device)

    backward = (lambda xp, g, y, x, device, home: xp.to_device(g, home, device),)


def discrete(function: str) -> type[Op]:
    """An operation without a derivative: its result needs no gradient."""

    def forward(xp, *args):
        return getattr(xp, function)(*args)

    return type(function, (Op,), {"forward": staticmethod(forward), "backward": None, "reads": NOTHING})


Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual, LogicalAnd, LogicalOr, LogicalNot, Isfinite, Isnan = map(
    discrete,
    "equal not_equal less less_equal greater greater_equal logical_and logical_or logical_not isfinite isnan".split(),
)


def add(a: Any, b: Any) -> Tensor:
    """a + b, elementwise with broadcasting."""
    return apply(Add, a, b)


def subtract(a: Any, b: Any) -> Tensor:
    """a - b, elementwise with broadcasting."""
    return apply(Subtract, a, b)


def multiply(a: Any, b: Any) -> Tensor:
    """a b, elementwise with broadcasting."""
    return apply(Multiply, a, b)


def divide(a: Any, b: Any) -> Tensor:
    """a / b, elementwise with broadcasting; integers give the default dtype."""
    return apply(Divide, a, b)


def power(a: Any, b: Any) -> Tensor:
    """a^b, elementwise with broadcasting."""
    return apply(Power, a, b)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, elementwise; tied values share the gradient evenly."""
    return apply(Maximum, a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b, elementwise; tied values share the gradient evenly."""
    return apply(Minimum, a, b)


def negative(x: Any) -> Tensor:
    """-x, elementwise."""
    return apply(Negative, x)


def exp(x: Any) -> Tensor:
    """e^x, elementwise."""
    return apply(Exp, x)


def expm1(x: Any) -> Tensor:
    """e^x - 1, elementwise, exact for small x."""
    return apply(Expm1, x)


def log(x: Any) -> Tensor:
    """Natural logarithm, elementwise."""
    return apply(Log, x)


def log1p(x: Any) -> Tensor:
    """ln(1 + x), elementwise, exact for small x."""
    return apply(Log1p, x)


def sqrt(x: Any) -> Tensor:
    """Square root, elementwise; its gradient at 0 is infinite."""
    return apply(Sqrt, x)


def abs(x: Any) -> Tensor:
    """Absolute value, elementwise; its gradient at 0 is 0."""
    return apply(Abs, x)


def sign(x: Any) -> Tensor:
    """-1, 0 or 1, elementwise; its gradient is 0."""
    return apply(Sign, x)


def sin(x: Any) -> Tensor:
    """Sine, elementwise."""
    return apply(Sin, x)


def cos(x: Any) -> Tensor:
    """Cosine, elementwise."""
    return apply(Cos, x)


def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent, elementwise."""
    return apply(Tanh, x)


def erf(x: Any) -> Tensor:
    """Error function, elementwise."""
    return apply(Erf, x)


def clip(x: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """Limit values to [min, max]; the gradient passes where they are inside, the limits included.

    Raises:
        ValueError: neither limit is given, or min > max.
    """
    if min is None and max is None:
        raise ValueError("clip: give min, max or both; got neither")
    if isinstance(min, Tensor) or isinstance(max, Tensor):
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
    dtypes = [x.dtype for x in (a, b) if hasattr(x, "dtype")]
    floats = [d for d in dtypes if d in FLOATS]
    if not floats and (isinstance(a, float) or isinstance(b, float)):
        floats = [defaults.dtype]
    if floats and len(floats) < 2:  # integers and Python numbers take the float's dtype
        a, b = (x if getattr(x, "dtype", None) in FLOATS else as_float(x, condition, floats[0]) for x in (a, b))
    return apply(Where, condition, a, b)


def as_float(x: Any, like: Any, dtype: Any) -> Any:
    """A number or an integer tensor as a float constant beside ``like``."""
    return astype(x, dtype) if isinstance(x, Tensor) else dtype.type(x) + zeros_like(like, dtype)


def zeros_like(x: Tensor, dtype: Any = None) -> Tensor:
    """A constant of zeros with the shape and device of ``x``."""
    return full_like(x, 0, dtype)


def full_like(x: Tensor, value: float, dtype: Any = None) -> Tensor:
    """A constant filled with ``value``, with the shape and device of ``x``."""
    from_x = x.detach() if isinstance(x, Tensor) else x
    return apply(FullLike, from_x, params=(value, None if dtype is None else as_dtype(dtype, "full_like")))


class FullLike(Op):
    """A constant of the shape of x."""

    reads = NOTHING
    backward = None

    @staticmethod
    def forward(xp, x, value, dtype):
        return xp.full_like(x, value, dtype=dtype)


def astype(x: Any, dtype: Any) -> Tensor:
    """``x`` in another dtype; the gradient comes back in x's own.

    Raises:
        TypeError: the dtype is not supported.
    """
    dtype = as_dtype(dtype, "astype")
    if isinstance(x, Tensor) and x.dtype == dtype:
        return x
    if dtype not in FLOATS:
        x = x.detach()
    return apply(Astype, x, params=(dtype,))


def copy(x: Any) -> Tensor:
    """The same values in memory of their own, in the graph."""
    return apply(Copy, x)


def to_device(x: Tensor, device: str, home: str | None = None) -> Tensor:
    """``x`` on another device; the gradient comes back to its own."""
    return x if x.device == device else apply(ToDevice, x, params=(device, x.device))


def equal(a: Any, b: Any) -> Tensor:
    """a == b, elementwise."""
    return apply(Equal, a, b)


def not_equal(a: Any, b: Any) -> Tensor:
    """a != b, elementwise."""
    return apply(NotEqual, a, b)


def less(a: Any, b: Any) -> Tensor:
    """a < b, elementwise."""
    return apply(Less, a, b)


def less_equal(a: Any, b: Any) -> Tensor:
    """a <= b, elementwise."""
    return apply(LessEqual, a, b)


def greater(a: Any, b: Any) -> Tensor:
    """a > b, elementwise."""
    return apply(Greater, a, b)


def greater_equal(a: Any, b: Any) -> Tensor:
    """a >= b, elementwise."""
    return apply(GreaterEqual, a, b)


def logical_and(a: Any, b: Any) -> Tensor:
    """Whether both hold, elementwise."""
    return apply(LogicalAnd, a, b)


def logical_or(a: Any, b: Any) -> Tensor:
    """Whether either holds, elementwise."""
    return apply(LogicalOr, a, b)


def logical_not(x: Any) -> Tensor:
    """Whether it does not hold, elementwise."""
    return apply(LogicalNot, x)


def isfinite(x: Any) -> Tensor:
    """Whether neither infinite nor NaN, elementwise."""
    return apply(Isfinite, x)


def isnan(x: Any) -> Tensor:
    """Whether NaN, elementwise."""
    return apply(Isnan, x)
