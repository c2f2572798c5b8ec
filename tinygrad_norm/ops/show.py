"""How a Tensor looks: as text, and as a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy

from ..backend import DTYPES
from ..engine.tensor import Tensor

EDGE = 4
"""Rows and columns at each end of a long dimension that a table shows."""


def tensor_text(x: Tensor) -> str:
    """``repr``: the values as NumPy prints them, and what is not usual.

    >>> import tinygrad_norm as tn
    >>> tn.tensor([1.0, 2.0], dtype="float64")
    tensor([1., 2.], dtype=float64)
    """
    values = numpy.array2string(x.numpy(), separator=", ", prefix="tensor(")
    dtype = "" if x.dtype == DTYPES["float32"] or x.dtype.kind in "b" else f", dtype={x.dtype}"
    device = "" if x.device == "cpu" else f", device={x.device!r}"
    return f"tensor({values}{dtype}{device}{_history(x)})"


def tensor_table(x: Tensor) -> str:
    """What a notebook shows: shape, dtype, device and operation, then the values, of long dimensions the two ends.

    One or two dimensions make a table, others are text as NumPy prints it.

    >>> import tinygrad_norm as tn
    >>> "shape (2, 3), float32, cpu, op=relu" in tensor_table(tn.ones(2, 3, requires_grad=True).relu())
    True
    """
    title = f"{type(x).__name__}, shape {x.shape}, {x.dtype}, {x.device}{_history(x)}"
    if x.ndim not in (1, 2):
        values = numpy.array2string(x.numpy(), separator=", ", threshold=100, edgeitems=max(1, 6 // (x.ndim or 1)))
        return f"<p><b>{escape(title)}</b></p>\n<pre>{escape(values)}</pre>"
    rows = numpy.atleast_2d(x.numpy())
    columns = _ends(rows.shape[1])
    lines = [[i, *("…" if "…" in (i, j) else rows[i, j].item() for j in columns)] for i in _ends(len(rows))]
    return html_table(["", *columns], lines, title)


def _history(x: Tensor) -> str:
    return "" if not x.requires_grad else ", requires_grad=True" if x.is_leaf else f", op={x._node.op.name}"


def _ends(length: int) -> list[Any]:
    """The indices that are shown of a dimension."""
    if length <= 2 * EDGE + 1:
        return list(range(length))
    return [*range(EDGE), "…", *range(length - EDGE, length)]


def html_table(heads: Sequence[Any], rows: Iterable[Sequence[Any]], title: str = "", notes: Iterable[str] = ()) -> str:
    """An HTML table as a notebook shows it.

    Args:
        heads: the text above each column.
        rows: the cells; numbers stand at the right, floats in four digits.
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
        side = "right" if isinstance(value, (int, float)) else "left"
        form = {int: ",", float: ".4g"}.get(type(value), "")
        return f'<{tag} style="text-align: {side}">{escape(format(value, form))}</{tag}>'

    lines = ["".join(cell("th", head) for head in heads), *("".join(cell("td", c) for c in row) for row in rows)]
    above = [f"<p><b>{escape(title)}</b></p>"] if title else []
    below = [f"<p>{escape(note)}</p>" for note in notes]
    return "\n".join([*above, "<table>", *(f"<tr>{line}</tr>" for line in lines), "</table>", *below])
