"""Random state, one for each thread: draws on the host, (seed, counter) for masks made on the device."""

from __future__ import annotations

import threading
from typing import Any

import numpy


class Random(threading.local):
    """A host generator for initial weights and shuffles; a key and a counter for everything drawn on the device."""

    def __init__(self) -> None:
        self.seed(int(numpy.random.SeedSequence().generate_state(1, numpy.uint64)[0]) >> 1)

    def seed(self, seed: int) -> None:
        """Start over from ``seed``."""
        self.key = seed
        self.counter = 0
        self.host = numpy.random.Generator(numpy.random.PCG64(seed))

    def next_counter(self) -> int:
        """A number that no other random operation of this thread has used since the seed was set."""
        self.counter += 1
        return self.counter

    def get_state(self) -> dict[str, Any]:
        """All of it, as plain values that JSON can hold."""
        return {"key": self.key, "counter": self.counter, "host": self.host.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where ``get_state`` was called."""
        self.host.bit_generator.state = state["host"]  # first: it is checked, and nothing may change if it is refused
        self.key, self.counter = state["key"], state["counter"]


random = Random()


def manual_seed(seed: int) -> None:
    """Seed the random numbers of this thread: initial weights, shuffles, dropout. The same on every device.

    Raises:
        ValueError: ``seed`` is not an integer in [0, 2**63).

    >>> import tinygrad_norm as tn
    >>> tn.manual_seed(0); a = tn.rand(3)
    >>> tn.manual_seed(0); b = tn.rand(3)
    >>> bool((a == b).all())
    True
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, numpy.integer)) or not 0 <= seed < 2**63:
        raise ValueError(f"manual_seed: the seed must be an integer in [0, 2**63); got {seed!r}")
    random.seed(int(seed))
