"""The linear layer, dropout and what only changes shapes."""

from __future__ import annotations

from math import sqrt
from typing import Any

from .. import functional as F
from ..engine import Tensor
from ..ops.arguments import number_in, whole_number
from ..ops.create import empty
from . import init
from .module import Module, Parameter


class Linear(Module):
    """y = x w^T + b.

    The start is PyTorch's: weight and bias uniform on +-1 / sqrt(in_features).

    Args:
        in_features: length of x's last dimension.
        out_features: length of y's last dimension.
        bias: whether there is a b; it is exempt from weight decay.
        dtype: of the parameters; by default the default dtype.
        device: of the parameters; by default the default device.

    Attributes:
        weight: (out_features, in_features).
        bias: (out_features,) or None.

    Raises:
        ValueError: a size that is not a positive integer.

    >>> import tinygrad_norm as tn
    >>> layer = tn.nn.Linear(3, 2)
    >>> layer(tn.ones(5, 3)).shape
    (5, 2)
    >>> layer
    Linear(in_features=3, out_features=2, bias=True)
    """

    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = None, device: str | None = None
    ) -> None:
        self.in_features = whole_number("Linear", "in_features", in_features)
        self.out_features = whole_number("Linear", "out_features", out_features)
        self.weight = Parameter(empty(out_features, in_features, dtype=dtype, device=device))
        self.bias = Parameter(empty(out_features, dtype=dtype, device=device), decay=False) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values anew."""
        init.kaiming_uniform_(self.weight, a=sqrt(5))
        if self.bias is not None:
            bound = 1 / sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Dropout(Module):
    """In training, zero each element with probability p and scale the others by 1 / (1 - p) (Srivastava et al. 2014).

    Args:
        p: probability of a zero, in [0, 1].

    >>> import tinygrad_norm as tn
    >>> tn.nn.Dropout(0.5).eval()(tn.ones(3))
    tensor([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = number_in("Dropout", "p", p, 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class Flatten(Module):
    """Merge the dimensions from ``start_dim`` to ``end_dim`` into one; by default all but the batch.

    >>> import tinygrad_norm as tn
    >>> tn.nn.Flatten()(tn.ones(5, 8, 8)).shape
    (5, 64)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) to (N, features), with the default dimensions."""
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """The dimensions."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """y = x, to stand where a layer may be left out."""

    def forward(self, x: Any) -> Any:
        """The input itself."""
        return x
