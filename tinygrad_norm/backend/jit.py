"""NumPy on the host with the kernels that pay compiled by Numba; everything else is inherited.

Numba is imported, and a kernel compiled, at the first call that is large enough. Kernels use one thread: Numba's
threads and those of BLAS fight over the same cores. What a compiled kernel does not take goes to the method it
overrides: other layouts and dtypes, small arrays, and slices whose statistics leave the range of the dtype.
"""

from __future__ import annotations

import threading
import types
import warnings
from functools import lru_cache
from math import prod
from typing import Any

import numpy

from . import loops
from .base import Backend
from .cpu import CPU, TINY
from .kernels import Axes
from .updates import add_decay

Array = numpy.ndarray
REAL = (numpy.dtype("float32"), numpy.dtype("float64"))

BY_ROW = {"norm_rows", "norm_rows_backward", "unit_rows", "unit_rows_backward"}

_compiled: dict[tuple[str, str], Any] = {}  # (name, dtype) -> compiled function, or None where that failed
_lock = threading.Lock()


def compiled(name: str, char: str) -> Any:
    """One of ``loops.LOOPS`` for one dtype, compiled or from Numba's cache; None, after one warning, if that fails."""
    try:
        return _compiled[name, char]
    except KeyError:
        pass
    with _lock:
        if (name, char) not in _compiled:
            try:
                _compiled[name, char] = compile_loop(name, char)
            except Exception as error:  # an optional tool, and many ways to fail: an old NumPy, LLVM, the disk
                _compiled.update({(n, c): None for n in loops.LOOPS for c in "fd" if (n, c) not in _compiled})
                reason = f"{type(error).__name__}: {error}"
                warnings.warn(f"Numba does not work here, so NumPy is used alone: {reason}", RuntimeWarning, 2)
        return _compiled[name, char]


def compile_loop(name: str, char: str) -> Any:
    """Compile one loop, and keep the machine code on disk where there is a place for it."""
    import numba

    if getattr(numba.config, "DISABLE_JIT", False):
        raise ImportError("NUMBA_DISABLE_JIT is set")
    options: Any = {"nogil": True, "error_model": "numpy"}
    for helper, function in list(vars(loops).items()):
        if isinstance(function, types.FunctionType) and helper not in loops.LOOPS:
            flags = {"reassoc", "contract"} if helper in loops.SUMS else False
            setattr(loops, helper, numba.njit(function, fastmath=flags, **options))
    real = {"f": "float32", "d": "float64"}[char]
    signature = loops.LOOPS[name].format(V=f"{real}[::1]", M=f"{real}[:, ::1]")
    try:
        return numba.njit(signature, cache=True, **options)(getattr(loops, name))
    except Exception:  # no folder that can be written to, a full disk, a broken file in the cache
        return numba.njit(signature, **options)(getattr(loops, name))


class JIT(CPU):
    """The CPU backend with compiled kernels, for C-contiguous float32 and float64 arrays.

    Attributes:
        smallest: elements from which on compiled kernels are used. They win below, too; but scripts that never have
            more are spared the import of Numba.
        shortest: the same for the length of a row where rows are independent, so that no bit of a row's result depends
            on how many rows there are.
    """

    smallest, shortest = 512, 16

    def loop(self, name: str, shape: tuple[int, ...], *arrays: Array) -> Any:
        """The compiled loop, if arrays of this shape are work enough for it and it takes these arrays; else None."""
        dtype = arrays[0].dtype
        if dtype not in REAL or not self.enough(name, shape):
            return None
        for a in arrays:
            if a.dtype != dtype or not a.flags.carray:  # contiguous, aligned, and writable, as Numba expects
                return None
        return compiled(name, dtype.char)

    def enough(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether a loop over arrays of this shape is worth an import."""
        if name in BY_ROW:
            return shape[1] >= self.shortest and shape[0] > 0
        return prod(shape) >= self.smallest

    # ---- normalization

    def norm_forward(
        self, x: Array, weight: Any, bias: Any, axes: Axes, eps: float, centre: bool = True
    ) -> tuple[Array, tuple]:
        """In one pass over each row, or two over a matrix whose columns are normalized."""
        kind, shape, inner, kept = layout(x.shape, axes)
        loop = self.loop(kind, shape, x) if kind and centre else None
        w = b = None
        if loop is not None:
            w, b = one_each(weight, x, inner, 1.0), one_each(bias, x, inner, 0.0)
        if loop is None or w is None or b is None:
            return super().norm_forward(x, weight, bias, axes, eps, centre)
        y, stats = numpy.empty_like(x), numpy.empty((4, prod(kept)), x.dtype)
        if loop(x.reshape(shape), w, b, eps, TINY[x.dtype.char], False, y.reshape(shape), stats):
            return y, tuple(stats.reshape(4, *kept))
        return Backend.norm_forward(self, x, weight, bias, axes, eps, centre)

    def statistics(self, x: Array, axes: Axes, eps: Any, centre: bool, shift: Any = None) -> tuple[Array, tuple]:
        """With the sums of the compiled kernel, so that a slice out of range is added in the same order."""
        kind, shape, _, kept = layout(x.shape, axes)
        loop = self.loop(kind, shape, x) if kind and centre else None
        if loop is None:
            return super().statistics(x, axes, eps, centre, shift)
        stats = numpy.empty((4, *kept), x.dtype)
        stats[0] = (
            x[tuple(slice(0, 1) if a in axes else slice(None) for a in range(x.ndim))] if shift is None else shift
        )
        stats[3] = eps
        unused = numpy.empty(shape, x.dtype)
        loop(x.reshape(shape), unused[0], unused[0], 0.0, 0.0, True, unused, stats.reshape(4, -1))
        return (x - stats[0]) - stats[1], tuple(stats)

    def norm_backward(
        self, g: Array, x: Array, stats: tuple, weight: Any, axes: Axes, needs: tuple[bool, bool, bool]
    ) -> tuple[Any, Any, Any]:
        """In one pass over each row, or two over a matrix whose columns are normalized."""
        kind, shape, inner, _ = layout(x.shape, axes)
        shift, mean, _, rstd = stats
        w = loop = None
        if kind and needs[0] and shift is not None:
            rows = numpy.ascontiguousarray(g)
            loop = self.loop(kind + "_backward", shape, x, rows, shift, mean, rstd)
            w = one_each(weight, x, inner, 1.0) if loop else None
        if loop is None or w is None:
            return super().norm_backward(g, x, stats, weight, axes, needs)
        gx, sums = numpy.empty_like(x), numpy.empty((2, shape[1]), x.dtype)
        affine = weight is not None and (needs[1] or needs[2])
        s, m, r = shift.reshape(-1), mean.reshape(-1), rstd.reshape(-1)
        loop(rows.reshape(shape), x.reshape(shape), s, m, r, w, affine, gx.reshape(shape), sums)
        if weight is None:  # the bias may then have any shape
            return gx, None, g if needs[2] else None
        gweight, gbias = sums.reshape(2, *(weight.shape if weight.size == shape[1] else inner))
        return gx, gweight if needs[1] else None, gbias if needs[2] else None

    # ---- unit vectors

    def unit_forward(self, v: Array, axes: Axes, eps: float) -> tuple[Array, Array]:
        """Without scaling first, unless a sum of squares then shows that it was needed."""
        kind, shape, _, kept = layout(v.shape, axes)
        loop = self.loop("unit_rows", shape, v) if kind == "norm_rows" else None
        if loop is None:
            return super().unit_forward(v, axes, eps)
        u, norm = numpy.empty_like(v), numpy.empty(kept, v.dtype)
        if not loop(v.reshape(shape), eps, TINY[v.dtype.char], u.reshape(shape), norm.reshape(-1)):
            with self.errstate(all="ignore"):
                k = self.frexp(self.max(self.abs(v), axis=axes, keepdims=True))[1]
                loop(self.ldexp(v, -k).reshape(shape), 0.0, 0.0, u.reshape(shape), norm.reshape(-1))
                norm = self.ldexp(norm, k)
                if eps:
                    u = self.where(norm < eps, v / eps, u)
        return u, norm

    def unit_backward(self, g: Array, u: Array, norm: Array, axes: Axes, eps: float) -> Array:
        """In one pass over each row."""
        kind, shape, _, _ = layout(u.shape, axes)
        rows = numpy.ascontiguousarray(g)
        loop = self.loop("unit_rows_backward", shape, u, rows, norm) if kind == "norm_rows" else None
        if loop is None:
            return super().unit_backward(g, u, norm, axes, eps)
        gv = numpy.empty_like(u)
        loop(rows.reshape(shape), u.reshape(shape), norm.reshape(-1), eps, gv.reshape(shape))
        return gv

    # ---- losses and activations

    def cross_entropy_forward(
        self, logits: Array, labels: Array, weights: Array, smoothing: float
    ) -> tuple[Array, Array]:
        """Around NumPy's exp, which computes several at once."""
        centre = self.loop("centre_rows", logits.shape, logits, weights) if usable(labels) else None
        finish = compiled("cross_entropy_rows", logits.dtype.char) if centre else None
        if centre is None or finish is None:
            return super().cross_entropy_forward(logits, labels, weights, smoothing)
        z, loss = numpy.empty_like(logits), numpy.empty(len(logits), logits.dtype)
        centre(logits, z)
        p = numpy.exp(z)
        if finish(z, p, labels, weights, smoothing, loss):
            return loss, p
        return super().cross_entropy_forward(logits, labels, weights, smoothing)

    def cross_entropy_backward(self, g: Array, p: Array, labels: Array, weights: Array, smoothing: float) -> Array:
        """In one pass."""
        rows = numpy.ascontiguousarray(g)
        loop = self.loop("cross_entropy_rows_backward", p.shape, p, weights, rows) if usable(labels) else None
        if loop:
            out = numpy.empty_like(p)
            if loop(rows, p, labels, weights, smoothing, out):
                return out
        return super().cross_entropy_backward(g, p, labels, weights, smoothing)

    def relu(self, x: Array) -> Array:
        """In one pass."""
        loop = self.loop("relu", x.shape, x)
        if loop is None:
            return super().relu(x)
        y = numpy.empty_like(x)
        loop(x.reshape(-1), y.reshape(-1))
        return y

    def relu_backward(self, g: Array, y: Array) -> Array:
        """In one pass."""
        loop = self.loop("relu_backward", y.shape, y, g) if g.shape == y.shape else None
        if loop is None:
            return super().relu_backward(g, y)
        out = numpy.empty_like(y)
        loop(g.reshape(-1), y.reshape(-1), out.reshape(-1))
        return out

    # ---- optimizers

    def sgd_update(
        self, g: Array, p: Any, velocity: Any, lr: float, momentum: float, weight_decay: float, nesterov: bool
    ) -> None:
        """In one pass where there is momentum."""
        loop = self.loop("sgd", g.shape, g, velocity) if momentum else None
        if loop is None:
            super().sgd_update(g, p, velocity, lr, momentum, weight_decay, nesterov)
            return
        add_decay(g, p, weight_decay)
        loop(g, velocity, lr, momentum, nesterov)

    def adam_update(
        self, g: Array, p: Any, m: Array, v: Array, t: int, lr: float, beta1: float, beta2: float, eps: float,
        weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        """In one pass."""
        loop = self.loop("adam", g.shape, g, m, v)
        if loop is None:
            super().adam_update(g, p, m, v, t, lr, beta1, beta2, eps, weight_decay, decoupled)
            return
        if not decoupled:
            add_decay(g, p, weight_decay)
        root = (1.0 - beta2**t) ** 0.5
        loop(g, m, v, beta1, beta2, eps * root, lr * root / (1.0 - beta1**t))
        if decoupled:
            add_decay(g, p, lr * weight_decay)


@lru_cache
def layout(shape: tuple[int, ...], axes: Axes) -> tuple[str, Any, Any, Any]:
    """The loop for these axes ("" if there is none), x's shape as a matrix, the shapes of weight and of statistics.

    Slices are the rows of a matrix, when the axes are the last ones, or the columns of one.
    """
    outer = len(shape) - len(axes)
    head, tail = shape[:outer], shape[outer:]
    if axes and axes == tuple(range(outer, len(shape))):
        return "norm_rows", (prod(head), prod(tail)), (1,) * outer + tail, head + (1,) * len(tail)
    if len(shape) == 2 and axes == (0,):
        return "norm_columns", shape, (1, *tail), (1, *tail)
    return "", None, None, None


def usable(labels: Array) -> bool:
    """Whether labels are of the type that compiled code takes."""
    return labels.dtype == numpy.int64 and labels.flags.carray


def one_each(v: Any, x: Array, inner: tuple[int, ...], absent: float) -> Array | None:
    """A weight or bias as one number for each element of a slice of shape ``inner``; None if it has another form."""
    if v is None:
        return numpy.full(prod(inner), absent, x.dtype)
    if v.dtype != x.dtype or not v.flags.carray:
        return None
    if v.size == 1:
        return numpy.full(prod(inner), v.reshape(()), x.dtype)
    return v.reshape(-1) if (1,) * (x.ndim - v.ndim) + v.shape == inner else None
