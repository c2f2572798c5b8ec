"""The backward sweep: gradients flow from the youngest node to the oldest, each node once.

A heap of birth numbers orders the walk, so depth costs no recursion, and a gradient is dropped as soon as it is used.
On bare arrays the sweep computes first derivatives and builds nothing; on Tensors the same rules record a new graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any

from ..backend import BACKENDS
from .modes import enable_grad, no_grad
from .op import INPUTS, OUTPUT, Node
from .tensor import Tensor, alias, describe, namespace, wrap


def sweep(
    roots: list[Node], seeds: list[Any], useful: set[Node] | None, targets: set[Node], *, retain: bool, graph: bool
) -> dict[Node, Any]:
    """Gradients at the leaves and at ``targets``, for one seed (an array; a Tensor when ``graph``) per root.

    ``useful`` limits the walk to the nodes that lead to a target; None walks everything and stops at the leaves.
    """
    pending: dict[int, list] = {}
    heap: list[int] = []
    found: dict[Node, Any] = {}
    for root, seed in zip(roots, seeds, strict=True):
        arrive(pending, heap, root, seed, False)
    while heap:
        node, g, fresh = pending.pop(-heappop(heap))
        if node.hooks:
            g, fresh = run_hooks(node, g), False
        op = node.op
        if op is None or node.keep or node in targets:
            found[node] = g if fresh else namespace(g).copy(g)
            if op is None:
                continue
        edges = node.edges
        if useful is not None:
            edges = [e if e in useful else None for e in edges]
            if not any(edges):
                continue
        inputs = node.inputs
        if inputs is None:
            raise RuntimeError(released(op))
        check_edits(node)
        if graph:
            gradients = differentiate(node, g, edges)
        else:
            xp = BACKENDS[type(g)]
            arrays = [x._data if isinstance(x, Tensor) else x for x in inputs]
            y = node.output
            if y is not None:
                y = y._data
            if op.fused:
                needs = tuple([e is not None for e in edges])
                gradients = op.backward(xp, g, y, node.saved, needs, *arrays, *node.params)
            else:
                backward = op.backward
                gradients = [
                    None if e is None else backward[i](xp, g, y, *arrays, *node.params) for i, e in enumerate(edges)
                ]
        for edge, r in zip(edges, gradients, strict=True):
            if edge is None or r is None:
                continue
            if not graph and type(r) not in BACKENDS:
                r = xp.asarray(r)  # NumPy gives scalars where an array of no dimensions is meant
            if r.shape != edge.shape:
                r = namespace(r).sum_to(r, edge.shape)
            if r.dtype is not edge.dtype:
                r = namespace(r).astype(r, edge.dtype)
            arrive(pending, heap, edge, r, not graph and r is not g and r.base is None)
        if not retain:
            node.inputs = node.saved = node.output = None
            node.edges = ()
    return found


def arrive(pending: dict, heap: list, node: Node, g: Any, fresh: bool) -> None:
    """Add a gradient to what has come to ``node``; ``fresh`` says that nobody else holds the array."""
    entry = pending.get(node.birth)
    if entry is None:
        pending[node.birth] = [node, g, fresh]
        heappush(heap, -node.birth)
    elif entry[2]:
        entry[1] += g
    else:
        entry[1] = entry[1] + g
        entry[2] = not isinstance(g, Tensor)


def differentiate(node: Node, g: Tensor, edges: list) -> list:
    """One node's gradients as Tensors with a graph of their own."""
    op, inputs, xp = node.op, node.inputs, namespace(g)
    if not op.fused:
        y = None if node.output is None else alias(node.output._data, node, node.output._version)
        return [
            None if e is None else op.backward[i](xp, g, y, *inputs, *node.params)
            for i, e in enumerate(edges)
        ]
    # Aliases end the inner sweep at this op's own inputs, even where one input was computed from another.
    aliases = [xp.copy(x) if e is not None else x for x, e in zip(inputs, edges, strict=True)]
    y = op.composite(*aliases, *node.params)
    wanted = [a for a, e in zip(aliases, edges, strict=True) if e is not None]
    results = iter(grad([y], wanted, [g], create_graph=True, allow_unused=True))
    return [None if e is None else next(results) for e in edges]


def check_edits(node: Node) -> None:
    """Refuse to use values that were written over since the node read them."""
    birth = node.birth
    if node.op.reads & INPUTS:
        for i, x in enumerate(node.inputs):
            if isinstance(x, Tensor) and x._version is not None and x._version[0] > birth:
                raise RuntimeError(edited(node.op, f"input {i}", x))
    if node.op.reads & OUTPUT and node.output._version is not None and node.output._version[0] > birth:
        raise RuntimeError(edited(node.op, "the output", node.output))


def edited(op: Any, what: str, x: Tensor) -> str:
    """The message for a value that changed between forward and backward."""
    return (
        f"backward: {what} of {op.name} ({describe(x)}) was changed in place after {op.name} read it, and its old values "
        "are needed for the gradient; write x = x + v instead of x += v, or change it after backward()"
    )


def released(op: Any) -> str:
    """The message for a second sweep over a graph that is gone."""
    return (
        f"backward: the graph behind this {op.name} was released by an earlier backward() or grad(); "
        "write retain_graph=True in the first call to use it twice"
    )


def run_hooks(node: Node, g: Any) -> Any:
    """Show the gradient to the tensor's hooks; what a hook returns takes its place."""
    for hook in list(node.hooks):
        result = hook(g if isinstance(g, Tensor) else wrap(g))
        if result is None:
            continue
        g = seed_for(result, node, "register_hook: the value a hook returns", isinstance(g, Tensor))
    return g


def seed_for(g: Any, node: Any, what: str, graph: bool) -> Any:
    """A user's gradient checked against what it is the gradient of, as an array or (``graph``) a Tensor."""
    if not isinstance(g, Tensor):
        if type(g) not in BACKENDS:
            raise TypeError(f"{what} must be a Tensor or an array of shape {node.shape}; got {describe(g)}")
        g = wrap(BACKENDS[type(g)].copy(g))
    if g.shape != node.shape or g.dtype != node.dtype:
        raise ValueError(f"{what} must have shape {node.shape} and dtype {node.dtype}; got {describe(g)}")
    return g if graph else g._data


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


def default_seed(y: Tensor, function: str, argument: str) -> Any:
    """1 for a result of one element; any other needs a seed from the caller."""
    if y.size != 1:
        raise ValueError(
            f"{function}: {describe(y)} has {y.size} elements, so its gradient needs {argument} of shape {y.shape}; "
            "or reduce it first, for example with .sum()"
        )
    return BACKENDS[type(y._data)].ones_like(y._data)


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
    seed = default_seed(y, "backward", "gradient=") if gradient is None else seed_for(gradient, root, "backward: gradient", False)  # fmt: skip
    with no_grad():
        found = sweep([root], [seed], None, set(), retain=retain_graph, graph=False)
    for node, g in found.items():
        node.grad = wrap(g) if node.grad is None else wrap(node.grad._data + g)


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
    ys = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    xs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    seeds = [None] * len(ys) if grad_outputs is None else [grad_outputs] if len(ys) == 1 and not isinstance(grad_outputs, (list, tuple)) else list(grad_outputs)  # fmt: skip
    if len(seeds) != len(ys):
        raise ValueError(f"grad: {len(ys)} outputs need {len(ys)} grad_outputs; got {len(seeds)}")
    roots = [root_of(y, "grad") for y in ys]
    targets = [root_of(x, "grad: inputs") for x in xs]
    starts = []
    for y, root, seed in zip(ys, roots, seeds, strict=True):
        if seed is None:
            seed = wrap(default_seed(y, "grad", "grad_outputs="))
        starts.append(seed_for(seed, root, "grad: grad_outputs", create_graph))
    wanted = set(targets)
    with enable_grad() if create_graph else no_grad():
        found = sweep(
            roots, starts, leading_to(roots, wanted), wanted,
            retain=create_graph if retain_graph is None else retain_graph, graph=create_graph,
        )  # fmt: skip
    results = []
    for i, node in enumerate(targets):
        g = found.get(node)
        if g is None and not allow_unused:
            raise RuntimeError(
                f"grad: the outputs do not depend on input {i} ({describe(xs[i])}); "
                "write allow_unused=True to get None for it"
            )
        results.append(g if g is None or isinstance(g, Tensor) else wrap(g))
    return results[0] if isinstance(inputs, Tensor) else tuple(results)


def leading_to(roots: Iterable[Node], targets: set[Node]) -> set[Node]:
    """The nodes through which a gradient reaches a target."""
    oldest = min(node.birth for node in targets)
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen or node.birth < oldest:
            continue
        if node.op is not None and node.inputs is None and node not in targets:
            raise RuntimeError(released(node.op))
        seen.add(node)
        stack.extend(e for e in node.edges if e is not None)
    useful = set()
    for node in sorted(seen, key=lambda n: n.birth):
        if node in targets or any(e in useful for e in node.edges):
            useful.add(node)
    return useful
