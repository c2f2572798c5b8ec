"""NumPy on the host with the kernels that pay compiled by Numba; everything else is inherited.

Numba is imported, and a kernel compiled, at the first call large enough. Kernels use one thread: Numba's threads and
those of BLAS fight over the same cores. What a compiled kernel does not take goes to the method it overrides: other
layouts and dtypes, few elements, and slices whose statistics leave the range of the dtype.
"""

from __future__ import annotations

import threading
import types
import warnings
from math import inf, prod
from typing import Any

import numpy

from . import loops
from .base import Backend
from .cpu import CPU, TINY
from .kernels import FAR, Axes
from .updates import add_decay

Array = numpy.ndarray
REAL = (numpy.dtype("float32"), numpy.dtype("float64"))
SMALLEST = 512  # elements; scripts that never have more are spared the import of Numba

_lock = threading.Lock()
_state = {"ready": False, "failed": False}


def compiled() -> bool:
    """Let Numba replace the functions of :mod:`.loops`; False, after one warning, where it cannot be imported."""
    if not _state["ready"] and not _state["failed"]:
        with _lock:
            if not _state["ready"] and not _state["failed"]:
                compile_loops()
    return _state["ready"]


def compile_loops() -> None:
    """Put a function that Numba compiles when it is called in the place of each in :mod:`.loops`."""
    try:
        import numba
    except ImportError as error:  # found, but unusable: made for another NumPy, for instance
        _state["failed"] = True
        warnings.warn(f"Numba cannot be imported, so NumPy is used alone: {error}", RuntimeWarning, stacklevel=4)
        return
    for name, function in list(vars(loops).items()):
        if isinstance(function, types.FunctionType):
            flags = {"reassoc", "contract"} if name in loops.SUMS else False
            options: Any = {"nogil": True, "fastmath": flags, "error_model": "numpy"}
            try:
                kernel = numba.njit(cache=True, **options)(function)
            except RuntimeError:  # no folder to keep the compiled code in
                kernel = numba.njit(**options)(function)
            setattr(loops, name, kernel)
    _state["ready"] = True


class JIT(CPU):
    """The CPU backend with compiled kernels, for C-contiguous float32 and float64 arrays."""

    smallest = SMALLEST

    def takes(self, *arrays: Any) -> bool:
        """Whether the compiled kernels do: C-contiguous arrays of one float dtype, the first with enough elements."""
        dtype = arrays[0].dtype
        return (
            arrays[0].size >= max(self.smallest, 1)
            and dtype in REAL
            and all(a.dtype == dtype and a.flags.c_contiguous for a in arrays)
            and compiled()
        )

    # ---- normalization

    def norm_forward(
        self, x: Array, weight: Any, bias: Any, axes: Axes, eps: float, centre: bool = True
    ) -> tuple[Array, tuple]:
        """In one pass over each row, or three over the columns of a matrix."""
        shape = layout(x, axes)
        if not centre or shape is None or not self.takes(x):
            return super().norm_forward(x, weight, bias, axes, eps, centre)
        w, b = (vector(v, x, shape[1], absent) for v, absent in ((weight, 1.0), (bias, 0.0)))
        if w is None or b is None:
            return super().norm_forward(x, weight, bias, axes, eps, centre)
        y, stats, fine = self.norm(x, w, b, axes, shape, eps)
        return (y, stats) if fine else Backend.norm_forward(self, x, weight, bias, axes, eps, centre)

    def statistics(self, x: Array, axes: Axes, eps: Any, centre: bool, shift: Any = None) -> tuple[Array, tuple]:
        """With the sums of the compiled kernel, so that a slice out of range is added in the same order."""
        shape = layout(x, axes)
        if not centre or shape is None or not self.takes(x):
            return super().statistics(x, axes, eps, centre, shift)
        one, zero = (numpy.full(shape[1], v, x.dtype) for v in (1.0, 0.0))
        stats = self.norm(x, one, zero, axes, shape, eps, shift)[1]
        return (x - stats[0]) - stats[1], stats

    def norm(
        self, x: Array, w: Array, b: Array, axes: Axes, shape: tuple[int, int], eps: Any, shift: Any = None
    ) -> tuple[Array, tuple, bool]:
        """y, stats and whether they are in range; ``eps`` is one number or one for each slice."""
        rows, kept = axes[-1] == x.ndim - 1, tuple(1 if a in axes else n for a, n in enumerate(x.shape))
        matrix, slices, length = x.reshape(shape), shape[not rows], shape[rows]
        if shift is None:
            shift = matrix[:, 0] if rows else matrix[0]
        s = numpy.array(shift, x.dtype).reshape(slices)
        m, v, r = (numpy.empty(slices, x.dtype) for _ in range(3))
        e = numpy.empty(slices, x.dtype)
        e[...] = eps if isinstance(eps, float) else eps.reshape(slices)
        y = numpy.empty(shape, x.dtype)
        tiny = TINY[x.dtype.char]
        least = tiny if isinstance(eps, float) and eps < tiny else 0.0
        far = float(FAR) if length > FAR else inf
        kernel = loops.norm_rows if rows else loops.norm_columns
        fine = kernel(matrix, w, b, e, least, far, y, s, m, v, r)
        return y.reshape(x.shape), tuple(a.reshape(kept) for a in (s, m, v, r)), fine

    def norm_backward(
        self, g: Array, x: Array, stats: tuple, weight: Any, axes: Axes, needs: tuple[bool, bool, bool]
    ) -> tuple[Any, Any, Any]:
        """In one pass over each row, or two over the columns of a matrix."""
        shape = layout(x, axes)
        shift, mean, _, rstd = stats
        if shape is None or shift is None or not self.takes(x, shift, mean, rstd) or g.dtype != x.dtype:
            return super().norm_backward(g, x, stats, weight, axes, needs)
        w = vector(weight, x, shape[1], 1.0)
        if w is None:
            return super().norm_backward(g, x, stats, weight, axes, needs)
        gx = numpy.empty(shape, x.dtype)
        gw, gb = (numpy.empty(shape[1], x.dtype) for _ in range(2))
        grad, matrix = numpy.ascontiguousarray(g).reshape(shape), x.reshape(shape)
        s, m, r = (a.reshape(-1) for a in (shift, mean, rstd))
        if axes[-1] == x.ndim - 1:
            loops.norm_rows_backward(grad, matrix, s, m, r, w, needs[1] or needs[2], gx, gw, gb)
            inner = tuple(n if a in axes else 1 for a, n in enumerate(x.shape))
        else:
            loops.norm_columns_backward(grad, matrix, s, m, r, w, gx, gw, gb)
            inner = (1, shape[1])
        by_bias: Any = g if weight is None else gb.reshape(inner)  # without a weight the bias may have any shape
        return (
            gx.reshape(x.shape) if needs[0] else None,
            gw.reshape(inner) if needs[1] else None,
            by_bias if needs[2] else None,
        )

    # ---- unit vectors

    def unit_forward(self, v: Array, axes: Axes, eps: float) -> tuple[Array, Array]:
        """Without scaling first, unless a sum of squares then shows that it was needed."""
        shape = layout(v, axes)
        if shape is None or axes[-1] != v.ndim - 1 or not self.takes(v):
            return super().unit_forward(v, axes, eps)
        kept = tuple(1 if a in axes else n for a, n in enumerate(v.shape))
        u, norm = numpy.empty(shape, v.dtype), numpy.empty(shape[0], v.dtype)
        if not loops.unit_rows(v.reshape(shape), eps, TINY[v.dtype.char], u, norm):
            with self.errstate(all="ignore"):
                k = self.frexp(self.max(self.abs(v), axis=axes, keepdims=True))[1]
                loops.unit_rows(self.ldexp(v, -k).reshape(shape), 0.0, 0.0, u, norm)
                norm = self.ldexp(norm, k.reshape(-1))
                if eps:
                    u = self.where(norm[:, None] < eps, v.reshape(shape) / eps, u)
        return u.reshape(v.shape), norm.reshape(kept)

    def unit_backward(self, g: Array, u: Array, norm: Array, axes: Axes, eps: float) -> Array:
        """In one pass over each row."""
        shape = layout(u, axes)
        if shape is None or axes[-1] != u.ndim - 1 or g.dtype != u.dtype or not self.takes(u, norm):
            return super().unit_backward(g, u, norm, axes, eps)
        gv = numpy.empty(shape, u.dtype)
        loops.unit_rows_backward(numpy.ascontiguousarray(g).reshape(shape), u.reshape(shape), norm.reshape(-1), eps, gv)
        return gv.reshape(u.shape)

    # ---- losses and activations

    def cross_entropy_forward(
        self, logits: Array, labels: Array, weights: Array, smoothing: float
    ) -> tuple[Array, Array]:
        """Around NumPy's exp, which computes several at once."""
        if not (self.takes(logits, weights) and labels.dtype == numpy.int64 and labels.flags.c_contiguous):
            return super().cross_entropy_forward(logits, labels, weights, smoothing)
        z = numpy.empty_like(logits)
        loops.centre_rows(logits, z)
        p, loss = numpy.exp(z), numpy.empty(len(z), z.dtype)
        if not loops.cross_entropy_rows(z, p, labels, weights, smoothing, loss):
            return super().cross_entropy_forward(logits, labels, weights, smoothing)
        return loss, p

    def cross_entropy_backward(self, g: Array, p: Array, labels: Array, weights: Array, smoothing: float) -> Array:
        """In one pass."""
        if not (self.takes(p, weights) and g.dtype == p.dtype and labels.dtype == numpy.int64):
            return super().cross_entropy_backward(g, p, labels, weights, smoothing)
        out = numpy.empty_like(p)
        g, labels = numpy.ascontiguousarray(g), numpy.ascontiguousarray(labels)
        if not loops.cross_entropy_rows_backward(g, p, labels, weights, smoothing, out):
            return super().cross_entropy_backward(g, p, labels, weights, smoothing)
        return out

    def relu_backward(self, g: Array, y: Array) -> Array:
        """In one pass."""
        if g.shape != y.shape or not self.takes(g, y):
            return super().relu_backward(g, y)
        out = numpy.empty_like(g)
        loops.relu_flat_backward(g.reshape(-1), y.reshape(-1), out.reshape(-1))
        return out

    # ---- optimizers

    def sgd_update(
        self, g: Array, p: Any, velocity: Any, lr: float, momentum: float, weight_decay: float, nesterov: bool
    ) -> None:
        """In one pass where there is momentum."""
        if not momentum or not self.takes(g, velocity):
            super().sgd_update(g, p, velocity, lr, momentum, weight_decay, nesterov)
            return
        add_decay(g, p, weight_decay)
        real = g.dtype.type
        loops.sgd(g, velocity, real(lr), real(momentum), nesterov)

    def adam_update(
        self, g: Array, p: Any, m: Array, v: Array, t: int, lr: float, beta1: float, beta2: float, eps: float,
        weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        """In one pass, rounded as in the generic kernel."""
        if not self.takes(g, m, v):
            super().adam_update(g, p, m, v, t, lr, beta1, beta2, eps, weight_decay, decoupled)
            return
        if not decoupled:
            add_decay(g, p, weight_decay)
        root = (1.0 - beta2**t) ** 0.5
        numbers = (beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps * root, lr * root / (1.0 - beta1**t))
        loops.adam(g, m, v, *map(g.dtype.type, numbers))
        if decoupled:
            add_decay(g, p, lr * weight_decay)


def layout(x: Array, axes: Axes) -> tuple[int, int] | None:
    """The matrix whose rows (trailing axes) or columns (axis 0 of a matrix) are normalized; None for other axes."""
    outer = x.ndim - len(axes)
    if axes and axes == tuple(range(outer, x.ndim)):
        return prod(x.shape[:outer]), prod(x.shape[outer:])
    return (x.shape[0], x.shape[1]) if x.ndim == 2 and axes == (0,) else None


def vector(v: Any, x: Array, length: int, absent: float) -> Array | None:
    """A weight or bias as one number for each of the last ``length`` elements of x; None if it is not of that form."""
    if v is None:
        return numpy.full(length, absent, x.dtype)
    if v.dtype != x.dtype or v.size not in (1, length) or not v.flags.c_contiguous:
        return None
    if v.size == 1:
        return numpy.full(length, v.reshape(()), x.dtype)
    inner = v.shape[next(i for i, n in enumerate(v.shape) if n != 1) :]
    tail = x.shape[x.ndim - len(inner) :]
    return v.reshape(length) if tail == inner and prod(tail) == length else None
