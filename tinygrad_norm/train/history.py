"""What training recorded: one number per quantity and epoch."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..ops.show import html_table
from ..serialize import replacing

SHOWN = 12
"""Rows of a long history that ``repr`` shows."""


class History(Mapping[str, list[float]]):
    """A mapping of names to lists with one number per epoch, all of the same length.

    The Trainer records "loss", the metrics, the same with "val_" in front when there is validation data, "lr" (of the
    first parameter group) and "seconds". What an epoch did not record is NaN.

    Args:
        values: names to lists of equal length to begin with.

    Raises:
        ValueError: lists of different lengths.

    >>> history = History({"loss": [0.7, 0.5]})
    >>> history.append({"loss": 0.25, "accuracy": 0.9})
    >>> history["loss"], history["accuracy"]
    ([0.7, 0.5, 0.25], [nan, nan, 0.9])
    >>> history
    History: 3 epochs
    epoch    loss  accuracy
        1     0.7
        2     0.5
        3    0.25       0.9
    """

    def __init__(self, values: Mapping[str, Sequence[float]] | None = None) -> None:
        self._values = {name: [float(v) for v in column] for name, column in (values or {}).items()}
        lengths = {name: len(column) for name, column in self._values.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"History: all lists must have one number per epoch; got lengths {lengths}")
        self.epochs = max(lengths.values(), default=0)

    def append(self, row: Mapping[str, float]) -> None:
        """Add an epoch."""
        for name in row:
            self._values.setdefault(name, [math.nan] * self.epochs)
        for name, column in self._values.items():
            column.append(float(row.get(name, math.nan)))
        self.epochs += 1

    def __getitem__(self, name: str) -> list[float]:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """The history as CSV, a row for each epoch; written to a file as well when a path is given.

        >>> print(History({"loss": [0.5, 0.25]}).to_csv())
        epoch,loss
        1,0.5
        2,0.25
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["epoch", *self])
        for epoch in range(self.epochs):
            row = [column[epoch] for column in self._values.values()]
            writer.writerow([epoch + 1, *("" if math.isnan(v) else repr(v) for v in row)])
        return _written(text.getvalue(), path)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The history as a JSON object of lists, NaN as null; written to a file as well when a path is given.

        >>> History({"loss": [0.5, 0.25]}).to_json()
        '{"loss": [0.5, 0.25]}'
        """
        finite: dict[str, Any] = {
            name: [v if math.isfinite(v) else None for v in column] for name, column in self.items()
        }
        return _written(json.dumps(finite), path)

    def __repr__(self) -> str:
        if not self._values:
            return self._title()
        rows = [["epoch", *self], *([short(c) if isinstance(c, float) else str(c) for c in r] for r in self._rows())]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        return "\n".join([self._title(), *lines])

    def _repr_html_(self) -> str:
        return html_table(["epoch", *self], self._rows(), self._title())

    def _title(self) -> str:
        return f"History: {self.epochs} epoch{'s' * (self.epochs != 1)}"

    def _rows(self) -> list[list[Any]]:
        """What is shown of each epoch, of many only the first and the last; nothing for NaN."""
        columns = self._values.values()
        rows = [[e + 1, *("" if math.isnan(c[e]) else c[e] for c in columns)] for e in range(self.epochs)]
        if self.epochs > SHOWN:
            rows[SHOWN // 2 : -SHOWN // 2] = [["...", *("" for _ in columns)]]
        return rows


def short(value: float) -> str:
    """A number in four digits; nothing for NaN.

    >>> short(0.123456), short(1e-07), short(float("nan"))
    ('0.1235', '1e-07', '')
    """
    return "" if math.isnan(value) else f"{value:.4g}"


def _written(text: str, path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        with replacing(path) as file:
            file.write(text.encode())
    return text
