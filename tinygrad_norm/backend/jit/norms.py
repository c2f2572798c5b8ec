"""Norms and unit vectors."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy

from ..base import Backend
from ..cpu import TINY
from ..kernels import Axes
from .base import Array, Compiled
from .threads import in_blocks


class Norms(Compiled):
    """Norms over rows and columns of a matrix and over channels of pictures, and unit vectors along rows."""

    def norm_forward(
        self, x: Array, weight: Any, bias: Any, axes: Axes, eps: float, centre: bool = True
    ) -> tuple[Array, tuple]:
        """In one pass over each row or channel, or two over a matrix whose columns are normalized."""
        kind, shape, inner, kept = layout(x.shape, axes)
        loop = self.loop(kind, shape, x) if kind and (centre or kind == "norm_rows") else None
        w = b = None
        if loop is not None:
            w, b = one_each(weight, x, inner, 1.0), one_each(bias, x, inner, 0.0)
        if loop is None or w is None or b is None:
            return super().norm_forward(x, weight, bias, axes, eps, centre)
        y, stats = numpy.empty_like(x), numpy.empty((4, prod(kept)), x.dtype)
        how = (centre, False) if kind == "norm_rows" else (False,)
        given, results = (x.reshape(shape), w, b, eps, TINY[x.dtype.char], *how), (y.reshape(shape), stats)
        if all(in_blocks(lambda first, last: loop(*given, first, last, *results), stats.shape[1], x.size)):
            shift, mean, var, rstd = stats.reshape(4, *kept)
            return y, (shift, mean, var, rstd) if centre else (None, None, var, rstd)
        return Backend.norm_forward(self, x, weight, bias, axes, eps, centre)

    def statistics(self, x: Array, axes: Axes, eps: Any, centre: bool, shift: Any = None) -> tuple[Array, tuple]:
        """With the sums of the compiled kernel, so that a slice out of range is added in the same order."""
        kind, shape, _, kept = layout(x.shape, axes)
        loop = self.loop(kind, shape, x) if kind and (centre or kind == "norm_rows") else None
        if loop is None:
            return super().statistics(x, axes, eps, centre, shift)
        stats = numpy.empty((4, *kept), x.dtype)
        if shift is None:
            shift = x[tuple(slice(0, 1) if a in axes else slice(None) for a in range(x.ndim))] if centre else 0.0
        stats[0], stats[3] = shift, eps
        how = (centre, True) if kind == "norm_rows" else (True,)
        unused = numpy.empty(shape, x.dtype)
        one = unused.reshape(-1)[: shape[1]]
        loop(x.reshape(shape), one, one, 0.0, 0.0, *how, 0, stats[0].size, unused, stats.reshape(4, -1))
        if not centre:
            return x, (None, None, stats[2], stats[3])
        return (x - stats[0]) - stats[1], tuple(stats)

    def norm_backward(
        self, g: Array, x: Array, stats: tuple, weight: Any, axes: Axes, needs: tuple[bool, bool, bool]
    ) -> tuple[Any, Any, Any]:
        """In one pass over each row, or two over channels and over a matrix whose columns are normalized."""
        kind, shape, inner, _ = layout(x.shape, axes)
        shift, mean, _, rstd = stats
        w = loop = None
        centre = shift is not None
        if kind and needs[0] and (centre or kind == "norm_rows"):
            if not centre:
                shift = mean = numpy.zeros_like(rstd)
            rows = numpy.ascontiguousarray(g)
            loop = self.loop(kind + "_backward", shape, x, rows, shift, mean, rstd)
            w = one_each(weight, x, inner, 1.0) if loop else None
        if loop is None or w is None:
            return super().norm_backward(g, x, stats, weight, axes, needs)
        gx, sums = numpy.empty_like(x), numpy.empty((2, shape[1]), x.dtype)
        affine = weight is not None and (needs[1] or needs[2])
        s, m, r = shift.reshape(-1), mean.reshape(-1), rstd.reshape(-1)
        how = (centre, affine) if kind == "norm_rows" else (affine,)
        given = rows.reshape(shape), x.reshape(shape), s, m, r, w, *how

        def block(first: int, last: int) -> Array:
            part = numpy.empty_like(sums) if kind == "norm_rows" and last - first < r.size else sums
            loop(*given, first, last, gx.reshape(shape), part)
            return part

        parts = in_blocks(block, r.size, x.size)
        sums = sums if parts[0] is sums else sum(parts)
        if weight is None:  # the bias may then have any shape
            return gx, None, g if needs[2] else None
        gweight, gbias = sums.reshape(2, *(weight.shape if weight.size == shape[1] else inner))
        return gx, gweight if needs[1] else None, gbias if needs[2] else None

    # ---- unit vectors

    def unit_forward(self, v: Array, axes: Axes, eps: float) -> tuple[Array, Array]:
        """Without scaling first, unless a sum of squares then shows that it was needed."""
        kind, shape, _, kept = layout(v.shape, axes)
        loop = self.loop("unit_rows", shape, v) if kind == "norm_rows" else None
        if loop is None:
            return super().unit_forward(v, axes, eps)
        u, norm = numpy.empty_like(v), numpy.empty(kept, v.dtype)
        if not loop(v.reshape(shape), eps, TINY[v.dtype.char], u.reshape(shape), norm.reshape(-1)):
            with self.errstate(all="ignore"):
                k = self.frexp(self.max(self.abs(v), axis=axes, keepdims=True))[1]
                loop(self.ldexp(v, -k).reshape(shape), 0.0, 0.0, u.reshape(shape), norm.reshape(-1))
                norm = self.ldexp(norm, k)
                if eps:
                    u = self.where(norm < eps, v / eps, u)
        return u, norm

    def unit_backward(self, g: Array, u: Array, norm: Array, axes: Axes, eps: float) -> Array:
        """In one pass over each row."""
        kind, shape, _, _ = layout(u.shape, axes)
        rows = numpy.ascontiguousarray(g)
        loop = self.loop("unit_rows_backward", shape, u, rows, norm) if kind == "norm_rows" else None
        if loop is None:
            return super().unit_backward(g, u, norm, axes, eps)
        gv = numpy.empty_like(u)
        loop(rows.reshape(shape), u.reshape(shape), norm.reshape(-1), eps, gv.reshape(shape))
        return gv

    def weight_norm_forward(self, v: Array, length: Array, axes: Axes, eps: float) -> tuple[Array, Array]:
        """In one pass over each row, unless it leaves the range."""
        kind, shape, _, kept = layout(v.shape, axes)
        loop = self.loop("weight_norm_rows", shape, v, length) if kind == "norm_rows" and length.shape == kept else None
        if loop is not None:
            w, norm = numpy.empty_like(v), numpy.empty(kept, v.dtype)
            tiny, arrays = (
                TINY[v.dtype.char],
                (v.reshape(shape), length.reshape(-1), w.reshape(shape), norm.reshape(-1)),
            )

            def block(first: int, last: int) -> bool:
                rows, lengths, *results = (a[first:last] for a in arrays)
                return loop(rows, lengths, eps, tiny, *results)

            if all(in_blocks(block, shape[0], v.size)):
                return w, norm
        return super().weight_norm_forward(v, length, axes, eps)

    def weight_norm_backward(
        self, g: Array, v: Array, length: Array, norm: Array, axes: Axes, eps: float, needs: tuple[bool, bool]
    ) -> tuple[Any, Any]:
        """In one pass over each row, unless it leaves the range."""
        kind, shape, _, kept = layout(v.shape, axes)
        rows = numpy.ascontiguousarray(g)
        fits = kind == "norm_rows" and length.shape == kept
        loop = self.loop("weight_norm_rows_backward", shape, v, rows, length, norm) if fits else None
        if loop is not None:
            gv, by_length = numpy.empty_like(v), numpy.empty_like(norm)
            tiny = TINY[v.dtype.char]
            matrices = rows.reshape(shape), v.reshape(shape), gv.reshape(shape)
            vectors = length.reshape(-1), norm.reshape(-1), by_length.reshape(-1)

            def block(first: int, last: int) -> bool:
                (grads, some, result), (lengths, norms, sums) = (
                    [a[first:last] for a in v] for v in (matrices, vectors)
                )
                return loop(grads, some, lengths, norms, eps, tiny, result, sums)

            if all(in_blocks(block, shape[0], v.size)):
                return gv, by_length
        return super().weight_norm_backward(g, v, length, norm, axes, eps, needs)


@lru_cache
def layout(shape: tuple[int, ...], axes: Axes) -> tuple[str, Any, Any, Any]:
    """The loop for these axes ("" if there is none), x's shape as a matrix, the shapes of weight and of statistics.

    Slices are the rows of a matrix, when the axes are the last ones, or the columns of one; or channels of pictures,
    which as (N, C, length) have a run for each picture.
    """
    outer = len(shape) - len(axes)
    head, tail = shape[:outer], shape[outer:]
    if axes and axes == tuple(range(outer, len(shape))):
        return "norm_rows", (prod(head), prod(tail)), (1,) * outer + tail, head + (1,) * len(tail)
    if len(shape) == 2 and axes == (0,):
        return "norm_columns", shape, (1, *tail), (1, *tail)
    if len(shape) > 2 and axes == (0, *range(2, len(shape))):
        kept = (1, shape[1]) + (1,) * (len(shape) - 2)
        return "norm_channels", (*shape[:2], prod(shape[2:])), kept, kept
    return "", None, None, None


def one_each(v: Any, x: Array, inner: tuple[int, ...], absent: float) -> Array | None:
    """A weight or bias as one number for each element of a slice of shape ``inner``; None if it has another form."""
    if v is None:
        return numpy.full(prod(inner), absent, x.dtype)
    if v.dtype != x.dtype or not v.flags.carray:
        return None
    if v.size == 1:
        return numpy.full(prod(inner), v.reshape(()), x.dtype)
    return v.reshape(-1) if (1,) * (x.ndim - v.ndim) + v.shape == inner else None
