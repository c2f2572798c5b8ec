"""The GPU's backend: the same results as on the CPU, no step that waits, errors where a value is read.

Without a GPU the stand-in of strict_cupy.py takes CuPy's place; ``--backend cuda`` runs the same tests on a real one.
"""

import ast
import gc
import inspect
import math
import os
import re
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import strict_cupy
from strict_cupy import METHODS, MODULE, SIGNATURES, UFUNCS, counts

import tinygrad_norm as tn
from tinygrad_norm import data, nn, optim, train
from tinygrad_norm import functional as F
from tinygrad_norm.backend import BACKENDS, DEVICES, backend_for, opening
from tinygrad_norm.backend import gpu as module
from tinygrad_norm.backend.base import NAMES
from tinygrad_norm.backend.gpu import GPU

ROOT = Path(__file__).resolve().parent.parent
X = np.random.default_rng(0).normal(size=(12, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 12)

LAYERS = {
    "batch": lambda: nn.BatchNorm1d(6), "layer": lambda: nn.LayerNorm(6), "rms": lambda: nn.RMSNorm(6),
    "group": lambda: nn.GroupNorm(3, 6), "mean only": lambda: nn.MeanOnlyBatchNorm1d(6),
    "weight": lambda: nn.WeightNorm(nn.Linear(6, 4)), "cosine": lambda: nn.CosineLinear(6, 4, scale="learned"),
    "centered": lambda: nn.CosineLinear(6, 4, centered=True),
    "standardized": lambda: nn.WeightStandardization(nn.Linear(6, 4)),
    "instance": lambda: nn.Sequential(Reshape(4, 3, 6), nn.InstanceNorm1d(3, affine=True)),
}  # fmt: skip
OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1), "momentum": lambda p: optim.SGD(p, 0.1, 0.9, 1e-2, nesterov=True),
    "Adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=1e-2), "AdamW": lambda p: optim.AdamW(p, lr=0.01),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.01),
}  # fmt: skip


class Reshape(nn.Module):
    def __init__(self, *shape):
        self.shape = shape

    def forward(self, x):
        return x.reshape(self.shape)


def net(norm="batch", dropout=0.0):
    tn.manual_seed(0)
    return nn.MLP([6, 8, 3], norm=norm, dropout=dropout)


def one_step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


def values(model):
    return {name: p.numpy().copy() for name, p in model.state_dict().items()}


def assert_close(a, b, tolerance=2e-5):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], tolerance, tolerance, err_msg=name)


def trained(device, steps=6, norm="batch", dropout=0.0, kind="Adam", clip=None):
    tn.set_default_device(device)
    model = net(norm, dropout)
    optimizer = OPTIMIZERS[kind](model.named_parameters())
    x, y = tn.tensor(X), tn.tensor(Y)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if clip is not None:
            optim.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    return model, optimizer, loss


# --- the same as on the CPU -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_a_normalization_gives_what_it_gives_on_the_cpu(gpu, name):
    found = []
    for device in ("cpu", gpu):
        tn.set_default_device(device)
        tn.manual_seed(3)
        layer = LAYERS[name]()
        x = tn.tensor(X, requires_grad=True)
        y = layer(x)
        (y * y * y).sum().backward()
        grads = {name: p.grad.numpy() for name, p in layer.named_parameters()}
        found.append(values(layer) | {"y": y.numpy(), "gx": x.grad.numpy()} | {f"g {k}": g for k, g in grads.items()})
        assert y.device == x.grad.device == device
    assert_close(*found)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_gives_what_it_gives_on_the_cpu(gpu, kind):
    (here, _, _), (there, optimizer, _) = (trained(device, kind=kind) for device in ("cpu", gpu))
    assert_close(values(here), values(there))
    assert {p.device for p in there.parameters()} == {gpu}
    assert all(
        isinstance(v, np.ndarray | list | int) for e in optimizer.state_dict()["state"].values() for v in e.values()
    )


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("limit", [0.1, 100.0])
def test_clipping_gives_what_it_gives_on_the_cpu(gpu, power, limit):
    found = []
    for device in ("cpu", gpu):
        xs = [tn.tensor(v, device=device, requires_grad=True) for v in ([3.0, -4.0], [[1.0]], 2.0)]
        sum(((x * x).sum() for x in xs), start=0.0).backward()
        norm = optim.clip_grad_norm_(xs, limit, power)
        assert norm.device == device and norm.dtype == "float32"
        found.append({"norm": norm.item()} | {str(i): x.grad.numpy() for i, x in enumerate(xs)})
    assert_close(*found, 1e-6)


@pytest.mark.parametrize(
    "gradient, norm",
    [
        ([0.0, 0.0], 0.0),
        ([3e30, 4e30], 5e30),
        ([3e-30, 4e-30], 5e-30),
        ([math.nan, 1.0], math.nan),
        ([-math.inf, 1.0], math.inf),
    ],
)
def test_clipping_at_the_ends_of_the_range(gpu, gradient, norm):
    x = tn.zeros(2, requires_grad=True)
    x.grad = tn.tensor(gradient)
    np.testing.assert_allclose(optim.clip_grad_norm_([x], 1e38).item(), norm, rtol=1e-6)
    np.testing.assert_array_equal(x.grad.numpy(), np.float32(gradient))


def test_one_seed_gives_one_start_and_one_mask_everywhere(gpu):
    starts, masks = [], []
    for device in ("cpu", gpu):
        tn.set_default_device(device)
        starts.append(values(net("weight")))
        tn.manual_seed(5)
        masks.append([F.dropout(tn.ones(1000), p).numpy() for p in (0.1, 0.5, 1.0)] + [tn.randn(7).numpy()])
    for name in starts[0]:
        np.testing.assert_array_equal(starts[0][name], starts[1][name])
    for here, there in zip(*masks, strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("norm", [None, "batch", "layer", "weight", "cosine", "rms", "group"])
def test_training_gives_what_it_gives_on_the_cpu(gpu, norm):
    runs = [trained(device, norm=norm, dropout=0.3, clip=1.0) for device in ("cpu", gpu)]
    assert_close(*(values(model) for model, _, _ in runs), 2e-4)
    assert runs[0][2].item() == pytest.approx(runs[1][2].item(), rel=1e-4)


def test_the_trainer_gives_what_it_gives_on_the_cpu(gpu):
    histories = []
    for device in ("cpu", gpu):
        tn.set_default_device(device)
        model = net(dropout=0.2)
        trainer = train.Trainer(model, optim.SGD(model.named_parameters(), lr=0.1), nn.CrossEntropyLoss(), "accuracy")
        loader = data.DataLoader(data.TensorDataset(X, Y), 4, shuffle=True, seed=1)
        history = trainer.fit(loader, 3, val_loader=loader, progress=False)
        histories.append({name: np.array(history[name]) for name in ("loss", "accuracy", "val_loss", "val_accuracy")})
        assert trainer.predict(X).device == device
    assert_close(*histories, 1e-4)


MADE = {
    **{name: [6, 4] for name in ("Linear", "CosineLinear", "Embedding", "RNN", "LSTM", "RNNCell", "LSTMCell")},
    **{name: [6] for name in ("BatchNorm1d", "BatchNorm2d", "LayerNorm", "RMSNorm", "MeanOnlyBatchNorm1d")},
    "GroupNorm": [2, 6], "InstanceNorm1d": [6], "InstanceNorm2d": [6], "Conv2d": [1, 2, 3], "MLP": [[6, 4, 2]],
}  # fmt: skip


def test_whatever_makes_parameters_or_tensors_takes_a_device(gpu):
    tn.set_default_device("cpu")
    affine = {"InstanceNorm1d": {"affine": True}, "InstanceNorm2d": {"affine": True}}
    for name, args in MADE.items():
        model = getattr(nn, name)(*args, device=gpu, dtype="float64", **affine.get(name, {}))
        made = [*model.parameters(), *(b for b in model.buffers() if b.dtype != "int64")]
        assert made and {(t.device, str(t.dtype)) for t in made} == {(gpu, "float64")}, name
    for norm in ("batch", "layer", "weight", "cosine", "rms", "group"):
        assert {t.device for t in nn.MLP([6, 4, 2], norm, device=gpu).parameters()} == {gpu}
    layers = {name: v for name, v in vars(nn).items() if isinstance(v, type) and issubclass(v, nn.Module)}
    assert {name for name, v in layers.items() if "device" in inspect.signature(v).parameters} == {*MADE}
    for name in "zeros ones empty rand randn eye arange linspace full".split():
        args = {"full": ((2, 3), 1.0), "linspace": (0.0, 1.0, 3)}.get(name, (3,))
        assert getattr(tn, name)(*args, device=gpu).device == gpu, name
    assert tn.randint(5, size=2, device=gpu).device == tn.tensor([1], device=gpu).device == gpu


def test_moving_a_model_and_back_changes_nothing(gpu):
    tn.set_default_device("cpu")
    model = net()
    before = values(model)
    parameters = list(model.parameters())
    assert model.to(gpu) is model and {p.device for p in model.parameters()} == {gpu}
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    model.to("cpu")
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])
    x = tn.tensor([1.0, 2.0], requires_grad=True)
    (x.to(gpu) * 3.0).sum().backward()
    assert x.grad.device == "cpu" and x.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("first, second", [("cpu", "gpu"), ("gpu", "cpu")])
def test_a_checkpoint_goes_on_where_another_device_stopped(gpu, first, second, tmp_path):
    first, second = (gpu if name == "gpu" else name for name in (first, second))
    expected, _, _ = trained("cpu", steps=9)
    model, optimizer, _ = trained(first, steps=6)
    train.save_checkpoint(tmp_path / "a.npz", model, optimizer)
    tn.set_default_device(second)
    model = nn.MLP([6, 8, 3], norm="batch")
    optimizer = OPTIMIZERS["Adam"](model.named_parameters())
    train.load_checkpoint(tmp_path / "a.npz", model, optimizer)
    for _ in range(3):
        one_step(model, optimizer, tn.tensor(X), tn.tensor(Y))
    assert_close(values(model), values(expected), 1e-4)


# --- no step waits --------------------------------------------------------------------------------------------------


def only_strict(gpu):
    if gpu != "strict":
        pytest.skip("only the stand-in counts transfers")


@pytest.mark.parametrize("norm", [None, "batch", "layer", "weight", "cosine", "rms", "group"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_training_step_moves_and_reads_nothing(gpu, kind, norm):
    only_strict(gpu)
    model = net(norm, dropout=0.2)
    optimizer = OPTIMIZERS[kind](model.named_parameters())
    x, y = tn.tensor(X), tn.tensor(Y)
    one_step(model, optimizer, x, y)
    counts.clear()
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
        loss.backward()
        optim.clip_grad_norm_(model.named_parameters(), 1.0)
        optimizer.step()
    assert not counts, counts
    loss.item()
    assert counts == {"get": 2}  # the loss, and whether a check has found something


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, y: F.cross_entropy(z, y, weight=tn.ones(3), label_smoothing=0.1),
        lambda z, y: F.cross_entropy(z, y, ignore_index=1),
        lambda z, y: F.nll_loss(F.log_softmax(z), y),
        lambda z, y: F.mse_loss(z, z.detach() * 0.5),
        lambda z, y: F.huber_loss(z, z.detach() * 0.5) + F.l1_loss(z, z.detach() * 0.1),
        lambda z, y: F.binary_cross_entropy_with_logits(z, F.sigmoid(z).detach()),
        lambda z, y: F.whiten(z, "newton").sum() + F.gelu(z).sum() + F.softmax(z)[:, y].sum(),
    ],
)
def test_a_loss_moves_and_reads_nothing(gpu, loss):
    only_strict(gpu)
    z, y = tn.tensor(X[:, :3], requires_grad=True), tn.tensor(Y)
    w = tn.ones(3)
    tn.ones = lambda *_: w  # making a tensor of given values is a transfer, and none of the loss's
    try:
        counts.clear()
        loss(z, y).backward()
        assert not counts, counts
    finally:
        del tn.ones
        from tinygrad_norm.ops.create import ones

        tn.ones = ones


def sequences(rnn):
    """A net that reads the last of a recurrent layer's outputs."""

    class Last(nn.Module):
        def __init__(self):
            self.rnn, self.linear = rnn, nn.Linear(5, 3)

        def forward(self, x):
            return self.linear(self.rnn(x)[0][-1])

    return Last()


NETS = {
    "pictures": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3),
        nn.GroupNorm(2, 4), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3),
    ),
    "pictures, instance norm": lambda: nn.Sequential(
        nn.WeightNorm(nn.Conv2d(3, 4, 3)), nn.InstanceNorm2d(4, affine=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 3),
    ),
    "pictures, standardized weights": lambda: nn.Sequential(
        nn.WeightStandardization(nn.Conv2d(3, 4, 3)), nn.Flatten(), nn.Linear(144, 3)
    ),
    "pictures, activations": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(192, 4), nn.SiLU(), nn.ELU(), nn.MeanOnlyBatchNorm1d(4), nn.SELU(), nn.Softplus(),
        nn.Hardtanh(), nn.Tanh(), nn.LeakyReLU(), nn.Sigmoid(), nn.Linear(4, 3),
    ),
    "sequences, LSTM": lambda: sequences(nn.LSTM(4, 5)),
    "sequences, LSTM with layer norm": lambda: sequences(nn.LSTM(4, 5, norm="layer")),
    "sequences, RNN": lambda: sequences(nn.RNN(4, 5)),
    "words": lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_a_step_of_any_net_moves_and_reads_nothing(gpu, name):
    only_strict(gpu)
    draw = np.random.default_rng(0)
    x = tn.tensor({
        "pictures": draw.normal(size=(6, 3, 8, 8)).astype("float32"), "words": draw.integers(0, 9, (6, 5)),
        "sequences": draw.normal(size=(5, 6, 4)).astype("float32"),
    }[name.split(",")[0]])  # fmt: skip
    model, y = NETS[name](), tn.tensor(Y[:6])
    optimizer = optim.Adam(model.named_parameters())
    one_step(model, optimizer, x, y)
    counts.clear()
    loss = one_step(model, optimizer, x, y)
    assert not counts, counts
    assert 0 < loss.item() < 10


def test_the_definitions_of_the_norms_move_and_read_nothing_either(gpu):
    only_strict(gpu)
    x, mean, var = tn.tensor(X, requires_grad=True), tn.zeros(6), tn.ones(6)
    seed = tn.ones(12, 6)
    counts.clear()
    with tn.composite():
        y = F.batch_norm(x, mean, var, training=True)
        y.backward(seed)
    assert y.dtype == x.grad.dtype == mean.dtype == "float32" and not counts, counts


def test_the_trainer_reads_only_when_an_epoch_ends(gpu):
    only_strict(gpu)
    model = net()
    trainer = train.Trainer(model, optim.Adam(model.named_parameters()), nn.CrossEntropyLoss(), "accuracy")
    batches = [(tn.tensor(X[i : i + 4]), tn.tensor(Y[i : i + 4])) for i in (0, 4, 8)] * 10
    counts.clear()
    trainer.fit(batches, 1, progress=False)
    assert counts["put"] == counts["scalar"] == 0 and counts["get"] <= 4, counts
    assert 0 < trainer.history["loss"][0] < 10


# --- errors, told where a value is read -----------------------------------------------------------------------------

READS = {
    "item": lambda loss, model: loss.item(),
    "numpy": lambda loss, model: model.state_dict(),
    "print": lambda loss, model: str(loss),
    "to the cpu": lambda loss, model: loss.cpu(),
    "truth": lambda loss, model: bool(loss > 0),
    "synchronize": lambda loss, model: backend_for(loss.device).synchronize(),
}


@pytest.mark.promise("P12")
@pytest.mark.parametrize("read", READS)
def test_a_bad_label_changes_nothing_and_is_told_at_the_next_read(gpu, read):
    model = net()
    optimizer = optim.Adam(model.named_parameters(), lr=0.1)
    x, good, bad = tn.tensor(X), tn.tensor(Y), tn.tensor([*Y[:7], 9, *Y[8:11], -1])
    one_step(model, optimizer, x, good)
    parameters = {name: p.numpy().copy() for name, p in model.named_parameters()}
    state = optimizer.state_dict()["state"]
    loss = one_step(model, optimizer, x, bad)
    one_step(model, optimizer, x, good)  # nothing more happens until the error is told
    text = r"cross_entropy: labels must be integers in \[0, 3\) for logits of shape \(12, 3\); got 9 at position 7"
    with pytest.raises(ValueError, match=text) as caught:
        READS[read](loss, model)
    assert "raised where a value is read" in caught.value.__notes__[0]
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(p.numpy(), parameters[name])
    for name, entry in optimizer.state_dict()["state"].items():
        for key in ("exp_avg", "exp_avg_sq"):
            np.testing.assert_array_equal(entry[key], state[name][key])
    one_step(model, optimizer, x, good).item()
    assert any((p.numpy() != parameters[name]).any() for name, p in model.named_parameters())


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(gpu, kind, bad):
    model = net(norm=None)
    optimizer = OPTIMIZERS[kind](model.named_parameters())
    x, y = tn.tensor(X), tn.tensor(Y)
    one_step(model, optimizer, x, y)
    before, state = values(model), optimizer.state_dict()["state"]
    name, p = list(model.named_parameters())[2]
    g = np.zeros(p.shape, "float32")
    g[1, 2] = bad
    for q in model.parameters():
        q.grad = tn.ones_like(q)
    p.grad = tn.tensor(g)
    optimizer.step()
    with pytest.raises(
        FloatingPointError, match=rf"step 2: the gradient of '{name}' is not finite \({bad} at \(1, 2\)\)"
    ):
        tn.zeros(1).item()
    for key, value in values(model).items():
        np.testing.assert_array_equal(value, before[key])
    for key, entry in optimizer.state_dict()["state"].items():
        for array in set(entry) - {"steps", "shape"}:
            np.testing.assert_array_equal(entry[array], state[key][array])


def test_without_the_check_a_gradient_goes_through(gpu):
    x = tn.zeros(2, requires_grad=True)
    x.grad = tn.tensor([math.nan, 1.0])
    optim.SGD([x], lr=1.0, check_finite=False).step()
    assert math.isnan(x[0].item()) and x[1].item() == -1.0


@pytest.mark.parametrize(
    "index, text",
    [
        (lambda: tn.tensor([0, 12]), "index 12, at position 1 of the index array, .* axis 0 with size 12"),
        (lambda: tn.tensor([0, -13]), "index -13, at position 1"),
        (lambda: [3, 40], "index 40, at position 1"),
        (lambda: np.array([[3], [40]]), "index 40, at position 1"),
        (lambda: (slice(None), [0, 6]), "index 6, .* axis 1 with size 6"),
        (lambda: (..., tn.tensor([7])), "index 7, .* axis 1 with size 6"),
        (lambda: (None, tn.tensor([7]), tn.tensor([99])), "index 99, .* axis 1 with size 6"),
    ],
)  # fmt: skip
def test_an_index_out_of_range_is_told(gpu, index, text):
    x, fits = tn.tensor(X), tn.tensor([7])
    for use in (lambda: x[index()], lambda: x.__setitem__(index(), 0.0)):
        use()
        with pytest.raises(IndexError, match=text):
            x.numpy()
    np.testing.assert_array_equal(x[fits, tn.tensor([-6])].numpy(), x.numpy()[[7], [-6]])


def test_indexing_gives_what_numpy_gives(gpu):
    x, host = tn.tensor(X), X.copy()
    mask = X[:, 0] > 0
    for index in ([0, 11, -12], np.array([2, 2]), (..., [1, -1]), (None, 3), (slice(2, 9, 3), [0]), mask, (mask, 2), 5):
        np.testing.assert_array_equal(x[index].numpy(), host[index])
        x[index] = 1.5
        host[index] = 1.5
        np.testing.assert_array_equal(x.numpy(), host)
    x[1] = [1, 2, 3, 4, 5, 6]
    assert x[1].tolist() == [1, 2, 3, 4, 5, 6]


def test_looking_for_anomalies_tells_at_once(gpu):
    z, labels = tn.tensor(X[:2, :3]), tn.tensor([0, 5])
    with tn.detect_anomaly(), pytest.raises(ValueError, match="got 5 at position 1"):
        F.cross_entropy(z, labels)


def test_the_first_error_is_the_one_that_is_told(gpu):
    z = tn.tensor(X[:2, :3])
    F.cross_entropy(z, tn.tensor([0, 5]))
    F.cross_entropy(z, tn.tensor([7, 0]))
    with pytest.raises(ValueError, match="got 5 at position 1"):
        z.numpy()
    z.numpy()


def test_messages_are_kept_for_as_long_as_is_said(gpu, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 3)
    z, good = tn.tensor(X[:2, :3]), tn.tensor([0, 1])
    F.cross_entropy(z, tn.tensor([0, 5]))
    for _ in range(4):
        F.cross_entropy(z, good)
    assert len(backend_for(gpu).notes.errors) == 3
    with pytest.raises(RuntimeError, match=r"a check 4 checks ago has found a bad value; .* every 3 checks"):
        z.numpy()


def test_a_check_keeps_no_memory_of_the_device(gpu):
    z, y = tn.tensor(X[:2, :3]), tn.tensor([0, 1])
    arrays = [weakref.ref(t) for t in (y, z)]
    F.cross_entropy(z, y)
    del z, y
    gc.collect()
    assert [ref() for ref in arrays] == [None, None]
    tn.zeros(1).numpy()


def test_the_trainer_tells_of_a_loss_that_is_not_finite(gpu):
    model = net(norm=None)
    before = values(model)
    optimizer = optim.SGD(model.named_parameters(), lr=0.1)
    bad = X.copy()
    bad[5] = np.nan
    trainer = train.Trainer(model, optimizer, nn.CrossEntropyLoss())
    with pytest.raises(FloatingPointError, match=r"epoch 1, batch 1 \(step 1\): the loss is nan"):
        trainer.fit([(tn.tensor(bad), tn.tensor(Y))] * 3, 1, progress=False)
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])


# --- several devices ------------------------------------------------------------------------------------------------

MIXED = {
    "add: .*shape .12, 6. .* on 'GPU' and .*shape .6,. .* on 'cpu'": lambda x, h: x + h[0],
    "multiply: .* on 'GPU' and .* on 'cpu'": lambda x, h: x * tn.tensor(h, device="cpu"),
    "subtract: .* on 'cpu' and .* on 'GPU'": lambda x, h: h - x,
    "linear: .* on 'GPU' and .* on 'cpu'": lambda x, h: nn.Linear(6, 2, device="cpu")(x),
    "cross_entropy: input on 'GPU', target on 'cpu'": lambda x, h: F.cross_entropy(x, tn.tensor(Y, device="cpu")),
    "cross_entropy: input on 'GPU', weight on 'cpu'": lambda x, h: F.cross_entropy(
        x, tn.tensor(Y), tn.ones(6, device="cpu")
    ),
    "mse_loss: input on 'GPU', target on 'cpu'": lambda x, h: F.mse_loss(x, tn.tensor(h, device="cpu")),
    "concatenate: .* on 'GPU' and .* on 'cpu'": lambda x, h: tn.concatenate([x, tn.tensor(h, device="cpu")]),
    "matmul: .* on 'GPU' and .* on 'cpu'": lambda x, h: x @ tn.tensor(h.T, device="cpu"),
    "norm: .* on 'GPU' and .* on 'cpu'": lambda x, h: nn.LayerNorm(6, device="cpu")(x),
    "weight_norm: .* on 'GPU' and .* on 'cpu'": lambda x, h: F.weight_norm(x, tn.ones(12, 1, device="cpu")),
    "cosine_linear: .* on 'GPU' and .* on 'cpu'": lambda x, h: F.cosine_linear(x, tn.tensor(h, device="cpu")),
    "assignment: target on 'GPU', value on 'cpu'": lambda x, h: x.detach().__setitem__(0, h[0]),
    "backward: .* is on 'GPU', gradient ndarray .* is not": lambda x, h: (x * 2.0).backward(h),
    "grad: the tensor is on 'GPU', the gradient on 'cpu'": lambda x, h: setattr(x, "grad", tn.tensor(h, device="cpu")),
    "batch statistics .* on 'GPU', running .* on 'cpu'": lambda x, h: nn.BatchNorm1d(6, affine=False).to("cpu")(x),
    "as_numpy|lives on 'GPU'": lambda x, h: np.asarray(x.detach()),
}


@pytest.mark.parametrize("text", MIXED)
def test_mixed_devices_name_both(gpu, text):
    with pytest.raises(TypeError, match=text.replace("GPU", gpu)):
        MIXED[text](tn.tensor(X, requires_grad=True), X)


def test_gradients_on_two_devices_are_not_clipped_together(gpu):
    xs = [tn.ones(2, device=device, requires_grad=True) for device in ("cpu", gpu)]
    for x in xs:
        x.grad = tn.ones_like(x)
    with pytest.raises(TypeError, match=f"all gradients must be on one device; got .* on 'cpu' and .* on '{gpu}'"):
        optim.clip_grad_norm_(xs, 1.0)


def test_an_optimizer_made_before_the_move_says_so(gpu):
    tn.set_default_device("cpu")
    model = net()
    optimizer = optim.SGD(model.named_parameters(), lr=0.1)
    model.to(gpu)
    with pytest.raises(RuntimeError, match=f"is now float32 on '{gpu}' but was float32 on 'cpu'"):
        one_step(model, optimizer, tn.tensor(X, device=gpu), tn.tensor(Y, device=gpu))


def test_views_of_one_element_are_not_written_to(gpu):
    with pytest.raises(ValueError, match="broadcast or read-only view"):
        tn.zeros(1).broadcast_to(3)[0] = 1.0


@pytest.mark.parametrize("dtype", tn.DTYPES)
def test_every_dtype_makes_the_journey(gpu, dtype):
    host = np.array([[0, 1], [1, 1]], dtype)
    x = tn.tensor(host)
    assert x.device == gpu and x.dtype == dtype
    np.testing.assert_array_equal(x.numpy(), host)


def test_a_dtype_that_a_device_has_not_is_refused_by_name(gpu):
    with pytest.raises(
        TypeError, match=f"device '{gpu}' holds no dtype (longdouble|float128|float96); it holds float16"
    ):
        backend_for(gpu).from_host(np.zeros(2, np.longdouble))


# --- what is missing, and what it says ------------------------------------------------------------------------------


def fake(monkeypatch, **runtime):
    """``import cupy`` gives the stand-in, with parts of its ``cuda.runtime`` replaced."""
    monkeypatch.setitem(sys.modules, "cupy", MODULE)
    for name, value in runtime.items():
        monkeypatch.setattr(MODULE.cuda.runtime, name, value)


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)


def broken_cupy(monkeypatch):
    monkeypatch.setattr(opening.importlib, "import_module", failing(ImportError("libcudart.so.12: cannot open\nmore")))


def no_driver(monkeypatch):
    error = strict_cupy.CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
    fake(monkeypatch, getDeviceCount=failing(error), driverGetVersion=lambda: 0)


def old_driver(monkeypatch, driver=12040):
    error = strict_cupy.CUDARuntimeError("cudaErrorInsufficientDriver")
    fake(monkeypatch, getDeviceCount=failing(error), driverGetVersion=lambda: driver, runtimeGetVersion=lambda: 13000)


def very_old_driver(monkeypatch):
    old_driver(monkeypatch, 11080)


def hidden_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    fake(monkeypatch, getDeviceCount=failing(strict_cupy.CUDARuntimeError("cudaErrorNoDevice: no device")))


def no_libraries(monkeypatch):
    fake(monkeypatch)
    monkeypatch.setattr(MODULE, "arange", failing(RuntimeError("libnvrtc.so.12: cannot open shared object file\nx")))


MISSING = {
    no_cupy: r"'cuda' is not available: CuPy is not installed; .*tinygrad_norm\[cuda12\].*tinygrad_norm\[cuda13\]",
    broken_cupy: r"installed but cannot be imported \(ImportError: libcudart.so.12: cannot open\); for the CUDA",
    no_driver: r"CuPy 14.0.0\+strict is installed, but no NVIDIA driver is: this machine has no GPU, or its driver",
    old_driver: r"but it was built for CUDA 13.0 and the driver here serves CUDA 12.4; write: python -m pip uninstall "
    r"cupy-cuda13x; python -m pip install .tinygrad_norm\[cuda12\]",
    very_old_driver: r"built for CUDA 13.0 and the driver here serves CUDA 11.8; update the driver$",
    hidden_gpu: r"no usable GPU \(CUDARuntimeError: cudaErrorNoDevice: no device\); CUDA_VISIBLE_DEVICES='' is set",
    no_libraries: r"finds a GPU but cannot compute on it \(RuntimeError: libnvrtc.so.12: cannot open shared",
}


@pytest.mark.parametrize("how", MISSING, ids=lambda how: how.__name__)
def test_what_is_missing_is_said_in_one_sentence(monkeypatch, how):
    monkeypatch.delitem(DEVICES, "cuda", raising=False)
    how(monkeypatch)
    for ask in (lambda: tn.zeros(2, device="cuda"), lambda: tn.ones(2).cuda(), lambda: tn.set_default_device("cuda")):
        with pytest.raises(ValueError, match=MISSING[how]) as caught:
            ask()
        assert "\n" not in str(caught.value)
    if how is not no_libraries:
        assert not tn.cuda.is_available() and tn.cuda.device_count() == 0
    tn.cuda.synchronize()
    tn.cuda.empty_cache()
    assert tn.cuda.memory_allocated() == 0 and "cuda" not in DEVICES


@pytest.mark.parametrize(
    "name, text",
    [
        ("tpu", "'tpu' is not available; this machine has 'cpu'.* and, with a GPU and CuPy, 'cuda'"),
        ("cuda:1", "'cuda:1' is not available; .*'cuda', the first that CUDA_VISIBLE_DEVICES names"),
        (0, "0 is not available; this machine has 'cpu'"),
    ],
)
def test_an_unknown_device_lists_those_that_exist(name, text):
    with pytest.raises(ValueError, match=text):
        tn.zeros(2, device=name)


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """The device "cuda" over the stand-in, as ``open_gpu`` opens it."""
    fake(monkeypatch)
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    before = BACKENDS.get(MODULE.ndarray)
    monkeypatch.setattr(MODULE, "allocator", staticmethod(failing(strict_cupy.OutOfMemoryError("out of memory"))))
    text = r"^cuda: kernels.cu cannot be used, .*: kernels.cu\(7\): error: no compiler in the stand-in$"
    with pytest.warns(RuntimeWarning, match=text) as seen:
        backend = backend_for("cuda")
    assert len(seen) == 1
    yield backend
    del DEVICES["cuda"], BACKENDS[MODULE.ndarray]
    if before is not None:
        BACKENDS[MODULE.ndarray] = before


def test_kernels_that_do_not_compile_are_done_without_after_one_warning(opened):
    assert type(opened) is GPU and backend_for("cuda") is opened
    assert tn.cuda.is_available() and tn.cuda.device_count() == 1 and tn.cuda.memory_allocated() == 64
    x = tn.ones(3).cuda()
    assert repr(x) == "tensor([1., 1., 1.], device='cuda')" and x.to("cuda") is x
    F.cross_entropy(tn.zeros(1, 2, device="cuda"), tn.tensor([2], device="cuda"))
    with pytest.raises(ValueError, match="got 2 at position 0"):
        tn.cuda.synchronize()
    tn.cuda.empty_cache()


def test_out_of_memory_says_what_was_asked_and_what_is_free(opened):
    with pytest.raises(
        MemoryError, match=r"no room for 4,096 bytes: 1,000 of the GPU's 8,000 bytes are free, 512 are held"
    ):
        MODULE.allocator(4096)


def test_out_of_memory_in_an_operation_names_it(gpu, monkeypatch):
    x = tn.ones(2, 3)
    monkeypatch.setattr(backend_for(gpu), "exp", failing(MemoryError("cuda: no room for 24 bytes")), raising=False)
    with pytest.raises(MemoryError) as caught:
        tn.exp(x)
    text = str(caught.value) + " ".join(getattr(caught.value, "__notes__", []))
    assert "no room for 24 bytes" in text and "exp" in text and "(2, 3)" in text


def run(*command, env=(), folder=None, where=None):
    """A Python process in which ``import cupy`` finds the stand-in, if ``folder`` is where to put that."""
    places = [str(ROOT), str(ROOT / "tests")]
    if folder is not None:
        text = "import sys, atexit, strict_cupy\nsys.modules['cupy'] = strict_cupy.MODULE\n"
        text += "atexit.register(lambda: print(strict_cupy.counts.total(), 'transfers', file=sys.stderr))\n"
        (folder / "cupy.py").write_text(text)
        places.insert(0, str(folder))
    env = os.environ | {"PYTHONPATH": os.pathsep.join(places), "PYTHONWARNINGS": "ignore"} | dict(env)
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=env, cwd=where, timeout=300)


def test_importing_the_package_imports_no_cupy_and_prints_nothing():
    done = run("-c", "import sys, tinygrad_norm as tn; tn.zeros(2); sys.exit('cupy' in sys.modules)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_environment_puts_an_unchanged_script_on_the_gpu(tmp_path):
    script = "import tinygrad_norm as tn; m = tn.nn.Linear(2, 1); print(tn.get_default_device(), m.weight.device)"
    env = {"TINYGRAD_NORM_DEVICE": "cuda"}
    assert run("-c", script, env=env, folder=tmp_path).stdout == "cuda cuda\n"
    done = run("-c", script, env={"TINYGRAD_NORM_DEVICE": "toaster"})
    assert "ValueError: device: 'toaster' is not available" in done.stderr
    assert "TINYGRAD_NORM_DEVICE asked for it" in done.stderr


def test_the_command_line_trains_and_evaluates_on_the_gpu(tmp_path):
    command = ["-m", "tinygrad_norm"]
    options = ["--device", "cuda", "--quiet"]
    out = ["--out", str(tmp_path / "run")]
    done = run(*command, "train", "--epochs", "1", *options, *out, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (net,) = (tmp_path / "run").rglob("*.npz")
    done = run(*command, "evaluate", str(net), *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run(*command, "evaluate", str(net), "--quiet")  # written on one device, read on the other
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["gradcheck --op relu", "invariance --norm layer"])
def test_other_commands_compute_on_the_gpu(command, tmp_path):
    done = run("-m", "tinygrad_norm", *command.split(), "--device", "cuda", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"(\d+) transfers", done.stderr)[1]) > 10


def test_the_example_runs_on_the_gpu_and_its_checkpoint_on_the_cpu(tmp_path):
    folder = tmp_path / "cupy"
    folder.mkdir()
    done = run(str(ROOT / "examples" / "swap_backend.py"), folder=folder, where=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "device: cuda" in done.stdout and "So this runs on the CPU" not in done.stdout
    one, other = re.search(r"the checkpoint on the CPU takes a (\d) for a (\d)", done.stdout).groups()
    assert one == other


# --- the stand-in is strict -----------------------------------------------------------------------------------------

REFUSED = {
    "NumPy's function": lambda x: np.sum(x),
    "conversion": lambda x: np.asarray(x),
    "a NumPy operand": lambda x: x + np.ones(3, "float32"),
    "a NumPy operand on the left": lambda x: np.ones(3, "float32") * x,
    "a NumPy operand of a function": lambda x: MODULE.maximum(x, np.ones(3)),
    "a NumPy value written": lambda x: x.__setitem__(0, np.ones(())),
    "where=": lambda x: MODULE.sum(x, where=x > 0),
    "initial=": lambda x: MODULE.max(x, initial=0.0),
    "a method's initial=": lambda x: x.max(initial=0.0),
    "where= of a function": lambda x: MODULE.add(x, x, where=x > 0),
    "out= of NumPy": lambda x: MODULE.add(x, x, out=np.ones(3)),
    "no such function": lambda x: MODULE.nansum(x),
    "no errstate": lambda x: MODULE.errstate(all="ignore"),
    "a list to join": lambda x: MODULE.concatenate([x, [1.0]]),
    "a condition that is no array": lambda x: MODULE.where(True, x, x),
    "adding integers at an index": lambda x: MODULE.add.at(x.astype("int64"), 0, 1),
    "another function's at": lambda x: MODULE.multiply.at(x, 0, 1.0),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_stand_in_refuses(what):
    with pytest.raises((TypeError, AttributeError, NotImplementedError)):
        REFUSED[what](MODULE.asarray(np.ones(3, "float32")))


def test_the_stand_in_counts_and_computes_as_cupy_does():
    x = MODULE.asarray(np.arange(3, dtype="float32"))
    counts.clear()
    for read in (float, int, bool, lambda v: v.item()):
        read(x[1])
    assert counts == {"scalar": 4}
    x.get()
    MODULE.asarray(np.ones(2))
    assert counts == {"scalar": 4, "get": 1, "put": 1}
    assert type(x.sum()) is type(x[0]) is MODULE.ndarray and x.sum().shape == ()
    assert (x * np.float64(2)).dtype == "float64" and (x * 2.0).dtype == "float32"
    assert x[MODULE.asarray(np.array([4]))].get() == 1.0  # wraps
    assert np.isnan(MODULE.empty(3).get()).all()
    y = MODULE.broadcast_to(x[:1], (3,))
    y[0] = 7.0
    assert y.get().tolist() == [7.0, 7.0, 7.0] and y.base is x
    assert not hasattr(x.flags, "writeable") and x.real is x


# --- the real CuPy --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cupy():
    return pytest.importorskip("cupy", reason="CuPy is not installed (it needs no GPU for this): the extra gputest")


def shape_of(signature):
    """Names, kinds and whether there is a default: what a call depends on."""
    kinds = inspect.Parameter
    return [(p.name, p.kind, p.default is not kinds.empty) for p in signature.parameters.values()]


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_function_of_the_stand_in_has_the_arguments_of_cupys(cupy, name):
    assert shape_of(strict_cupy.signature(SIGNATURES[name])) == shape_of(inspect.signature(getattr(cupy, name)))


@pytest.mark.parametrize("name", UFUNCS)
def test_an_elementwise_function_takes_every_float_in_cupy(cupy, name):
    ufunc, numpys = getattr(cupy, name), getattr(np, name)
    assert isinstance(ufunc, cupy.ufunc) and (ufunc.nin, ufunc.nout) == (numpys.nin, numpys.nout)
    taken = {loop[0] for loop in ufunc.types}
    assert set("efd") <= taken
    complex_in_numpy = any(loop[0] == "D" for loop in numpys.types) and not name.startswith("logical")
    assert "D" in taken or not complex_in_numpy


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_the_stand_in_has_the_arguments_of_cupys(cupy, name):
    first = getattr(cupy.ndarray, name).__doc__.splitlines()[0]
    text = first[first.index("(") + 1 : first.rindex(")")].replace("_ndarray_base ", "").replace("self, ", "")
    assert shape_of(strict_cupy.signature(METHODS[name])) == shape_of(strict_cupy.signature(text)), first


def test_the_stand_in_has_every_function_of_a_backend_and_no_more():
    assert {*NAMES} <= {*SIGNATURES, *UFUNCS, "asarray"}
    assert {*SIGNATURES, *UFUNCS} <= {*NAMES, "sum"}


STANDS_FOR = {"library": "", "cuda": "cuda.", "runtime": "cuda.runtime."}  # names in the package, and what in CuPy


def names_of_cupy(text):
    """All that a file reads of CuPy: ``library.cuda.Module`` and the like, whatever ``library`` is an attribute of."""
    for node in ast.walk(ast.parse(text)):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node.id in STANDS_FOR and parts:
            yield STANDS_FOR[node.id] + ".".join(parts)
        elif "library" in parts[:-1]:
            yield ".".join(parts[parts.index("library") + 1 :])
        elif isinstance(node, ast.Call) and ast.unparse(node) == "importlib.import_module('cupy')" and parts:
            yield ".".join(parts)


def member(cupy, name):
    """What a dotted name stands for; an error where CuPy has no such thing."""
    for part in name.split("."):
        cupy = getattr(cupy, part)
    return cupy


def test_what_the_backend_uses_besides_is_in_cupy(cupy):
    of_objects = """
    ndarray.get ndarray.base ndarray.T ndarray.real ndarray.flags ndarray.strides ndarray.item cuda.Stream.synchronize
    cuda.Module.load cuda.Module.get_function cuda.Device.compute_capability cuda.MemoryPool.used_bytes
    cuda.MemoryPool.total_bytes cuda.MemoryPool.free_all_blocks
    """
    read = {name for path in ROOT.glob("tinygrad_norm/**/*.py") for name in names_of_cupy(path.read_text("utf-8"))}
    assert {"cuda.nvrtc.getVersion", "cuda.runtime.CUDARuntimeError", "get_default_memory_pool", "add.at"} <= read
    for name in (*of_objects.split(), *read):
        member(cupy, name)
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
    inspect.signature(cupy.cuda.compiler.compile_using_nvrtc).bind("source", ("-std=c++17",), filename="kernels.cu")
    inspect.signature(cupy.linalg.eigh).bind(0)
    assert int(cupy.__version__.split(".")[0]) >= 14


def test_a_name_that_cupy_has_not_is_seen(cupy):
    text = "self.library.cuda.nonsense\nlibrary.nothing(1)\nruntime.never\nlibrary.add.at(x)"
    found = {*names_of_cupy(text)}
    assert found == {"cuda.nonsense", "cuda", "nothing", "cuda.runtime.never", "add.at", "add"}
    for name in found - {"cuda", "add", "add.at"}:
        with pytest.raises(AttributeError):
            member(cupy, name)


def test_the_real_cupy_without_a_gpu_is_told_apart(cupy, monkeypatch):
    if cupy.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.delitem(DEVICES, "cuda", raising=False)
    with pytest.raises(ValueError, match=rf"CuPy {cupy.__version__} is installed, but (no NVIDIA driver is|.*driver)"):
        tn.zeros(1, device="cuda")
