"""Layers, losses, norms and containers against the formulas, written out in NumPy."""

import copy
import inspect
import pickle
import re

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import nn


@pytest.fixture(autouse=True)
def seed():
    tn.manual_seed(11)


def data(*shape, scale=1.0, shift=0.0):
    return np.random.default_rng(5).standard_normal(shape) * scale + shift


def put(parameter, values):
    with tn.no_grad():
        parameter[...] = np.asarray(values)


def wide(module):
    return module.to("float64")


# --- linear, dropout, shapes ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3), (0, 3)])
def test_linear(shape):
    layer, x = wide(nn.Linear(3, 4)), data(*shape)
    assert np.allclose(layer(tn.tensor(x)).numpy(), x @ layer.weight.numpy().T + layer.bias.numpy())
    assert nn.Linear(3, 4, bias=False).bias is None
    assert layer.weight.decay and not layer.bias.decay


def test_linear_on_another_dtype():
    layer = nn.Linear(3, 4, dtype="float64")
    assert {p.dtype for p in layer.parameters()} == {np.dtype("float64")}
    with pytest.raises(TypeError, match=r"float32.*float64"):
        layer(tn.ones(1, 3))


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (2.0, 3), (True, 3), ("3", 3)])
def test_sizes_are_positive_integers(sizes):
    with pytest.raises(ValueError, match=r"Linear: .*_features must be an integer of at least 1; got"):
        nn.Linear(*sizes)


def test_dropout_drops_in_training_only():
    layer, x = nn.Dropout(0.25), tn.ones(100, 100)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(4 / 3)} and abs((y == 0).mean() - 0.25) < 0.02
    assert not np.array_equal(layer(x).numpy(), y)
    assert np.array_equal(layer.eval()(x).numpy(), x.numpy())
    for p in (-0.1, 1.5, "half", True):
        with pytest.raises(ValueError, match=r"Dropout: p must be a number in \[0, 1\]"):
            nn.Dropout(p)


def test_flatten_and_identity():
    x = tn.ones(2, 3, 4)
    assert nn.Flatten()(x).shape == (2, 12) and nn.Flatten(0, 1)(x).shape == (6, 4)
    assert nn.Identity()(x) is x


# --- activations and losses -----------------------------------------------------------------------

ACTIVATIONS = [
    (nn.ReLU, F.relu, {}),
    (nn.LeakyReLU, F.leaky_relu, {"negative_slope": 0.3}),
    (nn.ELU, F.elu, {"alpha": 0.5}),
    (nn.SELU, F.selu, {}),
    (nn.GELU, F.gelu, {"approximate": "tanh"}),
    (nn.SiLU, F.silu, {}),
    (nn.Sigmoid, F.sigmoid, {}),
    (nn.Tanh, F.tanh, {}),
    (nn.Softplus, F.softplus, {"beta": 2.0, "threshold": 3.0}),
    (nn.Hardtanh, F.hardtanh, {"min_val": -0.5, "max_val": 0.25}),
    (nn.Softmax, F.softmax, {"dim": 0}),
    (nn.LogSoftmax, F.log_softmax, {"dim": 0}),
]


@pytest.mark.parametrize("layer, function, options", ACTIVATIONS, ids=lambda v: getattr(v, "__name__", ""))
def test_activations_are_their_functions(layer, function, options):
    x = tn.tensor(data(4, 5) * 3)
    assert np.array_equal(layer()(x).numpy(), function(x).numpy())
    if options:
        for made in (layer(**options), layer(*options.values())):
            y = made(x).numpy()
            assert np.array_equal(y, function(x, **options).numpy()) and not np.array_equal(y, function(x).numpy())
            assert all(getattr(made, name) == value for name, value in options.items())
            assert all(f"{name}={value!r}" in repr(made) for name, value in options.items())
    assert [*inspect.signature(layer).parameters] == [*options]
    assert not list(layer().parameters())


def test_options_are_read_at_every_call():
    layer = nn.LeakyReLU()
    layer.negative_slope = 0.5
    assert layer(tn.tensor([-2.0])).item() == -1.0


def test_an_option_that_does_not_exist():
    with pytest.raises(TypeError, match=r"LeakyReLU: .*'slope'; write LeakyReLU\(negative_slope.*= 0.01\)"):
        nn.LeakyReLU(slope=0.1)
    with pytest.raises(TypeError, match=r"ReLU: too many.*; write ReLU\(\)"):
        nn.ReLU(True)


LOGITS, LABELS = data(4, 3), np.array([0, 2, 1, 1])
LOSSES = [
    (nn.MSELoss, F.mse_loss, (LOGITS, LOGITS + 1), {}),
    (nn.L1Loss, F.l1_loss, (LOGITS, LOGITS + 1), {"reduction": "sum"}),
    (nn.HuberLoss, F.huber_loss, (LOGITS, LOGITS[::-1].copy()), {"delta": 0.5}),
    (nn.CrossEntropyLoss, F.cross_entropy, (LOGITS, LABELS), {"label_smoothing": 0.2, "ignore_index": 2}),
    (nn.CrossEntropyLoss, F.cross_entropy, (LOGITS, LABELS), {"weight": tn.tensor(np.array([1.0, 2.0, 4.0]))}),
    (nn.NLLLoss, F.nll_loss, (LOGITS, LABELS), {"weight": tn.tensor(np.array([1.0, 2.0, 4.0]))}),
    (
        nn.BCEWithLogitsLoss,
        F.binary_cross_entropy_with_logits,
        (LOGITS, (LOGITS > 0) * 1.0),
        {"pos_weight": tn.tensor(np.array([1.0, 2.0, 4.0]))},
    ),
]


@pytest.mark.parametrize("layer, function, inputs, options", LOSSES, ids=lambda v: getattr(v, "__name__", ""))
def test_losses_are_their_functions(layer, function, inputs, options):
    x, target = (tn.tensor(v) for v in inputs)
    assert layer()(x, target).item() == function(x, target).item()
    made = layer(**options)
    assert np.array_equal(made(x, target).numpy(), function(x, target, **options).numpy())
    if options:
        assert not np.array_equal(made(x, target).numpy(), layer()(x, target).numpy())
    assert [*inspect.signature(layer).parameters] == [*inspect.signature(function).parameters][2:]


def test_loss_weights_belong_to_the_module():
    loss = nn.CrossEntropyLoss(weight=[1.0, 2.0, 4.0])
    assert list(loss.state_dict()) == ["weight"] and not list(loss.parameters())
    assert loss.to("float64").weight.dtype == "float64"
    assert list(nn.NLLLoss(weight=[1.0]).buffers()) and not list(nn.NLLLoss().buffers())
    assert list(nn.BCEWithLogitsLoss([1.0], pos_weight=[2.0]).state_dict()) == ["weight", "pos_weight"]
    picked = np.array([1.0, 4.0, 2.0, 2.0])
    rows = np.log(np.exp(LOGITS).sum(1)) - LOGITS[np.arange(4), LABELS]
    assert np.isclose(loss(tn.tensor(LOGITS), LABELS).item(), (picked * rows).sum() / picked.sum())


# --- batch norm -----------------------------------------------------------------------------------

BATCHES = [(nn.BatchNorm1d, (7, 3)), (nn.BatchNorm1d, (4, 3, 5)), (nn.BatchNorm2d, (2, 3, 4, 5))]


def statistics(x):
    """Mean and biased variance of each channel, and how many values a channel has."""
    axes = (0, *range(2, x.ndim))
    return x.mean(axes), x.var(axes), x.size // x.shape[1]


def along(v, x):
    return v.reshape(-1, *[1] * (x.ndim - 2))


@pytest.mark.parametrize("layer, shape", BATCHES)
@pytest.mark.parametrize("eps", [1e-5, 0.0, 0.1])
def test_batch_norm_in_training_and_evaluation(layer, shape, eps):
    norm, x = wide(layer(3, eps=eps)), data(*shape, scale=3.0, shift=5.0)
    w, b = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 3.0])
    put(norm.weight, w), put(norm.bias, b)
    mean, var, n = statistics(x)
    y = (x - along(mean, x)) / np.sqrt(along(var, x) + eps) * along(w, x) + along(b, x)
    assert np.allclose(norm(tn.tensor(x)).numpy(), y, rtol=1e-12, atol=1e-12)
    running_mean, running_var = 0.1 * mean, 0.9 + 0.1 * var * n / (n - 1)
    assert np.allclose(norm.running_mean.numpy(), running_mean, rtol=1e-12)
    assert np.allclose(norm.running_var.numpy(), running_var, rtol=1e-12)
    assert norm.num_batches_tracked.item() == 1 and norm.num_batches_tracked.dtype == "int64"
    y = (x - along(running_mean, x)) / np.sqrt(along(running_var, x) + eps) * along(w, x) + along(b, x)
    assert np.allclose(norm.eval()(tn.tensor(x)).numpy(), y, rtol=1e-12, atol=1e-12)
    assert norm.num_batches_tracked.item() == 1 and np.allclose(norm.running_mean.numpy(), running_mean, rtol=1e-12)


def test_running_statistics_have_a_closed_form():
    batches = [data(8, 3) * i + i for i in range(1, 6)]
    moving, average, biased = (
        wide(nn.BatchNorm1d(3, **o)) for o in ({"momentum": 0.3}, {"momentum": None}, {"unbiased": False})
    )
    for batch in batches:
        for norm in (moving, average, biased):
            norm(tn.tensor(batch))
    means, variances = (np.stack([statistics(b)[i] for b in batches]) for i in (0, 1))
    share = 0.3 * 0.7 ** np.arange(5)[::-1, None]
    assert np.allclose(moving.running_mean.numpy(), (share * means).sum(0), rtol=1e-12)
    assert np.allclose(moving.running_var.numpy(), 0.7**5 + (share * variances * 8 / 7).sum(0), rtol=1e-12)
    assert np.allclose(average.running_mean.numpy(), means.mean(0), rtol=1e-12)
    assert np.allclose(average.running_var.numpy(), variances.mean(0) * 8 / 7, rtol=1e-12)
    share = 0.1 * 0.9 ** np.arange(5)[::-1, None]
    assert np.allclose(biased.running_var.numpy(), 0.9**5 + (share * variances).sum(0), rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_running_statistics_are_those_of_pytorch(momentum):
    torch = pytest.importorskip("torch")
    ours, theirs = wide(nn.BatchNorm2d(3, momentum=momentum)), torch.nn.BatchNorm2d(3, momentum=momentum).double()
    for i in range(4):
        x = data(i + 2, 3, 2, 2) * (i + 1) + i
        y = theirs(torch.tensor(x)).detach().numpy()
        assert np.allclose(ours(tn.tensor(x)).numpy(), y, rtol=1e-10, atol=1e-12)
    state = {name: v.numpy() for name, v in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    for name, v in ours.state_dict().items():
        assert np.allclose(v.numpy(), state[name], rtol=1e-12), name
        assert v.dtype == state[name].dtype and v.shape == state[name].shape, name
    x = data(3, 3, 2, 2)
    y = theirs.eval()(torch.tensor(x)).detach().numpy()
    assert np.allclose(ours.eval()(tn.tensor(x)).numpy(), y, rtol=1e-10, atol=1e-12)
    copied = wide(nn.BatchNorm2d(3))
    copied.load_state_dict(state)
    assert np.allclose(copied.eval()(tn.tensor(x)).numpy(), y, rtol=1e-10, atol=1e-12)


def test_batch_norm_in_evaluation_treats_each_row_alone():
    norm = nn.BatchNorm1d(3)
    norm(tn.randn(20, 3) * 4.0 + 2.0)
    norm.eval()
    x = tn.randn(6, 3)
    whole = norm(x).numpy()
    assert all(np.array_equal(whole[i], norm(x[i : i + 1]).numpy()[0]) for i in range(6))


def test_batch_norm_without_running_statistics():
    norm, x = nn.BatchNorm1d(3, track_running_stats=False), tn.randn(5, 3)
    assert list(norm.state_dict()) == ["weight", "bias"]
    assert np.array_equal(norm(x).numpy(), norm.eval()(x).numpy())
    flat = nn.BatchNorm1d(3, eps=1e6, track_running_stats=False)
    assert abs(flat(x).numpy()).max() < 0.01
    bare = nn.BatchNorm1d(3, affine=False)
    assert not list(bare.parameters()) and abs(bare(x).numpy().mean(0)).max() < 1e-6


def test_one_value_per_channel_is_refused_in_training():
    norm = nn.BatchNorm1d(3)
    before = {k: v.numpy() for k, v in norm.state_dict().items()}
    with pytest.raises(ValueError, match=r"BatchNorm1d: .*\(1, 3\).*drop_last=True.*eval\(\)"):
        norm(tn.ones(1, 3))
    assert all(np.array_equal(v.numpy(), before[k]) for k, v in norm.state_dict().items())
    assert norm(tn.ones(1, 3, 2)).shape == (1, 3, 2)
    assert norm.eval()(tn.ones(1, 3)).shape == (1, 3)


def test_an_empty_batch_leaves_the_statistics_alone():
    norm = nn.BatchNorm1d(3, momentum=None)
    assert norm(tn.ones(0, 3)).shape == (0, 3)
    assert norm.num_batches_tracked.item() == 0 and norm.running_var.tolist() == [1.0] * 3


def test_a_backward_through_evaluation_survives_later_training():
    norm = wide(nn.BatchNorm1d(3))
    x = tn.tensor(data(4, 3), requires_grad=True)
    y = norm.eval()(x)
    slope = 1 / np.sqrt(norm.running_var.numpy() + norm.eps)
    norm.train()(tn.tensor(data(9, 3, scale=8.0)))
    try:
        y.sum().backward()
    except RuntimeError as error:
        assert "changed in place" in str(error)
    else:
        assert np.allclose(x.grad.numpy(), slope)


@pytest.mark.parametrize("layer, shapes", [(nn.BatchNorm1d, [(3,), (4, 2), (2, 3, 4, 5)]), (nn.BatchNorm2d, [(4, 3)])])
def test_batch_norm_names_the_shapes_it_takes(layer, shapes):
    for shape in shapes:
        words = rf"{layer.__name__}: .*\(N, C.*C = 3; got .*{re.escape(str(shape))}"
        with pytest.raises(ValueError, match=words):
            layer(3)(tn.ones(*shape))


@pytest.mark.parametrize(
    "layer, args", [(nn.BatchNorm1d, (3,)), (nn.LayerNorm, (3,)), (nn.RMSNorm, (3,)), (nn.GroupNorm, (1, 3))]
)
def test_eps_is_not_negative(layer, args):
    with pytest.raises(ValueError, match=rf"{layer.__name__}: eps .*-1e-05"):
        layer(*args, eps=-1e-5)
    assert layer(*args, eps=0)(tn.ones(4, 3)).shape == (4, 3)


# --- layer, RMS and group norm --------------------------------------------------------------------


@pytest.mark.parametrize("shape, over", [((4, 6), 6), ((4, 2, 3), (2, 3)), ((2, 3, 4), 4)])
@pytest.mark.parametrize("shared", [False, True])
def test_layer_norm(shape, over, shared):
    norm, x = wide(nn.LayerNorm(over, eps=0.01, shared=shared)), data(*shape, scale=3.0, shift=5.0)
    over = (over,) if isinstance(over, int) else over
    assert norm.weight.shape == norm.bias.shape == ((1,) if shared else over)
    w, b = (data(*norm.weight.shape) + i for i in (1, 2))
    put(norm.weight, w), put(norm.bias, b)
    axes = tuple(range(x.ndim - len(over), x.ndim))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 0.01) * w + b
    assert np.allclose(norm(tn.tensor(x)).numpy(), y, rtol=1e-12, atol=1e-12)
    assert not list(norm.buffers())


def test_layer_norm_is_one_function_of_each_sample():
    norm, x = nn.LayerNorm(16), tn.randn(5, 16)
    y = norm(x).numpy()
    assert np.array_equal(y, norm.eval()(x).numpy())
    assert all(np.array_equal(y[i], norm(x[i : i + 1]).numpy()[0]) for i in range(5))


def test_layer_norm_options():
    assert list(nn.LayerNorm(3, bias=False).state_dict()) == ["weight"]
    assert list(nn.LayerNorm(3, elementwise_affine=False).state_dict()) == []
    with pytest.raises(ValueError, match=r"LayerNorm: normalized_shape .*0"):
        nn.LayerNorm((3, 0))
    with pytest.raises(ValueError, match=r"\(4,\).*\(2, 3\)"):
        nn.LayerNorm(4)(tn.ones(2, 3))


def test_rms_norm():
    norm, x = wide(nn.RMSNorm(6, eps=0.01)), data(4, 6, shift=2.0)
    put(norm.weight, np.arange(6.0))
    y = x / np.sqrt((x**2).mean(1, keepdims=True) + 0.01) * np.arange(6.0)
    assert np.allclose(norm(tn.tensor(x)).numpy(), y, rtol=1e-12)
    assert list(norm.state_dict()) == ["weight"] and not list(nn.RMSNorm(6, elementwise_affine=False).parameters())


def test_group_norm():
    norm, x = wide(nn.GroupNorm(2, 6, eps=0.01)), data(4, 6, 5, shift=2.0)
    w, b = data(6), data(6) + 1
    put(norm.weight, w), put(norm.bias, b)
    grouped = x.reshape(4, 2, 15)
    y = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + 0.01)
    y = y.reshape(x.shape) * w[:, None] + b[:, None]
    assert np.allclose(norm(tn.tensor(x)).numpy(), y, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="4 for 6"):
        nn.GroupNorm(4, 6)


def test_norm_parameters_and_biases_do_not_decay():
    models = [nn.MLP([3, 4, 4, 2], norm=norm) for norm in (None, "batch", "layer", "weight", "cosine", "rms", "group")]
    for model in models:
        for name, p in model.named_parameters():
            matrix = name.endswith((".weight", "_v")) and p.ndim == 2
            assert p.decay is matrix, name


# --- weight norm ----------------------------------------------------------------------------------


def test_weight_norm_starts_where_the_layer_was():
    layer, x = wide(nn.Linear(5, 4)), tn.tensor(data(3, 5))
    weight, y = layer.weight.numpy().copy(), layer(x).numpy()
    norm = nn.WeightNorm(layer)
    assert list(norm.state_dict()) == ["weight_g", "weight_v", "layer.bias"]
    assert norm.weight_g.shape == (4, 1) and np.array_equal(norm.weight_v.numpy(), weight)
    assert np.allclose(norm.weight_g.numpy()[:, 0], np.linalg.norm(weight, axis=1), rtol=1e-14)
    assert np.allclose(norm(x).numpy(), y, rtol=1e-14) and not hasattr(layer, "weight")
    plain = norm.remove()
    assert (
        plain is layer
        and type(layer) is nn.Linear
        and list(layer.state_dict()) in (["weight", "bias"], ["bias", "weight"])
    )
    assert np.allclose(layer(x).numpy(), y, rtol=1e-14) and layer.weight.decay and layer.weight.is_leaf


@pytest.mark.parametrize("dim, shape, axes", [(0, (4, 1), 1), (1, (1, 5), 0), (-1, (1, 5), 0), (None, (1, 1), None)])
def test_weight_norm_along_a_dimension(dim, shape, axes):
    norm = nn.WeightNorm(wide(nn.Linear(5, 4, bias=False)), dim=dim)
    assert norm.weight_g.shape == shape
    g, v, x = data(*shape), data(4, 5), data(3, 5)
    put(norm.weight_g, g), put(norm.weight_v, v)
    w = g * v / np.sqrt((v**2).sum(axes, keepdims=True))
    assert np.allclose(norm(tn.tensor(x)).numpy(), x @ w.T, rtol=1e-12, atol=1e-12)


def test_weight_norm_learns_length_and_direction():
    norm, x = nn.WeightNorm(wide(nn.Linear(5, 4))), data(3, 5)
    seed = data(3, 4)
    (norm(tn.tensor(x)) * seed).sum().backward()
    v = norm.weight_v.numpy()
    by_w, length = seed.T @ x, np.linalg.norm(v, axis=1, keepdims=True)
    by_g = (by_w * v).sum(1, keepdims=True) / length
    assert np.allclose(norm.weight_g.grad.numpy(), by_g, rtol=1e-12)
    assert np.allclose(
        norm.weight_v.grad.numpy(), norm.weight_g.numpy() / length * (by_w - by_g * v / length), rtol=1e-10
    )
    assert np.allclose(norm.layer.bias.grad.numpy(), seed.sum(0))


def test_weight_norm_stores_nothing_derived():
    norm, x = nn.WeightNorm(nn.Linear(5, 4)), tn.randn(3, 5)
    before = {path: set(vars(m)) for path, m in norm.named_modules()}
    y = norm(x)
    assert {path: set(vars(m)) for path, m in norm.named_modules()} == before
    for other in (copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))):
        assert np.array_equal(other(x).numpy(), y.numpy())
        put(other.weight_g, 0.0)
        assert not np.array_equal(other(x).numpy(), y.numpy())
    put(norm.weight_g, norm.weight_g.numpy() * 2)
    bias = norm.layer.bias.numpy()
    assert np.allclose(norm(x).numpy() - bias, 2 * (y.numpy() - bias), rtol=1e-5, atol=1e-6)


def test_weight_norm_of_a_zero_row_gives_zero():
    layer = nn.Linear(3, 2, bias=False)
    put(layer.weight, [[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]])
    norm = nn.WeightNorm(layer)
    y = norm(tn.ones(1, 3))
    y.sum().backward()
    assert y.tolist() == [[0.0, 7.0]] and norm.weight_v.grad.numpy()[0].tolist() == [0.0] * 3


def test_weight_norm_of_any_parameter_of_any_module():
    class Cell(nn.Module):
        def __init__(self):
            self.inward = nn.Parameter(tn.ones(2, 2))
            self.shift = nn.Parameter(tn.zeros(2))

        def forward(self, x, scale=1.0):
            return x @ self.inward * scale + self.shift

    norm = nn.WeightNorm(Cell(), name="inward")
    assert list(norm.state_dict()) == ["inward_g", "inward_v", "layer.shift"]
    assert np.allclose(norm(tn.ones(1, 2), 3.0).numpy(), 6.0)
    seen = []
    norm.layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    norm(tn.ones(1, 2))
    assert len(seen) == 1
    with pytest.raises(ValueError) as caught:
        nn.Sequential(norm)(tn.ones(1, 3))
    assert caught.value.__notes__ == ["in 0 (Cell())"]


def test_weight_norm_refuses_what_it_cannot_wrap():
    with pytest.raises(ValueError, match=r"no parameter 'wieght'; it has weight, bias"):
        nn.WeightNorm(nn.Linear(2, 2), name="wieght")
    with pytest.raises(ValueError, match=r"ReLU.*it has none"):
        nn.WeightNorm(nn.ReLU())
    with pytest.raises(ValueError, match=r"WeightNorm: 3 \(int\)"):
        nn.WeightNorm(3)
    with pytest.raises(ValueError, match=r"dim must be in \[-2, 2\).*got 2"):
        nn.WeightNorm(nn.Linear(2, 2), dim=2)


# --- cosine linear --------------------------------------------------------------------------------


def cosine(x, w):
    return x @ w.T / np.linalg.norm(x, axis=-1, keepdims=True) / np.linalg.norm(w, axis=1)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5)])
def test_cosine_linear(shape):
    x, layer = data(*shape), wide(nn.CosineLinear(5, 4))
    w = layer.weight.numpy()
    assert np.allclose(layer(tn.tensor(x)).numpy(), cosine(x, w), rtol=1e-12)
    layer = wide(nn.CosineLinear(5, 4, bias=True, scale=3.0, centered=True))
    put(layer.bias, [1.0, 2.0, 3.0, 4.0])
    w = layer.weight.numpy()
    y = 3 * cosine(x - x.mean(-1, keepdims=True), w - w.mean(1, keepdims=True)) + [1, 2, 3, 4]
    assert np.allclose(layer(tn.tensor(x)).numpy(), y, rtol=1e-12)


def test_the_learned_scale():
    layer = wide(nn.CosineLinear(9, 4, scale="learned"))
    assert layer.scale.shape == () and layer.scale.item() == 3.0 and not layer.scale.decay
    x, seed = data(3, 9), data(3, 4)
    (layer(tn.tensor(x)) * seed).sum().backward()
    assert np.isclose(layer.scale.grad.item(), (cosine(x, layer.weight.numpy()) * seed).sum())
    radial = (layer.weight.grad.numpy() * layer.weight.numpy()).sum(1)
    assert abs(radial).max() < 1e-14  # the length of a row has no effect
    with pytest.raises(ValueError, match=r"scale .*'auto'"):
        nn.CosineLinear(2, 2, scale="auto")
    with pytest.raises(ValueError, match=r"scale .*True"):
        nn.CosineLinear(2, 2, scale=True)


# --- containers -----------------------------------------------------------------------------------


def test_sequential():
    a, b, c = nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)
    model, x = nn.Sequential(a, b, c), tn.ones(4, 2)
    assert np.array_equal(model(x).numpy(), c(b(a(x))).numpy())
    assert len(model) == 3 and list(model) == [a, b, c] and model[-1] is c
    assert type(model[:2]) is nn.Sequential and list(model[:2]) == [a, b] and model[1:](b(a(x))).shape == (4, 1)
    assert model.append(nn.ReLU()) is model and len(model) == 4 and list(model.state_dict())[-1] == "2.bias"
    model[3] = nn.Sigmoid()
    assert isinstance(model[3], nn.Sigmoid) and len(model) == 4
    named = nn.Sequential({"in": a, "act": b})
    assert [n for n, _ in named.named_children()] == ["in", "act"] and named[0] is a
    twice = nn.Sequential(b, b)
    assert len(twice) == 2 and np.allclose(twice(x).numpy(), np.tanh(np.tanh(1)))
    assert nn.Sequential()(x) is x
    with pytest.raises(IndexError):
        model[9]


@pytest.mark.parametrize("kind", [lambda layers: nn.Sequential(*layers), nn.ModuleList])
def test_append_takes_no_name_that_is_there(kind):
    a, b, c, new, newer = (nn.Linear(2, 2) for _ in range(5))
    part = kind([a, b, c])[1:]
    assert list(part.append(new)) == [b, c, new] and list(part.extend([newer])) == [b, c, new, newer]
    model = kind([a, b, c])
    delattr(model, "0")
    assert list(model.append(new)) == [b, c, new]


def test_containers_hold_modules_only():
    with pytest.raises(TypeError, match=r"Sequential: '1' must be a Module; got .*function"):
        nn.Sequential(nn.ReLU(), F.relu)
    with pytest.raises(TypeError, match=r"write Sequential\(\*layers\)"):
        nn.Sequential([nn.ReLU()])
    with pytest.raises(ValueError, match=r"ModuleDict: .*'keys'"):
        nn.ModuleDict({"keys": nn.ReLU()})
    with pytest.raises(ValueError, match=r"'a\.b'"):
        nn.Sequential({"a.b": nn.ReLU()})
    with pytest.raises(TypeError, match="ModuleList"):
        nn.ModuleList([3])


def test_module_list_and_dict():
    layers = nn.ModuleList([nn.Linear(2, 2)])
    layers.append(nn.Linear(2, 2)).extend([nn.Linear(2, 2)])
    assert [n for n, _ in layers.named_parameters()][-1] == "2.bias" and len(layers[1:]) == 2
    new = nn.Linear(2, 5)
    layers[0] = new
    assert layers[0] is new and next(iter(layers)) is new
    named = nn.ModuleDict({"a": new})
    named["b"] = nn.ReLU()
    assert list(named) == ["a", "b"] == list(named.keys()) and dict(named.items())["a"] is new
    assert next(iter(named.values())) is new and "a" in named and "c" not in named and len(named) == 2
    del named["a"]
    assert list(named) == ["b"] and not list(named.parameters())
    with pytest.raises(KeyError):
        named["a"]


NORMS = [None, "batch", "layer", "weight", "cosine", "rms", "group"]
PARTS = {
    None: ["Linear", "ReLU", "Linear"],
    "batch": ["Linear", "BatchNorm1d", "ReLU", "Linear"],
    "layer": ["Linear", "LayerNorm", "ReLU", "Linear"],
    "weight": ["WeightNorm", "ReLU", "Linear"],
    "cosine": ["CosineLinear", "ReLU", "Linear"],
    "rms": ["Linear", "RMSNorm", "ReLU", "Linear"],
    "group": ["Linear", "GroupNorm", "ReLU", "Linear"],
}


@pytest.mark.parametrize("norm", NORMS)
def test_mlp_is_built_as_described(norm):
    model = nn.MLP([4, 8, 3], norm=norm)
    assert [type(m).__name__ for m in model] == PARTS[norm]
    assert model(tn.randn(5, 4)).shape == (5, 3)
    if norm == "batch":
        assert model[0].bias is None
    elif norm == "cosine":
        assert model[0].scale.item() == 2.0 and model[0].bias is not None
    elif norm != "weight":
        assert model[0].bias is not None


@pytest.mark.parametrize("norm", NORMS)
def test_every_parameter_of_an_mlp_learns(norm):
    model = nn.MLP([4, 8, 8, 3], norm=norm, activation="tanh")
    x, labels = tn.randn(30, 4), np.arange(30) % 3
    first = None
    for _ in range(150):
        model.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        first = first or loss.item()
        assert all(abs(p.grad.numpy()).max() > 1e-6 for p in model.parameters())
        with tn.no_grad():
            for p in model.parameters():
                p -= 0.15 * p.grad  # larger steps make chaos of groups of four
    assert loss.item() < 0.8 * first


def test_mlp_options():
    model = nn.MLP([4, 8, 8, 3], activation="gelu", dropout=0.2)
    parts = ["Linear", "GELU", "Dropout", "Linear", "GELU", "Dropout", "Linear"]
    assert [type(m).__name__ for m in model] == parts and model[2].p == 0.2
    assert len(nn.MLP([4, 3], norm="batch")) == 1 and not hasattr(nn.MLP([4, 8, 3]), "dropout1")
    assert [nn.MLP([2, n, 2], norm="group")[1].num_groups for n in (64, 12, 8, 7, 4, 1)] == [8, 3, 2, 1, 1, 1]
    for name in ("leaky_relu", "elu", "selu", "silu", "sigmoid", "tanh", "softplus", "hardtanh", "identity"):
        assert nn.MLP([4, 8, 3], activation=name)(tn.ones(2, 4)).shape == (2, 3)


def test_mlp_lists_what_exists():
    with pytest.raises(ValueError, match=r"norm must be one of None, 'batch', .*'group'; got 'batchnorm'"):
        nn.MLP([4, 8, 3], norm="batchnorm")
    with pytest.raises(ValueError, match=r"activation must be one of 'relu', .*; got 'rleu'"):
        nn.MLP([4, 8, 3], activation="rleu")
    with pytest.raises(ValueError, match=r"sizes\[1\].*8\.5"):
        nn.MLP([4, 8.5, 3])
    with pytest.raises(ValueError, match=r"at least the lengths of input and output; got \[4\]"):
        nn.MLP([4])
    with pytest.raises(ValueError, match=r"dropout .*1.5"):
        nn.MLP([4, 8, 3], dropout=1.5)
