"""The command ``tinygrad-norm``.

Results go to standard output, progress and complaints to standard error. Exit status: 0 done, 1 the training failed or
a gradient is wrong, 2 an argument is wrong or something is missing, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from .backend import backend_for
from .engine import get_default_device
from .lab.claims import claims_text, measure, report, require_pictures
from .lab.compare import compare
from .lab.config import config, config_text, version
from .lab.folders import MissingExtra
from .lab.gradients import check_gradients, gradients_text, names, unknown
from .lab.invariance import as_json, invariance, invariance_text
from .lab.nets import evaluate
from .lab.problems import PROBLEMS
from .lab.progress import Bar
from .lab.report import comparison, confusion_table, counted
from .lab.single import OPTIMIZERS, Settings, train_net
from .nn.containers import ACTIVATIONS, NORMS
from .testing.invariance import LIMITS, NORMALIZATIONS

PROGRAM = "tinygrad-norm"


class Parser(argparse.ArgumentParser):
    """A parser that complains in one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and leave with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: those behind the program's name; by default those that it was started with.

    Returns:
        The exit status.

    Raises:
        SystemExit: after ``--help``, ``--version`` and for arguments that cannot be understood.

    >>> main(["config", "--json"]) # doctest: +ELLIPSIS
    {...
    0
    """
    args = parser().parse_args(arguments)
    name = f"{PROGRAM} {args.command}"
    try:
        status = args.run(args)
        sys.stdout.flush()
        return status or 0
    except KeyboardInterrupt:
        return complain(f"{name}: interrupted", 130)
    except BrokenPipeError:  # whoever read the output has gone; the interpreter would complain again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except FloatingPointError as error:
        return complain(f"{name}: {error}", 1)
    except (ValueError, MissingExtra) as error:
        return complain(f"{name}: {error}", 2)
    except OSError as error:
        return complain(f"{name}: argument {args.path_argument}: {error.strerror or error}: {error.filename}", 2)


def complain(text: str, status: int) -> int:
    """Print one line to standard error, and return the status."""
    print(" ".join(text.split()), file=sys.stderr)
    return status


# ---- arguments


def whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    """A type of argument: an integer of at least ``least``.

    >>> whole(1)("3")
    3
    """

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value < most:
            below = "" if most == math.inf else f" and below {most}"
            raise argparse.ArgumentTypeError(f"must be an integer of at least {least}{below}; got {text!r}")
        return value

    return parse


def number(accepts: Callable[[float], bool], rule: str) -> Callable[[str], float]:
    """A type of argument: a number that is accepted; ``rule`` says which are.

    >>> number(lambda x: x >= 0, "of at least 0")("1e-5")
    1e-05
    """

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and accepts(value)):
            raise argparse.ArgumentTypeError(f"must be a number {rule}; got {text!r}")
        return value

    return parse


positive = number(lambda x: x > 0, "greater than 0")


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """A type of argument: one of these names.

    >>> one_of(["a", "b"])("a")
    'a'
    """
    known = list(names)

    def parse(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"must be one of {', '.join(known)}; got {text!r}")
        return text

    return parse


def checkable(text: str) -> str:
    """A type of argument: an operation or layer that ``gradcheck`` knows."""
    if text not in names():
        raise argparse.ArgumentTypeError(unknown(text))
    return text


def device(text: str) -> str:
    """A type of argument: a device that is here."""
    try:
        backend_for(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("device: ")) from error
    return text


def widths(text: str) -> tuple[int, ...]:
    """A type of argument: positive integers with commas between them.

    >>> widths("64,32")
    (64, 32)
    """
    return tuple(whole(1)(part) for part in text.split(","))


# ---- commands


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = Parser(
        prog=PROGRAM, description="Train small nets with and without normalization, compare them, check the gradients.",
        epilog=f"'{PROGRAM} COMMAND --help' explains a command.", allow_abbrev=False,
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"{PROGRAM} {version('tinygrad_norm')}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for add in (add_compare, add_train, add_evaluate, add_gradcheck, add_invariance, add_claims, add_config):
        add(commands)
    return top


def add_command(commands: Any, name: str, run: Callable[[Any], int | None], text: str, *examples: str) -> Any:
    """A command with the options that all have."""
    new = commands.add_parser(
        name, help=text.split(":")[0], description=text, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n" + "\n".join(f"  {PROGRAM} {example}" for example in examples),
    )  # fmt: skip
    new.set_defaults(run=run, path_argument="--out")
    new.add_argument("--device", type=device, default=get_default_device(), help="where to compute (%(default)s)")
    new.add_argument("--seed", type=whole(0, 2**62), default=0, help="where random numbers start (%(default)s)")
    new.add_argument("--quiet", action="store_true", help="no progress, only results")
    new.add_argument("--json", action="store_true", help="results as JSON on standard output, and nothing else there")
    return new


def show(args: Any, values: dict[str, Any], text: str) -> None:
    """Print results, as JSON or as text."""
    print(json.dumps(values, indent=1, allow_nan=False) if args.json else text)


def add_compare(commands: Any) -> None:
    """The command ``compare``."""
    new = add_command(
        commands, "compare", run_compare,
        "Compare the normalizations: train the same net without normalization and with batch, layer, weight\n"
        "and cosine normalization on 1,797 images of digits, over learning rates from 0.001 to 100 and\n"
        "three seeds, by plain SGD. Takes less than a minute on two cores.",
        "compare", "compare --quick", "compare --seeds 5 --out runs/five", "compare --quick --json > results.json",
    )  # fmt: skip
    new.add_argument("--quick", action="store_true", help="six learning rates, one seed, fewer steps: seconds")
    new.add_argument("--seeds", type=whole(1), metavar="N", help="how many seeds, from --seed on (3; quick: 1)")
    new.add_argument("--out", default="runs/compare", metavar="DIR", help="folder to write (%(default)s)")
    new.add_argument("--no-pictures", action="store_true", help="draw nothing: matplotlib is then not needed")


def run_compare(args: Any) -> None:
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


def add_train(commands: Any) -> None:
    """The command ``train``."""
    usual = Settings()
    rates = ", ".join(f"{name} {rate:g}" for name, (_, rate) in OPTIMIZERS.items())
    new = add_command(
        commands, "train", run_train, "Train one net: an MLP that tells the classes of a data set apart, and keep it.",
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
    new.add_argument("--lr", type=positive, help=f"learning rate ({rates})")
    new.add_argument("--epochs", type=whole(1), default=usual.epochs, metavar="N", help="(%(default)s)")
    new.add_argument("--batch-size", type=whole(1), default=usual.batch_size, metavar="N", help="(%(default)s)")
    new.add_argument("--out", metavar="DIR", help="folder to write (runs/DATASET-NORM)")


def run_train(args: Any) -> None:
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


def add_evaluate(commands: Any) -> None:
    """The command ``evaluate``."""
    new = add_command(
        commands, "evaluate", run_evaluate, "Use a trained net again: its accuracy on the test samples by class.",
        "evaluate runs/digits-batch", "evaluate runs/compare/best-cosine.npz", "evaluate --json runs/digits-batch",
    )  # fmt: skip
    new.add_argument("path", metavar="RUN", help="the folder of a run of train, or a checkpoint (.npz)")
    new.set_defaults(path_argument="RUN")


def run_evaluate(args: Any) -> None:
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


def add_gradcheck(commands: Any) -> None:
    """The command ``gradcheck``."""
    new = add_command(
        commands, "gradcheck", run_gradcheck,
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


def run_gradcheck(args: Any) -> int:
    """Run ``gradcheck``."""
    bar = Bar(sys.stderr)
    progress = None if args.quiet else lambda done, total, name: bar.show("check", done, total, name)
    with closing(bar):
        found = check_gradients(args.op, order=args.order, device=args.device, seed=args.seed, progress=progress)
    show(args, found, gradients_text(found))
    return 0 if found["ok"] else 1


def add_invariance(commands: Any) -> None:
    """The command ``invariance``."""
    new = add_command(
        commands, "invariance", run_invariance,
        "Measure what the normalizations do not see: scaled and shifted weights and data, with the deviations\n"
        "found, and how the gradient by the weights shrinks as the weights grow.",
        "invariance", "invariance --norm batch --norm layer --eps 1e-5", "invariance --out runs/invariance",
    )  # fmt: skip
    new.add_argument(
        "--norm", type=one_of(NORMALIZATIONS), action="append", default=[], metavar="NAME",
        help=f"{', '.join(NORMALIZATIONS)}; may be given several times (all)",
    )  # fmt: skip
    new.add_argument("--dtype", type=one_of(LIMITS), default="float64", metavar="NAME", help=", ".join(LIMITS))
    least, other = number(lambda x: x >= 0, "of at least 0"), number(lambda x: x not in (0, 1), "other than 0 and 1")
    new.add_argument("--eps", type=least, default=0.0, help="what is added to variances (%(default)g)")
    new.add_argument("--scale", type=other, default=2.0, help="what is multiplied by (%(default)g)")
    new.add_argument("--out", metavar="DIR", help="folder to write: table (.md, .json), gradient-scale (.png, .svg)")
    new.add_argument("--no-pictures", action="store_true", help="draw nothing: matplotlib is then not needed")


def run_invariance(args: Any) -> None:
    """Run ``invariance``."""
    found = invariance(
        args.norm, dtype=args.dtype, seed=args.seed, eps=args.eps, scale=args.scale, device=args.device, out=args.out,
        pictures=not args.no_pictures,
    )  # fmt: skip
    where = "" if args.out is None else f"\n\nin {args.out}: invariance (.md, .json)"
    drawn = "" if args.out is None or args.no_pictures else ", gradient-scale (.png, .svg)"
    show(args, as_json(found) | {"folder": args.out}, invariance_text(found) + where + drawn)


def numbers(text: str) -> tuple[int, ...]:
    """A type of argument: numbers of statements, with commas and ranges.

    >>> numbers("43,45-47")
    (43, 45, 46, 47)
    """
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(whole(1)(first), whole(1)(last or first) + 1)
    return tuple(found)


def add_claims(commands: Any) -> None:
    """The command ``claims``."""
    new = add_command(
        commands, "claims", run_claims,
        "Measure what is said about normalization: every statement of five articles, with a verdict that\n"
        "follows from the figures. Takes about three minutes on two cores; --quick half a minute.",
        "claims --quick", "claims --only 43,45-48", "claims --out runs/claims", "claims --quick --json > claims.json",
    )  # fmt: skip
    new.add_argument("--quick", action="store_true", help="one seed, fewer steps")
    new.add_argument("--only", type=numbers, metavar="N,N", help="numbers of statements, ranges too: 43,45-48 (all)")
    new.add_argument("--out", metavar="DIR", help="folder to write: a page with pictures (index.html), claims.json")
    new.add_argument("--no-pictures", action="store_true", help="draw nothing: matplotlib is then not needed")


def run_claims(args: Any) -> None:
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
    where = "" if args.out is None else f"\n\nto read in a browser: {report(results, args.out, args.device)}"
    show(args, {"results": results, "folder": args.out}, claims_text(results) + where)


def add_config(commands: Any) -> None:
    """The command ``config``."""
    add_command(
        commands, "config", run_config, "Show the configuration: versions, BLAS, devices, optional packages, advice.",
        "config", "config --json",
    )  # fmt: skip


def run_config(args: Any) -> None:
    """Run ``config``."""
    found = config()
    show(args, found, config_text(found))
