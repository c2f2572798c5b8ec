"""What the experiments share: small nets on the images of digits, their training, and what goes on inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy

from ... import functional as F
from ...backend import manual_seed
from ...data import DataLoader, TensorDataset
from ...engine import Tensor, get_default_device, no_grad
from ...nn import MLP, Module, Sequential
from ...optim import SGD, Optimizer
from ..nets import step
from ..problems import Problem, problem


def digits() -> Problem:
    """The images of digits on the default device."""
    return digits_on(get_default_device())


@cache
def digits_on(device: str) -> Problem:
    """The images of digits, read once for each device."""
    return problem("digits", device)


def net(norm: str | None, depth: int = 3, activation: str = "relu", seed: int = 0, gain: float = 1.0) -> Sequential:
    """An MLP of that many hidden layers of 64 units for the digits, its weights times ``gain``."""
    manual_seed(seed)
    model = MLP([64] * (depth + 1) + [10], norm=norm, activation=activation)
    if gain != 1.0:
        with no_grad():
            for p in model.parameters():
                if p.ndim == 2 and p.shape[1] > 1:  # weights, and the directions of weight norm; not gains
                    p[...] = p * gain
    return model


def behind(model: Sequential, kind: str, make: Any) -> Sequential:
    """The same modules with a new one behind each of a kind."""
    return Sequential(*(new for m in model for new in ((m, make()) if type(m).__name__ == kind else (m,))))


def accuracy(model: Module, x: Tensor, y: Tensor) -> float:
    """The share of right answers in the mode that the model is in."""
    with no_grad(), numpy.errstate(all="ignore"):
        return float((model(x).numpy().argmax(axis=1) == y.numpy()).mean())


def test_accuracy(model: Module) -> float:
    """The share of the test images that a model gets right in evaluation; it is left in training mode."""
    model.eval()
    found = accuracy(model, digits().x_test, digits().y_test)
    model.train()
    return found


def train(
    model: Module, rate: float, steps: int, seed: int = 0, batch_size: int = 64, images: int | None = None,
    watch: Callable[[int], Any] | None = None, optimizer: Optimizer | None = None,
) -> bool:  # fmt: skip
    """Train on the digits by plain SGD, or by the given optimizer; False where loss or gradient stopped being finite.

    Args:
        model: in training mode.
        rate: learning rate of SGD.
        steps: how many.
        seed: of the order of the images.
        batch_size: images of a step.
        images: how many of the training images to use; all by default.
        watch: called with the number of the step before each.
        optimizer: instead of SGD.
    """
    optimizer = SGD(model.named_parameters(), lr=rate) if optimizer is None else optimizer
    data = TensorDataset(digits().x_train[:images], digits().y_train[:images])
    loader = DataLoader(data, batch_size, shuffle=True, drop_last=True, seed=seed)
    done = 0
    with numpy.errstate(all="ignore"):
        while done < steps:
            for x, y in loader:
                if done == steps:
                    break
                if watch is not None:
                    watch(done)
                if step(model, optimizer, x, y) is None:
                    return False
                done += 1
    return True


def pre_activations(model: Sequential, x: Tensor) -> list[numpy.ndarray]:
    """What enters each activation, for the given data, in the mode that the model is in."""
    found, names = [], [type(m).__name__ for m in model]
    with no_grad(), numpy.errstate(all="ignore"):
        for i, module in enumerate(model):
            if names[i] in ("Sigmoid", "Tanh", "ReLU"):
                found.append(x.numpy())
            x = module(x)
    return found


def gradient_lengths(model: Sequential, x: Tensor, y: Tensor) -> list[float]:
    """The length of the gradient by each layer's weights, from the first layer to the last."""
    for p in model.parameters():
        p.grad = None
    with numpy.errstate(all="ignore"):
        F.cross_entropy(model(x), y).backward()
    weights = [p for name, p in model.named_parameters() if name.startswith("linear") and p.ndim == 2]
    found = [0.0 if p.grad is None else float(numpy.linalg.norm(p.grad.numpy())) for p in weights]
    for p in model.parameters():
        p.grad = None
    return found
