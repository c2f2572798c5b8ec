"""How exact the norms are: against long double, at large means, at the ends of the range, at points without derivative.

The truths are written out in NumPy's long double (or with complex numbers, for derivatives), never with the package's
kernels.
"""

from math import inf, nan

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import nn
from tinygrad_norm.backend.cpu import CPU as Host
from tinygrad_norm.backend.kernels import FAR, Kernels

LONG = np.longdouble
FLOATS = ["float16", "float32", "float64"]
CPU = Host()


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def leaf(a):
    return tn.tensor(a, requires_grad=True)


def tensors(arrays):
    return [leaf(a) for a in arrays]


def worst(got, truth):
    """Largest |got - truth| / max(1, |truth|)."""
    return float(np.max(abs(got - truth) / np.maximum(1, abs(truth)), initial=0))


# --- the truth ------------------------------------------------------------------------------------


def standardized(x, axes, eps, centre=True):
    """((x - mean) / sqrt(var + eps), 1 / sqrt(var + eps)); 0 for both where the root is 0."""
    n = int(np.prod([x.shape[a] for a in axes]))
    d = x - x.sum(axes, keepdims=True) / n if centre else x
    root = np.sqrt((d * d).sum(axes, keepdims=True) / n + eps)
    return np.where(root == 0, 0, d / np.where(root == 0, 1, root)), np.where(
        root == 0, 0, 1 / np.where(root == 0, 1, root)
    )


def norm_truth(x, g, axes, eps, w=1.0, b=0.0, centre=True):
    """y, the gradient by x, and the terms whose sums are the gradients by w and b, in long double."""
    x, g, w, b = (np.asarray(v, LONG) for v in (x, g, w, b))
    n = int(np.prod([x.shape[a] for a in axes]))
    xhat, r = standardized(x, axes, LONG(eps), centre)
    h = g * w
    gx = h - xhat * (h * xhat).sum(axes, keepdims=True) / n - (h.sum(axes, keepdims=True) / n if centre else 0)
    return xhat * w + b, gx * r, g * xhat, g


def unit_truth(v, g=None, axis=-1):
    """v / ||v||, the norm, and the gradient by v, in long double."""
    v = np.asarray(v, LONG)
    scale = abs(v).max(axis, keepdims=True)
    scale = np.where(scale == 0, 1, scale)
    size = np.sqrt(((v / scale) ** 2).sum(axis, keepdims=True))
    u = np.where(size == 0, 0, v / scale / np.where(size == 0, 1, size))
    if g is None:
        return u, size * scale
    return u, size * scale, (g - u * (g * u).sum(axis, keepdims=True)) / (size * scale)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("centre", [True, False])
def test_the_truths_are_derivatives(rng, axes, centre):
    x, g = rng.normal(size=(4, 3)), rng.uniform(-1, 1, (4, 3))
    w = rng.uniform(0.5, 2, (3,))
    gx = np.zeros((4, 3))
    gv = np.zeros((4, 3))
    for at in np.ndindex(4, 3):
        step = x.astype(complex)
        step[at] += 1e-20j
        gx[at] = (g * (standardized(step, axes, 0.1, centre)[0] * w).imag).sum() / 1e-20
        gv[at] = (g * (step / np.sqrt((step * step).sum(-1, keepdims=True))).imag).sum() / 1e-20
    assert worst(gx, norm_truth(x, g, axes, 0.1, w, centre=centre)[1]) < 1e-14
    assert worst(gv, unit_truth(x, g)[2]) < 1e-14


# --- large means, many rows -----------------------------------------------------------------------

MEANS = [0.0, 1e2, 1e4, 1e6]
LARGE = [pytest.param(1_000_000, marks=pytest.mark.slow)]


def check_against_truth(measured, kind, x, rng, eps=1e-5, random=True):
    """A float32 norm with gain and bias against long double: values to 1e-5, gradients to 5e-6 of their size.

    The size of a sum of terms without order is the root of the sum of their squares; in general, it is that of their
    absolute values.
    """
    axes = {"batch": (0, *range(2, x.ndim)), "layer": (1,), "rms": (1,)}[kind]
    shape = (x.shape[1],) + (1,) * (x.ndim - 2)
    g, w, b = (rng.uniform(low, 2, s).astype("float32") for low, s in ((-2, x.shape), (0.5, shape), (-2, shape)))
    xs = tensors([x, w.reshape(-1), b.reshape(-1)])
    if kind == "batch":
        y = F.batch_norm(xs[0], weight=xs[1], bias=xs[2], training=True, eps=eps)
    elif kind == "layer":
        y = F.layer_norm(xs[0], x.shape[1], xs[1], xs[2], eps=eps)
    else:
        y, b = F.rms_norm(xs[0], x.shape[1], xs[1], eps=eps), 0.0
    y.backward(g)
    ty, tx, *terms = norm_truth(x, g, axes, eps, w, b, centre=kind != "rms")
    assert y.dtype == xs[0].grad.dtype == np.float32
    assert measured(f"{kind} norm of float32, values", worst(y.numpy(), ty)) <= 1e-5
    error = abs(xs[0].grad.numpy() - tx).max() / max(1, abs(tx).max())
    assert measured(f"{kind} norm of float32, gradients", error) <= 5e-6
    others = (0, *range(2, x.ndim))
    for p, t in list(zip(xs[1:], terms))[: 2 if kind != "rms" else 1]:
        size = np.sqrt((t * t).sum(others)) if random else abs(t).sum(others)
        error = (abs(p.grad.numpy() - t.sum(others)) / np.maximum(1, size)).max()
        assert measured(f"{kind} norm of float32, gradients", error) <= 5e-6


@pytest.mark.parametrize("n", [2, 3, 64, 1000, 100_000, *LARGE])
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_values_and_gradients_at_large_means(measured, rng, kind, mean, n):
    shape = (n, 3) if kind == "batch" else (3, n)
    x = rng.normal(size=shape) + np.array([mean, -mean, mean * 0.5])[:: 1 if kind == "batch" else -1].reshape(
        (1, 3) if kind == "batch" else (3, 1)
    )
    x[:2] += 1.0 if kind == "batch" else 0.0  # two rows or features that are never equal
    x.reshape(-1)[0] += 1.0
    check_against_truth(measured, kind, x.astype("float32"), rng)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("shape", [(1000, 3, 40), (8, 2, 30, 31), (3, 300, 2)])
def test_batch_norm_of_signals_and_images_at_large_means(measured, rng, mean, shape):
    check_against_truth(measured, "batch", (rng.normal(size=shape) + mean).astype("float32"), rng)


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4])
@pytest.mark.parametrize("n", [3, 1000, 100_000])
def test_rms_norm_at_large_means(measured, rng, mean, n):
    check_against_truth(measured, "rms", (rng.normal(size=(3, n)) + mean).astype("float32"), rng)


@pytest.mark.parametrize("kind", ["batch", "layer"])
@pytest.mark.parametrize("mean", MEANS)
def test_memory_order_does_not_matter(measured, rng, kind, mean):
    x = (rng.normal(size=(500, 400)) + mean).astype("float32")
    check_against_truth(measured, kind, np.asfortranarray(x), rng)
    check_against_truth(measured, kind, x[::2, ::-1], rng)


@pytest.mark.parametrize("n", [100, FAR, FAR + 1, 20_000, 300_000, *LARGE])
@pytest.mark.parametrize("outlier", [1e2, 1e3, 1e6, 1e12])
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_a_first_element_far_from_the_rest(measured, rng, kind, outlier, n):
    x = rng.normal(size=(n, 2))
    x[0, 1] = outlier
    check_against_truth(measured, kind, (x if kind == "batch" else x.T).astype("float32"), rng, random=False)


def test_running_statistics_at_a_large_mean(rng):
    x = (rng.normal(size=(10_000, 3)) + 1e6).astype("float32")
    norm = nn.BatchNorm1d(3, momentum=1.0)
    norm(tn.tensor(x))
    wide = x.astype(LONG)
    assert abs(norm.running_mean.numpy() / wide.mean(0) - 1).max() < 1e-7
    assert abs(norm.running_var.numpy() / wide.var(0, ddof=1) - 1).max() < 1e-6
    mean_only = nn.MeanOnlyBatchNorm1d(3, momentum=1.0)
    y = mean_only(tn.tensor(x))
    assert abs(y.numpy() - (wide - wide.mean(0))).max() < 1e-5
    assert abs(mean_only.running_mean.numpy() / wide.mean(0) - 1).max() < 1e-7


def test_pearsons_correlation_at_a_large_mean(rng):
    x, w = ((rng.normal(size=s) + 1e6).astype("float32") for s in ((5, 40), (3, 40)))
    d, e = (unit_truth(v - v.mean(1, keepdims=True))[0] for v in (x.astype(LONG), w.astype(LONG)))
    assert worst(F.cosine_linear(tn.tensor(x), tn.tensor(w), centered=True).numpy(), d @ e.T) < 1e-6


STEPS = np.array([0.0, 1.0, 2.0, 3.0])
VECTORS = [  # offset, values, eps, largest error allowed
    (1e4, STEPS, 1e-5), (1e6, STEPS, 1e-5), (1e7, STEPS, 1e-5), (1e7, STEPS[:2], 1e-3), (40000.0, STEPS, 1e-5),
    (2000.0, STEPS, 1e-5), (-1e7, STEPS, 0.0),
]  # fmt: skip


@pytest.mark.parametrize("offset, values, eps", VECTORS)
@pytest.mark.parametrize("form", ["batch", "layer", "composite", "group", "instance", "standardize"])
def test_integers_at_a_large_offset(measured, offset, values, eps, form):
    x = (offset + values).astype("float32")
    if form in ("batch", "composite"):
        with tn.composite() if form == "composite" else tn.enable_grad():
            y = F.batch_norm(tn.tensor(x[:, None]), training=True, eps=eps)
    elif form == "layer":
        y = F.layer_norm(tn.tensor(x[None]), len(x), eps=eps)
    elif form == "standardize":
        y = F.standardize(tn.tensor(x), 0, eps)
    else:
        grid = tn.tensor(x.reshape(1, 1, -1))
        y = F.group_norm(grid, 1, eps=eps) if form == "group" else F.instance_norm(grid, eps=eps)
    truth = standardized(x.astype(LONG), (0,), LONG(eps))[0]
    assert measured("small integers about 1e7", abs(y.numpy().reshape(-1) - truth).max()) < 1.2e-7


def test_the_pair_whose_answer_is_known_in_closed_form(measured):
    y = F.batch_norm(tn.tensor(np.array([[1e7], [1e7 + 1]], "float32")), training=True, eps=1e-3)
    error = abs(y.numpy()[:, 0] - [-0.998006, 0.998006]).max()
    assert measured("the pair at 1e7, whose answer is rounded to 6 digits", error) <= 5e-7


# --- constant slices ------------------------------------------------------------------------------

CONSTANTS = [0.0, 0.1, -0.1, 1.0, 100.0, 1234.0, 1e6 + 0.1, 1e8, 1e10, 1e-30, 1e30, 3e38, 1e-40]


def affine_norms(eps):
    """name: (shape of x, shape of weight and bias, the norm of a constant slice)."""
    return {
        "batch": ((7, 3), (3,), lambda x, w, b: F.batch_norm(x, weight=w, bias=b, training=True, eps=eps)),
        "batch 3-d": ((3, 3, 5), (3,), lambda x, w, b: F.batch_norm(x, weight=w, bias=b, training=True, eps=eps)),
        "layer": ((3, 7), (7,), lambda x, w, b: F.layer_norm(x, 7, w, b, eps)),
        "layer shared": ((3, 7), (1,), lambda x, w, b: F.layer_norm(x, 7, w, b, eps)),
        "group": ((3, 4, 5), (4,), lambda x, w, b: F.group_norm(x, 2, w, b, eps)),
        "instance": ((3, 4, 5), (4,), lambda x, w, b: F.instance_norm(x, weight=w, bias=b, eps=eps)),
    }


@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-5, 0.1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", affine_norms(0.0))
def test_a_constant_slice_gives_exactly_the_bias(rng, name, dtype, eps):
    shape, affine, norm = affine_norms(eps)[name]
    for value in CONSTANTS:
        x, w, b = (
            np.full(shape, value, dtype),
            rng.uniform(1, 2, affine).astype(dtype),
            rng.normal(size=affine).astype(dtype),
        )
        xs = tensors([x, w, b])
        y = norm(*xs)
        expected = np.broadcast_to(b if len(shape) == 2 else b[:, None], shape)
        assert np.array_equal(y.numpy(), expected), value
        y.backward(rng.uniform(-1, 1, shape).astype(dtype))
        gx, gw, _ = (v.grad.numpy() for v in xs)
        assert not gw.any() and np.isfinite(gx).all() and (gx.any() != (eps == 0)), value
        assert abs(gx).max() <= 5 / (np.sqrt(eps) or inf)


@pytest.mark.parametrize("value", CONSTANTS)
def test_a_constant_slice_of_the_relatives(value):
    x = np.full((5, 3), value, "float32")
    y = F.mean_only_batch_norm(tn.tensor(x), bias=tn.tensor([1.0, 2.0, 3.0]), training=True)
    assert np.array_equal(y.numpy(), np.broadcast_to([1.0, 2.0, 3.0], (5, 3)))
    assert not F.weight_standardization(tn.tensor(x), eps=0.0).numpy().any()
    assert not F.standardize(tn.tensor(x), (0, 1)).numpy().any()
    w = leaf(np.eye(3, dtype="float32"))
    xs = leaf(x)
    y = F.cosine_linear(xs, w, centered=True)
    y.backward(np.ones((5, 3), "float32"))
    assert not y.numpy().any() and not xs.grad.numpy().any() and not w.grad.numpy().any()
    z = F.whiten(tn.tensor(x), eps=1e-5)
    assert not z.numpy().any()


@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("name", affine_norms(0.0))
def test_one_value_alone_gives_the_bias_and_no_gradient(name, eps):
    shape = {"batch": (1, 3), "batch 3-d": (1, 3, 1), "layer": (3, 1), "layer shared": (3, 1)}.get(name, (3, 4, 1))
    if name == "group":
        norm, affine = lambda x, w, b: F.group_norm(x, 4, w, b, eps), (4,)
    elif name.startswith("layer"):
        norm, affine = lambda x, w, b: F.layer_norm(x, 1, w, b, eps), (1,)
    else:
        _, affine, norm = affine_norms(eps)[name]
    for graph in (False, True):
        x, w, b = tensors(
            [np.arange(1.0, 1 + np.prod(shape)).reshape(shape), np.full(affine, 2.0), np.full(affine, 3.0)]
        )
        y = norm(x, w, b)
        assert (y.numpy() == 3.0).all()
        gx, gw = tn.grad(y, [x, w], np.ones(shape), create_graph=graph)
        assert not gx.numpy().any() and not gw.numpy().any()
        if graph and gx.requires_grad:
            second = tn.grad((gx * gx).sum() + (gw * gw).sum(), [x, w], allow_unused=True)
            assert all(v is None or not v.numpy().any() for v in second)


# --- float16 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.0, 10.0, 300.0])
@pytest.mark.parametrize("kind", ["batch", "layer"])
@pytest.mark.parametrize("shape", [(8, 8), (64, 32), (256, 512)])
def test_float16_is_computed_in_float32(rng, kind, mean, shape):
    x, g = (rng.normal(size=shape) + mean).astype("float16"), rng.uniform(-1, 1, shape).astype("float16")
    w, b = (rng.uniform(low, 2, shape[1]).astype("float16") for low in (0.5, -1))
    xs = tensors([x, w, b])
    y = (
        F.batch_norm(xs[0], weight=xs[1], bias=xs[2], training=True)
        if kind == "batch"
        else F.layer_norm(xs[0], shape[1], *xs[1:])
    )
    y.backward(g)
    ty, tx, tw, tb = norm_truth(x, g, (0,) if kind == "batch" else (1,), 1e-5, w, b)
    assert {v.dtype for v in (y, *(v.grad for v in xs))} == {np.dtype("float16")}
    for got, truth, limit in (
        (y, ty, 2e-3),
        (xs[0].grad, tx, 2e-3),
        (xs[1].grad, tw.sum(0), 5e-3),
        (xs[2].grad, tb.sum(0), 5e-3),
    ):
        assert abs(got.numpy() - truth).max() <= limit * abs(truth).max()


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 2e4])
def test_float16_at_the_ends_of_its_range(rng, scale):
    x = (rng.uniform(-3, 3, (16, 40)) * scale).astype("float16")
    for y, axis in (
        (F.batch_norm(tn.tensor(x), training=True, eps=0.0), 0),
        (F.layer_norm(tn.tensor(x), 40, eps=0.0), 1),
    ):
        assert abs(y.numpy() - standardized(x.astype(LONG), (axis,), 0)[0]).max() < 2e-3
    assert abs(F.normalize(tn.tensor(x)).numpy() - unit_truth(x)[0]).max() < 1e-3
    assert not F.normalize(tn.zeros(2, 3, dtype="float16")).numpy().any()
    y = F.cosine_linear(tn.tensor(x), tn.tensor(x[:5])).numpy()
    assert abs(y - unit_truth(x)[0] @ unit_truth(x[:5])[0].T).max() < 2e-3
    assert y.dtype == np.float16


def test_float16_sums_beyond_its_range_are_infinite_without_a_warning():
    x = leaf(np.ones((4, 2), "float16"))
    y = F.layer_norm(x, 2, tn.full((2,), 6e4, dtype="float16"), tn.full((2,), 6e4, dtype="float16"))
    y = F.layer_norm(leaf(np.array([[0.0, 0.0, 0.0, 9.0]], "float16")), 4, tn.full((4,), 6e4, dtype="float16"))
    assert y.numpy()[0, 3] == inf and np.isfinite(y.numpy()[0, :3]).all()


def test_float16_products_may_leave_its_range_on_the_way(rng):
    x, g = (rng.normal(size=(20, 8)) * 300).astype("float16"), (rng.uniform(-1, 1, (20, 8)) * 1000).astype("float16")
    w = np.full(8, 500, "float16")
    xs = tensors([x, w])
    F.batch_norm(xs[0], weight=xs[1], training=True).backward(g)
    tx = norm_truth(x, g, (0,), 1e-5, w)[1]
    assert abs(xs[0].grad.numpy() - tx).max() <= 2e-3 * abs(tx).max()
    step = np.full((5000, 1), 100, "float16")
    step[0] = 0
    y = F.mean_only_batch_norm(tn.tensor(step), training=True).numpy()
    assert abs(y[0, 0] + 99.98) < 0.05 and abs(y[1:, 0] - 0.02).max() < 1e-3


def test_float16_sums_do_not_stop_where_its_integers_end():
    bias = tn.tensor(np.zeros(2, "float16"), requires_grad=True)
    F.mean_only_batch_norm(tn.zeros(5000, 2, dtype="float16"), bias=bias, training=True).backward(
        np.ones((5000, 2), "float16")
    )
    assert bias.grad.tolist() == [5000.0, 5000.0]


# --- the ends of the range ------------------------------------------------------------------------

NORMED = {
    "batch": (lambda x, eps: F.batch_norm(x, training=True, eps=eps), (0,), True),
    "layer": (lambda x, eps: F.layer_norm(x, x.shape[1], eps=eps), (1,), True),
    "rms": (lambda x, eps: F.rms_norm(x, x.shape[1], eps=eps), (1,), False),
    "group": (lambda x, eps: F.group_norm(x, 1, eps=eps), (1,), True),
    "standardize": (lambda x, eps: F.standardize(x, (0, 1), eps), (0, 1), True),
    "weight standardization": (lambda x, eps: F.weight_standardization(x, eps), (1,), True),
}


@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize("scale", [1e-43, 1e-38, 1e-30, 1e-20, 1e-10, 1.0, 1e10, 1e19, 1e20, 1e30, 1e37])
@pytest.mark.parametrize("eps", [0.0, 1e-5, 1e-40])
def test_no_square_overflows_or_vanishes(rng, name, scale, eps):
    fn, axes, centre = NORMED[name]
    x = (rng.uniform(1, 3, (6, 5)) * rng.choice([-1, 1], (6, 5)) * LONG(scale)).astype("float32")
    g = rng.uniform(-1, 1, x.shape).astype("float32")
    xs = leaf(x)
    y = fn(xs, eps)
    ty, tx, *_ = norm_truth(x, g, axes, np.float32(eps), centre=centre)
    assert abs(y.numpy() - ty).max() < 1e-6 * max(abs(ty).max(), 1e-30)
    if abs(tx).max() < 1e37 and scale > 1e-40:
        y.backward(g)
        assert abs(xs.grad.numpy() - tx).max() < 5e-6 * max(abs(tx).max(), 1e-38)


@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e-160, 1e160, 1e300])
def test_no_square_overflows_or_vanishes_in_float64(rng, name, scale):
    fn, axes, centre = NORMED[name]
    x, g = rng.uniform(1, 3, (6, 5)) * rng.choice([-1, 1], (6, 5)), rng.uniform(-1, 1, (6, 5))
    xs = leaf(x * scale)
    y = fn(xs, 0.0)
    ty, tx, *_ = norm_truth(x, g, axes, 0, centre=centre)
    assert abs(y.numpy() - ty).max() < 1e-12
    if scale >= 1e-300:
        y.backward(g)
        assert abs(xs.grad.numpy() * scale - tx).max() < 1e-12


@pytest.mark.parametrize("values", [(1.0, 2.0, 3.0, 4.0), (-3e8, 3e8, 3e8, -3e8)])
def test_thirty_orders_of_magnitude_up(values):
    x = (np.array(values) * 1e30).astype("float32")
    truth = standardized(x.astype(LONG), (0,), LONG(1e-5))[0]
    for y in (F.batch_norm(tn.tensor(x[:, None]), training=True), F.layer_norm(tn.tensor(x[None]), 4)):
        assert abs(y.numpy().reshape(-1) - truth).max() < 3e-7


POWERS = {"float32": (range(-104, 105, 8), range(-70, -48)), "float64": (range(-960, 961, 40), range(-520, -480))}


@pytest.mark.parametrize("dtype", POWERS)
@pytest.mark.parametrize("name", NORMED)
def test_powers_of_two_change_no_bit(rng, name, dtype):
    """With eps scaled along by their square, or 0."""
    fn, _, _ = NORMED[name]
    x, g = rng.normal(size=(40, 30)).astype(dtype), rng.uniform(-1, 1, (40, 30)).astype(dtype)
    unequal = np.ldexp(x, -rng.integers(0, 12, x.shape))  # squares of small ones are the first to lose digits
    for values, powers in zip((x, unequal), POWERS[dtype]):
        for eps in (0.0, 2.0**-17):
            here = leaf(values)
            y = fn(here, eps)
            y.backward(g)
            for k in powers:
                if eps and not -100 < 2 * k - 17 < 100:
                    continue
                there = leaf(np.ldexp(values, k))
                z = fn(there, float(np.ldexp(eps, 2 * k)))
                z.backward(g)
                assert np.array_equal(z.numpy(), y.numpy()), k
                assert np.array_equal(np.ldexp(there.grad.numpy(), k), here.grad.numpy()), k


@pytest.mark.parametrize("name", ["layer", "rms", "group", "weight standardization"])
@pytest.mark.parametrize("other", [nan, inf, 1e30, 3e38, 1e-30, 0.0, 1.0])
@pytest.mark.parametrize("width", [5, FAR + 7])
def test_a_row_does_not_depend_on_extreme_rows_beside_it(rng, name, other, width):
    fn, _, _ = NORMED[name]
    x = (rng.normal(size=(3, width)) + 7).astype("float32")
    alone = fn(tn.tensor(x[:1]), 0.0).numpy()
    x[1] = other
    x[2, 0] = 1e5
    assert np.array_equal(fn(tn.tensor(x), 0.0).numpy()[:1], alone)


@pytest.mark.parametrize("name", ["layer", "group", "weight standardization"])
@pytest.mark.parametrize("value", [1.0, 1e10, 1e30])
def test_the_gradient_of_a_constant_row_does_not_depend_on_extreme_rows(rng, name, value):
    fn, _, _ = NORMED[name]
    x, g = np.full((2, 5), value, "float32"), rng.normal(size=(2, 5)).astype("float32")
    alone = leaf(x[:1])
    fn(alone, 1e-5).backward(g[:1])
    x[1] = np.array([1e30, -1e30, 1e25, 0, 2e30])
    beside = leaf(x)
    fn(beside, 1e-5).backward(g)
    assert np.array_equal(beside.grad.numpy()[:1], alone.grad.numpy()) and alone.grad.numpy().any()


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1, 1e-38])
@pytest.mark.parametrize("centre", [True, False])
def test_scaling_first_gives_the_same_bits(rng, eps, centre):
    """The general kernel scales every slice; the one for the host only those that need it."""
    for shape, axes in (((7, 5), (0,)), ((7, 5), (1,)), ((2, 3, 4), (0, 2)), ((0, 3), (0,)), ((3, 0), (1,)), ((), ())):
        for scale in (1.0, 1e-3, 1e6, 1e30, 1e-30, 0.0):
            for dtype in FLOATS if 1e-4 < scale < 1e4 else FLOATS[1:]:
                x = (rng.normal(size=shape) * scale + scale).astype(dtype)
                (y, stats), (z, others) = (
                    f(CPU, x, None, None, axes, eps, centre) for f in (Host.norm_forward, Kernels.norm_forward)
                )
                assert y.dtype == z.dtype and np.array_equal(y, z), (shape, scale)
                for a, b in zip(stats, others):
                    assert (a is None and b is None) or np.array_equal(a, b), (shape, scale)


def test_a_covariance_that_overflows_is_not_hidden(rng):
    x = (rng.normal(size=(9, 3)) * 1e30).astype("float32")
    assert np.isnan(F.whiten(tn.tensor(x)).numpy()).all()


# --- lengths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [*range(-45, -37), -30, -20, -10, 0, 10, 19, 20, 30, 37, 38])
def test_lengths_over_the_whole_range_of_float32(measured, rng, power):
    v = (rng.uniform(1, 2, (20, 3)) * rng.choice([-1, 1], (20, 3)) * LONG(10) ** power).astype("float32")
    check_lengths(measured, v, rng, 1.5e-7, 1e-38)


@pytest.mark.parametrize("power", [-323, -320, -310, -300, -160, 0, 160, 300, 307])
def test_lengths_over_the_whole_range_of_float64(measured, rng, power):
    v = (rng.uniform(1, 2, (20, 3)) * rng.choice([-1, 1], (20, 3)) * LONG(10) ** power).astype("float64")
    check_lengths(measured, v, rng, 3e-16, 1e-307)


def check_lengths(measured, v, rng, limit, smallest):
    g = rng.uniform(-1, 1, v.shape).astype(v.dtype)
    u, length, gv = unit_truth(v, g)
    xs = leaf(v)
    y = F.normalize(xs, eps=0.0)
    assert measured(f"unit vectors of {v.dtype}", abs(y.numpy() - u).max()) < limit
    _, norm = CPU.unit_forward(v, (1,), 0.0)
    spacing = np.maximum(length * limit, np.nextafter(v.dtype.type(0), v.dtype.type(1)))
    assert measured(f"norms of {v.dtype}, in units of {limit}", (abs(norm - length) / spacing).max()) <= 1
    w = F.weight_norm(tn.tensor(v), tn.ones(20, 1, dtype=v.dtype)).numpy()
    assert measured(f"weight norm of {v.dtype}", abs(w - u).max()) < limit
    cosines = F.cosine_linear(tn.tensor(v), tn.tensor(v[:4])).numpy()
    assert measured(f"cosines of {v.dtype}", abs(cosines - u @ u[:4].T).max()) < 4 * limit
    assert abs(cosines).max() <= 1
    y2 = F.cosine_similarity(tn.tensor(v), tn.tensor(v[::-1]), eps=0.0).numpy()
    assert measured(f"cosines of {v.dtype}", abs(y2 - (u * u[::-1]).sum(1)).max()) < 4 * limit
    if length.min() > smallest:
        y.backward(g)
        error = abs(xs.grad.numpy() - gv).max() / abs(gv).max()
        assert measured(f"gradients of unit vectors of {v.dtype}", error) < 4 * limit


def test_lengths_of_very_unequal_elements(measured):
    v = np.array([[1e30, 1.0, 1e-30], [1e-40, 1e-20, 0.0], [3e38, 3e38, 3e38], [1e-45, 0.0, 0.0]], "float32")
    u = unit_truth(v)[0]
    assert measured("unit vectors of float32", abs(F.normalize(tn.tensor(v), eps=0.0).numpy() - u).max()) < 1.2e-7
    layer = nn.WeightNorm(nn.Linear(3, 2))
    with tn.no_grad():
        layer.weight_v[...] = v[:2]
    assert np.isfinite(layer.weight_now().numpy()).all()


UNITS = {
    "normalize": lambda v, eps: F.normalize(v, eps=eps),
    "weight_norm": lambda v, eps: F.weight_norm(v, tn.full((v.shape[0], 1), 2.0, dtype=v.dtype), eps=eps),
    "weight_norm of all": lambda v, eps: F.weight_norm(v, tn.full((), 2.0, dtype=v.dtype), dim=None, eps=eps),
    "cosine_linear": lambda v, eps: F.cosine_linear(v, tn.ones(2, v.shape[1], dtype=v.dtype), eps),
    "cosine_linear, weight": lambda v, eps: F.cosine_linear(tn.ones(2, v.shape[1], dtype=v.dtype), v, eps),
    "cosine_linear, both": lambda v, eps: F.cosine_linear(v, v, eps),
    "cosine_linear centered": lambda v, eps: F.cosine_linear(v, v, eps, centered=True),
    "cosine_similarity": lambda v, eps: F.cosine_similarity(v, tn.ones(*v.shape, dtype=v.dtype), eps=eps),
    "cosine_similarity, both": lambda v, eps: F.cosine_similarity(v, v, eps=eps),
}


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("eps", [0.0, 1e-320, 1e-50, 1e-12, 1e-8, 0.1, 1e30])
def test_a_zero_vector_gives_zero_with_zero_gradient(name, dtype, eps):
    for graph in (False, True):
        v = leaf(np.zeros((3, 4), dtype))
        y = UNITS[name](v, eps)
        (g,) = tn.grad(y, [v], np.ones(y.shape, dtype), create_graph=graph)
        assert not y.numpy().any() and not g.numpy().any() and g.dtype == dtype


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("eps", [0.0, 1e-8])
def test_a_zero_vector_does_not_disturb_others(name, eps):
    if name in ("weight_norm of all", "cosine_linear centered", "cosine_linear, both"):
        return
    full, part = np.array([[3.0, 4.0], [1.0, -7.0]]), np.array([[3.0, 4.0], [0.0, 0.0]])
    a, b = leaf(full), leaf(part)
    ya, yb = UNITS[name](a, eps), UNITS[name](b, eps)
    seed = np.ones(ya.shape)
    ya.backward(seed), yb.backward(seed)
    assert np.array_equal(a.grad.numpy()[0], b.grad.numpy()[0]) and not b.grad.numpy()[1].any()


@pytest.mark.parametrize("dtype", FLOATS)
def test_cosines_stay_inside_one(measured, dtype):
    rng = np.random.default_rng(0)
    over = 0
    for d in (1, 2, 3, 7, 10, 64, 1000):
        x = rng.normal(size=(200 if d < 100 else 30, d)).astype(dtype)
        scales = 2.0 ** rng.integers(-6, 6, (len(x), 1)).astype(dtype)
        for a, b in (
            (x, x),
            (x, -x * scales),
            (x, (x * 3).astype(dtype)),
            (x, np.nextafter(x, dtype_of(dtype)(9))),
            (abs(x), abs(x[::-1])),
        ):
            a, b = a.astype(dtype), b.astype(dtype)
            if dtype != "float16":
                u, w = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
                over += (abs((u * w).sum(1)) > 1).sum()
            for y in (F.cosine_similarity(tn.tensor(a), tn.tensor(b)), F.cosine_linear(tn.tensor(a), tn.tensor(b))):
                assert y.dtype == dtype and abs(y.numpy()).max() <= 1
            with tn.composite():
                assert abs(F.cosine_linear(tn.tensor(a), tn.tensor(b)).numpy()).max() <= 1
            if d > 1:
                y = F.cosine_linear(tn.tensor(a), tn.tensor(b), centered=True).numpy()
                assert abs(y).max() <= 1
        y = F.cosine_similarity(tn.tensor(x), tn.tensor(x * scales)).numpy()
        error = measured(f"cosines of equal directions in {dtype}", abs(y - 1).max())
        assert error < {"float16": 2e-3, "float32": 1e-6, "float64": 1e-15}[dtype]
    assert over > 20 or dtype == "float16"  # without a limit, some of these are above 1


def dtype_of(name):
    return np.dtype(name).type


def test_cosines_above_one_by_rounding_keep_their_second_derivative():
    rng = np.random.default_rng(0)
    for _ in range(40):
        w = rng.normal(size=3)
        u = w / np.linalg.norm(w)
        truth = -(np.eye(3) - np.outer(u, u)) / (w @ w)
        other = tn.tensor(w[None])
        for fn in (F.cosine_similarity, F.cosine_linear):
            h = tn.hessian(lambda x, fn=fn, other=other: fn(x[None], other).sum(), tn.tensor(w.copy()))
            assert np.allclose(h.numpy(), truth, rtol=1e-9, atol=1e-12)


# --- eps, and what is refused ---------------------------------------------------------------------

X, SIGNAL = np.arange(12.0).reshape(4, 3), np.arange(24.0).reshape(2, 3, 4)


def a_linear():
    tn.manual_seed(0)
    return nn.Linear(3, 2, dtype="float64")


WITH_EPS = {
    "batch_norm": lambda eps: F.batch_norm(tn.tensor(X), training=True, eps=eps),
    "batch_norm outside training": lambda eps: F.batch_norm(tn.tensor(X), tn.tensor(X[0]), tn.tensor(X[0]), eps=eps),
    "layer_norm": lambda eps: F.layer_norm(tn.tensor(X), 3, eps=eps),
    "group_norm": lambda eps: F.group_norm(tn.tensor(X), 3, eps=eps),
    "instance_norm": lambda eps: F.instance_norm(tn.tensor(SIGNAL), eps=eps),
    "rms_norm": lambda eps: F.rms_norm(tn.tensor(X), 3, eps=eps),
    "standardize": lambda eps: F.standardize(tn.tensor(X), 0, eps),
    "weight_standardization": lambda eps: F.weight_standardization(tn.tensor(X), eps),
    "weight_norm": lambda eps: F.weight_norm(tn.tensor(X), tn.ones(4, 1, dtype="float64"), eps=eps),
    "normalize": lambda eps: F.normalize(tn.tensor(X), eps=eps),
    "cosine_linear": lambda eps: F.cosine_linear(tn.tensor(X), tn.tensor(X), eps=eps),
    "cosine_similarity": lambda eps: F.cosine_similarity(tn.tensor(X), tn.tensor(X), eps=eps),
    "whiten": lambda eps: F.whiten(tn.tensor(X), eps=eps),
    "whiten newton": lambda eps: F.whiten(tn.tensor(X[:, :1]), "newton", eps=eps),
    "BatchNorm1d": lambda eps: nn.BatchNorm1d(3, eps=eps).to("float64")(tn.tensor(X)),
    "BatchNorm2d": lambda eps: nn.BatchNorm2d(3, eps=eps).to("float64")(tn.tensor(SIGNAL[:, :, None])),
    "LayerNorm": lambda eps: nn.LayerNorm(3, eps=eps).to("float64")(tn.tensor(X)),
    "GroupNorm": lambda eps: nn.GroupNorm(3, 3, eps=eps).to("float64")(tn.tensor(X)),
    "RMSNorm": lambda eps: nn.RMSNorm(3, eps=eps).to("float64")(tn.tensor(X)),
    "InstanceNorm1d": lambda eps: nn.InstanceNorm1d(3, eps=eps)(tn.tensor(SIGNAL)),
    "InstanceNorm2d": lambda eps: nn.InstanceNorm2d(3, eps=eps)(tn.tensor(SIGNAL[:, :, None])),
    "WeightStandardization": lambda eps: nn.WeightStandardization(a_linear(), eps=eps)(tn.tensor(X)),
}  # fmt: skip


@pytest.mark.parametrize("name", WITH_EPS)
def test_eps_0_is_legal_and_below_is_refused(name):
    assert np.isfinite(WITH_EPS[name](0.0).numpy()).all()
    assert np.array_equal(WITH_EPS[name](0).numpy(), WITH_EPS[name](0.0).numpy())
    for eps in (-1e-5, -1e-300, nan, -inf):
        with pytest.raises(ValueError, match=rf"{name.split()[0]}: eps .*got {eps}"):
            WITH_EPS[name](eps)


@pytest.mark.parametrize(
    "norm, shape", [(nn.BatchNorm1d, (1, 3)), (nn.BatchNorm2d, (1, 3, 1, 1)), (nn.MeanOnlyBatchNorm1d, (1, 3, 1))]
)
def test_one_row_in_training_is_refused_with_the_remedy(norm, shape):
    layer = norm(3)
    with pytest.raises(ValueError, match=rf"{norm.__name__}: .*drop_last=True.*model\.eval\(\)"):
        layer(tn.ones(*shape))
    assert layer.eval()(tn.ones(*shape)).shape == shape


def test_the_function_takes_one_row_and_keeps_its_statistics_finite():
    mean, var = tn.zeros(3), tn.ones(3)
    y = F.batch_norm(tn.full((1, 3), 5.0), mean, var, bias=tn.tensor([1.0, 2.0, 3.0]), training=True)
    assert y.tolist() == [[1.0, 2.0, 3.0]] and mean.tolist() == [0.5] * 3 and np.allclose(var.numpy(), 0.9)


# --- NaN and infinity -----------------------------------------------------------------------------

ALL = {
    **{name: (lambda x, fn=fn: fn(x, 1e-5)) for name, (fn, _, _) in NORMED.items()},
    **{name: (lambda x, fn=fn: fn(x, 1e-8)) for name, fn in UNITS.items()},
    "instance": lambda x: F.instance_norm(x.reshape(1, *x.shape)),
    "mean only": lambda x: F.mean_only_batch_norm(x, training=True),
    "whiten": F.whiten,
    "weight norm by g": lambda x: F.weight_norm(tn.ones(*x.shape, dtype=x.dtype), x[:, :1]),
    "batch norm outside training": lambda x: F.batch_norm(x, *(tn.ones(x.shape[1], dtype=x.dtype) for _ in "mv")),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_infinity_come_out_as_nan_without_a_warning(name, value, dtype):
    x = np.array([[1.0, 2.0, 4.0], [3.0, -5.0, 4.0], [0.5, 1.0, 7.0]], dtype)
    x[0, 0] = value
    with np.errstate(all="raise"):  # the caller's wishes about warnings do not reach the kernels
        xs = leaf(x)
        y = ALL[name](xs)
        y.backward(np.full(y.shape, 0.5, dtype))
    linear = name in ("batch norm outside training", "mean only", "weight norm by g")
    assert np.isnan(y.numpy()).any() or (linear and not np.isfinite(y.numpy()).all())
    assert linear or np.isnan(xs.grad.numpy()).any()


# --- memory ---------------------------------------------------------------------------------------


def held(node):
    """Sizes of all arrays that a node keeps for its rules, inputs excepted."""
    saved = node.saved if isinstance(node.saved, tuple) else (node.saved,)
    sizes = [a.size for a in saved if isinstance(a, np.ndarray)]
    return sizes + ([] if node.output is None else [node.output.size])


@pytest.mark.parametrize("name", NORMED)
def test_a_norm_keeps_its_input_and_statistics_only(rng, name):
    fn, axes, _ = NORMED[name]
    x = leaf(rng.normal(size=(64, 64)).astype("float32"))
    y = fn(x, 1e-5)
    node = y._node
    while node.op.name != "norm":  # behind a reshape
        node = node.edges[0]
    slices = x.size // int(np.prod([x.shape[a] for a in axes]))
    assert sum(held(node)) <= 4 * slices
    kept = [a for a in node.args if isinstance(a, np.ndarray)]
    assert len(kept) == 1 and np.shares_memory(kept[0], x._data)


def test_mean_only_and_normalize_keep_no_copy(rng):
    x = leaf(rng.normal(size=(64, 64)))
    centred = F.mean_only_batch_norm(x, training=True)._node
    assert sum(held(centred)) <= 2 * 64
    y = F.normalize(x)
    assert sorted(held(y._node)) == [64, 64 * 64] and y._node.output._data is y._data  # the result itself, and norms


# --- derivatives on a grid ------------------------------------------------------------------------


def scaled(x, w, b):
    return x if w is None else x * w if b is None else x * w + b


def columns(v, x):
    return v if v is None else v.reshape((-1,) + (1,) * (x.ndim - 2))


def unit(v, eps, axis=-1):
    squares = np.sum(v * v, axis, keepdims=True)
    size = np.sqrt(np.where(squares == 0, 1, squares))
    return np.where(squares == 0, 0, v / np.where(size.real < eps, eps, size))


def by_statistics(axes):
    return lambda x, eps, w=None, b=None: scaled(standardized(x, axes, eps)[0], columns(w, x), columns(b, x))


def grouped(x, eps, w=None, b=None):
    y = standardized(x.reshape(len(x), groups(x), -1), (2,), eps)[0].reshape(x.shape)
    return scaled(y, columns(w, x), columns(b, x))


def groups(x):
    return max(g for g in (1, 3, 8) if x.shape[1] % g == 0)


def layer_truth(x, eps, w=None, b=None):
    return scaled(standardized(x, (1,), eps)[0], w, b)


def centred_rows(v):
    return v - v.sum(-1, keepdims=True) / v.shape[-1]


def with_gain(truth):
    return lambda x, eps, *gain: truth(x, eps) * (gain[0] if gain else 1)


rms_truth = with_gain(lambda x, eps: standardized(x, (1,), eps, centre=False)[0])


def cosine_truth(x, eps, w):
    return unit(x, eps) @ unit(w, eps).T


def pearson_truth(x, eps, w):
    return cosine_truth(centred_rows(x), eps, centred_rows(w))


def batch(x, eps, w=None, b=None):
    return F.batch_norm(x, None, None, w, b, training=True, eps=eps)


def layer(x, eps, w=None, b=None):
    return F.layer_norm(x, x.shape[1], w, b, eps)


def rms(x, eps, w=None):
    return F.rms_norm(x, x.shape[1], w, eps)


def group(x, eps, w=None, b=None):
    return F.group_norm(x, groups(x), w, b, eps)


def instance(x, eps, w=None, b=None):
    return F.instance_norm(x, None, None, w, b, eps=eps)


def mean_only(x, eps, b):
    return F.mean_only_batch_norm(x, None, b, training=True)


C, S = "C", 1  # one value per feature; one for all
GRID = {  # name: (the norm, its truth, shapes of the other inputs, trailing shape of x)
    "batch": (batch, by_statistics((0,)), (), ()),
    "batch affine": (batch, by_statistics((0,)), (C, C), ()),
    "layer": (layer, layer_truth, (), ()),
    "layer affine": (layer, layer_truth, (C, C), ()),
    "layer shared": (layer, layer_truth, (S, S), ()),
    "rms": (rms, rms_truth, (), ()),
    "rms affine": (rms, rms_truth, (C,), ()),
    "rms shared": (rms, rms_truth, (S,), ()),
    "group": (group, grouped, (), (2,)),
    "group affine": (group, grouped, (C, C), (2,)),
    "instance": (instance, by_statistics((2,)), (), (4,)),
    "instance affine": (instance, by_statistics((2,)), (C, C), (4,)),
    "standardize": (lambda x, eps: F.standardize(x, (0, 1), eps), by_statistics((0, 1)), (), ()),
    "weight standardization": (F.weight_standardization, layer_truth, (), ()),
    "mean only": (mean_only, lambda x, eps, b: x - x.sum(0) / len(x) + b, (C,), ()),
    "weight norm": (lambda x, eps, g: F.weight_norm(x, g, 0, eps), with_gain(unit), ("N1",), ()),
    "weight norm by column": (
        lambda x, eps, g: F.weight_norm(x, g, 1, eps), with_gain(lambda x, eps: unit(x, eps, 0)), ("1C",), (),
    ),
    "weight norm shared": (
        lambda x, eps, g: F.weight_norm(x, g, None, eps), with_gain(lambda x, eps: unit(x, eps, (0, 1))), (S,), (),
    ),
    "normalize": (lambda x, eps: F.normalize(x, eps=eps), unit, (), ()),
    "cosine": (lambda x, eps, w: F.cosine_linear(x, w, eps), cosine_truth, ("3C",), ()),
    "cosine centered": (lambda x, eps, w: F.cosine_linear(x, w, eps, True), pearson_truth, ("3C",), ()),
    "cosine similarity": (
        lambda x, eps, z: F.cosine_similarity(x, z, eps=eps),
        lambda x, eps, z: (unit(x, eps) * unit(z, eps)).sum(1), ("NC",), (),
    ),
}  # fmt: skip


def spread(rng, *shape):
    """Values of alternating sign and size in [1/2, 1): no variance or length is small."""
    signs = (-1.0) ** np.indices(shape).sum(0) if shape else 1.0
    return signs * rng.uniform(0.5, 1, shape)


def grid_inputs(name, n, d, rng):
    *_, others, tail = GRID[name]
    shapes = {C: (d,), S: (1,), "N1": (n, 1), "1C": (1, d), "3C": (3, d), "NC": (n, d)}
    return [spread(rng, n, d, *tail), *(spread(rng, *shapes[s]) for s in others)]


def singular(name, x, eps):
    """Whether some variance + eps is 0: there the derivative is pinned to 0, not measured."""
    axes = {"batch": (0,), "layer": (1,), "standardize": (0, 1), "weight standardization": (1,)}.get(
        name.removesuffix(" affine").removesuffix(" shared")
    )
    return axes is not None and eps == 0 and int(np.prod([x.shape[a] for a in axes])) == 1


def directions(rng, arrays):
    """Every coordinate of small inputs, two random directions of large ones; (input, direction)."""
    for i, a in enumerate(arrays):
        if a.size <= 6:
            yield from ((i, np.eye(a.size)[k].reshape(a.shape)) for k in range(a.size))
        else:
            yield from ((i, rng.uniform(-1, 1, a.shape)) for _ in range(2))


SIZES = [(n, d) for n in (1, 2, 3, 64) for d in (1, 3, 64)]


def eps_of(name):
    """0 and two usual sizes; for lengths also one that no length reaches."""
    return (0.0, 1e-5, 0.1) + (100.0,) * name.startswith(("weight norm", "normalize", "cosine"))


@pytest.mark.parametrize("name", GRID)
def test_first_derivatives_by_complex_step(rng, name):
    fn, truth, *_ = GRID[name]
    for n, d in SIZES:
        for eps in eps_of(name):
            arrays = grid_inputs(name, n, d, rng)
            xs = tensors(arrays)
            y = fn(xs[0], eps, *xs[1:])
            g = rng.uniform(-1, 1, y.shape)
            assert worst(y.numpy(), truth(arrays[0], eps, *arrays[1:])) < 1e-13
            y.backward(g)
            if singular(name, arrays[0], eps):
                assert not xs[0].grad.numpy().any()
                continue
            for i, v in directions(rng, arrays):
                stepped = [a + 1e-20j * v if k == i else a.astype(complex) for k, a in enumerate(arrays)]
                slope = (g * truth(stepped[0], eps, *stepped[1:]).imag).sum() / 1e-20
                assert abs((xs[i].grad.numpy() * v).sum() - slope) <= 1e-10 * max(1, abs(slope)), (n, d, eps, i)


@pytest.mark.parametrize("name", GRID)
def test_second_derivatives_by_differences(rng, name):
    """The graph of the gradient (composites) against differences of the gradient (kernels)."""
    fn, *_ = GRID[name]
    for n, d in SIZES:
        for eps in eps_of(name):
            arrays = grid_inputs(name, n, d, rng)
            if singular(name, arrays[0], eps):
                continue
            xs = tensors(arrays)
            y = fn(xs[0], eps, *xs[1:])
            g, move = rng.uniform(-1, 1, y.shape), [rng.uniform(-1, 1, a.shape) for a in arrays]
            gs = tn.grad(y, xs, g, create_graph=True)
            total = sum((a * v).sum() for a, v in zip(gs, move))
            hv = tn.grad(total, xs, allow_unused=True) if total.requires_grad else [None] * len(xs)
            h = 1e-5
            up, down = (slopes(fn, [a + s * v for a, v in zip(arrays, move)], eps, g) for s in (h, -h))
            for k, (a, b, c) in enumerate(zip(up, down, hv)):
                measured = (a - b) / (2 * h)
                got = np.zeros_like(measured) if c is None else c.numpy()
                assert abs(got - measured).max() <= 1e-6 * max(1, abs(measured).max()), (n, d, eps, k)


def slopes(fn, arrays, eps, g):
    """Gradients by the kernels."""
    xs = tensors(arrays)
    fn(xs[0], eps, *xs[1:]).backward(g)
    return [x.grad.numpy() for x in xs]


LIMITS = {"float16": (2e-3, 5e-3, 2e-2), "float32": (1e-6, 5e-6, 5e-6), "float64": (1e-14, 1e-13, 1e-12)}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", GRID)
def test_fused_is_composite(rng, name, dtype):
    """Value, gradient and gradient of gradient of the kernels in every dtype, and of the definition in float64."""
    fn, *_ = GRID[name]
    for n, d in SIZES:
        for eps in eps_of(name):
            arrays = [a.astype(dtype) for a in grid_inputs(name, n, d, rng)]
            cotangents = [rng.uniform(-1, 1, a.shape).astype(dtype) for a in arrays]
            g = rng.uniform(-1, 1, (n, 3) if name.startswith("cosine") else arrays[0].shape).astype(dtype)
            g = g[:, 0].copy() if name == "cosine similarity" else g
            fused = three_orders(fn, arrays, eps, g, cotangents)
            with tn.composite():
                definition = three_orders(fn, [a.astype(float) for a in arrays], eps, g.astype(float), cotangents)
            for got, expected, limit in zip(fused, definition, LIMITS[dtype]):
                for a, b in zip(got, expected):
                    assert a.dtype == dtype and abs(a - b).max() <= limit * max(1, abs(b).max()), (n, d, eps, limit)


def three_orders(fn, arrays, eps, g, cotangents):
    """[y], the gradients by the kernels (or by the definition), and gradients of a combination of them."""
    xs = tensors(arrays)
    y = fn(xs[0], eps, *xs[1:])
    first = tn.grad(y, xs, g, retain_graph=True)
    gs = tn.grad(y, xs, g, create_graph=True)
    total = sum((a * tn.tensor(c.astype(a.dtype))).sum() for a, c in zip(gs, cotangents))
    second = tn.grad(total, xs, allow_unused=True) if total.requires_grad else [None] * len(xs)
    second = [np.zeros_like(a) if s is None else s.numpy() for s, a in zip(second, arrays)]
    return [y.numpy()], [v.numpy() for v in first], second
