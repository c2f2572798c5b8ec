"""Random graphs against an independent engine: eighty lines of NumPy that share nothing with the package.

The other engine works the other way round: it pulls. The gradient of a value is the sum over its uses of what each use
passes back, by recursion with a memory. The message of a failure names the seed: `check(seed)` runs it again.
"""

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import functional as F
from tinygrad_norm import ops
from tinygrad_norm.testing import gradcheck

GRAPHS, PER_TEST, STEPS, LIMIT = 600, 25, 14, 1e-9


# ---- the other engine


class NearTie(Exception):
    """Two values that differ by rounding only: either side of a kink is right."""


def apart(d):
    if np.any((d != 0) & (np.abs(d) < 1e-9)):
        raise NearTie
    return d


def shrink(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True).reshape(shape)


def two(f, by_a, by_b):
    def op(a, b):
        return f(a, b), [lambda g: shrink(g * by_a(a, b), a.shape), lambda g: shrink(g * by_b(a, b), b.shape)]

    return op


def one(f, slope):
    return lambda x: (f(x), [lambda g: g * slope(x)])


def half(a, b):
    return np.where(apart(a - b) > 0, 1.0, np.where(a == b, 0.5, 0.0))


def scatter(x, index, g):
    out = np.zeros(x.shape)
    for place, value in zip(np.arange(x.size).reshape(x.shape)[index].ravel(), np.ravel(g)):
        out.flat[place] += value
    return out


def spread(x, axis, g):
    return np.ones(x.shape) * (g if axis is None else np.expand_dims(g, axis))


def mean(x, axis):
    y = x.mean(axis=axis)
    return y, [lambda g: spread(x, axis, g) * (np.size(y) / x.size)]


def largest(x, axis):
    apart(np.diff(np.sort(x, axis=axis), axis=-1 if axis is None else axis))
    top = x == x.max(axis=axis, keepdims=True)
    return x.max(axis=axis), [lambda g: top / top.sum(axis=axis, keepdims=True) * spread(x, axis, g)]


def cumsum(x, axis):
    return x.cumsum(axis), [lambda g: np.flip(np.flip(g, axis).cumsum(axis), axis)]


def product(a, b):
    return a @ b, [lambda g: g @ b.T, lambda g: a.T @ g]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    jacobian = p[..., None] * np.eye(x.shape[-1]) - p[..., None] * p[..., None, :]
    return p, [lambda g: np.einsum("...i,...ij->...j", g, jacobian)]


def join(*xs):
    cuts = np.cumsum([len(x) for x in xs])[:-1]
    return np.concatenate(xs), [lambda g, i=i: np.split(g, cuts)[i] for i in range(len(xs))]


def choose(a, b, c):
    return np.where(c, a, b), [lambda g: shrink(g * c, a.shape), lambda g: shrink(g * ~c, b.shape)]


def logistic(x):
    return 1 / (1 + np.exp(-x))


NAIVE = {
    "add": two(np.add, lambda a, b: 1, lambda a, b: 1),
    "subtract": two(np.subtract, lambda a, b: 1, lambda a, b: -1),
    "multiply": two(np.multiply, lambda a, b: b, lambda a, b: a),
    "divide": two(
        lambda a, b: a / (b * b + 1), lambda a, b: 1 / (b * b + 1), lambda a, b: -2 * a * b / (b * b + 1) ** 2
    ),
    "maximum": two(np.maximum, half, lambda a, b: half(b, a)),
    "minimum": two(np.minimum, lambda a, b: half(b, a), half),
    "where": choose,
    "tanh": one(np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "sin": one(np.sin, np.cos),
    "abs": one(np.abs, lambda x: np.sign(apart(x))),
    "square": one(lambda x: x**2, lambda x: 2 * x),
    "relu": one(lambda x: np.maximum(x, 0), lambda x: apart(x) > 0),
    "sigmoid": one(logistic, lambda x: logistic(x) * logistic(-x)),
    "softplus": one(lambda x: np.logaddexp(0, x), logistic),
    "scale": lambda x, c: (x * c, [lambda g: g * c]),
    "clip": lambda x, c: (np.clip(x, -c, c), [lambda g: g * (apart(np.abs(x) - c) <= 0)]),
    "softmax": softmax,
    "sum": lambda x, axis: (x.sum(axis=axis), [lambda g: spread(x, axis, g)]),
    "mean": mean,
    "max": largest,
    "cumsum": cumsum,
    "reshape": lambda x, shape: (x.reshape(shape), [lambda g: g.reshape(x.shape)]),
    "transpose": lambda x: (x.T, [lambda g: g.T]),
    "getitem": lambda x, index: (x[index], [lambda g: scatter(x, index, g)]),
    "broadcast_to": lambda x, shape: (np.broadcast_to(x, shape), [lambda g: shrink(g, x.shape)]),
    "concatenate": join,
    "matmul": product,
}


def pull(values, uses, seeds):
    """The gradient of every value: what its uses pass back, and its own seed."""
    memory = {}

    def gradient(i):
        if i not in memory:
            memory[i] = seeds[i] + sum((back(gradient(j)) for j, back in uses[i]), np.zeros(values[i].shape))
        return memory[i]

    return [gradient(i) for i in range(len(values))]


# ---- the package

OURS = {
    "divide": lambda a, b: a / (b * b + 1),
    "square": lambda x: x**2,
    "relu": F.relu,
    "sigmoid": F.sigmoid,
    "softplus": F.softplus,
    "scale": lambda x, c: c * x,
    "clip": lambda x, c: x.clip(-c, c),
    "where": lambda a, b, c: tn.where(c, a, b),
    "softmax": F.softmax,
    "getitem": lambda x, index: x[index],
    "reshape": lambda x, shape: x.reshape(shape),
    "concatenate": lambda *xs: tn.concatenate(xs),
}


def ours(name):
    return OURS[name] if name in OURS else getattr(ops, name)


# ---- random programs


def broadcastable(a, b):
    return all(m == n or 1 in (m, n) for m, n in zip(a[::-1], b[::-1]))


def index_for(rng, shape):
    n = shape[0]
    choices = [
        slice(None, None, -1),
        slice(0, max(1, n - 1)),
        rng.integers(0, n, 3),
        np.arange(n) % 2 == 0,
        int(rng.integers(n)),
        None,
        (Ellipsis, slice(None, None, 2)),
        (rng.integers(0, n, (2, 2)),),
    ]
    return choices[rng.integers(len(choices))]


def step(rng, values):
    """(name, places of the operands, further arguments) of one more operation on what there is."""
    shapes = [v.shape for v in values]
    i = int(rng.integers(len(values)))
    shape = shapes[i]
    name = str(rng.choice([*NAIVE, "add", "multiply", "getitem"]))
    if name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "where"):
        j = int(rng.choice([j for j, s in enumerate(shapes) if broadcastable(shape, s)]))
        both = np.broadcast_shapes(shape, shapes[j])
        return name, [i, j], [rng.random(both) < 0.5] if name == "where" else []
    if name == "concatenate" and shape:
        same = [j for j, s in enumerate(shapes) if len(s) == len(shape) and s[1:] == shape[1:]]
        return name, [i, int(rng.choice(same)), i], []
    if name == "matmul":
        flat = [j for j, s in enumerate(shapes) if len(s) == 2]
        pairs = [(a, b) for a in flat for b in flat if shapes[a][1] == shapes[b][0]]
        return (name, list(pairs[rng.integers(len(pairs))]), []) if pairs else ("sin", [i], [])
    if not shape and name in ("getitem", "concatenate", "softmax", "cumsum"):
        return "tanh", [i], []
    if name in ("sum", "mean", "max", "cumsum"):
        one_axis = shape and (name == "cumsum" or rng.random() < 0.7)
        return name, [i], [int(rng.choice([0, -1])) if one_axis else None]
    extra = {
        "scale": lambda: [float(rng.uniform(-2, 2))],
        "clip": lambda: [float(rng.uniform(0.2, 1))],
        "reshape": lambda: [shape[::-1] if rng.random() < 0.5 else (-1,)],
        "broadcast_to": lambda: [(int(rng.integers(1, 3)), *shape)],
        "getitem": lambda: [index_for(rng, shape)],
    }.get(name, list)
    return name, [i], extra()


def program(seed):
    """Leaves and steps, and by the other engine the values and gradients."""
    rng = np.random.default_rng(seed)
    leaves = [rng.uniform(-1.5, 1.5, s) for s in ((), (3,), (2, 3), (3, 2), (2, 1), (1, 3))]
    values, steps, uses = list(leaves), [], [[] for _ in leaves]

    def run(name, places, extra):
        value, backs = NAIVE[name](*(values[p] for p in places), *extra)
        for p, back in zip(places, backs):
            uses[p].append((len(values), back))
        values.append(np.asarray(value))
        uses.append([])
        steps.append((name, places, extra))

    for _ in range(STEPS):
        run(*step(rng, values))
        if values[-1].size > 60:
            run("mean", [len(values) - 1], [None])
        elif np.max(np.abs(values[-1]), initial=0) > 8:
            run("tanh", [len(values) - 1], [])
    ends = [i for i, u in enumerate(uses) if not u]
    seeds = [rng.uniform(-1, 1, v.shape) if i in ends else np.zeros(v.shape) for i, v in enumerate(values)]
    return leaves, steps, values, ends, seeds, pull(values, uses, seeds)


def build(leaves, steps):
    """The same program on Tensors."""
    values = list(leaves)
    for name, places, extra in steps:
        values.append(ours(name)(*(values[p] for p in places), *extra))
    return values


def close(a, b):
    return np.shape(a) == np.shape(b) and np.all(np.abs(a - b) <= LIMIT * max(1.0, np.max(np.abs(b), initial=0.0)))


def array_of(g, like):
    return np.zeros(like.shape) if g is None else g.numpy()


def check(seed):
    """1 if the graph was compared, 0 if it stands on a kink."""
    try:
        leaves, steps, expected, ends, seeds, gradients = program(seed)
    except NearTie:
        return 0
    shown = f"--fuzz-seed {seed}: {[(s[0], s[1]) for s in steps]}"
    xs = [tn.tensor(x, requires_grad=True) for x in leaves]
    values = build(xs, steps)
    for i, (v, e) in enumerate(zip(values, expected)):
        assert close(v.numpy(), e), f"value {i} of {shown}"
    places = [*range(len(xs)), len(xs) + len(steps) // 2]  # the leaves, and a result in the middle
    wanted = [values[p] for p in places]
    found = tn.grad([values[i] for i in ends], wanted, [seeds[i] for i in ends], retain_graph=True, allow_unused=True)
    assert all(x.grad is None for x in xs), f"grad() stored something: {shown}"
    for place, g in zip(places, found):
        assert close(array_of(g, gradients[place]), gradients[place]), f"gradient of value {place} of {shown}"
    if seed % 2:  # the same through backward(), output by output
        for n, i in enumerate(ends):
            values[i].backward(seeds[i], retain_graph=n < len(ends) - 1)
        for place, x in enumerate(xs):
            assert close(array_of(x.grad, gradients[place]), gradients[place]), f".grad of value {place} of {shown}"
    return 1


@pytest.mark.parametrize("start", range(0, GRAPHS, PER_TEST))
def test_random_graphs(record_property, start):
    compared = sum(check(seed) for seed in range(start, start + PER_TEST))
    record_property("count", ("random graphs compared", compared))
    assert compared >= 0.9 * PER_TEST


@pytest.mark.slow
@pytest.mark.promise("P1")
def test_many_random_graphs(request, record_property):
    first = request.config.getoption("--fuzz-seed")
    compared = sum(check(seed) for seed in range(first, first + 20_000))
    assert compared >= 18_000
    record_property("count", ("random graphs compared", compared))


@pytest.mark.parametrize("seed", range(0, 600, 40))
def test_random_graphs_by_differences(seed):
    """First and second derivatives of whole graphs, by kernels and by definitions, without the other engine."""
    try:
        leaves, steps, _, ends, _, _ = program(seed)
    except NearTie:
        pytest.skip("a kink")

    def fn(*xs):
        values = build(xs, steps)
        return tuple(values[i] for i in ends)

    for method in ("central", "complex"):
        report = gradcheck(fn, leaves, order=2, method=method, mode="directional", raise_exception=False)
        assert report.ok, f"seed {seed}: {steps}\n{report}"


def test_a_wrong_rule_is_seen(monkeypatch):
    for name, wrong in {
        "tanh": lambda x: x.tanh() + 0.0 * x.detach() + (x - x.detach()) * 1e-6,
        "where": lambda a, b, c: tn.where(c, a, b.detach()),
        "multiply": lambda a, b: a * (b.detach() if a is b else b),
    }.items():
        with monkeypatch.context() as patch:
            patch.setitem(OURS, name, wrong)
            with pytest.raises(AssertionError, match=r"gradient of value|\.grad of value"):
                for seed in range(100):
                    check(seed)
