"""Instance norm, mean-only batch norm, weight standardization; exact statistics, folding, starts from data."""

import copy
import inspect
import itertools
import pickle
import threading

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import nn


@pytest.fixture(autouse=True)
def seed():
    tn.manual_seed(7)


def data(*shape, scale=1.0, shift=0.0, seed=5):
    return np.random.default_rng(seed).standard_normal(shape) * scale + shift


def put(parameter, values):
    with tn.no_grad():
        parameter[...] = np.asarray(values)


def wide(module):
    return module.to("float64")


def along(v, x):
    """A value per channel, to broadcast against (N, C, ...)."""
    return np.reshape(v, (-1,) + (1,) * (x.ndim - 2))


def numbers(module):
    return {name: v.numpy().copy() for name, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=True) for k in a)


# --- instance norm --------------------------------------------------------------------------------

INSTANCES = [(nn.InstanceNorm1d, (4, 3, 5)), (nn.InstanceNorm2d, (2, 3, 4, 5))]


@pytest.mark.parametrize("layer, shape", INSTANCES)
@pytest.mark.parametrize("eps", [1e-5, 0.0, 0.1])
def test_instance_norm(layer, shape, eps):
    norm, x = wide(layer(3, eps=eps, affine=True)), data(*shape, scale=3.0, shift=5.0)
    w, b = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 3.0])
    put(norm.weight, w), put(norm.bias, b)
    axes = tuple(range(2, x.ndim))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps) * along(w, x) + along(b, x)
    assert np.allclose(norm(tn.tensor(x)).numpy(), y, rtol=1e-12, atol=1e-12)
    assert np.array_equal(norm(tn.tensor(x)).numpy(), norm.eval()(tn.tensor(x)).numpy())
    assert list(norm.state_dict()) == ["weight", "bias"] and not any(p.decay for p in norm.parameters())


def test_instance_norm_has_nothing_to_learn_by_default():
    norm, x = nn.InstanceNorm1d(3), tn.randn(2, 3, 8)
    assert not norm.state_dict()
    whole = norm(x).numpy()
    assert all(np.array_equal(whole[i], norm(x[i : i + 1]).numpy()[0]) for i in range(2))
    tracking = nn.InstanceNorm1d(3, track_running_stats=True)
    assert tracking(tn.ones(0, 3, 8)).shape == (0, 3, 8) and tracking.num_batches_tracked.item() == 0


@pytest.mark.parametrize("layer, shape", INSTANCES)
def test_running_statistics_of_instance_norm(layer, shape):
    norm, batches = wide(layer(3, momentum=0.3, track_running_stats=True)), [data(*shape, seed=i) * i for i in (1, 2)]
    axes, mean, var = tuple(range(2, len(shape))), 0.0, 1.0
    for x in batches:
        norm(tn.tensor(x))
        mean = 0.7 * mean + 0.3 * x.mean(axes).mean(0)
        var = 0.7 * var + 0.3 * x.var(axes, ddof=1).mean(0)
    assert np.allclose(norm.running_mean.numpy(), mean, rtol=1e-12)
    assert np.allclose(norm.running_var.numpy(), var, rtol=1e-12)
    assert norm.num_batches_tracked.item() == 2
    y = (x - along(mean, x)) / np.sqrt(along(var, x) + 1e-5)
    assert np.allclose(norm.eval()(tn.tensor(x)).numpy(), y, rtol=1e-12)
    average = wide(layer(3, momentum=None, track_running_stats=True))
    for x in batches:
        average(tn.tensor(x))
    assert np.allclose(average.running_mean.numpy(), np.mean([x.mean(axes).mean(0) for x in batches], 0), rtol=1e-12)


@pytest.mark.parametrize("name", ["InstanceNorm1d", "InstanceNorm2d"])
@pytest.mark.parametrize("options", [{}, {"affine": True, "track_running_stats": True, "momentum": 0.4}])
def test_instance_norm_is_that_of_pytorch(name, options):
    torch = pytest.importorskip("torch")
    ours, theirs = wide(getattr(nn, name)(3, **options)), getattr(torch.nn, name)(3, **options).double()
    shape = (4, 3, 5) if name.endswith("1d") else (4, 3, 2, 5)
    for i in range(3):
        x = data(*shape, seed=i) * (i + 1) + i
        y = theirs(torch.tensor(x)).detach().numpy()
        assert np.allclose(ours(tn.tensor(x)).numpy(), y, rtol=1e-10, atol=1e-12)
    y = theirs.eval()(torch.tensor(x)).detach().numpy()
    assert np.allclose(ours.eval()(tn.tensor(x)).numpy(), y, rtol=1e-10, atol=1e-12)
    state = {k: v.numpy() for k, v in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    for key in ("running_mean", "running_var"):
        assert key not in state or np.allclose(ours.state_dict()[key].numpy(), state[key], rtol=1e-12)
    defaults = {k: p.default for k, p in inspect.signature(type(theirs)).parameters.items()}
    assert all(defaults[k] == p.default for k, p in inspect.signature(type(ours)).parameters.items() if k != "dtype")


@pytest.mark.parametrize(
    "layer, one, wrong", [(nn.InstanceNorm1d, (4, 3, 1), (4, 3)), (nn.InstanceNorm2d, (4, 3, 1, 1), (4, 3, 2))]
)
def test_what_instance_norm_refuses(layer, one, wrong):
    with pytest.raises(ValueError, match=rf"{layer.__name__}: .*more than one position.*LayerNorm"):
        layer(3)(tn.ones(*one))
    with pytest.raises(ValueError, match=rf"{layer.__name__}: x must be .*C = 3; got"):
        layer(3)(tn.ones(*wrong))
    with pytest.raises(ValueError, match=r"C = 2; got .*\(1, 3"):
        layer(2)(tn.ones(1, *one[1:]))
    with pytest.raises(ValueError, match=rf"{layer.__name__}: eps .*-1"):
        layer(3, eps=-1.0)
    tracking = layer(3, track_running_stats=True).eval()
    assert tracking(tn.ones(*one)).shape == one


# --- mean-only batch norm -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 3), (4, 3, 5)])
def test_mean_only_batch_norm(shape):
    norm, x, b = wide(nn.MeanOnlyBatchNorm1d(3, momentum=0.3)), data(*shape, scale=3.0, shift=5.0), [0.0, 1.0, 3.0]
    put(norm.bias, b)
    axes = (0, *range(2, x.ndim))
    leaf, g = tn.tensor(x, requires_grad=True), data(*shape, seed=9)
    y = norm(leaf)
    y.backward(g)
    assert np.allclose(y.numpy(), x - along(x.mean(axes), x) + along(b, x), rtol=1e-12, atol=1e-12)
    assert np.allclose(leaf.grad.numpy(), g - g.mean(axes, keepdims=True), rtol=1e-12, atol=1e-14)
    assert np.allclose(norm.bias.grad.numpy(), g.sum(axes), rtol=1e-12)
    assert np.allclose(norm.running_mean.numpy(), 0.3 * x.mean(axes), rtol=1e-12)
    y = norm.eval()(tn.tensor(x)).numpy()
    assert np.allclose(y, x - along(0.3 * x.mean(axes), x) + along(b, x), rtol=1e-12, atol=1e-12)
    assert np.allclose(norm.running_mean.numpy(), 0.3 * x.mean(axes), rtol=1e-12)


def test_the_state_of_mean_only_batch_norm():
    norm = nn.MeanOnlyBatchNorm1d(3)
    assert list(norm.state_dict()) == ["bias", "running_mean"] and norm.bias.decay is False
    assert list(nn.MeanOnlyBatchNorm1d(3, bias=False).state_dict()) == ["running_mean"]
    assert nn.MeanOnlyBatchNorm1d(3, dtype="float64").running_mean.dtype == "float64"
    assert repr(norm) == "MeanOnlyBatchNorm1d(3, momentum=0.1, bias=True)"
    norm(tn.randn(8, 3))
    other = nn.MeanOnlyBatchNorm1d(3)
    other.load_state_dict(norm.state_dict())
    assert np.array_equal(other.running_mean.numpy(), norm.running_mean.numpy()) and other.running_mean.numpy().any()


def test_what_mean_only_batch_norm_refuses():
    norm = nn.MeanOnlyBatchNorm1d(3)
    with pytest.raises(ValueError, match=r"MeanOnlyBatchNorm1d: .*\(1, 3\).*drop_last=True.*eval\(\)"):
        norm(tn.ones(1, 3))
    assert not norm.running_mean.numpy().any()
    assert norm(tn.ones(1, 3, 2)).shape == (1, 3, 2) and norm.eval()(tn.ones(1, 3)).shape == (1, 3)
    assert norm.train()(tn.ones(0, 3)).shape == (0, 3)
    with pytest.raises(ValueError, match=r"\(N, C\) or \(N, C, L\) with C = 3; got .*\(4, 2\)"):
        norm(tn.ones(4, 2))
    with pytest.raises(ValueError, match=r"momentum .*None"):
        nn.MeanOnlyBatchNorm1d(3, momentum=None)


# --- layers with a computed weight ----------------------------------------------------------------


@pytest.mark.parametrize("eps", [1e-5, 0.0, 0.1])
def test_weight_standardization(eps):
    layer, x, g = wide(nn.Linear(5, 4)), data(3, 5), data(3, 4)
    v, b = layer.weight.numpy().copy(), layer.bias.numpy().copy()
    norm = nn.WeightStandardization(layer, eps=eps)
    assert list(norm.state_dict()) == ["weight_v", "layer.bias"] and not hasattr(layer, "weight")
    d = v - v.mean(1, keepdims=True)
    s = 1 / np.sqrt(v.var(1, keepdims=True) + eps)
    w = d * s
    y = norm(tn.tensor(x))
    assert np.allclose(y.numpy(), x @ w.T + b, rtol=1e-12, atol=1e-12)
    y.backward(g)
    by_w = g.T @ x
    by_v = s * (by_w - by_w.mean(1, keepdims=True) - w * (by_w * w).mean(1, keepdims=True))
    assert np.allclose(norm.weight_v.grad.numpy(), by_v, rtol=1e-10, atol=1e-12)
    assert norm.weight_v.decay and repr(norm).startswith(
        f"WeightStandardization(name='weight', eps={eps}\n  (layer): L"
    )
    plain = norm.remove()
    assert plain is layer and np.allclose(layer.weight.numpy(), w, rtol=1e-12) and layer.weight.is_leaf
    assert np.allclose(layer(tn.tensor(x)).numpy(), x @ w.T + b, rtol=1e-12, atol=1e-12)


def test_weight_standardization_of_four_dimensions_and_of_constant_filters():
    class Filter(nn.Module):
        def __init__(self):
            self.kernel = nn.Parameter(data(2, 3, 2, 2), decay=False)

        def forward(self, x, *, twice=False):
            return (x * self.kernel).sum() * (2.0 if twice else 1.0)

    norm = nn.WeightStandardization(Filter(), name="kernel", eps=0.0)
    put(norm.kernel_v[1], 0.1)
    w = norm.weight_now()
    v = norm.kernel_v.numpy()
    assert np.allclose(w.numpy()[0], (v[0] - v[0].mean()) / v[0].std(), rtol=1e-12)
    assert not w.numpy()[1].any() and not norm.kernel_v.decay
    x = tn.ones(2, 3, 2, 2, dtype="float64")
    assert norm(x, twice=True).item() == 2 * norm(x).item()
    norm(x * 2.0).backward()
    assert not norm.kernel_v.grad.numpy()[1].any()


WRAPPERS = [nn.WeightNorm, nn.WeightStandardization]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_computed_weight_is_stored_nowhere(wrap):
    norm, x = wrap(nn.Linear(5, 4)), tn.randn(3, 5)
    before = {path: set(vars(m)) for path, m in norm.named_modules()}
    y = norm(x).numpy()
    assert {path: set(vars(m)) for path, m in norm.named_modules()} == before
    fresh = wrap(nn.Linear(5, 4))
    fresh.load_state_dict(norm.state_dict())
    for other in (copy.deepcopy(norm), pickle.loads(pickle.dumps(norm)), fresh):
        assert np.array_equal(other(x).numpy(), y) and list(other.state_dict()) == list(norm.state_dict())
        put(other.weight_v, data(4, 5))
        assert not np.array_equal(other(x).numpy(), y) and np.array_equal(norm(x).numpy(), y)
    assert np.array_equal(copy.deepcopy(norm).remove()(x).numpy(), y)
    with pytest.raises(ValueError, match=r"Weight.* has no parameter 'weight'; it has weight_"):
        nn.WeightStandardization(norm)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_computed_weight_in_threads(wrap):
    norm, xs = wrap(nn.Linear(50, 40)), [tn.randn(20, 50) for _ in range(4)]
    expected = [norm(x).numpy() for x in xs]
    wrong = []

    def work(i):
        wrong.extend(i for _ in range(50) if not np.array_equal(norm(xs[i]).numpy(), expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong and not hasattr(norm.layer, "weight")


def test_a_wrapper_around_a_wrapper():
    norm, x = wide(nn.WeightNorm(nn.WeightStandardization(nn.Linear(5, 4)), name="weight_v")), data(3, 5)
    v = data(4, 5)
    put(norm.weight_v_v, v), put(norm.weight_v_g, np.full((4, 1), 3.0))
    scaled = 3 * v / np.linalg.norm(v, axis=1, keepdims=True)
    w = F.weight_standardization(tn.tensor(scaled)).numpy()
    assert np.allclose(norm(tn.tensor(x)).numpy(), x @ w.T + norm.layer.layer.bias.numpy(), rtol=1e-12)


def test_what_weight_standardization_refuses():
    with pytest.raises(ValueError, match=r"no parameter 'wieght'; it has weight, bias"):
        nn.WeightStandardization(nn.Linear(2, 2), name="wieght")
    with pytest.raises(ValueError, match=r"bias must be \(out, in, ...\); got .*\(2,\)"):
        nn.WeightStandardization(nn.Linear(2, 2), name="bias")
    for eps in (-1e-5, float("nan"), "small"):
        layer = nn.Linear(2, 2)
        with pytest.raises(ValueError, match="WeightStandardization: eps"):
            nn.WeightStandardization(layer, eps=eps)
        assert list(layer.state_dict()) == ["weight", "bias"]


# --- exact statistics -----------------------------------------------------------------------------

POPULATION = data(4, 2, scale=3.0, shift=50.0)


def batches_of(indices):
    return [tn.tensor(POPULATION[list(i)]) for i in indices]


@pytest.mark.parametrize("m", [2, 3])
def test_all_batches_with_replacement_give_the_population_variance(m):
    norm = nn.recompute_statistics(wide(nn.BatchNorm1d(2)), batches_of(itertools.product(range(4), repeat=m)))
    assert np.allclose(norm.running_mean.numpy(), POPULATION.mean(0), rtol=1e-15, atol=0)
    assert np.allclose(norm.running_var.numpy(), POPULATION.var(0), rtol=1e-15 * 4, atol=0)
    assert norm.num_batches_tracked.item() == 4**m


def test_all_batches_without_replacement_give_the_unbiased_variance():
    norm = nn.recompute_statistics(wide(nn.BatchNorm1d(2)), batches_of(itertools.combinations(range(4), 3)))
    assert np.allclose(norm.running_mean.numpy(), POPULATION.mean(0), rtol=1e-15, atol=0)
    assert np.allclose(norm.running_var.numpy(), POPULATION.var(0, ddof=1), rtol=1e-15 * 4, atol=0)


@pytest.mark.parametrize("shape", [(3,), (3, 5)])
def test_batches_count_by_their_size(shape):
    batches = [data(n, *shape, seed=n) * n + n for n in (2, 7, 30)]
    norm = nn.recompute_statistics(wide(nn.BatchNorm1d(3)), [(tn.tensor(b), "labels") for b in batches])
    axes = (0, *range(2, batches[0].ndim))
    sizes = np.array([b.size // 3 for b in batches], float)[:, None]
    means, variances = np.array([b.mean(axes) for b in batches]), np.array([b.var(axes, ddof=1) for b in batches])
    assert np.allclose(norm.running_mean.numpy(), (sizes * means).sum(0) / sizes.sum(), rtol=1e-14)
    assert np.allclose(norm.running_var.numpy(), (sizes * variances).sum(0) / sizes.sum(), rtol=1e-14)


def test_signals_of_different_lengths_count_by_their_values():
    batches = [data(2, 3, length, seed=length) * length for length in (3, 10)]
    norm = nn.recompute_statistics(wide(nn.BatchNorm1d(3)), map(tn.tensor, batches))
    expected = (3 * batches[0].mean((0, 2)) + 10 * batches[1].mean((0, 2))) / 13
    assert np.allclose(norm.running_mean.numpy(), expected, rtol=1e-14)


def test_a_batch_that_is_no_sequence_goes_to_the_model():
    class FromArray(nn.Module):
        def __init__(self):
            self.norm = wide(nn.BatchNorm1d(2))

        def forward(self, x):
            return self.norm(tn.tensor(x["rows"] if isinstance(x, dict) else x))

    model = FromArray()
    for batch in (POPULATION, {"rows": POPULATION}):
        nn.recompute_statistics(model, [batch])
        assert np.allclose(model.norm.running_mean.numpy(), POPULATION.mean(0), rtol=1e-15)


def test_biased_statistics_stay_biased():
    norm = wide(nn.BatchNorm1d(2, unbiased=False))
    nn.recompute_statistics(norm, batches_of([(0, 1), (2, 3)]))
    assert np.allclose(norm.running_var.numpy(), np.mean([POPULATION[:2].var(0), POPULATION[2:].var(0)], 0), rtol=1e-14)


def test_float32_statistics_of_many_batches_are_averaged_in_float64():
    batches = [data(16, 1, seed=i, shift=1e3).astype("float32") for i in range(300)]
    norm = nn.recompute_statistics(nn.BatchNorm1d(1), map(tn.tensor, batches))
    wide_batches = [b.astype(float) for b in batches]
    assert abs(norm.running_mean.item() / np.mean([b.mean() for b in wide_batches]) - 1) < 1e-7
    assert abs(norm.running_var.item() / np.mean([b.var(ddof=1) for b in wide_batches]) - 1) < 1e-6


def test_exact_statistics_are_the_cumulative_ones_of_pytorch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4, momentum=None), torch.nn.Tanh(), torch.nn.Linear(4, 2),
        torch.nn.BatchNorm1d(2, momentum=None),
    ).double()  # fmt: skip
    ours = wide(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2), nn.BatchNorm1d(2)))
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    batches = [data(8, 3, seed=i) for i in range(5)]
    for b in batches:
        theirs(torch.tensor(b))
    nn.recompute_statistics(ours, map(tn.tensor, batches))
    for name, v in ours.state_dict().items():
        assert np.allclose(v.numpy(), theirs.state_dict()[name].numpy(), rtol=1e-13, atol=1e-15), name


def test_two_norms_in_series_see_what_they_see_in_training():
    model = wide(nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Tanh(), nn.Linear(2, 3)), nn.BatchNorm1d(3)))
    batches = [data(5, 2, seed=i) * (i + 1) for i in range(3)]
    nn.recompute_statistics(model.eval(), map(tn.tensor, batches))
    linear = model[1][1]
    inner = [np.tanh((b - b.mean(0)) / np.sqrt(b.var(0) + 1e-5)) @ linear.weight.numpy().T for b in batches]
    inner = [h + linear.bias.numpy() for h in inner]
    assert np.allclose(model[2].running_mean.numpy(), np.mean([h.mean(0) for h in inner], 0), rtol=1e-12, atol=1e-14)
    assert np.allclose(model[2].running_var.numpy(), np.mean([h.var(0, ddof=1) for h in inner], 0), rtol=1e-12)


def test_other_running_norms_are_recomputed_too():
    model = wide(nn.Sequential(nn.InstanceNorm1d(2, track_running_stats=True), nn.MeanOnlyBatchNorm1d(2)))
    batches = [data(3, 2, 4, seed=i) + i for i in range(3)]
    nn.recompute_statistics(model, map(tn.tensor, batches))
    var = np.mean([b.var(2, ddof=1).mean(0) for b in batches], 0)
    assert np.allclose(model[0].running_mean.numpy(), np.mean([b.mean((0, 2)) for b in batches], 0), rtol=1e-14)
    assert np.allclose(model[0].running_var.numpy(), var, rtol=1e-14)
    assert np.allclose(model[1].running_mean.numpy(), 0.0, atol=1e-15)
    alone = nn.recompute_statistics(wide(nn.MeanOnlyBatchNorm1d(2)), map(tn.tensor, batches))
    assert np.allclose(alone.running_mean.numpy(), np.mean([b.mean((0, 2)) for b in batches], 0), rtol=1e-14)


def test_a_norm_used_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            self.norm = wide(nn.BatchNorm1d(2))

        def forward(self, x):
            return self.norm(x) + self.norm(x * 3.0)

    model, x = Twice(), data(6, 2)
    nn.recompute_statistics(model, [tn.tensor(x)])
    assert np.allclose(model.norm.running_mean.numpy(), 2 * x.mean(0), rtol=1e-14)
    assert np.allclose(model.norm.running_var.numpy(), 5 * x.var(0, ddof=1), rtol=1e-14)


def test_dropout_is_off_while_statistics_are_taken():
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(3))
    x = data(20, 3).astype("float32")
    nn.recompute_statistics(model.train(), [tn.tensor(x)])
    assert np.allclose(model[1].running_mean.numpy(), x.mean(0), atol=1e-6) and model[0].training


def mixed():
    """A model in a mixture of modes, after some training."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, momentum=0.25), nn.Dropout(0.5), nn.BatchNorm1d(3))
    model(tn.randn(9, 2))
    model[1].eval(), model[2].eval()
    model.requires = [m.training for m in model.modules()]
    return model


def broken_loader(error):
    yield tn.ones(4, 2)
    raise error


@pytest.mark.parametrize(
    "loader, error, match",
    [
        (list, ValueError, "no data came to 1 .*empty"),
        (lambda: [tn.ones(0, 2)], ValueError, "no data came to 1"),
        (lambda: [tn.ones(4, 2), tn.ones(1, 2)], ValueError, r"more than one value.*\(1, 3\).*drop_last=True"),
        (lambda: [tn.ones(4, 2), tn.ones(4, 5)], ValueError, "linear"),
        (lambda: broken_loader(OSError("disk")), OSError, "disk"),
        (lambda: broken_loader(KeyboardInterrupt()), KeyboardInterrupt, None),
    ],
)
def test_an_error_leaves_statistics_modes_momenta_and_hooks_as_they_were(loader, error, match):
    model = mixed()
    before, modes = numbers(model), [m.training for m in model.modules()]
    with pytest.raises(error, match=match):
        nn.recompute_statistics(model, loader())
    assert same(numbers(model), before) and [m.training for m in model.modules()] == modes
    assert model[1].momentum == 0.25 and model[3].momentum == 0.1
    assert not any(m._forward_hooks for m in model.modules()) and tn.is_grad_enabled()


def test_success_leaves_everything_but_statistics_as_it_was():
    model = mixed()
    before, modes = numbers(model), [m.training for m in model.modules()]
    assert nn.recompute_statistics(model, [tn.randn(8, 2), tn.randn(8, 2)]) is model
    after = numbers(model)
    assert [m.training for m in model.modules()] == modes and len(set(modes)) == 2
    assert model[1].momentum == 0.25 and not any(m._forward_hooks for m in model.modules())
    changed = {k for k in before if not np.array_equal(before[k], after[k])}
    assert changed == {k for k in before if "running" in k or "tracked" in k}
    assert all(p.grad is None for p in model.parameters())


def test_statistics_recover_from_nan():
    norm = nn.BatchNorm1d(2)
    norm(tn.full((4, 2), float("nan")))
    assert np.isnan(norm.running_mean.numpy()).all()
    nn.recompute_statistics(norm, [tn.tensor([[1.0, 2.0], [3.0, 6.0]])])
    assert norm.running_mean.tolist() == [2.0, 4.0] and norm.running_var.tolist() == [2.0, 8.0]


def test_statistics_of_what_is_not_there():
    for model in (nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False), nn.InstanceNorm1d(2)):
        with pytest.raises(ValueError, match=rf"{type(model).__name__} has no norm with running statistics"):
            nn.recompute_statistics(model, [tn.ones(4, 2)])

    class Unused(nn.Module):
        def __init__(self):
            self.used, self.spare = nn.BatchNorm1d(2), nn.BatchNorm1d(2)

        def forward(self, x):
            return self.used(x)

    model = Unused()
    with pytest.raises(ValueError, match=r"no data came to spare \(BatchNorm1d\(2"):
        nn.recompute_statistics(model, [tn.randn(4, 2)])
    assert model.used.running_mean.tolist() == [0.0, 0.0]


def test_statistics_from_a_data_loader():
    from tinygrad_norm import data as sets

    x = data(64, 3).astype("float32")
    loader = sets.DataLoader(sets.TensorDataset(tn.tensor(x), tn.zeros(64)), batch_size=16, shuffle=False)
    norm = nn.recompute_statistics(nn.BatchNorm1d(3), loader)
    assert np.allclose(norm.running_mean.numpy(), x.mean(0), atol=1e-6)


# --- batch norm folded away -----------------------------------------------------------------------


def trained(model):
    """With statistics, gains and biases that are not those of the start; in float64, in training mode."""
    wide(model)
    for i, m in enumerate(model.modules()):
        if isinstance(m, nn.BatchNorm1d):
            for p, low in ((m.weight, 0.5), (m.bias, -1.0), (m.running_mean, -1.0), (m.running_var, 0.5)):
                if p is not None:
                    put(p, np.random.default_rng(i).uniform(low, 2.0, p.shape))
    return model


class Residual(nn.Module):
    """A module of its own kind, with a Sequential inside."""

    def __init__(self):
        self.inner = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU())

    def forward(self, x):
        return x + self.inner(x)


def twice_the_same_linear():
    linear = nn.Linear(6, 6)
    return nn.Sequential(linear, nn.BatchNorm1d(6), nn.ReLU(), linear, nn.BatchNorm1d(6), linear)


def the_same_weight_norm_elsewhere():
    linear = nn.WeightNorm(nn.Linear(6, 6))
    return nn.Sequential(linear, nn.BatchNorm1d(6), linear)


FUSABLE = {
    "sequential": lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)),
    "no bias": lambda: nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4)),
    "no affine": lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, affine=False, eps=0.1)),
    "mlp": lambda: nn.MLP([6, 8, 8, 3], norm="batch", dropout=0.5),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)), nn.MLP([5, 4, 2], norm="batch")),
    "named": lambda: nn.Sequential({"in": nn.Linear(6, 5), "norm": nn.BatchNorm1d(5)}),
    "residual": lambda: nn.Sequential(Residual(), nn.Linear(6, 3), nn.BatchNorm1d(3)),
    "weight norm": lambda: nn.Sequential(
        nn.WeightNorm(nn.Linear(6, 4)), nn.BatchNorm1d(4), nn.WeightNorm(nn.Linear(4, 2))
    ),
    "weight standardization": lambda: nn.Sequential(nn.WeightStandardization(nn.Linear(6, 4)), nn.BatchNorm1d(4)),
    "shared linear": twice_the_same_linear,
    "shared weight norm": the_same_weight_norm_elsewhere,
    "no batch norm": lambda: nn.MLP([6, 4, 2], norm="layer"),
}


@pytest.mark.parametrize("name", FUSABLE)
def test_a_folded_batch_norm_gives_the_same_function(name):
    model = trained(FUSABLE[name]())
    state, modes, x = numbers(model), [m.training for m in model.modules()], tn.tensor(data(7, 6))
    fused = nn.fuse_batch_norm(model)
    assert same(numbers(model), state) and [m.training for m in model.modules()] == modes
    assert not any(isinstance(m, nn.BatchNorm1d) for m in fused.modules())
    assert not any(m.training for m in fused.modules())
    assert [type(m) for m in fused.modules() if isinstance(m, nn.Identity)] == [nn.Identity] * str(model).count(
        "BatchNorm"
    )
    expected = model.eval()(x).numpy()
    assert np.allclose(fused(x).numpy(), expected, rtol=1e-13, atol=1e-13)
    put(next(iter(fused.parameters())), 0.0)
    assert np.array_equal(model(x).numpy(), expected)


def test_folding_leaves_a_shared_weight_norm_as_it_is():
    fused = nn.fuse_batch_norm(trained(the_same_weight_norm_elsewhere()))
    assert sorted(fused.state_dict()) == ["0.bias", "0.weight", "2.layer.bias", "2.weight_g", "2.weight_v"]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_folding_keeps_dtype_and_accuracy(dtype):
    model = trained(nn.MLP([6, 16, 3], norm="batch")).to(dtype).eval()
    fused = nn.fuse_batch_norm(model)
    assert {p.dtype for p in fused.parameters()} == {np.dtype(dtype)}
    x = tn.tensor(data(7, 6).astype(dtype))
    limit = {"float16": 5e-3, "float32": 1e-6}[dtype]
    assert abs(fused(x).numpy().astype(float) - model(x).numpy()).max() < limit * 5
    linear = fused.linear1
    assert linear.weight.decay and not linear.bias.decay and linear.weight.is_leaf and linear.weight.requires_grad


def test_folding_a_feature_without_variance_at_eps_0():
    model = trained(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, eps=0.0)))
    put(model[1].running_var, [0.0, 4.0])
    x = tn.tensor(data(3, 2))
    assert np.allclose(nn.fuse_batch_norm(model)(x).numpy(), model.eval()(x).numpy(), rtol=1e-14)
    assert (nn.fuse_batch_norm(model)(x).numpy()[:, 0] == model[1].bias.numpy()[0]).all()


class Backwards(nn.Module):
    """Its attributes stand in another order than it runs in."""

    def __init__(self):
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x):
        return self.linear(self.norm(x))


class Reversed(nn.Sequential):
    """A Sequential that runs from the last to the first."""

    def forward(self, x):
        for m in reversed(list(self)):
            x = m(x)
        return x


class Doubled(nn.Linear):
    """A Linear that computes something else."""

    def forward(self, x):
        return super().forward(x) * 2.0


UNFUSABLE = [
    (lambda: nn.BatchNorm1d(4), r"the model \(BatchNorm1d\(4"),
    (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4)), r"0 \(BatchNorm1d"),
    (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4)), r"2 \(BatchNorm1d"),
    (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)), r"2 \(BatchNorm1d"),
    (lambda: nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.BatchNorm1d(4))), r"1\.0 \(BatchNorm1d"),
    (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)), r"1 \(BatchNorm1d"),
    (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(1)), r"1 \(BatchNorm1d\(1"),
    (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm2d(4)), r"1 \(BatchNorm2d"),
    (lambda: nn.Sequential(nn.CosineLinear(4, 4), nn.BatchNorm1d(4)), r"1 \(BatchNorm1d"),
    (lambda: nn.Sequential(Doubled(4, 4), nn.BatchNorm1d(4)), r"1 \(BatchNorm1d"),
    (lambda: nn.Sequential(Backwards()), r"0\.norm \(BatchNorm1d"),
    (lambda: Reversed(nn.Linear(4, 4), nn.BatchNorm1d(4)), r"1 \(BatchNorm1d"),
    (lambda: nn.ModuleList([nn.Linear(4, 4), nn.BatchNorm1d(4)]), r"1 \(BatchNorm1d"),
]


@pytest.mark.parametrize("make, match", UNFUSABLE)
def test_what_cannot_be_folded_is_refused(make, match):
    model = make()
    state = numbers(model)
    with pytest.raises(ValueError, match=rf"fuse_batch_norm: {match}.*right behind a Linear in one Sequential"):
        nn.fuse_batch_norm(model)
    assert same(numbers(model), state)


# --- starts from data -----------------------------------------------------------------------------


def outputs_of(model, x):
    """What every WeightNorm in the model gives."""
    found, norms = [], [m for m in model.modules() if isinstance(m, nn.WeightNorm)]
    removers = [m.register_forward_hook(lambda m, inputs, y: found.append(y.numpy())) for m in norms]
    model(x)
    for remove in removers:
        remove()
    return found


def test_every_weight_normed_layer_starts_standardized():
    model, x = (
        wide(nn.MLP([6, 16, 16, 8, 3], norm="weight", activation="tanh")),
        tn.tensor(data(50, 6, scale=30.0, shift=9.0)),
    )
    directions = [m.weight_v.numpy().copy() for m in model.modules() if isinstance(m, nn.WeightNorm)]
    last = model.linear4.weight.numpy().copy()
    assert nn.data_dependent_init(model, x) is model
    outputs = outputs_of(model, x)
    assert len(outputs) == 3
    for t in outputs:
        assert abs(t.mean(0)).max() < 1e-13 and abs(t.var(0) - 1).max() < 1e-13
    for m, v in zip([m for m in model.modules() if isinstance(m, nn.WeightNorm)], directions):
        assert np.array_equal(m.weight_v.numpy(), v) and (m.weight_g.numpy() > 0).all()
    assert np.array_equal(model.linear4.weight.numpy(), last)
    assert tn.is_grad_enabled() and not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None and p.is_leaf for p in model.parameters())


def test_the_start_is_the_one_of_the_paper():
    layer, x = wide(nn.WeightNorm(nn.Linear(5, 4))), data(20, 5)
    v = layer.weight_v.numpy()
    t = x @ (v / np.linalg.norm(v, axis=1, keepdims=True)).T
    nn.data_dependent_init(layer, tn.tensor(x))
    assert np.allclose(layer.weight_g.numpy()[:, 0], 1 / t.std(0), rtol=1e-12)
    assert np.allclose(layer.layer.bias.numpy(), -t.mean(0) / t.std(0), rtol=1e-12)
    again = copy.deepcopy(layer)
    nn.data_dependent_init(again, tn.tensor(x))
    assert np.allclose(again.weight_g.numpy(), layer.weight_g.numpy(), rtol=1e-12)


def test_a_start_in_three_dimensions_and_float32():
    layer, x = nn.WeightNorm(nn.Linear(5, 4)), tn.tensor(data(6, 7, 5, shift=3.0).astype("float32"))
    t = nn.data_dependent_init(layer, x)(x).numpy().reshape(-1, 4)
    assert abs(t.mean(0)).max() < 1e-5 and abs(t.var(0) - 1).max() < 1e-5 and layer.weight_g.dtype == "float32"


def test_features_that_do_not_vary_keep_their_length():
    layer = wide(nn.WeightNorm(nn.Linear(2, 2)))
    put(layer.weight_v, [[1.0, 0.0], [0.0, 1.0]]), put(layer.weight_g, [[3.0], [3.0]])
    put(layer.layer.bias, [0.0, 1.0])
    x = np.stack([np.full(13, 0.1), np.arange(13.0)], 1)
    assert layer(tn.tensor(x)).numpy()[:, 0].std() > 0  # by rounding
    y = nn.data_dependent_init(layer, tn.tensor(x))(tn.tensor(x)).numpy()
    assert layer.weight_g.numpy()[0, 0] == 3.0 and abs(y[:, 0]).max() < 1e-15 and abs(y[:, 1].var() - 1) < 1e-14


def test_without_a_bias_the_variance_alone_is_set():
    model = wide(nn.Sequential(nn.WeightNorm(nn.Linear(5, 4, bias=False)), nn.MeanOnlyBatchNorm1d(4)))
    x = tn.tensor(data(20, 5, shift=4.0))
    y = nn.data_dependent_init(model, x)(x).numpy()
    assert abs(y.mean(0)).max() < 1e-13 and abs(y.var(0) - 1).max() < 1e-12


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: nn.MLP([3, 4, 2]), "MLP has no WeightNorm"),
        (lambda: nn.WeightNorm(nn.Linear(3, 4), dim=1), r"the model must be WeightNorm\(Linear\(...\)\); got .*dim=1"),
        (lambda: nn.Sequential(nn.WeightNorm(nn.Linear(3, 4), dim=None)), r"0 must be .*dim=None"),
        (lambda: nn.WeightNorm(nn.CosineLinear(3, 4)), r"the model .*CosineLinear\(...\)"),
        (lambda: nn.WeightNorm(nn.Linear(3, 4), name="bias"), r"the model .*'bias'"),
        (lambda: nn.WeightNorm(nn.WeightStandardization(nn.Linear(3, 4)), name="weight_v"), r"the model .*'weight_v'"),
    ],
)
def test_what_data_dependent_init_refuses(make, match):
    with pytest.raises(ValueError, match=f"data_dependent_init: {match}"):
        nn.data_dependent_init(make(), tn.randn(8, 3))


def test_a_start_needs_more_than_one_row():
    model = nn.Sequential(nn.WeightNorm(nn.Linear(3, 4)), nn.WeightNorm(nn.Linear(4, 2)))
    before = numbers(model)
    with pytest.raises(ValueError, match=r"more than one row; got .*\(1, 4\)"):
        nn.data_dependent_init(model, tn.ones(1, 3))
    assert same(numbers(model), before) and not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("x_dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "make",
    [
        lambda d: (nn.BatchNorm1d(2, dtype=d), (4, 2)),
        lambda d: (nn.InstanceNorm1d(2, affine=True, track_running_stats=True, dtype=d), (4, 2, 3)),
        lambda d: (nn.MeanOnlyBatchNorm1d(2, dtype=d), (4, 2)),
    ],
    ids=["batch", "instance", "mean-only"],
)
def test_a_norm_keeps_the_dtype_of_its_input_in_either_mode(make, dtype, x_dtype):
    norm, shape = make(dtype)
    for training in (True, False):
        norm.train(training)
        x = tn.randn(*shape, dtype=x_dtype, requires_grad=True)
        y = norm(x)
        y.sum().backward()
        with tn.composite():
            assert y.dtype == norm(x).dtype == x.grad.dtype == x_dtype
        assert all(p.grad is None or p.grad.dtype == dtype for p in norm.parameters())


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.layer_norm(x, 2, [1.0, 1.0]),
        lambda x: F.batch_norm(x, tn.zeros(2, dtype="int64"), tn.ones(2), training=True),
        lambda x: F.group_norm(x, 1, tn.ones(2, dtype="int64")),
    ],
)
def test_parameters_of_a_function_are_floating_tensors(call):
    with pytest.raises(ValueError, match=r"_norm: \w+ must be floating and have shape \(2,\).*; got"):
        call(tn.ones(3, 2))


@pytest.mark.parametrize("wrap", [nn.WeightNorm, nn.WeightStandardization])
@pytest.mark.parametrize("learned", [True, False])
def test_frozen_weights_stay_frozen_when_they_are_taken_over_and_given_back(wrap, learned):
    layer = nn.Linear(3, 2)
    layer.weight.requires_grad_(learned)
    wrapped = wrap(layer)
    own = {n: p.requires_grad for n, p in wrapped.named_parameters()}
    assert own == {n: n == "layer.bias" or learned for n in own}
    assert {n: p.requires_grad for n, p in wrapped.remove().named_parameters()} == {"bias": True, "weight": learned}


@pytest.mark.parametrize("learned", [True, False])
def test_a_folded_model_is_frozen_where_all_of_it_was(learned):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).requires_grad_(learned)
    assert [p.requires_grad for p in nn.fuse_batch_norm(model).parameters()] == [learned] * 2


def test_group_norm_refuses_other_channels_without_parameters_too():
    with pytest.raises(ValueError, match=r"GroupNorm: x must be \(N, C, \.\.\.\) with C = 4; got .*\(1, 6\)"):
        nn.GroupNorm(2, 4, affine=False)(tn.ones(1, 6))
