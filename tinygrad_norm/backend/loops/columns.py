"""Norms whose slices are the columns of a matrix: a few rows at a time, as memory lies."""

from __future__ import annotations

from math import inf

import numpy

from ..kernels import FAR
from .common import ROWS, centred, inverse_root, minus, move, standardized

LOOPS = {
    "norm_columns": "boolean({M}, {V}, {V}, float64, float64, boolean, {M}, {M})",
    "norm_columns_backward": "void({M}, {M}, {V}, {V}, {V}, {V}, boolean, {M}, {M})",
}

SUMS = {"add_shifted", "add_squares", "add_products"}


def norm_columns(x, weight, bias, eps, tiny, prepared, y, stats):
    """``norm_rows`` for columns.

    Every block of rows is centred about its own mean, while it is in the cache. What the blocks' sums of squares lack
    is added when they are put together (Chan, Golub, LeVeque 1983).
    """
    real = x.dtype.type
    n, c = x.shape
    shift, mean, var, rstd = stats[0], stats[1], stats[2], stats[3]
    if not prepared:
        shift[:], rstd[:] = x[0], eps
    wide, part = numpy.zeros((2, c)), numpy.empty((2, c), x.dtype)
    for a in range(0, n, ROWS):
        b = min(a + ROWS, n)
        part[:] = 0
        for i in range(a, b, 4):
            add_shifted(part[0], x[i : min(i + 4, b)], shift)
        for j in range(c):
            mean[j] = part[0, j] / real(b - a)
        for i in range(a, b, 4):
            add_squares(part[1], x[i : min(i + 4, b)], shift, mean)
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
        write_row(y[i], x[i], shift, mean, rstd, weight, bias)
    return fine


def add_shifted(total, x, shift):
    """total += the rows of x - shift, four of them at once."""
    if len(x) == 4:
        for j in range(len(total)):
            one = minus(x[0, j], shift[j]) + minus(x[1, j], shift[j])
            total[j] += one + (minus(x[2, j], shift[j]) + minus(x[3, j], shift[j]))
    else:
        for i in range(len(x)):
            for j in range(len(total)):
                total[j] += minus(x[i, j], shift[j])


def add_squares(total, x, shift, mean):
    """total += the squares of (x - shift) - mean, four rows at once."""
    if len(x) == 4:
        for j in range(len(total)):
            p, q = centred(x[0, j], shift[j], mean[j]), centred(x[1, j], shift[j], mean[j])
            r, s = centred(x[2, j], shift[j], mean[j]), centred(x[3, j], shift[j], mean[j])
            total[j] += (p * p + q * q) + (r * r + s * s)
    else:
        for i in range(len(x)):
            for j in range(len(total)):
                p = centred(x[i, j], shift[j], mean[j])
                total[j] += p * p


def write_row(out, row, shift, mean, rstd, weight, bias):
    """out = xhat weight + bias."""
    for j in range(len(out)):
        out[j] = standardized(row[j], shift[j], mean[j], rstd[j]) * weight[j] + bias[j]


def norm_columns_backward(g, x, shift, mean, rstd, weight, affine, gx, sums):
    """``norm_rows_backward`` for columns; the sums that ``affine`` asks for are needed anyway."""
    n, c = x.shape
    wide, part = numpy.zeros((2, c)), numpy.zeros((2, c), x.dtype)
    for a in range(0, n, ROWS):
        b = min(a + ROWS, n)
        for i in range(a, b, 4):
            last = min(i + 4, b)
            add_products(part, g[i:last], x[i:last], shift, mean, rstd)
        move(part, wide)
    sums[:] = wide
    for j in range(c):
        part[0, j] = wide[0, j] / n * weight[j]
        part[1, j] = wide[1, j] / n * weight[j]
    for i in range(n):
        write_gradient(gx[i], g[i], x[i], shift, mean, rstd, weight, part[0], part[1])


def add_products(part, g, x, shift, mean, rstd):
    """part[0] += g xhat and part[1] += g, four rows at once."""
    by_weight, by_bias = part[0], part[1]
    if len(x) == 4:
        for j in range(len(by_bias)):
            s, m, r = shift[j], mean[j], rstd[j]
            one = g[0, j] * standardized(x[0, j], s, m, r) + g[1, j] * standardized(x[1, j], s, m, r)
            two = g[2, j] * standardized(x[2, j], s, m, r) + g[3, j] * standardized(x[3, j], s, m, r)
            by_weight[j] += one + two
            by_bias[j] += (g[0, j] + g[1, j]) + (g[2, j] + g[3, j])
    else:
        for i in range(len(x)):
            for j in range(len(by_bias)):
                by_weight[j] += g[i, j] * standardized(x[i, j], shift[j], mean[j], rstd[j])
                by_bias[j] += g[i, j]


def write_gradient(out, g, x, shift, mean, rstd, weight, by_xhat, by_one):
    """out = rstd (g weight - xhat mean(h xhat) - mean(h))."""
    for j in range(len(out)):
        xhat = standardized(x[j], shift[j], mean[j], rstd[j])
        out[j] = ((g[j] * weight[j] - xhat * by_xhat[j]) - by_one[j]) * rstd[j]
