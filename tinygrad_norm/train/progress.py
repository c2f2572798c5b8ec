"""How far training is, on plain text: one live line on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping

from .history import short

REDRAW = 0.1
"""Seconds between two drawings of the live line."""


class Progress:
    """Reports to stderr; does nothing when ``on`` is False.

    Args:
        on: whether to report.
        last_epoch: number of the last epoch.
        steps: batches in an epoch, None where the loader does not say.
        to_do: batches in all, None likewise.
    """

    def __init__(self, on: bool, last_epoch: int, steps: int | None, to_do: int | None) -> None:
        self.stream = sys.stderr if on else None
        self.live = self.stream is not None and self.stream.isatty()
        self.last_epoch, self.steps, self.to_do = last_epoch, steps, to_do
        self.done = 0
        self.shown = ""
        self.began = self.drawn = time.perf_counter()

    def step(self, epoch: int, step: int, values: Callable[[], Mapping[str, float]]) -> None:
        """A batch of the epoch is done; ``values`` are asked for only when the line is drawn."""
        self.done += 1
        now = time.perf_counter()
        if self.live and now - self.drawn >= REDRAW:
            self.drawn = now
            rate = self.done / (now - self.began)
            parts = [f"{step}/{self.steps} steps" if self.steps else f"{step} steps", numbers(values())]
            parts.append(f"{rate:.0f} steps/s" if rate >= 10 else f"{rate:.2g} steps/s")
            if self.to_do:
                parts.append(f"ETA {clock(max(self.to_do - self.done, 0) / rate)}")
            self._draw("  ".join([self._epoch(epoch), *parts]))

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """An epoch is done."""
        line = f"{self._epoch(epoch)}  {numbers(values)}"
        if self.live:
            self._draw(line)
        elif self.stream is not None:
            print(line, file=self.stream, flush=True)

    def clear(self) -> None:
        """Take the live line away, so that something else can be printed."""
        if self.shown:
            self._draw("")

    def close(self) -> None:
        """Leave the live line as it is and go to the next."""
        if self.shown and self.stream is not None:
            print(file=self.stream, flush=True)
            self.shown = ""

    def _epoch(self, epoch: int) -> str:
        return f"epoch {epoch:{len(str(self.last_epoch))}}/{self.last_epoch}"

    def _draw(self, line: str) -> None:
        line = line[: shutil.get_terminal_size().columns - 1]
        print(f"\r{line.ljust(len(self.shown))}" + "\r" * (not line), end="", file=self.stream, flush=True)
        self.shown = line


def numbers(values: Mapping[str, float]) -> str:
    """Names and numbers in a row.

    >>> numbers({"loss": 0.5, "accuracy": 0.81239})
    'loss 0.5     accuracy 0.8124'
    """
    return "  ".join(f"{name} {short(value) or 'nan':<6}" for name, value in values.items()).rstrip()


def clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
