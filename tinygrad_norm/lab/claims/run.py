"""Measure statements, and show what came out as a table, as plain values, and as a page."""

from __future__ import annotations

import math
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ...backend import manual_seed
from ...backend.openblas import one_thread
from ...engine import get_default_device
from ...ops.show import html_table
from ..config import environment
from ..folders import require, writable_folder, write, write_json
from ..pictures import rendered
from .documents import CORRECTIONS, DOCUMENTS
from .page import page
from .record import CLAIMS, FAILS, HOLDS, UNDECIDED, WHEN, Claim, Record

Result = dict[str, Any]


class Results(list[Result]):
    """What :func:`measure` gives: a list of results, that prints as text and that a notebook shows as a table."""

    def __repr__(self) -> str:
        return claims_text(self)

    def _repr_html_(self) -> str:
        rows = [[r["number"], r["sentence"], r["verdict"], deciding(r)] for r in self]
        return html_table(["number", "statement", "verdict", "decided by"], rows, total(self))


def measure(
    only: Iterable[int] | None = None, *, quick: bool = False, seed: int = 0, pictures: bool = False,
    progress: Callable[[int, int, Result], Any] | None = None,
) -> Results:  # fmt: skip
    """Measure the statements, on the default device.

    Sets the seed of this thread's random numbers before each (``tn.manual_seed``).

    Args:
        only: numbers of statements; None for all.
        quick: fewer steps, sizes and seeds.
        seed: the first of three seeds (of one, when quick) that experiments use.
        pictures: draw them (needs matplotlib); they come as "svg" text.
        progress: called after each with the number of those done, the number of all, and the result.

    Returns:
        A list with an entry per statement that has "number", "sentence", "documents", "verdict", "condition",
        "explanation", "findings", "pictures" and "seconds".

    Raises:
        ValueError: there is no statement of that number.

    >>> [result] = measure([45], quick=True)
    >>> result["verdict"]
    'holds when λ > 0 and eps = 0'
    """
    chosen = [_claim(number) for number in (sorted(CLAIMS) if only is None else dict.fromkeys(only))]
    seeds = tuple(range(seed, seed + (1 if quick else 3)))
    results = Results()
    with one_thread():
        for entry in chosen:
            results.append(_measured(entry, quick, seeds, pictures))
            if progress is not None:
                progress(len(results), len(chosen), results[-1])
    return results


def _claim(number: int) -> Claim:
    if number not in CLAIMS:
        raise ValueError(f"claims: there is no statement {number}; the numbers are {ranges(sorted(CLAIMS))}")
    return CLAIMS[number]


def ranges(numbers: list[int]) -> str:
    """Sorted integers, neighbours drawn together.

    >>> ranges([1, 2, 3, 5, 7, 8])
    '1-3, 5, 7-8'
    """
    groups: list[list[int]] = []
    for n in numbers:
        if groups and n == groups[-1][-1] + 1:
            groups[-1].append(n)
        else:
            groups.append([n])
    return ", ".join(str(g[0]) if len(g) == 1 else f"{g[0]}-{g[-1]}" for g in groups)


def _measured(entry: Claim, quick: bool, seeds: tuple[int, ...], pictures: bool) -> Result:
    began = time.perf_counter()
    manual_seed(seeds[0])
    record = Record(quick, seeds)
    entry.measure(record)
    verdict = record.verdict(bool(entry.condition))
    drawn = [(caption, rendered(draw())["svg"].decode()) for caption, draw in record.pictures] if pictures else []
    return {
        "number": entry.number, "sentence": entry.sentence, "documents": list(entry.sources),
        "verdict": f"{verdict} {entry.condition}" if verdict == WHEN else verdict, "condition": entry.condition,
        "explanation": entry.explanation,
        "findings": [{"text": f.text()} | {k: plain(v) for k, v in vars(f).items()} for f in record.findings],
        "pictures": [{"caption": caption, "svg": svg} for caption, svg in drawn],
        "seconds": round(time.perf_counter() - began, 2),
    }  # fmt: skip


def plain(value: Any) -> Any:
    """A value as JSON has it: None for a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def claims_text(results: list[Result]) -> str:
    """The results in words: of each statement its number, the verdict, the sentence and the figure that decided."""
    blocks = [
        "\n".join(
            [f"{r['number']:>3}  {r['verdict']}", *wrapped(r["sentence"]), *wrapped(f"decided by {deciding(r)}", "- ")]
        )
        for r in results
    ]
    return "\n".join([*blocks, "", total(results)])


def total(results: list[Result]) -> str:
    """How often each verdict was found."""
    counts = Counter(r["verdict"].removesuffix(r["condition"]).strip() for r in results)
    names = {HOLDS: "hold", WHEN: "hold under a condition", FAILS: "do not hold", UNDECIDED: "are undecided"}
    return f"of {len(results)} statements " + ", ".join(f"{counts[kind]} {name}" for kind, name in names.items())


def wrapped(text: str, mark: str = "") -> list[str]:
    """Lines of at most 110 characters, indented."""
    return textwrap.wrap(text, 110, initial_indent=" " * 5 + mark, subsequent_indent=" " * (5 + len(mark)))


def deciding(result: Result) -> str:
    """The figure that decided: the first requirement that was not met, else the first of those that were.

    Of those not met, first what must be met in any case.
    """
    required = [f for f in result["findings"] if f["kind"] != "figure"]
    return min(required, key=lambda f: 2 if f["met"] else f["kind"] == "stated")["text"]


def report(results: list[Result], out: str | Path) -> Path:
    """Write ``claims.json`` and ``index.html``, a page that needs no network; measured on the default device.

    Returns:
        The page's path.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = writable_folder(out)
    seconds = round(sum(r["seconds"] for r in results), 1)
    where = environment(get_default_device()) | {"seconds": seconds}
    values = {"documents": DOCUMENTS, "corrections": [list(c) for c in CORRECTIONS], "results": results}
    write_json(folder / "claims.json", {"format": 1, "experiment": "claims", "environment": where, **values})
    write(folder / "index.html", page(results, DOCUMENTS, CORRECTIONS, where))
    return folder / "index.html"


def require_pictures() -> None:
    """Refuse before anything is measured where pictures are wanted and cannot be drawn."""
    require("matplotlib", "lab", "or leave the pictures out: --no-pictures")
