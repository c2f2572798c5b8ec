"""Where results go: refused before the work begins when they could not be written, whole or not there at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..serialize import replacing


class MissingExtra(ImportError):
    """An optional package that is not installed; the message says how to get it.

    >>> issubclass(MissingExtra, ImportError)
    True
    """


def require(package: str, extra: str, otherwise: str) -> None:
    """Raise when an optional package is not installed; the message ends with what to do otherwise.

    Raises:
        MissingExtra: with the line that installs it.

    >>> require("json", "lab", "or do without")
    """
    if find_spec(package) is None:
        raise MissingExtra(
            f'{package} is not installed; write: python -m pip install "tinygrad_norm[{extra}]", {otherwise}'
        )


def writable_folder(path: str | Path) -> Path:
    """A folder that exists, made if need be, and that a file was just written to.

    Raises:
        OSError: it could not be made, or not written.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"room for results")
    return folder


@contextmanager
def results_folder(path: str | Path) -> Iterator[Path]:
    """A :func:`writable_folder` for a block; folders that were made for it and got no file go when the block fails."""
    missing = [folder for folder in (Path(path), *Path(path).parents) if not folder.exists()]
    try:
        yield writable_folder(path)
    except BaseException:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise


def write(path: Path, content: bytes | str) -> None:
    """Write a file in one step: at every moment the old one or the new one is there."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, values: Any) -> None:
    """Write JSON that every reader understands: a NaN in it is an error."""
    write(path, json.dumps(values, indent=1, allow_nan=False) + "\n")
