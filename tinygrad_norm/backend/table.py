"""Which backend computes with which array type, and which device names exist."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

    from .base import Backend

BACKENDS: dict[type, Backend] = {}
"""Array type -> the backend that computes with it. Looking up a type never imports a library."""

DEVICES: dict[str, Backend] = {}
"""Device name -> the backend that computes there."""

OFFERS: dict[str, Callable[[], Backend]] = {}
"""Device name -> what opens it. A device that needs a library is opened when it is first asked for."""

opening = threading.Lock()


def register_backend(backend: Backend) -> Backend:
    """Make a backend known by its array type and its device name."""
    BACKENDS[backend.array_type] = backend
    DEVICES[backend.device] = backend
    return backend


def backend_for(device: Any) -> Backend:
    """The backend of a device name.

    Raises:
        ValueError: no device of that name exists here; the message lists those that do, or says what is missing.

    >>> backend_for("cpu").device
    'cpu'
    """
    name = device if isinstance(device, str) else ""
    if name not in DEVICES and name in OFFERS:
        with opening:
            return DEVICES[name] if name in DEVICES else register_backend(OFFERS[name]())
    if name not in DEVICES:
        known = ", ".join(repr(name) for name in DEVICES)
        closed = [repr(name) for name in OFFERS if name not in DEVICES]
        hint = f" and, with a GPU and CuPy, {', '.join(closed)}" if closed else ""
        if name.startswith("cuda:"):
            hint = "; the GPU is 'cuda', the first that CUDA_VISIBLE_DEVICES names"
        raise ValueError(f"device: {device!r} is not available; this machine has {known}{hint}")
    return DEVICES[name]


class Absent:
    """Takes the place of a default device that is not here: whatever is asked of it raises what is missing."""

    def __init__(self, device: str, reason: str) -> None:
        self.device, self.reason = device, reason

    def __getattr__(self, name: str) -> Any:
        raise ValueError(self.reason)


def to_host(x: Any) -> numpy.ndarray:
    """A raw array's values as a NumPy array (the array itself on the CPU)."""
    return BACKENDS[type(x)].to_host(x)
