"""Layers whose weight is computed from other parameters in every call: weight norm, weight standardization, cosine."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

from .. import functional as F
from ..backend import BACKENDS, cpu
from ..engine import Tensor
from ..engine.tensor import describe, wrap
from ..ops.arguments import number_in, whole_number
from ..ops.create import empty, full, zeros
from . import init
from .module import Module, Parameter


class Reparametrized(Module):
    """A layer whose weight is computed in every call and stored nowhere; use WeightNorm or WeightStandardization.

    A subclass takes a parameter from the layer with ``take_over`` and writes ``weight_now``. Because nothing derived is
    kept, copying, pickling and ``state_dict`` need no special care.

    Args:
        layer: a module that uses a Parameter of its own.
        name: which one.

    Raises:
        ValueError: the layer has no such parameter.
    """

    name: str
    layer: Module

    def take_over(self, layer: Module, weight: Parameter) -> None:
        """Keep the parameter's values here as ``{name}_v``, and the layer without it."""
        setattr(self, f"{self.name}_v", Parameter(weight, weight.decay).requires_grad_(weight.requires_grad))
        delattr(layer, self.name)
        self.layer = layer

    @property
    def direction(self) -> Parameter:
        """The parameter ``{name}_v``, from which the weight is computed."""
        return getattr(self, f"{self.name}_v")

    def weight_now(self) -> Tensor:
        """The layer's weight, in the graph."""
        raise NotImplementedError(f"{type(self).__name__}: write weight_now(self)")

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the layer gives with that weight."""
        # The layer itself never holds it, or threads would see each other's: a stand-in with its attributes does.
        stand_in = object.__new__(type(self.layer))
        vars(stand_in).update(vars(self.layer), **{self.name: self.weight_now()})
        return stand_in(*inputs, **options)

    def remove(self) -> Module:
        """The layer with the weight as a parameter of its own again; this module is then of no further use."""
        learned = any(p.requires_grad for p in vars(self).values() if isinstance(p, Parameter))
        setattr(self.layer, self.name, Parameter(self.weight_now(), self.direction.decay).requires_grad_(learned))
        return self.layer


def parameter_of(wrapper: str, layer: Any, name: str) -> Parameter:
    """The layer's own parameter of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    own = vars(layer) if isinstance(layer, Module) else {}
    if not isinstance(own.get(name), Parameter):
        has = ", ".join(n for n, x in own.items() if isinstance(x, Parameter)) or "none"
        what = type(layer).__name__ if isinstance(layer, Module) else describe(layer)
        raise ValueError(f"{wrapper}: {what} has no parameter {name!r}; it has {has}")
    return own[name]


class WeightNorm(Reparametrized):
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
        weight = parameter_of("WeightNorm", layer, name)
        n = weight.ndim
        if dim is not None and not -n <= dim < n:
            raise ValueError(f"WeightNorm: dim must be in [{-n}, {n}) or None for {name} {weight.shape}; got {dim}")
        self.name = name
        self.dim = dim
        axes = tuple(a for a in range(n) if dim is None or a != dim % n)
        xp = BACKENDS[type(weight._data)]
        _, length = cpu.unit_forward(xp.to_host(weight._data), axes, 0.0)  # there one seed gives one start
        lengths = Parameter(wrap(xp.from_host(length)).astype(weight.dtype), decay=False)
        setattr(self, f"{name}_g", lengths.requires_grad_(weight.requires_grad))
        self.take_over(layer, weight)

    @property
    def length(self) -> Parameter:
        """The parameter ``{name}_g``."""
        return getattr(self, f"{self.name}_g")

    def weight_now(self) -> Tensor:
        """w = g v / ||v||, in the graph."""
        return F.weight_norm(self.direction, self.length, self.dim)

    def extra_repr(self) -> str:
        """The parameter and the dimension."""
        return f"name={self.name!r}, dim={self.dim}"


class WeightStandardization(Reparametrized):
    """A layer whose weight is w_o = (v_o - mean(v_o)) / sqrt(var(v_o) + eps) for each output o (Qiao et al. 2019).

    The layer is taken over: its weight gives way to ``weight_v`` here, which starts with its values. w is computed in
    every call and stored nowhere.

    Args:
        layer: a module that uses a Parameter of its own, of shape (out, in, ...).
        name: which one.
        eps: added to the variance; 0 is legal.

    Attributes:
        weight_v: of the weight's shape (named after the parameter).

    Raises:
        ValueError: the layer has no such parameter, the parameter has fewer than two dimensions, or eps is negative.

    >>> import tinygrad_norm as tn
    >>> layer = tn.nn.WeightStandardization(tn.nn.Linear(3, 2))
    >>> list(layer.state_dict())
    ['weight_v', 'layer.bias']
    >>> bool((abs(layer.weight_now().mean(1)) < 1e-6).all())
    True
    """

    def __init__(self, layer: Module, name: str = "weight", eps: float = 1e-5) -> None:
        weight = parameter_of("WeightStandardization", layer, name)
        if weight.ndim < 2:
            raise ValueError(f"WeightStandardization: {name} must be (out, in, ...); got {describe(weight)}")
        self.name = name
        self.eps = number_in("WeightStandardization", "eps", eps, 0, inf)
        self.take_over(layer, weight)

    def weight_now(self) -> Tensor:
        """w_o = (v_o - mean(v_o)) / sqrt(var(v_o) + eps), in the graph."""
        return F.weight_standardization(self.direction, self.eps)

    def extra_repr(self) -> str:
        """The parameter and eps."""
        return f"name={self.name!r}, eps={self.eps}"


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
