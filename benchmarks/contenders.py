"""Who takes part: each library in each of its settings is a process of its own, with its own environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

ONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
HINT, HINT_ZEN = {"OPENBLAS_CORETYPE": "SkylakeX"}, {"OPENBLAS_CORETYPE": "Zen"}
PLAIN = {"TINYGRAD_NORM_JIT": "0"}
SET_HERE = {*ONE, *HINT, *PLAIN}
"""What the reader's shell may say about these does not reach a contender: default means default."""

ALL = ("train", "norms", "conv", "overhead", "scaling", "memory")


@dataclass(frozen=True)
class Contender:
    """One library in one setting.

    Attributes:
        key: its name in the results.
        label: its name in tables and pictures.
        library: a module of ``benchmarks.libraries``.
        flags: what that module is told.
        environment: variables of its process; some are read only when NumPy is loaded.
        sections: where it takes part.
        slow: left out by ``--quick``.
    """

    key: str
    label: str
    library: str
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    sections: tuple[str, ...] = ALL
    slow: bool = False

    @property
    def ours(self) -> bool:
        """Whether it is this package."""
        return self.library == "ours"

    @property
    def one_thread(self) -> bool:
        """Whether it is held to one thread."""
        return "OMP_NUM_THREADS" in self.environment

    def full_environment(self) -> dict[str, str]:
        """The whole environment of its process."""
        kept = {name: value for name, value in os.environ.items() if name not in SET_HERE}
        return kept | self.environment


REFERENCE, REFERENCE_ONE = "torch", "torch_1"
SOME = ("train", "norms", "conv")
CONTENDERS = (
    Contender("fast_hint", "tinygrad_norm [fast], hint", "ours", ("fast",), HINT, SOME),
    Contender("fast_hint_zen", "tinygrad_norm [fast], hint Zen", "ours", ("fast",), HINT_ZEN, SOME),
    Contender("fast", "tinygrad_norm [fast]", "ours", ("fast",)),
    Contender("fast_threads", "tinygrad_norm [fast], threads", "ours", ("fast", "threads"), {}, SOME),
    Contender("numpy_hint", "tinygrad_norm, hint", "ours", (), PLAIN | HINT, SOME),
    Contender("numpy", "tinygrad_norm", "ours", (), PLAIN),
    Contender("torch", "PyTorch", "pytorch"),
    Contender("torch_fused", "PyTorch, fused Adam", "pytorch", ("fused",), {}, ("train",)),
    Contender(
        "torch_compile", "torch.compile", "pytorch", ("compile", "fused"),
        {"TORCHINDUCTOR_COMPILE_THREADS": "1"}, SOME, slow=True,
    ),
    Contender("jax", "JAX jit", "jax_jit", sections=(*SOME, "scaling", "memory")),
    Contender("mygrad", "MyGrad", "with_mygrad", sections=("train", "norms", "overhead", "memory")),
    Contender("autograd", "autograd", "with_autograd", sections=("train", "norms", "overhead", "memory")),
    Contender("fast_1", "tinygrad_norm [fast], 1 thread", "ours", ("fast",), ONE, SOME),
    Contender("numpy_1", "tinygrad_norm, 1 thread", "ours", (), ONE | PLAIN, SOME),
    Contender("torch_1", "PyTorch, 1 thread", "pytorch", (), ONE, (*SOME, "scaling")),
)  # fmt: skip
ON_GPU = (
    Contender("fast", "tinygrad_norm", "ours", ("cuda",), sections=(*SOME, "scaling", "bandwidth")),
    Contender("torch", "PyTorch", "pytorch", ("cuda",), sections=(*SOME, "scaling", "bandwidth")),
    Contender(
        "jax", "JAX jit", "jax_jit", ("cuda",), {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}, (*SOME, "scaling"),
    ),  # which would take most of the GPU's memory before the others come
)  # fmt: skip
