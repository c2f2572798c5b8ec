"""Statements 36 and 40 to 42: deep nets, what arrives at their layers, and what they learn."""

from __future__ import annotations

from typing import Any

import numpy

from ...ops.create import tensor
from ...viz.style import new_figure, plain_axes
from .nets import digits, gradient_lengths, net, pre_activations, test_accuracy, train
from .record import Record, claim
from .tools import COLORS

HE = 6**0.5  # a gain of this on the usual start gives weights of variance 2 / inputs (He et al. 2015)


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
            numpy.subtract(scores[activation, "batch", 10], scores[activation, "none", 10]),
            above=0.3,
        )
    record.stated(
        "sigmoid, 10 layers: accuracy, layer norm less none",
        numpy.subtract(scores["sigmoid", "layer", 10], scores["sigmoid", "none", 10]),
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
