"""The benchmark: contenders that compute something else are found, missing ones named, and a small run is written."""

import doctest
import json
import os
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import cases, contenders, report, rounds, run
from benchmarks.cases import NAMES, SECTIONS, bandwidth_cases, net, norm_cases, overhead_cases, plan
from benchmarks.libraries import ours
from benchmarks.process import ROOT, Process
from benchmarks.worker import Worker

SMALL = {"batch": 16, "sizes": (8, 16, 16, 4)}
WORK = [net("train", **SMALL, norm=norm) for norm in NAMES]
WORK += [case | {"shape": (16, 8)} for case in norm_cases(True)]
WORK += [case | {"length": 20} for case in overhead_cases(True)]
WORK += [case | {"shape": (40, 33), "length": 2} for case in bandwidth_cases(True)]
PEERS = {"torch": "torch", "torch_fused": "torch", "jax": "jax", "mygrad": "mygrad", "autograd": "autograd"}


def label(case):
    return case["section"] + " " + case["label"]


class Here:
    """A contender in this process."""

    def __init__(self, make=ours.make):
        self.worker = Worker(SimpleNamespace(make=make, versions=ours.versions), [])

    def ask(self, do, **arguments):
        return getattr(self.worker, do)(**arguments)


def measured(case, **processes):
    return rounds.measure(case, processes, rounds=2, warm=0.0, seconds=0.0)


# ---- the same work


@pytest.mark.parametrize("case", WORK, ids=label)
def test_two_that_agree_are_timed(case):
    result = measured(case, numpy=Here(), fast=Here())
    assert result["disagree"] == result["left_out"] == {}
    assert [len(times) for times in result["times"].values()] == [2, 2]


def learning_rate(monkeypatch, case):
    monkeypatch.setattr(ours, "LEARNING_RATE", 1.1e-3)
    return ours.make(case, [])


def no_running_statistics(monkeypatch, case):
    step, _ = ours.make(case, [])
    return step, list


def another_variance(monkeypatch, case):
    step, results = ours.make(case, [])
    return step, lambda: [1.01 * a for a in results()]


def no_steps(monkeypatch, case):
    monkeypatch.setattr(ours.optim.Adam, "step", lambda self: None)
    return ours.make(case, [])


def no_gradient_of_the_norm(monkeypatch, case):
    norm = ours.F.batch_norm
    monkeypatch.setattr(ours.F, "batch_norm", lambda x, m, v, w, b, *args, **options: norm(
        x, m, v, w.detach(), b, *args, **options))  # fmt: skip
    return ours.make(case, [])


@pytest.mark.parametrize(
    "mistake", [learning_rate, no_running_statistics, another_variance, no_steps, no_gradient_of_the_norm]
)
def test_a_training_step_that_is_another_is_not_timed(mistake, monkeypatch):
    def make(case, flags):
        return mistake(monkeypatch, case)

    result = measured(WORK[0], numpy=Here(), fast=Here(), jax=Here(make))
    assert list(result["disagree"]) == ["jax"]
    assert set(result["times"]) == {"numpy", "fast"}


@pytest.mark.parametrize("case", WORK[len(NAMES) :], ids=label)
def test_an_operation_with_another_gradient_is_not_timed(case):
    def make(case, flags):
        step, results = ours.make(case, flags)
        return step, lambda: [*results()[:-1], 1.002 * results()[-1]]

    result = measured(case, numpy=Here(), fast=Here(make))
    assert list(result["disagree"]) == ["fast"] and set(result["times"]) == {"numpy"}


def test_pytorch_is_who_is_right():
    numbers = {"fast": [[2.0], [1.0]], "torch": [[2.0], [1.1]], "jax": [[2.0], [1.1005]], "mygrad": [[2.0]]}
    assert set(rounds.disagreements(numbers)) == {"fast", "mygrad"}
    assert "1; of torch 1.1" in rounds.disagreements(numbers)["fast"]
    assert rounds.disagreements({"numpy": [[float("nan")]]}) != {}


def test_a_contender_that_fails_is_left_out():
    class Fails(Here):
        def ask(self, do, **arguments):
            return {"missing": "ended"} if do == "time" else super().ask(do, **arguments)

    result = measured(WORK[0], numpy=Here(), fast=Fails())
    assert result["left_out"] == {"fast": "ended"} and set(result["times"]) == {"numpy"}


@pytest.mark.slow
@pytest.mark.parametrize("key", PEERS)
def test_peers_compute_the_same(key):
    if not find_spec(PEERS[key]):
        pytest.skip(f"{PEERS[key]} is not installed")
    (contender,) = (c for c in contenders.CONTENDERS if c.key == key)
    process = Process(contender)
    try:
        assert "versions" in process.hello()
        for case in WORK:
            if case["section"] == "bandwidth" and key != "torch":
                continue
            result = measured(case, numpy=Here(), **{key: process})
            assert result["disagree"] == {}
            only_ours = (case["section"] == "overhead" and key == "jax") or case.get("norm") == "unit"
            assert set(result["left_out"]) == ({key} if only_ours else set())
    finally:
        process.close()


# ---- who takes part


def test_the_shell_does_not_decide_about_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    by_key = {c.key: c.full_environment() for c in contenders.CONTENDERS}
    assert "OMP_NUM_THREADS" not in by_key["torch"] and "OPENBLAS_CORETYPE" not in by_key["fast"]
    assert by_key["torch_1"]["OMP_NUM_THREADS"] == "1"
    assert by_key["numpy_hint"]["OPENBLAS_CORETYPE"] == "SkylakeX"
    assert by_key["numpy"]["TINYGRAD_NORM_JIT"] == "0" and "TINYGRAD_NORM_JIT" not in by_key["fast"]


class Told:
    """A process that says what the test wants."""

    answers = {}

    def __init__(self, contender):
        self.contender = contender

    def hello(self):
        return self.answers.get(self.contender.key, {"versions": {"blas": "kernels for Haswell"}})

    def close(self):
        pass


def test_who_is_missing_is_named_with_the_reason(monkeypatch):
    monkeypatch.setattr(run, "Process", Told)
    monkeypatch.setattr(run, "cpu_info", lambda what: "avx512f avx2")
    hinted = {"versions": {"blas": "kernels for SkylakeX"}}
    monkeypatch.setattr(Told, "answers", {"jax": {"missing": "No module named 'jax'"}, "fast_hint": hinted})
    processes, about, missing = run.invited(list(contenders.CONTENDERS), quick=True)
    assert missing["JAX jit"] == "No module named 'jax'"
    assert missing["tinygrad_norm, hint"].startswith("changes nothing here: kernels for Haswell")
    assert missing["torch.compile"] == "left out by --quick"
    assert (
        set(processes)
        == set(about)
        == {c.key for c in contenders.CONTENDERS} - {"jax", "numpy_hint", "fast_hint_zen", "torch_compile"}
    )


def test_a_hint_is_not_given_to_a_processor_that_lacks_what_it_names(monkeypatch):
    monkeypatch.setattr(run, "Process", Told)
    monkeypatch.setattr(run, "cpu_info", lambda what: "sse2 avx2")
    _, _, missing = run.invited(list(contenders.CONTENDERS), quick=False)
    no_avx512 = {"tinygrad_norm, hint", "tinygrad_norm [fast], hint"}
    assert {name for name, why in missing.items() if "no AVX-512" in why} == no_avx512
    monkeypatch.setattr(run, "cpu_info", lambda what: "sse2")
    _, _, missing = run.invited(list(contenders.CONTENDERS), quick=False)
    assert {name for name, why in missing.items() if "no AVX" in why} == no_avx512 | {"tinygrad_norm [fast], hint Zen"}


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(SystemExit, match="no section norm; there are train, norms, conv, overhead"):
        run.main(["--only", "norm"])


def test_the_whole_plan():
    cases = plan(list(SECTIONS), quick=False)
    counts = {section: sum(case["section"] == section for case in cases) for section in SECTIONS}
    assert counts == {"train": 12, "norms": 16, "conv": 8, "overhead": 2, "scaling": 11, "memory": 3, "bandwidth": 14}
    assert len(plan(list(SECTIONS), quick=True)) < 29


# ---- a small run, as the command


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A run of this package alone, and of a MyGrad that is not there."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "mygrad.py").write_text("raise ModuleNotFoundError(\"No module named 'mygrad'\")")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "2", "--contenders", "numpy,mygrad"]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--only", "norms,overhead,memory", "--out", folder / "out"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "case" in done.stderr and time.perf_counter() - began < 60
    return folder / "out"


def test_the_command_writes_tables_and_every_round(small_run):
    results = json.loads((small_run / "results.json").read_text())
    assert {case["section"] for case in results["cases"]} == {"norms", "overhead", "memory"}
    for case in results["cases"]:
        if case["section"] != "memory":
            assert len(case["times"]["numpy"]) == 2
    text = (small_run / "results.md").read_text()
    assert "## The cost of recording" in text and "Load average" in text and "A quick run" in text
    assert "* MyGrad: No module named 'mygrad'." in text


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from /proc")
def test_memory_is_at_least_what_training_must_hold(small_run):
    results = json.loads((small_run / "results.json").read_text())
    (case,) = (case for case in results["cases"] if case["section"] == "memory")
    n, (d, h, _, c) = case["batch"], case["sizes"]
    values = d * h + h * h + 2 * 2 * h + h * c + c
    least = 4 * (4 * values + n * d) / 2**20  # parameters, gradients, two moments, data
    assert least < case["mib"]["numpy"]["traced"] < 3 * least
    assert case["mib"]["numpy"]["resident"] < 5 * least


# ---- on a GPU, for which the tests' stand-in is taken


def test_the_command_runs_on_a_gpu_at_once(tmp_path, monkeypatch):
    (tmp_path / "cupy.py").write_text("import sys, strict_cupy\nsys.modules['cupy'] = strict_cupy.MODULE\n")
    for name, value in (("NETS", ((16, (8, 16, 16, 4)),)), ("SHAPES", ((16, 8),) * 2), ("LARGE", ((40, 30),)),
                        ("DEPTHS", (1,)), ("WIDTHS", (8,))):  # fmt: skip
        monkeypatch.setattr(cases, name, value)
    paths = (tmp_path, ROOT, ROOT / "tests")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    assert run.main(["--device", "cuda", "--quick", "--rounds", "2", "--out", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    done = [case["section"] for case in results["cases"] if case["times"].get("fast")]
    assert {name: done.count(name) for name in SECTIONS} == {
        "train": 4, "norms": 4, "conv": 2, "overhead": 0, "scaling": 2, "memory": 0, "bandwidth": 7,
    }  # fmt: skip
    assert results["contenders"]["fast"]["versions"]["GPU"] == "a stand-in"
    assert set(results["missing"]) <= {"PyTorch", "JAX jit"}
    text = (tmp_path / "out" / "results.md").read_text()
    assert "GPU a stand-in" in text and "computed on cuda" in text
    assert re.search(r"^\| copy 40x30 \| [\d,]+ \(100%\) \|$", text, re.M)


def test_bandwidth_is_told_beside_the_fastest_copy(results):
    (copy, forward), shape = bandwidth_cases(True)[:2], (1000, 1000)
    times = {"fast": [4e-3], "torch": [2e-3]}, {"fast": [6e-3], "torch": [12e-3]}
    done = [case | {"shape": shape, "length": 1, "bytes": n, "times": t}
            for case, n, t in zip((copy, forward), (8_000_000, 12_000_000), times)]  # fmt: skip
    head, _, first, second = report.bandwidth_table(done, results["contenders"]).splitlines()
    assert head == "| GB/s | tinygrad_norm [fast] | PyTorch |"
    assert first.endswith("| 2 (50%) | 4 (100%) |") and second.endswith("| 2 (50%) | 1 (25%) |")
    del done[0]
    assert report.bandwidth_table(done, results["contenders"]).splitlines()[2].endswith("| 2 | 1 |")


# ---- the report


@pytest.fixture(scope="module")
def results():
    """As of a run with PyTorch in it."""
    cases = [net("train", **SMALL)] + [case | {"shape": (16, 8)} for case in norm_cases(True)]
    cases += [net("scaling", **SMALL, axis=axis, size=1) for axis in ("depth", "width")]
    keys = ("fast", "numpy", "torch", "fast_1", "torch_1")
    known = {c.key: c for c in contenders.CONTENDERS}
    about = {
        key: {"label": known[key].label, "ours": known[key].ours, "one_thread": known[key].one_thread,
              "versions": {"numpy": "2"}}
        for key in keys
    }  # fmt: skip
    times = {key: [2e-3, 3e-3] if key == "torch" else [1e-3, 1e-3] for key in keys}
    done = [case | {"times": times, "left_out": {}, "disagree": {}} for case in cases]
    return {
        "machine": run.machine((0.0, 0.0, 0.0)), "quick": False, "rounds": 2, "contenders": about, "missing": {},
        "cases": done,
    }  # fmt: skip


def test_ratios_are_taken_within_the_rounds(results):
    case = results["cases"][0]
    assert report.ratio(case, "fast", "torch") == (2.25, 2.5, 2.75)
    text = report.body(results, [], "", details=True)
    assert "PyTorch 2,500 us, tinygrad_norm [fast] 1,000 us (2.50 times as fast)" in text
    assert "| 2.50 (2.25 to 2.75) | 1.00 (1.00 to 1.00) |" in text
    assert "One thread each:" in text and "other programs" not in text


def test_a_figure_that_may_as_well_be_one_is_marked():
    case = {"times": {"fast": [1.0, 1.0, 1.0], "torch": [0.8, 1.1, 1.3]}}
    assert report.cell(case, "fast", "torch") == "≈1.10"
    case["times"]["torch"] = [1.2, 1.1, 1.3]
    assert report.cell(case, "fast", "torch") == "1.20"


def test_disagreement_stands_in_the_report(results):
    case = results["cases"][0] | {"disagree": {"fast": "result 0 is 2; of torch 1"}}
    text = report.body(results | {"cases": [case]}, [], "", details=False)
    assert "**Computed something else, and not timed:**" in text and "result 0 is 2; of torch 1" in text


def test_publishing_replaces_the_last_results_only(results, tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGIN}\nyesterday\n{report.END}\nafter\n")
    for _ in range(2):
        report.publish(results, page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith(f"{report.END}\nafter\n")
    assert "yesterday" not in text and text.count("## A training step") == 1
    page.write_text("no marks")
    with pytest.raises(ValueError, match="expected a line"):
        report.publish(results, page)


def test_the_page_has_the_marks():
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert text.count(report.BEGIN) == text.count(report.END) == 1


def test_pictures(results, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    report.write(results, tmp_path)
    assert {p.name for p in tmp_path.glob("*.png")} == {"train.png", "norms.png", "scaling.png"}
    assert "![A training step](train.png)" in (tmp_path / "results.md").read_text()


def test_examples_in_the_report():
    tested = doctest.testmod(report)
    assert (tested.attempted, tested.failed) == (2, 0)


# ---- the clock


def test_the_time_of_one_run():
    worker = Worker(ours, [])
    worker.run = lambda: time.sleep(0.004)
    assert 0.004 <= worker.time(warm=0.0, seconds=0.01)["seconds"] < 0.04
    calls = []
    worker.run = lambda: calls.append(1)
    assert 0 < worker.time(warm=0.001, seconds=0.001)["seconds"] < 1e-4  # counted by the hundred
