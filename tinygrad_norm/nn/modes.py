"""Training and evaluation mode for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .module import Module


@contextmanager
def in_mode(model: Module, training: bool) -> Iterator[None]:
    """The model in one mode; afterwards every module is again in the mode that it was in.

    >>> import tinygrad_norm as tn
    >>> model = tn.nn.Dropout(0.5)
    >>> with in_mode(model, training=False):
    ...     model(tn.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    >>> model.training
    True
    """
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode
