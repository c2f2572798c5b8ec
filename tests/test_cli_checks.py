"""The commands ``gradcheck`` and ``invariance``: what they print and write, and what they say of a wrong gradient."""

import json

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import nn, testing
from tinygrad_norm.lab import folders, gradients
from tinygrad_norm.lab.invariance import LAMBDAS, gradient_scale, invariance
from tinygrad_norm.nn.containers import MLP, ModuleDict, ModuleList, Sequential
from tinygrad_norm.testing.invariance import NORMALIZATIONS


@pytest.fixture
def wrong():
    """An operation with a gradient wrong by a thousandth, with a row of the op table."""

    class Off(tn.Op):
        @staticmethod
        def forward(xp, x):
            return xp.exp(x)

        backward = (lambda xp, g, y, x: g * 1.001 * xp.exp(x),)

    testing.register("off", Off, lambda x: tn.apply(Off, x), np.exp)
    yield
    del testing.ROWS["off"]


# ---- gradcheck


def test_gradcheck(run):
    status, out, err = run("gradcheck", "--op", "batch_norm", "--op", "BatchNorm1d", "--op", "equal")
    lines = out.splitlines()
    assert status == 0
    assert lines[0].split() == "name kind points differences complex step second order verdict".split()
    assert lines[2].split()[:3] == ["batch_norm", "operation", "10"] and lines[2].endswith("ok")
    assert lines[3].split()[:3] == ["BatchNorm1d", "layer", "1"] and lines[3].endswith("ok")
    assert lines[4].split() == ["equal", "operation", "0", "no", "derivative"]
    assert "2 operations and 1 layer at 11 points on cpu" in out and "every gradient is right" in out
    assert [line.split(";")[0] for line in err.splitlines()] == [
        "check 1 of 3, batch_norm", "check 2 of 3, BatchNorm1d", "check 3 of 3, equal",
    ]  # fmt: skip


def test_gradcheck_for_machines(run):
    status, out, err = run("gradcheck", "--op", "layer_norm", "--op", "WeightNorm", "--json", "--quiet")
    found = json.loads(out)
    assert (status, err, found["ok"], found["order"], found["device"]) == (0, "", True, 2, "cpu")
    for result in found["results"]:
        assert 0 < result["differences"] < 1e-7 and 0 < result["second_order"] < 1e-6
        assert 0 < result["complex_step"] < 1e-12
        assert result["failures"] == []


def test_gradcheck_of_first_order(run):
    status, out, _ = run("gradcheck", "--op", "exp", "--order", "1", "--backend", "cpu", "--json", "--quiet")
    assert status == 0 and json.loads(out)["results"][0]["second_order"] is None


@pytest.mark.usefixtures("wrong")
def test_gradcheck_of_a_wrong_gradient(run):
    status, out, err = run("gradcheck", "--op", "off", "--op", "exp", "--quiet")
    assert (status, err) == (1, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[2][0] == "off" and rows[2][-1] == "WRONG" and rows[3][-1] == "ok"
    assert "off (2, 3): input 0, entry (" in out
    assert "every one by the factor 1.001" in out
    assert "WRONG: off" in out
    status, out, _ = run("gradcheck", "--op", "off", "--quiet", "--json")
    assert status == 1 and json.loads(out)["ok"] is False


def test_gradcheck_of_something_that_breaks(run):
    testing.register("breaks", None, lambda x: 1 / 0, np.exp)
    try:
        status, out, _ = run("gradcheck", "--op", "breaks", "--op", "exp", "--quiet")
    finally:
        del testing.ROWS["breaks"]
    assert status == 1
    assert "breaks (): ZeroDivisionError: division by zero" in out


def test_gradcheck_refuses(run):
    for arguments, message in (
        (["--op", "batchnorm"], "argument --op: no operation or layer 'batchnorm'; did you mean 'batch_norm' or "),
        (["--op", "\N{SNOWMAN}"], "argument --op: no operation or layer '\N{SNOWMAN}'"),
        (["--order", "3"], "argument --order: must be an integer of at least 1 and below 3; got '3'"),
        (["--backend", "toaster"], "argument --backend: 'toaster' is not available"),
    ):
        status, out, err = run("gradcheck", *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err
    with pytest.raises(ValueError, match="check_gradients: no operation or layer 'batchnorm'"):
        gradients.check_gradients(["batchnorm"])


def test_every_layer_is_checked():
    bases = {nn.Module, Sequential, ModuleList, ModuleDict}
    kinds = {kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module)} - bases
    seen = {MLP}
    for name, (layer, _) in gradients.layers("cpu").items():
        assert name not in testing.ROWS
        inner = layer if isinstance(layer, nn.Module) else layer.__closure__[0].cell_contents
        seen |= {type(module) for module in inner.modules()}
    assert not kinds - seen, f"add {kinds - seen} to layers() of tinygrad_norm/lab/gradients.py"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_gradient(seed):
    found = gradients.check_gradients(seed=seed)
    assert found["ok"], gradients.gradients_text(found)
    assert found["seconds"] < 60
    for result in found["results"]:
        assert (result["complex_step"] or 0) < 1e-10 and (result["second_order"] or 0) < 1e-6, result


# ---- invariance


def test_invariance(run, tmp_path):
    status, out, err = run("invariance")
    assert (status, err, list(tmp_path.iterdir())) == (0, "", [])
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[2:11]] == list(NORMALIZATIONS)
    assert "batch                   yes 0   no " in out
    slopes = {line.split()[0]: line.split()[1] for line in lines[-9:-3] if line}
    assert {name: slopes[name] for name in ("none", "batch", "layer", "weight", "cosine")} == {
        "none": "0.000000", "batch": "-1.000000", "layer": "-1.000000", "weight": "-1.000000", "cosine": "-1.000000",
    }  # fmt: skip


def test_invariance_for_machines(run):
    arguments = ("--norm", "batch", "--norm", "layer", "--scale", "-4", "--eps", "1e-3", "--dtype", "float32")
    status, out, err = run("invariance", *arguments, "--seed", "3", "--json", "--quiet")
    found = json.loads(out)
    assert (status, err) == (0, "")
    expected = testing.check_invariance("batch", scale=-4.0, eps=1e-3, dtype="float32", seed=3)
    assert found["certificates"][0] == json.loads(expected.to_json())
    assert [c["norm"] for c in found["certificates"]] == ["batch", "layer"]


def test_invariance_written_down(run, tmp_path):
    status, out, err = run("invariance", "--norm", "batch", "--out", "here", "--no-pictures")
    assert (status, err) == (0, "")
    assert out.endswith("in here: invariance (.md, .json)\n")
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"invariance.md", "invariance.json"}
    text = (tmp_path / "here" / "invariance.md").read_text()
    assert "| batch | **yes** 0 | no " in text and "| cosine | -1.000000 |" in text
    written = json.loads((tmp_path / "here" / "invariance.json").read_text())
    assert written["gradient_scale"]["lambdas"] == list(LAMBDAS)


def test_invariance_drawn(run, tmp_path):
    pytest.importorskip("matplotlib")
    status, out, _ = run("invariance", "--norm", "batch", "--out", "here")
    assert status == 0 and "gradient-scale (.png, .svg)" in out
    picture = (tmp_path / "here" / "gradient-scale.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) < 120_000
    run("invariance", "--norm", "batch", "--out", "again")
    assert (tmp_path / "again" / "gradient-scale.png").read_bytes() == picture


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--norm bach", "argument --norm: must be one of none, batch, weight, "),
        ("--eps -1", "argument --eps: must be a number of at least 0; got '-1'"),
        ("--eps much", "argument --eps: must be a number of at least 0; got 'much'"),
        ("--scale 0", "argument --scale: must be a number other than 0 and 1; got '0'"),
        ("--scale inf", "argument --scale: must be a number other than 0 and 1; got 'inf'"),
        ("--dtype float16", "argument --dtype: must be one of float64, float32; got 'float16'"),
        ("--out file/below --no-pictures", "argument --out: Not a directory: file/below"),
    ],
)
def test_invariance_refuses(run, tmp_path, arguments, message):
    (tmp_path / "file").write_text("in the way")
    status, out, err = run("invariance", *arguments.split())
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_invariance_without_matplotlib(run, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "find_spec", lambda name: None)
    status, out, err = run("invariance", "--out", "here")
    assert (status, out, list(tmp_path.iterdir())) == (2, "", [])
    assert 'pip install "tinygrad_norm[lab]", or use --no-pictures' in err
    assert run("invariance", "--norm", "none")[0] == 0


def test_the_slopes():
    for dtype, limit in (("float64", 1e-12), ("float32", 1e-5)):
        found = {line["norm"]: line for line in gradient_scale(dtype=dtype)}
        assert found["none"]["slope"] == pytest.approx(0.0, abs=limit)
        for norm in ("batch", "layer", "weight", "cosine"):
            assert found[norm]["slope"] == pytest.approx(-1.0, abs=limit)
            assert found[norm]["residual"] < limit
    # eps bends what divides by a variance, and leaves alone what divides by a length
    assert found["batch"]["slope_with_eps"] > -0.95 and found["layer"]["slope_with_eps"] > -0.95
    assert found["weight"]["lengths_with_eps"] == found["weight"]["lengths"]


def test_nothing_is_measured_when_it_could_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("tinygrad_norm.lab.invariance.certificates", lambda *a, **o: pytest.fail("it measured"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="Not a directory"):
        invariance(out=tmp_path / "file" / "below", pictures=False)
