"""Checks of memory: any layout will do, nothing is shared or modified, edits are seen."""

from __future__ import annotations

from typing import Any

import numpy

from ..backend import BACKENDS
from ..engine import get_default_device, no_grad
from ..ops.calculus import grad
from ..ops.create import from_numpy, tensor
from .samples import Row
from .trial import close, cotangent, differentiable_samples, given, gradient_of, gradients, leaves, upstream


def layouts(a: numpy.ndarray) -> dict[str, numpy.ndarray]:
    """The same values in every memory layout NumPy has."""
    gaps = numpy.full([2 * n for n in a.shape], numpy.nan if a.dtype.kind == "f" else 1).astype(a.dtype)
    gaps[tuple(slice(None, None, 2) for _ in a.shape)] = a
    raw = numpy.empty(a.nbytes + 1, "u1")[1:].view(a.dtype).reshape(a.shape) if a.size else a
    raw[...] = a
    readonly = a.copy()
    readonly.flags.writeable = False
    found = {
        "Fortran": numpy.array(a, order="F"),
        "strided": gaps[tuple(slice(None, None, 2) for _ in a.shape)],
        "negative stride": numpy.flip(numpy.flip(a).copy()),
        "read-only": readonly,
        "unaligned": raw,
        "byte-swapped": a.astype(a.dtype.newbyteorder()),
    }
    return {name: numpy.asarray(x) for name, x in found.items()}


def memory_layouts(row: Row) -> None:
    """Any legal memory layout gives what the contiguous arrays give."""
    for c, arrays in row.samples():
        if not arrays:
            continue
        wanted = row.differentiable(arrays)
        y, expected = gradients(row, arrays, c)
        variants = [layouts(a) for a in arrays]
        for name in variants[0]:
            for make in (tensor, from_numpy) if get_default_device() == "cpu" else (tensor,):
                if make is from_numpy and name == "byte-swapped":
                    continue
                xs = [make(v[name]) for v in variants]
                what = f"{row.name} {c}, {name} through {make.__name__}"
                close(row.fn(*xs, **given(c.options)).numpy(), y.numpy(), 1e-12, what)
                for i in wanted:  # what is recorded is copied first, where it was borrowed
                    xs[i].requires_grad_()
                if wanted:
                    z = row.fn(*xs, **given(c.options))
                    z.backward(upstream(z))
                for i in wanted:
                    close(gradient_of(xs[i]), expected[i], 1e-12, f"{what}: gradient {i}")


def ownership(row: Row) -> None:
    """A result shares memory with its inputs only where it is a view; a gradient shares memory with nothing."""
    view = row.op is None or row.op.view or "ownership" in row.gaps
    for c, arrays in row.samples():
        xs = leaves(row, arrays)
        y = row.fn(*xs, **given(c.options))
        xp = BACKENDS[type(y._data)]
        for i, x in enumerate(xs):
            assert view or not xp.shares_memory(y._data, x._data), (
                f"{row.name} {c}: the result shares memory with input {i}"
            )
            assert x.numpy().tobytes() == arrays[i].tobytes(), f"{row.name} {c}: input {i} was modified"
        if not y.requires_grad:
            continue
        seed = upstream(y)
        held = [y._data, seed._data, *(x._data for x in xs), *held_by(y._node)]
        y.backward(seed, retain_graph=True)
        for i, x in enumerate(xs):
            if x.grad is None:
                continue
            for other in held:
                assert not xp.shares_memory(x.grad._data, other), f"{row.name} {c}: gradient {i} shares memory"
            held.append(x.grad._data)
        assert seed.numpy().tobytes() == cotangent(y).tobytes(), f"{row.name} {c}: the upstream gradient was modified"
        again = {x: x.grad for x in xs if x.grad is not None}
        for first, g in zip(again.values(), grad(y, list(again), seed), strict=True):
            assert g.numpy().tobytes() == first.numpy().tobytes(), f"{row.name} {c}: a second sweep differs"


def held_by(node: Any) -> list[Any]:
    """The arrays that a graph node keeps."""
    saved = node.saved if isinstance(node.saved, tuple) else (node.saved,)
    return [a for a in saved if type(a) in BACKENDS]


def changed(x: Any) -> Any:
    """Other values that ``x``, a Tensor or an array, may hold too."""
    if x.dtype.kind == "b":
        return ~x
    return 0 * x if x.dtype.kind in "iu" else x * 1.5 + 0.25


def edits_between(row: Row) -> None:
    """Writing into an input or the result between forward and backward gives an error or the right gradient."""
    if "edits" in row.gaps:
        return
    for c, arrays in differentiable_samples(row)[:4]:
        wanted = row.differentiable(arrays)
        _, expected = gradients(row, arrays, c)
        for create_graph in (False, True):
            for place in range(-1, len(arrays)):
                xs = leaves(row, arrays)
                y = row.fn(*xs, **given(c.options))
                target = y if place < 0 else xs[place]
                what = f"{row.name} {c}: after an edit of {'the result' if place < 0 else f'input {place}'}"
                with no_grad():
                    try:
                        target[...] = changed(target)
                    except ValueError as error:  # a view that cannot be written to
                        assert "read-only" in str(error), what
                        continue
                try:
                    gs = grad(y, [xs[i] for i in wanted], upstream(y), create_graph=create_graph)
                except RuntimeError as error:
                    assert "changed in place" in str(error), what
                    continue
                for i, g in zip(wanted, gs, strict=True):
                    close(g.numpy(), expected[i], 1e-11, f"{what}, create_graph={create_graph}, gradient {i}")


def borrowed_memory(row: Row) -> None:
    """Arrays of the user's may change between forward and backward: what rules read of them was copied in time."""
    if get_default_device() != "cpu":
        return
    for c, arrays in differentiable_samples(row)[:4]:
        wanted = row.differentiable(arrays)
        _, expected = gradients(row, arrays, c)
        for create_graph in (False, True)[: 1 if "second order" in row.gaps else 2]:
            lent = [a.copy() for a in arrays]
            xs = [from_numpy(a) for a in lent]
            for i in wanted:
                xs[i].requires_grad_()
            y = row.fn(*xs, **given(c.options))
            for a in lent:
                a[...] = changed(a)
            gs = grad(y, [xs[i] for i in wanted], upstream(y), create_graph=create_graph)
            for i, g in zip(wanted, gs, strict=True):
                what = f"{row.name} {c}: after the user's arrays changed, create_graph={create_graph}, gradient {i}"
                close(g.numpy(), expected[i], 1e-11, what)
