"""The problems that nets are trained on here: data in a part for training and a part for testing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..backend import backend_for
from ..data import digits, moons, spirals, train_test_split, xor
from ..engine import Tensor

PROBLEMS: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
    "digits": digits,
    "spirals": lambda: spirals(800),
    "moons": lambda: moons(800),
    "xor": lambda: xor(800),
}


class Problem(NamedTuple):
    """Samples in rows and their classes, 0 to ``classes - 1``; a quarter of each class is kept for testing."""

    name: str
    x_train: Any
    y_train: Any
    x_test: Any
    y_test: Any
    features: int
    classes: int


def problem(name: str, device: str = "cpu") -> Problem:
    """A problem by name, always the same data in the same two parts.

    Args:
        name: "digits" (real images of 8 x 8 pixels), "spirals", "moons" or "xor" (800 points in the plane).
        device: where the tensors are.

    Raises:
        ValueError: an unknown name or device; the message lists those that exist.

    >>> digits = problem("digits")
    >>> digits.x_train.shape, digits.x_test.shape, digits.classes
    ((1347, 64), (450, 64), 10)
    """
    backend_for(device)
    if name not in PROBLEMS:
        raise ValueError(f"problem: the name must be one of {', '.join(PROBLEMS)}; got {name!r}")
    x, y = PROBLEMS[name]()
    parts = train_test_split(x, y, stratify=y)
    x_train, x_test, y_train, y_test = (part.to(device) for part in parts)
    return Problem(name, x_train, y_train, x_test, y_test, x.shape[1], int(y.numpy().max()) + 1)
