"""Norms whose slices are the channels of pictures (N, C, length), one run of memory for each picture."""

from __future__ import annotations

from math import inf

from ..kernels import FAR
from .common import inverse_root, standardized
from .rows import BLOCK, shifted_sum, sum_of_squares

LOOPS = {
    "norm_channels": "boolean({T}, {V}, {V}, float64, float64, boolean, int64, int64, {T}, {M})",
    "norm_channels_backward": "void({T}, {T}, {V}, {V}, {V}, {V}, boolean, int64, int64, {T}, {M})",
}

SUMS = {"shifted_sum", "sum_of_squares", "sums_of_run"}


def norm_channels(x, weight, bias, eps, tiny, prepared, first, last, y, stats):
    """``norm_rows`` for channels, with one weight and bias for each."""
    real = x.dtype.type
    n, _, length = x.shape
    size = n * length
    least, far, fine = (tiny if eps < tiny else 0.0), (FAR if size > FAR else inf), True
    for c in range(first, last):
        if not prepared:
            stats[0, c], stats[3, c] = x[0, c, 0], eps
        s = stats[0, c]
        total = 0.0
        for k in range(n):
            for a in range(0, length, BLOCK):
                total += shifted_sum(x[k, c, a : a + BLOCK], s)
        m = real(total / size)
        total = 0.0
        for k in range(n):
            for a in range(0, length, BLOCK):
                total += sum_of_squares(x[k, c, a : a + BLOCK], s, m)
        v = real(total / size)
        r = real(inverse_root(v, stats[3, c]))
        stats[1, c], stats[2, c], stats[3, c] = m, v, r
        fine = fine and least <= v < inf and not (m * r) ** 2 > far
        for k in range(n):
            write_run(y[k, c], x[k, c], s, m, r, weight[c], bias[c])
    return fine


def norm_channels_backward(g, x, shift, mean, rstd, weight, affine, first, last, gx, sums):
    """Gradients of ``norm_channels``; the sums that ``affine`` asks for are needed anyway."""
    real = x.dtype.type
    n, _, length = x.shape
    for c in range(first, last):
        s, m, r, w = shift[c], mean[c], rstd[c], weight[c]
        total, product = 0.0, 0.0
        for k in range(n):
            for a in range(0, length, BLOCK):
                b = a + BLOCK
                one, two = sums_of_run(g[k, c, a:b], x[k, c, a:b], s, m, r)
                total += one
                product += two
        sums[0, c], sums[1, c] = product, total
        mh, mx = real(total / (n * length) * w), real(product / (n * length) * w)
        for k in range(n):
            write_run_gradient(gx[k, c], g[k, c], x[k, c], s, m, r, w, mh, mx)


def sums_of_run(g, x, shift, mean, rstd):
    """sum(g) and sum(g xhat) of one block."""
    total, product = g.dtype.type(0), g.dtype.type(0)
    for j in range(len(g)):
        total += g[j]
        product += g[j] * standardized(x[j], shift, mean, rstd)
    return total, product


def write_run(out, x, shift, mean, rstd, weight, bias):
    """out = xhat weight + bias."""
    for j in range(len(out)):
        out[j] = standardized(x[j], shift, mean, rstd) * weight + bias


def write_run_gradient(out, g, x, shift, mean, rstd, weight, by_one, by_xhat):
    """out = rstd (g weight - xhat mean(h xhat) - mean(h))."""
    for j in range(len(out)):
        xhat = standardized(x[j], shift, mean, rstd)
        out[j] = ((g[j] * weight - xhat * by_xhat) - by_one) * rstd
