"""Norms whose slices are the columns of a matrix: a few rows at a time, as memory lies."""

from __future__ import annotations

from math import inf

import numpy

from ..kernels import FAR
from .common import ROWS, centred, inverse_root, minus, move, standardized

LOOPS = {
    "norm_columns": "boolean({M}, {V}, {V}, float64, float64, boolean, int64, int64, {M}, {M})",
    "norm_columns_backward": "void({M}, {M}, {V}, {V}, {V}, {V}, boolean, int64, int64, {M}, {M})",
}

SUMS = {"add_shifted", "add_squares", "add_products"}


def norm_columns(x, weight, bias, eps, tiny, prepared, first, last, y, stats):
    """``norm_rows`` for columns.

    Every block of rows is centred about its own mean, while it is in the cache. What the blocks' sums of squares lack
    is added when they are put together (Chan, Golub, LeVeque 1983).
    """
    real = x.dtype.type
    n, c = len(x), last - first
    shift, mean, var, rstd = stats[0, first:last], stats[1, first:last], stats[2, first:last], stats[3, first:last]
    if not prepared:
        shift[:], rstd[:] = x[0, first:last], eps
    wide, part = numpy.zeros((2, c)), numpy.empty((2, c), x.dtype)
    for a in range(0, n, ROWS):
        b = min(a + ROWS, n)
        part[:] = 0
        for i in range(a, b - 3, 4):
            add_shifted(part[0], four(x, i, first, last), shift)
        for i in range(b - (b - a) % 4, b):
            add_shifted_row(part[0], x[i, first:last], shift)
        for j in range(c):
            mean[j] = part[0, j] / real(b - a)
        for i in range(a, b - 3, 4):
            add_squares(part[1], four(x, i, first, last), shift, mean)
        for i in range(b - (b - a) % 4, b):
            add_squares_row(part[1], x[i, first:last], shift, mean)
        for j in range(c):
            gap = part[0, j] / (b - a) - wide[0, j] / max(a, 1)
            wide[0, j] += part[0, j]
            wide[1, j] += part[1, j] + gap * gap * (a * (b - a) / b)
    least, far, fine = (tiny if eps < tiny else 0.0), (FAR if n > FAR else inf), True
    for j in range(c):
        m, v = real(wide[0, j] / n), real(wide[1, j] / n)
        r = real(inverse_root(v, rstd[j]))
        mean[j], var[j], rstd[j] = m, v, r
        fine = fine and least <= v < inf and not (m * r) ** 2 > far
    for i in range(n):
        write_row(y[i, first:last], x[i, first:last], shift, mean, rstd, weight[first:last], bias[first:last])
    return fine


def four(x, i, first, last):
    """Columns ``first`` to ``last`` of the rows from i on."""
    return x[i, first:last], x[i + 1, first:last], x[i + 2, first:last], x[i + 3, first:last]


def add_shifted(total, rows, shift):
    """total += the four rows less shift."""
    p, q, r, s = rows
    for j in range(len(total)):
        one = minus(p[j], shift[j]) + minus(q[j], shift[j])
        total[j] += one + (minus(r[j], shift[j]) + minus(s[j], shift[j]))


def add_shifted_row(total, p, shift):
    """total += p - shift."""
    for j in range(len(total)):
        total[j] += minus(p[j], shift[j])


def add_squares(total, rows, shift, mean):
    """total += the squares of (x - shift) - mean for the four rows."""
    p, q, r, s = rows
    for j in range(len(total)):
        a, b = centred(p[j], shift[j], mean[j]), centred(q[j], shift[j], mean[j])
        c, d = centred(r[j], shift[j], mean[j]), centred(s[j], shift[j], mean[j])
        total[j] += (a * a + b * b) + (c * c + d * d)


def add_squares_row(total, p, shift, mean):
    """total += the squares of (p - shift) - mean."""
    for j in range(len(total)):
        a = centred(p[j], shift[j], mean[j])
        total[j] += a * a


def write_row(out, row, shift, mean, rstd, weight, bias):
    """out = xhat weight + bias."""
    for j in range(len(out)):
        out[j] = standardized(row[j], shift[j], mean[j], rstd[j]) * weight[j] + bias[j]


def norm_columns_backward(g, x, shift, mean, rstd, weight, affine, first, last, gx, sums):
    """``norm_rows_backward`` for columns; the sums that ``affine`` asks for are needed anyway."""
    n, c = len(x), last - first
    shift, mean, rstd, weight = shift[first:last], mean[first:last], rstd[first:last], weight[first:last]
    wide, part = numpy.zeros((2, c)), numpy.zeros((2, c), x.dtype)
    for a in range(0, n, ROWS):
        b = min(a + ROWS, n)
        for i in range(a, b - 3, 4):
            add_products(part, four(g, i, first, last), four(x, i, first, last), shift, mean, rstd)
        for i in range(b - (b - a) % 4, b):
            add_products_row(part, g[i, first:last], x[i, first:last], shift, mean, rstd)
        move(part, wide)
    sums[:, first:last] = wide
    for j in range(c):
        part[0, j] = wide[0, j] / n * weight[j]
        part[1, j] = wide[1, j] / n * weight[j]
    for i in range(n):
        write_gradient(
            gx[i, first:last], g[i, first:last], x[i, first:last], shift, mean, rstd, weight, part[0], part[1]
        )


def add_products(part, grads, rows, shift, mean, rstd):
    """part[0] += g xhat and part[1] += g, for four rows of each."""
    by_weight, by_bias = part[0], part[1]
    f, g, h, k = grads
    p, q, r, s = rows
    for j in range(len(by_bias)):
        a, b, c = shift[j], mean[j], rstd[j]
        one = f[j] * standardized(p[j], a, b, c) + g[j] * standardized(q[j], a, b, c)
        two = h[j] * standardized(r[j], a, b, c) + k[j] * standardized(s[j], a, b, c)
        by_weight[j] += one + two
        by_bias[j] += (f[j] + g[j]) + (h[j] + k[j])


def add_products_row(part, g, x, shift, mean, rstd):
    """part[0] += g xhat and part[1] += g."""
    by_weight, by_bias = part[0], part[1]
    for j in range(len(by_bias)):
        by_weight[j] += g[j] * standardized(x[j], shift[j], mean[j], rstd[j])
        by_bias[j] += g[j]


def write_gradient(out, g, x, shift, mean, rstd, weight, by_xhat, by_one):
    """out = rstd (g weight - xhat mean(h xhat) - mean(h))."""
    for j in range(len(out)):
        xhat = standardized(x[j], shift[j], mean[j], rstd[j])
        out[j] = ((g[j] * weight[j] - xhat * by_xhat[j]) - by_one[j]) * rstd[j]
