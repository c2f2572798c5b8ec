"""Normalization by statistics: batch, layer, group and RMS norm are one operation over different axes."""

from __future__ import annotations

from math import inf
from typing import Any

from ..backend import normal_axes
from ..engine.op import NOTHING, Op, apply, mark_edited
from ..engine.tensor import Tensor, describe, namespace
from .arguments import number_in
from .assign import checked_edit
from .convert import in_dtype_of, wide
from .elementwise import sqrt, where
from .reduce import mean
from .shape import reshape


class Norm(Op):
    """y = (x - mean) / sqrt(var + eps) weight + bias over ``axes``; a weight or bias that is a number is absent."""

    @staticmethod
    def composite(x, weight, bias, axes, eps, centre):
        d = wide(x)
        d = centred(d, axes) if centre else d
        return in_dtype_of(x, d * inverse_root(mean(d * d, axes, keepdims=True) + eps) * weight + bias)

    @staticmethod
    def forward(xp, x, weight, bias, axes, eps, centre):
        weight, bias = (None if isinstance(v, float) else v for v in (weight, bias))
        return xp.norm_forward(x, weight, bias, axes, eps, centre)

    @staticmethod
    def backward(xp, g, y, stats, needs, x, weight, bias, axes, eps, centre):
        return xp.norm_backward(g, x, stats, None if isinstance(weight, float) else weight, axes, needs)


class Centre(Op):
    """y = x - mean over ``axes``: exactly 0 for a constant slice, whatever the constant."""

    reads = NOTHING

    @staticmethod
    def composite(x, axes):
        return in_dtype_of(x, centred(wide(x), axes))

    @staticmethod
    def forward(xp, x, axes):
        with xp.errstate(all="ignore"):
            d, shift, mu = xp.centred(xp.wide(x), axes)
            return xp.astype(d, x.dtype), (shift, mu)

    @staticmethod
    def backward(xp, g, y, saved, needs, x, axes):
        g = xp.wide(g)
        return (g - xp.mean(g, axes, True),)


def centred(d: Tensor, axes: tuple[int, ...]) -> Tensor:
    """d - mean over ``axes``; the first element goes first: a constant slice becomes exact zeros."""
    d = d - d[tuple(slice(0, 1) if a in axes else slice(None) for a in range(d.ndim))]
    return d - mean(d, axes, keepdims=True)


def inverse_root(v: Tensor) -> Tensor:
    """1 / sqrt(v), and 0 where v = 0: a constant slice gives the bias, with gradient 0."""
    return where(v == 0, 0.0, 1.0 / sqrt(where(v == 0, 1.0, v)))


def check_input(function: str, x: Any, eps: float) -> None:
    """A floating Tensor and an eps that is not negative."""
    if not isinstance(x, Tensor) or x.dtype.kind not in "fc":
        raise TypeError(f"{function}: x must be a floating Tensor; got {describe(x)}")
    number_in(function, "eps", eps, 0, inf)


def check_affine(function: str, shapes: tuple[tuple[int, ...], ...], x: Tensor, **parameters: Any) -> None:
    """Weight, bias and running statistics: floating, of one of the allowed shapes."""
    for name, p in parameters.items():
        if p is not None and (getattr(p, "shape", None) not in shapes or p.dtype.kind not in "fc"):
            allowed = " or ".join(map(str, dict.fromkeys(shapes)))
            rule = f"{function}: {name} must be floating and have shape {allowed} for {describe(x)}"
            raise ValueError(f"{rule}; got {describe(p)}")


def affine(v: Any, absent: float, shape: tuple[int, ...]) -> Any:
    """A parameter in the shape in which it broadcasts; the neutral number when there is none."""
    return absent if v is None else v if v.shape == shape else reshape(v, shape)


def batch_norm(
    x: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5, unbiased: bool = True,
) -> Tensor:  # fmt: skip
    """y = (x - mean_c) / sqrt(var_c + eps) weight_c + bias_c for each channel c (Ioffe, Szegedy 2015).

    In training, mean and (biased) variance are those of the batch, over all axes but 1, and the running buffers, if
    given, move towards them in place: running = (1 - momentum) running + momentum batch. Otherwise they *are* the
    running buffers, and the map is affine.

    Args:
        x: (N, C) or (N, C, ...), floating.
        running_mean: (C,), needed unless training.
        running_var: (C,), needed unless training.
        weight: gain, (C,), or None for 1.
        bias: (C,), or None for 0.
        training: use the statistics of this batch.
        momentum: weight of the new statistics (many libraries call 1 - momentum so).
        eps: added to the variance; 0 is legal: a constant channel then gives exactly the bias.
        unbiased: whether running_var takes the variance with n - 1 in the denominator.

    Returns:
        Shape and dtype of x; statistics of float16 in float32. One value per channel gives the bias.

    Raises:
        ValueError: shapes that do not fit, a negative eps, or no running buffers outside training.

    >>> import tinygrad_norm as tn
    >>> tn.functional.batch_norm(tn.tensor([[1.0], [3.0]]), training=True, eps=0.0).tolist()
    [[-1.0], [1.0]]
    """
    check_input("batch_norm", x, eps)
    if x.ndim < 2:
        raise ValueError(f"batch_norm: x must be (N, C) or (N, C, ...); got {describe(x)}")
    momentum = number_in("batch_norm", "momentum", momentum, 0, 1)
    channels = (x.shape[1],)
    check_affine(
        "batch_norm", (channels,), x, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var
    )
    shape = (x.shape[1],) + (1,) * (x.ndim - 2)
    w, b = affine(weight, 1.0, shape), affine(bias, 0.0, shape)
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError(
                "batch_norm: outside training it needs running_mean and running_var; or write training=True"
            )
        y = (x - reshape(running_mean, shape)) * (w * inverse_root(reshape(running_var, shape) + eps)) + b
        return in_dtype_of(x, y)
    axes = (0, *range(2, x.ndim))
    y, (shift, mu, var, _) = apply(Norm, x, w, b, params=(axes, float(eps), True), aux=True)
    if x.size:
        n = x.size // x.shape[1]
        correction = n / max(n - 1, 1) if unbiased else 1.0
        if running_mean is not None:
            move_towards(running_mean, (shift + mu).reshape(channels), momentum)
        if running_var is not None:
            move_towards(running_var, var.reshape(channels), momentum, correction)
    return y


def move_towards(buffer: Tensor, value: Any, momentum: float, factor: float = 1.0) -> None:
    """buffer = (1 - momentum) buffer + momentum factor value, in place; ``value`` is an array."""
    data = checked_edit(buffer)._data
    if type(value) is not type(data):
        raise TypeError(
            f"batch statistics are {value.dtype} on {namespace(value).device!r}, running statistics {data.dtype} on "
            f"{buffer.device!r}; move the model or its input with .to(device)"
        )
    data *= 1.0 - momentum
    data += value * float(momentum * factor)
    mark_edited(buffer)


def layer_norm(
    x: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """y = (x - mean) / sqrt(var + eps) weight + bias over the last dimensions of each sample (Ba, Kiros, Hinton 2016).

    Args:
        x: (..., *normalized_shape), floating.
        normalized_shape: an int or a tuple: the last dimensions of x, over which mean and biased variance are taken.
        weight: gain: one per feature, of shape ``normalized_shape``, or of size 1, shared by the whole layer.
        bias: likewise.
        eps: added to the variance; 0 is legal.

    Returns:
        Shape and dtype of x. A row's result does not depend on the other rows.

    Raises:
        ValueError: shapes that do not fit, or a negative eps.

    >>> import tinygrad_norm as tn
    >>> tn.functional.layer_norm(tn.tensor([[1.0, 3.0]]), 2, eps=0.0).tolist()
    [[-1.0, 1.0]]
    """
    check_input("layer_norm", x, eps)
    shape = trailing_shape("layer_norm", x, normalized_shape)
    check_affine("layer_norm", (shape, (1,), ()), x, weight=weight, bias=bias)
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    return apply(
        Norm, x, 1.0 if weight is None else weight, 0.0 if bias is None else bias, params=(axes, float(eps), True)
    )


def trailing_shape(function: str, x: Tensor, normalized_shape: Any) -> tuple[int, ...]:
    """``normalized_shape`` as a tuple, which must be the last dimensions of x."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or x.shape[max(x.ndim - len(shape), 0) :] != shape:
        raise ValueError(f"{function}: normalized_shape {shape} must be the last dimensions of x; got {describe(x)}")
    return shape


def rms_norm(x: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """y = x / sqrt(mean(x^2) + eps) weight over the last dimensions (Zhang, Sennrich 2019).

    Args:
        x: (..., *normalized_shape), floating.
        normalized_shape: the last dimensions of x.
        weight: gain of shape ``normalized_shape`` or of size 1.
        eps: added to the mean square; None is the machine epsilon of x's dtype.

    Raises:
        ValueError: shapes that do not fit, or a negative eps.
    """
    check_input("rms_norm", x, 0.0 if eps is None else eps)
    shape = trailing_shape("rms_norm", x, normalized_shape)
    check_affine("rms_norm", (shape, (1,), ()), x, weight=weight)
    eps = float(namespace(x._data).finfo(x.dtype).eps) if eps is None else float(eps)
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    return apply(Norm, x, 1.0 if weight is None else weight, 0.0, params=(axes, eps, False))


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalize each sample over groups of channels and all positions (Wu, He 2018).

    Args:
        x: (N, C) or (N, C, ...), floating.
        num_groups: must divide C; 1 is layer norm over (C, ...), C is instance norm.
        weight: gain, (C,), or None.
        bias: (C,), or None.
        eps: added to the variance; 0 is legal.

    Raises:
        ValueError: C is not divisible by ``num_groups``, shapes do not fit, or eps is negative.
    """
    check_input("group_norm", x, eps)
    if x.ndim < 2:
        raise ValueError(f"group_norm: x must be (N, C) or (N, C, ...); got {describe(x)}")
    c = x.shape[1]
    if num_groups < 1 or c % num_groups:
        raise ValueError(f"group_norm: num_groups must divide the {c} channels of {describe(x)}; got {num_groups}")
    check_affine("group_norm", ((c,),), x, weight=weight, bias=bias)
    inner = (num_groups, c // num_groups)
    grouped = reshape(x, (x.shape[0], *inner, *x.shape[2:]))
    shape = inner + (1,) * (x.ndim - 2)
    y = apply(
        Norm, grouped, affine(weight, 1.0, shape), affine(bias, 0.0, shape),
        params=(tuple(range(2, grouped.ndim)), float(eps), True),
    )  # fmt: skip
    return reshape(y, x.shape)


def standardize(x: Tensor, axis: Any, eps: float = 0.0) -> Tensor:
    """(x - mean) / sqrt(var + eps) over ``axis``: the frame h = f(g (x - mu) / sigma + b) without f, g and b.

    Raises:
        ValueError: a negative eps.
    """
    check_input("standardize", x, eps)
    return apply(Norm, x, 1.0, 0.0, params=(normal_axes(axis, x.ndim), float(eps), True))
