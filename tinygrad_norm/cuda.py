"""The GPU: whether there is one, waiting for it, its memory."""

from __future__ import annotations

from typing import Any

from .backend import DEVICES
from .backend.opening import devices, missing


def is_available() -> bool:
    """Whether tensors can be put on "cuda" here: CuPy, a driver for it and a GPU are there. Imports CuPy.

    >>> import tinygrad_norm as tn
    >>> tn.cuda.is_available() == (tn.cuda.device_count() > 0)
    True
    """
    return not missing()


def device_count() -> int:
    """How many GPUs CuPy can use here; "cuda" is the first."""
    return devices()


def synchronize() -> None:
    """Wait until the GPU has done all that was asked of it. Where none is used there is nothing to wait for.

    Raises:
        ValueError, IndexError, FloatingPointError: what checks on the GPU have found since a value was last read.

    >>> import tinygrad_norm as tn
    >>> tn.cuda.synchronize()
    """
    if "cuda" in DEVICES:
        _gpu().synchronize()


def memory_allocated() -> int:
    """Bytes of the GPU's memory that arrays of this program take up; 0 where no GPU is used.

    >>> import tinygrad_norm as tn
    >>> tn.cuda.memory_allocated() >= 0
    True
    """
    return _gpu().library.get_default_memory_pool().used_bytes() if "cuda" in DEVICES else 0


def empty_cache() -> None:
    """Give memory that is kept for later arrays back to the GPU, for other programs to use.

    >>> import tinygrad_norm as tn
    >>> tn.cuda.empty_cache()
    """
    if "cuda" in DEVICES:
        _gpu().library.get_default_memory_pool().free_all_blocks()


def _gpu() -> Any:
    return DEVICES["cuda"]
