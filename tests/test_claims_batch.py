"""Statements 20 to 26, 29 to 33, 37 and 38: batch norm step by step, its statistics, and arithmetic of activations.

See test_claims.py for the documents and the rules.
"""

from itertools import combinations, product

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from statements import batch_statistics, close, far, run, same
from tinygrad_norm import nn, optim


@pytest.fixture(params=[0, 1, 2], ids="seed{}".format)
def rng(request):
    return np.random.default_rng(request.param)


EPS = pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])


def bn(x, gain=None, bias=None, eps=0.0):
    return F.batch_norm(x, None, None, gain, bias, True, eps=eps)


@EPS
@pytest.mark.parametrize("shape, axes", [((8, 3), 0), ((4, 3, 5), (0, 2)), ((4, 3, 2, 5), (0, 2, 3))])
def test_20_formula(rng, shape, axes, eps):
    """Not only BN, Normalization: each neuron by its mean and biased variance over the batch, eps inside the root."""
    x = rng.normal(3.0, 2.0, size=shape)
    mean = x.sum(axis=axes, keepdims=True) / (x.size / 3)
    var = ((x - mean) ** 2).sum(axis=axes, keepdims=True) / (x.size / 3)
    close(bn(tn.tensor(x), eps=eps), (x - mean) / np.sqrt(var + eps))
    if eps == 0.1:
        far(bn(tn.tensor(x), eps=eps), (x - mean) / (np.sqrt(var) + eps))


EXAMPLE = [1.0, 1.5, 1.2, 0.9, 1.7, 2.1, 3.1, 1.7]
PRINTED = [-0.98, -0.23, -0.68, -1.13, 0.08, 0.68, 2.19, 0.08]


def test_21_worked_example():
    """Not only BN: eight values of the first neuron, mu = 1.65, sigma^2 = 0.44, eps = 1e-8, all to two decimals.

    The figure with the values is not in the text; to one decimal they are the only ones that give the printed result,
    and they give the printed mean and variance exactly.
    """
    z = np.array(EXAMPLE).reshape(8, 1)
    mean, var = batch_statistics(z)
    close(mean, [1.65])
    close(var, [0.44])
    y = bn(tn.tensor(z), eps=1e-8).numpy()[:, 0]
    assert [round(v, 2) for v in y.tolist()] == PRINTED
    decimals = {round(v, 1) for p in PRINTED for v in (1.65 + np.sqrt(0.44) * (p + d) for d in (-0.005, 0.005))}
    assert decimals == set(EXAMPLE)


def test_21_the_unbiased_variance_gives_other_values():
    z = np.array(EXAMPLE)
    unbiased = (z - z.mean()) / np.sqrt(z.var(ddof=1) + 1e-8)
    assert abs(z.var(ddof=1) - 0.502857) < 1e-6
    rounded = [round(v, 2) for v in unbiased.tolist()]
    assert rounded == [-0.92, -0.21, -0.63, -1.06, 0.07, 0.63, 2.04, 0.07]
    assert all(a != b for a, b in zip(rounded, PRINTED))


@EPS
def test_22_between_linear_and_activation(rng, eps):
    """Not only BN: A = g(gamma (Z - mu) / sqrt(sigma^2 + eps) + beta). Normalization says so too ("after the linear
    change, before the activation") and writes z = sigma(a), which is after the activation: another function."""
    model = nn.MLP([5, 4, 2], norm="batch", activation="sigmoid").to("float64")
    model.norm1.eps = eps
    with tn.no_grad():
        for p in model.parameters():
            p[...] = rng.normal(size=p.shape)
    u = rng.normal(size=(10, 5))
    z = u @ model.linear1.weight.numpy().T
    gamma, beta = model.norm1.weight.numpy(), model.norm1.bias.numpy()
    a = 1 / (1 + np.exp(-(gamma * (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + eps) + beta)))
    out = model.linear2.weight.numpy(), model.linear2.bias.numpy()
    close(model(tn.tensor(u)), a @ out[0].T + out[1])
    s = 1 / (1 + np.exp(-z))
    after = gamma * (s - s.mean(axis=0)) / np.sqrt(s.var(axis=0) + eps) + beta
    far(model(tn.tensor(u)), after @ out[0].T + out[1], 0.1)


@EPS
def test_23_gain_and_bias_can_undo_the_normalization(rng, eps):
    """Not only BN: gamma^2 = sigma^2, beta = mu give the identity. Right is gamma = +sqrt(sigma^2 + eps): -sigma also
    has the square sigma^2 and reflects at mu, and sigma without eps shrinks."""
    x = rng.normal(3.0, 2.0, size=(10, 4))
    mu, var = x.mean(axis=0), x.var(axis=0)

    def with_gain(gain):
        return bn(tn.tensor(x), tn.tensor(gain), tn.tensor(mu), eps).numpy()

    close(with_gain(np.sqrt(var + eps)), x, 1e-15)
    close(with_gain(-np.sqrt(var + eps)), 2 * mu - x, 1e-15)
    close(with_gain(np.sqrt(var)), mu + (x - mu) * np.sqrt(var / (var + eps)))
    assert eps != 0.1 or np.abs(with_gain(np.sqrt(var)) - x).max() > 0.01


@EPS
def test_24_the_bias_before_batch_norm_cancels(rng, eps):
    """Not only BN, Normalization: BN(Wu + b) = BN(Wu). The gradient by b is 0 too."""
    u, w, b, g = (rng.normal(size=s) for s in ((10, 5), (4, 5), 4, (10, 4)))
    y, _, _, by_b = run(lambda *v: bn(F.linear(*v), eps=eps), u, w, b, g=g)
    plain, *_ = run(lambda *v: bn(F.linear(*v), eps=eps), u, w, g=g)
    close(y, plain)
    assert np.abs(by_b).max() < 1e-14
    _, _, _, without = run(F.linear, u, w, b, g=g)
    assert np.abs(without).min() > 0.01


def test_24_training_never_moves_it_and_decay_shrinks_it(rng):
    x, target = tn.tensor(rng.normal(size=(10, 5))), tn.tensor(rng.normal(size=(10, 4)))
    for decay in (0.0, 0.1):
        linear = nn.Linear(5, 4).to("float64")
        start = linear.bias.numpy().copy()
        optimizer = optim.SGD(linear.parameters(), lr=0.5, weight_decay=decay)
        for _ in range(20):
            optimizer.zero_grad()
            ((bn(linear(x)) - target) ** 2).sum().backward()
            optimizer.step()
        close(linear.bias, start * (1 - 0.5 * decay) ** 20)


@EPS
def test_24_not_in_evaluation(rng, eps):
    """With frozen statistics the bias moves the output by gain * bias / sqrt(running_var + eps)."""
    z, b, gain, mean = (rng.normal(size=s) for s in ((10, 4), 4, 4, 4))
    var = rng.uniform(0.5, 2.0, size=4)
    frozen = [tn.tensor(v) for v in (mean, var, gain)]
    moved = F.batch_norm(tn.tensor(z + b), *frozen, eps=eps) - F.batch_norm(tn.tensor(z), *frozen, eps=eps)
    close(moved, np.broadcast_to(gain * b / np.sqrt(var + eps), (10, 4)))


@EPS
def test_25_vertical_and_horizontal(rng, eps):
    """Not only BN, Normalization: batch norm normalizes a neuron over samples, layer norm a sample over neurons."""
    x = rng.normal(size=(6, 4))
    close(F.layer_norm(tn.tensor(x), 4, eps=eps), bn(tn.tensor(x.T.copy()), eps=eps).numpy().T)
    other = x.copy()
    other[:, 1:] = rng.normal(size=(6, 3))
    same(bn(tn.tensor(other), eps=eps).numpy()[:, 0], bn(tn.tensor(x), eps=eps).numpy()[:, 0])
    far(F.layer_norm(tn.tensor(other), 4, eps=eps).numpy()[:, 0], F.layer_norm(tn.tensor(x), 4, eps=eps).numpy()[:, 0])
    other = x.copy()
    other[1:] = rng.normal(size=(5, 4))
    same(F.layer_norm(tn.tensor(other), 4, eps=eps).numpy()[0], F.layer_norm(tn.tensor(x), 4, eps=eps).numpy()[0])
    far(bn(tn.tensor(other), eps=eps).numpy()[0], bn(tn.tensor(x), eps=eps).numpy()[0])


def all_batches(population, m, replace=True):
    """Every batch of m of the population, one per column, so that batch norm measures them all at once."""
    draws = product(population, repeat=m) if replace else combinations(population, m)
    return np.array(list(draws)).T


def test_26_batch_statistics_approximate_those_of_all_data(rng):
    """Not only BN: the mean of a batch of m scatters by sigma / sqrt(m) around the mean of all. Exact, by counting."""
    population = rng.normal(3.0, 2.0, size=6)
    for m in (1, 2, 3, 4, 5):
        mean, _ = batch_statistics(all_batches(population, m))
        close(mean.mean(), population.mean())
        close(mean.std(), population.std() / np.sqrt(m))


@pytest.mark.parametrize("m", [2, 3, 4])
def test_29_statistics_for_the_test_are_unbiased(rng, m):
    """Not only BN: mu_test = E[mu_batch], sigma^2_test = m / (m - 1) E[sigma^2_batch]. Over all batches drawn with
    replacement that is the variance of the population, without replacement the one that divides by n - 1.

    "The estimates are certainly biased" is wrong about the mean, and right about the variance of the batch.
    """
    population = rng.normal(3.0, 2.0, size=6)
    for replace, ddof in ((True, 0), (False, 1)):
        mean, var = batch_statistics(all_batches(population, m, replace))
        close(mean.mean(), population.mean())
        close(m / (m - 1) * var.mean(), population.var(ddof=ddof))
        far(var.mean(), population.var(ddof=ddof), 0.1)


def test_29_over_one_epoch(rng):
    """Disjoint batches: E[sigma^2_B] + Var(mu_B) is the variance of the epoch, m / (m - 1) E[sigma^2_B] an estimate.
    A cumulative average of what batch norm tells its running buffers is the document's formula."""
    epoch = rng.normal(3.0, 2.0, size=(5, 8, 1))
    mean, var = np.array([batch_statistics(b) for b in epoch]).transpose(1, 0, 2)
    close(var.mean(axis=0) + mean.var(axis=0), epoch.reshape(40, 1).var(axis=0))
    far(8 / 7 * var.mean(axis=0), epoch.reshape(40, 1).var(axis=0), 0.001)
    running = tn.zeros(1, dtype="float64"), tn.ones(1, dtype="float64")
    for t, b in enumerate(epoch):
        F.batch_norm(tn.tensor(b), *running, training=True, momentum=1 / (t + 1))
    close(running[0], mean.mean(axis=0))
    close(running[1], 8 / 7 * var.mean(axis=0))


@EPS
def test_30_a_fixed_affine_map_in_evaluation(rng, eps):
    """Not only BN: gamma (X - mu_test) / sqrt(sigma^2_test + eps) + beta: one row gives the same bits as in a batch,
    and the map folds into the linear layer before it."""
    x, mean, gain, bias = (rng.normal(size=s) for s in ((10, 4), 4, 4, 4))
    var = rng.uniform(0.5, 2.0, size=4)
    frozen = [tn.tensor(v) for v in (mean, var, gain, bias)]
    y = F.batch_norm(tn.tensor(x), *frozen, eps=eps).numpy()
    close(y, gain * (x - mean) / np.sqrt(var + eps) + bias)
    for i in range(10):
        same(F.batch_norm(tn.tensor(x[i : i + 1]), *frozen, eps=eps).numpy()[0], y[i])
    u, w, b = rng.normal(size=(10, 5)), rng.normal(size=(4, 5)), rng.normal(size=4)
    factor = gain / np.sqrt(var + eps)
    folded = F.linear(tn.tensor(u), tn.tensor(w * factor[:, None]), tn.tensor((b - mean) * factor + bias))
    close(F.batch_norm(F.linear(*map(tn.tensor, (u, w, b))), *frozen, eps=eps), folded)


@pytest.mark.parametrize("unbiased", [True, False])
def test_31_exponentially_weighted_statistics(rng, unbiased):
    """Not only BN (after Andrew Ng): r_T = d^T r_0 + (1 - d) sum d^(T-t) s_t, with d = 1 - momentum here."""
    d, steps = 0.9, 12
    batches = rng.normal(3.0, 2.0, size=(steps, 5, 2))
    running = tn.zeros(2, dtype="float64"), tn.ones(2, dtype="float64")
    for b in batches:
        F.batch_norm(tn.tensor(b), *running, training=True, momentum=1 - d, unbiased=unbiased)
    share = (1 - d) * d ** np.arange(steps - 1, -1, -1)
    close(running[0], share @ batches.mean(axis=1))
    close(running[1], d**steps + share @ batches.var(axis=1, ddof=int(unbiased)))
    close(running[0].numpy() / (1 - d**steps), share / share.sum() @ batches.mean(axis=1))  # without the start at 0


def test_32_mean_and_variance_follow_the_weights(rng):
    """Not only BN: mu_2 = a mu_1, sigma_2^2 = a^2 sigma_1^2, BN(aWu) = BN(Wu) without eps."""
    u, w = rng.normal(1.0, 2.0, size=(10, 5)), rng.normal(size=(4, 5))
    mean, var = batch_statistics(u @ w.T)
    for a in (3.0, 1e-3, 1e4):
        again = batch_statistics(u @ (a * w).T)
        close(again[0], a * mean)
        close(again[1], a * a * var)
        close(bn(F.linear(tn.tensor(u), tn.tensor(a * w))), bn(F.linear(tn.tensor(u), tn.tensor(w))))


def one_neuron(u, w, gain):
    return bn(F.linear(u, w), gain)


def test_33_jacobians(rng):
    """Not only BN: d BN((aW)u) / du = d BN(Wu) / du, d BN((aW)u) / d(aW) = 1/a d BN(Wu) / dW. Both are true."""
    u, w, gain, g = (rng.normal(size=s) for s in ((6, 3), (1, 3), 1, (6, 1)))
    _, by_u, by_w, _ = run(one_neuron, u, w, gain, g=g)
    for a in (3.0, 0.01):
        _, again_u, again_w, _ = run(one_neuron, u, a * w, gain, g=g)
        close(again_u, by_u)
        close(again_w, by_w / a)


@EPS
def test_33_the_steps_between_hold_for_frozen_statistics_only(rng, eps):
    """The document's steps, gamma W / sigma and gamma u / sigma, leave out that mu and sigma move with u and W. They
    are the derivatives in evaluation mode, where scaling the weights does change the output."""
    u, w, gain, g = (rng.normal(size=s) for s in ((6, 3), (1, 3), 1, (6, 1)))
    mean, var = batch_statistics(u @ w.T)
    sigma = np.sqrt(var + eps)
    literal_u, literal_w = g * gain * w / sigma, (g * gain * u / sigma).sum(axis=0, keepdims=True)

    def frozen(u, w):
        return F.batch_norm(F.linear(u, w), *map(tn.tensor, (mean, var, gain)), eps=eps)

    y, by_u, by_w = run(frozen, u, w, g=g)
    close(by_u, literal_u)
    close(by_w, literal_w)
    far(frozen(tn.tensor(u), tn.tensor(2 * w)), y, 0.1)
    _, by_u, by_w, _ = run(lambda *v: bn(F.linear(*v[:2]), v[2], eps=eps), u, w, gain, g=g)
    far(literal_u, by_u, 0.1)
    far(literal_w, by_w, 0.1)


@EPS
def test_33_the_whole_jacobian(rng, eps):
    """dy/dx = (I - 11'/m - x_hat x_hat'/m) / sqrt(var + eps): m - 2 singular values 1/sigma, one 0 (the mean), and one
    that only eps keeps from 0 (the scale)."""
    m = 7
    x = rng.normal(3.0, 2.0, size=(m, 1))
    jacobian = tn.jacobian(lambda t: bn(t, eps=eps), tn.tensor(x)).numpy().reshape(m, m)
    sigma = np.sqrt(x.var() + eps)
    x_hat = (x - x.mean()) / sigma
    expected = (np.eye(m) - 1 / m - x_hat @ x_hat.T / m) / sigma
    np.testing.assert_allclose(jacobian, expected, atol=1e-14)
    values = np.linalg.svd(jacobian)[1]
    np.testing.assert_allclose(values[: m - 2], 1 / sigma, rtol=1e-12)
    np.testing.assert_allclose(values[m - 2 :], [eps / (x.var() + eps) / sigma, 0], atol=1e-14)


def test_37_sigmoid(rng):
    """BN notes: f' = f (1 - f), exact. "Its gradient is nearly linear on [-2, 2]" is imprecise: there sigmoid is up to
    0.119 from its tangent (0.019 on [-1, 1]), 0.041 from the best line, and its slope falls from 0.25 to 0.105."""
    x, g = rng.normal(scale=3.0, size=(2, 50))
    y, by_x = run(F.sigmoid, x, g=g)
    close(by_x, g * y * (1 - y))
    grid = np.linspace(-2, 2, 40_001)
    f = F.sigmoid(tn.tensor(grid)).numpy()
    gap = np.abs(f - (0.5 + grid / 4))
    line = np.polynomial.Polynomial.fit(grid, f, 1)(grid)
    found = gap.max(), gap[np.abs(grid) <= 1].max(), np.abs(f - line).max(), f[-1] * (1 - f[-1])
    np.testing.assert_allclose(found, [0.1192, 0.0189, 0.0410, 0.1050], atol=5e-5)


def test_37_mass_of_the_normal_distribution():
    """BN notes: more of N(0, 1) is in [-1, 1], and over 90 % in [-2, 2]. Exactly 68.27 % and 95.45 %."""
    mass = tn.erf(tn.tensor([1.0, 2.0], dtype="float64") / 2**0.5).numpy()
    np.testing.assert_allclose(mass, [0.682689492137, 0.954499736104], rtol=1e-12)


def test_38_a_deep_linear_net_is_one_layer(rng):
    """BN notes: linear layers on one another are one linear layer. Values and gradients by the input."""
    x, g = rng.normal(size=(10, 5)), rng.normal(size=(10, 2))
    weights = [rng.normal(size=s) for s in ((6, 5), (7, 6), (3, 7), (2, 3))]

    def deep(t):
        for w in weights:
            t = F.linear(t, tn.tensor(w))
        return t

    one = np.linalg.multi_dot(weights[::-1])
    for a, b in zip(run(deep, x, g=g), run(lambda t: F.linear(t, tn.tensor(one)), x, g=g)):
        close(a, b)
