"""NumPy on the host with the kernels that pay compiled by Numba; everything else is inherited.

Numba is imported, and a kernel compiled, at the first call that is large enough. Kernels use one thread, unless
``set_num_threads`` says otherwise: more would fight with those of BLAS over the same cores. What a compiled kernel does
not take goes to the method it overrides: other layouts and dtypes, small arrays, and slices whose statistics leave the
range of the dtype.
"""

from ..loops import compiled
from .norms import Norms
from .threads import get_num_threads, set_num_threads
from .training import Training
from .windows import Windows

__all__ = ["JIT", "compiled", "get_num_threads", "set_num_threads"]


class JIT(Norms, Training, Windows):
    """The CPU backend with every compiled kernel there is."""
