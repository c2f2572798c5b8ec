"""Activation functions as layers."""

from .. import functional as F
from .function import FunctionLayer


class ReLU(FunctionLayer):
    """max(x, 0).

    >>> import tinygrad_norm as tn
    >>> tn.nn.ReLU()(tn.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    function = staticmethod(F.relu)


class LeakyReLU(FunctionLayer):
    """x where x > 0, else negative_slope x.

    >>> import tinygrad_norm as tn
    >>> tn.nn.LeakyReLU(0.5)(tn.tensor([-1.0, 2.0]))
    tensor([-0.5,  2. ])
    """

    function = staticmethod(F.leaky_relu)


class ELU(FunctionLayer):
    """x where x > 0, else alpha (e^x - 1) (Clevert, Unterthiner, Hochreiter 2015)."""

    function = staticmethod(F.elu)


class SELU(FunctionLayer):
    """ELU with the scale and alpha that keep mean 0 and variance 1 (Klambauer et al. 2017)."""

    function = staticmethod(F.selu)


class GELU(FunctionLayer):
    """x Phi(x), Phi the normal distribution function (Hendrycks, Gimpel 2016); ``approximate`` is "none" or "tanh"."""

    function = staticmethod(F.gelu)


class SiLU(FunctionLayer):
    """x / (1 + e^-x), also called swish."""

    function = staticmethod(F.silu)


class Sigmoid(FunctionLayer):
    """1 / (1 + e^-x)."""

    function = staticmethod(F.sigmoid)


class Tanh(FunctionLayer):
    """The hyperbolic tangent."""

    function = staticmethod(F.tanh)


class Softplus(FunctionLayer):
    """log(1 + e^(beta x)) / beta, and x itself where beta x > threshold."""

    function = staticmethod(F.softplus)


class Hardtanh(FunctionLayer):
    """x limited to [min_val, max_val]."""

    function = staticmethod(F.hardtanh)


class Softmax(FunctionLayer):
    """e^x over the sum of e^x along ``dim``."""

    function = staticmethod(F.softmax)


class LogSoftmax(FunctionLayer):
    """x minus the logarithm of the sum of e^x along ``dim``."""

    function = staticmethod(F.log_softmax)
