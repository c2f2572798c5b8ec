"""What changes how operations run: a thread's recording and composite mode, the process's default dtype and device."""

from __future__ import annotations

import threading
from contextlib import ContextDecorator
from typing import Any

import numpy

from ..backend import FLOATS, Backend, as_dtype, backend_for, cpu


class Modes(threading.local):
    """Switches of one thread."""

    recording, composite = True, False

    def __init__(self) -> None:
        self.before: list[bool] = []  # what the blocks we are in have switched, innermost last


modes = Modes()


class Switched(ContextDecorator):
    """A block in which one switch of the thread has another value; it may be entered again, in other threads too.

    Ctrl-C comes at the end of a call. So nothing is called between taking note of the old value and switching.
    """

    def __init__(self, name: str, value: bool) -> None:
        self.name, self.value = name, value

    def __enter__(self) -> None:
        modes.before += [getattr(modes, self.name)]
        modes.__dict__[self.name] = self.value

    def __exit__(self, *error: Any) -> None:
        modes.__dict__[self.name] = modes.before[-1]
        del modes.before[-1]


def no_grad() -> Switched:
    """Record nothing inside: results need no gradient. A context manager and a decorator, for this thread only.

    >>> import tinygrad_norm as tn
    >>> x = tn.tensor([2.0], requires_grad=True)
    >>> with tn.no_grad():
    ...     (x * x).requires_grad
    False
    """
    return Switched("recording", False)


def enable_grad() -> Switched:
    """Record again inside a ``no_grad`` block. A context manager and a decorator, for this thread only."""
    return Switched("recording", True)


def is_grad_enabled() -> bool:
    """Whether this thread records operations."""
    return modes.recording


def composite() -> Switched:
    """Run the definition of every fused operation instead of its kernel: slower, readable, differentiable to any order.

    A context manager and a decorator, for this thread only.

    >>> import tinygrad_norm as tn
    >>> x = tn.tensor([-1.0, 2.0])
    >>> with tn.composite():
    ...     tn.functional.leaky_relu(x, 0.5).numpy().tolist()
    [-0.5, 2.0]
    """
    return Switched("composite", True)


class Defaults:
    """Process-wide defaults of the constructors."""

    dtype = numpy.dtype("float32")
    backend: Backend = cpu


defaults = Defaults()


def set_default_dtype(dtype: Any) -> None:
    """The dtype of tensors made from Python floats: float32 at the start.

    Raises:
        TypeError: ``dtype`` is not a floating dtype.
    """
    if as_dtype(dtype, "set_default_dtype") not in FLOATS:
        raise TypeError(f"set_default_dtype: {dtype!r} is not a floating dtype; use float16, float32 or float64")
    defaults.dtype = as_dtype(dtype)


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
