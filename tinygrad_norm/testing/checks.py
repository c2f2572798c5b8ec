"""What every row of the op table must pass: one function per property, run on all its samples."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy

from ..engine import Tensor, composite
from ..ops.calculus import grad
from ..ops.create import ones_like, tensor
from .gradcheck import gradcheck
from .memory import borrowed_memory, edits_between, memory_layouts, ownership
from .samples import Case, Row, undeclared
from .trial import close, cotangent, differentiable_samples, given, gradients, leaves, upstream

LIMITS = {"float16": 4e-3, "float32": 4e-6, "float64": 1e-12}
"""Largest error of values, times the largest value if that is above 1, by dtype."""

SMALL = 24
"""Samples with more entries than this are checked along random directions."""


def cases_declared(row: Row) -> None:
    """The row has samples of every kind, or says why not."""
    missing = undeclared(row)
    assert not missing, "\n".join(missing)


def values(row: Row) -> None:
    """Values, shapes and dtypes are those of the reference, in every float dtype; gradients keep the dtype."""
    for dtype, limit in LIMITS.items():
        if dtype in row.gaps:
            continue
        for c, arrays in row.samples(dtype):
            y, grads = gradients(row, arrays, c)
            wide = [a.astype("float64") if a.dtype.kind == "f" else a for a in arrays]
            expected = numpy.asarray(row.reference(*wide, **c.options))
            close(y.numpy(), expected, limit, f"{row.name} {c} in {dtype}")
            if expected.dtype.kind == "f":
                assert y.dtype == dtype, f"{row.name} {c}: {dtype} became {y.dtype}"
            else:
                assert y.dtype == expected.dtype, f"{row.name} {c}: {y.dtype}, expected {expected.dtype}"
            assert y.requires_grad == bool(row.differentiable(arrays)), (
                f"{row.name} {c}: requires_grad is {y.requires_grad}"
            )
            for i in row.differentiable(arrays):
                assert grads[i] is not None, f"{row.name} {c}: input {i} has no gradient"
                assert grads[i].dtype == arrays[i].dtype, f"{row.name} {c}: gradient {i} is {grads[i].dtype}"
                assert grads[i].shape == arrays[i].shape, f"{row.name} {c}: gradient {i} has shape {grads[i].shape}"


def fused_is_composite(row: Row) -> None:
    """A fused kernel and its gradient equal the definition and its gradient."""
    if row.op is None or not row.op.fused:
        return
    for c, arrays in row.samples():
        y, grads = gradients(row, arrays, c)
        with composite():
            z, expected = gradients(row, arrays, c)
        close(y.numpy(), z.numpy(), 1e-12, f"{row.name} {c}: fused and composite")
        for i in row.differentiable(arrays):
            close(grads[i], expected[i], 1e-11, f"{row.name} {c}: gradient {i}, fused and composite")


def checked(row: Row, c: Case, arrays: list[Any], fn: Any = None, **options: Any) -> None:
    """``gradcheck`` on one sample."""
    call = fn or row.fn
    xs = leaves(row, arrays)
    large = sum(x.size for x in xs if x.requires_grad) > SMALL
    report = gradcheck(
        lambda *args: call(*args, **given(c.options)),
        xs,
        mode="directional" if large else "full",
        raise_exception=False,
        **options,
    )
    bad = [text for text in report.warnings if "not differentiable" in text]
    assert report.ok and not bad, f"{row.name} {c}\n{report}"


def central_differences(row: Row) -> None:
    """First derivatives equal central differences of the forward."""
    for c, arrays in differentiable_samples(row):
        checked(row, c, arrays)


def complex_step(row: Row) -> None:
    """First derivatives equal the complex step of the definitions, to 1e-10."""
    if "complex" in row.gaps:
        return
    for c, arrays in differentiable_samples(row):
        checked(row, c, arrays, method="complex")


def complex_reference(row: Row) -> None:
    """First derivatives equal the complex step of the NumPy reference, to 1e-10."""
    if {"complex", "complex reference"} & set(row.gaps):
        return
    for c, arrays in differentiable_samples(row):
        y, grads = gradients(row, arrays, c)
        for i in row.differentiable(arrays):
            expected = numpy.zeros(arrays[i].shape)
            for at in numpy.ndindex(arrays[i].shape):
                stepped = [a.astype(complex) if j == i else a for j, a in enumerate(arrays)]
                stepped[i][at] += 1e-20j
                out = row.reference(*stepped, **c.options)
                expected[at] = numpy.sum(cotangent(y) * numpy.imag(out)) / 1e-20
            close(grads[i], expected, 1e-10, f"{row.name} {c}: gradient {i} and the reference's complex step")


def second_order(row: Row) -> None:
    """Second derivatives equal differences of the first."""
    if "second order" in row.gaps:
        return
    for c, arrays in differentiable_samples(row):
        checked(row, c, arrays, order=2)


def third_order(row: Row) -> None:
    """The second derivatives of the first gradient are right, on one sample."""
    if "second order" in row.gaps or not differentiable_samples(row):
        return
    c, arrays = max(differentiable_samples(row), key=lambda s: -abs(sum(a.size for a in s[1]) - 6))
    wanted = row.differentiable(arrays)

    def first(*xs: Tensor, **options: Any) -> Tensor:
        y = row.fn(*xs, **options)
        gs = grad(y, [xs[i] for i in wanted], upstream(y), create_graph=True)
        return sum(((g * g).sum() for g in gs), start=0.0)  # type: ignore[return-value]

    checked(row, c, arrays, fn=first, order=2)


def singular_points(row: Row) -> None:
    """At the pinned points the gradient is the one agreed on: by the kernel, the definition and the graph."""
    for p in row.pinned:
        xs = leaves(row, list(p.inputs))
        wanted = [i for i, g in enumerate(p.gradients) if g is not None]
        for how in ("kernel", "composite", "graph"):
            with composite() if how == "composite" else nullcontext():
                y = row.fn(*xs, **given(p.options))
                seed = ones_like(y).requires_grad_()
                gs = grad(y, [xs[i] for i in wanted], seed, create_graph=how == "graph")
            for i, g in zip(wanted, gs, strict=True):
                close(
                    g.numpy(), p.gradients[i], 1e-12, f"{row.name} at {[x.tolist() for x in xs]}: gradient {i} by {how}"
                )
                if how == "graph":  # a gradient is linear in the upstream gradient, which was 1: its slope is itself
                    total = g.sum()
                    slope = grad(total, seed, retain_graph=True, allow_unused=True) if total.requires_grad else None
                    slope = numpy.zeros(()) if slope is None else slope.sum().numpy()
                    expected = numpy.sum(numpy.asarray(p.gradients[i]))
                    close(slope, expected, 1e-12, f"{row.name}: slope of gradient {i} at a singular point")


def same_tensor_twice(row: Row) -> None:
    """One tensor in several places collects all its gradients."""
    for c, arrays in differentiable_samples(row):
        wanted = row.differentiable(arrays)
        shape = arrays[wanted[0]].shape
        places = [i for i in wanted if arrays[i].shape == shape]

        def call(x: Tensor, c: Case = c, arrays: list[Any] = arrays, places: list[int] = places) -> Tensor:
            args = [x if i in places else tensor(a) for i, a in enumerate(arrays)]
            options = given(c.options)
            return row.fn(*args, **options) * row.fn(*args, **options)

        low, high = zip(*[row.interval(i) for i in places], strict=True)
        x = numpy.random.default_rng(2).uniform(max(low), min(high), shape)
        size = "directional" if x.size > SMALL else "full"
        report = gradcheck(call, tensor(x), mode=size, raise_exception=False)
        assert report.ok, f"{row.name} {c}\n{report}"


def refusals(row: Row) -> None:
    """Bad inputs are refused with the exception and the text that the row names."""
    for b in row.errors:
        args = [tensor(a) if isinstance(a, numpy.ndarray) else a for a in b.inputs]
        shown = f"{row.name}({', '.join(map(str, args))}, {b.options})"
        try:
            row.fn(*args, **given(b.options)).numpy()  # a GPU tells when a value is read
        except b.raises as error:
            assert re.search(b.match, str(error), re.DOTALL), f"{shown}: {error!s} does not match {b.match!r}"
        else:
            raise AssertionError(f"{shown} was not refused")


CHECKS: dict[str, Callable[[Row], None]] = {
    check.__name__: check
    for check in (
        cases_declared, values, fused_is_composite, central_differences, complex_step, complex_reference, second_order,
        third_order, singular_points, same_tensor_twice, memory_layouts, ownership, edits_between, borrowed_memory,
        refusals,
    )
}  # fmt: skip
"""Every property by name."""


def check(row: Row) -> None:
    """Run every check on one row of the op table, for example your own (see :func:`register`).

    Raises:
        AssertionError: what is wrong, with the row, the sample and the values.
    """
    for property in CHECKS.values():
        property(row)
