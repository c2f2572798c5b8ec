"""Kernels that slide over pictures (N, C, H, W): convolution and pooling.

Inside, the batch is the last axis: then every slice that a kernel's tap meets is made of long runs of memory, even when
the pictures are 8 x 8. A tap is a strided slice, so all of it runs on every array library.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any, NamedTuple

Array = Any


class Window(NamedTuple):
    """How a kernel slides along one axis: its size, stride and dilation, the padding, the number of its places."""

    size: int
    stride: int
    dilation: int
    before: int
    after: int
    places: int

    def tap(self, i: int) -> slice:
        """Where element i of the kernel stands, for every place, in the padded axis."""
        start = i * self.dilation
        return slice(start, start + (self.places - 1) * self.stride + 1, self.stride)

    def at(self, place: int) -> slice:
        """Where all the elements of the kernel stand, for one place."""
        start = place * self.stride
        return slice(start, start + (self.size - 1) * self.dilation + 1, self.dilation)

    def inside(self, length: int) -> slice:
        """Where the axis itself is, in the padded one."""
        return slice(self.before, self.before + length)


class Sheet:
    """N pictures side by side: line r holds line r of each, between any two a gap of zeros as wide as the padding.

    In memory a sheet is one run, and what a tap of the kernel meets is the same run, begun elsewhere: so copies are
    long, however small the pictures. What a tap meets in the gaps is computed too, and left out.

    Attributes:
        length: elements of a sheet.
        taps: elements of the kernel.
        places: of the kernel, those in the gaps included: (rows, N, columns).
    """

    def __init__(self, n: int, shape: tuple[int, ...], rows: Window, columns: Window) -> None:
        self.n, self.h, self.w, self.rows, self.columns = n, *shape[2:], rows, columns
        wide = (columns.places - 1) * columns.stride + 1
        self.pitch = max(self.w + max(columns.before, columns.after), wide)
        lines, behind = rows.before + self.h + rows.after, (columns.size - 1) * columns.dilation
        self.length = lines * n * self.pitch + max(columns.before, behind)
        self.taps = rows.size * columns.size
        self.places = rows.places, n, -(-self.pitch // columns.stride)

    def pictures(self, sheet: Array) -> Array:
        """The pictures (N, C, H, W) on sheets (C, length)."""
        start = self.rows.before * self.n * self.pitch + self.columns.before
        lines = sheet[:, start : start + self.h * self.n * self.pitch].reshape(-1, self.h, self.n, self.pitch)
        return lines[..., : self.w].transpose(2, 0, 1, 3)

    def tapped(self, sheet: Array) -> Iterator[Array]:
        """What every tap meets on sheets (C, length): (C, *places)."""
        high = (self.rows.places - 1) * self.rows.stride + 1
        for i in range(self.rows.size):
            for j in range(self.columns.size):
                start = i * self.rows.dilation * self.n * self.pitch + j * self.columns.dilation
                run = sheet[:, start : start + high * self.n * self.pitch].reshape(-1, high, self.n, self.pitch)
                yield run[:, :: self.rows.stride, :, :: self.columns.stride]

    def by_picture(self, y: Array) -> Array:
        """(O, *places) as pictures (N, O, H', W'), without what is in the gaps."""
        return y[..., : self.columns.places].transpose(2, 0, 1, 3)


def taps(rows: Window, columns: Window) -> Iterator[tuple[slice, slice]]:
    """The slices of every element of a kernel, line by line."""
    return ((rows.tap(i), columns.tap(j)) for i in range(rows.size) for j in range(columns.size))


class Windows:
    """Kernels in terms of ``self``'s array functions; mixed into every Backend."""

    # ---- convolution

    def conv_forward(
        self: Any, x: Array, weight: Array, bias: Any, rows: Window, columns: Window, groups: int
    ) -> Array:
        """y (N, O, places, places): one matrix product for each piece of the batch."""
        w = self.wide(weight).reshape(groups, len(weight) // groups, -1)
        bias = 0.0 if bias is None else bias.reshape(-1, 1, 1)
        y = self.empty((len(x), len(weight), rows.places, columns.places), x.dtype)
        for piece, sheet in self.sheets(x, len(weight), rows, columns):
            met = self.conv_met(self.wide(x[piece]), sheet).reshape(groups, w.shape[2], -1)
            product = self.scratch("product", (*w.shape[:2], met.shape[2]), w.dtype)
            self.multiply_columns(w, met, product)
            self.add(sheet.by_picture(product.reshape(len(weight), *sheet.places)), bias, out=y[piece])
        return y

    def conv_met(self: Any, x: Array, sheet: Sheet) -> Array:
        """What every tap of the kernel meets: (C, taps, *places of the sheet)."""
        flat = self.scratch("flat", (x.shape[1], sheet.length), x.dtype)
        flat[...] = 0
        sheet.pictures(flat)[...] = x
        met = self.scratch("met", (x.shape[1], sheet.taps, *sheet.places), x.dtype)
        for i, tap in enumerate(sheet.tapped(flat)):
            met[:, i] = tap
        return met

    def conv_backward(
        self: Any, g: Array, x: Array, weight: Array, rows: Window, columns: Window, groups: int,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Any, Any, Any]:  # fmt: skip
        """Gradients by x, weight and bias: every step of the forward, turned around."""
        o = len(weight)
        w = self.wide(weight).reshape(groups, o // groups, -1)
        gx: Any = self.empty(x.shape, w.dtype) if needs[0] else None

        gw, gb = self.zeros((groups, w.shape[2], o // groups), w.dtype), self.zeros((o,), w.dtype)
        for piece, sheet in self.sheets(x, o, rows, columns):
            by_place = self.scratch("product", (o, *sheet.places), w.dtype)
            by_place[..., columns.places :] = 0
            sheet.by_picture(by_place)[...] = g[piece]
            if needs[2]:
                gb += self.sum(by_place.reshape(o, -1), 1)
            by_place = by_place.reshape(groups, o // groups, -1)
            if needs[1]:
                met = self.conv_met(self.wide(x[piece]), sheet)
                met[..., columns.places :] = 0  # infinity in a gap times 0 would be NaN
                met = met.reshape(groups, w.shape[2], -1)
                gw += self.multiply_rows(met, self.swapaxes(by_place, 1, 2))
            if needs[0]:
                by_met = self.scratch("met", (groups, w.shape[2], by_place.shape[2]), w.dtype)
                self.multiply_columns(self.swapaxes(w, 1, 2), by_place, by_met)
                by_met = by_met.reshape(x.shape[1], sheet.taps, *sheet.places)
                by_met[..., columns.places :] = 0
                self.conv_met_backward(by_met, gx[piece], sheet)
        return gx, self.swapaxes(gw, 1, 2).reshape(weight.shape) if needs[1] else None, gb if needs[2] else None

    def conv_met_backward(self: Any, g: Array, gx: Array, sheet: Sheet) -> None:
        """gx = the gradient by the pictures, from the one by what the taps meet."""
        flat = self.scratch("flat", (gx.shape[1], sheet.length), g.dtype)
        flat[...] = 0
        for i, tap in enumerate(sheet.tapped(flat)):
            tap += g[:, i]
        gx[...] = sheet.pictures(flat)

    def sheets(self: Any, x: Array, o: int, rows: Window, columns: Window) -> Iterator[tuple[slice, Sheet]]:
        """Slices of the batch, small enough for what is computed to stay in the cache, and their sheets."""
        line = rows.places * columns.places * max(x.itemsize, 4)
        step = self.at_once(len(x), x.shape[1] * rows.size * columns.size + o, line)
        for start in range(0, len(x), step):
            n = min(step, len(x) - start)
            yield slice(start, start + n), Sheet(n, x.shape, rows, columns)

    def at_once(self: Any, n: int, lines: int, line: int) -> int:
        """How many of n pictures, each of so many lines of so many bytes: computed elsewhere, all are best."""
        return max(n, 1)

    def multiply_columns(self: Any, a: Array, b: Array, out: Array) -> None:
        """out = a @ b, for b with many columns."""
        self.matmul(a, b, out=out)

    def multiply_rows(self: Any, a: Array, b: Array) -> Array:
        """a @ b, for b with many rows."""
        return self.matmul(a, b)

    def scratch(self: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array that is used until the next call with that name."""
        return self.empty(shape, dtype)

    # ---- pooling

    def planes(self: Any, x: Array, rows: Window, columns: Window, value: float) -> Array:
        """x as (H, W, N C), padded with ``value``."""
        n, c, h, w = x.shape
        out = self.full((rows.before + h + rows.after, columns.before + w + columns.after, n * c), value, x.dtype)
        out[rows.inside(h), columns.inside(w)] = self.transpose(x.reshape(n * c, h, w), (1, 2, 0))
        return out

    def pictures(self: Any, y: Array, x: Any) -> Array:
        """(H, W, N C) as (N, C, H, W), with N and C those of x, in memory of its own."""
        return self.copy(self.transpose(y, (2, 0, 1))).reshape(*x.shape[:2], *y.shape[:2])

    def max_pool_forward(self: Any, x: Array, rows: Window, columns: Window) -> tuple[Array, Array]:
        """The largest of every window, and which it is: its number in the kernel, the first one if several are."""
        planes = self.planes(x, rows, columns, -inf)
        y = choice = None
        for i, (r, s) in enumerate(taps(rows, columns)):
            tap = planes[r, s]
            if y is None:
                y, choice = self.copy(tap), self.zeros(tap.shape, "int32")
                continue
            choice = self.where((tap > y) | (tap != tap), i, choice)
            y = self.maximum(y, tap)
        return self.pictures(y, x), choice

    def max_pool_backward(
        self: Any, g: Array, choice: Array, shape: tuple[int, ...], rows: Window, columns: Window
    ) -> Array:
        """The gradient of every window goes to the one element that was chosen."""
        by_place = self.planes(g, *(Window(1, 1, 1, 0, 0, v.places) for v in (rows, columns)), 0.0)
        return self.spread(lambda i: self.where(choice == i, by_place, 0.0), by_place.dtype, shape, rows, columns)

    def sum_pool(self: Any, x: Array, rows: Window, columns: Window) -> Array:
        """The sum of every window, the padding being zeros."""
        planes = self.planes(x, rows, columns, 0.0)
        y = None
        for r, s in taps(rows, columns):
            y = self.copy(planes[r, s]) if y is None else y + planes[r, s]
        return self.pictures(y, x)

    def sum_pool_backward(self: Any, g: Array, shape: tuple[int, ...], rows: Window, columns: Window) -> Array:
        """The gradient of every window goes to all its elements."""
        by_place = self.planes(g, *(Window(1, 1, 1, 0, 0, v.places) for v in (rows, columns)), 0.0)
        return self.spread(lambda i: by_place, by_place.dtype, shape, rows, columns)

    def spread(self: Any, part: Any, dtype: Any, shape: tuple[int, ...], rows: Window, columns: Window) -> Array:
        """The sum over the kernel's elements of ``part(i)``, where they stand in x."""
        n, c, h, w = shape
        out = self.zeros((rows.before + h + rows.after, columns.before + w + columns.after, n * c), dtype)
        for i, (r, s) in enumerate(taps(rows, columns)):
            out[r, s] += part(i)
        return self.copy(self.transpose(out[rows.inside(h), columns.inside(w)], (2, 0, 1))).reshape(shape)
