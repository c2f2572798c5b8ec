"""Arrays and devices: which library holds an array, and how it moves to another."""

from importlib.util import find_spec
from os import environ

from .base import Backend, normal_axes
from .cpu import CPU
from .dtypes import DTYPES, FLOATS, as_dtype, names_dtype
from .jit import JIT
from .opening import open_gpu
from .random import manual_seed, random
from .table import BACKENDS, DEVICES, OFFERS, Absent, backend_for, register_backend, to_host

__all__ = [
    "BACKENDS", "DEVICES", "DTYPES", "FLOATS", "Absent", "Backend", "as_dtype", "backend_for", "cpu", "manual_seed",
    "names_dtype", "normal_axes", "random", "register_backend", "to_host",
]  # fmt: skip

# Numba is only looked for here; it is imported at the first call that is worth it.
cpu = register_backend(JIT() if environ.get("TINYGRAD_NORM_JIT") != "0" and find_spec("numba") else CPU())
OFFERS["cuda"] = open_gpu
