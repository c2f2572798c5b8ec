"""Prove a gradient: compare what backward computes with what the function itself shows."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any

import numpy

from ..backend import BACKENDS, FLOATS, backend_for, to_host
from ..engine import Tensor, composite, enable_grad, no_grad
from ..engine.tensor import describe, wrap
from ..nn import Buffer, Module
from ..ops.calculus import grad
from .measure import Arrays, Findings, Settings, Variable, compare
from .report import GradientError, GradientWarning, Report

Call = Callable[[list[Tensor]], list[Tensor]]
"""The checked function of its variables alone: leaves in, floating outputs out."""


def gradcheck(
    fn: Callable[..., Any], inputs: Any, *, order: int = 1, eps: float | None = None, atol: float | None = None,
    rtol: float | None = None, method: str = "central", mode: str = "full", seed: int = 0, raise_exception: bool = True,
) -> Report:  # fmt: skip
    """Compare the gradients of ``fn`` with numerical ones.

    The upstream gradient (the cotangent) is random, never all ones: the sum of a standardized output is constant, so a
    backward that gives zero would pass. Checked besides the values: gradients have the shape and dtype of their inputs,
    two runs agree to the bit, nothing is changed in place, and no gradient shares memory with an input, the cotangent
    or another gradient.

    Args:
        fn: takes the inputs and returns a Tensor or several. A Module may stand here; then its parameters are checked
            too, in a float64 copy whose buffers are put back before every call: running statistics stand still. The
            state of modules that a plain function uses by name is put back when the check is over.
        inputs: a Tensor or an array, or a sequence of arguments. Checked are the Tensors with requires_grad or, where
            there is none, all floating Tensors and arrays. The caller's own are never touched.
        order: 2 also checks the derivatives of the gradient, by the inputs and by the cotangent, against differences of
            the first gradient, and that ``create_graph=True`` changes no value.
        eps: step of the differences, times max(1, abs(x)): 1e-5, for float32 1e-2.
        atol: absolute tolerance: 1e-8, for float32 1e-3; "complex": 1e-10, times the largest slope if that is above 1.
        rtol: relative tolerance: 1e-6, for float32 1e-3; "complex": 0.
        method: "central" differences measure ``fn`` as it is; where they disagree with the gradient, once more with
            half the step, extrapolated, so that curvature is no false alarm. "complex" steps measure its definitions
            (``tn.composite``) to the last digits: f'(x) = imag f(x + ih) / h for analytic f, with h = 1e-20 and no
            cancellation (Squire, Trapp 1998); that also shows float32 arithmetic inside a float64 backward.
        mode: "full" checks every entry, "directional" eight random directions per input: for large inputs.
        seed: of the random cotangents and directions.
        raise_exception: raise when something is wrong and warn when the check proves nothing; False only reports.

    Returns:
        A :class:`Report`, true when everything is right; ``print(report)`` is a table.

    Raises:
        GradientError: something is wrong; the message names input, entry and values.
        ValueError: inputs in float32 without eps, atol or rtol; an unknown order, method or mode.
        TypeError: nothing to differentiate by; ``fn`` returns something else than Tensors.

    >>> import numpy as np, tinygrad_norm as tn
    >>> report = gradcheck(lambda x: x.exp() / x, np.array([0.5, 2.0]), order=2)
    >>> report.ok, [line.verdict for line in report.lines]
    (True, ['ok', 'ok', 'ok'])
    """
    for name, given, known in (("method", method, ("central", "complex")), ("mode", mode, ("full", "directional"))):
        if given not in known:
            raise ValueError(f"gradcheck: {name} must be {known[0]!r} or {known[1]!r}; got {given!r}")
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order must be 1 or 2; got {order!r}; for a third give the first gradient as fn")
    items = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    before = [numpy.array(value_of(x)[0]) if isinstance(x, (Tensor, numpy.ndarray)) else None for x in items]
    call, variables = subject(fn, items, asked=not (eps is atol is rtol is None))
    wide = all(v.value.dtype == numpy.float64 for v in variables)
    defaults = (1e-5, 1e-8, 1e-6) if wide else (1e-2, 1e-3, 1e-3)
    step, central_atol, central_rtol = (d if x is None else x for x, d in zip((eps, atol, rtol), defaults, strict=True))
    central = Settings(step, central_atol, central_rtol, False, mode == "directional")
    stepped = Settings(step, 1e-10 if atol is None else atol, rtol or 0.0, True, mode == "directional")
    found = Findings(numpy.random.default_rng(seed))
    with restored(fn), enable_grad():
        cotangents = first_order(found, call, variables, stepped if method == "complex" else central)
        if order == 2 and cotangents:
            second_order(found, call, variables, cotangents, central)
    for i, (x, old) in enumerate(zip(items, before, strict=True)):
        if old is not None and not same(value_of(x)[0], old):
            found.failures.append(f"input {i} was changed in place by the function or its backward")
    report = Report(tuple(found.lines), tuple(dict.fromkeys(found.failures)), tuple(found.warnings), method, mode, seed)
    if raise_exception and not report.ok:
        raise GradientError(str(report))
    if raise_exception:
        for text in report.warnings:
            warnings.warn(f"gradcheck: {text}", GradientWarning, stacklevel=2)
    return report


def subject(fn: Callable[..., Any], items: list[Any], asked: bool) -> tuple[Call, list[Variable]]:
    """``fn`` as a function of its variables alone, and the variables."""
    wanted = [isinstance(x, Tensor) and x.requires_grad for x in items]
    if not any(wanted):
        wanted = [isinstance(x, (Tensor, numpy.ndarray)) and x.dtype in FLOATS for x in items]
    slots = [i for i, w in enumerate(wanted) if w]
    variables = [Variable(f"input {i}", *value_of(items[i])) for i in slots]
    for v in variables:
        if v.value.dtype != numpy.float64 and not asked:
            raise ValueError(
                f"gradcheck: {v.name} is {v.value.dtype}, where differences carry errors of about 1e-3 and a wrong "
                "rule can pass; write x.astype('float64'), or ask for it with eps=1e-2, atol=1e-3, rtol=1e-3"
            )
    parameters: list[Tensor] = []
    buffers: list[tuple[Module, str, Buffer]] = []
    if isinstance(fn, Module):
        fn = deepcopy(fn)
        buffers = [(m, name, b) for m in fn.modules() for name, b in vars(m).items() if isinstance(b, Buffer)]
        for name, p in fn.named_parameters():
            if p.requires_grad:
                value, device = value_of(p)
                variables.append(Variable(f"parameter {name}", value if asked else value.astype(numpy.float64), device))
                parameters.append(p)
    if not variables:
        given = ", ".join(describe(x) for x in items) or "no input"
        raise TypeError(f"gradcheck: needs a floating Tensor or array to differentiate by; got {given}")

    def call(leaves: list[Tensor]) -> list[Tensor]:
        arguments = list(items)
        for i, leaf in zip(slots, leaves, strict=False):
            arguments[i] = leaf
        for p, leaf in zip(parameters, leaves[len(slots) :], strict=True):  # the copied module's parameter is the leaf
            p._data, p._node, p._version = leaf._data, leaf._node, leaf._version
        # New ones each time, or what one run's graph still reads would be written to by the next.
        fresh = {id(b): Buffer(b) for _, _, b in buffers}
        for m, name, b in buffers:
            setattr(m, name, fresh[id(b)])
        result = fn(*arguments)
        outputs = list(result) if isinstance(result, (list, tuple)) else [result]
        for y in outputs:
            if not isinstance(y, Tensor):
                raise TypeError(f"gradcheck: fn must return a Tensor or several; got {describe(y)}")
        return [y for y in outputs if y.dtype.kind in "fc"]

    return call, variables


@contextmanager
def restored(fn: Any) -> Iterator[None]:
    """Put back what happens to the modules that a plain function uses by name."""
    try:
        used = inspect.getclosurevars(fn)
    except TypeError:  # no Python function
        modules = []
    else:
        known = (getattr(fn, "__self__", None), *used.nonlocals.values(), *used.globals.values())
        modules = [m for m in known if isinstance(m, Module)]
    tensors = [x for m in modules for x in (*m.parameters(), *m.buffers())]
    before = [x.clone() for x in tensors]
    try:
        yield
    finally:
        with no_grad():
            for x, old in zip(tensors, before, strict=True):
                if not same(x.numpy(), old.numpy()):
                    x.copy_(old)


def value_of(x: Any) -> tuple[numpy.ndarray, str]:
    """A Tensor's or an array's values on the host, and the device."""
    return (x.numpy(), x.device) if isinstance(x, Tensor) else (x, BACKENDS[type(x)].device)


def same(a: numpy.ndarray, b: numpy.ndarray) -> bool:
    """Equal to the bit, but for the payload of NaNs."""
    return a.shape == b.shape and a.dtype == b.dtype and numpy.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def gradients_of(
    outputs: list[Tensor], leaves: list[Tensor], seeds: list[Tensor], create_graph: bool
) -> list[Tensor | None]:
    """Gradients of <seeds, outputs> by the leaves; None where there is no path."""
    tracked = [(y, s) for y, s in zip(outputs, seeds, strict=True) if y.requires_grad]
    if not tracked:
        return [None] * len(leaves)
    ys, ss = zip(*tracked, strict=True)
    return list(grad(ys, leaves, ss, create_graph=create_graph, allow_unused=True))


def first_order(found: Findings, call: Call, variables: list[Variable], settings: Settings) -> list[Variable]:
    """Check the gradient; returns the cotangents used, none when there was nothing to compare."""
    cotangents = found.like(call([v.leaf() for v in variables]), "cotangent")
    if not cotangents:
        found.failures.append("the function returns no floating Tensor, so there is nothing to differentiate")
        return []
    values, gradients = run(found, call, variables, cotangents)
    again = run(found, call, variables, cotangents)
    if impure(found, "output", values, again[0]) or impure(found, "gradient", gradients, again[1]):
        return []

    def evaluate(values: list[Any]) -> Arrays:
        return evaluate_real(call, variables, values)

    def step(values: list[Any]) -> Arrays:
        return evaluate_complex(call, variables, values)

    seeds = [c.value for c in cotangents]
    compare(found, evaluate, variables, seeds, gradients, settings, 1, step if settings.complex else None)
    impure(found, "output", values, evaluate([v.value for v in variables]))
    return cotangents


def impure(found: Findings, what: str, first: Arrays, second: Arrays) -> bool:
    """Whether two runs on the same inputs differ; if so, that is a failure."""
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        if not same(a, b):
            found.failures.append(
                f"the function is not pure: two runs on the same inputs give {what} {i} = {differing(a, b)}"
            )
            return True
    return False


def differing(a: numpy.ndarray, b: numpy.ndarray) -> str:
    """Where two results differ, and the usual reasons."""
    where = tuple(int(i) for i in numpy.argwhere(~((a == b) | (numpy.isnan(a) & numpy.isnan(b))))[0])
    return (
        f"{a[where]:.10g}, then {b[where]:.10g} at {where}; does each run draw random numbers, or change a state? "
        "Give them as inputs, call tn.manual_seed inside fn, or use module.eval()"
    )


def run(found: Findings, call: Call, variables: list[Variable], cotangents: list[Variable]) -> tuple[Arrays, Arrays]:
    """Outputs and gradients of one run, everything but the values checked."""
    leaves = [v.leaf() for v in variables]
    seeds = [c.constant() for c in cotangents]
    outputs = call(leaves)
    values = [numpy.array(y.numpy()) for y in outputs]
    gradients = gradients_of(outputs, leaves, seeds, False)
    held = [*zip(variables, leaves, strict=True), *zip(cotangents, seeds, strict=True)]
    for v, x in held:
        if not same(x.numpy(), v.value):
            found.failures.append(f"{v.name} was changed in place by the function or its backward")
    names = [v.name for v, _ in held]
    arrays = [x._data for _, x in held]
    for v, x, g in zip(variables, leaves, gradients, strict=True):
        if g is None:
            continue
        if g.shape != x.shape or g.dtype != x.dtype:
            found.failures.append(f"{v.name} is a {describe(x)}, but its gradient a {describe(g)}")
        for name, other in zip(names, arrays, strict=True):
            if BACKENDS[type(other)].shares_memory(g._data, other):
                found.failures.append(
                    f"the gradient of {v.name} shares memory with {name}; a rule must return its own array"
                )
        names.append(f"the gradient of {v.name}")
        arrays.append(g._data)
    return values, [zeros_or(g, v) for g, v in zip(gradients, variables, strict=True)]


def zeros_or(g: Tensor | None, v: Variable) -> numpy.ndarray:
    """A gradient's values; zeros where there is no path."""
    return numpy.zeros_like(v.value) if g is None else numpy.array(g.numpy())


def evaluate_real(call: Call, variables: list[Variable], values: list[Any]) -> Arrays:
    """The outputs at other values, by the function as it is."""
    moved = [Variable(v.name, x, v.device) for v, x in zip(variables, values, strict=True)]
    return [y.numpy() for y in call([v.leaf() for v in moved])]


def evaluate_complex(call: Call, variables: list[Variable], values: list[Any]) -> Arrays:
    """The outputs at complex values, by the definitions of the operations: kernels never see complex numbers."""
    leaves = [wrap(backend_for(v.device).from_host(numpy.array(x))) for v, x in zip(variables, values, strict=True)]
    with ExitStack() as stack:
        stack.enter_context(composite())
        stack.enter_context(no_grad())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("error", numpy.exceptions.ComplexWarning)
        try:
            return [to_host(y._data) for y in call(leaves)]
        except (TypeError, numpy.exceptions.ComplexWarning) as error:
            raise TypeError(f"gradcheck: fn cannot take a complex step ({error}); write method='central'") from error


def second_order(
    found: Findings, call: Call, variables: list[Variable], cotangents: list[Variable], settings: Settings
) -> None:
    """Check the graph of the gradient (create_graph=True) against differences of plain first gradients."""
    n = len(variables)
    everything = variables + cotangents

    def first(values: list[Variable], create_graph: bool) -> tuple[list[Tensor], list[Tensor]]:
        leaves = [v.leaf() for v in values]
        gradients = gradients_of(call(leaves[:n]), leaves[:n], leaves[n:], create_graph)
        zeros = [Variable(v.name, 0 * v.value, v.device).constant() for v in variables]
        return leaves, [z if g is None else g for z, g in zip(zeros, gradients, strict=True)]

    leaves, recorded = first(everything, True)
    _, plain = first(everything, False)
    for v, a, b in zip(variables, recorded, plain, strict=True):
        x, y = a.numpy(), b.numpy()
        bad = ~((abs(x - y) <= settings.atol + settings.rtol * abs(y)) | (x == y))
        if bad.any():
            where = tuple(int(i) for i in numpy.argwhere(bad)[0])
            found.failures.append(
                f"{v.name}, entry {where}: with create_graph=True the first gradient is {x[where]:.10g}, "
                f"without {y[where]:.10g}"
            )
    outer = found.like(recorded, "")
    seconds = gradients_of(recorded, leaves, [c.constant() for c in outer], False)

    def evaluate(values: list[Any]) -> Arrays:
        moved = [Variable(v.name, x, v.device) for v, x in zip(everything, values, strict=True)]
        return [g.numpy() for g in first(moved, False)[1]]

    analytic = [zeros_or(g, v) for g, v in zip(seconds, everything, strict=True)]
    compare(found, evaluate, everything, [c.value for c in outer], analytic, settings, 2)
