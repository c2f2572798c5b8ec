"""The array namespace every rule is written against.

A :class:`Backend` carries NumPy's names, bound as class attributes from NumPy or from CuPy, plus the few things NumPy
lacks or does badly. Rules receive it as ``xp``. It has never heard of tensors or graphs.
"""

from __future__ import annotations

import contextlib
from math import pi, prod, sqrt
from typing import Any

import numpy

from .kernels import Kernels
from .table import backend_for

Array = Any

NAMES = """
abs add all any arange argmax argmin argsort array asarray ascontiguousarray broadcast_to clip concatenate copysign cos
cumsum divide einsum empty empty_like equal exp expand_dims expm1 eye flip floor frexp full full_like greater
greater_equal isfinite isnan ldexp less less_equal linspace log log1p logical_and logical_not logical_or matmul max
maximum min minimum moveaxis multiply negative not_equal ones ones_like outer pad power prod ravel real repeat reshape
result_type shares_memory sign sin sqrt squeeze stack subtract swapaxes take_along_axis tanh tile transpose triu where
zeros zeros_like
""".split()

BLOCK = 256  # rows summed before the partial sums are: one long float32 column sum loses 1 % at a million rows


class Backend(Kernels):
    """One array library and one device: NumPy's names, and what NumPy lacks.

    A subclass names its array type and device and binds the names; every kernel is written once, in the base classes,
    and correct for NumPy and CuPy alike. A subclass overrides a kernel only where a measurement shows it faster.
    """

    device: str
    array_type: type

    def __init_subclass__(cls, library: Any = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if library is None:
            return
        for name in NAMES:
            if not hasattr(cls, name):
                setattr(cls, name, staticmethod(getattr(library, name)))
        cls.library_sum = staticmethod(library.sum)
        cls.errstate = staticmethod(getattr(library, "errstate", lambda **_: contextlib.nullcontext()))

    # The bound names, for the type checker: whatever the library offers.
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the {self.device} backend has no function {name!r}")

    def to_host(self, x: Array) -> numpy.ndarray:
        """The same values as a NumPy array."""
        raise NotImplementedError

    def from_host(self, x: numpy.ndarray) -> Array:
        """A NumPy array's values on this device."""
        raise NotImplementedError

    def to_device(self, x: Array, device: str, home: str = "") -> Array:
        """``x`` on another device."""
        return backend_for(device).from_host(self.to_host(x))

    def readonly(self, x: Array) -> Array:
        """A view that cannot be written to, where the library has such views."""
        return x

    def astype(self, x: Array, dtype: Any) -> Array:
        """``x`` in another dtype; ``x`` itself when it has it already."""
        return x.astype(dtype, copy=False)

    def copy(self, x: Array) -> Array:
        """A C-ordered copy that owns its memory."""
        return x.copy()

    def sum(self, x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        """Sum over ``axis``, with an error that does not grow with the number of rows.

        Libraries add along the contiguous axis in pairs, but along any other one row after the other: a million rows of
        float32 are then off by 1 %. Long leading axes are therefore summed in blocks and the partial sums again.
        """
        if x.ndim == 0 or max(x.shape) <= BLOCK or x.dtype.kind != "f":
            return self.library_sum(x, axis=axis, keepdims=keepdims)
        axes = normal_axes(axis, x.ndim)
        inner = tuple(a for a in axes if x.shape[a] <= BLOCK or x.strides[a] == x.itemsize)
        out = self.library_sum(x, axis=inner, keepdims=True) if inner else x
        for a in axes:
            if a not in inner:
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
        return self.sum(x, axis, keepdims) * (1.0 / n if n else float("nan"))

    def sum_to(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Undo broadcasting: sum ``x`` down to ``shape``, the adjoint of ``broadcast_to``."""
        if x.shape == shape:
            return x
        extra = x.ndim - len(shape)
        axes = tuple(range(extra)) + tuple(
            extra + i for i, n in enumerate(shape) if n == 1 and x.shape[extra + i] != 1
        )
        return self.sum(x, axes, keepdims=True).reshape(shape)

    def index_add(self, shape: tuple[int, ...], index: Any, values: Array) -> Array:
        """Zeros of ``shape`` with ``values`` added at ``index``; repeated indices accumulate."""
        out = self.zeros(shape, values.dtype)
        if is_basic(index):
            out[index] = values
        else:
            self.scatter_add(out, index, values)
        return out

    def erf(self, x: Array) -> Array:
        """The error function, right to the last digits of float64.

        A complex argument is taken as x + ih with h so small that its square is nothing: erf(x) + ih erf'(x).
        """
        if x.dtype.kind == "c":
            return self.erf(x.real) + 1j * x.imag * (2 / sqrt(pi)) * self.exp(-x.real * x.real)
        wide = self.astype(x, numpy.result_type(x.dtype, numpy.float32))
        a = self.minimum(self.abs(wide), 7.0)
        small = polynomial(self.minimum(wide * wide, 1.0), ERF_SMALL) * wide
        t = (a - 3.0) / (a + 3.0)
        large = 1.0 - polynomial(t, ERFC_LARGE) * self.exp(-a * a) / (1.0 + 2.0 * a)
        return self.astype(self.where(a < 1.0, small, self.copysign(large, wide)), x.dtype)

    def bits(self, seed: int, counter: int, shape: tuple[int, ...]) -> Array:
        """Uniform random 64-bit integers, a pure function of (seed, counter, position): the same on every device.

        The generator is SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014), one
        stream for each (seed, counter).
        """
        key = mix(mix(seed & MASK) ^ (counter & MASK))
        z = self.arange(prod(shape), dtype=numpy.uint64) + numpy.uint64(key)
        z *= numpy.uint64(GOLDEN)
        z ^= z >> numpy.uint64(30)
        z *= numpy.uint64(MIX1)
        z ^= z >> numpy.uint64(27)
        z *= numpy.uint64(MIX2)
        z ^= z >> numpy.uint64(31)
        return z.reshape(shape)


def normal_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """``axis`` (None, an int or a tuple) as a sorted tuple of non-negative ints."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"axis {a} is out of range for {ndim} dimensions; it must be in [{-ndim}, {ndim})")
    out = tuple(sorted(a % ndim for a in axes))
    if len(set(out)) < len(out):
        raise ValueError(f"axis {axis} names the same dimension twice")
    return out


def is_basic(index: Any) -> bool:
    """Whether an index selects each element at most once: slices, integers, None and ellipses, or one boolean mask."""
    parts = index if isinstance(index, tuple) else (index,)
    arrays = [p for p in parts if hasattr(p, "dtype")]
    return not arrays or (len(arrays) == 1 and arrays[0].dtype.kind == "b")


MASK = (1 << 64) - 1
GOLDEN, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mix(z: int) -> int:
    """SplitMix64's finalizer on one Python integer."""
    z = (z * GOLDEN) & MASK
    z = ((z ^ (z >> 30)) * MIX1) & MASK
    z = ((z ^ (z >> 27)) * MIX2) & MASK
    return z ^ (z >> 31)


def polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Horner's rule, highest power first."""
    y = x * coefficients[0] + coefficients[1]
    for c in coefficients[2:]:
        y = y * x + c
    return y


# Chebyshev interpolants, fitted at 50 digits: erf(x)/x in x^2 on [0, 1], and erfc(x) exp(x^2) (1 + 2x) in
# t = (x - 3)/(x + 3) on [1, 7]; beyond 7 the exponential is below the last bit. Worst error against math.erf: 1.1e-16.
ERF_SMALL = (
    5.957176147748911e-11, -1.1372848856791674e-09, 1.4659775274047436e-08, -1.6350312701054695e-07,
    1.6461000484121368e-06, -1.4925595266831182e-05, 0.0001205533111164271, -0.000854832698083379,
    0.0052239776248180145, -0.026866170645076792, 0.11283791670954879, -0.3761263890318375, 1.1283791670955126,
)  # fmt: skip
ERFC_LARGE = (
    -1.7321547111802443e-07, -5.559285448903928e-07, 3.9313402215368185e-07, 3.4580178918139364e-06,
    -7.445112309270364e-07, -2.009903558681371e-05, 4.952006179105589e-06, 0.00012509931957334133,
    -0.00010516011079487667, -0.000779832281841694, 0.0018886903850978698, 0.002529391817324694,
    -0.023770514920039506, 0.06830802734390153, -0.11927366341526772, 0.1296451587027629, -0.04756229435345123,
    -0.1356211061245812, 1.2530080582697296,
)  # fmt: skip
