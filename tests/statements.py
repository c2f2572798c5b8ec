"""What the tests of the documents' statements share: the four normalizations as functions of data and weight.

Each takes x (N, D) and a weight (H, D) and gives the normalized outputs (N, H), before gain, bias and activation.
"""

import numpy as np

import tinygrad_norm as tn
import tinygrad_norm.functional as F


def batch(x, w, eps=0.0):
    return F.batch_norm(F.linear(x, w), training=True, eps=eps)


def layer(x, w, eps=0.0):
    return F.layer_norm(F.linear(x, w), len(w), eps=eps)


def weight(x, v):
    return F.linear(x, F.weight_norm(v, tn.ones(len(v), 1, dtype=v.dtype)))


def cosine(x, w):
    return F.cosine_linear(x, w)


NORMS = {"batch": batch, "layer": layer, "weight": weight, "cosine": cosine}


def run(fn, *arrays, g):
    """The value of ``fn`` at the arrays and its gradients by each of them, for the cotangent ``g``."""
    leaves = [tn.tensor(a, requires_grad=True) for a in arrays]
    y = fn(*leaves)
    grads = tn.grad(y, leaves, tn.tensor(g), allow_unused=True)
    return y.numpy(), *(None if d is None else d.numpy() for d in grads)


def host(a):
    """A Tensor's values, or an array."""
    return a.numpy() if isinstance(a, tn.Tensor) else np.asarray(a)


def close(a, b, rtol=1e-12):
    """Equal up to ``rtol`` of the largest entry."""
    a, b = host(a), host(b)
    np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(np.abs(b).max(), np.finfo(b.dtype).tiny))


def same(a, b):
    """Equal to the bit."""
    a, b = host(a), host(b)
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b, strict=True)


def far(a, b, least=0.01):
    """Not equal: off by more than ``least`` of the largest entry."""
    a, b = host(a), host(b)
    assert np.abs(a - b).max() > least * np.abs(b).max()


def moments(x, axis=0):
    """Mean and biased variance by NumPy."""
    return x.mean(axis=axis), x.var(axis=axis)


def batch_statistics(x):
    """Mean and biased variance of each column, as batch norm hands them to its running buffers."""
    c = x.shape[1]
    mean, var = tn.zeros(c, dtype="float64"), tn.ones(c, dtype="float64")
    F.batch_norm(tn.tensor(x), mean, var, training=True, momentum=1.0, unbiased=False)
    return mean.numpy().copy(), var.numpy().copy()
