"""Checkpoints: training that stops and goes on is bitwise the training that never stopped, or it says why not."""

import hashlib
import json
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import data, nn, optim, train
from tinygrad_norm.serialize import CheckpointError, load_arrays, save
from tinygrad_norm.train import checkpoint as module

OPTIMIZERS = {
    "sgd": lambda params: optim.SGD(params, lr=0.05, momentum=0.9),
    "nesterov": lambda params: optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "plain": lambda params: optim.SGD(params, lr=0.05),
    "adam": lambda params: optim.Adam(params, lr=0.01),
    "adamw": lambda params: optim.AdamW(params, lr=0.01),
    "rmsprop": lambda params: optim.RMSprop(params, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda params: optim.Adagrad(params, lr=0.05, initial_accumulator_value=0.1),
}
X, Y = data.moons(90, noise=0.2, seed=1)


class Run:
    """A training with shuffling, dropout, batch norm and a schedule that changes the rate every four steps."""

    def __init__(self, kind, seed=0):
        tn.manual_seed(seed)
        self.model = nn.MLP([2, 12, 12, 2], norm="batch", dropout=0.3)
        self.optimizer = OPTIMIZERS[kind](self.model.named_parameters())
        self.scheduler = optim.lr_scheduler.ExponentialLR(self.optimizer, gamma=0.9)
        self.loader = data.DataLoader(data.TensorDataset(X, Y), batch_size=16, shuffle=True, seed=seed)
        self.taken = 0
        self.batches = iter(())

    def steps(self, n):
        for _ in range(n):
            batch = next(self.batches, None)
            if batch is None:
                self.batches = iter(self.loader)
                batch = next(self.batches)
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(batch[0]), batch[1]).backward()
            self.optimizer.step()
            self.taken += 1
            if self.taken % 4 == 0:
                self.scheduler.step()
        return self

    def save(self, path, **meta):
        parts = self.model, self.optimizer, self.scheduler, self.loader
        train.save_checkpoint(path, *parts, taken=self.taken, **meta)

    def load(self, path):
        meta = train.load_checkpoint(path, self.model, self.optimizer, self.scheduler, self.loader)
        self.taken = meta["taken"]
        return self

    def state(self):
        return {
            **{f"model/{k}": v.numpy().tobytes() for k, v in self.model.state_dict().items()},
            **{f"optimizer/{k}": repr(v) for k, v in self.optimizer.state_dict()["state"].items()},
            "groups": repr(self.optimizer.state_dict()["param_groups"]),
            "scheduler": self.scheduler.state_dict(),
            "loader": self.loader.state_dict(),
            "random": tn.backend.random.get_state(),
        }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


# ---- exact resume


@pytest.mark.promise("P19")
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_20_steps_are_10_and_10(path, kind, record_property):
    whole = Run(kind).steps(20).state()
    Run(kind).steps(10).save(path)
    resumed = Run(kind, seed=5).load(path).steps(10).state()
    assert resumed.pop("random") == whole.pop("random")
    assert resumed == whole
    record_property("figure", f"{kind}: equal bits in everything")


def test_every_optimizer_is_resumed():
    made = {type(make([tn.ones(1, requires_grad=True)])) for make in OPTIMIZERS.values()}
    public = {getattr(optim, name) for name in optim.__all__}
    assert made == {c for c in public if isinstance(c, type) and issubclass(c, optim.Optimizer)} - {optim.Optimizer}


@pytest.mark.promise("P19")
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("left_out", ["model", "optimizer", "scheduler", "loader", "random", "none"])
def test_leaving_one_state_out_makes_a_difference(path, kind, left_out):
    whole = Run(kind).steps(20).state()
    Run(kind).steps(10).save(path)
    run = Run(kind, seed=5)
    fresh = {name: getattr(run, name) for name in ("model", "optimizer", "scheduler", "loader")}
    states = {name: part.state_dict() for name, part in fresh.items()}
    noise = tn.backend.random.get_state()
    run.load(path)
    if left_out in ("model", "loader", "scheduler"):
        fresh[left_out].load_state_dict(states[left_out])
    if left_out == "optimizer":
        states["optimizer"]["param_groups"][0]["lr"] = run.optimizer.param_groups[0]["lr"]
        run.optimizer.load_state_dict(states["optimizer"])
    if left_out == "random":
        tn.backend.random.set_state(noise)
    run.steps(10)
    model = {k: v for k, v in whole.items() if k.startswith("model/")}
    equal = model == {k: v for k, v in run.state().items() if k.startswith("model/")}
    stateless = left_out == "none" or (left_out, kind) == ("optimizer", "plain")
    assert equal == stateless


def test_resume_in_another_process(path):
    program = (
        "import sys, hashlib; sys.path[:0] = sys.argv[2:]\n"
        "from test_checkpoint import Run\n"
        "run = Run('adam', seed=7).load(sys.argv[1]).steps(10)\n"
        "print(hashlib.sha256(repr(run.state()).encode()).hexdigest())\n"
    )
    run = Run("adam").steps(10)
    run.save(path)
    here = Path(__file__).parent
    hashes = [
        subprocess.run(
            [sys.executable, "-c", program, path, here, here.parent], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    ]
    expected = hashlib.sha256(repr(run.steps(10).state()).encode()).hexdigest()
    assert hashes == [expected + "\n"] * 2


def test_saving_changes_nothing(path):
    whole = Run("adam").steps(20).state()
    run = Run("adam").steps(10)
    before = run.state()
    run.save(path)
    assert run.state() == before
    assert run.steps(10).state() == whole


def test_a_model_alone_leaves_the_random_numbers(path):
    run = Run("sgd").steps(5)
    run.save(path)
    other = Run("sgd", seed=3)
    before = tn.backend.random.get_state()
    train.load_checkpoint(path, other.model)
    assert tn.backend.random.get_state() == before
    names = [k for k in run.state() if k.startswith("model/")]
    assert all(run.state()[k] == other.state()[k] for k in names)


# ---- the file


def test_members_and_meta(path):
    run = Run("adam").steps(3)
    run.save(path, note="hello", accuracy=np.float32(0.5))
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert names[0] == "meta.json"
    assert "model/linear1.weight.npy" in names and "model/norm1.running_mean.npy" in names
    assert "optimizer/linear1.weight/exp_avg.npy" in names
    assert all(name.startswith(("model/", "optimizer/")) for name in names[1:])
    _, header = load_arrays(path)
    assert header["meta"] == {"taken": 3, "note": "hello", "accuracy": 0.5}
    assert header["numpy"] == np.__version__ and header["threads"] >= 1
    assert header["optimizer"]["state"]["linear1.weight"] == {"shape": [12, 2], "steps": 3}
    assert header["scheduler"]["scheduler"] == "ExponentialLR"
    assert header["loader"]["position"] == 3


@pytest.mark.promise("P19")
def test_state_is_named_through_the_model(path):
    """An optimizer made without names, in another order, gets each parameter's own state."""
    run = Run("adam").steps(5)
    nameless = optim.Adam(reversed(list(run.model.parameters())), lr=0.5)
    F.cross_entropy(run.model(X), Y).backward()
    nameless.step()
    train.save_checkpoint(path, run.model, nameless)
    other = Run("adam", seed=2)
    train.load_checkpoint(path, other.model, other.optimizer)
    reverse = list(nameless.state_dict()["state"].values())[::-1]
    for mine, theirs in zip(other.optimizer.state_dict()["state"].values(), reverse):
        assert np.array_equal(mine["exp_avg"], theirs["exp_avg"]) and mine["steps"] == theirs["steps"] == 1

    Run("adam").steps(5).save(path)
    with pytest.warns(train.CheckpointWarning, match="scheduler and loader"):
        train.load_checkpoint(path, run.model, nameless)
    for mine, theirs in zip(
        nameless.state_dict()["state"].values(), list(Run("adam").load(path).optimizer.slots())[::-1]
    ):
        assert mine["steps"] == theirs.steps == 5


def test_groups_and_shared_parameters(path):
    def make():
        tn.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        model[1].weight = model[0].weight
        return model, optim.AdamW(optim.no_decay_groups(model, weight_decay=0.1), lr=0.1)

    def step(model, optimizer):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()

    model, optimizer = make()
    step(model, optimizer)
    train.save_checkpoint(path, model, optimizer)
    step(model, optimizer)
    other = make()
    train.load_checkpoint(path, *other)
    step(*other)
    for a, b in zip(model.parameters(), other[0].parameters(), strict=True):
        assert np.array_equal(a.numpy(), b.numpy())


# ---- what does not fit is refused whole


def damaged(run):
    """Runs that the checkpoint of ``run`` does not fit, with the words that the refusal has."""

    def small(r):
        r.model = nn.MLP([2, 6, 12, 2], norm="batch", dropout=0.3)
        r.optimizer = OPTIMIZERS["adam"](r.model.named_parameters())
        r.scheduler = optim.lr_scheduler.ExponentialLR(r.optimizer, gamma=0.9)

    def other_optimizer(r):
        r.optimizer = optim.RMSprop(r.model.named_parameters())

    def fewer(r):
        r.optimizer = optim.Adam(list(r.model.named_parameters())[1:])

    def foreign(r):
        r.optimizer = optim.Adam([tn.zeros(2, requires_grad=True)])

    def other_schedule(r):
        r.scheduler = optim.lr_scheduler.StepLR(r.optimizer, 3)

    def other_loader(r):
        r.loader = data.DataLoader(data.TensorDataset(X, Y), batch_size=15, shuffle=True, seed=5)

    def bad_random(r):
        r.path = run.path.with_name("bad.npz")
        arrays, header = load_arrays(run.path)
        header["random"]["host"]["bit_generator"] = "MT19937"
        save(r.path, arrays, meta=header)

    return {
        "the state does not fit this MLP": small,
        "this is the state of Adam, not of RMSprop": other_optimizer,
        "unknown to this optimizer: .'linear1.weight'.": fewer,
        r"parameter '0' \(Tensor of shape \(2,\).* not one of the model's": foreign,
        "StepLR.load_state_dict": other_schedule,
        "batch_size=16, this loader has batch_size=15": other_loader,
        "PCG64": bad_random,
    }


@pytest.mark.parametrize("number", range(7))
def test_nothing_is_loaded_when_anything_does_not_fit(path, number):
    run = Run("adam").steps(10)
    run.path = path
    run.save(path)
    text, spoil = list(damaged(run).items())[number]
    other = Run("adam", seed=5).steps(3)
    other.path = path
    spoil(other)
    before = other.state()
    with pytest.raises(ValueError, match=text):
        other.load(other.path)
    after = other.state()
    for name in before:
        assert after[name] == before[name], name


def test_what_is_asked_for_must_be_there(path):
    run = Run("adam").steps(1)
    train.save_checkpoint(path, run.model)
    for name in ("optimizer", "scheduler", "loader"):
        with pytest.raises(ValueError, match=f"{name} was given, but .* Nothing was loaded"):
            train.load_checkpoint(path, run.model, **{name: getattr(run, name)})


def test_other_files_are_refused(path):
    run = Run("sgd")
    tn.save(path, {"model": run.model.state_dict()})
    with pytest.raises(CheckpointError, match="holds tensors but no training state"):
        train.load_checkpoint(path, run.model)
    path.write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match="damaged or was not written by"):
        train.load_checkpoint(path, run.model)
    with pytest.raises(FileNotFoundError):
        train.load_checkpoint(path.with_name("none.npz"), run.model)


def test_a_failed_save_keeps_the_old_file(path):
    run = Run("sgd").steps(2)
    run.save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="meta"):
        run.save(path, note=run.model)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["run.npz"]


def test_a_foreign_optimizer_cannot_be_saved(path):
    run = Run("sgd")
    with pytest.raises(ValueError, match=r"'linear1\.weight' .* is not one of the model's"):
        train.save_checkpoint(path, Run("sgd").model, run.optimizer)
    assert not path.exists()


# ---- warnings


@pytest.mark.promise("P19")
@pytest.mark.parametrize("name, value", [("numpy", "1.26.0"), ("threads", 77), ("blas", "mkl 2024")])
def test_another_environment_warns(path, name, value):
    run = Run("sgd").steps(2)
    run.save(path)
    arrays, header = load_arrays(path)
    header[name] = value
    save(path, arrays, meta=header)
    with pytest.warns(train.CheckpointWarning, match=rf"was written with {name} {value} \(here .*\)") as record:
        run.load(path)
    assert len(record) == 1 and record[0].filename == __file__


def test_the_same_environment_does_not_warn(path):
    run = Run("sgd").steps(2)
    run.save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.load(path)


def test_a_state_left_out_warns(path):
    run = Run("sgd").steps(2)
    run.save(path)
    with pytest.warns(train.CheckpointWarning, match="also holds the state of scheduler and loader, for which nothing"):
        train.load_checkpoint(path, run.model, run.optimizer)


def test_threads_are_those_blas_uses_now():
    if module.openblas.threads() is None:
        pytest.skip("this NumPy's BLAS cannot be asked for its threads")
    with module.openblas.one_thread():
        assert module.environment()["threads"] == 1


def test_threads_where_blas_cannot_be_asked(monkeypatch):
    monkeypatch.setattr(module.openblas, "threads", lambda: None)
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert module.environment()["threads"] == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert module.environment()["threads"] == 3
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "16")
    assert module.environment()["threads"] == 4
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "all")
    assert module.environment()["threads"] == 3
    json.dumps(module.environment())
