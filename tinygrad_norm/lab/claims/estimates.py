"""Statements 26 and 29 to 31: the statistics of a batch, and those for the test, also while a net trains."""

from __future__ import annotations

import copy
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy

from ... import functional as F
from ...data import DataLoader, TensorDataset
from ...nn import BatchNorm1d, Module, recompute_statistics
from ...ops.create import ones, tensor, zeros
from ...viz.style import BLUE, GREEN, ORANGE, new_figure, plain_axes
from ..nets import outputs
from .batch import frozen, statistics
from .nets import digits, net, test_accuracy, train
from .record import Record, claim
from .tools import apart, bits_apart


def all_batches(population: numpy.ndarray, m: int, replace: bool = True) -> numpy.ndarray:
    """Every batch of m of a population, one in each column, so that batch norm measures them all at once."""
    return numpy.array(list(product(population, repeat=m) if replace else combinations(population, m))).T


@claim(26, "The statistics of a mini-batch approximate those of all data", "Not only BN")
def approximate(record: Record) -> None:
    """Counted over all batches of 1 to 5 out of 6 values: the mean of a batch of m scatters by exactly σ / sqrt(m)."""
    worst = 0.0
    for seed in record.seeds:
        population = numpy.random.default_rng(seed).normal(3.0, 2.0, size=6)
        for m in (1, 2, 3, 4, 5):
            mean, _ = statistics(all_batches(population, m))
            worst = max(worst, apart(mean.mean(), population.mean()), apart(mean.std(), population.std() / m**0.5))
    record.stated("mean and scatter of the batch means, largest relative difference", worst, below=1e-12)


@claim(
    29, "For the test: μ = E[μ_B], σ² = m/(m-1) E[σ_B²]; a batch's own statistics are certainly biased estimates",
    "Not only BN", condition="biased is said of the variance: the mean of a batch is not",
)  # fmt: skip
def test_statistics(record: Record) -> None:
    """Counted over all batches: with replacement m/(m-1) E[σ_B²] is the variance of the population, without replacement
    the one that divides by n - 1. The variance of a batch is too small by (m-1)/m; its mean is right on average."""
    means, corrected, biased = [], [], []
    for seed in record.seeds:
        population = numpy.random.default_rng(seed).normal(3.0, 2.0, size=6)
        for m in (2, 3, 4):
            for replace, ddof in ((True, 0), (False, 1)):
                mean, var = statistics(all_batches(population, m, replace))
                means.append(apart(mean.mean(), population.mean()))
                corrected.append(apart(m / (m - 1) * var.mean(), population.var(ddof=ddof)))
                biased.append(apart(var.mean(), population.var(ddof=ddof)))
    record.stated("bias of the mean, relative", max(means), above=1e-3)
    record.when("bias of the mean, relative", max(means), below=1e-12)
    record.when("bias of m/(m-1) E[σ_B²], relative", max(corrected), below=1e-12)
    record.when("bias of E[σ_B²], relative, m = 4", min(biased), above=0.2)


@claim(30, "In the test BN(x) = γ (x - μ_test) / sqrt(σ²_test + eps) + β, a fixed map", "Not only BN")
def fixed_map(record: Record) -> None:
    """Each sample gets the same bits alone and in a batch, and the map folds into the linear layer before it."""
    bits, value, folded = 0, [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        u, w, b = rng.normal(size=(10, 5)), rng.normal(size=(4, 5)), rng.normal(size=4)
        mean, var, gain, bias = rng.normal(size=4), rng.uniform(0.5, 2.0, 4), rng.normal(size=4), rng.normal(size=4)
        test = (mean, var, gain, bias, 1e-5)
        x = u @ w.T + b
        y = frozen(tensor(x), *test).numpy()
        bits += sum(bits_apart(frozen(tensor(x[i : i + 1]), *test).numpy()[0], y[i]) for i in range(10))
        factor = gain / numpy.sqrt(var + 1e-5)
        value.append(apart(y, factor * (x - mean) + bias))
        one = F.linear(*map(tensor, (u, w * factor[:, None], (b - mean) * factor + bias))).numpy()
        folded.append(apart(one, y))
    record.stated("values that differ in a bit, alone and in a batch", bits, equals=0)
    record.stated("relative difference from the formula", value, below=1e-12)
    record.stated("folded into the linear layer: relative difference", folded, below=1e-12)


@claim(31, "The statistics may instead be exponentially weighted averages", "Not only BN")
def weighted(record: Record) -> None:
    """r_T = d^T r_0 + (1 - d) Σ d^(T-t) s_t, with d = 1 - momentum. The start r_0 still counts after few steps:
    dividing by 1 - d^T, with r_0 = 0, takes it out. Then training on the digits in batches of 8, looked at in
    evaluation: the average with momentum 0.1 serves as well as exact statistics, which are measured over the whole
    training set after each epoch. The plain average of all batches so far does not: it counts those of the first
    weights, which are long gone, as much as the last."""
    worst, start = 0.0, []
    for seed in record.seeds:
        batches = numpy.random.default_rng(seed).normal(3.0, 2.0, size=(12, 5, 2))
        mean, var = zeros(2, dtype="float64"), ones(2, dtype="float64")
        for b in batches:
            F.batch_norm(tensor(b), mean, var, training=True, momentum=0.1)
        share = 0.1 * 0.9 ** numpy.arange(11, -1, -1)
        worst = max(worst, apart(mean.numpy(), share @ batches.mean(axis=1)))
        worst = max(worst, apart(var.numpy(), 0.9**12 + share @ batches.var(axis=1, ddof=1)))
        start.append(apart(mean.numpy(), batches.mean(axis=(0, 1))))
    record.stated("largest relative difference from the closed form", worst, below=1e-12)
    record.figure("after 12 batches: relative distance of the running mean from the mean of all", start)
    _in_training(record, epochs=4 if record.quick else 6)


COLORS = {"momentum 0.1": BLUE, "all batches so far": ORANGE, "exact": GREEN}
Curves = dict[str, numpy.ndarray]


def _in_training(record: Record, epochs: int, size: int = 8) -> None:
    """The same weights in evaluation with three kinds of statistics, over training: how well each net tests."""
    scores, losses = ({kind: numpy.zeros((len(record.seeds), epochs)) for kind in COLORS} for _ in range(2))
    for k, seed in enumerate(record.seeds):
        images = DataLoader(TensorDataset(digits().x_train), size, shuffle=True, drop_last=True, seed=seed)
        for kind, momentum in (("momentum 0.1", 0.1), ("all batches so far", None)):
            model = net("batch", seed=seed)  # its statistics take no part in training: the weights become the same
            for m in model.modules():
                if isinstance(m, BatchNorm1d):
                    m.momentum = momentum
            for epoch in range(epochs):
                train(model, 0.035, len(images), 100 * seed + epoch, size)
                scores[kind][k, epoch], losses[kind][k, epoch] = _tested(model)
                if momentum is not None:
                    exact = recompute_statistics(copy.deepcopy(model), images)
                    scores["exact"][k, epoch], losses["exact"][k, epoch] = _tested(exact)
    late = {kind: values[:, epochs // 2 :].mean(axis=1) for kind, values in scores.items()}
    what = "batches of 8, second half of training: test accuracy, {} less exact"
    record.stated(what.format("momentum 0.1"), late["momentum 0.1"] - late["exact"], above=-0.01)
    record.figure(what.format("all batches so far"), late["all batches so far"] - late["exact"])
    for epoch in range(1, epochs, 2):
        for kind in COLORS:
            record.figure(f"{kind}, epoch {epoch + 1}: test accuracy", scores[kind][:, epoch])
            record.figure(f"{kind}, epoch {epoch + 1}: test loss", losses[kind][:, epoch])
    record.picture(
        "Three kinds of statistics for the test, the same weights, batches of 8.", partial(_drawn, scores, losses)
    )


def _tested(model: Module) -> tuple[float, float]:
    """Accuracy and loss on the test images in evaluation; the model is left in training mode."""
    return test_accuracy(model), F.cross_entropy(outputs(model, digits().x_test), digits().y_test).item()


def _drawn(scores: Curves, losses: Curves) -> Any:
    figure = new_figure("statistics", 9, 3.4)
    left, right = figure.subplots(1, 2)
    for axes, values, factor in ((left, scores, 100), (right, losses, 1)):
        for kind, color in COLORS.items():
            line = factor * values[kind].mean(axis=0)
            axes.plot(range(1, len(line) + 1), line, marker="o", color=color, label=kind)
    plain_axes(left, "epoch", "test accuracy, %")
    plain_axes(right, "epoch", "test loss")
    right.legend(frameon=False)
    return figure
