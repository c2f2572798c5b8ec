"""The engine: tensors, operations, the backward sweep."""

from .modes import (
    composite,
    enable_grad,
    get_default_device,
    get_default_dtype,
    is_grad_enabled,
    no_grad,
    set_default_device,
    set_default_dtype,
)
from .op import INPUTS, NOTHING, OUTPUT, Op, apply
from .tensor import Tensor

__all__ = [
    "INPUTS", "NOTHING", "OUTPUT", "Op", "Tensor", "apply", "composite", "enable_grad", "get_default_device",
    "get_default_dtype", "is_grad_enabled", "no_grad", "set_default_device", "set_default_dtype",
]  # fmt: skip
