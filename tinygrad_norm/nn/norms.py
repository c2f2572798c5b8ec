"""Normalization layers. Their parameters and all biases are exempt from weight decay (``Parameter.decay``)."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

from .. import functional as F
from ..backend import BACKENDS
from ..engine import Tensor
from ..engine.tensor import describe, wrap
from ..ops.create import empty, full, ones, zeros
from . import init
from .checks import number_in, sizes_of, whole_number
from .module import Buffer, Module, Parameter


class BatchNorm(Module):
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

    shapes: dict[int, str] = {}  # number of dimensions: name of the shape
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Buffer | None
    running_var: Buffer | None
    num_batches_tracked: Buffer | None

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, unbiased: bool = True, *, dtype: Any = None, device: str | None = None,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        self.num_features = whole_number(name, "num_features", num_features)
        self.eps = number_in(name, "eps", eps, 0, inf)
        self.momentum = None if momentum is None else number_in(name, "momentum", momentum, 0, 1)
        self.track_running_stats = track_running_stats
        self.unbiased = unbiased
        make: dict[str, Any] = {"dtype": dtype, "device": device}
        self.weight = Parameter(ones(num_features, **make), decay=False) if affine else None
        self.bias = Parameter(zeros(num_features, **make), decay=False) if affine else None
        self.running_mean = Buffer(zeros(num_features, **make)) if track_running_stats else None
        self.running_var = Buffer(ones(num_features, **make)) if track_running_stats else None
        self.num_batches_tracked = Buffer(zeros(dtype="int64", device=device)) if track_running_stats else None

    def forward(self, x: Tensor) -> Tensor:
        """Any of the shapes of this layer to the same."""
        name = type(self).__name__
        if not isinstance(x, Tensor) or x.ndim not in self.shapes or x.shape[1] != self.num_features:
            shapes = " or ".join(self.shapes.values())
            raise ValueError(f"{name}: x must be a Tensor {shapes} with C = {self.num_features}; got {describe(x)}")
        tracked: Tensor | None = self.num_batches_tracked
        if not self.training and tracked is not None:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        if self.training and x.size == self.num_features:
            raise ValueError(
                f"{name}: in training each channel needs more than one value to have a variance; got {describe(x)}; "
                "leave the last small batch out with DataLoader(..., drop_last=True), or call model.eval() to predict"
            )
        if not self.training or tracked is None:
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        momentum = 1.0 / (tracked.item() + 1) if self.momentum is None else self.momentum
        running = self.running_mean, self.running_var
        y = F.batch_norm(x, *running, self.weight, self.bias, True, momentum, self.eps, unbiased=self.unbiased)
        if x.size:
            tracked += 1
        return y

    def extra_repr(self) -> str:
        """Size and options."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(BatchNorm):
    """Batch normalization of (N, C) or (N, C, L); arguments as in :class:`BatchNorm`."""

    shapes = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(BatchNorm):
    """Batch normalization of images, (N, C, H, W); arguments as in :class:`BatchNorm`."""

    shapes = {4: "(N, C, H, W)"}


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
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes and options."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.weight is not None}"


class WeightNorm(Module):
    """A layer whose weight is w = g v / ||v||, with length g and direction v learned apart (Salimans, Kingma 2016).

    The layer is taken over: its weight gives way to ``weight_g`` and ``weight_v`` here, which start so that w is what
    it was. w is computed in every call and stored nowhere.

    Args:
        layer: a module that uses a Parameter of its own.
        name: which one.
        dim: the dimension along which each slice has a length of its own, 0 for the outputs of Linear; None: one length
            for the whole tensor.

    Attributes:
        weight_g: ||v||, of shape (out, 1, ...), exempt from weight decay (named after the parameter).
        weight_v: of the weight's shape.

    Raises:
        ValueError: the layer has no such parameter, or the parameter no such dimension.

    >>> import tinygrad_norm as tn
    >>> layer = tn.nn.WeightNorm(tn.nn.Linear(3, 2))
    >>> list(layer.state_dict())
    ['weight_g', 'weight_v', 'layer.bias']
    >>> layer.remove()
    Linear(in_features=3, out_features=2, bias=True)
    """

    def __init__(self, layer: Module, name: str = "weight", dim: int | None = 0) -> None:
        weight = vars(layer).get(name) if isinstance(layer, Module) else None
        if not isinstance(weight, Parameter):
            known = [n for n, x in vars(layer).items() if isinstance(x, Parameter)] if isinstance(layer, Module) else []
            has = ", ".join(known) or "none"
            raise ValueError(f"WeightNorm: {describe(layer)} has no parameter {name!r}; it has {has}")
        n = weight.ndim
        if dim is not None and not -n <= dim < n:
            raise ValueError(f"WeightNorm: dim must be in [{-n}, {n}) or None for {name} {weight.shape}; got {dim}")
        self.name = name
        self.dim = dim
        axes = tuple(a for a in range(n) if dim is None or a != dim % n)
        _, length = BACKENDS[type(weight._data)].unit_forward(weight._data, axes, 0.0)
        setattr(self, f"{name}_g", Parameter(wrap(length).astype(weight.dtype), decay=False))
        setattr(self, f"{name}_v", Parameter(weight, weight.decay))
        delattr(layer, name)
        self.layer = layer

    def weight_now(self) -> Tensor:
        """w = g v / ||v||, in the graph."""
        return F.weight_norm(getattr(self, f"{self.name}_v"), getattr(self, f"{self.name}_g"), self.dim)

    def forward(self, *inputs: Any) -> Any:
        """What the layer gives with w as its weight."""
        # The layer itself never holds w, or threads would see each other's: a stand-in with its attributes does.
        stand_in = object.__new__(type(self.layer))
        vars(stand_in).update(vars(self.layer), **{self.name: self.weight_now()})
        return stand_in(*inputs)

    def remove(self) -> Module:
        """The layer with w as a parameter of its own again; this module is then of no further use."""
        decay = getattr(self, f"{self.name}_v").decay
        setattr(self.layer, self.name, Parameter(self.weight_now(), decay))
        return self.layer

    def extra_repr(self) -> str:
        """The parameter and the dimension."""
        return f"name={self.name!r}, dim={self.dim}"


class CosineLinear(Module):
    """y = scale x . w / (||x|| ||w||) + b: the cosine between x and each row of the weight (Luo et al. 2018).

    Args:
        in_features: length of x's last dimension.
        out_features: length of y's last dimension.
        bias: whether there is a b, starting at 0.
        scale: a number, None for 1, or "learned": one parameter for the layer, starting at sqrt(in_features), which
            gives y the variance of w . x for standardized x and unit w.
        centered: subtract the means of x and of each row first: y is Pearson's correlation.

    Attributes:
        weight: (out_features, in_features); only the directions of its rows matter.
        bias: (out_features,) or None.
        scale: a Parameter without dimensions, a float or None.

    Raises:
        ValueError: a size that is not a positive integer, or a scale that is none of these.

    >>> import tinygrad_norm as tn
    >>> layer = tn.nn.CosineLinear(3, 2)
    >>> bool((abs(layer(tn.randn(5, 3))) <= 1).all())
    True
    >>> tn.nn.CosineLinear(16, 2, scale="learned").scale.item()
    4.0
    """

    bias: Parameter | None
    scale: Parameter | float | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = False, scale: float | str | None = None,
        centered: bool = False, *, dtype: Any = None, device: str | None = None,
    ) -> None:  # fmt: skip
        self.in_features = whole_number("CosineLinear", "in_features", in_features)
        self.out_features = whole_number("CosineLinear", "out_features", out_features)
        self.centered = centered
        make: dict[str, Any] = {"dtype": dtype, "device": device}
        self.weight = Parameter(empty(out_features, in_features, **make))
        init.kaiming_uniform_(self.weight, a=sqrt(5))
        self.bias = Parameter(zeros(out_features, **make), decay=False) if bias else None
        if isinstance(scale, str) and scale != "learned":
            raise ValueError(f"CosineLinear: scale must be a number, None or 'learned'; got {scale!r}")
        if scale == "learned":
            self.scale = Parameter(full((), sqrt(in_features), **make), decay=False)
        else:
            self.scale = None if scale is None else number_in("CosineLinear", "scale", scale, -inf, inf)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        y = F.cosine_linear(x, self.weight, centered=self.centered)
        if self.scale is not None:
            y = y * self.scale
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Sizes and options."""
        scale = "'learned'" if isinstance(self.scale, Parameter) else self.scale
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"scale={scale}, centered={self.centered}"
        )
