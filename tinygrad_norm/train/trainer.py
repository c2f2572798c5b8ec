"""The Trainer: the training loop, once, with what can go wrong in it taken care of."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sized
from os import PathLike
from typing import Any

from ..engine import Tensor, no_grad
from ..engine.tensor import describe
from ..nn import Module
from ..nn.modes import in_mode
from ..ops.arguments import whole_number
from ..ops.join import concatenate
from ..optim import Optimizer
from ..optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from ..serialize import CheckpointError
from .batches import inputs_and_target, placed, usable
from .callbacks import Callback, Checkpoint, TrainingWarning
from .checkpoint import CheckpointWarning, load_checkpoint
from .checks import check_kind, check_loader, check_optimizer, device_of
from .finite import is_healthy, mean_loss, not_finite
from .history import History
from .interrupts import Interrupts
from .metrics import Means, metric_functions, number
from .progress import Progress


class Trainer:
    """Fits a model to data: forward, loss, backward, step, and a history of how it went.

    Args:
        model: called as ``model(*inputs)`` with all of a batch but its last entry.
        optimizer: over the model's parameters.
        loss: a function of (y_pred, y), y the last entry of a batch; returns a Tensor of one element, the batch's mean.
        metrics: "accuracy", functions of (y_pred, y) that return a number, or a mapping of names to such functions.
        callbacks: :class:`Callback` objects, called in this order.
        device: where the batches go; None is where the model is.
        scheduler: a learning rate schedule, stepped after each epoch (ReduceLROnPlateau with the validation loss).

    Attributes:
        history: what was recorded, a :class:`History`; further calls of ``fit`` continue it.
        epoch, step: how many epochs and optimizer steps are done.
        should_stop: set it in a callback to end ``fit`` after this epoch.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an unknown metric or device, a model that is on another device, or an optimizer of another model.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import data, nn, optim, train
    >>> tn.manual_seed(0)
    >>> x, y = data.moons(200, noise=0.1)
    >>> model = nn.MLP([2, 16, 2], norm="batch")
    >>> optimizer = optim.SGD(model.named_parameters(), lr=0.1, momentum=0.9)
    >>> trainer = train.Trainer(model, optimizer, nn.CrossEntropyLoss(), metrics="accuracy")
    >>> loader = data.DataLoader(data.TensorDataset(x, y), batch_size=20, shuffle=True, seed=0)
    >>> history = trainer.fit(loader, epochs=20, progress=False)
    >>> history["accuracy"][-1] > 0.95
    True
    >>> trainer.predict(x[:5]).shape
    (5, 2)
    """

    def __init__(
        self, model: Module, optimizer: Optimizer, loss: Callable[[Any, Any], Tensor], metrics: Any = None,
        callbacks: Iterable[Callback] = (), device: str | None = None, scheduler: LRScheduler | None = None,
    ) -> None:  # fmt: skip
        check_kind("model", model, Module)
        check_kind("optimizer", optimizer, Optimizer)
        if scheduler is not None:
            check_kind("scheduler", scheduler, LRScheduler)
        if not callable(loss) or isinstance(loss, type):
            hint = f", a class; write {loss.__name__}()" if isinstance(loss, type) else ""
            raise TypeError(f"Trainer: loss must be a function of (y_pred, y); got {describe(loss)}{hint}")
        self.model, self.optimizer, self.loss, self.scheduler = model, optimizer, loss, scheduler
        self.metrics = metric_functions(metrics)
        self.callbacks = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
        for callback in self.callbacks:
            check_kind("a callback", callback, Callback)
        check_optimizer(model, optimizer)
        self.device = device_of(model, device)
        self.history = History()
        self.epoch = self.step = 0
        self.should_stop = False
        self.columns: list[str] = []
        self.train_loader: Any = None
        self._means: Means | None = None  # of the epoch under way
        self._told_of_dropped_row = False

    # ---- what users call

    def fit(
        self, train_loader: Any, epochs: int, val_loader: Any = None, progress: bool = True, resume: bool = False
    ) -> History:
        """Train for a number of epochs, with the model in training mode; afterwards its mode is as it was.

        When the model has a BatchNorm1d or a MeanOnlyBatchNorm1d and the last batch holds one row, which has no
        variance, that batch is left out.
        The first Ctrl-C lets the step in hand (or the validation) end, so that the callback :class:`Checkpoint` can
        save what continues exactly; a second one ends at once.

        Args:
            train_loader: an iterable of batches, ``(inputs..., y)``, that can be gone through once per epoch.
            epochs: how many to train, on top of those that are done.
            val_loader: likewise, measured after each epoch in evaluation mode.
            progress: report on stderr: a live line on a terminal, else a line per epoch.
            resume: continue from what the callback :class:`Checkpoint` saved last, if anything, until ``epochs`` are
                done in all: the same program, started again, ends as if it had never been stopped. A damaged file is
                passed over, with a warning, for the one before it.

        Returns:
            The history, also when it began in an earlier ``fit``.

        Raises:
            FloatingPointError: the loss, or a gradient, is NaN or infinite; the parameters are those before that step
                (the running statistics of norms have taken in its batch).
                An optimizer made with ``check_finite=False`` lets both through.
            TypeError: a batch that is not a tuple, or a loader that can be gone through only once.
            ValueError: ``epochs`` is no integer of at least 0; a loader without batches; ``resume`` without Checkpoint.
            KeyboardInterrupt: Ctrl-C; model, history and epoch count stay as they are then.
            CheckpointError: ``resume``, and all that was saved is damaged.

        Warns:
            TrainingWarning: a last batch of one row was left out (said once).
            CheckpointWarning: ``resume``, from a damaged file or another environment.
        """
        epochs = whole_number("fit", "epochs", epochs, 0)
        check_loader("train_loader", train_loader)
        if val_loader is not None:
            check_loader("val_loader", val_loader)
        if resume:
            self._resume(train_loader)
            epochs = max(epochs - self.epoch, 0)
        names = ["loss", *self.metrics]
        self.columns = [*names, *(f"val_{n}" for n in names if val_loader is not None), "lr", "seconds"]
        self.train_loader = train_loader
        self.should_stop = False
        steps = len(train_loader) if isinstance(train_loader, Sized) else None
        shown = Progress(progress, self.epoch + epochs, steps, steps and steps * epochs)
        interrupted = True
        with in_mode(self.model, training=True), Interrupts() as interrupts:
            try:
                self._call("on_fit_begin")
                for _ in range(epochs):
                    self._epoch(train_loader, val_loader, shown, interrupts)
                    if self.should_stop:
                        break
                interrupted = False
            finally:
                shown.close()
                try:
                    self._call("on_fit_end", interrupted)
                finally:
                    self._means = None
        return self.history

    def evaluate(self, loader: Any) -> dict[str, float]:
        """The mean loss and metrics over the loader, in evaluation mode and without recording.

        Returns:
            A dict with "loss" and the metrics.

        Raises:
            TypeError: a batch that is not a tuple.
            ValueError: a loader without batches.
        """
        check_loader("loader", loader, once=True)
        means = Means(self.metrics)
        with Interrupts() as interrupts, no_grad(), in_mode(self.model, training=False):
            for batch in loader:
                interrupts.check()
                inputs, y = inputs_and_target(batch, self.device)
                y_pred = self.model(*inputs)
                means.add(number(mean_loss(self.loss, y_pred, y)), y_pred, y)
        if not means.rows:
            raise ValueError("Trainer: loader has no batches")
        return means.values()

    def predict(self, x: Any, batch_size: int = 1024) -> Tensor:
        """The model's output for ``x``, in evaluation mode and without recording.

        Args:
            x: the model's input, a Tensor or an array, of shape (N, ...).
            batch_size: how many rows go through the model at a time.

        Returns:
            What the model gives for all N rows, on the model's device.
        """
        batch_size = whole_number("predict", "batch_size", batch_size)
        x = placed(x, self.device)
        if x.ndim == 0:
            raise ValueError(f"predict: x must have shape (N, ...); got {describe(x)}")
        with Interrupts(), no_grad(), in_mode(self.model, training=False):
            parts = [self.model(x[i : i + batch_size]) for i in range(0, len(x) or 1, batch_size)]
        return parts[0] if len(parts) == 1 else concatenate(parts)

    def restore(self, path: str | PathLike[str], train_loader: Any = None) -> dict[str, Any]:
        """Continue from a file of the callback :class:`Checkpoint`: the next ``fit`` goes on as if it never stopped.

        Args:
            path: the checkpoint.
            train_loader: the loader that ``fit`` will get, to continue its order.

        Returns:
            The checkpoint's own entries: epoch, step, history.

        Raises:
            CheckpointError, ValueError: as :func:`load_checkpoint`; nothing was loaded.
        """
        meta = load_checkpoint(path, self.model, self.optimizer, self.scheduler, train_loader)
        self.epoch, self.step = meta.get("epoch", 0), meta.get("step", 0)
        self.history = History(meta.get("history"))
        self._means = Means(self.metrics, meta["partial"]) if train_loader is not None and "partial" in meta else None
        return meta

    def partial_epoch(self) -> dict[str, Any] | None:
        """The means so far of an epoch that a checkpoint taken now would continue exactly; None where it would not.

        It does between two batches, with a loader that knows its position.
        """
        if self._means is None or not hasattr(self.train_loader, "state_dict"):
            return None
        position = self.train_loader.state_dict()["position"]
        return self._means.state() if position == self._means.batches > 0 else None

    def _resume(self, train_loader: Any) -> None:
        saver = next((callback for callback in self.callbacks if isinstance(callback, Checkpoint)), None)
        if saver is None:
            raise ValueError(
                "fit: resume=True continues from the files of a callback Checkpoint, and this Trainer has none; write "
                "Trainer(..., callbacks=[train.Checkpoint('runs/a.npz')])"
            )
        loader = train_loader if hasattr(train_loader, "state_dict") else None
        paths = saver.saved()
        for path in paths:
            try:
                self.restore(path, loader)
                return
            except CheckpointError as error:
                if path == paths[-1]:
                    raise
                warnings.warn(f"fit: the checkpoint before it is used: {error}", CheckpointWarning, stacklevel=3)

    # ---- an epoch

    def _epoch(self, train_loader: Any, val_loader: Any, shown: Progress, interrupts: Interrupts) -> None:
        began = time.perf_counter()
        rate = self.optimizer.param_groups[0]["lr"]
        means = self._means = self._means or Means(self.metrics)
        self._call("on_epoch_begin")
        batches = usable(train_loader, self.model, self.device, lambda: self._tell_of_dropped_row(shown))
        for i, (inputs, y) in enumerate(batches, means.batches + 1):
            loss = self._step(inputs, y, i, means)
            self._call("on_batch_end", loss)
            shown.step(self.epoch + 1, i, means.values)
            interrupts.check()
        row = means.values()
        if val_loader is not None:
            row |= {f"val_{name}": value for name, value in self.evaluate(val_loader).items()}
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(row.get("val_loss", row["loss"]))
        elif self.scheduler is not None:
            self.scheduler.step()
        self.epoch += 1
        row |= {"lr": rate, "seconds": time.perf_counter() - began}
        self.history.append(row)
        self._means = None
        shown.epoch(self.epoch, row)
        self._call("on_epoch_end")
        interrupts.check()

    def _step(self, inputs: list[Tensor], y: Tensor, i: int, means: Means) -> Any:
        where = f"epoch {self.epoch + 1}, batch {i} (step {self.step + 1})"
        self.optimizer.zero_grad()
        try:
            y_pred = self.model(*inputs)
            loss = mean_loss(self.loss, y_pred, y)
            value = number(loss)
            healthy = is_healthy(value, self.optimizer, where)
            if healthy:
                loss.backward()
                self.optimizer.step()
        except Exception as error:
            error.add_note(f"in {where} of fit")
            raise
        if not healthy:
            raise FloatingPointError(not_finite(value, self.optimizer, where, [*inputs, y], self.model.named_buffers()))
        self.step += 1
        means.add(value, y_pred.detach(), y)
        return value

    # ---- for the methods above

    def _tell_of_dropped_row(self, shown: Progress) -> None:
        if not self._told_of_dropped_row:
            self._told_of_dropped_row = True
            shown.clear()
            text = "Trainer: the last batch has one row, of which batch norm has no variance; it is left out each epoch"
            warnings.warn(text, TrainingWarning, stacklevel=6)

    def _call(self, hook: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self, *args)
