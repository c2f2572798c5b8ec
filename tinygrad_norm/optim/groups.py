"""Parameter groups for weight decay."""

from __future__ import annotations

from typing import Any

from ..engine.tensor import describe


def no_decay_groups(model: Any, weight_decay: float | None = None) -> list[dict[str, Any]]:
    """Two groups of a model's parameters: those that weight decay applies to, and those it does not.

    A parameter says which by its attribute ``decay``, which layers set to False for biases and the scales and shifts of
    norms: pulling those to 0 limits what the network can express instead of smoothing it.

    Args:
        model: what has ``named_parameters()``.
        weight_decay: of the first group; by default the optimizer's own. The second group's is 0.

    Returns:
        Groups of (name, Parameter) pairs for any optimizer; one of them may be empty.

    Raises:
        TypeError: ``model`` has no ``named_parameters``.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import optim
    >>> class Model:
    ...     weight = tn.ones(2, 2, requires_grad=True)
    ...     def named_parameters(self):
    ...         return [("weight", self.weight)]
    >>> decaying, rest = optim.no_decay_groups(Model(), weight_decay=0.1)
    >>> decaying["weight_decay"], [name for name, _ in decaying["params"]], rest["params"]
    (0.1, ['weight'], [])
    """
    if not hasattr(model, "named_parameters"):
        raise TypeError(f"no_decay_groups: expected a model with named_parameters(); got {describe(model)}")
    pairs = list(model.named_parameters())
    decaying: dict[str, Any] = {"params": [(name, p) for name, p in pairs if getattr(p, "decay", True)]}
    rest = {"params": [(name, p) for name, p in pairs if not getattr(p, "decay", True)], "weight_decay": 0.0}
    if weight_decay is not None:
        decaying["weight_decay"] = weight_decay
    return [decaying, rest]
