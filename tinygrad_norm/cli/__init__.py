"""The command ``tinygrad-norm``: a module for each of its commands.

Results go to standard output, progress and complaints to standard error. Exit status: 0 done, 1 the training failed or
a gradient is wrong, 2 an argument is wrong or something is missing, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ..engine import set_default_device
from ..engine.modes import defaults
from ..lab.config import version, wanted
from ..lab.folders import MissingExtra
from . import claims, compare, config, evaluate, gradcheck, invariance, train
from .arguments import PROGRAM


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
    before, top = defaults.backend, parser()
    try:
        set_default_device("cpu")  # arguments are understood without a GPU
        args = top.parse_args(arguments)
        set_default_device(args.device)
        return finished(args)
    finally:
        defaults.backend = before


def finished(args: Any) -> int:
    """Run the command that was asked for; the status."""
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


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = Parser(
        prog=PROGRAM, description="Train small nets with and without normalization, compare them, check the gradients.",
        epilog=" ".join([f"'{PROGRAM} COMMAND --help' explains a command.", *wanted()]), allow_abbrev=False,
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"{PROGRAM} {version('tinygrad_norm')}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for command in (compare, train, evaluate, gradcheck, invariance, claims, config):
        command.add(commands)
    return top
