"""One step of a recurrent net: a plain cell and the long short-term memory, with layer norm inside if wished."""

from __future__ import annotations

from math import sqrt
from typing import Any, ClassVar

from .. import functional as F
from ..engine import Tensor, apply
from ..engine.tensor import describe
from ..ops.arguments import whole_number
from ..ops.create import empty, zeros
from ..ops.recurrent import LstmOutput, LstmState
from . import init
from .layer_norm import LayerNorm
from .module import Module, Parameter

ACTIVATIONS = {"tanh": F.tanh, "relu": F.relu}


class Recurrent(Module):
    """What cells and layers share: parameters under PyTorch's names, and the checks of inputs and states.

    A cell's names have no suffix; those of layer k of a stack end in ``_lk``.
    """

    sums: ClassVar[int]  # how many sums a unit computes
    states: ClassVar[tuple[str, ...]]  # what it hands on from step to step
    norms: ClassVar[dict[str, int]]  # the layer norms inside, and how many numbers per unit each normalizes
    input_size: int
    hidden_size: int
    norm: str | None

    def make(self, sizes: list[int], suffixes: list[str], bias: bool, norm: str | None, **where: Any) -> None:
        """The parameters of every layer; with layer norm, its biases stand for those of the sums."""
        name, h = type(self).__name__, whole_number(type(self).__name__, "hidden_size", self.hidden_size)
        whole_number(name, "input_size", self.input_size)
        if norm not in (None, "layer"):
            raise ValueError(f"{name}: norm must be None or 'layer'; got {norm!r}")
        for size, suffix in zip(sizes, suffixes, strict=True):
            for part, columns in (("ih", size), ("hh", h)):
                setattr(self, f"weight_{part}{suffix}", Parameter(empty(self.sums * h, columns, **where)))
            for part in ("ih", "hh"):
                b = Parameter(empty(self.sums * h, **where), decay=False)
                setattr(self, f"bias_{part}{suffix}", b if bias and norm is None else None)
            for part, per_unit in self.norms.items():
                layer = LayerNorm(per_unit * h, bias=bias, **where) if norm else None
                setattr(self, f"{part}{suffix}", layer)
        self.norm = norm
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values anew: uniform on +-1 / sqrt(hidden_size); layer norms start at 1 and 0."""
        bound = 1 / sqrt(self.hidden_size)
        for v in vars(self).values():
            if isinstance(v, Parameter):
                init.uniform_(v, -bound, bound)
            elif isinstance(v, LayerNorm):
                for p, start in ((v.weight, init.ones_), (v.bias, init.zeros_)):
                    if p is not None:
                        start(p)

    def product(self, part: str, x: Tensor, suffix: str) -> Tensor:
        """x or h times its weight, plus its bias."""
        return F.linear(x, getattr(self, f"weight_{part}{suffix}"), getattr(self, f"bias_{part}{suffix}"))

    def normalized(self, part: str, x: Tensor, suffix: str) -> Tensor:
        """x through a layer norm, if there is one."""
        return x if self.norm is None else getattr(self, part + suffix)(x)

    def from_input(self, x: Tensor, suffix: str) -> Tensor:
        """The input's share of the sums, for one step or for all at once."""
        raise NotImplementedError

    def step(self, from_x: Tensor, state: tuple[Tensor, ...], suffix: str) -> tuple[Tensor, ...]:
        """The next state."""
        raise NotImplementedError

    def check(self, x: Any, ndims: tuple[int, ...], rule: str) -> None:
        """An input of the right size."""
        if not isinstance(x, Tensor) or x.ndim not in ndims or x.shape[-1] != self.input_size:
            raise ValueError(
                f"{type(self).__name__}: x must be {rule} with input_size = {self.input_size}; got {describe(x)}"
            )

    def start(self, x: Tensor, state: Any, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """The first state: zeros, or what was given."""
        if state is None:
            return tuple(zeros(shape, dtype=x.dtype, device=x.device) for _ in self.states)
        given = tuple(state) if isinstance(state, (tuple, list)) else (state,)
        wrong = len(given) != len(self.states) or any(not isinstance(s, Tensor) or s.shape != shape for s in given)
        if wrong:
            names = ", ".join(self.states)
            raise ValueError(
                f"{type(self).__name__}: the state must be {names if len(self.states) == 1 else f'({names})'} of shape "
                f"{shape} for x {x.shape}; got {', '.join(describe(s) for s in given)}"
            )
        return given

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.input_size}, {self.hidden_size}" + (f", norm={self.norm!r}" if self.norm else "")


class Plain(Recurrent):
    """h' = f(W_ih x + b_ih + W_hh h + b_hh)."""

    sums = 1
    states = ("h",)
    norms = {"norm_sums": 1}
    nonlinearity: str

    def check_nonlinearity(self) -> None:
        """One of those there are."""
        if self.nonlinearity not in ACTIVATIONS:
            raise ValueError(f"{type(self).__name__}: nonlinearity must be 'tanh' or 'relu'; got {self.nonlinearity!r}")

    def from_input(self, x: Tensor, suffix: str) -> Tensor:
        """W_ih x + b_ih."""
        return self.product("ih", x, suffix)

    def step(self, from_x: Tensor, state: tuple[Tensor, ...], suffix: str) -> tuple[Tensor, ...]:
        """The next h."""
        sums = from_x + self.product("hh", state[0], suffix)
        return (ACTIVATIONS[self.nonlinearity](self.normalized("norm_sums", sums, suffix)),)


class Gated(Recurrent):
    """c' = sigmoid(f) c + sigmoid(i) tanh(g) and h' = sigmoid(o) tanh(c'), from four sums per unit, (i, f, g, o)."""

    sums = 4
    states = ("h", "c")
    norms = {"norm_ih": 4, "norm_hh": 4, "norm_cell": 1}

    def from_input(self, x: Tensor, suffix: str) -> Tensor:
        """W_ih x + b_ih, or LN(W_ih x)."""
        return self.normalized("norm_ih", self.product("ih", x, suffix), suffix)

    def step(self, from_x: Tensor, state: tuple[Tensor, ...], suffix: str) -> tuple[Tensor, ...]:
        """The next h and c."""
        h, c = state
        sums = from_x + self.normalized("norm_hh", self.product("hh", h, suffix), suffix)
        c = apply(LstmState, sums, c)
        return apply(LstmOutput, sums, self.normalized("norm_cell", c, suffix)), c


class Cell(Recurrent):
    """One step, for a batch of inputs or for one."""

    def forward(self, x: Tensor, state: Any = None) -> Any:
        """(N, input_size) or (input_size,), and the last state (by default zeros), to the next one."""
        self.check(x, (1, 2), "(N, input_size) or (input_size,)")
        now = self.step(self.from_input(x, ""), self.start(x, state, (*x.shape[:-1], self.hidden_size)), "")
        return now if len(now) > 1 else now[0]


class RNNCell(Plain, Cell):
    """One step of a recurrent net (Elman 1990): h' = f(W_ih x + b_ih + W_hh h + b_hh).

    With layer norm the sums are normalized over the units (Ba, Kiros, Hinton 2016): h' = f(LN(W_ih x + W_hh h)), with
    one gain and one bias per unit.

    Args:
        input_size: length of x.
        hidden_size: number of units.
        bias: whether there are biases.
        nonlinearity: f, "tanh" or "relu".
        norm: None or "layer".
        dtype: of the parameters; by default the default dtype.
        device: of the parameters; by default the default device.

    Attributes:
        weight_ih, weight_hh: (hidden_size, input_size) and (hidden_size, hidden_size).
        bias_ih, bias_hh: (hidden_size,), or None: without bias, and with layer norm, whose bias stands for both.
        norm_sums: the LayerNorm, or None.

    Raises:
        ValueError: an option that does not exist; when called, shapes that do not fit.

    >>> import tinygrad_norm as tn
    >>> cell = tn.nn.RNNCell(3, 5)
    >>> h = cell(tn.ones(2, 3))  # the first h is 0
    >>> cell(tn.ones(2, 3), h).shape
    (2, 5)
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", *,
        norm: str | None = None, dtype: Any = None, device: str | None = None,
    ) -> None:  # fmt: skip
        self.input_size, self.hidden_size, self.nonlinearity = input_size, hidden_size, nonlinearity
        self.check_nonlinearity()
        self.make([input_size], [""], bias, norm, dtype=dtype, device=device)


class LSTMCell(Gated, Cell):
    """One step of a long short-term memory (Hochreiter, Schmidhuber 1997), with forget gates (Gers et al. 1999).

    (i, f, g, o) = W_ih x + b_ih + W_hh h + b_hh; c' = sigmoid(f) c + sigmoid(i) tanh(g); h' = sigmoid(o) tanh(c').

    With layer norm (Ba, Kiros, Hinton 2016) the two products and the cell's output are normalized:
    (i, f, g, o) = LN(W_ih x) + LN(W_hh h) and h' = sigmoid(o) tanh(LN(c')), with one gain and one bias per unit.

    Args:
        input_size: length of x.
        hidden_size: number of units.
        bias: whether there are biases.
        norm: None or "layer".
        dtype: of the parameters; by default the default dtype.
        device: of the parameters; by default the default device.

    Attributes:
        weight_ih, weight_hh: (4 hidden_size, input_size) and (4 hidden_size, hidden_size).
        bias_ih, bias_hh: (4 hidden_size,), or None: without bias, and with layer norm, whose biases stand for them.
        norm_ih, norm_hh, norm_cell: the LayerNorms, or None.

    Raises:
        ValueError: an option that does not exist; when called, shapes that do not fit.

    >>> import tinygrad_norm as tn
    >>> cell = tn.nn.LSTMCell(3, 5)
    >>> h, c = cell(tn.ones(2, 3))  # the first h and c are 0
    >>> h, c = cell(tn.ones(2, 3), (h, c))
    >>> h.shape, c.shape
    ((2, 5), (2, 5))
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, norm: str | None = None, dtype: Any = None,
        device: str | None = None,
    ) -> None:  # fmt: skip
        self.input_size, self.hidden_size = input_size, hidden_size
        self.make([input_size], [""], bias, norm, dtype=dtype, device=device)
