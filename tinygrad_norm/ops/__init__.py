"""The namespace of Tensors: NumPy's function names, on Tensors, with gradients.

This module is to Tensors what a backend is to arrays: the rules of every operation run on either.
"""

import sys

from ..engine.create import ones_like
from ..engine.edit import assign, checked_edit
from ..engine.modes import no_grad
from ..engine.op import leaf_node
from ..engine.sweep import backward
from ..engine.tensor import register_namespace
from .axes import axis_words, sum_to
from .elementwise import (
    abs,
    add,
    astype,
    clip,
    copy,
    cos,
    divide,
    equal,
    erf,
    exp,
    expm1,
    full_like,
    greater,
    greater_equal,
    isfinite,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    sign,
    sin,
    sqrt,
    subtract,
    tanh,
    to_device,
    where,
    zeros_like,
)
from .matmul import einsum, linear, matmul, outer
from .reduce import all, any, argmax, argmin, cumsum, logsumexp, max, mean, min, prod, std, sum, var
from .shape import (
    broadcast_to,
    concatenate,
    expand,
    expand_dims,
    flatten,
    flip,
    getitem,
    index_add,
    pad,
    permute,
    repeat,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    transpose,
)

register_namespace(sys.modules[__name__])
