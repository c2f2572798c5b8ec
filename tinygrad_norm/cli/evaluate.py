"""``tinygrad-norm evaluate``: a trained net, used again."""

from __future__ import annotations

from typing import Any

from ..lab.nets import evaluate
from ..lab.report import confusion_table
from .arguments import add_command, show


def add(commands: Any) -> None:
    """The command ``evaluate``."""
    new = add_command(
        commands, "evaluate", run, "Use a trained net again: its accuracy on the test samples by class.",
        "evaluate runs/digits-batch", "evaluate runs/compare/best-cosine.npz", "evaluate --json runs/digits-batch",
    )  # fmt: skip
    new.add_argument("path", metavar="RUN", help="the folder of a run of train, or a checkpoint (.npz)")
    new.set_defaults(path_argument="RUN")


def run(args: Any) -> None:
    """Run ``evaluate``."""
    found = evaluate(args.path, args.device)
    recorded = found["recorded_test_accuracy"]
    when = "" if recorded is None else f" ({100 * recorded:.1f} % when it was saved)"
    loss = "not finite" if found["test_loss"] is None else f"{found['test_loss']:.4f}"
    text = (
        f"{found['checkpoint']}: MLP {'-'.join(map(str, found['sizes']))}, norm {found['norm']}, "
        f"{found['activation']}, {found['parameters']:,} parameters\n"
        f"test accuracy {100 * found['test_accuracy']:.1f} % of {found['test_samples']} samples of "
        f"{found['dataset']}{when}, loss {loss}\n\n{confusion_table(found['confusion'])}"
    )
    show(args, found, text)
