"""Learning rate schedules, with PyTorch's names and arguments.

A schedule sets the learning rate of every group of its optimizer: when it is made, and again at each ``step()``, called
once per epoch. Except for ReduceLROnPlateau the rate is a formula of the epoch t and of the group's rate at the start,
base, so that nothing drifts and a resumed run continues bitwise. A schedule therefore owns the rate: a ``step()`` that
would overwrite a rate set by something else is an error.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from numbers import Integral

from ..engine import Tensor
from .checks import number
from .optimizer import Optimizer
from .schedule import LRScheduler, whole

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LinearLR",
    "MultiStepLR",
    "ReduceLROnPlateau",
    "StepLR",
]


class StepLR(LRScheduler):
    """base gamma^floor(t / step_size): a step down every ``step_size`` epochs.

    Args:
        optimizer: whose learning rates are set.
        step_size: epochs between steps, a positive integer.
        gamma: factor of each step, greater than 0.

    Raises:
        TypeError: not an optimizer, or a setting that is no number.
        ValueError: a setting out of range.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> optimizer = optim.SGD([tn.zeros(1, requires_grad=True)], lr=8.0)
    >>> schedule = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> rates = []
    >>> for epoch in range(5):
    ...     rates += schedule.get_last_lr(); schedule.step()
    >>> rates
    [8.0, 8.0, 4.0, 4.0, 2.0]
    """

    settings = ("step_size", "gamma")

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def check(self) -> None:
        self.step_size = whole(self, "step_size", 1)
        self.gamma = number(type(self).__name__, "gamma", self.gamma, 0.0, above=True)

    def rate(self, base: float) -> float:
        return base * self.gamma ** (self.last_epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """base gamma^k, k the number of milestones that t has reached.

    Args:
        optimizer: whose learning rates are set.
        milestones: epochs of the steps, increasing integers.
        gamma: factor of each step, greater than 0.

    Raises:
        TypeError: not an optimizer, or a setting that is no number.
        ValueError: a setting out of range, or milestones that do not increase.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> optimizer = optim.SGD([tn.zeros(1, requires_grad=True)], lr=8.0)
    >>> schedule = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
    >>> schedule.step(); schedule.get_last_lr()
    [4.0]
    """

    settings = ("milestones", "gamma")

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones, self.gamma = milestones, gamma
        super().__init__(optimizer)

    def check(self) -> None:
        given = self.milestones
        whole_numbers = isinstance(given, (list, tuple)) and all(isinstance(m, Integral) for m in given)
        if not whole_numbers or list(given) != sorted(set(given)):
            raise ValueError(f"MultiStepLR: milestones must be a list of increasing integers; got {given!r}")
        self.milestones = [int(m) for m in given]
        self.gamma = number("MultiStepLR", "gamma", self.gamma, 0.0, above=True)

    def rate(self, base: float) -> float:
        return base * self.gamma ** bisect_right(self.milestones, self.last_epoch)


class ExponentialLR(LRScheduler):
    """base gamma^t.

    Args:
        optimizer: whose learning rates are set.
        gamma: factor of each epoch, greater than 0.

    Raises:
        TypeError: not an optimizer, or a setting that is no number.
        ValueError: a setting out of range.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> optimizer = optim.SGD([tn.zeros(1, requires_grad=True)], lr=8.0)
    >>> schedule = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> schedule.step(); schedule.step(); schedule.get_last_lr()
    [2.0]
    """

    settings = ("gamma",)

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def check(self) -> None:
        self.gamma = number("ExponentialLR", "gamma", self.gamma, 0.0, above=True)

    def rate(self, base: float) -> float:
        return base * self.gamma**self.last_epoch


class CosineAnnealingLR(LRScheduler):
    """eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2: half a cosine down, then up again.

    Paper: Loshchilov, Hutter, SGDR: stochastic gradient descent with warm restarts, 2017 (without the restarts).

    Args:
        optimizer: whose learning rates are set.
        T_max: epochs until the lowest rate, a positive integer.
        eta_min: the lowest rate, at least 0.

    Raises:
        TypeError: not an optimizer, or a setting that is no number.
        ValueError: a setting out of range.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> optimizer = optim.SGD([tn.zeros(1, requires_grad=True)], lr=8.0)
    >>> schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1, eta_min=2.0)
    >>> schedule.step(); schedule.get_last_lr()
    [2.0]
    """

    settings = ("T_max", "eta_min")

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def check(self) -> None:
        self.T_max = whole(self, "T_max", 1)
        self.eta_min = number("CosineAnnealingLR", "eta_min", self.eta_min, 0.0)

    def rate(self, base: float) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2


class LinearLR(LRScheduler):
    """base times a factor that goes in a straight line from ``start_factor`` to ``end_factor``: a warm-up.

    Args:
        optimizer: whose learning rates are set.
        start_factor: the factor at the start, in (0, 1].
        end_factor: the factor after ``total_iters`` epochs and later, in [0, 1].
        total_iters: a positive integer.

    Raises:
        TypeError: not an optimizer, or a setting that is no number.
        ValueError: a setting out of range.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> optimizer = optim.SGD([tn.zeros(1, requires_grad=True)], lr=8.0)
    >>> schedule = optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> rates = []
    >>> for epoch in range(4):
    ...     rates += schedule.get_last_lr(); schedule.step()
    >>> rates
    [4.0, 6.0, 8.0, 8.0]
    """

    settings = ("start_factor", "end_factor", "total_iters")

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer)

    def check(self) -> None:
        end = math.nextafter(1.0, 2.0)
        self.start_factor = number("LinearLR", "start_factor", self.start_factor, 0.0, end, above=True)
        self.end_factor = number("LinearLR", "end_factor", self.end_factor, 0.0, end)
        self.total_iters = whole(self, "total_iters", 1)

    def rate(self, base: float) -> float:
        done = min(self.last_epoch, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class ReduceLROnPlateau(LRScheduler):
    """The current rate times ``factor`` when a metric has not improved for more than ``patience`` epochs.

    A metric improves when it is beyond the best so far by more than ``threshold`` |best|.

    Args:
        optimizer: whose learning rates are set.
        mode: "min" for a metric that should fall, "max" for one that should rise.
        factor: of each reduction, in (0, 1).
        patience: epochs without improvement that are accepted, at least 0.
        threshold: relative improvement that counts, at least 0.
        cooldown: epochs after a reduction in which nothing is counted, at least 0.
        min_lr: no rate falls below it, at least 0.

    Raises:
        TypeError: not an optimizer, or a setting that is no number.
        ValueError: a setting out of range.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> optimizer = optim.SGD([tn.zeros(1, requires_grad=True)], lr=8.0)
    >>> schedule = optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in [3.0, 2.0, 2.0, 2.0]:
    ...     schedule.step(loss)
    >>> schedule.get_last_lr()
    [4.0]
    """

    settings = (
        "mode", "factor", "patience", "threshold", "cooldown", "min_lr", "best", "num_bad_epochs", "cooldown_counter",
    )  # fmt: skip

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
        threshold: float = 1e-4, *, cooldown: int = 0, min_lr: float = 0.0,
    ) -> None:  # fmt: skip
        self.mode, self.factor, self.patience, self.threshold = mode, factor, patience, threshold
        self.cooldown, self.min_lr = cooldown, min_lr
        self.best: float | None = None
        self.num_bad_epochs = self.cooldown_counter = 0
        super().__init__(optimizer)

    def check(self) -> None:
        name = type(self).__name__
        if self.mode not in ("min", "max"):
            raise ValueError(f"{name}: mode must be 'min' or 'max'; got {self.mode!r}")
        self.factor = number(name, "factor", self.factor, 0.0, 1.0, above=True)
        self.threshold = number(name, "threshold", self.threshold, 0.0)
        self.min_lr = number(name, "min_lr", self.min_lr, 0.0)
        self.patience = whole(self, "patience", 0)
        self.cooldown = whole(self, "cooldown", 0)

    def rate(self, base: float) -> float:
        return base

    def step(self, metric: float | Tensor) -> None:  # type: ignore[override]
        """Count an epoch that ended with this metric: a number or a Tensor of one element.

        Raises:
            TypeError: the metric is no number.
            ValueError: the metric is NaN or infinite.
        """
        value = metric.item() if isinstance(metric, Tensor) else metric
        value = number(type(self).__name__, "metric", value, -math.inf, above=True)
        self.last_epoch += 1
        if self.best is None or self._better(value, self.best):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        lrs = [group["lr"] for group in self.optimizer.param_groups]
        if self.num_bad_epochs > self.patience:
            lrs = [max(lr * self.factor, min(lr, self.min_lr)) for lr in lrs]
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._write(lrs)

    def _better(self, value: float, best: float) -> bool:
        margin = self.threshold * abs(best)
        return value < best - margin if self.mode == "min" else value > best + margin
