"""Every gradient of the package against numbers: the operations of the op table, and the layers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy

from .. import nn
from ..backend import manual_seed
from ..engine import no_grad
from ..nn.function import FunctionLayer
from ..ops.create import tensor
from ..testing import ROWS, Report, gradcheck
from ..testing.checks import SMALL
from ..testing.report import plain_json
from .report import counted, table

Point = tuple[str, Any, list[tuple[Any, bool]]]
"""What a failure there is called, the function, and its inputs, each with whether its gradient is checked."""

PICTURES = ("AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d")
"""Layers of a function that need pictures or options."""
TITLES = ["name", "kind", "points", "differences", "complex step", "second order", "verdict"]


@dataclass
class Checked:
    """What came out for one operation or layer: largest errors, over the measured slope where that is above 1."""

    name: str
    kind: str
    points: int = 0
    differences: float | None = None
    complex_step: float | None = None
    second_order: float | None = None
    failures: tuple[str, ...] = ()

    def add(self, point: str, report: Report) -> None:
        """Take in one report."""
        for line in report.lines:
            first = "complex_step" if report.method == "complex" else "differences"
            column = first if line.order == 1 else "second_order"
            error = line.abs_error / max(1.0, abs(line.numeric))
            setattr(self, column, max(error, getattr(self, column) or 0.0))
        self.failures += tuple(f"{point}: {text}" for text in report.failures)


# ---- layers


def randomized(layer: nn.Module) -> nn.Module:
    """The layer with parameters and statistics at no special place, where a mistake could hide."""
    rng = numpy.random.default_rng(1)
    with no_grad():
        for x in (*layer.parameters(), *layer.buffers()):
            if x.dtype.kind == "f":
                x[...] = x + tensor(rng.uniform(0.1, 0.4, x.shape), dtype=x.dtype, device=x.device)
    return layer


def layers(device: str, seed: int = 0) -> dict[str, tuple[Any, list[Any]]]:
    """Name -> (layer, inputs): each layer of ``nn`` once, or once for each way it can work."""
    rng = numpy.random.default_rng(seed)
    manual_seed(seed)

    def draw(*shape: int) -> Any:
        return rng.uniform(-2, 2, shape)

    found: dict[str, tuple[Any, list[Any]]] = {
        name: (kind(), [draw(3, 4)])
        for name, kind in vars(nn).items()
        if isinstance(kind, type) and issubclass(kind, FunctionLayer) and kind.inputs == 1 and name not in PICTURES
    }
    labels, rows, images = numpy.array([2, 0, 1, 1]), draw(5, 4), draw(3, 4, 2, 2)
    found |= {
        "Linear": (nn.Linear(4, 3), [rows]),
        "Identity": (nn.Identity(), [rows]),
        "Flatten": (nn.Flatten(), [images]),
        "Conv2d": (nn.Conv2d(4, 2, 2, padding=1), [images]),
        "Conv2d in groups": (nn.Conv2d(4, 2, 2, stride=2, padding=1, groups=2), [images]),
        "MaxPool2d": (nn.MaxPool2d(2), [draw(2, 3, 4, 5)]),
        "AvgPool2d": (nn.AvgPool2d(2), [draw(2, 3, 4, 5)]),
        "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d(2), [draw(2, 3, 4, 5)]),
        "Embedding": (nn.Embedding(3, 4), [labels]),
        "Dropout": (always_the_same(nn.Dropout(0.5)), [rows]),
        "Dropout in evaluation": (nn.Dropout(0.5).eval(), [rows]),
        "BatchNorm1d": (nn.BatchNorm1d(4), [rows]),
        "BatchNorm1d in evaluation": (nn.BatchNorm1d(4).eval(), [rows]),
        "BatchNorm2d": (nn.BatchNorm2d(4), [images]),
        "BatchNorm2d in evaluation": (nn.BatchNorm2d(4).eval(), [images]),
        "LayerNorm": (nn.LayerNorm(4), [rows]),
        "LayerNorm shared": (nn.LayerNorm(4, shared=True), [rows]),
        "RMSNorm": (nn.RMSNorm(4), [rows]),
        "GroupNorm": (nn.GroupNorm(2, 4), [images]),
        "InstanceNorm1d": (nn.InstanceNorm1d(4, affine=True), [draw(3, 4, 5)]),
        "InstanceNorm2d": (nn.InstanceNorm2d(4, affine=True), [draw(2, 4, 3, 2)]),
        "MeanOnlyBatchNorm1d": (nn.MeanOnlyBatchNorm1d(4), [rows]),
        "MeanOnlyBatchNorm1d in evaluation": (nn.MeanOnlyBatchNorm1d(4).eval(), [rows]),
        "WeightStandardization": (nn.WeightStandardization(nn.Linear(4, 3)), [rows]),
        "WeightNorm": (nn.WeightNorm(nn.Linear(4, 3)), [rows]),
        "WeightNorm of the whole matrix": (nn.WeightNorm(nn.Linear(4, 3), dim=None), [rows]),
        "CosineLinear": (nn.CosineLinear(4, 3, bias=True, scale="learned"), [rows]),
        "CosineLinear centered": (nn.CosineLinear(4, 3, centered=True), [rows]),
        "MSELoss": (nn.MSELoss(), [rows, draw(5, 4)]),
        "L1Loss": (nn.L1Loss(), [rows, draw(5, 4)]),
        "HuberLoss": (nn.HuberLoss(), [rows, draw(5, 4)]),
        "CrossEntropyLoss": (nn.CrossEntropyLoss(label_smoothing=0.1), [draw(4, 3), labels]),
        "NLLLoss": (nn.NLLLoss(), [draw(4, 3), labels]),
        "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(), [rows, rng.uniform(0, 1, (5, 4))]),
    }
    sequences, state, cell = draw(2, 2, 4), draw(1, 2, 3), draw(1, 2, 3)
    found["RNNCell"] = (nn.RNNCell(4, 3), [sequences[0], state[0]])
    found["LSTMCell"] = (Outputs(nn.LSTMCell(4, 3)), [sequences[0], state[0], cell[0]])
    for name, norm in (("", None), (" with layer norm", "layer")):
        found[f"RNN{name}"] = (Outputs(nn.RNN(4, 3, norm=norm)), [sequences, state])
        found[f"LSTM{name}"] = (Outputs(nn.LSTM(4, 3, norm=norm)), [sequences, state, cell])
    for norm in nn.containers.NORMS:
        found[f"MLP {norm or 'none'}"] = (nn.MLP([4, 6, 2], norm=norm, activation="tanh"), [rows])
    return {name: (on(device, layer), inputs) for name, (layer, inputs) in found.items()}


class Outputs(nn.Module):
    """The outputs of a recurrent layer, without its last states, from sequences and the first states."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def forward(self, x: Any, *state: Any) -> Any:
        """(L, N, input_size), and the states of (1, N, hidden_size), to (L, N, hidden_size)."""
        return self.layer(x, state if len(state) > 1 else state[0])[0]


def always_the_same(layer: nn.Module) -> Any:
    """The layer with the same random numbers in every call."""

    def seeded(x: Any) -> Any:
        manual_seed(0)
        return layer(x)

    return seeded


def on(device: str, layer: Any) -> Any:
    """A layer with random parameters on a device; a function as it is."""
    return randomized(layer).to(device) if isinstance(layer, nn.Module) else layer


# ---- checking


def points_of(name: str, known: dict[str, tuple[Any, list[Any]]], seed: int) -> Iterator[Point]:
    """Where to check an operation (at the samples of its row) or a layer."""
    if name in known:
        layer, inputs = known[name]
        yield name, layer, [(a, a.dtype.kind == "f") for a in inputs]
        return
    row = ROWS[name]
    for c in row.cases:
        arrays = row.draw(c, seed=seed)
        wanted = row.differentiable(arrays)
        if any(arrays[i].size for i in wanted):
            yield f"{name} {c}", partial(row.fn, **c.options), [(a, i in wanted) for i, a in enumerate(arrays)]


def check_one(found: Checked, point: Point, order: int, device: str, seed: int, stepping: bool) -> None:
    """Check one point, by differences and, if ``stepping``, by the complex step."""
    text, fn, inputs = point
    found.points += 1
    xs = [tensor(a, device=device, requires_grad=wanted) for a, wanted in inputs]
    size = sum(x.size for x in xs if x.requires_grad)
    options: dict[str, Any] = {
        "seed": seed, "mode": "directional" if size > SMALL else "full", "raise_exception": False,
    }  # fmt: skip
    try:
        found.add(text, gradcheck(fn, xs, order=order, **options))
        if stepping:
            found.add(text, gradcheck(fn, xs, method="complex", **options))
    except Exception as error:  # whatever is wrong with one operation, the others are checked too
        found.failures += (f"{text}: {type(error).__name__}: {error}",)


def names() -> list[str]:
    """All operations and layers that :func:`check_gradients` knows."""
    return [*ROWS, *layers("cpu")]


def unknown(name: str) -> str:
    """What to say about a name that is none."""
    close = get_close_matches(name, names(), 3, 0.4)
    return f"no operation or layer {name!r}" + (f"; did you mean {' or '.join(map(repr, close))}?" if close else "")


def check_gradients(
    chosen: Sequence[str] = (), *, order: int = 2, device: str = "cpu", seed: int = 0,
    progress: Callable[[int, int, str], Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Check the gradients of operations and layers against differences and, where there is one, the complex step.

    Args:
        chosen: names of operations (rows of the op table) and layers; by default all.
        order: 2 also checks derivatives of the gradient.
        device: where to compute.
        seed: of samples and cotangents.
        progress: called after each name with how many are done, how many there are, and the name.

    Returns:
        "ok", "order", "device", "seed", "seconds" and "results": a dict per name with the largest errors, over the
        measured slope where that is above 1, and what is wrong.

    Raises:
        ValueError: an unknown name.

    >>> found = check_gradients(["batch_norm", "LayerNorm"], order=1)
    >>> found["ok"], [r["name"] for r in found["results"]], found["results"][0]["complex_step"] < 1e-13
    (True, ['batch_norm', 'LayerNorm'], True)
    """
    began = time.perf_counter()
    known = layers(device, seed)
    for name in chosen:
        if name not in ROWS and name not in known:
            raise ValueError(f"check_gradients: {unknown(name)}")
    todo = list(chosen) or [*ROWS, *known]
    results = []
    for done, name in enumerate(todo, 1):
        found = Checked(name, "layer" if name in known else "operation")
        gaps = () if name in known else ROWS[name].gaps
        for point in points_of(name, known, seed):
            check_one(found, point, 1 if "second order" in gaps else order, device, seed, "complex" not in gaps)
        results.append(found)
        if progress is not None:
            progress(done, len(todo), name)
    values = {
        "ok": not any(r.failures for r in results), "order": order, "device": device, "seed": seed,
        "seconds": round(time.perf_counter() - began, 1), "results": [asdict(r) for r in results],
    }  # fmt: skip
    return plain_json(values)  # type: ignore[return-value]


def gradients_text(found: dict[str, Any]) -> str:
    """The results as a table, with what is wrong below."""
    results = found["results"]
    rows = []
    for r in results:
        errors = [short(r[column]) for column in ("differences", "complex_step", "second_order")]
        verdict = "WRONG" if r["failures"] else "ok" if r["points"] else "no derivative"
        rows.append([r["name"], r["kind"], str(r["points"]), *errors, verdict])
    wrong = [r["name"] for r in results if r["failures"]]
    kinds = [counted(sum(r["kind"] == kind for r in results), kind) for kind in ("operation", "layer")]
    verdict = f"WRONG: {', '.join(wrong)}" if wrong else "every gradient is right"
    return "\n".join([
        *table(TITLES, rows), "", *(text for r in results for text in r["failures"]),
        f"{' and '.join(kinds)} at {sum(r['points'] for r in results):,} points on {found['device']}, in "
        f"{found['seconds']:.0f} s: {verdict}",
        "errors are the largest found, over the slope where that is above 1",
    ])  # fmt: skip


def short(error: Any) -> str:
    """An error for people to read."""
    return "" if error is None else error if isinstance(error, str) else f"{error:.0e}" if error else "0"
