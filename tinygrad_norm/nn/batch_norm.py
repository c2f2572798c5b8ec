"""Normalization of channels, with running statistics: batch, instance and mean-only batch norm.

Their parameters and all biases are exempt from weight decay (``Parameter.decay``).
"""

from __future__ import annotations

from math import inf, prod
from typing import Any

from .. import functional as F
from ..engine import Tensor
from ..engine.op import mark_edited
from ..engine.tensor import describe
from ..ops.arguments import number_in, whole_number
from ..ops.create import ones, zeros
from .module import Buffer, Module, Parameter

REMEDY = "leave the last small batch out with DataLoader(..., drop_last=True), or call model.eval() to predict"


class ChannelNorm(Module):
    """What batch, instance and mean-only norm have in common: channels, running statistics and their momentum."""

    shapes: dict[int, str] = {}  # number of dimensions: name of the shape
    num_features: int
    momentum: float | None
    weight: Parameter | None = None
    bias: Parameter | None = None
    running_mean: Buffer | None = None
    running_var: Buffer | None = None
    num_batches_tracked: Buffer | None = None

    def __init__(
        self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool,
        dtype: Any, device: str | None,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        self.num_features = whole_number(name, "num_features", num_features)
        self.eps = number_in(name, "eps", eps, 0, inf)
        self.momentum = None if momentum is None else number_in(name, "momentum", momentum, 0, 1)
        self.track_running_stats = track_running_stats
        make: dict[str, Any] = {"dtype": dtype, "device": device}
        self.weight = Parameter(ones(num_features, **make), decay=False) if affine else None
        self.bias = Parameter(zeros(num_features, **make), decay=False) if affine else None
        self.running_mean = Buffer(zeros(num_features, **make)) if track_running_stats else None
        self.running_var = Buffer(ones(num_features, **make)) if track_running_stats else None
        self.num_batches_tracked = Buffer(zeros(dtype="int64", device=device)) if track_running_stats else None

    def check(self, x: Any) -> None:
        """Refuse what has not this layer's shape."""
        if not isinstance(x, Tensor) or x.ndim not in self.shapes or x.shape[1] != self.num_features:
            shapes, name = " or ".join(self.shapes.values()), type(self).__name__
            raise ValueError(f"{name}: x must be a Tensor {shapes} with C = {self.num_features}; got {describe(x)}")

    def weight_of_new(self) -> float:
        """How far the running statistics move towards those of the next batch."""
        if self.momentum is None and self.num_batches_tracked is not None:
            return 1.0 / (self.num_batches_tracked.item() + 1)
        return self.momentum or 0.0

    def count(self, x: Tensor) -> None:
        """Count a batch, unless it was empty."""
        if self.num_batches_tracked is not None and x.size:
            self.num_batches_tracked._data[()] += 1  # one element's sum takes a tenth of an array's
            mark_edited(self.num_batches_tracked)

    def extra_repr(self) -> str:
        """Size and options."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm(ChannelNorm):
    """Normalize each channel over batch and positions (Ioffe, Szegedy 2015); use BatchNorm1d or BatchNorm2d.

    y = (x - mean) / sqrt(var + eps) weight + bias. In training, mean and (biased) variance are those of the batch, and
    the running statistics move towards them; in evaluation they are the running statistics, and the layer is a fixed
    affine map of each channel.

    Args:
        num_features: number of channels C, the length of x's dimension 1.
        eps: added to the variance; 0 is legal.
        momentum: weight of the new statistics, running = (1 - momentum) running + momentum batch (other libraries call
            1 - momentum so); None averages all batches seen.
        affine: whether there are a weight and a bias.
        track_running_stats: False uses the statistics of the batch in evaluation too.
        unbiased: whether the running variance divides by n - 1; what the batch itself is divided by is always biased.

    Attributes:
        weight, bias: (C,), starting at 1 and 0; or None.
        running_mean, running_var: (C,) buffers, starting at 0 and 1; or None.
        num_batches_tracked: the number of batches seen, an int64 buffer without dimensions; or None.

    Raises:
        ValueError: a number out of range. When called: an input of another shape, or, in training, one value per
            channel, which has no variance.

    >>> import tinygrad_norm as tn
    >>> norm = tn.nn.BatchNorm1d(1, eps=0.0)
    >>> norm(tn.tensor([[1.0], [3.0]])).tolist()
    [[-1.0], [1.0]]
    >>> [round(b.item(), 4) for b in norm.buffers()]  # 0.1 times the mean 2, 0.9 + 0.1 times the unbiased variance 2
    [0.2, 1.1, 1]
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, unbiased: bool = True, *, dtype: Any = None, device: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, device)
        self.unbiased = unbiased

    def forward(self, x: Tensor) -> Tensor:
        """Any of the shapes of this layer to the same."""
        self.check(x)
        running = self.running_mean, self.running_var
        if not self.training and self.running_mean is not None:
            return F.batch_norm(x, *running, self.weight, self.bias, eps=self.eps)
        if self.training and x.size == self.num_features:
            raise ValueError(
                f"{type(self).__name__}: in training each channel needs more than one value to have a variance; got "
                f"{describe(x)}; {REMEDY}"
            )
        momentum = self.weight_of_new()
        y = F.batch_norm(x, *running, self.weight, self.bias, True, momentum, self.eps, unbiased=self.unbiased)
        self.count(x)
        return y


class BatchNorm1d(BatchNorm):
    """Batch normalization of (N, C) or (N, C, L); arguments as in :class:`BatchNorm`."""

    shapes = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(BatchNorm):
    """Batch normalization of images, (N, C, H, W); arguments as in :class:`BatchNorm`."""

    shapes = {4: "(N, C, H, W)"}


class InstanceNorm(ChannelNorm):
    """Normalize each channel of each sample over its positions (Ulyanov, Vedaldi, Lempitsky 2016).

    Use InstanceNorm1d or InstanceNorm2d. y = (x - mean) / sqrt(var + eps) weight + bias. Without running statistics,
    the default, training and evaluation are the same, and no sample depends on another.

    Args:
        num_features: number of channels C, the length of x's dimension 1.
        eps: added to the variance; 0 is legal.
        momentum: weight of the new statistics; None averages all batches seen.
        affine: whether there are a weight and a bias.
        track_running_stats: whether evaluation uses running statistics: the means over the samples of each one's mean
            and unbiased variance.

    Attributes:
        weight, bias: (C,), starting at 1 and 0; or None.
        running_mean, running_var: (C,) buffers, starting at 0 and 1; or None.
        num_batches_tracked: the number of batches seen, an int64 buffer without dimensions; or None.

    Raises:
        ValueError: a number out of range. When called: an input of another shape, or one position only, which has no
            variance.

    >>> import tinygrad_norm as tn
    >>> tn.nn.InstanceNorm1d(1, eps=0.0)(tn.tensor([[[1.0, 3.0]], [[8.0, 4.0]]])).tolist()
    [[[-1.0, 1.0]], [[1.0, -1.0]]]
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False,
        track_running_stats: bool = False, *, dtype: Any = None, device: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        """Any of the shapes of this layer to the same."""
        self.check(x)
        running = self.running_mean, self.running_var
        if not self.training and self.running_mean is not None:
            return F.instance_norm(x, *running, self.weight, self.bias, use_input_stats=False, eps=self.eps)
        if prod(x.shape[2:]) == 1:
            raise ValueError(
                f"{type(self).__name__}: each channel of a sample needs more than one position to have a variance; got "
                f"{describe(x)}; use BatchNorm or LayerNorm there"
            )
        momentum = self.weight_of_new()
        y = F.instance_norm(x, *running, self.weight, self.bias, momentum=momentum, eps=self.eps)
        self.count(x)
        return y


class InstanceNorm1d(InstanceNorm):
    """Instance normalization of signals, (N, C, L); arguments as in :class:`InstanceNorm`."""

    shapes = {3: "(N, C, L)"}


class InstanceNorm2d(InstanceNorm):
    """Instance normalization of images, (N, C, H, W); arguments as in :class:`InstanceNorm`."""

    shapes = {4: "(N, C, H, W)"}


class MeanOnlyBatchNorm1d(ChannelNorm):
    """Batch normalization without the division, the companion of weight norm (Salimans, Kingma 2016).

    y = x - mean + bias. In training the mean is that of the batch, and the running mean moves towards it; in evaluation
    it is the running mean.

    Args:
        num_features: number of channels C, the length of x's dimension 1, in (N, C) or (N, C, L).
        momentum: weight of the new mean.
        bias: whether there is a bias.

    Attributes:
        bias: (C,), starting at 0; or None.
        running_mean: (C,) buffer, starting at 0.

    Raises:
        ValueError: a number out of range. When called: an input of another shape, or, in training, one value per
            channel, which is its own mean.

    >>> import tinygrad_norm as tn
    >>> layer = tn.nn.MeanOnlyBatchNorm1d(1)
    >>> layer(tn.tensor([[1.0], [5.0]])).tolist()
    [[-2.0], [2.0]]
    >>> list(layer.state_dict())
    ['bias', 'running_mean']
    """

    shapes = {2: "(N, C)", 3: "(N, C, L)"}

    def __init__(
        self, num_features: int, momentum: float = 0.1, bias: bool = True, *, dtype: Any = None,
        device: str | None = None,
    ) -> None:  # fmt: skip
        self.num_features = whole_number("MeanOnlyBatchNorm1d", "num_features", num_features)
        self.momentum = number_in("MeanOnlyBatchNorm1d", "momentum", momentum, 0, 1)
        self.bias = Parameter(zeros(num_features, dtype=dtype, device=device), decay=False) if bias else None
        self.running_mean = Buffer(zeros(num_features, dtype=dtype, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Any of the shapes of this layer to the same."""
        self.check(x)
        if self.training and x.size == self.num_features:
            raise ValueError(
                f"MeanOnlyBatchNorm1d: in training each channel needs more than one value, or all that is left is the "
                f"bias; got {describe(x)}; {REMEDY}"
            )
        return F.mean_only_batch_norm(x, self.running_mean, self.bias, self.training, self.weight_of_new())

    def extra_repr(self) -> str:
        """Size and options."""
        return f"{self.num_features}, momentum={self.momentum}, bias={self.bias is not None}"
