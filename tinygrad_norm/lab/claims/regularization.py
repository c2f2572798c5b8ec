"""Statements 27 and 39: batches as noise, and batch norm beside dropout."""

from __future__ import annotations

from functools import partial
from itertools import chain, islice, product, repeat
from typing import Any

import numpy

from ... import functional as F
from ...data import DataLoader, TensorDataset
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
    """Batch norm on the digits, the same number of images for each batch size, shuffled and sorted by class. In
    evaluation, which is what counts, batches of 2 lose about half of the accuracy of 64, and in training mode, with the
    batch's own statistics, small ones lose more still. Sorted ones get half of the images right at most, but that is
    not batch norm's fault: with layer norm they learn next to nothing. Of two classes each, in any order, batch norm
    answers worse in training mode than in evaluation. And the noise regularizes, a little: on 200 images, the gradient
    of all of them in each step, the test error is lower where the statistics come from groups of 20 than from all."""
    sizes = (2, 64) if record.quick else (2, 4, 8, 16, 32, 64, 128)
    images = 4_000 if record.quick else 8_000
    orders = {"shuffled": True, "sorted": False}
    keys = [*product(["batch"], orders, sizes), *product(["layer"], orders, [64])]
    found: dict[tuple[str, str, int], list[tuple[float, float]]] = {key: [] for key in keys}
    gaps: dict[str, list[float]] = {"batch": [], "layer": []}
    for seed in record.seeds:
        for (norm, order, size), modes in found.items():
            modes.append(_by_size(norm, orders[order], size, images, seed))
        for norm in gaps:
            model, rng = net(norm, seed=seed), numpy.random.default_rng(seed)
            optimizer = SGD(model.named_parameters(), lr=0.05)
            for _ in range(images // 32):
                step(model, optimizer, *_of_two_classes(rng))
            probes = [_of_two_classes(rng) for _ in range(20)]
            evaluation, training = (
                numpy.mean([accuracy(model.train(mode), x, y) for x, y in probes]) for mode in (False, True)
            )
            gaps[norm].append(float(evaluation - training))
    evaluated = {key: [modes[0] for modes in values] for key, values in found.items()}
    shuffled = {size: evaluated["batch", "shuffled", size] for size in sizes}
    gap = numpy.subtract(shuffled[64], shuffled[2])
    record.stated("test accuracy in evaluation, batches of 64 less batches of 2", gap, above=0.02)
    gap = numpy.subtract(shuffled[64], evaluated["batch", "sorted", 64])
    record.stated("the same, batches of 64 shuffled less sorted by class", gap, above=0.1)
    record.stated("two classes in a batch: accuracy in evaluation less in training mode", gaps["batch"], above=0.1)
    record.figure("the same for layer norm", gaps["layer"])
    seeds = record.seeds if record.quick else range(record.seeds[0], record.seeds[0] + 12)  # the difference is small
    errors = {group: [_in_groups(group, seed) for seed in seeds] for group in (20, 200)}
    gap = numpy.subtract(errors[20], errors[200])
    record.stated("test error, statistics of groups of 20 less those of all 200 images", gap, below=0.0)
    for group, values in errors.items():
        record.figure(f"test error, statistics of groups of {group}", values)
    for (norm, order, size), modes in found.items():
        for name, accuracies in zip(("evaluation", "training mode"), zip(*modes)):
            record.figure(f"{norm}, batches of {size}, {order}: test accuracy in {name}", accuracies)

    def draw() -> Any:
        figure = new_figure("batches", 5.5, 3.6)
        axes = figure.subplots()
        for order, line in (("shuffled", "-"), ("sorted", ":")):
            for name, marker, values in zip(("evaluation", "training mode"), "os", _curves(found, order, sizes)):
                axes.plot(sizes, values, line, marker=marker, color=COLORS["batch"], label=f"{order}, {name}")
        axes.set_xscale("log", base=2)
        plain_axes(axes, "images in a batch", "test accuracy, %")
        axes.legend(frameon=False)
        return figure

    record.picture("Batch norm needs batches of more than a few images, and shuffled ones.", draw)


def _curves(found: Any, order: str, sizes: Any) -> Any:
    """Mean accuracies of batch norm in percent, in evaluation and in training mode, over the batch sizes."""
    return 100 * numpy.array([numpy.mean(found["batch", order, size], axis=0) for size in sizes]).T


def _by_size(norm: str, shuffle: bool, size: int, images: int, seed: int) -> tuple[float, float]:
    """Test accuracy in evaluation and in training mode, after batches of that size, shuffled or sorted by class."""
    given, model = digits(), net(norm, seed=seed)
    optimizer = SGD(model.named_parameters(), lr=0.1 * (size / 64) ** 0.5)
    order = numpy.argsort(given.y_train.numpy(), kind="stable")
    data = TensorDataset(given.x_train[order], given.y_train[order])
    loader = DataLoader(data, size, shuffle=shuffle, drop_last=True, seed=seed)
    for x, y in islice(chain.from_iterable(repeat(loader)), images // size):
        step(model, optimizer, x, y)
    evaluated = test_accuracy(model)
    probes = DataLoader(TensorDataset(given.x_test, given.y_test), size, shuffle=True, drop_last=True, seed=seed)
    return evaluated, float(numpy.mean([accuracy(model, x, y) for x, y in probes]))


def _in_groups(group: int, seed: int) -> float:
    """Test error after 100 steps, each with the gradient of 200 images that are normalized in groups."""
    model, rng = net("batch", seed=seed), numpy.random.default_rng(seed)
    optimizer = SGD(model.named_parameters(), lr=0.1)
    x, y = digits().x_train, digits().y_train
    for _ in range(100):
        optimizer.zero_grad()
        for part in rng.permutation(200).reshape(-1, group):
            (F.cross_entropy(model(x[part]), y[part]) * (group / 200)).backward()
        optimizer.step()
    return 1 - test_accuracy(model)


def _of_two_classes(rng: Any) -> tuple[Tensor, Tensor]:
    """64 training images of two classes, drawn at random."""
    y = digits().y_train.numpy()
    chosen = rng.choice(10, 2, replace=False)
    at = numpy.concatenate([rng.choice(numpy.flatnonzero(y == c), 32) for c in chosen])
    return digits().x_train[at], digits().y_train[at]


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
        x = numpy.random.default_rng(0).normal(size=(size, 400))  # 400 features: so many batches at once
        x[0] = 0.7
        noise.append(F.batch_norm(tensor(x), training=True).numpy()[0].std())
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
