"""Limits on gradients, set between ``backward()`` and ``step()``.

Both functions give each parameter a new ``.grad`` and leave the old one as it was, so a gradient that was kept for
looking at does not change afterwards.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

import numpy

from ..backend import BACKENDS
from ..engine import Tensor
from ..engine.tensor import describe, wrap
from .checks import Params, named, number


def clip_grad_norm_(params: Params, max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Scale all gradients by one factor, so that the norm of all of them together is at most ``max_norm``.

    norm = (sum |g_i|^norm_type)^(1/norm_type) over all elements; g <- g max_norm / (norm + 1e-6) where that is less
    than 1. Gradients that are not finite are left alone: the optimizer's ``step`` refuses them and names the first.

    Paper: Pascanu, Mikolov, Bengio, On the difficulty of training recurrent neural networks, 2013.

    Args:
        params: Parameters or (name, Parameter) pairs; those without gradient are skipped.
        max_norm: at least 0; ``float("inf")`` only measures.
        norm_type: greater than 0; ``float("inf")`` for the largest absolute value.

    Returns:
        The norm before clipping, a 0-d Tensor of the gradients' dtype, at least float32.

    Raises:
        TypeError: something that is not a Parameter, or a limit that is no number.
        ValueError: a limit out of range.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> x = tn.tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x / 2).sum().backward()
    >>> optim.clip_grad_norm_([x], max_norm=1.0).item()
    5.0
    >>> [round(v, 3) for v in x.grad.tolist()]
    [0.6, 0.8]
    """
    limit = max_norm if max_norm == inf else number("clip_grad_norm_", "max_norm", max_norm, 0.0)
    power = norm_type if norm_type == inf else number("clip_grad_norm_", "norm_type", norm_type, 0.0, above=True)
    leaves = with_gradient("clip_grad_norm_", params)
    if len(leaves) and {p.device for p in leaves} != {"cpu"}:
        return clip_unread(leaves, limit, power)
    total = norm(numpy.array([norm(p.grad._data, power) for p in leaves]), power)
    factor = limit / (total + 1e-6)
    if factor < 1.0 and total < inf:
        for p in leaves:
            p.grad = p.grad * factor
    dtype = numpy.result_type(numpy.float32, *(p.dtype for p in leaves))
    return wrap(numpy.array(total, dtype))


def clip_unread(leaves: list[Any], limit: float, power: float) -> Tensor:
    """The same where gradients are on a GPU, without reading a value."""
    if len({p.device for p in leaves}) > 1:
        found = " and ".join(f"{describe(p)} on {p.device!r}" for p in leaves[:1] + leaves[-1:])
        raise TypeError(f"clip_grad_norm_: all gradients must be on one device; got {found} among them")
    xp = BACKENDS[type(leaves[0]._data)]
    dtype = numpy.result_type(numpy.float32, *(p.dtype for p in leaves))
    grads = [xp.abs(xp.astype(p.grad._data, dtype)) for p in leaves if p.size]
    total = xp.zeros((), dtype)
    if grads:
        largest = xp.max(xp.stack([xp.max(g) for g in grads]))
        total = largest
        if power != inf:
            unit = xp.where((largest > 0) & xp.isfinite(largest), largest, xp.ones((), dtype))
            total = unit * xp.sum(xp.stack([xp.sum((g / unit) ** power) for g in grads])) ** (1 / power)
    factor = xp.minimum(limit / (total + 1e-6), 1.0)
    factor = xp.where(xp.isfinite(total), factor, xp.ones((), dtype))
    for p in leaves:
        p.grad = wrap(p.grad._data * xp.astype(factor, p.dtype))
    return wrap(total)


def norm(x: Any, power: float) -> float:
    """(sum |x|^power)^(1/power) in at least float32, without overflow or underflow on the way.

    >>> round(norm(numpy.array([3e30, 4e30], numpy.float32), 2.0) / 1e30, 6)
    5.0
    """
    xp = BACKENDS[type(x)]
    x = xp.wide(x).reshape(-1)
    if power == 2:
        with xp.errstate(over="ignore"):
            total = float(x.dot(x))
        if 1e-30 < total < inf:
            return sqrt(total)
    largest = float(xp.max(xp.abs(x))) if x.size else 0.0
    if power == inf or not 0 < largest < inf:
        return largest
    return largest * float(xp.sum(xp.abs(x / largest) ** power)) ** (1 / power)


def clip_grad_value_(params: Params, clip_value: float) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value].

    Args:
        params: Parameters or (name, Parameter) pairs; those without gradient are skipped.
        clip_value: at least 0.

    Raises:
        TypeError: something that is not a Parameter, or a limit that is no number.
        ValueError: a limit out of range.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> x = tn.tensor([3.0, -0.5], requires_grad=True)
    >>> (x * x / 2).sum().backward()
    >>> optim.clip_grad_value_([x], 1.0)
    >>> x.grad.tolist()
    [1.0, -0.5]
    """
    limit = number("clip_grad_value_", "clip_value", clip_value, 0.0)
    for p in with_gradient("clip_grad_value_", params):
        p.grad = p.grad.clip(-limit, limit)


def with_gradient(where: str, params: Any) -> list[Any]:
    """The parameters whose ``.grad`` is there."""
    pairs = named(where, [params] if isinstance(params, Tensor) else params)
    return [p for _, p in pairs if p.grad is not None]
