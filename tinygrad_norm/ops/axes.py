"""Axis arguments in either spelling."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ..engine.tensor import Tensor


def either_spelling(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a reduction take PyTorch's ``dim`` and ``keepdim`` for ``axis`` and ``keepdims``, and a list of axes."""

    @wraps(function)
    def reduction(x: Any, axis: Any = None, *args: Any, **words: Any) -> Tensor:
        if words:
            if "dim" in words:
                if axis is not None:
                    raise TypeError(
                        f"{function.__name__}: give axis or dim, not both; got axis={axis!r}, dim={words['dim']!r}"
                    )
                axis = words.pop("dim")
            if "keepdim" in words:
                words["keepdims"] = words.pop("keepdim")
        return function(x, tuple(axis) if isinstance(axis, list) else axis, *args, **words)

    return reduction
