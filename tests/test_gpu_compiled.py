"""The GPU's backend with its compiled kernels, without a GPU: run on the host, and kept on disk."""

import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import strict_cupy
from strict_cupy import MODULE, counts
from test_gpu_backend import OPTIMIZERS, X, Y, assert_close, failing, one_step, trained, values

import tinygrad_norm as tn
from tinygrad_norm import optim
from tinygrad_norm.backend import BACKENDS, DEVICES, cubins, opening
from tinygrad_norm.backend.gpu import GPU, CompiledGPU

# --- the compiled kernels, run on the host --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """A backend over the stand-in whose kernels are those of kernels.cu, compiled by g++ and run thread by thread."""
    emulate = pytest.importorskip("emulate")
    if not emulate.available():
        pytest.skip("g++ is not installed")
    host = emulate.Emulated(emulate.build(tmp_path_factory.mktemp("kernels")))

    class EmulatedGPU(CompiledGPU):
        def __init__(self):
            GPU.__init__(self, MODULE, "emulated")

        def launch(self, name, dtype, blocks, threads, *args):
            host.launch(name, dtype, blocks, threads, *(a._a if isinstance(a, MODULE.ndarray) else a for a in args))

    return EmulatedGPU(), host


@pytest.mark.parametrize("norm", [None, "batch", "layer", "weight", "cosine", "rms"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_with_its_kernels_a_step_gives_the_same_and_does_not_wait(emulated, monkeypatch, norm, kind):
    backend, host = emulated
    monkeypatch.setitem(BACKENDS, MODULE.ndarray, backend)
    monkeypatch.setitem(DEVICES, "emulated", backend)
    host.launched.clear()
    try:
        runs = [trained(device, norm=norm, kind=kind, dropout=0.2) for device in ("cpu", "emulated")]
        assert_close(*(values(model) for model, _, _ in runs), 2e-4)
        assert {"cross_entropy", "dropout_mask"} < set(host.launched)
        model, optimizer, _ = runs[1]
        x, good, bad = tn.tensor(X), tn.tensor(Y), tn.tensor([*Y[:11], 3])
        before = {name: p.numpy().copy() for name, p in model.named_parameters()}
        counts.clear()
        for y in (bad, good):
            loss = one_step(model, optimizer, x, y)
        assert not counts, counts
        with pytest.raises(ValueError, match="got 3 at position 11"):
            loss.item()
        for name, p in model.named_parameters():
            np.testing.assert_array_equal(p.numpy(), before[name])
    finally:
        tn.set_default_device("cpu")


class Own(optim.Optimizer):
    """An optimizer of a user's own."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1, "weight_decay": 0.0})

    def buffers(self, group):
        return {"sum": 0.0}

    def update(self, xp, group, g, p, state, t):
        state["sum"] += g
        g *= group["lr"]


def test_with_its_kernels_a_users_optimizer_changes_nothing_either(emulated, monkeypatch):
    backend, _ = emulated
    monkeypatch.setitem(BACKENDS, MODULE.ndarray, backend)
    monkeypatch.setitem(DEVICES, "emulated", backend)
    x = tn.tensor([1.0, 2.0], device="emulated", requires_grad=True)
    optimizer = Own([x])
    for g in ([1.0, 1.0], [math.inf, 1.0]):
        x.grad = tn.tensor(g, device="emulated")
        optimizer.step()
    with pytest.raises(FloatingPointError, match=r"step 2: the gradient .* is not finite \(inf at \(0,\)\)"):
        x.numpy()
    assert x.tolist() == pytest.approx([0.9, 1.9]) and optimizer.state_dict()["state"]["0"]["sum"].tolist() == [1, 1]


def test_optimizers_copy_no_state_where_their_kernels_look_at_the_flag(emulated, monkeypatch):
    backend, host = emulated
    monkeypatch.setitem(BACKENDS, MODULE.ndarray, backend)
    monkeypatch.setitem(DEVICES, "emulated", backend)
    monkeypatch.setattr(GPU, "unless_refused", failing(AssertionError("state would be copied")))
    for kind in OPTIMIZERS:
        x = tn.tensor([1.0, 2.0], device="emulated", requires_grad=True)
        optimizer = OPTIMIZERS[kind]([x])
        x.grad = tn.ones(2, device="emulated")
        optimizer.step()
    assert {"sgd", "adam", "rmsprop", "adagrad"} <= {*host.launched}


# --- compiled once, and kept on disk --------------------------------------------------------------------------------


class Compiler:
    """What of ``cupy.cuda`` compiles and loads; ``compiled`` tells for what, ``launched`` what was run."""

    def __init__(self, capability="90", version=(12, 8), make=None):
        self.compiled, self.launched, self.make = [], [], make
        self.compiler = types.SimpleNamespace(
            compile_using_nvrtc=self.compile_using_nvrtc, CompileException=strict_cupy.CompileException
        )
        self.Device = lambda: types.SimpleNamespace(compute_capability=capability)
        self.nvrtc = types.SimpleNamespace(getVersion=lambda: version)

    def compile_using_nvrtc(self, source, options, filename):
        assert "__global__" in source and filename == "kernels.cu"
        self.compiled.append(options[-1])
        return options[-1].encode() if self.make is None else self.make(source, options), None

    def Module(self):
        module = types.SimpleNamespace()
        module.load = lambda binary: setattr(module, "binary", binary)
        module.get_function = lambda name: lambda *call: self.launched.append((module.binary, name, *call))
        return module


EACH = ["-DSTORED=float16", "-DSTORED=float", "-DSTORED=double"]


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "a" / "b"))
    return tmp_path / "a" / "b"


def gpu_with(**options):
    """A GPU whose kernels come from a Compiler."""
    return CompiledGPU(type("library", (MODULE,), {"cuda": Compiler(**options)}))


def test_kernels_are_compiled_once_for_each_dtype_and_found_by_name(cache):
    backend = gpu_with()
    for _ in range(2):
        backend.launch("norm", np.dtype("float64"), (3, 1), (32, 1), 0, 1.5)
    cuda = backend.library.cuda
    assert cuda.launched == [(b"-DSTORED=double", "norm", (3, 1), (32, 1), (0, 1.5))] * 2
    assert len(backend.kernels) == 1 and cuda.compiled == EACH and backend.flag is None


def test_another_process_loads_what_was_compiled(cache):
    gpu_with()
    assert len(list(cache.iterdir())) == 3
    again = gpu_with()
    assert again.library.cuda.compiled == []
    again.launch("norm", np.dtype("float16"), (1, 1), (32, 1))
    assert again.library.cuda.launched == [(b"-DSTORED=float16", "norm", (1, 1), (32, 1), ())]


def test_another_source_gpu_or_compiler_compiles_anew(cache, monkeypatch, tmp_path):
    gpu_with()
    assert gpu_with(capability="75").library.cuda.compiled == gpu_with(version=(13, 0)).library.cuda.compiled == EACH
    monkeypatch.setattr(cubins, "OPTIONS", ("-std=c++20",))
    assert gpu_with().library.cuda.compiled == EACH
    (tmp_path / "kernels.cu").write_text(cubins.SOURCE.read_text("utf-8") + "\n")
    monkeypatch.setattr(cubins, "SOURCE", tmp_path / "kernels.cu")
    assert gpu_with().library.cuda.compiled == EACH and len(list(cache.iterdir())) == 15
    assert gpu_with().library.cuda.compiled == []


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:40] + b"?" + b[41:]])
def test_a_broken_file_is_made_again(cache, damage):
    gpu_with()
    whole = {path: path.read_bytes() for path in cache.iterdir()}
    for path, content in whole.items():
        path.write_bytes(damage(content))
    assert gpu_with().library.cuda.compiled == EACH
    assert {path: path.read_bytes() for path in cache.iterdir()} == whole


def test_where_nothing_can_be_written_compiling_takes_its_time_again(cache, monkeypatch):
    cache.parent.write_text("a file where a folder should be")
    for _ in range(2):
        assert gpu_with().library.cuda.compiled == EACH
    monkeypatch.setenv("CUPY_CACHE_DIR", str(cache.parent.parent / "c"))
    monkeypatch.setattr(cubins.os, "replace", failing(OSError("disk full")))
    assert gpu_with().library.cuda.compiled == EACH
    assert not list((cache.parent.parent / "c").iterdir())  # no half-written file stays


def test_what_cupy_compiles_and_what_this_package_compiles_lie_together(monkeypatch):
    monkeypatch.delenv("CUPY_CACHE_DIR", raising=False)
    assert cubins.folder() == Path.home() / ".cupy" / "kernel_cache"


def test_kernels_that_the_driver_refuses_are_done_without(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", MODULE)
    monkeypatch.setattr(MODULE, "allocator", MODULE.allocator)  # which opening replaces
    error = strict_cupy.CUDADriverError("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image\nmore")
    monkeypatch.setattr(opening, "CompiledGPU", failing(error))
    with pytest.warns(RuntimeWarning, match="slower kernels are: CUDADriverError: CUDA_ERROR_NO_BINARY_FOR_GPU: no k"):
        assert type(opening.open_gpu()) is GPU


@pytest.mark.slow
def test_the_real_compilers_code_is_kept_as_it_is(cache):
    compiled = pytest.importorskip("test_cuda_kernels").compiled

    def make(source, options):
        code, log = compiled(source, "sm_90", options[-1].split("=")[1])
        assert code and not log
        return code

    loaded = [gpu_with(make=make) for _ in range(2)]
    assert [len(backend.library.cuda.compiled) for backend in loaded] == [3, 0]
    first, second = ({char: module.binary for char, module in backend.modules.items()} for backend in loaded)
    assert first == second and all(code[:4] == b"\x7fELF" for code in first.values())
