"""The command ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tinygrad_norm.lab.progress import Bar

from . import rounds
from .cases import SECTIONS, plan
from .contenders import CONTENDERS, ON_GPU, Contender
from .process import ROOT, Process
from .report import BUSY, publish, write

PAGE = ROOT / "docs" / "performance.md"
PUBLISHED = ROOT / "docs" / "performance"
TRIAL = ROOT / "runs" / "benchmarks"
FULL, QUICK = (15, 0.03, 0.06), (3, 0.01, 0.03)
"""Rounds, and seconds of each turn before the timing starts and in it."""


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times this package beside PyTorch, JAX, MyGrad and autograd, as far as they are installed "
        '(pip install ".[bench,fast]"), by turns, and writes tables, pictures and results.json.',
    )
    made.add_argument("--quick", action="store_true", help="a few cases, few rounds, no torch.compile: 90 seconds")
    made.add_argument("--only", metavar="SECTION,...", help=f"some of {','.join(SECTIONS)}")
    made.add_argument(
        "--out", metavar="DIR", type=Path,
        help="where to write. A complete run is by default published: docs/performance/, and the last part of "
        "docs/performance.md; one with --quick or --only goes to runs/benchmarks/",
    )  # fmt: skip
    made.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: train, norms, conv, scaling, bandwidth"
    )
    made.add_argument("--rounds", type=int, help=f"turns of each contender (default {FULL[0]}, quick {QUICK[0]})")
    made.add_argument("--contenders", metavar="NAME,...", help=f"some of {','.join(c.key for c in CONTENDERS)}")
    made.add_argument("--redraw", metavar="DIR", type=Path, help="write tables and pictures of DIR/results.json again")
    return made


def chosen(text: str | None, allowed: list[str], what: str) -> list[str]:
    """The names in a comma-separated text; all when there is none."""
    names = text.split(",") if text else allowed
    unknown = [name for name in names if name not in allowed]
    if unknown:
        raise SystemExit(f"benchmarks: no {what} {', '.join(unknown)}; there are {', '.join(allowed)}")
    return names


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the status is 1 when a contender computed something else."""
    options = parser().parse_args(arguments)
    if options.redraw:
        results = json.loads((options.redraw / "results.json").read_text(encoding="utf-8"))
        write(results, options.redraw)
        if options.redraw.resolve() == PUBLISHED:
            publish(results, PAGE)
        return 0
    sections = chosen(options.only, list(SECTIONS), "section")
    everyone = ON_GPU if options.device == "cuda" else CONTENDERS
    keys = chosen(options.contenders, [c.key for c in everyone], "contender")
    complete = not (options.quick or options.only or options.contenders or options.device == "cuda")
    out = options.out or (PUBLISHED if complete else TRIAL)
    results = benchmark([c for c in everyone if c.key in keys], sections, options.quick, options.rounds)
    results["device"] = options.device
    write(results, out)
    if out == PUBLISHED:
        publish(results, PAGE)
    print(f"wrote {out}")
    wrong = [(case["label"], key, why) for case in results["cases"] for key, why in case["disagree"].items()]
    for label, key, why in wrong:
        print(f"{label}: {key} computes something else: {why}", file=sys.stderr)
    return 1 if wrong else 0


def benchmark(contenders: list[Contender], sections: list[str], quick: bool, turns: int | None) -> dict[str, Any]:
    """All that the report is made of, as plain values."""
    began, load = time.perf_counter(), os.getloadavg()
    if load[0] > BUSY:
        print(
            f"benchmarks: load average {load[0]:.2f}: other programs are running, and figures will be off",
            file=sys.stderr,
        )
    count, warm, seconds = QUICK if quick else FULL
    processes, about, missing = invited(contenders, quick)
    if not processes:
        raise SystemExit("benchmarks: nobody can take part: " + "; ".join(f"{k}: {why}" for k, why in missing.items()))
    cases = []
    bar = Bar(sys.stderr)
    try:
        taken = {section for process in processes.values() for section in process.contender.sections}
        todo = plan([section for section in sections if section in taken], quick)
        for i, case in enumerate(todo, 1):
            here = {key: p for key, p in processes.items() if case["section"] in p.contender.sections}
            if case["section"] == "memory":
                cases.append(rounds.memory(case, here))
            else:
                cases.append(rounds.measure(case, here, turns or count, warm, seconds))
            bar.show("case", i, len(todo), f"{case['section']}: {case['label']}")
    finally:
        bar.close()
        for process in processes.values():
            process.close()
    return {
        "machine": machine(load), "quick": quick, "rounds": turns or count, "seconds": time.perf_counter() - began,
        "contenders": about, "missing": missing, "cases": cases,
    }  # fmt: skip


def invited(contenders: list[Contender], quick: bool) -> tuple[dict[str, Process], dict[str, Any], dict[str, str]]:
    """The processes of those that can take part, what each uses, and {label: why} of the others."""
    missing = {c.label: "left out by --quick" for c in contenders if c.slow and quick}
    waiting = [Process(c) for c in contenders if c.label not in missing and not unfit(c)]
    missing |= {c.label: unfit(c) for c in contenders if unfit(c)}
    processes, about = {}, {}
    for process in waiting:
        c, answer = process.contender, process.hello()
        if "missing" in answer:
            missing[c.label] = answer["missing"]
            process.close()
        else:
            processes[c.key] = process
            about[c.key] = {"label": c.label, "ours": c.ours, "one_thread": c.one_thread, **answer}
    for c in contenders:
        plain = c.key.split("_hint")[0]
        if c.key != plain and c.key in about and about[c.key]["versions"] == about.get(plain, {}).get("versions"):
            processes.pop(c.key).close()
            missing[c.label] = f"changes nothing here: {about.pop(c.key)['versions']['blas']} without it, too"
    return processes, about, missing


def unfit(contender: Contender) -> str:
    """Why this processor cannot run a contender: a hint makes OpenBLAS use AVX whether it is there or not."""
    flag, name = {"SkylakeX": ("avx512f", "AVX-512"), "Zen": ("avx2", "AVX2")}.get(
        contender.environment.get("OPENBLAS_CORETYPE", ""), ("", "")
    )
    return "" if flag in cpu_info("flags") else f"the processor has no {name}, or does not say so"


def machine(load: tuple[float, float, float]) -> dict[str, Any]:
    """What ran the benchmark, and how busy it was."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu_info("model name") or platform.processor() or platform.machine(), "cores": cores,
        "system": platform.platform(terse=True), "python": platform.python_version(),
        "load": {"start": round(load[0], 2), "end": round(os.getloadavg()[0], 2)},
        "date": time.strftime("%Y-%m-%d"), "numba_installed": find_spec("numba") is not None,
    }  # fmt: skip


def cpu_info(what: str) -> str:
    """A line of /proc/cpuinfo; nothing where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(what)), "")
