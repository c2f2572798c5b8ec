"""The engine: tensors, operations, the backward sweep."""

from .create import (
    arange,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    tensor,
    zeros,
    zeros_like,
)
from .modes import (
    as_dtype,
    composite,
    enable_grad,
    get_default_device,
    get_default_dtype,
    is_grad_enabled,
    manual_seed,
    no_grad,
    set_default_device,
    set_default_dtype,
)
from .op import INPUTS, NOTHING, OUTPUT, Op, apply
from .sweep import grad
from .tensor import Tensor

__all__ = [
    "INPUTS", "NOTHING", "OUTPUT", "Op", "Tensor", "apply", "arange", "as_dtype", "composite", "empty", "empty_like",
    "enable_grad", "eye", "from_numpy", "full", "full_like", "get_default_device", "get_default_dtype", "grad",
    "is_grad_enabled", "linspace", "manual_seed", "no_grad", "ones", "ones_like", "rand", "rand_like", "randint",
    "randn", "randn_like", "set_default_device", "set_default_dtype", "tensor", "zeros", "zeros_like",
]  # fmt: skip
