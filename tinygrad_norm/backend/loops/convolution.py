"""Convolution: copy what the kernel's taps meet of some pictures, then one product of matrices.

What is computed at once is small enough to stay in the cache: some pictures, or some lines of places of a large one.
Rows and columns of the kernel are the six numbers of ``windows.Window``.
"""

from __future__ import annotations

import numpy

from .blas import multiply
from .common import ROWS, move

LOOPS = {
    "conv": "void({T}, int64, {T}, {V}, int64[::1], int64[::1], int64, int64, {T})",
    "conv_backward_x": "void({T}, int64, {T}, int64[::1], int64[::1], int64, int64, {T})",
    "conv_backward_weight": (
        "void({T}, {T}, int64, int64[::1], int64[::1], int64, int64, float64[:, :, ::1], float64[::1])"
    ),
}

SUMS = {"total"}


def conv(x, width, w, bias, rows, columns, pictures, lines, y):
    """y (N, O, places) of pictures x (N, C, H width) and the weight w (groups, O / groups, C / groups taps)."""
    groups, o, k = w.shape
    met, runs = rooms(x, rows, columns, pictures, lines)
    by_place = numpy.empty((groups * o, met.shape[1]), x.dtype)
    for n in range(0, len(x), pictures):
        count = min(pictures, len(x) - n)
        for first in range(0, rows[5], lines):
            last = min(first + lines, rows[5])
            size = (last - first) * columns[5]
            for m in range(count):
                meet(x[n + m], width, rows, columns, first, last, runs, met, m * size)
            for i in range(groups):
                here = by_place[i * o : (i + 1) * o, : count * size]
                multiply(w[i], met[i * k : (i + 1) * k, : count * size], here, False)
            for m in range(count):
                for c in range(len(bias)):
                    copy_plus(by_place[c, m * size :], bias[c], y[n + m, c, first * columns[5] : last * columns[5]])


def conv_backward_x(g, width, w, rows, columns, pictures, lines, gx):
    """gx from g (N, O, places) and the weight turned around, w (groups, C / groups taps, O / groups)."""
    groups, k, o = w.shape
    met, runs = rooms(gx, rows, columns, pictures, lines)
    by_place = numpy.empty((groups * o, met.shape[1]), gx.dtype)
    for n in range(0, len(gx), pictures):
        count = min(pictures, len(gx) - n)
        gx[n : n + count] = 0
        for first in range(0, rows[5], lines):
            last = min(first + lines, rows[5])
            size = (last - first) * columns[5]
            for m in range(count):
                for c in range(groups * o):
                    copy(g[n + m, c, first * columns[5] :], by_place[c, m * size : (m + 1) * size])
            for i in range(groups):
                here = met[i * k : (i + 1) * k, : count * size]
                multiply(w[i], by_place[i * o : (i + 1) * o, : count * size], here, False)
            for m in range(count):
                spread(met, m * size, width, rows, columns, first, last, runs, gx[n + m])


def conv_backward_weight(g, x, width, rows, columns, pictures, lines, gw, gb):
    """gw (groups, C / groups taps, O / groups) and gb: what was there before, and the sum over the pictures."""
    groups, k, o = gw.shape
    met, runs = rooms(x, rows, columns, pictures, lines)
    by_place = numpy.empty((met.shape[1], groups * o), x.dtype)
    some = numpy.zeros(gw.shape, x.dtype)
    done = 0
    for n in range(0, len(x), pictures):
        count = min(pictures, len(x) - n)
        for first in range(0, rows[5], lines):
            last = min(first + lines, rows[5])
            size = (last - first) * columns[5]
            for m in range(count):
                for c in range(len(gb)):
                    here = g[n + m, c, first * columns[5] : last * columns[5]]
                    gb[c] += total(here)
                    copy_down(here, by_place[m * size :, c])
                meet(x[n + m], width, rows, columns, first, last, runs, met, m * size)
            size *= count
            for i in range(groups):
                multiply(met[i * k : (i + 1) * k, :size], by_place[:size, i * o : (i + 1) * o], some[i], True)
        done += count
        if done >= ROWS or n + count == len(x):
            move(some, gw)
            done = 0


def rooms(x, rows, columns, pictures, lines):
    """For what all taps meet in some lines of some pictures, and for runs of lines, one for each channel."""
    high = (lines - 1) * rows[1] + (rows[0] - 1) * rows[2] + 1
    met = numpy.empty((x.shape[1] * rows[0] * columns[0], pictures * lines * columns[5]), x.dtype)
    return met, numpy.empty((x.shape[1], high * columns[5]), x.dtype)


def meet(x, width, rows, columns, first, last, runs, met, at):
    """What every tap meets of one picture x (C, H W), zeros around it, for some lines of places: met (C taps, places).

    For each column of the kernel, what it meets in the lines of the picture lies in a run, one line behind the other;
    what a tap of that column meets is then a part of the run.
    """
    high, stride, apart, above = rows[0], rows[1], rows[2], first * rows[1] - rows[3]
    across, step, wide = columns[0], columns[1], columns[5]
    begin, end = inside(runs.shape[1] // wide, x.shape[1] // width, 1, above)
    for j in range(across):
        start = j * columns[2] - columns[3]
        low, past = inside(wide, width, step, start)
        for c in range(len(x)):
            lay(x[c], width, wide, step, above, start, begin, end, low, past, runs[c])
        for c in range(len(x)):
            for i in range(high):
                take(runs[c, i * apart * wide :], wide, stride, last - first, met[(c * high + i) * across + j, at:])


def spread(met, at, width, rows, columns, first, last, runs, gx):
    """gx (C, H W) += the gradient by what every tap meets: each step of ``meet``, turned around."""
    high, stride, apart, above = rows[0], rows[1], rows[2], first * rows[1] - rows[3]
    across, step, wide = columns[0], columns[1], columns[5]
    begin, end = inside(runs.shape[1] // wide, gx.shape[1] // width, 1, above)
    for j in range(across):
        start = j * columns[2] - columns[3]
        low, past = inside(wide, width, step, start)
        for c in range(len(gx)):
            runs[c] = 0
            for i in range(high):
                give(met[(c * high + i) * across + j, at:], wide, stride, last - first, runs[c, i * apart * wide :])
        for c in range(len(gx)):
            lift(runs[c], width, wide, step, above, start, begin, end, low, past, gx[c])


def lay(x, width, wide, step, above, start, begin, end, low, past, run):
    """run = what a column of the kernel meets in the lines of a picture x (H W), from line ``above`` on."""
    run[: begin * wide] = 0
    run[end * wide :] = 0
    if step == 1 and wide == width:
        shift = above * width + start
        left = max(0, -shift)
        copy(x[shift + left :], run[left : max(left, min(len(run), len(x) - shift))])
        clear(run, wide, low, past)
    else:
        for r in range(begin, end):
            line, here = run[r * wide : (r + 1) * wide], (above + r) * width + start
            line[:] = 0
            for q in range(low, past):
                line[q] = x[here + q * step]


def lift(run, width, wide, step, above, start, begin, end, low, past, gx):
    """gx (H W) += what was laid in a run."""
    if step == 1 and wide == width:
        clear(run, wide, low, past)
        shift = above * width + start
        left = max(0, -shift)
        add(run[left : max(left, min(len(run), len(gx) - shift))], gx[shift + left :])
    else:
        for r in range(begin, end):
            line, here = run[r * wide : (r + 1) * wide], (above + r) * width + start
            for q in range(low, past):
                gx[here + q * step] += line[q]


def take(run, wide, stride, lines, tap):
    """tap = every ``stride``-th line of a run."""
    if stride == 1:
        copy(run, tap[: lines * wide])
    else:
        for p in range(lines):
            copy(run[p * stride * wide :], tap[p * wide : (p + 1) * wide])


def give(tap, wide, stride, lines, run):
    """Every ``stride``-th line of a run += tap."""
    if stride == 1:
        add(tap[: lines * wide], run)
    else:
        for p in range(lines):
            add(tap[p * wide : (p + 1) * wide], run[p * stride * wide :])


def clear(run, wide, low, past):
    """Zeros at the places of every line that are before ``low``, or not before ``past``."""
    for q in range(low):
        run[q::wide] = 0
    for q in range(past, wide):
        run[q::wide] = 0


def inside(places, size, step, start):
    """From which to which of some places ``place step + start`` is inside an axis of that size."""
    low = min(max(0, -(start // step)), places)
    return low, max(low, min(places, -((start - size) // step)))


def copy_down(run, column):
    """A column = a run."""
    for j in range(len(run)):
        column[j] = run[j]


def copy_plus(run, shift, out):
    """out = run + shift, as far as out reaches."""
    for j in range(len(out)):
        out[j] = run[j] + shift


def total(run):
    """The sum of a run."""
    value = run.dtype.type(0)
    for j in range(len(run)):
        value += run[j]
    return value


def copy(run, out):
    """out = run, as far as out reaches."""
    for j in range(len(out)):
        out[j] = run[j]


def add(run, out):
    """out += run, as far as run reaches."""
    for j in range(len(run)):
        out[j] += run[j]
