"""Statements 26 and 29 to 31: the statistics of a batch, and those for the test."""

from __future__ import annotations

from itertools import combinations, product

import numpy

from ... import functional as F
from ...ops.create import ones, tensor, zeros
from .batch import frozen, statistics
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
    dividing by 1 - d^T, with r_0 = 0, takes it out."""
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
