"""The op table: one row per operation says how to call it, on what, and what must come out.

A row buys every check of :mod:`tinygrad_norm.testing.checks`. What an operation cannot do, its row declares in
``gaps``; the checks fail on gaps that are not declared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy

from ..engine import Op, Tensor

ROWS: dict[str, Row] = {}
"""Name -> row: the op table."""

GAPS = {
    "float16": "does not work in float16",
    "empty": "no sample with a length of 0",
    "0-d": "no sample without dimensions",
    "lengths": "no samples with lengths 1, 31, 32 and 33",
    "broadcast": "no sample that broadcasts",
    "complex": "no complex step of the composites",
    "complex reference": "no complex step of the reference",
    "second order": "no second derivative",
    "ownership": "a result that shares memory with its input",
    "edits": "no in-place edits between forward and backward",
}
"""What a row may declare that its operation cannot do, in ``gaps={key: reason}``."""


@dataclass(frozen=True)
class Case:
    """One sample call: a shape (to draw), an array or a function of the generator per input; keyword arguments."""

    inputs: tuple[Any, ...]
    options: dict[str, Any]

    def __str__(self) -> str:
        shapes = [str(getattr(x, "shape", x if isinstance(x, tuple) else "random")) for x in self.inputs]
        return ", ".join(shapes + [f"{k}={v}" for k, v in self.options.items()])


@dataclass(frozen=True)
class Pinned:
    """A singular point: inputs, upstream gradient 1, and the gradients agreed on."""

    inputs: tuple[numpy.ndarray, ...]
    gradients: tuple[numpy.ndarray | None, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Bad:
    """Inputs that must be refused, the exception, and a regular expression its message must contain."""

    inputs: tuple[Any, ...]
    options: dict[str, Any]
    raises: Any
    match: str


def case(*inputs: Any, **options: Any) -> Case:
    """A sample: for every input a shape to draw, an array or a function of a generator; then keyword arguments."""
    return Case(inputs, options)


def pinned(inputs: Sequence[Any], gradients: Sequence[Any], **options: Any) -> Pinned:
    """A singular point and its gradients (None: not differentiated) for an upstream gradient of ones."""
    arrays = tuple(numpy.asarray(x) if isinstance(x, numpy.ndarray) else numpy.asarray(x, float) for x in inputs)
    return Pinned(arrays, tuple(None if g is None else numpy.asarray(g, float) for g in gradients), options)


def bad(*inputs: Any, raises: Any, match: str, **options: Any) -> Bad:
    """Inputs (arrays become Tensors) that must be refused with ``raises`` and a message matching ``match``."""
    return Bad(inputs, options, raises, match)


LENGTHS = ((0,), (1,), (31,), (32,), (33,))
ONE = tuple(case(s) for s in ((), *LENGTHS, (2, 3), (2, 0, 3)))
"""Samples of a function of one input of any shape."""

TWO = tuple(
    case(a, b)
    for a, b in (
        ((), ()), ((3,), ()), ((), (2, 3)), ((2, 1), (1, 3)), ((4, 3), (3,)), ((1,), (33,)), ((31,), (31,)),
        ((32,), (1,)), ((0, 3), (3,)), ((2, 3), (2, 3)), ((2, 2, 3), (2, 1)),
    )
)  # fmt: skip
"""Samples of a function of two inputs that broadcast."""


@dataclass(frozen=True)
class Row:
    """One line of the op table; see :func:`register`."""

    name: str
    op: type[Op] | None
    fn: Callable[..., Tensor]
    reference: Callable[..., Any]
    cases: tuple[Case, ...]
    domain: tuple[tuple[float, float], ...]
    constants: tuple[int, ...]
    derivative: bool
    pinned: tuple[Pinned, ...]
    errors: tuple[Bad, ...]
    gaps: Mapping[str, str] = field(default_factory=dict)

    def draw(self, case: Case, dtype: Any = "float64", seed: int = 0) -> list[numpy.ndarray]:
        """The inputs of a case, floats in ``dtype``; the same for the same seed."""
        rng = numpy.random.default_rng([seed, len(self.name), *map(ord, self.name)])
        return [self.draw_one(x, i, rng, dtype) for i, x in enumerate(case.inputs)]

    def draw_one(self, x: Any, i: int, rng: numpy.random.Generator, dtype: Any) -> numpy.ndarray:
        """One input: drawn, given, or made by a function."""
        if isinstance(x, tuple):
            x = rng.uniform(*self.interval(i), x)
        elif not isinstance(x, numpy.ndarray):
            x = x(rng)
        x = numpy.asarray(x)
        return x.astype(dtype) if x.dtype.kind == "f" else x

    def interval(self, i: int) -> tuple[float, float]:
        """What input i is drawn from."""
        return self.domain[i % len(self.domain)]

    def differentiable(self, arrays: Sequence[Any]) -> list[int]:
        """The places of the inputs that have a gradient."""
        return [i for i, a in enumerate(arrays) if self.derivative and a.dtype.kind in "fc" and i not in self.constants]

    def samples(self, dtype: Any = "float64") -> Iterator[tuple[Case, list[numpy.ndarray]]]:
        """Every case with its inputs."""
        for c in self.cases:
            yield c, self.draw(c, dtype)


def register(
    name: str, op: type[Op] | None, fn: Callable[..., Tensor], reference: Callable[..., Any],
    cases: Sequence[Case] | None = None, *, domain: Any = (-2.0, 2.0), constants: Sequence[int] = (),
    derivative: bool = True, pinned: Sequence[Pinned] = (), errors: Sequence[Bad] = (),
    gaps: Mapping[str, str] | None = None,
) -> Row:  # fmt: skip
    """Add a row to the op table.

    Args:
        name: of the row; unique.
        op: the operation that ``fn`` applies; None for a function composed of others.
        fn: the public function: Tensors in, one Tensor out.
        reference: the same in NumPy, not sharing code with ``fn``; taking complex numbers too where the function is
            analytic (else declare the gap "complex reference").
        cases: sample calls made with :func:`case`, at least six; by default those of an elementwise function with as
            many inputs as ``domain`` has intervals.
        domain: the interval (low, high) inputs are drawn from, or one interval per input.
        constants: places of floating inputs that get no gradient.
        derivative: False when the result has no derivative; then only values and dtypes are checked.
        pinned: singular points with the gradients agreed on.
        errors: inputs that must be refused.
        gaps: what the operation cannot do, with the reason; the keys are those of ``GAPS``.

    Raises:
        ValueError: the name is taken, or a gap is unknown.

    >>> import tinygrad_norm as tn
    >>> from tinygrad_norm import testing
    >>> class Cube(tn.Op):
    ...     @staticmethod
    ...     def forward(xp, x):
    ...         return x * x * x
    ...     backward = (lambda xp, g, y, x: g * 3.0 * x * x,)
    >>> row = testing.register("cube", Cube, lambda x: tn.apply(Cube, x), lambda x: x**3)
    >>> testing.check(row)
    >>> del testing.samples.ROWS["cube"]
    """
    if name in ROWS:
        raise ValueError(f"register: the op table has a row {name!r} already; choose another name")
    unknown = set(gaps or ()) - set(GAPS)
    if unknown:
        raise ValueError(f"register: unknown gap {sorted(unknown)[0]!r}; known are {', '.join(GAPS)}")
    intervals = tuple(domain) if isinstance(domain[0], tuple) else (domain,)
    chosen = cases if cases is not None else ONE if len(intervals) == 1 else TWO
    row = Row(
        name, op, fn, reference, tuple(chosen), intervals, tuple(constants), derivative, tuple(pinned), tuple(errors),
        dict(gaps or {}),
    )  # fmt: skip
    ROWS[name] = row
    return row


def undeclared(row: Row) -> list[str]:
    """What a row's cases leave out without saying so in ``gaps``."""
    shapes = [[a.shape for a in arrays] for _, arrays in row.samples()]
    lengths = {n for case_shapes in shapes for shape in case_shapes for n in shape}
    floats = [[a.shape for a in arrays if a.dtype.kind == "f"] for _, arrays in row.samples()]
    seen = {
        "empty": 0 in lengths,
        "0-d": any(() in case_shapes for case_shapes in shapes),
        "lengths": {1, 31, 32, 33} <= lengths,
        "broadcast": all(len(s) < 2 for s in floats) or any(len(set(s)) > 1 for s in floats),
    }
    missing = [
        f"{GAPS[key]}: add one, or declare gaps={{{key!r}: reason}}"
        for key, ok in seen.items()
        if not ok and key not in row.gaps
    ]
    if len(row.cases) < 6:
        missing.append(f"{len(row.cases)} samples; needs at least 6")
    return missing


def operations(package: str) -> set[type[Op]]:
    """All operations defined in a package."""
    found, stack = set(), [Op]
    while stack:
        for op in stack.pop().__subclasses__():
            stack.append(op)
            if op.__module__.split(".")[0] == package:
                found.add(op)
    return found
