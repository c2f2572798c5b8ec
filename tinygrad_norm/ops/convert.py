"""Other dtypes, other devices, constants of the same shape."""

from __future__ import annotations

from typing import Any

import numpy

from ..backend import BACKENDS, FLOATS, as_dtype, backend_for, names_dtype
from ..engine.op import NOTHING, Op, apply
from ..engine.tensor import Tensor, describe, namespace


class Astype(Op):
    """y = x in another dtype; the sweep brings the gradient back to x's."""

    reads = NOTHING

    @staticmethod
    def forward(xp, x, dtype):
        return x.astype(dtype)

    backward = (lambda xp, g, y, x, dtype: g,)


class ToDevice(Op):
    """y = x on another device."""

    reads = NOTHING

    @staticmethod
    def forward(xp, x, device, home):
        return xp.to_device(x, device)

    backward = (lambda xp, g, y, x, device, home: xp.to_device(g, home),)


class FullLike(Op):
    """A constant of the shape of x."""

    reads = NOTHING
    backward = None

    @staticmethod
    def forward(xp, x, value, dtype):
        return xp.full_like(x, value, dtype=dtype)


def operand(function: str, x: Any) -> Any:
    """``x``, if it is a Tensor or an array: what follows asks for its shape."""
    if isinstance(x, Tensor) or type(x) in BACKENDS:
        return x
    raise TypeError(f"{function}: expected a Tensor or an array; got {describe(x)}; write tn.tensor(...) first")


def constant_like(x: Any, value: float, dtype: Any = None) -> Tensor:
    """A constant filled with ``value``, with the shape and device of ``x``, and its dtype unless another is given."""
    return apply(FullLike, x.detach() if isinstance(x, Tensor) else x, params=(value, dtype))


def zeros_like(x: Tensor) -> Tensor:
    """A constant of zeros with the shape, dtype and device of ``x``."""
    return constant_like(x, 0)


def full_like(x: Tensor, value: float) -> Tensor:
    """A constant filled with ``value``, with the shape, dtype and device of ``x``."""
    return constant_like(x, value)


def wide(x: Tensor) -> Tensor:
    """x in a dtype to square and to sum in: float16 becomes float32."""
    return astype(x, "float32") if x.dtype == "float16" else x


def in_dtype_of(x: Tensor, y: Tensor) -> Tensor:
    """``y`` in the dtype of ``x``, whatever that of parameters and running statistics; complex ones stay."""
    return astype(y, x.dtype) if y.dtype in FLOATS else y


def astype(x: Any, dtype: Any) -> Tensor:
    """``x`` in another dtype; the gradient comes back in x's own.

    Raises:
        TypeError: the dtype is not supported.
    """
    dtype = as_dtype(dtype, "astype")
    if isinstance(x, Tensor) and x.dtype == dtype:
        return x
    return apply(Astype, x if dtype in FLOATS or not isinstance(x, Tensor) else x.detach(), params=(dtype,))


def to_device(x: Tensor, device: str) -> Tensor:
    """``x`` on another device; the gradient comes back to its own."""
    if x.device == device:
        return x
    namespace(x._data).settle()  # before: it is no error of this operation
    return apply(ToDevice, x, params=(device, x.device))


def to(x: Tensor, device_or_dtype: Any) -> Tensor:
    """``x`` on another device, or in another dtype."""
    if isinstance(device_or_dtype, str) and not names_dtype(device_or_dtype):
        return to_device(x, backend_for(device_or_dtype).device)
    return astype(x, device_or_dtype)


def cpu(x: Tensor) -> Tensor:
    """``x`` on the host."""
    return to_device(x, "cpu")


def cuda(x: Tensor) -> Tensor:
    """``x`` on the GPU."""
    return to_device(x, backend_for("cuda").device)


def as_numpy(x: Tensor, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray:
    """What ``numpy.asarray(x)`` gives: the values, where nothing is lost by it."""
    if x.requires_grad:
        raise RuntimeError(
            f"{describe(x)} needs a gradient, which NumPy would lose; write x.detach().numpy() or x.numpy()"
        )
    if x.device != "cpu":
        raise TypeError(f"{describe(x)} lives on {x.device!r}; write x.numpy() to copy it to the host")
    return numpy.array(x.numpy(), dtype=dtype, copy=copy)
