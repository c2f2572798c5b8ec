"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count, pairwise
from typing import Any

from ..engine.tensor import describe
from ..ops.arguments import number_in, whole_number
from .activations import ELU, GELU, SELU, Hardtanh, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from .batch_norm import BatchNorm1d
from .layer_norm import GroupNorm, LayerNorm, RMSNorm
from .layers import Dropout, Identity, Linear
from .module import Module
from .weights import CosineLinear, WeightNorm


class _Container(Module):
    """A module that holds its children in order, each under a name."""

    def _children(self) -> dict[str, Module]:
        return {name: x for name, x in vars(self).items() if isinstance(x, Module)}

    def _add(self, name: Any, module: Any) -> None:
        where = type(self).__name__
        if not isinstance(module, Module):
            hint = "; write Sequential(*layers) for a list of layers" if isinstance(module, (list, tuple)) else ""
            if isinstance(module, type) and issubclass(module, Module):
                hint = f", a class; write {module.__name__}(...)"
            raise TypeError(f"{where}: {name!r} must be a Module; got {describe(module)}{hint}")
        if not isinstance(name, str) or not name or "." in name or hasattr(type(self), name):
            raise ValueError(f"{where}: a name is text without dots that is no method of {where}; got {name!r}")
        setattr(self, name, module)

    def __len__(self) -> int:
        return len(self._children())


class _Listed(_Container):
    """A container addressed by position."""

    def append(self, module: Module) -> Any:
        """Add a module at the end, and return the container."""
        taken = self._children()  # of a slice, or where one was deleted, the number of modules may be among the names
        self._add(next(str(n) for n in count(len(taken)) if str(n) not in taken), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end, and return the container."""
        for module in modules:
            self.append(module)
        return self

    def __iter__(self) -> Iterator[Module]:
        return iter(self._children().values())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._part(dict(list(self._children().items())[index]))
        return list(self)[index]

    def __setitem__(self, index: int, module: Module) -> None:
        self._add(list(self._children())[index], module)

    def _part(self, children: dict[str, Module]) -> Any:
        raise NotImplementedError


class Sequential(_Listed):
    """Modules in a row: each gets what the one before gives.

    Args:
        *modules: the modules, named "0", "1", ...; or one mapping of names to modules.

    Raises:
        TypeError: something that is not a Module.

    >>> import tinygrad_norm as tn
    >>> nn = tn.nn
    >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
    >>> model(tn.ones(5, 2)).shape
    (5, 1)
    >>> model
    Sequential(
      (0): Linear(in_features=2, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=1, bias=True)
    )  # 33 parameters
    >>> model[0], len(model[1:])
    (Linear(in_features=2, out_features=8, bias=True), 2)
    """

    def __init__(self, *modules: Any) -> None:
        named = len(modules) == 1 and isinstance(modules[0], Mapping)
        for name, module in modules[0].items() if named else enumerate(modules):
            self._add(name if named else str(name), module)

    def forward(self, x: Any) -> Any:
        """The output of the last module."""
        for module in vars(self).values():
            if isinstance(module, Module):
                x = module(x)
        return x

    def _part(self, children: dict[str, Module]) -> Sequential:
        return Sequential(children)


class ModuleList(_Listed):
    """A list whose modules belong to the model; it has no forward of its own.

    >>> import tinygrad_norm as tn
    >>> layers = tn.nn.ModuleList(tn.nn.Linear(2, 2) for _ in range(3))
    >>> len(layers), len(list(layers.parameters()))
    (3, 6)
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def _part(self, children: dict[str, Module]) -> ModuleList:
        return ModuleList(children.values())


class ModuleDict(_Container):
    """A dictionary whose modules belong to the model; it has no forward of its own.

    >>> import tinygrad_norm as tn
    >>> heads = tn.nn.ModuleDict({"digit": tn.nn.Linear(8, 10), "parity": tn.nn.Linear(8, 2)})
    >>> heads["parity"](tn.ones(1, 8)).shape
    (1, 2)
    >>> list(heads), "digit" in heads
    (['digit', 'parity'], True)
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add modules under their names."""
        for name, module in modules.items():
            self._add(name, module)

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._children().keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._children().values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """The names and the modules."""
        return self._children().items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._children())

    def __contains__(self, name: object) -> bool:
        return name in self._children()

    def __getitem__(self, name: str) -> Module:
        return self._children()[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self._add(name, module)

    def __delitem__(self, name: str) -> None:
        delattr(self, name)


ACTIVATIONS: dict[str, type[Module]] = {
    "relu": ReLU, "leaky_relu": LeakyReLU, "elu": ELU, "selu": SELU, "gelu": GELU, "silu": SiLU, "sigmoid": Sigmoid,
    "tanh": Tanh, "softplus": Softplus, "hardtanh": Hardtanh, "identity": Identity,
}  # fmt: skip
NORMS = (None, "batch", "layer", "weight", "cosine", "rms", "group")


class MLP(Sequential):
    """A multilayer perceptron: linear, norm, activation, dropout for every hidden layer, and a last linear layer.

    Args:
        sizes: lengths of the input, the hidden layers and the output.
        norm: what stands between linear and activation of the hidden layers: None, "batch", "layer", "rms" or "group";
            "weight" wraps the hidden linear layers in WeightNorm, "cosine" replaces them by CosineLinear with a learned
            scale, because unscaled cosines starve deep nets of signal.
        activation: "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "sigmoid", "tanh", "softplus", "hardtanh" or
            "identity".
        dropout: probability of a zero behind each hidden activation; at 0 there are no dropout layers.
        dtype, device: of the parameters.

    Raises:
        TypeError: sizes that are no list.
        ValueError: an unknown name (the message lists those that exist), fewer than two sizes, or one that is no
            positive integer.

    >>> import tinygrad_norm as tn
    >>> model = tn.nn.MLP([64, 32, 10], norm="batch")
    >>> model(tn.rand(5, 64)).shape
    (5, 10)
    >>> model
    MLP(
      (linear1): Linear(in_features=64, out_features=32, bias=False)
      (norm1): BatchNorm1d(32, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
      (activation1): ReLU()
      (linear2): Linear(in_features=32, out_features=10, bias=True)
    )  # 2,442 parameters
    """

    def __init__(
        self, sizes: Iterable[int], norm: str | None = None, activation: str = "relu", dropout: float = 0.0, *,
        dtype: Any = None, device: str | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(sizes, Iterable):
            raise TypeError(f"MLP: sizes must be a list, as in MLP([64, 32, 10]); got {describe(sizes)}")
        widths = [whole_number("MLP", f"sizes[{i}]", n) for i, n in enumerate(sizes)]
        if len(widths) < 2:
            raise ValueError(f"MLP: sizes must name at least the lengths of input and output; got {widths}")
        if norm not in NORMS:
            raise ValueError(f"MLP: norm must be one of {', '.join(map(repr, NORMS))}; got {norm!r}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"MLP: activation must be one of {', '.join(map(repr, ACTIVATIONS))}; got {activation!r}")
        number_in("MLP", "dropout", dropout, 0, 1)
        made = {"dtype": dtype, "device": device}
        for i, (n, m) in enumerate(pairwise(widths[:-1]), 1):
            self._add(f"linear{i}", _hidden_linear(n, m, norm, made))
            if norm in ("batch", "layer", "rms", "group"):
                self._add(f"norm{i}", _norm(m, norm, made))
            self._add(f"activation{i}", ACTIVATIONS[activation]())
            if dropout:
                self._add(f"dropout{i}", Dropout(dropout))
        self._add(f"linear{len(widths) - 1}", Linear(widths[-2], widths[-1], **made))


def _hidden_linear(n: int, m: int, norm: str | None, made: dict[str, Any]) -> Module:
    if norm == "weight":
        return WeightNorm(Linear(n, m, **made))
    if norm == "cosine":
        return CosineLinear(n, m, bias=True, scale="learned", **made)
    # Batch norm subtracts whatever bias there was; its own takes that place.
    return Linear(n, m, bias=norm != "batch", **made)


def _norm(width: int, norm: str | None, made: dict[str, Any]) -> Module:
    if norm == "batch":
        return BatchNorm1d(width, **made)
    if norm == "layer":
        return LayerNorm(width, **made)
    if norm == "rms":
        return RMSNorm(width, **made)
    # Up to 8 groups of at least 4 channels: one channel alone is always 0, and two are +1 and -1, whatever they hold.
    groups = max(g for g in range(1, 9) if width % g == 0 and (width >= 4 * g or g == 1))
    return GroupNorm(groups, width, **made)
