"""The computation graph behind a tensor, as a picture or as text in the language of Graphviz."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ..engine import Tensor
from ..engine.tensor import describe
from .style import BLUE, GREY, VERMILION

LARGEST = 1000
"""Operations that one picture may have; Graphviz takes minutes for many more."""

HEAD = f"""digraph {{
  graph [bgcolor="transparent", ranksep=0.3, nodesep=0.3];
  node [shape=box, fontname="Helvetica,Arial,sans-serif", fontsize=11, height=0.3, margin="0.12,0.06"];
  edge [color="{GREY}", arrowsize=0.6];"""

STYLES = {
    "operation": f'style="rounded,filled", fillcolor="#f4f4f4", color="{GREY}"',
    "output": f'style="rounded,filled", fillcolor="{VERMILION}30", color="{VERMILION}"',
    "leaf": f'style="filled", fillcolor="{BLUE}28", color="{BLUE}"',
    "constant": f'style="filled,dashed", fillcolor="#ffffff", color="{GREY}"',
}


class Graph:
    """A computation graph: a picture in a notebook, text in the language of Graphviz elsewhere.

    The picture needs the Python package graphviz and the program ``dot``; without them a notebook shows the text.

    Attributes:
        source: the text, which any Graphviz viewer draws.

    >>> Graph("digraph { a -> b }")
    digraph { a -> b }
    """

    def __init__(self, source: str) -> None:
        self.source = source

    def __repr__(self) -> str:
        return self.source

    def _repr_svg_(self) -> str | None:
        try:
            return self._drawn("svg").decode()
        except (ImportError, FileNotFoundError):
            return None  # a notebook then shows the text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the graph to a file.

        Args:
            path: what it ends in is the format: ".svg", ".png", ".pdf", ...; ".dot" or ".gv" is the text itself.

        Raises:
            ImportError: the format is a picture, and graphviz is not installed.
            FileNotFoundError: likewise, and there is no program dot.
            OSError: the file cannot be written.
            ValueError: the path has no ending, or graphviz does not know it.
        """
        ending = os.path.splitext(os.fspath(path))[1].removeprefix(".")
        if not ending:
            raise ValueError(f"Graph.save: path must end in .svg, .png, .pdf or .dot; got {os.fspath(path)!r}")
        content = self.source.encode() if ending in ("dot", "gv") else self._drawn(ending)
        with open(path, "wb") as file:
            file.write(content)

    def _drawn(self, ending: str) -> bytes:
        remedy = "or save it as .dot, which needs neither, for any Graphviz viewer"
        try:
            import graphviz
        except ImportError as error:
            raise ImportError(
                f'viz.graph: graphviz is not installed; write pip install "tinygrad_norm[viz]", {remedy}'
            ) from error
        try:
            return graphviz.Source(self.source).pipe(format=ending)
        except graphviz.ExecutableNotFound as error:
            raise FileNotFoundError(
                f"viz.graph: the program dot is not installed; your system has it in its package graphviz, {remedy}"
            ) from error


def graph(output: Tensor, names: Any = None) -> Graph:
    """The computation graph that ``output.backward()`` would walk: operations, and the tensors that they began with.

    Computation runs downwards. A box says what was done (a fused operation is one box) and the shape of the result.
    Blue boxes are the tensors that get a gradient, dashed ones data and constants, which get none.

    Args:
        output: what was computed from tensors that need gradients, before ``backward()`` released the graph.
        names: a Module, whose parameters then show their names, or a mapping of names to Tensors.

    Returns:
        A :class:`Graph`: a picture in a notebook; ``graph(loss, model).save("graph.svg")`` writes one.

    Raises:
        TypeError: ``output`` is not a Tensor, or ``names`` neither a Module nor a mapping of names to Tensors.
        ValueError: no graph was recorded, or it was released, or it has more than 1,000 operations.

    >>> import tinygrad_norm as tn
    >>> w = tn.tensor([1.0, 2.0], requires_grad=True)
    >>> print(graph((w * 3.0).sum(), {"w": w}))  # doctest: +ELLIPSIS
    digraph {
      ...
      n0 [label="w\\n(2,)", ...];
      n1 [label="multiply(·, 3.0)\\n(2,)", ...];
      n2 [label="sum\\n()", ...];
      n0 -> n1;
      n1 -> n2;
    }
    """
    if not isinstance(output, Tensor):
        raise TypeError(f"graph: output must be a Tensor; got {describe(output)}")
    if output._node is None:
        raise ValueError(f"graph: nothing that this {describe(output)} was computed from needs a gradient")
    known = _known(names)
    numbers: dict[int, int] = {}  # of the boxes
    boxes: list[str] = []
    arrows: list[str] = []

    def add(key: int, kind: str, title: str, x: Any) -> None:
        numbers[key] = len(boxes)
        label = json.dumps(f"{title}\n{x.shape}", ensure_ascii=False)
        boxes.append(f"  n{numbers[key]} [label={label}, {STYLES[kind]}];")

    for node in _recorded(output._node):
        inputs = [x if edge is None else edge for x, edge in zip(node.inputs, node.edges)]
        for x in inputs:
            if hasattr(x, "shape") and _key(x) not in numbers:  # what was recorded has its box by now
                add(_key(x), "constant", known.get(_key(x), "constant"), x)
        kind = "output" if node is output._node else "leaf" if node.op is None else "operation"
        add(id(node), kind, _title(node, inputs, known.get(id(node))), node)
        arrows += [f"  n{numbers[_key(x)]} -> n{numbers[id(node)]};" for x in inputs if hasattr(x, "shape")]
    return Graph("\n".join([HEAD, *boxes, *arrows, "}"]))


def _key(x: Any) -> int:
    """Two Tensors over one array are one box."""
    return id(x._data) if isinstance(x, Tensor) else id(x)


def _known(names: Any) -> dict[int, str]:
    """The names of nodes and of arrays, by identity."""
    named = dict(names.named_parameters()) if hasattr(names, "named_parameters") else {} if names is None else names
    if not isinstance(named, Mapping) or not all(isinstance(x, Tensor) for x in named.values()):
        raise TypeError(f"graph: names must be a Module or a mapping of names to Tensors; got {describe(names)}")
    known = {id(x._data): str(name) for name, x in named.items()}
    return known | {id(x._node): str(name) for name, x in named.items() if x._node is not None}


def _recorded(root: Any) -> list[Any]:
    """The nodes behind ``root`` and itself, each after its inputs."""
    found, stack = {root}, [root]
    while stack:
        node = stack.pop()
        if node.args is None:
            raise ValueError(
                f"graph: the graph behind this {node.op.name} was released by backward(); draw it before, or write "
                "backward(retain_graph=True)"
            )
        new = {edge for edge in node.edges if edge is not None} - found
        found |= new
        stack.extend(new)
        if len(found) > LARGEST:
            raise ValueError(f"graph: more than {LARGEST} operations, which no picture shows; draw a part of them")
    return sorted(found, key=lambda node: node.birth)


def _title(node: Any, inputs: list[Any], name: str | None) -> str:
    """The name, or what was done: numbers among the operands are shown, the tensors have arrows."""
    if node.op is None:
        return name or "leaf"
    title = node.op.name
    if not all(hasattr(x, "shape") for x in inputs):
        title += f"({', '.join('·' if hasattr(x, 'shape') else repr(x) for x in inputs)})"
    return f"{name} = {title}" if name else title
