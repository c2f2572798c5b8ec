"""How one sample of the op table is run, and how what comes out is compared."""

from __future__ import annotations

from typing import Any

import numpy

from ..engine import Tensor, get_default_device
from ..ops.create import tensor
from .samples import Case, Row


def leaves(row: Row, arrays: list[Any]) -> list[Tensor]:
    """Fresh Tensors of a sample; those with a gradient need it."""
    wanted = row.differentiable(arrays)
    return [tensor(a, requires_grad=i in wanted) for i, a in enumerate(arrays)]


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments with their arrays on the default device; on the CPU as they are."""
    if get_default_device() == "cpu":
        return options
    return {name: tensor(v) if isinstance(v, numpy.ndarray) else v for name, v in options.items()}


def cotangent(y: Tensor) -> numpy.ndarray:
    """A random upstream gradient in [-1, 1]."""
    return numpy.random.default_rng(1).uniform(-1, 1, y.shape).astype(y.dtype)


def upstream(y: Tensor) -> Tensor:
    """The same as a Tensor, on the device of y."""
    return tensor(cotangent(y), device=y.device)


def close(got: Any, expected: Any, limit: float, what: str) -> None:
    """Same shape, and equal up to ``limit`` times the largest value; NaN and infinity in the same places."""
    got, expected = numpy.asarray(got), numpy.asarray(expected)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    finite = numpy.isfinite(expected)
    scale = max(1.0, float(numpy.max(numpy.abs(expected[finite]), initial=0.0)))
    if got.dtype.kind not in "fc":
        finite, limit = numpy.zeros_like(finite), 0.0
    unequal = numpy.where(finite, 0, ~((got == expected) | ((got != got) & (expected != expected)))).astype(bool)
    error = numpy.abs(numpy.where(finite, got, 0).astype(float) - numpy.where(finite, expected, 0).astype(float))
    wrong = unequal | ~(error <= limit * scale)
    if wrong.any():
        at = tuple(int(i) for i in numpy.argwhere(wrong)[0])
        raise AssertionError(
            f"{what}: {got[at]!r} at {at}, expected {expected[at]!r} ({int(wrong.sum())} of {wrong.size} wrong)"
        )


def gradients(row: Row, arrays: list[Any], c: Case, call: Any = None) -> tuple[Tensor, list[Any]]:
    """The result and the gradients for a random cotangent, as arrays; None where there is none."""
    xs = leaves(row, arrays)
    y = (call or row.fn)(*xs, **given(c.options))
    if y.requires_grad:
        y.backward(upstream(y))
    return y, [None if x.grad is None else x.grad.numpy() for x in xs]


def differentiable_samples(row: Row) -> list[tuple[Case, list[Any]]]:
    """The samples that have something to differentiate by."""
    return [(c, arrays) for c, arrays in row.samples() if any(arrays[i].size for i in row.differentiable(arrays))]


def gradient_of(x: Tensor) -> numpy.ndarray:
    """``x.grad`` as an array."""
    assert x.grad is not None, f"{x} has no gradient"
    return x.grad.numpy()
