"""The graph and its sweep: depth, reuse, order of derivative, pruning, ownership, modes, garbage."""

import contextlib
import enum
import gc
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import functional as F


def leaf(values, dtype="float64"):
    return tn.tensor(values, dtype=dtype, requires_grad=True)


class Counted(tn.Op):
    """y = 2x, counting how often its rule runs."""

    reads = tn.NOTHING
    calls = 0

    @staticmethod
    def forward(xp, x):
        return x * 2.0

    @staticmethod
    def _rule(xp, g, y, x):
        Counted.calls += 1
        return g * 2.0

    backward = (_rule,)


@pytest.fixture
def counted():
    Counted.calls = 0
    return lambda x: tn.apply(Counted, x)


@pytest.fixture
def shallow():
    """A recursion limit a little above where we stand."""
    before, depth, frame = sys.getrecursionlimit(), 0, sys._getframe()
    while frame:
        depth, frame = depth + 1, frame.f_back
    sys.setrecursionlimit(depth + 60)
    yield
    sys.setrecursionlimit(before)


# ---- depth and reuse


def chain(n):
    x = leaf([1.0, 2.0])
    y = x
    for _ in range(n):
        y = y * 1.0
    return x, y


def test_a_chain_of_100_000_operations(shallow):
    began = time.process_time()
    x, y = chain(100_000)
    y.sum().backward()
    del y
    assert x.grad.tolist() == [1.0, 1.0]
    assert time.process_time() - began < 5


def test_a_long_chain_is_freed_without_backward(shallow):
    x, y = chain(100_000)
    del x, y


def test_a_long_chain_with_a_graph_of_its_gradient(shallow):
    x, y = chain(3_000)
    (g,) = tn.grad(y.sum(), [x], create_graph=True)
    (g * x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_60_diamonds_run_every_rule_once(counted):
    x = leaf([1.0])
    y = x
    for _ in range(60):
        y = counted(y)
        y = (y + y) * 0.25
    y.backward(np.ones(1))
    assert Counted.calls == 60
    assert x.grad.item() == 1.0


def test_a_leaf_used_20_000_times(counted):
    x = leaf([1.0, 2.0])
    total = x * 0.0
    for _ in range(20_000):
        total = total + x
    total.sum().backward()
    assert x.grad.tolist() == [20_000.0, 20_000.0]


@pytest.mark.parametrize("shape", [(), (2,)])
@pytest.mark.parametrize("uses", [1, 2, 3, 5])
def test_every_use_counts(shape, uses):
    x = tn.tensor(np.ones(shape), requires_grad=True)
    y = x * 1.0
    total, middle = x, y
    for _ in range(uses - 1):
        total, middle = total + x, middle + y
    (total + middle).sum().backward()
    assert x.grad.shape == shape and (x.grad.numpy() == 2.0 * uses).all()


def test_x_times_itself_and_a_diamond_of_views():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    y = x * x.T + x[0] * x[:, :1]
    (g,) = tn.grad(y.sum(), [x])
    assert g.tolist() == [[9.0, 10.0], [7.0, 8.0]]


# ---- what backward refuses


def test_a_second_backward_is_an_error_and_retain_graph_allows_it():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4.0, 8.0]
    with pytest.raises(RuntimeError, match=r"released by an earlier backward.*retain_graph=True"):
        y.backward()
    with pytest.raises(RuntimeError, match="released"):
        tn.grad(y, x)
    assert x.grad.tolist() == [4.0, 8.0]


def test_two_losses_on_one_trunk():
    x = leaf([1.0])
    trunk = x * 3.0 * x
    a, b = (trunk * 2.0).sum(), (trunk * 5.0).sum()
    a.backward()
    with pytest.raises(RuntimeError, match="released"):
        b.backward()


def test_the_seed_must_fit(record_property):
    y = leaf([1.0, 2.0]) * 2.0
    with pytest.raises(ValueError, match=r"2 elements.*gradient=.*\(2,\).*\.sum\(\)"):
        y.backward()
    seeds = np.ones(1), np.ones((1, 2)), np.ones(()), np.ones(3), np.ones(2, "float32"), np.ones(2, int)
    for seed in seeds:
        with pytest.raises(ValueError, match=r"shape \(2,\) and dtype float64"):
            y.backward(seed, retain_graph=True)
        with pytest.raises(ValueError, match="grad_outputs"):
            tn.grad(y, y, seed)
    with pytest.raises(TypeError, match=r"1.0"):
        y.backward(1.0)
    y.backward(tn.tensor([1.0, 1.0], dtype="float64"))
    record_property(
        "figure", f"{len(seeds)} upstream gradients of other shapes and dtypes: refused by backward and grad"
    )


def test_nothing_to_differentiate():
    with pytest.raises(RuntimeError, match=r"needs no gradient.*requires_grad=True"):
        tn.tensor([1.0]).backward()
    with pytest.raises(RuntimeError, match="needs no gradient"):
        (leaf([1.0]).detach() * 2.0).backward()
    with pytest.raises(TypeError, match="Tensors; got 3"):
        tn.grad(3, leaf([1.0]))
    with pytest.raises(RuntimeError, match="needs no gradient"):
        tn.grad(leaf([1.0]).sum(), tn.tensor([1.0]))
    with pytest.raises(ValueError, match=r"2 outputs need .*2 grad_outputs"):
        x = leaf([1.0])
        tn.grad([x * 1.0, x * 2.0], x, [np.ones(1)])


# ---- grad


def test_grad_stores_nothing_and_backward_accumulates():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    y = (x * w).sum()
    gx, gw = tn.grad(y, [x, w], retain_graph=True)
    assert x.grad is None and w.grad is None
    assert gx.tolist() == [3.0, 4.0] and gw.tolist() == [1.0, 2.0]
    assert not gx.requires_grad
    y.backward()
    (x * w).sum().backward()
    assert x.grad.tolist() == [6.0, 8.0]
    assert isinstance(tn.grad((x * x).sum(), x), tn.Tensor)
    assert tn.grad((x * x).sum(), ()) == ()


def test_grad_by_results_and_by_the_output_itself():
    x = leaf([1.0, 2.0])
    h = x * 3.0
    y = h * h
    gh, gx, gy = tn.grad(y.sum(), [h, x, y], retain_graph=True)
    assert gh.tolist() == [6.0, 12.0] and gx.tolist() == [18.0, 36.0] and gy.tolist() == [1.0, 1.0]
    seed = np.array([1.0, 5.0])
    g = tn.grad(y, y, seed)
    assert g.tolist() == [1.0, 5.0] and not np.shares_memory(g.numpy(), seed)


def test_grad_runs_only_what_leads_to_the_inputs(counted):
    x, w = leaf([1.0]), leaf([2.0])
    a = counted(counted(counted(x)))
    h = counted(w)
    y = (a * h).sum()
    tn.grad(y, w, retain_graph=True)
    assert Counted.calls == 1
    tn.grad(y, h, retain_graph=True)
    assert Counted.calls == 1
    tn.grad(y, [x, w])
    assert Counted.calls == 5


def test_a_gradient_nobody_wants_is_not_computed():
    class Half(tn.Op):
        needed = ()

        @staticmethod
        def composite(a, b):
            return a * b

        @staticmethod
        def forward(xp, a, b):
            return a * b, None

        @staticmethod
        def backward(xp, g, y, saved, needs, a, b):
            Half.needed = needs
            return g * b, None

    tn.apply(Half, leaf([1.0]), tn.tensor([2.0], dtype="float64")).backward()
    assert Half.needed == (True, False)


def test_an_unused_input():
    x, w = leaf([1.0]), leaf([1.0])
    y = (x * 2.0).sum()
    with pytest.raises(RuntimeError, match=r"do not depend on input 1.*allow_unused=True"):
        tn.grad(y, [x, w], retain_graph=True)
    gx, gw = tn.grad(y, [x, w], allow_unused=True)
    assert gw is None and gx.item() == 2.0


def test_several_outputs_and_an_output_twice():
    x = leaf([1.0, 2.0])
    a, b = x * 2.0, (x * x).sum()
    (g,) = tn.grad([a, b, a], [x], [np.array([1.0, 0.0]), None, np.array([10.0, 1.0])])
    assert g.tolist() == [2.0 + 2.0 + 20.0, 4.0 + 2.0]
    z = leaf(3.0)
    assert tn.grad([z, z, z], [z])[0].item() == 3.0


def test_an_output_that_is_an_input_of_another():
    x = leaf([2.0])
    h = x * 3.0
    y = h * 5.0
    assert tn.grad([h.sum(), y.sum()], x)[0].item() == 18.0


@pytest.mark.parametrize("mode", ["kernel", "composite"])
def test_derivatives_of_every_order(mode):
    with tn.composite() if mode == "composite" else tn.enable_grad():
        x = leaf(0.7)
        found = [F.sigmoid(x * x) * x**4]
        for _ in range(4):
            found.append(tn.grad(found[-1], x, create_graph=True))
    h = 1e-2
    grid = 0.7 + h * np.arange(-4, 5)
    values = grid**4 / (1 + np.exp(-(grid**2)))
    polynomial = np.polynomial.Polynomial.fit(grid, values, 8)
    for n, f in enumerate(found):
        expected = polynomial.deriv(n)(0.7) if n else polynomial(0.7)
        assert abs(f.item() - expected) < 1e-4 * max(1, abs(expected)), n


def test_gradient_penalty():
    x, w = leaf([[1.0, -2.0]]), leaf([[0.5], [2.0]])
    (g,) = tn.grad(F.sigmoid(x @ w).sum(), [x], create_graph=True)
    (g * g).sum().backward()
    s = 1 / (1 + np.exp(-(0.5 - 4.0)))
    slope, curve = s * (1 - s), s * (1 - s) * (1 - 2 * s)
    norm = 0.25 + 4.0
    expected = 2 * slope**2 * np.array([0.5, 2.0]) + 2 * slope * curve * norm * np.array([1.0, -2.0])
    np.testing.assert_allclose(w.grad.numpy()[:, 0], expected, rtol=1e-12)


# ---- hooks, kept gradients


def test_hooks_and_retain_grad():
    x = leaf([1.0, 2.0])
    h = x * 3.0
    h.retain_grad()
    seen = []
    remove = h.register_hook(lambda g: seen.append(g.tolist()))
    h.register_hook(lambda g: g * 10.0)
    y = h.sum()
    y.backward(retain_graph=True)
    assert seen == [[1.0, 1.0]] and h.grad.tolist() == [10.0, 10.0] and x.grad.tolist() == [30.0, 30.0]
    remove()
    y.backward()
    assert len(seen) == 1 and x.grad.tolist() == [60.0, 60.0]
    x.register_hook(lambda g: np.zeros(3))
    with pytest.raises(ValueError, match=r"register_hook.*shape \(2,\)"):
        (x * 1.0).sum().backward()


def test_a_leaf_hook_sees_the_whole_gradient_once():
    x, seen = leaf([1.0]), []
    x.register_hook(lambda g: seen.append(g.item()))
    (x * 2.0 + x * 3.0).backward()
    assert seen == [5.0]


def test_a_hook_cannot_change_what_others_hold():
    x = leaf([1.0, 2.0])
    y = x * 3.0
    seed = tn.tensor([1.0, 1.0], dtype="float64")

    def clobber(g):
        with tn.no_grad():
            g[...] = 77.0

    y.register_hook(clobber)
    y.backward(seed)
    assert seed.tolist() == [1.0, 1.0] and x.grad.tolist() == [3.0, 3.0]


def test_what_needs_no_gradient_has_no_hooks():
    x = tn.tensor([1.0])
    for call in (x.retain_grad, lambda: x.register_hook(print)):
        with pytest.raises(RuntimeError, match="needs no gradient"):
            call()


# ---- who owns a gradient


class Shared(tn.Op):
    """y = 2a + 2b, whose backward gives one array for both inputs."""

    @staticmethod
    def composite(a, b):
        return 2.0 * a + 2.0 * b

    @staticmethod
    def forward(xp, a, b):
        return 2.0 * a + 2.0 * b, None

    @staticmethod
    def backward(xp, g, y, saved, needs, a, b):
        both = g * 2.0
        return both, both


class HalfSquare(tn.Op):
    """y = sum(x^2) / 2, whose rule returns the input itself."""

    @staticmethod
    def forward(xp, x):
        return xp.sum(x * x) * 0.5

    backward = (lambda xp, g, y, x: x,)


class Saved(tn.Op):
    """y = sum(3x), whose backward returns the array that forward saved."""

    @staticmethod
    def composite(x):
        return (x * 3.0).sum()

    @staticmethod
    def forward(xp, x):
        return xp.sum(x * 3.0), xp.full_like(x, 3.0)

    @staticmethod
    def backward(xp, g, y, saved, needs, x):
        return (saved,)


def test_one_array_returned_for_two_inputs():
    a, b = leaf([1.0]), leaf([1.0])
    c, d = a * 1.0, b * 1.0
    early = c * 3.0
    (tn.apply(Shared, c, d) + early).backward()
    assert a.grad.tolist() == [5.0] and b.grad.tolist() == [2.0]
    a, b = leaf([1.0]), leaf([1.0])
    tn.apply(Shared, a, b).backward()
    assert not np.shares_memory(a.grad.numpy(), b.grad.numpy())


def test_a_rule_that_returns_its_input():
    x = leaf([1.0, 2.0])
    z = x * 1.0
    early = (z * 10.0).sum()
    (tn.apply(HalfSquare, z) + early).backward()
    assert z.tolist() == [1.0, 2.0] and x.grad.tolist() == [11.0, 12.0]
    x = leaf([1.0, 2.0])
    tn.apply(HalfSquare, x).backward()
    assert not np.shares_memory(x.grad.numpy(), x.numpy())


def test_a_rule_that_returns_what_it_saved():
    x = leaf([1.0, 2.0])
    z = x * 1.0
    early = (z * 10.0).sum()
    y = tn.apply(Saved, z) + early
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [26.0, 26.0]


def test_gradients_own_their_memory():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    seed = np.array([1.0, 1.0])
    (x + w).backward(seed)
    arrays = [seed, x.numpy(), w.numpy(), x.grad.numpy(), w.grad.numpy()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    a, b = tn.grad((x + w).sum(), [x, w])
    assert not np.shares_memory(a.numpy(), b.numpy())
    assert x.grad._data.flags.writeable and x.grad._data.flags.owndata
    y = x.reshape(2, 1)[::-1].T
    x.grad = None
    y.backward(np.ones((1, 2)))
    assert x.grad._data.flags.writeable


def test_the_gradient_has_the_leaf_s_dtype_and_shape():
    x, w = leaf([[1.0], [2.0]], "float32"), leaf([1.0, 2.0, 3.0], "float64")
    (x * w).sum().backward()
    assert x.grad.dtype == "float32" and x.grad.shape == (2, 1) and w.grad.dtype == "float64"
    h = leaf([1.0], "float16")
    (h.astype("float64") * 2.0).sum().backward()
    assert h.grad.dtype == "float16"


def test_setting_grad():
    x = leaf([1.0, 2.0])
    x.grad = np.array([1.0, 2.0])
    (x * 1.0).sum().backward()
    assert x.grad.tolist() == [2.0, 3.0]
    x.grad = None
    assert x.grad is None
    with pytest.raises(ValueError, match=r"grad.*\(2,\).*\(3,\)"):
        x.grad = np.ones(3)
    with pytest.raises(RuntimeError, match="needs no gradient"):
        tn.tensor([1.0]).grad = np.ones(1, "float32")


# ---- modes


def test_no_grad_and_enable_grad():
    x = leaf([1.0])
    with tn.no_grad():
        assert not tn.is_grad_enabled() and not (x * 2.0).requires_grad
        with tn.enable_grad():
            assert (x * 2.0).requires_grad
        assert not (x * 2.0).requires_grad
    assert (x * 2.0).requires_grad

    @tn.no_grad()
    def silent():
        return x * 2.0

    assert not silent().requires_grad and tn.is_grad_enabled()
    with pytest.raises(KeyError), tn.no_grad():
        raise KeyError
    assert tn.is_grad_enabled()


def test_modes_belong_to_the_thread():
    x, found = leaf([1.0, -1.0]), {}
    inside, done = threading.Event(), threading.Event()

    def other():
        inside.wait()
        y = F.relu(x) * 2.0
        found["recorded"], found["enabled"] = y.requires_grad, tn.is_grad_enabled()
        found["fused"] = F.gelu(x)._node.op.name
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with tn.no_grad(), tn.composite():
        inside.set()
        assert done.wait(10)
        assert not (x * 2.0).requires_grad
    thread.join()
    assert found == {"recorded": True, "enabled": True, "fused": "gelu"}


def test_threads_train_as_if_alone():
    def work(seed, out):
        tn.manual_seed(seed)
        x, w = tn.randn(8, 4), tn.randn(4, 4).requires_grad_()
        for _ in range(20):
            F.dropout((x @ w).tanh(), 0.3).sum().backward()
        out[seed] = w.grad.numpy().tobytes()

    alone, together = {}, {}
    for seed in range(4):
        work(seed, alone)
    threads = [threading.Thread(target=work, args=(seed, together)) for seed in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert alone == together


def test_composite_runs_the_definitions():
    x = leaf([1.0, -2.0])
    kernel = F.gelu(x)
    with tn.composite():
        definition = F.gelu(x)
    assert kernel._node.op.name == "gelu" and definition._node.op.name != "gelu"
    np.testing.assert_allclose(kernel.numpy(), definition.numpy(), rtol=1e-15)


# ---- garbage


def step(x):
    h = F.layer_norm(F.relu(x @ x.T), 4)
    y = (h * h[::-1]).sum() + F.softmax(h).max()
    (g,) = tn.grad(y, [x], create_graph=True)
    ((g * g).sum() + y).backward()
    x.grad = None


def failing_step(x):
    with contextlib.suppress(ValueError):
        F.relu(x @ x.T).sum().backward(np.ones(7))
    with contextlib.suppress(ValueError):
        x + np.ones(9)


@pytest.mark.parametrize("work", [step, failing_step])
def test_1000_steps_leave_nothing_to_collect(work):
    x = leaf(np.random.default_rng(0).standard_normal((4, 4)))
    work(x)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(1000):
            work(x)
        after = len(gc.get_objects())
        found = gc.collect()
    finally:
        gc.enable()
    assert after - before < 100
    assert found < 100


def test_a_dropped_graph_is_freed_at_once():
    x = leaf([1.0])
    h = x * 2.0
    seen = weakref.ref(h)
    y = (h * h).sum()
    del h
    y.backward()
    assert seen() is None


def test_two_inputs_never_share_one_gradient():
    a, b = (tn.tensor([1.0], requires_grad=True) for _ in range(2))
    ga, gb = tn.grad((a + b).sum(), [a, b], create_graph=True)
    assert ga is not gb and not np.shares_memory(ga.numpy(), gb.numpy())
    gx, gy = tn.grad((a * 2.0).sum(), [a, a], create_graph=True)
    assert gx is not gy


def test_a_leaf_frozen_and_thawed_between_forward_and_backward_gets_its_gradient():
    x = tn.tensor([3.0], requires_grad=True)
    y = x * 2.0
    x.requires_grad_(False)
    assert not (x * 2.0).requires_grad
    x.requires_grad_(True)
    (y + x).backward()
    assert x.grad.tolist() == [3.0]


def test_an_enum_of_integers_is_a_number():
    class Two(enum.IntEnum):
        TWO = 2

    assert (tn.tensor([1.5]) * Two.TWO).tolist() == [3.0]
    assert (Two.TWO * tn.tensor([1.5])).dtype == "float32"


def test_an_operation_without_rules_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match=r"Bare: write backward = \(one rule for each input,\), or None"):

        class Bare(tn.Op):
            forward = staticmethod(lambda xp, x: x + 1.0)


@pytest.mark.parametrize("wrong", [lambda x: ~x, lambda x: x & x, lambda x: x | 1, lambda x: x & (x + 1.0)])
def test_bits_are_not_what_logic_is_about(wrong):
    with pytest.raises(TypeError, match=r"is for boolean tensors.*write tn.logical_(and|or|not)"):
        wrong(tn.tensor([1, 2]))


def test_operators_of_booleans():
    a, b = tn.tensor([True, True, False]), tn.tensor([True, False, False])
    assert (a & b).tolist() == [True, False, False] and (b | a).tolist() == [True, True, False]
    assert (~a).tolist() == [False, False, True] and (a & True).tolist() == a.tolist()
    a &= b
    assert a.tolist() == b.tolist()


def test_a_hook_is_a_function():
    with pytest.raises(TypeError, match="register_hook: hook must be a function of the gradient; got 5"):
        tn.ones(2, requires_grad=True).register_hook(5)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_hook_s_edits_stay_its_own(create_graph):
    def edits(g):
        g *= 100.0

    x, z = (tn.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    x.register_hook(edits)
    gs = tn.grad(((x + z) * tn.tensor([2.0, 2.0])).sum(), [x, z], create_graph=create_graph)
    assert [g.tolist() for g in gs] == [[2.0, 2.0]] * 2


def test_a_user_s_rule_cannot_edit_what_others_hold():
    def doubles(xp, g, y, x):
        g *= 2.0
        return g

    class Doubled(tn.Op):
        forward = staticmethod(lambda xp, x: x * 2.0)
        backward = (doubles,)

    x, z = (tn.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    y = (z + tn.apply(Doubled, x)).sum()
    with pytest.raises(ValueError, match="read-only"):
        tn.grad(y, [x, z], retain_graph=True)
    gs = tn.grad(y, [x, z], create_graph=True)
    assert [g.tolist() for g in gs] == [[2.0, 2.0], [1.0, 1.0]]


def test_a_gradient_dropped_while_frozen_does_not_come_back():
    x = tn.tensor([1.0], requires_grad=True)
    (x * 1.0).sum().backward()
    x.requires_grad_(False)
    x.grad = None
    x.requires_grad_()
    assert x.grad is None
    (x * 1.0).sum().backward()
    assert x.grad.tolist() == [1.0]


def test_a_gradient_is_set_whatever_the_values():
    x = tn.tensor([np.inf, np.nan, 1.0], requires_grad=True)
    x.grad = np.ones(3, "float32")
    assert x.grad.tolist() == [1.0, 1.0, 1.0]


def test_edits_of_a_copy_are_nobody_s_concern():
    x = tn.tensor([1.0, 2.0, 3.0])
    w = tn.tensor([1.0, 1.0], requires_grad=True)
    y = x[[0, 2]] * w  # chosen by a list: a copy
    x += 1.0
    y.sum().backward()
    assert w.grad.tolist() == [1.0, 3.0]
