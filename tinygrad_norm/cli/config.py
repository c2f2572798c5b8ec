"""``tinygrad-norm config``: what is installed here."""

from __future__ import annotations

from typing import Any

from ..lab.config import config, config_text
from .arguments import add_command, show


def add(commands: Any) -> None:
    """The command ``config``."""
    new = add_command(
        commands, "config", run, "Show the configuration: versions, BLAS, devices, optional packages, advice.",
        "config", "config --json",
    )  # fmt: skip
    new.set_defaults(device="cpu")  # whatever else is missing


def run(args: Any) -> None:
    """Run ``config``."""
    found = config()
    show(args, found, config_text(found))
