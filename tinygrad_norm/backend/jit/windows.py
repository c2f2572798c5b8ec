"""Convolution and pooling."""

from __future__ import annotations

from typing import Any

import numpy

from ..loops.blas import MOST
from ..openblas import gemm, threads
from ..windows import Window
from .base import Array, Compiled
from .threads import get_num_threads, in_blocks

PRODUCTS = 16  # as many take no longer than a normalization takes for an element


class Windows(Compiled):
    """Convolutions, whose products are BLAS's, and pooling.

    Attributes:
        met_size: how many elements of what the kernel's taps meet stay in the cache.
        few: places at once, at least; also rows of a weight at once, so that products are no more than ``blas.MOST``.
    """

    met_size, few = 1 << 18, 16

    def conv_forward(self, x: Array, weight: Array, bias: Any, rows: Window, columns: Window, groups: int) -> Array:
        """One picture after the other, each thread some of them."""
        x, w = numpy.ascontiguousarray(x), numpy.ascontiguousarray(weight).reshape(groups, len(weight) // groups, -1)
        bias = numpy.zeros(len(weight), w.dtype) if bias is None else numpy.ascontiguousarray(bias)
        loop = self.conv_loop("conv", x, w, bias)
        if loop is None:
            return super().conv_forward(x, weight, bias, rows, columns, groups)
        y = numpy.empty((len(x), len(weight), rows.places, columns.places), x.dtype)
        window = numpy.array(rows), numpy.array(columns), *self.at_a_time(w.shape[2], x, rows, columns)

        def block(first: int, last: int) -> None:
            loop(flat(x[first:last]), x.shape[3], w, bias, *window, flat(y[first:last]))

        share_pictures(block, y, w.shape[2])
        return y

    def conv_backward(
        self, g: Array, x: Array, weight: Array, rows: Window, columns: Window, groups: int,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Any, Any, Any]:  # fmt: skip
        """One picture after the other, each thread some of them."""
        g, x = numpy.ascontiguousarray(g), numpy.ascontiguousarray(x)
        w = numpy.ascontiguousarray(weight.reshape(groups, len(weight) // groups, -1).swapaxes(1, 2))
        by_x, by_weight = (self.conv_loop(f"conv_backward_{name}", x, w, g) for name in ("x", "weight"))
        if by_x is None or by_weight is None:
            return super().conv_backward(g, x, weight, rows, columns, groups, needs)
        gx = numpy.empty(x.shape, x.dtype) if needs[0] else None
        window = numpy.array(rows), numpy.array(columns), *self.at_a_time(w.shape[1], x, rows, columns)

        def block(first: int, last: int) -> tuple[Array, Array]:
            some, gw, gb = slice(first, last), numpy.zeros(w.shape), numpy.zeros(len(weight))
            if needs[1] or needs[2]:
                by_weight(flat(g[some]), flat(x[some]), x.shape[3], *window, gw, gb)
            if gx is not None:
                by_x(flat(g[some]), x.shape[3], w, *window, flat(gx[some]))
            return gw, gb

        gw, gb = (sum(parts).astype(w.dtype) for parts in zip(*share_pictures(block, g, w.shape[1]), strict=True))
        return gx, gw.swapaxes(1, 2).reshape(weight.shape) if needs[1] else None, gb if needs[2] else None

    def conv_loop(self, name: str, x: Array, *arrays: Array) -> Any:
        """The compiled loop, if it takes these arrays and BLAS's function is known; else None."""
        return self.loop(name, x.shape, x, *arrays) if gemm("sgemm") else None

    def at_a_time(self, k: int, x: Array, rows: Window, columns: Window) -> tuple[int, int]:
        """How many pictures and lines of places are computed at once, in sums of k products."""
        met = x.shape[1] * rows.size * columns.size
        lines = max(self.few, min(MOST // self.few // k, self.met_size // met)) // columns.places
        return max(1, lines // rows.places), min(max(1, lines), rows.places)

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


def share_pictures(block: Any, y: Array, k: int) -> list[Any]:
    """``block(first, last)`` for all pictures y, whose elements are sums of k products, and what it returns.

    As these are products of matrices, there are as many threads as for those of NumPy's BLAS.
    """
    return in_blocks(block, len(y), y.size * k // PRODUCTS, max(get_num_threads(), threads() or 1), unit=1)
