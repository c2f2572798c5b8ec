"""Rows of the op table: activations, dropout, losses."""

from __future__ import annotations

from math import erf, exp, nan, pi, sqrt
from typing import Any

import numpy as np

from .. import functional as F
from ..engine import apply
from ..engine.tensor import namespace
from .samples import LENGTHS, ONE, bad, case, pinned, register
from .samples_math import OPS, limited

# A table reads better wide.
# fmt: off

# ---- activations


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


def elu(x: Any, alpha: float, scale: float = 1.0) -> Any:
    """x on the right, an exponential on the left."""
    return scale * np.where(x.real > 0, x, alpha * (np.exp(x) - 1))


SELU = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
ZERO = np.array([0.0, -1.0, 1.0])

register("relu", OPS["relu"], F.relu, lambda x: np.where(x.real > 0, x, 0), pinned=[pinned([ZERO], [[0, 0, 1]])])
register(
    "leaky_relu", OPS["leaky_relu"], F.leaky_relu, lambda x, negative_slope=0.01: np.where(x.real > 0, x,
        negative_slope * x),
    [*ONE, case((3,), negative_slope=0.5)], pinned=[pinned([ZERO], [[0.01, 0.01, 1]])],
)
register(
    "elu", OPS["elu"], F.elu, lambda x, alpha=1.0: elu(x, alpha), [*ONE, case((3,), alpha=0.5)],
    pinned=[pinned([ZERO], [[1, exp(-1), 1]])],
)
register("selu", OPS["elu"], F.selu, lambda x: elu(x, *SELU))
register("sigmoid", OPS["sigmoid"], F.sigmoid, sigmoid, pinned=[pinned([[800.0, -800.0]], [[0, 0]])])
register("silu", OPS["silu"], F.silu, lambda x: x * sigmoid(x), pinned=[pinned([[800.0, -800.0]], [[1, 0]])])
register(
    "gelu", OPS["gelu"], F.gelu, lambda x: x * (1 + np.asarray(np.frompyfunc(erf, 1, 1)(x / sqrt(2)), float)) / 2,
    domain=(-4, 4), gaps={"complex reference": "math.erf takes real numbers"},
    errors=[bad(np.ones(2), approximate="fast", raises=ValueError, match="'none'.*'tanh'.*'fast'")],
)
register(
    "gelu tanh", OPS["gelu_tanh"], lambda x: F.gelu(x, approximate="tanh"),
    lambda x: x * sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 * x**3)), domain=(-4, 4),
)
register(
    "softplus", OPS["softplus"], F.softplus,
    lambda x, beta=1.0, threshold=20.0: np.where((beta * x).real > threshold, x, np.log(1 + np.exp(beta * x)) / beta),
    [*ONE, case((3,), beta=2.0), case((5,), beta=0.5, threshold=0.1), case(np.array([30.0, -30.0, 0.0]))],
    errors=[bad(np.ones(2), beta=0.0, raises=ValueError, match="beta.*0.0")],
        pinned=[pinned([[800.0, -800.0]], [[1, 0]])],
)
register("hardtanh", None, F.hardtanh, lambda x: limited(x, -1, 1))

ALONG = [case((3,)), *(case(s, dim=d) for s, d in (((2, 3), 0), ((2, 3), -1), ((31, 2), 0), ((2, 32), 1), ((33, 1), 1),
    ((0, 3), 1), ((2, 3, 4), 1))), case(())]


def softmax(x: Any, dim: int = -1) -> Any:
    """e^x over its sum."""
    e = np.exp(x) if x.ndim else np.exp(x.reshape(1))
    return (e / np.sum(e, dim, keepdims=True)).reshape(x.shape)


NO_VALUE = bad(np.ones((2, 0)), raises=ValueError, match=r"softmax.*\(2, 0\)")
register("softmax", OPS["softmax"], F.softmax, softmax, ALONG, errors=[NO_VALUE],
    pinned=[pinned([[1e4, 1e4]], [[0, 0]])])
register("log_softmax", OPS["log_softmax"], F.log_softmax, lambda x, dim=-1: np.log(softmax(x, dim)), ALONG,
    errors=[NO_VALUE])

# ---- dropout


def mask(x: Any, p: float) -> Any:
    """The mask of seed 7 and counter 3, from SplitMix64 in Python's integers."""
    word = (1 << 64) - 1

    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & word
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & word
        return z ^ (z >> 31)

    key = mix(0x9E3779B97F4A7C15 * (mix(7 * 0x9E3779B97F4A7C15 & word) ^ 3) & word)
    bits = [mix((key + i) * 0x9E3779B97F4A7C15 & word) for i in range(x.size)]
    return np.array([(b >= p * 2**64) / (1 - p) if p < 1 else 0.0 for b in bits]).reshape(x.shape)


def dropped(x: Any, p: float) -> Any:
    """Dropout with that mask, from the kernel."""
    return apply(OPS["dropout"], x, params=(namespace(x._data).dropout_mask(7, 3, x.shape, p, x.dtype),))


MASKED = [case(c.inputs[0], p=p) for c, p in zip(ONE, (0.5, 0.5, 0.9, 0.1, 0.5, 0.75, 1.0, 0.5), strict=True)]
register("dropout", OPS["dropout"], dropped, lambda x, p: x * mask(x, p), MASKED)
register(
    "dropout outside training", None, lambda x, p: F.dropout(x, p, training=False) * 1.0, lambda x, p: x, MASKED,
    errors=[bad(np.ones(2), p=1.5, raises=ValueError, match="1.5"),
        bad(np.ones(2), p=-0.1, raises=ValueError, match="-0.1")],
)

# ---- losses


def reduced(losses: Any, reduction: str, total: Any = None) -> Any:
    """Losses, their sum, or their mean."""
    if reduction == "none":
        return losses
    return np.sum(losses) / (1 if reduction == "sum" else losses.size if total is None else total)


def log_p(x: Any) -> Any:
    """Log-softmax of (N, C, ...) or (C,) over the classes, as (rows, C)."""
    rows = x.reshape(1, -1) if x.ndim == 1 else np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    return np.log(softmax(rows)) if rows.size else rows


def cross_entropy(
    x: Any, target: Any, weight: Any = None, ignore_index: int = -100, label_smoothing: float = 0.0,
        reduction: str = "mean"
) -> Any:
    """Row by row, as the definition reads."""
    logs, total = log_p(x), 0.0
    classes = logs.shape[1]
    w = np.ones(classes) if weight is None else weight
    shape = x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()
    if target.dtype.kind in "fc":
        q = target.reshape(1, -1) if x.ndim == 1 else np.moveaxis(target, 1, -1).reshape(-1, classes)
        q = q * (1 - label_smoothing) + label_smoothing / classes
        return reduced(-np.sum(q * w * logs, 1).reshape(shape), reduction)
    losses = []
    for row, label in zip(logs, target.reshape(-1), strict=True):
        kept = label != ignore_index
        total += w[label] if kept else 0.0
        smooth = -label_smoothing / classes * np.sum(w * row)
        losses.append(smooth - (1 - label_smoothing) * w[label] * row[label] if kept else 0.0 * row[0])
    return reduced(np.array(losses, logs.dtype).reshape(shape), reduction, total)


def labels(classes: int, *shape: int) -> Any:
    """Random class indices."""
    return lambda rng: rng.integers(0, classes, shape)


def simplex(*shape: int) -> Any:
    """Random probabilities along axis 1 (of one dimension: 0)."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        q = rng.uniform(0.1, 1, shape)
        return q / q.sum(axis=min(1, q.ndim - 1), keepdims=True)

    return draw


WEIGHTS = np.array([0.5, 1.0, 2.0])
WITH_IGNORED = np.array([0, -100, 2, -100])
CE_CASES = [
    case((4, 3), labels(3, 4)), case((4, 3), labels(3, 4), reduction="sum"),
    case((4, 3), labels(3, 4), reduction="none"),
    case((4, 3), labels(3, 4), weight=WEIGHTS), case((4, 3), WITH_IGNORED),
    case((4, 3), WITH_IGNORED, weight=WEIGHTS, reduction="none"),
    case((2, 3, 4), labels(3, 2, 4)), case((2, 3, 2, 2), labels(3, 2, 2, 2), reduction="none"), case((3,), labels(3)),
    case((31, 2), labels(2, 31)), case((2, 32), labels(32, 2)), case((33, 1), labels(1, 33)),
    case((0, 3), labels(3, 0), reduction="sum"),
]
SMOOTHED = [
    case((4, 3), labels(3, 4), label_smoothing=0.1), case((4, 3), WITH_IGNORED, label_smoothing=0.2, reduction="none"),
    case((4, 3), WITH_IGNORED, weight=WEIGHTS, label_smoothing=0.3), case((4, 3), labels(3, 4), ignore_index=1),
]
LABEL_ERRORS = [
    bad(np.ones((4, 3)), np.array([0, 1, 9, 2]), raises=ValueError,
    match=r"\[0, 3\).*\(4, 3\).*9 at position 2.*int64"),
    bad(np.ones((4, 3)), np.array([0, -1, 1, 2]), raises=ValueError, match="-1 at position 1"),
    bad(np.ones((4, 3)), np.zeros(4), raises=TypeError, match="integers.*float64"),
    bad(np.ones((4, 3)), np.zeros((4, 1), int), raises=ValueError, match=r"\(4,\).*\(4, 1\)"),
    bad(np.ones((4, 3)), np.zeros(3, int), raises=ValueError, match=r"\(4,\).*\(3,\)"),
    bad(np.ones((4, 3)), np.zeros(4, int), reduction="avg", raises=ValueError, match="'mean', 'sum', 'none'.*'avg'"),
    bad(np.ones((4, 3)), np.zeros(4, int), weight=np.ones(2), raises=ValueError, match=r"3 classes.*\(2,\)"),
]
register(
    "cross_entropy", OPS["cross_entropy"], F.cross_entropy, cross_entropy, CE_CASES + SMOOTHED,
        gaps={"0-d": "needs classes"},
    errors=[*LABEL_ERRORS, bad(np.ones((4, 3)), np.zeros(4, int), label_smoothing=1.5, raises=ValueError, match="1.5")],
    pinned=[pinned([[[1e4, -1e4, 0.0]], np.array([0])], [[[0, 0, 0]], None]),
        pinned([[[1.0, 2.0, 3.0]], np.array([-100])], [[[nan, nan, nan]], None])],
)
register(
    "cross_entropy of probabilities", None, F.cross_entropy, cross_entropy,
    [
        case((4, 3), simplex(4, 3)), case((4, 3), simplex(4, 3), reduction="none"),
        case((2, 3, 4), simplex(2, 3, 4), reduction="sum"),
        case((3,), simplex(3)), case((31, 2), simplex(31, 2), label_smoothing=0.1), case((2, 32), simplex(2, 32)),
        case((33, 1), simplex(33, 1)), case((4, 3), simplex(4, 3), weight=WEIGHTS),
        case((0, 3), simplex(0, 3), reduction="sum"),
    ],
    gaps={"0-d": "needs classes", "broadcast": "one shape"},
)


def nll(x: Any, target: Any, **options: Any) -> Any:
    """Cross entropy of what is already normalized."""
    size = np.exp(x).sum(axis=min(1, x.ndim - 1), keepdims=True) if x.size else 1.0
    picked = np.log(np.broadcast_to(size, x.shape))
    return cross_entropy(x, target, **options) - cross_entropy_shift(picked, target, **options)


def cross_entropy_shift(log_size: Any, target: Any, **options: Any) -> Any:
    """What normalizing the rows has added to the cross entropy."""
    weight, ignore, reduction = options.get("weight"), options.get("ignore_index", -100), options.get("reduction",
        "mean")
    rows = log_size.reshape(1, -1) if log_size.ndim == 1 else np.moveaxis(log_size, 1, -1).reshape(-1,
        log_size.shape[1])
    flat = target.reshape(-1)
    w = np.array([0.0 if t == ignore else 1.0 if weight is None else weight[t] for t in flat])
    shape = log_size.shape[:1] + log_size.shape[2:] if log_size.ndim > 1 else ()
    return reduced((rows[:, 0] * w).reshape(shape), reduction, w.sum())


register("nll_loss", None, F.nll_loss, nll, [*CE_CASES, case((4, 3), labels(3, 4), ignore_index=1)],
    errors=LABEL_ERRORS, gaps={"0-d": "needs classes"})

SAME = [case(s, s, reduction=r) for s, r in zip(((), *LENGTHS, (2, 3), (2, 3), (2, 0, 3)),
    ("mean", "sum", "none", "mean", "sum", "none", "mean", "sum", "none"), strict=True)]
ONE_SHAPE = {"broadcast": "a loss never broadcasts"}
LOSS_ERRORS = [
    bad(np.ones((4, 1)), np.ones(4), raises=ValueError, match=r"\(4, 1\).*\(4,\)"),
    bad(np.ones(2), np.ones(2), reduction="avg", raises=ValueError, match="'mean', 'sum', 'none'.*'avg'"),
]
register("mse_loss", None, F.mse_loss, lambda x, t, reduction: reduced((x - t) ** 2, reduction), SAME, gaps=ONE_SHAPE,
    errors=LOSS_ERRORS)
register(
    "l1_loss", None, F.l1_loss, lambda x, t, reduction: reduced(np.where((x - t).real < 0, t - x, x - t), reduction),
        SAME,
    gaps=ONE_SHAPE, errors=LOSS_ERRORS, pinned=[pinned([1.0, 1.0], [0.0, 0.0])],
)


def huber(x: Any, t: Any, reduction: str, delta: float = 1.0) -> Any:
    """A parabola in the middle, lines outside."""
    d = np.where((x - t).real < 0, t - x, x - t)
    return reduced(np.where(d.real <= delta, d * d / 2, delta * d - delta**2 / 2), reduction)


register(
    "huber_loss", None, F.huber_loss, huber, [*SAME, case((7,), (7,), reduction="sum", delta=0.5)], gaps=ONE_SHAPE,
    errors=[*LOSS_ERRORS, bad(np.ones(2), np.ones(2), delta=-1.0, raises=ValueError, match="delta.*-1.0")],
)


def binary(x: Any, t: Any, reduction: str = "mean", weight: Any = 1.0, pos_weight: Any = 1.0) -> Any:
    """From the two probabilities themselves."""
    return reduced(-weight * (pos_weight * t * np.log(sigmoid(x)) + (1 - t) * np.log(sigmoid(-x))), reduction)


register(
    "binary_cross_entropy_with_logits", None, F.binary_cross_entropy_with_logits, binary,
    [*SAME, case((4,), np.array([0, 1, 1, 0]))],
    domain=((-3, 3), (0, 1)), gaps=ONE_SHAPE,
    errors=[*LOSS_ERRORS, bad(np.ones(2), np.array([1.0, 1.5]), raises=ValueError, match="got 1.5 at position 1")],
    pinned=[pinned([[800.0, -800.0], np.array([1.0, 0.0])], [[0, 0], None], reduction="sum")],
)

register(
    "binary_cross_entropy_with_logits, weighted", None,
    lambda x, t, w, p, reduction="mean": F.binary_cross_entropy_with_logits(x, t, w, p, reduction),
    lambda x, t, w, p, reduction="mean": binary(x, t, reduction, w, p),
    [case(c.inputs[0], c.inputs[0], w, p, **c.options) for c, w, p in zip(
        SAME, ((), (1,), (1,), (31,), (1,), (33,), (3,), (2, 1), ()),
            ((), (), (1,), (1,), (32,), (1,), (3,), (3,), ()), strict=True)],
    domain=((-3, 3), (0, 1), (0.5, 2), (0.5, 2)),
)
