"""Paths that no other test takes: errors by their words, and branches for what is rare."""

import os
import pickle

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import data, nn, testing, train
from tinygrad_norm import functional as F
from tinygrad_norm.data import workers
from tinygrad_norm.engine import Op, apply
from tinygrad_norm.ops.reduce import sum_to
from tinygrad_norm.serialize import replace
from tinygrad_norm.testing.samples import ROWS

ROW, PICTURE = tn.ones(2, 3), tn.ones(2, 3, 4)
LABELS = np.array([0, 1])

REFUSED = {
    "a seed that is negative": (lambda: tn.manual_seed(-1), ValueError, r"in \[0, 2\*\*63\); got -1"),
    "an axis named twice": (lambda: PICTURE.mean((0, -3)), ValueError, r"\(0, -3\) names the same dimension twice"),
    "zeros like a list": (lambda: tn.zeros_like([1.0]), TypeError, "zeros_like: expected a Tensor"),
    "a leaf inside a graph": (
        lambda: (tn.ones(2, requires_grad=True) * 2).requires_grad_(False), RuntimeError, r"write x.detach\(\)",
    ),
    "an index of the result alone": (lambda: tn.einsum("ij->ik", ROW), ValueError, "'ik' of 'ij->ik' must name"),
    "an index named twice": (lambda: tn.einsum("ij->ii", ROW), ValueError, "each once"),
    "a diagonal of a rectangle": (lambda: tn.einsum("ii", ROW), ValueError, "index 'i' the lengths 2 and 3"),
    "-1 for a new length": (lambda: ROW.expand(-1, 2, 3), ValueError, r"\(-1, 2, 3\) adds dimensions"),
    "a product with text": (lambda: tn.matmul(ROW, "x"), TypeError, "matmul: operands must be Tensors or arrays"),
    "cross entropy of a number": (lambda: F.cross_entropy(tn.tensor(1.0), LABELS), TypeError, "cross_entropy: logits"),
    "labels that are a list": (lambda: F.cross_entropy(ROW, [0, 1]), TypeError, r"write tn.tensor\(...\) first"),
    "likelihood of an array": (lambda: F.nll_loss(np.ones((2, 3)), LABELS), TypeError, "nll_loss: log_probs must be"),
    "an error of an array": (lambda: F.mse_loss(np.ones(3), tn.ones(3)), TypeError, "mse_loss: input must be"),
    "one running statistic": (
        lambda: F.batch_norm(ROW, running_mean=tn.ones(3)), ValueError, "running_mean",
    ),
    "groups without channels": (lambda: F.group_norm(tn.ones(3), 1), ValueError, r"x must be \(N, C\)"),
    "no mean to take off": (lambda: F.mean_only_batch_norm(ROW), ValueError, "outside training it needs running_mean"),
    "no dimension to normalize": (lambda: nn.LayerNorm(()), ValueError, "must name at least one dimension"),
    "a rule that is made": (lambda: type("Twice", (Op,), {})(), TypeError, "Twice is a folder of rules"),
    "a sum to more": (lambda: sum_to(ROW, (3, 2)), ValueError, r"shape \(2, 3\) cannot be summed to shape \(3, 2\)"),
    "a row that there is": (lambda: testing.register("exp", None, tn.exp, np.exp), ValueError, "has a row 'exp'"),
    "a gap that is unknown": (
        lambda: testing.register("mine", None, tn.exp, np.exp, gaps={"speed": "slow"}), ValueError, "gap .speed"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused(what):
    act, error, words = REFUSED[what]
    with pytest.raises(error, match=words):
        act()


def test_lists_may_hold_tensors_that_need_no_gradient():
    assert tn.tensor([tn.tensor([1.0, 2.0]), [3.0, 4.0]]).tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_new_tensors_like_another():
    x = tn.ones(2, 3, dtype="float64")
    for y in (tn.empty_like(x), tn.rand_like(x), tn.full_like(x, 7)):
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert tn.full_like(x, 7, dtype="float32").tolist() == [[7.0] * 3] * 2
    drawn = tn.rand_like(x).numpy()
    assert len(set(drawn.ravel())) == 6 and (drawn >= 0).all() and (drawn < 1).all()


def test_an_operation_of_a_number_makes_a_tensor():
    class Square(Op):
        @staticmethod
        def forward(xp, x):
            return x * x

        backward = (lambda xp, g, y, x: 2 * x * g,)

    y = apply(Square, 3.0)
    assert isinstance(y, tn.Tensor) and y.dtype == tn.get_default_dtype() and y.item() == 9.0


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_rule_that_gives_nothing_is_an_error_at_every_order(create_graph):
    class Bad(Op):
        @staticmethod
        def forward(xp, x):
            return x * x

        backward = (lambda xp, g, y, x: None,)

    x = tn.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match=r"backward of bad.*None came for input 0"):
        tn.grad(apply(Bad, x).sum() + x.sum(), x, create_graph=create_graph)


def test_an_operation_that_says_its_name_is_not_given_it_again():
    class Root(Op):
        @staticmethod
        def forward(xp, x):
            raise ValueError("root: x must be positive")

        backward = None

    with pytest.raises(ValueError, match=r"^root: x must be positive$"):
        apply(Root, tn.ones(2))


def test_need_of_a_gradient_is_a_property_to_be_set():
    x = tn.ones(2)
    x.requires_grad = True
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]
    x.requires_grad = False
    assert (x * x).is_leaf


def test_the_configuration_is_shown_from_the_package(capsys):
    tn.show_config()
    assert np.__version__ in capsys.readouterr().out


def test_a_history_without_epochs_says_so():
    assert repr(train.History()) == "History: 0 epochs"


def test_declared_gaps_are_not_checked():
    """Square has no second derivative, no float16 and no check of edits here: declared as gaps, they are left out."""

    class Square(Op):
        @staticmethod
        def forward(xp, x):
            if x.dtype == "float16":
                raise TypeError("no float16")
            return x * x

        backward = (lambda xp, g, y, x: xp.asarray(np.asarray(2 * g * x)) if isinstance(x, np.ndarray) else g * 0,)

    try:
        row = testing.register("square of mine", Square, lambda x: apply(Square, x), lambda x: x * x)
        with pytest.raises((AssertionError, TypeError)):
            testing.check(row)
        del ROWS["square of mine"]
        gaps = {"float16": "refused", "second order": "a wrong one", "edits": "not asked"}
        row = testing.register("square of mine", Square, lambda x: apply(Square, x), lambda x: x * x, gaps=gaps)
        testing.check(row)
    finally:
        ROWS.pop("square of mine", None)


class Awkward(Exception):
    """Cannot be made again from its arguments, as some libraries' exceptions cannot."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


@pytest.mark.parametrize(
    "error, travels", [(ValueError("bad pixel"), True), (Awkward(1, 2), False), (KeyboardInterrupt("now"), False)]
)
def test_an_error_of_a_worker_as_it_travels(error, travels):
    try:
        raise error
    except BaseException as caught:
        found = workers.portable(caught, "batch 3")
    assert (found is error) == travels
    assert str(error) in str(pickle.loads(pickle.dumps(found))) and "which read batch 3" in found.__notes__[-1]
    assert "Traceback (most recent call last)" in found.__notes__[-1]


def test_a_folder_that_cannot_be_synchronized(monkeypatch, tmp_path):
    """Some file systems answer EINVAL: no error. Any other answer is one."""
    for number, fails in ((22, False), (5, True)):
        calls = iter([None, OSError(number, "no")])

        def fsync(descriptor, calls=calls):
            answer = next(calls)
            if answer:
                raise answer

        monkeypatch.setattr(os, "fsync", fsync)
        target = tmp_path / f"{number}.npz"
        if fails:
            with pytest.raises(OSError, match="no"):
                tn.save(target, {"x": tn.ones(2)})
        else:
            tn.save(target, {"x": tn.ones(2)})
        monkeypatch.undo()
        assert tn.load(target)["x"].tolist() == [1.0, 1.0]


def test_the_process_of_somebody_else_is_running(monkeypatch):
    def kill(pid, signal):
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    assert replace._is_running(1)


def test_pictures_of_too_many_classes_are_refused():
    boundary = pytest.importorskip("tinygrad_norm.viz.boundary", reason="matplotlib is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    many = len(boundary.COLOURS) + 1
    net, (x, _) = nn.Linear(2, many), data.xor()
    with pytest.raises(ValueError, match=f"at most {many - 1} classes can be told apart; got {many}"):
        boundary.decision_boundary(net, x, np.zeros(len(x), int))
