"""``tinygrad-norm claims``: what is said about normalization, measured."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from typing import Any

from ..lab.claims import DOCUMENTS, claims_text, measure, report, require_pictures
from ..lab.progress import Bar
from .arguments import add_command, add_no_pictures, show, whole


def numbers(text: str) -> tuple[int, ...]:
    """A type of argument: numbers of statements, with commas and ranges.

    >>> numbers("43,45-47")
    (43, 45, 46, 47)
    """
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        named = range(whole(1)(first), whole(1)(last or first) + 1)
        if not named:
            raise argparse.ArgumentTypeError(f"a range goes from the smaller number to the larger; got {part!r}")
        found += named
    return tuple(found)


def add(commands: Any) -> None:
    """The command ``claims``."""
    new = add_command(
        commands, "claims", run,
        "Measure what is said about normalization: every statement of five articles, with a verdict that\n"
        "follows from the figures. Takes about three minutes on two cores; --quick half a minute.",
        "claims --quick", "claims --only 43,45-48", "claims --out runs/claims", "claims --quick --json > claims.json",
    )  # fmt: skip
    new.add_argument("--quick", action="store_true", help="one seed, fewer steps")
    new.add_argument("--only", type=numbers, metavar="N,N", help="numbers of statements, ranges too: 43,45-48 (all)")
    new.add_argument("--out", metavar="DIR", help="folder to write: a page with pictures (index.html), claims.json")
    add_no_pictures(new)


def run(args: Any) -> None:
    """Run ``claims``."""
    pictures = args.out is not None and not args.no_pictures
    if pictures:
        require_pictures()
    bar = Bar(sys.stderr)

    def progress(done: int, total: int, result: dict[str, Any]) -> None:
        bar.show("statement", done, total, f"{result['number']}: {result['verdict']}")

    with closing(bar):
        results = measure(
            args.only, quick=args.quick, seed=args.seed, pictures=pictures, progress=None if args.quiet else progress
        )
    where = "" if args.out is None else f"\n\nto read in a browser: {report(results, args.out)}"
    show(args, {"documents": DOCUMENTS, "results": results, "folder": args.out}, claims_text(results) + where)
