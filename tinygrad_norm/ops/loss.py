"""Losses whose target has the shape of the input, and what all losses share."""

from __future__ import annotations

from typing import Any

from ..backend import FLOATS
from ..engine.modes import defaults
from ..engine.tensor import Tensor, describe, namespace, wrap
from .activation import softplus
from .convert import astype
from .elementwise import abs, where
from .reduce import mean, sum
from .shape import reshape

REDUCTIONS = ("mean", "sum", "none")


def as_constant(x: Any, like: Tensor, function: str, what: str = "target") -> Tensor:
    """A target, or ``what`` it is, on the device of ``like``: a Tensor as it is, an array copied."""
    if isinstance(x, Tensor):
        if x.device != like.device:
            raise TypeError(f"{function}: input on {like.device!r}, {what} on {x.device!r}; move one with .to(device)")
        return x
    xp = namespace(like._data)
    if type(x) is xp.array_type:
        return wrap(xp.copy(x))
    raise TypeError(f"{function}: expected a Tensor or an array; got {describe(x)}; write tn.tensor(...) first")


def check_reduction(function: str, reduction: str) -> None:
    """Refuse an unknown reduction."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{function}: reduction must be one of {', '.join(map(repr, REDUCTIONS))}; got {reduction!r}")


def reduced(losses: Tensor, reduction: str, total: Any, shape: tuple[int, ...]) -> Tensor:
    """Losses summed, divided by ``total`` (a number or a 0-d array; NaN when it is 0), or given back in ``shape``."""
    if reduction == "none":
        return reshape(losses, shape)
    if reduction == "sum":
        return sum(losses)
    if isinstance(total, int):
        return mean(losses)
    xp = namespace(losses._data)
    return sum(losses) * wrap(xp.asarray(inverse(xp, total), dtype=losses.dtype))


def inverse(xp: Any, total: Any) -> Any:
    """1 / total, of a number or a 0-d array; NaN when it is 0."""
    if isinstance(total, int):
        return 1.0 / total if total else float("nan")
    return 1.0 / xp.where(total == 0, float("nan"), total)


def check_pair(function: str, input: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Input and target of one shape: a loss never broadcasts, which would silently average over a grid of pairs."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{function}: input must be a Tensor; got {describe(input)}")
    target = as_constant(target, input, function)
    if input.shape != target.shape:
        raise ValueError(
            f"{function}: input and target must have one shape; got {input.shape} and {target.shape}; "
            "reshape or expand one"
        )
    if input.dtype.kind in "biu":  # a difference of integers may not be one of theirs
        input = astype(input, target.dtype if target.dtype in FLOATS else defaults.dtype)
    return input, target


def mse_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """(input - target)^2, averaged over all elements.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    check_reduction("mse_loss", reduction)
    input, target = check_pair("mse_loss", input, target)
    d = input - target
    return reduced(d * d, reduction, d.size, d.shape)


def l1_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """abs(input - target), averaged over all elements; the gradient is 0 where they are equal.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    check_reduction("l1_loss", reduction)
    input, target = check_pair("l1_loss", input, target)
    d = abs(input - target)
    return reduced(d, reduction, d.size, d.shape)


def huber_loss(input: Tensor, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d^2 / 2 where abs(d) <= delta, else delta (abs(d) - delta / 2), with d = input - target (Huber 1964).

    Raises:
        ValueError: the shapes differ, delta is not positive, or the reduction is unknown.
    """
    check_reduction("huber_loss", reduction)
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be positive; got {delta}")
    input, target = check_pair("huber_loss", input, target)
    d = input - target
    size = abs(d)
    losses = where(size <= delta, 0.5 * d * d, delta * (size - 0.5 * delta))
    return reduced(losses, reduction, d.size, d.shape)


def binary_cross_entropy_with_logits(
    input: Tensor, target: Any, weight: Any = None, pos_weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """-(p t log s + (1 - t) log(1 - s)) with s = sigmoid(input), t = target, p = ``pos_weight``, without overflow.

    Args:
        input: logits of any shape.
        target: probabilities in [0, 1], of the same shape.
        weight: factor of each loss, broadcast.
        pos_weight: factor of the positive part, broadcast.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: the shapes differ, a target is out of range, or the reduction is unknown.
    """
    name = "binary_cross_entropy_with_logits"
    check_reduction(name, reduction)
    input, target = check_pair(name, input, target)
    t = target._data

    def error(position: int, value: float) -> Exception:
        return ValueError(f"{name}: target must be in [0, 1]; got {value} at position {position} of {describe(target)}")

    xp = namespace(t)
    t = xp.real(t)
    xp.refuse((t < 0) | (t > 1), t, error)
    target = astype(target, input.dtype) if target.dtype.kind in "iub" and input.dtype in FLOATS else target
    bent = softplus(-input, threshold=40.0)  # ln(1 + e^-x), whose tail beyond 40 is below the last bit
    losses = (1.0 - target) * input + bent * (1.0 if pos_weight is None else 1.0 + (pos_weight - 1.0) * target)
    losses = losses if weight is None else losses * weight
    return reduced(losses, reduction, losses.size, losses.shape)
