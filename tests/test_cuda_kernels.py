"""The CUDA kernels without a GPU: they compile for every architecture, and run on the host they agree with Backend."""

import ctypes
from importlib.metadata import PackageNotFoundError, distribution
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import test_kernels
from emulate import Emulated, available, build, kernel_names
from test_kernels import GENERIC, close

import tinygrad_norm as tn
from tinygrad_norm.backend import BACKENDS, cubins, launching
from tinygrad_norm.backend.cuda import CudaKernels
from tinygrad_norm.testing.checks import CHECKS
from tinygrad_norm.testing.samples import ROWS

SOURCE = cubins.SOURCE.read_text("utf-8")
DTYPES = ("float16", "float32", "float64")
LAUNCHED = set()


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    if not available():
        pytest.skip("g++ is not installed")
    return build(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(params=[(False, 512, 8, 2048, 65535), (True, 64, 1, 2, 2)], ids=["forwards", "backwards"])
def emulated(libraries, request, monkeypatch):
    """Two orders of threads, with blocks that are large and small, many and few."""
    falling, most_threads, lanes, enough, tallest = request.param
    xp = Emulated(libraries, falling)
    xp.most_threads, xp.lanes = most_threads, lanes
    monkeypatch.setattr(launching, "ENOUGH", enough)
    monkeypatch.setattr(launching, "TALLEST", tallest)
    monkeypatch.setattr(launching, "LARGE", 0 if falling else 1 << 20)
    yield xp
    LAUNCHED.update(xp.launched)


def random(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# ---- they compile


def nvrtc():
    """NVIDIA's compiler at run time, from its wheel."""
    for name in ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"):
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:
            continue
        for file in files:
            if file.name.startswith("libnvrtc.so"):
                return ctypes.CDLL(str(file.locate()))
    return pytest.skip("libnvrtc is not installed")


def compiled(source, architecture, stored):
    """The machine code, empty where there is none, and the compiler's remarks."""
    library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    assert not library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    options = [f"-arch={architecture}".encode(), f"-DSTORED={stored}".encode(), *map(str.encode, cubins.OPTIONS)]
    failed = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(0 if failed else size.value)
    if not failed:
        library.nvrtcGetCUBIN(program, code)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return code.raw, log.value.decode()


ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
QUICK = {("sm_90", "float")}  # two seconds each


@pytest.mark.parametrize(
    "architecture, stored",
    [
        pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow)
        for pair in product(ARCHITECTURES, cubins.STORED.values())
    ],
)
def test_compiles(architecture, stored):
    code, log = compiled(SOURCE, architecture, stored)
    assert code and not log, log


def test_a_mistake_is_seen_by_the_compiler():
    code, log = compiled(SOURCE.replace("inverse_root(real v)", "inverse_root(real u)"), "sm_90", "float")
    assert not code and "kernels.cu" in log and 'identifier "v" is undefined' in log


# ---- they agree with Backend


@pytest.mark.parametrize("name", "norm_forward norm_backward unit_forward unit_backward".split())
def test_agrees_on_some_numbers(emulated, name, monkeypatch):
    monkeypatch.setattr(test_kernels, "SHAPES", [(0, 3), (1, 1), (1, 33), (65, 31), (2, 3, 33)])
    monkeypatch.setattr(test_kernels, "FILLS", ["normal", "mixed"])
    getattr(test_kernels, f"check_{name}")(emulated)
    assert emulated.launched


@pytest.mark.parametrize("name", "relu relu_backward sgd_update adam_update cross_entropy_backward".split())
def test_agrees(emulated, name):
    getattr(test_kernels, f"check_{name}")(emulated)
    assert emulated.launched


@pytest.mark.slow
@pytest.mark.parametrize("name", "norm_forward norm_backward unit_forward unit_backward".split())
def test_agrees_on_hard_numbers_of_many_shapes(emulated, name):
    getattr(test_kernels, f"check_{name}")(emulated)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape, axes, gain",
    [
        ((6, 5, 7), (0, 2), (5, 1)),  # batch norm of signals
        ((3, 4, 5, 6), (0, 2, 3), (4, 1, 1)),
        ((3, 4, 5, 6), (2, 3), (4, 1, 1)),  # instance norm
        ((3, 2, 4, 5), (2, 3), (2, 4, 1)),  # group norm
        ((3, 2, 4, 5), (2, 3), (4, 5)),  # layer norm
        ((3, 8), (1,), ()),
        ((9, 3), (0,), ()),
        ((4, 5, 6), (0, 1, 2), (6,)),
        ((4, 5, 6), (0, 1, 2), (4, 5, 6)),
        ((4, 5, 6), (), None),
        ((3, 9000), (1,), (9000,)),  # more than the registers hold
        ((700, 70), (0,), (70,)),
    ],
)
@pytest.mark.parametrize("centre", [True, False])
def test_norms_of_every_layout(emulated, shape, axes, gain, centre, dtype):
    x, g = random(shape, dtype), random(shape, dtype, 1)
    weight, bias = (None if gain is None else random(gain, dtype, seed) for seed in (2, 3))
    y, stats = emulated.norm_forward(x, weight, bias, axes, 1e-5, centre)
    want, truth = GENERIC.norm_forward(x, weight, bias, axes, 1e-5, centre)
    context = (np.dtype(dtype), shape, axes)
    close(y, want, context, axes)
    for got, exact in zip(stats[2:], truth[2:]):
        close(got, exact, (exact.dtype, shape, axes))
    if centre:
        close(stats[0] + stats[1], truth[0] + truth[1], (truth[0].dtype, shape, axes), terms=1.0)
    needs = (True, weight is not None, bias is not None)
    got = emulated.norm_backward(g, x, stats, weight, axes, needs)
    exact = GENERIC.norm_backward(g, x, truth, weight, axes, needs)
    close(got[0], exact[0], (exact[0].dtype, shape, axes), terms=abs(g).max())
    for a, b in zip(got[1:], exact[1:]):
        if b is not None:
            close(emulated.sum_to(a, gain), emulated.sum_to(b, gain), (b.dtype, shape), terms=abs(b).sum() ** 0.5)
    general = (axes == (0,) and not centre) or gain == (6,)  # no kernel for these
    assert bool(emulated.launched) != general


@pytest.mark.parametrize("needs", [n for n in product((True, False), repeat=3) if any(n)])
@pytest.mark.parametrize("axes", [(0,), (1,)])
def test_only_what_is_needed_comes_back(emulated, axes, needs):
    x, g, weight = random((40, 33)), random((40, 33), seed=1), random(33, seed=2)
    stats = emulated.norm_forward(x, weight, None, axes, 0.0)[1]
    got = emulated.norm_backward(g, x, stats, weight, axes, needs)
    assert [v is not None for v in got] == list(needs)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_a_far_first_element_and_a_large_mean_cost_no_digits(emulated, axis, dtype):
    x = random((300, 300), "float64") + (1e6 if dtype == "float32" else 1e14)
    x = x.astype(dtype)
    x[0], x[:, 0] = 0.0, 0.0
    d = x.astype("longdouble")
    d[0, 0] = 1.0  # that slice is not looked at
    d = d - d.mean(axis, keepdims=True)
    want = d / np.sqrt((d * d).mean(axis, keepdims=True))
    error = emulated.norm_forward(x, None, None, (axis,), 0.0)[0] - want
    assert abs(error[1:, 1:]).max() < 20 * np.finfo(dtype).eps


@pytest.mark.parametrize("axis", [0, 1])
def test_eps_counts_beside_very_large_and_very_small_numbers(emulated, axis):
    for x in (np.full((40, 30), 1e30, "float32"), random((40, 30)) * np.float32(1e-30)):
        y, stats = emulated.norm_forward(x, None, None, (axis,), 1e-5)
        want, truth = GENERIC.norm_forward(x, None, None, (axis,), 1e-5)
        np.testing.assert_allclose(stats[3], truth[3], rtol=1e-6)
        np.testing.assert_allclose(y, want, atol=1e-5 * abs(want).max())


def test_a_long_row_is_shifted_once_more(emulated):
    x = random((2, 20_000))
    x[:, 0] = 1e7
    d = x[:, 1:].astype("longdouble") - x.astype("longdouble").mean(1, keepdims=True)
    _, (shift, mean, _, _) = emulated.norm_forward(x, None, None, (1,), 0.0)
    assert abs(((x[:, 1:] - shift) - mean) - d).max() < 5e-3


def test_rounding_does_not_take_the_root_of_a_negative_number(emulated):
    g, square, mean = np.zeros(9, "float32"), np.ones(9, "float32"), np.full(9, 1.0000001, "float32")
    emulated.rmsprop_update(g, None, square, mean, None, 0.1, 1.0, 1e-8, 0.0, 0.0)
    assert not g.any()


def test_a_few_long_slices_are_taken_apart_into_columns(emulated, monkeypatch):
    x, g = random((40, 3, 4, 5), "float64") + [[[1e6]], [[-3e5]], [[1.0]]], random((40, 3, 4, 5), seed=1)
    x = x.astype("float32")
    weight, axes = random((3, 1, 1), seed=2), (0, 2, 3)
    d = x.astype("longdouble")
    d = d - d.mean(axes, keepdims=True)
    xhat = d / np.sqrt((d * d).mean(axes, keepdims=True))
    h = g * weight
    parts = h.mean(axes, keepdims=True), (h * xhat).mean(axes, keepdims=True)
    want = (h - parts[0] - xhat * parts[1]) / np.sqrt((d * d).mean(axes, keepdims=True))
    for large, kernels in ((0, {"column_parts", "norm_columns_backward"}), (x.size, {"norm_slices"})):
        monkeypatch.setattr(launching, "LARGE", large)
        emulated.launched.clear()
        y, stats = emulated.norm_forward(x, None, None, axes, 0.0)
        assert abs(y - xhat).max() < 2e-6
        gx, gweight, gbias = emulated.norm_backward(g, x, stats, weight, axes, (True, True, True))
        assert abs(gx - want).max() < 2e-5
        np.testing.assert_allclose(gweight.reshape(-1), (g * xhat).sum(axes), atol=2e-4)
        np.testing.assert_allclose(gbias.reshape(-1), g.sum(axes), atol=2e-4)
        assert kernels <= {*emulated.launched}, emulated.launched
        constant = np.full_like(x, 1234.567)
        assert not emulated.norm_forward(constant, None, None, axes, 0.0)[0].any()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_constant_slice_is_centred_to_exact_zeros(emulated, axis):
    x = np.full((200, 200), 1234.567, "float32")
    y, (_, _, var, rstd) = emulated.norm_forward(x, None, None, (axis,), 0.0)
    assert not y.any() and not var.any() and not rstd.any()


@pytest.mark.parametrize("axis", [0, 1])
def test_powers_of_two_change_no_bit(emulated, axis):
    x = np.random.default_rng(0).uniform(1, 2, (100, 90)).astype("float32")
    y, u = emulated.norm_forward(x, None, None, (axis,), 0.0)[0], emulated.unit_forward(x, (1,), 0.0)[0]
    for k in (-140 + 24, -40, 1, 100, 126):
        scaled = np.ldexp(x, k)
        assert (emulated.norm_forward(scaled, None, None, (axis,), 0.0)[0] == y).all()
        assert (emulated.unit_forward(scaled, (1,), 0.0)[0] == u).all()


def test_float16_with_float32_gains_and_gradients(emulated):
    x, g, weight = random((20, 30), "float16"), random((20, 30), "float32", 1), random(30, "float32", 2)
    for axes in ((0,), (1,)):
        y, stats = emulated.norm_forward(x, weight, None, axes, 1e-5)
        close(y, GENERIC.norm_forward(x, weight, None, axes, 1e-5)[0], (x.dtype,))
        want = GENERIC.norm_backward(g, x, stats, weight, axes, (True, False, False))[0]
        close(emulated.norm_backward(g, x, stats, weight, axes, (True, False, False))[0], want, (want.dtype,))
    u, norm = emulated.unit_forward(x, (1,), 0.0)
    close(emulated.unit_backward(g, u, norm, (1,), 0.0), GENERIC.unit_backward(g, u, norm, (1,), 0.0), (norm.dtype,))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 3, 32, 1001])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy(emulated, classes, smoothing, dtype):
    logits = random((21, classes), dtype) * 20
    logits[3, 0], logits[4] = np.inf, -np.inf
    logits[5, -1] = np.nan
    labels = np.random.default_rng(1).integers(0, classes, 21).astype("int32")
    weights = (labels % 3 + np.arange(21) % 2).astype(GENERIC.wide(logits).dtype)
    with np.errstate(all="ignore"):
        got, want = (xp.cross_entropy_forward(logits, labels, weights, smoothing) for xp in (emulated, GENERIC))
    close(got[0], want[0], (want[0].dtype,))
    close(got[1], want[1], (want[1].dtype,))
    assert emulated.launched == ["cross_entropy"]


def test_a_label_that_is_no_class_reads_nothing_beyond_the_row(emulated):
    loss, _ = emulated.cross_entropy_forward(random((4, 3)), np.array([0, 3, -1, 1 << 40]), np.ones(4, "float32"), 0.0)
    assert np.isfinite(loss[0]) and np.isnan(loss[1:]).all()


ENDS = [0.0, -0.0, np.inf, -np.inf, np.nan, 6e-8, -6e-8, 6e4, -6e4]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["relu", "erf"])
def test_functions_of_each_element(emulated, name, dtype):
    for x in (random(9001, dtype), np.array(ENDS, dtype), random((5, 70), dtype).T):
        got, want = (getattr(xp, name)(x) for xp in (emulated, GENERIC))
        close(got, want, (np.dtype(dtype),))
    assert len(emulated.launched) == 3


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_the_smallest_numbers_are_not_taken_for_0(emulated, dtype):
    x = np.array([np.finfo(dtype).smallest_subnormal, 3 * np.finfo(dtype).smallest_subnormal], dtype)
    np.testing.assert_array_equal(emulated.relu(x), x)
    assert (emulated.erf(x) > 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (1, 1), (33, 31), (300, 70), (3, 4, 65)])
def test_bias(emulated, shape, dtype):
    y, bias = random(shape, dtype), random(shape[-1], dtype, 1)
    want = y + bias
    emulated.add_bias(y, bias)
    np.testing.assert_array_equal(y, want)
    assert emulated.launched == ["add_bias"]


def test_a_bias_that_no_kernel_adds(emulated):
    cases = [(random((6, 5)).T, random(6)), (random((0, 5)), random(5)), (random((6, 5)) + 1j, random(5))]
    for y, bias in [*cases, (random((6, 5), "float64"), random(5)), (random((6, 5)), random(10)[::2])]:
        want = y + bias
        emulated.add_bias(y, bias)
        np.testing.assert_array_equal(y, want)
    assert not emulated.launched


def test_erf_of_a_complex_step(emulated):
    x = random((6, 5), "float64") + 1e-100j
    got, want = emulated.erf(x), GENERIC.erf(x)
    for part in ("real", "imag"):
        np.testing.assert_allclose(getattr(got, part), getattr(want, part), 1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.1, 0.5, 1 - 2**-60, 1.0])
def test_dropout_draws_the_same_bits_as_the_cpu(emulated, p, dtype):
    for seed, counter in ((0, 1), (2**63 - 1, 2**40)):
        got = emulated.dropout_mask(seed, counter, (7, 901), p, np.dtype(dtype))
        np.testing.assert_array_equal(got, GENERIC.dropout_mask(seed, counter, (7, 901), p, np.dtype(dtype)))


UPDATES = {
    "sgd_update": [(1, (0.1, 0.9, decay, nesterov)) for decay in (0.0, 0.01) for nesterov in (False, True)],
    "adam_update": [(2, (3, 0.01, 0.9, 0.999, 1e-4, decay, after)) for decay in (0.0, 0.01) for after in (False, True)],
    "rmsprop_update": [(3, (0.01, 0.99, 1e-4, decay, momentum)) for decay in (0.0, 0.01) for momentum in (0.0, 0.9)],
    "adagrad_update": [(1, (4, 0.1, 0.2, decay, 1e-4)) for decay in (0.0, 0.01)],
}
CASES = [(name, *case) for name, cases in UPDATES.items() for case in cases]


def updated(xp, name, states, numbers, dtype, size=5003):
    """The step and the states after an update."""
    g, p = random(size, dtype), random(size, dtype, 1)
    held = held_before(states, dtype, size)
    getattr(xp, name)(g, p, *held, *numbers)
    return [g, *held]


def held_before(states, dtype, size=5003):
    """An optimizer's states: the first is larger than the squares of the others."""
    return [abs(random(size, dtype, 2 + i)) + (1 if i else 30) for i in range(states)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, states, numbers", CASES)
def test_optimizers(emulated, name, states, numbers, dtype):
    got, want = (updated(xp, name, states, numbers, dtype) for xp in (emulated, GENERIC))
    for a, b in zip(got, want, strict=True):
        close(a, b, (np.dtype(dtype), name), terms=0.05)
    assert len(emulated.launched) == 1


def test_rmsprop_without_its_mean(emulated):
    states = [[random(50), None, abs(random(50, seed=1)), None, None] for _ in range(2)]
    for xp, arrays in zip((emulated, GENERIC), states):
        xp.rmsprop_update(*arrays, 0.01, 0.9, 1e-8, 0.0, 0.0)
    for a, b in zip(states[0], states[1]):
        close(a, b, (np.dtype("float32"),))


@pytest.mark.parametrize("name, states, numbers", CASES)
def test_no_optimizer_steps_while_the_flag_is_set(emulated, name, states, numbers):
    emulated.flag = np.array([1.0, 0.0, np.nan])
    step, *held = updated(emulated, name, states, numbers, "float32")
    assert not step.any()
    assert all((a == b).all() for a, b in zip(held, held_before(states, "float32"), strict=True))
    emulated.flag[0] = 0.0
    for a, b in zip(
        updated(emulated, name, states, numbers, "float32"), updated(GENERIC, name, states, numbers, "float32")
    ):
        close(a, b, (np.dtype("float32"),), terms=0.05)


def test_numbers_may_be_integers(emulated):
    x = random((40, 30))
    for axes in ((0,), (1,)):
        close(
            emulated.norm_forward(x, None, None, axes, 1)[0],
            GENERIC.norm_forward(x, None, None, axes, 1)[0],
            (x.dtype,),
        )
    steps = [random(50), random(50)]
    for xp, g in zip((emulated, GENERIC), steps, strict=True):
        xp.sgd_update(g, random(50, seed=1), random(50, seed=2), 1, 1, 1, True)
    close(*steps, (x.dtype,))


def test_what_no_kernel_handles_goes_to_the_general_one(emulated):
    x = random((4, 5, 6))
    cases = [
        (x, None, (1,)),  # reduced between kept axes
        (x.astype(">f4"), None, (2,)),
        (x, random((4, 1, 6)), (2,)),  # a gain that no pair of numbers describes
        (x, random(6, "float64"), (2,)),
        (x[:0], None, (2,)),
    ]
    for x, weight, axes in cases:
        y, stats = emulated.norm_forward(x, weight, None, axes, 1e-5)
        np.testing.assert_array_equal(y, super(CudaKernels, emulated).norm_forward(x, weight, None, axes, 1e-5)[0])
        emulated.norm_backward(x, x, stats, weight, axes, (True, weight is not None, False))
    assert not emulated.launched


def test_a_kernel_gives_the_same_bits_whatever_the_order(libraries):
    x, g = random((500, 300)), random((500, 300), seed=1)
    results = []
    for falling in (False, True):
        xp = Emulated(libraries, falling)
        for axes in ((0,), (1,)):
            y, stats = xp.norm_forward(x, None, None, axes, 0.0)
            results.append([y, *stats, *xp.norm_backward(g, x, stats, random(300, seed=2), axes, (True, True, True))])
    for a, b in zip(results[0] + results[1], results[2] + results[3], strict=True):
        np.testing.assert_array_equal(a, b)


# ---- inside the library

USERS = ("batch_norm", "layer_norm", "group_norm", "weight_norm", "normalize", "cross_entropy", "relu", "dropout")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith(USERS)])
def test_rows_of_the_op_table(emulated, name, monkeypatch):
    monkeypatch.setitem(BACKENDS, np.ndarray, emulated)
    for check in CHECKS:
        if check != "error_inputs":
            with np.errstate(divide="ignore", invalid="ignore"):
                CHECKS[check](ROWS[name])


def trained():
    """The weights of a small net after three steps."""
    tn.manual_seed(0)
    net = tn.nn.Sequential(
        tn.nn.Linear(8, 20, bias=False),
        tn.nn.BatchNorm1d(20),
        tn.nn.ReLU(),
        tn.nn.Dropout(0.2),
        tn.nn.LayerNorm(20),
        tn.nn.Linear(20, 3),
    )
    optimizer = tn.optim.Adam(net.parameters(), lr=0.01)
    x, labels = tn.tensor(random((40, 8))), tn.tensor(np.arange(40) % 3)
    for _ in range(3):
        optimizer.zero_grad()
        tn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()
    return [p.numpy().copy() for p in net.parameters()]


def test_a_net_trains_to_the_same_weights(emulated, monkeypatch):
    want = trained()
    monkeypatch.setitem(BACKENDS, np.ndarray, emulated)
    for a, b in zip(trained(), want, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert {"norm_columns", "norm_slices", "norm_slices_backward", "cross_entropy", "dropout_mask", "adam"} <= {
        *emulated.launched
    }


def test_every_kernel_was_run():
    if not LAUNCHED:
        pytest.skip("g++ is not installed, or only this test was chosen")
    assert set(kernel_names(SOURCE)) == LAUNCHED


# ---- the emulator sees what would go wrong on a GPU

BARRIERS = SOURCE.count("__syncthreads();")


def harmed(source, folder):
    """What goes wrong with a source: a complaint, or numbers that differ from Backend's."""
    if not available():
        pytest.skip("g++ is not installed")
    libraries = build(folder, source, "f")
    x, wrong = random((300, 300)) + 5, []
    for falling, axes in product((False, True), ((0,), (1,))):
        xp = Emulated(libraries, falling)
        try:
            y, stats = xp.norm_forward(x, None, None, axes, 0.0)
            gx = xp.norm_backward(x, x, stats, None, axes, (True, False, False))[0]
            y, gx = (np.abs(a - b).max() for a, b in zip((y, gx), expected(x, axes)))
            wrong += ["numbers differ"] if not max(y, gx) < 1e-4 else []
        except AssertionError as complaint:
            wrong.append(str(complaint))
    return wrong


def expected(x, axes):
    y, stats = GENERIC.norm_forward(x, None, None, axes, 0.0)
    return y, GENERIC.norm_backward(x, x, stats, None, axes, (True, False, False))[0]


def test_the_source_as_it_is_passes(tmp_path):
    assert not harmed(SOURCE, tmp_path)


@pytest.mark.parametrize("number", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, BARRIERS))])
def test_a_missing_barrier_is_seen(tmp_path, number):
    parts = SOURCE.split("__syncthreads();")
    source = "__syncthreads();".join(parts[: number + 1]) + "__syncthreads();".join(["", *parts[number + 1 :]])[16:]
    assert source.count("__syncthreads();") == BARRIERS - 1
    assert "numbers differ" in harmed(source, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ("__syncthreads();", "if (threadIdx.x != 40) __syncthreads();", "different barriers"),
        ("__syncthreads();", "if (threadIdx.x < 32) __syncthreads(); else\n__syncthreads();", "different barriers"),
        ("if (warps == 1) return v;", "if (threadIdx.x / 32 == 1) return v;", "not all threads reach"),
        ("store(&y[slice.at(j)], out);", "store(&y[slice.at(j) + 1], out);", "wrote beside an array"),
        ("for (int step = 16; step; step /= 2) v = f(v, from_lane(v, step));", "", "numbers differ"),
    ],
)
def test_a_planted_mistake_is_seen(tmp_path, old, new, complaint):
    assert old in SOURCE
    assert any(complaint in what for what in harmed(SOURCE.replace(old, new, 1), tmp_path))


def test_the_kernels_lie_beside_the_package():
    assert Path(launching.__file__).with_name("kernels.cu") == cubins.SOURCE and len(kernel_names(SOURCE)) > 15
