"""The CUDA kernels on the host: ``kernels.cu`` compiled by g++ and run thread by thread on NumPy arrays."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy

from tinygrad_norm.backend.cpu import CPU
from tinygrad_norm.backend.cubins import SOURCE, STORED
from tinygrad_norm.backend.cuda import CudaKernels

HEADER = Path(__file__).with_name("cuda_emulator.h")
GUARD = 64  # elements around every array that a kernel sees; nothing may write there


def kernel_names(source):
    """The kernels that a source defines."""
    return re.findall(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(', source)


def build(folder, source=None, dtypes=STORED):
    """One library for each dtype, from ``kernels.cu`` or another text."""
    source = SOURCE.read_text("utf-8") if source is None else source
    entries = [
        f'extern "C" const char* run_{name}(void** args, const unsigned* grid, const unsigned* block, int falling) '
        f"{{ return emulator::launch([](void** a) {{ emulator::call({name}, a); }}, args, grid, block, falling); }}"
        for name in kernel_names(source)
    ]
    text = folder / "kernels.cpp"
    text.write_text(f'#include "{HEADER}"\n' + source + "\n".join(entries), "utf-8")
    compilers = {}
    for char in dtypes:
        library = folder / f"{STORED[char]}.so"
        command = ["g++", "-std=c++17", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-Wall", "-Wextra"]
        command += ["-U_FORTIFY_SOURCE"]  # which takes a jump to another stack for an attack
        command += ["-Wno-unknown-pragmas", "-Wno-sign-compare", "-Wno-attributes"]
        command += [f"-DSTORED={STORED[char]}", str(text), "-o", str(library)]
        compilers[library] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for process in compilers.values():
        complaints = process.communicate()[1]
        assert process.returncode == 0 and not complaints, complaints
    return {char: ctypes.CDLL(str(library)) for char, library in zip(dtypes, compilers, strict=True)}


def available():
    """Whether this machine can compile C++."""
    return shutil.which("g++") is not None


class Emulated(CudaKernels, CPU):
    """The backend of a GPU, all its kernels run on the host; what they do not handle goes to CPU.

    Args:
        libraries: what ``build`` returns.
        falling: run blocks, warps and threads in reversed order.
    """

    def __init__(self, libraries, falling=False):
        self.libraries, self.falling, self.launched = libraries, falling, []

    @staticmethod
    def empty(shape, dtype=float):
        """Full of NaN, so that an element which no kernel writes is seen."""
        return numpy.full(shape, numpy.nan if numpy.dtype(dtype).kind == "f" else 77, dtype)

    def launch(self, name, dtype, blocks, threads, *args):
        self.launched.append(name)
        held, guarded = [], []
        for value in args:
            if isinstance(value, float):
                held.append(ctypes.c_double(value))
            elif isinstance(value, int):
                held.append(ctypes.c_longlong(value))
            else:
                assert value.flags.c_contiguous, f"{name}: an array that is not contiguous"
                bytes_around = GUARD * value.itemsize
                raw = numpy.full(value.nbytes + 2 * bytes_around, 0xFF, numpy.uint8)  # NaN, for every float
                inside = raw[bytes_around : bytes_around + value.nbytes]
                inside[...] = value.reshape(-1).view(numpy.uint8)
                guarded.append((value, raw, inside, bytes_around))
                held.append(ctypes.c_void_p(inside.ctypes.data))
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(h) for h in held))
        run = getattr(self.libraries[dtype.char], f"run_{name}")
        run.restype = ctypes.c_char_p
        failure = run(pointers, (ctypes.c_uint * 2)(*blocks), (ctypes.c_uint * 2)(*threads), int(self.falling))
        assert failure is None, f"{name}: {failure.decode()}"
        for value, raw, inside, around in guarded:
            assert (raw[:around] == 0xFF).all() and (raw[-around:] == 0xFF).all(), f"{name}: wrote beside an array"
            if value.flags.writeable and (inside != value.reshape(-1).view(numpy.uint8)).any():
                value.reshape(-1).view(numpy.uint8)[...] = inside
