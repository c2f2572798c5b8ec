"""The backward sweep: gradients flow from the youngest node to the oldest, each node once.

A heap of birth numbers orders the walk, so depth costs no recursion, and a gradient is dropped as soon as it is used.
On bare arrays the sweep computes first derivatives and builds nothing; on Tensors the same rules record a new graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Any

from ..backend import BACKENDS
from . import tensor
from .op import INPUTS, OUTPUT, Node, last_edit
from .tensor import Tensor, alias, describe, namespace, wrap


def sweep(roots: list, seeds: list, useful: set | None, targets: set, *, retain: bool, graph: bool) -> dict[Node, Any]:
    """Gradients at the leaves and at ``targets``, for one seed (an array; a Tensor when ``graph``) per root.

    Nothing is held longer than it is read: the list of seeds is emptied, and no name here outlives its gradient.
    ``useful`` limits the walk to the nodes that lead to a target; None walks everything and stops at the leaves.
    """
    grads: dict[Node, Any] = {}  # what has come to a node so far
    owned: set[Node] = set()  # nodes whose gradient nobody else holds: it may be added to in place
    found: dict[Node, Any] = {}
    for root, g in zip(roots, seeds):
        grads[root] = total(grads[root], g) if root in grads else g
    seeds.clear()
    heap = sorted((-root.birth, root) for root in grads if root.op is not None)
    while grads:
        node = heappop(heap)[1] if heap else next(iter(grads))  # leaves come last, in any order
        g = grads.pop(node)
        watch = node.watch
        op = node.op
        if watch is not None and watch.hooks:
            g = run_hooks(node, g)
        if node in targets or (watch is not None and watch.keep):
            mine = op is None and node in owned and not (watch and watch.hooks)  # a hook's result is the user's
            found[node] = g if graph or mine else namespace(g).copy(g)
        if op is None:
            continue
        kind = type(g)
        xp = namespace(g) if graph else BACKENDS[kind]
        edges = node.edges
        if useful is not None:
            edges = [e if e in useful else None for e in edges]
            if not any(edges):
                continue
        args = node.args
        if args is None:
            raise RuntimeError(tensor.xp.released(op))
        if last_edit[0] > node.birth:
            check_edits(node, graph)
        if not op.fresh:
            g = xp.copy(g) if graph else xp.readonly(g)  # others may hold it
        rules, gradients = op.backward, None
        try:
            if graph:
                gradients = differentiate(node, g, edges)
            else:
                y = None if node.output is None else node.output._data
                if op.fused:
                    needs = tuple(map(bool, edges))
                    gradients = rules(xp, g, y, node.saved, needs, *args)
            for i, edge in enumerate(edges):
                if edge is None:
                    continue
                r = rules[i](xp, g, y, *args) if gradients is None else gradients[i]
                if r is None:
                    raise TypeError(f"None came for input {i}, which needs a gradient")
                if type(r) is not kind and not graph and type(r) not in BACKENDS:
                    r = xp.asarray(r)  # NumPy gives scalars where arrays of no dimensions are meant
                if r.shape != edge.shape:
                    r = xp.sum_to(r, edge.shape)
                if r.dtype is not edge.dtype:
                    r = xp.astype(r, edge.dtype)
                before = grads.get(edge)
                if before is None:
                    grads[edge] = r
                    if edge.op is not None:
                        heappush(heap, (-edge.birth, edge))
                    if not graph and op.fresh and r is not g and r.base is None:
                        owned.add(edge)
                elif edge in owned:
                    before += r
                else:
                    grads[edge] = total(before, r)
                    if not graph:
                        owned.add(edge)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            tensor.xp.explain_rule(node, edges, gradients, error)
            raise
        if not retain:
            node.inputs = node.args = node.saved = node.output = before = r = None
            node.edges = ()
    return found


def total(a: Any, b: Any) -> Any:
    """a + b, as an array even where NumPy gives a scalar."""
    c = a + b
    return c if isinstance(c, Tensor) or type(c) in BACKENDS else BACKENDS[type(a)].asarray(c)


def differentiate(node: Node, g: Tensor, edges: list) -> list:
    """One node's gradients as Tensors with a graph of their own."""
    op, inputs, xp = node.op, node.inputs, namespace(g)
    params = node.args[len(inputs) :]
    if not op.fused:
        y = None if node.output is None else alias(node.output._data, node, node.output._version)
        return [None if e is None else op.backward[i](xp, g, y, *inputs, *params) for i, e in enumerate(edges)]
    # Copies end the inner sweep at this op's own inputs, even where one input was computed from another.
    copies = [x if e is None else xp.copy(x) for x, e in zip(inputs, edges)]
    y = op.composite(*copies, *params)
    ends = [None if e is None else c._node for c, e in zip(copies, edges)]
    targets = {end for end in ends if end is not None}
    useful = leading_to([y._node], targets)
    found = sweep([y._node], [xp.astype(g, y.dtype)], useful, targets, retain=True, graph=True)
    return [None if end is None else found.get(end) for end in ends]


def check_edits(node: Node, graph: bool) -> None:
    """Refuse to use values that were written over since the node read them."""
    reads, name = INPUTS if graph and node.op.fused else node.op.reads, node.op.name  # a composite starts from inputs
    for x in (*(node.inputs if reads & INPUTS else ()), node.output if reads & OUTPUT else None):
        if isinstance(x, Tensor) and x._version is not None and x._version[0] > node.birth:
            what = "the output" if x is node.output else f"input {[x is v for v in node.inputs].index(True)}"
            raise RuntimeError(
                f"backward: {what} of {name} ({describe(x)}) was changed in place after {name} read it, and its old "
                "values are needed for the gradient; write x = x + v instead of x += v, or change it after backward()"
            )


def run_hooks(node: Node, g: Any) -> Any:
    """Show the gradient to the tensor's hooks; what a hook returns takes its place."""
    graph = isinstance(g, Tensor)
    for hook in list(node.watch.hooks if node.watch is not None else ()):
        shown = namespace(g).copy(g)
        result = hook(shown if graph else wrap(shown))
        if result is not None:
            g = checked_gradient(result, node, "register_hook: the value a hook returns", graph)
    return g


def leading_to(roots: Iterable[Node], targets: set[Node]) -> set[Node]:
    """The nodes through which a gradient reaches a target."""
    oldest = min((node.birth for node in targets), default=0)
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen or node.birth < oldest:
            continue
        if node.op is not None and node.args is None and node not in targets:
            raise RuntimeError(tensor.xp.released(node.op))
        seen.add(node)
        stack.extend(e for e in node.edges if e is not None)
    useful = set()
    for node in sorted(seen, key=lambda n: n.birth):
        if node in targets or any(e in useful for e in node.edges):
            useful.add(node)
    return useful


def checked_gradient(g: Any, node: Any, what: str, graph: bool) -> Any:
    """A user's gradient checked against what it is the gradient of, as an array or (``graph``) a Tensor."""
    if not isinstance(g, Tensor):
        if type(g) not in BACKENDS:
            raise TypeError(f"{what} must be a Tensor or an array of shape {node.shape}; got {describe(g)}")
        g = wrap(BACKENDS[type(g)].copy(g))
    if g.shape != node.shape or g.dtype != node.dtype:
        raise ValueError(f"{what} must have shape {node.shape} and dtype {node.dtype}; got {describe(g)}")
    return g if graph else g._data
