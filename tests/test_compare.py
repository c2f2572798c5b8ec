"""The main experiment: what it writes, that it repeats, what it says of runs that diverge, what it refuses."""

import csv
import json
import math

import numpy as np
import pytest

from tinygrad_norm import train
from tinygrad_norm.backend import openblas
from tinygrad_norm.backend.openblas import one_thread, openblas_function, threads
from tinygrad_norm.lab import compare as module
from tinygrad_norm.lab import folders
from tinygrad_norm.lab.compare import GOAL, NORMS, QUICK, Plan, compare
from tinygrad_norm.lab.nets import accuracy, evaluate, load_net
from tinygrad_norm.lab.problems import problem
from tinygrad_norm.lab.progress import Bar
from tinygrad_norm.lab.report import comparison, runs_csv
from tinygrad_norm.serialize import CheckpointError, save

TINY = Plan(sizes=(64, 16, 10), rates=(1e6, 0.1), seeds=(0, 1), epochs=2)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A tiny experiment of every normalization, and its folder."""
    folder = tmp_path_factory.mktemp("compare")
    return compare(folder, plan=TINY, pictures=False), folder


def without_time(results):
    environment = {k: v for k, v in results["environment"].items() if k != "seconds"}
    return {**results, "environment": environment}


def test_every_run_is_there_and_counts(done):
    results, _ = done
    assert [s["norm"] for s in results["summary"]] == ["none", "batch", "layer", "weight", "cosine"]
    assert len(results["runs"]) == len(NORMS) * 2 * 2
    for run in results["runs"]:
        assert 0 <= run["test_accuracy"] <= 1
        assert run["steps"] <= results["plan"]["steps"] == 2 * (1347 // 64)
        lengths = {len(column) for column in run["curve"].values()}
        assert len(lengths) <= 1
        if not run["diverged"]:
            assert run["curve"]["steps"] == [10, 20, 30, 40, 42]
            assert run["curve"]["test_accuracy"][-1] == run["test_accuracy"]


def test_the_summary_follows_from_the_runs(done):
    results, _ = done
    for summary in results["summary"]:
        runs = [run for run in results["runs"] if run["norm"] == summary["norm"]]
        best = [run for run in runs if run["learning_rate"] == summary["learning_rate"]]
        assert summary["learning_rate"] == 0.1  # at 1e6 nothing is learned
        scores = [run["test_accuracy"] for run in best]
        assert summary["test_accuracy"] == pytest.approx(np.mean(scores))
        assert summary["test_accuracy_std"] == pytest.approx(np.std(scores, ddof=1))
        assert summary["final_loss"] == pytest.approx(np.mean([run["final_loss"] for run in best]))
        assert summary["diverged"] == sum(run["diverged"] for run in runs)
        good = [r for r in TINY.rates if np.mean([x["test_accuracy"] for x in runs if x["learning_rate"] == r]) >= GOAL]
        assert summary["good_rates"] == good
        kept = next(run for run in best if run["seed"] == summary["checkpoint_seed"])
        assert kept["final_loss"] == min(run["final_loss"] for run in best)
        assert kept["test_accuracy"] == summary["checkpoint_test_accuracy"]


def test_a_run_that_diverges_is_a_result(done):
    results, _ = done
    diverged = [run for run in results["runs"] if run["diverged"]]
    assert {run["norm"] for run in diverged} >= {"weight", "cosine"}
    for run in diverged:
        assert run["learning_rate"] == 1e6
        assert run["final_loss"] is None
        assert run["steps"] < results["plan"]["steps"]
        assert run["test_accuracy"] < 0.3


def test_a_gradient_that_is_not_finite_ends_a_run_too(monkeypatch):
    def refuse(self):
        raise FloatingPointError

    monkeypatch.setattr(module.SGD, "step", refuse)
    run, _ = module.train_one(TINY, problem("digits"), None, 0.1, 0, "cpu")
    assert (run["diverged"], run["steps"], run["final_loss"]) == (True, 0, None)


def test_when_every_run_diverges_the_table_says_so(tmp_path):
    results = compare(tmp_path, plan=Plan(rates=(1e30,), seeds=(0,), epochs=1, norms=(None,)), pictures=False)
    (summary,) = results["summary"]
    assert (summary["diverged"], summary["final_loss"], summary["steps_to_goal"]) == (1, None, None)
    text = comparison(results)
    assert "diverged" in text.splitlines()[5]
    assert "not reached" in text
    assert "1 of 1" in text


def test_steps_to_the_goal_are_the_first_check_that_reaches_it():
    plan = Plan(rates=(1.0,), seeds=(0,), epochs=6)
    run, _ = module.train_one(plan, problem("digits"), "batch", 1.0, 0, "cpu")
    first = next(s for s, a in zip(run["curve"]["steps"], run["curve"]["test_accuracy"]) if a >= GOAL)
    assert run["steps_to_goal"] == first < plan.epochs * 21


def test_the_folder(done):
    results, folder = done
    checkpoints = {f"best-{s['norm']}.npz" for s in results["summary"]}
    assert {path.name for path in folder.iterdir()} == checkpoints | {"results.json", "results.csv"}
    assert json.loads((folder / "results.json").read_text()) == results
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    assert len(rows) == len(results["runs"])
    assert float(rows[0]["test_accuracy"]) == results["runs"][0]["test_accuracy"]
    assert {row["final_loss"] for row, run in zip(rows, results["runs"]) if run["diverged"]} == {""}


def test_two_runs_give_the_same_bits(done, tmp_path):
    results, folder = done
    again = compare(tmp_path, plan=TINY, pictures=False)
    assert without_time(again) == without_time(results)
    for path in folder.glob("*.npz"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "results.csv").read_bytes() == (folder / "results.csv").read_bytes()


def test_a_seed_decides_the_start_and_the_order(monkeypatch):
    seen = []

    def stop(model, optimizer, x, y):
        seen.append((model.state_dict()["linear1.weight"].numpy(), y.tolist()))

    monkeypatch.setattr(module, "step", stop)
    for seed in (0, 1, 0):
        module.train_one(Plan(), problem("digits"), None, 0.1, seed, "cpu")
    (start, order), (other_start, other_order), (same_start, same_order) = seen
    assert (start == same_start).all() and (start != other_start).all()
    assert order == same_order != other_order


def test_test_images_are_looked_at_in_evaluation_mode():
    digits = problem("digits")
    _, model = module.train_one(Plan(epochs=2), digits, "batch", 0.1, 0, "cpu")
    before = model.state_dict()
    found = accuracy(model, digits)
    assert model.training
    assert all((after == before[name]).all() for name, after in model.state_dict().items())
    single_rows = [model.eval()(digits.x_test[i : i + 1]).numpy().argmax() for i in range(450)]
    assert found == np.mean(single_rows == digits.y_test.numpy())


def test_seeds_are_counted_from_the_first(tmp_path):
    plan = Plan(sizes=(64, 10), rates=(0.1,), epochs=1, norms=(None,))
    results = compare(tmp_path, plan=plan, seeds=2, seed=7, pictures=False)
    assert [run["seed"] for run in results["runs"]] == [7, 8]
    assert compare(tmp_path, plan=plan, seed=7, pictures=False)["plan"]["seeds"] == [7, 8, 9]


def test_the_best_net_is_kept(done):
    results, folder = done
    for summary in results["summary"]:
        found = evaluate(folder / summary["checkpoint"])
        assert found["test_accuracy"] == found["recorded_test_accuracy"] == summary["checkpoint_test_accuracy"]
        assert found["parameters"] == summary["parameters"]
        assert np.sum(found["confusion"], axis=1).tolist() == [45, 46, 44, 46, 45, 46, 45, 45, 43, 45]
        assert np.trace(found["confusion"]) / 450 == pytest.approx(found["test_accuracy"])


def test_the_best_net_is_a_checkpoint_like_any_other(done):
    _, folder = done
    model, meta = load_net(folder / "best-layer.npz")
    before = model.state_dict()
    for p in model.parameters():
        p.grad = None
        p.data = np.zeros(p.shape, np.float32)
    assert train.load_checkpoint(folder / "best-layer.npz", model) == meta
    assert all((after == before[name]).all() for name, after in model.state_dict().items())


def test_progress_is_told_of_every_run(tmp_path):
    seen = []
    plan = Plan(sizes=(64, 10), rates=(0.1, 1.0), seeds=(0,), epochs=1, norms=(None, "layer"))
    compare(tmp_path, plan=plan, pictures=False, progress=lambda done, total, run: seen.append((done, total, run)))
    assert [(done, total) for done, total, _ in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [run["norm"] for _, _, run in seen] == ["none", "none", "layer", "layer"]


def test_the_table_has_a_row_for_each(done):
    results, _ = done
    lines = comparison(results).splitlines()
    assert "SGD without momentum" in lines[1]
    rows = {line.split()[0]: line for line in lines[5:10]}
    assert list(rows) == [s["norm"] for s in results["summary"]]
    for summary in results["summary"]:
        assert f"{summary['parameters']:,}" in rows[summary["norm"]]
        assert f"{100 * summary['test_accuracy']:.1f} ± " in rows[summary["norm"]]


def test_the_usual_plan_is_what_the_help_says():
    assert len(Plan().rates) == 11
    assert (Plan().rates[0], Plan().rates[-1], len(Plan().seeds)) == (0.001, 100.0, 3)
    assert (len(QUICK.rates), len(QUICK.seeds)) == (6, 1)
    assert all(math.isclose(b / a, 10**0.5, rel_tol=1e-3) for a, b in zip(Plan().rates, Plan().rates[1:]))


# ---- pictures


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    plan = Plan(sizes=(64, 16, 10), rates=(0.1, 1.0, 1e30), seeds=(0, 1), epochs=1)
    results = compare(tmp_path, plan=plan)
    for name in ("accuracy", "curves"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (tmp_path / f"{name}.svg").read_bytes()
    again = module.rendered(module.draw_accuracy(results))
    assert again["svg"] == (tmp_path / "accuracy.svg").read_bytes()
    assert again["png"] == (tmp_path / "accuracy.png").read_bytes()


def test_pictures_of_nothing_but_divergence(tmp_path):
    pytest.importorskip("matplotlib")
    compare(tmp_path, plan=Plan(rates=(1e30,), seeds=(0,), epochs=1, norms=("weight",)))
    assert (tmp_path / "curves.png").exists()


# ---- what is refused, before anything is trained


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(module, "train_one", lambda *args: pytest.fail("it trained"))


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": 0}, "compare: seeds must be an integer of at least 1; got 0"),
        ({"seeds": True}, "seeds must be an integer"),
        ({"seed": -1}, "compare: seed must be an integer of at least 0; got -1"),
        ({"device": "toaster"}, "'toaster' is not available; this machine has 'cpu'"),
    ],
)
def test_arguments_out_of_range(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(tmp_path / "new", pictures=False, **arguments)
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("no_training")
def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="file"):
            compare(out, pictures=False)
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.usefixtures("no_training")
def test_matplotlib_is_asked_for_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "find_spec", lambda name: None)
    with pytest.raises(folders.MissingExtra, match=r'pip install "tinygrad_norm\[lab\]"'):
        compare(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_interrupt_leaves_no_half_results(tmp_path):
    def interrupt(done, total, run):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path, plan=TINY, pictures=False, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_net(tmp_path, done):
    save(tmp_path / "other.npz", {"w": np.zeros(3)})
    with pytest.raises(CheckpointError, match="no net that compare or train saved"):
        evaluate(tmp_path / "other.npz")
    (tmp_path / "damaged.npz").write_bytes((done[1] / "best-none.npz").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        evaluate(tmp_path / "damaged.npz")
    with pytest.raises(FileNotFoundError, match=r"best-batch\.npz"):
        evaluate(done[1])


def test_a_file_cannot_ask_for_more_memory_than_it_holds(tmp_path):
    architecture = {"class": "MLP", "sizes": [64, 10**9, 10], "norm": "none", "activation": "relu"}
    meta = {"meta": {"architecture": architecture, "dataset": "digits"}}
    save(tmp_path / "large.npz", {"model": {"w": np.zeros(3)}}, meta=meta)
    with pytest.raises(CheckpointError, match="more than the file holds"):
        load_net(tmp_path / "large.npz")


# ---- the parts


def test_problems_keep_a_quarter_of_each_class_for_testing():
    for name in ("digits", "spirals", "moons", "xor"):
        given = problem(name)
        train_counts, test_counts = np.bincount(given.y_train.numpy()), np.bincount(given.y_test.numpy())
        assert len(test_counts) == given.classes
        assert np.abs(test_counts - (train_counts + test_counts) / 4).max() <= 1
        assert given.x_train.shape[1] == given.features
    with pytest.raises(ValueError, match="digits, spirals, moons, xor; got 'mnist'"):
        problem("mnist")


def test_one_thread_puts_the_number_back():
    before, set_threads = threads(), openblas_function("set_num_threads")
    if before is None:
        pytest.skip("NumPy's BLAS cannot be asked for its threads")
    set_threads(2)
    try:
        with pytest.raises(KeyError), one_thread():
            assert threads() == 1
            raise KeyError
        assert threads() == 2
    finally:
        set_threads(before)


def test_another_blas_is_left_alone(monkeypatch):
    monkeypatch.setattr(openblas, "_libraries", lambda: iter([object()]))
    for name in ("openblas_function", "gemm"):
        monkeypatch.setattr(openblas, name, getattr(openblas, name).__wrapped__)  # which remembers nothing
    assert openblas.openblas_function("get_num_threads") is None and openblas.gemm("sgemm") is None
    assert threads() is None
    with one_thread():
        pass


class Terminal:
    """A stream that is a terminal, or not."""

    def __init__(self, live):
        self.live, self.text = live, ""

    def isatty(self):
        return self.live

    def write(self, text):
        self.text += text

    def flush(self):
        pass


RUN = {"norm": "batch", "learning_rate": 0.1, "test_accuracy": 0.5, "diverged": False}


def test_the_bar_is_one_line_on_a_terminal():
    stream = Terminal(live=True)
    bar = Bar(stream)
    for done in range(1, 101):
        bar(done, 100, RUN)
    assert "\n" not in stream.text
    assert stream.text.split("\r")[-1].startswith("[########################] 100/100")
    bar.close()
    assert stream.text.endswith("\r")


def test_the_bar_is_ten_lines_elsewhere():
    stream = Terminal(live=False)
    bar = Bar(stream)
    for done in range(1, 166):
        bar(done, 165, RUN | {"diverged": done == 165})
    bar.close()
    lines = stream.text.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("run 17 of 165, batch, rate 0.1: 50.0 %")
    assert lines[-1].startswith("run 165 of 165, batch, rate 0.1: diverged")
    assert "\r" not in stream.text


def test_csv_has_a_row_for_each_run(done):
    assert len(runs_csv(done[0]["runs"]).splitlines()) == 21
