"""Arrays and devices: which library holds an array, and how it moves to another."""

from .base import Backend, normal_axes
from .cpu import CPU
from .dtypes import DTYPES, FLOATS, as_dtype
from .random import manual_seed, random
from .table import BACKENDS, DEVICES, backend_for, register_backend, to_host

__all__ = [
    "BACKENDS", "DEVICES", "DTYPES", "FLOATS", "Backend", "as_dtype", "backend_for", "cpu", "manual_seed",
    "normal_axes", "random", "register_backend", "to_host",
]  # fmt: skip

cpu = register_backend(CPU())
