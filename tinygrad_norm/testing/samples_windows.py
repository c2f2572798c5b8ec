"""Rows of the op table: convolution, pooling, embedding, the long short-term memory."""

from __future__ import annotations

from itertools import product
from math import inf
from typing import Any

import numpy as np

from .. import functional as F
from ..backend.windows import Window
from ..engine import apply
from ..ops.recurrent import LstmOutput, LstmState
from .samples import bad, case, pinned, register
from .samples_math import OPS
from .samples_nets import sigmoid

# A table reads better wide.
# fmt: off

PICTURES = {"0-d": "pictures have four dimensions"}


def two(v: Any) -> Any:
    """Numbers for rows and columns."""
    return v if isinstance(v, tuple) else (v, v)


def surrounded(x: Any, before: Any, after: Any, value: float) -> Any:
    """x with a border of ``value``."""
    (n, c, h, w), (top, left), (bottom, right) = x.shape, before, after
    out = np.full((n, c, top + h + bottom, left + w + right), value, x.dtype)
    out[:, :, top : top + h, left : left + w] = x
    return out


def conv2d(x: Any, w: Any, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """Output by output, as the definition reads."""
    (sh, sw), (dh, dw) = two(stride), two(dilation)
    before = after = two(padding) if not isinstance(padding, str) else (0, 0)
    if padding == "same":
        extra = (dh * (w.shape[2] - 1), dw * (w.shape[3] - 1))
        before = tuple(n // 2 for n in extra)
        after = tuple(n - n // 2 for n in extra)
    x = surrounded(x, before, after, 0)
    high, wide = dh * (w.shape[2] - 1) + 1, dw * (w.shape[3] - 1) + 1
    out = np.zeros((len(x), len(w), (x.shape[2] - high) // sh + 1, (x.shape[3] - wide) // sw + 1), np.result_type(x, w))
    per_x, per_y = x.shape[1] // groups, len(w) // groups
    for n, o, p, q in np.ndindex(out.shape):
        c = o // per_y * per_x
        met = x[n, c : c + per_x, p * sh : p * sh + high : dh, q * sw : q * sw + wide : dw]
        out[n, o, p, q] = np.sum(met * w[o])
    return out if b is None else out + b.reshape(-1, 1, 1)


CONVS = [
    case((2, 2, 3, 3), (3, 2, 2, 2), (3,)),
    case((1, 1, 2, 3), (1, 1, 2, 3)),
    case((0, 2, 3, 3), (3, 2, 2, 2), (3,)),
    case((1, 1, 3, 3), (2, 1, 3, 3), (2,), padding=1),
    case((1, 2, 4, 5), (2, 2, 2, 3), (2,), stride=(2, 1), padding=(0, 2)),
    case((1, 1, 5, 4), (1, 1, 2, 2), (1,), dilation=(3, 2)),
    case((2, 4, 2, 2), (6, 2, 2, 1), (6,), groups=2),
    case((1, 3, 3, 2), (3, 1, 2, 2), groups=3, padding=1, stride=2, dilation=2),
    case((1, 1, 1, 31), (1, 1, 1, 1)),
    case((1, 1, 32, 1), (1, 1, 32, 1), (1,)),
    case((1, 1, 1, 33), (1, 1, 1, 32), padding=(0, 1), stride=3),
    case((1, 1, 3, 3), (1, 1, 2, 2), padding=4, stride=3),
    case((1, 2, 3, 4), (2, 2, 2, 3), (2,), padding="same", dilation=(2, 1)),
    case((1, 1, 2, 2), (1, 1, 2, 2), padding="valid"),
]
register(
    "conv2d", OPS["conv2d"], F.conv2d, conv2d, CONVS, gaps=PICTURES,
    errors=[
        bad(np.ones((1, 2, 3, 3)), np.ones((4, 3, 1, 1)), raises=ValueError, match=r"2 channels.*\(O, 2.*\(4, 3,"),
        bad(np.ones((1, 3, 3)), np.ones((4, 3, 1, 1)), raises=ValueError, match=r"\(N, C, H, W\).*\(1, 3, 3\).*\[None"),
        bad(np.ones((3, 3)), np.ones((4, 3, 1, 1)), raises=ValueError, match=r"\(N, C, H, W\).*\(3, 3\)"),
        bad(np.ones((1, 1, 0, 3)), np.ones((4, 1, 1, 1)), raises=ValueError, match="H and W not 0"),
        bad(np.ones((1, 3, 3, 3)), np.ones((4, 3)), raises=ValueError, match=r"weight.*\(4, 3\)"),
        bad(np.ones((1, 3, 3, 3)), np.ones((4, 3, 0, 1)), raises=ValueError, match="not empty"),
        bad(np.ones((1, 3, 3, 3)), np.ones((4, 3, 1, 1)), np.ones(3), raises=ValueError, match=r"bias.*\(4,\).*\(3,\)"),
        bad(np.ones((1, 3, 3, 3)), np.ones((4, 3, 1, 4)), raises=ValueError, match="fit.*4 columns.* of 3"),
        bad(np.ones((1, 3, 3, 3)), np.ones((4, 3, 2, 1)), dilation=3, raises=ValueError, match="4 rows.*dilation 3"),
        bad(np.ones((1, 3, 3, 3)), np.ones((4, 3, 1, 1)), groups=2, raises=ValueError, match="groups.*3.*4.*2"),
        bad(np.ones((1, 3, 3, 3)), np.ones((4, 3, 1, 1)), groups=0, raises=ValueError, match="groups.*0"),
        bad(np.ones((1, 3, 3, 3)), np.ones((4, 3, 1, 1)), stride=0, raises=ValueError, match="stride.*at least 1.*0"),
        bad(np.ones((1, 3, 3, 3)), np.ones((4, 3, 1, 1)), padding=(1, -1), raises=ValueError, match="padding.*-1"),
        bad(np.ones((1, 3, 3, 3)), np.ones((4, 3, 1, 1)), padding="all", raises=ValueError, match="padding.*'all'"),
        bad(np.ones((1, 3, 3, 3)), np.ones((4, 3, 1, 1)), padding="same", stride=2, raises=ValueError, match="of 1"),
        bad(np.ones((1, 3, 3, 3), "f"), np.ones((4, 3, 1, 1)), raises=TypeError, match="float32.*float64"),
        bad(np.ones((1, 3, 3, 3), int), np.ones((4, 3, 1, 1)), raises=TypeError, match="x must be floating.*float64"),
    ],
)

# ---- pooling


def windows(x: Any, size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, value: float) -> Any:
    """The shape of the output, and for each place its slices of the padded pictures."""
    size, dilation, padding = two(size), two(dilation), two(padding)
    stride = size if stride is None else two(stride)
    places = []
    for k, s, p, d, n in zip(size, stride, padding, dilation, x.shape[2:], strict=True):
        count = 0
        while count * s + (1 if ceil_mode else d * (k - 1) + 1) <= n + p + (0 if ceil_mode else p):
            if ceil_mode and count and (count - 1) * s + d * (k - 1) + 1 >= n + 2 * p:
                break  # the one before reached the end
            count += 1
        places.append(count)
    x = surrounded(x, padding, [p + 99 for p in padding], value)
    reach = [[slice(i * s, i * s + d * (k - 1) + 1, d) for i in range(count)]
        for k, s, d, count in zip(size, stride, dilation, places, strict=True)]
    return x, places, reach


def max_pool2d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """Window by window: the first of the largest."""
    x, places, reach = windows(x, kernel_size, stride, padding, dilation, ceil_mode, -inf)
    out = np.zeros((*x.shape[:2], *places), x.dtype)
    for n, c, p, q in np.ndindex(out.shape):
        met = x[n, c, reach[0][p], reach[1][q]].reshape(-1)
        out[n, c, p, q] = met[np.argmax(met.real)]
    return out


def max_choice(x: Any, rows: Any, columns: Any) -> Any:
    """Which of a window is the largest, for windows without padding."""
    places = product(range(rows.places), range(columns.places))
    met = [x[:, :, rows.at(p), columns.at(q)].reshape(*x.shape[:2], rows.size * columns.size) for p, q in places]
    out = np.array([np.argmax(m, -1) for m in met], "int32").reshape(rows.places, columns.places, *x.shape[:2])
    return out.transpose(2, 3, 0, 1)


def avg_pool2d(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """Window by window, counting what counts."""
    counted = surrounded(np.ones(x.shape), two(padding), two(padding), 1.0 if count_include_pad else 0.0)
    x, places, reach = windows(x, kernel_size, stride, padding, 1, ceil_mode, 0.0)
    out = np.zeros((*x.shape[:2], *places), x.dtype)
    for n, c, p, q in np.ndindex(out.shape):
        at = reach[0][p], reach[1][q]
        out[n, c, p, q] = np.sum(x[n, c][at]) / np.sum(counted[n, c][at])
    return out


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Any:
    """Window by window, from the row p H // H' to the last that (p + 1) H / H' reaches."""
    sizes = [n if size is None else size for size, n in zip(two(output_size), x.shape[2:], strict=True)]
    out = np.zeros((*x.shape[:2], *sizes), x.dtype)
    (h, w), (high, wide) = x.shape[2:], sizes
    for n, c, p, q in np.ndindex(out.shape):
        rows = slice(int(np.floor(p * h / high)), int(np.ceil((p + 1) * h / high)))
        columns = slice(int(np.floor(q * w / wide)), int(np.ceil((q + 1) * w / wide)))
        out[n, c, p, q] = np.mean(x[n, c, rows, columns])
    return out


POOLS = [
    case((2, 3, 2, 4), kernel_size=2),
    case((0, 2, 4, 4), kernel_size=2),
    case((1, 1, 3, 3), kernel_size=1),
    case((1, 1, 3, 4), kernel_size=(2, 3), stride=1),
    case((1, 2, 4, 3), kernel_size=3, stride=2, padding=1),
    case((1, 1, 5, 5), kernel_size=2, ceil_mode=True),
    case((1, 1, 5, 4), kernel_size=2, stride=3, padding=1, ceil_mode=True),
    case((1, 1, 6, 2), kernel_size=2, padding=(1, 0), ceil_mode=True),
    case((1, 1, 1, 31), kernel_size=(1, 4)),
    case((1, 1, 32, 1), kernel_size=(32, 1)),
    case((1, 1, 1, 33), kernel_size=(1, 3), padding=(0, 1)),
]
POOL_ERRORS = [
    bad(np.ones((3, 3)), kernel_size=2, raises=ValueError, match=r"\(N, C, H, W\).*\(3, 3\)"),
    bad(np.ones((1, 1, 3, 3), int), kernel_size=2, raises=TypeError, match="floating.*int64"),
    bad(np.ones((1, 1, 3, 3)), kernel_size=4, raises=ValueError, match="4 rows.* of 3"),
    bad(np.ones((1, 1, 3, 3)), kernel_size=0, raises=ValueError, match="kernel_size.*at least 1.*0"),
    bad(np.ones((1, 1, 3, 3)), kernel_size=(1, 2, 3), raises=ValueError, match=r"two of them.*\(1, 2, 3\)"),
    bad(np.ones((1, 1, 3, 3)), kernel_size=2, padding=2, raises=ValueError, match="half.*padding=2.*kernel_size=2"),
]
TIES = np.array([[[[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 2.0, 2.0]]]])
register(
    "max_pool2d", OPS["max_pool2d"], F.max_pool2d, max_pool2d,
    [*POOLS, case((1, 1, 5, 4), kernel_size=2, stride=1, dilation=(3, 2), padding=1)],
    gaps=PICTURES, errors=POOL_ERRORS,
    pinned=[
        pinned([TIES], [[[[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]]]], kernel_size=2),
        pinned([TIES], [[[[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]]]]], kernel_size=2, stride=1),
    ],
)
register(
    "max_pool2d choice", OPS["max_pool2d_choice"],
    lambda x, rows, columns: apply(OPS["max_pool2d_choice"], x, params=(rows, columns)), max_choice,
    [case((2, 3, 2, 3), rows=Window(2, 1, 1, 0, 0, 1), columns=Window(2, 1, 1, 0, 0, 2)),
        *(case((1, 1, 1, n), rows=Window(1, 1, 1, 0, 0, 1), columns=Window(2, 2, 1, 0, 0, n // 2))
            for n in (31, 32, 33)),
        case((0, 1, 1, 2), rows=Window(1, 1, 1, 0, 0, 1), columns=Window(2, 1, 1, 0, 0, 1)),
        case(np.zeros((1, 1, 2, 2)), rows=Window(2, 1, 1, 0, 0, 1), columns=Window(2, 1, 1, 0, 0, 1))],
    derivative=False, gaps=PICTURES,
)
register(
    "avg_pool2d", OPS["avg_pool2d"], F.avg_pool2d, avg_pool2d,
    [*POOLS, *(case((1, 2, 4, 5), kernel_size=3, stride=2, padding=1, count_include_pad=False, ceil_mode=c)
        for c in (False, True))],
    gaps=PICTURES, errors=POOL_ERRORS,
)
register(
    "adaptive_avg_pool2d", None, F.adaptive_avg_pool2d, adaptive_avg_pool2d,
    [case((2, 3, 4, 4), output_size=1), case((1, 2, 5, 3), output_size=(2, 2)),
        case((1, 1, 2, 3), output_size=(3, None)),
        case((1, 1, 1, 31), output_size=(1, 4)), case((1, 1, 32, 1), output_size=(3, 1)),
        case((1, 1, 1, 33), output_size=(None, 1)), case((0, 1, 4, 4), output_size=2)],
    gaps=PICTURES,
    errors=[
        bad(np.ones((2, 3)), output_size=1, raises=ValueError, match=r"\(N, C, H, W\).*\(2, 3\)"),
        bad(np.ones((1, 1, 2, 3)), output_size=0, raises=ValueError, match="output_size.*at least 1.*0"),
        bad(np.ones((1, 1, 2, 3)), output_size=(1, 2, 3), raises=ValueError, match=r"output_size.*\(1, 2, 3\)"),
    ],
)

# ---- embedding


def numbers(rows: int, *shape: int) -> Any:
    """A function of a generator that draws integers in [0, rows)."""
    return lambda rng: rng.integers(0, rows, shape)


def embedding(weight: Any, x: Any) -> Any:
    """Row by row."""
    return np.array([weight[i] for i in x.reshape(-1)], weight.dtype).reshape(*x.shape, weight.shape[1])


register(
    "embedding", None, lambda weight, x, **options: F.embedding(x, weight, **options), embedding,
    [case((4, 3), numbers(4, 5)), case((4, 3), numbers(4, 2, 3)), case((3, 2), np.array(1)),
        case((3, 2), np.array([2, 0, 2, 2])), case((31, 1), numbers(31, 32)),
        case((33, 2), numbers(33, 3)), case((3, 2), np.zeros((0, 2), int))],
    errors=[
        bad(np.ones((3, 2)), np.array([0, 3]), raises=ValueError, match=r"\[0, 3\).*got 3 at position 1.*int64"),
        bad(np.ones((3, 2)), np.array([[0, 1], [-1, 1]]), raises=ValueError, match="got -1 at position 2"),
        bad(np.ones((3, 2)), np.array([0.0]), raises=TypeError, match="integers.*float64"),
        bad(np.ones(3), np.array([0]), raises=ValueError, match=r"\(rows, features\).*\(3,\)"),
        bad(np.ones((3, 2)), np.array([0]), padding_idx=3, raises=ValueError, match=r"padding_idx.*\[-3, 3\).*3"),
    ],
)

# ---- the long short-term memory

CELLS = [case((*s, 4 * n), (*s, n)) for *s, n in ((2, 3), (1, 1), (31, 1), (1, 32), (33, 1), (0, 3), (2,), (2, 2, 2))]
NO_CELL = {"0-d": "four sums stand side by side", "broadcast": "sums and cell have one shape"}
register(
    "lstm_state", LstmState, lambda s, c: apply(LstmState, s, c),
    lambda s, c: sigmoid(np.split(s, 4, -1)[1]) * c + sigmoid(np.split(s, 4, -1)[0]) * np.tanh(np.split(s, 4, -1)[2]),
    CELLS, gaps=NO_CELL,
)
register(
    "lstm_output", LstmOutput, lambda s, c: apply(LstmOutput, s, c),
    lambda s, c: sigmoid(np.split(s, 4, -1)[3]) * np.tanh(c), CELLS, gaps=NO_CELL,
)
