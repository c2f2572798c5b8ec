"""Every operation, proved from its row of the op table."""

import dataclasses
import gc

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import functional, testing
from tinygrad_norm.testing.checks import CHECKS
from tinygrad_norm.testing.samples import ROWS, operations
from tinygrad_norm.testing.samples_math import OPS

PAIRS = [(row, check) for row in ROWS for check in CHECKS]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("row, check", PAIRS)
def test_op(row, check):
    with np.errstate(divide="ignore", invalid="ignore") if check == "singular_points" else np.errstate():
        CHECKS[check](ROWS[row])


def test_every_operation_has_a_row():
    missing = operations("tinygrad_norm") - {row.op for row in ROWS.values()}
    assert not missing, f"add a row to tinygrad_norm/testing for {', '.join(sorted(op.__name__ for op in missing))}"


def test_every_public_function_of_nets_has_a_row():
    called = {row.fn for row in ROWS.values()} | {getattr(functional, name, None) for name in ROWS}
    missing = [name for name in functional.__all__ if getattr(functional, name) not in called]
    assert not missing, f"add a row to tinygrad_norm/testing for {', '.join(missing)}"


def test_an_operation_without_a_row_is_seen():
    class Newcomer(tn.Op):
        __module__ = "tinygrad_norm.ops.new"

    assert Newcomer in operations("tinygrad_norm") - {row.op for row in ROWS.values()}
    assert Newcomer not in operations("somewhere")
    del Newcomer
    gc.collect()


# ---- the checks can fail


def broken(**changes):
    """A copy of the row of exp with something changed."""
    return dataclasses.replace(ROWS["exp"], **changes)


def other(forward=None, rule=None, **members):
    class Other(tn.Op):
        pass

    Other.forward = staticmethod(forward or (lambda xp, x: xp.exp(x)))
    Other.backward = (rule or (lambda xp, g, y, x: g * xp.exp(x)),)
    for name, value in members.items():
        setattr(Other, name, value)
    return lambda x: tn.apply(Other, x)


def in_float64(xp, x):
    return xp.exp(x.astype("float64"))


def clobbers(xp, x):
    y = xp.exp(x)
    x[...] = 0.0
    return y


def loses_precision(xp, g, y, x):
    return g * (xp.exp(x).astype("float32") if hasattr(x, "strides") else xp.exp(x))


class Lossy(tn.Op):
    """e^x whose rule, run on Tensors, takes e^x for a constant."""

    @staticmethod
    def forward(xp, x):
        return xp.exp(x)

    backward = (lambda xp, g, y, x: g * (tn.exp(x).detach() if isinstance(x, tn.Tensor) else xp.exp(x)),)


def right_to_second_order(xp, g, y, x):
    return g * (tn.apply(Lossy, x) if isinstance(x, tn.Tensor) else xp.exp(x))


def fused(definition, slope=1.0):
    class Fused(tn.Op):
        @staticmethod
        def composite(x):
            return definition(x)

        @staticmethod
        def forward(xp, x):
            return xp.exp(x), None

        @staticmethod
        def backward(xp, g, y, saved, needs, x):
            return (g * xp.exp(x) * slope,)

    return lambda x: tn.apply(Fused, x)


def keeps_y_unseen():
    kept = {}

    def forward(xp, x):
        kept["y"] = xp.exp(x)
        return kept["y"]

    return other(forward, lambda xp, g, y, x: g * kept["y"], reads=tn.NOTHING)


def keeps_x_unseen():
    kept = {}

    def forward(xp, x):
        kept["x"] = x
        return xp.exp(x)

    return other(forward, lambda xp, g, y, x: g * np.exp(kept["x"]), reads=tn.NOTHING)


BROKEN = {
    "values": [broken(reference=np.expm1), broken(fn=other(in_float64)), broken(fn=lambda x: tn.exp(x).detach())],
    "central_differences": [broken(fn=other(rule=lambda xp, g, y, x: g * 1.0001 * xp.exp(x)))],
    "complex_step": [broken(fn=other(rule=loses_precision))],
    "complex_reference": [
        broken(reference=lambda x: np.exp(x) * (1 + 1e-7 * np.cos(x))),
        broken(fn=other(rule=loses_precision)),
    ],
    "second_order": [
        broken(fn=other(rule=lambda xp, g, y, x: g * (tn.exp(x.detach()) if isinstance(x, tn.Tensor) else y), reads=3))
    ],
    "third_order": [broken(fn=other(rule=right_to_second_order))],
    "fused_is_composite": [
        broken(fn=fused(lambda x: tn.exp(x) * (1 + 1e-9)), op=OPS["gelu"]),
        broken(fn=fused(tn.exp, 1 + 1e-9), op=OPS["gelu"]),
    ],
    "same_tensor_twice": [dataclasses.replace(ROWS["multiply"], fn=lambda a, b: a * (b.detach() if a is b else b))],
    "memory_layouts": [broken(fn=other(lambda xp, x: xp.exp(x.ravel(order="K").reshape(x.shape))))],
    "singular_points": [broken(pinned=(testing.pinned([0.0], [2.0]),))],
    "ownership": [
        broken(fn=other(lambda xp, x: x, lambda xp, g, y, x: g * 1.0, fresh=True)),
        broken(fn=other(clobbers)),
    ],
    "edits_between": [broken(fn=keeps_y_unseen())],
    "borrowed_memory": [broken(fn=keeps_x_unseen())],
    "refusals": [
        broken(errors=(testing.bad(np.ones(2), raises=ValueError, match="x"),)),
        broken(errors=(testing.bad("text", raises=TypeError, match="nonsense"),)),
    ],
    "cases_declared": [
        broken(cases=(testing.case((3,)),)),
        broken(cases=tuple(c for c in ROWS["exp"].cases if 0 not in c.inputs[0])),
    ],
}


@pytest.mark.parametrize("check, row", [(check, row) for check, rows in BROKEN.items() for row in rows])
def test_a_check_sees_what_breaks_it(check, row):
    with pytest.raises(AssertionError):
        CHECKS[check](row)
    if check == "third_order":
        CHECKS["second_order"](row)


def test_every_check_can_fail():
    assert set(BROKEN) == set(CHECKS)
