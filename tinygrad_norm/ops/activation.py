"""Activation functions: the definition, its kernel, and the kernel's gradient side by side."""

from __future__ import annotations

from math import inf, pi
from math import sqrt as root
from typing import Any

from ..engine.op import INPUTS, OUTPUT, Op, apply
from ..engine.tensor import Tensor
from .arguments import number_in
from .elementwise import clip, erf, exp, expm1, log1p, tanh, where


class Relu(Op):
    """y = max(x, 0); the gradient at 0 is 0."""

    reads = OUTPUT

    @staticmethod
    def forward(xp, x):
        return xp.relu(x)

    backward = (lambda xp, g, y, x: xp.relu_backward(g, y),)


class LeakyRelu(Op):
    """y = x where x > 0, else slope x; the gradient at 0 is the slope."""

    promotes = True

    @staticmethod
    def composite(x, slope):
        return where(x > 0, x, slope * x)

    @staticmethod
    def forward(xp, x, slope):
        return xp.where(x > 0, x, slope * x), None

    @staticmethod
    def backward(xp, g, y, saved, needs, x, slope):
        return (xp.where(x > 0, g, slope * g),)


class Elu(Op):
    """y = scale (x where x > 0, else alpha (e^x - 1))."""

    reads = INPUTS | OUTPUT
    promotes = True

    @staticmethod
    def composite(x, alpha, scale):
        return scale * where(x > 0, x, alpha * expm1(where(x > 0, 0.0, x)))

    @staticmethod
    def forward(xp, x, alpha, scale):
        return scale * xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0))), None

    @staticmethod
    def backward(xp, g, y, saved, needs, x, alpha, scale):
        return (g * xp.where(x > 0, scale, y + alpha * scale),)


class Sigmoid(Op):
    """y = 1 / (1 + e^-x)."""

    reads = OUTPUT
    promotes = True

    @staticmethod
    def forward(xp, x):
        return sigmoid_array(xp, x)

    backward = (lambda xp, g, y, x: g * y * (1.0 - y),)


def sigmoid_array(xp, x):
    """1 / (1 + e^-x) without overflow and with full precision on either side."""
    e = xp.exp(xp.minimum(x, -x))
    return xp.maximum(e, x >= 0) / (1.0 + e)  # 1 where x >= 0, in 4 us; `where` takes 10


class Silu(Op):
    """y = x sigmoid(x)."""

    promotes = True

    @staticmethod
    def composite(x):
        return x * sigmoid(x)

    @staticmethod
    def forward(xp, x):
        s = sigmoid_array(xp, x)
        return x * s, s

    @staticmethod
    def backward(xp, g, y, s, needs, x):
        return (g * s * (1.0 + x * (1.0 - s)),)


class Gelu(Op):
    """y = x P(Z <= x) for a standard normal Z."""

    promotes = True

    @staticmethod
    def composite(x):
        return 0.5 * x * (1.0 + erf(x * root(0.5)))

    @staticmethod
    def forward(xp, x):
        below = 0.5 * (1.0 + xp.erf(x * root(0.5)))
        return x * below, below

    @staticmethod
    def backward(xp, g, y, below, needs, x):
        return (g * (below + x * xp.exp(-0.5 * x * x) * (1 / root(2 * pi))),)


class GeluTanh(Op):
    """y = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, an approximation of GELU."""

    promotes = True

    @staticmethod
    def composite(x):
        return 0.5 * x * (1.0 + tanh(root(2 / pi) * (x + 0.044715 * x * x * x)))

    @staticmethod
    def forward(xp, x):
        t = xp.tanh(root(2 / pi) * (x + 0.044715 * x * x * x))
        return 0.5 * x * (1.0 + t), t

    @staticmethod
    def backward(xp, g, y, t, needs, x):
        slope = root(2 / pi) * (1.0 + 3 * 0.044715 * x * x)
        return (g * 0.5 * ((1.0 + t) + x * (1.0 - t * t) * slope),)


class Softplus(Op):
    """y = ln(1 + e^(beta x)) / beta, and x itself where beta x > threshold."""

    promotes = True

    @staticmethod
    def composite(x, beta, threshold):
        linear = beta * x > threshold
        return where(linear, x, log1p(exp(beta * where(linear, 0.0, x))) * (1 / beta))

    @staticmethod
    def forward(xp, x, beta, threshold):
        bx = beta * x
        bent = (xp.maximum(bx, 0) + xp.log1p(xp.exp(-xp.abs(bx)))) * (1 / beta)
        return xp.where(bx > threshold, x, bent), None

    @staticmethod
    def backward(xp, g, y, saved, needs, x, beta, threshold):
        return (xp.where(beta * x > threshold, g, g * sigmoid_array(xp, beta * x)),)


def relu(x: Any) -> Tensor:
    """max(x, 0), elementwise; its gradient at 0 is 0.

    >>> import tinygrad_norm as tn
    >>> tn.functional.relu(tn.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return apply(Relu, x)


def relu_backward(g: Tensor, y: Tensor) -> Tensor:
    """g where y > 0, else 0: the kernel of that name, for Tensors."""
    return where(y > 0, g, 0.0)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else ``negative_slope`` x (Maas, Hannun, Ng 2013)."""
    return apply(LeakyRelu, x, params=(number_in("leaky_relu", "negative_slope", negative_slope, -inf, inf),))


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha (e^x - 1) (Clevert, Unterthiner, Hochreiter 2016)."""
    return apply(Elu, x, params=(number_in("elu", "alpha", alpha, -inf, inf), 1.0))


def selu(x: Any) -> Tensor:
    """Scaled ELU with the constants that keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    return apply(Elu, x, params=(1.6732632423543772, 1.0507009873554805))


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x P(Z <= x) for a standard normal Z (Hendrycks, Gimpel 2016).

    Args:
        x: any shape, floating.
        approximate: "none" for the exact form with erf, "tanh" for the usual approximation.

    Raises:
        ValueError: ``approximate`` is something else.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh'; got {approximate!r}")
    return apply(Gelu if approximate == "none" else GeluTanh, x)


def silu(x: Any) -> Tensor:
    """x sigmoid(x), also called swish (Elfwing, Uchibe, Doya 2018)."""
    return apply(Silu, x)


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e^-x), elementwise."""
    return apply(Sigmoid, x)


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """ln(1 + e^(beta x)) / beta; x itself where beta x > threshold.

    Raises:
        ValueError: beta is not positive.
    """
    beta, threshold = (
        number_in("softplus", name, v, -inf, inf) for name, v in (("beta", beta), ("threshold", threshold))
    )
    if not beta > 0:
        raise ValueError(f"softplus: beta must be positive; got {beta}")
    return apply(Softplus, x, params=(beta, threshold))


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x limited to [min_val, max_val]."""
    return clip(x, min_val, max_val)
