"""Functions NumPy lacks: the error function and random bits that depend on their position only."""

from __future__ import annotations

from math import pi, prod, sqrt
from typing import Any

import numpy

Array = Any


class Special:
    """Mixed into every Backend; ``self`` is the array namespace."""

    def absolute(self: Any, x: Array) -> Array:
        """|x|; for a complex step x + ih the analytic continuation, not the modulus."""
        return self.where(x.real < 0, -x, x) if x.dtype.kind == "c" else self.abs(x)

    def erf(self: Any, x: Array) -> Array:
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

    def inverse_roots(self: Any, c: Array, eps: float) -> tuple[Array, Array]:
        """(l + eps)^(-1/2) for a symmetric matrix's eigenvalues l (0 where l + eps rounds to 0); its eigenvectors.

        A matrix that holds NaN or infinity, of which a library's ``eigh`` may complain, has roots NaN.
        """
        finite = self.where(self.isfinite(c), c, 0.0)
        values, vectors = self.eigh(finite)
        values = self.where(self.all(self.isfinite(c)), values + eps, numpy.nan)
        zero = values <= values[-1:] * (len(c) * float(self.finfo(c.dtype).eps))  # the last is the largest
        return self.where(zero, 0.0, 1.0 / self.sqrt(self.where(zero, 1.0, values))), vectors

    def bits(self: Any, seed: int, counter: int, shape: tuple[int, ...]) -> Array:
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


MASK = (1 << 64) - 1
GOLDEN, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mix(z: int) -> int:
    """SplitMix64's finalizer on one Python integer."""
    z = (z * GOLDEN) & MASK
    z = ((z ^ (z >> 30)) * MIX1) & MASK
    z = ((z ^ (z >> 27)) * MIX2) & MASK
    return z ^ (z >> 31)


def is_basic(index: Any) -> bool:
    """Whether an index selects each element at most once: slices, integers, None and ellipses, or one boolean mask."""
    parts = index if isinstance(index, tuple) else (index,)
    arrays = [p for p in parts if hasattr(p, "dtype")]
    return not arrays or (len(arrays) == 1 and arrays[0].dtype.kind == "b")


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
