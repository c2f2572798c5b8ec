"""The loader: a dataset in batches, in an order that a seed and the number of the epoch decide."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

import numpy as np

from ..backend import backend_for
from ..backend.random import random
from ..engine import Tensor
from ..ops.arguments import whole_number
from ..ops.create import tensor
from .common import generator
from .dataset import Dataset
from .workers import Columns, Pass, read_in_workers


class DataLoader:
    """Batches of a dataset, as tuples of Tensors: one pass over the loader is one epoch.

    The order of epoch e is a function of ``seed`` and e alone, the same in every process. Every pass that is
    begun, also one left early, takes the next epoch; :meth:`set_epoch` chooses it. What a dataset of your own draws
    from the package's random numbers is a function of seed (0 when there is none), epoch and batch, too.

    Args:
        dataset: a :class:`Dataset`.
        batch_size: samples per batch; the last batch holds what is left.
        shuffle: draw a new order for every epoch; without it the order is that of the dataset.
        drop_last: leave out a last batch that is not full.
        seed: decides the order. None: drawn once, here, from the numbers that ``tn.manual_seed`` governs.
        num_workers: processes that put batches together ahead of time; 0 does it in this process. They give the same
            batches in the same order, start anew with every pass, as ``multiprocessing`` starts processes here, and
            must not make Tensors on a GPU. Worth it where reading a sample takes longer than a millisecond or so.
            Each has a copy of a generator that the dataset holds, and all draw the same from it; so they do from
            ``numpy.random.rand`` as an attribute where the dataset is pickled for them (spawn and forkserver, Linux's
            default from Python 3.14 on). Call ``tn.rand`` there, which is seeded anew for each batch.
        device: where the Tensors are made; None is the default device at the time of the pass.

    Raises:
        TypeError: ``dataset`` is not a :class:`Dataset`.
        ValueError: an argument out of its range, or no full batch to yield.
        RuntimeError: from a pass, at once when a worker process dies. What the dataset raises passes through, with a
            note that names the sample; from a worker, its traceback too.

    >>> from tinygrad_norm.data import TensorDataset
    >>> loader = DataLoader(TensorDataset(np.arange(5)), batch_size=2, shuffle=True, seed=0)
    >>> len(loader)
    3
    >>> [x.numpy().tolist() for (x,) in loader]
    [[2, 4], [3, 0], [1]]
    >>> [x.numpy().tolist() for (x,) in loader]
    [[1, 4], [3, 0], [2]]
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int | None = None,
        num_workers: int = 0,
        device: str | None = None,
    ) -> None:
        if not isinstance(dataset, Dataset):
            raise TypeError(
                f"DataLoader: dataset must be a data.Dataset; got {type(dataset).__name__}. "
                "Write data.TensorDataset(x, y) for arrays, or subclass data.Dataset."
            )
        if device is not None:
            backend_for(device)
        self.dataset = dataset
        self.batch_size = whole_number("DataLoader", "batch_size", batch_size, 1)
        self.shuffle = bool(shuffle)
        self.drop_last = bool(drop_last)
        if seed is not None:
            seed = whole_number("DataLoader", "seed", seed, 0)
        elif shuffle:
            seed = int(random.host.integers(2**63))
        self.seed = seed
        self.num_workers = whole_number("DataLoader", "num_workers", num_workers, 0)
        self.device = device
        self._next = (0, 0)  # epoch and first batch of the next pass
        self._now = (0, 0)  # epoch and batches yielded of the pass under way
        if len(self) == 0:
            raise ValueError(
                f"DataLoader: a dataset of {len(dataset)} samples gives no batch of {self.batch_size}"
                f"{' with drop_last=True' if drop_last else ''}."
            )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        samples = len(self.dataset)
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        epoch, first = self._next
        self._next = (epoch + 1, 0)
        order = self._order(epoch)
        wanted = range(first, len(self))
        work = Pass(self.dataset, order, self.batch_size, wanted, (self.seed or 0, epoch))
        with closing(self._columns(work)) as batches:
            for batch, columns in zip(wanted, batches):
                self._now = (epoch, batch + 1)
                yield tuple(tensor(column, device=self.device) for column in columns)
        self._now = self._next

    def _columns(self, work: Pass) -> Generator[Columns, None, None]:
        if self.num_workers:
            return read_in_workers(work, self.num_workers)
        return (work.read(batch) for batch in work.wanted)

    def _order(self, epoch: int) -> np.ndarray:
        if self.seed is not None and self.shuffle:
            return generator(self.seed, epoch).permutation(len(self.dataset))
        return np.arange(len(self.dataset))

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be epoch ``epoch``, from its first batch on.

        Raises:
            ValueError: not an integer of at least 0.
        """
        self._next = self._now = (whole_number("DataLoader.set_epoch", "epoch", epoch, 0), 0)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, as plain values that JSON can hold.

        Inside a loop the batch in hand counts as done. After a loop that was left early, the rest of its
        epoch still counts as to come; call :meth:`set_epoch` where it is to be skipped.

        >>> from tinygrad_norm.data import TensorDataset
        >>> loader = DataLoader(TensorDataset(np.arange(5)), batch_size=2)
        >>> _ = next(iter(loader))
        >>> state = loader.state_dict()
        >>> state["epoch"], state["position"]
        (0, 1)
        """
        epoch, position = self._now
        return {"epoch": epoch, "position": position, "seed": self.seed, **self._fixed()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` was taken: the next pass yields the batches that were left, in order.

        Args:
            state: from :meth:`state_dict` of a loader with the same dataset size and settings.

        Raises:
            ValueError: entries missing or unknown, settings that differ (the batches would), or a position
                out of range.
        """
        expected = set(self.state_dict())
        if set(state) != expected:
            raise ValueError(f"DataLoader.load_state_dict: needs the entries {sorted(expected)}; got {sorted(state)}.")
        for name, value in self._fixed().items():
            if state[name] != value:
                raise ValueError(
                    f"DataLoader.load_state_dict: the state was taken with {name}={state[name]!r}, this "
                    f"loader has {name}={value!r}; the batches would not be the same."
                )
        epoch = whole_number("DataLoader.load_state_dict", "epoch", state["epoch"], 0)
        position = whole_number("DataLoader.load_state_dict", "position", state["position"], 0)
        if position > len(self):
            raise ValueError(
                f"DataLoader.load_state_dict: position must be in [0, {len(self)}], the batches of an epoch; "
                f"got {position}."
            )
        if self.shuffle:
            whole_number("DataLoader.load_state_dict", "seed", state["seed"], 0)
        self.seed = state["seed"]
        self._next = self._now = (epoch, position)

    def _fixed(self) -> dict[str, Any]:
        return {
            "samples": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }
