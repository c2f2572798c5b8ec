"""Rows of a table, looked up by number."""

from __future__ import annotations

from typing import Any

from ..engine.tensor import Tensor, describe, namespace
from .elementwise import where


def embedding(x: Any, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Row x of the weight for every number in x; rows looked up twice collect both gradients.

    Args:
        x: integers in [0, rows), any shape: a Tensor or an array.
        weight: the table, (rows, features), floating.
        padding_idx: a row that gets no gradient, such as that of a padding; negative counts from the end.

    Returns:
        (*x.shape, features).

    Raises:
        ValueError: a number out of range (with its position).
        TypeError: x does not hold integers.

    >>> import tinygrad_norm as tn
    >>> table = tn.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
    >>> tn.functional.embedding(tn.tensor([2, 1, 2]), table).tolist()
    [[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]
    """
    if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.dtype.kind not in "fc":
        raise ValueError(f"embedding: weight must be a floating Tensor (rows, features); got {describe(weight)}")
    rows = weight.shape[0]
    rule = f"x must hold integers in [0, {rows}) for a weight of shape {weight.shape}"
    if getattr(getattr(x, "dtype", None), "kind", "") not in ("i", "u"):
        raise TypeError(f"embedding: {rule}; got {describe(x)}")
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise ValueError(f"embedding: padding_idx must be in [{-rows}, {rows}) or None; got {padding_idx}")
    array = x._data if isinstance(x, Tensor) else x
    xp = namespace(array)
    numbers = xp.copy(array)

    def error(position: int, value: float) -> Exception:
        return ValueError(f"embedding: {rule}; got {int(value)} at position {position} (dtype {numbers.dtype}).")

    numbers = xp.refuse(((numbers < 0) | (numbers >= rows)).reshape(-1), numbers.reshape(-1), error)
    numbers = numbers.reshape(array.shape)
    y = weight[numbers]
    if padding_idx is None:
        return y
    return where(xp.expand_dims(numbers == padding_idx % rows, -1), y.detach(), y)
