"""Convolution and pooling of pictures (N, C, H, W).

A kernel slides over the picture. Every definition here reads: for each element of the kernel (each *tap*), take the
slice of the padded picture that it meets, one value for every place of the kernel, and combine the slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

import numpy

from ..backend import FLOATS
from ..backend.windows import Window, taps
from ..engine.op import NOTHING, Op, apply
from ..engine.tensor import Tensor, describe, namespace, wrap
from .convert import in_dtype_of, wide
from .einsum import einsum
from .elementwise import where
from .join import concatenate, pad
from .matmul import check_layer
from .reduce import mean
from .shape import reshape


class Conv2d(Op):
    """y[o, p, q] = sum over c, i, j of weight[o, c, i, j] x[c, p stride + i dilation, q stride + j dilation] + bias[o].

    In g groups, the channels of x and of y fall into g equal parts, and each part of y sees one part of x.
    """

    @staticmethod
    def composite(x, weight, bias, rows, columns, groups):
        x = reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
        w = reshape(weight, (groups, weight.shape[0] // groups, *weight.shape[1:]))
        elements = (w[..., i, j] for i in range(rows.size) for j in range(columns.size))
        met = shifted(x, rows, columns, 0.0)
        y = sum(einsum("ngchw,goc->ngohw", tap, e) for tap, e in zip(met, elements, strict=True))
        y = reshape(y, (x.shape[0], weight.shape[0], rows.places, columns.places))
        return y if isinstance(bias, float) else y + reshape(bias, (-1, 1, 1))

    @staticmethod
    def forward(xp, x, weight, bias, rows, columns, groups):
        return xp.conv_forward(x, weight, None if isinstance(bias, float) else bias, rows, columns, groups), None

    @staticmethod
    def backward(xp, g, y, saved, needs, x, weight, bias, rows, columns, groups):
        return xp.conv_backward(g, x, weight, rows, columns, groups, needs)


class MaxPool2dChoice(Op):
    """Which element of each window is the largest, by its number in the kernel; the first one if several are."""

    reads = NOTHING
    backward = None

    @staticmethod
    def forward(xp, x, rows, columns):
        return xp.pictures(xp.max_pool_forward(xp.real(x), rows, columns)[1], x)


class MaxPool2d(Op):
    """y = the largest element of each window. Which one that is, is a constant; all the gradient goes there."""

    @staticmethod
    def composite(x, rows, columns):
        choice = apply(MaxPool2dChoice, x, params=(rows, columns))
        first, *others = shifted(x, rows, columns, -inf)
        for i, tap in enumerate(others, 1):
            first = where(choice == i, tap, first)
        return first

    @staticmethod
    def forward(xp, x, rows, columns):
        return xp.max_pool_forward(x, rows, columns)

    @staticmethod
    def backward(xp, g, y, choice, needs, x, rows, columns):
        return (xp.max_pool_backward(g, choice, x.shape, rows, columns),)


class AvgPool2d(Op):
    """y = share times the sum of each window."""

    reads = NOTHING

    @staticmethod
    def composite(x, share, rows, columns):
        return in_dtype_of(x, sum(shifted(wide(x), rows, columns, 0.0)) * share)

    @staticmethod
    def forward(xp, x, share, rows, columns):
        return xp.astype(xp.sum_pool(xp.wide(x), rows, columns) * share, x.dtype), share

    @staticmethod
    def backward(xp, g, y, share, needs, x, _, rows, columns):
        return xp.sum_pool_backward(xp.wide(g) * share, x.shape, rows, columns), None


def shifted(x: Tensor, rows: Window, columns: Window, value: float) -> Iterator[Tensor]:
    """For every tap what it meets, x being padded with ``value``."""
    around = ((0, 0),) * (x.ndim - 2) + tuple((v.before, v.after) for v in (rows, columns))
    padded = pad(x, around, value)
    return (padded[..., r, s] for r, s in taps(rows, columns))


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """Slide the weight over pictures (LeCun et al. 1989); in the words of mathematics, a cross-correlation.

    y[o, p, q] = bias[o] + sum over c, i, j of weight[o, c, i, j] x[c, p stride + i dilation, q stride + j dilation],
    x being surrounded by ``padding`` zeros. Numbers for rows and columns are one integer or a pair of them.

    Args:
        x: (N, C, H, W), floating.
        weight: (O, C / groups, rows, columns).
        bias: (O,) or None.
        stride: how far the kernel moves from place to place.
        padding: zeros on each side; "valid" for none, "same" for as many as keep H and W (with a stride of 1).
        dilation: distance between the elements of the kernel.
        groups: into how many parts the channels fall, each part of y seeing one part of x; C groups are a depthwise
            convolution.

    Returns:
        (N, O, H', W') with H' = (H + 2 padding - dilation (rows - 1) - 1) // stride + 1, likewise W'.

    Raises:
        ValueError: shapes or numbers that do not fit.
        TypeError: the floating dtypes differ, or something is not floating.

    >>> import tinygrad_norm as tn
    >>> picture = tn.tensor([[[[0.0, 0.0, 1.0, 1.0]] * 3]])
    >>> edge = tn.tensor([[[[-1.0, 1.0]]]])
    >>> tn.functional.conv2d(picture, edge).tolist()[0][0]
    [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    """
    check_layer("conv2d", x, weight, bias)
    check_pictures("conv2d", x)
    if weight.ndim != 4 or not weight.size:
        raise ValueError(f"conv2d: weight must be (O, C / groups, rows, columns), not empty; got {describe(weight)}")
    channels, o = x.shape[1], weight.shape[0]
    if not isinstance(groups, int) or groups < 1 or channels % groups or o % groups:
        raise ValueError(
            f"conv2d: groups must divide the {channels} channels of x and the {o} of the weight; got {groups!r}"
        )
    if weight.shape[1] * groups != channels:
        raise ValueError(
            f"conv2d: x of {channels} channels in {groups} group(s) needs weight of shape "
            f"(O, {channels // groups}, rows, columns); got x {x.shape} and weight {weight.shape}"
        )
    if bias is not None and bias.shape != (o,):
        raise ValueError(f"conv2d: bias must have shape {(o,)} for weight {weight.shape}; got {bias.shape}")
    strides, dilations = pair("conv2d", "stride", stride, 1), pair("conv2d", "dilation", dilation, 1)
    sizes = weight.shape[2:]
    if padding == "same":
        if strides != (1, 1):
            raise ValueError(f"conv2d: padding='same' needs a stride of 1; got stride={stride!r}; give numbers instead")
        total = [d * (k - 1) for d, k in zip(dilations, sizes, strict=True)]
        around = [(n // 2, n - n // 2) for n in total]
    else:
        around = [(n, n) for n in pair("conv2d", "padding", 0 if padding == "valid" else padding, 0)]
    rows, columns = (window("conv2d", x, a, sizes[a], strides[a], dilations[a], *around[a]) for a in (0, 1))
    return apply(Conv2d, x, weight, 0.0 if bias is None else bias, params=(rows, columns, groups))


def max_pool2d(
    x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    """The largest element of every window; its gradient goes to that element alone, of several to the first.

    Args:
        x: (N, C, H, W), floating.
        kernel_size: rows and columns of the window: an integer, or a pair.
        stride: how far the window moves; by default the kernel's size, so that windows do not overlap.
        padding: minus infinity on each side, at most half of the kernel.
        dilation: distance between the elements of a window.
        ceil_mode: a last window that hangs out counts too.

    Returns:
        (N, C, H', W') with H' = (H + 2 padding - dilation (rows - 1) - 1) // stride + 1, likewise W'.

    Raises:
        ValueError: shapes or numbers that do not fit.

    >>> import tinygrad_norm as tn
    >>> tn.functional.max_pool2d(tn.tensor([[[[1.0, 2.0, 5.0, 6.0], [4.0, 3.0, 8.0, 7.0]]]]), 2).tolist()
    [[[[4.0, 8.0]]]]
    """
    rows, columns = pooling("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)
    return apply(MaxPool2d, x, params=(rows, columns))


def avg_pool2d(
    x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """The mean of every window.

    Args:
        x: (N, C, H, W), floating.
        kernel_size: rows and columns of the window: an integer, or a pair.
        stride: how far the window moves; by default the kernel's size.
        padding: zeros on each side, at most half of the kernel.
        ceil_mode: a last window that hangs out counts too; what hangs out beyond the padding is no part of its mean.
        count_include_pad: whether the zeros of the padding count in the mean.

    Returns:
        (N, C, H', W') with H' = (H + 2 padding - rows) // stride + 1, likewise W'.

    Raises:
        ValueError: shapes or numbers that do not fit.

    >>> import tinygrad_norm as tn
    >>> tn.functional.avg_pool2d(tn.tensor([[[[1.0, 2.0, 5.0, 6.0], [4.0, 3.0, 8.0, 7.0]]]]), 2).tolist()
    [[[[2.5, 6.5]]]]
    """
    rows, columns = pooling("avg_pool2d", x, kernel_size, stride, padding, 1, ceil_mode)
    xp = namespace(x._data)
    high, broad = (
        counts(xp, v, n, pad, count_include_pad)
        for v, n, pad in zip((rows, columns), x.shape[2:], pair("avg_pool2d", "padding", padding, 0), strict=True)
    )
    share = xp.astype(1.0 / (high[:, None] * broad), x.dtype if x.dtype in FLOATS else "float64")
    return apply(AvgPool2d, x, wrap(share), params=(rows, columns))


def counts(xp: Any, window: Window, length: int, padding: int, include_padding: bool) -> Any:
    """How many elements along one axis count in the mean, for every place."""
    start = xp.arange(window.places) * window.stride - padding
    low, high = (-padding, length + padding) if include_padding else (0, length)
    return xp.minimum(start + window.size, high) - xp.maximum(start, low)


def adaptive_avg_pool2d(x: Tensor, output_size: Any) -> Tensor:
    """Means over a grid of H' x W' windows that covers the picture.

    Row p of the grid covers the rows from p H / H' (rounded down) to (p + 1) H / H' (rounded up); likewise its columns.

    Args:
        x: (N, C, H, W), floating.
        output_size: (H', W'), or one integer for both; None keeps a length. 1 is the mean of each channel.

    Returns:
        (N, C, H', W').

    Raises:
        ValueError: shapes or numbers that do not fit.

    >>> import tinygrad_norm as tn
    >>> tn.functional.adaptive_avg_pool2d(tn.tensor([[[[1.0, 2.0, 6.0], [3.0, 4.0, 8.0]]]]), (1, 2)).tolist()
    [[[[2.5, 5.0]]]]
    """
    check_pictures("adaptive_avg_pool2d", x)
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    filled = [n if size is None else size for size, n in zip(sizes, x.shape[2:])]
    sizes = pair("adaptive_avg_pool2d", "output_size", filled if len(sizes) == 2 else sizes, 1)
    for axis, size in zip((2, 3), sizes, strict=True):
        n = x.shape[axis]
        if size != n:  # windows are rectangles: their mean is the mean over columns of the mean over rows
            edges = [(p * n // size, -(-(p + 1) * n // size)) for p in range(size)]
            before = (slice(None),) * axis
            x = concatenate([mean(x[(*before, slice(a, b))], axis, keepdims=True) for a, b in edges], axis)
    return x


def pooling(
    function: str, x: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> list[Window]:
    """The windows of a pooling along rows and columns."""
    check_pictures(function, x)
    sizes = pair(function, "kernel_size", kernel_size, 1)
    strides = sizes if stride is None else pair(function, "stride", stride, 1)
    around, dilations = pair(function, "padding", padding, 0), pair(function, "dilation", dilation, 1)
    if any(2 * p > k for p, k in zip(around, sizes, strict=True)):
        raise ValueError(
            f"{function}: padding must be at most half of the kernel, or a window could hold nothing else; "
            f"got padding={padding!r} for kernel_size={kernel_size!r}"
        )
    return [window(function, x, a, sizes[a], strides[a], dilations[a], around[a], around[a], ceil_mode) for a in (0, 1)]


def window(
    function: str, x: Tensor, axis: int, size: int, stride: int, dilation: int, before: int, after: int,
    ceil_mode: bool = False,
) -> Window:  # fmt: skip
    """The window along the rows (axis 0) or the columns (axis 1) of pictures."""
    length, covered = x.shape[2 + axis], dilation * (size - 1) + 1
    free = before + length + after - covered
    if free < 0:
        raise ValueError(
            f"{function}: the kernel must fit into the picture: it covers {covered} {('rows', 'columns')[axis]} (size "
            f"{size}, dilation {dilation}) of {before + length + after} (x {x.shape}, padding {before} and {after}); "
            "take a smaller kernel or more padding"
        )
    places = free // stride + 1
    if ceil_mode and free % stride and places * stride < length + before:  # the last one must begin inside
        places += 1
    reached = (places - 1) * stride + covered - before - length
    return Window(size, stride, dilation, before, max(reached, 0), places)


def check_pictures(function: str, x: Any) -> None:
    """Pictures, and not empty; the batch may be."""
    if not isinstance(x, Tensor) or x.dtype.kind not in "fc":
        raise TypeError(f"{function}: x must be a floating Tensor; got {describe(x)}")
    if x.ndim != 4 or 0 in x.shape[1:]:
        hint = {3: "; one picture is x[None], pictures without channels are x[:, None]"}.get(x.ndim, "")
        raise ValueError(f"{function}: x must be pictures (N, C, H, W), C, H and W not 0; got {describe(x)}{hint}")


def pair(function: str, name: str, value: Any, least: int) -> tuple[int, int]:
    """Numbers for rows and columns, from one integer or two."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    whole = all(isinstance(v, (int, numpy.integer)) and not isinstance(v, bool) and v >= least for v in values)
    if len(values) != 2 or not whole:
        raise ValueError(
            f"{function}: {name} must be an integer of at least {least}, or two of them (rows, columns); got {value!r}"
        )
    return int(values[0]), int(values[1])
