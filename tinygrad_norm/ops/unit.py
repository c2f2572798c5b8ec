"""Normalization by length: weight norm, cosine, normalize are made of one operation, the unit vector."""

from __future__ import annotations

from typing import Any

from ..backend import FLOATS, normal_axes
from ..engine.op import INPUTS, OUTPUT, Op, apply
from ..engine.tensor import Tensor, describe
from .convert import in_dtype_of, wide
from .create import tensor
from .elementwise import clip, maximum, sqrt, where
from .explain import named
from .matmul import matmul
from .norm import Centre, check_input
from .reduce import sum
from .shape import reshape, swapaxes


class Unit(Op):
    """u = v / max(||v||, eps) over ``axes``; at v = 0 both u and the gradient are 0."""

    reads = INPUTS | OUTPUT

    @staticmethod
    def composite(v, axes, eps):
        x = wide(v)
        squares = sum(x * x, axes, keepdims=True)
        norm = maximum(sqrt(where(squares == 0, 1.0, squares)), eps)
        u = x * where(squares == 0, 0.0, 1.0 / norm)
        return in_dtype_of(v, u)

    @staticmethod
    def forward(xp, v, axes, eps):
        return xp.unit_forward(v, axes, eps)

    @staticmethod
    def backward(xp, g, u, norm, needs, v, axes, eps):
        return (xp.unit_backward(g, u, norm, axes, eps),)


class WeightNorm(Op):
    """w = g v / max(||v||, eps), the norm over ``axes``."""

    @staticmethod
    def composite(v, g, axes, eps):
        return g * apply(Unit, v, params=(axes, eps))

    @staticmethod
    def forward(xp, v, g, axes, eps):
        return xp.weight_norm_forward(v, g, axes, eps)

    @staticmethod
    def backward(xp, gw, w, norm, needs, v, g, axes, eps):
        return xp.weight_norm_backward(gw, v, g, norm, axes, eps, needs)


class CosineLinear(Op):
    """y = u(x) u(w)^T, u(v) = v / max(||v||, eps) over the last axis, kept inside [-1, 1]."""

    @staticmethod
    def composite(x, weight, eps):
        u, w = (apply(Unit, v, params=((v.ndim - 1,), eps)) for v in (x, weight))
        return rounded_inside(matmul(u, swapaxes(w, 0, 1)))

    @staticmethod
    def forward(xp, x, weight, eps):
        u, x_norm = xp.unit_forward(x, (x.ndim - 1,), eps)
        w, w_norm = xp.unit_forward(weight, (1,), eps)
        return xp.clip(xp.matmul(u, w.T), -1.0, 1.0), (u, x_norm, w, w_norm)

    @staticmethod
    def backward(xp, g, y, saved, needs, x, weight, eps):
        u, x_norm, w, w_norm = saved
        gx = xp.unit_backward(xp.matmul(g, w), u, x_norm, (x.ndim - 1,), eps) if needs[0] else None
        if not needs[1]:
            return gx, None
        by_w = xp.matmul(g.reshape(-1, len(w)).T, u.reshape(-1, u.shape[-1]))
        return gx, xp.unit_backward(by_w, w, w_norm, (1,), eps)


def rounded_inside(y: Tensor) -> Tensor:
    """Cosines kept inside [-1, 1]. Only rounding leads out, so derivatives pass: those of second order are not 0."""
    return y + (clip(y, -1.0, 1.0) - y).detach()


def weight_norm(v: Tensor, g: Tensor, dim: int | None = 0, eps: float = 0.0) -> Tensor:
    """w = g v / ||v|| (Salimans, Kingma 2016).

    Args:
        v: direction, any shape, floating.
        g: length of each slice, (out, 1, ...) for ``dim=0``; or one length for all, a number or of size 1.
        dim: the dimension whose slices keep a length of their own; None: one length for the whole tensor.
        eps: the norm is taken as at least eps; a zero slice gives 0 with gradient 0 at any eps.

    Raises:
        ValueError: g has another shape, or eps is negative.

    >>> import tinygrad_norm as tn
    >>> tn.functional.weight_norm(tn.tensor([[3.0, 4.0]]), tn.tensor([[10.0]])).tolist()
    [[6.0, 8.0]]
    """
    check_input("weight_norm", v, eps)
    if v.ndim == 0:
        raise ValueError(f"weight_norm: v must have at least one dimension; got {describe(v)}")
    kept = () if dim is None else normal_axes(dim, v.ndim)
    axes = tuple(a for a in range(v.ndim) if a not in kept)
    shape = tuple(n if a in kept else 1 for a, n in enumerate(v.shape))
    if not isinstance(g, Tensor):
        g = tensor(g, dtype=v.dtype if v.dtype in FLOATS else "float64", device=v.device)
    if g.size == 1:
        g = reshape(g, (1,) * v.ndim)
    elif g.shape != shape:
        raise ValueError(
            f"weight_norm: g must have shape {shape} (or size 1) for v {v.shape} and dim={dim}; got {g.shape}"
        )
    return apply(WeightNorm, v, g, params=(axes, float(eps)))


def normalize(x: Tensor, dim: Any = -1, eps: float = 1e-12) -> Tensor:
    """x / max(||x||, eps) over ``dim``; at x = 0 the result and the gradient are 0.

    >>> import tinygrad_norm as tn
    >>> tn.functional.normalize(tn.tensor([[3.0, 4.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    check_input("normalize", x, eps)
    return apply(Unit, x, params=(normal_axes(dim, x.ndim), float(eps)))


def cosine_linear(x: Tensor, weight: Tensor, eps: float = 0.0, centered: bool = False) -> Tensor:
    """y = x . w / (||x|| ||w||), the cosine between x and each row of the weight (Luo et al. 2018).

    Args:
        x: (..., in_features), floating.
        weight: (out_features, in_features).
        eps: each norm is taken as at least eps; a zero vector gives 0 with gradient 0.
        centered: subtract the means of x and of each row first: Pearson's correlation.

    Returns:
        (..., out_features) in [-1, 1].

    Raises:
        ValueError: shapes that do not fit, or a negative eps.

    >>> import tinygrad_norm as tn
    >>> tn.functional.cosine_linear(tn.tensor([[3.0, 4.0]]), tn.tensor([[6.0, 8.0], [-4.0, 3.0]])).tolist()
    [[1.0, 0.0]]
    """
    check_input("cosine_linear", x, eps)
    check_input("cosine_linear", weight, eps)
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"cosine_linear: x of shape (..., in_features) needs weight of shape (out_features, in_features); "
            f"got x {x.shape} and weight {weight.shape}"
        )
    if centered:
        x, weight = (apply(Centre, v, params=((v.ndim - 1,),)) for v in (x, weight))
    return apply(CosineLinear, x, weight, params=(float(eps),))


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(||x1||, eps) max(||x2||, eps)) along ``dim``, each norm limited on its own.

    Raises:
        ValueError: a negative eps, or shapes that do not broadcast.
    """
    check_input("cosine_similarity", x1, eps)
    check_input("cosine_similarity", x2, eps)
    with named("cosine_similarity"):
        return rounded_inside(sum(normalize(x1, dim, eps) * normalize(x2, dim, eps), dim))
