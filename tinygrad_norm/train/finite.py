"""A batch's loss: one number, and finite, or the training ends with a word on why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

from ..backend import BACKENDS
from ..engine import Tensor
from ..engine.tensor import describe
from ..optim import Optimizer


def mean_loss(loss: Callable[[Any, Any], Tensor], y_pred: Any, y: Tensor) -> Tensor:
    """What the loss function returns, if it is what it must be."""
    value = loss(y_pred, y)
    if not isinstance(value, Tensor) or value.size != 1:
        raise TypeError(f"Trainer: loss must return a Tensor of one element, the batch's mean; got {describe(value)}")
    return value


def is_healthy(loss: Any, optimizer: Optimizer, where: str) -> bool:
    """Whether the step may be taken, as far as is known: a GPU's loss is checked there, and its error comes later."""
    if not optimizer.check_finite:
        return True
    if isinstance(loss, float):
        return isfinite(loss)
    text = not_finite("{}", optimizer, where, [])
    xp = BACKENDS[type(loss._data)]
    xp.refuse_non_finite(loss._data.reshape(-1), lambda at, value: FloatingPointError(text.format(value)))
    return True


def not_finite(
    loss: Any, optimizer: Optimizer, where: str, batch: list[Tensor], buffers: Iterable[tuple[str, Tensor]] = ()
) -> str:
    """The error's text: the batch is at fault when it is not finite itself, else, most often, the learning rate."""
    advice = f"Lower the learning rate, now {optimizer.param_groups[0]['lr']:g}, or look at what the model computes"
    for position, x in enumerate(batch):
        if not BACKENDS[type(x._data)].isfinite(x._data).all():
            advice = f"Entry {position} of the batch, of shape {x.shape}, is not finite itself: clean the data"
    spoiled = [name for name, b in buffers if not BACKENDS[type(b._data)].isfinite(b._data).all()]
    but = f", but {', '.join(spoiled)} took in what is not finite: load a checkpoint, or call nn.recompute_statistics"
    return f"fit: {where}: the loss is {loss}. The parameters are those before this step{but * bool(spoiled)}. {advice}"
