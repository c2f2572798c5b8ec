"""How all pictures look: colours that colour-blind readers tell apart, sizes that stay readable on a slide."""

from __future__ import annotations

from typing import Any

BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, YELLOW, BLACK = COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#F0E442", "#000000",
)  # fmt: skip
"""The palette of Okabe and Ito, Color universal design, 2008."""

MARKERS = "os^DvPX*"
GREY = "#666666"
TEXT, SMALL = 12, 10.5


def new_figure(function: str, width: float, height: float) -> Any:
    """A matplotlib Figure that belongs to no window and no global list.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError(
            f'viz.{function}: matplotlib is not installed; write pip install "tinygrad_norm[viz]"'
        ) from error
    return Figure(figsize=(width, height), dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))


def plain_axes(ax: Any, xlabel: str, ylabel: str) -> None:
    """Two thin lines, a faint grid, readable labels."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(labelsize=SMALL, color=GREY)
    ax.grid(color="#e4e4e4", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.set_xlabel(xlabel, fontsize=TEXT)
    ax.set_ylabel(ylabel, fontsize=TEXT)


def log_if_wide(ax: Any, values: Any) -> None:
    """A logarithmic axis where the values, an array of finite numbers, span more than a factor of 20."""
    if not values.size or values.min() <= 0 or values.max() <= 20 * values.min():
        return
    ax.set_yscale("log")
    if values.max() <= 300 * values.min():  # less than three powers of ten are too few labels
        ax.yaxis.get_major_locator().set_params(subs=(1.0, 2.0, 5.0))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.get_minor_locator().set_params(subs=())
