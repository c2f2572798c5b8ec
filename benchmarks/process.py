"""A contender's process, seen from the side that asks."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .contenders import Contender

ROOT = Path(__file__).resolve().parent.parent


class Process:
    """Starts at once; ``hello()`` waits for it. An answer {"missing": why} says that something cannot be done."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", contender.library, *contender.flags],
            cwd=ROOT, env=contender.full_environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
        )  # fmt: skip

    def hello(self) -> dict[str, Any]:
        """{"versions": ...} of what it uses, or {"missing": why}."""
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if line:
            return json.loads(line)
        self.child.wait()
        self.errors.seek(0)
        last = (self.errors.read().strip().splitlines() or ["no message"])[-1]
        return {"missing": f"its process ended with status {self.child.returncode}: {last}"}

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One request and its answer."""
        assert self.child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer says how it ended
            print(json.dumps({"do": do, **arguments}), file=self.child.stdin, flush=True)
        return self.hello()

    def close(self) -> None:
        """End it."""
        assert self.child.stdin is not None and self.child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.close()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()
        self.errors.close()
