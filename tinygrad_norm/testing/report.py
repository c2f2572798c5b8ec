"""What a gradient check found, as a table, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite

from ..ops.show import html_table


class GradientError(AssertionError):
    """A gradient is wrong, or the function breaks a rule that gradients rely on."""


class GradientWarning(UserWarning):
    """A gradient check that proves less than it seems to."""


@dataclass(frozen=True)
class Line:
    """The worst entry of one input.

    Attributes:
        name: "input 0", "parameter weight" or, for second derivatives, also "cotangent 0".
        order: 1 for the gradient, 2 for the derivative of the gradient.
        shape: shape of the input.
        index: place of the worst entry; in directional mode the number of the worst direction.
        analytic: what backward computes there.
        numeric: what differences or the complex step measure there.
        abs_error: the distance of the two.
        rel_error: that distance divided by the larger of the two.
        wrong: how many entries (or directions) are out of tolerance.
        verdict: "ok", "WRONG", "kink" (not differentiable there), "zero" (the check proves nothing) or "empty".
    """

    name: str
    order: int
    shape: tuple[int, ...]
    index: tuple[int, ...]
    analytic: float
    numeric: float
    abs_error: float
    rel_error: float
    wrong: int
    verdict: str


HEADS = ("input", "order", "shape", "worst at", "backward", "measured", "abs error", "rel error", "verdict")


@dataclass(frozen=True)
class Report:
    """The result of :func:`gradcheck`: true when everything is right; ``print(report)`` is a table.

    Attributes:
        lines: the worst entry of every input, per order.
        failures: what is wrong, in words.
        warnings: what the check cannot prove, in words.
        method: "central" or "complex".
        mode: "full" or "directional".
        seed: seed of the random cotangents (and directions).
    """

    lines: tuple[Line, ...]
    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    method: str
    mode: str
    seed: int

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failures

    def __bool__(self) -> bool:
        return self.ok

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                line.name, str(line.order), str(line.shape), str(line.index), f"{line.analytic:.10g}",
                f"{line.numeric:.10g}", f"{line.abs_error:.1e}", f"{line.rel_error:.1e}", line.verdict,
            )
            for line in self.lines
        ]  # fmt: skip

    def _notes(self) -> list[str]:
        return [f"WRONG: {text}" for text in self.failures] + [f"warning: {text}" for text in self.warnings]

    def _title(self) -> str:
        verdict = "every gradient is right" if self.ok else f"{len(self.failures)} wrong"
        return f"gradcheck ({self.method}, {self.mode}, seed {self.seed}): {verdict}"

    def __str__(self) -> str:
        return "\n".join([self._title(), *aligned([HEADS, *self._cells()]), *self._notes()])

    def _repr_html_(self) -> str:
        return html_table(HEADS, self._cells(), self._title(), self._notes())

    def to_markdown(self) -> str:
        """The table in Markdown."""
        notes = [f"* {note}" for note in self._notes()]
        return "\n".join([*markdown_table(HEADS, self._cells()), "", *notes]).rstrip() + "\n"

    def to_json(self) -> str:
        """Everything as JSON; numbers that JSON does not have are written as text ("nan", "inf")."""
        return json.dumps(plain_json({"ok": self.ok, **asdict(self)}), indent=2)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of text with the cells of each column below each other.

    >>> aligned([("a", "b"), ("long", "c")])
    ['a     b', 'long  c']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table.

    >>> markdown_table(["a"], [["1"]])
    ['| a |', '| --- |', '| 1 |']
    """
    return ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows)]


def plain_json(x: object) -> object:
    """``x`` with what JSON does not have ("nan", "inf") as text."""
    if isinstance(x, dict):
        return {key: plain_json(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain_json(value) for value in x]
    return str(x) if isinstance(x, float) and not isfinite(x) else x
