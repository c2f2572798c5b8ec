"""HIPS autograd."""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib.metadata import version
from typing import Any

import autograd.numpy as anp
import numpy
from autograd import make_vjp
from autograd.tracer import getval

from ..cases import Case, operands, start
from . import formulas


def versions(flags: Collection[str]) -> dict[str, str]:
    """Of autograd."""
    return {"autograd": version("autograd"), "numpy": numpy.__version__}


def make(case: Case, flags: Collection[str]) -> tuple[Callable, Callable]:
    """See the package's text."""
    return {"train": train, "norm": norm, "chain": product}[case["work"]](case)


def train(case: Case) -> tuple[Callable, Callable]:
    """A training step; the parameters are given one by one, which is its fastest way."""
    layers, x, labels = start(case)
    keys = [(i, name) for i, layer in enumerate(layers) for name in layer]
    values = [layers[i][name] for i, name in keys]
    target = formulas.one_hot(labels, case["sizes"][-1])
    adam = formulas.Adam(values)
    running = formulas.fresh(layers) if case["norm"] == "batch" else []
    statistics: list = []

    def loss_of(values: Any) -> Any:
        layers: list[dict] = [{} for _ in case["sizes"][1:]]
        for (i, name), value in zip(keys, values, strict=True):
            layers[i][name] = value
        z = formulas.logits(anp, layers, x, case["norm"], statistics)
        return formulas.cross_entropy(anp, z, target, getval)

    def run() -> float:
        nonlocal running
        statistics.clear()
        pull, loss = make_vjp(loss_of, 0)(values)
        adam.step(pull(numpy.float32(1)))
        running = formulas.moved(running, [(getval(m), getval(v)) for m, v in statistics], len(x))
        return float(loss)

    return run, lambda: [var for _, var in running]


def norm(case: Case) -> tuple[Callable, Callable]:
    """Forward and backward of one normalization."""
    arrays = operands(case)
    g = arrays.pop("g")
    names, values = list(arrays), list(arrays.values())
    last: list = []

    def forward(values: Any) -> Any:
        return formulas.normalized(anp, case["norm"], dict(zip(names, values, strict=True)))

    def run() -> None:
        pull, y = make_vjp(forward, 0)(values)
        last[:] = [y, *pull(g)]

    return run, lambda: last


def product(case: Case) -> tuple[Callable, Callable]:
    """The chain y = y * w."""
    eye, seed = numpy.eye(2, dtype="float32"), numpy.ones((2, 2), "float32")
    last: list = []

    def forward(x: Any, w: Any) -> Any:
        y = x
        for _ in range(case["length"]):
            y = y * w
        return y

    def run() -> None:
        pull, _ = make_vjp(forward, (0, 1) if case["both"] else 0)(eye, eye)
        got = pull(seed)
        last[:] = got if case["both"] else [got]

    return run, lambda: last
