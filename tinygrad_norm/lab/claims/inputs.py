"""Statements 1 to 4 and 7 to 10: scaling, standardizing and whitening the inputs of a net."""

from __future__ import annotations

import time
from typing import Any

import numpy

from ... import functional as F
from ...data import MinMaxScaler, PCAWhitening, StandardScaler, ZCAWhitening
from ...ops.create import tensor
from ...viz.style import new_figure, plain_axes
from .record import Record, claim
from .tools import apart

NOTES = "Normalization"


def sample(seed: int, n: int = 50) -> numpy.ndarray:
    """Features of different ranges, (n, 4)."""
    rng = numpy.random.default_rng(seed)
    return rng.normal(size=(n, 4)) * [1.0, 100.0, 1e-3, 7.0] + [0.0, 500.0, 1.0, -3.0]


def _min_max(record: Record, low: float, high: float) -> None:
    formula, ends, back, affine = [], 0, [], []
    for seed in record.seeds:
        x = sample(seed)
        scaler = MinMaxScaler((low, high))
        y = scaler.fit_transform(x)
        least, most = x.min(axis=0), x.max(axis=0)
        formula.append(apart(y, (high - low) * (x - least) / (most - least) + low))
        ends += int((y.min(axis=0) != low).sum() + (y.max(axis=0) != high).sum())
        back.append(apart(scaler.inverse_transform(y), x))
        affine.append(apart(MinMaxScaler((low, high)).fit_transform(3.0 * x + 7.0), y))
    record.stated("relative difference from the formula", formula, below=1e-12)
    record.stated("ends that are not exact", ends, equals=0)
    record.stated("features times 3 plus 7: relative change of the result", affine, below=1e-10)
    record.figure("and back: relative difference", back)


@claim(1, "Min-max scaling to [0, 1]: f' = (f - min) / (max - min)", NOTES)
def to_unit(record: Record) -> None:
    """The formula, exact ends, the way back. Where a feature is constant the formula is 0/0: here it gives 0, the lower
    end."""
    _min_max(record, 0.0, 1.0)
    record.stated("a constant feature becomes", MinMaxScaler().fit_transform(numpy.full((5, 1), 3.7)).max(), equals=0)


@claim(2, "Min-max scaling to [-1, 1]: 2 (f - min) / (max - min) - 1", NOTES)
def to_symmetric(record: Record) -> None:
    """Statement 3 with a = -1 and b = 1: the formula, exact ends, the way back."""
    _min_max(record, -1.0, 1.0)


@claim(3, "Min-max scaling to [a, b]: (b - a) (f - min) / (max - min) + a", NOTES)
def to_any(record: Record) -> None:
    """For a = 2 and b = 5. Data that were not seen when min and max were measured may leave the range; ``clip=True``
    keeps them inside."""
    _min_max(record, 2.0, 5.0)
    scaler, x = MinMaxScaler((2.0, 5.0)), numpy.array([[0.0], [1.0]])
    scaler.fit(x)
    record.figure("unseen data: a value of 2 where 1 was the largest becomes", scaler.transform(2 * x).max())


@claim(4, "Z-score: (f - μ) / σ with σ = sqrt(1/n Σ (f - μ)²)", NOTES)
def z_score(record: Record) -> None:
    """Mean 0 and (biased) variance 1; and the same numbers as batch norm of the whole data at eps = 0."""
    moments, same = [], []
    for seed in record.seeds:
        x = sample(seed)
        y = StandardScaler().fit_transform(x)
        moments.append(max(numpy.abs(y.mean(axis=0)).max(), numpy.abs(y.var(axis=0) - 1).max()))
        same.append(apart(F.batch_norm(tensor(x), training=True, eps=0.0).numpy(), y))
    record.stated("largest |mean| and |variance - 1|", moments, below=1e-10)
    record.stated("relative difference from batch norm", same, below=1e-10)


@claim(7, "PCA whitening: each feature has mean 0 and variance 1, and features are not correlated", "Not only BN")
def pca(record: Record) -> None:
    """The covariance of the result is the identity. With eps an eigenvalue s becomes s / (s + eps)."""
    _whitened(record, PCAWhitening)


def _whitened(record: Record, kind: Any) -> None:
    plain, regular = [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x = rng.normal(3.0, 1.0, size=(200, 5)) @ rng.normal(size=(5, 5))
        y = kind().fit_transform(x)
        plain.append(max(numpy.abs(numpy.cov(y.T, bias=True) - numpy.eye(5)).max(), numpy.abs(y.mean(axis=0)).max()))
        s = numpy.linalg.eigvalsh(numpy.cov(x.T, bias=True))
        found = numpy.linalg.eigvalsh(numpy.cov(kind(eps=0.1).fit_transform(x).T, bias=True))
        regular.append(apart(numpy.sort(found), numpy.sort(s / (s + 0.1))))
    record.stated("covariance from the identity, mean from 0", plain, below=1e-10)
    record.stated("eps = 0.1: eigenvalues from s / (s + eps), relative", regular, below=1e-10)


@claim(8, "ZCA whitening: mean 0, equal variances, no correlation", "Not only BN")
def zca(record: Record) -> None:
    """The variances are not only equal but 1. Of all whitenings it moves the data least: further than PCA whitening and
    50 random rotations of it are."""
    _whitened(record, ZCAWhitening)
    closest = []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5))
        d = x - x.mean(axis=0)
        y = ZCAWhitening().fit_transform(x)
        turned = [y @ numpy.linalg.qr(rng.normal(size=(5, 5)))[0] for _ in range(50)]
        others = [PCAWhitening().fit_transform(x), *turned]
        closest.append(min(((v - d) ** 2).sum() for v in others) / ((y - d) ** 2).sum())
    record.stated("nearest of the others: squared distance from the data, over that of ZCA", closest, above=1.0)


@claim(9, "Whitening is expensive", "Not only BN")
def expensive(record: Record) -> None:
    """Time of a standardization and of a ZCA whitening of 2,000 samples: the first grows about as the number of
    features, the second faster, with its square (the covariance) and its cube (the eigenvectors)."""
    features = numpy.array([16, 32, 64, 128] if record.quick else [16, 32, 64, 128, 256])
    standard, white = [], []
    for d in features:
        x = tensor(numpy.random.default_rng(0).normal(size=(2000, d)))
        standard.append(_seconds(lambda x=x: F.standardize(x, 0)))
        white.append(_seconds(lambda x=x: F.whiten(x)))
    record.stated(f"time of whitening over standardizing, {features[-1]} features", white[-1] / standard[-1], above=2.0)
    for name, times in (("standardizing", standard), ("whitening", white)):
        record.figure(
            f"{name}: time grows with the features to the power",
            numpy.polyfit(numpy.log(features), numpy.log(times), 1)[0],
        )

    def draw() -> Any:
        figure = new_figure("expensive", 5.5, 3.6)
        axes = figure.subplots()
        axes.loglog(features, numpy.multiply(standard, 1e3), marker="o", label="standardize")
        axes.loglog(features, numpy.multiply(white, 1e3), marker="s", label="whiten (ZCA)")
        plain_axes(axes, "features", "milliseconds for 2,000 samples")
        axes.legend(frameon=False)
        return figure

    record.picture("The price of whitening.", draw)


def _seconds(run: Any) -> float:
    """The shortest of five."""
    found = []
    for _ in range(5):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)


@claim(10, "Whitening changes what a layer can represent: information of the layer below is dropped", "Not only BN")
def dropped(record: Record) -> None:
    """Whatever invertible linear map the layer below applies, the whitened outputs differ by a rotation only: all the
    rest of the linear work below is erased."""
    rest = []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x, mix = rng.normal(size=(60, 4)), rng.normal(size=(4, 4))
        y, again = (F.whiten(tensor(v), eps=0.0).numpy() for v in (x, x @ mix))
        turn = y.T @ again / 60
        rest.append(max(apart(turn @ turn.T, numpy.eye(4)), apart(y @ turn, again)))
    record.stated("difference of the two whitened outputs that is no rotation", rest, below=1e-9)
