"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from .style import BLUE, GREY, SMALL, TEXT, VERMILION, log_if_wide, new_figure, plain_axes

NOT_CURVES = {"seconds", "epoch"}


def curves(history: Mapping[str, Sequence[float]], ax: Any = None) -> Any:
    """Draw what training recorded against the epochs, a panel for each quantity with its validation beside it.

    The best validated epoch is marked. An axis is logarithmic where the values span more than a factor of 20. "lr" has
    a panel when it changes, "seconds" has none.

    Args:
        history: names to one number per epoch: a ``train.History``, or any mapping; "val_x" is the validation of "x".
        ax: matplotlib axes to draw into; then the mapping must be of one quantity.

    Returns:
        The matplotlib Figure; ``figure.savefig("curves.png")`` writes it.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: nothing to draw, or several quantities for one ``ax``.

    >>> figure = curves({"loss": [0.9, 0.5, 0.3], "val_loss": [1.0, 0.7, 0.8]})
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['loss']
    """
    names = _quantities(history)
    if not names:
        raise ValueError(f"curves: the history holds nothing to draw; got the names {list(history)}")
    if ax is not None:
        if len(names) > 1:
            raise ValueError(
                f"curves: one ax holds one quantity; got {', '.join(names)}; write "
                "curves({'loss': history['loss']}, ax)"
            )
        _panel(ax, history, names[0])
        return ax.figure
    figure = new_figure("curves", 5.2 * len(names), 3.9)
    for panel, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names):
        _panel(panel, history, name)
    return figure


def _quantities(history: Mapping[str, Sequence[float]]) -> list[str]:
    names: list[str] = []
    for name, values in history.items():
        name = name.removeprefix("val_")
        drawn = numpy.isfinite(numpy.asarray(values, float)).any() and not (name == "lr" and len(set(values)) == 1)
        if drawn and name not in names and name not in NOT_CURVES:
            names.append(name)
    return names


def _panel(ax: Any, history: Mapping[str, Sequence[float]], name: str) -> None:
    plain_axes(ax, "epoch", "learning rate" if name == "lr" else name.replace("_", " "))
    everything = []
    for key, label, colour, line in ((name, "training", BLUE, "-"), (f"val_{name}", "validation", VERMILION, "--")):
        if key in history:
            values = numpy.asarray(history[key], float)
            epochs = numpy.arange(1, len(values) + 1)
            marker = "o" if len(values) <= 25 else ""
            ax.plot(epochs, values, line, color=colour, label=label, linewidth=2, marker=marker, markersize=4)
            everything.append(values[numpy.isfinite(values)])
    log_if_wide(ax, numpy.concatenate(everything))
    ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if f"val_{name}" in history:
        _mark_best(ax, numpy.asarray(history[f"val_{name}"], float), highest=name.endswith("accuracy"))
        ax.legend(fontsize=SMALL, frameon=False)


def _mark_best(ax: Any, values: numpy.ndarray, highest: bool) -> None:
    if not numpy.isfinite(values).any():
        return
    best = int(numpy.nanargmax(values) if highest else numpy.nanargmin(values))
    ax.plot(best + 1, values[best], "o", color="white", markeredgecolor=VERMILION, markeredgewidth=2, markersize=9)
    ax.set_title(f"best validation {values[best]:.4g}, epoch {best + 1}", fontsize=TEXT, color=GREY, loc="left")
