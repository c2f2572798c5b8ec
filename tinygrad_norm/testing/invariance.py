"""Measure what a normalization ignores: scaled and shifted weights and data, and what its gradients make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import numpy

from .. import functional as F
from ..engine import Tensor
from ..engine.tensor import describe
from ..nn import Parameter
from ..ops.calculus import grad
from ..ops.create import ones, tensor
from ..optim import SGD
from .invariance_report import Certificate, InvarianceTable, Measured
from .trial import gradient_of

CASES, FEATURES, UNITS = 32, 8, 6
SHAPES = ((CASES, FEATURES), (UNITS, FEATURES), (CASES, UNITS))
STEPS = 10
TINY = 1e-300
LIMITS = {"float64": 1e-12, "float32": 1e-5}
"""The largest deviation that counts as none, by dtype."""

Normalization = Callable[[Tensor, Tensor, float], Tensor]
"""Data x (N, D), weight W (H, D) and eps in, normalized pre-activations (N, H) out."""


def by_weight_norm(x: Tensor, w: Tensor, eps: float) -> Tensor:
    """x v^T with each row of v a row of W, divided by its length."""
    return F.linear(x, F.weight_norm(w, ones(len(w), 1, dtype=w.dtype, device=w.device), eps=eps))


NORMALIZATIONS: dict[str, Normalization] = {
    "none": lambda x, w, eps: F.linear(x, w),
    "batch": lambda x, w, eps: F.batch_norm(F.linear(x, w), training=True, eps=eps),
    "weight": by_weight_norm,
    "layer": lambda x, w, eps: F.layer_norm(F.linear(x, w), len(w), eps=eps),
    "cosine": lambda x, w, eps: F.cosine_linear(x, w, eps),
    "centered_cosine": lambda x, w, eps: F.cosine_linear(x, w, eps, centered=True),
    "rms": lambda x, w, eps: F.rms_norm(F.linear(x, w), len(w), eps=eps),
    "weight_standardization": lambda x, w, eps: F.linear(x, F.weight_standardization(w, eps)),
    "weight_mean_only": lambda x, w, eps: F.mean_only_batch_norm(by_weight_norm(x, w, eps), training=True),
}
"""The normalizations by name, without gain and bias; "none" is the linear map alone."""

VARIANCES: dict[str, Callable[[Any, Any], Any]] = {
    "batch": lambda x, w: (x @ w.T).var(0),
    "layer": lambda x, w: (x @ w.T).var(1, keepdims=True),
    "rms": lambda x, w: ((x @ w.T) ** 2).mean(1, keepdims=True),
    "weight_standardization": lambda x, w: w.var(1),
}
"""What eps is added to, where it is added to something; the others take it as the least length of a vector."""


@dataclass(frozen=True)
class Change:
    """x -> x_scale x + x_shift, W -> w_scale W + w_shift."""

    name: str
    formula: str
    x_scale: Any = 1.0
    w_scale: Any = 1.0
    x_shift: Any = 0.0
    w_shift: Any = 0.0


def changes(scale: float, seed: int) -> list[Change]:
    """The rescalings and recenterings of Ba, Kiros, Hinton 2016 (Table 1), and three more."""
    random = numpy.random.default_rng((seed, 1))

    def first(n: int) -> Any:
        return numpy.where(numpy.arange(n) == 0, scale, 1.0)[:, None]

    def shift(*shape: int) -> Any:
        return random.uniform(0.5, 1.5, shape)

    s = f"{scale:g}"
    return [
        Change("weight scale", f"W -> {s} W", w_scale=scale),
        Change("weight shift", "W -> W + 1 c^T", w_shift=shift(1, FEATURES)),
        Change("row scale", f"W[0] -> {s} W[0]", w_scale=first(UNITS)),
        Change("data scale", f"x -> {s} x", x_scale=scale),
        Change("data shift", "x -> x + 1 c^T", x_shift=shift(1, FEATURES)),
        Change("case scale", f"x[0] -> {s} x[0]", x_scale=first(CASES)),
        Change("row constants", "W -> W + c 1^T", w_shift=shift(UNITS, 1)),
        Change("case constants", "x -> x + c 1^T", x_shift=shift(CASES, 1)),
        Change("weight sign", "W -> -W", w_scale=-1.0),
    ]


@dataclass(frozen=True)
class Subject:
    """A normalization at a point: data, weight and cotangent, as float64 arrays of values that ``dtype`` holds."""

    fn: Normalization
    x: Any
    w: Any
    cotangent: Any
    dtype: str
    device: str | None

    def tensor(self, a: Any) -> Tensor:
        """A leaf with the values of ``a``."""
        return tensor(numpy.asarray(a, self.dtype), device=self.device, requires_grad=True)

    def value(self, x: Tensor, w: Tensor, eps: float) -> Tensor:
        """The pre-activations."""
        y = self.fn(x, w, eps)
        if not isinstance(y, Tensor) or y.shape != (CASES, UNITS):
            raise TypeError(
                f"check_invariance: a normalization takes x {x.shape}, weight {w.shape} and eps, and returns a Tensor "
                f"of shape {(CASES, UNITS)}; got {describe(y)}"
            )
        return y

    def at(self, eps: float, change: Change | None = None, signs: Any = 1.0) -> list[Any]:
        """Pre-activations and, for the cotangent times ``signs``, their gradients by x and W, as float64 arrays."""
        x, w = self.x, self.w
        if change is not None:
            x, w = x * change.x_scale + change.x_shift, w * change.w_scale + change.w_shift
        leaves = self.tensor(x), self.tensor(w)
        y = self.value(*leaves, eps)
        g = tensor(self.cotangent * signs, dtype=y.dtype, device=y.device)
        by = grad(y, leaves, g, allow_unused=True)
        found = [y, *(0.0 * leaf if g is None else g for g, leaf in zip(by, leaves, strict=True))]
        return [t.numpy().astype(float) for t in found]

    def measure(self, change: Change, eps: float, eps_after: float) -> Measured:
        """What a change does, with another eps behind it than before."""
        limit = LIMITS[self.dtype]
        old, new = self.at(eps), self.at(eps_after, change)
        signs = numpy.sign(change.x_scale) * numpy.sign(change.w_scale).T * numpy.ones_like(old[0])
        deviation, flipped = distance(new[0], old[0]), distance(new[0], signs * old[0])
        if deviation <= limit:
            verdict, expected = "invariant", old
        elif flipped <= limit:
            verdict, deviation, expected = "sign", flipped, self.at(eps, signs=signs)
            expected[0] *= signs
        else:
            f = multiple(new[0], old[0], limit)
            verdict, expected = "not", [a * (1.0 if f is None else f) for a in old]
        scales = (1.0, change.x_scale, change.w_scale)
        factors = [multiple(moved(a, s), moved(b, s), limit) for a, b, s in zip(new, old, scales, strict=True)]
        ruled = [a * s for a, s in zip(new, scales, strict=True)]
        exact = [numpy.array_equal(a, b) for a, b in zip(ruled, expected, strict=True)]
        off = [distance(a, b) for a, b in zip(ruled, expected, strict=True)]
        return Measured(change.name, change.formula, verdict, deviation, *factors, *off[1:], *exact)  # type: ignore[arg-type]


def draw(fn: Normalization, dtype: str, seed: int, device: str | None) -> Subject:
    """Random data, weights and a cotangent."""
    random = numpy.random.default_rng(seed)
    x, w, cotangent = (random.normal(0.5, 1.0, n).astype(dtype).astype(float) for n in SHAPES)
    return Subject(fn, x, w, cotangent, dtype, device)


def distance(a: Any, b: Any) -> float:
    """The largest difference, over the largest entry of ``b``."""
    return float(numpy.max(abs(a - b)) / (numpy.max(abs(b)) or 1.0))


def multiple(a: Any, b: Any, limit: float) -> float | None:
    """The f of a = f b; None when there is none."""
    square = float(numpy.sum(b * b))
    f = float(numpy.sum(a * b)) / square if square else 0.0
    return f if numpy.max(abs(a - f * b)) <= limit * numpy.max(abs(a)) else None


def moved(a: Any, scale: Any) -> Any:
    """The entries that were scaled; all when none was."""
    mask = numpy.broadcast_to(scale, a.shape) != 1
    return a[mask] if mask.any() else a


def check_invariance(
    norm: str | Normalization, *, dtype: str = "float64", seed: int = 0, eps: float = 0.0, scale: float = 2.0,
    device: str | None = None,
) -> Certificate:  # fmt: skip
    """Measure which rescalings and recenterings of weights and data a normalization does not see.

    Random data x (32, 8), weights W (6, 8) and cotangents; then the transformations of Ba, Kiros, Hinton 2016 (Table 1)
    and three more; after each, the pre-activations and their gradients are compared with those before. For a layer that
    is blind to lambda W, the gradient by W is 1/lambda times the old one and at a right angle to W, so that plain SGD
    makes W longer: ||W'||^2 = ||W||^2 + rate^2 ||gradient||^2 (Salimans, Kingma 2016; Arora, Li, Lyu 2018).

    Verdicts come from the measurement and a limit on the deviation: 1e-12 in float64, 1e-5 in float32. With eps > 0 no
    normalization by a variance is invariant to the last digits; what eps does is measured too.

    Args:
        norm: one of ``testing.invariance.NORMALIZATIONS`` ("batch", "weight", "layer", "cosine", "centered_cosine",
            "rms", "weight_standardization", "weight_mean_only", "none"), or a function (x, weight, eps) -> (N, H).
        dtype: "float64" or "float32".
        seed: of data, weights and cotangents.
        eps: what the normalization adds to a variance, or takes as the least length.
        scale: lambda; for a power of two and eps = 0 what holds, holds to the bit.
        device: where to compute; by default the default device.

    Returns:
        A :class:`Certificate`; ``print(certificate)`` is a table.

    Raises:
        ValueError: an unknown name or dtype, a scale that is 0, 1 or not finite, a negative eps.
        TypeError: the function returns something else than pre-activations.

    >>> from tinygrad_norm import testing
    >>> found = testing.check_invariance("batch")
    >>> [found[name].verdict for name in ("weight scale", "weight shift", "weight sign")]
    ['invariant', 'not', 'sign']
    >>> found["weight scale"].w_factor, found["weight scale"].exact
    (0.5, True)
    """
    if dtype not in LIMITS:
        raise ValueError(f"check_invariance: dtype must be 'float64' or 'float32'; got {dtype!r}")
    if not isfinite(scale) or scale in (0, 1):
        raise ValueError(f"check_invariance: scale must be a finite number other than 0 and 1; got {scale!r}")
    if not 0 <= eps < inf:
        raise ValueError(f"check_invariance: eps must be 0 or positive; got {eps!r}")
    name, fn, variance = resolved(norm)
    subject = draw(fn, dtype, seed, device)
    listed = changes(scale, seed)
    row_angle, matrix_angle = angles(subject.w, subject.at(eps)[2])
    row_growth, matrix_growth = growth(subject, eps)
    return Certificate(
        norm=name, dtype=dtype, eps=float(eps), scale=float(scale), seed=seed, limit=LIMITS[dtype],
        lines=tuple(subject.measure(change, eps, eps) for change in listed),
        paired=subject.measure(listed[0], eps, eps * scale**2) if eps else None,
        closed_form=closed_form(subject, variance, listed[0], eps) if eps and variance else None,
        row_angle=row_angle, matrix_angle=matrix_angle, row_growth=row_growth, matrix_growth=matrix_growth,
    )  # fmt: skip


def resolved(norm: str | Normalization) -> tuple[str, Normalization, Any]:
    """Name, function, and what gives the variances that eps is added to (None: unknown, or there are none)."""
    if not isinstance(norm, str):
        return getattr(norm, "__name__", type(norm).__name__), norm, None
    if norm not in NORMALIZATIONS:
        known = ", ".join(NORMALIZATIONS)
        raise ValueError(f"check_invariance: norm must be one of {known}, or a function; got {norm!r}")
    return norm, NORMALIZATIONS[norm], VARIANCES.get(norm)


def angles(w: Any, by_w: Any) -> tuple[float, float]:
    """abs(cos) between W and its gradient: the largest of a row, and that of the whole matrix."""
    along, lengths = numpy.sum(w * by_w, 1), numpy.sqrt(numpy.sum(w * w, 1) * numpy.sum(by_w * by_w, 1))
    whole = float(numpy.sqrt(numpy.sum(w * w) * numpy.sum(by_w * by_w)))
    return float(numpy.max(abs(along) / numpy.maximum(lengths, TINY))), abs(float(along.sum())) / max(whole, TINY)


def closed_form(subject: Subject, variance: Any, scaled: Change, eps: float) -> float:
    """How far scaled weights are from rho times the old value, rho = sqrt((s^2 + eps) / (s^2 + eps / scale^2))."""
    s2 = variance(subject.x, subject.w)
    rho = numpy.sqrt((s2 + eps) / (s2 + eps / scaled.w_scale**2)) * numpy.sign(scaled.w_scale)
    return distance(subject.at(eps, scaled)[0], rho * subject.at(eps)[0])


def growth(subject: Subject, eps: float) -> tuple[float, float]:
    """The largest error of ||w'||^2 = ||w||^2 + rate^2 ||gradient||^2 over steps of SGD, for rows and for the matrix.

    Each step has a cotangent of its own; the rate makes the first step a third as long as W.
    """
    x, w = subject.tensor(subject.x).detach(), Parameter(subject.tensor(subject.w))
    first = float(numpy.sum(subject.at(eps)[2] ** 2))
    if not 0 < first < inf:  # nothing would move, or to nowhere
        return 0.0 * first, 0.0 * first
    rate = float(numpy.sqrt(numpy.sum(subject.w**2) / first)) / 3
    optimizer = SGD([w], lr=rate)
    random = numpy.random.default_rng(1)
    rows = matrix = 0.0
    for _ in range(STEPS):
        before = w.numpy().astype(float)
        optimizer.zero_grad()
        y = subject.value(x, w, eps)
        y.backward(tensor(random.normal(0.0, 1.0, y.shape), dtype=y.dtype, device=y.device))
        optimizer.step()
        step = (rate * gradient_of(w).astype(float)) ** 2
        error = w.numpy().astype(float) ** 2 - before**2 - step
        rows = max(rows, float(numpy.max(abs(error.sum(1)) / numpy.maximum(step.sum(1), TINY))))
        matrix = max(matrix, float(abs(error.sum()) / max(step.sum(), TINY)))
    return rows, matrix


def certificates(norms: Sequence[str | Normalization] | None = None, **options: Any) -> InvarianceTable:
    """:func:`check_invariance` of several normalizations (by default of all), with the same options."""
    return InvarianceTable(tuple(check_invariance(norm, **options) for norm in norms or NORMALIZATIONS))


def invariance_table(norms: Sequence[str | Normalization] | None = None, **options: Any) -> InvarianceTable:
    """Measure several normalizations and print the truth table, with the measured deviations.

    Args:
        norms: names or functions, as for :func:`check_invariance`; by default all names.
        **options: of :func:`check_invariance`.

    Returns:
        What was printed, with a :class:`Certificate` for each normalization.

    >>> from tinygrad_norm import testing
    >>> table = testing.invariance_table(["batch", "layer"]) # doctest: +ELLIPSIS
    norm   weight  weight    row     data   data ...
           scale   shift     scale   scale  shift ...
    batch  yes 0   no 0.89   yes 0   yes 0  ...
    layer  yes 0   yes ...
    >>> table["layer"]["row scale"].verdict
    'not'
    """
    table = certificates(norms, **options)
    print(table)
    return table
