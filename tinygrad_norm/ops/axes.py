"""Axis arguments in either spelling."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any

from ..engine.tensor import Tensor, describe

INSTEAD = {
    "unbiased": "ddof=1 for unbiased=True", "correction": "ddof=", "dims": "axis=",
    "dtype": "x.{0}() for np.{0}(x), or .astype() first", "out": "x.{0}() for np.{0}(x)",
}  # fmt: skip


def either_spelling(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function take PyTorch's ``dim`` and ``keepdim`` for ``axis`` and ``keepdims``, and a list of axes.

    Raises:
        TypeError: both spellings, a tensor as an axis, or a word of PyTorch's that has another name here.
    """
    name = function.__name__
    place = list(signature(function).parameters).index("axis")
    default = signature(function).parameters["axis"].default

    def with_axis(axis: Any, args: tuple, words: dict) -> tuple[tuple, dict]:
        if len(args) > place:
            return (*args[:place], axis, *args[place + 1 :]), words
        return args, {**words, "axis": axis}

    @wraps(function)
    def spelled(*args: Any, **words: Any) -> Any:
        if "keepdim" in words:
            words["keepdims"] = words.pop("keepdim")
        if "dim" in words:
            dim, axis = words.pop("dim"), args[place] if len(args) > place else words.get("axis", default)
            if axis is not default:
                raise TypeError(f"{name}: give axis or dim, not both; got axis={axis!r}, dim={dim!r}")
            args, words = with_axis(dim, args, words)
        for word, instead in INSTEAD.items():
            if word in words:
                raise TypeError(
                    f"{name}: there is no {word}=; write {instead.format(name)}; got {word}={words[word]!r}"
                )
        axis = args[place] if len(args) > place else words.get("axis")
        if isinstance(axis, list):
            args, words = with_axis(tuple(axis), args, words)
        elif isinstance(axis, Tensor):
            both = f"; of two tensors, elementwise: {name}imum(a, b)" if name in ("max", "min") else ""
            raise TypeError(f"{name}: axis is an integer or a tuple of them; got {describe(axis)}{both}")
        return function(*args, **words)

    return spelled
