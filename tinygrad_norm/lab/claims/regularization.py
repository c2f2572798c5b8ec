"""Statements 27 and 39: batches as noise, and batch norm beside dropout."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy

from ...engine import Tensor
from ...nn import Dropout
from ...ops.create import tensor
from ...optim import SGD, Adam
from ...viz.style import new_figure, plain_axes
from ..nets import step
from .nets import accuracy, behind, digits, net, test_accuracy, train
from .record import Record, claim
from .tools import COLORS


@claim(
    27, "Batches that differ a little act as noise and regularize, batches that differ much hurt: use large ones, well "
    "shuffled", "Not only BN", "ICS notes", "Normalization",
)  # fmt: skip
def batches(record: Record) -> None:
    """Batch norm on the digits, the same number of images for each batch size. In evaluation, which is what counts,
    batches of 2 lose more than half of the accuracy of 64. Then batches of 64 from few classes: of one class each
    nothing is learned, but that is not batch norm's fault, layer norm learns nothing either. Of two classes each,
    batch norm answers worse in training mode, with the batch's own statistics, than in evaluation."""
    sizes = (2, 8, 64) if record.quick else (2, 4, 8, 16, 32, 64, 128)
    images = 4_000 if record.quick else 8_000
    found: dict[int, list[float]] = {size: [] for size in sizes}
    unmixed: dict[tuple[str, int], list[list[float]]] = {(n, k): [] for n in ("batch", "layer") for k in (1, 2)}
    for seed in record.seeds:
        for size, scores in found.items():
            model = net("batch", seed=seed)
            train(model, 0.1 * (size / 64) ** 0.5, images // size, seed, size)
            scores.append(test_accuracy(model))
        for (norm, classes), modes in unmixed.items():
            model, rng = net(norm, seed=seed), numpy.random.default_rng(seed)
            optimizer = SGD(model.named_parameters(), lr=0.05)
            for _ in range(images // 32):
                step(model, optimizer, *_of_few_classes(rng, classes))
            probes = [_of_few_classes(rng, classes) for _ in range(20)]
            training = numpy.mean([accuracy(model, x, y) for x, y in probes])
            model.eval()
            modes.append([float(training), float(numpy.mean([accuracy(model, x, y) for x, y in probes]))])
    both = {key: numpy.array(modes).T for key, modes in unmixed.items()}
    record.stated("test accuracy, batches of 64 less batches of 2", numpy.subtract(found[64], found[2]), above=0.02)
    record.stated(
        "two classes in a batch: accuracy in evaluation less in training",
        both["batch", 2][1] - both["batch", 2][0],
        above=0.1,
    )
    record.figure("the same for layer norm", both["layer", 2][1] - both["layer", 2][0])
    for norm in ("batch", "layer"):
        record.figure(f"{norm}: one class in a batch, accuracy in evaluation on such batches", both[norm, 1][1])
    for size, scores in found.items():
        record.figure(f"test accuracy, batches of {size}", scores)

    def draw() -> Any:
        figure = new_figure("batches", 5.5, 3.6)
        axes = figure.subplots()
        axes.plot(sizes, [100 * numpy.mean(found[size]) for size in sizes], marker="o", color=COLORS["batch"])
        axes.set_xscale("log", base=2)
        plain_axes(axes, "images in a batch", "test accuracy, %")
        return figure

    record.picture("Batch norm needs batches of more than a few images.", draw)


def _of_few_classes(rng: Any, classes: int) -> tuple[Tensor, Tensor]:
    """64 training images of that many classes, drawn at random."""
    x, y = digits().x_train.numpy(), digits().y_train.numpy()
    chosen = rng.choice(10, classes, replace=False)
    at = numpy.concatenate([rng.choice(numpy.flatnonzero(y == c), 64 // classes) for c in chosen])
    return tensor(x[at]), tensor(y[at])


@claim(39, "Batch norm regularizes like dropout, which can be left out", "Not only BN", "Normalization")
def dropout(record: Record) -> None:
    """Batch norm and dropout, with and without each, on 200 of the training images. What differs between batches, the
    noise, shrinks with the square root of the batch size. Batch norm alone tests no worse than dropout alone."""
    steps = 150 if record.quick else 400
    seeds = record.seeds if record.quick else (*record.seeds, *(s + 100 for s in record.seeds))
    errors: dict[tuple[bool, bool], list[float]] = {(b, d): [] for b in (False, True) for d in (False, True)}
    for seed in seeds:
        for (norm, drop), found in errors.items():
            model = net("batch" if norm else None, 2, seed=seed)
            if drop:
                model = behind(model, "ReLU", partial(Dropout, 0.5))
            train(model, 0.0, steps, seed, 50, 200, optimizer=Adam(model.named_parameters(), lr=0.005))
            found.append(1 - test_accuracy(model))
    noise = []
    for size in (16, 64, 256):
        x = numpy.random.default_rng(0).normal(size=(400, size))
        noise.append(((0.7 - x.mean(axis=1)) / x.std(axis=1)).std())
    record.stated(
        "slope of the noise against the batch size, logarithms",
        numpy.polyfit(numpy.log([16, 64, 256]), numpy.log(noise), 1)[0],
        below=-0.4,
    )
    record.stated(
        "test error, batch norm alone less dropout alone",
        numpy.subtract(errors[True, False], errors[False, True]),
        below=0.01,
    )
    record.stated(
        "test error, batch norm alone less neither",
        numpy.subtract(errors[True, False], errors[False, False]),
        below=0.0,
    )
    for (norm, drop), found in errors.items():
        what = " and ".join([*(["batch norm"] if norm else []), *(["dropout"] if drop else [])]) or "neither"
        record.figure(f"test error with {what}", found)
