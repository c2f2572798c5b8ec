"""A table of vectors, looked up by number."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..engine import Tensor, no_grad
from ..ops.arguments import whole_number
from ..ops.create import empty
from . import init
from .module import Module, Parameter


class Embedding(Module):
    """One learned vector for every number in [0, num_embeddings), such as for words.

    The start is PyTorch's: the standard normal distribution, and zeros in the row ``padding_idx``.

    Args:
        num_embeddings: rows of the table.
        embedding_dim: length of each vector.
        padding_idx: a row that stays as it is, whatever the gradients; negative counts from the end.
        dtype: of the table; by default the default dtype.
        device: of the table; by default the default device.

    Attributes:
        weight: (num_embeddings, embedding_dim).

    Raises:
        ValueError: a size that is not a positive integer; when called, a number out of range (with its position).

    >>> import tinygrad_norm as tn
    >>> layer = tn.nn.Embedding(10, 3, padding_idx=0)
    >>> layer(tn.tensor([[1, 2, 0, 0]])).shape
    (1, 4, 3)
    >>> layer
    Embedding(10, 3, padding_idx=0)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, dtype: Any = None,
        device: str | None = None,
    ) -> None:  # fmt: skip
        self.num_embeddings = whole_number("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = whole_number("Embedding", "embedding_dim", embedding_dim)
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                rule = f"padding_idx must be in [{-num_embeddings}, {num_embeddings}) or None"
                raise ValueError(f"Embedding: {rule}; got {padding_idx}")
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.weight = Parameter(empty(num_embeddings, embedding_dim, dtype=dtype, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Integers of any shape to (..., embedding_dim)."""
        return F.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """The sizes."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
