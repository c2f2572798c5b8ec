"""Operations and the graph they leave behind.

An operation is a class of static functions, never instantiated. There are two kinds.

A *primitive* has ``forward(xp, *inputs, *params) -> y`` and ``backward``, one rule per input:
``rule(xp, g, y, *inputs, *params) -> gradient of that input``. Forward and rules use the namespace ``xp`` only: on bare
arrays ``xp`` is a backend; on Tensors it is ``tinygrad_norm.ops``, and the same rule text then yields a graph of its
own, so derivatives of every order come from one text.

A *fused* operation has ``composite(*inputs, *params)``, its definition in a few readable lines of other operations;
``forward(xp, *inputs, *params) -> (y, saved)``; and ``backward(xp, g, y, saved, needs, *inputs, *params)``, which
returns one gradient (or None) per input. The fused pair serves first derivatives; higher ones differentiate the
composite, so that nothing saved is ever mistaken for a constant.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from typing import Any, ClassVar

import numpy

from ..backend import BACKENDS
from .modes import FLOATS, defaults, modes
from .tensor import Tensor, alias, describe, wrap

INPUTS = 1
OUTPUT = 2
NOTHING = 0

births = count(1)
"""Birth numbers of nodes and of edits. Creation order is a topological order, so the backward sweep needs no other."""


class Node:
    """One step of the recorded graph: what made a tensor, and from what. A leaf's node has no op and holds ``.grad``.

    An input that the op's rules do not read is kept as the node that made it (or a bare one): it has a shape and a
    dtype, and no values to keep alive.
    """

    __slots__ = ("birth", "dtype", "edges", "grad", "hooks", "inputs", "keep", "op", "output", "params", "saved", "shape")  # fmt: skip

    def __init__(self, op: Any, edges: Any, inputs: Any, params: Any, saved: Any, y: Any) -> None:
        self.op = op
        self.edges = edges
        self.inputs = inputs
        self.params = params
        self.saved = saved
        self.shape = y.shape
        self.dtype = y.dtype
        self.birth = next(births)
        self.output = self.grad = self.hooks = None
        self.keep = False

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)


class Op:
    """A differentiable operation; subclass it to add one (see the module's text) and call :func:`apply`.

    Attributes:
        reads: what the rules read: INPUTS, OUTPUT, both (``INPUTS | OUTPUT``) or NOTHING. What is not declared is not
            kept, and its values cannot be read by mistake.
        promotes: mixed with a float, an integer input takes the float's dtype; on integers alone, a float result takes
            the default dtype.
        view: the output may share memory with the first input.

    >>> import tinygrad_norm as tn
    >>> class Cube(tn.Op):
    ...     @staticmethod
    ...     def forward(xp, x):
    ...         return x * x * x
    ...     backward = (lambda xp, g, y, x: g * 3.0 * x * x,)
    >>> x = tn.tensor([2.0], requires_grad=True)
    >>> tn.apply(Cube, x).sum().backward()
    >>> x.grad.item()
    12.0
    """

    name: ClassVar[str] = "op"
    fused: ClassVar[bool] = False
    reads: ClassVar[int] = INPUTS
    promotes: ClassVar[bool] = False
    view: ClassVar[bool] = False
    forward: ClassVar[Callable[..., Any]]
    backward: ClassVar[Any]
    composite: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls) -> None:
        cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        cls.fused = hasattr(cls, "composite")

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is a folder of rules: call apply({type(self).__name__}, ...) instead")


class Each:
    """The rules of an operation with any number of inputs: ``rule(i, xp, g, y, *inputs, *params)`` for input i."""

    def __init__(self, rule: Callable[..., Any]) -> None:
        self.rule = rule

    def __getitem__(self, i: int) -> Callable[..., Any]:
        return lambda *args: self.rule(i, *args)


def apply(op: type[Op], *inputs: Any, params: tuple = (), aux: bool = False) -> Any:
    """Run an operation on Tensors, arrays and Python scalars, and record it when a gradient will be needed.

    Args:
        op: the operation.
        *inputs: what it differentiates by or holds constant; an array is a constant.
        params: plain values (axes, shapes, seeds) passed behind the inputs.
        aux: return ``(y, saved)`` for callers that need a fused operation's statistics.

    Returns:
        The result as a Tensor.

    Raises:
        TypeError: an input is not a Tensor, an array or a number; or inputs live on different devices.
        ValueError: the shapes do not fit; the message names the operation and the shapes.
    """
    if modes.composite and op.fused and not aux:
        return op.composite(*(x if isinstance(x, Tensor) else constant(op, x) for x in inputs), *params)
    arrays = []
    edges = []
    kind = None
    dtype = None
    record = False
    for x in inputs:
        if not isinstance(x, Tensor):
            x = constant(op, x)
            if not isinstance(x, Tensor):
                arrays.append(x)
                edges.append(None)
                continue
            inputs = tuple(x if i == len(arrays) else v for i, v in enumerate(inputs))
        a = x._data
        if type(a) is not kind:
            if kind is not None:
                raise TypeError(mixed_devices(op, inputs))
            kind = type(a)
            dtype = a.dtype
        arrays.append(a)
        node = x._node
        if node is not None:
            record = True
        edges.append(node)
    if kind is None:
        return apply(op, wrap(defaults.backend.from_host(numpy.asarray(inputs[0], defaults.dtype))), *inputs[1:], params=params, aux=aux)  # fmt: skip
    xp = BACKENDS[kind]
    try:
        y = op.forward(xp, *arrays, *params)
    except (ValueError, TypeError, IndexError) as error:
        kinds = (IndexError, TypeError, ValueError)
        raise next(k for k in kinds if isinstance(error, k))(explain(op, inputs, error)) from error
    saved = None
    if op.fused:
        y, saved = y
    if type(y) is not kind:
        y = xp.asarray(y)
    if op.promotes and y.dtype is not dtype:
        promoted = promote(inputs, y.dtype)
        if promoted is not None:
            return apply(op, *promoted, params=params, aux=aux)
    version = inputs[0]._version if op.view else [0]
    out = alias(y, None, version)
    if record and modes.recording:
        out._node = node = Node(op, edges, keep(op, inputs, edges), params, saved, y)
        if op.reads & OUTPUT:
            node.output = alias(y, None, version)
    return (out, saved) if aux else out


def keep(op: type[Op], inputs: tuple, edges: list) -> Any:
    """What a node keeps of its op's inputs: all of them, or only shapes and dtypes when no rule reads the values."""
    if op.reads & INPUTS or op.fused:
        for x in inputs:
            if isinstance(x, Tensor) and x._version is None:  # borrowed memory may change unseen: keep a copy
                return tuple(owned(x) if isinstance(x, Tensor) else x for x in inputs)
        return inputs
    return [
        x if not isinstance(x, Tensor) else edge if edge is not None else Node(None, (), (), (), None, x)
        for x, edge in zip(inputs, edges, strict=True)
    ]


def owned(x: Tensor) -> Tensor:
    """``x``, or the same tensor over a copy when its memory is borrowed from the user."""
    return x if x._version is not None else alias(BACKENDS[type(x._data)].copy(x._data), x._node, [0])


def constant(op: type[Op], x: Any) -> Any:
    """A non-Tensor operand: Python numbers stay what they are (weakly typed), arrays become constant Tensors."""
    if isinstance(x, (bool, int, float)) and not isinstance(x, numpy.generic):
        return x
    if isinstance(x, numpy.generic) and x.dtype.kind in "biuf":
        return x.item()
    if type(x) in BACKENDS and x.dtype.kind in "biuf":
        return alias(x, None, None)
    raise TypeError(
        f"{op.name}: operands are Tensors, arrays of numbers or Python numbers; got {describe(x)}; "
        "write tn.tensor(...) first"
    )


def promote(inputs: tuple, result: Any) -> list | None:
    """Inputs recast so that integers never widen a float and never yield more than the default dtype; None if fine."""
    if result not in FLOATS:
        return None
    dtypes = [x._data.dtype for x in inputs if isinstance(x, Tensor)]
    floats = [d for d in dtypes if d in FLOATS]
    if len(floats) == len(dtypes):
        return None
    target = numpy.result_type(*floats) if floats else defaults.dtype
    return [
        x.astype(target) if isinstance(x, Tensor) and x._data.dtype not in FLOATS else x for x in inputs
    ]


def explain(op: type[Op], inputs: tuple, error: Exception) -> str:
    """An array library's complaint with the operation and the operands added (unless it is one of ours)."""
    text = str(error)
    if text.startswith(f"{op.name}:"):
        return text
    if "broadcast" in text:
        text = "these shapes do not broadcast: from the right, lengths must be equal or 1"
    return f"{op.name}: got {' and '.join(describe(x) for x in inputs)}: {text}"


def mixed_devices(op: type[Op], inputs: tuple) -> str:
    """The message for operands that live on different devices."""
    found = " and ".join(f"{describe(x)} on {x.device!r}" for x in inputs if isinstance(x, Tensor))
    return f"{op.name}: operands must be on one device; got {found}; move one with .to(device)"


def leaf_node(x: Tensor) -> Node:
    """The node of a tensor that gradients are wanted for."""
    return Node(None, (), (), (), None, x)
