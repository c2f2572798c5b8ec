"""The command line: what it prints and writes, its exit status, and one line for whatever is wrong."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_norm import cli
from tinygrad_norm.lab import config as config_module
from tinygrad_norm.lab import folders, single
from tinygrad_norm.lab.compare import Plan
from tinygrad_norm.lab.compare import compare as real_compare
from tinygrad_norm.lab.config import advice, config, config_text, show_config

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("compare", "train", "evaluate", "gradcheck", "invariance", "config")


@pytest.fixture
def tiny(monkeypatch):
    """Let ``compare`` train very little."""
    plan = Plan(sizes=(64, 16, 10), rates=(0.1, 1.0), seeds=(0,), epochs=1)

    def compare(out, *, quick, seeds, **options):
        return real_compare(out, plan=plan, seeds=seeds, **options)

    monkeypatch.setattr(cli.compare, "compare", compare)


def started(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "tinygrad_norm", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, **options,
    )  # fmt: skip


# ---- help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run, command):
    status, out, err = run(command, "--help")
    assert (status, err) == (0, "")
    for option in ("--device", "--seed", "--quiet", "--json", "examples:", f"tinygrad-norm {command}"):
        assert option in out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_the_help_are_understood(run, command):
    _, out, _ = run(command, "--help")
    examples = [line.split()[1:] for line in out.splitlines() if line.startswith("  tinygrad-norm ")]
    assert examples
    for words in examples:
        cli.parser().parse_args(words[: words.index(">")] if ">" in words else words)


def test_the_module_is_the_command():
    process = started("--version")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("tinygrad-norm ")


# ---- what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --lr -1", "argument --lr: must be a number greater than 0; got '-1'"),
        ("train --lr 0", "argument --lr: must be a number greater than 0; got '0'"),
        ("train --lr nan", "argument --lr: must be a number greater than 0; got 'nan'"),
        ("train --lr fast", "argument --lr: must be a number greater than 0; got 'fast'"),
        ("train --epochs 0", "argument --epochs: must be an integer of at least 1; got '0'"),
        ("claims --only 5-3", "argument --only: a range goes from the smaller number to the larger; got '5-3'"),
        ("train --epochs 2.5", "argument --epochs: must be an integer of at least 1; got '2.5'"),
        ("train --batch-size 0", "argument --batch-size: must be an integer of at least 1; got '0'"),
        ("train --hidden 64,0", "argument --hidden: must be an integer of at least 1; got '0'"),
        ("train --hidden 64,,8", "argument --hidden: must be an integer of at least 1; got ''"),
        ("train --norm bach", "--norm: must be one of none, batch, layer, weight, cosine, rms, group; got 'bach'"),
        ("train --activation swoosh", "argument --activation: must be one of relu, "),
        ("train --optimizer lbfgs", "--optimizer: must be one of sgd, adam, adamw, rmsprop, adagrad; got 'lbfgs'"),
        ("train --dataset mnist", "argument --dataset: must be one of digits, spirals, moons, xor; got 'mnist'"),
        ("train --device toaster", "argument --device: 'toaster' is not available; this machine has 'cpu'"),
        ("train --seed -1", "argument --seed: must be an integer of at least 0"),
        (f"train --seed {2**62}", f"below {2**62}; got"),
        ("train --norm batch --batch-size 1 --quiet", "each channel needs more than one value"),
        ("compare --seeds 0", "argument --seeds: must be an integer of at least 1; got '0'"),
        ("compare --device cuda", "argument --device: 'cuda' is not available"),
        ("compare --bogus", "unrecognized arguments: --bogus"),
        ("evaluate", "the following arguments are required: RUN"),
        ("evaluate nowhere", "argument RUN: No such file or directory: nowhere"),
        ("", "the following arguments are required: COMMAND"),
        ("bogus", "invalid choice: 'bogus'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(run, tmp_path, arguments, message):
    status, out, err = run(*arguments.split())
    assert (status, out) == (2, "")
    assert err.startswith("tinygrad-norm") and err.count("\n") == 1
    assert message in err
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize("command", ["compare", "train"])
def test_a_folder_that_cannot_be_written(run, tmp_path, monkeypatch, command):
    monkeypatch.setattr(single, "MLP", lambda *args: pytest.fail("it trained"))
    monkeypatch.setattr(folders, "find_spec", lambda name: name)
    (tmp_path / "file").write_text("in the way")
    status, out, err = run(command, "--out", "file/below", "--quiet")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "argument --out: Not a directory: file/below" in err


def test_pictures_without_matplotlib(run, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "find_spec", lambda name: None)
    status, out, err = run("compare", "--quick")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert 'pip install "tinygrad_norm[lab]"' in err and "--no-pictures" in err
    assert list(tmp_path.iterdir()) == []


def test_a_rate_far_too_high_fails_in_one_line(run, tmp_path):
    status, out, err = run("train", "--lr", "1e30", "--quiet")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "Lower the learning rate" in err
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
def test_ctrl_c(tmp_path):
    process = started("train", "--epochs", "1000000", cwd=tmp_path)
    while "epoch" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "tinygrad-norm train: interrupted"
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise there")
def test_a_reader_that_leaves_early(tmp_path):
    process = started("config", cwd=tmp_path)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 1


# ---- the environment asks for a device that is not here


def asked(monkeypatch, device, *arguments):
    """Status, results and complaints of the command where TINYGRAD_NORM_DEVICE names the device."""
    monkeypatch.setenv("TINYGRAD_NORM_DEVICE", device)
    process = started(*arguments)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, out, err


def test_without_the_device_commands_help_and_say_what_is_missing(monkeypatch):
    for arguments in (["--help"], ["config"]):
        status, out, err = asked(monkeypatch, "toaster", *arguments)
        assert (status, err) == (0, "")
        assert "TINYGRAD_NORM_DEVICE: 'toaster' is not available; this machine has" in " ".join(out.split())
    assert asked(monkeypatch, "toaster", "gradcheck", "--help")[0] == 0


def test_without_the_device_commands_refuse_in_one_line_unless_told_another(monkeypatch, tmp_path):
    status, out, err = asked(monkeypatch, "toaster", "train")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "argument --device: 'toaster' is not available" in err and "(TINYGRAD_NORM_DEVICE asked for it)" in err
    options = ("--device", "cpu", "--quiet")
    out = str(tmp_path / "run")
    for arguments in (["train", "--dataset", "xor", "--epochs", "1", "--out", out], ["gradcheck", "--op", "Linear"]):
        assert asked(monkeypatch, "toaster", *arguments, *options)[::2] == (0, ""), arguments


# ---- compare


@pytest.mark.usefixtures("tiny")
def test_compare(run, tmp_path):
    status, out, err = run("compare", "--no-pictures", "--out", "here")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[5:10]] == ["none", "batch", "layer", "weight", "cosine"]
    assert "in here: results" in out
    assert len(err.splitlines()) == 10
    assert {path.name for path in (tmp_path / "here").iterdir()} >= {"results.json", "best-none.npz"}


@pytest.mark.usefixtures("tiny")
def test_compare_for_machines(run, tmp_path):
    status, out, err = run("compare", "--no-pictures", "--quiet", "--json", "--seed", "3", "--seeds", "2")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["plan"]["seeds"] == [3, 4]
    assert found["folder"] == "runs/compare"
    written = json.loads((tmp_path / "runs" / "compare" / "results.json").read_text())
    assert written["summary"] == found["summary"]


@pytest.mark.slow
def test_the_quick_comparison_takes_seconds(run, tmp_path):
    status, out, _ = run("compare", "--quick", "--no-pictures", "--json", "--quiet")
    assert status == 0
    summary = {s["norm"]: s for s in json.loads(out)["summary"]}
    assert summary["batch"]["test_accuracy"] > 0.95
    assert json.loads(out)["environment"]["seconds"] < 10


# ---- train, evaluate


def test_train_and_evaluate(run, tmp_path):
    status, out, err = run("train", "--norm", "layer", "--epochs", "2", "--hidden", "32", "--seed", "5")
    assert status == 0
    assert "in runs/digits-layer" in out
    assert "epoch 2/2" in err
    folder = tmp_path / "runs" / "digits-layer"
    about = json.loads((folder / "config.json").read_text())
    assert about["settings"] | {"norm": "layer", "sizes": [64, 32, 10], "seed": 5, "lr": 0.1} == about["settings"]
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert float(rows[-1]["val_accuracy"]) == about["results"]["test_accuracy"]

    for path in (folder, folder / "model.npz"):
        status, out, err = run("evaluate", path, "--json")
        found = json.loads(out)
        assert (status, err) == (0, "")
        assert found["test_accuracy"] == found["recorded_test_accuracy"] == about["results"]["test_accuracy"]

    status, out, err = run("evaluate", folder)
    assert (status, err) == (0, "")
    assert f"test accuracy {100 * about['results']['test_accuracy']:.1f} % of 450 samples of digits" in out
    assert [line.split()[0] for line in out.splitlines()[5:]] == [str(digit) for digit in range(10)]


def test_train_repeats(run, tmp_path):
    for out in ("one", "two"):
        assert run("train", "--dataset", "spirals", "--norm", "batch", "--epochs", "3", "--out", out, "--quiet")[0] == 0
    one, two = ((tmp_path / out / "model.npz").read_bytes() for out in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "weight", "cosine", "rms", "group"])
def test_train_every_norm(run, norm):
    status, out, err = run("train", "--dataset", "xor", "--norm", norm, "--epochs", "1", "--quiet", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["settings"]["norm"] == norm


@pytest.mark.parametrize("optimizer", single.OPTIMIZERS)
def test_train_every_optimizer_at_its_usual_rate(run, optimizer):
    arguments = ("train", "--dataset", "xor", "--optimizer", optimizer, "--epochs", "20", "--quiet", "--json")
    status, out, _ = run(*arguments)
    assert status == 0
    assert json.loads(out)["settings"]["lr"] == single.OPTIMIZERS[optimizer][1]
    assert json.loads(out)["results"]["test_accuracy"] > 0.9


def test_train_draws_where_matplotlib_is(run, tmp_path, monkeypatch):
    monkeypatch.setattr(single, "find_spec", lambda name: None)
    assert run("train", "--dataset", "xor", "--epochs", "1", "--quiet", "--out", "bare")[0] == 0
    assert not (tmp_path / "bare" / "curves.png").exists()
    pytest.importorskip("matplotlib")
    monkeypatch.undo()
    assert run("train", "--dataset", "xor", "--epochs", "1", "--quiet", "--out", tmp_path / "drawn")[0] == 0
    assert (tmp_path / "drawn" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_batch_larger_than_the_data_is_all_of_it(run):
    status, out, _ = run("train", "--batch-size", "5000", "--epochs", "3", "--norm", "batch", "--quiet", "--json")
    assert status == 0
    assert json.loads(out)["results"]["steps"] == 3


def test_python_names_are_checked_too(tmp_path):
    with pytest.raises(ValueError, match="optimizer must be one of sgd, "):
        single.train_net(single.Settings(optimizer="newton"), tmp_path)


# ---- config


def test_config(run, capsys):
    status, out, err = run("config")
    assert (status, err) == (0, "")
    for word in ("tinygrad_norm", "Python", "NumPy", "BLAS", "devices", "extra [lab]", "advice"):
        assert any(line.startswith(word) for line in out.splitlines())
    show_config()
    assert capsys.readouterr().out == out
    status, out, _ = run("config", "--json")
    assert json.loads(out) == config()


def test_config_names_what_is_missing(monkeypatch):
    monkeypatch.setattr(config_module, "version", lambda package: None)
    text = config_text(config())
    assert 'extra [lab]    matplotlib missing; install: python -m pip install "tinygrad_norm[lab]"' in text


def test_config_of_another_blas(monkeypatch):
    monkeypatch.setattr("tinygrad_norm.backend.openblas.openblas_function", lambda name: None)
    assert "kernel unknown, unknown threads" in config_text(config())


def test_advice_on_kernels(monkeypatch):
    monkeypatch.setattr(config_module, "has_avx512", lambda: True)
    assert "OPENBLAS_CORETYPE=SkylakeX" in advice("Haswell", 2, 2)[0]
    assert "OPENBLAS_CORETYPE=SkylakeX" in advice("Zen", 2, 2)[0]
    assert advice("SkylakeX", 2, 2) == advice(None, 2, None) == []
    monkeypatch.setattr(config_module, "has_avx512", lambda: False)
    assert advice("Haswell", 2, 2) == []
    assert "OPENBLAS_NUM_THREADS=2" in advice("Haswell", 2, 64)[0]
