"""What a notebook shows of a module: a table of its layers."""

from __future__ import annotations

from math import prod
from typing import Any

from ..ops.show import html_table


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
