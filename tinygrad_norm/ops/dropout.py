"""Dropout: random zeros, reproducible from (seed, counter)."""

from __future__ import annotations

from typing import Any

from ..backend import random
from ..engine.modes import defaults
from ..engine.op import NOTHING, Op, apply
from ..engine.tensor import Tensor, namespace
from .arguments import number_in
from .convert import astype
from .elementwise import copy


class Dropout(Op):
    """y = x mask; the mask, an array, is a constant in every order of derivative."""

    reads = NOTHING

    @staticmethod
    def forward(xp, x, mask):
        return x * mask

    backward = (lambda xp, g, y, x, mask: g * mask,)


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 - p) (Srivastava et al. 2014).

    Args:
        x: any shape, floating; integers take the default dtype.
        p: probability of a zero, in [0, 1].
        training: False returns x as it is.

    Raises:
        ValueError: p is outside [0, 1].
    """
    p = number_in("dropout", "p", p, 0, 1)
    if not training or p == 0:
        return x
    x = x if isinstance(x, Tensor) else copy(x)
    x = astype(x, defaults.dtype) if x.dtype.kind in "biu" else x
    mask = namespace(x._data).dropout_mask(random.key, random.next_counter(), x.shape, p, x.dtype)
    return apply(Dropout, x, params=(mask,))
