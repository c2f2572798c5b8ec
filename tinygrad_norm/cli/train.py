"""``tinygrad-norm train``: one net, trained and kept."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..lab.problems import PROBLEMS
from ..lab.report import counted
from ..lab.single import OPTIMIZERS, Settings, train_net
from ..nn.containers import ACTIVATIONS, NORMS
from .arguments import PROGRAM, add_command, number, one_of, show, whole


def widths(text: str) -> tuple[int, ...]:
    """A type of argument: positive integers with commas between them.

    >>> widths("64,32")
    (64, 32)
    """
    return tuple(whole(1)(part) for part in text.split(","))


def add(commands: Any) -> None:
    """The command ``train``."""
    usual = Settings()
    rates = ", ".join(f"{name} {rate:g}" for name, (_, rate) in OPTIMIZERS.items())
    new = add_command(
        commands, "train", run, "Train one net: an MLP that tells the classes of a data set apart, and keep it.",
        "train --norm batch", "train --dataset spirals --hidden 64,64,64 --norm layer --epochs 100",
        "train --norm cosine --activation tanh --optimizer adam --lr 0.003 --out runs/mine",
    )  # fmt: skip
    names = {
        "dataset": PROBLEMS, "norm": [name or "none" for name in NORMS], "activation": ACTIVATIONS,
        "optimizer": OPTIMIZERS,
    }  # fmt: skip
    for name, known in names.items():
        text = f"{', '.join(known)} (%(default)s)"
        new.add_argument(f"--{name}", type=one_of(known), default=getattr(usual, name), metavar="NAME", help=text)
    new.add_argument("--hidden", type=widths, default=usual.hidden, metavar="N,N", help="hidden layers' widths (64,64)")
    new.add_argument("--lr", type=number(lambda x: x > 0, "greater than 0"), help=f"learning rate ({rates})")
    new.add_argument("--epochs", type=whole(1), default=usual.epochs, metavar="N", help="(%(default)s)")
    new.add_argument("--batch-size", type=whole(1), default=usual.batch_size, metavar="N", help="(%(default)s)")
    new.add_argument("--out", metavar="DIR", help="folder to write (runs/DATASET-NORM)")


def run(args: Any) -> None:
    """Run ``train``."""
    settings = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
    out = Path("runs", f"{args.dataset}-{args.norm}") if args.out is None else Path(args.out)
    found = train_net(settings, out, progress=not args.quiet)
    results = found["results"]
    text = (
        f"{results['parameters']:,} parameters; {counted(results['steps'], 'step')} of {settings.optimizer} "
        f"at rate {found['settings']['lr']:g}\n"
        f"training accuracy {100 * results['train_accuracy']:.1f} %, loss {results['train_loss']:.4f}\n"
        f"test accuracy     {100 * results['test_accuracy']:.1f} %, loss {results['test_loss']:.4f}\n"
        f"in {out}; to use it again: {PROGRAM} evaluate {shlex.quote(str(out))}"
    )
    show(args, found | {"folder": str(out)}, text)
