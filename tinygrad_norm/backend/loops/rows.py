"""Norms and unit vectors whose slices are the rows of a matrix."""

from __future__ import annotations

from math import inf, sqrt

import numpy

from ..kernels import FAR
from .common import ROWS, centred, inverse_root, minus, move, standardized

LOOPS = {
    "norm_rows": "boolean({M}, {V}, {V}, float64, float64, boolean, boolean, int64, int64, {M}, {M})",
    "norm_rows_backward": "void({M}, {M}, {V}, {V}, {V}, {V}, boolean, boolean, int64, int64, {M}, {M})",
    "unit_rows": "boolean({M}, float64, float64, {M}, {V})",
    "unit_rows_backward": "void({M}, {M}, {V}, float64, {M})",
    "weight_norm_rows": "boolean({M}, {V}, float64, float64, {M}, {V})",
    "weight_norm_rows_backward": "boolean({M}, {M}, {V}, {V}, float64, float64, {M}, {V})",
}

SUMS = {"shifted_sum", "sum_of_squares", "dot", "two_sums", "add_row"}

BLOCK = 1024  # terms of a row added in the array's own dtype


# ---- sums along a row


def shifted_sum(v, shift):
    """sum(v - shift) of one block."""
    total = v.dtype.type(0)
    for j in range(len(v)):
        total += minus(v[j], shift)
    return total


def sum_of_squares(v, shift, mean):
    """sum(((v - shift) - mean)^2) of one block."""
    total = v.dtype.type(0)
    for j in range(len(v)):
        d = centred(v[j], shift, mean)
        total += d * d
    return total


def dot(a, b):
    """sum(a b) of one block."""
    total = a.dtype.type(0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


def inner_product(a, b):
    """sum(a b), block by block."""
    total = 0.0
    for i in range(0, len(a), BLOCK):
        total += dot(a[i : i + BLOCK], b[i : i + BLOCK])
    return total


def two_sums(g, x, weight, shift, mean, rstd):
    """sum(h) and sum(h xhat), h = g weight, of one block."""
    total, product = g.dtype.type(0), g.dtype.type(0)
    for j in range(len(g)):
        h = g[j] * weight[j]
        total += h
        product += h * standardized(x[j], shift, mean, rstd)
    return total, product


# ---- layer norm: every row


def norm_rows(x, weight, bias, eps, tiny, centre, prepared, first, last, y, stats):
    """Rows ``first`` to ``last`` standardized, times weight plus bias. ``prepared``: stats holds shift, and eps last.

    Without ``centre`` shift and mean are 0.

    False if a variance is not finite, or less than ``tiny`` where eps is, or a mean too far from the first element.
    """
    real = x.dtype.type
    d = x.shape[1]
    least, far, fine = (tiny if eps < tiny else 0.0), (FAR if d > FAR else inf), True
    for i in range(first, last):
        row, out = x[i], y[i]
        if not prepared:
            stats[0, i], stats[3, i] = row[0] if centre else real(0), eps
        s = stats[0, i]
        total = 0.0
        for a in range(0, d if centre else 0, BLOCK):
            total += shifted_sum(row[a : a + BLOCK], s)
        m = real(total / d)
        total = 0.0
        for a in range(0, d, BLOCK):
            total += sum_of_squares(row[a : a + BLOCK], s, m)
        v = real(total / d)
        r = real(inverse_root(v, stats[3, i]))
        stats[1, i], stats[2, i], stats[3, i] = m, v, r
        fine = fine and least <= v < inf and not (m * r) ** 2 > far
        for j in range(d):
            out[j] = standardized(row[j], s, m, r) * weight[j] + bias[j]
    return fine


def norm_rows_backward(g, x, shift, mean, rstd, weight, centre, affine, first, last, gx, sums):
    """Gradients of ``norm_rows`` by x and, if ``affine``, by weight and bias, the rows of ``sums``."""
    real = x.dtype.type
    d = x.shape[1]
    wide, part = numpy.zeros((2, d)), numpy.zeros((2, d), x.dtype)
    for i in range(first, last):
        row, grad, out = x[i], g[i], gx[i]
        s, m, r = shift[i], mean[i], rstd[i]
        total, product = 0.0, 0.0
        for a in range(0, d, BLOCK):
            b = a + BLOCK
            one, two = two_sums(grad[a:b], row[a:b], weight[a:b], s, m, r)
            total += one
            product += two
        mh, mx = real(total / d if centre else 0.0), real(product / d)
        for j in range(d):
            out[j] = ((grad[j] * weight[j] - standardized(row[j], s, m, r) * mx) - mh) * r
        if affine:
            add_row(part, grad, row, s, m, r)
            if i % ROWS == ROWS - 1 or i == last - 1:
                move(part, wide)
    if affine:
        sums[:] = wide


def add_row(part, grad, row, s, m, r):
    """part[0] += grad xhat and part[1] += grad."""
    by_weight, by_bias = part[0], part[1]
    for j in range(len(row)):
        by_weight[j] += grad[j] * standardized(row[j], s, m, r)
        by_bias[j] += grad[j]


# ---- unit vectors


def unit_rows(v, eps, least, u, norm):
    """Each row of v over max(its length, eps); False if a sum of squares is not finite, or so small it lost digits."""
    real = v.dtype.type
    n, d = v.shape
    fine = True
    for i in range(n):
        row, out = v[i], u[i]
        square = real(inner_product(row, row))
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
            along = real(inner_product(grad, unit))
            for j in range(d):
                out[j] = (grad[j] - unit[j] * along) / length


def weight_norm_rows(v, length, eps, least, w, norm):
    """Each row of v times length / max(its norm, eps); False where a square or a quotient leaves the range."""
    real = v.dtype.type
    n, d = v.shape
    for i in range(n):
        row, out = v[i], w[i]
        square = real(inner_product(row, row))
        norm[i] = sqrt(square)
        factor = length[i] / max(norm[i], real(eps))
        if not (inside(square, least) and (inside(factor, least) or length[i] == 0)):
            return False
        for j in range(d):
            out[j] = row[j] * factor
    return True


def weight_norm_rows_backward(g, v, length, norm, eps, least, gv, glength):
    """Gradients of ``weight_norm_rows``; False where a square or a quotient leaves the range."""
    real = g.dtype.type
    n, d = g.shape
    for i in range(n):
        grad, row, out = g[i], v[i], gv[i]
        limit = max(norm[i], real(eps))
        factor = length[i] / limit
        glength[i] = real(inner_product(grad, row)) / limit
        along = glength[i] / limit
        if not (inside(norm[i] * norm[i], least) and (inside(factor, least) or length[i] == 0)):
            return False
        if not (inside(along, least) or glength[i] == 0):
            return False
        if norm[i] < eps:
            along = real(0)
        for j in range(d):
            out[j] = (grad[j] - row[j] * along) * factor
    return True


def inside(x, least):
    """Whether x is finite and its size at least ``least``."""
    return least <= abs(x) < inf
