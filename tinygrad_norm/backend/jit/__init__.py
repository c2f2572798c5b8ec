"""NumPy on the host with the kernels that pay compiled by Numba; everything else is inherited.

Numba is imported, and a kernel compiled, at the first call that is large enough. Kernels use one thread: Numba's
threads and those of BLAS fight over the same cores. What a compiled kernel does not take goes to the method it
overrides: other layouts and dtypes, small arrays, and slices whose statistics leave the range of the dtype.
"""

from ..loops import compiled
from .norms import Norms
from .training import Training
from .windows import Windows

__all__ = ["JIT", "compiled"]


class JIT(Norms, Training, Windows):
    """The CPU backend with every compiled kernel there is."""
