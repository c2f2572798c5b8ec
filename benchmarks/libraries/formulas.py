"""The nets in plain array functions, for libraries that differentiate those: one text for all of them.

``xp`` has NumPy's names; ``fixed`` gives a value that is not differentiated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from ..cases import ADAM_EPS, BETA1, BETA2, EPS, LEARNING_RATE, MOMENTUM


def batch_norm(xp: Any, x: Any, gain: Any, shift: Any) -> tuple[Any, Any, Any]:
    """Batch norm, and the mean and variance of the batch."""
    mean = xp.mean(x, axis=0)
    d = x - mean
    var = xp.mean(d * d, axis=0)
    return d / xp.sqrt(var + EPS) * gain + shift, mean, var


def layer_norm(xp: Any, x: Any, gain: Any, shift: Any) -> Any:
    """Layer norm of each row."""
    d = x - xp.mean(x, axis=1, keepdims=True)
    return d / xp.sqrt(xp.mean(d * d, axis=1, keepdims=True) + EPS) * gain + shift


def unit(xp: Any, v: Any) -> Any:
    """Rows of length 1."""
    return v / xp.sqrt(xp.sum(v * v, axis=1, keepdims=True))


def logits(xp: Any, layers: list[dict], x: Any, norm: str, statistics: list, batch: Callable = batch_norm) -> Any:
    """The net's output; the mean and variance of each batch norm are appended to ``statistics``."""
    for layer in layers[:-1]:
        w = layer["w"]
        if norm == "cosine":
            x = unit(xp, x) @ unit(xp, w).T * layer["scale"] + layer["b"]
        elif norm == "weight":
            x = x @ (unit(xp, w) * layer["length"]).T + layer["b"]
        elif norm == "layer":
            x = layer_norm(xp, x @ w.T + layer["b"], layer["gain"], layer["shift"])
        else:
            x, mean, var = batch(xp, x @ w.T, layer["gain"], layer["shift"])
            statistics.append((mean, var))
        x = xp.maximum(x, 0)
    return x @ layers[-1]["w"].T + layers[-1]["b"]


def cross_entropy(xp: Any, z: Any, target: Any, fixed: Callable) -> Any:
    """Mean of log(sum(exp(z))) - z[label]; ``target`` has a 1 at each row's label."""
    z = z - fixed(xp.max(z, axis=1, keepdims=True))
    return xp.mean(xp.log(xp.sum(xp.exp(z), axis=1)) - xp.sum(z * target, axis=1))


def moved(running: list, statistics: list, rows: int) -> list:
    """The running mean and variance of each batch norm after one more batch."""
    factor = MOMENTUM * rows / (rows - 1)
    return [
        (mean * (1 - MOMENTUM) + m * MOMENTUM, var * (1 - MOMENTUM) + v * factor)
        for (mean, var), (m, v) in zip(running, statistics, strict=True)
    ]


def fresh(layers: list[dict]) -> list:
    """Running mean 0 and variance 1 for each batch norm."""
    return [
        (numpy.zeros_like(layer["gain"]), numpy.ones_like(layer["gain"])) for layer in layers[:-1] if "gain" in layer
    ]


class Adam:
    """Adam on NumPy arrays, in place, for libraries that bring no optimizer."""

    def __init__(self, values: list[numpy.ndarray]) -> None:
        self.t = 0
        self.slots = [(p, numpy.zeros_like(p), numpy.zeros_like(p)) for p in values]

    def step(self, grads: list[numpy.ndarray]) -> None:
        """One update."""
        self.t += 1
        root = (1 - BETA2**self.t) ** 0.5
        rate = LEARNING_RATE * root / (1 - BETA1**self.t)
        for (p, m, v), g in zip(self.slots, grads, strict=True):
            m *= BETA1
            m += (1 - BETA1) * g
            v *= BETA2
            v += (1 - BETA2) * (g * g)
            p -= rate * m / (numpy.sqrt(v) + ADAM_EPS * root)


def normalized(xp: Any, norm: str, values: dict) -> Any:
    """One normalization alone."""
    x = values["x"]
    if norm == "cosine":
        return unit(xp, x) @ unit(xp, values["w"]).T
    if norm == "weight":
        return unit(xp, x) * values["length"]
    if norm == "layer":
        return layer_norm(xp, x, values["gain"], values["shift"])
    return batch_norm(xp, x, values["gain"], values["shift"])[0]


def one_hot(labels: numpy.ndarray, classes: int) -> numpy.ndarray:
    """Rows with a 1 at the label."""
    return numpy.eye(classes, dtype="float32")[labels]
