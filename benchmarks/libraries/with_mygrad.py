"""MyGrad, with its own batch norm and cross-entropy."""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib.metadata import version
from typing import Any

import mygrad
import numpy
from mygrad.nnet.layers import batchnorm
from mygrad.nnet.losses import softmax_crossentropy

from ..cases import EPS, Case, operands, start
from . import formulas


def versions(flags: Collection[str]) -> dict[str, str]:
    """Of MyGrad."""
    return {"mygrad": version("mygrad"), "numpy": numpy.__version__}


def make(case: Case, flags: Collection[str]) -> tuple[Callable, Callable]:
    """See the package's text."""
    return {"train": train, "norm": norm, "chain": product}[case["work"]](case)


def batch_norm(xp: Any, x: Any, gain: Any, shift: Any) -> tuple[Any, Any, Any]:
    """MyGrad's own, and the statistics that it computed."""
    y = batchnorm(x, gamma=gain, beta=shift, eps=EPS)
    return y, y.creator.mean, y.creator.var


def train(case: Case) -> tuple[Callable, Callable]:
    """A training step."""
    arrays, x, labels = start(case)
    layers = [{name: mygrad.tensor(a) for name, a in layer.items()} for layer in arrays]
    parameters = [p for layer in layers for p in layer.values()]
    adam = formulas.Adam([p.data for p in parameters])
    running = formulas.fresh(arrays) if case["norm"] == "batch" else []

    def run() -> float:
        nonlocal running
        statistics: list = []
        z = formulas.logits(mygrad, layers, x, case["norm"], statistics, batch_norm)
        loss = softmax_crossentropy(z, labels)
        loss.backward()
        adam.step([p.grad for p in parameters])
        running = formulas.moved(running, statistics, len(x))
        return float(loss.data)

    return run, lambda: [var for _, var in running]


def norm(case: Case) -> tuple[Callable, Callable]:
    """Forward and backward of one normalization."""
    arrays = operands(case)
    g = arrays.pop("g")
    values = {name: mygrad.tensor(a) for name, a in arrays.items()}
    last: list = []

    def run() -> None:
        if case["norm"] == "batch":
            y, _, _ = batch_norm(mygrad, *values.values())
        else:
            y = formulas.normalized(mygrad, case["norm"], values)
        y.backward(g)
        last[:] = [y.data]

    return run, lambda: [*last, *(v.grad for v in values.values())]


def product(case: Case) -> tuple[Callable, Callable]:
    """The chain y = y * w."""
    x = mygrad.tensor(numpy.eye(2, dtype="float32"))
    w = mygrad.tensor(numpy.eye(2, dtype="float32"), constant=not case["both"])
    seed = numpy.ones((2, 2), "float32")

    def run() -> None:
        y = x
        for _ in range(case["length"]):
            y = y * w
        y.backward(seed)

    return run, lambda: [v.grad for v in (x, w)[: 1 + case["both"]]]
