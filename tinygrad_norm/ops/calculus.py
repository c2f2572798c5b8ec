"""Derivatives of whole functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..engine.sweep import grad
from ..engine.tensor import Tensor, describe, namespace


def _prepared(
    function: str, fn: Callable[..., Any], inputs: Any, create_graph: bool
) -> tuple[list[Tensor], Tensor, bool]:
    single = isinstance(inputs, Tensor)
    xs = [
        x if create_graph and x.requires_grad else x.detach().clone().requires_grad_()
        for x in ([inputs] if single else inputs)
    ]
    y = fn(*xs)
    if not isinstance(y, Tensor):
        raise TypeError(f"{function}: the function must return one Tensor; got {describe(y)}")
    return xs, y, single


def vjp(fn: Callable[..., Tensor], inputs: Any, v: Any = None) -> tuple[Tensor, Any]:
    """Value of ``fn(*inputs)`` and the product of ``v`` with its Jacobian.

    Args:
        fn: takes Tensors, returns one Tensor.
        inputs: a Tensor or a sequence of them.
        v: upstream gradient of the result's shape; may be left out for one element.

    Returns:
        The value, detached, and one gradient per input (a tuple when ``inputs`` is a sequence).

    >>> import tinygrad_norm as tn
    >>> y, g = tn.vjp(lambda x: x * x, tn.tensor([1.0, 2.0]), tn.tensor([1.0, 10.0]))
    >>> g
    tensor([ 2., 40.])
    """
    xs, y, single = _prepared("vjp", fn, inputs, False)
    gradients = grad(y, xs, v, allow_unused=True)
    gradients = tuple(namespace(x).zeros_like(x) if g is None else g for g, x in zip(gradients, xs))
    return y.detach(), gradients[0] if single else gradients


def jacobian(fn: Callable[..., Tensor], inputs: Any, create_graph: bool = False) -> Any:
    """All first derivatives of ``fn``: J[i..., j...] = d y[i...] / d x[j...].

    Args:
        fn: takes Tensors, returns one Tensor.
        inputs: a Tensor or a sequence of them.
        create_graph: keep a graph to differentiate the Jacobian again; inputs that need a gradient stay connected.

    Returns:
        A Tensor of shape ``y.shape + x.shape``, or a tuple of them when ``inputs`` is a sequence.

    >>> import tinygrad_norm as tn
    >>> tn.jacobian(lambda x: x * x, tn.tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """
    xs, y, single = _prepared("jacobian", fn, inputs, create_graph)
    xp = namespace(y)
    rows = []
    for i in range(y.size):
        seed = xp.reshape(xp.index_add((y.size,), i, xp.zeros_like(y).sum() + 1), y.shape)
        found = (
            grad(y, xs, seed, retain_graph=True, create_graph=create_graph, allow_unused=True)
            if y.requires_grad
            else [None] * len(xs)
        )
        rows.append([xp.zeros_like(x) if g is None else g for g, x in zip(found, xs)])
    result = tuple(
        xp.reshape(xp.stack([row[k] for row in rows]), (*y.shape, *x.shape))
        if rows
        else xp.zeros_like(x)[:0].reshape(*y.shape, *x.shape)
        for k, x in enumerate(xs)
    )
    return result[0] if single else result


def hessian(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """All second derivatives of a scalar function of one Tensor, of shape ``x.shape + x.shape``.

    Raises:
        ValueError: the function's value has more than one element.

    >>> import tinygrad_norm as tn
    >>> tn.hessian(lambda x: (x ** 3).sum(), tn.tensor([1.0, 2.0])).tolist()
    [[6.0, 0.0], [0.0, 12.0]]
    """

    def gradient(v: Tensor) -> Tensor:
        y = fn(v)
        if y.size != 1:
            raise ValueError(f"hessian: the function must return one number; got {describe(y)}; use jacobian")
        return grad(y.sum(), v, create_graph=True)

    return jacobian(gradient, x)
