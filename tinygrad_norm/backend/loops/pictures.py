"""Copies for convolutions that keep the width of the pictures: a tap meets the picture itself, begun elsewhere.

``shift`` says for each tap where in the picture its run begins. A run over the edge would meet the other end of a
neighbouring line; so it is taken from a picture whose columns outside ``low`` to ``high`` are zero, which the taps of
one column of the kernel never meet.
"""

from __future__ import annotations

import numpy

LOOPS = {
    "conv_met": "void({T}, int64[::1], int64[::1], int64[::1], int64, {Q})",
    "conv_met_backward": "void({Q}, int64[::1], int64[::1], int64[::1], int64, {T})",
}

SUMS: set[str] = set()


def conv_met(x, shift, low, high, width, met):
    """What every tap meets, met (C, taps, N, places), of pictures x (N, C, H W)."""
    n, channels, size = x.shape
    places, across = met.shape[3], len(low)
    front = max(0, -shift.min())
    around = numpy.zeros((across, front + max(size, shift.max() + places)), x.dtype)
    for c in range(channels):
        for k in range(n):
            for j in range(across):
                copy(x[k, c], around[j, front:])
                clear(around[j, front : front + size], low[j], high[j], width)
            for t in range(len(shift)):
                start = front + shift[t]
                copy(around[t % across, start : start + places], met[c, t, k])


def conv_met_backward(g, shift, low, high, width, gx):
    """gx (N, C, H W) from the gradient by what every tap meets, whose elements over the edges are lost."""
    n, channels, size = gx.shape
    places, across = g.shape[3], len(low)
    front = max(0, -shift.min())
    around = numpy.empty((across, front + max(size, shift.max() + places)), gx.dtype)
    for c in range(channels):
        for k in range(n):
            around[:] = 0
            for t in range(len(shift)):
                add(g[c, t, k], around[t % across, front + shift[t] :])
            for j in range(across):
                clear(around[j, front : front + size], low[j], high[j], width)
            copy(around[0, front : front + size], gx[k, c])
            for j in range(1, across):
                add(around[j, front : front + size], gx[k, c])


def clear(run, low, high, width):
    """Zeros where a tap is over an edge, in lines of ``width``."""
    for j in range(low):
        run[j::width] = 0
    for j in range(high, width):
        run[j::width] = 0


def add(run, around):
    """around += run, as far as it reaches."""
    for j in range(len(run)):
        around[j] += run[j]


def copy(run, out):
    """out = run, as far as it reaches."""
    for j in range(len(run)):
        out[j] = run[j]
