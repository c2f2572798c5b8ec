"""Every kernel that a backend of the CPU overrides, against the generic one: shapes, dtypes, hard numbers."""

import math
import os
import subprocess
import sys
import types
from importlib.util import find_spec
from itertools import product

import numpy
import pytest

from tinygrad_norm.backend import Backend, loops
from tinygrad_norm.backend.cpu import CPU
from tinygrad_norm.backend.jit import JIT, base, compiled, training
from tinygrad_norm.backend.loops import blas, convolution
from tinygrad_norm.backend.openblas import gemm
from tinygrad_norm.backend.windows import Window


class Generic(Backend, library=numpy):
    """Nothing but what Backend has."""

    array_type, device, eigh = numpy.ndarray, "generic", None
    library_sum, errstate = staticmethod(numpy.sum), staticmethod(numpy.errstate)


GENERIC = Generic()
NUMBA = find_spec("numba") is not None
PRODUCTS = gemm("sgemm") is not None
NO_PRODUCTS = "convolutions are compiled with Numba, and where NumPy's BLAS is an OpenBLAS with 64-bit sizes"
KERNELS = [
    name
    for mixin in Backend.__mro__[1:-1]
    for name, value in vars(mixin).items()
    if isinstance(value, types.FunctionType) and not name.startswith("_")
]
USES = {
    "norm_forward": ("norm_rows", "norm_columns", "norm_channels"),
    "norm_backward": ("norm_rows_backward", "norm_columns_backward", "norm_channels_backward"),
    "unit_forward": ("unit_rows",),
    "unit_backward": ("unit_rows_backward",),
    "weight_norm_forward": ("weight_norm_rows", "unit_rows"),
    "weight_norm_backward": ("weight_norm_rows_backward", "unit_rows", "unit_rows_backward"),
    "cross_entropy_forward": ("centre_rows", "cross_entropy_rows"),
    "cross_entropy_backward": ("cross_entropy_rows_backward",),
    "max_pool_forward": ("max_pool",),
    "max_pool_backward": ("max_pool_backward",),
    "sum_pool": ("sum_pool",),
    "sum_pool_backward": ("sum_pool_backward",),
    "conv_forward": ("conv",),
    "conv_backward": ("conv_backward_x", "conv_backward_weight"),
    "erf": ("erf_exponents", "erf_finish"),
    "relu": ("relu",),
    "relu_backward": ("relu_backward",),
    "sgd_update": ("sgd",),
    "adam_update": ("adam",),
    "rmsprop_update": ("rmsprop",),
    "adagrad_update": ("adagrad",),
}
# no kernels of their own: norm_forward and the convolutions use them
HELPERS = {"statistics", "scratch", "at_once"}

PARTS = {CPU: [CPU], JIT: JIT.__mro__[: JIT.__mro__.index(CPU)]}  # the classes that override for each backend
OVERRIDES = [
    (cls, name)
    for cls, parts in PARTS.items()
    for name in KERNELS
    if any(name in vars(part) for part in parts) and name not in HELPERS
]
LOOPS = {name: file for file in loops.FILES for name in file.LOOPS}


@pytest.fixture(autouse=True)
def every_size(monkeypatch):
    monkeypatch.setattr(JIT, "smallest", 1)
    monkeypatch.setattr(JIT, "shortest", 1)


def made(cls):
    if cls is JIT and not NUMBA:
        pytest.skip("numba is not installed")
    return cls()


# ---- arguments

SHAPES = [
    (0, 3),
    (3, 0),
    (1, 1),
    (1, 33),
    (33, 1),
    (31, 32),
    (32, 31),
    (2, 3, 33),
    (1000, 7),
    (7, 1000),
    (3, 2500),
    (2500, 3),
]
FILLS = "normal far constant zero huge small subnormal nan inf mixed".split()


def numbers(shape, dtype, fill, seed=0):
    """Numbers of one kind; in "nan", "inf" and "mixed" every slice but the first is ordinary, along any axis."""
    x = numpy.random.default_rng(seed).standard_normal(shape).astype(dtype)
    top = 1e250 if x.itemsize == 8 else 1e30
    if fill == "far":
        x = x + numpy.asarray(1e6, dtype)
    elif fill in ("constant", "zero"):
        x[...] = 3.7 if fill == "constant" else 0.0
    elif fill in ("huge", "small"):
        x *= numpy.asarray(top if fill == "huge" else 1 / top, dtype)
    elif fill == "subnormal":
        x = (x * 100).astype("int32").astype(dtype) * numpy.finfo(dtype).smallest_subnormal
    elif x.size:
        x[(0,) * x.ndim] = {"nan": numpy.nan, "inf": numpy.inf}.get(fill, x[(0,) * x.ndim])
        if fill == "mixed":
            x[-1] = 0.0
            x[0] *= numpy.asarray(top, dtype)
    return x


def inputs():
    for shape, dtype, fill in product(SHAPES, ("float32", "float64"), FILLS):
        if fill in ("normal", "far") or max(shape) < 1000:
            yield numbers(shape, dtype, fill)
    yield numbers((40, 30), "float16", "normal")
    yield numbers((40, 30), "float32", "normal").T
    yield numbers((40, 30), "float32", "normal")[::2]
    yield numbers((40, 30), ">f4", "normal")


def axes_of(x):
    yield from {(0,), (x.ndim - 1,), (x.ndim - 2,), tuple(range(x.ndim)), (0, *range(2, x.ndim))}


def affine(x, axes):
    channels = x.ndim > 2 and axes == (0, *range(2, x.ndim))
    inner = tuple(n if (a in axes) != channels else 1 for a, n in enumerate(x.shape))
    inner = inner if x.ndim - 1 in axes else x.shape[-1:]
    full = numpy.linspace(-2.0, 3.0, max(1, numpy.prod(inner, dtype=int)), dtype=x.dtype)[
        : numpy.prod(inner, dtype=int)
    ]
    yield None, None
    yield full.reshape(inner), full.reshape(inner)[::1]
    yield numpy.asarray(2.5, x.dtype), None
    yield None, numpy.full((1,), 0.5, x.dtype)


def close(got, want, context, axes=(), terms=0.0, steps=4.0):
    """Equal NaN and infinities; else to rounding, relative to the largest number of the slice or of the ``terms`` that
    were subtracted from each other, or to ``steps`` of the smallest number.
    """
    if got is None or want is None:
        assert got is None and want is None, context
        return
    assert got.shape == want.shape and got.dtype == want.dtype, (context, got.shape, want.shape, got.dtype)
    strange = ~numpy.isfinite(want)
    numpy.testing.assert_array_equal(got[strange], want[strange], err_msg=str(context))
    assert numpy.isfinite(got[~strange]).all(), context
    got, want = (numpy.where(strange, 0, v).astype("float64") for v in (got, want))
    if want.size:
        terms = numpy.nan_to_num(terms, posinf=0.0, neginf=0.0)
        size = numpy.maximum(numpy.abs(want), terms).max(axis=axes or None, keepdims=True)
        info = numpy.finfo(context[0])
        bound = 100 * info.eps * size + steps * float(info.smallest_subnormal)
        worst = numpy.abs(got - want) - bound
        assert (worst <= 0).all(), (context, got.ravel()[worst.argmax()], want.ravel()[worst.argmax()])


# ---- one check for each kernel


def check_norm_forward(xp):
    for x in inputs():
        for axes, eps, centre in product(axes_of(x), (0.0, 1e-5), (True, False)):
            for weight, bias in affine(x, axes):
                arguments = (x, weight, bias, axes, eps, centre)
                context = (x.dtype, x.shape, axes, eps, x.ravel()[:2])
                (y, stats), (want, truth) = xp.norm_forward(*arguments), GENERIC.norm_forward(*arguments)
                close(y, want, context, axes, steps=10.0 / (eps or 1.0) ** 0.5)  # the centre is rounded to such a step
                assert (stats[0] is None) == (stats[1] is None) == (not centre)
                for a, b in zip(stats[2:], truth[2:], strict=True):
                    close(a, b, context, axes)


def check_norm_backward(xp):
    for x in inputs():
        g = numbers(x.shape, x.dtype, "normal", 1)
        for axes, eps, centre in product(axes_of(x), (0.0, 1e-5), (True, False)):
            stats = GENERIC.norm_forward(x, None, None, axes, eps, centre)[1]
            for weight, _ in affine(x, axes):
                for needs in product((True, False), (weight is not None,), (True, False)):
                    arguments = (g, x, stats, weight, axes, needs)
                    context = (x.dtype, x.shape, axes, eps, needs, x.ravel()[:2])
                    got, want = xp.norm_backward(*arguments), GENERIC.norm_backward(*arguments)
                    with numpy.errstate(all="ignore"):
                        terms = numpy.abs(g.astype("float64") * stats[3] * (1.0 if weight is None else weight))
                    close(got[0], want[0], context, axes, terms)
                    for a, b in zip(got[1:], want[1:], strict=True):
                        if b is not None and weight is not None:
                            h = numpy.where(numpy.isfinite(b), numpy.abs(b), 0)
                            with numpy.errstate(all="ignore"):
                                scale = 100 * xp.sum_to(h, weight.shape).max(initial=0)
                                if not centre:  # the sum may then be far less than its terms
                                    sizes = numpy.nan_to_num(numpy.abs(g * x * stats[3]), posinf=0.0)
                                    scale += xp.sum_to(sizes, weight.shape).max(initial=0)
                                a, b = (xp.sum_to(v, weight.shape) for v in (a, b))
                            strange = ~numpy.isfinite(b)
                            assert numpy.array_equal(strange, ~numpy.isfinite(a)), context
                            error = numpy.abs(numpy.where(strange, 0, a) - numpy.where(strange, 0, b)).max(initial=0)
                            assert error <= numpy.finfo(x.dtype).eps * scale, (context, error, scale)
                        else:
                            close(a, b, context)


def check_sum_products(xp):
    for x in inputs():
        for fill, axes in product(("normal", "nan", "inf"), axes_of(x)):
            y = numbers(x.shape, x.dtype, fill, 1)
            with numpy.errstate(all="ignore"):
                got, want = xp.sum_products(x, y, axes), GENERIC.sum_products(x, y, axes)
                sizes = GENERIC.sum_products(numpy.abs(x), numpy.abs(y), axes)
            close(got, want, (x.dtype, x.shape, axes, x.ravel()[:2]), axes, sizes)


def check_unit_forward(xp):
    for x in inputs():
        for axes, eps in product(axes_of(x), (0.0, 1e-12, 0.5)):
            (u, norm), (want, truth) = xp.unit_forward(x, axes, eps), GENERIC.unit_forward(x, axes, eps)
            context = (x.dtype, x.shape, axes, eps, x.ravel()[:2])
            close(u, want, context, axes)
            close(norm, truth, context, axes)


def check_unit_backward(xp):
    for x in inputs():
        g = numbers(x.shape, x.dtype, "normal", 1)
        for axes, eps in product(axes_of(x), (0.0, 1e-12, 0.5)):
            u, norm = GENERIC.unit_forward(x, axes, eps)
            got, want = xp.unit_backward(g, u, norm, axes, eps), GENERIC.unit_backward(g, u, norm, axes, eps)
            close(got, want, (x.dtype, x.shape, axes, eps, x.ravel()[:2]), axes)


def lengthened():
    """Directions and a length for each slice, of the slices' size and of none, ordinary, zero and out of range."""
    for x in inputs():
        for axes, eps in product(axes_of(x), (0.0, 0.5)):
            kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
            for fill in ("normal", "zero", "huge", "small") if x.dtype != "float16" else ("normal",):
                yield x, numbers(kept, x.dtype, fill, 3), axes, eps
            yield x, numbers((1,) * x.ndim, x.dtype, "normal", 3), axes, eps


def check_weight_norm_forward(xp):
    for arguments in lengthened():
        x, length, axes, eps = arguments
        with numpy.errstate(all="ignore"):
            (w, norm), (want, truth) = xp.weight_norm_forward(*arguments), GENERIC.weight_norm_forward(*arguments)
        context = (x.dtype, x.shape, axes, eps, x.ravel()[:2], length.ravel()[:2])
        close(w, want, context, axes)
        close(norm, truth, context, axes)


def check_weight_norm_backward(xp):
    for x, length, axes, eps in lengthened():
        g = numbers(x.shape, x.dtype, "normal", 1)
        norm = GENERIC.unit_forward(x, axes, eps)[1]
        arguments = (g, x, length, norm, axes, eps, (True, True))
        context = (x.dtype, x.shape, axes, eps, x.ravel()[:2], length.ravel()[:2])
        with numpy.errstate(all="ignore"):
            got, want = xp.weight_norm_backward(*arguments), GENERIC.weight_norm_backward(*arguments)
            terms = numpy.abs(g.astype("float64") * length / numpy.maximum(norm, eps))
            close(got[0], want[0], context, axes, terms)
            a, b = (xp.sum_to(v, length.shape) for v in (got[1], want[1]))
            close(a, b, context, (), xp.sum_to(numpy.abs(want[1]), length.shape))


def labelled():
    for x in inputs():
        if x.ndim == 2 and x.shape[1]:
            labels = numpy.random.default_rng(2).integers(0, x.shape[1], len(x))
            weights = (labels % 3).astype(GENERIC.wide(x).dtype)
            for smoothing in (0.0, 0.3):
                yield x, labels, weights, smoothing


def check_cross_entropy_forward(xp):
    for arguments in labelled():
        with numpy.errstate(all="ignore"):
            got, want = xp.cross_entropy_forward(*arguments), GENERIC.cross_entropy_forward(*arguments)
        x = arguments[0]
        close(got[0], want[0], (x.dtype, x.shape, x.ravel()[:2]))
        close(got[1], want[1], (x.dtype, x.shape, x.ravel()[:2]), (1,))
    logits = numbers((40, 3), "float32", "normal")
    with pytest.raises(IndexError):
        xp.cross_entropy_forward(logits, numpy.full(40, 3), logits[:, 0].copy(), 0.0)


def check_cross_entropy_backward(xp):
    for x, labels, weights, smoothing in labelled():
        with numpy.errstate(all="ignore"):
            p = GENERIC.cross_entropy_forward(x, labels, weights, smoothing)[1]
            for g in (
                numbers(labels.shape, p.dtype, "normal", 1),
                numpy.broadcast_to(p.dtype.type(0.25), labels.shape),
            ):
                arguments = (g, p, labels, weights, smoothing)
                got, want = xp.cross_entropy_backward(*arguments), GENERIC.cross_entropy_backward(*arguments)
                close(got, want, (x.dtype, x.shape, x.ravel()[:2]), (1,))


def window(length, size, stride=1, dilation=1, before=0, after=0):
    return Window(
        size, stride, dilation, before, after, (before + length + after - dilation * (size - 1) - 1) // stride + 1
    )


def convolutions():
    """Arguments of conv_forward: kernels that keep the width, even and dilated ones, and some that do not."""
    high, wide = 5, 7
    windows = [
        (window(high, 3, before=1, after=1), window(wide, 3, before=1, after=1)),
        (window(high, 1), window(wide, 1)),
        (window(high, 2, before=3, after=1), window(wide, 4, before=1, after=2)),
        (window(high, 3, dilation=2), window(wide, 3, dilation=2, before=2, after=2)),
        (window(high, 3), window(wide, 11, before=5, after=5)),
        (window(high, 3), window(wide, 3)),
        (window(high, 3, 2, 1, 1, 1), window(wide, 3, 3, 1, 4, 4)),
        (window(high, 1), window(wide, 1, before=4, after=4)),
    ]
    for dtype, (rows, columns), groups in product(("float32", "float64"), windows, (1, 2)):
        weight = numbers((6, 4 // groups, rows.size, columns.size), dtype, "normal", 2)
        for n, fill in product((0, 1, 5), ("normal", "nan", "inf", "zero")):
            bias = numbers((6,), dtype, "normal", 3) if n else None
            yield numbers((n, 4, high, wide), dtype, fill), weight, bias, rows, columns, groups


def check_conv_forward(xp):
    for arguments in convolutions():
        with numpy.errstate(all="ignore"):
            close(xp.conv_forward(*arguments), GENERIC.conv_forward(*arguments), (arguments[0].dtype, arguments[3:]))


def check_conv_backward(xp):
    for x, weight, _, *places in convolutions():
        shape = len(x), len(weight), places[0].places, places[1].places
        for fill, needs in product(("normal", "inf"), ((True, True, True), (True, False, False), (False, True, False))):
            g = numbers(shape, x.dtype, fill, 1)
            with numpy.errstate(all="ignore"):
                results = [b.conv_backward(g, x, weight, *places, needs) for b in (xp, GENERIC)]
            for got, want in zip(*results, strict=True):
                close(got, want, (x.dtype, places, needs))


def pools():
    """Pictures with many ties and windows that overlap, have gaps, padding and dilation, or hang out."""
    windows = [
        (window(5, 2, 2), window(7, 2, 2)),
        (window(5, 3, 1, 1, 1, 1), window(7, 2, 3, 2, 1, 0)),
        (window(5, 3, 2, 2, 1, 2), window(7, 1, 2)),
    ]
    for dtype, places, n in product(("float32", "float64"), windows, (0, 1, 4)):
        for fill in ("normal", "constant", "nan", "inf", "mixed"):
            x = numpy.round(numbers((n, 3, 5, 7), dtype, fill))
            if n and fill == "inf":
                x[0] = -numpy.inf  # and so is the padding
            yield x, *places


def check_max_pool_forward(xp):
    for x, rows, columns in pools():
        for got, want in zip(
            xp.max_pool_forward(x, rows, columns), GENERIC.max_pool_forward(x, rows, columns), strict=True
        ):
            numpy.testing.assert_array_equal(got, want)


def check_max_pool_backward(xp):
    for x, rows, columns in pools():
        y, choice = GENERIC.max_pool_forward(x, rows, columns)
        planes_last = numpy.ascontiguousarray(choice.transpose(2, 0, 1)).transpose(1, 2, 0)  # as the loop leaves it
        for layout in (choice, planes_last):
            arguments = (numbers(y.shape, x.dtype, "inf", 1), layout, x.shape, rows, columns)
            close(xp.max_pool_backward(*arguments), GENERIC.max_pool_backward(*arguments), (x.dtype, rows, columns))


def check_sum_pool(xp):
    for arguments in pools():
        close(xp.sum_pool(*arguments), GENERIC.sum_pool(*arguments), (arguments[0].dtype, arguments[1:]))


def check_sum_pool_backward(xp):
    for x, rows, columns in pools():
        shape = (*x.shape[:2], rows.places, columns.places)
        arguments = (numbers(shape, x.dtype, "inf", 1), x.shape, rows, columns)
        close(xp.sum_pool_backward(*arguments), GENERIC.sum_pool_backward(*arguments), (x.dtype, rows, columns))


def check_multiply_columns(xp):
    for dtype, groups, columns in product(("float32", "float64"), (1, 3), (0, 1, 63, 64, 65, 5000)):
        a, b = numbers((groups, 30, 200), dtype, "normal"), numbers((groups, 200, columns), dtype, "normal", 1)
        results = [numpy.full((groups, 30, columns), numpy.nan, dtype) for _ in range(2)]
        for backend, out in zip((xp, GENERIC), results, strict=True):
            backend.multiply_columns(a, b, out)
        close(*results, (a.dtype, groups, columns))


def check_multiply_rows(xp):
    """Results that are small, middling and too large to be summed in parts; no rows, a part's, and more."""
    for dtype, groups, m, rows in product(("float32", "float64"), (1, 3), (10, 60, 200), (0, 1, 63, 400, 5000)):
        a, b = numbers((groups, m, rows), dtype, "normal"), numbers((groups, rows, 90), dtype, "normal", 1)
        for lies in (b, numpy.ascontiguousarray(b.swapaxes(1, 2)).swapaxes(1, 2)):
            close(xp.multiply_rows(a, lies), GENERIC.multiply_rows(a, b), (a.dtype, groups, m, rows))


def check_erf(xp):
    for x in inputs():
        with numpy.errstate(all="ignore"):
            close(xp.erf(x), GENERIC.erf(x), (x.dtype, x.shape, x.ravel()[:2]))
    for dtype in ("float32", "float64"):
        x = numpy.concatenate([numpy.linspace(-8, 8, 4001), [1e-30, 1e30, -numpy.inf, -0.0]]).astype(dtype)
        truth, y = numpy.array([math.erf(v) for v in x]), xp.erf(x)
        assert (abs(y - truth) <= 2 * numpy.finfo(dtype).eps * abs(truth)).all()
        assert (numpy.signbit(y) == numpy.signbit(x)).all()


def check_relu(xp):
    for x in inputs():
        numpy.testing.assert_array_equal(xp.relu(x), GENERIC.relu(x))


def check_relu_backward(xp):
    for y in inputs():
        for fill in FILLS:
            g = numbers(y.shape, y.dtype, fill if y.dtype != "float16" else "normal", 1)
            with numpy.errstate(all="ignore"):
                numpy.testing.assert_array_equal(xp.relu_backward(g, y), GENERIC.relu_backward(g, y))


def updated(method, dtype, number_of_states, *arguments, **keywords):
    """The flat arrays after three updates."""
    arrays = [numbers((1003,), dtype, "normal", seed) for seed in range(2 + number_of_states)]
    arrays[2:] = [abs(a) for a in arrays[2:]]
    for step in range(1, 4):
        steps = {**keywords, "t": step} if "t" in keywords else keywords
        method(arrays[0], arrays[1].copy(), *arrays[2:], *arguments, **steps)
    return [arrays[0], *arrays[2:]]


def check_sgd_update(xp):
    for dtype, momentum, decay, nesterov in product(("float32", "float64"), (0.0, 0.9), (0.0, 0.01), (False, True)):
        results = [updated(b.sgd_update, dtype, 1, 0.1, momentum, decay, nesterov) for b in (xp, GENERIC)]
        for got, want in zip(*results, strict=True):
            numpy.testing.assert_array_equal(got, want)


def check_adam_update(xp):
    for dtype, decay, decoupled in product(("float32", "float64"), (0.0, 0.01), (False, True)):
        settings = {
            "lr": 0.01,
            "beta1": 0.9,
            "beta2": 0.999,
            "eps": 1e-8,
            "weight_decay": decay,
            "decoupled": decoupled,
        }
        results = [updated(b.adam_update, dtype, 2, t=0, **settings) for b in (xp, GENERIC)]
        for got, want in zip(*results, strict=True):
            close(got, want, (numpy.dtype(dtype), decay, decoupled))


def check_rmsprop_update(xp):
    for dtype, centred, momentum, decay in product(("float32", "float64"), (True, False), (0.0, 0.9), (0.0, 0.01)):
        results = []
        for b in (xp, GENERIC):
            g, p, square, mean, velocity = (numbers((1003,), dtype, "normal", seed) for seed in range(5))
            square, velocity = square * square, velocity if momentum else None
            square[:3], g[3], g[4] = (0.0, 1e-30, numpy.inf), numpy.nan, 0.0  # an element less than its mean squared
            with numpy.errstate(all="ignore"):
                for _ in range(3):
                    b.rmsprop_update(
                        g, p.copy(), square, mean if centred else None, velocity, 0.1, 0.9, 1e-8, decay, momentum
                    )
            results.append([v for v in (g, square, mean, velocity) if v is not None])
        for got, want in zip(*results, strict=True):
            close(got, want, (numpy.dtype(dtype), centred, momentum, decay))


def check_adagrad_update(xp):
    for dtype, decay in product(("float32", "float64"), (0.0, 0.01)):
        settings = {"lr": 0.1, "lr_decay": 0.5, "weight_decay": decay, "eps": 1e-10}
        results = [updated(b.adagrad_update, dtype, 1, t=0, **settings) for b in (xp, GENERIC)]
        for got, want in zip(*results, strict=True):
            close(got, want, (numpy.dtype(dtype), decay))


def check_laid_apart(xp):
    for dtype, size, place in product(("float32", "float64"), (1, 1000, 100_000), range(4)):
        got, want = xp.laid_apart(size, dtype, place), GENERIC.laid_apart(size, dtype, place)
        assert got.shape == want.shape and got.dtype == want.dtype and got.flags.carray
        assert got.ctypes.data % 4096 == place * 1024


@pytest.mark.parametrize("cls, name", OVERRIDES, ids=[f"{c.__name__}.{n}" for c, n in OVERRIDES])
def test_override_agrees_with_the_generic_kernel(cls, name, monkeypatch):
    xp, used = made(cls), set()
    if cls is JIT and name in ("conv_forward", "conv_backward") and not PRODUCTS:
        pytest.skip(NO_PRODUCTS)
    for module in (base, training):
        monkeypatch.setattr(module, "compiled", lambda *key: used.add(key) or compiled(*key))
    globals()[f"check_{name}"](xp)
    assert cls is CPU or used == {(loop, char) for loop in USES[name] for char in "fd"}  # not compared with itself


def test_every_loop_is_compared():
    assert {loop for name in USES for loop in USES[name]} == set(LOOPS)


def test_there_are_overrides_to_compare():
    assert (JIT, "norm_forward") in OVERRIDES and (CPU, "norm_forward") in OVERRIDES and len(OVERRIDES) > 9


# ---- what only the compiled kernels can get wrong


def scales(dtype):
    info = numpy.finfo(dtype)
    return (-1, 1, info.maxexp // 2 + 3, info.maxexp - 4, -(info.maxexp // 2) - 3, info.minexp + 12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axes", [(0,), (1,)])
def test_powers_of_two_change_no_bit(dtype, axes):
    xp = made(JIT)
    x = numpy.random.default_rng(0).uniform(1, 2, (300, 200)).astype(dtype)
    y, u = xp.norm_forward(x, None, None, axes, 0.0)[0], xp.unit_forward(x, axes, 0.0)[0]
    for k in scales(dtype):
        scaled = numpy.ldexp(x, k)
        assert (numpy.ldexp(scaled, -k) == x).all()
        numpy.testing.assert_array_equal(xp.norm_forward(scaled, None, None, axes, 0.0)[0], y, err_msg=str(k))
        numpy.testing.assert_array_equal(xp.unit_forward(scaled, axes, 0.0)[0], u, err_msg=str(k))


@pytest.mark.parametrize("shape, axes", [((200_000, 4), (0,)), ((4, 200_000), (1,))])
def test_long_float32_sums_keep_their_digits(shape, axes):
    xp = made(JIT)
    x = (numpy.random.default_rng(0).uniform(0, 1, shape) + 5).astype("float32")
    g = numpy.random.default_rng(1).uniform(0, 1, shape).astype("float32")
    weight = numpy.ones(shape[1], "float32")
    y, stats = xp.norm_forward(x, None, None, axes, 0.0)
    truth = x.astype("float64")
    d = truth - truth.mean(axis=axes, keepdims=True)
    assert numpy.abs(stats[2] / (d * d).mean(axis=axes, keepdims=True) - 1).max() < 1e-6
    assert numpy.abs(y - d / truth.std(axis=axes, keepdims=True)).max() < 2e-6
    gbias = xp.norm_backward(g, x, stats, weight, axes, (True, True, True))[2]
    assert numpy.abs(gbias.ravel() / g.astype("float64").sum(axis=0) - 1).max() < 1e-6


def test_a_row_does_not_depend_on_the_batch():
    xp = made(JIT)
    x = numbers((50, 77), "float32", "normal")
    numpy.testing.assert_array_equal(xp.norm_forward(x, None, None, (1,), 1e-5)[0][7:8],
                                     xp.norm_forward(x[7:8].copy(), None, None, (1,), 1e-5)[0])  # fmt: skip


def test_read_only_arrays_go_to_the_generic_kernel():
    xp = made(JIT)
    x = numbers((8, 80), "float32", "normal")
    x.flags.writeable = False
    close(xp.norm_forward(x, None, None, (1,), 1e-5)[0], GENERIC.norm_forward(x, None, None, (1,), 1e-5)[0], ("f",))


def test_mixed_dtypes_go_to_the_generic_kernel():
    xp = made(JIT)
    x, g = numbers((8, 80), "float32", "normal"), numbers((8, 80), "float64", "normal", 1)
    weight = numpy.linspace(1.0, 2.0, 80)
    stats, (u, norm) = GENERIC.norm_forward(x, None, None, (1,), 1e-5)[1], GENERIC.unit_forward(x, (1,), 0.0)
    for name, arguments in (
        ("norm_forward", (x, weight, None, (1,), 1e-5)),
        ("norm_backward", (g, x, stats, None, (1,), (True, False, False))),
        ("unit_backward", (g, u, norm, (1,), 0.0)),
        ("relu_backward", (g, x)),
    ):
        got, want = getattr(xp, name)(*arguments), getattr(GENERIC, name)(*arguments)
        if isinstance(got, tuple):
            got, want = got[0], want[0]
        close(got, want, ("f",))


# ---- switching on, off, and failing


def in_new_process(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


STEP = "y = tn.functional.layer_norm(tn.randn(40, 50), 50); "


def test_importing_the_package_imports_no_numba():
    in_new_process("import sys, tinygrad_norm as tn; assert 'numba' not in sys.modules; tn.randn(3, 3).relu()")


def test_the_environment_switches_it_off():
    code = f"import sys, tinygrad_norm as tn; {STEP}print('numba' in sys.modules)"
    assert in_new_process(code, TINYGRAD_NORM_JIT="0").strip() == "False"
    assert in_new_process(code, TINYGRAD_NORM_JIT="1").strip() == str(NUMBA)


@pytest.mark.skipif(not NUMBA, reason="numba is not installed")
def test_a_numba_that_cannot_be_imported_changes_only_the_speed():
    code = "import sys, warnings, tinygrad_norm as tn; sys.modules['numba'] = None; warnings.simplefilter('always'); "
    code += "log = warnings.catch_warnings(record=True); seen = log.__enter__(); "
    code += f"{STEP}{STEP}print(len(seen), seen[0].category.__name__)"
    assert in_new_process(code, TINYGRAD_NORM_JIT="1").split() == ["1", "RuntimeWarning"]


@pytest.mark.skipif(not NUMBA, reason="numba is not installed")
def test_without_a_folder_for_the_cache_kernels_are_compiled_each_time():
    code = "import numba.core.caching as c, tinygrad_norm as tn; c.CacheImpl._locator_classes = []; "
    code += f"c.CompileResultCacheImpl._locator_classes = []; {STEP}print(y.shape)"
    assert in_new_process(code, TINYGRAD_NORM_JIT="1").strip() == "(40, 50)"


@pytest.mark.skipif(not NUMBA, reason="numba is not installed")
def test_only_the_sums_may_be_reordered():
    for name in set(LOOPS) if PRODUCTS else set(LOOPS) - set(convolution.LOOPS):
        assert compiled(name, "f").targetoptions.get("fastmath", False) is False
    for file in loops.FILES:
        helpers = {n: f.targetoptions["fastmath"] for n, f in vars(file).items() if hasattr(f, "targetoptions")}
        assert {n for n, flags in helpers.items() if flags} == file.SUMS
        assert all(helpers[n] == {"reassoc", "contract"} for n in file.SUMS)
        assert file.SUMS.isdisjoint({"minus", "centred", "standardized", "inverse_root"})


def test_compiled_products_of_matrices_are_those_of_blas():
    numba = pytest.importorskip("numba", reason="it compiles what is tested")
    if not PRODUCTS:
        pytest.skip(NO_PRODUCTS)
    blas.compile_multiply()

    @numba.njit
    def compiled(a, b, c, add):
        blas.multiply(a, b, c, add)

    sizes = (1, 1, 1), (1, 7, 5), (5, 1, 1), (30, 9, 70), (500, 50, 90), (50, 2000, 50), (20, 5000, 40), (3, 4, 200_000)
    for dtype, (m, k, n), add in product(("float32", "float64"), sizes, (False, True)):
        a, b = numbers((m, k + 3), dtype, "normal")[:, :k], numbers((k, n + 2), dtype, "normal", 1)[:, 1 : n + 1]
        for whole in (numbers((m, n), dtype, "normal", 2), numbers((m, n + 4), dtype, "normal", 2)):
            before, results = whole.copy(), []
            for function in (compiled, blas.multiply):
                whole[...] = before
                whole[:, :n] += 0 if add else numpy.nan  # which nobody reads
                function(a, b, whole[:, :n], add)
                numpy.testing.assert_array_equal(whole[:, n:], before[:, n:])
                results.append(whole[:, :n].copy())
            close(*results, (a.dtype, m, k, n, add))
            close(results[0], a @ b + before[:, :n] * add, (a.dtype, m, k, n, add))


def test_without_a_function_for_products_numpy_convolves(monkeypatch):
    monkeypatch.setattr("tinygrad_norm.backend.jit.windows.gemm", lambda name: None)
    monkeypatch.setattr(base, "compiled", None)  # not even asked for
    check_conv_forward(JIT())
    check_conv_backward(JIT())


@pytest.mark.skipif(not NUMBA or not PRODUCTS, reason=NO_PRODUCTS)
def test_sums_over_many_pictures_keep_their_digits():
    draw = numpy.random.default_rng(0).uniform
    x, g, w = (draw(size=shape).astype("float32") for shape in ((8000, 4, 4, 4), (8000, 3, 4, 4), (3, 4, 3, 3)))
    rest = [window(4, 3, before=1, after=1)] * 2 + [1, (False, True, True)]
    found = JIT().conv_backward(g, x, w, *rest)
    exact = GENERIC.conv_backward(*(v.astype("float64") for v in (g, x, w)), *rest)
    for got, want in zip(found[1:], exact[1:], strict=True):
        numpy.testing.assert_allclose(got, want, rtol=1.5e-7)  # 6e-8; added up in float32, 5e-7
