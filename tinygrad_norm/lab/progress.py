"""How far a command is: a live line on a terminal, ten lines in all elsewhere."""

from __future__ import annotations

import shutil
import time
from typing import Any, TextIO

WIDTH = 24
REDRAW = 0.1
"""Seconds between two drawings of the live line."""


class Bar:
    """What ``compare`` calls after each run, as its ``progress``; and ``show``, which others call in theirs.

    Args:
        stream: where to write.

    >>> import sys
    >>> bar = Bar(sys.stdout)
    >>> bar(1, 1, {"norm": "batch", "learning_rate": 0.1, "test_accuracy": 0.5, "diverged": False})
    run 1 of 1, batch, rate 0.1: 50.0 %; 0 s, 0 s left
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.live = stream, stream.isatty()
        self.began = time.perf_counter()
        self.drawn = 0.0
        self.shown = ""

    def __call__(self, done: int, total: int, run: dict[str, Any]) -> None:
        score = "diverged" if run["diverged"] else f"{100 * run['test_accuracy']:.1f} %"
        self.show("run", done, total, f"{run['norm']}, rate {run['learning_rate']:.3g}: {score}")

    def show(self, unit: str, done: int, total: int, what: str) -> None:
        """Say that so many are done, and what the last one was."""
        now = time.perf_counter()
        spent = now - self.began
        left = f"{spent:.0f} s, {spent / done * (total - done):.0f} s left"
        if not self.live:
            if done * 10 // total > (done - 1) * 10 // total:
                print(f"{unit} {done} of {total}, {what}; {left}", file=self.stream, flush=True)
        elif now - self.drawn >= REDRAW or done == total:
            self.drawn = now
            filled = WIDTH * done // total
            self._draw(f"[{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{total}  {left}  {what}")

    def close(self) -> None:
        """Take the live line away, when one is there."""
        if self.shown:
            self._draw("")
            print(end="\r", file=self.stream, flush=True)

    def _draw(self, line: str) -> None:
        line = line[: shutil.get_terminal_size().columns - 1]
        print(f"\r{line.ljust(len(self.shown))}", end="", file=self.stream, flush=True)
        self.shown = line
