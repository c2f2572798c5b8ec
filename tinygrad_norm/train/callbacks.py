"""What can be hooked into training. A callback reads the trainer and may set ``trainer.should_stop``."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Sequence
from math import isfinite
from typing import Any

from ..engine import Tensor
from ..ops.arguments import whole_number
from .checkpoint import save_checkpoint


class TrainingWarning(UserWarning):
    """Training goes on, but not quite as written.

    >>> issubclass(TrainingWarning, UserWarning)
    True
    """


class Callback:
    """The base of callbacks: override what is wanted.

    ``trainer`` has model, optimizer, scheduler, ``epoch`` and ``step`` (how many are done), ``history``, ``columns``
    (the names that the history gets in this fit), ``train_loader`` and ``should_stop``.

    >>> class Print(Callback):
    ...     def on_epoch_end(self, trainer):
    ...         print(trainer.epoch, trainer.history["loss"][-1])
    """

    def on_fit_begin(self, trainer: Any) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, trainer: Any) -> None:
        """Before the first batch of an epoch."""

    def on_batch_end(self, trainer: Any, loss: Any) -> None:
        """After a step; the gradients are still there. ``loss`` is a float; on a GPU a 0-d Tensor: float() waits."""

    def on_epoch_end(self, trainer: Any) -> None:
        """After validation, and after the history got its new row."""

    def on_fit_end(self, trainer: Any, interrupted: bool) -> None:
        """After the last epoch, or (``interrupted``) when Ctrl-C or an error ends ``fit``."""


class _Monitor(Callback):
    """A callback that looks for the best epoch in one column of the history."""

    def __init__(self, monitor: str, mode: str | None, min_delta: float = 0.0) -> None:
        name = type(self).__name__
        if mode not in (None, "min", "max"):
            raise ValueError(f"{name}: mode must be 'min', 'max' or None; got {mode!r}")
        if not 0 <= min_delta < float("inf"):
            raise ValueError(f"{name}: min_delta must be a finite number of at least 0; got {min_delta!r}")
        self.monitor = monitor
        self.mode = mode or ("max" if monitor.endswith("accuracy") else "min")
        self.min_delta = min_delta

    def on_fit_begin(self, trainer: Any) -> None:
        if self.monitor not in trainer.columns:
            hint = ", or give fit a val_loader" if self.monitor.startswith("val_") else ""
            raise ValueError(
                f"{type(self).__name__}: monitor must be one of {', '.join(trainer.columns)}; got {self.monitor!r}; "
                f"choose one of them{hint}"
            )

    def best_epoch(self, values: Sequence[float]) -> int:
        """Number of the best epoch, the first of equals; 0 when there is none. NaN and inf are never best."""
        best = 0
        for epoch, value in enumerate(values, 1):
            gain = (value - values[best - 1]) * (1 if self.mode == "max" else -1)
            if isfinite(value) and (best == 0 or gain > self.min_delta):
                best = epoch
        return best


class EarlyStopping(_Monitor):
    """Stop when a quantity has not improved for ``patience`` epochs.

    The epochs are counted in the trainer's history, so a resumed run stops where an uninterrupted one would.

    Args:
        monitor: a name in the history.
        patience: epochs without improvement that are accepted, at least 0: training stops after one more.
        min_delta: less than this is no improvement.
        restore_best: at the end of ``fit``, stopped early or not, give the model the parameters and buffers of its best
            epoch. After Ctrl-C or an error it keeps those it has.
        mode: "min" or "max", whether lower or higher is better; None: "max" for what ends in "accuracy".

    Raises:
        ValueError: a number out of range; from ``fit``, when the history has no such quantity.

    Warns:
        TrainingWarning: at the end of a resumed ``fit``, when the best epoch was before it.

    >>> EarlyStopping(patience=1).best_epoch([0.9, 0.5, 0.6])
    2
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 5, min_delta: float = 0.0, restore_best: bool = True, *,
        mode: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(monitor, mode, min_delta)
        self.patience = whole_number("EarlyStopping", "patience", patience, 0)
        self.restore_best = restore_best
        self._best_state: dict[str, Tensor] | None = None

    def on_fit_begin(self, trainer: Any) -> None:
        super().on_fit_begin(trainer)
        self._best_state = None

    def on_epoch_end(self, trainer: Any) -> None:
        best = self.best_epoch(trainer.history[self.monitor])
        if best == trainer.history.epochs and self.restore_best:
            self._best_state = trainer.model.state_dict()
        if trainer.history.epochs - best > self.patience:
            trainer.should_stop = True

    def on_fit_end(self, trainer: Any, interrupted: bool) -> None:
        best = self.best_epoch(trainer.history.get(self.monitor, ()))
        if self._best_state is not None and not interrupted:
            trainer.model.load_state_dict(self._best_state)
        elif self.restore_best and best and not interrupted:
            text = f"the best epoch, {best}, lies before this fit, which has not got its parameters: they stay the last"
            warnings.warn(f"EarlyStopping: {text}", TrainingWarning, stacklevel=4)
        self._best_state = None


class Checkpoint(_Monitor):
    """Save a checkpoint after every epoch; keep the last ones and the best one.

    ``Checkpoint("runs/a.npz")`` writes ``runs/a-epoch0001.npz``, ``runs/a-epoch0002.npz``, ... and removes all but the
    last ``keep``; ``runs/a-best.npz`` is that of the best epoch so far. When ``fit`` ends between two batches, as it
    does after Ctrl-C, ``runs/a-interrupted.npz`` is there until the epoch has been ended (for a loader that knows its
    position). Each holds all that ``fit(resume=True)`` and ``Trainer.restore`` need to continue bitwise.

    Args:
        path: where to write, ending in ``.npz``; folders are made.
        monitor: the name in the history that decides which epoch is best; None: "val_loss", in a ``fit`` without
            ``val_loader`` "loss".
        save_best: whether to save the best epoch too.
        keep: how many of the last epochs stay, at least 1.
        mode: "min" or "max", whether lower or higher is better; None: "max" for what ends in "accuracy".

    Raises:
        ValueError: a number out of range, another ending; from ``fit``, when the history has no such quantity.
        OSError: from ``fit``, when the folder cannot be made or written.

    >>> Checkpoint("runs/a.npz").path_of(3)
    'runs/a-epoch0003.npz'
    """

    def __init__(
        self, path: str | os.PathLike[str], monitor: str | None = None, save_best: bool = True, keep: int = 2, *,
        mode: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(monitor or "val_loss", mode)
        self.chooses = monitor is None
        self.stem, ending = os.path.splitext(os.fspath(path))
        if ending != ".npz":
            raise ValueError(f"Checkpoint: path must end in '.npz'; got {os.fspath(path)!r}")
        self.save_best = save_best
        self.keep = whole_number("Checkpoint", "keep", keep, 1)
        self.best_path = f"{self.stem}-best.npz"
        self.interrupted_path = f"{self.stem}-interrupted.npz"

    def path_of(self, epoch: int) -> str:
        """Where the checkpoint of an epoch is."""
        return f"{self.stem}-epoch{epoch:04}.npz"

    def saved(self) -> list[str]:
        """The files that are there of the last epochs and of an interrupted one, what was written last first."""
        found = [*self._epochs().values(), *filter(os.path.exists, [self.interrupted_path])]
        return sorted(found, key=lambda path: (os.stat(path).st_mtime_ns, path), reverse=True)

    def _epochs(self) -> dict[int, str]:
        folder, name = os.path.split(self.stem)
        form = re.compile(re.escape(name) + "-epoch([0-9]{4,})[.]npz")
        names = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
        return {int(match[1]): os.path.join(folder, match[0]) for match in map(form.fullmatch, names) if match}

    def on_fit_begin(self, trainer: Any) -> None:
        if self.chooses:
            self.monitor = "val_loss" if "val_loss" in trainer.columns else "loss"
        if self.save_best:
            super().on_fit_begin(trainer)
        os.makedirs(os.path.dirname(self.stem) or ".", exist_ok=True)

    def on_epoch_end(self, trainer: Any) -> None:
        self._save(trainer, self.path_of(trainer.epoch))
        if self.save_best and self.best_epoch(trainer.history[self.monitor]) == trainer.history.epochs:
            self._save(trainer, self.best_path)
        old = [path for epoch, path in self._epochs().items() if epoch <= trainer.epoch - self.keep]
        for path in [*old, self.interrupted_path]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def on_fit_end(self, trainer: Any, interrupted: bool) -> None:
        partial = trainer.partial_epoch() if interrupted else None
        if partial is not None:
            self._save(trainer, self.interrupted_path, partial=partial)

    def _save(self, trainer: Any, path: str, **more: Any) -> None:
        loader = trainer.train_loader if hasattr(trainer.train_loader, "state_dict") else None
        save_checkpoint(
            path, trainer.model, trainer.optimizer, trainer.scheduler, loader, epoch=trainer.epoch, step=trainer.step,
            history=dict(trainer.history), **more,
        )  # fmt: skip


class CSVLogger(Callback):
    """Write the history to a CSV file after every epoch; at every moment the file is whole.

    Args:
        path: the file; the folder must exist, or ``fit`` raises before it trains.

    >>> logger = CSVLogger("history.csv")
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path

    def on_fit_begin(self, trainer: Any) -> None:
        trainer.history.to_csv(self.path)

    def on_epoch_end(self, trainer: Any) -> None:
        trainer.history.to_csv(self.path)
