"""Arrays and devices: which library holds an array, and how it moves to another."""

from .base import Backend, normal_axes
from .cpu import CPU
from .table import BACKENDS, DEVICES, backend_for, register_backend, to_host

__all__ = ["BACKENDS", "DEVICES", "Backend", "backend_for", "cpu", "normal_axes", "register_backend", "to_host"]

cpu = register_backend(CPU())
