"""Rows of the op table: normalization by statistics and by length."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from ..engine import apply
from .samples import bad, case, pinned, register
from .samples_math import AXES, LINEAR_ERRORS, OPS

# A table reads better wide.
# fmt: off

# ---- normalization by statistics


def norm(x: Any, weight: Any, bias: Any, axes: tuple[int, ...], eps: float, centre: bool = True) -> Any:
    """(x - mean) / sqrt(var + eps) weight + bias; 0 for the fraction where var + eps is 0."""
    n = int(np.prod([x.shape[a] for a in axes])) or 1
    d = x - np.sum(x, axes, keepdims=True) / n if centre else x
    var = np.sum(d * d, axes, keepdims=True) / n + eps
    return np.where(var == 0, 0, d / np.sqrt(np.where(var == 0, 1, var))) * weight + bias


def channels(v: Any, x: Any) -> Any:
    """A value per channel, to broadcast against (N, C, ...)."""
    return v.reshape(v.shape + (1,) * (x.ndim - 2))


def others(x: Any) -> tuple[int, ...]:
    """All axes but that of the channels."""
    return (0, *range(2, x.ndim))


IMAGES = ((4, 3), (3, 2, 4), (2, 3, 2, 2), (31, 1), (4, 32), (33, 2), (1, 3, 5))
NEEDS_ROWS = {"0-d": "needs a batch"}
NEGATIVE_EPS = "eps.*-1"
register(
    "batch_norm", OPS["norm"], lambda x, w, b, eps=1e-5: F.batch_norm(x, weight=w, bias=b, training=True, eps=eps),
    lambda x, w, b, eps=1e-5: norm(x, channels(w, x), channels(b, x), others(x), eps),
    [*(case(s, (s[1],), (s[1],)) for s in (*IMAGES, (0, 3), (2, 0))), case((5, 3), (3,), (3,), eps=0.0),
        case((5, 3), (3,), (3,), eps=0.1)],
    gaps=NEEDS_ROWS, pinned=[pinned([[[2.0], [2.0], [2.0]], [3.0], [1.0]], [[[0], [0], [0]], [0], [3]], eps=0.0)],
    errors=[
        bad(np.ones((4, 3)), np.ones(4), np.ones(3), raises=ValueError, match=r"weight.*\(3,\).*\(4, 3\).*\(4,\)"),
        bad(np.ones((4, 3)), np.ones(3), np.ones(3), eps=-1.0, raises=ValueError, match=NEGATIVE_EPS),
        bad(np.ones(3), np.ones(3), np.ones(3), raises=ValueError, match=r"\(N, C\).*\(3,\)"),
    ],
)
register(
    "batch_norm without affine", OPS["norm"], lambda x: F.batch_norm(x, training=True),
        lambda x: norm(x, 1, 0, others(x), 1e-5),
    [case(s) for s in (*IMAGES, (0, 3))], gaps=NEEDS_ROWS,
)
register(
    "batch_norm outside training", None, lambda x, mean, var, w, b: F.batch_norm(x, mean, var, w, b),
    lambda x, mean, var, w, b: (x - channels(mean, x)) / np.sqrt(channels(var, x) + 1e-5) * channels(w,
        x) + channels(b, x),
    [case(s, *[(s[1],)] * 4) for s in (*IMAGES, (0, 3))], domain=((-2, 2), (-1, 1), (0.5, 2), (-2, 2), (-2, 2)),
        constants=(1, 2),
    gaps=NEEDS_ROWS,
)

TRAILING = (((4, 3), 3), ((2, 3, 4), (3, 4)), ((5,), 5), ((31, 3), 3), ((2, 32), 32), ((3, 33), (33,)), ((0, 3), 3),
    ((2, 3, 4), 4), ((3, 1), 1))


def over_last(x: Any, shape: Any) -> tuple[int, ...]:
    """The axes that normalized_shape names."""
    return tuple(range(x.ndim - (len(shape) if isinstance(shape, tuple) else 1), x.ndim))


def full(shape: Any) -> tuple[int, ...]:
    """normalized_shape as a tuple."""
    return shape if isinstance(shape, tuple) else (shape,)


register(
    "layer_norm", OPS["norm"], lambda x, w, b, shape, eps=1e-5: F.layer_norm(x, shape, w, b, eps),
    lambda x, w, b, shape, eps=1e-5: norm(x, w, b, over_last(x, shape), eps),
    [
        *(case(s, full(n), full(n), shape=n) for s, n in TRAILING), case((4, 3), (1,), (1,), shape=3),
            case((4, 3), (), (), shape=3, eps=0.0),
        case((4, 3), (3,), (1,), shape=3, eps=0.1),
    ],
    pinned=[pinned([[[2.0, 2.0]], [3.0, 3.0], [1.0, 1.0]], [[[0, 0]], [0, 0], [1, 1]], shape=2, eps=0.0)],
    errors=[
        bad(np.ones((4, 3)), np.ones(3), np.ones(3), shape=4, raises=ValueError, match=r"\(4,\).*\(4, 3\)"),
        bad(np.ones((4, 3)), np.ones(2), np.ones(3), shape=3, raises=ValueError, match=r"weight.*\(3,\).*\(2,\)"),
        bad(np.ones((4, 3)), np.ones(3), np.ones(3), shape=3, eps=-1.0, raises=ValueError, match=NEGATIVE_EPS),
        bad(np.ones((4, 3), int), np.ones(3), np.ones(3), shape=3, raises=TypeError, match="int64"),
    ],
)
register(
    "rms_norm", OPS["norm"], lambda x, w, shape, eps=1e-5: F.rms_norm(x, shape, w, eps),
    lambda x, w, shape, eps=1e-5: norm(x, w, 0, over_last(x, shape), eps, centre=False),
    [case(s, full(n), shape=n) for s, n in TRAILING] + [case((4, 3), (1,), shape=3, eps=0.0)], gaps=NEEDS_ROWS,
    pinned=[pinned([[[0.0, 0.0]], [3.0, 3.0]], [[[0, 0]], [0, 0]], shape=2, eps=0.0)],
)


def grouped(x: Any, w: Any, b: Any, groups: int) -> Any:
    """Group norm by reshaping."""
    y = x.reshape(x.shape[0], groups, -1) if x.size else x
    y = norm(y, 1, 0, (2,), 1e-5) if x.size else y
    return y.reshape(x.shape) * channels(w, x) + channels(b, x)


register(
    "group_norm", OPS["norm"], lambda x, w, b, groups, eps=1e-5: F.group_norm(x, groups, w, b, eps), grouped,
    [case(s, (s[1],), (s[1],), groups=g) for s, g in (((2, 4), 2), ((2, 4, 3), 2), ((2, 3, 2, 2), 3), ((31, 4), 1),
        ((2, 32), 4), ((1, 2, 33), 2), ((0, 4), 2))],
    gaps=NEEDS_ROWS, errors=[bad(np.ones((2, 4)), np.ones(4), np.ones(4), groups=3, raises=ValueError,
        match="4 channels.*3")],
    pinned=[pinned([[[2.0, 2.0, 1.0, 1.0]], [3.0] * 4, [1.0] * 4], [[[0] * 4], [0] * 4, [1] * 4], groups=2, eps=0.0)],
)
register(
    "standardize", OPS["norm"], lambda x, axis=None, eps=1e-5: F.standardize(x, axis, eps),
    lambda x, axis=None, eps=1e-5: norm(x, 1, 0, tuple(range(x.ndim)) if axis is None else axis
        if isinstance(axis, tuple) else (axis,), eps),
    [case(c.inputs[0], **{k: v for k, v in c.options.items() if k == "axis"}) for c in AXES] + [case((0, 3), axis=1),
        case((4, 3), axis=0, eps=0.0), case(())],
)
register(
    "centre", OPS["centre"], lambda x, axis=(0,): apply(OPS["centre"], x, params=(axis,)),
    lambda x, axis=(0,): x - np.sum(x, axis, keepdims=True) / max(int(np.prod([x.shape[a] for a in axis])), 1),
    [case(s, axis=a) for s, a in (((3,), (0,)), ((2, 3), (1,)), ((2, 3, 2), (0, 2)), ((31, 1), (0,)), ((1, 32), (1,)),
        ((33, 2), (0,)), ((0, 3), (0,)), ((2, 0), (0,)))] + [case((), axis=())],
)


def instance(x: Any, w: Any, b: Any) -> Any:
    """Every channel of every sample over its positions."""
    return norm(x, channels(w, x), channels(b, x), tuple(range(2, x.ndim)), 1e-5)


SIGNALS = ((2, 3, 4), (1, 2, 31), (2, 1, 32), (1, 1, 33), (2, 2, 2, 3), (0, 2, 3), (2, 3, 0), (2, 2, 1))
register(
    "instance_norm", OPS["norm"], lambda x, w, b: F.instance_norm(x, weight=w, bias=b), instance,
    [case(s, (s[1],), (s[1],)) for s in SIGNALS], gaps=NEEDS_ROWS,
    errors=[
        bad(np.ones((2, 3)), np.ones(3), np.ones(3), raises=ValueError, match=r"\(N, C, ...\).*\(2, 3\)"),
        bad(np.ones((2, 3, 4)), np.ones(2), np.ones(3), raises=ValueError, match=r"weight.*\(3,\).*\(2,\)"),
    ],
)
register(
    "mean_only_batch_norm", None, lambda x, b: F.mean_only_batch_norm(x, bias=b, training=True),
    lambda x, b: x - np.sum(x, others(x), keepdims=True) / max(x.size // max(x.shape[1], 1), 1) + channels(b, x),
    [case(s, (s[1],)) for s in (*IMAGES, (0, 3))], gaps=NEEDS_ROWS,
    errors=[bad(np.ones(3), np.ones(3), raises=ValueError, match=r"\(N, C\).*\(3,\)")],
)
register(
    "weight_standardization", OPS["norm"], lambda w, eps=1e-5: F.weight_standardization(w, eps),
    lambda w, eps=1e-5: norm(w, 1, 0, tuple(range(1, w.ndim)), eps),
    [case(s) for s in ((2, 3), (31, 4), (1, 32), (2, 33), (0, 3), (2, 3, 2, 2))] + [case((2, 3), eps=0.0)],
    gaps=NEEDS_ROWS,
    errors=[bad(np.ones(3), raises=ValueError, match=r"\(out, in, ...\).*\(3,\)")],
)

# ---- whitening


def zca(x: Any, eps: float = 1e-5) -> Any:
    """Rows with mean 0 and covariance I, through the inverse square root by eigenvalues."""
    d = x - np.mean(x, 0)
    values, vectors = np.linalg.eigh(d.T @ d / len(x) + eps * np.eye(x.shape[1]))
    return d @ (vectors / np.sqrt(values)) @ vectors.T


def newton(x: Any, eps: float = 1e-5, iterations: int = 5) -> Any:
    """Newton's iteration in its uncoupled form, p = (3 p - p^3 c) / 2."""
    d = x - np.sum(x, 0) / len(x)
    c = d.T @ d / len(x) + eps * np.eye(x.shape[1])
    p, trace = np.eye(x.shape[1]), np.trace(c)
    for _ in range(iterations):
        p = 1.5 * p - 0.5 * p @ p @ p @ c / trace
    return d @ p / np.sqrt(trace)


def cloud(n: int, d: int) -> Any:
    """Correlated rows with a well-conditioned covariance, where a Newton iteration and eigenvalues agree closely."""
    return lambda rng: rng.normal(size=(n, d)) @ (np.eye(d) + 0.3 * rng.uniform(-1, 1, (d, d)) / d**0.5) + 2.0


CLOUDS = [case(cloud(n, d)) for n, d in ((6, 1), (8, 2), (9, 3), (31, 2), (32, 3), (33, 4))]
CLOUDS += [case(cloud(9, 3), eps=0.0), case(cloud(9, 3), eps=0.1)]
NO_ROWS = bad(np.ones((0, 3)), raises=ValueError, match=r"N > 0 rows.*\(0, 3\)")
WHITE = {"0-d": "needs a matrix", "empty": "needs rows"}
register(
    "whiten", OPS["zca"], F.whiten, zca, CLOUDS, gaps=WHITE | {"complex reference": "eigenvalues are not analytic"},
    errors=[NO_ROWS, bad(np.ones((4, 3)), method="pca", raises=ValueError, match="'zca' or 'newton'.*'pca'")],
)
register(
    "whiten newton", None, lambda x, **options: F.whiten(x, "newton", **options), newton,
    [*CLOUDS, case(cloud(9, 3), iterations=1)], gaps=WHITE,
    errors=[NO_ROWS, bad(np.ones((4, 3)), iterations=0, raises=ValueError, match="iterations.*0")],
)
register(
    "eye", OPS["eye"], lambda x, n: apply(OPS["eye"], x, params=(n,)), lambda x, n: np.eye(n),
    [case(s, n=n) for s, n in (((), 0), ((1,), 1), ((31,), 2), ((32,), 3), ((33,), 33), ((0, 3), 3))], derivative=False,
)

# ---- normalization by length


def unit(v: Any, axes: Any, eps: float) -> Any:
    """v over its length, or over eps if that is larger; 0 at 0."""
    squares = np.sum(v * v, axes, keepdims=True)
    length = np.sqrt(np.where(squares == 0, 1, squares))
    return np.where(squares == 0, 0, v / np.where(length.real < eps, eps, length))


register(
    "normalize", OPS["unit"], F.normalize, lambda x, dim=-1, eps=1e-12: unit(x, dim, eps),
    [case(s, dim=d) for s, d in (((3,), 0), ((2, 3), 0), ((2, 3), -1), ((2, 3, 2), (0, 2)), ((31, 1), 0), ((1, 32), 1),
        ((33, 2), 0), ((0, 3), 1), ((2, 0), 1))]
    + [case((2, 3), eps=10.0), case((2, 3), eps=0.0)],
    gaps={"0-d": "a number has no direction"}, pinned=[pinned([[[0.0, 0.0], [3.0, 4.0]]], [[[0, 0], [0.032, -0.024]]]),
        pinned([[[0.0, 0.0]]], [[[0, 0]]], eps=0.0)],
    errors=[bad(np.ones((2, 3)), eps=-1.0, raises=ValueError, match=NEGATIVE_EPS),
        bad(np.ones((2, 3)), dim=2, raises=ValueError, match="axis 2")],
)
register(
    "weight_norm", OPS["weight_norm"], lambda v, g, dim=0, eps=0.0: F.weight_norm(v, g, dim, eps),
    lambda v, g, dim=0, eps=0.0: g * unit(v, tuple(a for a in range(v.ndim) if dim is None or a != dim % v.ndim), eps),
    [
        case((2, 3), (2, 1)), case((2, 3), (1, 3), dim=1), case((2, 3), (), dim=None), case((2, 3, 2), (2, 1, 1)),
        case((31, 2), (31, 1)),
        case((2, 32), (2, 1)), case((2, 33), (1, 33), dim=-1), case((0, 3), (0, 1)), case((2, 3), (2, 1), eps=10.0),
        case((3,), (3,)),
    ],
    pinned=[pinned([[[0.0, 0.0]], [[2.0]]], [[[0, 0]], [[0]]]),
        pinned([[[0.0, 0.0]], [[2.0]]], [[[0, 0]], [[0]]], eps=1e-3)],
    errors=[bad(np.ones((2, 3)), np.ones(3), raises=ValueError, match=r"\(2, 1\).*\(3,\)"),
        bad(np.ones(()), np.ones(()), raises=ValueError, match="dimension")],
)
PAIRS = (((2, 3), 4), ((3,), 2), ((2, 4, 3), 2), ((31, 2), 2), ((2, 32), 3), ((2, 4), 33), ((0, 3), 2), ((2, 3), 1))
for centered in (False, True):

    def cosine(x: Any, w: Any, eps: float = 0.0, centered: bool = centered) -> Any:
        """The cosine of every row of x and every row of w."""
        if centered:
            x, w = (v - np.sum(v, -1, keepdims=True) / v.shape[-1] for v in (x, w))
        return unit(x, -1, eps) @ unit(w, -1, eps).T

    register(
        "cosine_linear centered" if centered else "cosine_linear", OPS["cosine_linear"],
        lambda x, w, eps=0.0, centered=centered: F.cosine_linear(x, w, eps, centered), cosine,
        [case(x, (m, x[-1])) for x, m in PAIRS] + [case((2, 3), (4, 3), eps=0.1)], gaps={"0-d": "needs features"},
        pinned=[pinned([[[0.0, 0.0]], [[3.0, 4.0], [0.0, 0.0]]], [[[0, 0]], [[0, 0], [0, 0]]])],
            errors=LINEAR_ERRORS[:1],
    )
register(
    "cosine_similarity", None, F.cosine_similarity, lambda a, b, dim=1,
        eps=1e-8: np.sum(unit(a, dim, eps) * unit(b, dim, eps), dim),
    [case(a, b, dim=d) for a, b, d in (((2, 3), (2, 3), 1), ((2, 3), (1, 3), 1), ((3,), (3,), 0),
        ((31, 2), (31, 2), 1), ((2, 32), (2, 32), -1), ((33, 2), (33, 2), 0), ((0, 3), (0, 3), 1),
        ((2, 3, 4), (2, 1, 4), 2))],
    gaps={"0-d": "needs features"}, pinned=[pinned([[[0.0, 0.0]], [[3.0, 4.0]]], [[[0, 0]], [[0, 0]]])],
)
