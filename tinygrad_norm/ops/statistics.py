"""What is made of sums and extremes: variance, products, running sums, positions."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from math import prod as product
from typing import Any

from ..backend import normal_axes
from ..engine.modes import defaults
from ..engine.op import INPUTS, NOTHING, OUTPUT, Op, apply, constant
from ..engine.tensor import Tensor, describe
from .axes import either_spelling
from .convert import astype, operand, wide
from .elementwise import copy, sqrt, where
from .join import concatenate
from .norm import centred
from .reduce import kept, sum
from .shape import reshape, transpose


class Cumsum(Op):
    """y_i = x_0 + ... + x_i along ``axis``."""

    reads = NOTHING

    @staticmethod
    def forward(xp, x, axis):
        return xp.cumsum(x, axis=axis)

    backward = (lambda xp, g, y, x, axis: xp.flip(xp.cumsum(xp.flip(g, axis), axis), axis),)


class Logsumexp(Op):
    """y = ln(sum(e^x)) over ``axis``, with the largest x taken out first so that nothing overflows."""

    reads = INPUTS | OUTPUT
    promotes = True

    @staticmethod
    def forward(xp, x, axis, keepdims):
        top = xp.max(xp.real(x), axis=axis, keepdims=True)
        top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
        s = xp.sum(xp.exp(x - top), axis=axis, keepdims=True)
        y = xp.where(s == 0, -inf, xp.log(xp.where(s == 0, 1.0, s)) + top)  # no finite number, or none at all
        return (
            y if keepdims else y.reshape(tuple(n for i, n in enumerate(x.shape) if i not in normal_axes(axis, x.ndim)))
        )

    @staticmethod
    def _rule(xp, g, y, x, axis, keepdims):
        y = kept(xp, y, x, axis, keepdims)
        shares = xp.exp(x - xp.where(xp.isfinite(y), y, 0.0))  # all of them 0 where no x is finite, y = -inf
        return kept(xp, g, x, axis, keepdims) * xp.where(y == inf, nan, shares)

    backward = (_rule,)


class Std(Op):
    """y = sqrt(sum((x - mean)^2) / (n - ddof)); the gradient of a constant slice is 0."""

    promotes = True

    @staticmethod
    def composite(x, axis, ddof, keepdims):
        v = var(x, axis, ddof, keepdims)
        return where(v == 0, 0.0, sqrt(where(v == 0, 1.0, v)))

    @staticmethod
    def forward(xp, x, axis, ddof, keepdims):
        n = product(x.shape[a] for a in normal_axes(axis, x.ndim))
        d, _, _ = xp.centred(x, normal_axes(axis, x.ndim))
        y = xp.sqrt(xp.sum(d * d, axis=axis, keepdims=keepdims) * (1.0 / (n - ddof)))
        return y, None

    @staticmethod
    def backward(xp, g, y, saved, needs, x, axis, ddof, keepdims):
        n = product(x.shape[a] for a in normal_axes(axis, x.ndim))
        d, _, _ = xp.centred(x, normal_axes(axis, x.ndim))
        std = xp.sqrt(xp.sum(d * d, axis=axis, keepdims=True) * (1.0 / (n - ddof)))
        scale = kept(xp, g, x, axis, keepdims) / xp.where(std == 0, 1.0, std)  # where std is 0, so is d
        return (d * (scale * (1.0 / (n - ddof))),)


@either_spelling
def var(x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """Variance over ``axis``: the sum of (x - mean)^2 divided by n - ddof.

    Raises:
        ValueError: there are no more than ``ddof`` values to average.
    """
    n = checked_count(x, axis, ddof, "var")
    x_wide = widened(x)
    d = centred(x_wide, normal_axes(axis, x.ndim))
    return narrowed(sum(d * d, axis, keepdims) * (1.0 / (n - ddof)), x)


@either_spelling
def std(x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """Standard deviation over ``axis``, the square root of ``var``; a constant slice has gradient 0.

    Raises:
        ValueError: there are no more than ``ddof`` values to average.
    """
    checked_count(x, axis, ddof, "std")
    return narrowed(apply(Std, widened(x), params=(axis, ddof, keepdims)), x)


def widened(x: Any) -> Tensor:
    """x in a dtype to square differences in: integers in the default dtype, float16 in float32."""
    x = constant(Std, x)
    return astype(x, defaults.dtype) if x.dtype.kind in "biu" else wide(x)


def narrowed(y: Tensor, x: Any) -> Tensor:
    """A result of ``widened(x)`` in x's own dtype, where that is float16."""
    return astype(y, "float16") if x.dtype == "float16" else y


def checked_count(x: Any, axis: Any, ddof: int, function: str) -> int:
    """How many values each slice over ``axis`` has; more than ``ddof``."""
    operand(function, x)
    n = product(x.shape[a] for a in normal_axes(axis, x.ndim, f"{function}: "))
    if n <= ddof:
        raise ValueError(
            f"{function}: needs more than ddof={ddof} values per slice; got {n} (axis={axis} of {describe(x)})"
        )
    return n


@either_spelling
def prod(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Product over ``axis``, multiplied in pairs, so that the gradient is right where factors are 0.

    Integers are multiplied in 64 bits, as in NumPy.
    """
    x = operand("prod", x)
    x = astype(x, "uint64" if x.dtype.kind == "u" else "int64") if x.dtype.kind in "biu" else x
    axes = normal_axes(axis, x.ndim, "prod: ")
    rest = [i for i in range(x.ndim) if i not in axes]
    y = transpose(x, (*axes, *rest))
    y = reshape(y, (product(x.shape[a] for a in axes), *(x.shape[i] for i in rest)))
    if y.shape[0] == 0:
        y = sum(y, 0, keepdims=True) + 1  # an empty product is 1
    while y.shape[0] > 1:
        half = y.shape[0] // 2
        pairs = y[:half] * y[half : 2 * half]
        y = pairs if y.shape[0] % 2 == 0 else concatenate([pairs, y[2 * half :]])
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape)) if keepdims else tuple(x.shape[i] for i in rest)
    return reshape(copy(y), shape)


@either_spelling
def cumsum(x: Tensor, axis: int | None = None) -> Tensor:
    """Running sum along ``axis``; of the flattened values when ``axis`` is None; float16 is added in float32."""
    x = constant(Cumsum, x)
    y = wide(x) if axis is not None else reshape(wide(x), -1)
    return narrowed(apply(Cumsum, y, params=(axis or 0,)), x)


@either_spelling
def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """ln(sum(e^x)) over ``axis``, without overflow."""
    return apply(Logsumexp, x, params=(axis, keepdims))


def observation(name: str, formula: str) -> Callable[..., Tensor]:
    """A function of the backend's, over axes, that has no derivative."""

    def forward(xp: Any, x: Any, axis: Any, keepdims: bool) -> Any:
        return getattr(xp, name)(x, axis=axis, keepdims=keepdims)

    members = {"forward": staticmethod(forward), "backward": None, "__doc__": formula, "__module__": __name__}
    op = type(name.capitalize(), (Op,), members | {"reads": NOTHING})

    def function(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
        return apply(op, x, params=(axis, keepdims))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = formula
    return either_spelling(function)


any = observation("any", "Whether any element over ``axis`` is true.")
all = observation("all", "Whether all elements over ``axis`` are true.")
argmax = observation("argmax", "Index of the first largest value over ``axis``; of the flattened values when None.")
argmin = observation("argmin", "Index of the first smallest value over ``axis``; of the flattened values when None.")
