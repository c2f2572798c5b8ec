"""The namespace of Tensors: NumPy's function names, on Tensors, with gradients.

This module is to Tensors what a backend is to arrays: the rules of every operation run on either.
"""

# ruff: noqa: F401 -- the names are used through the module

import sys

from ..engine.modes import no_grad
from ..engine.tensor import register_namespace
from .activation import relu, relu_backward, sigmoid
from .assign import assign, edit
from .attach import register_hook, requires_grad_, retain_grad, set_grad
from .calculus import backward, grad, hessian, jacobian, vjp
from .compare import (
    and_,
    equal,
    greater,
    greater_equal,
    invert,
    isfinite,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    not_equal,
    or_,
)
from .convert import as_numpy, astype, cpu, cuda, full_like, to, to_device, zeros_like
from .einsum import einsum, outer
from .elementwise import (
    abs,
    add,
    clip,
    copy,
    cos,
    divide,
    erf,
    exp,
    expm1,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    sign,
    sin,
    sqrt,
    subtract,
    tanh,
    where,
)
from .explain import explain, explain_rule, mixed_devices, released
from .index import getitem, index_add
from .join import concatenate, pad, repeat, split, stack, tile
from .matmul import linear, matmul
from .reduce import max, mean, min, sum, sum_to
from .shape import broadcast_to, expand, expand_dims, flatten, flip, permute, reshape, squeeze, swapaxes, transpose
from .show import tensor_table, tensor_text
from .statistics import all, any, argmax, argmin, cumsum, logsumexp, prod, std, var

clone, clamp, view, unsqueeze = copy, clip, reshape, expand_dims  # PyTorch's names of the same

register_namespace(sys.modules[__name__])
