"""Axis arguments in either spelling, and the adjoint of broadcasting."""

from __future__ import annotations

from typing import Any

from ..engine.tensor import Tensor
from .reduce import sum
from .shape import reshape


def axis_words(function: str, axis: Any, keepdims: bool, torch: dict[str, Any]) -> tuple[Any, bool]:
    """``axis`` and ``keepdims``, also when written ``dim`` and ``keepdim`` as in PyTorch."""
    unknown = set(torch) - {"dim", "keepdim"}
    if unknown:
        raise TypeError(f"{function}: unknown argument {sorted(unknown)[0]!r}; it takes axis= and keepdims= (or dim=, keepdim=)")
    if "dim" in torch and axis is not None:
        raise TypeError(f"{function}: give axis or dim, not both; got axis={axis!r}, dim={torch['dim']!r}")
    axis = torch.get("dim", axis)
    return tuple(axis) if isinstance(axis, list) else axis, torch.get("keepdim", keepdims)


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo broadcasting: sum ``x`` down to ``shape``."""
    if x.shape == shape:
        return x
    extra = x.ndim - len(shape)
    axes = (*range(extra), *(extra + i for i, n in enumerate(shape) if n == 1 and x.shape[extra + i] != 1))
    return reshape(sum(x, axes, keepdims=True), shape)
