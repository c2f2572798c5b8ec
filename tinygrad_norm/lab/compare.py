"""The main experiment: one net without normalization and with each of four, over learning rates and seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy

from ..backend import backend_for, manual_seed
from ..backend.openblas import one_thread
from ..data import DataLoader, TensorDataset
from ..nn import MLP, Module
from ..ops.arguments import whole_number
from ..optim import SGD
from .config import environment
from .folders import require, writable_folder, write, write_json
from .nets import accuracy, save_net, step
from .pictures import draw_accuracy, draw_curves, rendered
from .problems import Problem, problem
from .report import Comparison, runs_csv

NORMS = (None, "batch", "layer", "weight", "cosine")
GOAL = 0.95
Run = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is trained: an MLP of these sizes with ReLU, by SGD without momentum, for every rate and seed."""

    sizes: tuple[int, ...] = (64, 64, 64, 10)
    rates: tuple[float, ...] = tuple(round(10 ** (k / 2), 6) for k in range(-6, 5))
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = 15
    batch_size: int = 64
    check_every: int = 10
    norms: tuple[str | None, ...] = NORMS


QUICK = Plan(rates=(0.001, 0.01, 0.1, 1.0, 10.0, 100.0), seeds=(0,), epochs=10)


def compare(
    out: str | Path = "runs/compare", *, quick: bool = False, seeds: int | None = None, seed: int = 0,
    device: str = "cpu", pictures: bool = True, progress: Callable[[int, int, Run], Any] | None = None,
    plan: Plan | None = None,
) -> Comparison:  # fmt: skip
    """Train the same net with each normalization over learning rates and seeds, and write what came out.

    A net starts from the seed alone and sees the images in an order that the seed decides. A run whose loss or gradient
    stops being finite has diverged: it ends there, and counts with the accuracy it then has. The best learning rate of
    a normalization has the lowest training loss in the last epoch, the mean of the seeds; test images choose nothing.

    Sets the seed of this thread's random numbers (``tn.manual_seed``).

    Args:
        out: the folder to write: ``accuracy`` and ``curves`` (PNG and SVG), ``results.json``, ``results.csv`` with a
            row for each run, and of each normalization the best run's net, ``best-batch.npz``; made if need be.
        quick: fewer learning rates, one seed, fewer epochs.
        seeds: how many seeds; by default 3, and 1 when quick.
        seed: the first of them; the others follow.
        device: where to train.
        pictures: whether to draw; without, nothing but NumPy is needed.
        progress: called after each run with the number of runs done, the number of all, and the run's results.
        plan: other sizes, rates or lengths than the usual ones; ``seeds`` and ``seed``, where given, replace its seeds.

    Returns:
        What ``results.json`` holds: plan, environment, ``summary`` (one entry per normalization), ``runs``.

    Raises:
        ValueError: an argument out of range.
        OSError: the folder cannot be written; nothing was trained.
        MissingExtra: pictures are wanted and matplotlib is not installed; nothing was trained.

    >>> import tempfile
    >>> plan = Plan(rates=(0.1,), seeds=(0,), epochs=1, norms=("batch",))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = compare(folder, plan=plan, pictures=False)
    >>> results["summary"][0]["norm"], results["summary"][0]["test_accuracy"] > 0.5
    ('batch', True)
    """
    began = time.perf_counter()
    plan = plan or (QUICK if quick else Plan())
    if seeds is not None or seed:
        plan = replace(plan, seeds=_seeds(len(plan.seeds) if seeds is None else seeds, seed))
    backend_for(device)
    if pictures:
        require("matplotlib", "lab", "or leave the pictures out: --no-pictures (pictures=False)")
    folder = writable_folder(out)
    digits = problem("digits", device)
    results = Comparison(format=1, experiment="compare", plan=described(plan, digits))
    with one_thread():
        found = [_one_norm(plan, digits, norm, device, progress) for norm in plan.norms]
    results["environment"] = environment(device) | {"seconds": round(time.perf_counter() - began, 2)}
    results["summary"] = [summary for summary, _, _ in found]
    results["runs"] = [run for _, runs, _ in found for run in runs]
    _write(folder, results, {summary["checkpoint"]: model for summary, _, model in found}, pictures)
    return results


def described(plan: Plan, digits: Problem) -> dict[str, Any]:
    """The plan as plain values, with what it does not say."""
    rest = {
        "dataset": digits.name, "train_images": len(digits.y_train), "test_images": len(digits.y_test), "goal": GOAL,
        "activation": "relu", "optimizer": "SGD without momentum or weight decay", "steps": _steps(plan, digits),
    }  # fmt: skip
    own = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(plan).items()}
    return rest | own | {"norms": [name_of(norm) for norm in plan.norms]}


def name_of(norm: str | None) -> str:
    """A normalization's name in tables, files and on the command line.

    >>> name_of(None)
    'none'
    """
    return norm or "none"


def _seeds(count: int, first: int) -> tuple[int, ...]:
    count, first = whole_number("compare", "seeds", count), whole_number("compare", "seed", first, 0)
    return tuple(range(first, first + count))


def _steps(plan: Plan, digits: Problem) -> int:
    return plan.epochs * (len(digits.y_train) // plan.batch_size)


# ---- one run


def train_one(plan: Plan, digits: Problem, norm: str | None, rate: float, seed: int, device: str) -> tuple[Run, Module]:
    """Train one net.

    Returns:
        What came out, as plain values, and the net.
    """
    manual_seed(seed)
    model = MLP(plan.sizes, norm=norm).to(device)
    optimizer = SGD(model.named_parameters(), lr=rate)
    dataset = TensorDataset(digits.x_train, digits.y_train)
    loader = DataLoader(dataset, plan.batch_size, shuffle=True, drop_last=True, seed=seed, device=device)
    steps = plan.epochs * len(loader)
    losses: list[float] = []
    checks: list[tuple[int, float, float]] = []
    # A rate far too high overflows: that is a result here, and the loss says it.
    with numpy.errstate(all="ignore"):
        for x, y in (batch for _ in range(plan.epochs) for batch in loader):
            loss = step(model, optimizer, x, y)
            if loss is None:
                break
            losses.append(loss)
            if len(losses) % plan.check_every == 0 or len(losses) == steps:
                checks.append((len(losses), _mean(losses[-plan.check_every :]), accuracy(model, digits)))
        diverged = len(losses) < steps
        final = accuracy(model, digits)
    reached = [step for step, _, value in checks if value >= GOAL]
    names = ("steps", "loss", "test_accuracy")
    curve = {name: [check[column] for check in checks] for column, name in enumerate(names)}
    return {
        "norm": name_of(norm), "learning_rate": rate, "seed": seed, "steps": len(losses), "diverged": diverged,
        "final_loss": None if diverged else _mean(losses[-len(loader) :]),
        "test_accuracy": final, "steps_to_goal": reached[0] if reached else None, "curve": curve,
    }, model  # fmt: skip


# ---- one normalization


def _one_norm(
    plan: Plan, digits: Problem, norm: str | None, device: str, progress: Callable[[int, int, Run], Any] | None
) -> tuple[dict[str, Any], list[Run], Module]:
    outcomes = []
    each = len(plan.rates) * len(plan.seeds)
    for rate in plan.rates:
        for seed in plan.seeds:
            outcomes.append(train_one(plan, digits, norm, rate, seed, device))
            if progress is not None:
                done = plan.norms.index(norm) * each + len(outcomes)
                progress(done, each * len(plan.norms), outcomes[-1][0])
    runs = [run for run, _ in outcomes]
    by_rate = [[run for run in runs if run["learning_rate"] == rate] for rate in plan.rates]
    at_best = min(by_rate, key=lambda group: sum(map(_loss, group)))
    best = min(at_best, key=_loss)
    model = outcomes[runs.index(best)][1]
    return _summary(norm, by_rate, at_best, best, sum(p.size for p in model.parameters())), runs, model


def _loss(run: Run) -> float:
    return math.inf if run["final_loss"] is None else run["final_loss"]


def _summary(norm: str | None, by_rate: list[list[Run]], at_best: list[Run], best: Run, size: int) -> dict[str, Any]:
    scores = [run["test_accuracy"] for run in at_best]
    losses = [run["final_loss"] for run in at_best]
    steps = [run["steps_to_goal"] for run in at_best]
    good = [group[0]["learning_rate"] for group in by_rate if _mean([r["test_accuracy"] for r in group]) >= GOAL]
    return {
        "norm": name_of(norm), "parameters": size, "learning_rate": best["learning_rate"],
        "test_accuracy": _mean(scores),
        "test_accuracy_std": float(numpy.std(scores, ddof=1)) if len(scores) > 1 else None,
        "steps_to_goal": None if None in steps else _mean(steps),
        "final_loss": None if None in losses else _mean(losses),
        "good_rates": good, "rates": len(by_rate),
        "diverged": sum(run["diverged"] for group in by_rate for run in group),
        "runs": sum(map(len, by_rate)),
        "checkpoint": f"best-{name_of(norm)}.npz", "checkpoint_seed": best["seed"],
        "checkpoint_test_accuracy": best["test_accuracy"],
    }  # fmt: skip


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


# ---- the folder


def _write(folder: Path, results: dict[str, Any], models: dict[str, Module], pictures: bool) -> None:
    plan = results["plan"]
    for summary in results["summary"]:
        save_net(
            folder / summary["checkpoint"], models[summary["checkpoint"]], plan["sizes"], summary["norm"],
            plan["activation"], plan["dataset"], test_accuracy=summary["checkpoint_test_accuracy"],
            learning_rate=summary["learning_rate"], seed=summary["checkpoint_seed"],
        )  # fmt: skip
    if pictures:
        for name, draw in (("accuracy", draw_accuracy), ("curves", draw_curves)):
            for ending, content in rendered(draw(results)).items():
                write(folder / f"{name}.{ending}", content)
    write(folder / "results.csv", runs_csv(results["runs"]))
    write_json(folder / "results.json", results)
