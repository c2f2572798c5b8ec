"""NormMonitor: what it records is what a training loop by hand sees, and training does not notice it."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import data, nn, optim, train

X, Y = data.moons(60, noise=0.1)
ROWS = ["step", "mean", "std", "p15", "p50", "p85", "counts", "edges"]


def made(model=None, **options):
    tn.manual_seed(0)
    model = model or nn.MLP([2, 6, 5, 2], norm="batch")
    optimizer = optim.SGD(model.named_parameters(), lr=0.1, momentum=0.9)
    return train.Trainer(model, optimizer, nn.CrossEntropyLoss(), **options)


def loader(batch_size=10):
    return data.DataLoader(data.TensorDataset(X, Y), batch_size=batch_size)


def fitted(model=None, epochs=2, val_loader=None, **options):
    monitor = train.NormMonitor(**options)
    trainer = made(model, callbacks=[monitor])
    trainer.fit(loader(), epochs, val_loader=val_loader, progress=False)
    return monitor, trainer


def test_the_record_is_what_a_loop_by_hand_sees(backend):
    monitor, _ = fitted(every=4, bins=7)
    trainer = made()
    model, optimizer = trainer.model, trainer.optimizer
    names = ["linear1", "norm1", "activation1", "linear2", "norm2", "activation2", "linear3"]
    assert list(monitor.activations) == list(monitor.gradients) == names
    parts, place = dict(model.named_modules()), 0
    for step, (x, y) in enumerate([*loader(), *loader()], 1):
        outputs = {}
        for name in names:
            x = outputs[name] = parts[name](x)
            x.retain_grad()
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(x, y).backward()
        optimizer.step()
        if step not in (1, 5, 9):
            continue
        for name, h in outputs.items():
            for series, values in ((monitor.activations[name], h.numpy()), (monitor.gradients[name], h.grad.numpy())):
                values = values.astype(np.float64)
                assert list(series) == ROWS and series["step"][place] == step
                assert series["mean"][place] == values.mean() and series["std"][place] == values.std()
                assert [series[f"p{p}"][place] for p in (15, 50, 85)] == np.percentile(values, (15, 50, 85)).tolist()
                counts, edges = np.histogram(values, 7)
                assert np.array_equal(series["counts"][place], counts)
                assert np.array_equal(series["edges"][place], edges)
        for name, p in model.named_parameters():
            if p.ndim == 2:
                series = monitor.weights[name]
                assert series["step"] == [1, 5, 9]
                assert np.isclose(series["norm"][place], np.linalg.norm(p.numpy()), rtol=1e-6)
                assert np.isclose(series["grad_norm"][place], np.linalg.norm(p.grad.numpy()), rtol=1e-6)
        for name, v in [*model.named_parameters(), *model.named_buffers()]:
            if v.ndim == 1:
                series = monitor.vectors[name]
                assert (series["low"][place], series["high"][place]) == (v.numpy().min(), v.numpy().max())
                assert np.isclose(series["mean"][place], v.numpy().mean(), rtol=1e-5, atol=1e-7)
        place += 1
    assert place == 3 and {"norm1.running_var", "norm2.bias", "linear3.bias"} <= set(monitor.vectors)
    assert not any("num_batches" in name for name in monitor.vectors)


@pytest.mark.parametrize("norm", [None, "batch", "layer", "weight", "cosine"])
def test_training_does_not_notice_it(norm, backend):
    plain, watched = (made(nn.MLP([2, 8, 8, 2], norm=norm)) for _ in range(2))
    watched.model.load_state_dict(plain.model.state_dict())
    watched.callbacks.append(train.NormMonitor(every=1))
    for trainer in (plain, watched):
        trainer.fit(loader(), 3, val_loader=loader(), progress=False)
    for name, value in plain.model.state_dict().items():
        assert np.array_equal(value.numpy(), watched.model.state_dict()[name].numpy())
    assert plain.history["loss"] == watched.history["loss"]


def test_validation_and_prediction_are_not_recorded():
    monitor, trainer = fitted(every=1, val_loader=loader(30))
    for series in (monitor.activations["norm1"], monitor.gradients["norm1"]):
        assert series["step"] == list(range(1, 13))
        assert {int(c.sum()) for c in series["counts"]} == {10 * 6}  # batches of 10, not of validation's 30
    before = copy.deepcopy(monitor.activations)
    trainer.model(X)
    trainer.evaluate(loader())
    assert len(before["linear1"]["mean"]) == len(monitor.activations["linear1"]["mean"]) == 12
    assert not any(module._forward_hooks for module in trainer.model.modules())


def test_a_second_fit_goes_on_and_a_new_trainer_begins_anew():
    monitor, trainer = fitted(every=5, epochs=1)
    trainer.fit(loader(), 1, progress=False)
    assert monitor.activations["linear1"]["step"] == monitor.weights["linear1.weight"]["step"] == [1, 6, 11]
    made(callbacks=[monitor]).fit(loader(), 1, progress=False)
    assert monitor.activations["linear1"]["step"] == monitor.vectors["norm1.bias"]["step"]
    assert monitor.activations["linear1"]["step"] == [1, 6]


def test_an_error_removes_the_hooks_and_leaves_the_record_whole():
    class Breaks(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls == 4:
                raise KeyError("broken")
            return x

    model = nn.Sequential(nn.Linear(2, 2), Breaks())
    monitor = train.NormMonitor(every=1)
    trainer = made(model, callbacks=[monitor])
    with pytest.raises(KeyError):
        trainer.fit(loader(), 1, progress=False)
    assert not any(module._forward_hooks for module in model.modules())
    assert monitor.activations["0"]["step"] == monitor.gradients["0"]["step"] == [1, 2, 3]
    trainer.fit(loader(), 1, progress=False)
    assert monitor.activations["0"]["step"] == monitor.gradients["0"]["step"] == list(range(1, 10))


def test_layers_may_be_chosen():
    monitor, _ = fitted(layers=["norm2", ""])
    assert list(monitor.activations) == ["norm2", ""]
    with pytest.raises(ValueError, match=r"names of modules, linear1, norm1, .*; got \['nrm2'\]"):
        fitted(layers=["norm2", "nrm2"])


def test_wrapped_frozen_repeated_and_absent_modules():
    class Model(nn.Module):
        def __init__(self):
            self.frozen = nn.Linear(2, 3).requires_grad_(False)
            self.drop = nn.Dropout(0.5)
            self.wrapped = nn.WeightNorm(nn.Linear(3, 3))
            self.twice = nn.Linear(3, 3)
            self.unused = nn.Linear(3, 3)
            self.two = Two()

        def forward(self, x):
            self.seen = self.twice(self.wrapped(self.drop(self.frozen(x))))
            return self.two(self.twice(self.seen))[0]

    class Two(nn.Module):
        def forward(self, x):
            return x[:, :2], x

    model = Model()
    monitor, _ = fitted(model, every=1, epochs=1)
    assert list(monitor.activations) == ["frozen", "wrapped.layer", "twice", "two"]
    assert monitor.gradients["frozen"] == {}
    assert len(monitor.activations["twice"]["step"]) == len(monitor.gradients["twice"]["step"]) == 6
    assert monitor.activations["twice"]["mean"][-1] == model.seen.numpy().astype(np.float64).mean()
    assert set(monitor.weights) >= {"wrapped.weight_g", "wrapped.weight_v"}
    assert np.isnan(monitor.weights["unused.weight"]["grad_norm"]).all()


def test_what_is_not_finite_is_recorded_as_such():
    class Blows(nn.Module):
        def forward(self, x):
            return tn.where(tn.arange(4) > 2, x.detach() * np.inf, x)

    model = nn.Sequential(nn.Linear(2, 4), Blows(), nn.Hardtanh(), nn.Linear(4, 2))
    monitor, _ = fitted(model, every=3, epochs=1)
    series = monitor.activations["1"]
    assert not np.isfinite(series["std"]).any()
    assert [c.sum() for c in series["counts"]] == [30, 30]
    assert np.isfinite(series["edges"]).all()


def test_it_can_be_copied_and_pickled_with_its_record():
    monitor, _ = fitted(every=3)
    for other in (copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))):
        assert other.weights == monitor.weights


@pytest.mark.parametrize("options", [{"every": 0}, {"every": 2.0}, {"every": True}, {"bins": 0}])
def test_numbers_out_of_range(options):
    (name, value), *_ = options.items()
    with pytest.raises(ValueError, match=f"NormMonitor: {name} must be an integer of at least 1; got {value}"):
        train.NormMonitor(**options)
