"""CuPy as a backend. It is imported when a GPU is first asked for, and never before.

Work on a GPU runs behind the program, and reading a value means waiting for it. So nothing here reads one: what a check
finds is noted on the device, optimizers change nothing from then on, and the error is raised where the program next
reads a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy

from .base import NAMES, Backend
from .checks import Complaint
from .cubins import STORED, loaded
from .cuda import CudaKernels
from .dtypes import DTYPES

Array = Any

KEPT = 10_000
"""Checks whose messages are kept between two reads; an error found by an older one has only its number."""


class GPU(Backend):
    """One GPU, through CuPy or any library with its names.

    Args:
        library: the module ``cupy``.
        device: the device's name.
    """

    def __init__(self, library: Any, device: str = "cuda") -> None:
        self.library, self.device, self.array_type = library, device, library.ndarray
        self.library_sum, self.eigh = library.sum, library.linalg.eigh
        for name in NAMES:
            if not hasattr(type(self), name):
                setattr(self, name, getattr(library, name))
        self.notes = Notes(self)

    def errstate(self, **kinds: str) -> AbstractContextManager:
        """Nothing to silence: a GPU does not warn."""
        return nullcontext()

    def to_host(self, x: Array) -> numpy.ndarray:
        self.settle()
        return x.get()

    def from_host(self, x: numpy.ndarray) -> Array:
        if x.dtype.kind != "c" and x.dtype.newbyteorder("=") not in DTYPES.values():
            raise TypeError(f"device {self.device!r} holds no dtype {x.dtype}; it holds {', '.join(DTYPES)}")
        return self.library.asarray(x)

    def real(self, x: Any) -> Any:
        """The real part; a Python number stays one, where CuPy would make an array of it."""
        return x.real

    def scatter_add(self, out: Array, index: Any, values: Array) -> None:
        """out[index] += values, with repeated indices accumulating, in an order that differs from run to run."""
        self.library.add.at(out, index, values)

    def synchronize(self) -> None:
        """Wait until all work is done, and raise what checks have found."""
        self.library.cuda.get_current_stream().synchronize()
        self.settle()

    # ---- checks that do not wait

    def refuse(self, bad: Array, values: Array, error: Complaint) -> Array:
        if not bad.size:
            return values
        self.notes.add(bad, values, error)
        return self.where(bad, self.zeros((), values.dtype), values)

    def refuse_non_finite(self, x: Array, error: Complaint) -> None:
        if x.size:
            self.notes.add(~self.isfinite(x), x, error)

    def settle(self) -> None:
        self.notes.tell()

    def unless_refused(self, update: Any, step: Array, state: list[Array]) -> AbstractContextManager:
        return nullcontext() if self.notes.row is None else undone(self, self.notes.row[0] != 0, step, state)

    def checked_index(self, shape: tuple[int, ...], index: Any) -> Any:
        """An index whose integers are in range: CuPy would silently count on from the other end."""
        parts = index if isinstance(index, tuple) else (index,)
        used = sum(0 if p is None or p is Ellipsis else p.ndim if is_mask(p) else 1 for p in parts)
        checked: list[Any] = []
        axis = 0
        for part in parts:
            if hasattr(part, "dtype") and part.dtype.kind in "iu" and axis < len(shape):
                n = shape[axis]
                part = self.refuse((part < -n) | (part >= n), part, out_of_range(axis, n))
            checked.append(part)
            axis += 0 if part is None else len(shape) - used if part is Ellipsis else part.ndim if is_mask(part) else 1
        return tuple(checked) if isinstance(index, tuple) else checked[0]

    def certain(self, condition: Array) -> bool:
        return False

    def writable(self, x: Array) -> bool:
        return all(stride or n < 2 for stride, n in zip(x.strides, x.shape))


class CompiledGPU(CudaKernels, GPU):
    """A GPU with the kernels of ``kernels.cu``: a module for each dtype, and each kernel by its name."""

    def __init__(self, library: Any, device: str = "cuda") -> None:
        super().__init__(library, device)
        self.modules = {char: loaded(library.cuda, char) for char in STORED}
        self.kernels: dict[tuple[str, str], Any] = {}

    def launch(self, name: str, dtype: Any, blocks: tuple[int, int], threads: tuple[int, int], *args: Any) -> None:
        kernel = self.kernels.get((name, dtype.char))
        if kernel is None:
            kernel = self.kernels[name, dtype.char] = self.modules[dtype.char].get_function(name)
        kernel(blocks, threads, args)

    @property
    def flag(self) -> Any:
        """What the optimizers' kernels look at: they do nothing where its first number is not 0."""
        return self.notes.row

    def unless_refused(self, update: Any, step: Array, state: list[Array]) -> AbstractContextManager:
        return nullcontext() if getattr(update, "one_rule", False) else super().unless_refused(update, step, state)


class Notes:
    """What checks have found and nobody was told yet: one small array on the device, the messages on the host.

    ``row`` holds the number of the first check that found something (0: none did), the position and the value. It is
    None where no check was made since a value was last read: then reading one costs nothing more.
    """

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.row: Any = None
        self.checks = 0
        self.errors: dict[int, Complaint] = {}

    def add(self, bad: Array, values: Array, error: Complaint) -> None:
        """Note the first of ``values`` that is ``bad``, unless an earlier check has found one."""
        xp = self.xp
        self.checks += 1
        self.errors[self.checks] = error
        self.errors.pop(self.checks - KEPT, None)
        first = xp.argmax(bad)
        number = bad.any().astype("float64") * self.checks
        row = xp.stack([number, first.astype("float64"), values.reshape(-1)[first].astype("float64")])
        self.row = row if self.row is None else xp.where(self.row[0] == 0, row, self.row)

    def tell(self) -> None:
        """Raise the error of the first check that found something, if one did; all is forgotten then."""
        if self.row is None:
            return
        (number, position, value), errors = self.row.get().tolist(), self.errors
        self.row, self.errors = None, {}
        if not number:
            return
        if number not in errors:
            raise RuntimeError(
                f"{self.xp.device}: a check {self.checks - int(number):,} checks ago has found a bad value; to learn "
                f"which, read one, such as the loss, at least every {KEPT:,} checks"
            )
        error = errors[int(number)](int(position), value)
        error.add_note(f"found by an earlier operation: errors on {self.xp.device!r} are raised where a value is read")
        raise error


@contextmanager
def undone(xp: GPU, condition: Array, step: Array, state: list[Array]) -> Iterator[None]:
    """A block after which, where ``condition`` holds, the step is 0 and the state what it was before."""
    before = [xp.copy(array) for array in state]
    yield
    step[...] = xp.where(condition, 0.0, step)
    for array, old in zip(state, before, strict=True):
        array[...] = xp.where(condition, old, array)


def is_mask(part: Any) -> bool:
    """Whether a part of an index is an array of booleans."""
    return hasattr(part, "dtype") and part.dtype.kind == "b"


def out_of_range(axis: int, n: int) -> Complaint:
    """The error for an index array with an integer beyond its axis."""
    return lambda position, value: IndexError(
        f"index {int(value)}, at position {position} of the index array, is out of bounds for axis {axis} with size {n}"
    )
