"""Statements 5, 6 and 11: what outliers, ranges, correlation and a shift of the inputs cost."""

from __future__ import annotations

from typing import Any

import numpy

from ... import functional as F
from ...data import MinMaxScaler, PCAWhitening, StandardScaler
from ...engine import Tensor
from ...nn import Linear
from ...ops.create import tensor
from ...optim import SGD
from .record import Record, claim

SCALERS: dict[str, Any] = {"min-max": MinMaxScaler, "z-score": StandardScaler, "whitening": PCAWhitening}
KINDS = ("raw", *SCALERS)


def scaled(kind: str, x: numpy.ndarray) -> numpy.ndarray:
    """The data, normalized in one way, and a column of ones."""
    return numpy.hstack([SCALERS[kind]().fit_transform(x) if kind in SCALERS else x, numpy.ones((len(x), 1))])


def descent_steps(x: numpy.ndarray, y: numpy.ndarray, most: int) -> int:
    """Steps of gradient descent on least squares, at the best constant rate, until the loss is 0.01 % of the first."""
    hessian = x.T @ x / len(x)
    values = numpy.linalg.eigvalsh(hessian)
    off, rate = -numpy.linalg.lstsq(x, y, rcond=None)[0], 2 / (values[0] + values[-1])  # how far the weights are off
    start = off @ hessian @ off
    for step in range(most):
        slope = hessian @ off
        if off @ slope <= 1e-4 * start:
            return step
        off = off - rate * slope
    return most


def diverges(x: numpy.ndarray, y: numpy.ndarray, rate: float) -> bool:
    """Whether the squared error grows over 100 steps of gradient descent from weights of 0."""
    w = numpy.zeros(x.shape[1])
    with numpy.errstate(all="ignore"):
        for _ in range(100):
            w = w - rate * (x.T @ (x @ w - y)) / len(x)
        return not ((x @ w - y) ** 2).mean() <= (y**2).mean()


@claim(
    5, "Outliers slow training down or break it, and normalization helps; without outliers it may be left out",
    "Normalization", condition="normalization is z-score or whitening, and left out only where ranges are equal",
)  # fmt: skip
def outliers(record: Record) -> None:
    """Least squares by gradient descent at its best rate: with 1 % of one feature's values times 1000, without, and
    with one feature's range times 30 instead. Outliers cost thousands of steps, and make most learning rates diverge;
    after z-score and whitening they cost none. Min-max does not do that: the outliers take nearly the whole interval,
    and as it leaves the mean away from 0 it is slower than the raw data where there are none. And without any outlier
    a larger range costs thousands of steps."""
    most = 2_000 if record.quick else 20_000
    steps: dict[tuple[str, str], list[int]] = {(d, k): [] for d in ("outliers", "neither", "ranges") for k in KINDS}
    broken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    squeezed = []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x = rng.normal(size=(400, 4))
        y = x @ [1.0, -2.0, 0.5, 1.0] + 0.1 * rng.normal(size=400)
        data = {"outliers": x.copy(), "neither": x, "ranges": x * [1.0, 30.0, 1.0, 1.0]}
        data["outliers"][:4, 0] *= 1e3
        for (name, kind), found in steps.items():
            found.append(descent_steps(scaled(kind, data[name]), y, most))
        for kind, shares in broken.items():
            given = scaled(kind, data["outliers"])
            shares.append(float(numpy.mean([diverges(given, y, rate) for rate in numpy.logspace(-6, 0, 7)])))
        squeezed.append(numpy.ptp(scaled("min-max", data["outliers"])[4:, 0]))
    plain = steps["neither", "raw"]
    for kind in SCALERS:
        what, over = f"outliers, {kind}: steps over those of raw data without", steps["outliers", kind]
        (record.stated if kind == "min-max" else record.when)(what, numpy.divide(over, plain), below=2.0)
    record.when("the same without normalization", numpy.divide(steps["outliers", "raw"], plain), above=100.0)
    record.when("outliers, raw: share of the rates from 1e-6 to 1 that diverge", broken["raw"], above=0.3)
    record.when("the same after z-score", broken["z-score"], equals=0)
    for name, judge in (("neither", record.when), ("ranges", record.stated)):
        what = f"{name}: steps of raw data over those after z-score"
        judge(what, numpy.divide(steps[name, "raw"], steps[name, "z-score"]), below=2.0)
    record.figure("min-max with outliers: width of what the other 99 % have left", squeezed)
    for (name, kind), found in steps.items():
        record.figure(f"{name}, {kind}: steps (of at most {most})", found)


@claim(
    6, "With features of different ranges the gradient is a bad direction; normalized, it points near the optimum",
    "Normalization", condition="normalized means whitened, or by z-score where the features are not correlated",
)  # fmt: skip
def direction(record: Record) -> None:
    """Least squares with two features and an intercept, with a condition number that comes from different ranges or
    from correlation. The steepest descent turns from the way to the optimum, on average over 200 random starts, by more
    than 30 degrees, and the steps of descent grow in proportion to the condition number. After z-score both are gone
    if ranges were the reason, and unchanged if correlation was; whitening ends both. Min-max, which leaves the mean
    away from 0, points no better than raw data."""
    conditions = (10, 100) if record.quick else (10, 100, 1000)
    keys = [(why, size, kind) for why in ("ranges", "correlation") for size in conditions for kind in KINDS]
    turned: dict[tuple[str, int, str], list[float]] = {key: [] for key in keys}
    steps: dict[tuple[str, int, str], list[int]] = {key: [] for key in keys}
    measured: dict[tuple[str, int, str], list[float]] = {key: [] for key in keys}
    for seed in record.seeds:
        for why, size, kind in keys:
            rng = numpy.random.default_rng(seed)
            z = rng.normal(size=(500, 2))
            y = z.sum(axis=1) + 0.1 * rng.normal(size=500)
            x = scaled(kind, z * [1.0, size**0.5] if why == "ranges" else _correlated(z, (size - 1) / (size + 1)))
            hessian, starts = x.T @ x / len(x), rng.normal(size=(3, 200))  # the optimum is at the origin
            slopes = hessian @ starts
            lengths = numpy.linalg.norm(slopes, axis=0) * numpy.linalg.norm(starts, axis=0)
            cosines = numpy.clip((slopes * starts).sum(axis=0) / lengths, -1, 1)
            turned[why, size, kind].append(numpy.degrees(numpy.arccos(cosines)).mean())
            measured[why, size, kind].append(numpy.linalg.cond(hessian))
            steps[why, size, kind].append(descent_steps(x, y, 100_000))
    high, angle = conditions[-1], "degrees between descent and way to the optimum"
    for why in ("ranges", "correlation"):
        record.when(f"{why}, raw: {angle}", turned[why, high, "raw"], above=30.0)
        record.when(f"{why}, whitening: {angle}", turned[why, high, "whitening"], below=5.0)
    record.when(f"ranges, z-score: {angle}", turned["ranges", high, "z-score"], below=5.0)
    record.stated(f"correlation, z-score: {angle}", turned["correlation", high, "z-score"], below=5.0)
    record.stated(f"ranges, min-max: {angle}", turned["ranges", high, "min-max"], below=5.0)
    for why, kind in (("ranges", "raw"), ("correlation", "z-score")):
        sizes, counts = (numpy.log([found[why, size, kind] for size in conditions]) for found in (measured, steps))
        powers = [numpy.polyfit(*points, 1)[0] for points in zip(sizes.T, counts.T)]
        record.when(f"{why}, {kind}: steps grow with the condition number to the power", powers, above=0.9)
    for key in keys:
        record.figure("{1}, {0}, {2}: condition number".format(*key), measured[key])
        record.figure("{1}, {0}, {2}: steps".format(*key), steps[key])


def _correlated(z: numpy.ndarray, r: float) -> numpy.ndarray:
    """The first feature, and one of the same variance that is correlated to it by r."""
    return numpy.stack([z[:, 0], r * z[:, 0] + (1 - r * r) ** 0.5 * z[:, 1]], axis=1)


@claim(
    11, "Covariate shift is the same P(Y|X) with another P(X), and hurts a model that learned under the old one",
    "Not only BN", "ICS notes", "BN notes", condition="the model cannot represent the truth",
)  # fmt: skip
def shift(record: Record) -> None:
    """Y = X² + noise, learned around 0 by a linear layer and tested around 2. A straight line, which cannot represent
    it, does far worse on the shifted inputs; a parabola, a linear layer on X and X², as well as before."""
    ratios: dict[str, list[float]] = {"line": [], "parabola": []}
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)

        def drawn(center: float, degree: int, rng: Any = rng) -> tuple[Tensor, Tensor]:
            x = rng.normal(center, 1.0, size=2000)
            y = x**2 + 0.5 * rng.normal(size=2000)
            return tensor(x[:, None] ** numpy.arange(1, degree + 1)), tensor(y)

        for degree, found in enumerate(ratios.values(), 1):
            model = Linear(degree, 1, dtype="float64")
            optimizer = SGD(model.named_parameters(), lr=0.1)
            x, y = drawn(0.0, degree)
            for _ in range(200):
                optimizer.zero_grad()
                F.mse_loss(model(x).reshape(-1), y).backward()
                optimizer.step()
            errors = [F.mse_loss(model(x).reshape(-1), y).item() for x, y in (drawn(c, degree) for c in (0.0, 2.0))]
            found.append(errors[1] / errors[0])
    record.stated("parabola: test error after the shift over before", ratios["parabola"], above=2.0)
    record.when("line: test error after the shift over before", ratios["line"], above=2.0)
    record.when("the same for the parabola", ratios["parabola"], below=1.2)
