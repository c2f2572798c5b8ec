"""Refusing bad values: at once where an array's values are at hand, later where a device computes ahead of the program.

Every check of values goes through these methods, so that code above never waits for a device. Here is the version for
the CPU, which raises on the spot; ``gpu.py`` notes what is found on the device and raises when a value is next read.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

Array = Any
Complaint = Callable[[int, float], Exception]
"""Makes the error from the position of the first bad value, counted in the flattened array, and that value."""


def one_rule(update: Any) -> Any:
    """Mark an optimizer's ``update`` that does nothing but call one rule of Updates: CUDA kernels look at refusals."""
    update.one_rule = True
    return update


class Checks:
    """Mixed into every Backend; ``self`` is the array namespace."""

    def refuse(self: Any, bad: Array, values: Array, error: Complaint) -> Array:
        """``values``, of which none may be ``bad``. On a GPU the bad ones become 0, and the error comes later."""
        if bad.any():
            first = int(self.argmax(bad))
            raise error(first, values.reshape(-1)[first].item())
        return values

    def refuse_non_finite(self: Any, x: Array, error: Complaint) -> None:
        """No element of a flat array may be NaN or infinite; ``x`` stays as it is."""
        if not self.all_finite(x):
            self.refuse(~self.isfinite(x), x, error)

    def settle(self) -> None:
        """Raise what was found so far and not told yet; on the CPU there is no such thing."""

    def unless_refused(self, update: Any, step: Array, state: list[Array]) -> AbstractContextManager:
        """A block in which ``update`` computes an optimizer's step and state; undone if anything was refused before."""
        return nullcontext()

    def checked_index(self, shape: tuple[int, ...], index: Any) -> Any:
        """An index whose integers are in range. NumPy looks itself."""
        return index

    def certain(self: Any, condition: Array) -> bool:
        """Whether all of ``condition`` is known to be true; never on a GPU, which would have to be waited for."""
        return bool(condition.all())

    def writable(self, x: Array) -> bool:
        """Whether ``x`` may be written to: it is not read-only, and no two of its elements are one."""
        return x.flags.writeable
