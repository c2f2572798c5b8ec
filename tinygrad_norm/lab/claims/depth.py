"""Statements 36 and 40 to 42: deep nets, what arrives at their layers, and what they learn."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy

from ...nn import Sequential
from ...ops.create import tensor
from ...viz.style import new_figure, plain_axes
from .nets import digits, gradient_lengths, net, pre_activations, test_accuracy, train
from .record import Record, claim
from .tools import COLORS

HE = 6**0.5  # a gain of this on the usual start gives weights of variance 2 / inputs (He et al. 2015)


FLAT = {"sigmoid": 2 * numpy.arctanh(0.9**0.5), "tanh": numpy.arctanh(0.9**0.5)}
"""From this distance to 0 on, the slope of the activation is less than a tenth of its slope at 0: it is saturated."""


def saturated(model: Sequential, activation: str) -> list[float]:
    """The share of saturated units in each layer, over some of the training images."""
    entering = pre_activations(model, digits().x_train[:256])
    return [float((numpy.abs(values) > FLAT[activation]).mean()) for values in entering]


@claim(36, "With normalization saturating activations can be used, and gradients vanish less", "Not only BN",
       "Normalization", "BN notes", condition="the norm is batch norm, the net at most ten layers deep")  # fmt: skip
def saturating(record: Record) -> None:
    """Sigmoid and tanh nets of growing depth, from the usual start and from weights ten times as large. The length of
    the first layer's gradient over the last one's, 1e-9 in a plain sigmoid net of ten layers, stays near 1 with batch
    norm, and the net learns. No unit of that plain net is saturated, so saturation is not what its gradient vanishes
    from; but from large weights many units of plain nets are saturated, and stay it, where with batch norm nearly none
    are. Layer norm lifts the gradient too and helps at five layers, but not at ten; at 20 batch norm does not suffice
    either."""
    depths = (2, 10) if record.quick else (2, 5, 10, 20)
    steps = 150 if record.quick else 200
    starts, norms, activations = {"usual": 1.0, "large": 10.0}, (None, "batch", "layer"), ("sigmoid", "tanh")
    x, y = digits().x_train[:256], digits().y_train[:256]
    keys = list(product(activations, starts, norms, depths))
    ratios: dict[Any, list[float]] = {key: [] for key in keys}
    shares: dict[Any, list[float]] = {key: [] for key in keys}
    scores: dict[Any, list[float]] = {key: [] for key in keys}
    for seed in record.seeds:
        for key in keys:
            activation, start, norm, depth = key
            model = net(norm, depth, activation, seed, starts[start])
            lengths = gradient_lengths(model, x, y)
            ratios[key].append(lengths[0] / max(lengths[-1], 1e-300))
            train(model, 0.5, steps, seed)
            shares[key].append(float(numpy.mean(saturated(model, activation))))
            scores[key].append(test_accuracy(model))
    for activation in activations:
        none, batch, layer = ((activation, "usual", norm, 10) for norm in norms)
        gap = numpy.log10(ratios[batch]) - numpy.log10(ratios[none])
        record.when(
            f"{activation}, 10 layers: powers of ten by which batch norm lifts first over last gradient", gap, above=1.0
        )
        gain = numpy.subtract(scores[batch], scores[none])
        record.when(f"{activation}, 10 layers: accuracy, batch norm less none", gain, above=0.3)
        gain = numpy.subtract(scores[layer], scores[none])
        record.stated(f"{activation}, 10 layers: accuracy, layer norm less none", gain, above=0.3)
        record.when(f"{activation}, 10 layers, usual start: saturated after training, none", shares[none], below=0.05)
        none, batch, _ = ((activation, "large", norm, 10) for norm in norms)
        record.when(f"{activation}, 10 layers, large weights: saturated after training, none", shares[none], above=0.2)
        record.when("the same, batch norm", shares[batch], below=0.1)
    for key in keys:
        activation, start, norm, depth = key
        what = f"{activation}, {start} start, {norm or 'none'}, {depth} layers"
        record.figure(f"{what}: gradient, first over last layer", ratios[key])
        record.figure(f"{what}: saturated after training", shares[key])
        record.figure(f"{what}: test accuracy", scores[key])

    def draw() -> Any:
        figure = new_figure("saturating", 9, 6.4)
        for row, (values, what) in zip(
            figure.subplots(2, 2, sharey="row"),
            ((ratios, "gradient, first over last layer"), (shares, "saturated after training")),
        ):
            for axes, activation in zip(row, activations):
                for start, norm in product(starts, norms):
                    line = [numpy.mean(values[activation, start, norm, depth]) for depth in depths]
                    name = norm or "none"
                    axes.plot(
                        depths,
                        line,
                        marker="o",
                        color=COLORS[name],
                        label=f"{name}, {start} start",
                        linestyle="-" if start == "usual" else ":",
                    )
                plain_axes(axes, "hidden layers", what)
                axes.set_title(activation, loc="left", fontsize=10)
                if values is ratios:
                    axes.set_yscale("log")
        axes.legend(frameon=False)
        return figure

    record.picture("How much of the gradient arrives at the first layer, and how many units are saturated.", draw)


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
            first.data = tensor(first.numpy() * (1 + 1e-3 * noise), dtype="float32")
            after = pre_activations(model, x)
            changes = [numpy.linalg.norm(b - a) for a, b in zip(before, after)]
            found.append(changes[-1] / changes[0])
        growth[name] = found
    record.stated("small weights: change in the last layer over that in the first", growth["small weights"], above=2.0)
    record.when("large weights: change in the last layer over that in the first", growth["large weights"], above=2.0)
    record.figure("batch norm: change in the last layer over that in the first", growth["batch norm"])


@claim(41, "Inputs of the layers drift while the layers below learn; sigmoids saturate early, deep nets hardly learn",
       "Not only BN", "ICS notes", "BN notes",
       condition="the sigmoid that saturates early is tanh, at a learning rate of 1")  # fmt: skip
def deep_and_slow(record: Record) -> None:
    """The inputs of every layer of a plain sigmoid net move by more than they scatter while it learns; two layers
    deep it learns the digits, eight layers deep it does not at all. At this rate, 1,
    tanh is saturated in most units of some layer after 50 steps, two layers deep, and then not every seed learns; eight
    layers deep it saturates later, and none does. The logistic sigmoid has no saturated unit then, at either depth."""
    steps = 400 if record.quick else 1000
    drifts = []
    early: dict[tuple[str, int], list[float]] = {(name, depth): [] for name in ("sigmoid", "tanh") for depth in (2, 8)}
    late: dict[tuple[str, int], list[float]] = {key: [] for key in early}
    scores: dict[tuple[str, int], list[float]] = {key: [] for key in early}
    for seed in record.seeds:
        for (activation, depth), found in scores.items():
            model = net(None, depth, activation, seed)
            before = pre_activations(model, digits().x_train[:256])
            train(model, 1.0, 50, seed)
            early[activation, depth].append(max(saturated(model, activation)))
            train(model, 1.0, steps - 50, seed + 1000)
            late[activation, depth].append(max(saturated(model, activation)))
            found.append(test_accuracy(model))
            if (activation, depth) == ("sigmoid", 2):
                after = pre_activations(model, digits().x_train[:256])
                moved = [numpy.abs(b.mean(0) - a.mean(0)) / a.std(0) for a, b in zip(before, after)]
                drifts.append(min(float(m.mean()) for m in moved))
    record.when("how far a layer's inputs move, in deviations, the least of the layers", drifts, above=1.0)
    record.when("sigmoid: test accuracy, 2 layers", scores["sigmoid", 2], above=0.8)
    record.figure("tanh: test accuracy, 2 layers", scores["tanh", 2])
    for activation in ("sigmoid", "tanh"):
        record.when(f"{activation}: test accuracy, 8 layers", scores[activation, 8], below=0.3)
    for activation, judge in (("sigmoid", record.stated), ("tanh", record.when)):
        judge(
            f"{activation}, 2 layers: saturated after 50 steps, the most of the layers", early[activation, 2], above=0.1
        )
    for activation, depth in early:
        what = f"{activation}, {depth} layers: saturated, the most of the layers"
        record.figure(f"{what}, after 50 steps", early[activation, depth])
        record.figure(f"{what}, after {steps} steps", late[activation, depth])


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
