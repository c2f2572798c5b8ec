"""What every learning rate schedule is made of."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

from ..engine.tensor import describe
from .checks import number
from .optimizer import Optimizer


class LRScheduler:
    """Base of the schedules; a subclass defines ``rate`` and names its ``settings``.

    Args:
        optimizer: whose groups' learning rates are set.

    Attributes:
        last_epoch: number of ``step()`` calls so far.
        base_lrs: learning rate of each group when the schedule was made.
    """

    settings: ClassVar[tuple[str, ...]] = ()

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: expected an optimizer; got {describe(optimizer)}")
        self.check()
        self.optimizer = optimizer
        self.last_epoch = 0
        self.base_lrs = self.last_lrs = [group["lr"] for group in optimizer.param_groups]
        self._write([self.rate(base) for base in self.base_lrs])

    def check(self) -> None:
        """Raise when a setting is out of range."""

    def rate(self, base: float) -> float:
        """The learning rate at ``last_epoch`` of a group that started with ``base``."""
        raise NotImplementedError

    def step(self) -> None:
        """Go to the next epoch.

        Raises:
            RuntimeError: somebody else changed a learning rate, or groups were added, since the last step.
        """
        current = [group["lr"] for group in self.optimizer.param_groups]
        if current != self.last_lrs:
            raise RuntimeError(
                f"{type(self).__name__}: the learning rates are {current}, but this schedule left them at "
                f"{self.last_lrs}; use one schedule for an optimizer, make it after the last group was added, and "
                "restore its state together with the optimizer's"
            )
        self.last_epoch += 1
        self._write([self.rate(base) for base in self.base_lrs])

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group, as this schedule set it last."""
        return list(self.last_lrs)

    def _write(self, rates: list[float]) -> None:
        self.last_lrs = rates
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def state_dict(self) -> dict[str, Any]:
        """Class, epoch, rates and settings, as plain values that JSON can hold."""
        values = {name: getattr(self, name) for name in ("last_epoch", "base_lrs", "last_lrs", *self.settings)}
        return {"scheduler": type(self).__name__} | copy.deepcopy(values)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict()``, settings included; the optimizer's learning rates are set too.

        Raises:
            ValueError: the state is of another class, lacks an entry, or is for another number of groups. Nothing was
                loaded.
        """
        where = f"{type(self).__name__}.load_state_dict"
        names = set(self.state_dict())
        if not isinstance(state, Mapping) or set(state) != names or state["scheduler"] != type(self).__name__:
            raise ValueError(f"{where}: expected a dict with {', '.join(sorted(names))} of this class; got {state!r}")
        groups = len(self.optimizer.param_groups)
        if len(state["base_lrs"]) != groups or len(state["last_lrs"]) != groups:
            raise ValueError(f"{where}: the state is for {len(state['base_lrs'])} groups; the optimizer has {groups}")
        number(where, "last_epoch", state["last_epoch"], 0)
        for name in ("base_lrs", "last_lrs"):
            for value in state[name]:
                number(where, name, value, 0.0)
        trial = copy.copy(self)
        vars(trial).update(copy.deepcopy({name: state[name] for name in names - {"scheduler"}}))
        trial.check()
        vars(self).update(vars(trial))
        self._write(list(self.last_lrs))


def whole(schedule: LRScheduler, name: str, low: int) -> int:
    """A setting as an integer of at least ``low``."""
    value, where = getattr(schedule, name), type(schedule).__name__
    if number(where, name, value, low) != int(value):
        raise ValueError(f"{where}: {name} must be an integer; got {value!r}")
    return int(value)
