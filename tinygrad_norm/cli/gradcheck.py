"""``tinygrad-norm gradcheck``: every gradient, checked."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from typing import Any

from ..lab.gradients import check_gradients, gradients_text, names, unknown
from ..lab.progress import Bar
from .arguments import add_command, device, show, whole


def checkable(text: str) -> str:
    """A type of argument: an operation or layer that ``gradcheck`` knows."""
    if text not in names():
        raise argparse.ArgumentTypeError(unknown(text))
    return text


def add(commands: Any) -> None:
    """The command ``gradcheck``."""
    new = add_command(
        commands, "gradcheck", run,
        "Check every gradient: compare the derivatives of all operations and layers, first and second, with\n"
        "differences and with the complex step. Exit status 1 when one is wrong. Takes ten seconds.",
        "gradcheck", "gradcheck --op batch_norm --op LayerNorm", "gradcheck --order 1 --quiet --json",
    )  # fmt: skip
    new.add_argument("--backend", dest="device", type=device, default=argparse.SUPPRESS, help="the same as --device")
    new.add_argument(
        "--op", type=checkable, action="append", default=[], metavar="NAME",
        help="an operation or layer as the table names it; may be given several times (all)",
    )  # fmt: skip
    new.add_argument("--order", type=whole(1, 3), default=2, metavar="N", help="1: first derivatives only (2)")


def run(args: Any) -> int:
    """Run ``gradcheck``."""
    bar = Bar(sys.stderr)
    progress = None if args.quiet else lambda done, total, name: bar.show("check", done, total, name)
    with closing(bar):
        found = check_gradients(args.op, order=args.order, device=args.device, seed=args.seed, progress=progress)
    show(args, found, gradients_text(found))
    return 0 if found["ok"] else 1
