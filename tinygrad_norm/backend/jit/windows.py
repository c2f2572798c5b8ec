"""Convolutions that keep the width of the pictures, and pooling."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy

from ..windows import Sheet, Window
from .base import Array, Compiled
from .threads import in_blocks


class Same(Sheet):
    """What taps meet without gaps, one picture after the other: places are (N, rows, columns)."""

    def __init__(self, n: int, shape: tuple[int, ...], rows: Window, columns: Window, loops: tuple[Any, Any]) -> None:
        super().__init__(n, shape, rows, columns)
        self.loops, self.edges = loops, edges(rows, columns, self.w)
        self.places = n, rows.places, columns.places

    def by_picture(self, y: Array) -> Array:
        """(O, *places) as pictures (N, O, H', W')."""
        return y.transpose(1, 0, 2, 3)


@lru_cache(256)
def edges(rows: Window, columns: Window, width: int) -> tuple[Any, ...]:
    """Where the taps' runs begin, and which columns of a picture each column of taps meets."""
    down = numpy.arange(rows.size) * rows.dilation - rows.before
    right = numpy.arange(columns.size) * columns.dilation - columns.before
    shift = (down[:, None] * width + right).reshape(-1)
    return shift, numpy.clip(right, 0, width), numpy.clip(width + right, 0, width), width


class Windows(Compiled):
    """Convolutions that keep the width of the pictures, whose products are BLAS's; pooling."""

    def sheet(self, n: int, x: Array, rows: Window, columns: Window) -> Sheet:
        """Without gaps, if compiled loops do the copying."""
        if rows.stride == columns.stride == 1 and columns.places == x.shape[3]:
            loops = self.loop("conv_met", x.shape, x), self.loop("conv_met_backward", x.shape, x)
            if all(loops):
                return Same(n, x.shape, rows, columns, loops)
        return super().sheet(n, x, rows, columns)

    def conv_met(self, x: Array, sheet: Sheet) -> Array:
        """Straight from the pictures."""
        if not isinstance(sheet, Same):
            return super().conv_met(x, sheet)
        met = self.scratch("met", (x.shape[1], sheet.taps, *sheet.places), x.dtype)
        sheet.loops[0](flat(x), *sheet.edges, flat(met))
        return met

    def conv_met_backward(self, g: Array, gx: Array, sheet: Sheet) -> None:
        """One picture after the other."""
        if isinstance(sheet, Same):
            sheet.loops[1](flat(g), *sheet.edges, flat(gx))
        else:
            super().conv_met_backward(g, gx, sheet)

    def share_out(self, block: Any, x: Array, rows: Window, columns: Window) -> list[Any]:
        """Each thread has some of the pictures."""
        return in_blocks(block, len(x), x.size * rows.size * columns.size)

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
    return x.reshape(*x.shape[:-2], -1)
