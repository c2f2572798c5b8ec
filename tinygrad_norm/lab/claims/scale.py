"""Statements 43 to 53: what scaled weights and scaled data change."""

from __future__ import annotations

import numpy

from .record import Record, claim
from .tools import NORMS, apart, bits_apart, run

LAMBDAS = (1e-3, 0.3, 3.0, 1e3)
POWERS = (2.0**-3, 2.0, 2.0**10)


def samples(seed: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Data (6, 5) and weights (4, 5) in float64."""
    rng = numpy.random.default_rng(seed)
    return rng.normal(size=(6, 5)), rng.normal(size=(4, 5))


@claim(
    43, "Norm(λWx) = Norm(Wx) for batch, layer, weight and cosine norm, for any constant λ", "Not only BN", "ICS notes",
    condition="λ > 0 and eps = 0",
)  # fmt: skip
def weight_scale(record: Record) -> None:
    """For λ > 0 and eps = 0 all four are equal to rounding, and bitwise equal where λ is a power of two. A negative λ
    turns the sign of all four, so "any constant" is too much; and with eps > 0 small weights lose the invariance: at
    eps = 1e-5 and λ = 0.001 batch norm changes by more than half. Layer norm needs the whole matrix scaled."""
    for name, norm in NORMS.items():
        found, exact, negative = [], [], []
        for seed in record.seeds:
            x, w = samples(seed)
            y = run(norm, x, w)[0]
            found += [apart(run(norm, x, k * w)[0], y) for k in LAMBDAS]
            exact += [bits_apart(run(norm, x, k * w)[0], y) for k in POWERS]
            negative.append(apart(run(norm, x, -2 * w)[0], y))
        record.stated(f"{name}: largest relative change, λ = -2", max(negative), below=1e-12)
        record.when(f"{name}: largest relative change, λ from 0.001 to 1000", max(found), below=1e-12)
        record.when(f"{name}: entries that differ in a bit, λ a power of two", max(exact), equals=0)
    x, w = samples(0)
    small = apart(run(lambda x, w: NORMS["batch"](x, w, 1e-5), x, 1e-3 * w)[0], run(NORMS["batch"], x, w)[0])
    record.figure("batch: relative change at eps = 1e-5, λ = 0.001", small)


@claim(
    45, "∂Norm(λWx)/∂(λW) = (1/λ) ∂Norm(Wx)/∂W", "Not only BN", "ICS notes", condition="λ > 0 and eps = 0",
)  # fmt: skip
def weight_gradient(record: Record) -> None:
    """The gradient by the weights is 1/λ times the old one: exactly for a power of two, to rounding for other λ > 0.
    For a negative λ the output turns its sign, and the factor is 1/|λ|."""
    for name, norm in NORMS.items():
        found, exact, negative = [], [], []
        for seed in record.seeds:
            x, w = samples(seed)
            _, _, by_w = run(norm, x, w)
            found += [apart(run(norm, x, k * w)[2] * k, by_w) for k in LAMBDAS]
            exact += [bits_apart(run(norm, x, k * w)[2] * k, by_w) for k in POWERS]
            negative.append(apart(run(norm, x, -2 * w)[2] * -2, by_w))
        record.stated(f"{name}: λ times the gradient against the old one, λ = -2", max(negative), below=1e-12)
        record.when(f"{name}: the same, λ from 0.001 to 1000", max(found), below=1e-12)
        record.when(f"{name}: entries that differ in a bit, λ a power of two", max(exact), equals=0)
