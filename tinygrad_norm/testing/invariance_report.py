"""What an invariance check found, as a table, as Markdown and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from textwrap import wrap

from ..ops.show import html_table
from .report import aligned, markdown_table, plain_json

LINE_HEADS = ("transformation", "", "verdict", "deviation", "value", "gradient by x", "gradient by W", "to the bit")

UNBROKEN = "\N{NO-BREAK SPACE}"
"""Keeps a formula on one line."""


@dataclass(frozen=True)
class Measured:
    """One transformation of data x and weight W, and what became of the pre-activations and of their gradients.

    A factor is what a value or a gradient comes out multiplied by (a gradient: in the rows that were scaled, or in all
    when none was); None where it is no multiple. Gradients must follow the chain rule: where x or W is multiplied by s
    and the value by f, s times the new gradient is f times the old.

    Attributes:
        name: of the transformation.
        formula: what it does, "W -> 2 W".
        verdict: "invariant", "sign" (the value changes its sign where the scale is negative) or "not".
        deviation: largest distance from the old value (for "sign": with its sign changed), over the largest entry.
        value_factor, x_factor, w_factor: of the value and of its gradients by x and by W.
        x_deviation, w_deviation: how far the gradients are from what the chain rule says, over the largest entry.
        value_exact, x_exact, w_exact: whether value and gradients are what they must be to the last bit.
    """

    name: str
    formula: str
    verdict: str
    deviation: float
    value_factor: float | None
    x_factor: float | None
    w_factor: float | None
    x_deviation: float
    w_deviation: float
    value_exact: bool
    x_exact: bool
    w_exact: bool

    @property
    def exact(self) -> bool:
        """Whether value and both gradients are what they must be to the last bit."""
        return self.value_exact and self.x_exact and self.w_exact

    def _cells(self) -> tuple[str, ...]:
        return (
            self.name, self.formula, self.verdict, short(self.deviation), factor(self.value_factor),
            factor(self.x_factor), factor(self.w_factor), "yes" if self.exact else "",
        )  # fmt: skip


@dataclass(frozen=True)
class Certificate:
    """The result of :func:`check_invariance`; ``print(certificate)`` is a table.

    Attributes:
        norm, dtype, eps, scale, seed: what was measured.
        limit: the largest deviation that counts as none.
        lines: one :class:`Measured` per transformation; ``certificate["weight scale"]`` is one of them.
        paired: for eps > 0, scaled weights with eps times scale^2: invariant again. None at eps = 0.
        closed_form: for eps > 0, how far scaled weights are from rho times the old value, with
            rho = sqrt((s^2 + eps) / (s^2 + eps / scale^2)) and s^2 the variance divided by; None where there is none.
        row_angle, matrix_angle: the largest abs(w . dw) / (|w| |dw|) of a row, and that of the whole matrix.
        row_growth, matrix_growth: the same for ||w'||^2 = ||w||^2 + rate^2 ||dw||^2, over ten steps of SGD, in units
            of the last term.
    """

    norm: str
    dtype: str
    eps: float
    scale: float
    seed: int
    limit: float
    lines: tuple[Measured, ...]
    paired: Measured | None
    closed_form: float | None
    row_angle: float
    matrix_angle: float
    row_growth: float
    matrix_growth: float

    def __getitem__(self, name: str) -> Measured:
        for line in self.lines:
            if line.name == name:
                return line
        raise KeyError(f"no transformation {name!r}; there are {', '.join(line.name for line in self.lines)}")

    def _title(self) -> str:
        return (
            f"{self.norm}: {self.dtype}, scale {self.scale:g}, eps {self.eps:g}, seed {self.seed}; "
            f"a deviation of at most {self.limit:g} counts as none"
        )

    def _notes(self) -> list[str]:
        notes = [
            f"angle of W and its gradient (cosine): {self.row_angle:.1e} for single rows, "
            f"{self.matrix_angle:.1e} for the whole matrix",
            "growth ||W'||^2 = ||W||^2 + rate^2 ||gradient||^2 by SGD, error over the last term: "
            f"{self.row_growth:.1e} for single rows, {self.matrix_growth:.1e} for the whole matrix",
        ]
        if self.paired is not None:
            bits = ", to the bit" if self.paired.exact else ""
            notes.append(
                f"{self.scale:g} W with eps {self.eps * self.scale**2:g}: deviation {self.paired.deviation:.1e}{bits}"
            )
        if self.closed_form is not None:
            notes.append(f"{self.scale:g} W with the same eps: {self.closed_form:.1e} off the closed form")
        return notes

    def __str__(self) -> str:
        rows = [LINE_HEADS, *(line._cells() for line in self.lines)]
        return "\n".join([self._title(), *aligned(rows), *self._notes()])

    def _repr_html_(self) -> str:
        return html_table(LINE_HEADS, [line._cells() for line in self.lines], self._title(), self._notes())

    def to_markdown(self) -> str:
        """The table in Markdown."""
        table = markdown_table(LINE_HEADS, [line._cells() for line in self.lines])
        return "\n".join([self._title(), "", *table, "", *(f"* {note}" for note in self._notes())]) + "\n"

    def to_json(self) -> str:
        """Everything as JSON; numbers that JSON does not have are written as text ("nan", "inf")."""
        return json.dumps(plain_json(asdict(self)), indent=2)


@dataclass(frozen=True, repr=False)
class InvarianceTable:
    """The result of :func:`invariance_table`: a row per normalization, a column per transformation.

    Attributes:
        certificates: one :class:`Certificate` per normalization, in the order of the rows.
    """

    certificates: tuple[Certificate, ...]

    def __getitem__(self, norm: str) -> Certificate:
        for c in self.certificates:
            if c.norm == norm:
                return c
        raise KeyError(f"no normalization {norm!r}; there are {', '.join(c.norm for c in self.certificates)}")

    def __repr__(self) -> str:
        return f"<InvarianceTable of {', '.join(c.norm for c in self.certificates)}>"

    def _cells(self, words: dict[str, str]) -> list[tuple[str, ...]]:
        return [
            (c.norm, *(f"{words[line.verdict]} {short(line.deviation)}" for line in c.lines)) for c in self.certificates
        ]

    def _notes(self) -> list[str]:
        first = self.certificates[0]
        return [
            f"{first.dtype}, eps {first.eps:g}, seed {first.seed}. The number is the measured deviation, over the "
            f"largest value; yes: at most {first.limit:g}; sign: at most that, with the sign changed.",
            "; ".join(f"{line.name}: {line.formula}".replace(" ", UNBROKEN) for line in first.lines) + ".",
        ]

    def __str__(self) -> str:
        heads = [("norm", *(line.name.split()[i] for line in self.certificates[0].lines)) for i in (0, 1)]
        heads[1] = ("", *heads[1][1:])
        table = aligned([*heads, *self._cells({"invariant": "yes", "sign": "sign", "not": "no"})])
        notes = [line.replace(UNBROKEN, " ") for note in self._notes() for line in wrap(note, 118)]
        return "\n".join([*table, "", *notes])

    def _repr_html_(self) -> str:
        heads = ("norm", *(line.name for line in self.certificates[0].lines))
        return html_table(heads, self._cells({"invariant": "yes", "sign": "sign", "not": "no"}), "", self._notes())

    def to_markdown(self) -> str:
        """The table in Markdown."""
        heads = ("norm", *(line.name for line in self.certificates[0].lines))
        table = markdown_table(heads, self._cells({"invariant": "**yes**", "sign": "*sign*", "not": "no"}))
        return "\n".join([*table, "", *(f"* {note}" for note in self._notes())]).replace(UNBROKEN, " ") + "\n"

    def to_json(self) -> str:
        """Everything as JSON; numbers that JSON does not have are written as text ("nan", "inf")."""
        return json.dumps(plain_json([asdict(c) for c in self.certificates]), indent=2)


def short(deviation: float) -> str:
    """A deviation for people to read.

    >>> short(0.0), short(0.8341), short(2.2e-16)
    ('0', '0.83', '2e-16')
    """
    return "0" if deviation == 0 else f"{deviation:.2g}" if deviation >= 0.01 else f"{deviation:.0e}"


def factor(f: float | None) -> str:
    """A factor for people to read."""
    return "no multiple" if f is None else f"x {f:.6g}"
