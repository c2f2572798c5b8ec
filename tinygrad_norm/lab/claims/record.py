"""A statement about normalization and its measurement: what was required, what was found, and the verdict from both."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy

HOLDS, WHEN, FAILS, UNDECIDED = "holds", "holds when", "does not hold", "undecided"
RULES: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "below": ("≤", operator.le), "above": ("≥", operator.ge), "equals": ("=", operator.eq),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One measured figure: of one value, or the mean and spread of a value for each seed."""

    what: str
    mean: float
    spread: float | None
    kind: str  # "stated": the statement as it is written; "when": under its condition; "figure": nothing is required
    rule: str = ""
    limit: float | None = None
    met: bool = True

    def text(self) -> str:
        """The figure with what was required of it.

        >>> Finding("deviation", 1e-16, None, "stated", "≤", 1e-12).text()
        'deviation: 1e-16 (required: ≤ 1e-12)'
        """
        value = f"{self.mean:.4g}" + ("" if self.spread is None else f" ± {self.spread:.2g}")
        if self.limit is None:
            return f"{self.what}: {value}"
        return f"{self.what}: {value} ({'required' if self.met else 'NOT MET'}: {self.rule} {self.limit:g})"


@dataclass(frozen=True)
class Claim:
    """A statement of the documents and the function that measures it."""

    number: int
    sentence: str
    sources: tuple[str, ...]
    condition: str
    measure: Callable[[Record], None]

    @property
    def explanation(self) -> str:
        """What the measurement does and what it shows: the function's docstring in one paragraph."""
        return " ".join((self.measure.__doc__ or "").split())


CLAIMS: dict[int, Claim] = {}
"""Number -> statement, filled by :func:`claim`."""


def claim(number: int, sentence: str, *sources: str, condition: str = "") -> Callable[[Any], Any]:
    """Enter a function as the measurement of a statement.

    Args:
        number: the statement's number.
        sentence: what the documents say, in one English sentence.
        *sources: short names of the documents that say it.
        condition: under which it holds where it does not hold as written; completes "holds when ...".

    Raises:
        ValueError: the number is taken.
    """

    def enter(measure: Callable[[Record], None]) -> Callable[[Record], None]:
        if number in CLAIMS:
            raise ValueError(f"claim: statement {number} is there already: {CLAIMS[number].measure.__name__}")
        CLAIMS[number] = Claim(number, sentence, sources, condition, measure)
        return measure

    return enter


@dataclass
class Record:
    """Where a measurement writes what it finds.

    Attributes:
        quick: whether to be quick: fewer sizes, steps and seeds, the same conclusions.
        seeds: the seeds of an experiment; at least three unless quick.
        pictures: functions without arguments that draw a matplotlib figure, with captions.
    """

    quick: bool = False
    seeds: Sequence[int] = (0, 1, 2)
    findings: list[Finding] = field(default_factory=list)
    pictures: list[tuple[str, Callable[[], Any]]] = field(default_factory=list)

    def stated(self, what: str, value: Any, **rule: float) -> None:
        """A figure that decides whether the statement holds as it is written.

        Args:
            what: what was measured, in a few words.
            value: a number, or one number for each seed; the mean is judged. NaN meets no rule.
            **rule: exactly one of ``below``, ``above``, ``equals``, with the limit.
        """
        self._add("stated", what, value, rule)

    def when(self, what: str, value: Any, **rule: float) -> None:
        """A figure that decides whether the statement holds under its condition, or, for a statement without one, that
        shows what holds instead; arguments as in :meth:`stated`."""
        self._add("when", what, value, rule)

    def figure(self, what: str, value: Any) -> None:
        """A figure of which nothing is required."""
        self._add("figure", what, value, {})

    def picture(self, caption: str, draw: Callable[[], Any]) -> None:
        """A picture: ``draw`` gives a matplotlib figure, and is called only where pictures are wanted."""
        self.pictures.append((caption, draw))

    def _add(self, kind: str, what: str, value: Any, rule: dict[str, float]) -> None:
        values = numpy.asarray(value, dtype=float).reshape(-1)
        mean = float(values.mean())
        spread = float(values.std(ddof=1)) if values.size > 1 else None
        if kind == "figure":
            self.findings.append(Finding(what, mean, spread, kind))
            return
        if len(rule) != 1 or not set(rule) <= set(RULES):
            raise TypeError(f"{kind}: give one of {', '.join(RULES)}; got {', '.join(rule) or 'nothing'} for {what!r}")
        [(name, limit)] = rule.items()
        sign, compare = RULES[name]
        met = not math.isnan(mean) and compare(mean, limit)
        self.findings.append(Finding(what, mean, spread, kind, sign, float(limit), met))

    def verdict(self, conditional: bool = True) -> str:
        """HOLDS, WHEN, FAILS or UNDECIDED.

        What is measured under the condition, or shows what holds instead (``when``), must be met in any case: a
        measurement that does not find what it rests on, as with a broken implementation, gives no verdict. So a
        statement only fails where it was shown what holds instead.

        Args:
            conditional: whether the statement has a condition; without one, ``when`` is what holds instead of it.
        """
        stated = [f.met for f in self.findings if f.kind == "stated"]
        when = [f.met for f in self.findings if f.kind == "when"]
        if not stated and not when:
            raise ValueError("verdict: nothing was required, so nothing can be concluded")
        if not all(when):
            return UNDECIDED
        if stated and all(stated):
            return HOLDS
        return UNDECIDED if not when else WHEN if conditional else FAILS
