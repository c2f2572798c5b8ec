"""Convolution and pooling."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy

from ..loops.blas import FEW, MOST
from ..openblas import gemm, threads
from ..windows import Window
from .base import Array, Compiled
from .threads import get_num_threads, share

LARGE = 1 << 20  # elements of a weight that is not in the cache: for more pictures at a time NumPy's kernel is faster
ENOUGH = 1 << 22  # products of numbers for a block of pictures: twice what it takes to wake a thread
PLACES = 256  # of a block: fewer are less work than adding up gradients of a weight, as large as it may be


class Windows(Compiled):
    """Convolutions, whose products are BLAS's, and pooling.

    Attributes:
        met_size: how many elements of what the kernel's taps meet stay in the cache.
    """

    met_size = 1 << 18

    def conv_forward(self, x: Array, weight: Array, bias: Any, rows: Window, columns: Window, groups: int) -> Array:
        """Some pictures, or lines of one, at a time; threads share the pictures."""
        x, w = numpy.ascontiguousarray(x), numpy.ascontiguousarray(weight).reshape(groups, len(weight) // groups, -1)
        bias = numpy.zeros(len(weight), w.dtype) if bias is None else numpy.ascontiguousarray(bias)
        loop = self.conv_loop("conv", x, w, bias)
        if loop is None:
            return super().conv_forward(x, weight, bias, rows, columns, groups)
        y = numpy.empty((len(x), len(weight), rows.places, columns.places), x.dtype)
        window, blocks = self.cut(x, w, rows, columns)

        def block(first: int, last: int) -> None:
            loop(flat(x[first:last]), x.shape[3], w, bias, *window, flat(y[first:last]))

        share_as_blas(block, blocks)
        return y

    def conv_backward(
        self, g: Array, x: Array, weight: Array, rows: Window, columns: Window, groups: int,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Any, ...]:  # fmt: skip
        """Some pictures, or lines of one, at a time; threads share the pictures."""
        g, x = numpy.ascontiguousarray(g), numpy.ascontiguousarray(x)
        w = numpy.ascontiguousarray(weight.reshape(groups, len(weight) // groups, -1).swapaxes(1, 2))
        by_x, by_weight = (self.conv_loop(f"conv_backward_{name}", x, w, g) for name in ("x", "weight"))
        if by_x is None or by_weight is None:
            return super().conv_backward(g, x, weight, rows, columns, groups, needs)
        window, blocks = self.cut(x, w, rows, columns)
        gx = numpy.empty(x.shape if needs[0] else 0, x.dtype)

        def block(first: int, last: int) -> tuple[Any, Any]:
            sums: tuple[Any, Any] = 0.0, 0.0
            if needs[1] or needs[2]:
                sums = numpy.zeros(w.shape), numpy.zeros(len(weight))
                by_weight(flat(g[first:last]), flat(x[first:last]), x.shape[3], *window, *sums)
            if needs[0]:
                by_x(flat(g[first:last]), x.shape[3], w, *window, flat(gx[first:last]))
            return sums

        gw, gb = (numpy.asarray(sum(parts), w.dtype) for parts in zip(*share_as_blas(block, blocks), strict=True))
        gw = gw.swapaxes(-1, -2).reshape(weight.shape) if needs[1] else gw
        return tuple(v if need else None for v, need in zip((gx, gw, gb), needs, strict=True))

    def conv_loop(self, name: str, x: Array, w: Array, *arrays: Array) -> Any:
        """The compiled loop, if it takes these arrays and BLAS's functions are known; else None."""
        if w.size > LARGE or not (gemm("sgemm") and gemm("dgemm")):
            return None
        return self.loop(name, x.shape, x, w, *arrays)

    def cut(
        self, x: Array, w: Array, rows: Window, columns: Window
    ) -> tuple[tuple[Array, Array, int, int], list[tuple[int, int]]]:
        """What loops are told of the window, how many pictures and lines to take at a time, and blocks of pictures.

        Blocks depend on shapes only, so that no bit of a result depends on the number of threads.
        """
        met, places = x.shape[1] * rows.size * columns.size, rows.places * columns.places
        lines = max(FEW, min(MOST // FEW // max(w.shape[1:]), self.met_size // met)) // columns.places
        pictures = max(1, lines // rows.places)
        count = max(1, min(len(x) * places * w.size // ENOUGH, len(x) * places // PLACES, len(x)))
        blocks = list(pairwise(len(x) * i // count for i in range(count + 1)))
        return (numpy.array(rows), numpy.array(columns), pictures, min(max(1, lines), rows.places)), blocks

    # ---- pooling

    def max_pool_forward(self, x: Array, rows: Window, columns: Window) -> tuple[Array, Array]:
        """In one pass."""
        loop = self.loop("max_pool", x.shape, x)
        if loop is None:
            return super().max_pool_forward(x, rows, columns)
        y = numpy.empty((*x.shape[:2], rows.places, columns.places), x.dtype)
        choice = numpy.empty(planes(y).shape, "int32")
        loop(planes(x), numpy.array(rows), numpy.array(columns), planes(y), choice)
        return y, choice.transpose(1, 2, 0)

    def max_pool_backward(
        self, g: Array, choice: Array, shape: tuple[int, ...], rows: Window, columns: Window
    ) -> Array:
        """In one pass."""
        loop, chosen = self.loop("max_pool_backward", shape, g), choice.transpose(2, 0, 1)
        if loop is None or not chosen.flags.carray:
            return super().max_pool_backward(g, choice, shape, rows, columns)
        gx = numpy.empty(shape, g.dtype)
        loop(planes(g), chosen, numpy.array(rows), numpy.array(columns), planes(gx))
        return gx

    def sum_pool(self, x: Array, rows: Window, columns: Window) -> Array:
        """In one pass."""
        loop = self.loop("sum_pool", x.shape, x)
        if loop is None:
            return super().sum_pool(x, rows, columns)
        y = numpy.empty((*x.shape[:2], rows.places, columns.places), x.dtype)
        loop(planes(x), numpy.array(rows), numpy.array(columns), planes(y))
        return y

    def sum_pool_backward(self, g: Array, shape: tuple[int, ...], rows: Window, columns: Window) -> Array:
        """In one pass."""
        loop = self.loop("sum_pool_backward", shape, g)
        if loop is None:
            return super().sum_pool_backward(g, shape, rows, columns)
        gx = numpy.empty(shape, g.dtype)
        loop(planes(g), numpy.array(rows), numpy.array(columns), planes(gx))
        return gx


def planes(x: Array) -> Array:
    """Pictures (N, C, H, W) as (N C, H, W)."""
    return x.reshape(-1, *x.shape[2:])


def flat(x: Array) -> Array:
    """With rows and columns of pictures as one axis."""
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def share_as_blas(call: Any, blocks: list[tuple[int, int]]) -> list[Any]:
    """In as many threads as NumPy's BLAS has for products of matrices, as convolutions are."""
    return share(call, blocks, max(get_num_threads(), threads() or 1))
