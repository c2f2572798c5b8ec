"""Results as Markdown, JSON and pictures."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from .contenders import REFERENCE, REFERENCE_ONE

BEGIN, END = "<!-- results: written by python -m benchmarks -->", "<!-- end of results -->"
BUSY = 0.5
"""Load average above which a machine is not idle."""
TITLES = {
    "train": ("A training step", "Batch size, sizes of the layers, normalization of the hidden ones; ReLU, "
              "cross-entropy, Adam, float32. Every step reads its loss."),
    "norms": ("A normalization alone, forward and backward", "float32; the gradient of every operand. WeightNorm: of a "
              "weight of that shape. CosineNorm: a linear layer with a square weight, products of matrices included."),
    "conv": ("A convolution, forward and backward", "Kernel 3x3, padding 1, float32; pictures and channels before and "
             "after; the gradients of pictures, weight and bias."),
    "overhead": ("The cost of recording", "A chain of multiplications of 2x2 matrices, forward and backward, where "
                 "arithmetic is negligible: time per operation."),
    "scaling": ("Deeper and wider nets", "A training step with BatchNorm: batch 64 for the deep nets, 128 for the wide "
                "ones."),
    "memory": ("Memory of training", "BatchNorm. MiB that parameters, optimizer, batch and the steps add at the most: "
               "to the process (JAX: with what its compiler keeps), and, where NumPy holds the arrays, as tracemalloc "
               "counts them."),
    "bandwidth": ("Kernels beside a copy", "Forward or backward of a normalization on large float32 arrays, no graph: "
                  "bytes that its kernels read and write, by the time; in brackets the share of the fastest copy. "
                  "Batch norm reads x twice; backward reads both arrays twice where it sums over the rows."),
}  # fmt: skip


def write(results: dict[str, Any], folder: Path) -> None:
    """results.json, results.md and the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    drawn = []
    if find_spec("matplotlib"):
        from .pictures import draw

        drawn = draw(results, folder)
    else:
        print('no pictures: matplotlib is not installed; write pip install "tinygrad_norm[viz]"')
    text = "# Benchmark results\n\n" + body(results, drawn, "", details=True)
    (folder / "results.md").write_text(text, encoding="utf-8")


def publish(results: dict[str, Any], page: Path) -> None:
    """Put the summary in the place of the last one, between the two marks of a page."""
    text = page.read_text(encoding="utf-8")
    head, mark, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{page}: expected a line {BEGIN!r} and, after it, {END!r}")
    folder = page.with_suffix("").name
    drawn = [p.name for p in sorted(page.with_suffix("").glob("*.png"))]
    summary = body(results, drawn, folder + "/", details=False)
    link = f"Every contender, with times and spread: [results.md]({folder}/results.md); every round: "
    link += f"[results.json]({folder}/results.json).\n\n"
    page.write_text(f"{head}{mark}\n\n{summary}{link}{end}{tail}", encoding="utf-8")


def body(results: dict[str, Any], drawn: list[str], prefix: str, details: bool) -> str:
    """All sections; ``details``: with every time and its spread."""
    parts = [machine_text(results), *in_short(results)]
    for section, (title, text) in TITLES.items():
        cases = [
            case for case in results["cases"] if case["section"] == section and (case.get("times") or case.get("mib"))
        ]
        if not cases:
            continue
        parts.append(f"## {title}\n\n{text}")
        if f"{section}.png" in drawn:
            parts.append(f"![{title}]({prefix}{section}.png)")
        if section == "memory":
            parts.append(memory_table(cases, results["contenders"]))
            continue
        if section == "bandwidth":
            parts.append(bandwidth_table(cases, results["contenders"]))
        parts += matrices(cases, results["contenders"])
        if details:
            parts.append(detail_table(cases, results["contenders"]))
    parts.append(left_out_text(results))
    return "\n\n".join(parts) + "\n\n"


def machine_text(results: dict[str, Any]) -> str:
    """Where and how the figures came about."""
    m, load = results["machine"], results["machine"]["load"]
    versions: dict[str, str] = {}
    for about in results["contenders"].values():
        versions |= {name: v for name, v in about["versions"].items() if name != "blas"}
    blas = dict.fromkeys(
        a["versions"]["blas"] for a in results["contenders"].values() if a["ours"] and "blas" in a["versions"]
    )
    lines = [
        f"{m['date']}, {m['cpu']}, {m['cores']} cores, {m['system']}, Python {m['python']}, "
        + ", ".join(f"{name} {v}" for name, v in versions.items())
        + "".join(f"; {text}" for text in blas) + ".",
        f"Load average {load['start']} when it started and {load['end']} when it ended"
        + (" (the benchmark itself)." if load["start"] < BUSY else "; **other programs were running**."),
        "Every contender is a process of its own and has one turn in each round, in random order; there were "
        f"{results['rounds']} rounds.",
        "Before timing, their losses and gradients were compared (relative tolerance 0.001).",
        "Figures are medians over the rounds. *2.00 means twice as fast as PyTorch*, measured in the same round;",
        "≈ says that the middle half of the rounds lies on both sides of 1. The fastest of a row is bold.",
    ]  # fmt: skip
    if results["quick"]:
        lines.append("**A quick run: few cases, few rounds.**")
    if results.get("device", "cpu") != "cpu":
        lines.append(f"All contenders computed on {results['device']}.")
    return "\n".join(lines)


def in_short(results: dict[str, Any]) -> list[str]:
    """One sentence for each net with batch norm."""
    lines = []
    for case in results["cases"]:
        if case["section"] == "train" and case["norm"] == "batch" and REFERENCE in case["times"]:
            mine = [key for key in ("fast", "numpy") if key in case["times"]]
            told = [
                f"{results['contenders'][key]['label']} {time_text(middle(case, key), middle(case, REFERENCE))} "
                f"({in_words(ratio(case, key, REFERENCE)[1])})"
                for key in mine
            ]
            if told:
                lines.append(f"* {case['label']}: PyTorch {time_text(middle(case, REFERENCE))}, {', '.join(told)}.")
    return ["In short:\n\n" + "\n".join(lines)] if lines else []


def in_words(value: float) -> str:
    """A ratio as one says it.

    >>> in_words(2.0), in_words(0.8), in_words(1.004)
    ('2.00 times as fast', '1.25 times as slow', 'as fast')
    """
    if abs(value - 1) < 0.02:
        return "as fast"
    return f"{value:.2f} times as fast" if value > 1 else f"{1 / value:.2f} times as slow"


def middle(case: dict[str, Any], key: str) -> float:
    """Median seconds of one contender; of one operation in a chain."""
    return statistics.median(case["times"][key]) / case.get("length", 1)


def ratio(case: dict[str, Any], key: str, reference: str) -> tuple[float, float, float]:
    """Quartiles, over the rounds, of how many times as fast as the reference a contender was."""
    ratios = [theirs / mine for mine, theirs in zip(case["times"][key], case["times"][reference])]
    if len(ratios) == 1:
        return (ratios[0],) * 3
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, median, high


def time_text(seconds: float, like: float | None = None) -> str:
    """Three digits and a unit, that of ``like`` where it is given.

    >>> time_text(0.00012345), time_text(0.0309), time_text(2.5e-6), time_text(0.009, 0.0309)
    ('123 us', '30.9 ms', '2.50 us', '9.00 ms')
    """
    unit, scale = ("ms", 1e3) if (like or seconds) >= 0.01 else ("us", 1e6)
    value = seconds * scale
    return f"{value:.{max(0, 2 - len(str(int(value))) + 1)}f} {unit}" if value < 1000 else f"{value:,.0f} {unit}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table whose first column is text and the others figures."""
    head = list(head)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def matrices(cases: list[dict[str, Any]], about: dict[str, Any]) -> list[str]:
    """A row for each case and a column for each contender: all beside PyTorch, and one thread beside one thread."""
    parts = [
        matrix(cases, about, REFERENCE, [key for key in about if not (about[key]["ours"] and about[key]["one_thread"])])
    ]
    alone = [key for key in about if about[key]["one_thread"]]
    if REFERENCE_ONE in alone and any(key in case["times"] for case in cases for key in alone if key != REFERENCE_ONE):
        parts += ["One thread each:", matrix(cases, about, REFERENCE_ONE, alone)]
    return parts  # fmt: skip


def matrix(cases: list[dict[str, Any]], about: dict[str, Any], reference: str, keys: list[str]) -> str:
    """Times of the reference and ratios of the others; times of all where there is no reference."""
    keys = [key for key in keys if any(key in case["times"] for case in cases)]
    if reference in keys:
        keys.remove(reference)
        keys.insert(0, reference)
    rows = []
    for case in cases:
        here = [key for key in keys if key in case["times"]]
        beside = reference if reference in here else here[0]
        best = max(here, key=lambda key: ratio(case, key, beside)[1])
        cells = [cell(case, key, reference) if key in here else "-" for key in keys]
        cells[keys.index(best)] = f"**{cells[keys.index(best)]}**"
        rows.append([case["label"], *cells])
    return table(["", *(about[key]["label"] for key in keys)], rows)


def cell(case: dict[str, Any], key: str, reference: str) -> str:
    """A time for the reference, a ratio for others."""
    if key == reference or reference not in case["times"]:
        return time_text(middle(case, key))
    low, median, high = ratio(case, key, reference)
    return f"{'≈' if low < 1 < high else ''}{median:.2f}"


def detail_table(cases: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """All contenders of each case, the fastest first."""
    rows = []
    for case in cases:
        for key in sorted(case["times"], key=lambda key: middle(case, key)):
            row = [case["label"], about[key]["label"], time_text(middle(case, key))]
            for reference in (REFERENCE, REFERENCE_ONE):
                if reference in case["times"]:
                    low, median, high = ratio(case, key, reference)
                    row.append(f"{median:.2f} ({low:.2f} to {high:.2f})")
                else:
                    row.append("-")
            rows.append(row)
    head = ["", "contender", "median", "times as fast as PyTorch (middle half)", "as PyTorch with 1 thread"]
    return table(head, rows)


def memory_table(cases: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """MiB of each contender."""
    keys = [key for key in about if any(key in case["mib"] for case in cases)]
    rows = []
    for case in cases:
        for what, text in (("resident", "process"), ("traced", "tracemalloc")):
            cells = [f"{case['mib'][key][what]:.1f}" if what in case["mib"].get(key, {}) else "-" for key in keys]
            if set(cells) != {"-"}:
                rows.append([f"{case['label']}: {text}", *cells])
    return table(["MiB", *(about[key]["label"] for key in keys)], rows)


def bandwidth_table(cases: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """GB/s of each contender, and how much of the fastest copy of such an array that is."""
    keys = [key for key in about if any(key in case["times"] for case in cases)]
    copies = [case for case in cases if case["work"] == "copy"]
    fastest = {tuple(case["shape"]): min((middle(case, key) for key in case["times"]), default=0.0) for case in copies}
    rows = []
    for case in cases:
        copied = 8 * prod(case["shape"]) / fastest[tuple(case["shape"])] if fastest.get(tuple(case["shape"])) else 0.0
        row = [case["label"]]
        for key in keys:
            speed = case["bytes"] / middle(case, key) if key in case["times"] else 0.0
            share = f" ({speed / copied:.0%})" if copied else ""
            row.append(f"{speed / 1e9:,.0f}{share}" if speed else "-")
        rows.append(row)
    return table(["GB/s", *(about[key]["label"] for key in keys)], rows)


def left_out_text(results: dict[str, Any]) -> str:
    """Who is missing, and why; and who computed something else."""
    label = {key: about["label"] for key, about in results["contenders"].items()}
    lines = [f"* {name}: {why}." for name, why in results["missing"].items()]
    wrong = []
    where: dict[tuple[str, str], list[str]] = {}
    for case in results["cases"]:
        here = f"{case['section']}, {case['label']}"
        wrong += [f"* {label[key]}, {here}: {why}." for key, why in case["disagree"].items()]
        for key, why in case["left_out"].items():
            where.setdefault((label[key], why), []).append(here)
    for (name, why), cases in where.items():
        lines.append(f"* {name}, {'; '.join(cases[:3])}{f' and {len(cases) - 3} more' if cases[3:] else ''}: {why}.")
    text = "Left out:\n\n" + "\n".join(lines) if lines else "Nobody was left out."
    return text + ("\n\n**Computed something else, and not timed:**\n\n" + "\n".join(wrong) if wrong else "")
