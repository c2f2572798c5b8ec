"""What notebooks show: tables of tensors, of modules, of a history and of reports."""

import json
from html.parser import HTMLParser

import pytest

import tinygrad_norm as tn
from tinygrad_norm import nn, testing, train
from tinygrad_norm.lab import claims
from tinygrad_norm.lab.compare import Plan, compare
from tinygrad_norm.ops.show import html_table


class Table(HTMLParser):
    """The rows of a table; complains about tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.outside, self.open = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] in (["td"], ["th"]):
            self.rows[-1][-1] += data
        elif data.strip():
            self.outside.append(data)


def test_a_tensor_is_a_table_with_a_line_that_says_what_it_is():
    x = tn.tensor([[0.5, float("nan"), 1e-7], [-1.0, float("inf"), 1 / 3]], requires_grad=True)
    table = Table(x._repr_html_())
    assert table.outside == ["Tensor, shape (2, 3), float32, cpu, requires_grad=True"]
    assert table.rows == [
        ["", "0", "1", "2"],
        ["0", "0.5", "nan", "1e-07"],
        ["1", "-1", "inf", "0.3333"],
    ]
    assert Table((x + 1.0)._repr_html_()).outside == ["Tensor, shape (2, 3), float32, cpu, op=add"]
    assert Table(nn.Parameter(tn.ones(2))._repr_html_()).outside[0].startswith("Parameter, shape (2,)")
    assert Table(tn.tensor([True, False])._repr_html_()).rows == [["", "0", "1"], ["0", "True", "False"]]
    assert Table(tn.zeros(0, 2)._repr_html_()).rows == [["", "0", "1"]]
    assert Table(tn.tensor(7)._repr_html_()).outside == ["Tensor, shape (), int64, cpu", "7"]


def test_of_a_long_tensor_the_ends_are_shown():
    x = tn.arange(10_000).reshape(100, 100)
    table = Table(x._repr_html_())
    shown = ["0", "1", "2", "3", "…", "96", "97", "98", "99"]
    assert table.rows[0] == ["", *shown] and [row[0] for row in table.rows[1:]] == shown
    assert table.rows[-1] == ["99", "9,900", "9,901", "9,902", "9,903", "…", "9,996", "9,997", "9,998", "9,999"]
    assert table.rows[5] == ["…"] * 10
    assert len(Table(tn.zeros(9, 9)._repr_html_()).rows) == 10
    for shape in [(10**6,), (1000, 1000), (100, 100, 100), (30, 30, 30, 30), (8,) * 6]:
        text = tn.zeros(*shape)._repr_html_()
        Table(text)
        assert ("…" if len(shape) < 3 else "...") in text and len(text) < 5_000, shape


def test_the_names_of_operations_are_escaped():
    op = type("<b>&", (tn.Op,), {"forward": staticmethod(lambda xp, x: x + 1.0), "backward": (lambda xp, g, y, x: g,)})
    for shape in [(2, 2), (2, 2, 2)]:
        text = tn.apply(op, tn.ones(*shape, requires_grad=True))._repr_html_()
        assert "op=&lt;b&gt;&amp;" in text and "<b>&" not in text


def test_a_history_is_a_table_of_epochs():
    history = train.History({"loss": [0.5, float("nan")], "<i>": [1, 0.123456]})
    table = Table(history._repr_html_())
    assert table.outside == ["History: 2 epochs"]
    assert table.rows == [["epoch", "loss", "<i>"], ["1", "0.5", "1"], ["2", "", "0.1235"]]
    table = Table(train.History({"loss": range(1000)})._repr_html_())
    epochs = [*range(1, 7), "...", *range(995, 1001)]
    assert [row[0] for row in table.rows[1:]] == [str(e) if e != 1000 else "1,000" for e in epochs]
    assert Table(train.History()._repr_html_()).rows == [["epoch"]]


def test_a_module_is_a_table_of_layers_shapes_and_parameters():
    table = Table(nn.MLP([784, 100, 10], norm="batch")._repr_html_())
    assert table.outside == ["MLP, 79,610 parameters"]
    assert table.rows == [
        ["name", "layer", "shapes", "parameters"],
        ["linear1", "Linear(in_features=784, out_features=100, bias=False)", "weight (100, 784)", "78,400"],
        ["norm1", repr(nn.BatchNorm1d(100)), "weight (100,), bias (100,)", "200"],
        ["activation1", "ReLU()", "", "0"],
        ["linear2", "Linear(in_features=100, out_features=10, bias=True)", "weight (10, 100), bias (10,)", "1,010"],
    ]


def test_wrappers_shared_and_frozen_layers():
    shared = nn.Linear(3, 3, bias=False)
    model = nn.Sequential(nn.WeightNorm(nn.Linear(2, 3)), shared, nn.Sequential(nn.ReLU(), shared))
    model[1].requires_grad_(False)
    table = Table(model._repr_html_())
    assert table.outside == [f"Sequential, {sum(p.size for p in model.parameters())} parameters, 9 of them frozen"]
    assert [(row[0], row[2], row[3]) for row in table.rows[1:]] == [
        ("0", "weight_g (3, 1), weight_v (3, 2)", "9"),
        ("0.layer", "bias (3,)", "3"),
        ("1", "weight (3, 3)", "9"),
        ("2.0", "", "0"),
    ]
    assert [row[0] for row in Table(nn.Linear(2, 2)._repr_html_()).rows] == ["name", ""]


def test_names_and_values_are_escaped():
    class Odd(nn.Module):
        def extra_repr(self):
            return "<script>&"

    assert Table(Odd()._repr_html_()).rows[1][1] == "Odd(<script>&)"
    table = Table(html_table(["<b>"], [["</td>"]], "<i>", ["&amp;"]))
    assert (table.rows, table.outside) == ([["<b>"], ["</td>"]], ["<i>", "&amp;"])


@pytest.mark.parametrize("wrong", [False, True])
def test_a_gradient_report(wrong):
    class Twice(tn.Op):
        @staticmethod
        def forward(xp, x):
            return x * 2.0

        backward = (lambda xp, g, y, x: g * (3.0 if wrong else 2.0),)

    x = tn.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    report = testing.gradcheck(lambda x: tn.apply(Twice, x), [x], raise_exception=False)
    table = Table(report._repr_html_())
    assert table.outside[0] == str(report).splitlines()[0]
    assert table.rows[0] == list(testing.report.HEADS)
    assert table.rows[1][0] == "input 0" and table.rows[1][-1] == ("WRONG" if wrong else "ok")
    assert any("WRONG" in note for note in table.outside[1:]) == wrong


def test_results_of_the_claims():
    results = claims.measure([43, 45], quick=True)
    table = Table(results._repr_html_())
    assert table.rows[0] == ["number", "statement", "verdict", "decided by"]
    assert [row[:3] for row in table.rows[1:]] == [[str(r["number"]), r["sentence"], r["verdict"]] for r in results]
    assert table.outside == [repr(results).splitlines()[-1]] and "2 hold under a condition" in table.outside[0]


def test_results_of_the_comparison(tmp_path):
    plan = Plan(sizes=(64, 8, 10), rates=(0.1,), seeds=(0,), epochs=1, norms=(None, "batch"))
    results = compare(tmp_path, plan=plan, pictures=False)
    table = Table(results._repr_html_())
    assert [row[0] for row in table.rows] == ["norm", "none", "batch"]
    text = repr(results)
    assert all(part in text for row in table.rows for part in row)
    assert "".join(text.split()).startswith("".join(table.outside[0].split()))
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_invariance_reports():
    certificate = testing.check_invariance("layer")
    table = Table(certificate._repr_html_())
    assert table.outside[0].startswith("layer: float64") and len(table.rows) == len(certificate.lines) + 1
    assert [row[2] for row in table.rows[1:]] == [line.verdict for line in certificate.lines]
    everything = testing.invariance_table()
    table = Table(everything._repr_html_())
    assert [row[0] for row in table.rows[1:]] == [c.norm for c in everything.certificates]
    assert len({len(row) for row in table.rows}) == 1
    assert table.rows[0][1] == everything.certificates[0].lines[0].name
