"""Relatives of batch norm: instance norm, mean-only batch norm, weight standardization."""

from __future__ import annotations

from math import prod

from ..engine.op import apply
from ..engine.tensor import Tensor, describe, namespace
from .arguments import number_in
from .convert import in_dtype_of
from .norm import Centre, Norm, affine, batch_norm, check_affine, check_input, move_towards
from .shape import reshape


def instance_norm(
    x: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None, weight: Tensor | None = None,
    bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Normalize every channel of every sample over its positions (Ulyanov, Vedaldi, Lempitsky 2016).

    Args:
        x: (N, C, ...) with at least one position axis, floating.
        running_mean: (C,), moved in place towards the mean over the samples of their means; or None.
        running_var: (C,), likewise towards the mean of their unbiased variances; or None.
        weight: gain, (C,), or None.
        bias: (C,), or None.
        use_input_stats: False uses the running buffers, as batch norm does outside training.
        momentum: weight of the new statistics.
        eps: added to the variance; 0 is legal.

    Raises:
        ValueError: shapes that do not fit, or a negative eps.

    >>> import tinygrad_norm as tn
    >>> tn.functional.instance_norm(tn.tensor([[[1.0, 3.0]], [[5.0, 5.0]]]), eps=0.0).tolist()
    [[[-1.0, 1.0]], [[0.0, 0.0]]]
    """
    check_input("instance_norm", x, eps)
    if x.ndim < 3:
        raise ValueError(f"instance_norm: x must be (N, C, ...) with positions to average over; got {describe(x)}")
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    momentum = number_in("instance_norm", "momentum", momentum, 0, 1)
    c = x.shape[1]
    check_affine(
        "instance_norm", ((c,),), x, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var
    )
    shape, axes = (c,) + (1,) * (x.ndim - 2), tuple(range(2, x.ndim))
    params = (axes, float(eps), True)
    y, (shift, mu, var, _) = apply(
        Norm, x, affine(weight, 1.0, shape), affine(bias, 0.0, shape), params=params, aux=True
    )
    n = prod(x.shape[2:])
    if n and len(x):
        for buffer, value in ((running_mean, lambda: shift + mu), (running_var, lambda: var * (n / max(n - 1, 1)))):
            if buffer is not None:
                move_towards(buffer, namespace(x._data).mean(value().reshape(-1, c), 0), momentum)
    return y


def mean_only_batch_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
) -> Tensor:
    """y = x - mean_c + bias_c: batch norm without the division, the companion of weight norm (Salimans, Kingma 2016).

    Args:
        x: (N, C) or (N, C, ...), floating.
        running_mean: (C,), needed unless training; in training moved in place towards the mean of the batch.
        bias: (C,), or None.
        training: subtract the mean of this batch.
        momentum: weight of the new mean.

    Raises:
        ValueError: shapes that do not fit, or no running mean outside training.

    >>> import tinygrad_norm as tn
    >>> tn.functional.mean_only_batch_norm(tn.tensor([[1.0], [4.0]]), training=True).tolist()
    [[-1.5], [1.5]]
    """
    check_input("mean_only_batch_norm", x, 0.0)
    if x.ndim < 2:
        raise ValueError(f"mean_only_batch_norm: x must be (N, C) or (N, C, ...); got {describe(x)}")
    momentum = number_in("mean_only_batch_norm", "momentum", momentum, 0, 1)
    c = x.shape[1]
    check_affine("mean_only_batch_norm", ((c,),), x, bias=bias, running_mean=running_mean)
    shape = (c,) + (1,) * (x.ndim - 2)
    if training:
        y, (shift, mu) = apply(Centre, x, params=((0, *range(2, x.ndim)),), aux=True)
        if running_mean is not None and x.size:
            move_towards(running_mean, (shift + mu).reshape(c), momentum)
    elif running_mean is None:
        raise ValueError("mean_only_batch_norm: outside training it needs running_mean; or write training=True")
    else:
        y = x - reshape(running_mean, shape)
    return in_dtype_of(x, y if bias is None else y + reshape(bias, shape))


def weight_standardization(weight: Tensor, eps: float = 1e-5) -> Tensor:
    """w_o = (v_o - mean(v_o)) / sqrt(var(v_o) + eps) for each output o (Qiao et al. 2019).

    Args:
        weight: (out, in, ...), floating: mean and biased variance are taken over all axes but the first.
        eps: added to the variance; 0 is legal.

    Raises:
        ValueError: fewer than two dimensions, or a negative eps.

    >>> import tinygrad_norm as tn
    >>> tn.functional.weight_standardization(tn.tensor([[1.0, 3.0], [5.0, 5.0]]), eps=0.0).tolist()
    [[-1.0, 1.0], [0.0, 0.0]]
    """
    check_input("weight_standardization", weight, eps)
    if weight.ndim < 2:
        raise ValueError(f"weight_standardization: weight must be (out, in, ...); got {describe(weight)}")
    return apply(Norm, weight, 1.0, 0.0, params=(tuple(range(1, weight.ndim)), float(eps), True))
