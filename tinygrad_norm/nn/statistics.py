"""Numbers taken from data or worked into weights: exact test-time statistics, batch norm folded away, good starts."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy

from ..engine import Tensor, no_grad
from ..engine.tensor import describe
from ..ops.create import tensor
from .batch_norm import BatchNorm, BatchNorm1d, BatchNorm2d, ChannelNorm
from .containers import Sequential
from .conv import Conv2d
from .layers import Identity, Linear
from .modes import in_mode
from .module import Module, Parameter
from .weights import Reparametrized, WeightNorm


def recompute_statistics(model: Module, loader: Iterable[Any]) -> Module:
    """Set all running statistics to their exact averages over one pass through the data.

    running_mean = E[mean_B] and running_var = E[m / (m - 1) var_B] over the batches B, weighted by their sizes m, the
    number of values per channel (Ioffe, Szegedy 2015, algorithm 2). Meanwhile the norms with running statistics are in
    training mode, so that each sees what it sees in training, and everything else (dropout) is in evaluation mode.

    Args:
        model: any module; its parameters are not touched.
        loader: batches of more than one row: inputs of the model, or sequences whose first item is one.

    Returns:
        The model, in the modes it had.

    Raises:
        ValueError: there is no norm with running statistics, or one saw no data. After any error the statistics and
            modes are what they were.

    >>> import tinygrad_norm as tn
    >>> norm = tn.nn.BatchNorm1d(1)
    >>> _ = tn.nn.recompute_statistics(norm, [tn.tensor([[0.0], [2.0]]), tn.tensor([[4.0], [6.0]])])
    >>> norm.running_mean.item(), norm.running_var.item()
    (3.0, 2.0)
    """
    norms = {path: m for path, m in model.named_modules() if isinstance(m, ChannelNorm) and m.running_mean is not None}
    if not norms:
        raise ValueError(f"recompute_statistics: {type(model).__name__} has no norm with running statistics")
    sums = {m: [0, 0.0, 0.0] for m in norms.values()}

    def collect(m: Any, inputs: tuple, y: Tensor) -> None:
        values = y.size // m.num_features
        statistics = m.running_mean, m.running_var  # with momentum 1, those of this batch
        sums[m] = [a + b for a, b in zip(sums[m], [values, *(host(s, 0.0) * values for s in statistics)])]

    momenta = [(m, m.momentum) for m in norms.values()]
    buffers = [(b, b.clone()) for m in norms.values() for b in m.buffers()]
    removers = [m.register_forward_hook(collect) for m in norms.values()]
    try:
        with in_mode(model, training=False), no_grad():
            for m in norms.values():
                m.training, m.momentum = True, 1.0
            for buffer, _ in buffers:
                buffer[...] = 0
            for batch in loader:
                model(batch[0] if isinstance(batch, (list, tuple)) else batch)
        for path, m in norms.items():
            values, *totals = sums[m]
            if not values:
                raise ValueError(
                    f"recompute_statistics: no data came to {path or 'the norm'} ({m}); is the loader empty?"
                )
            for running, total in zip((m.running_mean, m.running_var), totals):
                if running is not None:
                    running.copy_(like(running, total / values))
    except BaseException:
        for buffer, old in buffers:
            buffer.copy_(old)
        raise
    finally:
        for remove in removers:
            remove()
        for m, momentum in momenta:
            m.momentum = momentum
    return model


def fuse_batch_norm(model: Module) -> Module:
    """A copy of the model, for evaluation, with every batch norm folded into the Linear or Conv2d before it.

    In evaluation y = (W x + b - mean) s + bias with s = weight / sqrt(var + eps) is one linear map, of weight s W and
    bias (b - mean) s + bias. Weight norm and weight standardization before a batch norm are resolved first.

    Args:
        model: a module in which every batch norm is in a Sequential (an MLP is one): a BatchNorm1d right behind a
            Linear whose (N, C) output it gets, or a BatchNorm2d right behind a Conv2d. Sequentials may be nested.

    Returns:
        The copy, in evaluation mode; an Identity stands where a batch norm stood.

    Raises:
        ValueError: a batch norm is elsewhere, so that what it follows is not known, or has no running statistics.

    >>> import tinygrad_norm as tn
    >>> model = tn.nn.MLP([4, 8, 2], norm="batch").eval()
    >>> fused = tn.nn.fuse_batch_norm(model)
    >>> x = tn.rand(5, 4)
    >>> bool((abs(fused(x) - model(x)) < 1e-5).all())
    True
    """
    fused = copy.deepcopy(model)
    for parent in list(fused.modules()):
        if isinstance(parent, Sequential) and type(parent).forward is Sequential.forward:
            children = list(parent._children().items())
            for (name, linear), (place, norm) in pairwise(children):
                resolved = copy.deepcopy(linear).remove() if isinstance(linear, Reparametrized) else linear
                if isinstance(norm, BatchNorm) and fits(norm, resolved):
                    setattr(parent, name, folded(resolved, norm))
                    setattr(parent, place, Identity())
    for path, m in fused.named_modules():
        if isinstance(m, BatchNorm):
            raise ValueError(
                f"fuse_batch_norm: {path or 'the model'} ({m}) must have running statistics and stand right "
                "behind a Linear in one Sequential, a BatchNorm2d behind a Conv2d; elsewhere it is not known what it "
                "follows"
            )
    return fused.eval()


def fits(norm: BatchNorm, linear: Any) -> bool:
    """Whether a layer is of the batch norm's kind and size, and the norm has statistics of that layer's outputs."""
    kind: Any = {BatchNorm1d: Linear, BatchNorm2d: Conv2d}.get(type(norm))
    return type(linear) is kind and norm.running_mean is not None and norm.num_features == len(linear.weight)


def folded(linear: Any, norm: BatchNorm) -> Module:
    """One linear layer that computes what the two compute in evaluation; its numbers are rounded once."""
    spread = numpy.sqrt(host(norm.running_var, 1.0) + norm.eps)
    scale = host(norm.weight, 1.0) * numpy.divide(1.0, spread, where=spread != 0, out=numpy.zeros_like(spread))
    bias = (host(linear.bias, 0.0) - host(norm.running_mean, 0.0)) * scale + host(norm.bias, 0.0)
    out = copy.copy(linear)
    weight = host(linear.weight, 1.0)
    out.weight = Parameter(like(linear.weight, weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))))
    out.bias = Parameter(like(linear.weight, bias), decay=False)
    return out.requires_grad_(any(p.requires_grad for m in (linear, norm) for p in m.parameters()))


def host(x: Tensor | None, absent: float) -> Any:
    """Values in float64 on the host; a number for what is absent."""
    return absent if x is None else x.numpy().astype(numpy.float64)


def like(x: Tensor, values: Any) -> Tensor:
    """Values from the host with the dtype and device of ``x``."""
    return tensor(values, dtype=x.dtype, device=x.device)


def data_dependent_init(model: Module, batch: Any) -> Module:
    """Start every weight-normed layer with outputs of mean 0 and variance 1 on this batch (Salimans, Kingma 2016).

    One forward pass, in the mode the model is in. Each WeightNorm, when it is reached, sets g = g / std(t) and
    b = (b - mean(t)) / std(t) from its own outputs t, per feature, and passes the new ones on. A feature that does not
    vary keeps its g; a layer without bias gets the variance only, for a mean-only batch norm behind it.

    Args:
        model: any module with WeightNorm around Linear layers (with ``dim=0``).
        batch: an input of the model, of more than one row.

    Returns:
        The model.

    Raises:
        ValueError: there is no WeightNorm, or one around something else, or the batch has one row.

    >>> import tinygrad_norm as tn
    >>> layer = tn.nn.WeightNorm(tn.nn.Linear(3, 2))
    >>> x = tn.randn(64, 3)
    >>> y = tn.nn.data_dependent_init(layer, x)(x)
    >>> bool((abs(y.mean(0)) < 1e-5).all() and (abs(y.std(0) - 1) < 1e-5).all())
    True
    """
    norms = {path: m for path, m in model.named_modules() if isinstance(m, WeightNorm)}
    if not norms:
        raise ValueError(f"data_dependent_init: {type(model).__name__} has no WeightNorm")
    for path, m in norms.items():
        if not isinstance(m.layer, Linear) or m.name != "weight" or m.dim not in (0, -2):
            raise ValueError(
                f"data_dependent_init: {path or 'the model'} must be WeightNorm(Linear(...)); "
                f"got WeightNorm({type(m.layer).__name__}(...), {m.extra_repr()})"
            )

    def adjust(m: Any, inputs: tuple, y: Tensor) -> Tensor:
        t = host(y, 0.0).reshape(-1, y.shape[-1])
        if len(t) < 2:
            raise ValueError(f"data_dependent_init: a variance needs more than one row; got outputs {describe(y)}")
        deviation = t - t[0]  # of a feature that does not vary: exactly 0
        mean, std = t[0] + deviation.mean(0), deviation.std(0)
        scale = 1.0 / numpy.where(std == 0, 1.0, std)
        m.length.copy_(like(m.length, host(m.length, 0.0) * scale[:, None]))
        if m.layer.bias is not None:
            m.layer.bias.copy_(like(m.layer.bias, (host(m.layer.bias, 0.0) - mean) * scale))
        return m.forward(*inputs)

    removers = [m.register_forward_hook(adjust) for m in norms.values()]
    try:
        with no_grad():
            model(batch)
    finally:
        for remove in removers:
            remove()
    return model
