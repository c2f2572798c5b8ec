"""The array namespace every rule is written against.

A :class:`Backend` carries NumPy's names, bound as class attributes from NumPy or from CuPy, plus the few things NumPy
lacks or does badly. Rules receive it as ``xp``. It has never heard of tensors or graphs.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy

from .checks import Checks
from .kernels import Kernels
from .special import Special, is_basic
from .table import backend_for
from .updates import Updates

Array = Any

NAMES = """
abs add all any arange argmax argmin asarray broadcast_to clip concatenate copysign cos cumsum divide einsum empty
equal exp expand_dims expm1 eye finfo flip frexp full full_like greater greater_equal isfinite isnan ldexp less
less_equal log log1p logical_and logical_not logical_or matmul max maximum min minimum moveaxis multiply negative
not_equal ones ones_like pad power prod real repeat reshape shares_memory sign sin sqrt squeeze stack subtract
swapaxes take_along_axis tanh tile transpose where zeros zeros_like
""".split()

BLOCK = 256  # rows summed before the partial sums are: one long float32 column sum loses 1 % at a million rows


class Backend(Special, Kernels, Updates, Checks):
    """One array library and one device: NumPy's names, and what NumPy lacks.

    A subclass names its array type and device and binds the names; every kernel is written once, in the base classes,
    and correct for NumPy and CuPy alike. A subclass overrides a kernel only where a measurement shows it faster.
    """

    device: str
    array_type: type
    library_sum: Any  # the library's own sum
    errstate: Any  # a context that silences its warnings
    eigh: Any  # eigenvalues and eigenvectors of a symmetric matrix

    def __init_subclass__(cls, library: Any = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in NAMES if library is not None else ():
            if not hasattr(cls, name):
                setattr(cls, name, staticmethod(getattr(library, name)))

    # The bound names, for the type checker: whatever the library offers.
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the {self.device} backend has no function {name!r}")

    def to_host(self, x: Array) -> numpy.ndarray:
        """The same values as a NumPy array."""
        raise NotImplementedError

    def from_host(self, x: numpy.ndarray) -> Array:
        """A NumPy array's values on this device."""
        raise NotImplementedError

    def to_device(self, x: Array, device: str) -> Array:
        """``x`` on another device."""
        return backend_for(device).from_host(self.to_host(x))

    def readonly(self, x: Array) -> Array:
        """A view that cannot be written to, where the library has such views."""
        return x

    def astype(self, x: Array, dtype: Any) -> Array:
        """``x`` in another dtype, silently infinite beyond its range; ``x`` itself when it has it already."""
        if x.dtype == dtype:
            return x
        with self.errstate(all="ignore"):
            return x.astype(dtype)

    def copy(self, x: Array) -> Array:
        """A C-ordered copy that owns its memory."""
        return x.copy()

    def sum(self, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        """Sum over ``axis``, with an error that does not grow with the number of rows.

        Libraries add along the contiguous axis in pairs, but along any other one row after the other: a million rows of
        float32 are then off by 1 %. Long leading axes are therefore summed in blocks and the partial sums again.
        """
        if x.dtype.char == "e":  # in float16 itself, adding ones would stop at 2048
            return self.astype(self.sum(self.wide(x), axis, keepdims), x.dtype)
        if x.ndim == 0 or max(x.shape) <= BLOCK or x.dtype.kind != "f":
            return self.library_sum(x, axis=axis, keepdims=keepdims)
        axes = normal_axes(axis, x.ndim)
        inner = tuple(a for a in axes if x.shape[a] <= BLOCK or x.strides[a] == x.itemsize)
        out = self.library_sum(x, axis=inner, keepdims=True) if inner else x
        for a in set(axes).difference(inner):
            out = self.sum_rows(out, a)
        return out if keepdims else out.reshape([n for a, n in enumerate(x.shape) if a not in axes])

    def sum_rows(self, x: Array, axis: int) -> Array:
        """Sum over one axis in blocks of rows; the axis stays, of length 1."""
        x = self.moveaxis(x, axis, 0)
        while x.shape[0] > BLOCK:
            whole = x.shape[0] // BLOCK * BLOCK
            blocks = self.library_sum(x[:whole].reshape(whole // BLOCK, BLOCK, *x.shape[1:]), axis=1)
            tail = self.library_sum(x[whole:], axis=0, keepdims=True)
            x = self.concatenate([blocks, tail])
        return self.moveaxis(self.library_sum(x, axis=0, keepdims=True), 0, axis)

    def mean(self, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        """Arithmetic mean over ``axis``; NaN when there is nothing to average, as IEEE has 0/0."""
        n = prod(x.shape[a] for a in normal_axes(axis, x.ndim))
        total = self.sum(self.wide(x), axis, keepdims) / (n or float("nan"))
        return self.astype(total, x.dtype) if x.dtype == "float16" else total

    def sum_to(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Undo broadcasting: sum ``x`` down to ``shape``, the adjoint of ``broadcast_to``."""
        if x.shape == shape:
            return x
        extra = x.ndim - len(shape)
        axes = *range(extra), *(extra + i for i, n in enumerate(shape) if n == 1 and x.shape[extra + i :][:1] != (1,))
        y = self.sum(x, axes, keepdims=True) if extra >= 0 else x
        if y.shape[max(extra, 0) :] != shape:
            raise ValueError(f"an array of shape {x.shape} cannot be summed to shape {shape}")
        return y.reshape(shape)

    def index_add(self, shape: tuple[int, ...], index: Any, values: Array) -> Array:
        """Zeros of ``shape`` with ``values`` added at ``index``; repeated indices accumulate, float16 in float32."""
        wide = values if is_basic(index) else self.wide(values)
        out = self.zeros(shape, wide.dtype)
        if is_basic(index):
            out[index] = wide
        else:
            self.scatter_add(out, index, wide)
        return self.astype(out, values.dtype)


def normal_axes(axis: Any, ndim: int, function: str = "") -> tuple[int, ...]:
    """``axis`` (None, an int or a tuple) as a sorted tuple of non-negative ints; errors begin with ``function``."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"{function}axis {a} is out of range for {ndim} dimensions; must be in [{-ndim}, {ndim})")
    out = tuple(sorted(a % ndim for a in axes))
    if len(set(out)) < len(out):
        raise ValueError(f"{function}axis {axis} names the same dimension twice")
    return out
