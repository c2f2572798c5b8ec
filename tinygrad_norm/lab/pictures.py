"""The pictures of ``compare``; they need the extra [lab]."""

from __future__ import annotations

import io
from typing import Any

import numpy

from ..viz.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, SMALL, TEXT, VERMILION, new_figure, plain_axes

STYLE = {
    "none": (GREY, "o", "no normalization"),
    "batch": (BLUE, "s", "batch"),
    "layer": (VERMILION, "^", "layer"),
    "weight": (GREEN, "D", "weight"),
    "cosine": (PURPLE, "v", "cosine"),
    "rms": (SKY, "P", "rms"),
    "group": (ORANGE, "X", "group"),
}
"""Colour, marker and name of each normalization."""


def rendered(figure: Any) -> dict[str, bytes]:
    """A matplotlib figure as the contents of files: "png" and "svg", the same bytes every time."""
    from matplotlib import rc_context

    files = {}
    with rc_context({"svg.hashsalt": "tinygrad_norm"}):
        for ending, metadata in (("png", {}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=ending, metadata=metadata)
            files[ending] = buffer.getvalue()
    return files


def draw_accuracy(results: dict[str, Any]) -> Any:
    """Test accuracy against the learning rate, and below, as bars, the rates that reach the goal.

    Args:
        results: of ``compare``.

    Returns:
        The matplotlib Figure.
    """
    plan, summaries = results["plan"], results["summary"]
    rates, goal = plan["rates"], 100 * plan["goal"]
    figure = new_figure("draw_accuracy", 8.4, 5.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.3])
    plain_axes(top, "", "test accuracy, %")
    plain_axes(bottom, "learning rate", "")
    top.axhline(goal, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    for row, summary in enumerate(summaries):
        color, marker, _ = STYLE[summary["norm"]]
        runs = [100 * run["test_accuracy"] for run in results["runs"] if run["norm"] == summary["norm"]]
        scores = numpy.reshape(runs, (len(rates), len(plan["seeds"])))
        _band(top, rates, scores.T, summary["norm"], marker=marker, markersize=5.5)
        good = [row if rate in summary["good_rates"] else numpy.nan for rate in rates]
        bottom.plot(rates, good, color=color, linewidth=7, alpha=0.35, solid_capstyle="round")
        bottom.plot(rates, good, color=color, linestyle="none", marker=marker, markersize=5.5)
        if not summary["good_rates"]:
            bottom.text(rates[0], row, "none of those tried", color=color, va="center", fontsize=SMALL)
    top.set(xscale="log", ylim=(0, 103), yticks=[0, 20, 40, 60, 80, goal])
    _title(top, f"{plan['dataset'].capitalize()} after {plan['steps']} steps of plain SGD, {_seeds(plan)}")
    bottom.set_title(f"Learning rates that reach {goal:g} %", fontsize=TEXT, loc="left")
    bottom.set(ylim=(len(summaries) - 0.4, -0.6), xlim=(rates[0] / 1.6, rates[-1] * 1.6))
    bottom.set_yticks(range(len(summaries)), [STYLE[s["norm"]][2] for s in summaries], fontweight="bold")
    for text, summary in zip(bottom.get_yticklabels(), summaries):
        text.set_color(STYLE[summary["norm"]][0])
    bottom.tick_params(axis="y", length=0)
    bottom.spines["left"].set_visible(False)
    bottom.grid(axis="y", visible=False)
    _plain_numbers(bottom.xaxis)
    return figure


def draw_curves(results: dict[str, Any]) -> Any:
    """Training loss and test accuracy of every normalization at its best learning rate, step by step.

    Args:
        results: of ``compare``.

    Returns:
        The matplotlib Figure.
    """
    figure = new_figure("draw_curves", 10, 4.4)
    left, right = figure.subplots(1, 2)
    plain_axes(left, "step", "test accuracy, %")
    plain_axes(right, "step", "training loss")
    left.set(ylim=(0, 103))
    right.set(yscale="log")
    ends = []
    for summary in results["summary"]:
        steps, accuracy, loss = _curves(results, summary)
        if steps:
            _band(left, steps, 100 * accuracy, summary["norm"])
            _band(right, steps, loss, summary["norm"])
            ends.append((loss.mean(axis=0)[-1], summary))
    for axes in (left, right):
        axes.set_xlim(0)
    _title(left, f"At the best learning rates, {_seeds(results['plan'])}")
    _plain_numbers(right.yaxis)
    figure.draw_without_rendering()
    _label_ends(right, ends)
    return figure


def _band(axes: Any, x: Any, values: Any, norm: str, **marks: Any) -> None:
    """The mean of the rows as a line, from the lowest to the highest as a band."""
    color = STYLE[norm][0]
    # Others often run along the line of the net without normalization, which then shows on both sides.
    width = 4 if norm == "none" else 2
    axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, linewidth=0)
    axes.plot(x, values.mean(axis=0), color=color, linewidth=width, **marks)


def _curves(results: dict[str, Any], summary: dict[str, Any]) -> tuple[list[int], Any, Any]:
    """Steps, and test accuracies and losses of each seed, as far as all seeds came."""
    same = ("norm", "learning_rate")
    curves = [run["curve"] for run in results["runs"] if all(run[name] == summary[name] for name in same)]
    length = min(len(curve["steps"]) for curve in curves)
    accuracy, loss = (numpy.array([curve[name][:length] for curve in curves]) for name in ("test_accuracy", "loss"))
    return curves[0]["steps"][:length], accuracy, loss


def _label_ends(axes: Any, ends: list[tuple[float, dict[str, Any]]]) -> None:
    """Name the lines at their right ends, moved up where they would lie on each other."""
    low = -1.0
    for y, summary in sorted(ends, key=lambda end: end[0]):
        color, _, label = STYLE[summary["norm"]]
        at = axes.transAxes.inverted().transform(axes.transData.transform((0, y)))[1]
        low = max(at, low + 0.06)
        axes.annotate(
            f"{label}, rate {summary['learning_rate']:.3g}", (1.03, low), xycoords="axes fraction", color=color,
            va="center", fontsize=SMALL, fontweight="bold", annotation_clip=False,
        )  # fmt: skip


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, fontsize=TEXT, fontweight="bold", loc="left")


def _seeds(plan: dict[str, Any]) -> str:
    count = len(plan["seeds"])
    return f"mean and range of {count} seeds" if count > 1 else "one seed"


def _plain_numbers(axis: Any) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())
