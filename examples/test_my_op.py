"""Tests for an operation of your own
==================================

A gradient check for an operation of your own: copy this file, put your op in, run it with pytest.

What one learns: what a check has to look at (first and second order, several shapes, points away from kinks), and that
a check is worth something only if it fails when the gradient is wrong.
"""

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm.testing import GradientError, gradcheck


# %%
# The operation, and one whose gradient is wrong.
class SquaredReLU(tn.Op):
    """y = max(x, 0)^2."""

    @staticmethod
    def forward(xp, x):
        return xp.maximum(x, 0.0) ** 2

    backward = (lambda xp, g, y, x: g * 2.0 * xp.maximum(x, 0.0),)


class Wrong(SquaredReLU):
    """The same with a gradient that is too large by a thousandth."""

    backward = (lambda xp, g, y, x: g * 2.002 * xp.maximum(x, 0.0),)


# %%
# The tests: pytest finds them by their names.
def points(*shape):
    """Float64, where differences can be measured, and at least 0.1 away from the kink at 0."""
    x = np.random.default_rng(0).uniform(0.1, 2.0, shape)
    x[..., ::2] *= -1.0
    return tn.tensor(x, requires_grad=True)


@pytest.mark.parametrize("shape", [(2,), (3, 5), (2, 1, 4)])
@pytest.mark.parametrize("order", [1, 2])
def test_gradient(shape, order):
    report = gradcheck(lambda x: tn.apply(SquaredReLU, x), points(*shape), order=order)
    print(report)


def test_value():
    y = tn.apply(SquaredReLU, tn.tensor([-1.0, 0.0, 3.0]))
    assert y.tolist() == [0.0, 0.0, 9.0]


def test_the_check_can_fail():
    with pytest.raises(GradientError):
        gradcheck(lambda x: tn.apply(Wrong, x), points(4))
