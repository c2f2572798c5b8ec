"""Optimizers: textbook formulas, PyTorch, state by name, resume, refusals, groups, clipping."""

import copy
import json
import math
import pickle

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import optim

SHAPES = {"weight": (4, 3), "bias": (4,), "scale": ()}
STEPS = 50

# class name, its arguments
CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "betas": (0.0, 0.9)}),
    ("AdamW", {"lr": 0.1}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.3}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.9, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.9, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.9, "centered": True, "eps": 1e-2}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
]
IDS = [name + "".join(f"-{k}" for k in arguments) for name, arguments in CASES]


def make(dtype="float64", seed=0, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {n: tn.tensor(rng.standard_normal(s), dtype=dtype, requires_grad=True) for n, s in shapes.items()}


def gradients(step, dtype="float64", shapes=SHAPES):
    """Some with a constant part, some noise: what a step sees does not depend on how it is computed."""
    rng = np.random.default_rng(1000 + step)
    return {n: (rng.standard_normal(s) + 0.3).astype(dtype) for n, s in shapes.items()}


def feed(params, step, skip=()):
    """Set the gradients of one step."""
    for name, g in gradients(step, shapes={n: p.shape for n, p in params.items()}).items():
        params[name].grad = None if name in skip else g.astype(params[name].dtype)


def run(optimizer, params, steps, skip=None):
    for step in steps:
        feed(params, step, () if skip is None else skip(step))
        optimizer.step()


def values(params):
    return {name: p.numpy().copy() for name, p in params.items()}


def optimizer_of(kind, params, arguments):
    return getattr(optim, kind)(params.items(), **({"lr": 0.1} if kind == "SGD" else {}) | arguments)


# --- the formulas, written once more, one number at a time ----------------------------------------------------------


class Textbook:
    """The published update of one number, in Python floats."""

    def __init__(self, kind, lr=None, weight_decay=None, betas=(0.9, 0.999), eps=None, momentum=0, nesterov=False,
                 alpha=0.99, centered=False, lr_decay=0, initial_accumulator_value=0):  # fmt: skip
        self.kind, self.momentum, self.nesterov, self.alpha, self.centered = kind, momentum, nesterov, alpha, centered
        self.lr = lr or {"Adam": 1e-3, "AdamW": 1e-3, "RMSprop": 1e-2, "Adagrad": 1e-2}[kind]
        self.decay = weight_decay if weight_decay is not None else 0.01 if kind == "AdamW" else 0.0
        self.b1, self.b2 = betas
        self.eps = eps or (1e-10 if kind == "Adagrad" else 1e-8)
        self.lr_decay = lr_decay
        self.t = 0
        self.m = self.v = self.u = 0.0
        self.s = initial_accumulator_value

    def __call__(self, p, g):
        self.t += 1
        if self.kind == "AdamW":
            p = p - self.lr * self.decay * p
        else:
            g = g + self.decay * p
        return p - getattr(self, self.kind.lower())(g)

    def sgd(self, g):
        if not self.momentum:
            return self.lr * g
        self.m = self.momentum * self.m + g
        return self.lr * (g + self.momentum * self.m if self.nesterov else self.m)

    def adam(self, g):
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        mhat, vhat = self.m / (1 - self.b1**self.t), self.v / (1 - self.b2**self.t)
        return self.lr * mhat / (math.sqrt(vhat) + self.eps)

    adamw = adam

    def rmsprop(self, g):
        self.v = self.alpha * self.v + (1 - self.alpha) * g**2
        self.m = self.alpha * self.m + (1 - self.alpha) * g
        g = g / (math.sqrt(self.v - self.m**2 if self.centered else self.v) + self.eps)
        self.u = self.momentum * self.u + g
        return self.lr * self.u

    def adagrad(self, g):
        self.s += g**2
        return self.lr / (1 + (self.t - 1) * self.lr_decay) * g / (math.sqrt(self.s) + self.eps)


def textbook(kind, arguments, start, skip=None):
    """All parameters after STEPS steps, number by number."""
    rules = {n: [Textbook(kind, **arguments) for _ in range(p.size)] for n, p in start.items()}
    now = {n: [float(v) for v in p.ravel()] for n, p in start.items()}
    for step in range(STEPS):
        for name, g in gradients(step).items():
            if skip is None or name not in skip(step):
                now[name] = [r(p, float(x)) for r, p, x in zip(rules[name], now[name], g.ravel(), strict=True)]
    return {n: np.array(now[n]).reshape(p.shape) for n, p in start.items()}


@pytest.mark.parametrize("kind, arguments", CASES, ids=IDS)
@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-12), ("float32", 2e-6)])
def test_textbook(kind, arguments, dtype, rtol):
    params = make(dtype)
    expected = textbook(kind, arguments, values(params))
    run(optimizer_of(kind, params, arguments), params, range(STEPS))
    for name, p in params.items():
        assert p.dtype == dtype
        np.testing.assert_allclose(p.numpy(), expected[name], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("kind, arguments", CASES, ids=IDS)
def test_like_torch(kind, arguments):
    torch = pytest.importorskip("torch")
    params = make()
    theirs = {n: torch.tensor(p.numpy().copy(), requires_grad=True) for n, p in params.items()}
    run(optimizer_of(kind, params, arguments), params, range(STEPS))
    other = getattr(torch.optim, kind)(theirs.values(), **({"lr": 0.1} if kind == "SGD" else {}) | arguments)
    for step in range(STEPS):
        for name, g in gradients(step).items():
            theirs[name].grad = torch.tensor(g)
        other.step()
    for name, p in params.items():
        np.testing.assert_allclose(p.numpy(), theirs[name].detach().numpy(), rtol=1e-10, atol=0)


def sometimes(step):
    """Names without a gradient in this step: each at other times, and once all."""
    absent = [name for i, name in enumerate(SHAPES) if (step + i) % 3 == 0]
    return list(SHAPES) if step == 7 else absent


@pytest.mark.parametrize("kind, arguments", CASES, ids=IDS)
def test_parameters_without_gradient_keep_their_own_time(kind, arguments):
    params = make()
    expected = textbook(kind, arguments, values(params), sometimes)
    run(optimizer_of(kind, params, arguments), params, range(STEPS), sometimes)
    for name, p in params.items():
        np.testing.assert_allclose(p.numpy(), expected[name], rtol=1e-12, atol=1e-12)


def test_a_parameter_without_gradient_is_not_touched():
    params = make()
    optimizer = optim.Adam(params.items(), weight_decay=0.1)
    run(optimizer, params, range(3))
    before, state = values(params)["bias"], optimizer.state_dict()["state"]["bias"]
    run(optimizer, params, range(3, 6), lambda step: ["bias"])
    after = optimizer.state_dict()["state"]["bias"]
    assert (params["bias"].numpy() == before).all()
    assert after["steps"] == state["steps"] == 3
    assert (after["exp_avg"] == state["exp_avg"]).all() and (after["exp_avg_sq"] == state["exp_avg_sq"]).all()


def test_a_centred_mean_square_never_becomes_nan():
    x = tn.ones(1000, requires_grad=True)
    optimizer = optim.RMSprop([x], lr=1e-12, alpha=0.5, centered=True)
    for _ in range(60):
        x.grad = np.linspace(0.1, 3, 1000, dtype="float32")
        optimizer.step()
    assert np.isfinite(x.numpy()).all()


# --- where the numbers live -----------------------------------------------------------------------------------------


def test_parameters_are_written_where_they_are():
    params = make()
    memory = {n: p._data for n, p in params.items()}
    grads = {}
    optimizer = optim.SGD(params.items(), lr=0.1, momentum=0.9)
    feed(params, 0)
    for n, p in params.items():
        grads[n] = (p.grad, p.grad.numpy().copy())
    optimizer.step()
    for n, p in params.items():
        assert p._data is memory[n] and p.is_leaf and p.requires_grad
        assert p.grad is grads[n][0] and (p.grad.numpy() == grads[n][1]).all()


def test_a_step_between_forward_and_backward_is_noticed():
    x = tn.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    x.grad = np.ones(2, "float32")
    optim.SGD([x], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_nothing_is_recorded():
    x = tn.tensor([1.0, 2.0], requires_grad=True)
    node = x._node
    optimizer = optim.Adam([x])
    for _ in range(2):
        (x * x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert x._node is node and x.grad is None


def test_layouts_and_borrowed_memory():
    base = np.arange(12.0).reshape(3, 4)
    x = tn.from_numpy(base.T).requires_grad_()
    g = np.arange(12.0).reshape(4, 3)
    x.grad = np.asfortranarray(g)
    optim.SGD([x], lr=0.5, weight_decay=0.5).step()
    start = np.arange(12.0).reshape(3, 4).T
    np.testing.assert_allclose(base.T, start - 0.5 * (g + 0.5 * start))


def test_mixed_dtypes_and_empty_parameters():
    params = make("float64") | {
        "half": tn.tensor([1.0, -2.0], dtype="float16", requires_grad=True),
        "single": tn.tensor([[1.0], [-2.0]], requires_grad=True),
        "empty": tn.zeros(0, 3, requires_grad=True),
    }
    expected = textbook("Adam", {}, {n: v for n, v in values(params).items() if n in SHAPES})
    optimizer = optim.Adam(params.items())
    run(optimizer, params, range(STEPS))
    for name, value in expected.items():
        np.testing.assert_allclose(params[name].numpy(), value, rtol=1e-12)
    assert [params[n].dtype for n in ("half", "single", "empty")] == ["float16", "float32", "float32"]
    state = optimizer.state_dict()["state"]
    assert state["half"]["exp_avg"].dtype == "float32" and state["weight"]["exp_avg"].dtype == "float64"


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "RMSprop", "Adagrad"])
def test_float16_is_computed_in_float32(kind):
    """1e-8 is 0 in float16, and so is the square of a gradient of 1e-4."""
    x = tn.tensor([1.0, 1.0, 1.0], dtype="float16", requires_grad=True)
    x.grad = np.array([1e-4, 0.0, 300.0], "float16")
    optimizer = getattr(optim, kind)([x], lr=0.125)
    optimizer.step()
    step = 1 - x.numpy().astype("float64")
    assert step[1] == pytest.approx(0.125 * 0.01 if kind == "AdamW" else 0, abs=5e-4)
    assert step[0] > 0.12 and step[2] > 0.12


def test_numpy_scalars_do_not_widen():
    params = make("float32")
    optimizer = optim.AdamW(params.items(), lr=np.float64(0.1), eps=np.float32(1e-8), betas=(np.float64(0.9), 0.99))
    optimizer.param_groups[0]["weight_decay"] = np.float64(0.1)
    run(optimizer, params, range(2))
    assert type(optimizer.param_groups[0]["lr"]) is float
    assert {p.dtype.name for p in params.values()} == {"float32"}


def test_neither_error_state_nor_random_numbers_are_touched():
    params = make("float32")
    optimizer = optim.Adam(params.items())
    tn.manual_seed(3)
    before = np.geterr(), np.random.get_state()[1].tolist()
    drawn = tn.rand(3).tolist()
    tn.manual_seed(3)
    run(optimizer, params, range(3))
    assert (np.geterr(), np.random.get_state()[1].tolist()) == before
    assert tn.rand(3).tolist() == drawn


# --- gradients that are not finite ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind, arguments", CASES[::2], ids=IDS[::2])
def test_a_gradient_that_is_not_finite_is_refused(kind, arguments, bad):
    params = make()
    optimizer = optimizer_of(kind, params, arguments)
    run(optimizer, params, range(6))
    before, state = values(params), optimizer.state_dict()
    feed(params, 6)
    g = params["bias"].grad.numpy().copy()
    g[2] = bad
    params["bias"].grad = g
    params["scale"].grad = np.full((), bad)
    with pytest.raises(FloatingPointError, match=r"step 7: the gradient of 'bias' .*1 of 4 .*\(2,\).*Nothing"):
        optimizer.step()
    assert_same(values(params), before)
    assert_same(optimizer.state_dict(), state)
    run(optimizer, params, range(6, 8))
    assert optimizer.steps == 8


def test_a_later_group_and_dtype_is_checked_before_the_first_is_updated():
    first, second = make("float64"), make("float32")
    optimizer = optim.SGD([{"params": list(first.values())}, {"params": list(second.values())}], lr=0.1)
    feed(first, 0)
    feed(second, 0)
    second["scale"].grad = np.full((), np.nan, "float32")
    before = values(first)
    with pytest.raises(FloatingPointError, match=r"parameter 5 of shape \(\)"):
        optimizer.step()
    assert_same(values(first), before)


def test_a_large_finite_gradient_is_no_error():
    x = tn.zeros(100, requires_grad=True)
    x.grad = np.full(100, 1e30, "float32")
    optim.SGD([x], lr=1e-30).step()
    np.testing.assert_allclose(x.numpy(), -1)


def test_the_check_can_be_switched_off():
    x = tn.zeros(2, requires_grad=True)
    x.grad = np.array([np.nan, 1], "float32")
    optim.SGD([x], lr=1.0, check_finite=False).step()
    assert np.isnan(x.numpy()[0]) and x.numpy()[1] == -1


# --- state ----------------------------------------------------------------------------------------------------------


def assert_same(a, b):
    """Equal to the last bit, through nested dicts and lists."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    else:
        assert a == b


def copied(params):
    return {n: tn.tensor(p.numpy(), requires_grad=True) for n, p in params.items()}


def through_a_file(state):
    """Arrays apart, everything else through JSON, as a checkpoint does."""
    if isinstance(state, dict):
        return {k: through_a_file(v) for k, v in state.items()}
    return state.copy() if isinstance(state, np.ndarray) else json.loads(json.dumps(state))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("kind, arguments", CASES, ids=IDS)
def test_resume_is_bitwise(kind, arguments, dtype):
    whole = make(dtype)
    straight = optimizer_of(kind, whole, arguments)
    run(straight, whole, range(20), lambda step: ["bias"] if step == 4 else [])

    half = make(dtype)
    first = optimizer_of(kind, half, arguments)
    run(first, half, range(10), lambda step: ["bias"] if step == 4 else [])
    state = through_a_file(first.state_dict())
    again = copied(half)
    second = getattr(optim, kind)(again.items(), lr=0.7)  # hyperparameters come from the state
    second.load_state_dict(state)
    run(second, again, range(10, 20))

    assert_same(values(again), values(whole))
    assert_same(second.state_dict(), straight.state_dict())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("kind, arguments", CASES, ids=IDS)
def test_a_copy_goes_on_as_the_original(kind, arguments, again):
    params = make()
    optimizer = optimizer_of(kind, params, arguments)
    run(optimizer, params, range(5))
    others, copied_optimizer = again((params, optimizer))
    before = values(params)
    run(copied_optimizer, others, range(5, 10))
    assert_same(values(params), before)
    run(optimizer, params, range(5, 10))
    assert_same(values(others), values(params))
    assert_same(copied_optimizer.state_dict(), optimizer.state_dict())


@pytest.mark.parametrize("kind, arguments", [c for c in CASES if c != CASES[0] and c != CASES[1]])
def test_without_the_state_a_resumed_run_differs(kind, arguments):
    whole = make()
    optimizer = optimizer_of(kind, whole, arguments)
    run(optimizer, whole, range(10))
    again = copied(whole)
    run(optimizer, whole, range(10, 20))
    run(optimizer_of(kind, again, arguments), again, range(10, 20))
    assert not all((again[n].numpy() == whole[n].numpy()).all() for n in whole)


@pytest.mark.parametrize("kind, arguments", CASES, ids=IDS)
def test_state_follows_the_name_when_the_order_changes(kind, arguments):
    square = {"a": (3, 3), "b": (3, 3), "c": (3, 3)}
    straight = make(shapes=square)
    optimizer = optimizer_of(kind, straight, arguments)
    run(optimizer, straight, range(10))
    again = copied(straight)
    turned = {name: again[name] for name in reversed(again)}
    other = optimizer_of(kind, turned, arguments)
    other.load_state_dict(optimizer.state_dict())
    for step in range(10, 20):
        feed(straight, step)
        for name, p in straight.items():
            turned[name].grad = p.grad
        optimizer.step()
        other.step()
    for name, p in straight.items():
        assert (turned[name].numpy() == p.numpy()).all()


def test_a_state_is_a_snapshot():
    params = make()
    optimizer = optim.Adam(params.items())
    run(optimizer, params, range(2))
    state = optimizer.state_dict()
    kept = json.dumps(state["state"]["weight"]["exp_avg"].tolist())
    run(optimizer, params, range(2, 4))
    assert json.dumps(state["state"]["weight"]["exp_avg"].tolist()) == kept
    optimizer.load_state_dict(state)
    state["state"]["weight"]["exp_avg"][...] = 7
    assert (optimizer.state_dict()["state"]["weight"]["exp_avg"] != 7).all()


def test_a_state_loads_from_tensors():
    params = make()
    optimizer = optim.Adam(params.items())
    run(optimizer, params, range(2))
    state = optimizer.state_dict()
    for entry in state["state"].values():
        entry["exp_avg"] = tn.tensor(entry["exp_avg"])
    optimizer.load_state_dict(state)


def without(state, *path):
    del at(state, *path[:-1])[path[-1]]


def at(state, *path):
    for key in path:
        state = state[key]
    return state


def rename(state, old, new):
    state["state"][new] = state["state"].pop(old)
    state["param_groups"][0]["params"] = [new if n == old else n for n in state["param_groups"][0]["params"]]


DAMAGE = {
    "not a state": (lambda s: s.clear(), "state_dict()"),
    "other class": (lambda s: s.update(optimizer="SGD"), "state of SGD, not of Adam"),
    "nameless": (lambda s: s.update(named=False), "nameless"),
    "missing name": (lambda s: without(s, "state", "bias"), r"missing in the state: \['bias'\]"),
    "unknown name": (lambda s: rename(s, "bias", "shift"), r"missing in the state: \['bias'\].*unknown .*\['shift'\]"),
    "other group": (lambda s: s["param_groups"].append({}), "2 groups; this optimizer has 1"),
    "name in no group": (lambda s: s["param_groups"][0]["params"].remove("bias"), r"group 0: parameters .*'bias'"),
    "missing setting": (lambda s: without(s, "param_groups", 0, "betas"), r"group 0: entries .*'betas'"),
    "bad setting": (lambda s: s["param_groups"][0].update(lr=-1.0), "lr must be in .*got -1.0"),
    "shape": (lambda s: s["state"]["bias"].update(shape=[3]), r"'bias' has shape \(4,\); the state has \(3,\)"),
    "array shape": (lambda s: s["state"]["bias"].update(exp_avg=np.zeros(3)), r"'bias': exp_avg .*\(4,\).*\(3,\)"),
    "array dtype": (
        lambda s: s["state"]["bias"].update(exp_avg=np.zeros(4, "f")),
        "'bias': exp_avg .*float64.*float32",
    ),
    "no array": (lambda s: s["state"]["scale"].update(exp_avg=1.0), "'scale': exp_avg"),
    "missing array": (lambda s: without(s, "state", "scale", "exp_avg_sq"), "'scale': entries .*'exp_avg_sq'"),
    "unknown array": (lambda s: s["state"]["scale"].update(sum=1), "'scale': entries .*'sum'"),
    "steps": (lambda s: s["state"]["scale"].update(steps=-1), "'scale': steps"),
    "all steps": (lambda s: s.update(steps=-1), "load_state_dict: steps"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_state_that_does_not_fit_is_refused_whole(damage):
    params = make()
    optimizer = optim.Adam(params.items(), lr=0.5)
    run(optimizer, params, range(3))
    state = optim.Adam(make().items()).state_dict()
    change, complaint = DAMAGE[damage]
    change(state)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=complaint):
        optimizer.load_state_dict(state)
    assert_same(optimizer.state_dict(), before)


def test_nameless_state_is_kept_by_position_and_shape():
    a, b = tn.zeros(2, requires_grad=True), tn.zeros(3, requires_grad=True)
    state = optim.SGD([a, b], lr=0.1).state_dict()
    assert list(state["state"]) == ["0", "1"] and not state["named"]
    optim.SGD([a, b], lr=0.1).load_state_dict(state)
    with pytest.raises(ValueError, match=r"parameter 0 of shape \(3,\) has shape \(3,\); the state has \(2,\)"):
        optim.SGD([b, a], lr=0.1).load_state_dict(state)
    with pytest.raises(ValueError, match="nameless"):
        optim.SGD([("a", a), ("b", b)], lr=0.1).load_state_dict(state)


# --- groups ---------------------------------------------------------------------------------------------------------


def test_groups_have_settings_of_their_own():
    params = make()
    start = values(params)
    groups = [
        {"params": [("weight", params["weight"])], "lr": 0.5},
        {"params": [("bias", params["bias"]), ("scale", params["scale"])], "weight_decay": 0.0},
    ]
    optimizer = optim.SGD(groups, lr=0.1, weight_decay=0.2)
    feed(params, 0)
    optimizer.step()
    g = gradients(0)
    np.testing.assert_allclose(params["weight"].numpy(), start["weight"] - 0.5 * (g["weight"] + 0.2 * start["weight"]))
    np.testing.assert_allclose(params["bias"].numpy(), start["bias"] - 0.1 * g["bias"])
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1]
    assert optimizer.param_groups[0]["params"][0] is params["weight"]


def test_settings_may_change_between_steps():
    x = tn.zeros(1, requires_grad=True)
    optimizer = optim.SGD([x], lr=1.0)
    for lr, momentum, expected in [(1.0, 0.0, -1.0), (0.5, 0.0, -1.5), (1.0, 0.5, -2.5), (1.0, 0.5, -4.0)]:
        optimizer.param_groups[0].update(lr=lr, momentum=momentum)
        x.grad = np.ones(1, "float32")
        optimizer.step()
        assert x.item() == expected
    for lr in (math.nan, -1.0, math.inf, "0.1", None, tn.tensor(0.1)):
        optimizer.param_groups[0]["lr"] = lr
        with pytest.raises((ValueError, TypeError), match="SGD: lr must be"):
            optimizer.step()
    assert x.item() == -4.0


def test_adding_a_group():
    a, b = tn.zeros(2, requires_grad=True), tn.zeros(2, requires_grad=True)
    optimizer = optim.SGD([("a", a)], lr=1.0)
    optimizer.add_param_group({"params": [("b", b)], "lr": 2.0})
    for p in (a, b):
        p.grad = np.ones(2, "float32")
    optimizer.step()
    assert a.tolist() == [-1, -1] and b.tolist() == [-2, -2]
    for group in ({"params": [("c", a)]}, {"params": [("a", tn.ones(1, requires_grad=True))]}, {"lr": 1.0}):
        with pytest.raises(ValueError):
            optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 2


class Weights(tn.Tensor):
    """What a layer's parameter is: a tensor that says whether it decays."""

    __slots__ = ("decay",)

    def __init__(self, values, decay=True):
        x = tn.tensor(values)
        self._data, self._node, self._version = x._data, None, x._version
        self.decay = decay
        self.requires_grad_()


class Model:
    def __init__(self):
        self.parts = {"weight": Weights([1.0, 2.0]), "gamma": Weights([3.0], decay=False)}

    def named_parameters(self):
        yield from self.parts.items()

    def __iter__(self):
        return iter(self.parts)


def test_no_decay_groups():
    model = Model()
    optimizer = optim.AdamW(optim.no_decay_groups(model, 0.1), lr=1.0)
    for p in model.parts.values():
        p.grad = np.zeros(p.shape, "float32")
    optimizer.step()
    np.testing.assert_allclose(model.parts["weight"].numpy(), [0.9, 1.8], rtol=1e-6)
    assert model.parts["gamma"].tolist() == [3.0]
    assert optimizer.state_dict()["param_groups"][0]["params"] == ["weight"]
    groups = optim.AdamW(optim.no_decay_groups(model), weight_decay=0.5).param_groups
    assert [g["weight_decay"] for g in groups] == [0.5, 0.0]
    model.parts.pop("gamma")
    saved = optim.SGD(optim.no_decay_groups(model, 0.1), lr=1.0)
    other = optim.SGD(optim.no_decay_groups(model, 0.1), lr=2.0)
    other.load_state_dict(saved.state_dict())
    assert other.param_groups[1] == {"params": (), "names": ()} | {
        "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False,
    }  # fmt: skip
    with pytest.raises(TypeError, match="no_decay_groups"):
        optim.no_decay_groups([1])


def test_frozen_parameters_are_skipped():
    model = Model()
    model.parts["gamma"].requires_grad_(False)
    optimizer = optim.SGD(model.named_parameters(), lr=1.0)
    model.parts["weight"].grad = np.ones(2, "float32")
    optimizer.step()
    assert model.parts["weight"].tolist() == [0.0, 1.0] and model.parts["gamma"].tolist() == [3.0]


# --- bad input ------------------------------------------------------------------------------------------------------

LEAF = tn.ones(2, requires_grad=True)
BAD_PARAMS = {
    "one tensor": (lambda: LEAF, TypeError, r"write \[x\]"),
    "a model": (lambda: Model(), TypeError, r"got a Model; write model.named_parameters\(\)"),
    "a set": (lambda: {LEAF}, TypeError, "a set, which has no order"),
    "a dict": (lambda: {"w": LEAF}, TypeError, "params must be a list"),
    "text": (lambda: "weights", TypeError, "'weights'"),
    "empty": (list, ValueError, "nothing to optimize"),
    "only empty groups": (lambda: [{"params": []}], ValueError, "nothing to optimize"),
    "array": (lambda: [np.ones(2)], TypeError, r"params\[0\] must be a Parameter .* ndarray"),
    "name alone": (lambda: ["w"], TypeError, r"params\[0\] must be"),
    "no gradient": (lambda: [LEAF, tn.ones(2)], TypeError, r"params\[1\] .*requires_grad=True"),
    "integers": (lambda: [tn.ones(2, dtype="int64")], TypeError, r"int64.* needs no gradient"),
    "not a leaf": (lambda: [("w", LEAF * 2)], ValueError, "'w' .*inside a graph"),
    "twice": (lambda: [LEAF, LEAF], ValueError, "given twice, first as parameter 0"),
    "twice in groups": (lambda: [{"params": [LEAF]}, {"params": [LEAF]}], ValueError, "given twice"),
    "one name twice": (lambda: [("w", LEAF), ("w", tn.ones(1, requires_grad=True))], ValueError, "named 'w'"),
    "named and nameless": (lambda: [("w", LEAF), tn.ones(1, requires_grad=True)], TypeError, "all .* or to none"),
    "group and parameter": (lambda: [{"params": [LEAF]}, LEAF], TypeError, r"params\[0\] must be"),
    "misspelt": (lambda: [{"params": [LEAF], "learning_rate": 1}], ValueError, "may set lr.*learning_rate"),
    "bad lr in a group": (lambda: [{"params": [LEAF], "lr": -2}], ValueError, r"lr must be in \[0, inf\); got -2.0"),
    "read-only": (
        lambda: [tn.from_numpy(np.broadcast_to(np.ones(1), (2,))).requires_grad_()], ValueError, "read-only",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_PARAMS)
def test_bad_params(what):
    params, error, complaint = BAD_PARAMS[what]
    with pytest.raises(error, match=f"SGD: .*{complaint}"):
        optim.SGD(params(), lr=0.1)


BAD_SETTINGS = [
    ("SGD", {"lr": -0.1}, r"lr must be in \[0, inf\); got -0.1"),
    ("SGD", {"lr": math.nan}, "lr must be in .*got nan"),
    ("SGD", {"lr": "0.1"}, "lr must be a number; got '0.1'"),
    ("SGD", {"lr": True}, "lr must be a number; got True"),
    ("SGD", {"lr": 0.1, "momentum": -1}, "momentum"),
    ("SGD", {"lr": 0.1, "weight_decay": -1}, "weight_decay"),
    ("SGD", {"lr": 0.1, "nesterov": True}, "nesterov=True needs momentum"),
    ("Adam", {"betas": (0.9, 1.0)}, r"betas\[1\] must be in \[0, 1\); got 1.0"),
    ("Adam", {"betas": 0.9}, "betas must be two numbers"),
    ("Adam", {"eps": 0.0}, r"eps must be in \(0, inf\); got 0.0"),
    ("AdamW", {"weight_decay": -0.1}, "AdamW: weight_decay"),
    ("RMSprop", {"alpha": 1.5}, "alpha"),
    ("Adagrad", {"lr_decay": -1}, "lr_decay"),
    ("Adagrad", {"initial_accumulator_value": -1}, "initial_accumulator_value"),
]


@pytest.mark.parametrize("kind, arguments, complaint", BAD_SETTINGS)
def test_bad_settings(kind, arguments, complaint):
    with pytest.raises((ValueError, TypeError), match=f"{kind}: {complaint}|{complaint}"):
        getattr(optim, kind)([LEAF], **arguments)


def test_a_parameter_moved_to_another_dtype_is_noticed():
    x = tn.ones(2, requires_grad=True)
    optimizer = optim.SGD([("x", x)], lr=0.1)
    x._data = x._data.astype("float64")
    x._node.dtype = x._data.dtype
    x.grad = np.ones(2)
    with pytest.raises(RuntimeError, match=r"'x' is now float64 .* was float32"):
        optimizer.step()


def test_repr_shows_the_settings():
    optimizer = optim.SGD([{"params": [LEAF]}, {"params": [], "lr": 1}], lr=0.5)
    rest = "momentum=0.0, weight_decay=0.0, nesterov=False"
    assert repr(optimizer) == f"SGD(lr=0.5, {rest}; lr=1.0, {rest})"


# --- clipping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 1e6, math.inf])
def test_clip_grad_norm(norm_type, max_norm):
    params = make()
    feed(params, 0, skip=["bias"])
    before = {n: p.grad.numpy().copy() for n, p in params.items() if p.grad is not None}
    held = params["weight"].grad
    flat = np.concatenate([g.ravel() for g in before.values()])
    expected = np.abs(flat).max() if norm_type == math.inf else (np.abs(flat) ** norm_type).sum() ** (1 / norm_type)
    total = optim.clip_grad_norm_(params.items(), max_norm, norm_type)
    assert total.shape == () and total.dtype == "float64" and not total.requires_grad
    assert total.item() == pytest.approx(expected, rel=1e-12)
    factor = min(1.0, max_norm / (expected + 1e-6))
    for name, g in before.items():
        np.testing.assert_allclose(params[name].grad.numpy(), g * factor, rtol=1e-12)
    assert params["bias"].grad is None
    assert (held.numpy() == before["weight"]).all()  # a gradient the user holds does not change


def test_clip_grad_norm_like_torch():
    torch = pytest.importorskip("torch")
    params = make()
    feed(params, 0)
    theirs = [torch.zeros(p.shape, dtype=torch.float64, requires_grad=True) for p in params.values()]
    for t, p in zip(theirs, params.values(), strict=True):
        t.grad = torch.tensor(p.grad.numpy().copy())
    expected = torch.nn.utils.clip_grad_norm_(theirs, 0.3)
    assert optim.clip_grad_norm_(params.values(), 0.3).item() == pytest.approx(expected.item(), rel=1e-12)
    for t, p in zip(theirs, params.values(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), t.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_a_norm_neither_overflows_nor_vanishes(size):
    x = tn.zeros(3, requires_grad=True)
    x.grad = np.array([3, 0, 4], "float32") * np.float32(size)
    assert optim.clip_grad_norm_([x], 1.0).item() == pytest.approx(5 * size, rel=1e-6)
    if size > 1:
        np.testing.assert_allclose(x.grad.numpy(), [0.6, 0, 0.8], rtol=1e-6)


def test_clipping_leaves_what_is_not_finite_for_step_to_name():
    params = make()
    feed(params, 0)
    params["bias"].grad = np.array([1, np.nan, 2, 3])
    optimizer = optim.SGD(params.items(), lr=0.1)
    assert math.isnan(optim.clip_grad_norm_(params.values(), 1.0).item())
    with pytest.raises(FloatingPointError, match="'bias'"):
        optimizer.step()


def test_clip_grad_value():
    x = tn.zeros(4, dtype="float16", requires_grad=True)
    x.grad = held = tn.tensor([-3.0, -0.5, 0.5, 3.0], dtype="float16")
    optim.clip_grad_value_(x, 1.0)
    assert x.grad.tolist() == [-1.0, -0.5, 0.5, 1.0] and x.grad.dtype == "float16"
    assert held.tolist() == [-3.0, -0.5, 0.5, 3.0]


def test_clip_grad_norm_of_nothing():
    assert optim.clip_grad_norm_([tn.zeros(1, requires_grad=True)], 1.0).item() == 0.0


@pytest.mark.parametrize("limit", [-1.0, math.nan, "1", None])
def test_bad_limits(limit):
    for clip in (optim.clip_grad_norm_, optim.clip_grad_value_):
        with pytest.raises((ValueError, TypeError), match=f"{clip.__name__}: (max_norm|clip_value) must be"):
            clip([LEAF], limit)
    with pytest.raises(ValueError, match="norm_type"):
        optim.clip_grad_norm_([LEAF], 1.0, 0.0)
    with pytest.raises(TypeError, match=r"params\[0\]"):
        optim.clip_grad_norm_([3.0], 1.0)
