"""Whether there is a GPU to compute on, what is missing where there is none, and the backend where there is one."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

from .cubins import SOURCE
from .gpu import GPU, CompiledGPU


def open_gpu() -> GPU:
    """The backend of the device "cuda".

    Raises:
        ValueError: CuPy, a driver, a GPU or CUDA's libraries are missing; the message says which, and what to install.
    """
    if reason := missing():
        raise ValueError(f"device: 'cuda' is not available: {reason}")
    library = importlib.import_module("cupy")
    try:
        library.arange(3).sum().get()
    except Exception as error:  # whatever a library that cannot be loaded or a kernel that cannot be compiled raises
        raise ValueError(
            f"device: 'cuda' is not available: CuPy {library.__version__} finds a GPU but cannot compute on it "
            f"({first_line(error)}); {INSTALL}"
        ) from error
    explain_out_of_memory(library)
    try:
        return CompiledGPU(library)
    except (library.cuda.compiler.CompileException, library.cuda.driver.CUDADriverError) as error:
        line = next((line for line in str(error).splitlines() if "error" in line), first_line(error))
        text = f"cuda: {SOURCE.name} cannot be used, so slower kernels are: {line.strip()}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        return GPU(library)


OLDEST = 12000  # the CUDA version of the oldest extra
INSTALL = (
    'for the CUDA version that nvidia-smi shows, write: python -m pip install "tinygrad_norm[cuda12]" '
    '(or "tinygrad_norm[cuda13]")'
)


def missing() -> str:
    """What keeps this machine from computing on a GPU, in one sentence; empty when nothing does. Imports CuPy."""
    try:
        library = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            return f"CuPy is not installed; {INSTALL}"
        return f"CuPy is installed but cannot be imported ({first_line(error)}); {INSTALL}"
    except Exception as error:
        return f"CuPy is installed but cannot be imported ({first_line(error)}); {INSTALL}"
    runtime, what = library.cuda.runtime, f"CuPy {library.__version__} is installed, but"
    try:
        if runtime.getDeviceCount():
            return ""
        failure = "cudaErrorNoDevice"
    except runtime.CUDARuntimeError as error:
        failure = first_line(error)
    driver, built = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if not driver:
        return f"{what} no NVIDIA driver is: this machine has no GPU, or its driver is not installed"
    if driver // 1000 < built // 1000:
        old, new = f"cupy-cuda{built // 1000}x", f"tinygrad_norm[cuda{driver // 1000}]"
        other = f'write: python -m pip uninstall {old}; python -m pip install "{new}"; or ' if driver >= OLDEST else ""
        return (
            f"{what} it was built for CUDA {version(built)} and the driver here serves CUDA {version(driver)}; "
            f"{other}update the driver"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hint = "" if visible is None else f"; CUDA_VISIBLE_DEVICES={visible!r} is set"
    return f"{what} the driver shows no usable GPU ({failure}){hint}"


def devices() -> int:
    """How many GPUs there are that CuPy can use."""
    return 0 if missing() else importlib.import_module("cupy").cuda.runtime.getDeviceCount()


def version(number: int) -> str:
    """CUDA's way to write 12.4 as 12040, undone.

    >>> version(12040)
    '12.4'
    """
    return f"{number // 1000}.{number % 1000 // 10}"


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of its text."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"


def explain_out_of_memory(library: Any) -> None:
    """From now on let CuPy say, when the GPU's memory does not suffice, what was asked for and what is free."""
    allocate = library.cuda.get_allocator()

    def allocate_or_explain(size: int) -> Any:
        try:
            return allocate(size)
        except library.cuda.memory.OutOfMemoryError as error:
            free, total = library.cuda.runtime.memGetInfo()
            held = library.get_default_memory_pool().total_bytes()
            raise MemoryError(
                f"cuda: no room for {size:,} bytes: {free:,} of the GPU's {total:,} bytes are free, {held:,} are held "
                "by this program; use smaller batches, drop tensors that are no longer needed, or call "
                "tn.cuda.empty_cache() if other programs share the GPU"
            ) from error

    library.cuda.set_allocator(allocate_or_explain)
