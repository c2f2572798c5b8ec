"""The kernels as plain loops, written for Numba, which :mod:`.jit` puts to work at the first call that is worth it.

Everything here is ordinary Python, so that the package imports without Numba. Arrays are C-contiguous and of one float
dtype; results are written into arrays that the caller made. Sums run over blocks, whose results are added in float64:
a float32 sum is then as good for a million terms as for a thousand, and the order never depends on the values.

``SUMS`` may be reordered and contracted by the compiler, so that it can add several terms at once. All else is compiled
strictly, above all ``minus``, ``centred`` and ``standardized``: reordering (x - shift) - mean undoes what it is for.

``stats`` is (4, slices): shift, mean, var, rstd.
"""

from __future__ import annotations

from math import inf, log, sqrt

import numpy

from .kernels import FAR

LOOPS = {
    "norm_rows": "boolean({M}, {V}, {V}, float64, float64, boolean, {M}, {M})",
    "norm_rows_backward": "void({M}, {M}, {V}, {V}, {V}, {V}, boolean, {M}, {M})",
    "norm_columns": "boolean({M}, {V}, {V}, float64, float64, boolean, {M}, {M})",
    "norm_columns_backward": "void({M}, {M}, {V}, {V}, {V}, {V}, boolean, {M}, {M})",
    "unit_rows": "boolean({M}, float64, float64, {M}, {V})",
    "unit_rows_backward": "void({M}, {M}, {V}, float64, {M})",
    "centre_rows": "void({M}, {M})",
    "cross_entropy_rows": "boolean({M}, {M}, int64[::1], {V}, float64, {V})",
    "cross_entropy_rows_backward": "boolean({V}, {M}, int64[::1], {V}, float64, {M})",
    "relu": "void({V}, {V})",
    "relu_backward": "void({V}, {V}, {V})",
    "adam": "void({V}, {V}, {V}, float64, float64, float64, float64)",
    "sgd": "void({V}, {V}, float64, float64, boolean)",
}
"""What is called from outside, with its types: M is a matrix, V a vector of the float dtype."""

SUMS = {
    "shifted_sum", "sum_of_squares", "dot", "two_sums", "add_row", "add_shifted", "add_squares", "add_products",
}  # fmt: skip
"""What is called from inside and may be reordered."""

BLOCK = 1024  # terms of a row added in the array's own dtype
ROWS = 64  # rows added so, column by column; few enough to stay in the cache while they are read twice


# ---- strict


def minus(a, b):
    """a - b, never reordered."""
    return a - b


def centred(x, shift, mean):
    """(x - shift) - mean, never reordered."""
    return (x - shift) - mean


def standardized(x, shift, mean, rstd):
    """((x - shift) - mean) rstd, never reordered: what it is multiplied by next may be too large for x itself."""
    return ((x - shift) - mean) * rstd


def inverse_root(var, eps):
    """1 / sqrt(var + eps); 0 where that sum is 0."""
    v = var + eps
    return 0.0 if v == 0 else 1.0 / sqrt(v)


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


def two_sums(g, x, weight, shift, mean, rstd):
    """sum(h) and sum(h xhat), h = g weight, of one block."""
    total, product = g.dtype.type(0), g.dtype.type(0)
    for j in range(len(g)):
        h = g[j] * weight[j]
        total += h
        product += h * standardized(x[j], shift, mean, rstd)
    return total, product


# ---- layer norm: every row


def norm_rows(x, weight, bias, eps, tiny, prepared, y, stats):
    """Each row of x standardized, times weight plus bias. ``prepared``: stats holds shift, and eps as the last.

    False if a variance is not finite, or less than ``tiny`` where eps is, or a mean too far from the first element.
    """
    real = x.dtype.type
    n, d = x.shape
    if not prepared:
        stats[0], stats[3] = x[:, 0], eps
    least, far, fine = (tiny if eps < tiny else 0.0), (FAR if d > FAR else inf), True
    for i in range(n):
        row, out, s = x[i], y[i], stats[0, i]
        total = 0.0
        for a in range(0, d, BLOCK):
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


def norm_rows_backward(g, x, shift, mean, rstd, weight, affine, gx, sums):
    """Gradients of ``norm_rows`` by x and, if ``affine``, by weight and bias, the rows of ``sums``."""
    real = x.dtype.type
    n, d = x.shape
    wide, part = numpy.zeros((2, d)), numpy.zeros((2, d), x.dtype)
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
        for j in range(d):
            out[j] = ((grad[j] * weight[j] - standardized(row[j], s, m, r) * mx) - mh) * r
        if affine:
            add_row(part, grad, row, s, m, r)
            if i % ROWS == ROWS - 1 or i == n - 1:
                move(part, wide)
    if affine:
        sums[:] = wide


def add_row(part, grad, row, s, m, r):
    """part[0] += grad xhat and part[1] += grad."""
    by_weight, by_bias = part[0], part[1]
    for j in range(len(row)):
        by_weight[j] += grad[j] * standardized(row[j], s, m, r)
        by_bias[j] += grad[j]


def move(part, wide):
    """wide += part; part = 0."""
    wide += part
    part[:] = 0


# ---- batch norm: every column of a matrix, a few rows at a time, as memory lies


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


# ---- unit vectors


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
    """out = g (y > 0), a product like the generic kernel's: an infinite g where y is 0 gives NaN."""
    one, zero = g.dtype.type(1), g.dtype.type(0)
    for j in range(len(g)):
        out[j] = g[j] * (one if y[j] > 0 else zero)


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
