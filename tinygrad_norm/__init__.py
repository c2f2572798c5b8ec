"""tinygrad_norm: a small autograd engine from scratch, and the normalizations measured on it.

>>> import tinygrad_norm as tn
>>> x = tn.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4., 6.])
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from . import cuda, data, functional, nn, optim, testing, train, viz
from .backend import DTYPES, Absent, as_dtype, manual_seed
from .backend.jit import get_num_threads, set_num_threads
from .engine import (
    INPUTS,
    NOTHING,
    OUTPUT,
    Op,
    Tensor,
    apply,
    composite,
    enable_grad,
    get_default_device,
    get_default_dtype,
    is_grad_enabled,
    no_grad,
    set_default_device,
    set_default_dtype,
)
from .engine.modes import defaults
from .ops import (
    abs,
    all,
    any,
    argmax,
    argmin,
    astype,
    broadcast_to,
    clamp,
    clip,
    concatenate,
    cos,
    cumsum,
    einsum,
    erf,
    exp,
    expand_dims,
    expm1,
    flip,
    log,
    log1p,
    logsumexp,
    matmul,
    max,
    maximum,
    mean,
    min,
    minimum,
    outer,
    pad,
    permute,
    prod,
    repeat,
    reshape,
    sign,
    sin,
    split,
    sqrt,
    squeeze,
    stack,
    std,
    sum,
    swapaxes,
    tanh,
    tile,
    transpose,
    unsqueeze,
    var,
    where,
)
from .ops import concatenate as cat
from .ops.anomaly import detect_anomaly
from .ops.calculus import grad, hessian, jacobian, vjp
from .ops.create import (
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
from .serialize import CheckpointError, load, save

float16, float32, float64 = (DTYPES[name] for name in ("float16", "float32", "float64"))
int32, int64 = DTYPES["int32"], DTYPES["int64"]

__all__ = [
    "CheckpointError", "DTYPES", "INPUTS", "NOTHING", "OUTPUT", "Op", "Tensor", "abs", "all", "any", "apply", "arange",
    "argmax", "argmin", "as_dtype", "astype", "broadcast_to", "cat", "clamp", "clip", "composite", "concatenate",
    "cos", "cuda", "cumsum", "data", "detect_anomaly", "einsum", "empty", "empty_like", "enable_grad", "erf", "exp",
    "expand_dims", "expm1", "eye", "flip", "float16", "float32", "float64", "from_numpy", "full", "full_like",
    "functional", "get_default_device", "get_default_dtype", "get_num_threads", "grad", "hessian", "int32", "int64",
    "is_grad_enabled", "jacobian", "linspace", "load", "log", "log1p", "logsumexp", "manual_seed", "matmul", "max",
    "maximum", "mean", "min", "minimum", "nn", "no_grad", "ones", "ones_like", "optim", "outer", "pad", "permute",
    "prod", "rand", "rand_like", "randint", "randn", "randn_like", "repeat", "reshape", "save", "set_default_device",
    "set_default_dtype", "set_num_threads", "sign", "sin", "split", "sqrt", "squeeze", "stack", "std", "sum",
    "swapaxes", "tanh", "tensor", "testing", "tile", "train", "transpose", "unsqueeze", "var", "viz", "vjp", "where",
    "zeros", "zeros_like",
]  # fmt: skip

if wanted := os.environ.get("TINYGRAD_NORM_DEVICE"):
    try:
        set_default_device(wanted)
    except ValueError as error:  # raised when a tensor is made: the command line can still help
        defaults.backend = Absent(wanted, f"{error} (TINYGRAD_NORM_DEVICE asked for it)")  # type: ignore[assignment]


def __getattr__(name: str) -> Any:
    if name == "__version__":  # read when asked for: importlib.metadata would add a third to the import time
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("tinygrad_norm")
        except PackageNotFoundError:
            return "0+source"
    if name == "show_config":  # in a room above this one
        return import_module(f"{__name__}.lab.config").show_config
    raise AttributeError(f"module 'tinygrad_norm' has no attribute {name!r}")
