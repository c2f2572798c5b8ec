"""Checks and draws that the files of this room share."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine import Tensor
from ..ops.create import tensor


def generator(*seeds: int) -> np.random.Generator:
    """The random numbers of one purpose: a pure function of the seeds, independent of every other generator.

    >>> generator(0, 1).integers(100) == generator(0, 1).integers(100)
    np.True_
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seeds)))


def to_host(value: Any) -> np.ndarray:
    """A Tensor's values (shared on the CPU), or a copy of whatever ``tn.tensor`` takes, as a NumPy array.

    >>> to_host([1, 2])
    array([1, 2])
    """
    return (value if isinstance(value, Tensor) else tensor(value, device="cpu")).numpy()


def common_length(function: str, shapes: list[tuple[int, ...]]) -> int:
    """The length that all arrays share along their first axis.

    Raises:
        ValueError: no arrays, a scalar among them, or lengths that differ.

    >>> common_length("TensorDataset", [(10, 2), (10,)])
    10
    """
    if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(
            f"{function}: needs one or more arrays of equal length along their first axis; "
            f"got shapes {', '.join(map(str, shapes)) or 'of none'}."
        )
    return shapes[0][0]
