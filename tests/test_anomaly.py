"""`detect_anomaly` names what made a NaN or an infinity, forward and backward, and what changed in between."""

import threading

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import nn
from tinygrad_norm.engine.op import observers
from tinygrad_norm.ops.create import tensor
from tinygrad_norm.testing.samples import ROWS

DERIVED = [row for row in ROWS.values() if row.op is not None and row.derivative]


def sample(row):
    """The first sample with values in every input and the result."""
    return next(
        (c, arrays)
        for c, arrays in row.samples()
        if all(a.size for a in arrays) and row.fn(*map(tensor, arrays), **c.options).size
    )


def poisoned(op, monkeypatch, *, forward=False, backward=False):
    """Let one operation give NaN in its first element."""

    def spoil(a):
        a = np.array(a, copy=True)
        a.reshape(-1)[:1] = np.nan
        return a

    if forward:
        old = op.forward

        def new(*args):
            y = old(*args)
            return (spoil(y[0]), y[1]) if op.fused else spoil(y)

        monkeypatch.setattr(op, "forward", staticmethod(new))
    if backward:
        rules = op.backward
        if op.fused:

            def each(xp, g, y, saved, needs, *args):
                return tuple(spoil(r) if n else r for r, n in zip(rules(xp, g, y, saved, needs, *args), needs))

            monkeypatch.setattr(op, "backward", staticmethod(each))
        else:
            wrapped = [lambda *args, i=i: spoil(rules[i](*args)) for i in range(9)]
            monkeypatch.setattr(op, "backward", wrapped)


def run(row, c, arrays, backward):
    wanted = row.differentiable(arrays)
    xs = [tensor(a, requires_grad=i in wanted) for i, a in enumerate(arrays)]
    y = row.fn(*xs, **c.options)  # the line that is named
    if backward:
        y.backward(np.ones(y.shape))


@pytest.mark.promise("P14")
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_the_operation_that_first_made_a_nan_is_named(way, monkeypatch, record_property):
    rows = DERIVED if way == "backward" else [row for row in ROWS.values() if row.op is not None]
    named = 0
    for row in rows:
        c, arrays = sample(row)
        with monkeypatch.context() as patch:
            probe = row.fn(*map(tensor, arrays), **c.options)
            if way == "forward" and probe.dtype.kind != "f":
                continue
            poisoned(row.op, patch, **{way: True})
            text = ""
            with tn.detect_anomaly():
                try:
                    run(row, c, arrays, way == "backward")
                except FloatingPointError as error:
                    text = str(error)
        start = f"{row.op.name} gave nan" if way == "forward" else f"backward of {row.op.name} by input "
        assert text.startswith(start), f"{row.name}: {text}"
        assert "test_anomaly.py:" in text, text
        named += 1
    assert named > 60
    record_property("figure", f"{way}: {named} of {named} operations named")


def test_the_line_is_the_user_s():
    x = tn.tensor([[1.0, -1.0]], requires_grad=True)
    with (
        tn.detect_anomaly(),
        pytest.raises(FloatingPointError, match=r"test_anomaly.py:\d+, in test_the.*: x.log\(\)"),
    ):
        x.log()  # the line
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with tn.no_grad():
        net[1].weight.copy_(np.nan)
    with tn.detect_anomaly(), pytest.raises(FloatingPointError, match="net\\(x - x\\)") as caught:
        net(x - x)
    assert "in 1 (Linear" in caught.value.__notes__[0]


def test_backward_names_the_line_of_the_forward():
    with tn.detect_anomaly():
        x = tn.tensor([0.0, 4.0], dtype="float64", requires_grad=True)
        y = x.sqrt()
        with pytest.raises(FloatingPointError) as caught:
            (y * 3.0).sum().backward()
    text = str(caught.value)
    assert text.startswith("backward of sqrt by input 0 gave inf at (0,) (1 of 2 elements)") and "y = x.sqrt()" in text


def test_what_was_given_is_told_from_what_was_made():
    with tn.detect_anomaly():
        with pytest.raises(FloatingPointError, match=r"multiply was given a NaN \(operand 1\)"):
            tn.tensor([1.0]) * tn.tensor([float("nan")])
        mask = tn.where(tn.tensor([True, False]), tn.tensor([1.0, 2.0]), -float("inf"))  # an infinity that was meant
        assert tn.functional.softmax(mask, -1).tolist() == [1.0, 0.0]
        with pytest.raises(FloatingPointError, match="subtract gave nan"):
            mask - mask
        x = tn.tensor([1.0], requires_grad=True)
        x.register_hook(lambda g: g * 1)
        with pytest.raises(FloatingPointError, match=r"multiply by input 0 was given a NaN \(gradient 0\)"):
            (x * 2).backward(np.array([np.nan], "float32"))


def test_a_gradient_that_overflows_only_in_its_input_s_dtype():
    with tn.detect_anomaly():
        x = tn.tensor([1.0], dtype="float16", requires_grad=True)
        y = tn.broadcast_to(x, (70_000,))
        with pytest.raises(FloatingPointError, match="broadcast_to by input 0 gave inf"):
            (y + 0.0).backward(np.ones(70_000, "float16"))


@pytest.mark.parametrize("fn", [lambda x: x * x, lambda x: x.exp(), lambda x: tn.functional.layer_norm(x, 3)])
def test_memory_written_to_behind_the_versions_is_noticed(fn):
    for target in ("input", "output"):
        x = tn.tensor([[1.0, 2.0, 4.0]], requires_grad=True)
        with tn.detect_anomaly():
            y = fn(x)
            kept = y if target == "output" else x
            kept._data[...] = kept._data[..., ::-1].copy()  # a sum would not see it
            try:
                y.backward(np.ones((1, 3), "float32"))
            except RuntimeError as error:
                assert "other values than when" in str(error) and "test_anomaly.py:" in str(error)
            else:
                assert target != ("output" if fn(x)._node.op.name == "exp" else "input")


@pytest.mark.promise("P17")
def test_the_block_belongs_to_its_thread_and_ends():
    bad = tn.tensor([float("nan")])
    found = []
    with tn.detect_anomaly():
        thread = threading.Thread(target=lambda: found.append(bad * 2))
        thread.start()
        thread.join()
        with tn.detect_anomaly():
            pass
        with pytest.raises(FloatingPointError):
            bad * 2
    assert len(found) == 1 and observers[0] == 0
    bad * 2

    @tn.detect_anomaly()
    def decorated():
        return bad * 2

    with pytest.raises(FloatingPointError):
        decorated()
    assert observers[0] == 0


def test_second_derivatives_are_watched_and_right():
    x = tn.tensor([[1.0, 2.0, 4.0]], dtype="float64", requires_grad=True)

    def penalty():
        y = tn.functional.layer_norm(x, 3).tanh()
        g = tn.grad((y * y * x).sum(), x, create_graph=True)
        return tn.grad((g * g).sum(), x).numpy()

    expected = penalty()
    with tn.detect_anomaly():
        assert np.array_equal(penalty(), expected)
        z = tn.tensor([0.0], requires_grad=True)
        with pytest.raises(FloatingPointError, match="power"):
            tn.grad(tn.grad(z**1.5, z, create_graph=True), z)
