"""Jacobians, Hessians and products with them."""

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import functional as F

A = np.random.default_rng(0).standard_normal((3, 2))


def t(values):
    return tn.tensor(values, dtype="float64")


def test_the_jacobian_of_a_linear_map_is_its_matrix():
    x = t([1.0, 2.0])
    j = tn.jacobian(lambda v: t(A) @ v, x)
    np.testing.assert_allclose(j.numpy(), A, rtol=1e-15)
    assert x.grad is None and not x.requires_grad and not j.requires_grad


def test_shapes_of_jacobians():
    a, b = t(A), t(np.ones((2, 4)))
    ja, jb = tn.jacobian(lambda a, b: a @ b, [a, b])
    assert ja.shape == (3, 4, 3, 2) and jb.shape == (3, 4, 2, 4)
    expected = np.einsum("ik,jl->ijkl", np.eye(3), np.ones((4, 2)))
    np.testing.assert_allclose(ja.numpy(), expected)
    assert tn.jacobian(lambda v: (v * v).sum(), t([1.0, 2.0])).tolist() == [2.0, 4.0]
    assert tn.jacobian(lambda v: v * 2.0, t(3.0)).item() == 2.0
    assert tn.jacobian(lambda v: v[:0], t([1.0, 2.0])).shape == (0, 2)


def test_what_the_function_does_not_depend_on_is_zero():
    assert tn.jacobian(lambda v: t([1.0, 2.0]), t([1.0])).tolist() == [[0.0], [0.0]]
    _, g = tn.vjp(lambda a, b: a * 2.0, [t([1.0]), t([5.0])], np.ones(1))
    assert g[0].tolist() == [2.0] and g[1].tolist() == [0.0]


def test_softmax():
    x = np.array([0.1, 0.5, -0.3])
    p = np.exp(x) / np.exp(x).sum()
    np.testing.assert_allclose(
        tn.jacobian(F.softmax, t(x)).numpy(), np.diag(p) - np.outer(p, p), rtol=1e-12, atol=1e-16
    )
    np.testing.assert_allclose(
        tn.hessian(lambda v: v.logsumexp(), t(x)).numpy(), np.diag(p) - np.outer(p, p), rtol=1e-12, atol=1e-16
    )


def test_the_hessian_of_a_quadratic_form():
    m = np.random.default_rng(1).standard_normal((4, 4))
    h = tn.hessian(lambda v: v @ t(m) @ v, t(np.ones(4)))
    np.testing.assert_allclose(h.numpy(), m + m.T, rtol=1e-14)
    assert tn.hessian(lambda v: (v**3).sum(), t([[1.0, 2.0]])).shape == (1, 2, 1, 2)
    with pytest.raises(ValueError, match=r"hessian.*one number.*\(2,\).*jacobian"):
        tn.hessian(lambda v: v * v, t([1.0, 2.0]))
    assert tn.hessian(lambda v: v.sum(), t([1.0, 2.0])).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_vjp():
    x, v = t([1.0, 2.0]), np.array([3.0, 5.0, 7.0])
    y, g = tn.vjp(lambda w: t(A) @ w, x, v)
    np.testing.assert_allclose(g.numpy(), A.T @ v)
    assert not y.requires_grad and not g.requires_grad
    with pytest.raises(ValueError, match=r"\(3,\)"):
        tn.vjp(lambda w: t(A) @ w, x)
    with pytest.raises(TypeError, match=r"one Tensor; got \("):
        tn.vjp(lambda w: (w, w), x)


def test_a_jacobian_can_be_differentiated_again():
    x = tn.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    j = tn.jacobian(lambda v: v**3, x, create_graph=True)
    (j * j).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * 3 * x.numpy() ** 2 * 6 * x.numpy())


@pytest.mark.parametrize("function", [tn.jacobian, tn.hessian, tn.vjp])
def test_a_derivative_is_taken_under_no_grad_too(function):
    def cubed(x):
        return (x**3).sum()

    x = tn.tensor([2.0, 3.0])
    with tn.no_grad():
        within = function(cubed, x)
    for a, b in zip(within, function(cubed, x), strict=True):
        assert a.tolist() == b.tolist() != [0.0, 0.0]
    with tn.no_grad():
        tn.testing.gradcheck(cubed, np.array([2.0, 3.0]))
