"""Normalization of each sample by itself: layer, root mean square and group norm.

Their parameters are exempt from weight decay (``Parameter.decay``).
"""

from __future__ import annotations

from math import inf
from typing import Any

from .. import functional as F
from ..engine import Tensor
from ..engine.tensor import describe
from ..ops.arguments import number_in, sizes_of, whole_number
from ..ops.create import ones, zeros
from .module import Module, Parameter


class LayerNorm(Module):
    """Normalize each sample over its last dimensions (Ba, Kiros, Hinton 2016).

    y = (x - mean) / sqrt(var + eps) weight + bias. Training and evaluation are the same, and no row depends on another.

    Args:
        normalized_shape: an int or a tuple: the last dimensions of x.
        eps: added to the variance; 0 is legal.
        elementwise_affine: whether there are a weight and a bias.
        bias: whether there is a bias.
        shared: one gain and one bias for the whole layer, instead of one per feature.

    Attributes:
        weight, bias: of shape ``normalized_shape``, or (1,) when shared, starting at 1 and 0; or None.

    Raises:
        ValueError: a number out of range; when called, an input whose last dimensions are others.

    >>> import tinygrad_norm as tn
    >>> tn.nn.LayerNorm(2, eps=0.0)(tn.tensor([[1.0, 3.0]])).tolist()
    [[-1.0, 1.0]]
    >>> tn.nn.LayerNorm((8, 8), shared=True).weight.shape
    (1,)
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True, shared: bool = False, *, dtype: Any = None, device: str | None = None,
    ) -> None:  # fmt: skip
        self.normalized_shape = sizes_of("LayerNorm", "normalized_shape", normalized_shape)
        self.eps = number_in("LayerNorm", "eps", eps, 0, inf)
        shape = (1,) if shared else self.normalized_shape
        make: dict[str, Any] = {"dtype": dtype, "device": device}
        self.weight = Parameter(ones(shape, **make), decay=False) if elementwise_affine else None
        self.bias = Parameter(zeros(shape, **make), decay=False) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., *normalized_shape) to the same."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Shape and options."""
        shared = self.weight is not None and self.weight.shape != self.normalized_shape
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.weight is not None}, "
            f"bias={self.bias is not None}{', shared=True' if shared else ''}"
        )


class RMSNorm(Module):
    """y = x / sqrt(mean(x^2) + eps) weight over the last dimensions of each sample (Zhang, Sennrich 2019).

    Args:
        normalized_shape: an int or a tuple: the last dimensions of x.
        eps: added to the mean square; None is the machine epsilon of x's dtype.
        elementwise_affine: whether there is a weight.

    Attributes:
        weight: of shape ``normalized_shape``, starting at 1; or None.

    Raises:
        ValueError: a number out of range; when called, an input whose last dimensions are others.

    >>> import tinygrad_norm as tn
    >>> tn.nn.RMSNorm(2, eps=0.0)(tn.tensor([[7.0, 1.0]])).tolist()  # the root mean square is 5
    [[1.399999976158142, 0.20000000298023224]]
    """

    weight: Parameter | None

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float | None = None, elementwise_affine: bool = True, *,
        dtype: Any = None, device: str | None = None,
    ) -> None:  # fmt: skip
        self.normalized_shape = sizes_of("RMSNorm", "normalized_shape", normalized_shape)
        self.eps = None if eps is None else number_in("RMSNorm", "eps", eps, 0, inf)
        weight = ones(self.normalized_shape, dtype=dtype, device=device)
        self.weight = Parameter(weight, decay=False) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., *normalized_shape) to the same."""
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Shape and options."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.weight is not None}"


class GroupNorm(Module):
    """Normalize each sample over groups of channels and all positions (Wu, He 2018).

    Args:
        num_groups: must divide ``num_channels``; 1 is layer norm over channels and positions.
        num_channels: C, the length of x's dimension 1.
        eps: added to the variance; 0 is legal.
        affine: whether there are a weight and a bias.

    Attributes:
        weight, bias: (C,), starting at 1 and 0; or None.

    Raises:
        ValueError: a number out of range; when called, an input of another shape.

    >>> import tinygrad_norm as tn
    >>> tn.nn.GroupNorm(2, 4, eps=0.0)(tn.tensor([[1.0, 3.0, 8.0, 6.0]])).tolist()
    [[-1.0, 1.0, 1.0, -1.0]]
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *, dtype: Any = None,
        device: str | None = None,
    ) -> None:  # fmt: skip
        self.num_groups = whole_number("GroupNorm", "num_groups", num_groups)
        self.num_channels = whole_number("GroupNorm", "num_channels", num_channels)
        if num_channels % num_groups:
            raise ValueError(f"GroupNorm: num_groups must divide num_channels; got {num_groups} for {num_channels}")
        self.eps = number_in("GroupNorm", "eps", eps, 0, inf)
        make: dict[str, Any] = {"dtype": dtype, "device": device}
        self.weight = Parameter(ones(num_channels, **make), decay=False) if affine else None
        self.bias = Parameter(zeros(num_channels, **make), decay=False) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) to the same."""
        if not isinstance(x, Tensor) or x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ValueError(f"GroupNorm: x must be (N, C, ...) with C = {self.num_channels}; got {describe(x)}")
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes and options."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.weight is not None}"
