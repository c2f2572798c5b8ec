"""The wording of the engine's errors: the operation, what it was given, the rule, what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

from ..engine.op import Node, Op
from ..engine.tensor import Tensor, describe

KINDS = (IndexError, TypeError, ValueError, MemoryError)
BROADCAST = "from the right, lengths must be equal or 1"


def explain(op: type[Op], inputs: tuple, params: tuple, error: Exception) -> None:
    """Raise an array library's complaint with the operation and the operands added (unless it is one of ours)."""
    text = with_rule(error)
    if text.startswith(f"{op.name}:"):
        return
    if "broadcast" in text and op.name != "getitem":  # of an index's arrays the library names the shapes
        to = f" to {params[0]}" if op.name == "broadcast_to" else ""
        text = f"these shapes do not broadcast{to}: {BROADCAST}"
    kind = next(k for k in KINDS if isinstance(error, k))
    raise kind(f"{op.name}: got {' and '.join(describe(x) for x in inputs)}: {text}") from error


def with_rule(error: Exception) -> str:
    """An array library's complaint with the rule that it leaves out."""
    text = str(error).strip()
    size = text.split()[-1] if text else ""
    if "out of bounds" in text and size.isdigit():
        return f"{text}; must be in [-{size}, {size})"
    return f"{text}: {BROADCAST}" if "broadcast" in text else text


@contextmanager
def named(function: str) -> Iterator[None]:
    """A block in which the operations' errors begin with the name of the function that the user called."""
    try:
        yield
    except KINDS as error:
        kind = next(k for k in KINDS if isinstance(error, k))
        raise kind(f"{function}: {re.sub(r'^[a-z_]+: ', '', str(error))}") from error


def mixed_devices(op: type[Op], inputs: tuple) -> str:
    """The message for operands that live on different devices."""
    found = " and ".join(f"{describe(x)} on {x.device!r}" for x in inputs if isinstance(x, Tensor))
    return f"{op.name}: operands must be on one device; got {found}; move one with .to(device)"


def released(op: Any) -> str:
    """The message for a second sweep over a graph that is gone."""
    return (
        f"backward: the graph behind this {op.name} was released by an earlier backward() or grad(); "
        "write retain_graph=True in the first call to use it twice"
    )


def explain_rule(node: Node, edges: list, gradients: Any, error: Exception) -> None:
    """Raise what went wrong in the gradient rules of an operation, or with what they returned (unless it is ours).

    ``gradients`` is what a fused operation's backward returned; None for the rules of a primitive.
    """
    op, rules = node.op, node.op.backward
    if op.fresh:  # one of ours, proved by the op table
        return
    shapes = ", ".join(str(getattr(x, "shape", x)) for x in node.args[: len(edges)])
    text = f"backward of {op.name}, inputs of shapes {shapes}, result of shape {node.shape}: "
    if not op.fused and not hasattr(rules, "__getitem__"):
        got = f"a {type(rules).__name__}"
        raise TypeError(f"{text}backward must be a tuple of rules, one for each input: (rule,); got {got}") from error
    given = (
        len(gradients) if isinstance(gradients, (tuple, list)) else len(rules) if type(rules) is tuple else len(edges)
    )
    if given < max(i for i, edge in enumerate(edges) if edge is not None) + 1:
        what = "gradients returned" if gradients is not None else "rules"
        raise TypeError(
            f"{text}{given} {what} for {len(edges)} inputs; write one for each input, in their order"
        ) from error
    kind = next((k for k in KINDS if isinstance(error, k)), TypeError)
    ours = __name__.split(".")[0] + "."  # the rule ran to its end if all that failed is ours
    came = all(str(f.f_globals.get("__name__")).startswith(ours) for f, _ in walk_tb(error.__traceback__))
    rule = "; a rule must return an array of the shape of its input" if came else ""
    raise kind(f"{text}{error}{rule}") from error
