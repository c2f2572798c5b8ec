"""Modules: objects that own parameters, buffers and other modules, and are called like functions.

A module keeps no lists of what it owns. Every attribute that is a :class:`Parameter`, a :class:`Buffer` or a
:class:`Module` belongs to it, in the order of assignment, and is found where Python puts attributes: in ``vars(self)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

from ..backend import FLOATS, as_dtype, names_dtype
from ..engine import Tensor, no_grad
from ..engine.op import mark_edited
from ..engine.tensor import describe
from ..ops.create import tensor
from .summary import module_table


class Parameter(Tensor):
    """A tensor that is learned: it needs a gradient, and a module that has it as an attribute owns it.

    Args:
        data: initial values, which are copied: a Tensor, an array or lists of floats.
        decay: whether weight decay applies. Layers write ``decay=False`` for biases and the parameters of norms.

    Raises:
        TypeError: the values are not floating.

    >>> import tinygrad_norm as tn
    >>> p = tn.nn.Parameter([1.0, 2.0], decay=False)
    >>> p.requires_grad, p.decay
    (True, False)
    """

    __slots__ = ("decay",)

    decay: bool

    def __init__(self, data: Any, decay: bool = True) -> None:
        _hold_copy(self, data)
        self.requires_grad_()
        self.decay = decay

    def __reduce__(self) -> Any:
        return (*super().__reduce__(), (None, {"decay": self.decay}))


class Buffer(Tensor):
    """A tensor that is part of a module's state but not learned, such as a running mean.

    Write to it in place, or assign another tensor to the attribute: its values are copied into a new Buffer.

    Args:
        data: initial values, which are copied: a Tensor, an array or lists of numbers.

    >>> import tinygrad_norm as tn
    >>> tn.nn.Buffer([0.0, 0.0]).requires_grad
    False
    """

    __slots__ = ()

    def __init__(self, data: Any) -> None:
        _hold_copy(self, data)


def _hold_copy(x: Tensor, data: Any) -> None:
    copied = tensor(data, device=data.device if isinstance(data, Tensor) else None)
    x._data, x._node, x._version = copied._data, None, copied._version


class LoadReport(NamedTuple):
    """What ``load_state_dict(strict=False)`` left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """The base of layers, models and losses: write ``forward``, assign parameters and modules as attributes.

    >>> import tinygrad_norm as tn
    >>> class Scale(tn.nn.Module):
    ...     def __init__(self):
    ...         self.factor = tn.nn.Parameter([2.0])
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> layer = Scale()
    >>> layer(tn.tensor([3.0])).item()
    6.0
    >>> [name for name, p in layer.named_parameters()]
    ['factor']
    """

    training: bool = True
    _forward_hooks: Mapping[object, Callable[..., Any]] = {}  # replaced, never written to

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the module computes; every subclass writes its own. Call the module itself, ``module(x)``."""
        raise NotImplementedError(f"{type(self).__name__}: write forward(self, x), or call a module inside it")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        try:
            output = self.forward(*inputs, **options)
            for hook in self._forward_hooks.values():
                output = output if (changed := hook(self, inputs, output)) is None else changed
        except Exception as error:
            self._locate(error)
            raise
        return output

    def _locate(self, error: Any) -> None:
        """Say in a note which module raised the error; each module it passes puts its part of the path in front."""
        inner, path, what, old = getattr(error, "module_path", (self, "", self._line(), None))
        name = next((name for name, module in self.named_modules() if module is inner), "")
        path = ".".join(filter(None, [name, path]))
        note = f"in {path} ({what})" if path else f"in {what}"
        if old is None:
            error.add_note(note)
        else:
            error.__notes__[error.__notes__.index(old)] = note
        error.module_path = (self, path, what, note)

    def register_forward_hook(self, hook: Callable[[Module, tuple, Any], Any]) -> Callable[[], None]:
        """Call ``hook(module, inputs, output)`` after every forward; what it returns, unless None, is the output.

        Returns:
            A function that removes the hook.
        """
        key = object()
        self._forward_hooks = {**self._forward_hooks, key: hook}

        def remove() -> None:
            self._forward_hooks = {k: h for k, h in self._forward_hooks.items() if k is not key}

        return remove

    def __setattr__(self, name: str, value: Any) -> None:
        old = vars(self).get(name)
        if isinstance(old, (Parameter, Buffer)) and not (value is None or isinstance(value, (Parameter, Buffer))):
            if isinstance(old, Parameter) or not isinstance(value, Tensor):
                kind = type(old).__name__
                raise TypeError(f"{name} is a {kind}; write nn.{kind}(...) or .copy_(...); got {describe(value)}")
            value = Buffer(value)
        object.__setattr__(self, name, value)

    # ---- what it owns

    def _tree(self, path: str = "") -> Iterator[tuple[str, Module]]:
        yield path, self
        for name, child in self._below():
            yield from child._tree(f"{path}.{name}" if path else name)

    def _below(self) -> list[tuple[str, Module]]:
        return [(name, x) for name, x in vars(self).items() if isinstance(x, Module)]

    def _tensors(self, kind: Any) -> Iterator[tuple[str, Any]]:
        for path, module in self._tree():
            for name, x in list(vars(module).items()):  # the caller may assign attributes meanwhile
                if isinstance(x, kind):
                    yield f"{path}.{name}" if path else name, x

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules that are attributes of this one, with their names, each once."""
        return _once(self._below())

    def children(self) -> Iterator[Module]:
        """The modules that are attributes of this one, each once."""
        return (x for _, x in self.named_children())

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with their dotted paths; a shared one is listed once, under its first."""
        return _once(self._tree())

    def modules(self) -> Iterator[Module]:
        """This module and all modules below it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names; a shared one is listed once, under its first name."""
        return _once(self._tensors(Parameter))

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """All buffers with their dotted names, each once."""
        return _once(self._tensors(Buffer))

    def buffers(self) -> Iterator[Buffer]:
        """All buffers, each once."""
        return (b for _, b in self.named_buffers())

    # ---- what is done to all of it

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all below to training (or, with False, to evaluation), and change nothing else."""
        if not isinstance(mode, bool):
            raise TypeError(f"train: mode must be True or False; got {describe(mode)}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch this module and all below to evaluation, and change nothing else."""
        return self.train(False)

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn(module)`` on every module below and then on this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Make all parameters need gradients, or freeze them."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self) -> None:
        """Drop the gradients of all parameters."""
        for p in self.parameters():
            p.grad = None

    def to(self, device_or_dtype: Any) -> Self:
        """Move parameters and buffers to a device, or give the floating ones another dtype; the objects stay the same.

        Raises:
            ValueError: no such device here.
            TypeError: the dtype is not floating.
        """
        to_device = isinstance(device_or_dtype, str) and not names_dtype(device_or_dtype)
        if not to_device and as_dtype(device_or_dtype, "Module.to") not in FLOATS:
            raise TypeError(f"Module.to: a model computes in float16, float32 or float64; got {device_or_dtype!r}")
        for _, x in _once(self._tensors((Parameter, Buffer))):
            if to_device or x.dtype in FLOATS:
                _move(x, device_or_dtype)
        return self

    # ---- its state

    def state_dict(self) -> dict[str, Tensor]:
        """Copies, on the host, of all parameters and buffers by dotted name; a shared one under each of its names."""
        return {name: tensor(x, device="cpu") for name, x in self._tensors((Parameter, Buffer))}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadReport:
        """Copy values into parameters and buffers, all of them or, when anything does not fit, none.

        Args:
            state: dotted names to Tensors or arrays, as ``state_dict()`` gives them; shapes and dtypes must be equal.
            strict: names must be equal too; otherwise missing and unexpected ones are left out and returned.

        Returns:
            The names left out: ``missing_keys`` and ``unexpected_keys``.

        Raises:
            ValueError: something does not fit; the message lists all of it, and nothing was loaded.

        >>> import tinygrad_norm as tn
        >>> a, b = tn.nn.Linear(2, 1), tn.nn.Linear(2, 1)
        >>> b.load_state_dict(a.state_dict())
        LoadReport(missing_keys=[], unexpected_keys=[])
        >>> bool((a.weight == b.weight).all())
        True
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: state must be a mapping of names to tensors; got {describe(state)}")
        own = dict(self._tensors((Parameter, Buffer)))
        report = LoadReport([k for k in own if k not in state], [k for k in state if k not in own])
        # Copies first: an entry may be a view of what is about to be written to.
        values = {name: tensor(state[name], device="cpu") for name in own if name in state}
        problems = [f"{what}: {', '.join(keys)}" for what, keys in report._asdict().items() if strict and keys]
        for name, value in values.items():
            x = own[name]
            if (value.shape, value.dtype) != (x.shape, x.dtype):
                problems.append(f"{name}: {x.shape} {x.dtype} here, {value.shape} {value.dtype} in the state")
        if problems:
            title = f"load_state_dict: nothing was loaded, because the state does not fit this {type(self).__name__}"
            raise ValueError("\n  ".join([f"{title} (if only in dtype: model.to(dtype) helps)", *problems]))
        with no_grad():
            for name, value in values.items():
                own[name].copy_(value.to(own[name].device))
        return report

    # ---- how it looks

    def extra_repr(self) -> str:
        """What stands between the parentheses of this module's line in ``repr``."""
        return ""

    def _line(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def _text(self) -> str:
        below = [f"\n({name}): {child._text()}".replace("\n", "\n  ") for name, child in self._below()]
        return self._line()[:-1] + "".join(below) + "\n)" if below else self._line()

    def __repr__(self) -> str:
        text = self._text()
        return f"{text}  # {sum(p.size for p in self.parameters()):,} parameters" if "\n" in text else text

    _repr_html_ = module_table


def _once(named: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    first: dict[int, tuple[str, Any]] = {}
    for name, x in named:
        first.setdefault(id(x), (name, x))
    return iter(first.values())


def _move(x: Tensor, device_or_dtype: Any) -> None:
    moved = x.detach().to(device_or_dtype)
    if moved._data is x._data:
        return
    grad = x.grad
    # A graph recorded before the move took the old memory for the tensor's: to it, the move is an edit.
    x._data, x._version = moved._data, [0]
    mark_edited(x)
    if x._node is not None:
        x._node.dtype = moved.dtype
        x.grad = None if grad is None else grad.to(device_or_dtype)
