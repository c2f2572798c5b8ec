"""Rows of the op table: shapes, indexing, joining."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from .samples import bad, case, register
from .samples_math import OPS

# A table reads better wide.
# fmt: off



def method(name: str) -> Any:
    """``np.name`` for a reference that takes the same keyword arguments."""
    return lambda x, **options: getattr(np, name)(x, **options)


def register_shape(name: str, op: str | None, cases: list, reference: Any = None, errors: Any = (), gaps: Any = None,
    call: Any = None) -> None:
    """A row of a function of one tensor that moves elements."""
    fn = getattr(ops, name)
    register(name, OPS[op] if op else None, call or (lambda x, **options: fn(x, **options)), reference or method(name),
        cases, errors=errors, gaps=gaps)


register_shape(
    "reshape", "reshape",
    [case(a, shape=b) for a, b in (((), (1, 1)), ((1,), ()), ((31,), (31, 1)), ((32,), (4, 8)), ((33,), (3, -1)),
        ((0, 3), (3, 0)), ((2, 3), 6), ((2, 3), (3, 2)))],
    errors=[bad(np.ones((2, 3)), shape=(4, 2), raises=ValueError, match=r"6 elements.*\(4, 2\)"),
            bad(np.ones((2, 3)), shape=(4, -1), raises=ValueError, match=r"\(2, 3\)")],
    call=lambda x, shape: ops.reshape(x, shape),
    reference=lambda x, shape: np.reshape(x, shape),  # by position: the name is another before NumPy 2.1
)
register(
    "transpose", OPS["transpose"], lambda x, axes=(): ops.transpose(x, *axes), lambda x,
        axes=(): np.transpose(x, axes or None),
    [case(()), case((3,)), case((2, 3)), case((2, 3, 4)), case((2, 3, 4), axes=(1, 2, 0)), case((31, 1)),
        case((1, 32), axes=(-1, 0)), case((33, 0, 2), axes=(0, 2, 1))],
    errors=[bad(np.ones((2, 3, 4)), axes=(0, 1), raises=ValueError, match=r"\(0, 1\).*swapaxes")],
)
register_shape(
    "swapaxes", None, [case(s, axis1=a, axis2=b) for s, a, b in (((2, 3), 0, 1), ((2, 3, 4), 0, -1), ((31, 1), 0, 1),
        ((32, 2), 1, 0), ((33, 0), 0, 1), ((3,), 0, 0))],
    gaps={"0-d": "needs two axes"}, errors=[bad(np.ones((2, 3)), axis1=0, axis2=2, raises=ValueError, match="axis 2")],
)
register_shape(
    "broadcast_to", "broadcast_to",
    [case(a, shape=b) for a, b in (((), ()), ((), (2, 3)), ((3,), (2, 3)), ((2, 1), (2, 3)), ((1,), (33,)),
        ((31,), (31,)), ((1, 32), (2, 32)), ((33,), (33,)), ((0,), (2, 0)), ((1, 1), (4, 2, 3)), ((1,), (0,)))],
    errors=[bad(np.ones(3), shape=(2, 4), raises=ValueError, match=r"broadcast_to.*\(3,\)")],
    call=lambda x, shape: ops.broadcast_to(x, shape),
)
register_shape(
    "flip", "flip", [case(s, axis=a) for s, a in (((), None), ((3,), None), ((2, 3), 0), ((2, 3), (0, 1)),
        ((31, 1), 0), ((32,), 0), ((33, 2), -1), ((0, 3), 1))],
    errors=[bad(np.ones(3), axis=1, raises=(IndexError, ValueError), match="axis 1")],
)
register_shape("squeeze", None, [case(s, axis=a) for s, a in (((), None), ((1,), 0), ((1, 31, 1), None), ((1, 32), 0),
    ((33, 1), (1,)), ((1, 0), 0), ((1, 2, 1), (0, 2)))],
               errors=[bad(np.ones((2, 3)), axis=0, raises=ValueError, match=r"axis 0.*\(2, 3\)")])
register_shape("expand_dims", None, [case(s, axis=a) for s, a in (((), 0), ((1,), 1), ((31,), -1), ((32,), (0, 2)),
    ((33, 2), 1), ((0, 3), 0), ((2, 3), (0, -1)))])
register(
    "flatten", None, lambda x, start=0, end=-1: ops.flatten(x, start, end),
    lambda x, start=0, end=-1: x.reshape(x.shape[:start] + (int(np.prod(x.shape[start : end % max(x.ndim, 1) + 1])),
        ) + x.shape[end % max(x.ndim, 1) + 1 :]),
    [case(()), case((2, 3)), case((2, 3, 4), start=1), case((2, 3, 4), end=1), case((31, 1)),
        case((1, 32, 2), start=1), case((33, 0)), case((3,))],
    errors=[bad(np.ones((2, 3, 4)), start=2, end=1, raises=ValueError, match="2 and 1")],
)

# ---- indexing

S = np.s_
INDICES: list[tuple[Any, Any]] = [
    ((), ()), ((), (None,)), ((3,), 1), ((5, 4), S[1:4:2, ::-1]), ((5, 4), S[..., -1]), ((5, 4), S[None, :, 2]),
    ((31,), S[3:0:-1]),
    ((32, 2), S[[0, 0, 3]]), ((33,), np.arange(33) % 2 == 0), ((5, 4), S[[0, 1, 1], [2, 3, 3]]),
    ((5, 4), S[[0, 0], 1:3]),
    ((5, 4), np.arange(20).reshape(5, 4) % 3 == 0), ((0, 3), S[:, 1]), ((5, 4), S[np.array([[0, 1], [1, 1]])]),
    ((2, 5, 4), S[:, [1, 1], [0, 3]]), ((2, 5, 4), S[[0, 1], :, [0, 3]]), ((3,), []), ((1, 4), S[0, 0]),
    ((5, 4), S[np.array([True, False, True, False, True]), 1]),
]
register(
    "getitem", OPS["getitem"], lambda x, index: x[index], lambda x,
        index: x[np.array([], int) if isinstance(index, list) and not index else index],
    [case(s, index=i) for s, i in INDICES],
    errors=[
        bad(np.ones((2, 3)), index=2, raises=IndexError, match=r"getitem.*\(2, 3\).*index 2"),
        bad(np.ones((2, 3)), index=S[0, 0, 0], raises=IndexError, match=r"\(2, 3\)"),
        bad(np.ones((2, 3)), index=0.5, raises=TypeError, match="0.5"),
        bad(np.ones((2, 3)), index=np.ones(2), raises=TypeError, match="float64"),
    ],
)


def scattered(x: Any, shape: Any, index: Any) -> Any:
    """What ``index_add`` does, element by element."""
    y = np.zeros(shape, x.dtype)
    np.add.at(y, index, x)
    return y


register(
    "index_add", OPS["index_add"], lambda x, shape, index: ops.index_add(shape, index, x), scattered,
    [
        case((3,), shape=(5,), index=[0, 0, 4]), case((2, 3), shape=(2, 5), index=S[:, 1:4]),
        case((), shape=(3,), index=1),
        case((31,), shape=(32,), index=S[1:]), case((33,), shape=(4,), index=np.arange(33) % 4),
        case((0, 2), shape=(3, 2), index=S[3:]),
        case((2,), shape=(2, 3), index=S[[0, 0], [1, 1]]), case((1,), shape=(1,), index=S[:]),
        case((2, 32), shape=(3, 32), index=[2, 2]),
    ],
)

# ---- joining

register(
    "concatenate", OPS["concatenate"], lambda *x, axis=0: ops.concatenate(x, axis), lambda *x,
        axis=0: np.concatenate(x, axis),
    [
        case((3,)), case((2,), (3,)), case((2, 3), (2, 1), axis=1), case((2, 3), (2, 3), (1, 3)),
        case((31,), (1,), (32,)),
        case((33, 2), (0, 2)), case((2, 3, 1), (2, 3, 2), axis=-1), case((0,), (0,)),
    ],
    gaps={"0-d": "nothing to join along"},
    errors=[bad(np.ones((2, 3)), np.ones((2, 4)), raises=ValueError, match=r"concatenate.*\(2, 3\).*\(2, 4\)"),
            bad(raises=ValueError, match="at least one"), bad(np.ones(()), raises=ValueError,
            match=r"concatenate.*\(\)")],
)
register(
    "stack", None, lambda *x, axis=0: ops.stack(x, axis), lambda *x, axis=0: np.stack(x, axis),
    [case((), ()), case((3,), (3,)), case((2, 3), (2, 3), axis=1), case((31,), (31,), axis=-1), case((32, 1)),
        case((33,), (33,), (33,)), case((0, 2), (0, 2), axis=2)],
    gaps={"broadcast": "joins equal shapes"},
)
register(
    "split", None, lambda x, sections, axis, part: ops.split(x, sections, axis)[part], lambda x, sections, axis,
        part: np.split(x, sections, axis)[part],
    [case(s, sections=n, axis=a, part=p) for s, n, a, p in (((6,), 3, 0, 1), ((2, 6), 2, 1, 0),
        ((31, 1), [3, 30], 0, 1), ((32,), 4, 0, 3), ((33, 2), 3, 0, 2), ((0, 2), 2, 0, 1), ((5,), [0, 2], 0, 0))],
    gaps={"0-d": "nothing to cut"}, errors=[bad(np.ones(5), sections=2, axis=0, part=0, raises=ValueError,
        match="length 5.*2 equal")],
)
register(
    "pad", OPS["pad"], lambda x, widths, value=0.0: ops.pad(x, widths, value), lambda x, widths,
        value=0.0: np.pad(x, widths, constant_values=value),
    [case(s, widths=w) for s, w in (((3,), 1), ((2, 3), ((0, 1), (2, 0))), ((31,), ((0, 2),)), ((32, 1), 1),
        ((0, 2), ((1, 0), (0, 1))), ((33,), 0))] + [case((2, 3), widths=1, value=1.5)],
    gaps={"0-d": "nothing to pad"}, errors=[bad(np.ones((2, 3)), widths=((1, 1),), raises=ValueError,
        match=r"2 dimensions.*\(\(1, 1\),\)")],
)
register_shape("repeat", None, [case(s, repeats=n, axis=a) for s, n,
    a in (((), 2, None), ((3,), 2, 0), ((2, 3), 3, 1), ((2, 3), 2, None), ((31, 1), 2, 1), ((32,), 1, 0),
        ((33,), 2, 0), ((0, 3), 2, 1))])
register_shape("tile", None, [case(s, reps=r) for s, r in (((), 2), ((3,), 2), ((2, 3), (2, 1)), ((31,), (2, 1)),
    ((32, 1), (1, 2)), ((33,), 1), ((0, 3), (2, 2)), ((2, 3), (2, 1, 2)))])
