"""Making tensors."""

from __future__ import annotations

from typing import Any

import numpy

from ..backend import BACKENDS, DTYPES, FLOATS, as_dtype, backend_for, random
from ..engine.modes import defaults
from ..engine.tensor import Tensor, alias, describe, wrap


def tensor(obj: Any, *, dtype: Any = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of the values.

    Args:
        obj: a number, nested lists of numbers, an array or a Tensor.
        dtype: by default float32 for Python floats (see ``set_default_dtype``), int64 for ints, bool for bools; arrays
            and NumPy scalars keep theirs.
        device: by default the default device.
        requires_grad: record what is computed from it.

    Raises:
        ValueError: ragged lists; a masked array; values that the dtype cannot hold.
        TypeError: anything but real numbers.
        RuntimeError: a list that holds a Tensor which needs a gradient.

    >>> import tinygrad_norm as tn
    >>> tn.tensor([[1, 2], [3, 4]]).dtype
    dtype('int64')
    >>> tn.tensor([0.5]).dtype
    dtype('float32')
    """
    array = host_values(obj, "tensor")
    if dtype is None:
        dtype = array.dtype if has_numpy_dtype(obj) else defaults.dtype if array.dtype.kind == "f" else array.dtype
        if array.size == 0 and not has_numpy_dtype(obj):
            dtype = defaults.dtype
    dtype = as_dtype(dtype, "tensor")
    with numpy.errstate(invalid="ignore", over="ignore"):
        values = numpy.array(array, dtype=dtype, order="C", copy=True)
    if array.dtype != dtype:
        held = values == array if dtype.kind in "iub" else numpy.isfinite(values) == numpy.isfinite(array)
        if not held.all():
            raise ValueError(
                f"tensor: dtype {dtype} cannot hold {describe(obj)}; round or scale it first, "
                f"or use .astype({str(dtype)!r})"
            )
    backend = defaults.backend if device is None else backend_for(device)
    out = wrap(backend.from_host(values))
    return out.requires_grad_() if requires_grad else out


def host_values(obj: Any, function: str) -> numpy.ndarray:
    """Numbers in any accepted form as a NumPy array, or an error that says what they are instead."""
    if isinstance(obj, Tensor):
        return obj.numpy()
    if type(obj) in BACKENDS:
        array = BACKENDS[type(obj)].to_host(obj)
    elif isinstance(obj, numpy.ma.MaskedArray):
        raise ValueError(f"{function}: a masked array's mask would be lost; write a.filled(value) first")
    else:
        try:
            array = numpy.asarray(detached(obj))
        except ValueError as error:
            raise ValueError(
                f"{function}: nested lists must be rectangular and hold numbers; got {describe(obj)}: {error}"
            ) from error
    if array.dtype.kind not in "biuf" or array.dtype.newbyteorder("=") not in DTYPES.values():
        raise TypeError(
            f"{function}: values must be real numbers of one of the dtypes {', '.join(DTYPES)}; "
            f"got {describe(obj)}" + ("" if isinstance(obj, numpy.ndarray) else f", which has dtype {array.dtype}")
        )
    return array


def detached(obj: Any) -> Any:
    """Nested lists with Tensors replaced by their values, if no gradient is lost by that."""
    if isinstance(obj, Tensor):
        if obj.requires_grad:
            raise RuntimeError(
                f"tensor: a list with a {describe(obj)} that needs a gradient, which would be lost; write "
                "tn.stack([...]), or x.item() for the number alone"
            )
        return obj.numpy()
    if isinstance(obj, numpy.ma.MaskedArray):
        raise ValueError("tensor: a masked array's mask would be lost; write a.filled(value) first")
    return [detached(x) for x in obj] if isinstance(obj, (list, tuple)) else obj


def has_numpy_dtype(obj: Any) -> bool:
    """Whether the values come with a dtype: the object itself, or the first one inside its lists."""
    while isinstance(obj, (list, tuple)) and obj:
        obj = obj[0]
    return hasattr(obj, "dtype")


def from_numpy(a: numpy.ndarray) -> Tensor:
    """A tensor that borrows the array's memory: writes to one are seen in the other. Always on the CPU.

    Raises:
        TypeError: not a NumPy array of real numbers in native byte order.

    >>> import numpy as np, tinygrad_norm as tn
    >>> a = np.zeros(2); x = tn.from_numpy(a); a[0] = 1.0
    >>> x.tolist()
    [1.0, 0.0]
    """
    if type(a) is not numpy.ndarray:
        raise TypeError(
            f"from_numpy: expected a plain numpy.ndarray; got {describe(a)}; tn.tensor(...) copies other things"
        )
    host_values(a, "from_numpy")
    if not a.dtype.isnative:
        raise TypeError(f"from_numpy: {a.dtype} is not in native byte order; tn.tensor(...) converts")
    return alias(a, None, None)


def _made(array: numpy.ndarray, dtype: Any, device: str | None, requires_grad: bool, function: str) -> Tensor:
    dtype = as_dtype(dtype, function) if dtype is not None else defaults.dtype if array.dtype in FLOATS else array.dtype
    backend = defaults.backend if device is None else backend_for(device)
    out = wrap(backend.from_host(numpy.ascontiguousarray(array, dtype=dtype).reshape(array.shape)))
    return out.requires_grad_() if requires_grad else out


def _filled(name: str, shape: tuple, dtype: Any, device: str | None, requires_grad: bool, function: str = "") -> Tensor:
    """The library's ``zeros`` or ``ones``: made where they are to be, and not sent there."""
    dtype = defaults.dtype if dtype is None else as_dtype(dtype, function or name)
    backend = defaults.backend if device is None else backend_for(device)
    out = wrap(getattr(backend, name)(as_shape(shape, function or name), dtype))
    return out.requires_grad_() if requires_grad else out


def as_shape(shape: tuple, function: str) -> tuple[int, ...]:
    """``(2, 3)`` from either f(2, 3) or f((2, 3))."""
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    if not all(isinstance(n, (int, numpy.integer)) and not isinstance(n, bool) and n >= 0 for n in sizes):
        raise ValueError(f"{function}: a shape is made of integers that are not negative; got {tuple(sizes)!r}")
    return tuple(int(n) for n in sizes)


def zeros(*shape: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros, in the default dtype.

    >>> import tinygrad_norm as tn
    >>> tn.zeros(2, 3).shape
    (2, 3)
    """
    return _filled("zeros", shape, dtype, device, requires_grad)


def ones(*shape: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """Ones, in the default dtype."""
    return _filled("ones", shape, dtype, device, requires_grad)


def empty(*shape: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor to be written to. It holds zeros: nothing here depends on what memory held before."""
    return _filled("zeros", shape, dtype, device, requires_grad, "empty")


def full(
    shape: Any, value: float, *, dtype: Any = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Filled with ``value``: the default dtype for a float, int64 for an int, bool for a bool."""
    shape = as_shape((shape,) if isinstance(shape, int) else (tuple(shape),), "full")
    return _made(numpy.full(shape, value), dtype, device, requires_grad, "full")


def arange(
    start: float, stop: float | None = None, step: float = 1, *, dtype: Any = None, device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Numbers from ``start`` up to, not including, ``stop``; one argument is the stop.

    >>> import tinygrad_norm as tn
    >>> tn.arange(3).tolist()
    [0, 1, 2]
    """
    if step == 0:
        raise ValueError(f"arange: step must not be 0; got start={start}, stop={stop}, step={step}")
    values = numpy.arange(start) if stop is None else numpy.arange(start, stop, step)
    return _made(values, dtype, device, requires_grad, "arange")


def linspace(
    start: float, stop: float, steps: int = 50, *, dtype: Any = None, device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """``steps`` evenly spaced numbers from ``start`` to ``stop``, both included."""
    if steps < 0:
        raise ValueError(f"linspace: steps must be 0 or more; got {steps}")
    return _made(numpy.linspace(start, stop, steps), dtype, device, requires_grad, "linspace")


def eye(
    n: int, m: int | None = None, *, dtype: Any = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix."""
    return _made(numpy.eye(n, m), dtype, device, requires_grad, "eye")


def rand(*shape: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """Uniform random numbers in [0, 1), drawn on the host from this thread's generator (``tn.manual_seed``)."""
    return _made(random.host.random(as_shape(shape, "rand")), dtype, device, requires_grad, "rand")


def randn(*shape: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """Standard normal random numbers, drawn on the host from this thread's generator (``tn.manual_seed``)."""
    return _made(random.host.standard_normal(as_shape(shape, "randn")), dtype, device, requires_grad, "randn")


def randint(low: int, high: Any = None, size: Any = (), *, dtype: Any = None, device: str | None = None) -> Tensor:
    """Random integers in [low, high), or [0, low) with one limit, drawn on the host.

    Both ``randint(low, high, size)`` and ``randint(high, size)`` are right.

    Raises:
        ValueError: no integer lies between the limits.
    """
    if isinstance(high, (tuple, list)) and size == ():
        high, size = None, high
    low, high = (0, low) if high is None else (low, high)
    if not low < high:
        raise ValueError(f"randint: high must be above low; got low={low}, high={high}")
    values = numpy.asarray(
        random.host.integers(low, high, size=as_shape((size,) if isinstance(size, int) else (tuple(size),), "randint"))
    )
    return _made(values, dtype, device, False, "randint")


def like(make: Any, x: Tensor, dtype: Any, device: str | None, requires_grad: bool) -> Tensor:
    """``make(shape)`` with the shape, dtype and device of ``x`` unless told otherwise."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{make.__name__}_like: expected a Tensor; got {describe(x)}")
    return make(x.shape, dtype=dtype or x.dtype, device=device or x.device, requires_grad=requires_grad)


def zeros_like(x: Tensor, *, dtype: Any = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros with the shape, dtype and device of ``x``."""
    return like(zeros, x, dtype, device, requires_grad)


def ones_like(x: Tensor, *, dtype: Any = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """Ones with the shape, dtype and device of ``x``."""
    return like(ones, x, dtype, device, requires_grad)


def empty_like(x: Tensor, *, dtype: Any = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor to be written to, with the shape, dtype and device of ``x``; it holds zeros."""
    return like(empty, x, dtype, device, requires_grad)


def rand_like(x: Tensor, *, dtype: Any = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """Uniform random numbers in [0, 1) with the shape, dtype and device of ``x``."""
    return like(rand, x, dtype, device, requires_grad)


def randn_like(x: Tensor, *, dtype: Any = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """Standard normal random numbers with the shape, dtype and device of ``x``."""
    return like(randn, x, dtype, device, requires_grad)


def full_like(
    x: Tensor, value: float, *, dtype: Any = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Filled with ``value``, with the shape, dtype and device of ``x``."""
    if not isinstance(x, Tensor):
        raise TypeError(f"full_like: expected a Tensor; got {describe(x)}")
    return full(x.shape, value, dtype=dtype or x.dtype, device=device or x.device, requires_grad=requires_grad)
