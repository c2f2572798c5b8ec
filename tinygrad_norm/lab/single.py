"""One net, trained and kept: the command ``train``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy

from ..backend import manual_seed
from ..backend.openblas import one_thread
from ..data import DataLoader, TensorDataset
from ..nn import MLP, CrossEntropyLoss
from ..optim import SGD, Adagrad, Adam, AdamW, RMSprop
from ..train import Trainer
from ..viz import curves
from .config import environment
from .folders import results_folder, write, write_json
from .nets import save_net
from .pictures import rendered
from .problems import Problem, problem

OPTIMIZERS: dict[str, tuple[Any, float]] = {
    "sgd": (SGD, 0.1), "adam": (Adam, 0.001), "adamw": (AdamW, 0.001), "rmsprop": (RMSprop, 0.001),
    "adagrad": (Adagrad, 0.01),
}  # fmt: skip
"""Optimizers by name, with the learning rate that each is used with when none is given."""


@dataclass(frozen=True)
class Settings:
    """What to train and how; ``lr=None`` is the optimizer's usual rate."""

    dataset: str = "digits"
    norm: str = "none"
    activation: str = "relu"
    hidden: tuple[int, ...] = (64, 64)
    optimizer: str = "sgd"
    lr: float | None = None
    epochs: int = 20
    batch_size: int = 64
    seed: int = 0
    device: str = "cpu"


def train_net(settings: Settings, out: str | Path, *, progress: bool = True) -> dict[str, Any]:
    """Train one net and keep it in a folder.

    The folder holds ``config.json``, ``history.csv``, ``model.npz`` and, where matplotlib is, ``curves.png``.
    Sets the seed of this thread's random numbers (``tn.manual_seed``).

    Args:
        settings: what to train; the same settings give the same net.
        out: the folder, made if need be.
        progress: report on stderr.

    Returns:
        What ``config.json`` holds: settings, environment, results.

    Raises:
        ValueError: an unknown name, or a number out of range.
        OSError: the folder cannot be written; nothing was trained.
        FloatingPointError: loss or gradient are no longer finite; nothing was written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = train_net(Settings("xor", "batch", hidden=(16,), epochs=5), folder, progress=False)
    >>> found["results"]["test_accuracy"] > 0.9
    True
    """
    given = problem(settings.dataset, settings.device)
    if settings.optimizer not in OPTIMIZERS:
        raise ValueError(f"train_net: optimizer must be one of {', '.join(OPTIMIZERS)}; got {settings.optimizer!r}")
    optimizer_class, usual = OPTIMIZERS[settings.optimizer]
    rate = usual if settings.lr is None else settings.lr
    with results_folder(out) as folder:
        return _trained(settings, rate, optimizer_class, given, folder, progress)


def _trained(
    settings: Settings, rate: float, optimizer_class: Any, given: Problem, folder: Path, progress: bool
) -> dict[str, Any]:
    manual_seed(settings.seed)
    sizes = [given.features, *settings.hidden, given.classes]
    norm = None if settings.norm == "none" else settings.norm
    model = MLP(sizes, norm, settings.activation).to(settings.device)
    trainer = Trainer(model, optimizer_class(model.named_parameters(), lr=rate), CrossEntropyLoss(), metrics="accuracy")
    train_data, test_data = TensorDataset(given.x_train, given.y_train), TensorDataset(given.x_test, given.y_test)
    # A last batch of a few rows has wild statistics: with batch norm, that one step can undo an epoch.
    drop_last = len(train_data) >= settings.batch_size
    loader = DataLoader(train_data, settings.batch_size, shuffle=True, drop_last=drop_last, seed=settings.seed)
    test_loader = DataLoader(test_data, batch_size=1024)
    # A rate far too high overflows; fit then says so in its own words.
    with one_thread(), numpy.errstate(all="ignore"):
        history = trainer.fit(loader, settings.epochs, test_loader, progress=progress)
        train, test = trainer.evaluate(DataLoader(train_data, batch_size=1024)), trainer.evaluate(test_loader)
    results = {
        "train_accuracy": train["accuracy"], "train_loss": train["loss"], "test_accuracy": test["accuracy"],
        "test_loss": test["loss"], "steps": trainer.step, "parameters": sum(p.size for p in model.parameters()),
    }  # fmt: skip
    about = {
        "format": 1, "settings": asdict(settings) | {"lr": rate, "sizes": sizes},
        "environment": environment(settings.device), "results": results,
    }  # fmt: skip
    save_net(
        folder / "model.npz", model, sizes, settings.norm, settings.activation, given.name,
        test_accuracy=test["accuracy"], learning_rate=rate, seed=settings.seed,
    )  # fmt: skip
    history.to_csv(folder / "history.csv")
    if find_spec("matplotlib"):
        write(folder / "curves.png", rendered(curves(history))["png"])
    write_json(folder / "config.json", about)
    return about
