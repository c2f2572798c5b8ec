"""Layers for pictures, (N, C, H, W): convolution and pooling."""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

from .. import functional as F
from ..engine import Tensor
from ..ops.arguments import whole_number
from ..ops.create import empty
from ..ops.windows import pair
from . import init
from .function import FunctionLayer
from .module import Module, Parameter


class Conv2d(Module):
    """Slide ``out_channels`` kernels over pictures (LeCun et al. 1989); see ``functional.conv2d``.

    The start is PyTorch's: weight and bias uniform on +-1 / sqrt(fan_in), fan_in = in_channels / groups times the size
    of the kernel. Sizes for rows and columns are one integer or a pair.

    Args:
        in_channels: C of the input.
        out_channels: C of the output.
        kernel_size: rows and columns of the kernel.
        stride: how far the kernel moves from place to place.
        padding: zeros on each side; "valid" for none, "same" for as many as keep H and W (with a stride of 1).
        dilation: distance between the elements of the kernel.
        groups: into how many parts the channels fall, each part of the output seeing one part of the input.
        bias: whether there is a bias; it is exempt from weight decay.
        dtype: of the parameters; by default the default dtype.
        device: of the parameters; by default the default device.

    Attributes:
        weight: (out_channels, in_channels / groups, rows, columns).
        bias: (out_channels,) or None.

    Raises:
        ValueError: a number out of range, or groups that do not divide both numbers of channels. When called: an input
            of another shape.

    >>> import tinygrad_norm as tn
    >>> layer = tn.nn.Conv2d(1, 16, 3, padding=1)
    >>> layer(tn.ones(5, 1, 8, 8)).shape
    (5, 16, 8, 8)
    >>> layer
    Conv2d(1, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1, bias=True)
    """

    bias: Parameter | None

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True, *, dtype: Any = None, device: str | None = None,
    ) -> None:  # fmt: skip
        self.in_channels = whole_number("Conv2d", "in_channels", in_channels)
        self.out_channels = whole_number("Conv2d", "out_channels", out_channels)
        self.groups = whole_number("Conv2d", "groups", groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d: groups must divide in_channels and out_channels; got {groups} for {in_channels} and "
                f"{out_channels}"
            )
        self.kernel_size = pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride = pair("Conv2d", "stride", stride, 1)
        self.padding = padding if padding in ("same", "valid") else pair("Conv2d", "padding", padding, 0)
        self.dilation = pair("Conv2d", "dilation", dilation, 1)
        if padding == "same" and self.stride != (1, 1):
            raise ValueError(f"Conv2d: padding='same' needs a stride of 1; got stride={stride!r}; give numbers instead")
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, dtype=dtype, device=device))
        self.bias = Parameter(empty(self.out_channels, dtype=dtype, device=device), decay=False) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values anew."""
        init.kaiming_uniform_(self.weight, a=sqrt(5))
        if self.bias is not None:
            bound = 1 / sqrt(prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """Sizes and options."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding!r}, dilation={self.dilation}, groups={self.groups}, bias={self.bias is not None}"
        )


class MaxPool2d(FunctionLayer):
    """The largest element of every window; options as in ``functional.max_pool2d``.

    >>> import tinygrad_norm as tn
    >>> tn.nn.MaxPool2d(2)(tn.ones(5, 3, 8, 8)).shape
    (5, 3, 4, 4)
    """

    function = staticmethod(F.max_pool2d)


class AvgPool2d(FunctionLayer):
    """The mean of every window; options as in ``functional.avg_pool2d``.

    >>> import tinygrad_norm as tn
    >>> tn.nn.AvgPool2d(2, stride=1)(tn.ones(5, 3, 8, 8)).shape
    (5, 3, 7, 7)
    """

    function = staticmethod(F.avg_pool2d)


class AdaptiveAvgPool2d(FunctionLayer):
    """Means over a grid of windows that covers the picture; options as in ``functional.adaptive_avg_pool2d``.

    >>> import tinygrad_norm as tn
    >>> tn.nn.AdaptiveAvgPool2d(1)(tn.ones(5, 3, 8, 8)).shape
    (5, 3, 1, 1)
    """

    function = staticmethod(F.adaptive_avg_pool2d)
