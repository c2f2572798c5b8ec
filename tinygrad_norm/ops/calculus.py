"""Derivatives: ``backward`` and ``grad`` on recorded results, Jacobians and Hessians of whole functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import BACKENDS
from ..engine.modes import enable_grad, no_grad
from ..engine.op import Node
from ..engine.sweep import checked_gradient, leading_to, sweep
from ..engine.tensor import Tensor, describe, namespace, wrap
from .elementwise import copy


def root_of(y: Any, function: str) -> Node:
    """The node of a result, or an error when there is nothing to differentiate."""
    if not isinstance(y, Tensor):
        raise TypeError(f"{function}: outputs must be Tensors; got {describe(y)}")
    if y._node is None:
        raise RuntimeError(
            f"{function}: {describe(y)} needs no gradient: nothing it was computed from has requires_grad=True "
            "(or it was computed under no_grad, or detached)"
        )
    return y._node


def seed_of(y: Tensor, gradient: Any, function: str, argument: str, graph: bool) -> Any:
    """The upstream gradient of a result: the caller's, checked, or 1 for a result of one element."""
    if gradient is None:
        if y.size != 1:
            raise ValueError(
                f"{function}: {describe(y)} has {y.size} elements, so its gradient needs {argument}= of shape "
                f"{y.shape}; or reduce it first, for example with .sum()"
            )
        gradient = wrap(BACKENDS[type(y._data)].ones_like(y._data))
    checked = checked_gradient(gradient, y, f"{function}: {argument}", graph)
    if type(checked if not graph else checked._data) is not type(y._data):
        raise TypeError(
            f"{function}: {describe(y)} is on {y.device!r}, {argument} {describe(gradient)} is not; write "
            f"tn.tensor({argument}, device={y.device!r})"
        )
    return checked


def backward(y: Tensor, gradient: Any = None, retain_graph: bool = False) -> None:
    """Add the gradient of ``y`` to ``.grad`` of every leaf it was computed from.

    Args:
        y: the result; of one element unless ``gradient`` is given.
        gradient: upstream gradient, of y's shape and dtype.
        retain_graph: keep the graph for another sweep.

    Raises:
        RuntimeError: y needs no gradient, the graph was released, or a value it needs was edited in place.
        ValueError: y has more than one element and no gradient was given, or the gradient does not fit.
    """
    root = root_of(y, "backward")
    seeds = [seed_of(y, gradient, "backward", "gradient", False)]
    found = sweep([root], seeds, None, set(), retain=retain_graph, graph=False)
    for node, g in found.items():
        if node.watch is not None:
            before = node.watch.grad
            if before is not None:
                g = namespace(g).asarray(before._data + g)  # a sum of arrays of no dimensions is a NumPy scalar
            node.watch.grad = wrap(g)


def grad(
    outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
    allow_unused: bool = False,
) -> Any:  # fmt: skip
    """Gradients of ``outputs`` by ``inputs``, returned and not stored: ``.grad`` is never touched.

    Args:
        outputs: a Tensor or several; their gradients are summed.
        inputs: a Tensor or several, leaves or not.
        grad_outputs: one upstream gradient per output, of its shape and dtype; None for outputs of one element.
        retain_graph: keep the graph; by default as ``create_graph``.
        create_graph: give the gradients a graph of their own, to differentiate them again.
        allow_unused: give None for an input the outputs do not depend on, instead of an error.

    Returns:
        A Tensor, or a tuple of them when ``inputs`` is a sequence.

    Raises:
        RuntimeError: an input was not used, or needs no gradient.

    >>> import tinygrad_norm as tn
    >>> x = tn.tensor(3.0, requires_grad=True)
    >>> dy = tn.grad(x ** 3, x, create_graph=True)
    >>> dy.item(), tn.grad(dy, x).item()
    (27.0, 18.0)
    """
    ys, xs = (list(v) if isinstance(v, (list, tuple)) else [v] for v in (outputs, inputs))
    given = grad_outputs if isinstance(grad_outputs, (list, tuple)) else [grad_outputs] * len(ys)
    if len(given) != len(ys) or (len(ys) > 1 and grad_outputs is not None and given is not grad_outputs):
        raise ValueError(
            f"grad: {len(ys)} outputs need a sequence of {len(ys)} grad_outputs; got {describe(grad_outputs)}"
        )
    roots = [root_of(y, "grad") for y in ys]
    targets = [root_of(x, "grad: inputs") for x in xs]
    seeds = [seed_of(y, g, "grad", "grad_outputs", create_graph) for y, g in zip(ys, given)]
    wanted = set(targets)
    with enable_grad() if create_graph else no_grad():
        found = sweep(
            roots, seeds, leading_to(roots, wanted), wanted,
            retain=create_graph if retain_graph is None else retain_graph, graph=create_graph,
        )  # fmt: skip
    results: list[Tensor | None] = []
    for i, node in enumerate(targets):
        g = found.get(node)
        if g is None and not allow_unused:
            raise RuntimeError(
                f"grad: the outputs do not depend on input {i} ({describe(xs[i])}); "
                "write allow_unused=True to get None for it"
            )
        if isinstance(g, Tensor):  # what the caller has already, a seed or another result, comes back as a copy
            results.append(copy(g) if any(g is other for other in (*given, *results)) else g)
        else:  # the same input asked for twice gets memory of its own each time
            results.append(g if g is None else wrap(g if node not in targets[:i] else namespace(g).copy(g)))
    return results[0] if isinstance(inputs, Tensor) else tuple(results)


def _prepared(
    function: str, fn: Callable[..., Any], inputs: Any, create_graph: bool
) -> tuple[list[Tensor], Tensor, bool]:
    single = isinstance(inputs, Tensor)
    xs = [
        x if create_graph and x.requires_grad else x.detach().clone().requires_grad_()
        for x in ([inputs] if single else inputs)
    ]
    with enable_grad():
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
        if not isinstance(y, Tensor) or y.size != 1:
            raise ValueError(f"hessian: the function must return one number; got {describe(y)}; use jacobian")
        g = grad(y.sum(), v, create_graph=True, allow_unused=True) if y.requires_grad else None
        return namespace(v).zeros_like(v) if g is None else g

    return jacobian(gradient, x)
