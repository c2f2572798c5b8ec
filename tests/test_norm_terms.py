"""Terms of the normalizations that only show at the ends of float16's range, in constant slices or without rank.

`mutate_norms.py` breaks every term of the normalizations; these are the tests that some of them need to be noticed.
"""

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm.backend import cpu

BIG = 6e4  # the largest float16 is 65504


def leaf(a):
    return tn.tensor(a, requires_grad=True)


def both(fn, arrays, g):
    """Value and gradients of ``fn`` in float16 by kernels and by definitions, and in float64: [(found, expected)]."""
    found = []
    for dtype, composite in (("float64", False), ("float16", False), ("float16", True)):
        xs = [tn.tensor(np.asarray(a, dtype), requires_grad=True) for a in arrays]
        if composite:
            with tn.composite():
                y = fn(*xs)
                y.backward(np.asarray(g, dtype))
        else:
            y = fn(*xs)
            y.backward(np.asarray(g, dtype))
        assert y.dtype == dtype and all(x.grad.dtype == dtype for x in xs)
        found.append([y.numpy(), *(x.grad.numpy() for x in xs)])
    return [(a, found[0][i]) for kind in found[1:] for i, a in enumerate(kind)]


def agree(pairs, rtol=3e-3):
    for found, expected in pairs:
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found.astype("float64"), expected, rtol=rtol, atol=rtol * scale)


def test_float16_norms_do_not_overflow():
    x = np.array([[-BIG], [BIG], [1e4], [-3e4]])
    g = np.array([[300.0], [200.0], [-300.0], [100.0]])
    agree(both(lambda x, w: F.batch_norm(x, weight=w, training=True), (x, [300.0]), g)[:2])
    agree(both(lambda x, w: F.batch_norm(x, weight=w, training=True), (x, [1.0]), g / 100))
    agree(both(lambda x: F.rms_norm(x, 4), (x.T,), g.T))


def test_float16_centring_does_not_overflow():
    x = np.array([[-BIG], [2e4], [1e4], [-2e4]])
    g = np.array([[BIG], [5e4], [6e4], [4e4]])
    agree(both(lambda x: F.mean_only_batch_norm(x, training=True), (x,), g))


def test_float16_centring_rounds_once():
    g = np.array([[2048.0], [2050.0]], "float16")  # their mean is no float16
    x = tn.tensor(np.zeros((2, 1), "float16"), requires_grad=True)
    F.mean_only_batch_norm(x, training=True).backward(g)
    assert x.grad.tolist() == [[-1.0], [1.0]]


def test_float16_lengths_do_not_overflow():
    v = np.array([[3e4, 4e4], [BIG, -BIG], [1.0, 1e3]])
    g = np.array([[BIG, BIG], [BIG, -5e4], [1e3, 2e3]])
    agree(both(lambda v: F.normalize(v, eps=0.0), (v,), g))
    many = tn.full((1, 300_000), 1.0, dtype="float16")
    np.testing.assert_allclose(F.normalize(many).numpy(), 300_000**-0.5, rtol=1e-3)
    with tn.composite():
        np.testing.assert_allclose(F.normalize(many).numpy(), 300_000**-0.5, rtol=1e-3)


def test_float16_whitening_does_not_overflow():
    x = np.array([[300.0, 10.0], [-400.0, 350.0], [200.0, -300.0], [-90.0, 5.0]])
    agree(
        both(lambda x: F.whiten(x, eps=0.0), (x,), np.array([[1.0, 2.0], [-1.0, 0.5], [0.3, -2.0], [1.0, 1.0]])), 5e-3
    )


def test_definitions_centre_constant_slices_to_zeros():
    for dtype in ("float32", "float64"):
        x = tn.full((7, 3), 0.1, dtype=dtype)
        with tn.composite():
            assert not F.batch_norm(x, training=True, eps=0.0).numpy().any()
            assert not F.mean_only_batch_norm(x, training=True).numpy().any()


def test_definitions_at_a_large_mean():
    values = np.random.default_rng(0).standard_normal((50, 2)).round(3)
    expected = F.batch_norm(tn.tensor(values), training=True, eps=0.0).numpy()
    with tn.composite():
        found = F.batch_norm(tn.tensor(values + 2.0**40), training=True, eps=0.0).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_norms_of_negative_numbers_only():
    """The largest of a slice is that of its absolute values."""
    for scale in (-1e30, -1e-30):
        x = tn.tensor(np.array([[1.0, 2.0, 4.0]]) * scale, dtype="float32")
        np.testing.assert_allclose(F.layer_norm(x, 3, eps=0.0).numpy() * np.sign(scale),
            [[-1.0690450, -0.2672612, 1.3363062]], rtol=1e-6)  # fmt: skip
        np.testing.assert_allclose(F.normalize(x, eps=0.0).numpy(), [[-0.2182179, -0.4364358, -0.8728716]], rtol=1e-6)


def test_lengths_of_negative_and_tiny_numbers_together():
    x = tn.tensor(np.array([[-1e30, 1e-30]]), dtype="float32")
    assert F.normalize(x, eps=0.0).tolist() == [[-1.0, 0.0]]


def test_lengths_over_norms_out_of_range():
    """Where v or g / ||v|| leaves the range, or its digits, g v / ||v|| and the gradients do not."""
    u, seed = np.array([[0.6, 0.8], [0.8, -0.6], [-1.0, 0.0]]), np.array([[1.0, -2.0], [3.0, 0.5], [1.0, 1.0]])
    for size, length, scale in (
        (1e-12, 1e30, 1e-20), (1e12, -1e-30, 1e20), (1e-21, 1.0, 1.0), (1e-21, 1e-30, 1.0), (1e20, 1.0, 1.0),
        (1.0, 0.0, 1.0),
    ):  # fmt: skip
        v, g = leaf((u * size).astype("float32")), leaf(np.full((3, 1), length, "float32"))
        y = F.weight_norm(v, g)
        y.backward((seed * scale).astype("float32"))
        exact = np.linalg.norm(v.numpy().astype("float64"), axis=1, keepdims=True)
        w = v.numpy() / exact
        np.testing.assert_allclose(y.numpy(), length * w, rtol=1e-6, atol=0)
        np.testing.assert_allclose(g.grad.numpy(), scale * (w * seed).sum(1, keepdims=True), rtol=1e-5)
        by_v = (seed - w * (w * seed).sum(1, keepdims=True)) * scale * length / exact
        np.testing.assert_allclose(v.grad.numpy(), by_v, rtol=1e-5, atol=1e-6 * abs(by_v).max())


def test_an_outlier_in_small_numbers():
    """Where the first element is far from the rest another shift is taken, whatever the size of the numbers."""
    x = np.random.default_rng(0).standard_normal((20_000, 1)).astype("float32")
    x[0] = 1e6
    y, small = (F.batch_norm(tn.tensor(x * scale), training=True, eps=0.0).numpy() for scale in (1.0, 2.0**-20))
    np.testing.assert_array_equal(small, y)


def test_whitening_drops_directions_without_variance():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for scale in (1e-8, 1.0, 1e8):
            x = rng.standard_normal((40, 4)) * scale
            flat = np.hstack([x, x @ rng.standard_normal((4, 7)), 0 * x[:, :1]])  # 12 features, 4 directions
            y = F.whiten(tn.tensor(flat), eps=0.0).numpy()
            values = np.linalg.eigvalsh(y.T @ y / 40)
            np.testing.assert_allclose(values, [0] * 8 + [1] * 4, atol=1e-6)


def test_roots_of_a_matrix_without_full_rank():
    """Eigenvalues that are 0 but for rounding have root 0, not a huge one, whatever the number of features."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for features in (12, 300):
            x = rng.standard_normal((features, 4)) @ rng.standard_normal((4, features))
            roots, _ = cpu.inverse_roots(x.T @ x, 0.0)
            assert np.count_nonzero(roots) == 4


def test_whitening_of_what_is_not_a_number():
    for bad in (np.nan, np.inf):
        x = np.random.default_rng(0).standard_normal((5, 3))
        x[1, 2] = bad
        y = F.whiten(tn.tensor(x)).numpy()
        assert np.isnan(y).all()


def test_roots_of_a_matrix_that_is_not_finite():
    for bad in (np.nan, np.inf):
        with np.errstate(invalid="ignore"):
            roots, _ = cpu.inverse_roots(np.array([[bad, 0.0], [0.0, 1.0]]), 0.0)
        assert np.isnan(roots).all()


def test_whitening_without_variance_has_a_finite_gradient():
    x = np.random.default_rng(0).standard_normal((9, 2))
    flat = tn.tensor(np.hstack([x, 0 * x]), requires_grad=True)
    y = F.whiten(flat, eps=0.0)
    y.backward(np.random.default_rng(1).standard_normal(y.shape))
    assert np.isfinite(flat.grad.numpy()).all() and flat.grad.numpy()[:, :2].any()
    assert not flat.grad.numpy()[:, 2:].any()


def test_whitening_no_features():
    assert F.whiten(tn.zeros(3, 0)).shape == (3, 0)


@pytest.mark.parametrize("momentum", [-0.1, 1.5])
@pytest.mark.parametrize("norm", [F.batch_norm, F.mean_only_batch_norm])
def test_momentum_is_a_share(norm, momentum):
    with pytest.raises(ValueError, match="momentum"):
        norm(tn.ones(2, 3), training=True, momentum=momentum)
