"""``kernels.cu``, compiled for a dtype and a GPU; kept on disk, because compiling takes seconds.

A file that is missing, broken or not to be written only costs that time again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("kernels.cu")
OPTIONS = ("-std=c++17",)  # for the compiler, beside -DSTORED=...
STORED = {"e": "float16", "f": "float", "d": "double"}  # dtype.char -> what kernels.cu is compiled with as STORED


def loaded(cuda: Any, char: str) -> Any:
    """The module of kernels for a dtype, from the disk or compiled here and now.

    CuPy's own way to compile and to keep, ``RawModule``, flushes subnormal numbers to 0; so its compiler is called
    directly.

    Args:
        cuda: the module ``cupy.cuda``.
        char: a key of STORED.
    """
    source, options = SOURCE.read_text("utf-8"), (*OPTIONS, f"-DSTORED={STORED[char]}")

    def compiled() -> bytes:
        return cuda.compiler.compile_using_nvrtc(source, options, filename=SOURCE.name)[0]

    key = repr((source, options, cuda.Device().compute_capability, cuda.nvrtc.getVersion()))
    path = folder() / f"tinygrad_norm-{sha256(key.encode()).hexdigest()}.cubin"
    binary = kept(path, compiled)
    module = cuda.Module()
    module.load(binary)
    return module


def folder() -> Path:
    """Where CuPy keeps what it compiles."""
    return Path(os.environ.get("CUPY_CACHE_DIR") or os.path.expanduser("~/.cupy/kernel_cache"))


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """The contents of a file, made where it is not there or not whole. Its first 32 bytes are the others' checksum."""
    with suppress(OSError):
        found = path.read_bytes()
        if found[:32] == sha256(found[32:]).digest():
            return found[32:]
    made = make()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(sha256(made).digest() + made)
            os.replace(name, path)  # another process sees the whole file or none
        except OSError:
            os.unlink(name)
            raise
    return made
