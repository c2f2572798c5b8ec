"""One case: prepare it everywhere, make sure that all compute the same, then time all by turns."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from .cases import Case
from .contenders import REFERENCE
from .process import Process

RTOL = 1e-3


def measure(case: Case, processes: Mapping[str, Any], rounds: int, warm: float, seconds: float) -> dict[str, Any]:
    """The case with ``times``, seconds of each round for each contender, and ``left_out``, {contender: why}.

    In each round every contender has one turn, in an order drawn anew, so that whatever else the machine does falls on
    all alike.
    """
    left_out: dict[str, str] = {}
    numbers: dict[str, list] = {}
    for key, process in processes.items():
        answer = process.ask("prepare", case=case)
        if "missing" in answer:
            left_out[key] = answer["missing"]
        else:
            numbers[key] = answer["numbers"]
    wrong = disagreements(numbers)
    times: dict[str, list[float]] = {key: [] for key in numbers if key not in wrong}
    order = list(times)
    draw = random.Random(case["label"])
    for _ in range(rounds):
        draw.shuffle(order)
        for key in order:
            answer = processes[key].ask("time", warm=warm, seconds=seconds) if key not in left_out else {}
            if "seconds" in answer:
                times[key].append(answer["seconds"])
            else:
                left_out.setdefault(key, answer.get("missing", ""))
    complete = {key: values for key, values in times.items() if key not in left_out}
    return {**case, "times": complete, "left_out": left_out, "disagree": wrong}


def memory(case: Case, processes: Mapping[str, Process]) -> dict[str, Any]:
    """The case with the MiB of each contender, each in a process that has done nothing else."""
    answers = {}
    for key, process in processes.items():
        alone = Process(process.contender)
        try:
            alone.hello()
            answers[key] = alone.ask("memory", case=case)
        finally:
            alone.close()
    return {
        **case,
        "mib": {key: a for key, a in answers.items() if "missing" not in a},
        "left_out": {key: a["missing"] for key, a in answers.items() if "missing" in a},
        "disagree": {},
    }


def disagreements(numbers: Mapping[str, list[list[float]]]) -> dict[str, str]:
    """Who computes something else than PyTorch, or, without it, than the first: {contender: what}.

    Numbers come in rows, the loss of a step or a sample of an array; an element may be off by RTOL of the largest in
    its row.
    """
    if not numbers:
        return {}
    first = REFERENCE if REFERENCE in numbers else next(iter(numbers))
    found = {}
    for key, rows in numbers.items():
        if len(rows) != len(numbers[first]):
            found[key] = f"{len(rows)} results, {first} has {len(numbers[first])}"
        for i, (mine, right) in enumerate(zip(rows, numbers[first])):
            limit = RTOL * max(map(abs, right))
            if len(mine) != len(right) or not all(abs(a - b) <= limit for a, b in zip(mine, right)):
                found.setdefault(key, f"result {i} is {shown(mine)}; of {first} {shown(right)}")
    return found


def shown(row: list[float]) -> str:
    """The first numbers of a row."""
    return ", ".join(f"{v:.6g}" for v in row[:4]) + (", ..." if len(row) > 4 else "")
