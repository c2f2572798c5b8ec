"""Decision boundaries of classifiers in the plane."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy

from ..engine import Tensor, no_grad
from ..nn import Module
from ..nn.modes import in_mode
from ..ops.create import tensor
from .style import COLOURS, MARKERS, SMALL, new_figure, plain_axes

POINTS = 300
"""Points of the grid along each axis."""


def decision_boundary(model: Callable[[Any], Any], x: Any, y: Any, ax: Any = None) -> Any:
    """Draw which class a classifier gives to each point of the plane, and the data on top.

    Full colour means sure, white means that two classes are equally likely; the lines are where the decision changes.

    Args:
        model: takes points, a Tensor (M, 2) of the dtype of ``x``, and returns scores (M, C), or one logit per point
            whose sign is the class, or class indices (integers). A Module is run in evaluation mode.
        x: the data, (N, 2), floating.
        y: its classes, (N,), integers from 0.
        ax: matplotlib axes to draw into.

    Returns:
        The matplotlib Figure; ``figure.savefig("boundary.png")`` writes it.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: shapes or values that are none of these.

    >>> from tinygrad_norm import data
    >>> x, y = data.moons(100)
    >>> figure = decision_boundary(lambda points: points[:, 1] * -1.0 + 0.25, x, y)
    >>> len(figure.axes)
    1
    """
    points = x if isinstance(x, Tensor) else tensor(x)
    labels = tensor(y, device="cpu").numpy()
    if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1] or not labels.size:
        raise ValueError(
            f"decision_boundary: x must have shape (N, 2) and y (N,), with N at least 1; got "
            f"{points.shape} and {labels.shape}"
        )
    if labels.dtype.kind not in "iub" or labels.min() < 0 or labels.max() >= len(COLOURS):
        raise ValueError(
            f"decision_boundary: y must be classes, integers in [0, {len(COLOURS)}); got values from {labels.min()} to "
            f"{labels.max()} of dtype {labels.dtype}"
        )
    host = points.numpy()
    low, high = host.min(axis=0), host.max(axis=0)
    margin = 0.08 * numpy.maximum(high - low, 1e-6)
    sides = [numpy.linspace(a, b, POINTS) for a, b in zip(low - margin, high + margin)]
    grid = numpy.stack(numpy.meshgrid(*sides), axis=-1).reshape(-1, 2).astype(host.dtype)
    shares = _class_shares(_scores(model, tensor(grid, device=points.device)), len(grid))
    if ax is None:
        ax = new_figure("decision_boundary", 5.6, 5.0).add_subplot()
    plain_axes(ax, "$x_1$", "$x_2$")
    ax.grid(False)
    ax.locator_params(nbins=6)
    _draw_regions(ax, shares.reshape(POINTS, POINTS, -1), sides)
    for k in numpy.unique(labels):
        mine = host[labels == k]
        ax.scatter(
            mine[:, 0], mine[:, 1], s=26, color=COLOURS[k], marker=MARKERS[k], edgecolor="white", linewidth=0.6,
            label=str(k),
        )  # fmt: skip
    ax.legend(
        title="class", fontsize=SMALL, title_fontsize=SMALL, frameon=False, handletextpad=0.1,
        loc="upper left", bbox_to_anchor=(1, 1),  # beside the axes, where it covers no data
    )  # fmt: skip
    return ax.figure


def _scores(model: Any, grid: Tensor) -> numpy.ndarray:
    with in_mode(model, training=False) if isinstance(model, Module) else nullcontext(), no_grad():
        output = model(grid)
    return tensor(output, device="cpu").numpy()


def _class_shares(scores: numpy.ndarray, rows: int) -> numpy.ndarray:
    """Scores of any accepted form as the probability of each class, (rows, C)."""
    if scores.shape not in ((rows,), (rows, 1)) and not (scores.ndim == 2 and len(scores) == rows):
        raise ValueError(
            f"decision_boundary: for {rows} points the model must return ({rows}, C), ({rows}, 1) or ({rows},); "
            f"got {scores.shape}"
        )
    if scores.dtype.kind in "iub":
        classes = scores.reshape(rows).astype(int)
        if not 0 <= classes.min() <= classes.max() < len(COLOURS):
            raise ValueError(
                f"decision_boundary: class indices must be in [0, {len(COLOURS)}); got values from {classes.min()} to "
                f"{classes.max()}"
            )
        return numpy.eye(max(classes.max() + 1, 2))[classes]
    if scores.size == rows:
        logit = scores.reshape(rows, 1).astype(float)
        scores = numpy.concatenate([-logit / 2, logit / 2], axis=1)
    if scores.shape[1] > len(COLOURS):
        raise ValueError(f"decision_boundary: at most {len(COLOURS)} classes can be told apart; got {scores.shape[1]}")
    shares = numpy.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def _draw_regions(ax: Any, shares: numpy.ndarray, sides: list[numpy.ndarray]) -> None:
    from matplotlib.colors import to_rgb

    classes = shares.shape[-1]
    winner = shares.argmax(axis=-1)
    colours = numpy.array([to_rgb(colour) for colour in COLOURS[:classes]])
    sure = (shares.max(axis=-1) - 1 / classes) / (1 - 1 / classes)
    strength = 0.08 + 0.37 * sure[..., None]
    ax.imshow(
        1 - strength * (1 - colours[winner]), origin="lower", aspect="auto", interpolation="bilinear",
        extent=(sides[0][0], sides[0][-1], sides[1][0], sides[1][-1]),
    )  # fmt: skip
    for k in range(classes):
        others = numpy.delete(shares, k, axis=-1).max(axis=-1)
        lead = shares[..., k] - others
        if lead.min() < 0 < lead.max():
            ax.contour(*sides, lead, levels=[0.0], colors="#333333", linewidths=1.0)
