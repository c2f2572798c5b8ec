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


def taps(rows: Window, columns: Window) -> Iterator[tuple[slice, slice]]:
    """The slices of every element of a kernel, line by line."""
    return ((rows.tap(i), columns.tap(j)) for i in range(rows.size) for j in range(columns.size))


class Windows:
    """Kernels in terms of ``self``'s array functions; mixed into every Backend."""

    piece_bytes: int = 1 << 62  # a library that computes elsewhere does best with everything at once

    # ---- convolution

    def conv_lines(self: Any, x: Array, rows: Window, columns: Window, groups: int) -> Array:
        """What the kernel meets on each line: (G, lines, columns of the kernel, C / G, places on a line, N).

        Only the columns of the kernel are copied out. Its rows need no copy: the lines below each other are one matrix.
        """
        n, c, h, w = x.shape
        x = self.transpose(x.reshape(n, groups, c // groups, h, w), (1, 3, 2, 4, 0))
        lines, width = rows.before + h + rows.after, columns.before + w + columns.after
        padded = self.zeros((groups, lines, c // groups, width, n), x.dtype)
        padded[:, rows.inside(h), :, columns.inside(w)] = x
        out = self.empty((groups, lines, columns.size, c // groups, columns.places, n), x.dtype)
        for j in range(columns.size):
            out[:, :, j] = padded[:, :, :, columns.tap(j)]
        return out

    def conv_forward(
        self: Any, x: Array, weight: Array, bias: Any, rows: Window, columns: Window, groups: int
    ) -> Array:
        """y (N, O, places, places): one matrix product for each line of y and each piece of the batch."""
        n, o = len(x), len(weight)
        w = flat_kernel(self, self.wide(weight), groups)
        y = self.empty((n, o, rows.places, columns.places), x.dtype)
        for piece in self.pieces(x, columns):
            lines = self.conv_lines(self.wide(x[piece]), rows, columns, groups)
            k = columns.places * lines.shape[-1]
            for p in range(rows.places):
                product = self.matmul(w, lines[:, rows.at(p)].reshape(groups, w.shape[2], k)).reshape(o, k)
                if bias is not None:
                    product += bias[:, None]
                y[piece, :, p] = self.transpose(product.reshape(o, columns.places, -1), (2, 0, 1))
        return y

    def conv_backward(
        self: Any, g: Array, x: Array, weight: Array, rows: Window, columns: Window, groups: int,
        needs: tuple[bool, bool],
    ) -> tuple[Any, Any]:  # fmt: skip
        """Gradients by x and by the weight: every step of the forward, turned around."""
        (_, c, h, width), (o, _, high, wide) = x.shape, weight.shape
        w = flat_kernel(self, self.wide(weight), groups)
        gx: Any = self.empty(x.shape, w.dtype) if needs[0] else None
        gw: Any = self.zeros((groups, w.shape[2], o // groups), w.dtype) if needs[1] else None
        for piece in self.pieces(x, columns):
            g_lines = self.transpose(self.wide(g[piece]), (2, 1, 3, 0)).reshape(rows.places, groups, o // groups, -1)
            if needs[1]:
                lines = self.conv_lines(self.wide(x[piece]), rows, columns, groups)
                for p, line in enumerate(g_lines):
                    block = lines[:, rows.at(p)].reshape(groups, w.shape[2], line.shape[2])
                    gw += self.matmul(block, self.swapaxes(line, 1, 2))
            if needs[0]:
                shape = groups, rows.before + h + rows.after, columns.size, c // groups, columns.places, len(x[piece])
                by_lines = self.zeros(shape, w.dtype)
                for p, line in enumerate(g_lines):
                    part = by_lines[:, rows.at(p)]
                    part += self.matmul(self.swapaxes(w, 1, 2), line).reshape(part.shape)
                gx[piece] = self.conv_lines_backward(by_lines, (h, width), rows, columns)
        if needs[1]:
            gw = self.transpose(gw.reshape(groups, high, wide, c // groups, o // groups), (0, 4, 3, 1, 2))
            gw = gw.reshape(weight.shape)
        return gx, gw

    def conv_lines_backward(self: Any, by_lines: Array, size: tuple[int, int], rows: Window, columns: Window) -> Array:
        """The gradient by pictures of that size, from the one by their lines."""
        groups, lines, _, channels, _, n = by_lines.shape
        padded = self.zeros((groups, lines, channels, columns.before + size[1] + columns.after, n), by_lines.dtype)
        for j in range(columns.size):
            part = padded[:, :, :, columns.tap(j)]
            part += by_lines[:, :, j]
        inner = padded[:, rows.inside(size[0]), :, columns.inside(size[1])]
        return self.transpose(inner, (4, 0, 2, 1, 3)).reshape(n, groups * channels, *size)

    def pieces(self: Any, x: Array, columns: Window) -> Iterator[slice]:
        """Slices of the batch whose lines are small enough to stay in the processor's cache."""
        each = max(x[:1].nbytes * columns.size, 1)
        step = max(self.piece_bytes // each, 1)
        return (slice(start, start + step) for start in range(0, len(x), step))

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


def flat_kernel(xp: Any, weight: Array, groups: int) -> Array:
    """(O, C / G, rows, columns) as matrices (G, O / G, rows columns C / G), as the lines have it."""
    o, c, high, wide = weight.shape
    return xp.transpose(weight, (0, 2, 3, 1)).reshape(groups, o // groups, high * wide * c)
