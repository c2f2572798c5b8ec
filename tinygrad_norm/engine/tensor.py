"""The Tensor: an array, the node that made it, and the version of its memory.

Operators and methods are one-liners that go through ``xp``, the namespace of Tensors (``tinygrad_norm.ops``, which
registers itself here), so that editors and type checkers see them and this file imports nothing from above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy

from ..backend import BACKENDS, backend_for, cpu

Operand: TypeAlias = "Tensor | numpy.ndarray | float | int | bool"
Axis: TypeAlias = int | tuple[int, ...] | None

xp: Any = None
"""The namespace of Tensors: NumPy's function names, on Tensors."""


def register_namespace(module: Any) -> None:
    """Make ``module`` (``tinygrad_norm.ops``) the namespace of Tensors, and its docstrings those of the methods."""
    global xp
    xp = module
    for name, method in vars(Tensor).items():
        if not name.startswith("_") and callable(method) and method.__doc__ is None:
            method.__doc__ = getattr(xp, name).__doc__


def namespace(x: Any) -> Any:
    """What computes with ``x``: the namespace of Tensors, or an array's backend."""
    return xp if isinstance(x, Tensor) else BACKENDS[type(x)]


class Tensor:
    """An n-dimensional array that remembers how it was computed. Make one with ``tn.tensor(...)``.

    Tensors own their memory: ``data`` and ``numpy()`` are read-only views, and every write through the tensor
    (``x[...] = v``, ``x += v``, ``x.copy_(v)``, ``x.data = v``) is counted, so that a gradient that needs the old values
    is an error and never wrong.
    """

    __slots__ = ("__weakref__", "_data", "_frozen", "_node", "_version")

    # _data: the raw array. _node: the graph node that made it, a leaf's own node, or None when it needs no gradient.
    # _version: a one-item list with the birth number of the last edit, shared by all views of one memory; None for
    # memory borrowed from the user, where edits cannot be seen. _frozen: a leaf's node while it needs no gradient.
    _data: Any
    _node: Any
    _version: list[int] | None
    _frozen: Any

    __array_ufunc__ = None  # so that numpy_array * tensor calls Tensor.__rmul__ and the graph is kept
    __hash__ = object.__hash__

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("Tensor: write tn.tensor(values, dtype=..., device=..., requires_grad=...)")

    # ---- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each dimension."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._data.size

    @property
    def dtype(self) -> numpy.dtype:
        """Data type of the elements."""
        return self._data.dtype

    @property
    def device(self) -> str:
        """Name of the device that holds the elements: "cpu" or "cuda"."""
        return BACKENDS[type(self._data)].device

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this tensor."""
        return self._node is None or self._node.op is None

    @property
    def grad(self) -> Tensor | None:
        """The gradient that ``backward()`` has added up here: a Tensor without history, or None."""
        watch = None if self._node is None else self._node.watch
        return None if watch is None else watch.grad

    @grad.setter
    def grad(self, value: Tensor | numpy.ndarray | None) -> None:
        xp.set_grad(self, value)

    @property
    def data(self) -> Any:
        """The raw array: a read-only view on the CPU. Assigning writes the values in place."""
        return BACKENDS[type(self._data)].readonly(self._data)

    @data.setter
    def data(self, value: Any) -> None:
        with xp.no_grad():
            self.copy_(value)

    T = property(lambda self: xp.transpose(self), doc="The transpose: all dimensions reversed.")

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor; it holds one number: x.item()")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    # ---- out of the graph, to another place

    def numpy(self) -> numpy.ndarray:
        """The values as a NumPy array: a read-only view on the CPU, a copy from a GPU."""
        return cpu.readonly(BACKENDS[type(self._data)].to_host(self._data))

    def item(self) -> Any:
        """The one element as a Python number.

        Raises:
            ValueError: the tensor has more or fewer elements than one.
        """
        if self.size != 1:
            raise ValueError(f"item: only a tensor of one element is a number; got {describe(self)}")
        return BACKENDS[type(self._data)].to_host(self._data).item()

    def tolist(self) -> Any:
        """The values as nested Python lists."""
        return self.cpu()._data.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"only an integer tensor can be used as an index; got {describe(self)}")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"the truth of {describe(self)} is ambiguous; write .any() or .all()")
        return bool(self.item())

    def detach(self) -> Tensor:
        """The same values and memory, outside the graph."""
        return alias(self._data, None, self._version)

    def __reduce__(self) -> Any:
        if not self.is_leaf:
            raise RuntimeError(
                f"only leaf tensors can be copied or pickled; got {describe(self)}; write x.detach() first"
            )
        return restore, (type(self), self.numpy(), self.device, self.requires_grad, self.grad)

    # ---- writes, each counted

    def copy_(self, value: Operand) -> Tensor:
        """Write ``value`` (broadcast to this shape, same kind of dtype) into this tensor's memory."""
        self[...] = value
        return self

    # ---- operators and methods: what they do is said where ``xp`` has them, and copied from there
    # fmt: off

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None: xp.backward(self, gradient, retain_graph)
    def requires_grad_(self, requires_grad: bool = True) -> Tensor: return xp.requires_grad_(self, requires_grad)
    def retain_grad(self) -> None: xp.retain_grad(self)
    def register_hook(self, hook: Callable[[Tensor], Any]) -> Callable[[], None]: return xp.register_hook(self, hook)
    def clone(self) -> Tensor: return xp.clone(self)
    def to(self, device_or_dtype: Any) -> Tensor: return xp.to(self, device_or_dtype)
    def astype(self, dtype: Any) -> Tensor: return xp.astype(self, dtype)
    def cpu(self) -> Tensor: return xp.cpu(self)
    def cuda(self) -> Tensor: return xp.cuda(self)

    def __repr__(self) -> str: return xp.tensor_text(self)
    def _repr_html_(self) -> str: return xp.tensor_table(self)
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any: return xp.as_numpy(self, dtype, copy)
    def __setitem__(self, index: Any, value: Operand) -> None: xp.assign(self, index, value)
    def __iadd__(self, other: Operand) -> Tensor: return xp.edit(self, xp.add, other)
    def __isub__(self, other: Operand) -> Tensor: return xp.edit(self, xp.subtract, other)
    def __imul__(self, other: Operand) -> Tensor: return xp.edit(self, xp.multiply, other)
    def __itruediv__(self, other: Operand) -> Tensor: return xp.edit(self, xp.divide, other)
    def __ipow__(self, other: Operand) -> Tensor: return xp.edit(self, xp.power, other)
    def __imatmul__(self, other: Operand) -> Tensor: return xp.edit(self, xp.matmul, other)
    def __iand__(self, other: Operand) -> Tensor: return xp.edit(self, xp.and_, other)
    def __ior__(self, other: Operand) -> Tensor: return xp.edit(self, xp.or_, other)
    def __getitem__(self, index: Any) -> Tensor: return xp.getitem(self, index)
    def __neg__(self) -> Tensor: return xp.negative(self)
    def __pos__(self) -> Tensor: return self
    def __abs__(self) -> Tensor: return xp.abs(self)
    def __invert__(self) -> Tensor: return xp.invert(self)
    def __add__(self, other: Operand) -> Tensor: return xp.add(self, other)
    def __radd__(self, other: Operand) -> Tensor: return xp.add(other, self)
    def __sub__(self, other: Operand) -> Tensor: return xp.subtract(self, other)
    def __rsub__(self, other: Operand) -> Tensor: return xp.subtract(other, self)
    def __mul__(self, other: Operand) -> Tensor: return xp.multiply(self, other)
    def __rmul__(self, other: Operand) -> Tensor: return xp.multiply(other, self)
    def __truediv__(self, other: Operand) -> Tensor: return xp.divide(self, other)
    def __rtruediv__(self, other: Operand) -> Tensor: return xp.divide(other, self)
    def __pow__(self, other: Operand) -> Tensor: return xp.power(self, other)
    def __rpow__(self, other: Operand) -> Tensor: return xp.power(other, self)
    def __matmul__(self, other: Operand) -> Tensor: return xp.matmul(self, other)
    def __rmatmul__(self, other: Operand) -> Tensor: return xp.matmul(other, self)
    def __eq__(self, other: Any) -> Tensor: return xp.equal(self, other)  # type: ignore[override]
    def __ne__(self, other: Any) -> Tensor: return xp.not_equal(self, other)  # type: ignore[override]
    def __lt__(self, other: Any) -> Tensor: return xp.less(self, other)
    def __le__(self, other: Any) -> Tensor: return xp.less_equal(self, other)
    def __gt__(self, other: Any) -> Tensor: return xp.greater(self, other)
    def __ge__(self, other: Any) -> Tensor: return xp.greater_equal(self, other)
    def __and__(self, other: Operand) -> Tensor: return xp.and_(self, other)
    def __or__(self, other: Operand) -> Tensor: return xp.or_(self, other)
    __rand__, __ror__ = __and__, __or__

    # ---- elementwise functions

    def exp(self) -> Tensor: return xp.exp(self)
    def log(self) -> Tensor: return xp.log(self)
    def sqrt(self) -> Tensor: return xp.sqrt(self)
    def abs(self) -> Tensor: return xp.abs(self)
    def sign(self) -> Tensor: return xp.sign(self)
    def sin(self) -> Tensor: return xp.sin(self)
    def cos(self) -> Tensor: return xp.cos(self)
    def tanh(self) -> Tensor: return xp.tanh(self)
    def erf(self) -> Tensor: return xp.erf(self)
    def log1p(self) -> Tensor: return xp.log1p(self)
    def expm1(self) -> Tensor: return xp.expm1(self)
    def maximum(self, other: Operand) -> Tensor: return xp.maximum(self, other)
    def minimum(self, other: Operand) -> Tensor: return xp.minimum(self, other)
    def matmul(self, other: Operand) -> Tensor: return xp.matmul(self, other)
    def relu(self) -> Tensor: return xp.relu(self)
    def sigmoid(self) -> Tensor: return xp.sigmoid(self)
    def clip(self, min: Any = None, max: Any = None) -> Tensor: return xp.clip(self, min, max)
    clamp = clip

    # ---- reductions

    def sum(self, axis: Axis = None, keepdims: bool = False, **dim: Any) -> Tensor: return xp.sum(self, axis, keepdims=keepdims, **dim)
    def mean(self, axis: Axis = None, keepdims: bool = False, **dim: Any) -> Tensor: return xp.mean(self, axis, keepdims=keepdims, **dim)
    def max(self, axis: Axis = None, keepdims: bool = False, **dim: Any) -> Tensor: return xp.max(self, axis, keepdims=keepdims, **dim)
    def min(self, axis: Axis = None, keepdims: bool = False, **dim: Any) -> Tensor: return xp.min(self, axis, keepdims=keepdims, **dim)
    def prod(self, axis: Axis = None, keepdims: bool = False, **dim: Any) -> Tensor: return xp.prod(self, axis, keepdims=keepdims, **dim)
    def logsumexp(self, axis: Axis = None, keepdims: bool = False, **dim: Any) -> Tensor: return xp.logsumexp(self, axis, keepdims=keepdims, **dim)
    def any(self, axis: Axis = None, keepdims: bool = False, **dim: Any) -> Tensor: return xp.any(self, axis, keepdims=keepdims, **dim)
    def all(self, axis: Axis = None, keepdims: bool = False, **dim: Any) -> Tensor: return xp.all(self, axis, keepdims=keepdims, **dim)
    def var(self, axis: Axis = None, ddof: int = 0, keepdims: bool = False, **dim: Any) -> Tensor: return xp.var(self, axis, ddof, keepdims=keepdims, **dim)
    def std(self, axis: Axis = None, ddof: int = 0, keepdims: bool = False, **dim: Any) -> Tensor: return xp.std(self, axis, ddof, keepdims=keepdims, **dim)
    def argmax(self, axis: int | None = None, keepdims: bool = False, **dim: Any) -> Tensor: return xp.argmax(self, axis, keepdims=keepdims, **dim)
    def argmin(self, axis: int | None = None, keepdims: bool = False, **dim: Any) -> Tensor: return xp.argmin(self, axis, keepdims=keepdims, **dim)
    def cumsum(self, axis: int | None = None, **dim: Any) -> Tensor: return xp.cumsum(self, axis, **dim)

    # ---- shapes

    def reshape(self, *shape: Any) -> Tensor: return xp.reshape(self, *shape)
    view = reshape
    def transpose(self, *axes: Any) -> Tensor: return xp.transpose(self, *axes)
    def permute(self, *axes: Any) -> Tensor: return xp.permute(self, *axes)
    def swapaxes(self, axis1: int, axis2: int) -> Tensor: return xp.swapaxes(self, axis1, axis2)
    def squeeze(self, axis: Axis = None, **dim: Any) -> Tensor: return xp.squeeze(self, axis, **dim)
    def expand_dims(self, *axis: Any, **dim: Any) -> Tensor: return xp.expand_dims(self, *axis, **dim)
    unsqueeze = expand_dims
    def broadcast_to(self, *shape: Any) -> Tensor: return xp.broadcast_to(self, *shape)
    def expand(self, *shape: Any) -> Tensor: return xp.expand(self, *shape)
    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor: return xp.flatten(self, start_dim, end_dim)
    def flip(self, axis: Axis = None, **dim: Any) -> Tensor: return xp.flip(self, axis, **dim)
    def split(self, sections: Any, axis: int = 0, **dim: Any) -> list[Tensor]: return xp.split(self, sections, axis, **dim)
    def repeat(self, repeats: int, axis: int | None = None) -> Tensor: return xp.repeat(self, repeats, axis)
    def tile(self, reps: Any) -> Tensor: return xp.tile(self, reps)

    # fmt: on


def wrap(data: Any) -> Tensor:
    """A Tensor over a raw array that nobody else holds; no checks, no copy."""
    return alias(data, None, [0])


def alias(data: Any, node: Any, version: list[int] | None) -> Tensor:
    """A Tensor over a raw array, with a given node and version; no checks, no copy."""
    out = new(Tensor)
    out._data = data
    out._node = node
    out._version = version
    return out


new = object.__new__


def restore(kind: type, array: numpy.ndarray, device: str, requires_grad: bool, grad: Tensor | None) -> Tensor:
    """Rebuild a copied or unpickled leaf."""
    out: Tensor = new(kind)
    out._data, out._node, out._version = backend_for(device).from_host(array.copy()), None, [0]
    if requires_grad:
        out.requires_grad_()
        out.grad = grad
    return out


def describe(x: Any) -> str:
    """A value in an error message: shape and dtype of an array, type and value of anything else."""
    if isinstance(x, (Tensor, numpy.ndarray)) or type(x) in BACKENDS:
        return f"{type(x).__name__} of shape {x.shape} and dtype {x.dtype}"
    text = repr(x)
    return f"{text if len(text) < 60 else text[:57] + '...'} ({type(x).__name__})"
