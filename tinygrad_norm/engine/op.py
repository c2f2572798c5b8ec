"""Operations and the graph they leave behind.

An operation is a class of static functions, never instantiated. There are two kinds.

A *primitive* has ``forward(xp, *inputs, *params) -> y`` and ``backward``, one rule per input:
``rule(xp, g, y, *inputs, *params) -> gradient of that input``. Forward and rules use the namespace ``xp`` only: on bare
arrays ``xp`` is a backend; on Tensors it is ``tinygrad_norm.ops``, and the same rule text then yields a graph of its
own, so derivatives of every order come from one text.

A *fused* operation has ``composite(*inputs, *params)``, its definition in a few readable lines of other operations;
``forward(xp, *inputs, *params) -> (y, saved)``; and ``backward(xp, g, y, saved, needs, *inputs, *params)``, which
returns one gradient per input, or None where ``needs`` has False. The fused pair serves first derivatives; higher ones
differentiate the composite, so that nothing saved is ever mistaken for a constant.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from typing import Any, ClassVar

import numpy

from ..backend import BACKENDS, DTYPES, FLOATS
from . import tensor
from .modes import defaults, modes
from .tensor import Tensor, alias, describe, wrap

NOTHING, INPUTS, OUTPUT = 0, 1, 2

births = count(1)
"""Birth numbers of nodes and of edits. Creation order is a topological order, so the backward sweep needs no other."""


last_edit = [0]
"""Birth number of the latest edit anywhere: a node born after it needs no look at versions."""


observers: list[Any] = [0, None]
"""How many blocks look for anomalies, in all threads, and what they look with: ``(op, arrays and params, result)``."""


def mark_edited(x: Tensor) -> None:
    """Count a write to the memory of ``x``; every write to ``_data`` must be followed by this."""
    last_edit[0] = next(births)
    if x._version is not None:
        x._version[0] = last_edit[0]


class Watch:
    """What users attach to a tensor's node: its gradient (always on a leaf) and hooks."""

    __slots__ = ("grad", "hooks", "keep")

    def __init__(self, keep: bool) -> None:
        self.grad: Tensor | None = None
        self.hooks: list[Callable[[Tensor], Any]] = []
        self.keep = keep


class Node:
    """One step of the recorded graph: what made a tensor, and from what. A leaf's node has no op.

    ``args`` is what the rules get: the inputs' arrays, then the params; ``inputs`` are the same as Tensors. Where the
    rules read no values, both hold nodes instead: a node has a shape and a dtype, and keeps no values alive.
    """

    __slots__ = ("args", "birth", "dtype", "edges", "inputs", "op", "output", "saved", "shape", "watch")

    def __init__(self, op: Any, edges: Any, inputs: Any, args: Any, saved: Any, y: Any) -> None:
        self.op = op
        self.edges = edges
        self.inputs = inputs
        self.args = args
        self.saved = saved
        self.shape = y.shape
        self.dtype = y.dtype
        self.birth = next(births)
        self.output: Tensor | None = None
        self.watch: Watch | None = None

    ndim = property(lambda self: len(self.shape))


def leaf_node(x: Tensor) -> Node:
    """The node of a tensor that gradients are wanted for."""
    node = Node(None, (), (), (), None, x)
    node.watch = Watch(keep=True)
    return node


class Op:
    """A differentiable operation; subclass it to add one (see the module's text) and call :func:`apply`.

    Attributes:
        reads: what the rules read: INPUTS, OUTPUT, both (``INPUTS | OUTPUT``) or NOTHING. What is not declared is not
            kept, so its values cannot be read by mistake.
        promotes: mixed with a float, an integer input takes the float's dtype; on integers alone, a float result takes
            the default dtype.
        view: the output may share memory with the first input.

    ``backward = None`` marks a function without derivative, such as a comparison.

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
    fresh: ClassVar[bool] = False  # rules return new arrays, g or views of it: proved by the op table, for our own ops
    forward: ClassVar[Callable[..., Any]]
    backward: ClassVar[Any]
    composite: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "forward") and not hasattr(cls, "backward"):
            raise TypeError(
                f"{cls.__name__}: write backward = (one rule for each input,), or None if it has no derivative"
            )
        cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        cls.fused = hasattr(cls, "composite")
        cls.fresh = cls.__module__.startswith(__name__.split(".")[0] + ".")

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is a folder of rules: call apply({type(self).__name__}, ...) instead")


class Each:
    """The rules of an operation with any number of inputs: ``rule(i, xp, g, y, *inputs, *params)`` for input i."""

    def __init__(self, rule: Callable[..., Any]) -> None:
        self.rule = rule

    def __getitem__(self, i: int) -> Callable[..., Any]:
        return lambda *args: self.rule(i, *args)


def apply(op: type[Op], *inputs: Any, params: tuple = (), aux: bool = False) -> Any:
    """Run an operation on Tensors, arrays and Python numbers, and record it when a gradient will be needed.

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
    arrays: list[Any] = []
    edges: list[Node | None] = []
    record = borrowed = False
    kind = None
    for x in inputs:
        if not isinstance(x, Tensor):
            if type(x) is not float and type(x) is not int and type(x) is not bool:
                return apply(op, *[constant(op, v) for v in inputs], params=params, aux=aux)
            arrays.append(x)
            edges.append(None)
            continue
        a = x._data
        if type(a) is not kind:
            if kind is not None:
                raise TypeError(tensor.xp.mixed_devices(op, inputs))
            kind = type(a)
            dtype = a.dtype
        arrays.append(a)
        if x._version is None:
            borrowed = True
        node = x._node
        edges.append(node)
        if node is not None:
            record = True
    if kind is None:
        first = wrap(defaults.backend.from_host(numpy.asarray(inputs[0], defaults.dtype)))
        return apply(op, first, *inputs[1:], params=params, aux=aux)
    if borrowed and record and modes.recording and op.backward is not None and (op.fused or op.reads & INPUTS):
        return apply(op, *map(owned, inputs), params=params, aux=aux)  # before forward, which may save views
    xp = BACKENDS[kind]
    args = given = (*arrays, *params)
    saved = None
    try:
        if not op.fused:
            y = op.forward(xp, *args)
        elif not modes.composite:
            y, saved = op.forward(xp, *args)
        else:
            out = op.composite(*inputs, *params)
            return (out, op.forward(xp, *map(xp.real, arrays), *params)[1]) if aux else out
    except (ValueError, TypeError, IndexError, MemoryError) as error:
        tensor.xp.explain(op, inputs, params, error)
        raise
    if type(y) is not kind and type(y) not in BACKENDS:
        y = xp.asarray(y)  # NumPy gives scalars where arrays of no dimensions are meant
    if op.promotes and y.dtype is not dtype and (recast := promoted(inputs, y.dtype)):
        return apply(op, *recast, params=params, aux=aux)
    if not op.fresh and not op.view and (y.base is not None or any(y is a for a in arrays)):
        y = xp.copy(y)  # someone else's op gave back memory of its input without saying so
    version = inputs[0]._version if op.view and (y.base is not None or y is arrays[0]) else [0]
    out = alias(y, None, version)
    if record and modes.recording and op.backward is not None:
        if not op.fused and not op.reads & INPUTS:
            inputs = tuple([e or shell(x) for e, x in zip(edges, inputs)] if None in edges else edges)
            args = (*inputs, *params)
        out._node = node = Node(op, edges, inputs, args, saved, y)
        if op.reads & OUTPUT:
            node.output = alias(y, None, version)
    if observers[0]:
        observers[1](op, given, out)
    return (out, saved) if aux else out


def owned(x: Any) -> Any:
    """``x``, over a copy when its memory is the user's, who may change it before the rules read it."""
    if not isinstance(x, Tensor) or x._version is not None:
        return x
    return alias(BACKENDS[type(x._data)].copy(x._data), x._node, [0])


def shell(x: Any) -> Any:
    """Shape and dtype of an input whose values no rule reads; a number as it is."""
    return Node(None, (), (), (), None, x) if isinstance(x, Tensor) else x


def constant(op: Any, x: Any) -> Any:
    """An operand that may be no Tensor: Python numbers stay what they are (weakly typed), arrays become constants."""
    if isinstance(x, numpy.generic) and x.dtype.name in DTYPES:
        return x.item()
    if isinstance(x, (bool, int, float)):
        return x if type(x) in (bool, int, float) else float(x) if isinstance(x, float) else int(x)  # an IntEnum, say
    if isinstance(x, Tensor):
        return x
    if type(x) in BACKENDS and x.dtype.name in DTYPES:
        return alias(x, None, None)
    raise TypeError(
        f"{op.name}: operands are Tensors, arrays of numbers or Python numbers; got {describe(x)}; "
        "write tn.tensor(...) first"
    )


def promoted(inputs: tuple, result: Any) -> list:
    """Inputs with integers in the floats' dtype, or in the default one if there are no floats; [] when all is well."""
    dtypes = [x.dtype for x in inputs if isinstance(x, Tensor)]
    floats = [d for d in dtypes if d in FLOATS]
    if result not in FLOATS or len(floats) == len(dtypes):
        return []
    target = numpy.result_type(*floats) if floats else defaults.dtype
    return [x.astype(target) if isinstance(x, Tensor) and x.dtype not in FLOATS else x for x in inputs]
