"""Promises that no other file measures: depth, layouts, memory, refused gradients, dtypes; see promises.py."""

import contextlib
import gc
import re
import sys
import time
import tracemalloc
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import nn, optim
from tinygrad_norm.testing.memory import layouts
from tinygrad_norm.testing.samples import ROWS

DOCS = Path(__file__).resolve().parent.parent / "docs"


def leaf(values, dtype="float64"):
    return tn.tensor(values, dtype=dtype, requires_grad=True)


@contextlib.contextmanager
def shallow():
    """Little room for recursion."""
    old = sys.getrecursionlimit()
    depth, frame = 0, sys._getframe()
    while frame:
        depth, frame = depth + 1, frame.f_back
    sys.setrecursionlimit(depth + 200)
    try:
        yield
    finally:
        sys.setrecursionlimit(old)


# ---- P2: depth and reuse


def seconds(work, repeats=1):
    """The shortest processor time: other programs lengthen it little. Without Python's cyclic collector, which looks at
    all objects alive, those of pytest too."""
    found = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            began = time.process_time()
            work()
            found.append(time.process_time() - began)
    finally:
        gc.enable()
    return min(found)


def chain(n):
    x = leaf([1.0, 2.0])
    y = x
    for _ in range(n):
        y = y * 1.0
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def reuse(n):
    x = leaf([1.0, 2.0])
    total = x * 0.0
    for _ in range(n):
        total = total + x
    total.sum().backward()
    assert x.grad.tolist() == [float(n)] * 2


def diamonds():
    x = leaf([1.0])
    y = x
    for _ in range(60):
        y = (y + y) * 0.5
    y.backward(np.ones(1))
    assert x.grad.item() == 1.0


@pytest.mark.slow
@pytest.mark.promise("P2")
def test_depth_and_reuse(record_property):
    with shallow():
        long = seconds(lambda: chain(100_000))
        sixty = seconds(diamonds, 5)
        short, four = seconds(lambda: reuse(5_000), 5), seconds(lambda: reuse(20_000), 5)
    assert long < 5 and sixty < 0.01 and four < 5 * short
    record_property(
        "figure",
        f"100,000 operations forward, backward and freed in {long:.1f} s, 60 diamonds in {1e3 * sixty:.1f} ms, 4 times "
        f"the uses of one leaf in {four / short:.1f} times the time, all with 200 frames of recursion",
    )


# ---- P6: layouts


@pytest.mark.promise("P6")
def test_layouts(record_property):
    a = np.random.default_rng(0).uniform(0.5, 1.5, (6, 4))
    calls = {
        "sum": lambda x: x.sum(axis=0), "exp": tn.exp, "matmul": lambda x: x @ x.T, "getitem": lambda x: x[1:, ::2],
        "layer_norm": lambda x: F.layer_norm(x, 4), "batch_norm": lambda x: F.batch_norm(x, training=True),
        "weight_norm": lambda x: F.weight_norm(x, tn.ones(6, 1, dtype="float64")),
        "cosine_linear": lambda x: F.cosine_linear(x, x), "softmax": lambda x: F.softmax(x, -1),
        "reshape": lambda x: x.reshape(4, 6), "max": lambda x: x.max(axis=1), "logsumexp": lambda x: x.logsumexp(1),
    }  # fmt: skip
    right = 0
    for name, call in calls.items():
        expected, xs = None, {"contiguous": a, **layouts(a)}
        for layout, array in xs.items():
            x = leaf(array)
            y = call(x)
            y.backward(np.cos(np.arange(y.size)).reshape(y.shape))
            found = y.numpy(), x.grad.numpy()
            expected = expected or found
            for got, wanted in zip(found, expected, strict=True):
                np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-15, err_msg=f"{name}, {layout}")
            right += layout != "contiguous"
    refused = 0
    for bad in (np.ma.array([1.0], mask=[True]), np.array([None]), [[1.0], [1.0, 2.0]], np.array(["1"]), "1", 1j):
        with pytest.raises((TypeError, ValueError)):
            tn.tensor(bad)
        refused += 1
    record_property(
        "figure", f"{right} of {right} layouts and functions right, {refused} of {refused} bad inputs refused"
    )


# ---- P5, P7, P8


@pytest.mark.slow
@pytest.mark.promise("P5")
def test_gradients_of_every_operation_are_their_own(record_property):
    checked = 0
    for row in ROWS.values():
        for c, arrays in list(row.samples())[:3]:
            wanted = row.differentiable(arrays)
            xs = [tn.tensor(x, requires_grad=i in wanted) for i, x in enumerate(arrays)]
            y = row.fn(*xs, **c.options)
            if not y.requires_grad:
                continue
            seed = tn.ones_like(y)
            y.backward(seed)
            held = [seed.numpy(), y.numpy(), *(x.numpy() for x in xs)]
            for i in wanted:
                g = xs[i].grad
                assert g.shape == xs[i].shape and g.dtype == xs[i].dtype, row.name
                assert not any(np.shares_memory(g.numpy(), other) for other in held), row.name
                held.append(g.numpy())
                checked += 1
    assert checked > 200
    record_property("figure", f"{checked} gradients: own memory, the leaf's shape and dtype")


@pytest.mark.promise("P7")
def test_statistics_of_float16(record_property):
    x = np.random.default_rng(0).normal(300, 1, (256, 8)).astype("float16")
    wide = x.astype("float64")
    expected = (wide - wide.mean(0)) / wide.std(0)
    error = np.abs(F.batch_norm(tn.tensor(x), training=True, eps=0.0).numpy() - expected).max()
    assert error < 5e-3
    record_property("figure", f"batch norm of float16 with mean 300: largest error {error:.1e}")


def short(x):
    """An array as it stands in the written table: six digits, without a negative zero."""
    x = x.tolist() if isinstance(x, np.ndarray) else x
    return "-" if x is None else f"[{', '.join(map(short, x))}]" if isinstance(x, list) else f"{x + 0.0:.6g}"


def singular_lines():
    """What the table must say of every point: function, inputs and options, value, gradients."""
    for row in ROWS.values():
        for p in row.pinned:
            with np.errstate(all="ignore"):
                value = row.fn(*map(tn.tensor, p.inputs), **p.options).numpy()
            at = [*map(short, p.inputs), *(f"{name}={x}" for name, x in p.options.items())]
            yield row.name, "; ".join(at), short(value), "; ".join(map(short, p.gradients))


@pytest.mark.promise("P8")
def test_the_written_table_has_every_point_and_nothing_else(record_property):
    text = (DOCS / "singular-points.md").read_text("utf-8")
    written = re.findall(r"^\| `(.+?)` \| .+? \| `(.+?)` \| `(.+?)` \| `(.+?)` \|$", text, re.MULTILINE)
    points = list(singular_lines())
    assert len(written) == len(re.findall(r"^\| `", text, re.MULTILINE)) > 50
    assert sorted(written) == sorted(points)
    functions = len({name for name, *_ in points})
    record_property("figure", f"{len(points)} points of {functions} functions, each tested three ways and written down")


# ---- P12: large logits


def exact_cross_entropy(logits, label):
    """(loss, its gradient by the logits) of one row, with 40 digits."""
    with localcontext(prec=40):
        row = [Decimal(float(x)) for x in logits]
        size = sum((x - max(row)).exp() for x in row)
        p = [(x - max(row)).exp() / size for x in row]
        return float(size.ln() + max(row) - row[label]), [float(q - (i == label)) for i, q in enumerate(p)]


@pytest.mark.promise("P12")
@pytest.mark.parametrize("form", ["kernel", "definition"])
@pytest.mark.parametrize("dtype, limit", [("float32", 2.0**-23), ("float64", 2.0**-52)])
def test_cross_entropy_of_logits_to_1e4(measured, dtype, limit, form):
    rng = np.random.default_rng(0)
    logits = np.concatenate([
        rng.uniform(-1e4, 1e4, (50, 7)), 1e4 + rng.normal(0, 3, (50, 7)), -1e4 + rng.normal(0, 3, (50, 7)),
        rng.choice([-1e4, 0.0, 1e4], (50, 7)), rng.normal(0, 1, (50, 7)),
    ]).astype(dtype)  # fmt: skip
    labels = rng.integers(0, 7, len(logits))
    x = leaf(logits, dtype)
    with tn.composite() if form == "definition" else contextlib.nullcontext():
        losses = F.cross_entropy(x, tn.tensor(labels), reduction="none")
        losses.sum().backward()
    truth, slopes = (np.array(v) for v in zip(*map(exact_cross_entropy, logits, labels), strict=True))
    error = np.max(np.abs(losses.numpy() - truth) / np.maximum(1, truth))
    assert measured(f"losses of {dtype}", error) <= 2 * limit
    assert measured(f"their gradients in {dtype}", np.abs(x.grad.numpy() - slopes).max()) <= 2 * limit


# ---- P14: refused gradients


@pytest.mark.promise("P14")
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad])
def test_a_step_refuses_by_name_before_it_touches_anything(make, record_property):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = make(net.named_parameters(), lr=0.01)
    x, named = tn.rand(8, 3), 0
    net(x).sum().backward()
    optimizer.step()
    for name, p in net.named_parameters():
        for bad in (np.nan, np.inf, -np.inf):
            optimizer.zero_grad()
            net(x).sum().backward()
            with tn.no_grad():
                p.grad[(0,) * p.ndim] = bad
            before = [q.numpy().tobytes() for q in net.parameters()]
            state = repr(optimizer.state_dict())
            with pytest.raises(FloatingPointError, match=rf"'{re.escape(name)}'.*{bad}"):
                optimizer.step()
            assert [q.numpy().tobytes() for q in net.parameters()] == before
            assert repr(optimizer.state_dict()) == state
            named += 1
    lax = make(net.named_parameters(), lr=0.01, check_finite=False)
    with np.errstate(all="ignore"):
        lax.step()
    assert not all(np.isfinite(q.numpy()).all() for q in net.parameters())
    record_property("figure", f"{make.__name__}: {named} of {named} refused by name, nothing touched")


@pytest.mark.slow
@pytest.mark.promise("P14")
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_what_the_check_costs(make, record_property, monkeypatch):
    """The check's share of every step, timed where it is called: the median of many does not see a busy machine."""
    net = nn.Sequential(
        nn.Linear(64, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    x, labels = tn.rand(64, 64), tn.zeros(64, dtype="int64")
    optimizer = make(net.named_parameters(), lr=0.01)
    backend = type(optimizer.buckets[0][0].xp)
    check, checked, shares = backend.refuse_non_finite, [], []

    def timed(*args):
        began = time.perf_counter()
        check(*args)
        checked.append(time.perf_counter() - began)

    monkeypatch.setattr(backend, "refuse_non_finite", timed)
    for _ in range(400):
        checked.clear()
        began = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimizer.step()
        shares.append(sum(checked) / (time.perf_counter() - began))
        assert checked
    share, size = float(np.median(shares)), sum(p.size for p in net.parameters())
    assert share < 0.03
    record_property("figure", f"{make.__name__}: the check takes {100 * share:.1f} % of a step of {size:,} parameters")


# ---- P15: memory


def training(norm):
    net = nn.Sequential(nn.Linear(8, 16), norm, nn.ReLU(), nn.Linear(16, 3))
    optimizer = optim.Adam(net.named_parameters(), lr=1e-3)
    x, labels = tn.rand(16, 8), tn.zeros(16, dtype="int64")

    def good():
        optimizer.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimizer.step()

    def failing():
        with contextlib.suppress(ValueError):
            net(tn.rand(16, 9))
        with contextlib.suppress(ValueError):
            F.cross_entropy(net(x), labels + 7).backward()
        with contextlib.suppress(ValueError):
            net(x).backward(np.ones(5, "float32"))
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        with contextlib.suppress(RuntimeError):
            loss.backward()
        optimizer.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        next(net.parameters()).grad.copy_(float("nan"))
        with contextlib.suppress(FloatingPointError):
            optimizer.step()

    return good, failing


@pytest.mark.slow
@pytest.mark.promise("P15")
@pytest.mark.parametrize("kind", ["good", "failing"])
def test_a_thousand_steps_leave_nothing(kind, record_property):
    good, failing = training(nn.BatchNorm1d(16))
    work = good if kind == "good" else failing
    work()
    work()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        objects, (held, _) = len(gc.get_objects()), tracemalloc.get_traced_memory()
        for _ in range(1000):
            work()
        more, grown = len(gc.get_objects()) - objects, (tracemalloc.get_traced_memory()[0] - held) / 2**20
    finally:
        tracemalloc.stop()
        gc.enable()
    assert more < 100 and grown < 5
    record_property("figure", f"1,000 {kind} steps without gc: {more} new objects, {grown:.2f} MiB")


@pytest.mark.promise("P15")
def test_the_peak_of_a_training_step(record_property):
    """What a step holds at most, in arrays of the size of one activation."""
    n, d, h = 2048, 64, 512
    net = nn.Sequential(nn.Linear(d, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, 10))
    x, labels = tn.rand(n, d), tn.zeros(n, dtype="int64")

    def step():
        F.cross_entropy(net(x), labels).backward()

    step()
    for p in net.parameters():
        p.grad = None
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        step()
        peak = tracemalloc.get_traced_memory()[1] - base
    finally:
        tracemalloc.stop()
    kept = n * h * 4  # one activation
    # Rules read three: the input of the batch norm and two outputs of relu. At the last relu comes its gradient, what
    # relu makes of it, and a quarter for y > 0.
    assert peak < 5.35 * kept
    record_property("figure", f"a training step holds {peak / kept:.1f} activations at most; its rules read 3")
