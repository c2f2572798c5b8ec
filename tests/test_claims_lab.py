"""The statements as ``tinygrad-norm claims`` measures them: verdicts follow from figures and from nothing else."""

import json
import re
from html import escape
from html.parser import HTMLParser

import numpy as np
import pytest
from strict_cupy import counts

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm.cli import main
from tinygrad_norm.data import MinMaxScaler
from tinygrad_norm.lab import claims
from tinygrad_norm.lab.claims import CLAIMS, FAILS, HOLDS, UNDECIDED, WHEN, Record, training
from tinygrad_norm.lab.claims.descent import SCALERS
from tinygrad_norm.nn.batch_norm import ChannelNorm


def verdict_of(*findings):
    record = Record()
    for kind, value, rule in findings:
        getattr(record, kind)("figure", value, **rule)
    return record.verdict()


@pytest.mark.parametrize(
    "findings, verdict",
    [
        ([("stated", 1.0, {"below": 2.0})], HOLDS),
        ([("stated", 3.0, {"below": 2.0})], UNDECIDED),
        ([("stated", 3.0, {"below": 2.0}), ("when", 1.0, {"above": 1.0})], WHEN),
        ([("stated", 1.0, {"below": 2.0}), ("when", 1.0, {"above": 1.0})], HOLDS),
        ([("stated", 3.0, {"below": 2.0}), ("when", 1.0, {"above": 2.0})], UNDECIDED),
        ([("stated", 1.0, {"below": 2.0}), ("when", 1.0, {"above": 2.0})], UNDECIDED),
        ([("when", 1.0, {"equals": 1.0})], WHEN),
        ([("stated", float("nan"), {"below": 2.0})], UNDECIDED),
        ([("stated", [1.0, 2.5], {"below": 2.0})], HOLDS),  # the mean of the seeds is judged
    ],
)
def test_the_verdict_follows_from_the_figures(findings, verdict):
    assert verdict_of(*findings) == verdict


def test_a_statement_without_a_condition_fails_only_where_it_was_shown_what_holds_instead():
    instead = {True: FAILS, False: UNDECIDED}
    for met, verdict in instead.items():
        record = Record()
        record.stated("as written", 3.0, below=2.0)
        assert record.verdict(conditional=False) == UNDECIDED
        record.when("what holds instead", 1.0, **{"below" if met else "above": 2.0})
        assert record.verdict(conditional=False) == verdict


def test_nothing_required_is_no_verdict():
    record = Record()
    record.figure("seen", 1.0)
    with pytest.raises(ValueError, match="nothing was required"):
        record.verdict()
    with pytest.raises(TypeError, match="give one of below, above, equals"):
        record.stated("unjudged", 1.0)


def test_no_verdict_is_written_in_an_entry():
    """An entry says under which condition it may hold, and which figures decide; it never sees the verdict."""
    for entry in CLAIMS.values():
        names = entry.measure.__code__.co_names
        assert "verdict" not in names and not {HOLDS, WHEN, FAILS, UNDECIDED} & set(entry.measure.__code__.co_consts)
        assert entry.sources and set(entry.sources) <= set(claims.DOCUMENTS), entry.number
        assert len(entry.explanation) > 40, entry.number


def test_a_wrong_batch_norm_changes_the_verdict(monkeypatch):
    def wrong(x, *args, eps=1e-5, **options):  # eps behind the root, and never 0
        d = x - x.mean(0, keepdims=True)
        return d / ((d * d).mean(0, keepdims=True).sqrt() + 0.01)

    before = {r["number"]: r["verdict"] for r in claims.measure([43, 45], quick=True)}
    monkeypatch.setattr(F, "batch_norm", wrong)
    after = {r["number"]: r["verdict"] for r in claims.measure([43, 45], quick=True)}
    assert all(v.startswith(WHEN) for v in before.values())
    assert set(after.values()) == {UNDECIDED}


def test_a_scaling_that_leaves_the_mean_changes_the_verdict(monkeypatch):
    before = {r["number"]: r["verdict"] for r in claims.measure([5, 6], quick=True)}
    monkeypatch.setitem(SCALERS, "z-score", MinMaxScaler)
    after = {r["number"]: r["verdict"] for r in claims.measure([5, 6], quick=True)}
    assert all(v.startswith(WHEN) for v in before.values())
    assert set(after.values()) == {UNDECIDED}


@pytest.mark.parametrize(
    "number, place, name, wrong",
    [
        (34, training.Noisy, "forward", lambda self, x: x),  # no noise: nothing moves further than without a norm
        (47, F, "normalize", lambda v: v / (v * v).sum(1, keepdims=True)),  # lengths that are not kept
        (67, F, "cosine_linear", lambda x, w, **options: F.linear(x, w)),
    ],
)
def test_what_an_experiment_rests_on_decides(monkeypatch, number, place, name, wrong):
    [before] = claims.measure([number], quick=True)
    monkeypatch.setattr(place, name, wrong)
    [after] = claims.measure([number], quick=True)
    assert (before["verdict"].split()[0], after["verdict"]) == ("holds", UNDECIDED)


WRONG = {  # number: the functions and what takes their place
    15: (["standardize"], lambda x, *args, **options: x.clip(-2.0, 2.0)),  # a range that is fixed
    54: (["layer_norm"], lambda x, *args, **options: x - x.mean(-1, keepdims=True)),
    59: (["layer_norm"], lambda x, *args, **options: x * 0.0),  # worse, by far
    -59: (["layer_norm", "batch_norm", "group_norm"], lambda x, *args, **options: x * 0.0),  # all are equally good
}


@pytest.mark.parametrize("number", [15, 54, *(pytest.param(n, marks=pytest.mark.slow) for n in (59, -59))])
def test_a_refutation_by_a_wrong_implementation_is_none(monkeypatch, number):
    [before] = claims.measure([abs(number)], quick=True)
    names, wrong = WRONG[number]
    for name in names:
        monkeypatch.setattr(F, name, wrong)
    [after] = claims.measure([abs(number)], quick=True)
    assert (before["verdict"], after["verdict"]) == (FAILS, UNDECIDED)
    assert "1 are undecided" in claims.claims_text([after]) and "NOT MET" in claims.claims_text([after])


@pytest.mark.parametrize("momentum, verdict", [(0.1, HOLDS), (None, UNDECIDED), (0.0, UNDECIDED)])
def test_a_running_average_that_is_none_changes_the_verdict(monkeypatch, momentum, verdict):
    """All batches alike instead of exponential weights, and statistics that never move: both test worse."""
    right = ChannelNorm.weight_of_new

    def weight_of_new(self):
        found = right(self)
        if self.momentum != 0.1 or momentum == 0.1:
            return found
        self.seen = getattr(self, "seen", 0) + 1
        return 1.0 / self.seen if momentum is None else momentum

    monkeypatch.setattr(ChannelNorm, "weight_of_new", weight_of_new)
    [result] = claims.measure([31], quick=True)
    assert result["verdict"] == verdict
    assert [f["met"] for f in result["findings"] if f["kind"] == "stated"] == [True, verdict == HOLDS]


def test_a_report_is_a_page_of_its_own(tmp_path):
    """Its pictures are in it, and all that it refers to is; the articles have their titles."""
    pytest.importorskip("matplotlib")
    results = claims.measure([43, 47], quick=True, pictures=True)
    page = claims.report(results, tmp_path).read_text(encoding="utf-8")
    assert "Norm(λWx) = Norm(Wx)" in page and page.count("<svg") == page.count("<figure>") == 1
    found = References(page)
    assert len(found.targets) > 100 and set(found.targets) <= {f"#{name}" for name in found.ids}
    assert set(re.findall(r"url\(.", page)) == {"url(#"} and "@import" not in page and "<script" not in page
    assert all(escape(title) in page for title in claims.DOCUMENTS.values())
    stored = json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))
    assert [r["number"] for r in stored["results"]] == [43, 47]
    assert stored["environment"]["seconds"] == round(sum(r["seconds"] for r in results), 1)


class References(HTMLParser):
    """What a page refers to, to be loaded or followed, and the ids in it."""

    def __init__(self, page):
        super().__init__()
        self.targets, self.ids = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.targets += [values[name] for name in ("src", "srcset", "data", "href", "xlink:href") if name in values]
        self.ids += [values["id"]] if "id" in values else []


def test_the_command_measures_on_the_device_it_was_given(gpu, tmp_path, run):
    """A statement about formulas and one that trains nets; the page names the device."""
    tn.set_default_device("cpu")
    before = counts.total()
    arguments = ("claims", "--quick", "--only", "43,40", "--quiet", "--no-pictures", "--out", "here")
    assert run(*arguments, "--device", gpu)[0] == 0
    assert gpu != "strict" or counts.total() > before + 500
    assert tn.get_default_device() == "cpu"
    assert json.loads((tmp_path / "here" / "claims.json").read_text())["environment"]["device"] == gpu


@pytest.mark.slow
def test_every_statement_is_measured_on_the_gpu(gpu):
    """None mixes devices; the verdicts are those of the CPU, but for a net whose last steps rounding decides."""
    results = claims.measure(quick=True)
    assert [r["number"] for r in results] == sorted(CLAIMS)
    others = [r["number"] for r in results if r["verdict"] == UNDECIDED]
    assert len(others) <= 2, others


def test_the_command(capsys):
    assert main(["claims", "--quick", "--only", "43", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "43  holds when λ > 0 and eps = 0" in out and "of 1 statements 0 hold, 1 hold under a condition" in out
    assert main(["claims", "--only", "43,999"]) == 2
    assert "there is no statement 999" in capsys.readouterr().err
    assert main(["claims", "--quick", "--only", "43", "--quiet", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    [result] = found["results"]
    assert np.isfinite(result["findings"][0]["mean"])
    titles = [found["documents"][name] for name in result["documents"]]
    assert "详解深度学习中的Normalization" in titles[0]
