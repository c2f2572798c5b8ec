"""Statements 27, 34 to 36 and 39 to 42: what normalization does to training, measured on the images of digits."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy

from ...engine import Tensor
from ...nn import Dropout, Module, Sequential
from ...ops.create import tensor
from ...optim import SGD, Adam
from ...viz.style import new_figure, plain_axes
from .nets import accuracy, digits, gradient_lengths, net, pre_activations, step, test_accuracy, train
from .record import Record, claim
from .tools import COLORS

HE = 6**0.5  # a gain of this on the usual start gives weights of variance 2 / inputs (He et al. 2015)


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
    record.stated("test accuracy, batches of 64 less batches of 2", _less(found[64], found[2]), above=0.02)
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


def _less(a: list[float], b: list[float]) -> Any:
    return numpy.subtract(a, b)


def behind(model: Sequential, kind: str, make: Any) -> Sequential:
    """The same modules with a new one behind each of a kind."""
    return Sequential(*(new for m in model for new in ((m, make()) if type(m).__name__ == kind else (m,))))


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
    "BN notes", condition="'by' is left out: it speeds training up, and with large shifts put back it still does",
)  # fmt: skip
def covariate_shift(record: Record) -> None:
    """A net of three hidden sigmoid layers, as in the paper: with batch norm it reaches 80 % of the test images in few
    steps, without not at all. That is the claim's first half. But the 15, 50 and 85 % points of what enters the last
    sigmoid do not move less than without; and after noise of a new mean and scale in every step is put behind each
    batch norm (Santurkar et al. 2018), they move many times as much, and training is as fast. Less shift cannot be the
    reason; a smoother loss, that paper says, is."""
    steps = 300 if record.quick else 800
    kinds = {"none": (None, False), "batch": ("batch", False), "noisy batch": ("batch", True)}
    reached: dict[str, list[float]] = {name: [] for name in kinds}
    drift: dict[str, list[float]] = {name: [] for name in kinds}
    curves: dict[str, Any] = {}
    for seed in record.seeds:
        for name, (norm, noisy) in kinds.items():
            model: Sequential = net(norm, activation="sigmoid", seed=seed)
            if noisy:
                model = behind(model, "BatchNorm1d", partial(Noisy, seed))
            points: list[Any] = []
            first = steps

            def watch(now: int, model: Any = model, points: Any = points) -> None:
                nonlocal first
                if now % 20 == 0:
                    entering = pre_activations(model, digits().x_train[:256])[-1]
                    points.append(numpy.percentile(entering, [15, 50, 85], axis=0))
                    if first == steps and test_accuracy(model) >= 0.8:
                        first = now

            train(model, 0.5, steps, seed, watch=watch)
            reached[name].append(first)
            medians = numpy.array(points)[:, 1]
            drift[name].append(float(numpy.abs(numpy.diff(medians, axis=0)).mean()))
            curves[name] = numpy.array(points)[:, :, 0]
    record.when(
        "steps to 80 %, none over batch", numpy.divide(reached["none"], numpy.maximum(reached["batch"], 1)), above=2.0
    )
    record.when(
        "steps to 80 %, none over noisy batch",
        numpy.divide(reached["none"], numpy.maximum(reached["noisy batch"], 1)),
        above=1.5,
    )
    record.when(
        "drift of the median, noisy batch over none", numpy.divide(drift["noisy batch"], drift["none"]), above=1.0
    )
    record.stated("drift of the median, batch over none", numpy.divide(drift["batch"], drift["none"]), below=0.9)
    slower = numpy.divide(reached["noisy batch"], numpy.maximum(reached["batch"], 1))
    record.stated("steps to 80 %, noisy batch over batch: would be slower if shift were the cause", slower, above=1.5)
    for name in kinds:
        record.figure(f"{name}: steps to 80 % (of {steps})", reached[name])
        record.figure(f"{name}: change of a median in 20 steps", drift[name])

    def draw() -> Any:
        figure = new_figure("covariate_shift", 10, 3.4)
        for axes, (name, lines) in zip(figure.subplots(1, 3, sharey=True), curves.items()):
            axes.plot(20 * numpy.arange(len(lines)), lines, color=COLORS["batch" if "batch" in name else "none"])
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


@claim(36, "With normalization saturating activations can be used, and gradients vanish less", "Not only BN",
       "Normalization", "BN notes", condition="the norm is batch norm, the net at most ten layers deep")  # fmt: skip
def saturating(record: Record) -> None:
    """Sigmoid and tanh nets of growing depth, at the usual start. The length of the first layer's gradient over the
    last one's, 1e-9 in a plain sigmoid net of ten layers, stays near 1 with batch norm, and the net learns. Layer norm
    lifts the gradient too and helps at five layers, but not at ten; at 20 batch norm does not suffice either."""
    depths = (2, 10) if record.quick else (2, 5, 10, 20)
    steps = 150 if record.quick else 200
    x, y = digits().x_train[:256], digits().y_train[:256]
    ratios: dict[Any, list[float]] = {}
    scores: dict[Any, list[float]] = {}
    for seed in record.seeds:
        for activation in ("sigmoid", "tanh"):
            for norm in (None, "batch", "layer"):
                for depth in depths:
                    model, key = net(norm, depth, activation, seed), (activation, norm or "none", depth)
                    lengths = gradient_lengths(model, x, y)
                    ratios.setdefault(key, []).append(lengths[0] / max(lengths[-1], 1e-300))
                    train(model, 0.5, steps, seed)
                    scores.setdefault(key, []).append(test_accuracy(model))
    for activation in ("sigmoid", "tanh"):
        gap = numpy.log10(ratios[activation, "batch", 10]) - numpy.log10(ratios[activation, "none", 10])
        record.when(
            f"{activation}, 10 layers: powers of ten by which batch norm lifts first over last gradient", gap, above=1.0
        )
        record.when(
            f"{activation}, 10 layers: accuracy, batch norm less none",
            _less(scores[activation, "batch", 10], scores[activation, "none", 10]),
            above=0.3,
        )
    record.stated(
        "sigmoid, 10 layers: accuracy, layer norm less none",
        _less(scores["sigmoid", "layer", 10], scores["sigmoid", "none", 10]),
        above=0.3,
    )
    for key, values in scores.items():
        record.figure(f"{key[0]}, {key[1]}, {key[2]} layers: test accuracy", values)

    def draw() -> Any:
        figure = new_figure("saturating", 9, 3.4)
        for axes, activation in zip(figure.subplots(1, 2, sharey=True), ("sigmoid", "tanh")):
            for norm in ("none", "batch", "layer"):
                line = [numpy.mean(ratios[activation, norm, depth]) for depth in depths]
                axes.semilogy(depths, line, marker="o", color=COLORS[norm], label=norm)
            plain_axes(axes, "hidden layers", "gradient, first over last layer")
            axes.set_title(activation, loc="left", fontsize=10)
        axes.legend(frameon=False)
        return figure

    record.picture("How much of the gradient arrives at the first layer.", draw)


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
        "test error, batch norm alone less dropout alone", _less(errors[True, False], errors[False, True]), below=0.01
    )
    record.stated(
        "test error, batch norm alone less neither", _less(errors[True, False], errors[False, False]), below=0.0
    )
    for (norm, drop), found in errors.items():
        what = " and ".join([*(["batch norm"] if norm else []), *(["dropout"] if drop else [])]) or "neither"
        record.figure(f"test error with {what}", found)


@claim(
    40, "A small change in a low layer is amplified with depth; layers depend on each other", "Not only BN",
    condition="the weights are large: for tanh, from a variance of about 1 / inputs on",
)  # fmt: skip
def amplified(record: Record) -> None:
    """A random change of the first layer by 0.1 %, and what becomes of it at the end of 20 tanh layers. With small
    weights it dies out, with large ones it grows; so it does behind batch norm, which fixes each layer's scale."""
    x, growth = digits().x_train[:256], {}
    for name, norm, gain in (("small weights", None, 1.0), ("large weights", None, 5.0), ("batch norm", "batch", 1.0)):
        found = []
        for seed in record.seeds:
            model = net(norm, 20, "tanh", seed, gain)
            before = pre_activations(model, x)
            first = next(iter(model.named_parameters()))[1]
            noise = numpy.random.default_rng(seed).normal(size=first.shape)
            first.data = (first.numpy() * (1 + 1e-3 * noise)).astype("float32")
            after = pre_activations(model, x)
            changes = [numpy.linalg.norm(b - a) for a, b in zip(before, after)]
            found.append(changes[-1] / changes[0])
        growth[name] = found
    record.stated("small weights: change in the last layer over that in the first", growth["small weights"], above=2.0)
    record.when("large weights: change in the last layer over that in the first", growth["large weights"], above=2.0)
    record.figure("batch norm: change in the last layer over that in the first", growth["batch norm"])


@claim(41, "Inputs of the layers drift while the layers below learn; sigmoids saturate early, deep nets hardly learn",
       "Not only BN", "ICS notes", "BN notes")  # fmt: skip
def deep_and_slow(record: Record) -> None:
    """The inputs of every layer of a plain sigmoid net move by more than they scatter while it learns; two layers
    deep it learns the digits, eight layers deep it does not at all."""
    steps = 400 if record.quick else 1000
    drifts, shallow, deep = [], [], []
    for seed in record.seeds:
        model = net(None, 2, "sigmoid", seed)
        before = pre_activations(model, digits().x_train[:256])
        train(model, 1.0, steps, seed)
        after = pre_activations(model, digits().x_train[:256])
        drifts.append(min(float((numpy.abs(b.mean(0) - a.mean(0)) / a.std(0)).mean()) for a, b in zip(before, after)))
        shallow.append(test_accuracy(model))
        model = net(None, 8, "sigmoid", seed)
        train(model, 1.0, steps, seed)
        deep.append(test_accuracy(model))
    record.stated("how far a layer's inputs move, in deviations, the least of the layers", drifts, above=1.0)
    record.stated("test accuracy, 2 layers", shallow, above=0.8)
    record.stated("test accuracy, 8 layers", deep, below=0.3)


@claim(42, "ReLU is another remedy for saturation", "Not only BN", condition="the start is He's")
def relu(record: Record) -> None:
    """Eight layers without normalization: sigmoid learns nothing, ReLU learns from He's start (variance 2 / inputs).
    From the smaller start that is usual for linear layers it does not."""
    steps = 150 if record.quick else 300
    found: dict[str, list[float]] = {"sigmoid": [], "ReLU, usual start": [], "ReLU, He's start": []}
    for seed in record.seeds:
        for name, scores in found.items():
            model = net(None, 8, "sigmoid" if name == "sigmoid" else "relu", seed, HE if "He" in name else 1.0)
            train(model, 0.05, steps, seed)
            scores.append(test_accuracy(model))
    record.stated("test accuracy, ReLU, usual start", found["ReLU, usual start"], above=0.8)
    record.when("test accuracy, ReLU, He's start", found["ReLU, He's start"], above=0.8)
    record.when("test accuracy, sigmoid", found["sigmoid"], below=0.3)
