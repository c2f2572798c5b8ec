"""What the Trainer is given, checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any

from ..backend import backend_for
from ..engine import Tensor, get_default_device
from ..engine.tensor import describe
from ..nn import Module
from ..optim import Optimizer


def check_kind(name: str, value: Any, kind: type) -> None:
    """Refuse what is not of this class."""
    if not isinstance(value, kind):
        raise TypeError(f"Trainer: {name} must be a {kind.__module__}.{kind.__name__}; got {describe(value)}")


def check_loader(name: str, loader: Any, once: bool = False) -> None:
    """Refuse what gives no batches, or, unless ``once`` is enough, gives them only once."""
    if not isinstance(loader, Iterable) or isinstance(loader, Tensor):
        raise TypeError(f"Trainer: {name} must give batches, as data.DataLoader does; got {describe(loader)}")
    if isinstance(loader, Iterator) and not once:
        raise TypeError(f"Trainer: {name} is gone through once per epoch, an iterator only once: write list(...)")
    if isinstance(loader, Sized) and len(loader) == 0:
        raise ValueError(f"Trainer: {name} has no batches")


def check_optimizer(model: Module, optimizer: Optimizer) -> None:
    """Refuse an optimizer that would not change the model: made before the model was made anew, or for another."""
    own = {id(p) for p in model.parameters()}
    if own and not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        name = type(optimizer).__name__
        raise ValueError(
            f"Trainer: optimizer must be made of the model's parameters; of its {len(own)} this {name} has none; write "
            f"{name}(model.named_parameters(), ...) after the model is made"
        )


def device_of(model: Module, wanted: str | None) -> str:
    """Where the model is; it must be where ``wanted`` says."""
    found = next((p.device for p in model.parameters()), None)
    if wanted is None:
        return found or get_default_device()
    backend_for(wanted)
    if found not in (None, wanted):
        raise ValueError(
            f"Trainer: the model is on {found!r}, device is {wanted!r}; write model.to({wanted!r}) before you make the "
            "optimizer"
        )
    return wanted
