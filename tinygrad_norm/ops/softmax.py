"""Softmax and its logarithm."""

from __future__ import annotations

from typing import Any

from ..engine.op import OUTPUT, Op, apply
from ..engine.tensor import Tensor


def shifted(xp, x, dim):
    """x less its largest value along ``dim``, so that the exponentials do not overflow."""
    return x - xp.max(xp.real(x), axis=dim, keepdims=True)


class Softmax(Op):
    """y_i = e^(x_i) / sum_j e^(x_j) along ``dim``."""

    reads = OUTPUT
    promotes = True

    @staticmethod
    def forward(xp, x, dim):
        e = xp.exp(shifted(xp, x, dim))
        return e / xp.sum(e, axis=dim, keepdims=True)

    backward = (lambda xp, g, y, x, dim: y * (g - xp.sum(g * y, axis=dim, keepdims=True)),)


class LogSoftmax(Op):
    """y_i = x_i - ln sum_j e^(x_j) along ``dim``."""

    reads = OUTPUT
    promotes = True

    @staticmethod
    def forward(xp, x, dim):
        z = shifted(xp, x, dim)
        return z - xp.log(xp.sum(xp.exp(z), axis=dim, keepdims=True))

    backward = (lambda xp, g, y, x, dim: g - xp.exp(y) * xp.sum(g, axis=dim, keepdims=True),)


def softmax(x: Any, dim: int = -1) -> Tensor:
    """e^x normalized to sum 1 along ``dim``.

    >>> import tinygrad_norm as tn
    >>> tn.functional.softmax(tn.tensor([0.0, 0.0]), dim=-1)
    tensor([0.5, 0.5])
    """
    return apply(Softmax, x, params=(dim,))


def log_softmax(x: Any, dim: int = -1) -> Tensor:
    """ln softmax(x) along ``dim``, without overflow or loss of small probabilities."""
    return apply(LogSoftmax, x, params=(dim,))
