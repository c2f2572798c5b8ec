"""Layers that are one function of :mod:`tinygrad_norm.functional` and remember its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from ..engine import Tensor
from ..engine.tensor import describe
from .module import Buffer, Module


class FunctionLayer(Module):
    """A function as a module: a subclass names the function, and takes its options when it is made.

    The options are attributes under their own names; those in ``tensors`` are Buffers, so that they move with the
    model. They come from the function's signature: all parameters behind the first ``inputs``.

    >>> import tinygrad_norm as tn
    >>> class Clip(FunctionLayer):
    ...     function = staticmethod(tn.functional.hardtanh)
    >>> Clip(max_val=2.0)
    Clip(min_val=-1.0, max_val=2.0)
    >>> Clip(-5.0)(tn.tensor([-9.0])).item()
    -5.0
    """

    function: ClassVar[Callable[..., Any]]
    inputs: ClassVar[int] = 1
    tensors: ClassVar[tuple[str, ...]] = ()
    option_names: ClassVar[tuple[str, ...]]
    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "function"):
            options = list(inspect.signature(cls.function).parameters.values())[cls.inputs :]
            cls.__signature__ = inspect.Signature(options)
            cls.option_names = tuple(cls.__signature__.parameters)

    def __init__(self, *args: Any, **options: Any) -> None:
        try:
            bound = self.__signature__.bind(*args, **options)
        except TypeError as error:
            name = type(self).__name__
            raise TypeError(f"{name}: {error}; write {name}{self.__signature__}") from None
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            if isinstance(value, Tensor) and name not in self.tensors:
                kind = type(self).__name__
                raise TypeError(
                    f"{kind}: {name} cannot be a Tensor; got {describe(value)}. Options come first, data later: "
                    f"{kind}(...)({', '.join(f'x{i}' for i in range(self.inputs))})"
                )
            if isinstance(value, Tensor) and value.requires_grad:
                raise TypeError(
                    f"{type(self).__name__}: {name} is a constant of the loss, which no gradient would reach; got "
                    f"{describe(value)}; write {name}.detach()"
                )
            setattr(self, name, Buffer(value) if name in self.tensors and value is not None else value)

    def forward(self, *inputs: Any) -> Any:
        """The function of the inputs, with this layer's options."""
        return type(self).function(*inputs, **{name: getattr(self, name) for name in self.option_names})

    def extra_repr(self) -> str:
        """The options."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.option_names)
