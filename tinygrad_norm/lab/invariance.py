"""The invariances of every normalization, and the law that goes with them: gradients shrink as weights grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy

from ..testing import InvarianceTable
from ..testing.invariance import NORMALIZATIONS, Change, certificates, draw
from ..testing.report import markdown_table, plain_json
from ..viz.style import SMALL, TEXT, new_figure, plain_axes
from .folders import require, writable_folder, write, write_json
from .pictures import STYLE, rendered
from .report import table

LAMBDAS = tuple(2.0**k for k in range(-14, 11))
DRAWN = ("none", "batch", "layer", "weight", "cosine")
USUAL_EPS = 1e-5
TITLES = ["norm", "slope", "off the line by", "slope with eps", "left at 1/16384"]


def gradient_lengths(norm: str, eps: float, dtype: str = "float64", seed: int = 0, device: str | None = None) -> Any:
    """||gradient by W|| at lambda W, for every lambda of ``LAMBDAS``, for the same data and cotangents."""
    subject = draw(NORMALIZATIONS[norm], dtype, seed, device)
    gradients = (subject.at(eps, Change("", "", w_scale=scale))[2] for scale in LAMBDAS)
    return numpy.array([float(numpy.sqrt(numpy.sum(g * g))) for g in gradients])


def gradient_scale(
    norms: Sequence[str] = DRAWN, *, dtype: str = "float64", seed: int = 0, device: str | None = None
) -> list[dict[str, Any]]:
    """How the length of the gradient by W falls with lambda: the slope of its logarithm, fitted, at eps = 0 and 1e-5.

    Args:
        norms: names of normalizations; "none" is the linear map alone, whose gradient does not see lambda.
        dtype: "float64" or "float32".
        seed: of data, weights and cotangents.
        device: where to compute.

    Returns:
        A dict for each norm: "norm", "lengths" and "lengths_with_eps" (one for each of ``LAMBDAS``), "slope" and
        "slope_with_eps", and "residual", the largest distance from the fitted line in the logarithm.

    >>> [found["slope"] for found in gradient_scale(["none", "batch"])]
    [0.0, -1.0]
    """
    found = []
    logs = numpy.log(LAMBDAS)
    for norm in norms:
        lengths, with_eps = (gradient_lengths(norm, eps, dtype, seed, device) for eps in (0.0, USUAL_EPS))
        slope, start = numpy.polyfit(logs, numpy.log(lengths), 1)
        slope_with_eps, _ = numpy.polyfit(logs, numpy.log(with_eps), 1)
        slope, slope_with_eps = (round(float(s), 9) + 0.0 for s in (slope, slope_with_eps))
        found.append({
            "norm": norm, "slope": slope, "slope_with_eps": slope_with_eps,
            "residual": float(numpy.max(abs(numpy.log(lengths) - start - slope * logs))),
            "lengths": lengths.tolist(), "lengths_with_eps": with_eps.tolist(),
        })  # fmt: skip
    return found


def invariance(
    norms: Sequence[str] = (), *, dtype: str = "float64", seed: int = 0, eps: float = 0.0, scale: float = 2.0,
    device: str | None = None, out: str | Path | None = None, pictures: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Measure what the normalizations ignore and how their gradients scale; write it down.

    Args:
        norms: by default all; see :func:`tinygrad_norm.testing.check_invariance` for these, ``dtype``, ``eps``,
            ``scale`` and ``device``.
        dtype, seed, eps, scale, device: as there.
        out: a folder for ``invariance.md``, ``invariance.json`` and the picture ``gradient-scale`` (PNG and SVG).
        pictures: whether to draw.

    Returns:
        "table", the :class:`InvarianceTable`; "gradient_scale", what :func:`gradient_scale` found.

    Raises:
        ValueError: see ``check_invariance``.
        MissingExtra: matplotlib is not there to draw with; nothing was measured.
        OSError: the folder cannot be written; nothing was measured.
    """
    if out is not None:
        if pictures:
            require("matplotlib", "lab", "or use --no-pictures")
        folder = writable_folder(out)
    found: dict[str, Any] = {
        "table": certificates(norms, dtype=dtype, seed=seed, eps=eps, scale=scale, device=device),
        "gradient_scale": gradient_scale(dtype=dtype, seed=seed, device=device),
    }
    if out is not None:
        write(folder / "invariance.md", markdown(found))
        write_json(folder / "invariance.json", as_json(found))
        for ending, content in rendered(draw_gradient_scale(found["gradient_scale"])).items() if pictures else ():
            write(folder / f"gradient-scale.{ending}", content)
    return found


# ---- as text


def as_json(found: dict[str, Any]) -> dict[str, Any]:
    """What :func:`invariance` found, for JSON."""
    measured: InvarianceTable = found["table"]
    values = {
        "certificates": [asdict(c) for c in measured.certificates],
        "gradient_scale": {"lambdas": LAMBDAS, "norms": found["gradient_scale"]},
    }
    return plain_json(values)  # type: ignore[return-value]


def slopes(found: dict[str, Any]) -> list[list[str]]:
    """A row for each norm: how its gradient falls with lambda."""
    rows = []
    for line in found["gradient_scale"]:
        share = line["lengths_with_eps"][0] / line["lengths"][0]
        numbers = f"{line['slope']:.6f}", f"{line['residual']:.0e}", f"{line['slope_with_eps']:.2f}"
        rows.append([line["norm"], *numbers, f"{100 * share:.3g} %"])
    return rows


EXPLAINED = (
    "slope: of log ||gradient by W|| against log lambda, at lambda W for lambda from 1/16384 to 1024, eps = 0",
    "with eps = 1e-05 the slope is flatter, and at lambda = 1/16384 that much of the gradient is left",
)


def invariance_text(found: dict[str, Any]) -> str:
    """The truth table, and the slopes of gradients."""
    return "\n".join([str(found["table"]), "", *table(TITLES, slopes(found)), "", *EXPLAINED])


def markdown(found: dict[str, Any]) -> str:
    """The same in Markdown."""
    parts = [
        "# What the normalizations do not see", "", found["table"].to_markdown(), "# How gradients shrink", "",
        *markdown_table(TITLES, slopes(found)), "", *(f"* {text}" for text in EXPLAINED),
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


# ---- the picture


def draw_gradient_scale(lines: list[dict[str, Any]]) -> Any:
    """||gradient by W|| against lambda, on logarithmic axes: without eps, and with the usual one.

    Args:
        lines: of :func:`gradient_scale`.

    Returns:
        The matplotlib Figure.
    """
    figure = new_figure("draw_gradient_scale", 8.6, 3.7)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key in zip(panels, ("lengths", "lengths_with_eps"), strict=True):
        plain_axes(axes, "factor λ of all weights", "")
        axes.set(xscale="log", yscale="log", xticks=[10.0**k for k in range(-4, 4, 2)])
        axes.minorticks_off()
        for line in lines:
            color, marker, _ = STYLE[line["norm"]]
            axes.plot(LAMBDAS, line[key], color=color, linewidth=2, marker=marker, markersize=5, markevery=4)
    found = sorted({round(line["slope"], 3) for line in lines if line["norm"] != "none"})
    panels[0].set_title(f"eps = 0: slope {' to '.join(map(signed, found))}", fontsize=TEXT, loc="left")
    panels[1].set_title(f"eps = {USUAL_EPS:g}", fontsize=TEXT, loc="left")
    panels[0].set_ylabel("length of the gradient", fontsize=TEXT)
    title = "Weights times λ: the gradient by the weights is divided by λ"
    figure.suptitle(title, fontsize=TEXT, fontweight="bold", x=0.02, ha="left")
    figure.draw_without_rendering()
    low = -1.0
    for line in sorted(lines, key=lambda line: line["lengths"][-1]):  # names that would lie on each other move up
        color, _, name = STYLE[line["norm"]]
        at = axes.transAxes.inverted().transform(axes.transData.transform((1.0, line["lengths"][-1])))[1]
        low = max(at, low + 0.07)
        axes.annotate(
            name, (1.02, low), xycoords="axes fraction", color=color, va="center", fontsize=SMALL, fontweight="bold",
            annotation_clip=False,
        )  # fmt: skip
    return figure


def signed(value: float) -> str:
    """A number with a real minus sign.

    >>> signed(-1.0)
    '−1'
    """
    return f"{value + 0.0:g}".replace("-", "−")
