"""Cross entropy and the negative log-likelihood: losses whose target is a class."""

from __future__ import annotations

from typing import Any

from ..backend import FLOATS
from ..engine.op import Op, apply
from ..engine.tensor import Tensor, describe, namespace, wrap
from .arguments import number_in
from .convert import astype, wide
from .elementwise import where
from .loss import as_constant, check_reduction, inverse, reduced
from .reduce import mean, sum
from .shape import reshape, transpose
from .softmax import log_softmax


class CrossEntropy(Op):
    """loss_n = -w_n ((1 - s) log p_(n, label_n) + s mean_c(log p_nc)), p = softmax of the rows; or their sum."""

    @staticmethod
    def composite(logits, labels, weights, smoothing, summed):
        logits = counting(logits, weights != 0)
        log_p = log_softmax(wide(logits), -1)
        chosen = log_p[each_row(labels), labels]
        losses = -weights * ((1.0 - smoothing) * chosen + smoothing * mean(log_p, -1) if smoothing else chosen)
        return sum(losses) if summed else losses

    @staticmethod
    def forward(xp, logits, labels, weights, smoothing, summed):
        losses, p = xp.cross_entropy_forward(logits, labels, weights, smoothing)
        return xp.sum(losses) if summed else losses, p

    @staticmethod
    def backward(xp, g, y, p, needs, logits, labels, weights, smoothing, summed):
        each = xp.full_like(weights, g) if summed else g
        return xp.cross_entropy_backward(each, p, labels, weights, smoothing), None, None


def cross_entropy(
    logits: Tensor, target: Any, weight: Any = None, ignore_index: int = -100, label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """-log softmax(logits)[target], averaged over the rows.

    Args:
        logits: (N, C) or (N, C, d1, ...) or (C,), floating; statistics in at least float32.
        target: class indices of shape (N,), (N, d1, ...) or (), integers in [0, C) or ``ignore_index``; or
            probabilities of the shape of the logits.
        weight: one weight per class, (C,). With "mean" the sum of the losses is divided by the sum of the weights.
        ignore_index: rows with this label do not count.
        label_smoothing: share s of the target spread evenly over the classes, in [0, 1].
        reduction: "mean", "sum" or "none".

    Returns:
        A 0-d Tensor; for "none" one loss per row, 0 where ignored. The mean over no row is NaN.

    Raises:
        ValueError: a label out of range (with its position), or shapes that do not fit.
        TypeError: labels that are neither integers nor probabilities.

    >>> import tinygrad_norm as tn
    >>> round(tn.functional.cross_entropy(tn.tensor([[0.0, 0.0]]), tn.tensor([1])).item(), 6)
    0.693147
    """
    name = "cross_entropy"
    check_reduction(name, reduction)
    label_smoothing = number_in(name, "label_smoothing", label_smoothing, 0, 1)
    if not isinstance(logits, Tensor) or (logits.dtype not in FLOATS and logits.dtype.kind != "c") or logits.ndim == 0:
        raise TypeError(
            f"{name}: logits must be a floating Tensor of shape (N, C), (N, C, d1, ...) or (C,); got {describe(logits)}"
        )
    if logits.dtype == "float16":  # the sum over many rows, too, is beyond float16
        return astype(cross_entropy(wide(logits), target, weight, ignore_index, label_smoothing, reduction), "float16")
    xp = namespace(logits._data)
    weight = None if weight is None else class_weights(name, weight, logits)
    target = as_constant(target, logits, name)
    classes = logits.shape[0] if logits.ndim == 1 else logits.shape[1]
    rows = reshape(logits, (1, -1)) if logits.ndim == 1 else classes_last(logits)
    if target.dtype.kind in "fc" and target.shape == logits.shape and (target.ndim > 1 or target.size > 1):
        q = reshape(target, (1, -1)) if logits.ndim == 1 else classes_last(target)
        q = q * (1.0 - label_smoothing) + label_smoothing / classes
        losses = -sum((q if weight is None else q * wrap(weight)) * log_softmax(rows, -1), -1)
        return reduced(losses, reduction, losses.size, row_shape(logits))
    labels, kept = checked_labels(name, target, logits, ignore_index)
    safe, row_weights, total = counted(labels, kept, rows, weight)
    if weight is not None and label_smoothing:  # smoothing spreads over classes of different weight
        log_p = log_softmax(rows if kept is None else counting(rows, wrap(kept)), -1)
        chosen = log_p[each_row(safe), wrap(safe)] * wrap(row_weights)
        spread = sum(log_p * wrap(weight), -1)
        spread = spread if kept is None else spread * wrap(xp.astype(kept, weight.dtype))
        losses = -((1.0 - label_smoothing) * chosen + (label_smoothing / classes) * spread)
        return reduced(losses, reduction, total, row_shape(logits))
    summed = reduction != "none" and safe.size > 0
    if summed and reduction == "mean":
        row_weights *= inverse(xp, total)
    losses = apply(CrossEntropy, rows, wrap(safe), wrap(row_weights), params=(label_smoothing, summed))
    return losses if summed else reduced(losses, reduction, total, row_shape(logits))


def nll_loss(
    log_probs: Tensor, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-log_probs[target]: cross entropy of log-probabilities, as ``log_softmax`` gives them.

    Args and errors as for :func:`cross_entropy`, with class indices only.
    """
    name = "nll_loss"
    check_reduction(name, reduction)
    if not isinstance(log_probs, Tensor) or log_probs.ndim == 0:
        raise TypeError(
            f"{name}: log_probs must be a Tensor of shape (N, C), (N, C, d1, ...) or (C,); got {describe(log_probs)}"
        )
    labels, kept = checked_labels(name, as_constant(target, log_probs, name), log_probs, ignore_index)
    rows = reshape(log_probs, (1, -1)) if log_probs.ndim == 1 else classes_last(log_probs)
    weight = None if weight is None else class_weights(name, weight, log_probs)
    safe, row_weights, total = counted(labels, kept, rows, weight)
    rows = rows if kept is None else counting(rows, wrap(kept))
    losses = -rows[each_row(safe), wrap(safe)] * wrap(row_weights)
    return reduced(losses, reduction, total, row_shape(log_probs))


def counted(labels: Any, kept: Any, rows: Tensor, weight: Any) -> tuple[Any, Any, Any]:
    """Labels without ``ignore_index``, how much each row counts, and how much all do; ``kept`` is None where all count.

    A row that does not count gets its most probable class, as 0 times an infinite loss would be NaN.
    """
    xp = namespace(rows._data)
    dtype = rows.dtype if rows.dtype in FLOATS else "float64"
    if kept is None:
        row_weights = xp.ones(labels.shape, dtype)
    else:
        labels = xp.where(kept, labels, xp.argmax(xp.real(rows._data), axis=1))
        row_weights = xp.astype(kept, dtype)
    if weight is not None:
        row_weights = row_weights * weight[labels]
    return labels, row_weights, labels.size if kept is None and weight is None else xp.sum(row_weights)


def counting(rows: Tensor, kept: Tensor) -> Tensor:
    """The rows that count, and 0 for the others, which may hold NaN."""
    return where(reshape(kept, (-1, 1)), rows, 0.0)


def row_shape(logits: Tensor) -> tuple[int, ...]:
    """The shape of one loss per row: that of the logits without the classes."""
    return () if logits.ndim == 1 else logits.shape[:1] + logits.shape[2:]


def classes_last(x: Tensor) -> Tensor:
    """(N, C, d1, ...) as rows of classes, (N d1 ..., C)."""
    if x.ndim == 2:
        return x
    return reshape(transpose(x, (0, *range(2, x.ndim), 1)), (x.size // max(x.shape[1], 1), x.shape[1]))


def class_weights(function: str, weight: Any, logits: Tensor) -> Any:
    """One weight per class, as an array of the logits' dtype."""
    classes = logits.shape[0] if logits.ndim == 1 else logits.shape[1]
    weight = as_constant(weight, logits, function, "weight")
    if weight.shape != (classes,):
        raise ValueError(
            f"{function}: weight needs one value for each of the {classes} classes of {describe(logits)}; "
            f"got {describe(weight)}"
        )
    if weight.requires_grad:
        raise TypeError(
            f"{function}: weight is a constant of the loss, which no gradient would reach; got {describe(weight)}; "
            "write weight.detach()"
        )
    xp = namespace(logits._data)
    return xp.copy(xp.astype(weight._data, logits.dtype))  # it may be written to before backward reads it


def checked_labels(function: str, target: Tensor, logits: Tensor, ignore_index: int) -> tuple[Any, Any]:
    """Class indices as a flat int64 array, each in [0, C) or ``ignore_index``; else an error with the first bad one.

    And which rows count: a boolean array, or None where it is known that all do.
    """
    shape, dtype = logits.shape, target.dtype  # what makes the message may outlive the step, and must keep no arrays
    classes = shape[0] if len(shape) == 1 else shape[1]

    def rule() -> str:
        return f"{function}: labels must be integers in [0, {classes}) for logits of shape {shape}"

    if dtype.kind not in "iu":
        raise TypeError(f"{rule()}, or probabilities of that shape; got {describe(target)}")
    if target.shape != row_shape(logits):
        raise ValueError(f"{rule()}, in shape {row_shape(logits)}; got {describe(target)}")
    xp = namespace(target._data)
    labels = xp.copy(xp.astype(target._data, "int64")).reshape(-1)
    inside = labels.astype("uint64") < classes  # without a sign, negative numbers are the largest
    if xp.certain(inside) and not 0 <= ignore_index < classes:
        return labels, None
    kept = labels != ignore_index

    def error(position: int, value: float) -> Exception:
        return ValueError(f"{rule()}; got {int(value)} at position {position} (dtype {dtype}).")

    return xp.refuse(~inside & kept, labels, error), kept


def each_row(labels: Any) -> Any:
    """0, 1, 2, ... for every label, on their device."""
    array = labels._data if isinstance(labels, Tensor) else labels
    return namespace(array).arange(array.size)
