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
