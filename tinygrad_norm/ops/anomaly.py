"""Where a NaN or an infinity comes from: every operation and gradient rule of a thread, looked at as it runs."""

from __future__ import annotations

import linecache
import sys
import threading
from contextlib import ContextDecorator
from math import inf
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy

from ..backend import BACKENDS
from ..engine.op import Op, observers
from ..engine.tensor import Tensor

PACKAGE = str(Path(__file__).resolve().parents[1])


class Blocks(threading.local):
    """The ``detect_anomaly`` blocks that this thread is in."""

    def __init__(self) -> None:
        self.before: list[Any] = []  # how NumPy treated errors outside of each


blocks = Blocks()
lock = threading.Lock()


class detect_anomaly(ContextDecorator):
    """Name the operation, and your line that called it, where a NaN or an infinity first appears.

    For finding bugs; slow. Inside, every operation of this thread is checked as it runs, and those recorded here are
    checked again in ``backward``, where memory that changed since (unseen by the versions, for example through
    ``x._data``) is noticed too. A NaN is refused wherever it comes from; an infinity where an operation makes it of
    finite numbers, so that ``-inf`` may be used as a mask. NumPy's warnings of the same are silent meanwhile. A context
    manager and a decorator.

    Raises:
        FloatingPointError: an operation gave, or was given, a NaN; or gave an infinity; forward or backward.
        RuntimeError: what an operation kept for backward is not what it was.

    >>> import tinygrad_norm as tn
    >>> with tn.detect_anomaly():
    ...     x = tn.tensor([1e30, 1.0]) * 1e30  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    FloatingPointError: multiply gave inf at (0,) (1 of 2 elements) ...
    """

    def __enter__(self) -> None:
        blocks.before.append(numpy.seterr(all="ignore"))
        with lock:
            observers[:] = observers[0] + 1, observe

    def __exit__(self, *error: Any) -> None:
        numpy.seterr(**blocks.before.pop())
        with lock:
            observers[0] -= 1


def observe(op: Any, operands: tuple, out: Tensor) -> None:
    """Check one result of this thread, and have its gradient rules checked when they run."""
    if blocks.before:
        BACKENDS[type(out._data)].settle()
        line = calling_line()
        refuse(out._data, operands, op.name, "operand", line)
        node = out._node
        if node is not None and node.op is op:
            node.op = Watched(node, line)


def calling_line() -> str:
    """The innermost line of code outside this package."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    code, number = frame.f_code, frame.f_lineno
    text = linecache.getline(code.co_filename, number, frame.f_globals).strip()
    return f"{code.co_filename}:{number}, in {code.co_name}" + (f": {text}" if text else "")


def refuse(result: Any, operands: tuple, what: str, source: str, line: str) -> None:
    """Raise if a result holds a NaN, or an infinity that none of the operands held."""
    if result.dtype.kind != "f":
        return
    xp = BACKENDS[type(result)]
    bad = xp.isnan(result)
    if not bad.any():
        bad = ~xp.isfinite(result)
        if not bad.any() or any(holds(v, is_infinite) for v in operands):
            return
    bad, values = xp.to_host(bad), xp.to_host(result)
    at = tuple(int(i) for i in numpy.argwhere(bad)[0])
    given = next((i for i, v in enumerate(operands) if holds(v, is_nan)), None)
    verb = "gave" if given is None else f"was given a NaN ({source} {given}) and gave"
    raise FloatingPointError(
        f"{what} {verb} {values[at]} at {at} ({int(bad.sum())} of {bad.size} elements) of its result of shape "
        f"{values.shape} and dtype {values.dtype}, called at {line}"
    )


def holds(x: Any, test: Any) -> bool:
    """Whether a number or an array has an element of this kind."""
    if type(x) in BACKENDS and x.dtype.kind == "f":
        return bool(test(x).any())
    return isinstance(x, float) and test(x)


def is_nan(x: Any) -> Any:
    """Elementwise."""
    return x != x


def is_infinite(x: Any) -> Any:
    """Elementwise."""
    return abs(x) == inf


class Watched:
    """The operation of one node, whose rules look at what they are given and what they return."""

    __slots__ = ("ends", "kept", "line", "op")

    def __init__(self, node: Any, line: str) -> None:
        self.op: type[Op] = node.op
        self.line = line
        self.ends = [None if edge is None else (edge.shape, edge.dtype) for edge in node.edges]
        self.kept = checksums(node.args, node.saved, node.output)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.op, name)

    @property
    def backward(self) -> Any:
        """The gradient rules of the operation, each watched."""
        return self.fused_backward if self.op.fused else [self.rule(i) for i in range(len(self.ends))]

    def rule(self, i: int) -> Any:
        """The rule of input i."""

        def watched(xp: Any, g: Any, y: Any, *args: Any) -> Any:
            self.check_kept(checksums(args, None, y))
            r = self.op.backward[i](xp, g, y, *args)
            self.check(i, g, r, args)
            return r

        return watched

    def fused_backward(self, xp: Any, g: Any, y: Any, saved: Any, needs: tuple, *args: Any) -> Any:
        """All gradients of a fused operation."""
        self.check_kept(checksums(args, saved, y))
        gradients = self.op.backward(xp, g, y, saved, needs, *args)
        for i, r in enumerate(gradients):
            if needs[i]:
                self.check(i, g, r, args)
        return gradients

    def check(self, i: int, g: Any, r: Any, args: tuple) -> None:
        """Look at one gradient as its input will get it: summed over what was broadcast, in the input's dtype."""
        g, r = (v._data if isinstance(v, Tensor) else v for v in (g, r))
        end = self.ends[i]
        if end is not None and type(r) in BACKENDS:
            xp = BACKENDS[type(r)]
            r = xp.astype(xp.sum_to(r, end[0]), end[1])
            refuse(r, (g,), f"backward of {self.op.name} by input {i}", "gradient", self.line)

    def check_kept(self, now: list) -> None:
        """Compare what the node kept with what it keeps now."""
        for (what, before), (_, after) in zip(self.kept, now):
            if before != after:
                raise RuntimeError(
                    f"backward: {what} of {self.op.name} has other values than when {self.op.name} ran, and they are "
                    f"needed for the gradient; something wrote to the memory directly. It was called at {self.line}"
                )


def checksums(args: Any, saved: Any, output: Any) -> list[tuple[str, int]]:
    """Checksums of the arrays that gradient rules will read, with what they are."""
    named = [(f"input {i}", x) for i, x in enumerate(args)] + [("the output", output)]
    stack = [saved]
    while stack:
        x = stack.pop()
        if isinstance(x, (tuple, list)):
            stack.extend(x)
        else:
            named.append(("a saved array", x))
    arrays = [(what, x._data if isinstance(x, Tensor) else x) for what, x in named]
    return [(what, checksum(x)) for what, x in arrays if type(x) in BACKENDS]


def checksum(x: Any) -> int:
    """A checksum of an array's bytes: unlike a sum, it sees elements that changed places."""
    return crc32(BACKENDS[type(x)].to_host(x).tobytes())
