"""Statements 34 and 35: how fast nets train, and from which starts and learning rates, on the images of digits."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy

from ...engine import Tensor
from ...nn import Module, Sequential
from ...ops.create import tensor
from ...viz.style import new_figure, plain_axes
from .nets import behind, digits, net, pre_activations, test_accuracy, train
from .record import Record, claim
from .tools import COLORS


class Noisy(Module):
    """Adds other noise in every step, of another mean and scale for each feature, behind a batch norm."""

    def __init__(self, seed: int) -> None:
        self.rng = numpy.random.default_rng(seed)

    def forward(self, x: Tensor) -> Tensor:
        """x times a random scale plus a random shift, in training."""
        if not self.training:
            return x
        scale, shift = self.rng.uniform(0.5, 1.5, x.shape[1]), self.rng.normal(0.0, 0.5, x.shape[1])
        return x * tensor(scale.astype("float32")) + tensor(shift.astype("float32"))


@claim(
    34, "Batch norm speeds training up by reducing internal covariate shift", "Not only BN", "Normalization",
    "BN notes", condition="'by' is left out: it speeds training up and reduces the shift, and without the latter too",
)  # fmt: skip
def covariate_shift(record: Record) -> None:
    """A net of three hidden sigmoid layers, as in the paper, from a start at which it trains without normalization as
    well (variance 16 / inputs, as the slope of a sigmoid is 1/4). With batch norm it reaches 80 % of the test images in
    fewer steps, and the 15, 50 and 85 % points of what enters the last sigmoid move less than a tenth as far, in
    deviations. But after noise of a new mean and scale in every step is put behind each batch norm (Santurkar et al.
    2018), they move further than without any normalization, and training is still faster than that. Less shift cannot
    be the reason; a smoother loss, that paper says, is."""
    steps, apart = 300, 10
    kinds = {"none": (None, False), "batch": ("batch", False), "noisy batch": ("batch", True)}
    reached: dict[str, list[float]] = {name: [] for name in kinds}
    drift: dict[str, list[float]] = {name: [] for name in kinds}
    curves: dict[str, Any] = {}
    for seed in record.seeds:
        for name, (norm, noisy) in kinds.items():
            model: Sequential = net(norm, activation="sigmoid", seed=seed, gain=48**0.5)
            if noisy:
                model = behind(model, "BatchNorm1d", partial(Noisy, seed))
            points: list[Any] = []
            deviations: list[Any] = []
            first = steps

            def watch(now: int, model: Any = model, points: Any = points, deviations: Any = deviations) -> None:
                nonlocal first
                if now % apart == 0:
                    entering = pre_activations(model, digits().x_train[:256])[-1]
                    points.append(numpy.percentile(entering, [15, 50, 85], axis=0))
                    deviations.append(entering.std(axis=0))
                    if first == steps and test_accuracy(model) >= 0.8:
                        first = now

            train(model, 0.5, steps, seed, watch=watch)
            reached[name].append(first)
            moved = numpy.abs(numpy.diff(points, axis=0)) / numpy.array(deviations)[:-1, None]
            drift[name].append(float(moved.mean()))
            curves[name] = numpy.array(points)[:, :, 0]
    faster = {name: numpy.divide(reached["none"], reached[name]) for name in ("batch", "noisy batch")}
    record.when("steps to 80 %, none over batch", faster["batch"], above=2.0)
    record.when("steps to 80 %, none over noisy batch", faster["noisy batch"], above=1.5)
    record.stated("the same, if shift were the cause", faster["noisy batch"], below=1.0)
    record.when("drift, batch over none", numpy.divide(drift["batch"], drift["none"]), below=0.9)
    record.when("drift, noisy batch over none", numpy.divide(drift["noisy batch"], drift["none"]), above=1.0)
    for name in kinds:
        record.figure(f"{name}: steps to 80 % (of {steps})", reached[name])
        record.figure(f"{name}: drift of the three points in {apart} steps, in deviations", drift[name])

    def draw() -> Any:
        figure = new_figure("covariate_shift", 10, 3.4)
        for axes, (name, lines) in zip(figure.subplots(1, 3, sharey=True), curves.items()):
            axes.plot(apart * numpy.arange(len(lines)), lines, color=COLORS["batch" if "batch" in name else "none"])
            plain_axes(axes, "step", "" if name != "none" else "15, 50, 85 % points")
            axes.set_title(name, loc="left", fontsize=10)
        return figure

    record.picture("What enters one sigmoid of the last hidden layer, over training.", draw)


@claim(35, "Normalized nets are less sensitive to the start and the learning rate, and take larger rates",
       "Not only BN", "Normalization")  # fmt: skip
def grid(record: Record) -> None:
    """Seven learning rates times five gains on the starting weights; the area is the share of the 35 cells that reach
    90 % of the test images in 150 steps. Weight norm does not see the gain at all, and its area is small because at
    its usual length it starts slowly."""
    rates = numpy.logspace(-2, 1, 4) if record.quick else numpy.logspace(-3, 1.5, 7)
    gains = (0.1, 1.0, 10.0) if record.quick else (2.0**-6, 2.0**-3, 1.0, 2.0**3, 2.0**6)
    steps = 150
    names = ("none", "batch", "layer", "weight", "cosine")
    scores = {name: numpy.zeros((len(record.seeds), len(gains), len(rates))) for name in names}
    for k, seed in enumerate(record.seeds):
        for name in names:
            for i, gain in enumerate(gains):
                for j, rate in enumerate(rates):
                    model = net(None if name == "none" else name, 2, seed=seed, gain=gain)
                    train(model, float(rate), steps, seed)
                    scores[name][k, i, j] = test_accuracy(model)
    areas = {name: (values >= 0.9).mean(axis=(1, 2)) for name, values in scores.items()}
    widest = {name: [_largest(v, rates) for v in values] for name, values in scores.items()}
    for name in ("batch", "layer", "weight", "cosine"):
        record.stated(f"{name}: area less that without normalization", areas[name] - areas["none"], above=0.01)
    record.stated(
        "batch: largest rate that trains over that without", numpy.divide(widest["batch"], widest["none"]), above=2.0
    )
    for name in names:
        record.figure(f"{name}: share of the cells that reach 90 %", areas[name])

    def draw() -> Any:
        figure = new_figure("grid", 11, 2.6)
        for axes, name in zip(figure.subplots(1, len(names), sharey=True), names):
            axes.imshow(scores[name].mean(axis=0), vmin=0, vmax=1, aspect="auto", origin="lower", cmap="viridis")
            axes.set_xticks(range(len(rates)), [f"{r:.2g}" for r in rates], rotation=90, fontsize=7)
            axes.set_yticks(range(len(gains)), [f"{g:.3g}" for g in gains], fontsize=7)
            axes.set_title(name, loc="left", fontsize=10)
        return figure

    record.picture(
        "Test accuracy (bright: all right) by learning rate, to the right, and gain on the weights, upwards.", draw
    )


def _largest(scores: Any, rates: Any) -> float:
    """The largest rate at which some gain reaches 90 %; the smallest rate where none does."""
    good = rates[(scores >= 0.9).any(axis=0)]
    return float(good.max()) if len(good) else float(rates[0])
