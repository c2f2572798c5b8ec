"""Metrics: functions of prediction and target, averaged over an epoch with the batches' sizes as weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy

from ..engine import Tensor
from ..engine.tensor import describe, wrap

Metric = Callable[[Tensor, Tensor], Any]


def accuracy(y_pred: Tensor, y: Tensor) -> Any:
    """The share of right predictions: a float; on a GPU a 0-d Tensor, so that nobody waits for it.

    Args:
        y_pred: scores of shape (N, C) or (N, C, ...): the prediction is the class with the highest. Or, for yes or no,
            logits of the shape of ``y``: the prediction is yes where they are positive.
        y: class indices of shape (N,) or (N, ...), or 0 and 1 for logits: integers or booleans when there are several
            in a row, as floats of that shape could as well be probabilities of classes.

    Raises:
        ValueError: shapes that fit neither, or both.

    >>> import tinygrad_norm as tn
    >>> accuracy(tn.tensor([[0.1, 2.0], [3.0, 0.5]]), tn.tensor([1, 1]))
    0.5
    >>> accuracy(tn.tensor([-1.0, 2.0]), tn.tensor([0.0, 1.0]))
    1.0
    """
    if y_pred.shape == y.shape:
        if y.dtype.kind == "f" and y.ndim > 1 and y.shape[1] > 1:
            raise ValueError(
                f"accuracy: y ({describe(y)}) could be probabilities of classes or many answers yes or no; write "
                "the metric, accuracy(y_pred, y.argmax(1)) for classes or accuracy(y_pred, y > 0.5) for answers"
            )
        return share((y_pred._data > 0) == (y._data > 0.5))
    if y_pred.ndim < 2 or y_pred.shape[:1] + y_pred.shape[2:] != y.shape or y_pred.shape[1] == 1:
        raise ValueError(
            f"accuracy: y_pred must have shape (N, C, ...), C at least 2, and y (N, ...), or both the same; got "
            f"{describe(y_pred)} and {describe(y)}"
        )
    return share(y_pred._data.argmax(1) == y._data)


def share(hits: Any) -> Any:
    """The share of true values in an array: a float, or a 0-d Tensor on a GPU."""
    mean = hits.mean()
    return float(mean) if isinstance(hits, numpy.ndarray) else wrap(mean)


def number(value: Any) -> Any:
    """A loss or a metric as a float; on a GPU as a 0-d Tensor of float64, which is not waited for.

    >>> number(1)
    1.0
    """
    if isinstance(value, Tensor) and value.device != "cpu":
        return value.detach().astype("float64")
    return float(value.item() if isinstance(value, Tensor) else value)


NAMED: dict[str, Metric] = {"accuracy": accuracy}


def metric_functions(metrics: Any) -> dict[str, Metric]:
    """What the Trainer was given as metrics, as names and functions.

    >>> sorted(metric_functions(["accuracy", max]))
    ['accuracy', 'max']
    """
    if metrics is None:
        return {}
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    if not isinstance(metrics, Iterable):
        raise TypeError(f"Trainer: metrics must be names, functions, or a mapping of names to them; got {metrics!r}")
    pairs = metrics.items() if isinstance(metrics, Mapping) else [(getattr(m, "__name__", m), m) for m in metrics]
    found: dict[str, Metric] = {}
    for name, metric in pairs:
        metric = NAMED.get(metric, metric) if isinstance(metric, str) else metric
        if not callable(metric) or not isinstance(name, str):
            raise ValueError(
                f"Trainer: a metric must be one of {', '.join(map(repr, NAMED))} or a function of (y_pred, y); got "
                f"{describe(metric)}"
            )
        if name in found or name in ("epoch", "loss", "lr", "seconds") or name.startswith(("val_", "<")):
            raise ValueError(
                f"Trainer: a metric cannot be named {name!r}, which is taken or reserved; "
                "write metrics={'name': function}"
            )
        found[name] = metric
    return found


class Means:
    """Running means of the loss and the metrics, weighted with the rows of each batch; they go on from a ``state``."""

    def __init__(self, metrics: Mapping[str, Metric], state: Mapping[str, Any] | None = None) -> None:
        self.metrics = metrics
        self.sums: dict[str, Any] = dict.fromkeys(("loss", *metrics), 0.0)
        self.rows = self.batches = 0
        if state is not None:
            self.sums = {name: state["sums"].get(name, float("nan")) for name in self.sums}  # of a new metric: unknown
            self.rows, self.batches = state["rows"], state["batches"]

    def add(self, loss: Any, y_pred: Tensor, y: Tensor) -> None:
        """Count a batch."""
        rows = len(y)
        self.rows += rows
        self.sums["loss"] += loss * rows
        for name, metric in self.metrics.items():
            self.sums[name] += number(metric(y_pred, y)) * rows
        self.batches += 1

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        sums = {name: float(total) for name, total in self.sums.items()}
        return {"sums": sums, "rows": self.rows, "batches": self.batches}

    def values(self) -> dict[str, float]:
        """The means so far, NaN when there was no batch.

        >>> Means({}).values()
        {'loss': nan}
        """
        return {name: float(total / self.rows) if self.rows else float("nan") for name, total in self.sums.items()}
