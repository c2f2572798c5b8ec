"""Statements 12 to 19: the general frame h = f(g (x - mu) / sigma + b)."""

from __future__ import annotations

from typing import Any

import numpy

from ... import functional as F
from ...engine import Tensor
from ...ops.create import tensor
from .record import Record, claim
from .tools import apart, run

ALL = ("General frame", "Not only BN", "ICS notes")


def deviation(x: Tensor, axes: Any, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and sqrt(variance + eps) over ``axes``, in elementary operations."""
    mu = x.mean(axes, keepdims=True)
    return mu, (((x - mu) ** 2).mean(axes, keepdims=True) + eps).sqrt()


def standard(x: Tensor, axes: Any, eps: float) -> Tensor:
    """The frame's (x - mu) / sigma."""
    mu, sigma = deviation(x, axes, eps)
    return (x - mu) / sigma


def length(v: Tensor) -> Tensor:
    """The length of each row."""
    return (v * v).sum(-1, keepdims=True).sqrt()


FRAMES: dict[str, tuple[tuple[int, ...], tuple[int, ...], Any, Any]] = {
    "batch": (
        (5, 4, 3), (4, 1), lambda x, g, b, e: F.batch_norm(x, None, None, g.reshape(4), b.reshape(4), True, eps=e),
        lambda x, g, b, e: standard(x, (0, 2), e) * g + b,
    ),
    "layer": (
        (5, 4, 3), (4, 3), lambda x, g, b, e: F.layer_norm(x, (4, 3), g, b, e),
        lambda x, g, b, e: standard(x, (1, 2), e) * g + b,
    ),
    "instance": (
        (5, 4, 6), (4, 1), lambda x, g, b, e: F.instance_norm(x, None, None, g.reshape(4), b.reshape(4), eps=e),
        lambda x, g, b, e: standard(x, 2, e) * g + b,
    ),
    "group": (
        (5, 4, 3), (4, 1), lambda x, g, b, e: F.group_norm(x, 2, g.reshape(4), b.reshape(4), e),
        lambda x, g, b, e: standard(x.reshape(5, 2, 2, 3), (2, 3), e).reshape(5, 4, 3) * g + b,
    ),
    "rms": (
        (5, 4), (4,), lambda x, g, b, e: F.rms_norm(x, 4, g, e) + b,
        lambda x, g, b, e: x / ((x * x).mean(1, keepdims=True) + e).sqrt() * g + b,
    ),
    "weight": (
        (5, 4), (3,), lambda x, g, b, e, v: F.linear(x, F.weight_norm(v, g.reshape(3, 1)), b),
        lambda x, g, b, e, v: F.linear(x, v) / length(v).reshape(3) * g + b,
    ),
    "cosine": (
        (5, 4), (3,), lambda x, g, b, e, w: F.cosine_linear(x, w) * g + b,
        lambda x, g, b, e, w: F.linear(x, w) / (length(x) * length(w).reshape(3)) * g + b,
    ),
}  # fmt: skip
"""Shape of x, shape of gain and bias, the package's function, and the frame with its mu and sigma."""


@claim(12, "Every normalization is h = f(g (x - μ) / σ + b), with its own μ and σ", *ALL)
def one_frame(record: Record) -> None:
    """The frame in elementary operations against the function of each normalization, values and all gradients. Weight
    norm has μ = 0 and σ = ‖v‖, cosine norm μ = 0 and σ = ‖w‖ ‖x‖."""
    for name, (shape, affine, fused, frame) in FRAMES.items():
        worst = 0.0
        for seed in record.seeds:
            rng = numpy.random.default_rng(seed)
            arrays = [rng.normal(size=s) for s in (shape, affine, affine)]
            arrays += [rng.normal(size=(3, 4))] if name in ("weight", "cosine") else []
            for eps in (0.0, 1e-5, 0.1):
                pair = [run(lambda x, g, b, *v: f(x, g, b, eps, *v), *arrays) for f in (fused, frame)]  # noqa: B023
                worst = max(worst, *(apart(a, b) for a, b in zip(*pair)))
        record.stated(f"{name}: largest relative difference", worst, below=1e-12)


@claim(13, "The first step gives mean 0 and variance 1", "General frame", "Not only BN", condition="eps = 0")
def first_step(record: Record) -> None:
    """The mean is 0. The variance is var / (var + eps): 1 at eps = 0 only, though 1e-5 is seldom seen."""
    for eps in (0.0, 0.1):
        means, ones_, closed = [], [], []
        for seed in record.seeds:
            x = numpy.random.default_rng(seed).normal(3.0, 2.0, size=(40, 30))
            for axis in (0, 1):
                y = F.standardize(tensor(x), axis, eps).numpy()
                var = x.var(axis=axis)
                means.append(numpy.abs(y.mean(axis=axis)).max())
                ones_.append(numpy.abs(y.var(axis=axis) - 1).max())
                closed.append(apart(y.var(axis=axis), var / (var + eps)))
        record.when(f"eps = {eps:g}: largest |mean|", max(means), below=1e-13)
        judge = record.stated if eps else record.when
        judge(f"eps = {eps:g}: largest |variance - 1|", max(ones_), below=1e-12)
        record.when(f"eps = {eps:g}: variance from var / (var + eps)", max(closed), below=1e-12)


@claim(
    14, "The second step gives mean b and variance g²", "General frame", "Not only BN",
    condition="gain and bias belong to what is averaged over: per feature in batch norm, shared in layer norm; eps = 0",
)  # fmt: skip
def second_step(record: Record) -> None:
    """True in batch norm. In layer norm with one gain and bias per feature, the usual form, the mean of a sample is
    mean(g x̂ + b), not the mean of b; with one gain and bias for the whole layer it is true there too."""
    batch, shared, features = [], [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x, g, b = rng.normal(3.0, 2.0, size=(40, 6)), rng.normal(size=6), rng.normal(size=6)
        y = F.batch_norm(tensor(x), None, None, tensor(g), tensor(b), True, eps=0.0).numpy()
        batch.append(max(apart(y.mean(axis=0), b), apart(y.var(axis=0), g**2)))
        y = F.layer_norm(tensor(x), 6, tensor(g[:1]), tensor(b[:1]), 0.0).numpy()
        shared.append(max(apart(y.mean(axis=1), numpy.full(40, b[0])), apart(y.var(axis=1), numpy.full(40, g[0] ** 2))))
        y = F.layer_norm(tensor(x), 6, tensor(g), tensor(b), 0.0).numpy()
        features.append(apart(y.mean(axis=1), numpy.full(40, b.mean())))
    record.when("batch norm: mean and variance from b and g²", max(batch), below=1e-12)
    record.when("layer norm, shared: mean and variance from b and g²", max(shared), below=1e-12)
    record.stated("layer norm, per feature: mean from that of b", max(features), below=1e-12)


@claim(
    15, "Standardized values lie in a fixed range", "General frame", "Not only BN",
)  # fmt: skip
def no_fixed_range(record: Record) -> None:
    """Two moments are fixed, not a range. But there is a bound: of m standardized values none is above sqrt(m - 1)
    (Samuelson 1968), and one outlier among equal values attains it. A batch of 9 ends at 2.83, one of 101 at 10."""
    sizes = (2, 9, 101, 1001)
    attained = [F.standardize(tensor(numpy.eye(m)[0]), 0).numpy().max() for m in sizes]
    over = []
    for seed in record.seeds:
        x = numpy.random.default_rng(seed).standard_cauchy(size=(100, 1000))
        over.append(numpy.abs(F.standardize(tensor(x), 0).numpy()).max() / 99**0.5)
    record.stated("largest value at m = 1001 over the largest at m = 9", attained[3] / attained[1], below=1.001)
    for m, value in zip(sizes, attained):
        record.when(f"m = {m}: |largest value - sqrt(m - 1)|", abs(value - (m - 1) ** 0.5), below=1e-12 * m)
    record.when("Cauchy data, m = 100: largest value over the bound", max(over), below=1 + 1e-12)


@claim(
    16, "With g and b the same functions can be represented, but the mean of y depends on b alone", "General frame",
    "Not only BN",
)  # fmt: skip
def same_functions(record: Record) -> None:
    """For every layer there are a gain and a bias with which the normalized layer equals it on the batch. And whatever
    the layers below become, each feature keeps the mean b and the deviation |g|."""
    equal, moments = [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        u, w, bias, g, b = (rng.normal(size=s) for s in ((20, 5), (4, 5), 4, 4, 4))
        plain = F.sigmoid(F.linear(*map(tensor, (u, w, bias))))
        z = F.linear(tensor(u), tensor(w))
        gain, shift = z.numpy().std(axis=0), z.numpy().mean(axis=0) + bias
        equal.append(apart(F.sigmoid(normal(z, gain, shift)).numpy(), plain.numpy()))
        for scale in (1e-3, 1.0, 1e3):
            below = F.tanh(F.linear(tensor(u), tensor(rng.normal(size=(7, 5)) * scale)))
            y = normal(F.linear(below, tensor(rng.normal(size=(4, 7)))), g, b).numpy()
            moments.append(max(apart(y.mean(axis=0), b), apart(y.std(axis=0), numpy.abs(g))))
    record.stated("a layer with sigmoid against its normalized equal", max(equal), below=1e-12)
    record.stated("mean and deviation from b and |g|, other layers below", max(moments), below=1e-12)


def normal(z: Tensor, gain: Any, bias: Any) -> Tensor:
    """Batch norm in training at eps = 0 with this gain and bias."""
    return F.batch_norm(z, None, None, tensor(gain), tensor(bias), True, eps=0.0)


@claim(
    17, "Standardized values lie in the linear zone of sigmoid, so that the non-linearity is lost without g and b",
    *ALL, "Normalization", "BN notes", condition="lost means: a line explains more than 98 % of the variance",
)  # fmt: skip
def linear_zone(record: Record) -> None:
    """For normal data 95 % of the values are within ±2, and the best line explains 98.4 % of the variance of sigmoid:
    nearly linear, but not linear. A gain of 8 leaves 75 % to the line: g and b do give the non-linearity back."""
    inside: list[float] = []
    fits: dict[float, list[float]] = {1.0: [], 2.0: [], 8.0: []}
    for seed in record.seeds:
        x = F.standardize(tensor(numpy.random.default_rng(seed).normal(5.0, 3.0, size=20_000)), 0)
        inside.append((numpy.abs(x.numpy()) < 2).mean())
        for gain, found in fits.items():
            found.append(numpy.corrcoef(x.numpy(), F.sigmoid(x * gain).numpy())[0, 1] ** 2)
    record.figure("share of the values within ±2", inside)
    record.stated("share of the variance that a line leaves, gain 1", numpy.subtract(1, fits[1.0]), below=1e-3)
    record.when("share of the variance that a line explains, gain 1", fits[1.0], above=0.98)
    record.when("the same, gain 8", fits[8.0], below=0.8)
    record.figure("the same, gain 2", fits[2.0])


@claim(
    18, "Without g and b, whatever the layer below does is undone", "ICS notes",
    condition="what it does is to scale (by more than 0) and shift single features",
)  # fmt: skip
def undone(record: Record) -> None:
    """Batch norm undoes a scale and a shift of each feature. A linear map that mixes features it does not undo; that
    takes whitening, and even whitening keeps a rotation."""
    scaled, mixed_, rest = [], [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x, scale, shift, mix = (
            rng.normal(size=(30, 4)),
            rng.uniform(0.1, 9, 4),
            rng.normal(size=4),
            rng.normal(size=(4, 4)),
        )
        plain = F.standardize(tensor(x), 0).numpy()
        scaled.append(apart(F.standardize(tensor(x * scale + shift), 0).numpy(), plain))
        mixed_.append(apart(F.standardize(tensor(x @ mix + shift), 0).numpy(), plain))
        white, again = (F.whiten(tensor(v), eps=0.0).numpy() for v in (x, x @ mix + shift))
        turn = white.T @ again / 30
        rest.append(max(apart(turn @ turn.T, numpy.eye(4)), apart(white @ turn, again)))
    record.stated("features mixed by a matrix: relative change", mixed_, below=1e-12)
    record.when("features scaled and shifted: relative change", scaled, below=1e-12)
    record.figure("whitening, features mixed: difference that is no rotation", rest)


@claim(19, "The result is not strictly i.i.d.: mean and variance are equal, distributions are not", "General frame",
       "Not only BN")  # fmt: skip
def not_one_distribution(record: Record) -> None:
    """A uniform and an exponential feature have the same mean and variance after batch norm; the largest distance of
    their distribution functions (Kolmogorov, Smirnov) stays above 0.1."""
    moments, distances = [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x = numpy.stack([rng.uniform(-3, 5, size=4000), rng.exponential(2.0, size=4000)], axis=1)
        y = F.batch_norm(tensor(x), training=True, eps=0.0).numpy()
        moments.append(max(numpy.abs(y.mean(axis=0)).max(), numpy.abs(y.var(axis=0) - 1).max()))
        points = numpy.linspace(-3, 3, 601)
        uniform, exponential = ((column[:, None] <= points).mean(axis=0) for column in y.T)
        distances.append(numpy.abs(uniform - exponential).max())
    record.stated("largest |mean| and |variance - 1|", moments, below=1e-12)
    record.stated("distance of the two distributions", distances, above=0.1)
