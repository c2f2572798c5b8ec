"""What NumPy multiplies matrices with: OpenBLAS's kernel and its threads, asked of the library NumPy has loaded."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy


@lru_cache
def openblas_function(name: str) -> Any:
    """The function ``openblas_NAME`` of NumPy's OpenBLAS, or None: another BLAS, or one that cannot be asked.

    >>> openblas_function("there_is_no_such_function") is None
    True
    """
    for library in _libraries():
        for prefix in ("scipy_openblas", "openblas"):
            for suffix in ("64_", "", "_64", "_"):
                found = getattr(library, f"{prefix}_{name}{suffix}", None)
                if found is not None:
                    return found
    return None


@lru_cache
def gemm(name: str) -> int | None:
    """Where the function "sgemm" or "dgemm" of NumPy's OpenBLAS is, for C and 64-bit sizes; None if that is not known.

    >>> gemm("there_is_no_such_function") is None
    True
    """
    for library in _libraries():
        for prefix in ("scipy_cblas", "cblas"):
            found = getattr(library, f"{prefix}_{name}64_", None)
            if found is not None:
                return ctypes.cast(found, ctypes.c_void_p).value
    return None


def _libraries() -> Iterator[Any]:
    # A loaded extension also answers for the libraries it depends on; Windows asks only the file itself.
    with contextlib.suppress(ImportError, AttributeError, OSError):
        yield ctypes.CDLL(importlib.import_module("numpy._core._multiarray_umath").__file__)
    for path in Path(numpy.__file__).parent.parent.glob("numpy.libs/*openblas*"):
        with contextlib.suppress(OSError):
            yield ctypes.CDLL(str(path))


def kernel() -> str | None:
    """The processor that OpenBLAS's kernels were written for, such as "Haswell"; None when it cannot be asked."""
    function = openblas_function("get_corename")
    if function is None:
        return None
    function.restype = ctypes.c_char_p
    return function().decode()


def threads() -> int | None:
    """How many threads OpenBLAS uses now; None when it cannot be asked."""
    function = openblas_function("get_num_threads")
    return None if function is None else int(function())


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let OpenBLAS use one thread inside, and as many as before afterwards; nothing happens with another BLAS.

    Small nets gain nothing from a second thread, and lose much when other programs want that processor: on two busy
    cores the experiment of ``compare`` took 53 s with two threads, 33 s with one. The number of threads also decides
    the order of sums, so results are the same on machines with one core and with sixty-four.

    >>> before = threads()
    >>> with one_thread():
    ...     threads() in (1, None)
    True
    >>> threads() == before
    True
    """
    before, set_threads = threads(), openblas_function("set_num_threads")
    if before is None or set_threads is None:
        yield
        return
    set_threads(1)
    try:
        yield
    finally:
        set_threads(before)
