"""Matrix products."""

from __future__ import annotations

from math import prod
from typing import Any

from ..backend import FLOATS
from ..engine.op import Op, apply
from ..engine.tensor import Tensor, describe
from .shape import transpose


class Matmul(Op):
    """y = a @ b with NumPy's rules for vectors and stacks of matrices."""

    promotes = True

    @staticmethod
    def forward(xp, a, b):
        return xp.matmul(a, b)

    @staticmethod
    def _by_a(xp, g, y, a, b):
        if b.ndim == 1:
            return xp.expand_dims(g, -1) * b
        if a.ndim == 1:
            return xp.squeeze(xp.matmul(b, xp.expand_dims(g, -1)), -1)
        return xp.matmul(g, xp.swapaxes(b, -1, -2))

    @staticmethod
    def _by_b(xp, g, y, a, b):
        if a.ndim == 1:
            return a * g if b.ndim == 1 else xp.expand_dims(a, -1) * xp.expand_dims(g, -2)
        if b.ndim == 1:
            return xp.squeeze(xp.matmul(xp.swapaxes(a, -1, -2), xp.expand_dims(g, -1)), -1)
        if b.ndim == 2 and a.ndim > 2:  # one product over all rows, instead of a stack of products and its sum
            a, g = (xp.reshape(v, (prod(v.shape[:-1]), v.shape[-1])) for v in (a, g))
        return xp.matmul(xp.swapaxes(a, -1, -2), g)

    backward = (_by_a, _by_b)


class Linear(Op):
    """y = x w^T + b, with w of shape (out, in)."""

    @staticmethod
    def composite(x, weight, bias=None):
        y = matmul(x, transpose(weight))
        return y if bias is None else y + bias

    @staticmethod
    def forward(xp, x, weight, bias=None):
        y = xp.matmul(x, weight.T)
        if bias is not None:
            xp.add_bias(y, bias)
        return y, None

    @staticmethod
    def backward(xp, g, y, saved, needs, x, weight, bias=None):
        n = prod(x.shape[:-1])
        rows = g.reshape(n, weight.shape[0])
        return (
            xp.matmul(g, weight) if needs[0] else None,
            xp.matmul(rows.T, x.reshape(n, weight.shape[1])) if needs[1] else None,
            xp.sum(rows, axis=0) if len(needs) > 2 and needs[2] else None,
        )[: len(needs)]


def matmul(a: Any, b: Any) -> Tensor:
    """Matrix product, with NumPy's rules for vectors and stacks.

    Raises:
        ValueError: the inner lengths differ; the message names both shapes.
        TypeError: the two have different floating dtypes.
    """
    a, b = check_product("matmul", a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(
            f"matmul: operands need at least one dimension; got {describe(a)} and {describe(b)}; write a * b"
        )
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ValueError(
            f"matmul: the last length of a must equal the {'second last' if b.ndim > 1 else 'only'} length of b; "
            f"got {a.shape} @ {b.shape}: {a.shape[-1]} is not {inner}"
        )
    return apply(Matmul, a, b)


def check_product(function: str, *operands: Any) -> tuple[Any, ...]:
    """Operands of a product: arrays or tensors, of one floating dtype."""
    for x in operands:
        if not isinstance(x, Tensor) and not (hasattr(x, "dtype") and hasattr(x, "ndim")):
            raise TypeError(f"{function}: operands must be Tensors or arrays; got {describe(x)}")
    if len({x.dtype for x in operands} & FLOATS) > 1:
        raise TypeError(
            f"{function}: operands must have one floating dtype; got {' and '.join(describe(x) for x in operands)}; "
            f"convert one with .astype({str(operands[1].dtype)!r})"
        )
    return operands


def check_layer(function: str, x: Any, weight: Any, bias: Any) -> tuple[Any, ...]:
    """Operands of a layer, without a bias that is None: all floating, of one dtype."""
    operands = check_product(function, x, weight, *([] if bias is None else [bias]))
    for name, v in zip(("x", "weight", "bias"), operands, strict=False):
        if v.dtype.kind not in "fc":
            raise TypeError(f"{function}: {name} must be floating; got {describe(v)}; write .astype('{weight.dtype}')")
    return operands


def linear(x: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x w^T + b.

    Args:
        x: (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features,) or None.

    Returns:
        (..., out_features), of the same floating dtype.

    Raises:
        ValueError: the shapes do not fit.
        TypeError: the floating dtypes differ, or x is not floating.

    >>> import tinygrad_norm as tn
    >>> F = tn.functional
    >>> F.linear(tn.tensor([[1.0, 2.0]]), tn.tensor([[1.0, 1.0]]), tn.tensor([0.5]))
    tensor([[3.5]])
    """
    operands = check_layer("linear", x, weight, bias)
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: x of shape (..., in_features) needs weight of shape (out_features, in_features); "
            f"got x {x.shape} and weight {weight.shape}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: bias must have shape {weight.shape[:1]} for weight {weight.shape}; got {bias.shape}")
    return apply(Linear, *operands)
