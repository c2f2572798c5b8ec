"""The kernels as plain loops, written for Numba, and their compilation at the first call that is worth it.

The files of loops are ordinary Python, so that the package imports without Numba. Each says in ``LOOPS`` what is called
from outside, with its types (V, M, T, Q are arrays of the float dtype with one to four axes), and in ``SUMS`` what is
called from inside and may be reordered and contracted by the compiler, so that it can add several terms at once. All
else is compiled strictly, above all ``minus``, ``centred`` and ``standardized``: reordering (x - shift) - mean undoes
what it is for. Numba's cache looks for changes in the file of a loop only: after a change of what another file's loops
call, delete ``__pycache__``.

Helpers are inlined wherever they are called: batch norm takes a fifth less, copies for convolutions two thirds less.

Arrays are C-contiguous and of one float dtype; results are written into arrays that the caller made. Sums run over
blocks, whose results are added in float64: a float32 sum is then as good for a million terms as for a thousand, and the
order never depends on the values. ``stats`` of a norm is (4, slices): shift, mean, var, rstd.
"""

from __future__ import annotations

import threading
import types
import warnings
from typing import Any

from . import blas, channels, columns, convolution, pooling, rows, training

FILES = (rows, columns, channels, training, convolution, pooling)

_compiled: dict[tuple[str, str], Any] = {}  # (name, dtype) -> compiled function, or None where that failed
_lock = threading.Lock()


def compiled(name: str, char: str) -> Any:
    """One of the loops for one dtype, compiled or from Numba's cache; None, after one warning, if that fails."""
    try:
        return _compiled[name, char]
    except KeyError:
        pass
    with _lock:
        if (name, char) not in _compiled:
            try:
                _compiled[name, char] = compile_loop(name, char)
            except Exception as error:  # an optional tool, and many ways to fail: an old NumPy, LLVM, the disk
                missing = ((n, c) for file in FILES for n in file.LOOPS for c in "fd")
                _compiled.update({key: None for key in missing if key not in _compiled})
                reason = f"{type(error).__name__}: {error}"
                warnings.warn(f"Numba does not work here, so NumPy is used alone: {reason}", RuntimeWarning, 2)
        return _compiled[name, char]


def compile_loop(name: str, char: str) -> Any:
    """Compile one loop, and keep the machine code on disk where there is a place for it."""
    import numba

    if getattr(numba.config, "DISABLE_JIT", False):
        raise ImportError("NUMBA_DISABLE_JIT is set")
    blas.compile_multiply()
    options: Any = {"nogil": True, "error_model": "numpy", "forceinline": True}
    for file in FILES:
        for helper, function in list(vars(file).items()):
            if isinstance(function, types.FunctionType) and helper not in (*file.LOOPS, "multiply"):
                flags = {"reassoc", "contract"} if helper in file.SUMS else False
                setattr(file, helper, numba.njit(function, fastmath=flags, **options))
    (file,) = (file for file in FILES if name in file.LOOPS)
    real = {"f": "float32", "d": "float64"}[char]
    kinds = {kind: f"{real}[{':, ' * axes}::1]" for axes, kind in enumerate("VMTQ")}
    signature = file.LOOPS[name].format(**kinds)
    try:
        return numba.njit(signature, cache=True, **options)(getattr(file, name))
    except Exception:  # no folder that can be written to, a full disk, a broken file in the cache
        return numba.njit(signature, **options)(getattr(file, name))
