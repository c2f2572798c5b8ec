"""The loss, activations and the optimizers' arithmetic."""

from __future__ import annotations

from math import copysign, log

import numpy

LOOPS = {
    "centre_rows": "void({M}, {M})",
    "cross_entropy_rows": "boolean({M}, {M}, int64[::1], {V}, float64, {V})",
    "cross_entropy_rows_backward": "boolean({V}, {M}, int64[::1], {V}, float64, {M})",
    "relu": "void({V}, {V})",
    "relu_backward": "void({V}, {V}, {V})",
    "erf_exponents": "void({V}, {V})",
    "erf_finish": "void({V}, {V}, {V}, {V}, {V})",
    "adam": "void({V}, {V}, {V}, float64, float64, float64, float64)",
    "sgd": "void({V}, {V}, float64, float64, boolean)",
    "rmsprop": "void({V}, {V}, {V}, {V}, boolean, float64, float64, float64, float64)",
    "adagrad": "void({V}, {V}, float64, float64)",
}

SUMS: set[str] = set()


# ---- losses and activations


def centre_rows(x, z):
    """z = x - the largest element of its row."""
    n, c = x.shape
    for i in range(n):
        largest = x[i, 0]
        for j in range(c):
            if not x[i, j] <= largest:  # a NaN, once found, stays or comes out of the difference
                largest = x[i, j]
        for j in range(c):
            z[i, j] = x[i, j] - largest


def cross_entropy_rows(z, p, labels, weights, smoothing, loss):
    """Row losses; p = exp(z) becomes the softmax. False if a label is out of range."""
    real = z.dtype.type
    n, c = z.shape
    for i in range(n):
        label = labels[i]
        if not 0 <= label < c:
            return False
        total, logits = 0.0, 0.0
        for j in range(c):
            total += p[i, j]
            logits += z[i, j]
        chosen = z[i, label]
        value = log(total) - chosen
        if smoothing:
            value += smoothing * (chosen - logits / c)
        loss[i] = value * weights[i] if weights[i] != 0 else 0.0  # what a row that does not count holds may be NaN
        total = real(total)
        for j in range(c):
            p[i, j] /= total
    return True


def cross_entropy_rows_backward(g, p, labels, weights, smoothing, out):
    """out = g weight (p - (1 - s) onehot - s / C). False if a label is out of range."""
    real = p.dtype.type
    n, c = p.shape
    spread, rest = real(smoothing / c), real(1.0 - smoothing)
    for i in range(n):
        scale = g[i] * weights[i]
        label = labels[i]
        if not 0 <= label < c:
            return False
        if scale == 0:
            out[i] = 0
            continue
        for j in range(c):
            out[i, j] = (p[i, j] - spread) * scale
        out[i, label] = (p[i, label] - spread - rest) * scale
    return True


def relu(x, y):
    """y = max(x, 0); NaN stays."""
    zero = x.dtype.type(0)
    for j in range(len(x)):
        y[j] = zero if x[j] <= 0 else x[j]


def relu_backward(g, y, out):
    """out = g where y > 0, else 0."""
    zero = g.dtype.type(0)
    for j in range(len(g)):
        out[j] = g[j] if y[j] > 0 else zero


def erf_exponents(x, z):
    """z = -x^2, but not below -49, where the exponential is less than the last bit of 1."""
    least = x.dtype.type(-49)
    for j in range(len(x)):
        square = -(x[j] * x[j])
        z[j] = least if square < least else square


def erf_finish(x, e, small, large, y):
    """y = erf(x) for e = exp(-x^2): the two polynomials of ``special.erf``, a block of elements at a time."""
    real = x.dtype.type
    one, two, three, most = real(1), real(2), real(3), real(7)
    room = numpy.empty((5, 256), x.dtype)
    a, s, t, low, high = room[0], room[1], room[2], room[3], room[4]
    for start in range(0, len(x), 256):
        n = min(256, len(x) - start)
        for j in range(n):
            v = abs(x[start + j])
            v = most if v > most else v
            square = v * v
            a[j], s[j], t[j] = v, one if square > one else square, (v - three) / (v + three)
            low[j] = high[j] = 0
        horner(small, s[:n], low)
        horner(large, t[:n], high)
        for j in range(n):
            v, far = x[start + j], one - high[j] * e[start + j] / (one + two * a[j])
            y[start + j] = low[j] * v if a[j] < one else real(copysign(far, v))


def horner(coefficients, t, total):
    """total = the polynomial with these coefficients, the highest first, at t."""
    for c in coefficients:
        for j in range(len(t)):
            total[j] = total[j] * t[j] + c


# ---- optimizers


def adam(g, m, v, beta1, beta2, small, rate):
    """m and v move; g becomes rate m / (sqrt(v) + small)."""
    real = g.dtype.type
    keep1, keep2, rest1, rest2 = real(beta1), real(beta2), real(1.0 - beta1), real(1.0 - beta2)
    small, rate = real(small), real(rate)
    for j in range(len(g)):
        v[j] = v[j] * keep2 + g[j] * g[j] * rest2
        m[j] = m[j] * keep1 + g[j] * rest1
        g[j] = m[j] / (numpy.sqrt(v[j]) + small) * rate


def sgd(g, velocity, lr, momentum, nesterov):
    """velocity moves; g becomes the step."""
    real = g.dtype.type
    rate, keep = real(lr), real(momentum)
    for j in range(len(g)):
        v = velocity[j] * keep + g[j]
        velocity[j] = v
        g[j] = (g[j] + v * keep if nesterov else v) * rate


def rmsprop(g, square_mean, mean, velocity, centred, alpha, small, momentum, lr):
    """square_mean moves, and so do ``mean`` if ``centred`` and ``velocity`` if ``momentum``; g becomes the step."""
    real = g.dtype.type
    keep, rest, small, inertia, rate = real(alpha), real(1.0 - alpha), real(small), real(momentum), real(lr)
    for j in range(len(g)):
        v = square_mean[j] * keep + g[j] * g[j] * rest
        square_mean[j] = v
        if centred:
            m = mean[j] * keep + g[j] * rest
            mean[j] = m
            v -= m * m
            if v < 0:
                v = real(0)
        step = g[j] / (numpy.sqrt(v) + small)
        if inertia != 0:
            step += velocity[j] * inertia
            velocity[j] = step
        g[j] = step * rate


def adagrad(g, square_sum, small, lr):
    """square_sum moves; g becomes the step."""
    real = g.dtype.type
    small, rate = real(small), real(lr)
    for j in range(len(g)):
        v = square_sum[j] + g[j] * g[j]
        square_sum[j] = v
        g[j] = g[j] / (numpy.sqrt(v) + small) * rate
