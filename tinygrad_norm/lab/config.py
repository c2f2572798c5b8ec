"""What this machine computes with: versions, BLAS, devices, optional packages, and what would make it faster."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import numpy

from ..backend import DEVICES, backend_for
from ..backend.jit import JIT, compiled
from ..backend.openblas import kernel, threads
from ..backend.opening import devices, missing

EXTRAS = {
    "data": ("pooch",), "fast": ("numba",), "lab": ("matplotlib",), "viz": ("matplotlib", "graphviz"),
    "test": ("pytest", "hypothesis"),
}  # fmt: skip
"""Extras and the packages they bring; what only builds or documents this package is left out."""

OLD_KERNELS = ("Haswell", "Zen")


def environment(device: str = "cpu") -> dict[str, Any]:
    """The few facts that belong beside every measurement, as plain values.

    >>> environment()["device"]
    'cpu'
    """
    return {
        "tinygrad_norm": version("tinygrad_norm"), "python": platform.python_version(), "numpy": numpy.__version__,
        "platform": platform.platform(terse=True), "machine": platform.machine(), "cores": cores(),
        "blas": _blas(), "blas_kernel": kernel(), "device": device,
    }  # fmt: skip


def config() -> dict[str, Any]:
    """All that :func:`show_config` prints, as plain values.

    >>> sorted(config())
    ['advice', 'blas_threads', 'cpu_kernels', 'devices', 'environment', 'extras', 'gpu', 'python_executable']
    """
    return {
        "environment": environment(), "blas_threads": threads(), "devices": list(DEVICES),
        "cpu_kernels": cpu_kernels(), "gpu": missing() or f"usable as 'cuda' ({devices()} in all)",
        "extras": {extra: {name: version(name) for name in names} for extra, names in EXTRAS.items()},
        "advice": [*wanted(), *advice(kernel(), cores(), threads())], "python_executable": sys.executable,
    }  # fmt: skip


def wanted() -> list[str]:
    """What is missing for the device that TINYGRAD_NORM_DEVICE names, in a sentence; empty when nothing is."""
    try:
        backend_for(os.environ.get("TINYGRAD_NORM_DEVICE") or "cpu")
        return []
    except ValueError as error:
        return [f"TINYGRAD_NORM_DEVICE: {str(error).removeprefix('device: ')}"]


def cpu_kernels() -> str:
    """Whether Numba compiles the kernels of the CPU; one is compiled to see whether it can.

    >>> "Numba" in cpu_kernels()
    True
    """
    if isinstance(DEVICES["cpu"], JIT):
        return "compiled by Numba" if compiled("relu", "f") else "NumPy; Numba is installed but does not work here"
    return "NumPy; Numba is switched off by TINYGRAD_NORM_JIT=0" if find_spec("numba") else "NumPy, without Numba"


def show_config() -> None:
    """Print versions, BLAS with its kernel and threads, devices, optional packages, and advice."""
    print(config_text(config()))


def config_text(found: dict[str, Any]) -> str:
    """The text of :func:`show_config`.

    >>> config_text(config()).splitlines()[0].split()[0]
    'tinygrad_norm'
    """
    here = found["environment"]
    count = "unknown threads" if found["blas_threads"] is None else _plural(found["blas_threads"], "thread")
    rows = [
        ("tinygrad_norm", here["tinygrad_norm"]),
        ("Python", f"{here['python']} ({found['python_executable']})"),
        ("NumPy", here["numpy"]),
        ("BLAS", f"{here['blas']}, kernel {here['blas_kernel'] or 'unknown'}, {count}"),
        ("machine", f"{here['platform']}, {here['machine']}, {_plural(here['cores'], 'core')}"),
        ("devices", ", ".join(found["devices"])),
        ("CPU kernels", found["cpu_kernels"]),
        ("GPU", found["gpu"]),
    ]
    for extra, packages in found["extras"].items():
        missing = any(number is None for number in packages.values())
        text = ", ".join(f"{name} {number or 'missing'}" for name, number in packages.items())
        install = f'; install: python -m pip install "tinygrad_norm[{extra}]"' if missing else ""
        rows.append((f"extra [{extra}]", text + install))
    rows += [("advice", text) for text in found["advice"] or ["none: nothing here is known to slow it down"]]
    return "\n".join(f"{name:<14} {text}" for name, text in rows)


def advice(kernel: str | None, cores: int, threads: int | None) -> list[str]:
    """What to change for more speed, in sentences; empty when there is nothing to say.

    >>> advice("SkylakeX", 2, 2)
    []
    >>> advice("SkylakeX", 2, 8)[0].split(":")[0]
    'BLAS uses 8 threads on 2 cores'
    """
    found = []
    if kernel in OLD_KERNELS and has_avx512():
        found.append(
            f"this processor has AVX-512 and OpenBLAS uses its {kernel} kernels: set OPENBLAS_CORETYPE=SkylakeX in the "
            "environment, before Python starts, and measure your own program with and without it"
        )
    if threads is not None and threads > cores:
        found.append(f"BLAS uses {threads} threads on {cores} cores: set OPENBLAS_NUM_THREADS={cores}")
    return found


def has_avx512() -> bool:
    """Whether NumPy found AVX-512 in this processor.

    >>> has_avx512() in (True, False)
    True
    """
    info: Any = numpy.show_config(mode="dicts")
    found = info.get("SIMD Extensions", {}).get("found", [])
    return any(name == "X86_V4" or name.startswith("AVX512") for name in found)


def cores() -> int:
    """Processors that this process may use.

    >>> cores() >= 1
    True
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def version(package: str) -> str | None:
    """The version of an installed package; "source" when it runs without being installed, None when it is not there.

    >>> version("numpy") == numpy.__version__
    True
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "source" if find_spec(package) else None


def _blas() -> str:
    info: Any = numpy.show_config(mode="dicts")
    blas = info.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _plural(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"
