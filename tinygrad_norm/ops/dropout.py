"""Dropout: random zeros, reproducible from (seed, counter)."""

from __future__ import annotations

from typing import Any

from ..backend import random
from ..engine.op import NOTHING, Op, apply
from ..engine.tensor import Tensor


class DropoutMask(Op):
    """0 with probability p, else 1 / (1 - p), for every element of x: a constant."""

    reads = NOTHING
    backward = None

    @staticmethod
    def forward(xp, x, seed, counter, p):
        return xp.dropout_mask(seed, counter, x.shape, p, x.dtype)


class Dropout(Op):
    """y = x mask, the mask being a pure function of (seed, counter): the same in every order of derivative."""

    reads = NOTHING

    @staticmethod
    def composite(x, seed, counter, p):
        return x * apply(DropoutMask, x.detach(), params=(seed, counter, p))

    @staticmethod
    def forward(xp, x, seed, counter, p):
        mask = xp.dropout_mask(seed, counter, x.shape, p, x.dtype)
        return x * mask, mask

    @staticmethod
    def backward(xp, g, y, mask, needs, x, seed, counter, p):
        return (g * mask,)


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 - p) (Srivastava et al. 2014).

    Args:
        x: any shape, floating.
        p: probability of a zero, in [0, 1].
        training: False returns x as it is.

    Raises:
        ValueError: p is outside [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is a probability in [0, 1]; got {p}")
    if not training or p == 0:
        return x
    return apply(Dropout, x, params=(random.key, random.next_counter(), float(p)))
