"""Nets in files: one trained, with what is needed to use it again; and how well a net does on its problem."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy

from .. import functional as F
from ..engine import Tensor, no_grad
from ..nn import MLP, Module
from ..optim import Optimizer
from ..serialize import CheckpointError, load_arrays
from ..train import save_checkpoint
from .problems import PROBLEMS, Problem, problem


def outputs(model: Module, x: Tensor) -> Tensor:
    """What the model gives in evaluation mode, without recording; it is left in training mode."""
    model.eval()
    with no_grad():
        y = model(x)
    model.train()
    return y


def accuracy(model: Module, given: Problem) -> float:
    """The share of the problem's test samples whose class has the largest output."""
    return float((outputs(model, given.x_test).numpy().argmax(axis=1) == given.y_test.numpy()).mean())


def step(model: Module, optimizer: Optimizer, x: Tensor, y: Tensor) -> float | None:
    """One step of training: the loss before it, or None where loss or gradient are not finite and nothing was done."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    if not math.isfinite(loss.item()):
        return None
    loss.backward()
    try:
        optimizer.step()
        return loss.item()  # once more: reading is when a GPU tells of a gradient that is not finite
    except FloatingPointError:
        return None


def save_net(
    path: Path, model: Module, sizes: list[int], norm: str, activation: str, dataset: str, **results: Any
) -> None:
    """Write an MLP as a checkpoint that :func:`load_net` (and ``train.load_checkpoint``) reads."""
    architecture = {"class": "MLP", "sizes": sizes, "norm": norm, "activation": activation}
    save_checkpoint(path, model, architecture=architecture, dataset=dataset, **results)


def load_net(path: Path) -> tuple[MLP, dict[str, Any]]:
    """A net that :func:`save_net` wrote, and all that was saved with it.

    Raises:
        CheckpointError: the file is damaged, or holds something else.
        OSError: it cannot be opened.
    """
    arrays, header = load_arrays(path)
    try:
        meta = header["meta"]
        made, _ = meta["architecture"], PROBLEMS[meta["dataset"]]
        if sum(n * m for n, m in pairwise(made["sizes"])) > sum(array.size for array in arrays.values()):
            raise ValueError(f"sizes {made['sizes']} are more than the file holds")
        model = MLP(made["sizes"], None if made["norm"] == "none" else made["norm"], made["activation"])
        model.load_state_dict({name.removeprefix("model/"): array for name, array in arrays.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} is a file of this package, but no net that compare or train saved ({error})"
        ) from error
    return model, meta


def find_net(path: Path) -> Path:
    """The checkpoint that a path means: itself, or ``model.npz`` in the folder of a run.

    Raises:
        FileNotFoundError: there is none; the message lists the checkpoints in the folder.
    """
    if not path.is_dir():
        return path
    if (path / "model.npz").exists():
        return path / "model.npz"
    found = [str(file) for file in sorted(path.glob("*.npz"))]
    hint = f"name one of {', '.join(found)}" if found else "it has no .npz file at all"
    raise FileNotFoundError(2, f"the folder has no model.npz; {hint}", str(path))


def evaluate(path: str | Path, device: str = "cpu") -> dict[str, Any]:
    """Use a net from a file on the test samples of the problem that it was trained for.

    Args:
        path: a checkpoint of ``compare``, or the folder of a run of ``train``, or the checkpoint in it.
        device: where to compute.

    Returns:
        "test_accuracy", "recorded_test_accuracy" (when it was saved), "test_loss", "confusion" (a row for each class,
        a column for each answer) and what describes the net.

    Raises:
        CheckpointError: the file is damaged, or holds something else.
        OSError: there is no such file.
    """
    file = find_net(Path(path))
    model, meta = load_net(file)
    given = problem(meta["dataset"], device)
    y = outputs(model.to(device), given.x_test)
    answers, classes = y.numpy().argmax(axis=1), given.y_test.numpy()
    loss = F.cross_entropy(y, given.y_test).item()
    confusion = numpy.zeros((given.classes, given.classes), int)
    numpy.add.at(confusion, (classes, answers), 1)
    return {
        "checkpoint": str(file), "dataset": given.name, **meta["architecture"],
        "parameters": sum(p.size for p in model.parameters()), "test_samples": len(classes),
        "test_accuracy": float((answers == classes).mean()), "recorded_test_accuracy": meta.get("test_accuracy"),
        "test_loss": loss if math.isfinite(loss) else None, "confusion": confusion.tolist(),
    }  # fmt: skip
