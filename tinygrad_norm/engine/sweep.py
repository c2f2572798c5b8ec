"""The backward sweep: gradients flow from the youngest node to the oldest, each node once.

A heap of birth numbers orders the walk, so depth costs no recursion, and a gradient is dropped as soon as it is used.
On bare arrays the sweep computes first derivatives and builds nothing; on Tensors the same rules record a new graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any

from ..backend import BACKENDS
from .edit import last_edit
from .modes import enable_grad, no_grad
from .op import OUTPUT, Node
from .tensor import Tensor, alias, describe, namespace, wrap


def sweep(roots: list, seeds: list, useful: set | None, targets: set, *, retain: bool, graph: bool) -> dict[Node, Any]:
    """Gradients at the leaves and at ``targets``, for one seed (an array; a Tensor when ``graph``) per root.

    ``useful`` limits the walk to the nodes that lead to a target; None walks everything and stops at the leaves.
    """
    grads: dict[Node, Any] = {}  # what has come to a node so far
    owned: set[Node] = set()  # nodes whose gradient nobody else holds: it may be added to in place
    found: dict[Node, Any] = {}
    heap: list = []
    for root, seed in zip(roots, seeds, strict=True):
        if root in grads:
            grads[root] = grads[root] + seed
        else:
            grads[root] = seed
            heappush(heap, (-root.birth, root))
    while heap:
        node = heappop(heap)[1]
        g = grads.pop(node)
        watch = node.watch
        op = node.op
        if watch is not None or (targets and node in targets):
            if watch is not None and watch.hooks:
                g = run_hooks(node, g)
            if node in targets or (watch is not None and watch.keep):
                found[node] = g if op is None and node in owned else namespace(g).copy(g)
        edges = node.edges
        if useful is not None:
            edges = [e if e in useful else None for e in edges]
            if not any(edges):
                continue
        if op is None:
            continue
        args = node.args
        if args is None:
            raise RuntimeError(released(op))
        if last_edit[0] > node.birth:
            check_edits(node)
        rules = op.backward
        kind = type(g)
        if graph:
            gradients, rules = differentiate(node, g, edges), None
        else:
            xp = BACKENDS[kind]
            y = node.output._data if op.reads & OUTPUT else None
            if op.fused:
                needs = tuple([e is not None for e in edges])
                gradients, rules = rules(xp, g, y, node.saved, needs, *args), None
        for i, edge in enumerate(edges):
            if edge is None:
                continue
            r = gradients[i] if rules is None else rules[i](xp, g, y, *args)
            if r is None:
                continue
            if type(r) is not kind and not graph and type(r) not in BACKENDS:
                r = xp.asarray(r)  # NumPy gives scalars where arrays of no dimensions are meant
            if r.shape != edge.shape:
                r = namespace(r).sum_to(r, edge.shape)
            if r.dtype is not edge.dtype:
                r = namespace(r).astype(r, edge.dtype)
            before = grads.get(edge)
            if before is None:
                grads[edge] = r
                heappush(heap, (-edge.birth, edge))
                if not graph and r is not g and r.base is None:
                    owned.add(edge)
            elif edge in owned:
                before += r
            else:
                grads[edge] = before + r
                if not graph:
                    owned.add(edge)
        if not retain:
            node.inputs = node.args = node.saved = node.output = None
            node.edges = ()
    return found


def differentiate(node: Node, g: Tensor, edges: list) -> list:
    """One node's gradients as Tensors with a graph of their own."""
    op, inputs, xp = node.op, node.inputs, namespace(g)
    params = node.args[len(inputs) :]
    if not op.fused:
        y = None if node.output is None else alias(node.output._data, node, node.output._version)
        return [None if e is None else op.backward[i](xp, g, y, *inputs, *params) for i, e in enumerate(edges)]
    # Aliases end the inner sweep at this op's own inputs, even where one input was computed from another.
    aliases = [xp.copy(x) if e is not None else x for x, e in zip(inputs, edges, strict=True)]
    y = op.composite(*aliases, *params)
    wanted = [a for a, e in zip(aliases, edges, strict=True) if e is not None]
    results = iter(grad([y], wanted, [g], create_graph=True, allow_unused=True))
    return [None if e is None else next(results) for e in edges]


def check_edits(node: Node) -> None:
    """Refuse to use values that were written over since the node read them."""
    reads = [(f"input {i}", x) for i, x in enumerate(node.inputs) if isinstance(x, Tensor)]
    if node.output is not None:
        reads.append(("the output", node.output))
    for what, x in reads:
        if x._version is not None and x._version[0] > node.birth:
            name = node.op.name
            raise RuntimeError(
                f"backward: {what} of {name} ({describe(x)}) was changed in place after {name} read it, and its old "
                "values are needed for the gradient; write x = x + v instead of x += v, or change it after backward()"
            )


def released(op: Any) -> str:
    """The message for a second sweep over a graph that is gone."""
    return (
        f"backward: the graph behind this {op.name} was released by an earlier backward() or grad(); "
        "write retain_graph=True in the first call to use it twice"
    )


def run_hooks(node: Node, g: Any) -> Any:
    """Show the gradient to the tensor's hooks; what a hook returns takes its place."""
    graph = isinstance(g, Tensor)
    for hook in list(node.watch.hooks):
        result = hook(g if graph else wrap(g))
        if result is not None:
            g = seed_for(result, node, "register_hook: the value a hook returns", graph)
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
        before = node.watch.grad
        node.watch.grad = wrap(g if before is None else before._data + g)


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
        if node.op is not None and node.args is None and node not in targets:
            raise RuntimeError(released(node.op))
        seen.add(node)
        stack.extend(e for e in node.edges if e is not None)
    useful = set()
    for node in sorted(seen, key=lambda n: n.birth):
        if node in targets or any(e in useful for e in node.edges):
            useful.add(node)
    return useful
