"""Initial values against the closed forms of their distributions."""

from math import erf, exp, pi, sqrt

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import nn
from tinygrad_norm.nn import init

SHAPE = (500, 400)  # (out, in): 200,000 numbers, so a standard deviation is known to 0.16 %


@pytest.fixture(autouse=True)
def seed():
    tn.manual_seed(7)


def filled(fill, *args, shape=SHAPE, **options):
    return fill(tn.empty(*shape, dtype="float64"), *args, **options).numpy()


def looks_normal(x, std, mean=0.0):
    n = x.size
    assert abs(x.mean() - mean) < 5 * std / sqrt(n)
    assert abs(x.std() / std - 1) < 5 / sqrt(2 * n)
    z = (x - mean) / std
    assert abs((abs(z) < 1).mean() - erf(1 / sqrt(2))) < 5 * sqrt(0.22 / n) and 3.8 < abs(z).max() < 6.5


def looks_uniform(x, low, high):
    n, width = x.size, high - low
    assert low <= x.min() < low + 20 * width / n and high - 20 * width / n < x.max() <= high
    assert abs(x.mean() - (low + high) / 2) < 5 * width / sqrt(12 * n)
    counts = np.histogram(x, 10, (low, high))[0]
    assert abs(counts - n / 10).max() < 5 * sqrt(n * 0.09)


def test_uniform_and_normal():
    looks_uniform(filled(init.uniform_), 0, 1)
    looks_uniform(filled(init.uniform_, -2, 3), -2, 3)
    looks_normal(filled(init.normal_), 1)
    looks_normal(filled(init.normal_, 5.0, 0.1), 0.1, 5.0)


@pytest.mark.parametrize("shape, fan_in, fan_out", [(SHAPE, 400, 500), ((200, 40, 5, 5), 1000, 5000)])
def test_scaled_to_the_fans(shape, fan_in, fan_out):
    glorot = sqrt(2 / (fan_in + fan_out))
    looks_uniform(filled(init.xavier_uniform_, shape=shape), -glorot * sqrt(3), glorot * sqrt(3))
    looks_normal(filled(init.xavier_normal_, 2.0, shape=shape), 2 * glorot)
    he = sqrt(2 / fan_in)
    looks_uniform(filled(init.kaiming_uniform_, shape=shape), -he * sqrt(3), he * sqrt(3))
    looks_normal(filled(init.kaiming_normal_, shape=shape), he)
    looks_normal(filled(init.kaiming_normal_, mode="fan_out", nonlinearity="tanh", shape=shape), 5 / 3 / sqrt(fan_out))
    looks_normal(filled(init.kaiming_normal_, 0.5, shape=shape), sqrt(2 / 1.25 / fan_in))


def test_gains():
    assert init.calculate_gain("relu") == sqrt(2) and init.calculate_gain("tanh") == 5 / 3
    assert init.calculate_gain("linear") == init.calculate_gain("sigmoid") == 1 and init.calculate_gain("selu") == 0.75
    assert init.calculate_gain("leaky_relu") == sqrt(2 / 1.0001) and init.calculate_gain("leaky_relu", 0) == sqrt(2)
    with pytest.raises(ValueError, match=r"relu.*'softmax'"):
        init.calculate_gain("softmax")


def test_a_relu_net_keeps_its_variance():
    """What He's scale is for: the mean square of 20 layers stays of its order; without the gain it halves in each."""
    x = tn.randn(256, 400, dtype="float64")
    kept, faded = x, x
    for _ in range(20):
        kept = tn.functional.relu(kept @ tn.tensor(filled(init.kaiming_normal_, shape=(400, 400))))
        faded = tn.functional.relu(
            faded @ tn.tensor(filled(init.kaiming_normal_, nonlinearity="linear", shape=(400, 400)))
        )
    assert 0.2 < (kept * kept).mean().item() < 5
    assert abs(np.log2((faded * faded).mean().item()) + 20) < 3


def test_constants():
    assert (filled(init.zeros_) == 0).all() and (filled(init.ones_) == 1).all()
    assert (filled(init.constant_, 2.5) == 2.5).all()
    assert np.array_equal(filled(init.eye_, shape=(3, 5)), np.eye(3, 5))


@pytest.mark.parametrize("shape", [(40, 40), (60, 20), (20, 60), (12, 3, 2, 5)])
def test_orthogonal(shape):
    matrix = filled(init.orthogonal_, 2.0, shape=shape).reshape(shape[0], -1)
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    assert np.allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_orthogonal_matrices_are_drawn_evenly():
    """Reflections do not change the distribution, so an entry has mean 0 and mean square 1/n; QR alone breaks that."""
    draws = np.stack([filled(init.orthogonal_, shape=(3, 3)) for _ in range(4000)])
    assert abs(draws.mean(0)).max() < 5 / sqrt(3 * 4000)
    assert abs((draws**2).mean(0) - 1 / 3).max() < 5 * 0.3 / sqrt(4000)
    assert abs((np.linalg.det(draws) > 0).mean() - 0.5) < 5 * 0.5 / sqrt(4000)


def test_truncated_normal():
    x = filled(init.trunc_normal_)
    density = exp(-2) / sqrt(2 * pi)
    variance = 1 - 4 * density / erf(sqrt(2))  # of N(0, 1) between -2 and 2
    assert abs(x).max() <= 2 and abs(x).max() > 1.999
    assert abs(x.mean()) < 5 / sqrt(x.size) and abs(x.var() - variance) < 5 * 1.2 / sqrt(x.size)
    shifted = filled(init.trunc_normal_, 10.0, 2.0, 11.0, 12.0)
    assert shifted.min() >= 11 and shifted.max() <= 12
    with pytest.raises(ValueError, match=r"1 %.*\[5, 6\]"):
        filled(init.trunc_normal_, 0.0, 1.0, 5, 6)


def test_one_seed_gives_one_start_in_every_dtype():
    starts = {}
    for dtype in ("float64", "float32", "float16"):
        tn.manual_seed(3)
        starts[dtype] = [p.numpy() for p in nn.Linear(20, 10, dtype=dtype).parameters()]
    for dtype, start in starts.items():
        for wide, x in zip(starts["float64"], start, strict=True):
            assert x.dtype == dtype and np.array_equal(wide.astype(dtype), x)


def test_a_fill_happens_in_place():
    p = nn.Parameter(tn.zeros(3, 3))
    assert init.normal_(p) is p and p.is_leaf and p.requires_grad and p.numpy().all()
    y = (p * p).sum()
    init.zeros_(p)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_numpys_own_random_numbers_are_not_touched():
    before = np.random.get_state()[1].copy()
    nn.MLP([3, 4, 2])
    assert (np.random.get_state()[1] == before).all()


FANNED = [init.xavier_uniform_, init.xavier_normal_, init.kaiming_uniform_, init.kaiming_normal_]


@pytest.mark.parametrize("fill", FANNED, ids=lambda f: f.__name__)
def test_fans_need_a_weight(fill):
    with pytest.raises(ValueError, match=rf"{fill.__name__}.*\(out, in, ...\).*\(5,\)"):
        fill(tn.empty(5))


def test_bad_input():
    with pytest.raises(TypeError, match=r"uniform_.*int64"):
        init.uniform_(tn.tensor([1, 2]))
    with pytest.raises(TypeError, match=r"zeros_.*ndarray"):
        init.zeros_(np.ones(3))
    with pytest.raises(ValueError, match=r"'fan_out'.*'both'"):
        init.kaiming_normal_(tn.empty(2, 2), mode="both")
    with pytest.raises(ValueError, match="eye_"):
        init.eye_(tn.empty(2, 2, 2))
    with pytest.raises(ValueError, match="orthogonal_"):
        init.orthogonal_(tn.empty(2))


# --- PyTorch --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, m", [(3, 50_000), (400, 500)])
def test_linear_starts_in_the_bounds_of_pytorch(n, m):
    torch = pytest.importorskip("torch")
    ours, theirs = nn.Linear(n, m), torch.nn.Linear(n, m)
    for name in ("weight", "bias"):
        a, b = getattr(ours, name).numpy(), getattr(theirs, name).detach().numpy()
        assert abs(abs(a).max() / abs(b).max() - 1) < 0.02 and abs(a.std() / b.std() - 1) < 0.1, name
        assert abs(a).max() <= 1 / sqrt(n) * (1 + 1e-6)
