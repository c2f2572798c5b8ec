"""The computation graph as text and picture."""

import re
import shutil
import sys

import pytest

import tinygrad_norm as tn
from tinygrad_norm import nn, viz

X = tn.ones(5, 2)


def read(graph):
    """What a picture says: {box: (title, shape, kind)} and the set of (title, title) arrows."""
    boxes = {}
    for number, label, style in re.findall(r'^  (n\d+) \[label="(.*)", style="(.*)\];$', str(graph), re.M):
        title, shape = label.split("\\n")
        dashed, blue, red = "dashed" in style, "#0072B2" in style, "#D55E00" in style
        boxes[number] = (title, shape, "constant" if dashed else "leaf" if blue else "output" if red else "operation")
    arrows = re.findall(r"^  (n\d+) -> (n\d+);$", str(graph), re.M)
    return boxes, [(boxes[a][0], boxes[b][0]) for a, b in arrows]


def test_a_net_with_its_names():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    boxes, arrows = read(viz.graph(model(X).sum(), {**dict(model.named_parameters()), "x": X}))
    assert sorted(boxes.values()) == [
        ("0.bias", "(3,)", "leaf"),
        ("0.weight", "(3, 2)", "leaf"),
        ("linear", "(5, 3)", "operation"),
        ("relu", "(5, 3)", "operation"),
        ("sum", "()", "output"),
        ("x", "(5, 2)", "constant"),
    ]
    assert sorted(arrows) == [
        ("0.bias", "linear"),
        ("0.weight", "linear"),
        ("linear", "relu"),
        ("relu", "sum"),
        ("x", "linear"),
    ]
    assert {box[0] for box in read(viz.graph(model(X), model))[0].values()} >= {"0.weight", "0.bias"}


def test_a_fused_norm_is_one_box_and_its_composite_many():
    layer, x = nn.LayerNorm(2), tn.ones(5, 2).requires_grad_()
    fused = read(viz.graph(layer(x), layer))[0]
    with tn.composite():
        composite = read(viz.graph(layer(x), layer))[0]
    assert [title for title, _, kind in fused.values() if kind == "output"] == ["norm"]
    assert len(fused) == 4 and len(composite) > 6


def test_a_tensor_used_twice_is_one_box_with_two_arrows():
    w = tn.tensor([1.0, 2.0], requires_grad=True)
    c = tn.tensor([3.0, 4.0])
    boxes, arrows = read(viz.graph(w * w * c + w * c, {"w": w, "c": c}))
    titles = [box[0] for box in boxes.values()]
    assert titles.count("w") == titles.count("c") == 1
    assert arrows.count(("w", "multiply")) == 3 and arrows.count(("c", "multiply")) == 2


def test_numbers_and_names_of_results():
    w = tn.tensor([1.0], requires_grad=True)
    h = 1.0 - w**2
    boxes, _ = read(viz.graph(h.exp(), {"h": h}))
    assert [box[0] for box in boxes.values()] == ["leaf", "power(·, 2)", "h = subtract(1.0, ·)", "exp"]


def test_a_leaf_alone_and_names_with_quotes():
    w = tn.tensor([1.0], requires_grad=True)
    assert [box[0] for box in read(viz.graph(w, {'a "b"': w}))[0].values()] == ['a \\"b\\"']


def test_drawing_leaves_the_graph_alone():
    w = tn.tensor([3.0], requires_grad=True)
    y = (w * w).sum()
    viz.graph(y)
    y.backward()
    assert w.grad.tolist() == [6.0]
    with pytest.raises(ValueError, match=r"behind this sum was released by backward\(\); draw it before"):
        viz.graph(y)


def test_depth_is_no_recursion_and_has_a_limit():
    w = tn.tensor([1.0], requires_grad=True)
    y = w
    for _ in range(999):
        y = y + 1.0
    assert len(read(viz.graph(y))[0]) == 1000
    with pytest.raises(ValueError, match="more than 1000 operations, which no picture shows"):
        viz.graph(y + 1.0)


@pytest.mark.parametrize(
    "output, names, error, text",
    [
        (X, None, ValueError, r"nothing that this Tensor of shape \(5, 2\) .* was computed from needs a gradient"),
        (X.numpy(), None, TypeError, r"output must be a Tensor; got ndarray"),
        (tn.tensor(1.0, requires_grad=True), {"x": 3}, TypeError, "names must be a Module or a mapping of names to"),
        (tn.tensor(1.0, requires_grad=True), ["x"], TypeError, r"got \['x'\] \(list\)"),
    ],
)
def test_bad_input(output, names, error, text):
    with pytest.raises(error, match=text):
        viz.graph(output, names)


# ---- pictures


@pytest.fixture
def picture():
    w = tn.tensor([1.0], requires_grad=True)
    return viz.graph(w * 2.0, {"w": w})


def test_a_notebook_shows_a_picture_and_files_are_written(picture, tmp_path):
    pytest.importorskip("graphviz", reason="graphviz is not installed")
    if not shutil.which("dot"):
        pytest.skip("the program dot is not installed")
    svg = picture._repr_svg_()
    assert "<svg" in svg and "multiply(·, 2.0)" in svg
    for name, start in (("a.svg", b"<?xml"), ("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")):
        picture.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(ValueError, match="png"):
        picture.save(tmp_path / "a.pong")


def test_without_the_program_it_is_text(picture, tmp_path, monkeypatch):
    pytest.importorskip("graphviz", reason="graphviz is not installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert picture._repr_svg_() is None
    with pytest.raises(FileNotFoundError, match=r"the program dot is not installed; .* save it as \.dot"):
        picture.save(tmp_path / "a.svg")
    assert not (tmp_path / "a.svg").exists()


def test_without_the_package_it_is_text(picture, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    assert picture._repr_svg_() is None
    with pytest.raises(ImportError, match=r'graphviz is not installed; write pip install "tinygrad_norm\[viz\]"'):
        picture.save(tmp_path / "a.svg")
    for name in ("a.dot", "a.gv"):
        picture.save(tmp_path / name)
        assert (tmp_path / name).read_text("utf-8") == picture.source == repr(picture)
    with pytest.raises(ValueError, match=r"path must end in \.svg, \.png"):
        picture.save(tmp_path / "a")
