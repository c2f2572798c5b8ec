"""What a loader gives, as the Trainer needs it: on the model's device, and without a row that batch norm cannot use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..engine import Tensor
from ..engine.tensor import describe
from ..nn import BatchNorm1d, MeanOnlyBatchNorm1d, Module
from ..ops.create import tensor


def placed(x: Any, device: str) -> Tensor:
    """A Tensor or array on this device."""
    return x.to(device) if isinstance(x, Tensor) else tensor(x, device=device)


def inputs_and_target(batch: Any, device: str) -> tuple[list[Tensor], Tensor]:
    """The entries of a batch but the last, and the last, on this device."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise TypeError(
            f"Trainer: a batch must be a tuple (x, y) or (x1, x2, ..., y); got {describe(batch)}; of arrays make "
            "them by data.DataLoader(data.TensorDataset(x, y), batch_size=32)"
        )
    *inputs, y = (placed(x, device) for x in batch)
    if y.ndim == 0:
        raise TypeError(f"Trainer: the last entry of a batch, y, must have a row per sample; got {describe(y)}")
    return inputs, y


def usable(
    loader: Iterable, model: Module, device: str, dropped: Callable[[], None]
) -> Iterator[tuple[list[Tensor], Tensor]]:
    """The loader's batches, without a last one of a single row where the model has a norm over rows; that is told."""
    usual = getattr(loader, "batch_size", None) or 0
    compares_rows = any(isinstance(module, (BatchNorm1d, MeanOnlyBatchNorm1d)) for module in model.modules())
    for batch in loader:
        inputs, y = inputs_and_target(batch, device)
        if compares_rows and len(y) == 1 < usual:
            dropped()
            continue
        usual = max(usual, len(y))
        yield inputs, y
