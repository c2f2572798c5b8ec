"""The same work in each library.

Every module has ``versions()``, {package: version}, which raises Missing when it cannot run here, and
``make(case, flags)``, which prepares a case and gives ``run`` and ``results``: ``run()`` does the work once (a training
step returns its loss), ``results()`` gives the arrays of the last run that must be the same in every library. A module
raises Missing, too, for a case that the library has no way to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Missing(Exception):
    """What is needed and is not here; the text goes into the report."""


def queued(case: dict, work: Callable[[], tuple], wait: Callable[[], None], to_host: Callable) -> tuple:
    """``run`` and ``results`` of work that is done as often as the case says, before it waits for all of it."""
    last: list[Any] = []

    def run() -> None:
        for _ in range(case["length"]):
            last[:] = work()
        wait()

    return run, lambda: [to_host(a) for a in last]
