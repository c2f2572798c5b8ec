"""What changes how operations run: recording, composite mode, default dtype and device, random numbers.

The first two and the random generators belong to the thread; the defaults belong to the process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy

from ..backend import Backend, backend_for, cpu


class Modes(threading.local):
    """Switches of one thread."""

    recording = True
    composite = False


modes = Modes()


@contextmanager
def _switched(name: str, value: bool) -> Iterator[None]:
    before = getattr(modes, name)
    setattr(modes, name, value)
    try:
        yield
    finally:
        setattr(modes, name, before)


def no_grad() -> Any:
    """Record nothing inside: results need no gradient. A context manager and a decorator, for this thread only.

    >>> import tinygrad_norm as tn
    >>> x = tn.tensor([2.0], requires_grad=True)
    >>> with tn.no_grad():
    ...     (x * x).requires_grad
    False
    """
    return _switched("recording", False)


def enable_grad() -> Any:
    """Record again inside a ``no_grad`` block. A context manager and a decorator, for this thread only."""
    return _switched("recording", True)


def is_grad_enabled() -> bool:
    """Whether this thread records operations."""
    return modes.recording


def composite() -> Any:
    """Run the definition of every fused operation instead of its kernel: slower, readable, differentiable to any order.

    A context manager and a decorator, for this thread only.

    >>> import tinygrad_norm as tn
    >>> x = tn.tensor([-1.0, 2.0])
    >>> with tn.composite():
    ...     tn.functional.relu(x).numpy().tolist()
    [0.0, 2.0]
    """
    return _switched("composite", True)


class Defaults:
    """Process-wide defaults of the constructors."""

    dtype = numpy.dtype("float32")
    backend: Backend = cpu


defaults = Defaults()

DTYPES = {
    name: numpy.dtype(name)
    for name in "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool".split()
}
FLOATS = {DTYPES[name] for name in ("float16", "float32", "float64")}


def as_dtype(dtype: Any, function: str = "dtype") -> numpy.dtype:
    """A NumPy dtype from a name, a NumPy dtype or a Python type.

    Raises:
        TypeError: not one of the supported dtypes; the message lists them.

    >>> as_dtype("float64")
    dtype('float64')
    """
    if dtype is float:
        return defaults.dtype
    try:
        found = numpy.dtype(dtype).newbyteorder("=")
    except TypeError:
        found = None
    if found not in DTYPES.values():
        raise TypeError(f"{function}: dtype {dtype!r} is not supported; use one of {', '.join(DTYPES)}")
    return found


def set_default_dtype(dtype: Any) -> None:
    """The dtype of tensors made from Python floats: float32 at the start.

    Raises:
        TypeError: ``dtype`` is not a floating dtype.
    """
    found = as_dtype(dtype, "set_default_dtype")
    if found not in FLOATS:
        raise TypeError(f"set_default_dtype: {dtype!r} is not a floating dtype; use float16, float32 or float64")
    defaults.dtype = found


def get_default_dtype() -> numpy.dtype:
    """The dtype of tensors made from Python floats."""
    return defaults.dtype


def set_default_device(device: str) -> None:
    """The device on which constructors, layers and loaders make tensors: "cpu" at the start.

    Raises:
        ValueError: no such device here; the message lists those that exist.
    """
    defaults.backend = backend_for(device)


def get_default_device() -> str:
    """The device on which constructors, layers and loaders make tensors."""
    return defaults.backend.device


class Random(threading.local):
    """The random state of one thread: a host generator for draws, (seed, counter) for masks made on the device."""

    def __init__(self) -> None:
        self.seed(int(numpy.random.SeedSequence().entropy) % 2**63)  # type: ignore[arg-type]

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
        self.key, self.counter = state["key"], state["counter"]
        self.host.bit_generator.state = state["host"]


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
