"""The training loop: what it computes, what it records, and what it does when things go wrong."""

import csv
import io
import json
import os
import signal
import threading
import time

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import data, nn, optim, train
from tinygrad_norm.train.progress import Progress, clock


def xor_loader(batch_size=20, n=80, **options):
    return data.DataLoader(data.TensorDataset(*data.xor(n)), batch_size, **options)


def xor_trainer(norm=None, lr=0.1, dropout=0.0, **options):
    tn.manual_seed(0)
    model = nn.MLP([2, 8, 2], norm=norm, dropout=dropout)
    optimizer = optim.SGD(model.named_parameters(), lr=lr, momentum=0.9)
    return train.Trainer(model, optimizer, F.cross_entropy, **options)


def values(model):
    return {name: x.numpy().copy() for name, x in model.state_dict().items()}


def same(a, b):
    return list(a) == list(b) and all(np.array_equal(a[k], b[k]) for k in a)


# ---- what it computes


def test_digits_end_to_end():
    x_train, x_test, y_train, y_test = data.train_test_split(*data.digits(), test_size=0.25, seed=0)
    loaders = [
        data.DataLoader(data.TensorDataset(x_train, y_train), batch_size=64, shuffle=True, seed=0),
        data.DataLoader(data.TensorDataset(x_test, y_test), batch_size=256),
    ]
    tn.manual_seed(0)
    model = nn.MLP([64, 64, 10], norm="batch")
    optimizer = optim.SGD(model.named_parameters(), lr=0.1, momentum=0.9)
    trainer = train.Trainer(model, optimizer, nn.CrossEntropyLoss(), metrics=["accuracy"])
    history = trainer.fit(loaders[0], 10, val_loader=loaders[1], progress=False)
    assert history["val_accuracy"][-1] > 0.93
    assert history["loss"][-1] < history["loss"][0]
    assert trainer.evaluate(loaders[1]) == {
        "loss": history["val_loss"][-1],
        "accuracy": history["val_accuracy"][-1],
    }
    assert np.mean(trainer.predict(x_test).numpy().argmax(1) == y_test.numpy()) == history["val_accuracy"][-1]


@pytest.mark.parametrize("norm", [None, "batch"])
def test_the_trainer_does_what_a_loop_by_hand_does(norm):
    trainer = xor_trainer(norm)
    trainer.fit(xor_loader(shuffle=True, seed=3), 3, progress=False)

    other = xor_trainer(norm)
    model, optimizer = other.model, other.optimizer
    loader = xor_loader(shuffle=True, seed=3)
    for _ in range(3):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert same(values(trainer.model), values(model))
    assert (trainer.epoch, trainer.step) == (3, 12)


def test_two_fits_are_one():
    whole, parts = xor_trainer(), xor_trainer()
    whole.fit(xor_loader(shuffle=True, seed=3), 5, progress=False)
    loader = xor_loader(shuffle=True, seed=3)
    parts.fit(loader, 2, progress=False)
    history = parts.fit(loader, 3, progress=False)
    assert same(values(whole.model), values(parts.model))
    assert history["loss"] == whole.history["loss"] and history.epochs == 5


def test_epoch_means_weigh_batches_by_their_rows():
    x, y = data.xor(50)
    trainer = xor_trainer(lr=0.0, metrics={"acc": "accuracy", "first": lambda p, t: t[:1].sum()})
    history = trainer.fit(data.DataLoader(data.TensorDataset(x, y), 20), 1, progress=False)
    with tn.no_grad():
        y_pred = trainer.model(x)
        loss = F.cross_entropy(y_pred, y).item()
    assert history["loss"][0] == pytest.approx(loss, rel=1e-6)
    assert history["acc"][0] == pytest.approx(np.mean(y_pred.numpy().argmax(1) == y.numpy()))
    labels = y.numpy()
    assert history["first"][0] == pytest.approx((20 * labels[0] + 20 * labels[20] + 10 * labels[40]) / 50)


def test_metrics_get_tensors_without_history():
    seen = []
    trainer = xor_trainer(metrics={"seen": lambda p, t: seen.append(p.requires_grad) or 0.0})
    trainer.fit(xor_loader(), 1, val_loader=xor_loader(), progress=False)
    assert seen == [False] * 8


def test_columns_and_learning_rates():
    trainer = xor_trainer(metrics="accuracy")
    trainer.scheduler = optim.lr_scheduler.StepLR(trainer.optimizer, step_size=2, gamma=0.5)
    history = trainer.fit(xor_loader(), 4, val_loader=xor_loader(), progress=False)
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
    assert history["lr"] == [0.1, 0.1, 0.05, 0.05]
    assert all(s > 0 for s in history["seconds"])


def test_a_plateau_schedule_gets_the_validation_loss():
    trainer = xor_trainer(lr=0.0)
    trainer.scheduler = optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer, patience=0)
    trainer.fit(xor_loader(), 1, val_loader=xor_loader(n=8), progress=False)
    assert trainer.scheduler.best == trainer.history["val_loss"][0] != trainer.history["loss"][0]


def test_several_inputs_and_plain_arrays():
    class Sum(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(2, 1)

        def forward(self, a, b):
            return self.linear(a + b)

    a, b, y = np.ones((3, 4, 2), np.float32), np.ones((3, 4, 2), np.float32), np.ones((3, 4, 1), np.float32)
    model = Sum()
    trainer = train.Trainer(model, optim.SGD(model.parameters(), lr=0.1), F.mse_loss)
    history = trainer.fit(list(zip(a, b, y)), 30, progress=False)
    assert history["loss"][-1] < 1e-3 * history["loss"][0]


def test_predict_in_parts_and_without_side_effects():
    trainer = xor_trainer("batch", dropout=0.5)
    x, _ = data.xor(50)
    before = values(trainer.model)
    whole = trainer.predict(x)
    assert np.allclose(whole.numpy(), trainer.predict(x.numpy(), batch_size=7).numpy(), rtol=1e-5)
    assert not whole.requires_grad and trainer.model.training
    assert same(before, values(trainer.model))
    assert trainer.predict(x[:0]).shape == (0, 2)


def test_evaluate_changes_nothing():
    trainer = xor_trainer("batch", dropout=0.5)
    before, state = values(trainer.model), tn.backend.random.get_state()
    trainer.evaluate(xor_loader())
    assert same(before, values(trainer.model)) and state == tn.backend.random.get_state()
    assert all(p.grad is None for p in trainer.model.parameters())


def test_every_module_gets_its_mode_back():
    trainer = xor_trainer("batch", dropout=0.5)
    trainer.model.norm1.eval()
    modes = {name: m.training for name, m in trainer.model.named_modules()}
    seen = []
    trainer.model.norm1.register_forward_hook(lambda m, inputs, y: seen.append(m.training))
    trainer.fit(xor_loader(80), 1, val_loader=xor_loader(80), progress=False)
    assert seen == [True, False]
    assert {name: m.training for name, m in trainer.model.named_modules()} == modes


@pytest.mark.parametrize(
    "y_pred, y, share",
    [
        ([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0]], [1, 0, 1], 2 / 3),
        ([[[0.0, 3.0], [1.0, 0.0]]], [[1, 0]], 1.0),
        ([-1.0, 2.0, 0.5, 3.0], [0.0, 1.0, 0.0, 1.0], 0.75),
        ([[-1.0], [2.0]], [[1.0], [1.0]], 0.5),
        ([[-1.0, 2.0], [3.0, 4.0]], [[0, 1], [0, 1]], 0.75),
    ],
)
def test_accuracy(y_pred, y, share):
    assert train.metrics.accuracy(tn.tensor(y_pred), tn.tensor(y)) == pytest.approx(share)


def test_accuracy_does_not_guess_what_floats_of_its_shape_mean():
    with pytest.raises(ValueError, match=r"accuracy: y .*\(3, 2\).* accuracy\(y_pred, y.argmax\(1\)\) for classes"):
        train.metrics.accuracy(tn.zeros(3, 2), tn.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]))


def test_accuracy_refuses_what_would_broadcast():
    with pytest.raises(ValueError, match=r"accuracy: .* got Tensor of shape \(4, 1\).* shape \(3,\)"):
        train.metrics.accuracy(tn.zeros(4, 1), tn.zeros(3))


# ---- a last batch of one row


def test_a_last_batch_of_one_row_is_left_out_and_said_once():
    trainer = xor_trainer("batch")
    with pytest.warns(train.TrainingWarning, match="last batch has one row") as record:
        trainer.fit(xor_loader(20, n=41), 2, progress=False)
        trainer.fit(xor_loader(20, n=41), 1, progress=False)
    assert len(record) == 1
    assert record[0].filename == __file__
    assert trainer.step == 6


def test_a_last_batch_of_one_row_is_kept_without_batch_norm():
    trainer = xor_trainer("layer")
    trainer.fit(xor_loader(20, n=41), 1, progress=False)
    assert trainer.step == 3


def steps_of(norm, x, rows=5):
    """How many batches of 2 out of 5 rows are used."""
    model = nn.Sequential(norm, nn.Flatten(), nn.Linear(x[0].size, 2))
    trainer = train.Trainer(model, optim.SGD(model.parameters(), lr=0.1), F.cross_entropy)
    trainer.fit(data.DataLoader(data.TensorDataset(x, np.zeros(rows, int)), 2), 1, progress=False)
    return trainer.step


def test_a_last_batch_of_one_row_is_kept_by_norms_that_do_not_compare_rows():
    x = np.random.default_rng(0).standard_normal((5, 3, 4, 4)).astype("float32")
    assert steps_of(nn.BatchNorm2d(3), x) == steps_of(nn.InstanceNorm2d(3, track_running_stats=True), x) == 3
    assert steps_of(nn.InstanceNorm1d(3), x[..., 0]) == 3


def test_a_last_batch_of_one_row_is_left_out_for_mean_only_batch_norm():
    with pytest.warns(train.TrainingWarning, match="last batch has one row"):
        assert steps_of(nn.MeanOnlyBatchNorm1d(3), np.ones((5, 3), "float32")) == 2


def test_batches_of_one_row_by_intention_reach_the_layer_which_refuses():
    with pytest.raises(ValueError, match="more than one value") as caught:
        xor_trainer("batch").fit(xor_loader(1, n=4), 1, progress=False)
    assert "in epoch 1, batch 1 (step 1) of fit" in caught.value.__notes__


# ---- what goes wrong


def test_a_loss_that_is_not_finite_stops_before_any_parameter_changes():
    trainer = xor_trainer()
    trainer.fit(xor_loader(), 1, progress=False)
    calls = []

    def loss(y_pred, y):
        calls.append(1)
        factor = float("nan") if len(calls) == 7 else 1.0
        snapshots.append(values(trainer.model))
        return F.cross_entropy(y_pred, y) * factor

    snapshots = []
    trainer.loss = loss
    with pytest.raises(FloatingPointError, match=r"fit: epoch 3, batch 3 \(step 11\): the loss is nan.*rate, now 0\.1"):
        trainer.fit(xor_loader(), 4, progress=False)
    assert same(values(trainer.model), snapshots[-1])
    assert (trainer.epoch, trainer.step, trainer.history.epochs) == (2, 10, 2)


def test_bad_data_is_named():
    x = np.zeros((4, 2), np.float32)
    x[2, 1] = np.nan
    with pytest.raises(FloatingPointError, match=r"Entry 0 of the batch, of shape \(4, 2\), is not finite"):
        xor_trainer().fit([(x, np.zeros(4, int))], 1, progress=False)


def test_running_statistics_that_took_in_bad_data_are_named():
    x = np.full((4, 2), np.nan, np.float32)
    trainer = xor_trainer("batch")
    text = r"before this step, but norm1.running_mean, norm1.running_var took in what is not finite: load a checkpoint"
    with pytest.raises(FloatingPointError, match=text):
        trainer.fit([(x, np.zeros(4, int))], 1, progress=False)
    assert np.isnan(trainer.model.norm1.running_mean.numpy()).all()


def test_a_gradient_that_is_not_finite_names_parameter_and_place():
    class Root(tn.Op):
        @staticmethod
        def forward(xp, x):
            return x * 1.0

        backward = (lambda xp, g, y, x: g * float("nan"),)

    trainer = xor_trainer()
    trainer.loss = lambda y_pred, y: F.cross_entropy(tn.apply(Root, y_pred), y)
    before = values(trainer.model)
    with pytest.raises(FloatingPointError, match=r"'linear1\.weight' is not finite") as caught:
        trainer.fit(xor_loader(), 1, progress=False)
    assert "in epoch 1, batch 1 (step 1) of fit" in caught.value.__notes__
    assert same(before, values(trainer.model))


def test_check_finite_false_lets_it_through():
    trainer = xor_trainer()
    trainer.optimizer.check_finite = False
    trainer.loss = lambda y_pred, y: F.cross_entropy(y_pred, y) * float("nan")
    trainer.fit(xor_loader(), 1, progress=False)
    assert np.isnan(trainer.model.linear1.weight.numpy()).all()


class Log(train.Callback):
    """Writes down which hooks are called, and raises in one of them."""

    def __init__(self, error=None, at=None):
        self.calls, self.error, self.at = [], error, at

    def note(self, *call):
        self.calls.append(call)
        if self.error is not None and call == self.at:
            raise self.error

    def on_fit_begin(self, trainer):
        self.note("fit begin")

    def on_epoch_begin(self, trainer):
        self.note("epoch begin", trainer.epoch)

    def on_batch_end(self, trainer, loss):
        self.note("batch end", trainer.step)
        assert loss > 0 and all(p.grad is not None for p in trainer.model.parameters())

    def on_epoch_end(self, trainer):
        self.note("epoch end", trainer.epoch)
        assert trainer.history.epochs == trainer.epoch

    def on_fit_end(self, trainer, interrupted):
        self.note("fit end", interrupted)


def test_callbacks_in_order():
    log = Log()
    xor_trainer(callbacks=log).fit(xor_loader(40), 2, progress=False)
    expected = [("fit begin",)]
    for epoch in range(2):
        expected += [("epoch begin", epoch), ("batch end", 2 * epoch + 1), ("batch end", 2 * epoch + 2)]
        expected += [("epoch end", epoch + 1)]
    assert log.calls == [*expected, ("fit end", False)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_an_error_leaves_everything_usable(error):
    log = Log(error("stop"), at=("batch end", 6))
    trainer = xor_trainer("batch", callbacks=[log])
    trainer.model.norm1.eval()
    with pytest.raises(error):
        trainer.fit(xor_loader(), 3, progress=False)
    assert log.calls[-1] == ("fit end", True)
    assert trainer.history.epochs == 1 and trainer.step == 6
    assert trainer.model.training and not trainer.model.norm1.training
    assert tn.is_grad_enabled()
    log.error = None
    assert trainer.fit(xor_loader(), 2, progress=False).epochs == 3


def test_a_real_ctrl_c():
    class Press(train.Callback):
        def on_epoch_end(self, trainer):
            if trainer.epoch == 2:
                threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()

    trainer = xor_trainer("batch", dropout=0.5, callbacks=[Press()])
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(xor_loader(), 10**6, progress=False)
    assert time.monotonic() - began < 30
    assert trainer.history.epochs == trainer.epoch >= 2
    assert all(np.isfinite(v).all() for v in values(trainer.model).values())
    trainer.callbacks = []
    trainer.fit(xor_loader(), 1, progress=False)
    assert trainer.predict(data.xor(4)[0]).shape == (4, 2)


# ---- callbacks


class Script(train.Callback):
    """Stands in for validation: puts planned numbers into the history."""

    def __init__(self, numbers):
        self.numbers = numbers

    def on_epoch_end(self, trainer):
        trainer.history["val_loss"][-1] = self.numbers[trainer.epoch - 1]


def fit_scripted(numbers, *callbacks, trainer=None):
    trainer = trainer or xor_trainer()
    trainer.callbacks = [Script(numbers), *callbacks]
    trainer.fit(xor_loader(), len(numbers) - trainer.epoch, val_loader=xor_loader(), progress=False)
    return trainer


@pytest.mark.parametrize(
    "numbers, patience, min_delta, mode, epochs",
    [
        ([5, 4, 3, 2, 1], 0, 0.0, None, 5),
        ([5, 4, 4, 3, 2], 0, 0.0, None, 3),
        ([5, 4, 4, 4, 3], 1, 0.0, None, 4),
        ([5, 4, 6, 3, 3, 3, 3], 2, 0.0, None, 7),
        ([5, 4.5, 4.2, 4.1, 1], 1, 1.0, None, 3),
        ([5, 4.5, 3.9, 3.8, 3.7], 1, 1.0, None, 5),
        ([1, 2, 3, 3, 3, 3], 1, 0.0, "max", 5),
        ([5, float("nan"), float("-inf"), 1], 1, 0.0, None, 3),
    ],
)
def test_early_stopping(numbers, patience, min_delta, mode, epochs):
    stop = train.EarlyStopping(patience=patience, min_delta=min_delta, mode=mode)
    assert fit_scripted(numbers, stop).epoch == epochs


@pytest.mark.parametrize("restore_best", [True, False])
def test_early_stopping_restores_the_best_epoch(restore_best):
    states = []

    class Keep(train.Callback):
        def on_epoch_end(self, trainer):
            states.append(values(trainer.model))

    stop = train.EarlyStopping(patience=2, restore_best=restore_best)
    trainer = fit_scripted([5, 3, 4, 4, 4, 4], Keep(), stop)
    assert len(states) == 5
    assert same(values(trainer.model), states[1 if restore_best else -1])


def test_an_interrupted_fit_keeps_what_it_has():
    log, stop = Log(KeyboardInterrupt(), at=("epoch begin", 3)), train.EarlyStopping(patience=9)
    trainer = xor_trainer()
    with pytest.raises(KeyboardInterrupt):
        fit_scripted([1, 2, 3, 4], log, stop, trainer=trainer)
    whole = xor_trainer()
    whole.fit(xor_loader(), 3, progress=False)
    assert same(values(whole.model), values(trainer.model))


def test_of_a_metric_that_is_new_the_mean_over_the_interrupted_epoch_is_not_known(tmp_path):
    class Stop(train.Callback):
        def on_batch_end(self, trainer, loss):
            if trainer.step == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        xor_trainer(callbacks=[train.Checkpoint(tmp_path / "a.npz"), Stop()]).fit(xor_loader(), 2, progress=False)
    trainer = xor_trainer(metrics="accuracy", callbacks=[train.Checkpoint(tmp_path / "a.npz")])
    history = trainer.fit(xor_loader(), 2, progress=False, resume=True)
    assert trainer.step == 8 and np.isnan(history["accuracy"][0]) and 0 <= history["accuracy"][1] <= 1
    assert history["loss"] == xor_trainer().fit(xor_loader(), 2, progress=False)["loss"]


def test_early_stopping_after_a_break_counts_on_and_says_what_it_cannot_do():
    stop = train.EarlyStopping(patience=2)
    trainer = fit_scripted([5, 3, 4], stop)
    with pytest.warns(train.TrainingWarning, match="the best epoch, 2, lies before this fit"):
        fit_scripted([5, 3, 4, 4, 4, 4, 4], stop, trainer=trainer)
    assert trainer.epoch == 5


def test_accuracy_is_better_when_higher():
    assert train.EarlyStopping("val_accuracy").best_epoch([0.1, 0.9, 0.5]) == 2
    assert train.EarlyStopping("score", mode="max").best_epoch([0.1, 0.9, 0.9]) == 2
    assert train.EarlyStopping("val_loss").best_epoch([]) == 0


def test_checkpoints_keep_the_last_and_the_best(tmp_path):
    save = train.Checkpoint(tmp_path / "runs" / "a.npz", keep=2)
    trainer = fit_scripted([5, 2, 4, 3], save)
    names = ["a-best.npz", "a-epoch0003.npz", "a-epoch0004.npz"]
    assert sorted(os.listdir(tmp_path / "runs")) == names
    assert save.best_path == os.fspath(tmp_path / "runs" / names[0])
    meta = xor_trainer().restore(tmp_path / "runs" / "a-epoch0004.npz", xor_loader())
    assert (meta["epoch"], meta["step"]) == (4, 16)
    assert meta["history"] == dict(trainer.history)
    assert xor_trainer().restore(save.best_path, xor_loader())["epoch"] == 2


def test_a_checkpoint_without_validation_looks_at_the_training_loss(tmp_path):
    def fit(epochs, val_loader=None, **options):
        save = train.Checkpoint(tmp_path / "a.npz", **options)
        trainer = xor_trainer(callbacks=[save])
        trainer.fit(xor_loader(), epochs, val_loader, progress=False, resume=True)
        return save, trainer

    fit(2)
    save, trainer = fit(4)
    assert trainer.epoch == 4 and save.monitor == "loss" and os.path.exists(save.best_path)
    assert fit(5, xor_loader())[0].monitor == "val_loss"
    with pytest.raises(ValueError, match=r"got 'val_loss'.*give fit a val_loader"):
        fit(6, monitor="val_loss")


def test_a_restored_trainer_continues_bitwise(tmp_path):
    def make():
        trainer = xor_trainer("batch", dropout=0.3, metrics="accuracy")
        trainer.scheduler = optim.lr_scheduler.CosineAnnealingLR(trainer.optimizer, T_max=6)
        return trainer, xor_loader(shuffle=True, seed=1)

    whole, loader = make()
    whole.fit(loader, 6, val_loader=xor_loader(), progress=False)

    first, loader = make()
    first.callbacks = [train.Checkpoint(tmp_path / "a.npz", save_best=False)]
    first.fit(loader, 4, val_loader=xor_loader(), progress=False)

    tn.manual_seed(99)
    second, loader = make()
    second.restore(tmp_path / "a-epoch0004.npz", loader)
    second.fit(loader, 2, val_loader=xor_loader(), progress=False)
    assert same(values(whole.model), values(second.model))
    assert (second.epoch, second.step) == (whole.epoch, whole.step)
    del whole.history._values["seconds"], second.history._values["seconds"]
    assert dict(whole.history) == dict(second.history)


def test_a_checkpoint_from_inside_an_epoch(tmp_path):
    class SaveAt(train.Callback):
        def __init__(self, step):
            self.step = step

        def on_batch_end(self, trainer, loss):
            if trainer.step == self.step:
                parts = {"optimizer": trainer.optimizer, "loader": trainer.train_loader}
                meta = {"epoch": trainer.epoch, "step": trainer.step}
                train.save_checkpoint(tmp_path / "a.npz", trainer.model, **parts, **meta)

    for step in (6, 8):  # in the second epoch, and at its very end
        whole = xor_trainer(dropout=0.3, callbacks=[SaveAt(step)])
        whole.fit(xor_loader(shuffle=True, seed=1), 3, progress=False)
        rest, loader = xor_trainer(dropout=0.3), xor_loader(shuffle=True, seed=1)
        rest.restore(tmp_path / "a.npz", loader)
        rest.fit(loader, 2, progress=False)
        assert same(values(whole.model), values(rest.model))
        assert (rest.epoch, rest.step) == (3, 12)


def test_csv_logger(tmp_path):
    path = tmp_path / "history.csv"
    trainer = xor_trainer(callbacks=[train.CSVLogger(path)], metrics="accuracy")
    history = trainer.fit(xor_loader(), 3, progress=False)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for name in history:
        assert [float(row[name]) for row in rows] == history[name]


def test_what_cannot_be_written_is_said_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    for callback in (train.CSVLogger(tmp_path / "no" / "a.csv"), train.Checkpoint(tmp_path / "file" / "a.npz", "loss")):
        trainer = xor_trainer(callbacks=[callback])
        with pytest.raises(OSError):
            trainer.fit(xor_loader(), 1, progress=False)
        assert trainer.step == 0


# ---- history


def test_history_is_a_mapping():
    history = train.History({"loss": [1, 2]})
    assert dict(history) == {"loss": [1.0, 2.0]} and len(history) == 1 and history.epochs == 2
    assert dict(train.History()) == {} and train.History().epochs == 0
    with pytest.raises(KeyError):
        history["accuracy"]
    with pytest.raises(ValueError, match="one number per epoch; got lengths"):
        train.History({"a": [1.0], "b": []})


def test_history_fills_gaps():
    history = train.History()
    history.append({"loss": 1.0})
    history.append({"loss": 0.5, "val_loss": 2.0})
    history.append({"val_loss": 1.0})
    assert np.isnan(history["val_loss"][0]) and np.isnan(history["loss"][2])
    rows = list(csv.reader(io.StringIO(history.to_csv())))
    assert rows == [["epoch", "loss", "val_loss"], ["1", "1.0", ""], ["2", "0.5", "2.0"], ["3", "", "1.0"]]
    assert json.loads(history.to_json()) == {"loss": [1.0, 0.5, None], "val_loss": [None, 2.0, 1.0]}


def test_history_files(tmp_path):
    history = train.History({"loss": [0.1 + 0.2]})
    history.to_json(tmp_path / "a.json")
    history.to_csv(tmp_path / "a.csv")
    assert json.loads((tmp_path / "a.json").read_text()) == {"loss": [0.1 + 0.2]}
    assert (tmp_path / "a.csv").read_text() == f"epoch,loss\n1,{0.1 + 0.2!r}\n"


def test_a_long_history_is_shown_short():
    lines = repr(train.History({"loss": range(100)})).splitlines()
    assert lines[0] == "History: 100 epochs" and len(lines) == 15
    assert lines[1].split() == ["epoch", "loss"] and lines[8] == "  ..."
    assert lines[2].split() == ["1", "0"] and lines[-1].split() == ["100", "99"]


# ---- progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_a_line_per_epoch(capsys):
    xor_trainer(metrics="accuracy").fit(xor_loader(), 12, val_loader=xor_loader())
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 12 and "\r" not in err
    assert lines[0].startswith("epoch  1/12  loss ")
    for name in ("accuracy", "val_loss", "val_accuracy", "lr", "seconds"):
        assert f" {name} " in lines[-1]


def test_no_progress_on_demand(capsys):
    xor_trainer().fit(xor_loader(), 2, progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_live_line_on_a_terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr("tinygrad_norm.train.progress.REDRAW", 0.0)
    monkeypatch.setenv("COLUMNS", "100")
    xor_trainer(metrics="accuracy").fit(xor_loader(), 2)
    text = stream.getvalue()
    assert text.count("\n") == 1 and text.endswith("\n")
    drawn = text.strip().split("\r")
    assert len(drawn) == 2 * (4 + 1)
    assert drawn[1].startswith("epoch 1/2  2/4 steps  loss ") and "accuracy" in drawn[1]
    assert "steps/s  ETA 0:0" in drawn[1]
    assert drawn[-1].startswith("epoch 2/2  loss ") and "seconds" in drawn[-1]


def test_the_live_line_fits_the_terminal_and_is_wiped(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", "30")
    shown = Progress(True, 10, None, None)
    shown.epoch(1, {"loss": 0.5, "a_metric_with_a_long_name": 0.25})
    shown.epoch(2, {"l": 1.0})
    shown.clear()
    shown.close()
    first, second, wiped = stream.getvalue()[1:].split("\r")[:3]
    assert len(first) == 29 and second.startswith("epoch  2/10  l 1") and len(second) == 29
    assert wiped.strip() == "" and not stream.getvalue().endswith("\n")


def test_the_live_line_is_not_drawn_at_every_step(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    shown = Progress(True, 1, 1000, 1000)
    for step in range(1000):
        shown.step(1, step, dict)
    assert len(stream.getvalue()) < 1000


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3600)] == ["0:00", "1:00", "1:00:00"]


# ---- bad input


def good():
    model = nn.Linear(2, 2)
    return {"model": model, "optimizer": optim.SGD(model.parameters(), lr=0.1), "loss": F.cross_entropy}


@pytest.mark.parametrize(
    "change, error, text",
    [
        ({"model": F.relu}, TypeError, r"model must be a tinygrad_norm.nn.module.Module; got .*function"),
        ({"optimizer": 0.1}, TypeError, r"optimizer must be a .*Optimizer; got 0\.1 \(float\)"),
        ({"loss": "mse"}, TypeError, "loss must be a function"),
        ({"scheduler": 0.1}, TypeError, "scheduler must be"),
        ({"callbacks": [print]}, TypeError, "a callback must be a .*Callback; got <built-in function print>"),
        ({"metrics": "acuracy"}, ValueError, "a metric must be one of 'accuracy' or a function .* got 'acuracy'"),
        ({"metrics": ["accuracy", "accuracy"]}, ValueError, "cannot be named 'accuracy'"),
        ({"metrics": {"loss": max}}, ValueError, "cannot be named 'loss'"),
        ({"metrics": [lambda p, y: 0]}, ValueError, "cannot be named '<lambda>'.* write metrics={'name': function}"),
        ({"metrics": 3}, TypeError, "metrics must be names"),
        ({"device": "tpu"}, ValueError, "'tpu' is not available"),
    ],
)
def test_bad_arguments(change, error, text):
    with pytest.raises(error, match=text):
        train.Trainer(**(good() | change))


def test_a_model_elsewhere(monkeypatch):
    monkeypatch.setitem(tn.backend.DEVICES, "moon", tn.backend.cpu)
    with pytest.raises(ValueError, match=r"model is on 'cpu', device is 'moon'; write model\.to\('moon'\) before"):
        train.Trainer(**good(), device="moon")


@pytest.mark.parametrize(
    "loader, epochs, error, text",
    [
        (xor_loader(), 1.5, ValueError, r"epochs must be an integer of at least 0; got 1\.5"),
        (xor_loader(), -1, ValueError, "got -1"),
        (5, 1, TypeError, "train_loader must give batches"),
        (tn.zeros(3, 2), 1, TypeError, "train_loader must give batches"),
        (iter([]), 1, TypeError, "an iterator only once: write list"),
        ([], 1, ValueError, "train_loader has no batches"),
        ([tn.zeros(3, 2)], 1, TypeError, r"a batch must be a tuple \(x, y\)"),
        ([(tn.zeros(3, 2),)], 1, TypeError, r"a batch must be a tuple \(x, y\)"),
        ([(tn.zeros(3, 2), tn.tensor(1))], 1, TypeError, r"a row per sample; got Tensor of shape \(\)"),
    ],
)
def test_bad_loaders(loader, epochs, error, text):
    trainer = train.Trainer(**good())
    with pytest.raises(error, match=text):
        trainer.fit(loader, epochs, progress=False)
    assert trainer.step == 0


def test_evaluate_and_predict_refuse():
    trainer = train.Trainer(**good())
    with pytest.raises(ValueError, match="no batches"):
        trainer.evaluate(iter([]))
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1; got 0"):
        trainer.predict(tn.zeros(3, 2), batch_size=0)
    with pytest.raises(ValueError, match=r"predict: x must have shape \(N, \.\.\.\)"):
        trainer.predict(1.0)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: train.EarlyStopping(patience=-1), "patience must be an integer of at least 0; got -1"),
        (lambda: train.EarlyStopping(min_delta=-1), "min_delta must be a finite number of at least 0; got -1"),
        (lambda: train.EarlyStopping(mode="up"), "mode must be 'min', 'max' or None; got 'up'"),
        (lambda: train.Checkpoint("a.pt"), r"path must end in '\.npz'; got 'a\.pt'"),
        (lambda: train.Checkpoint("a.npz", keep=0), "keep must be an integer of at least 1; got 0"),
    ],
)
def test_bad_callbacks(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_monitor_that_is_not_recorded_is_said_before_training():
    trainer = xor_trainer(callbacks=[train.EarlyStopping()])
    with pytest.raises(ValueError, match=r"must be one of loss, lr, seconds; got 'val_loss'.*give fit a val_loader"):
        trainer.fit(xor_loader(), 1, progress=False)
    assert trainer.step == 0
