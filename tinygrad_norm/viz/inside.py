"""What happens inside a model during training: histograms and norms over time, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from .style import BLUE, SMALL, TEXT, VERMILION, log_if_wide, new_figure, plain_axes

PANELS = 12
"""Layers that one picture shows; of more, as many from the first to the last."""

CELLS = 160
"""Cells of a histogram along the axis of the values."""

OUTSIDE = 0.005
"""The share of a record's values at either end that may lie outside a panel."""

RARE = 0.05
"""The share of records that do not decide how far a panel reaches: one small last batch has much larger gradients."""

LABELS = 7
"""Lines that a legend names; of more, the first, the middle one and the last."""

TITLES = {"weight": "gain", "weight_g": "gain"}

NOTHING = "nothing was recorded; write Trainer(..., callbacks=[monitor]) and fit first"


def activations(monitor: Any, layers: Sequence[str] | None = None) -> Any:
    """Draw how the outputs of each layer are spread, and how that drifts during training: a panel for each layer.

    The darker, the more values (each column for itself). The lines are the median and the percentiles 15 and 85, as in
    the figures of Ioffe, Szegedy 2015. Rare values, and those of a rare step, may lie outside the panel.

    Args:
        monitor: a ``train.NormMonitor`` after training, or any object with its attributes.
        layers: names of layers, in the order of the panels; None: all, or, of more than 12, that many.

    Returns:
        The matplotlib Figure; ``figure.savefig("activations.png")`` writes it.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: nothing was recorded, or not of a layer that is asked for.

    >>> from types import SimpleNamespace
    >>> series = {"step": [1, 2], "p15": [0, 0], "p50": [1, 1], "p85": [2, 2]}
    >>> series |= {"counts": [[3, 1], [2, 2]], "edges": [[0.0, 1.0, 2.0]] * 2}
    >>> figure = activations(SimpleNamespace(activations={"linear1": series}))
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['linear1']
    """
    return _panels("activations", monitor.activations, layers)


def gradients(monitor: Any, layers: Sequence[str] | None = None) -> Any:
    """Draw how the gradients of the loss by each layer's outputs are spread during training; as :func:`activations`.

    Args, Returns, Raises: as :func:`activations`.
    """
    return _panels("gradients", monitor.gradients, layers)


def norms(monitor: Any) -> Any:
    """Draw, a line for each layer, how spreads and norms change during training.

    The panels: standard deviation of the activations and of their gradients; norms of the weights and of their
    gradients; gains, biases and running statistics, where the line is the mean and the band reaches from the lowest to
    the highest. Colours go from the first layer, dark, to the last, light.

    Args:
        monitor: a ``train.NormMonitor`` after training, or any object with its attributes.

    Returns:
        The matplotlib Figure; ``figure.savefig("norms.png")`` writes it.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: nothing was recorded.

    >>> from types import SimpleNamespace
    >>> weights = {"linear1.weight": {"step": [1, 2], "norm": [3.0, 3.1], "grad_norm": [0.5, 0.4]}}
    >>> figure = norms(SimpleNamespace(activations={}, gradients={}, weights=weights, vectors={}))
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['norm of weights', 'norm of their gradients']
    """
    panels = [
        ("std of activations", monitor.activations, "std"),
        ("std of their gradients", monitor.gradients, "std"),
        ("norm of weights", monitor.weights, "norm"),
        ("norm of their gradients", monitor.weights, "grad_norm"),
    ]
    for kind in dict.fromkeys(map(_kind, monitor.vectors)):
        vectors = {name: series for name, series in monitor.vectors.items() if _kind(name) == kind}
        panels.append((TITLES.get(kind, kind.replace("_", " ")), vectors, "mean"))
    recorded = [(title, _recorded(group), key) for title, group, key in panels if _recorded(group)]
    if not recorded:
        raise ValueError(f"norms: {NOTHING}")
    figure, axes = _grid("norms", len(recorded))
    for ax, (title, group, key) in zip(axes, recorded):
        ax.set_title(title, fontsize=TEXT, loc="left")
        _lines(ax, group, key)
    return figure


def _panels(function: str, group: Mapping[str, Any], layers: Sequence[str] | None) -> Any:
    recorded = _recorded(group)
    if not recorded:
        raise ValueError(f"{function}: {NOTHING}")
    names = list(recorded) if layers is None else list(layers)
    if unknown := [name for name in names if name not in recorded]:
        raise ValueError(f"{function}: layers must be among {', '.join(recorded)}; got {unknown}")
    if layers is None and len(names) > PANELS:
        names = [names[i] for i in numpy.linspace(0, len(names) - 1, PANELS).round().astype(int)]
    figure, axes = _grid(function, len(names))
    for ax, name in zip(axes, names):
        ax.set_title(name or "model", fontsize=TEXT, loc="left")
        _histograms(ax, recorded[name])
    return figure


def _recorded(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: series for name, series in group.items() if len(series.get("step", ()))}


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _grid(function: str, panels: int) -> tuple[Any, list[Any]]:
    columns = min(panels, 4)
    rows = -(-panels // columns)
    figure = new_figure(function, 3.6 * columns, 2.9 * rows)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(panels)]
    for i, ax in enumerate(axes):
        plain_axes(ax, "step" if i + columns >= panels else "", "")
        ax.xaxis.get_major_locator().set_params(integer=True, nbins=4, min_n_ticks=1)
    return figure, axes


def _histograms(ax: Any, series: Mapping[str, Any]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    steps = numpy.asarray(series["step"], float)
    edges = numpy.asarray(series["edges"], float)
    sums = numpy.cumsum(numpy.pad(numpy.asarray(series["counts"], float), ((0, 0), (1, 0))), axis=1)
    low, high = ([numpy.interp(share * s[-1], s, e) for s, e in zip(sums, edges)] for share in (OUTSIDE, 1 - OUTSIDE))
    bottom, top = numpy.percentile(low, 100 * RARE), numpy.percentile(high, 100 - 100 * RARE)
    margin = 0.03 * (top - bottom) or 0.5
    cells = numpy.linspace(bottom - margin, top + margin, CELLS + 1)
    shares = numpy.diff([numpy.interp(cells, e, s) for s, e in zip(sums, edges)], axis=1)
    highest = shares.max(axis=1, keepdims=True)
    shade = numpy.sqrt(shares / numpy.where(highest == 0, 1.0, highest))  # the root keeps what is rare visible
    colours = LinearSegmentedColormap.from_list("blue", ["#ffffff", BLUE])
    ax.grid(False)
    ax.pcolormesh(_borders(steps), cells, shade.T, cmap=colours, vmin=0.0, vmax=1.15, rasterized=True)
    marker = "o" if len(steps) == 1 else ""
    for name, width in (("p15", 1.0), ("p50", 2.0), ("p85", 1.0)):
        ax.plot(steps, series[name], color=VERMILION, linewidth=width, marker=marker, markersize=2 * width + 1)
    ax.set_ylim(cells[0], cells[-1])


def _borders(steps: numpy.ndarray) -> numpy.ndarray:
    """The borders of columns around the steps."""
    if len(steps) == 1:
        return steps[0] + numpy.array([-0.5, 0.5])
    middle = (steps[1:] + steps[:-1]) / 2
    return numpy.concatenate([[2 * steps[0] - middle[0]], middle, [2 * steps[-1] - middle[-1]]])


def _lines(ax: Any, group: Mapping[str, Any], key: str) -> None:
    from matplotlib import colormaps

    colours = colormaps["viridis"](numpy.linspace(0.0, 0.85, len(group)))
    labelled = {0, len(group) // 2, len(group) - 1} if len(group) > LABELS else set(range(len(group)))
    everything = []
    for i, (name, series) in enumerate(group.items()):
        values = numpy.asarray(series[key], float)
        label = name.removesuffix(".weight" if key != "mean" else f".{_kind(name)}") or "model"
        marker = "o" if len(values) == 1 else ""
        ax.plot(
            series["step"], values, color=colours[i], linewidth=1.8, marker=marker, markersize=4,
            label=label if i in labelled else "_",
        )  # fmt: skip
        if "low" in series:
            ax.fill_between(series["step"], series["low"], series["high"], color=colours[i], alpha=0.12, linewidth=0)
        everything.append(values[numpy.isfinite(values)])
    if key != "mean":
        log_if_wide(ax, numpy.concatenate(everything))
    ax.legend(fontsize=SMALL - 2.5, edgecolor="none", framealpha=0.7, handlelength=1.2, labelspacing=0.25)
