"""Pictures: what is drawn, and that nothing else of the program's plotting is touched."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import data, nn, train, viz

try:
    from matplotlib.figure import Figure
except ImportError:
    pytest.skip("matplotlib is not installed", allow_module_level=True)

HISTORY = {
    "loss": [1.0, 0.5, 0.25],
    "val_loss": [1.1, 0.4, 0.6],
    "accuracy": [0.5, 0.8, 0.9],
    "val_accuracy": [0.6, 0.7, 0.65],
    "lr": [0.1, 0.1, 0.1],
    "seconds": [1.0, 1.0, 1.0],
}


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


def bytes_of(figure, path):
    figure.savefig(path)
    return path.read_bytes()


# ---- curves


@pytest.mark.parametrize("kind", [dict, train.History])
def test_a_panel_for_each_quantity(kind):
    figure = viz.curves(kind(HISTORY))
    assert isinstance(figure, Figure)
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "accuracy"]
    drawn = lines(figure.axes[0])
    assert list(drawn) == ["training", "validation"]
    assert drawn["training"].get_ydata().tolist() == HISTORY["loss"]
    assert drawn["validation"].get_ydata().tolist() == HISTORY["val_loss"]
    assert drawn["validation"].get_xdata().tolist() == [1, 2, 3]
    assert drawn["training"].get_linestyle() != drawn["validation"].get_linestyle()


def test_the_best_epoch_is_marked():
    titles = [ax.get_title(loc="left") for ax in viz.curves(HISTORY).axes]
    assert titles == ["best validation 0.4, epoch 2", "best validation 0.7, epoch 2"]


def test_a_changing_rate_and_a_wide_range():
    figure = viz.curves({"loss": [1.0, 0.01], "lr": [0.1, 0.05]})
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "learning rate"]
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "linear"]


@pytest.mark.parametrize("loss", [[0.5], [1.0, np.nan, 0.5], [np.inf, 1.0], [0.0, 1.0], [1.0] * 200, [1e-9, 1.0]])
def test_all_kinds_of_numbers_are_drawn(tmp_path, loss):
    figure = viz.curves({"loss": loss, "val_loss": [np.nan] * len(loss)})
    assert len(bytes_of(figure, tmp_path / "a.png")) > 1000


def test_into_given_axes():
    figure = Figure()
    ax = figure.add_subplot()
    assert viz.curves({"loss": [1.0, 0.5]}, ax=ax) is figure
    assert len(ax.get_lines()) == 1
    with pytest.raises(ValueError, match="one ax holds one quantity; got loss, accuracy"):
        viz.curves(HISTORY, ax=ax)


def test_nothing_to_draw():
    with pytest.raises(ValueError, match=r"nothing to draw; got the names \['seconds'\]"):
        viz.curves({"seconds": [1.0]})


# ---- decision boundary


def half_plane(points):
    return points[:, 0] - 0.5


def colours_at(figure, x, y):
    """The colour of the region at a point."""
    image = figure.axes[0].get_images()[0]
    left, right, bottom, top = image.get_extent()
    pixels = np.asarray(image.get_array())
    row = int((y - bottom) / (top - bottom) * len(pixels))
    return pixels[row, int((x - left) / (right - left) * len(pixels[0]))]


FORMS = {
    "logit": lambda p: (p[:, 0] - 0.5) * 20.0,
    "logit column": lambda p: (p[:, :1] - 0.5) * 20.0,
    "scores": lambda p: tn.stack([p[:, 0] * 0.0, (p[:, 0] - 0.5) * 20.0], axis=1),
    "booleans": lambda p: p[:, 0] > 0.5,
    "indices": lambda p: (p.numpy()[:, 0] > 0.5).astype(int),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_output(form):
    figure = viz.decision_boundary(FORMS[form], *data.xor(40))
    (ax,) = figure.axes
    blue, vermilion = colours_at(figure, 0.1, 0.5), colours_at(figure, 0.9, 0.5)
    assert blue[2] > blue[0] + 0.2 and vermilion[0] > vermilion[2] + 0.2
    (contour, *_) = [c for c in ax.collections if hasattr(c, "levels")]
    assert np.allclose(contour.get_paths()[0].vertices[:, 0], 0.5, atol=0.01)
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert texts == ["0", "1"]


def test_the_surer_the_stronger():
    figure = viz.decision_boundary(lambda p: (p[:, 0] - 0.5) * 5.0, *data.xor(40))
    whiteness = [colours_at(figure, x, 0.5).min() for x in (0.55, 0.8, 1.1)]
    assert whiteness == sorted(whiteness, reverse=True) and whiteness[0] - whiteness[2] > 0.2


def test_points_are_drawn_with_marks_of_their_class():
    x, y = data.spirals(30)
    ax = viz.decision_boundary(lambda p: tn.concatenate([p, p[:, :1] * 0.0], axis=1), x, y).axes[0]
    scattered = [c for c in ax.collections if not hasattr(c, "levels")]
    for k, points in enumerate(scattered):
        assert np.allclose(points.get_offsets(), x.numpy()[y.numpy() == k])
    assert len({c.get_paths()[0].vertices.tobytes() for c in scattered}) == 3


def test_a_module_is_run_in_evaluation_mode_and_left_as_it_was():
    model = nn.MLP([2, 4, 2], norm="batch", dropout=0.5)
    model.norm1.eval()
    modes = [m.training for m in model.modules()]
    before = {k: v.numpy() for k, v in model.state_dict().items()}
    state = tn.backend.random.get_state()
    viz.decision_boundary(model, *data.xor(20))
    assert [m.training for m in model.modules()] == modes
    assert all(np.array_equal(before[k], v.numpy()) for k, v in model.state_dict().items())
    assert tn.backend.random.get_state() == state

    def broken(points):
        raise KeyError("no")

    model.forward = broken
    with pytest.raises(KeyError):
        viz.decision_boundary(model, *data.xor(20))
    assert [m.training for m in model.modules()] == modes


def test_float64_and_arrays(tmp_path):
    seen = []

    def classify(points):
        seen.append(points.dtype)
        return points[:, 1]

    x, y = data.moons(20)
    figure = viz.decision_boundary(classify, x.numpy().astype(np.float64), y.numpy())
    assert seen == [np.float64]
    assert bytes_of(figure, tmp_path / "a.svg").startswith(b"<?xml")


@pytest.mark.parametrize(
    "model, x, y, text",
    [
        (
            half_plane,
            tn.zeros(4, 3),
            tn.zeros(4, dtype="int64"),
            r"x must have shape \(N, 2\).* got \(4, 3\) and \(4,\)",
        ),
        (half_plane, tn.zeros(4, 2), tn.zeros(3, dtype="int64"), r"got \(4, 2\) and \(3,\)"),
        (half_plane, tn.zeros(2, 2), tn.tensor([0, 9]), r"integers in \[0, 8\); got values from 0 to 9"),
        (half_plane, tn.zeros(2, 2), tn.tensor([0.0, 1.0]), "of dtype float32"),
        (lambda p: p[:5], tn.zeros(2, 2), tn.tensor([0, 1]), r"the model must return .* got \(5, 2\)"),
        (lambda p: p.numpy()[:, 0].astype(int) - 3, tn.zeros(2, 2), tn.tensor([0, 1]), "class indices must be"),
    ],
)
def test_bad_input(model, x, y, text):
    with pytest.raises(ValueError, match=text):
        viz.decision_boundary(model, x, y)


# ---- manners


def test_the_programs_own_plotting_is_left_alone(tmp_path):
    program = (
        "import sys, tinygrad_norm, tinygrad_norm.viz as viz\n"
        "assert not any(name.startswith('matplotlib') for name in sys.modules)\n"
        "import matplotlib\n"
        "before = dict(matplotlib.rcParams)\n"
        "viz.curves({'loss': [1.0, 0.5]}).savefig(sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert dict(matplotlib.rcParams) == before\n"
    )
    environment = os.environ | {"MPLBACKEND": "qtagg", "PYTHONPATH": os.fspath(Path(__file__).parent.parent)}
    subprocess.run([sys.executable, "-c", program, tmp_path / "a.png"], check=True, env=environment)
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize("draw", [lambda: viz.curves(HISTORY), lambda: viz.decision_boundary(half_plane, *data.xor(8))])
def test_a_missing_matplotlib_is_named(monkeypatch, draw):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'matplotlib is not installed; write pip install "tinygrad_norm\[viz\]"'):
        draw()
