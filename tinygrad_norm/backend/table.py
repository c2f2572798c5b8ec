"""Which backend computes with which array type, and which device names exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

    from .base import Backend

BACKENDS: dict[type, Backend] = {}
"""Array type -> the backend that computes with it. Looking up a type never imports a library."""

DEVICES: dict[str, Backend] = {}
"""Device name -> the backend that computes there."""


def register_backend(backend: Backend) -> Backend:
    """Make a backend known by its array type and its device name."""
    BACKENDS[backend.array_type] = backend
    DEVICES[backend.device] = backend
    return backend


def backend_for(device: Any) -> Backend:
    """The backend of a device name.

    Raises:
        ValueError: no device of that name exists here; the message lists those that do.

    >>> backend_for("cpu").device
    'cpu'
    """
    found = DEVICES.get(device) if isinstance(device, str) else None
    if found is None:
        known = ", ".join(repr(name) for name in DEVICES)
        hint = "; a GPU backend is not part of this version" if str(device).startswith("cuda") else ""
        raise ValueError(f"device: {device!r} is not available; this machine has {known}{hint}")
    return found


def to_host(x: Any) -> numpy.ndarray:
    """A raw array's values as a NumPy array (the array itself on the CPU)."""
    return BACKENDS[type(x)].to_host(x)
