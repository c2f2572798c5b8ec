"""The dtypes there are."""

from __future__ import annotations

from typing import Any

import numpy

NAMES = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool"
DTYPES = {name: numpy.dtype(name) for name in NAMES.split()}
FLOATS = {DTYPES[name] for name in ("float16", "float32", "float64")}


def names_dtype(text: str) -> bool:
    """Whether it is the name of a dtype, be it one of ours or not; what is none may be the name of a device.

    >>> names_dtype("double"), names_dtype("cpu")
    (True, False)
    """
    try:
        numpy.dtype(text)
    except TypeError:
        return False
    return True


def as_dtype(dtype: Any, function: str = "dtype") -> numpy.dtype:
    """A NumPy dtype from a name, a NumPy dtype or a Python type.

    Raises:
        TypeError: not one of the supported dtypes; the message lists them.

    >>> as_dtype("float64")
    dtype('float64')
    """
    try:
        found = None if dtype is None else DTYPES.get(numpy.dtype(dtype).name)
    except TypeError:
        found = None
    if found is None:
        raise TypeError(f"{function}: dtype {dtype!r} is not supported; use one of {', '.join(DTYPES)}")
    return found
