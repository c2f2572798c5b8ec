"""Tables for notebooks: of a module's layers, and of whatever has heads and rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from math import prod
from typing import Any


def html_table(heads: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "", notes: Iterable[str] = ()) -> str:
    """An HTML table as a notebook shows it.

    Args:
        heads: the text above each column.
        rows: the cells; numbers stand at the right.
        title: a line above.
        notes: lines below.

    Returns:
        The HTML. All text is escaped, so names and values show as they are.

    >>> html_table(["name", "n"], [["<a>", 3]], title="two")[:60]
    '<p><b>two</b></p>\\n<table>\\n<tr><th style="text-align: left">n'
    >>> "&lt;a&gt;" in html_table(["name", "n"], [["<a>", 3]])
    True
    """

    def cell(tag: str, value: Any) -> str:
        side = "right" if isinstance(value, int) else "left"
        text = f"{value:,}" if isinstance(value, int) else escape(str(value))
        return f'<{tag} style="text-align: {side}">{text}</{tag}>'

    lines = ["".join(cell("th", head) for head in heads), *("".join(cell("td", c) for c in row) for row in rows)]
    above = [f"<p><b>{escape(title)}</b></p>"] if title else []
    below = [f"<p>{escape(note)}</p>" for note in notes]
    return "\n".join([*above, "<table>", *(f"<tr>{line}</tr>" for line in lines), "</table>", *below])


def module_table(module: Any) -> str:
    """A module in a notebook: a row for each layer, with the shapes of its parameters and their number.

    Modules that only contain others have no row. A shared module or parameter is counted where it comes first.

    >>> import tinygrad_norm as tn
    >>> text = module_table(tn.nn.MLP([2, 3, 1]))
    >>> "weight (3, 2), bias (3,)" in text, "MLP, 13 parameters" in text
    (True, True)
    """
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for path, p in module.named_parameters():
        owner, _, name = path.rpartition(".")
        shapes.setdefault(owner, {})[name] = p.shape
    rows = []
    for path, layer in module.named_modules():
        own = shapes.get(path, {})
        if own or not any(layer.children()):
            described = ", ".join(f"{name} {shape}" for name, shape in own.items())
            rows.append((path, layer._line(), described, sum(map(prod, own.values()))))
    frozen = sum(p.size for p in module.parameters() if not p.requires_grad)
    title = f"{type(module).__name__}, {sum(row[-1] for row in rows):,} parameters"
    title += f", {frozen:,} of them frozen" if frozen else ""
    return html_table(["name", "layer", "shapes", "parameters"], rows, title)
