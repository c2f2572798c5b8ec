"""Rows of the op table: arithmetic, elementwise functions, reductions, products."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import erf, inf, log, nan, pi
from typing import Any

import numpy as np

from .. import ops
from ..engine import apply
from ..ops.convert import zeros_like
from .samples import LENGTHS, ONE, TWO, bad, case, operations, pinned, register

# A table reads better wide.
# fmt: off

OPS = {op.name: op for op in operations("tinygrad_norm")}

POSITIVE = (0.1, 3.0)
MISFIT = bad(np.ones((2, 3)), np.ones(4), raises=ValueError, match=r"\(2, 3\).*\(4,\).*broadcast")
TEXT = bad("text", raises=TypeError, match="'text'")


def limited(x: Any, low: float, high: float) -> Any:
    """x within [low, high], by real parts."""
    return np.where(x.real < low, low, np.where(x.real > high, high, x))


def booleans(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    """Random booleans of a shape."""
    return lambda rng: rng.random(shape) < 0.5


def integers(high: int, *shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    """Random integers in [0, high) of a shape."""
    return lambda rng: rng.integers(0, high, shape)


# ---- two inputs

PAIR = (-2.0, 2.0), (-2.0, 2.0)
register("add", OPS["add"], ops.add, lambda a, b: a + b, domain=PAIR, errors=[MISFIT])
register("subtract", OPS["subtract"], ops.subtract, lambda a, b: a - b, domain=PAIR, errors=[MISFIT])
register("multiply", OPS["multiply"], ops.multiply, lambda a, b: a * b, domain=PAIR, errors=[MISFIT])
register("divide", OPS["divide"], ops.divide, lambda a, b: a / b, domain=((-2, 2), (0.5, 2)), errors=[MISFIT])
register(
    "power", OPS["power"], ops.power, lambda a, b: a**b, [*TWO, case((4,), np.array([0.0, 1.0, 2.0, -1.0]))],
    domain=((0.3, 2), (-2, 2)), errors=[MISFIT],
    pinned=[
        pinned([0.0, 2.0], [0.0, 0.0]),
        pinned([0.0, 1.0], [1.0, 0.0]),
        pinned([2.0, 0.0], [0.0, log(2.0)]),
        pinned([0.0, 0.0], [0.0, 0.0]),
    ],
)
register(
    "power by a number", OPS["power"], lambda x, exponent: ops.power(x, exponent), lambda x, exponent: x**exponent,
    [case(c.inputs[0], exponent=e) for c, e in zip(ONE, (2, 3.0, 0, 1, 0.5, -1.5, -2, 2), strict=True)],
        domain=(0.3, 2),
    pinned=[pinned([0.0], [0.0], exponent=2), pinned([0.0], [1.0], exponent=1), pinned([0.0], [0.0], exponent=0),
            pinned([-3.0], [-6.0], exponent=2)],
)
register(
    "power of a number", OPS["power"], lambda x, base: ops.power(base, x), lambda x, base: base**x,
    [case(c.inputs[0], base=b) for c, b in zip(ONE, (2, 0.5, 3.0, 1, 2, 10, 2.5, 2), strict=True)],
    pinned=[pinned([2.0], [0.0], base=0)],
)
register(
    "maximum", OPS["maximum"], ops.maximum, lambda a, b: np.where(a.real >= b.real, a, b), domain=PAIR, errors=[MISFIT],
    pinned=[pinned([1.0, 1.0], [0.5, 0.5]), pinned([2.0, 1.0], [1.0, 0.0])],
)
register(
    "minimum", OPS["minimum"], ops.minimum, lambda a, b: np.where(a.real <= b.real, a, b), domain=PAIR, errors=[MISFIT],
    pinned=[pinned([1.0, 1.0], [0.5, 0.5]), pinned([2.0, 1.0], [0.0, 1.0])],
)
register(
    "where", OPS["where"], ops.where, np.where,
    [
        case(booleans(), (), ()), case(booleans(3), (3,), (3,)), case(booleans(2, 1), (1, 3), ()),
        case(booleans(3), (2, 3), (1,)), case(booleans(33), (33,), (1,)), case(booleans(31), (), (31,)),
        case(booleans(32), (32,), (32,)), case(booleans(0), (0,), (1,)), case(booleans(), (2, 3), (3,)),
    ],
    errors=[bad(np.ones(2, bool), np.ones(3), np.ones(3), raises=ValueError, match=r"\(2,\).*\(3,\).*broadcast")],
)
register(
    "where with a number", OPS["where"], lambda c, x: ops.where(c, x, 0.0), lambda c, x: np.where(c, x, 0.0),
    [case(booleans(*s), s) for s in ((), *LENGTHS, (2, 3))], gaps={"broadcast": "one tensor"},
)

# ---- one input

register("negative", OPS["negative"], ops.negative, lambda x: -x, errors=[TEXT])
register("exp", OPS["exp"], ops.exp, np.exp, errors=[TEXT])
register("expm1", OPS["expm1"], ops.expm1, lambda x: 2 * np.exp(x / 2) * np.sinh(x / 2))
register("log", OPS["log"], ops.log, np.log, domain=POSITIVE)
register("log1p", OPS["log1p"], ops.log1p, lambda x: np.log(1 + x), domain=(-0.5, 3))
register("sqrt", OPS["sqrt"], ops.sqrt, np.sqrt, domain=POSITIVE, pinned=[pinned([[0.0, 4.0]], [[inf, 0.25]])])
register("abs", OPS["abs"], ops.abs, lambda x: np.where(x.real < 0, -x, x),
    pinned=[pinned([[0.0, -1.0, 2.0]], [[0, -1, 1]])])
register("sign", OPS["sign"], ops.sign, lambda x: np.sign(x.real),
    gaps={"complex": "of a complex number NumPy takes x / |x|"}, pinned=[pinned([[0.0, -1.0, 2.0]], [[0, 0, 0]])])
register("sin", OPS["sin"], ops.sin, lambda x: (np.exp(1j * x) - np.exp(-1j * x)).imag / 2,
    gaps={"complex reference": "uses complex"})
register("cos", OPS["cos"], ops.cos, lambda x: np.sin(x + pi / 2))
register("tanh", OPS["tanh"], ops.tanh, lambda x: 1 - 2 / (np.exp(2 * x) + 1))
register(
    "erf", OPS["erf"], ops.erf, lambda x: np.asarray(np.frompyfunc(erf, 1, 1)(x), float), domain=(-4, 4),
    gaps={"complex reference": "math.erf takes real numbers"},
)
register(
    "clip", OPS["clip"], lambda x, low, high: ops.clip(x, low, high),
    lambda x, low, high: limited(x, -inf if low is None else low, inf if high is None else high),
    [case(c.inputs[0], low=a, high=b) for c, (a, b) in zip(
        ONE, ((-1, 1), (-1, 1), (None, 0.5), (-0.5, None), (-1.0, 1.5), (0, 1), (None, 0.0), (-3, 3)), strict=True)],
    pinned=[pinned([[-1.0, 1.0, 1.5, -2.0, 0.0]], [[1, 1, 0, 0, 1]], low=-1, high=1)],
    errors=[bad(np.ones(2), low=2, high=1, raises=ValueError, match="min=2, max=1"),
            bad(np.ones(2), low=None, high=None, raises=ValueError, match="neither")],
)
register("copy", OPS["copy"], ops.copy, lambda x: x + 0)
register("astype", OPS["astype"], lambda x: apply(OPS["astype"], x, params=(x.dtype,)), lambda x: x)
register(
    "to_device", OPS["to_device"], lambda x: apply(OPS["to_device"], x, params=(x.device, x.device)), lambda x: x,
    gaps={"ownership": "the only device here: nothing moves"},
)

# ---- without derivative

for name in "equal not_equal less less_equal greater greater_equal logical_and logical_or".split():
    fn = getattr(ops, name)
    register(name, fn.op, fn, getattr(np, name), [*TWO, case(integers(3, 7), integers(3, 7))], domain=PAIR,
             derivative=False, errors=[MISFIT])

SPECIAL = np.array([0.0, 1.0, inf, -inf, np.nan])
for name in ("logical_not", "isfinite", "isnan"):
    fn = getattr(ops, name)
    register(name, fn.op, fn, getattr(np, name), [*ONE, case(SPECIAL)], derivative=False)

AXES = [
    case((3,)), case((2, 3), axis=0), case((2, 3), axis=-1), case((2, 3, 2), axis=(0, 2)),
    case((2, 3), axis=1, keepdims=True),
    case((31, 2), axis=0), case((2, 32), axis=1), case((33,), keepdims=True), case((2, 3), axis=(0, 1), keepdims=True),
    case((1, 1), axis=0), case((2, 3, 4), axis=1),
]
WITH_EMPTY = [*AXES, case(()), case((0, 3), axis=1), case((0, 3), axis=0), case((2, 0))]
NO_VALUE = bad(np.ones((2, 0)), axis=1, raises=ValueError, match=r"\(2, 0\)")
NO_AXIS = bad(np.ones((2, 3)), axis=2, raises=(IndexError, ValueError), match="axis 2")
ONE_TEN = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])

for name in ("any", "all"):
    register(
        name, OPS[name], getattr(ops, name), getattr(np, name),
        [case(booleans(*c.inputs[0]), **c.options) for c in WITH_EMPTY], derivative=False,
    )
for name in ("argmax", "argmin"):
    single = [case((3,)), *(case(s, axis=a) for s, a in (((2, 3), 0), ((2, 3), -1), ((31, 2), 0), ((2, 32), 1),
        ((33, 1), 0), ((0, 3), 1))), case(())]
    register(name, OPS[name], getattr(ops, name), getattr(np, name), single, derivative=False, errors=[NO_VALUE])
register(
    "full_like", OPS["full_like"], lambda x, value: ops.full_like(x, value), lambda x, value: np.full_like(x, value),
    [case(c.inputs[0], value=2.5) for c in ONE], derivative=False,
)
register("zeros_like", OPS["full_like"], lambda x: zeros_like(x), np.zeros_like, derivative=False)

# ---- reductions


def extreme(sign: int, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The largest (or smallest) by real part, also of complex numbers."""
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim
        for a in (axis if isinstance(axis, tuple) else (axis,)))
    rest = [i for i in range(x.ndim) if i not in axes]
    rows = np.transpose(x, [*rest, *axes]).reshape(*[x.shape[i] for i in rest],
        int(np.prod([x.shape[i] for i in axes])))
    y = np.take_along_axis(rows, np.argmax(sign * rows.real, -1)[..., None], -1)[..., 0]
    return y.reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdims else y


register("sum", OPS["sum"], ops.sum, np.sum, WITH_EMPTY, errors=[NO_AXIS])
register(
    "mean", OPS["mean"], ops.mean, lambda x, axis=None, keepdims=False: np.sum(x, axis,
        keepdims=keepdims) / (x.size / max(np.sum(x, axis).size, 1)),
    [*AXES, case(()), case((0, 3), axis=1)], errors=[NO_AXIS],
)
for sign, name in ((1, "max"), (-1, "min")):
    register(
        name, OPS[name], getattr(ops, name), partial(extreme, sign), [*AXES, case(()), case((0, 3), axis=1)],
        pinned=[pinned([sign * ONE_TEN], [[[0, 0.5, 0.5], [1 / 3] * 3]], axis=1),
            pinned([sign * ONE_TEN], [[[0, 0.5, 0.5], [0] * 3]])],
        errors=[NO_VALUE, NO_AXIS],
    )
register(
    "cumsum", OPS["cumsum"], ops.cumsum, np.cumsum,
    [case((3,)), case((2, 3)), *(case(s, axis=a) for s, a in (((2, 3), 0), ((2, 3), -1), ((31, 2), 0), ((2, 32), 1),
        ((33, 1), 0), ((0, 3), 0))), case(())],
    errors=[NO_AXIS],
)
register(
    "logsumexp", OPS["logsumexp"], ops.logsumexp,
    lambda x, axis=None, keepdims=False: np.log(np.sum(np.exp(x), axis, keepdims=keepdims)),
    [*AXES, case(()), case((0, 3), axis=1)], errors=[NO_VALUE, NO_AXIS],
    pinned=[pinned([[1e4, 1e4]], [[0.5, 0.5]]), pinned([[-inf, -inf]], [[0, 0]]), pinned([[-inf, 1.0]], [[0, 1]]),
        pinned([[inf, 1.0]], [[nan, nan]])],
)


def moment(x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """Variance, also of complex numbers without taking the modulus."""
    n = x.size / max(np.sum(x, axis).size, 1)
    d = x - np.sum(x, axis, keepdims=True) / n
    return np.sum(d * d, axis, keepdims=keepdims) / (n - ddof)


SPREAD = [
    case((3,)), case((2, 3), axis=0), case((2, 3), axis=-1, ddof=1), case((2, 3, 2), axis=(0, 2)),
    case((2, 3), axis=1, keepdims=True), case((31, 2), axis=0), case((2, 32), axis=1, ddof=2),
    case((33, 1), axis=0, keepdims=True),
    case((0, 3), axis=1),
]
ONE_NUMBER = {"0-d": "one number has no spread"}
TOO_FEW = bad(np.ones((2, 1)), axis=1, ddof=1, raises=ValueError, match=r"ddof=1.*got 1")
register("var", None, ops.var, moment, SPREAD, errors=[TOO_FEW], gaps=ONE_NUMBER)
register(
    "std", OPS["std"], ops.std, lambda x, **options: np.sqrt(moment(x, **options)), SPREAD, gaps=ONE_NUMBER,
    errors=[TOO_FEW], pinned=[pinned([[[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]]],
        [[[0, 0, 0], [-0.4082482904638631, 0.4082482904638631, 0]]], axis=1)],
)
register("prod", None, ops.prod, np.prod, WITH_EMPTY, pinned=[pinned([[0.0, 2.0, 3.0]], [[6, 0, 0]]),
    pinned([[0.0, 0.0, 3.0]], [[0, 0, 0]])])

# ---- products

MATRICES = [
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)), ((5, 2, 3), (1, 3, 4)), ((4, 1, 2, 3), (5, 3, 2)), ((3,), (5, 3, 4)), ((5, 2, 3), (3,)),
    ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((2, 3, 4), (4, 0)), ((0, 2, 3), (3, 4)), ((31, 1), (1, 2)),
    ((1, 32), (32, 2)), ((2, 33), (33, 1)),
]
NOT_0D = {"0-d": "products need a dimension"}
register(
    "matmul", OPS["matmul"], ops.matmul, np.matmul, [case(a, b) for a, b in MATRICES], gaps=NOT_0D,
    errors=[
        bad(np.ones((3, 4)), np.ones((5, 6)), raises=ValueError, match=r"\(3, 4\).*\(5, 6\).*4 is not 5"),
        bad(np.ones(()), np.ones(2), raises=ValueError, match="dimension"),
        bad(np.ones((2, 2), "float32"), np.ones((2, 2)), raises=TypeError, match="float32.*float64"),
    ],
)
LINEAR_ERRORS = [
    bad(np.ones((2, 3)), np.ones((4, 2)), raises=ValueError, match=r"\(2, 3\).*\(4, 2\)"),
    bad(np.ones((2, 3), "float32"), np.ones((4, 3)), raises=TypeError, match="float32.*float64"),
]
register(
    "linear", OPS["linear"], ops.linear, lambda x, w, b: x @ w.T + b,
    [case(x, (m, x[-1]), (m,)) for x, m in (((2, 3), 4), ((3,), 2), ((2, 4, 3), 2), ((31, 1), 2), ((2, 32), 33),
        ((0, 3), 2), ((2, 0), 3), ((2, 3), 0))],
    gaps=NOT_0D,
    errors=[*LINEAR_ERRORS, bad(np.ones((2, 3)), np.ones((4, 3)), np.ones(3), raises=ValueError,
        match=r"\(4,\).*\(3,\)"),
            bad(np.ones((2, 3), int), np.ones((4, 3)), np.ones(4), raises=TypeError, match="int64")],
)
register(
    "linear without bias", OPS["linear"], lambda x, w: ops.linear(x, w), lambda x, w: x @ w.T,
    [case(x, (m, x[-1])) for x, m in (((2, 3), 4), ((3,), 2), ((2, 4, 3), 2), ((31, 1), 2), ((2, 32), 33), ((0, 3), 2),
        ((2, 0), 3))],
    gaps=NOT_0D, errors=LINEAR_ERRORS,
)
register("outer", None, ops.outer, np.outer, TWO, domain=PAIR)
register(
    "einsum", OPS["einsum"], lambda *x, path: ops.einsum(path, *x), lambda *x, path: np.einsum(path, *x),
    [
        case((2, 3), (3, 4), path="ij,jk->ik"), case((2, 3), path="ij->ji"), case((2, 3), path="ij->"),
        case((3, 3), path="ii->i"),
        case((3, 3), path="ii"), case((5, 2, 3), (5, 3, 4), path="bij,bjk->bik"), case((2, 3), (2, 3), path="ij,ij->"),
        case((31,), (1,), path="i,j"), case((32, 2), (2,), (33,), path="ij,j,k->ik"),
        case((5, 2, 3), (3, 4), path="...ij,jk->...ik"),
        case((0, 3), (3,), path="ij,j->i"), case((2, 3), path="ij->j"), case((2, 1), (3, 4), path="ij,jk->ik"),
    ],
    gaps=NOT_0D,
    errors=[
        bad(np.ones((2, 3)), np.ones((4, 5)), path="ij,jk->ik", raises=ValueError, match="'j'.*3 and 4"),
        bad(np.ones((2, 3)), path="ij,jk->ik", raises=ValueError, match="names 2 operands; got 1"),
        bad(np.ones((2, 3)), path="ijk->i", raises=ValueError, match="'ijk'"),
    ],
)
