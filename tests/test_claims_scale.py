"""Statements 43 to 53: what scaling the weights or the data does to values, gradients and training.

See test_claims.py for the documents and the rules. Powers of two scale a float exactly, so at eps = 0 the laws hold to
the bit for them; for other factors to rounding. The normalized output is meant before gain and bias.
"""

from functools import partial
from math import log

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from statements import NORMS, close, far, run, same
from tinygrad_norm import nn, optim, testing


@pytest.fixture(params=[0, 1, 2], ids="seed{}".format)
def rng(request):
    return np.random.default_rng(request.param)


NORM = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
STATISTICS = pytest.mark.parametrize("norm", [NORMS["batch"], NORMS["layer"]], ids=["batch", "layer"])
EPS = pytest.mark.parametrize("eps", [1e-5, 1e-3, 0.1])
FACTORS = [3.0, 1 / 3, 10.0, 1e-3, 1e5]
POWERS = [2.0, 0.125, 2.0**20, 2.0**-30]


def problem(rng, dtype="float64", n=8, d=5, h=4):
    """Data, weights and a cotangent for the outputs."""
    return [a.astype(dtype) for a in (rng.normal(1.0, 2.0, (n, d)), rng.normal(size=(h, d)), rng.normal(size=(n, h)))]


@NORM
def test_43_weight_scale_invariance(rng, norm):
    """Not only BN, ICS notes: Norm(lambda W x) = Norm(W x), in all four. For lambda > 0."""
    x, w, g = problem(rng)
    y, *_ = run(norm, x, w, g=g)
    for c in FACTORS:
        close(norm(tn.tensor(x), tn.tensor(c * w)), y)


@NORM
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_43_44_45_to_the_bit_for_powers_of_two(rng, norm, dtype):
    x, w, g = problem(rng, dtype)
    y, by_x, by_w = run(norm, x, w, g=g)
    for c in POWERS:
        scaled, again_x, again_w = run(norm, x, np.dtype(dtype).type(c) * w, g=g)
        same(scaled, y)
        same(again_x, by_x)
        same(again_w * np.dtype(dtype).type(c), by_w)


@NORM
def test_43_44_45_weights_of_any_size(rng, norm):
    """No square overflows or vanishes inside a norm: the laws hold to the bit over the whole range."""
    x, w, g = problem(rng)
    y, by_x, by_w = run(norm, x, w, g=g)
    for c in (2.0**-600, 2.0**600):
        scaled, again_x, again_w = run(norm, x, c * w, g=g)
        same(scaled, y)
        same(again_x, by_x)
        same(again_w * c, by_w)


@NORM
def test_43_a_negative_factor_turns_the_sign(rng, norm):
    """The documents say "any constant": with lambda < 0 it is sign(lambda) g x_hat + b. lambda = 0 leaves nothing."""
    x, w, g = problem(rng)
    y, *_ = run(norm, x, w, g=g)
    for c in (-1.0, -3.0, -1e-3):
        close(norm(tn.tensor(x), tn.tensor(c * w)), -y)
    same(norm(tn.tensor(x), tn.tensor(0 * w)), np.zeros_like(y))


@STATISTICS
@EPS
def test_43_with_eps(rng, norm, eps):
    """With eps the output is off by sqrt((var + eps) / (var + eps / lambda^2)): exactly invariant is the pair
    (lambda W, lambda^2 eps). For small deviations that is eps / (2 var) (1 - 1 / lambda^2)."""
    x, w, g = problem(rng)
    var = (x @ w.T).var(axis=0 if norm is NORMS["batch"] else 1, keepdims=True)
    y, by_x, by_w = run(lambda *v: norm(*v, eps), x, w, g=g)
    for c in FACTORS:
        scaled = norm(tn.tensor(x), tn.tensor(c * w), eps).numpy()
        close(scaled, y * np.sqrt((var + eps) / (var + eps / c**2)), 1e-11)
        close(norm(tn.tensor(x), tn.tensor(c * w), c * c * eps), y)
    first = eps / (2 * var) * (1 - 1 / 100)
    deviation = norm(tn.tensor(x), tn.tensor(10 * w), eps).numpy() / y - 1
    np.testing.assert_allclose(deviation, np.broadcast_to(first, y.shape), rtol=2 * first.max(), atol=1e-13)
    far(norm(tn.tensor(x), tn.tensor(1e-3 * w), eps), y, 0.1)
    for c in POWERS:
        scaled, again_x, again_w = run(partial(norm, eps=c * c * eps), x, c * w, g=g)
        same(scaled, y)
        same(again_x, by_x)
        same(again_w * c, by_w)


def test_43_weight_norm_has_another_reason(rng):
    """Not only BN: "mean and deviation scale with W". Weight norm has neither: ||lambda v|| = |lambda| ||v||, and g is
    kept. Scaling the weight it makes, g v / ||v||, does scale the output."""
    x, v, _ = problem(rng)
    x, v, g = tn.tensor(x), tn.tensor(v), tn.tensor(rng.normal(size=(4, 1)))
    y = F.linear(x, F.weight_norm(v, g)).numpy()
    close(F.linear(x, F.weight_norm(v * 3.0, g)), y)
    close(F.linear(x, F.weight_norm(v, g) * 3.0), 3 * y)
    close(F.linear(x, F.weight_norm(v, g * 3.0)), 3 * y)


@NORM
def test_43_scaling_one_row_of_the_weights(rng, norm):
    """Layer norm is invariant for the whole matrix only: its neurons share one deviation."""
    x, w, g = problem(rng)
    y, *_ = run(norm, x, w, g=g)
    w[1] *= 3.0
    scaled = norm(tn.tensor(x), tn.tensor(w))
    (far if norm is NORMS["layer"] else close)(scaled, y)


@EPS
def test_43_not_in_evaluation_and_not_before_the_weights(rng, eps):
    """Frozen statistics do not follow the weights; neither does a norm of the layer's input."""
    x, w, _ = problem(rng)
    z, frozen = tn.tensor(x @ w.T), [tn.zeros(4, dtype="float64"), tn.ones(4, dtype="float64")]
    close(F.batch_norm(z * 3.0, *frozen, eps=eps), 3 * F.batch_norm(z, *frozen, eps=eps).numpy())
    before = F.layer_norm(tn.tensor(x), 5, eps=eps)
    close(F.linear(before, tn.tensor(3 * w)), 3 * F.linear(before, tn.tensor(w)).numpy())


@NORM
def test_44_the_gradient_by_the_input(rng, norm):
    """Not only BN: d Norm(W'x)/dx = d Norm(Wx)/dx: a random cotangent, and the whole Jacobian. A negative factor turns
    its sign with the output's."""
    x, w, g = problem(rng, n=4, d=3, h=3)
    _, by_x, _ = run(norm, x, w, g=g)
    jacobian = tn.jacobian(lambda t: norm(t, tn.tensor(w)), tn.tensor(x))
    for c in (*FACTORS, -3.0):
        _, again, _ = run(norm, x, c * w, g=g)
        close(again, np.sign(c) * by_x)
        close(tn.jacobian(lambda t, c=c: norm(t, tn.tensor(c * w)), tn.tensor(x)), np.sign(c) * jacobian.numpy())


@NORM
def test_45_the_gradient_by_the_weights(rng, norm):
    """Not only BN, ICS notes: d Norm(W'x)/dW' = 1/lambda d Norm(Wx)/dW. It is 1/|lambda|; and by differences too."""
    x, w, g = problem(rng)
    _, _, by_w = run(norm, x, w, g=g)
    for c in (*FACTORS, -3.0):
        _, _, again = run(norm, x, c * w, g=g)
        close(again, by_w / abs(c))
    testing.gradcheck(lambda v: norm(tn.tensor(x), v), [tn.tensor(3.0 * w, requires_grad=True)])


@NORM
def test_45_the_hessian_by_the_weights(rng, norm):
    """What follows: second derivatives scale by 1/lambda^2."""
    x, w, g = problem(rng, n=5, d=2, h=3)

    def hessian(v):
        return tn.hessian(lambda t: (norm(tn.tensor(x), t) ** 3 * tn.tensor(g)).sum(), tn.tensor(v)).numpy()

    for c in (3.0, 0.1):
        close(hessian(c * w), hessian(w) / c**2, 1e-11)


@NORM
def test_46_weights_and_their_gradient_are_orthogonal(rng, norm):
    """What follows from 43 (Euler's theorem): w . dL/dw = 0, for each row, in layer norm for the whole matrix."""
    x, w, g = problem(rng)
    _, _, by_w = run(norm, x, w, g=g)
    size = np.linalg.norm(w) * np.linalg.norm(by_w)
    rows = (w * by_w).sum(axis=1)
    assert abs(rows.sum()) < 1e-14 * size
    assert (np.abs(rows).max() > 0.001 * size) if norm is NORMS["layer"] else (np.abs(rows).max() < 1e-14 * size)


@STATISTICS
@EPS
def test_46_with_eps(rng, norm, eps):
    """With eps, w . dL/dw = sum of g x_hat eps / (var + eps), over the values that share a variance."""
    x, w, g = problem(rng)
    y, _, by_w = run(lambda *v: norm(*v, eps), x, w, g=g)
    if norm is NORMS["batch"]:
        expected = (g * y).sum(axis=0) * eps / ((x @ w.T).var(axis=0) + eps)
        np.testing.assert_allclose((w * by_w).sum(axis=1), expected, rtol=0, atol=1e-13)
    else:
        expected = ((g * y).sum(axis=1) * eps / ((x @ w.T).var(axis=1) + eps)).sum()
        np.testing.assert_allclose((w * by_w).sum(), expected, rtol=0, atol=1e-13)


@NORM
def test_47_larger_weights_smaller_gradients(rng, norm):
    """Not only BN, ICS notes: ||grad|| against ||w|| is a line of slope -1 in double logarithms."""
    x, w, g = problem(rng)
    factors = np.logspace(-6, 6, 13)
    norms = [np.linalg.norm(run(norm, x, c * w, g=g)[2]) for c in factors]
    slope = np.diff(np.log(norms)) / np.diff(np.log(factors))
    np.testing.assert_allclose(slope, -1, atol=1e-12)


def losses_and_weights(norm, x, w, target, lr, steps):
    """Plain gradient descent on the weights: losses, ||w||^2 before every step and after the last, ||grad||^2."""
    weights = nn.Parameter(tn.tensor(w))
    optimizer = optim.SGD([weights], lr=lr)
    losses, lengths, gradients = [], [], []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((norm(tn.tensor(x), weights) - tn.tensor(target)) ** 2).mean()
        loss.backward()
        losses.append(loss.item())
        lengths.append((weights.numpy() ** 2).sum())
        gradients.append((weights.grad.numpy() ** 2).sum())
        optimizer.step()
    return np.array(losses), np.array([*lengths, (weights.numpy() ** 2).sum()]), np.array(gradients)


@NORM
def test_47_weights_only_grow(rng, norm):
    """Pythagoras: ||w_t+1||^2 = ||w_t||^2 + lr^2 ||grad||^2 under plain gradient descent, so the steps settle."""
    x, w, target = problem(rng)
    _, lengths, gradients = losses_and_weights(norm, x, w, target, lr=2.0, steps=30)
    close(np.diff(lengths), 4.0 * gradients, 1e-11)
    assert np.all(np.diff(lengths) > 0)


@NORM
def test_47_the_effective_learning_rate_is_lr_over_the_square_of_the_length(rng, norm):
    """Weights times c and lr times c^2 give the same function at every step: to the bit for a power of two."""
    x, w, target = problem(rng)
    losses, *_ = losses_and_weights(norm, x, w, target, 0.5, 20)
    same(losses_and_weights(norm, x, 8 * w, target, 32.0, 20)[0], losses)
    close(losses_and_weights(norm, x, 3 * w, target, 4.5, 20)[0], losses, 1e-10)
    far(losses_and_weights(norm, x, 8 * w, target, 0.5, 20)[0], losses)


def chain(x, weights, norm):
    for w in weights:
        x = F.linear(x, w) if norm is None else norm(x, w)
    return x


@NORM
def test_48_no_explosion_or_vanishing_with_the_scale_of_the_weights(rng, norm):
    """Not only BN: with L linear layers and every W times lambda, the gradient by the input is times lambda^L; with a
    norm in each layer it is the same. Powers of two, to the bit."""
    x, _, g = problem(rng, h=5)
    weights = list(rng.normal(size=(6, 5, 5)))
    plain = run(lambda t, *w: chain(t, w, None), x, *weights, g=g)[1]
    normal = run(lambda t, *w: chain(t, w, norm), x, *weights, g=g)[1]
    for c in (4.0, 0.25):
        scaled = [c * w for w in weights]
        same(run(lambda t, *w: chain(t, w, None), x, *scaled, g=g)[1], plain * c**6)
        same(run(lambda t, *w: chain(t, w, norm), x, *scaled, g=g)[1], normal)


@NORM
def test_49_data_scale_invariance(rng, norm):
    """Not only BN, ICS notes: Norm(W lambda x) = Norm(W x) for batch, layer and cosine norm. In weight norm the output
    is times lambda. (The prose of the layer norm paper says that all are invariant, its Table 1 says what is so.)"""
    x, w, g = problem(rng)
    y, *_ = run(norm, x, w, g=g)
    for c in (*FACTORS, *POWERS):
        equal = same if c in POWERS else close
        equal(norm(tn.tensor(c * x), tn.tensor(w)), c * y if norm is NORMS["weight"] else y)


@NORM
def test_50_gradients_for_scaled_data(rng, norm):
    """Not only BN: the same gradient by W, for the same three; in weight norm it is times lambda. The documents do not
    say: the gradient by the data is times 1/lambda, and unchanged in weight norm."""
    x, w, g = problem(rng)
    _, by_x, by_w = run(norm, x, w, g=g)
    linear = norm is NORMS["weight"]
    for c in (*FACTORS, *POWERS):
        _, again_x, again_w = run(norm, c * x, w, g=g)
        equal = same if c in POWERS else close
        equal(again_w, c * by_w if linear else by_w)
        equal(again_x * (1.0 if linear else c), by_x)


@NORM
def test_49_scaling_one_sample(rng, norm):
    """Layer norm and cosine see each sample alone; batch norm needs the whole batch scaled."""
    x, w, g = problem(rng)
    y, *_ = run(norm, x, w, g=g)
    x[2] *= 3.0
    scaled = norm(tn.tensor(x), tn.tensor(w))
    (close if norm in (NORMS["layer"], NORMS["cosine"]) else far)(scaled, y)


def test_51_a_chain_of_layers(rng):
    """Not only BN: h_l = x_0 prod W_k. For columns the order is W_l ... W_0 x_0, and only without activations."""
    weights, x = rng.normal(size=(4, 5, 5)), rng.normal(size=(1, 5))
    h = chain(tn.tensor(x), map(tn.tensor, weights), None).numpy()[0]
    product = np.linalg.multi_dot(weights)
    close(h, np.linalg.multi_dot(weights[::-1]) @ x[0])
    far(x[0] @ product, h, 0.1)
    far(product @ x[0], h, 0.1)
    with_relu = tn.tensor(x)
    for w in weights:
        with_relu = F.relu(F.linear(with_relu, tn.tensor(w)))
    far(with_relu.numpy()[0], h, 0.1)


def test_51_growth_with_depth(rng):
    """Layers that stretch by s give ||h_l|| = s^l ||x||; with layer norm every h_l has the length sqrt(width)."""
    x = rng.normal(size=(1, 6))
    weights = [np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(10)]
    for s in (0.5, 1.0, 1.5):
        scaled = [tn.tensor(s * w) for w in weights]
        plain = np.linalg.norm(chain(tn.tensor(x), scaled, None).numpy())
        assert abs(log(plain / np.linalg.norm(x)) - 10 * log(s)) < 1e-13
        assert abs(np.linalg.norm(chain(tn.tensor(x), scaled, NORMS["layer"]).numpy()) - 6**0.5) < 1e-13


def test_52_the_input_of_a_layer_keeps_mean_0_and_variance_1(rng):
    """Not only BN: the input x_l keeps "the standard distribution" whatever happens below. Mean and variance do, before
    gain and activation, in training; the distribution itself does not, and an activation takes even them away."""
    for scale in (1e-4, 1.0, 1e4):
        x = rng.exponential(scale, size=(50, 5))
        weights = [tn.tensor(rng.normal(size=(5, 5)) * scale) for _ in range(3)]
        h = chain(tn.tensor(x), weights, NORMS["batch"]).numpy()
        assert np.abs(h.mean(axis=0)).max() < 1e-13
        close(h.var(axis=0), np.ones(5))
        assert F.relu(tn.tensor(h)).numpy().mean(axis=0).min() > 0.1


@NORM
def test_53_training_does_not_see_the_scale_of_the_data(rng, norm):
    """Not only BN: simplifies the choice of the learning rate. Data times lambda and the same learning rate: the same
    losses at every step for batch, layer and cosine norm; others for weight norm and a plain layer, which diverges."""
    x, w, target = problem(rng)
    losses, *_ = losses_and_weights(norm, x, w, target, 0.1, 10)
    if norm is NORMS["weight"]:
        far(losses_and_weights(norm, 1000 * x, w, target, 0.1, 10)[0], losses, 1.0)
        plain, *_ = losses_and_weights(F.linear, 1000 * x, w, target, 0.1, 10)
        assert plain[-1] > 1e6 * plain[0]
        return
    same(losses_and_weights(norm, 1024 * x, w, target, 0.1, 10)[0], losses)
    for c in (1e-3, 1000.0):
        close(losses_and_weights(norm, c * x, w, target, 0.1, 10)[0], losses, 1e-11)
