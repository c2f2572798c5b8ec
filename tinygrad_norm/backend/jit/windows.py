"""Convolutions that keep the width of the pictures."""

from __future__ import annotations

from typing import Any

import numpy

from ..windows import Sheet, Window
from .base import Array, Compiled


class Same(Sheet):
    """What taps meet without gaps, one picture after the other: places are (N, rows, columns)."""

    def __init__(self, n: int, shape: tuple[int, ...], rows: Window, columns: Window, loops: tuple[Any, Any]) -> None:
        super().__init__(n, shape, rows, columns)
        self.loops = loops
        self.places = n, rows.places, columns.places
        down = numpy.arange(rows.size) * rows.dilation - rows.before
        right = numpy.arange(columns.size) * columns.dilation - columns.before
        shift = (down[:, None] * self.w + right).reshape(-1)
        self.edges = shift, numpy.clip(right, 0, self.w), numpy.clip(self.w + right, 0, self.w), self.w

    def by_picture(self, y: Array) -> Array:
        """(O, *places) as pictures (N, O, H', W')."""
        return y.transpose(1, 0, 2, 3)


class Windows(Compiled):
    """Convolutions that keep the width of the pictures; the products are BLAS's."""

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


def flat(x: Array) -> Array:
    """With rows and columns of pictures as one axis."""
    return x.reshape(*x.shape[:-2], -1)
