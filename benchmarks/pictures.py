"""The results as pictures: who is faster, and by how much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinygrad_norm.viz.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    MARKERS,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    TEXT,
    VERMILION,
    new_figure,
    plain_axes,
)

from .cases import NAMES
from .contenders import REFERENCE, REFERENCE_ONE
from .report import middle, ratio, time_text

LINES = {
    "fast": BLUE, "fast_1": BLUE, "fast_threads": BLUE, "numpy": SKY, "numpy_1": SKY, "torch": BLACK,
    "torch_1": BLACK, "jax": VERMILION, "torch_compile": PURPLE, "mygrad": GREEN, "autograd": ORANGE,
}  # fmt: skip


def draw(results: dict[str, Any], folder: Path) -> list[str]:
    """Every picture that the results have cases for; returns the files' names."""
    drawn = []
    for section, picture in (("train", train), ("norms", norms), ("scaling", scaling)):
        cases = [case for case in results["cases"] if case["section"] == section and REFERENCE in case["times"]]
        figure = picture(cases, results["contenders"])
        if figure is not None:
            figure.savefig(folder / f"{section}.png")
            drawn.append(f"{section}.png")
    return drawn


def train(cases: list[dict[str, Any]], about: dict[str, Any]) -> Any:
    """Bars to the right of PyTorch are faster, bars to the left are slower; one panel for each net with batch norm."""
    cases = [case for case in cases if case["norm"] == "batch"]
    if not cases:
        return None
    figure = new_figure("train", 9, 0.6 + sum(0.75 + 0.3 * len(case["times"]) for case in cases))
    panels = figure.subplots(
        len(cases), 1, sharex=True, squeeze=False, height_ratios=[1.6 + len(case["times"]) for case in cases]
    )[:, 0]
    for ax, case in zip(panels, cases):
        bars(ax, case, about)
    panels[-1].set_xlabel("times as fast as PyTorch (black line: middle half of the rounds)", fontsize=TEXT)
    low, high = panels[-1].get_xlim()
    panels[-1].set_xlim(low, high * (high / low) ** 0.25)  # room for the figures at the bars' ends
    return figure


def bars(ax: Any, case: dict[str, Any], about: dict[str, Any]) -> None:
    """The contenders of one case, the fastest on top."""
    keys = sorted(case["times"], key=lambda key: ratio(case, key, REFERENCE)[1])
    ax.set_xscale("log", base=2)
    for y, key in enumerate(keys):
        low, value, high = ratio(case, key, REFERENCE)
        colour = (BLUE if key.startswith("fast") else SKY) if about[key]["ours"] else "#b5b5b5"
        ax.barh(y, value - 1, left=1, height=0.72, color=colour)
        ax.plot([low, high], [y, y], color=BLACK, linewidth=1.2, solid_capstyle="butt")
        text = f" {value:.2f}x   {time_text(middle(case, key), middle(case, REFERENCE))}"
        ax.text(max(1, value, high), y, text, va="center", fontsize=SMALL - 1)
    ax.axvline(1, color=GREY, linewidth=1)
    plain_axes(ax, "", "")
    ax.grid(visible=False, axis="y")
    ax.set_yticks(range(len(keys)), [about[key]["label"] for key in keys], fontsize=SMALL)
    for label, key in zip(ax.get_yticklabels(), keys):
        label.set_fontweight("bold" if about[key]["ours"] else "normal")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.set_title(f"Training step: batch {case['label']}", fontsize=TEXT, loc="left")


def norms(cases: list[dict[str, Any]], about: dict[str, Any]) -> Any:
    """One panel for each normalization: speed beside PyTorch against the size of the array."""
    kinds = [norm for norm in NAMES if any(case["norm"] == norm for case in cases)]
    if not kinds:
        return None
    figure = new_figure("norms", 9, 7.5)
    panels = figure.subplots(2, 2, sharex=True, sharey=True).reshape(-1)
    for ax, norm in zip(panels, kinds):
        mine = [case for case in cases if case["norm"] == norm]
        for key, reference in (
            ("fast", REFERENCE), ("fast_1", REFERENCE_ONE), ("fast_threads", REFERENCE), ("numpy", REFERENCE),
            ("jax", REFERENCE), ("torch_compile", REFERENCE),
        ):  # fmt: skip
            if key not in about or any(key not in c["times"] or reference not in c["times"] for c in mine):
                continue
            label = about[key]["label"] + (" beside PyTorch, 1 thread" if reference == REFERENCE_ONE else "")
            values = [ratio(case, key, reference)[1] for case in mine]
            line(ax, range(len(mine)), values, key, label)
        ax.axhline(1, color=GREY, linewidth=1)
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
        plain_axes(ax, "", "times as fast as PyTorch" if ax in panels[::2] else "")
        ax.set_xticks(range(len(mine)), ["x".join(map(str, case["shape"])) for case in mine], fontsize=SMALL)
        ax.set_title(f"{NAMES[norm]}, forward + backward", fontsize=TEXT, loc="left")
    legend(figure, panels, 2)
    return figure


def scaling(cases: list[dict[str, Any]], about: dict[str, Any]) -> Any:
    """Time of a training step against depth and against width."""
    if not cases:
        return None
    figure = new_figure("scaling", 9, 4.8)
    panels = figure.subplots(1, 2, sharey=True)
    for ax, (axis, text) in zip(panels, (("depth", "hidden layers of 128"), ("width", "width of 2 hidden layers"))):
        mine = [case for case in cases if case["axis"] == axis]
        for key in about:
            if mine and all(key in case["times"] for case in mine):
                values = [1e3 * middle(case, key) for case in mine]
                line(ax, [case["size"] for case in mine], values, key, about[key]["label"])
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.tick_params(which="minor", labelleft=False)
        ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
        ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
        plain_axes(ax, text, "ms for a training step" if axis == "depth" else "")
    legend(figure, panels, 3)
    return figure


def legend(figure: Any, panels: Any, columns: int) -> None:
    """One legend for all panels."""
    lines = {line.get_label(): line for ax in panels for line in ax.get_lines() if line.get_label()[0] != "_"}
    figure.legend(
        lines.values(), lines.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=SMALL
    )


def line(ax: Any, x: Any, y: list[float], key: str, label: str) -> None:
    """One contender; dashed when it is held to one thread, dotted when it asked for several."""
    kind = 1 if key.endswith("_1") else 2 if key.endswith("_threads") else 0
    ax.plot(x, y, color=LINES.get(key, GREY), marker=MARKERS[kind], markersize=5, label=label,
            linestyle=("-", "--", ":")[kind], linewidth=2.2 if key in ("fast", "numpy") else 1.5)  # fmt: skip
