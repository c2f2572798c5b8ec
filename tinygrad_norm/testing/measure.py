"""Measured slopes of a function, compared with computed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy

from ..engine import Tensor
from ..ops.create import tensor
from .report import Line

COMPLEX_STEP = 1e-20
DIRECTIONS = 8

Arrays = list[numpy.ndarray]
Evaluate = Callable[[list[Any]], Arrays]
"""Values of all variables in, values of all outputs out."""


@dataclass(frozen=True)
class Variable:
    """One thing to differentiate by: its name, its value on the host, and where it lives."""

    name: str
    value: numpy.ndarray
    device: str

    def leaf(self) -> Tensor:
        """A fresh leaf with a copy of the value."""
        return tensor(self.value, device=self.device, requires_grad=True)

    def constant(self) -> Tensor:
        """A fresh Tensor with a copy of the value, needing no gradient."""
        return tensor(self.value, device=self.device)


@dataclass(frozen=True)
class Settings:
    """How to measure and what to accept."""

    step: float
    atol: float
    rtol: float
    complex: bool
    directional: bool

    def agree(self, a: Any, b: Any) -> Any:
        """Whether two slopes are equal within the tolerances."""
        return abs(a - b) <= self.atol + self.rtol * numpy.maximum(abs(a), abs(b))


@dataclass
class Findings:
    """What has come to light so far."""

    random: numpy.random.Generator
    lines: list[Line] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def like(self, tensors: list[Tensor], name: str) -> list[Variable]:
        """A random cotangent in [-1, 1] for each tensor."""
        draws = [self.random.uniform(-1, 1, y.shape).astype(y.dtype) for y in tensors]
        return [Variable(f"{name} {i}", d, y.device) for i, (y, d) in enumerate(zip(tensors, draws, strict=True))]


@dataclass(frozen=True)
class Slopes:
    """Slopes of <cotangents, outputs> along directions of one variable."""

    evaluate: Evaluate
    values: list[Any]
    k: int
    cotangents: Arrays
    base: Arrays

    def at(self, move: Any) -> Arrays:
        """The outputs with the variable moved."""
        moved = self.values[self.k] + move
        return self.evaluate([*self.values[: self.k], moved, *self.values[self.k + 1 :]])

    def complex(self, direction: Any) -> float:
        """The derivative along a direction, by the complex step."""
        outputs = self.at(1j * COMPLEX_STEP * direction)
        return (
            float(sum(numpy.sum(c * numpy.imag(y)) for c, y in zip(self.cotangents, outputs, strict=True)))
            / COMPLEX_STEP
        )

    def sides(self, direction: Any, h: float) -> tuple[float, float]:
        """Slopes just before and just after the point; their mean is the central difference."""
        move = (h * direction).astype(direction.dtype)
        down, up = self.at(-move), self.at(move)
        left = right = 0.0
        with numpy.errstate(invalid="ignore", over="ignore"):
            for c, low, here, high in zip(self.cotangents, down, self.base, up, strict=True):
                left += float(numpy.sum(c.astype(float) * numpy.subtract(here, low, dtype=float)))
                right += float(numpy.sum(c.astype(float) * numpy.subtract(high, here, dtype=float)))
        return left / h, right / h

    def kink(self, sides: tuple[float, float], direction: Any, h: float, floor: float) -> bool:
        """Whether the two sides differ for another reason than curvature, whose share halves with the step."""
        jump = sides[1] - sides[0]
        if not abs(jump) > 1e-3 * max(map(abs, sides)) + 10 * floor:
            return False
        left, right = self.sides(direction, h / 2)
        return not 0.4 < (right - left) / jump < 0.6


def probes(found: Findings, x: numpy.ndarray, settings: Settings) -> Iterator[tuple[tuple[int, ...], Any, float]]:
    """(name, direction, step) for every entry, or for a few random directions."""
    if settings.directional:
        for i in range(DIRECTIONS):
            yield (i,), found.random.uniform(-1, 1, x.shape).astype(x.dtype), settings.step
        return
    for index in numpy.ndindex(x.shape):
        unit = numpy.zeros_like(x)
        unit[index] = 1.0
        yield index, unit, settings.step * max(1.0, abs(float(x[index])))


def compare(
    found: Findings, evaluate: Evaluate, variables: list[Variable], cotangents: Arrays, gradients: Arrays,
    settings: Settings, order: int, complex_evaluate: Evaluate | None = None,
) -> None:  # fmt: skip
    """One line per variable: its computed gradient against measured slopes (complex steps where there is a way)."""
    values = [v.value for v in variables]
    base = evaluate(values)
    for k, (v, gradient) in enumerate(zip(variables, gradients, strict=True)):
        if not v.value.size:
            found.lines.append(Line(v.name, order, v.value.shape, (), 0.0, 0.0, 0.0, 0.0, 0, "empty"))
            continue
        real = Slopes(evaluate, values, k, cotangents, base)
        names, analytic, numeric, kinks = [], [], [], {}
        for name, direction, h in probes(found, v.value, settings):
            names.append(name)
            analytic.append(float(numpy.sum(gradient * direction)))
            if complex_evaluate is not None:
                numeric.append(Slopes(complex_evaluate, values, k, cotangents, base).complex(direction))
                if abs(numeric[-1] - analytic[-1]) <= settings.atol * max(1.0, abs(analytic[-1])):
                    continue  # only a disagreement makes it worth looking for a kink
            sides = real.sides(direction, h)
            if complex_evaluate is None:
                slope = 0.5 * (sides[0] + sides[1])
                if not settings.agree(slope, analytic[-1]):  # so that strong curvature is no false alarm (Richardson)
                    slope = (4.0 * 0.5 * sum(real.sides(direction, h / 2)) - slope) / 3.0
                numeric.append(slope)
            if real.kink(sides, direction, h, max(settings.atol, 1e-8)):
                kinks[len(names) - 1] = sides
        judge(found, v, order, names, numpy.array(analytic), numpy.array(numeric), kinks, settings)


def judge(
    found: Findings, v: Variable, order: int, names: list[tuple[int, ...]], analytic: Any, numeric: Any,
    kinks: dict[int, tuple[float, float]], settings: Settings,
) -> None:  # fmt: skip
    """Write one line, and what there is to say about it."""
    error = numpy.abs(analytic - numeric)
    scale = numpy.maximum(numpy.abs(analytic), numpy.abs(numeric))
    largest = float(numpy.max(numpy.abs(numeric)))
    atol = settings.atol * max(1.0, largest) if settings.complex else settings.atol
    bad = ~(error <= atol + settings.rtol * scale)  # written so that a NaN is bad
    for i, sides in kinks.items():  # at a kink every slope between the two sides is a fair answer
        slack = atol + 1e-3 * max(map(abs, sides))
        bad[i] = not min(sides) - slack <= analytic[i] <= max(sides) + slack
    i = int(numpy.argmax(numpy.where(bad | ~bad.any(), numpy.where(numpy.isnan(error), numpy.inf, error), -1.0)))
    relative = float(error[i] / scale[i]) if scale[i] else 0.0
    kind = "direction" if settings.directional else "entry"
    verdict = "ok"
    if bad.any():
        verdict = "WRONG"
        computed = "backward gives" if order == 1 else "the graph of the gradient gives"
        found.failures.append(
            f"{v.name}, {kind} {names[i]}: {computed} {analytic[i]:.10g}, measured {numeric[i]:.10g} "
            f"({int(bad.sum())} of {bad.size} wrong{factor(analytic, numeric)})"
        )
    elif kinks:
        verdict = "kink"
        j, sides = next(iter(kinks.items()))
        found.warnings.append(
            f"{v.name}, {kind} {names[j]}: not differentiable there: slope {sides[0]:.6g} before, {sides[1]:.6g} "
            f"after, backward gives {analytic[j]:.6g}; move the input away from the kink"
        )
    elif order == 1 and largest <= atol:
        verdict = "zero"
        found.warnings.append(
            f"{v.name}: the measured gradient is zero everywhere (at most {largest:.1e}), so the check proves nothing; "
            "is the output constant, as the sum of a standardized output is?"
        )
    found.lines.append(
        Line(
            v.name, order, v.value.shape, names[i], float(analytic[i]), float(numeric[i]), float(error[i]), relative,
            int(bad.sum()), verdict,
        )
    )  # fmt: skip


def factor(analytic: Any, numeric: Any) -> str:
    """The common factor of a gradient that is wrong by one: the most frequent mistake."""
    usable = numpy.abs(numeric) > 1e-3 * numpy.max(numpy.abs(numeric), initial=0.0)
    if usable.sum() < 2:
        return ""
    ratios = analytic[usable] / numeric[usable]
    common = float(numpy.median(ratios))
    same = numpy.all(abs(ratios - common) <= 1e-5 * abs(common)) and abs(common - 1) > 2e-5
    return f"; every one by the factor {common:.6g}" if same else ""
