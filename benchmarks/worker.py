"""One contender's process: answers one request a line, in JSON.

    python -m benchmarks.worker LIBRARY [FLAG ...]

The first line it writes says which versions it uses, or what is missing. Requests: {"do": "prepare", "case": ...} gives
the numbers by which the contenders are compared; {"do": "time", "warm": seconds, "seconds": seconds} the time of one
run; {"do": "memory", "case": ...} the memory of one.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy

from .cases import Case
from .libraries import Missing

STEPS = 4  # of training, whose losses must agree
SAMPLE = 2e-4  # seconds; shorter runs are timed several at once
REST = 0.5  # seconds that a contender's threads are given to come to rest
TINY = {"batch": 64, "sizes": (64, 64, 64, 10)}
MIB = 2**20


class Worker:
    """What the process holds: its library, and the case that was prepared last."""

    def __init__(self, library: Any, flags: list[str]) -> None:
        self.library, self.flags = library, flags
        self.run: Callable[[], Any] = lambda: None

    def prepare(self, case: Case) -> dict[str, Any]:
        """Make the case ready; the numbers are the losses of the first steps and a sample of the results."""
        self.run = lambda: None  # the case before gives its memory back first
        gc.collect()
        self.run, results = self.library.make(case, self.flags)
        losses = [self.run() for _ in range(STEPS)]
        return {"numbers": [[v] for v in losses if v is not None] + [sample(a) for a in results()]}

    def time(self, warm: float, seconds: float) -> dict[str, Any]:
        """Median seconds of one run, after some that are not counted, in which the caches fill again."""
        clock, run = time.perf_counter, self.run
        began, runs = clock(), 0
        while not runs or clock() - began < warm:
            run()
            runs += 1
        inner = max(1, round(SAMPLE * runs / (clock() - began)))
        began, times = clock(), []
        while not times or clock() - began < seconds:
            start = clock()
            for _ in range(inner):
                run()
            times.append((clock() - start) / inner)
        rest()
        return {"seconds": statistics.median(times)}

    def memory(self, case: Case) -> dict[str, Any]:
        """MiB that training adds: to the process, and, where NumPy holds the arrays, as NumPy counts them.

        A tiny net is trained first, for all that is loaded at the first use.
        """
        self.prepare(case | TINY)
        self.prepare(case | TINY)
        before = resident("VmRSS")
        self.prepare(case)
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far, which is that of preparing
        for _ in range(STEPS):
            self.run()
        peak = resident("VmHWM")
        self.run = lambda: None
        if "numpy" not in self.library.versions(self.flags):
            return {"resident": peak - before}
        tracemalloc.start()
        self.prepare(case)
        tracemalloc.reset_peak()
        self.run()
        traced = tracemalloc.get_traced_memory()[1] / MIB
        tracemalloc.stop()
        return {"resident": peak - before, "traced": traced}


def rest() -> None:
    """Wait until the threads of this process no longer run: OpenBLAS's turn for 0.1 s, on the next contender's core."""
    end = time.perf_counter() + REST
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.002:
            return


def resident(what: str) -> float:
    """MiB of memory that this process has now (VmRSS) or had at most (VmHWM)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError as error:
        raise Missing("the memory of a process is read from /proc, which only Linux has") from error
    return next(int(line.split()[1]) for line in lines if line.startswith(what + ":")) / 1024


def sample(array: Any) -> list[float]:
    """Root mean square of an array, and a few of its elements."""
    flat = numpy.asarray(array, "float64").reshape(-1)
    return [float(numpy.sqrt(numpy.mean(flat**2))), *flat[:: max(1, len(flat) // 16)].tolist()]


def main() -> None:
    """Serve until the requests end."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not come between the answers

    def answer(text: dict[str, Any]) -> None:
        print(json.dumps(text), file=channel, flush=True)

    name, *flags = sys.argv[1:]
    try:
        library = import_module(f"benchmarks.libraries.{name}")
        answer({"versions": library.versions(flags)})
    except (ImportError, Missing) as error:
        answer({"missing": str(error)})
        return
    worker = Worker(library, flags)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(getattr(worker, request.pop("do"))(**request))
        except Exception as error:
            answer({"missing": f"{type(error).__name__}: {error}" if not isinstance(error, Missing) else str(error)})


if __name__ == "__main__":
    main()
