"""The statements of the source documents about normalization, one named test each: general frame and guards.

A test carries the number of its statement, test_21_..., and its docstring says who claims what; where a document errs,
the test shows what the literal formula gives beside what is right. Everything is float64 with random cotangents, for
three seeds, and exact (rtol 1e-12) at eps = 0; for eps > 0 the closed form with eps is what is tested.

The documents, in Chinese, and how the tests call them:

    General frame    The general frame and ideas of Normalization (4.02 Normalization 的通用框架和思想)
    Not only BN      Normalization in deep learning in detail, not only BN (详解深度学习中的Normalization,不只是BN)
    Normalization    Normalization (归一化（Normalization）)
    ICS notes        notes without a title; their first section is ICS (一、ICS（internal covariant shift）)
    BN notes         Batch Normalization (Batch Normalization)

Where the statements are tested:

    12-19, 69-74             here: the general frame, and what the documents imply without saying it
    20-26, 29-33, 37, 38     test_claims_batch.py: batch norm, and arithmetic of activations
    43-53                    test_claims_scale.py: invariance under scaled weights and scaled data
    54-57, 60-67             test_claims_units.py: layer norm, weight norm, cosine

Left to experiments, because they speak of training, accuracy or speed: 5, 6, 9 (cost), 11, 27, 28, 34, 35, 36, 39, 40,
41, 42, 58, 59; and these parts of tested ones: training with frozen gain and bias (17), generalization and larger
learning rates (47), loss of accuracy (57, 67). 1-4, 7, 8 and 10 are about input preprocessing. 68 lists misprints.
"""

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from statements import close, far, moments, run, same
from tinygrad_norm import nn


@pytest.fixture(params=[0, 1, 2], ids="seed{}".format)
def rng(request):
    return np.random.default_rng(request.param)


EPS = pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])


def frame(x, mu, sigma, g=1.0, b=0.0):
    """y = g (x - mu) / sigma + b, in elementary operations."""
    return (x - mu) / sigma * g + b


def deviation(x, axes, eps):
    """Mean and sqrt(variance + eps) over ``axes``, in elementary operations."""
    mu = x.mean(axes, keepdims=True)
    return mu, (((x - mu) ** 2).mean(axes, keepdims=True) + eps).sqrt()


def length(v, axis=-1):
    return (v * v).sum(axis, keepdims=True).sqrt()


FRAMES = {  # name: (shape of x, shape of gain and bias, the package's function, the frame with its mu and sigma)
    "batch": (
        (5, 4, 3),
        (4, 1),
        lambda x, g, b, e: F.batch_norm(x, None, None, g.reshape(4), b.reshape(4), True, eps=e),
        lambda x, g, b, e: frame(x, *deviation(x, (0, 2), e), g, b),
    ),
    "layer": (
        (5, 4, 3),
        (4, 3),
        lambda x, g, b, e: F.layer_norm(x, (4, 3), g, b, e),
        lambda x, g, b, e: frame(x, *deviation(x, (1, 2), e), g, b),
    ),
    "instance": (
        (5, 4, 6),
        (4, 1),
        lambda x, g, b, e: F.instance_norm(x, None, None, g.reshape(4), b.reshape(4), eps=e),
        lambda x, g, b, e: frame(x, *deviation(x, 2, e), g, b),
    ),
    "group": (
        (5, 4, 3),
        (4, 1),
        lambda x, g, b, e: F.group_norm(x, 2, g.reshape(4), b.reshape(4), e),
        lambda x, g, b, e: frame(y := x.reshape(5, 2, 2, 3), *deviation(y, (2, 3), e)).reshape(5, 4, 3) * g + b,
    ),
    "rms": (
        (5, 4),
        (4,),
        lambda x, g, b, e: F.rms_norm(x, 4, g, e) + b,
        lambda x, g, b, e: frame(x, 0.0, ((x * x).mean(1, keepdims=True) + e).sqrt(), g, b),
    ),
    "weight": (
        (5, 4),
        (3,),
        lambda x, g, b, e, v: F.linear(x, F.weight_norm(v, g.reshape(3, 1)), b),
        lambda x, g, b, e, v: frame(F.linear(x, v), 0.0, length(v).reshape(3), g, b),
    ),
    "cosine": (
        (5, 4),
        (3,),
        lambda x, g, b, e, w: F.cosine_linear(x, w) * g + b,
        lambda x, g, b, e, w: frame(F.linear(x, w), 0.0, length(x) * length(w).reshape(3), g, b),
    ),
}


@EPS
@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-12), ("float32", 5e-6)])
@pytest.mark.parametrize("name", FRAMES)
def test_12_every_norm_is_the_frame(rng, name, dtype, rtol, eps):
    """Not only BN, General frame, ICS notes: h = f(g (x - mu) / sigma + b), value and gradients, for every norm."""
    shape, affine, fused, generic = FRAMES[name]
    arrays = [rng.normal(size=s) for s in (shape, affine, affine)]
    if name in ("weight", "cosine"):  # sigma is ||v|| and ||w|| ||x||, mu is 0
        arrays.append(rng.normal(size=(3, 4)))
    arrays = [a.astype(dtype) for a in arrays]
    g = rng.normal(size=(5, 3) if len(arrays) == 4 else shape).astype(dtype)
    got, expected = (run(lambda x, a, b, *v, f=f: f(x, a, b, eps, *v), *arrays, g=g) for f in (fused, generic))
    for a, b in zip(got, expected, strict=True):
        close(a, b, rtol)


@EPS
def test_12_standardize_is_the_first_step_of_batch_and_layer_norm(rng, eps):
    x = tn.tensor(rng.normal(size=(5, 4, 3)))
    same(F.standardize(x, (0, 2), eps), F.batch_norm(x, training=True, eps=eps))
    same(F.standardize(x, (1, 2), eps), F.layer_norm(x, (4, 3), eps=eps))
    same(F.standardize(x, 2, eps), F.instance_norm(x, eps=eps))


@EPS
@pytest.mark.parametrize("axis", [0, 1])
def test_13_first_step_gives_mean_0_and_variance_1(rng, axis, eps):
    """Not only BN, General frame: x_hat has variance 1. It is var / (var + eps): 1 at eps = 0 only."""
    x = rng.normal(3.0, 2.0, size=(40, 30))
    mean, var = moments(F.standardize(tn.tensor(x), axis, eps).numpy(), axis)
    assert np.abs(mean).max() < 1e-15 * x.shape[axis]
    close(var, x.var(axis=axis) / (x.var(axis=axis) + eps))
    assert eps or np.abs(var - 1).max() < 1e-13
    assert eps != 0.1 or np.all(var < 0.99)


@EPS
def test_14_second_step_gives_mean_b_and_variance_g_squared(rng, eps):
    """Not only BN, General frame: y has mean b and variance g^2. True for batch norm, times var / (var + eps)."""
    x, g, b = rng.normal(3.0, 2.0, size=(40, 6)), rng.normal(size=6), rng.normal(size=6)
    y = F.batch_norm(tn.tensor(x), None, None, tn.tensor(g), tn.tensor(b), True, eps=eps).numpy()
    close(y.mean(axis=0), b)
    close(y.var(axis=0), g**2 * x.var(axis=0) / (x.var(axis=0) + eps))


@EPS
def test_14_in_layer_norm_only_for_a_shared_gain_and_bias(rng, eps):
    """With a gain and a bias per feature the mean of a row of layer norm is mean(g x_hat + b), which is not mean(b)."""
    x, g, b = rng.normal(3.0, 2.0, size=(40, 6)), rng.normal(size=6), rng.normal(size=6)
    ratio = x.var(axis=1) / (x.var(axis=1) + eps)
    y = F.layer_norm(tn.tensor(x), 6, tn.tensor(g[:1]), tn.tensor(b[:1]), eps).numpy()
    close(y.mean(axis=1), np.full(40, b[0]))
    close(y.var(axis=1), g[0] ** 2 * ratio)
    y = F.layer_norm(tn.tensor(x), 6, tn.tensor(g), tn.tensor(b), eps).numpy()
    x_hat = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + eps)
    close(y.mean(axis=1), (g * x_hat + b).mean(axis=1))
    far(y.mean(axis=1), np.full(40, b.mean()))


@EPS
@pytest.mark.parametrize("m", [2, 9, 100])
def test_15_no_fixed_range_but_a_bound(rng, m, eps):
    """Not only BN, General frame: "a standard distribution in a fixed range". There is no fixed range: |x_hat| is at
    most sqrt(m - 1) for m values, which one large value among equal ones attains; the bound grows with m."""
    x = rng.standard_cauchy(size=(m, 50))
    height = 3.0
    x[:, 0] = np.where(np.arange(m) == 1, height, 0.0)
    bound = np.sqrt(m - 1)
    attained = height * (1 - 1 / m) / np.sqrt(height**2 * (m - 1) / m**2 + eps)
    for y in (
        F.batch_norm(tn.tensor(x), training=True, eps=eps).numpy(),
        F.layer_norm(tn.tensor(x.T), m, eps=eps).numpy().T,
    ):
        assert np.abs(y).max() <= bound * (1 + 1e-14)
        close(y[1, 0], attained)
    assert eps or abs(attained - bound) < 1e-13
    assert eps or m != 9 or abs(attained - 2.8284) < 5e-5


@EPS
def test_16_the_same_family_of_functions(rng, eps):
    """Not only BN, General frame: g and b represent the same functions: gain and bias that equal the plain layer."""
    u, w, bias = rng.normal(size=(20, 5)), rng.normal(size=(4, 5)), rng.normal(size=4)
    plain = F.sigmoid(F.linear(tn.tensor(u), tn.tensor(w), tn.tensor(bias)))
    z = u @ w.T
    gain, shift = np.sqrt(z.var(axis=0) + eps), z.mean(axis=0) + bias
    y = F.batch_norm(F.linear(tn.tensor(u), tn.tensor(w)), None, None, tn.tensor(gain), tn.tensor(shift), True, eps=eps)
    close(F.sigmoid(y), plain)


def test_16_the_mean_depends_on_b_only(rng):
    """Other dynamics: whatever happens to the layers below, each feature of y keeps the mean b and the deviation g."""
    u, g, b = rng.normal(size=(20, 5)), rng.normal(size=4), rng.normal(size=4)
    for scale in (1.0, 1e-3, 1e3):  # other layers below: two linear ones and a tanh between
        first, second = rng.normal(size=(7, 5)) * scale, rng.normal(size=(4, 7))
        z = F.linear(F.tanh(F.linear(tn.tensor(u), tn.tensor(first))), tn.tensor(second))
        y = F.batch_norm(z, None, None, tn.tensor(g), tn.tensor(b), True, eps=0.0).numpy()
        close(y.mean(axis=0), b)
        close(y.std(axis=0), np.abs(g))
        assert scale == 1e-3 or np.abs(z.numpy().mean(axis=0) - b).max() > 0.1


def test_17_standardized_inputs_use_the_linear_zone_of_sigmoid(rng):
    """All documents: sigmoid of standardized values is almost linear, and a learned gain leaves the linear zone."""
    x = F.standardize(tn.tensor(rng.normal(5.0, 3.0, size=20_000)), 0)
    assert abs((abs(x) < 2).astype("float64").mean().item() - 0.9545) < 0.01
    fits = []
    for gain in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0):
        r = np.corrcoef(x.numpy(), F.sigmoid(x * gain).numpy())[0, 1]
        fits.append(r**2)  # the share of the variance that the best line explains
    np.testing.assert_allclose(fits, [0.9998, 0.998, 0.984, 0.930, 0.837, 0.752], atol=0.004)


def test_18_without_gain_and_bias_what_the_layer_below_does_is_undone(rng):
    """ICS notes: undone. Batch norm undoes the scale and shift of each feature, whitening every linear map but a
    rotation."""
    x, scale, shift = rng.normal(size=(30, 4)), rng.normal(size=4), rng.normal(size=4)
    plain = F.batch_norm(tn.tensor(x), training=True, eps=0.0).numpy()
    close(F.batch_norm(tn.tensor(x * scale + shift), training=True, eps=0.0), plain * np.sign(scale))
    mixed = x @ rng.normal(size=(4, 4)) + shift
    far(F.batch_norm(tn.tensor(mixed), training=True, eps=0.0), plain, 0.1)
    white, again = (F.whiten(tn.tensor(v), eps=0.0).numpy() for v in (x, mixed))
    rotation = white.T @ again / 30
    close(rotation @ rotation.T, np.eye(4), 1e-10)
    close(white @ rotation, again, 1e-10)


def test_19_the_same_mean_and_variance_is_not_the_same_distribution(rng):
    """Not only BN, General frame: not strictly i.i.d. A uniform and an exponential input stay apart."""
    x = np.stack([rng.uniform(-3, 5, size=4000), rng.exponential(2.0, size=4000)], axis=1)
    y = F.batch_norm(tn.tensor(x), training=True, eps=0.0).numpy()
    mean, var = moments(y)
    assert np.abs(mean).max() < 1e-13
    close(var, np.ones(2))
    points = np.linspace(-3, 3, 601)
    uniform, exponential = ((column[:, None] <= points).mean(axis=0) for column in y.T)
    assert 0.1 < np.abs(uniform - exponential).max() < 0.25  # the Kolmogorov-Smirnov distance


# --- what the documents imply and never say -------------------------------------------------------


def test_69_training_or_evaluation_matters_to_batch_norm_only(rng):
    """And to its relatives with running statistics: mean-only batch norm, instance norm if told to."""
    x = tn.tensor(rng.normal(2.0, 3.0, size=(8, 6)))
    layers = [nn.LayerNorm(6), nn.GroupNorm(2, 6), nn.RMSNorm(6), nn.WeightNorm(nn.Linear(6, 6)), nn.CosineLinear(6, 6)]
    for module in layers:
        module.to("float64")
        same(module.train()(x), module.eval()(x))
        assert not list(module.buffers())
    module = nn.BatchNorm1d(6).to("float64")
    far(module.train()(x), module.eval()(x), 0.1)


def test_70_two_forwards_in_training_move_the_running_statistics_twice(rng):
    """A gradient check in training mode must not read them: the output does not, and the backward moves nothing."""
    x, g = rng.normal(2.0, 3.0, size=(8, 3)), rng.normal(size=(8, 3))
    mean, var = tn.zeros(3, dtype="float64"), tn.ones(3, dtype="float64")
    results = [run(lambda t: F.batch_norm(t, mean, var, training=True), x, g=g) for _ in range(2)]
    close(mean, (0.1 + 0.9 * 0.1) * x.mean(axis=0))
    close(var, 0.81 + (0.1 + 0.9 * 0.1) * x.var(axis=0, ddof=1))
    for a, b in zip(*results):
        same(a, b)


@EPS
@pytest.mark.parametrize("axis", [0, 1])
def test_71_a_gradient_of_ones_or_of_the_output_itself_gives_zero(rng, axis, eps):
    """1 and x_hat are what the Jacobian sends to 0: a check with y.sum() as loss sees nothing. With eps the second
    is x_hat eps / (var + eps)^(3/2)."""
    x = rng.normal(3.0, 2.0, size=(12, 9))
    y, by_ones = run(lambda t: F.standardize(t, axis, eps), x, g=np.ones_like(x))
    assert np.abs(by_ones).max() < 1e-14
    _, by_itself = run(lambda t: F.standardize(t, axis, eps), x, g=y)
    var = x.var(axis=axis, keepdims=True)
    np.testing.assert_allclose(by_itself, y * eps / (var + eps) ** 1.5, rtol=0, atol=1e-14)
    _, by_random = run(lambda t: F.standardize(t, axis, eps), x, g=rng.normal(size=x.shape))
    assert np.abs(by_random).max() > 0.1


@EPS
def test_72_one_value_per_channel(rng, eps):
    """x_hat is 0 and the variance unknown: the function gives the bias, gradient 0, variance 0; the layer refuses."""
    x, g, b, up = (rng.normal(size=s) for s in ((1, 3), 3, 3, (1, 3)))
    mean, var = tn.zeros(3, dtype="float64"), tn.ones(3, dtype="float64")
    y, gx, gg, gb = run(lambda t, w, c: F.batch_norm(t, mean, var, w, c, True, momentum=1.0, eps=eps), x, g, b, g=up)
    same(y, b[None])
    same(gx, np.zeros((1, 3)))
    same(gg, np.zeros(3))
    same(gb, up[0])
    same(mean, x[0])
    same(var, np.zeros(3))
    with pytest.raises(ValueError, match="needs more than one value"):
        nn.BatchNorm1d(3)(tn.tensor(x.astype("float32")))


@EPS
@pytest.mark.parametrize("name", ["batch", "layer", "instance", "group", "rms"])
def test_73_gradients_of_gain_and_bias(rng, name, eps):
    """d bias = sum of g, d gain = sum of g x_hat, over what shares the gain."""
    shape, affine, fused, _ = FRAMES[name]
    x, gain, bias, up = (rng.normal(size=s) for s in (shape, affine, affine, shape))
    _, _, by_gain, by_bias = run(lambda *v: fused(*v, eps), x, gain, bias, g=up)
    x_hat = fused(*map(tn.tensor, (x, np.ones(affine), np.zeros(affine))), eps).numpy()
    axes = (0,) if affine[-1] != 1 else (0, 2)
    close(by_gain, (up * x_hat).sum(axis=axes, keepdims=True).reshape(affine))
    close(by_bias, up.sum(axis=axes, keepdims=True).reshape(affine))


@EPS
def test_74_images(rng, eps):
    """(N, C, H, W) is (N H W, C) to batch norm and (N, C H W) to layer norm; kernels are rows to weight norm."""
    x, up = rng.normal(size=(2, 2, 3, 4, 5))
    rows = np.moveaxis(x, 1, -1)
    by_rows = run(
        lambda t: F.batch_norm(t, training=True, eps=eps), rows.reshape(-1, 3), g=np.moveaxis(up, 1, -1).reshape(-1, 3)
    )
    for a, b in zip(run(lambda t: F.batch_norm(t, training=True, eps=eps), x, g=up), by_rows):
        close(a, np.moveaxis(b.reshape(rows.shape), -1, 1))
    flat = run(lambda t: F.layer_norm(t, 60, eps=eps), x.reshape(2, 60), g=up.reshape(2, 60))
    for a, b in zip(run(lambda t: F.layer_norm(t, (3, 4, 5), eps=eps), x, g=up), flat):
        close(a.reshape(2, 60), b)
    length = rng.normal(size=(2, 1))
    kernels = F.weight_norm(tn.tensor(x), tn.tensor(length.reshape(2, 1, 1, 1))).numpy()
    close(kernels.reshape(2, 60), F.weight_norm(tn.tensor(x.reshape(2, 60)), tn.tensor(length)))
    w = tn.tensor(rng.normal(size=(7, 3)))
    close(
        F.cosine_linear(tn.tensor(rows), w).numpy().reshape(-1, 7), F.cosine_linear(tn.tensor(rows.reshape(-1, 3)), w)
    )
