"""Initial values: each function fills a tensor in place and returns it, under PyTorch's names.

The numbers are drawn on the host in float64 from this thread's generator (``tn.manual_seed``) and then cast: one seed
gives one start on every device and in every dtype.
"""

from __future__ import annotations

from math import erf, prod, sqrt
from typing import Any

import numpy

from ..backend import FLOATS, random
from ..engine import Tensor, no_grad
from ..engine.tensor import describe
from ..ops.create import tensor

GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": sqrt(2), "selu": 3 / 4,
}  # fmt: skip


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights should grow to keep the variance of activations through a nonlinearity.

    Args:
        nonlinearity: "linear", "conv1d", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        param: the negative slope of "leaky_relu", by default 0.01.

    >>> calculate_gain("leaky_relu", 1.0)
    1.0
    """
    if nonlinearity == "leaky_relu":
        return sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in GAINS:
        known = ", ".join([*GAINS, "leaky_relu"])
        raise ValueError(f"calculate_gain: nonlinearity must be one of {known}; got {nonlinearity!r}")
    return GAINS[nonlinearity]


def uniform_(x: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Fill with numbers from the uniform distribution on [a, b)."""
    return _fill(x, random.host.uniform(a, b, _shape("uniform_", x)))


def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fill with numbers from the normal distribution."""
    return _fill(x, random.host.normal(mean, std, _shape("normal_", x)))


def constant_(x: Tensor, value: float) -> Tensor:
    """Fill with one value."""
    return _fill(x, numpy.full(_shape("constant_", x), float(value)))


def ones_(x: Tensor) -> Tensor:
    """Fill with ones."""
    return _fill(x, numpy.ones(_shape("ones_", x)))


def zeros_(x: Tensor) -> Tensor:
    """Fill with zeros."""
    return _fill(x, numpy.zeros(_shape("zeros_", x)))


def eye_(x: Tensor) -> Tensor:
    """Fill a matrix with ones on the diagonal and zeros elsewhere.

    >>> import tinygrad_norm as tn
    >>> tn.nn.init.eye_(tn.empty(2, 2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    shape = _shape("eye_", x)
    if len(shape) != 2:
        raise ValueError(f"eye_: only a matrix has a diagonal here; got {describe(x)}")
    return _fill(x, numpy.eye(shape[0], shape[1]))


def xavier_uniform_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform on +-gain sqrt(6 / (fan_in + fan_out)): variance gain^2 2 / (fan_in + fan_out) (Glorot, Bengio 2010)."""
    bound = gain * sqrt(6 / sum(_fans("xavier_uniform_", x)))
    return uniform_(x, -bound, bound)


def xavier_normal_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with variance gain^2 2 / (fan_in + fan_out) (Glorot, Bengio 2010)."""
    return normal_(x, 0.0, gain * sqrt(2 / sum(_fans("xavier_normal_", x))))


def kaiming_uniform_(x: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Uniform on +-sqrt(3) std, with std = gain / sqrt(fan) (He et al. 2015).

    Args:
        x: a weight of shape (out, in) or (out, in, ...), floating.
        a: the negative slope of the "leaky_relu" behind the layer.
        mode: "fan_in" keeps the variance of the forward pass, "fan_out" that of the backward pass.
        nonlinearity: what comes behind the layer, see :func:`calculate_gain`.

    Returns:
        x itself.

    Raises:
        ValueError: fewer than two dimensions, or a mode or nonlinearity that does not exist.
    """
    bound = sqrt(3) * _kaiming_std("kaiming_uniform_", x, a, mode, nonlinearity)
    return uniform_(x, -bound, bound)


def kaiming_normal_(x: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Normal with std = gain / sqrt(fan) (He et al. 2015); arguments as in :func:`kaiming_uniform_`."""
    return normal_(x, 0.0, _kaiming_std("kaiming_normal_", x, a, mode, nonlinearity))


def orthogonal_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Fill with gain times an orthogonal matrix, drawn evenly from all of them (Saxe et al. 2013; Mezzadri 2007).

    More than two dimensions count as a matrix of shape (first, all others); its shorter side is orthonormal.
    """
    shape = _shape("orthogonal_", x)
    if len(shape) < 2:
        raise ValueError(f"orthogonal_: needs at least two dimensions; got {describe(x)}")
    rows, columns = shape[0], prod(shape[1:])
    q, r = numpy.linalg.qr(random.host.standard_normal((max(rows, columns), min(rows, columns))))
    q *= numpy.where(numpy.diagonal(r) < 0, -1.0, 1.0)  # QR alone prefers some signs: not evenly drawn
    return _fill(x, gain * (q if rows >= columns else q.T).reshape(shape))


def trunc_normal_(x: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Fill from the normal distribution, drawing again what falls outside [a, b].

    Raises:
        ValueError: [a, b] holds less than 1 % of the distribution.
    """
    low, high = (0.5 * (1 + erf((limit - mean) / (std * sqrt(2)))) for limit in (a, b))
    if not high - low >= 0.01:
        raise ValueError(
            f"trunc_normal_: [a, b] must hold at least 1 % of the distribution with mean {mean} and std {std}; "
            f"got [{a}, {b}]"
        )
    values = random.host.normal(mean, std, _shape("trunc_normal_", x))
    while (outside := (values < a) | (values > b)).any():
        values[outside] = random.host.normal(mean, std, int(outside.sum()))
    return _fill(x, values)


def _shape(function: str, x: Any) -> tuple[int, ...]:
    if not isinstance(x, Tensor) or x.dtype not in FLOATS:
        raise TypeError(f"{function}: expected a floating Tensor; got {describe(x)}")
    return x.shape


def _fill(x: Tensor, values: numpy.ndarray) -> Tensor:
    with no_grad():
        return x.copy_(tensor(values, dtype=x.dtype, device=x.device))


def _fans(function: str, x: Any) -> tuple[int, int]:
    """How many numbers one output is computed from, and how many outputs one input enters."""
    shape = _shape(function, x)
    if len(shape) < 2 or not x.size:
        raise ValueError(f"{function}: a fan needs a weight of shape (out, in, ...), not empty; got {describe(x)}")
    kernel = prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def _kaiming_std(function: str, x: Any, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), _fans(function, x)))
    if mode not in fans:
        raise ValueError(f"{function}: mode must be 'fan_in' or 'fan_out'; got {mode!r}")
    return calculate_gain(nonlinearity, a) / sqrt(fans[mode])
