"""What the commands share: types of arguments, the options that all have, and how results are shown."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Iterable
from typing import Any

from ..backend import backend_for
from ..engine import get_default_device

PROGRAM = "tinygrad-norm"


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


def device(text: str) -> str:
    """A type of argument: a device that is here."""
    try:
        backend_for(text)
    except ValueError as error:
        asked = " (TINYGRAD_NORM_DEVICE asked for it)" if os.environ.get("TINYGRAD_NORM_DEVICE") == text else ""
        raise argparse.ArgumentTypeError(str(error).removeprefix("device: ") + asked) from error
    return text


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


def add_no_pictures(command: Any) -> None:
    """The option of commands that draw."""
    command.add_argument("--no-pictures", action="store_true", help="draw nothing: matplotlib is then not needed")


def show(args: Any, values: dict[str, Any], text: str) -> None:
    """Print results, as JSON or as text."""
    print(json.dumps(values, indent=1, allow_nan=False) if args.json else text)
