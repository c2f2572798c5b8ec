"""Statements 54 to 57 and 60 to 67: layer norm, weight norm and cosine.

See test_claims.py for the documents and the rules.
"""

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from statements import close, far, run, same
from tinygrad_norm import nn, optim


@pytest.fixture(params=[0, 1, 2], ids="seed{}".format)
def rng(request):
    return np.random.default_rng(request.param)


EPS = pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])


# --- layer norm -----------------------------------------------------------------------------------


@EPS
def test_54_layer_norm_divides_by_the_number_of_neurons(rng, eps):
    """Not only BN prints mu = sum x_i and sigma = sqrt(sum (x_i - mu)^2 + eps), without 1/H in either. Normalization
    and the paper have it, and so has the package."""
    x = rng.normal(3.0, 2.0, size=(5, 6))
    mu = x.sum(axis=1, keepdims=True) / 6
    sigma = np.sqrt(((x - mu) ** 2).sum(axis=1, keepdims=True) / 6 + eps)
    close(F.layer_norm(tn.tensor(x), 6, eps=eps), (x - mu) / sigma)


@EPS
@pytest.mark.parametrize("h", [5, 64])
def test_54_what_the_printed_formula_does(rng, h, eps):
    """A row of mean m and deviation s comes out with mean (1 - H) m / sigma and deviation s / sigma, where sigma^2 is
    H s^2 + H (H - 1)^2 m^2 + eps: not 0 and 1, but near -1/sqrt(H) and 0."""
    x = rng.normal(3.0, 0.5, size=(4, h))
    m, s = x.mean(axis=1), x.std(axis=1)
    mu = x.sum(axis=1, keepdims=True)
    literal = (x - mu) / np.sqrt(((x - mu) ** 2).sum(axis=1, keepdims=True) + eps)
    sigma = np.sqrt(h * s**2 + h * (h - 1) ** 2 * m**2 + eps)
    close(literal.mean(axis=1), (1 - h) * m / sigma)
    close(literal.std(axis=1), s / sigma)
    assert np.abs(literal.mean(axis=1) + h**-0.5).max() < 0.01 and literal.std(axis=1).max() < 0.04
    # with 1/H missing in the variance only, the row gets unit length, not unit deviation
    d = x - x.mean(axis=1, keepdims=True)
    half = d / np.sqrt((d**2).sum(axis=1, keepdims=True) + eps)
    close(half.std(axis=1), np.sqrt(s**2 / (h * s**2 + eps)))
    assert eps or np.abs((half**2).sum(axis=1) - 1).max() < 1e-14


@EPS
def test_55_gain_and_bias_shared_by_the_layer_or_one_per_neuron(rng, eps):
    """Not only BN: four scalars; Normalization and the paper: vectors like batch norm's. The scalars are vectors with
    equal entries, and their gradient is the sum of the vector's."""
    x, g, gain, bias = rng.normal(size=(5, 6)), rng.normal(size=(5, 6)), rng.normal(size=1), rng.normal(size=1)
    shared = run(lambda *v: F.layer_norm(v[0], 6, v[1], v[2], eps), x, gain, bias, g=g)
    each = run(lambda *v: F.layer_norm(v[0], 6, v[1], v[2], eps), x, gain.repeat(6), bias.repeat(6), g=g)
    same(shared[0], each[0])
    close(shared[1], each[1])
    assert shared[2].shape == shared[3].shape == (1,) and each[2].shape == each[3].shape == (6,)
    close(shared[2], [each[2].sum()])
    close(shared[3], [each[3].sum()])
    assert nn.LayerNorm(6, shared=True).weight.shape == (1,) and nn.LayerNorm(6).weight.shape == (6,)


@EPS
def test_56_layer_norm_depends_on_a_single_sample(rng, eps):
    """Not only BN, ICS notes: no batch, no running statistics, training like evaluation, also for one row."""
    x, g = tn.tensor(rng.normal(size=(7, 33))), tn.tensor(rng.normal(size=(7, 33)))
    module = nn.LayerNorm(33, eps).to("float64")
    assert not list(module.buffers()) and set(module.state_dict()) == {"weight", "bias"}
    y, by_x = run(lambda t: F.layer_norm(t, 33, eps=eps), x.numpy(), g=g.numpy())
    same(module.train()(x), y)
    same(module.eval()(x), y)
    for i in range(7):
        row = run(lambda t: F.layer_norm(t, 33, eps=eps), x.numpy()[i : i + 1], g=g.numpy()[i : i + 1])
        same(row[0][0], y[i])
        same(row[1][0], by_x[i])


def test_57_one_transform_for_features_of_different_kinds(rng):
    """Not only BN, ICS notes: if the inputs are of different kinds (colour, size), layer norm may lose what matters.
    What it loses is exactly the level and the scale of each sample; batch norm keeps both."""
    x = rng.normal(size=(6, 5))
    scale, level = rng.uniform(0.1, 10.0, size=(2, 6, 1))
    close(F.layer_norm(tn.tensor(scale * x + level), 5, eps=0.0), F.layer_norm(tn.tensor(x), 5, eps=0.0))
    plain = F.batch_norm(tn.tensor(x), training=True, eps=0.0)
    far(F.batch_norm(tn.tensor(scale * x + level), training=True, eps=0.0), plain, 0.1)


# --- weight norm ----------------------------------------------------------------------------------


def frobenius(w, axes):
    return np.sqrt((w**2).sum(axis=axes, keepdims=True))


@pytest.mark.parametrize("dim, axes, shape", [(0, (1, 2), (4, 1, 1)), (1, (0, 2), (1, 3, 1)), (None, (0, 1, 2), ())])
def test_60_direction_and_length(rng, dim, axes, shape):
    """Not only BN: w = g v / ||v||, so ||w|| = |g| "is fixed": to g, which is learned. The gradients of the paper:
    dg = dw . v / ||v||, dv = g / ||v|| (dw - v (v . dw) / ||v||^2), and v . dv = 0."""
    v, g, dw = rng.normal(size=(4, 3, 2)), rng.normal(size=shape), rng.normal(size=(4, 3, 2))
    w, by_v, by_g = run(lambda a, b: F.weight_norm(a, b, dim), v, g, g=dw)
    n = frobenius(v, axes)
    close(w, g * v / n)
    close(frobenius(w, axes), np.abs(g) * np.ones_like(n))
    close(by_g, ((dw * v).sum(axis=axes, keepdims=True) / n).reshape(shape))
    close(by_v, g / n * (dw - v * (v * dw).sum(axis=axes, keepdims=True) / n**2))
    assert np.abs((v * by_v).sum(axis=axes)).max() < 1e-14


def test_60_a_zero_vector_has_no_direction(rng):
    v, g, dw = np.array([[0.0, 0.0], [3.0, 4.0]]), rng.normal(size=(2, 1)), rng.normal(size=(2, 2))
    w, by_v, by_g = run(F.weight_norm, v, g, g=dw)
    assert not w[0].any() and not by_v[0].any() and not by_g[0].any()
    close(w[1], g[1] * [0.6, 0.8])


def test_60_the_direction_only_grows(rng):
    """v . dv = 0, so gradient descent makes v longer at every step, however the length g moves."""
    v, g = nn.Parameter(tn.tensor(rng.normal(size=(3, 4)))), nn.Parameter(tn.tensor(rng.normal(size=(3, 1))))
    target, optimizer, lengths = tn.tensor(rng.normal(size=(3, 4))), optim.SGD([v, g], lr=0.3), []
    for _ in range(10):
        lengths.append(frobenius(v.numpy(), 1))
        optimizer.zero_grad()
        ((F.weight_norm(v, g) - target) ** 2).sum().backward()
        optimizer.step()
    assert np.all(np.diff(lengths, axis=0) > 0)


def test_61_scaling_the_weights_or_the_data(rng):
    """Not only BN: f_w(WN(x)) = g v / ||v|| . x = f_v(g x / ||v||): in three orders of evaluation, with gradients."""
    x, v, g, dy = rng.normal(size=(5, 4)), rng.normal(size=(3, 4)), rng.normal(size=(3, 1)), rng.normal(size=(5, 3))

    def scaled_data(x, v, g):  # one copy of the data for each neuron
        copies = x.reshape(5, 1, 4) * (g / (v * v).sum(1, keepdims=True).sqrt())
        return (copies * v).sum(-1)

    expected = run(lambda x, v, g: F.linear(x, F.weight_norm(v, g)), x, v, g, g=dy)
    by_unit = run(lambda x, v, g: F.linear(x, F.normalize(v, eps=0.0)) * g.reshape(3), x, v, g, g=dy)
    for other in (run(scaled_data, x, v, g, g=dy), by_unit):
        for a, b in zip(other, expected):
            close(a, b)


def test_62_weight_norm_uses_no_statistics_of_the_data(rng):
    """Not only BN, ICS notes: independent of the batch. The weight is the same whatever x; a row depends on itself."""
    module = nn.WeightNorm(nn.Linear(4, 3)).to("float64")
    assert not list(module.buffers()) and set(module.state_dict()) == {"weight_g", "weight_v", "layer.bias"}
    x = rng.normal(size=(7, 4))
    y = module(tn.tensor(x)).numpy()
    for i in range(7):
        close(module(tn.tensor(x[i : i + 1])).numpy()[0], y[i], 1e-15)


def test_63_weight_norm_with_the_mean_of_batch_norm(rng):
    """Not only BN: weight norm only scales, and leaves room for the mean of batch norm: y = t - mean(t) + b, backward
    dt = dy - mean(dy). Together: invariant to scaled weights and to shifted data, not to scaled data."""
    x, v, b, g = rng.normal(1.0, 2.0, size=(6, 4)), rng.normal(size=(3, 4)), rng.normal(size=3), rng.normal(size=(6, 3))
    t = rng.normal(size=(6, 3))
    y, by_t, by_b = run(lambda t, b: F.mean_only_batch_norm(t, bias=b, training=True), t, b, g=g)
    close(y, t - t.mean(axis=0) + b)
    close(by_t, g - g.mean(axis=0))
    close(by_b, g.sum(axis=0))

    def both(x, v):
        return F.mean_only_batch_norm(
            F.linear(tn.tensor(x), F.weight_norm(tn.tensor(v), tn.ones(3, 1, dtype="float64"))), training=True
        ).numpy()

    close(both(x, 3 * v), both(x, v))
    close(both(x + rng.normal(size=4), v), both(x, v))
    close(both(3 * x, v), 3 * both(x, v))


# --- cosine ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_64_cosines_are_in_minus_1_to_1(rng, dtype):
    """Not only BN, ICS notes: cos = w . x / (||w|| ||x||), in [-1, 1]: never out of it by rounding, at any size."""
    x = rng.normal(size=(300, 7)) * 10.0 ** rng.integers(-3, 4, size=(300, 1))
    w = tn.tensor(np.concatenate([x, -x, 3 * x]).astype(dtype))
    y = F.cosine_linear(tn.tensor(x.astype(dtype)), w).numpy()
    assert np.abs(y).max() <= 1
    unit = 4 * np.finfo(dtype).eps
    i = np.arange(300)
    for k, expected in enumerate((1, -1, 1)):
        assert np.abs(y[i, 300 * k + i] - expected).max() <= unit
    x64 = w.numpy()[:300].astype("float64")
    truth = (x64 / frobenius(x64, 1)) @ (x64 / frobenius(x64, 1)).T
    assert np.abs(y[:, :300] - truth).max() <= 8 * np.finfo(dtype).eps


def test_64_gradients(rng):
    """dw = x / (||w|| ||x||) - cos w / ||w||^2, dx likewise; the centred cosine is Pearson's correlation."""
    x, w, g = rng.normal(size=(5, 4)), rng.normal(size=(3, 4)), rng.normal(size=(5, 3))
    y, by_x, by_w = run(F.cosine_linear, x, w, g=g)
    nx, nw = frobenius(x, 1), frobenius(w, 1)
    close(y, (x / nx) @ (w / nw).T)
    close(by_x, g @ (w / nw) / nx - (g * y).sum(axis=1, keepdims=True) * x / nx**2)
    close(by_w, g.T @ (x / nx) / nw - (g * y).sum(axis=0)[:, None] * w / nw**2)
    pearson = F.cosine_linear(tn.tensor(x), tn.tensor(w), centered=True)
    close(pearson, np.corrcoef(x, w)[:5, 5:])


def test_65_cosine_is_weight_norm_divided_by_the_length_of_the_data(rng):
    """Not only BN: CN(x; w) = WN(x; v = w, g = 1) / ||x||."""
    x, w = rng.normal(size=(5, 4)), rng.normal(size=(3, 4))
    wn = F.linear(tn.tensor(x), F.weight_norm(tn.tensor(w), tn.ones(3, 1, dtype="float64"))).numpy()
    close(F.cosine_linear(tn.tensor(x), tn.tensor(w)), wn / frobenius(x, 1))


def test_66_the_dot_product_has_no_bound(rng):
    """Not only BN, ICS notes: dot products vary without bound, cosines do not. For normal data the variance of w . x is
    ||w||^2, which grows with the number of inputs; that of the cosine is 1 / inputs."""
    for inputs in (4, 64, 256):
        x, w = rng.normal(size=(4000, inputs)), rng.normal(size=(20, inputs))
        dot, cos = F.linear(tn.tensor(x), tn.tensor(w)), F.cosine_linear(tn.tensor(x), tn.tensor(w))
        assert abs(dot.numpy().var() / inputs - 1) < 0.35
        assert abs(cos.numpy().var() * inputs - 1) < 0.05
        close(F.linear(tn.tensor(1e3 * x), tn.tensor(w)), 1e3 * dot.numpy())
        close(F.cosine_linear(tn.tensor(1e3 * x), tn.tensor(w)), cos)


def test_67_cosine_loses_the_scale_of_the_data(rng):
    """Not only BN, ICS notes: without scale the layer may express less. A label that depends on ||x|| only is beyond
    any function of cosines: x and 2 x give the same, so half of such pairs come out wrong. A plain layer sees it."""
    x, w = rng.normal(size=(200, 6)), tn.tensor(rng.normal(size=(8, 6)))
    x /= frobenius(x, 1)
    pairs, labels = tn.tensor(np.concatenate([x, 2 * x])), np.repeat([0, 1], 200)
    features = F.cosine_linear(pairs, w).numpy()
    same(features[:200], features[200:])
    output = F.sigmoid(F.linear(F.tanh(tn.tensor(features)), tn.tensor(rng.normal(size=(1, 8))))).numpy()[:, 0]
    assert ((output > np.median(output)) == labels).mean() == 0.5
    plain = np.sqrt((F.linear(pairs, tn.eye(6, dtype="float64")).numpy() ** 2).sum(axis=1))
    assert ((plain > 1.5) == labels).all()


def test_67_cosines_as_logits_are_never_sure(rng):
    """What follows: with K classes and cosines as logits the probability is at most e / (e + (K - 1) / e), 0.451 for
    K = 10. If all ten classes count alike, the mean loss stays above log(1 + 9 exp(-10/9)) = 1.377 (NormFace), which
    descent on directions reaches. So the last layer needs a scale."""
    best = np.where(np.eye(10) > 0, 1.0, -1.0)
    p = F.softmax(tn.tensor(best), -1).numpy().max()
    close(p, np.e / (np.e + 9 / np.e))
    assert abs(p - 0.451) < 5e-4 and abs(-np.log(p) - 0.797) < 5e-4
    bound = np.log(1 + 9 * np.exp(-10 / 9))
    assert abs(bound - 1.377) < 5e-4
    x, w = (nn.Parameter(tn.tensor(rng.normal(size=(10, 12)))) for _ in range(2))
    optimizer, labels = optim.Adam([x, w], lr=0.1), tn.arange(10)
    for _ in range(300):
        optimizer.zero_grad()
        loss = F.cross_entropy(F.cosine_linear(x, w), labels)
        assert loss.item() > bound - 1e-12
        loss.backward()
        optimizer.step()
    assert loss.item() < bound + 1e-3
    scaled = F.cross_entropy(F.cosine_linear(x, w) * 10.0, labels)
    assert scaled.item() < 0.01
