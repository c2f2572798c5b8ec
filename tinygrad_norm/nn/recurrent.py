"""Recurrent layers: stacks of cells over whole sequences."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..engine import Tensor
from ..engine.tensor import describe
from ..ops.arguments import number_in, whole_number
from ..ops.join import stack
from ..ops.recurrent import steps
from ..ops.shape import swapaxes
from .recurrent_cells import Gated, Plain, Recurrent


class Layers(Recurrent):
    """A stack of layers, run over whole sequences."""

    num_layers: int
    batch_first: bool
    dropout: float

    def stack_of(
        self, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool, dropout: float,
        norm: str | None, dtype: Any, device: str | None,
    ) -> None:  # fmt: skip
        """The parameters and options of a stack."""
        name = type(self).__name__
        self.input_size, self.hidden_size = input_size, hidden_size
        self.num_layers = whole_number(name, "num_layers", num_layers)
        self.batch_first = batch_first
        self.dropout = number_in(name, "dropout", dropout, 0, 1)
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.make(sizes, [f"_l{k}" for k in range(num_layers)], bias, norm, dtype=dtype, device=device)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        """Sequences, and the first states of all layers (by default zeros), to the outputs and the last states.

        x is (L, N, input_size), with ``batch_first`` (N, L, input_size), or one sequence (L, input_size). The outputs
        are those of the last layer, in the same arrangement; a state is (num_layers, N, hidden_size).
        """
        rule = "(N, L, input_size)" if self.batch_first else "(L, N, input_size)"
        self.check(x, (2, 3), f"{rule} or (L, input_size)")
        swapped = self.batch_first and x.ndim == 3
        if swapped:
            x = swapaxes(x, 0, 1)
        if not len(x):
            raise ValueError(f"{type(self).__name__}: a sequence needs at least one step; got {describe(x)}")
        first = self.start(x, state, (self.num_layers, *x.shape[1:-1], self.hidden_size))
        last = []
        for k in range(self.num_layers):
            if k:
                x = F.dropout(x, self.dropout, self.training)
            now, outputs = tuple(s[k] for s in first), []
            for from_x in steps(self.from_input(x, f"_l{k}")):
                now = self.step(from_x, now, f"_l{k}")
                outputs.append(now[0])
            x = stack(outputs, 0)
            last.append(now)
        final = tuple(stack(states, 0) for states in zip(*last, strict=True))
        return swapaxes(x, 0, 1) if swapped else x, final if len(final) > 1 else final[0]

    def extra_repr(self) -> str:
        """Sizes and options."""
        options = f", num_layers={self.num_layers}, batch_first={self.batch_first}, dropout={self.dropout}"
        return super().extra_repr() + options


class RNN(Plain, Layers):
    """Layers of :class:`RNNCell` over sequences.

    Args:
        input_size: length of each x.
        hidden_size: number of units per layer.
        num_layers: how many layers stand on each other.
        nonlinearity: "tanh" or "relu".
        bias: whether there are biases.
        batch_first: whether sequences are (N, L, input_size) instead of (L, N, input_size).
        dropout: probability of a zero between layers, in training.
        norm: None or "layer", see :class:`RNNCell`.
        dtype: of the parameters; by default the default dtype.
        device: of the parameters; by default the default device.

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, norm_sums_l0: as in :class:`RNNCell`; ``_l1`` and so on.

    Raises:
        ValueError: an option that does not exist; when called, shapes that do not fit.

    >>> import tinygrad_norm as tn
    >>> outputs, h = tn.nn.RNN(3, 5, num_layers=2)(tn.ones(7, 2, 3))
    >>> outputs.shape, h.shape
    ((7, 2, 5), (2, 2, 5))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, *, norm: str | None = None, dtype: Any = None,
        device: str | None = None,
    ) -> None:  # fmt: skip
        self.nonlinearity = nonlinearity
        self.check_nonlinearity()
        self.stack_of(input_size, hidden_size, num_layers, bias, batch_first, dropout, norm, dtype, device)


class LSTM(Gated, Layers):
    """Layers of :class:`LSTMCell` over sequences.

    Args:
        input_size: length of each x.
        hidden_size: number of units per layer.
        num_layers: how many layers stand on each other.
        bias: whether there are biases.
        batch_first: whether sequences are (N, L, input_size) instead of (L, N, input_size).
        dropout: probability of a zero between layers, in training.
        norm: None or "layer", see :class:`LSTMCell`.
        dtype: of the parameters; by default the default dtype.
        device: of the parameters; by default the default device.

    Attributes:
        weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, norm_ih_l0, norm_hh_l0, norm_cell_l0: as in
            :class:`LSTMCell`; ``_l1`` and so on.

    Raises:
        ValueError: an option that does not exist; when called, shapes that do not fit.

    >>> import tinygrad_norm as tn
    >>> outputs, (h, c) = tn.nn.LSTM(3, 5, batch_first=True, norm="layer")(tn.ones(2, 7, 3))
    >>> outputs.shape, h.shape, c.shape
    ((2, 7, 5), (1, 2, 5), (1, 2, 5))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, *, norm: str | None = None, dtype: Any = None, device: str | None = None,
    ) -> None:  # fmt: skip
        self.stack_of(input_size, hidden_size, num_layers, bias, batch_first, dropout, norm, dtype, device)
