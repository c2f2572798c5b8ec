"""Toy problems in the plane: too hard for a straight line, small enough to draw."""

from __future__ import annotations

import numpy as np

from ..engine import Tensor
from ..ops.arguments import whole_number
from ..ops.create import tensor
from .common import generator


def spirals(n: int = 300, classes: int = 3, noise: float = 0.2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Spiral arms around the origin, one for each class.

    Args:
        n: samples in all; sample i belongs to class ``i % classes``.
        classes: the number of arms.
        noise: standard deviation of the angle, in radians.
        seed: the points are a function of the arguments only.

    Returns:
        ``(x, y)`` on the default device: x of shape (n, 2), float32, within the unit circle; y of shape (n,),
        int64.

    Raises:
        ValueError: an argument out of its range.

    >>> x, y = spirals(6)
    >>> x.shape, y.numpy()
    ((6, 2), array([0, 1, 2, 0, 1, 2]))
    """
    y, along, normal = _draw("spirals", n, classes, noise, seed, dimensions=1)
    angle = 2 * np.pi * y / classes + 4 * along + noise * normal[:, 0]
    return _tensors(along * np.cos(angle), along * np.sin(angle), y)


def moons(n: int = 200, noise: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two half circles that reach into each other.

    Args:
        n: samples in all; sample i belongs to class ``i % 2``.
        noise: standard deviation of both coordinates.
        seed: the points are a function of the arguments only.

    Returns:
        ``(x, y)`` on the default device: x of shape (n, 2), float32; y of shape (n,), int64.

    Raises:
        ValueError: an argument out of its range.

    >>> x, y = moons(4, noise=0)
    >>> x.numpy().round(2).tolist()
    [[1.0, 0.0], [0.0, 0.5], [-1.0, 0.0], [2.0, 0.5]]
    """
    y, along, normal = _draw("moons", n, 2, noise, seed, dimensions=2)
    side = 1 - 2 * y
    return _tensors(
        y + side * np.cos(np.pi * along) + noise * normal[:, 0],
        y / 2 + side * np.sin(np.pi * along) + noise * normal[:, 1],
        y,
    )


def xor(n: int = 200, noise: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points around the corners of the unit square, labelled with the exclusive or of its coordinates.

    ``xor(4, noise=0)`` is the truth table.

    Args:
        n: samples in all, dealt to the corners (0, 0), (0, 1), (1, 0), (1, 1) in turn.
        noise: standard deviation of both coordinates.
        seed: the points are a function of the arguments only.

    Returns:
        ``(x, y)`` on the default device: x of shape (n, 2), float32; y of shape (n,), int64, 0 or 1.

    Raises:
        ValueError: an argument out of its range.

    >>> x, y = xor(4, noise=0)
    >>> x.numpy().tolist(), y.numpy()
    ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], array([0, 1, 1, 0]))
    """
    corner, _, normal = _draw("xor", n, 4, noise, seed, dimensions=2)
    first, second = corner // 2, corner % 2
    return _tensors(first + noise * normal[:, 0], second + noise * normal[:, 1], first ^ second)


def _draw(
    function: str, n: int, classes: int, noise: float, seed: int, dimensions: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each sample's class and place along it from 0 to 1, and standard normal numbers (n, dimensions)."""
    classes = whole_number(function, "classes", classes, 2)
    n = whole_number(function, "n", n, classes)
    if not 0 <= noise < np.inf:
        raise ValueError(f"{function}: noise must be a finite number of at least 0; got {noise!r}.")
    y, place = np.arange(n) % classes, np.arange(n) // classes
    normal = generator(whole_number(function, "seed", seed, 0)).standard_normal((n, dimensions))
    return y, place / max(place[-1], 1), normal


def _tensors(first: np.ndarray, second: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    return tensor(np.stack([first, second], axis=1).astype(np.float32)), tensor(y)
