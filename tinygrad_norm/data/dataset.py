"""Datasets: samples by number, and how they are split into parts for training and for testing."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ..engine import Tensor
from ..ops.arguments import whole_number
from ..ops.create import tensor
from .common import common_length, generator, to_host


class Dataset(ABC):
    """Samples that a :class:`DataLoader` can put into batches: subclass it and write two methods.

    ``__len__`` is the number of samples, ``dataset[i]`` one sample: a tuple of Tensors, arrays or numbers,
    one entry per column (a sample that is no tuple is one column). All samples agree in shapes and dtypes.

    >>> class Squares(Dataset):
    ...     def __len__(self):
    ...         return 5
    ...     def __getitem__(self, index):
    ...         return float(index), index**2
    >>> Squares().take(np.array([3, 1]))
    (array([3., 1.], dtype=float32), array([9, 1]))
    """

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples."""

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """One sample."""

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Several samples, column by column, as host arrays; override it where one lookup can replace many.

        Args:
            indices: the numbers of the samples, of shape (k,) and an integer dtype.

        Returns:
            One array of shape (k, ...) per column.

        Raises:
            ValueError: the samples differ in their number of columns, in a shape or in a dtype. What
                ``dataset[i]`` itself raises passes through, with a note that names ``i``.
        """
        rows = [self._row(index) for index in indices.tolist()]
        described = [[(value.shape, value.dtype.name) for value in row] for row in rows]
        for index, description in zip(indices, described):
            if description != described[0]:
                raise ValueError(
                    f"{type(self).__name__}: the samples of a batch must agree in the shape and dtype of "
                    f"every column; sample {indices[0]} has {described[0]}, sample {index} has {description}."
                )
        return tuple(np.stack(column) for column in zip(*rows))

    def _row(self, index: int) -> list[np.ndarray]:
        try:
            sample = self[index]
            return [to_host(value) for value in (sample if isinstance(sample, tuple) else (sample,))]
        except Exception as error:
            error.add_note(f"while {type(self).__name__}[{index}] was read")
            raise


class TensorDataset(Dataset):
    """Samples that lie side by side in arrays: ``dataset[i]`` is ``(arrays[0][i], arrays[1][i], ...)``.

    Args:
        *arrays: Tensors, or anything ``tn.tensor`` takes (which copies), all of the same length along the
            first axis. A Tensor is not copied: editing it edits the dataset.

    Raises:
        TypeError: a tuple of arrays.
        ValueError: no arrays, a scalar, or lengths that differ.

    >>> dataset = TensorDataset([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], [0, 1, 0])
    >>> len(dataset)
    3
    >>> x, y = dataset[1]
    >>> x.numpy(), y.item()
    (array([2., 3.], dtype=float32), 1)
    """

    def __init__(self, *arrays: Any) -> None:
        for array in arrays:
            if isinstance(array, tuple) and any(isinstance(x, Tensor | np.ndarray) for x in array):
                raise TypeError("TensorDataset: arrays must be given one by one; got a tuple of them; write (*arrays)")
        self.arrays = tuple(to_host(array) for array in arrays)
        self._length = common_length("TensorDataset", [array.shape for array in self.arrays])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        """The samples at ``index`` (an integer, a slice, an array) as Tensors on the default device."""
        return tuple(tensor(array[index]) for array in self.arrays)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Several samples with one lookup per array; see :meth:`Dataset.take`."""
        return tuple(array.take(indices, axis=0) for array in self.arrays)


def train_test_split(*arrays: Any, test_size: float = 0.25, seed: int = 0, stratify: Any = None) -> tuple[Any, ...]:
    """Split arrays at random into a part for training and a part for testing, all of them in the same way.

    Args:
        *arrays: Tensors or NumPy arrays of the same length n along their first axis.
        test_size: the share of the test part, in (0, 1), rounded up to whole samples; or their number (int).
        seed: the split is a function of ``n``, ``test_size``, ``seed`` and ``stratify`` only.
        stratify: labels of shape (n,); each class is then split in the same proportion, to within one sample.

    Returns:
        ``(a_train, a_test, b_train, b_test, ...)``, of the types given.

    Raises:
        TypeError: something that is neither a Tensor nor an array.
        ValueError: lengths that differ, or a ``test_size`` that leaves one of the parts empty.

    >>> x, y = np.arange(10.0), np.array([0, 1] * 5)
    >>> x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.4, stratify=y)
    >>> len(x_train), np.bincount(y_test)
    (6, array([2, 2]))
    """
    for position, array in enumerate(arrays):
        if not isinstance(array, Tensor | np.ndarray):
            raise TypeError(
                f"train_test_split: needs Tensors or NumPy arrays; got {type(array).__name__} at position {position}."
            )
    n = common_length("train_test_split", [array.shape for array in arrays])
    order = generator(whole_number("train_test_split", "seed", seed, 0)).permutation(n)
    labels = np.zeros(n, np.int64) if stratify is None else to_host(stratify)
    if labels.shape != (n,):
        raise ValueError(
            f"train_test_split: stratify must hold one label for each of the {n} samples; got shape {labels.shape}."
        )
    tested = _tested(labels[order], _test_count(test_size, n))
    return tuple(array[part] for array in arrays for part in (order[~tested], order[tested]))


def _test_count(test_size: Any, n: int) -> int:
    whole = isinstance(test_size, int | np.integer) and not isinstance(test_size, bool)
    share = isinstance(test_size, float | np.floating) and 0 < test_size < 1
    count = int(test_size) if whole else math.ceil(test_size * n) if share else 0
    if not 0 < count < n:
        raise ValueError(
            f"train_test_split: test_size must be a share in (0, 1) or a number of samples, and leave some "
            f"of the {n} samples for either part; got {test_size!r}."
        )
    return count


def _tested(labels: np.ndarray, count: int) -> np.ndarray:
    """Which samples are tested: of each class the first ones, as many as its share of ``count``."""
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    exact = sizes * (count / len(labels))
    whole = np.floor(exact).astype(np.int64)
    rest = np.argsort(whole - exact, kind="stable")[: count - whole.sum()]  # the largest remainders, rounded up
    whole[rest] += 1
    tested = np.zeros(len(labels), bool)
    for label, size in enumerate(whole):
        tested[np.flatnonzero(inverse == label)[:size]] = True
    return tested
