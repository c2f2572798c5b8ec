"""Anything in any order: a state machine of tensors against a naive engine.

Hypothesis makes tensors, applies operations (fused or by their definitions), edits memory in place, detaches, enters
and leaves ``no_grad``, runs ``backward`` and ``grad`` and clears gradients, in any order. The naive engine below
does the same with NumPy and keeps a copy of everything it may need, so edits never hurt it. The package must agree in
every value and gradient, or refuse for a reason that is true: the graph was released, or a value that is needed edited.
"""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm.engine import sweep

SHAPES = [(), (3,), (2, 3), (2, 1)]
LIMIT = 1e-9
MOSTLY = st.sampled_from([True, True, True, False])


# ---- the naive engine: a value remembers its parents and, for each, how a gradient gets there


class Value:
    """An array; ``parents`` are pairs of a Value and the function that takes a gradient to it."""

    count = 0

    def __init__(self, data, parents=(), needs=False, reads=()):
        Value.count += 1
        self.birth, self.data, self.parents, self.needs, self.reads = Value.count, data, parents, needs, reads
        self.grad = self.edited = None
        self.released = False


def shrink(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True).reshape(shape)


def normed(x):
    d = x - x.mean(-1, keepdims=True)
    return d / np.sqrt((d * d).mean(-1, keepdims=True) + 0.1)


def norm_back(x):
    """By the complex step, one element at a time: nothing is shared with the package."""

    def back(g):
        out = np.zeros(x.shape)
        for i in range(x.size):
            step = x.astype(complex)
            step.flat[i] += 1e-20j
            out.flat[i] = (g * normed(step).imag).sum() / 1e-20
        return out

    return back


def softmax_back(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    return lambda g: p * (g - (g * p).sum(-1, keepdims=True))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logistic(x):
    return 0.5 * np.tanh(x / 2) + 0.5


# name: (the package's, NumPy's, how a gradient gets to each operand, given copies of the operands)
ONE = {
    "tanh": (tn.tanh, np.tanh, lambda x: lambda g: g * (1 - np.tanh(x) ** 2)),
    "sin": (tn.sin, np.sin, lambda x: lambda g: g * np.cos(x)),
    "relu": (F.relu, lambda x: np.maximum(x, 0), lambda x: lambda g: g * (x > 0)),
    "square": (lambda x: x**2, np.square, lambda x: lambda g: 2 * g * x),
    "sum": (tn.sum, lambda x: np.asarray(x.sum()), lambda x: lambda g: g * np.ones(x.shape)),
    "transpose": (lambda x: x.T, lambda x: x.T, lambda x: lambda g: g.T),
    "reshape": (lambda x: x.reshape(-1), lambda x: x.reshape(-1), lambda x: lambda g: g.reshape(x.shape)),
    "reverse": (lambda x: x[..., ::-1], lambda x: x[..., ::-1], lambda x: lambda g: g[..., ::-1]),
    "softmax": (lambda x: F.softmax(x, -1), softmax, softmax_back),
    "layer_norm": (lambda x: F.layer_norm(x, x.shape[-1], eps=0.1), normed, norm_back),
    "sigmoid": (F.sigmoid, logistic, lambda x: lambda g: g * logistic(x) * logistic(-x)),
}
TWO = {
    "add": (tn.Tensor.__add__, np.add, lambda a, b: (lambda g: g, lambda g: g)),
    "subtract": (tn.Tensor.__sub__, np.subtract, lambda a, b: (lambda g: g, lambda g: -g)),
    "multiply": (tn.Tensor.__mul__, np.multiply, lambda a, b: (lambda g: g * b, lambda g: g * a)),
}
FLAT = ("reverse", "softmax", "layer_norm")  # not for a number


def ancestors(*roots):
    found, stack = {}, list(roots)
    while stack:
        v = stack.pop()
        if id(v) not in found:
            found[id(v)] = v
            stack += [p for p, _ in v.parents]
    return sorted(found.values(), key=lambda v: -v.birth)


def flow(root, seed):
    """The gradient of every value behind a root; None and the places it reached when the graph is gone."""
    grads = {id(root): seed}
    for v in ancestors(root):
        g = grads.get(id(v))
        if g is None or not v.parents:
            continue
        if v.released:
            return None
        for p, back in v.parents:
            if p.needs:
                grads[id(p)] = grads.get(id(p), 0) + shrink(back(g), p.data.shape)
    return grads


# ---- the two side by side


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.pairs = []  # (Tensor, Value)
        self.recording, self.blocks = True, []
        self.counts = {"right": 0, "refused": 0}

    def near(self, got, expected):
        got = got.numpy() if isinstance(got, tn.Tensor) else got
        assert got.shape == expected.shape
        assert np.all(np.abs(got - expected) <= LIMIT * max(1.0, np.max(np.abs(expected), initial=0.0)))

    def any_pair(self, data):
        return self.pairs[data.draw(st.integers(0, len(self.pairs) - 1))]

    def add(self, tensor, value):
        if np.max(np.abs(value.data), initial=0) < 1e3:
            self.near(tensor, value.data)
            assert tensor.requires_grad == value.needs
            self.pairs.append((tensor, value))

    def grown(self):
        return self.pairs != []

    @rule(shape=st.sampled_from(SHAPES), seed=st.integers(0, 99), needs=MOSTLY)
    def create(self, shape, seed, needs):
        a = np.random.default_rng(seed).uniform(-1, 1, shape)
        self.add(tn.tensor(a, requires_grad=needs), Value(a.copy(), (), needs))

    @precondition(grown)
    @rule(data=st.data(), name=st.sampled_from(sorted(ONE)), by_definition=st.booleans())
    def one(self, data, name, by_definition):
        x, v = self.any_pair(data)
        if not v.data.shape and name in FLAT:
            return
        ours, numpys, back = ONE[name]
        old = v.data.copy()
        if name == "relu" and np.any((old != 0) & (abs(old) < 1e-7)):
            return
        if by_definition:
            with tn.composite():
                y = ours(x)
        else:
            y = ours(x)
        needs = v.needs and self.recording
        self.add(y, Value(np.asarray(numpys(v.data)), ((v, back(old)),) if needs else (), needs, (v,)))

    @precondition(grown)
    @rule(data=st.data(), name=st.sampled_from(sorted(TWO)))
    def two(self, data, name):
        (x, v), (z, w) = self.any_pair(data), self.any_pair(data)
        try:
            np.broadcast_shapes(x.shape, z.shape)
        except ValueError:
            with pytest.raises(ValueError, match="broadcast"):
                TWO[name][0](x, z)
            return
        ours, numpys, backs = TWO[name]
        needs = self.recording and (v.needs or w.needs)
        by_a, by_b = backs(v.data.copy(), w.data.copy())
        parents = [(p, back) for p, back in ((v, by_a), (w, by_b)) if p.needs]
        self.add(ours(x, z), Value(np.asarray(numpys(v.data, w.data)), parents if needs else (), needs, (v, w)))

    @precondition(grown)
    @rule(data=st.data())
    def detach(self, data):
        x, v = self.any_pair(data)
        self.add(x.detach(), Value(v.data))

    @rule(record=MOSTLY)
    def enter(self, record):
        self.blocks.append((tn.enable_grad() if record else tn.no_grad(), self.recording))
        self.blocks[-1][0].__enter__()
        self.recording = record

    @precondition(lambda self: self.blocks)
    @rule()
    def leave(self):
        block, self.recording = self.blocks.pop()
        block.__exit__(None, None, None)

    @precondition(grown)
    @rule(data=st.data(), c=st.sampled_from([0.5, -1.25]), times=st.booleans(), quietly=MOSTLY)
    def edit(self, data, c, times, quietly):
        x, v = self.any_pair(data)
        if v.needs and self.recording and not quietly:
            with pytest.raises(RuntimeError, match="in-place"):
                x += c
            return
        with tn.no_grad() if quietly else contextlib.nullcontext():
            if times:
                x *= c
                v.data *= c
            else:
                x += c
                v.data += c
        for _, other in self.pairs:
            if np.shares_memory(other.data, v.data):
                other.edited = Value.count
        Value.count += 1

    def refused(self, error, roots):
        """The package gave up: one of the two reasons must be true. What it walked over is not used again."""
        behind = ancestors(*roots)
        text = str(error)
        if "released" in text:
            assert any(v.released for v in behind), text
        else:
            assert "changed in place" in text, text
            assert any(u.edited is not None for v in behind for u in (v, *v.reads)), text
        gone = {id(v) for v in behind if v.parents}
        self.pairs = [(x, v) for x, v in self.pairs if not any(id(u) in gone for u in ancestors(v))]
        self.counts["refused"] += 1

    @precondition(grown)
    @rule(data=st.data(), retain=st.booleans(), seed=st.integers(0, 99))
    def backward(self, data, retain, seed):
        x, v = self.any_pair(data)
        if not v.needs:
            with pytest.raises(RuntimeError, match="needs no gradient"):
                x.backward(np.ones(x.shape))
            return
        g = np.random.default_rng(seed).uniform(-1, 1, v.data.shape)
        before = [(y, None if y.grad is None else y.grad.numpy().copy()) for y, _ in self.pairs]
        expected = flow(v, g)
        try:
            x.backward(g, retain_graph=retain)
        except RuntimeError as error:
            for y, old in before:  # nothing was stored
                assert (y.grad is None) == (old is None) and (old is None or np.array_equal(y.grad.numpy(), old))
            self.refused(error, [v])
            return
        assert expected is not None, "a released graph gave a gradient"
        self.counts["right"] += 1
        for u in ancestors(v):
            if u.needs and not u.parents and id(u) in expected:
                u.grad = expected[id(u)] + (0 if u.grad is None else u.grad)
            if not retain and u.parents and id(u) in expected:
                u.released = True

    @precondition(grown)
    @rule(data=st.data(), graph=st.booleans())
    def grad(self, data, graph):
        (x, v), (z, w) = self.any_pair(data), self.any_pair(data)
        if not (v.needs and w.needs):
            return
        expected = flow(v, np.ones(v.data.shape))
        try:
            found = tn.grad(x, z, np.ones(x.shape), retain_graph=True, create_graph=graph, allow_unused=True)
        except RuntimeError as error:
            self.refused(error, [v])
            return
        if expected is None:
            return  # the released part does not lead to z
        if found is None:
            assert id(w) not in expected
        else:
            self.near(found, expected[id(w)])

    @precondition(grown)
    @rule(data=st.data())
    def clear(self, data):
        x, v = self.any_pair(data)
        x.grad = None
        v.grad = None

    @invariant()
    def agree(self):
        for x, v in self.pairs:
            assert np.max(np.abs(x.numpy() - v.data), initial=0.0) <= 1e-6
            if v.needs and not v.parents:
                assert (x.grad is None) == (v.grad is None)
                if v.grad is not None:
                    self.near(x.grad, v.grad)
        assert tn.is_grad_enabled() == self.recording

    def teardown(self):
        while self.blocks:
            self.leave()
        TOTAL.update({key: TOTAL[key] + n for key, n in self.counts.items()})


TOTAL = {"right": 0, "refused": 0}


def play(games, moves, phases=(Phase.generate, Phase.shrink)):
    """Some games of some moves: how many sweeps were right, how many were refused."""
    TOTAL.update(right=0, refused=0)
    options = settings(
        max_examples=games, stateful_step_count=moves, deadline=None, suppress_health_check=list(HealthCheck),
        database=None, derandomize=True, report_multiple_bugs=False, phases=phases,
    )  # fmt: skip
    run_state_machine_as_test(Machine, settings=options)
    return TOTAL["right"], TOTAL["refused"]


def test_any_order_of_anything():
    right, _ = play(100, 50)
    assert right > 50


@pytest.mark.slow
@pytest.mark.promise("P1", "P4")
def test_any_order_of_anything_for_long(record_property):
    right, refused = play(125, 100)
    assert right > 200 and refused > 20
    record_property("figure", f"125 random games of 100 moves: {right} sweeps right, {refused} refused, 0 wrong")


@pytest.mark.parametrize("mistake", ["value", "gradient", "edit", "release"])
def test_the_machine_sees_a_mistake(mistake, monkeypatch):
    if mistake == "value":
        monkeypatch.setitem(ONE, "tanh", (lambda x: tn.tanh(x) + 1e-6, *ONE["tanh"][1:]))
    elif mistake == "gradient":
        monkeypatch.setitem(ONE, "sin", (lambda x: tn.sin(x.detach()) + 0 * x, *ONE["sin"][1:]))
    elif mistake == "edit":
        monkeypatch.setattr(sweep, "check_edits", lambda node, graph: None)
    else:
        monkeypatch.setattr(Value, "released", property(lambda self: False, lambda self, value: None), raising=False)
    with pytest.raises(AssertionError):
        play(200, 60, [Phase.generate])
