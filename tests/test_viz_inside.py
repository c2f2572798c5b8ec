"""Pictures of what a monitor recorded: what is drawn where, from a monitor or anything that looks like one."""

import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import data, nn, optim, train, viz

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def spread(*records, bins=40):
    """Records of arrays as the monitor keeps them."""
    series = {"step": [10 * i + 1 for i in range(len(records))], "std": [float(np.std(r)) for r in records]}
    for p in (15, 50, 85):
        series[f"p{p}"] = [float(np.percentile(r, p)) for r in records]
    series["counts"], series["edges"] = zip(*(np.histogram(r[np.isfinite(r)], bins) for r in records))
    return series


def monitor(activations=None, gradients=None, weights=None, vectors=None):
    return SimpleNamespace(
        activations=activations or {}, gradients=gradients or {}, weights=weights or {}, vectors=vectors or {}
    )


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


@pytest.fixture(scope="module")
def trained():
    tn.manual_seed(0)
    model = nn.MLP([2, 8, 2], norm="batch")
    optimizer = optim.SGD(model.named_parameters(), lr=0.1)
    watch = train.NormMonitor(every=3)
    trainer = train.Trainer(model, optimizer, nn.CrossEntropyLoss(), callbacks=[watch])
    trainer.fit(data.DataLoader(data.TensorDataset(*data.moons(90)), batch_size=20), 3, progress=False)
    return watch


DRAW = np.random.default_rng(0)
NORMAL = [DRAW.normal(shift, 1.0, 40_000) for shift in (0.0, 1.0, 2.0)]


@pytest.mark.parametrize("draw, other", [("activations", "gradients"), ("gradients", "activations")])
def test_a_panel_for_each_layer_with_its_percentiles(draw, other):
    shown, hidden = {"a": spread(*NORMAL), "b": spread(*NORMAL[::-1])}, {"c": spread(*NORMAL)}
    figure = getattr(viz, draw)(monitor(**{draw: shown, other: hidden}))
    assert titles(figure) == ["a", "b"]
    for ax, series in zip(figure.axes, shown.values()):
        drawn = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in ax.get_lines()]
        assert drawn == [([1, 11, 21], series[p]) for p in ("p15", "p50", "p85")]


def test_the_shade_is_the_histogram():
    (ax,) = viz.activations(monitor({"a": spread(*NORMAL)})).axes
    (mesh,) = ax.collections
    shade = mesh.get_array().reshape(viz.inside.CELLS, 3)
    cells = mesh.get_coordinates()[:, 0, 1]
    middle = (cells[1:] + cells[:-1]) / 2
    assert mesh.get_coordinates()[0, :, 0].tolist() == [-4.0, 6.0, 16.0, 26.0]
    assert np.allclose(shade.max(axis=0), 1.0)  # each record for itself
    for column, shift in zip(shade.T, (0.0, 1.0, 2.0)):
        density = column**2 / np.trapezoid(column**2, middle)
        expected = np.exp(-((middle - shift) ** 2) / 2) / np.sqrt(2 * np.pi)
        inside = np.abs(middle - shift) < 2
        assert np.abs(density - expected)[inside].max() < 0.03
        assert abs(middle[column.argmax()] - shift) < 0.5


def test_a_panel_reaches_as_far_as_most_values_of_most_records():
    records = [*NORMAL] * 10
    records[7] = records[7] * 1000.0
    low, high = viz.activations(monitor({"a": spread(*records)})).axes[0].get_ylim()
    assert -5 < low < -2 and 4 < high < 7


def test_of_many_layers_some_are_shown_from_the_first_to_the_last():
    many = {f"layer{i}": spread(*NORMAL) for i in range(30)}
    shown = titles(viz.activations(monitor(many)))
    assert len(shown) == 12 and (shown[0], shown[-1]) == ("layer0", "layer29")
    assert titles(viz.activations(monitor(many), layers=["layer7", "layer3"])) == ["layer7", "layer3"]


NOTHING_FINITE = np.full(5, np.nan)


@pytest.mark.parametrize(
    "records",
    [[np.zeros(5)], [np.zeros(5)] * 2, [np.full(3, 1e-30)], [np.arange(3.0), NOTHING_FINITE], [NOTHING_FINITE]],
)
def test_histograms_of_little(records, tmp_path):
    viz.activations(monitor({"a": spread(*records)})).savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


# ---- norms


def test_norms_of_a_monitor(trained):
    figure = viz.norms(trained)
    assert titles(figure) == [
        "std of activations", "std of their gradients", "norm of weights", "norm of their gradients", "gain", "bias",
        "running mean", "running var",
    ]  # fmt: skip
    panels = dict(zip(titles(figure), figure.axes))
    drawn = lines(panels["std of their gradients"])
    assert list(drawn) == ["linear1", "norm1", "activation1", "linear2"]
    assert drawn["norm1"].get_ydata().tolist() == trained.gradients["norm1"]["std"]
    assert drawn["norm1"].get_xdata().tolist() == trained.gradients["norm1"]["step"] == [1, 4, 7, 10, 13]
    for title, key in (("norm of weights", "norm"), ("norm of their gradients", "grad_norm")):
        drawn = lines(panels[title])
        assert list(drawn) == ["linear1", "linear2"]
        assert drawn["linear2"].get_ydata().tolist() == trained.weights["linear2.weight"][key]
    assert list(lines(panels["bias"])) == ["norm1", "linear2"]
    (band,) = panels["running var"].collections
    vertices = band.get_paths()[0].vertices
    series = trained.vectors["norm1.running_var"]
    assert np.isclose(vertices[:, 1].min(), min(series["low"])) and np.isclose(
        vertices[:, 1].max(), max(series["high"])
    )
    assert lines(panels["running var"])["norm1"].get_ydata().tolist() == series["mean"]


def test_what_shrinks_with_depth_is_logarithmic_and_named_at_the_ends():
    weights = {f"l{i}.weight": {"step": [1, 2], "norm": [5.0, 6.0], "grad_norm": [0.1**i] * 2} for i in range(9)}
    norm, gradient = viz.norms(monitor(weights=weights)).axes
    assert (norm.get_yscale(), gradient.get_yscale()) == ("linear", "log")
    assert [text.get_text() for text in norm.get_legend().get_texts()] == ["l0", "l4", "l8"]
    colours = [line.get_color()[:3] for line in norm.get_lines()]
    assert all(sum(a) < sum(b) for a, b in pairwise(colours))


def test_weights_of_one_layer_have_different_names():
    one = {"step": [1], "norm": [1.0], "grad_norm": [np.nan]}
    figure = viz.norms(monitor(weights={"a.weight_g": one, "a.weight_v": one, "weight": one}))
    assert list(lines(figure.axes[0])) == ["a.weight_g", "a.weight_v", "weight"]


# ---- manners


def test_files_of_a_monitor(trained, tmp_path, backend):
    for draw in (viz.activations, viz.gradients, viz.norms):
        draw(trained).savefig(tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size > 10_000


@pytest.mark.parametrize("draw", [viz.activations, viz.gradients, viz.norms])
def test_nothing_to_draw(draw):
    for empty in (monitor(), train.NormMonitor(), monitor({"a": {}}, {"a": {}})):
        with pytest.raises(
            ValueError, match=rf"{draw.__name__}: nothing was recorded; write Trainer\(\.\.\., callbacks="
        ):
            draw(empty)


def test_a_layer_that_is_not_there(trained):
    with pytest.raises(ValueError, match=r"layers must be among linear1, norm1, activation1, linear2; got \['norm2'\]"):
        viz.activations(trained, layers=["norm1", "norm2"])


@pytest.mark.parametrize("draw", [viz.activations, viz.gradients, viz.norms])
def test_a_missing_matplotlib_is_named(monkeypatch, trained, draw):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=rf"viz\.{draw.__name__}: matplotlib is not installed; write pip install"):
        draw(trained)
