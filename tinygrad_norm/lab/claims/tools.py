"""What the measurements share: the four normalizations as functions of data and weight, and distances."""

from __future__ import annotations

from typing import Any

import numpy

from ... import functional as F
from ...engine import Tensor
from ...ops.calculus import grad
from ...ops.create import ones, tensor
from ..pictures import STYLE


def batch(x: Tensor, w: Tensor, eps: float = 0.0) -> Tensor:
    """Batch norm of W x, in training."""
    return F.batch_norm(F.linear(x, w), training=True, eps=eps)


def layer(x: Tensor, w: Tensor, eps: float = 0.0) -> Tensor:
    """Layer norm of W x."""
    return F.layer_norm(F.linear(x, w), len(w), eps=eps)


def weight(x: Tensor, v: Tensor, eps: float = 0.0) -> Tensor:
    """W x with weight norm, its gain 1."""
    return F.linear(x, F.weight_norm(v, ones(len(v), 1, dtype=v.dtype), eps=eps))


def cosine(x: Tensor, w: Tensor, eps: float = 0.0) -> Tensor:
    """The cosines between the rows of x and of W."""
    return F.cosine_linear(x, w, eps=eps)


NORMS = {"batch": batch, "layer": layer, "weight": weight, "cosine": cosine}
COLORS = {name: color for name, (color, _, _) in STYLE.items()}


def run(fn: Any, *arrays: Any, g: Any = None) -> tuple[numpy.ndarray, ...]:
    """The value of ``fn`` at the arrays, and its gradients by each of them for the cotangent ``g`` (random if None)."""
    leaves = [tensor(a, requires_grad=True) for a in arrays]
    y = fn(*leaves)
    g = numpy.random.default_rng(99).normal(size=y.shape) if g is None else g
    grads = grad(y, leaves, tensor(numpy.asarray(g, y.dtype)), allow_unused=True)
    return y.numpy(), *(numpy.zeros(a.shape) if d is None else d.numpy() for a, d in zip(arrays, grads))


def apart(a: Any, b: Any) -> float:
    """The largest difference, relative to the largest entry of b; infinite where something is not finite."""
    a, b = (numpy.asarray(v, dtype=float) for v in (a, b))
    if not (numpy.isfinite(a).all() and numpy.isfinite(b).all()):
        return float("inf")
    return float(numpy.abs(a - b).max() / max(numpy.abs(b).max(), 1e-300))


def bits_apart(a: Any, b: Any) -> int:
    """How many elements differ in any bit (0.0 and -0.0 count as equal)."""
    return int((numpy.asarray(a) != numpy.asarray(b)).sum())
