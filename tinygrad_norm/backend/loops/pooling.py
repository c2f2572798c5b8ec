"""Pooling of planes (N C, H, W). Rows and columns of a window are the six numbers of ``windows.Window``."""

from __future__ import annotations

from math import inf

LOOPS = {
    "max_pool": "void({T}, int64[::1], int64[::1], {T}, int32[:, :, ::1])",
    "max_pool_backward": "void({T}, int32[:, :, ::1], int64[::1], int64[::1], {T})",
    "sum_pool": "void({T}, int64[::1], int64[::1], {T})",
    "sum_pool_backward": "void({T}, int64[::1], int64[::1], {T})",
}

SUMS: set[str] = set()


def max_pool(x, rows, columns, y, choice):
    """The largest of every window and which it is: the first of several, the last of NaN."""
    planes, high, wide = x.shape
    for n in range(planes):
        for p in range(rows[5]):
            for q in range(columns[5]):
                best, number = x.dtype.type(-inf), 0
                for i in range(rows[0]):
                    r = at(rows, p, i)
                    for j in range(columns[0]):
                        c = at(columns, q, j)
                        if 0 <= r < high and 0 <= c < wide:
                            v = x[n, r, c]
                            if v > best or v != v:
                                best, number = v, i * columns[0] + j
                y[n, p, q], choice[n, p, q] = best, number


def max_pool_backward(g, choice, rows, columns, gx):
    """The gradient of every window goes to the one element that was chosen."""
    planes, high, wide = gx.shape
    gx[:] = 0
    for n in range(planes):
        for p in range(rows[5]):
            for q in range(columns[5]):
                r = at(rows, p, choice[n, p, q] // columns[0])
                c = at(columns, q, choice[n, p, q] % columns[0])
                if 0 <= r < high and 0 <= c < wide:
                    gx[n, r, c] += g[n, p, q]


def sum_pool(x, rows, columns, y):
    """The sum of every window."""
    planes, high, wide = x.shape
    for n in range(planes):
        for p in range(rows[5]):
            for q in range(columns[5]):
                total = x.dtype.type(0)
                for i in range(rows[0]):
                    r = at(rows, p, i)
                    for j in range(columns[0]):
                        c = at(columns, q, j)
                        if 0 <= r < high and 0 <= c < wide:
                            total += x[n, r, c]
                y[n, p, q] = total


def sum_pool_backward(g, rows, columns, gx):
    """The gradient of every window goes to all its elements."""
    planes, high, wide = gx.shape
    gx[:] = 0
    for n in range(planes):
        for p in range(rows[5]):
            for q in range(columns[5]):
                for i in range(rows[0]):
                    r = at(rows, p, i)
                    for j in range(columns[0]):
                        c = at(columns, q, j)
                        if 0 <= r < high and 0 <= c < wide:
                            gx[n, r, c] += g[n, p, q]


def at(window, place, i):
    """Where element i of the kernel stands: place stride + i dilation - padding."""
    return place * window[1] + i * window[2] - window[3]
