"""Errors that teach: what a user can do wrong, and what is said about it.

Every text stands in errors.md beside this file, to be read by a person; ``python -m pytest tests/test_errors.py
--write-errors`` writes it anew. A text gets a point for each of: a purposeful type; every value that was wrong; the
rule or the remedy; the name of the operation or argument; and being raised where the mistake was made, which a gradient
sweep is not unless the text is about gradients. Four points are needed, the values and the name among them.
"""

import re
from pathlib import Path
from traceback import walk_tb

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import data, nn, optim, train
from tinygrad_norm.backend import DEVICES

SNAPSHOT = Path(__file__).with_name("errors.md")
TYPES = (ValueError, TypeError, RuntimeError, IndexError, FloatingPointError, OSError, tn.CheckpointError)
RULE = r"\b(must|needs|only)\b|[;,.:] (write|use|give|choose|lower) \S"  # what has to hold, or what to do


def t(*shape, grad=False, dtype="float32"):
    return tn.ones(*shape, dtype=dtype, requires_grad=grad)


def edited():
    w, a = t(1, grad=True), t(1)
    y = a * w
    a += 1.0
    y.backward()


def twice():
    y = (t(2, grad=True) * 2).sum()
    y.backward()
    y.backward()


def deep():
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Sequential(nn.Linear(5, 2)))
    net(t(2, 3))


class Two(tn.Op):
    """An operation whose author forgot a rule."""

    @staticmethod
    def forward(xp, a, b):
        return a * b

    backward = (lambda xp, g, y, a, b: g * b,)


class Turned(tn.Op):
    """An operation whose rule gives a transposed gradient."""

    @staticmethod
    def forward(xp, a):
        return a * 2

    backward = (lambda xp, g, y, a: (g * 2).T,)


class Silent(tn.Op):
    """An operation whose rule forgot to return."""

    @staticmethod
    def forward(xp, a):
        return a * 2

    backward = (lambda xp, g, y, a: None,)


class Bare(tn.Op):
    """An operation whose only rule stands there without a tuple."""

    @staticmethod
    def forward(xp, a):
        return a * 2

    backward = lambda xp, g, y, a: g * 2  # noqa: E731 -- as somebody would write it


class Few(tn.Op):
    """A fused operation whose backward returns one gradient for two inputs."""

    @staticmethod
    def composite(a, b):
        return a * b

    @staticmethod
    def forward(xp, a, b):
        return a * b, None

    @staticmethod
    def backward(xp, g, y, saved, needs, a, b):
        return (g * b,)


def trainer(loss):
    model = nn.Linear(2, 3)
    return train.Trainer(model, optim.SGD(model.parameters(), lr=0.1), loss)


def nan_step():
    p = nn.Parameter(t(2))
    p.grad = tn.tensor([1.0, float("nan")])
    optim.SGD([("layer.weight", p)], lr=0.1).step()


def backward(y):
    y.sum().backward()


# (what was done, a call that is refused, words that must be said: values and names; the name of operation or argument)
MISTAKES = {
    "add, shapes": (lambda: t(2, 3) + t(4), ["(2, 3)", "(4,)"], "add"),
    "matmul, inner lengths": (lambda: t(3, 4) @ t(5, 6), ["(3, 4)", "(5, 6)"], "matmul"),
    "matmul, numbers": (lambda: tn.matmul(t(), t(2)), ["()", "(2,)"], "matmul"),
    "matmul, dtypes": (lambda: t(2, 2) @ t(2, 2, dtype="float64"), ["float32", "float64"], "matmul"),
    "linear, features": (lambda: F.linear(t(2, 3), t(4, 5)), ["(2, 3)", "(4, 5)"], "linear"),
    "a layer deep inside": (deep, ["(2, 4)", "5", "1.0"], "Linear"),
    "an operand that is no number": (lambda: t(2) * None, ["None"], "multiply"),
    "an operand that is text": (lambda: t(2) + "1", ["'1'"], "add"),
    "reshape, sizes": (lambda: t(2, 3).reshape(4), ["(2, 3)", "4"], "reshape"),
    "transpose, axes": (lambda: t(2, 3).transpose(0, 0), ["0"], "transpose"),
    "an axis that is not there": (lambda: t(2, 3).sum(axis=2), ["2", "(2, 3)"], "sum"),
    "concatenate, shapes": (lambda: tn.concatenate([t(2, 3), t(2, 4)], axis=0), ["(2, 3)", "(2, 4)"], "concatenate"),
    "stack, shapes": (lambda: tn.stack([t(2), t(3)]), ["(2,)", "(3,)"], "stack"),
    "an index out of range": (lambda: t(2, 3)[5], ["5", "2"], "getitem"),
    "index arrays, shapes": (lambda: t(4, 5)[[0, 1], [0, 1, 2]], ["(4, 5)", "(2,)", "(3,)"], "getitem"),
    "index arrays of an assignment": (
        lambda: t(4, 5).__setitem__(([0, 1], [0, 1, 2]), 1.0), ["(4, 5)", "(2,)", "(3,)", "1.0"], "assignment"),
    "clip, limits' shapes": (lambda: tn.clip(t(3), t(2), 1.0), ["(3,)", "(2,)"], "clip"),
    "clip of nothing": (lambda: tn.clip(None, t(2)), ["None"], "clip"),
    "cosine_similarity, shapes": (
        lambda: F.cosine_similarity(t(2, 3), t(2, 4)), ["(2, 3)", "(2, 4)"], "cosine_similarity"),
    "cosine_similarity, axes": (lambda: F.cosine_similarity(t(3), t(3)), ["axis 1", "[-1, 1)"], "cosine_similarity"),
    "an index of floats": (lambda: t(3)[t(2)], ["float32"], "index"),
    "broadcast_to, shapes": (lambda: tn.broadcast_to(t(2), (3,)), ["(2,)", "(3,)"], "broadcast_to"),
    "squeeze of a length": (lambda: t(2, 3).squeeze(0), ["0", "(2, 3)"], "squeeze"),
    "var of one value": (lambda: t(1).var(ddof=1), ["1"], "var"),
    "einsum, lengths": (lambda: tn.einsum("ij,jk->ik", t(2, 3), t(4, 5)), ["3", "(2, 3)", "(4, 5)"], "einsum"),
    "einsum, a diagonal": (lambda: tn.einsum("ii", t(2, 3)), ["(2, 3)", "'ii'"], "einsum"),
    "ragged numbers": (lambda: tn.tensor([[1.0], [1.0, 2.0]]), ["[[1.0], [1.0, 2.0]]"], "tensor"),
    "a function of NumPy's": (lambda: np.mean(t(3)), ["dtype=None"], "mean"),
    "a list of results": (lambda: tn.tensor([t(1, grad=True).sum()]), ["()"], "tensor"),
    "objects": (lambda: tn.tensor(np.array([object()])), ["object"], "tensor"),
    "a masked array": (lambda: tn.tensor(np.ma.array([1.0], mask=[True])), ["mask"], "tensor"),
    "a dtype nobody knows": (lambda: tn.zeros(2, dtype="float8"), ["float8"], "zeros"),
    "a device that is not there": (lambda: tn.zeros(2, device="tpu"), ["'tpu'"], "tpu"),
    "a gradient of integers": (lambda: tn.tensor([1], requires_grad=True), ["int64"], "requires_grad"),
    "item of several": (lambda: t(2).item(), ["(2,)"], "item"),
    "the truth of several": (lambda: bool(t(2)), ["(2,)"], "truth"),
    "backward without a graph": (lambda: t(1).backward(), ["(1,)"], "backward"),
    "backward of several": (lambda: (t(3, grad=True) * 2).backward(), ["(3,)", "3 elements"], "backward"),
    "a gradient of another shape": (
        lambda: (t(3, grad=True) * 2).backward(np.ones(2, "float32")), ["(3,)", "(2,)"], "gradient"),
    "backward twice": (twice, ["sum"], "backward"),
    "an edit in between": (edited, ["input 0", "(1,)"], "multiply"),
    "an edit while recording": (lambda: t(2, grad=True).__iadd__(1), ["(2,)"], "in-place"),
    "grad by something unused": (lambda: tn.grad(t(1, grad=True) * 2, t(3, grad=True)), ["(3,)", "input 0"], "grad"),
    "hessian of a vector": (lambda: tn.hessian(lambda x: x * 2, t(2)), ["(2,)"], "hessian"),
    "hessian of no tensor": (lambda: tn.hessian(lambda x: 3.0, t(2)), ["3.0"], "hessian"),
    "an operation without one rule": (
        lambda: backward(tn.apply(Two, t(2, grad=True), t(2, grad=True))), ["1 rules", "2 inputs"], "two"),
    "a rule that transposes": (lambda: backward(tn.apply(Turned, t(2, 3, grad=True))), ["(3, 2)", "(2, 3)"], "turned"),
    "a rule that returns nothing": (lambda: backward(tn.apply(Silent, t(2, grad=True))), ["None", "input 0"], "silent"),
    "a rule without its tuple": (lambda: backward(tn.apply(Bare, t(2, grad=True))), ["(2,)", "function"], "bare"),
    "a backward that returns too little": (
        lambda: backward(tn.apply(Few, t(2, grad=True), t(2, grad=True))), ["1 gradients", "2 inputs"], "few"),
    "a label out of range": (
        lambda: F.cross_entropy(t(4, 3), tn.tensor([0, 1, 9, 2])), ["[0, 3)", "(4, 3)", "9", "position 2"],
        "cross_entropy"),
    "labels of -1 and 1": (
        lambda: F.binary_cross_entropy_with_logits(t(2), tn.tensor([1, -1])), ["[0, 1]", "-1", "position 1", "int64"],
        "binary_cross_entropy_with_logits"),
    "labels that are floats": (lambda: F.cross_entropy(t(4, 3), t(4)), ["float32"], "cross_entropy"),
    "too few labels": (lambda: F.cross_entropy(t(4, 3), tn.zeros(3, dtype="int64")), ["(3,)", "(4,)"], "cross_entropy"),
    "mse, shapes": (lambda: F.mse_loss(t(4, 1), t(4)), ["(4, 1)", "(4,)"], "mse_loss"),
    "batch norm of one row": (lambda: nn.BatchNorm1d(3)(t(1, 3)), ["(1, 3)"], "BatchNorm1d"),
    "a negative eps": (lambda: F.layer_norm(t(2, 3), 3, eps=-1.0), ["-1"], "eps"),
    "batch norm of other features": (lambda: nn.BatchNorm1d(3)(t(4, 5)), ["3", "(4, 5)"], "BatchNorm1d"),
    "layer norm of other features": (lambda: nn.LayerNorm(3)(t(4, 5)), ["3", "(4, 5)"], "LayerNorm"),
    "group norm, groups": (lambda: nn.GroupNorm(3, 4), ["3", "4"], "GroupNorm"),
    "sizes that are no list": (lambda: nn.MLP(3, 4), ["3 (int)"], "MLP"),
    "a class for a layer": (lambda: nn.Sequential(nn.ReLU), ["ReLU", "'0'"], "Sequential"),
    "data for a loss's options": (
        lambda: nn.CrossEntropyLoss(t(4, 3), tn.zeros(4, dtype="int64")), ["(4,)", "int64"], "CrossEntropyLoss"),
    "an array for a parameter": (
        lambda: setattr(nn.Linear(2, 3), "weight", np.ones((3, 2), "f4")), ["(3, 2)", "ndarray"], "weight"),
    "an array for a buffer": (
        lambda: setattr(nn.BatchNorm1d(2), "running_mean", np.ones(2)), ["(2,)", "ndarray"], "running_mean"),
    "a number for a state": (lambda: nn.RNN(2, 3)(t(4, 1, 2), 0), ["0 (int)", "(1, 1, 3)"], "RNN"),
    "a layer without outputs": (lambda: nn.Linear(3, -1), ["-1"], "Linear"),
    "a class for a loss": (lambda: trainer(nn.MSELoss), ["MSELoss"], "loss"),
    "an optimizer of another model": (
        lambda: train.Trainer(nn.Linear(2, 3), optim.SGD(nn.Linear(2, 3).parameters(), lr=0.1), nn.MSELoss()),
        ["none", "2"], "Trainer"),
    "a loss that returns several": (
        lambda: trainer(nn.MSELoss(reduction="none")).fit([(t(4, 2), t(4, 3))], 1), ["(4, 3)"], "loss"),
    "one column of scores": (lambda: train.metrics.accuracy(t(4, 1), t(4)), ["(4, 1)", "(4,)"], "accuracy"),
    "arrays in a tuple": (lambda: data.TensorDataset((np.ones((4, 2)), np.ones(4))), ["tuple"], "TensorDataset"),
    "arrays for batches": (lambda: trainer(nn.MSELoss()).fit((t(4, 2), t(4, 3)), 1), ["(4, 2)"], "batch"),
    "a probability": (lambda: nn.Dropout(1.5), ["1.5"], "Dropout"),
    "a learning rate": (lambda: optim.SGD([nn.Parameter(t(1))], lr=-0.1), ["-0.1"], "SGD"),
    "nothing to optimize": (lambda: optim.Adam([]), ["empty"], "Adam"),
    "a step with NaN": (nan_step, ["layer.weight", "nan", "(1,)"], "SGD"),
    "a state of another net": (
        lambda: nn.Linear(2, 3).load_state_dict({"weight": np.ones((3, 2), "f4")}), ["bias"], "load_state_dict"),
    "a state of other shapes": (
        lambda: nn.Linear(2, 3).load_state_dict({"weight": np.ones((2, 3), "f4"), "bias": np.ones(3, "f4")}),
        ["weight", "(2, 3)", "(3, 2)"], "load_state_dict"),
    "a file that is not there": (lambda: tn.load("nowhere.npz"), ["nowhere.npz"], "nowhere"),
    "data of two lengths": (lambda: data.TensorDataset(np.ones((4, 2)), np.ones(3)), ["4", "3"], "TensorDataset"),
    "a batch of nothing": (
        lambda: data.DataLoader(data.TensorDataset(np.ones((4, 2))), batch_size=0), ["0"], "batch_size"),
}  # fmt: skip


def said(name):
    """The exception of one mistake, with its notes."""
    with pytest.raises(Exception) as caught:
        MISTAKES[name][0]()
    error = caught.value
    return error, "\n".join([str(error), *getattr(error, "__notes__", [])])


def score(error, text, values, about):
    """Points and what they are for."""
    plain = text.lower()
    frames = {Path(frame.f_code.co_filename).name for frame, _ in walk_tb(error.__traceback__)}
    return {
        "type": isinstance(error, TYPES) and type(error) is not Exception,
        "values": all(value in text for value in values),
        "rule": bool(re.search(RULE, plain)),
        "name": about.lower() in plain,
        "here": not {"sweep.py"} & frames or bool(re.search("backward|gradient", plain)),
    }


@pytest.mark.promise("P13")
@pytest.mark.parametrize("name", MISTAKES)
def test_every_error_teaches(name):
    error, text = said(name)
    points = score(error, text, *MISTAKES[name][1:])
    assert points["values"] and points["name"] and sum(points.values()) >= 4, (
        f"{type(error).__name__}: {text}\n{points}"
    )


@pytest.mark.promise("P13")
def test_the_texts_are_those_of_the_snapshot(request, record_property, monkeypatch):
    monkeypatch.delitem(DEVICES, "strict", raising=False)  # known once another test has asked for it
    lines = [
        "# What is said about mistakes",
        "",
        "Written by `python -m pytest tests/test_errors.py --write-errors`.",
        "",
    ]
    full = 0
    for name in MISTAKES:
        error, text = said(name)
        full += all(score(error, text, *MISTAKES[name][1:]).values())
        lines += [f"## {name}", "", "```text", f"{type(error).__name__}: {text}", "```", ""]
    page = "\n".join(lines[:-1]) + "\n"
    if request.config.getoption("--write-errors"):
        SNAPSHOT.write_text(page, encoding="utf-8")
    known = SNAPSHOT.read_text("utf-8")
    assert page == known, "a text has changed: read it, then run the tests with --write-errors"
    record_property("figure", f"{len(MISTAKES)} texts, {full} of them with 5 of 5 points, none below 4")


def test_the_rubric_sees_a_poor_text():
    for error, text in ((ValueError("bad input"), "bad input"), (KeyError("x"), "'x'")):
        try:
            raise error
        except Exception as raised:
            assert sum(score(raised, text, ["(2, 3)"], "add").values()) < 4


@pytest.mark.parametrize("text", [
    "add: shapes (2, 3) and (4,) do not fit", "transpose: there is no axis 5", "cross_entropy: cannot use the label 9",
    "einsum: 'ij,jk->ik' gives index 'j' the lengths 3 and 4", "no match between (2,) and (3,)", "9 is not known here",
])  # fmt: skip
def test_what_states_neither_rule_nor_remedy_gets_no_point_for_it(text):
    assert not score(ValueError(text), text, [], "")["rule"]


class Clumsy(tn.Op):
    """An operation whose rule fails of itself."""

    @staticmethod
    def forward(xp, a):
        return a * 2

    backward = (lambda xp, g, y, a: a.nonsense,)


def test_a_rule_that_fails_is_not_told_what_it_returns():
    for create_graph in (False, True):
        with pytest.raises(TypeError, match=r"backward of clumsy.*no attribute 'nonsense'$"):
            x = t(2, grad=True)
            tn.grad(tn.apply(Clumsy, x).sum(), x, create_graph=create_graph)


def test_a_text_of_the_sweep_about_something_else_is_told_too_late():
    def late(xp, g, y, a):
        raise ValueError("add: got 9; must be 3")

    error = None
    try:
        backward(tn.apply(type("Late", (Clumsy,), {"backward": (late,)}), t(2, grad=True)))
    except ValueError as raised:
        error = raised.__cause__
    assert not score(error, str(error), ["9"], "add")["here"]


def test_an_error_inside_modules_says_where():
    assert "in 1.0 (Linear" in said("a layer deep inside")[1]
