"""``tinygrad-norm compare``: the nets with and without normalization."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any

from ..lab.compare import compare
from ..lab.progress import Bar
from ..lab.report import comparison
from .arguments import add_command, add_no_pictures, show, whole


def add(commands: Any) -> None:
    """The command ``compare``."""
    new = add_command(
        commands, "compare", run,
        "Compare the normalizations: train the same net without normalization and with batch, layer, weight\n"
        "and cosine normalization on 1,797 images of digits, over learning rates from 0.001 to 100 and\n"
        "three seeds, by plain SGD. Takes less than a minute on two cores.",
        "compare", "compare --quick", "compare --seeds 5 --out runs/five", "compare --quick --json > results.json",
    )  # fmt: skip
    new.add_argument("--quick", action="store_true", help="six learning rates, one seed, fewer steps: seconds")
    new.add_argument("--seeds", type=whole(1), metavar="N", help="how many seeds, from --seed on (3; quick: 1)")
    new.add_argument("--out", default="runs/compare", metavar="DIR", help="folder to write (%(default)s)")
    add_no_pictures(new)


def run(args: Any) -> None:
    """Run ``compare``."""
    bar = Bar(sys.stderr)
    with closing(bar):
        results = compare(
            args.out, quick=args.quick, seeds=args.seeds, seed=args.seed, device=args.device,
            pictures=not args.no_pictures, progress=None if args.quiet else bar,
        )  # fmt: skip
    seconds = results["environment"]["seconds"]
    drawn = "" if args.no_pictures else ", accuracy and curves (.png, .svg)"
    summary = {name: value for name, value in results.items() if name != "runs"} | {"folder": args.out}
    show(
        args,
        summary,
        f"{comparison(results)}\n\ntrained in {seconds:.0f} s; in {args.out}: results (.json, .csv), best-*.npz{drawn}",
    )
