"""The kernels as plain loops, written for Numba, which :mod:`.jit` puts to work at the first call that is worth it.

Everything here is ordinary Python, so that the package imports without Numba. Arrays are C-contiguous and of one float
dtype; results are written into arrays that the caller made. Sums run over blocks, whose results are added in float64:
a float32 sum is then as good for a million terms as for a thousand, and the order never depends on the values.

``SUMS`` may be reordered and contracted by the compiler, so that it can add several terms at once. All else is compiled
strictly, above all ``minus`` and ``standardized``: reordering (x - shift) - mean undoes what it is for.
"""

from __future__ import annotations

from math import inf, log, sqrt

import numpy

BLOCK = 1024  # terms of a row added in the array's own dtype
ROWS = 256  # rows added so, column by column


def minus(a, b):
    """a - b, never reordered."""
    return a - b


def standardized(x, shift, mean, rstd):
    """((x - shift) - mean) rstd, never reordered."""
    return ((x - shift) - mean) * rstd


def shifted_sum(v, shift):
    """sum(v - shift) of one block."""
    total = v.dtype.type(0)
    for j in range(len(v)):
        total += minus(v[j], shift)
    return total


def sum_of_squares(v, shift, mean, one):
    """sum(((v - shift) - mean)^2) of one block."""
    total = v.dtype.type(0)
    for j in range(len(v)):
        d = standardized(v[j], shift, mean, one)
        total += d * d
    return total


def dot(a, b):
    """sum(a b) of one block."""
    total = a.dtype.type(0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


def two_sums(g, x, weight, shift, mean, rstd):
    """sum(h) and sum(h xhat), h = g weight, of one block."""
    total, product = g.dtype.type(0), g.dtype.type(0)
    for j in range(len(g)):
        h = g[j] * weight[j]
        total += h
        product += h * standardized(x[j], shift, mean, rstd)
    return total, product


def inverse_root(var, eps):
    """1 / sqrt(var + eps); 0 where that sum is 0."""
    v = var + eps
    return 0.0 if v == 0 else 1.0 / sqrt(v)


def norm_rows(x, weight, bias, eps, least, far, y, shift, mean, var, rstd):
    """Each row of x standardized, times weight plus bias; ``shift`` is given, mean, var and rstd are results.

    False if a variance is not finite or below ``least``, or (mean rstd)^2 above ``far``.
    """
    real = x.dtype.type
    n, d = x.shape
    fine = True
    for i in range(n):
        row, out, s = x[i], y[i], shift[i]
        total = 0.0
        for a in range(0, d, BLOCK):
            total += shifted_sum(row[a : a + BLOCK], s)
        m = real(total / d)
        total = 0.0
        for a in range(0, d, BLOCK):
            total += sum_of_squares(row[a : a + BLOCK], s, m, real(1))
        v = real(total / d)
        r = real(inverse_root(v, eps[i]))
        mean[i], var[i], rstd[i] = m, v, r
        fine = fine and least <= v < inf and not (m * r) ** 2 > far
        for j in range(d):
            out[j] = standardized(row[j], s, m, r) * weight[j] + bias[j]
    return fine


def norm_rows_backward(g, x, shift, mean, rstd, weight, affine, gx, gweight, gbias):
    """Gradients of ``norm_rows`` by x and, if ``affine``, by weight and bias."""
    real = x.dtype.type
    n, d = x.shape
    wide = numpy.zeros((2, d))
    part = numpy.zeros((2, d), x.dtype)
    for i in range(n):
        row, grad, out = x[i], g[i], gx[i]
        s, m, r = shift[i], mean[i], rstd[i]
        total, product = 0.0, 0.0
        for a in range(0, d, BLOCK):
            b = a + BLOCK
            one, two = two_sums(grad[a:b], row[a:b], weight[a:b], s, m, r)
            total += one
            product += two
        mh, mx = real(total / d), real(product / d)
        if affine:
            add_row(part, grad, row, s, m, r)
            if (i + 1) % ROWS == 0 or i == n - 1:
                move(part, wide)
        for j in range(d):
            out[j] = ((grad[j] * weight[j] - standardized(row[j], s, m, r) * mx) - mh) * r
    if affine:
        gweight[:] = wide[0]
        gbias[:] = wide[1]


def add_row(part, grad, row, s, m, r):
    """part[0] += grad xhat, part[1] += grad."""
    by_weight, by_bias = part[0], part[1]
    for j in range(len(row)):
        by_weight[j] += grad[j] * standardized(row[j], s, m, r)
        by_bias[j] += grad[j]


def move(part, wide):
    """wide += part; part = 0."""
    for k in range(len(part)):
        for j in range(part.shape[1]):
            wide[k, j] += part[k, j]
            part[k, j] = 0


def norm_columns(x, weight, bias, eps, least, far, y, shift, mean, var, rstd):
    """``norm_rows`` for columns, row by row, as memory lies."""
    real = x.dtype.type
    n, c = x.shape
    fine = True
    wide, part = numpy.zeros((2, c)), numpy.zeros((2, c), x.dtype)
    for i in range(n):
        add_shifted(part[0], x[i], shift)
        if (i + 1) % ROWS == 0 or i == n - 1:
            move(part, wide)
    for j in range(c):
        mean[j] = real(wide[0, j] / n)
    for i in range(n):
        add_square(part[1], x[i], shift, mean)
        if (i + 1) % ROWS == 0 or i == n - 1:
            move(part, wide)
    for j in range(c):
        v, m = real(wide[1, j] / n), mean[j]
        r = real(inverse_root(v, eps[j]))
        var[j], rstd[j] = v, r
        fine = fine and least <= v < inf and not (m * r) ** 2 > far
    for i in range(n):
        write_row(y[i], x[i], shift, mean, rstd, weight, bias)
    return fine


def add_shifted(total, row, shift):
    """total += row - shift."""
    for j in range(len(total)):
        total[j] += row[j] - shift[j]


def add_square(total, row, shift, mean):
    """total += ((row - shift) - mean)^2."""
    for j in range(len(total)):
        d = (row[j] - shift[j]) - mean[j]
        total[j] += d * d


def write_row(out, row, shift, mean, rstd, weight, bias):
    """out = xhat weight + bias."""
    for j in range(len(out)):
        out[j] = standardized(row[j], shift[j], mean[j], rstd[j]) * weight[j] + bias[j]


def norm_columns_backward(g, x, shift, mean, rstd, weight, gx, gweight, gbias):
    """Gradients of ``norm_columns``; weight and bias have one element per column."""
    n, c = x.shape
    wide, part = numpy.zeros((2, c)), numpy.zeros((2, c), x.dtype)
    for i in range(n):
        add_column_row(part, g[i], x[i], shift, mean, rstd)
        if (i + 1) % ROWS == 0 or i == n - 1:
            move(part, wide)
    gweight[:], gbias[:] = wide[0], wide[1]
    for j in range(c):
        part[0, j] = wide[0, j] / n * weight[j]
        part[1, j] = wide[1, j] / n * weight[j]
    for i in range(n):
        write_column_row(gx[i], g[i], x[i], shift, mean, rstd, weight, part)


def add_column_row(part, grad, row, shift, mean, rstd):
    """part[0] += grad xhat, part[1] += grad."""
    by_weight, by_bias = part[0], part[1]
    for j in range(len(row)):
        by_weight[j] += grad[j] * standardized(row[j], shift[j], mean[j], rstd[j])
        by_bias[j] += grad[j]


def write_column_row(out, grad, row, shift, mean, rstd, weight, means):
    """out = rstd (grad weight - xhat mean(h xhat) - mean(h))."""
    by_xhat, by_one = means[0], means[1]
    for j in range(len(row)):
        xhat = standardized(row[j], shift[j], mean[j], rstd[j])
        out[j] = ((grad[j] * weight[j] - xhat * by_xhat[j]) - by_one[j]) * rstd[j]


def unit_rows(v, eps, least, u, norm):
    """Each row of v over max(its length, eps); False if a sum of squares is not finite, or so small it lost digits."""
    real = v.dtype.type
    n, d = v.shape
    fine = True
    for i in range(n):
        row, out = v[i], u[i]
        total = 0.0
        for a in range(0, d, BLOCK):
            part = row[a : a + BLOCK]
            total += dot(part, part)
        square = real(total)
        norm[i] = sqrt(square)
        if not least <= square < inf:
            fine = fine and square == 0 and not numpy.any(row)
        limit = max(norm[i], real(eps)) if norm[i] == norm[i] else norm[i]
        if limit == 0:
            limit = real(1)
        for j in range(d):
            out[j] = row[j] / limit
    return fine


def unit_rows_backward(g, u, norm, eps, gv):
    """Gradient of ``unit_rows``."""
    real = g.dtype.type
    n, d = g.shape
    for i in range(n):
        grad, unit, out = g[i], u[i], gv[i]
        length = norm[i]
        if length == 0:
            out[:] = 0
        elif length < eps:
            limit = real(eps)
            for j in range(d):
                out[j] = grad[j] / limit
        else:
            total = 0.0
            for a in range(0, d, BLOCK):
                total += dot(grad[a : a + BLOCK], unit[a : a + BLOCK])
            product = real(total)
            for j in range(d):
                out[j] = (grad[j] - unit[j] * product) / length


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


def relu_flat_backward(g, y, out):
    """out = g (y > 0), a product like the generic kernel's: an infinite g where y is 0 gives NaN."""
    one, zero = g.dtype.type(1), g.dtype.type(0)
    for j in range(len(g)):
        out[j] = g[j] * (one if y[j] > 0 else zero)


def adam(g, m, v, beta1, rest1, beta2, rest2, small, rate):
    """m and v move; g becomes rate m / (sqrt(v) + small)."""
    for j in range(len(g)):
        v[j] = v[j] * beta2 + g[j] * g[j] * rest2
        m[j] = m[j] * beta1 + g[j] * rest1
        g[j] = m[j] / (numpy.sqrt(v[j]) + small) * rate


def sgd(g, velocity, lr, momentum, nesterov):
    """velocity moves; g becomes the step."""
    for j in range(len(g)):
        v = velocity[j] * momentum + g[j]
        velocity[j] = v
        g[j] = (g[j] + v * momentum if nesterov else v) * lr


SUMS = ("shifted_sum", "sum_of_squares", "dot", "two_sums")
