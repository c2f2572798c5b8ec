"""Pieces of all kinds of norms, none of which may be reordered."""

from __future__ import annotations

from math import sqrt

ROWS = 64  # rows added in the array's own dtype; few enough to stay in the cache while they are read twice


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


def move(part, wide):
    """wide += part; part = 0."""
    wide += part
    part[:] = 0
