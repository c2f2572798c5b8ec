"""Training that is interrupted, killed or out of memory: what is left can be used, and going on gives the same bits."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import data, nn, optim, train
from tinygrad_norm.train.interrupts import Interrupts

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
untraced = pytest.mark.skipif(
    sys.gettrace() is not None, reason="Ctrl-C while coverage's tracer holds its lock is a deadlock"
)
HERE = Path(__file__).parent


class Run:
    """A training of 5 epochs with everything that has a state."""

    def __init__(self, folder, *callbacks, keep=2, num_workers=0):
        tn.manual_seed(0)
        self.model = nn.MLP([2, 8, 8, 2], norm="batch", dropout=0.2)
        optimizer = optim.Adam(self.model.named_parameters(), lr=0.01)
        self.saver = train.Checkpoint(folder / "run.npz", keep=keep)
        self.trainer = train.Trainer(
            self.model, optimizer, F.cross_entropy, metrics="accuracy", callbacks=[self.saver, *callbacks],
            scheduler=optim.lr_scheduler.StepLR(optimizer, 2, 0.5),
        )  # fmt: skip
        x, y = data.moons(150, noise=0.2, seed=0)
        self.loader = data.DataLoader(data.TensorDataset(x, y), 16, True, seed=0, num_workers=num_workers)
        self.test_loader = data.DataLoader(data.TensorDataset(x, y), 64)

    def fit(self, epochs=5, resume=True, loader=None):
        self.trainer.fit(loader or self.loader, epochs, self.test_loader, progress=False, resume=resume)
        return self

    def state(self):
        history = {name: column for name, column in self.trainer.history.items() if name != "seconds"}
        return (
            {name: value.numpy().tobytes() for name, value in self.model.state_dict().items()},
            repr(self.trainer.optimizer.state_dict()), self.trainer.scheduler.state_dict(), repr(history),
            self.trainer.epoch, self.trainer.step, self.loader.state_dict(), tn.backend.random.get_state(),
        )  # fmt: skip


class Press(train.Callback):
    """Presses Ctrl-C in a step, or in the validation that follows it."""

    def __init__(self, step, times=1):
        self.step, self.times = step, times

    def on_batch_end(self, trainer, loss):
        for _ in range(self.times * (trainer.step == self.step)):
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("whole")).fit(resume=False).state()


# ---- Ctrl-C


@pytest.mark.promise("P16", "P19")
@pytest.mark.parametrize("steps", [(1, 5, 9, 10, 11, 49), pytest.param(range(1, 50), marks=pytest.mark.slow)])
def test_ctrl_c_leaves_a_checkpoint_that_continues_to_the_bit(tmp_path, whole, steps, record_property):
    for step in steps:
        folder = tmp_path / str(step)
        first = Run(folder, Press(step))
        with pytest.raises(KeyboardInterrupt):
            first.fit()
        assert first.trainer.step == step and first.trainer.epoch == (step - 1) // 10
        assert first.trainer.predict(np.zeros((3, 2), np.float32)).shape == (3, 2)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        done = first.trainer.epoch
        names = [f"run-epoch{n:04}.npz" for n in range(max(done - 1, 1), done + 1)] + ["run-interrupted.npz"]
        assert sorted(n for n in os.listdir(folder) if "best" not in n) == names
        tn.manual_seed(9)
        second = Run(folder).fit()
        assert second.state() == whole, step
        assert sorted(n for n in os.listdir(folder) if "best" not in n) == ["run-epoch0004.npz", "run-epoch0005.npz"]
    record_property("figure", f"Ctrl-C after each of {len(steps)} steps: resumed to equal bits, history too")


@untraced
@pytest.mark.promise("P16")
def test_ctrl_c_at_any_moment_of_fit(tmp_path, whole, record_property):
    """Interrupts from the clock: in the middle of steps, validation, saving."""
    draw, presses, longest = random.Random(0), 0, 0.01
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        while True:
            run = Run(tmp_path)
            try:
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.001, longest))
                run.fit()
                signal.setitimer(signal.ITIMER_REAL, 0)
                break
            except KeyboardInterrupt:
                presses += 1
                longest *= 1.05  # a machine under load gets there too
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert presses >= 3 and run.state() == whole
    record_property("figure", f"{presses} presses by the clock: the run ended with equal bits")


def test_a_second_ctrl_c_ends_at_once(tmp_path, whole):
    class Twice(train.Callback):
        def on_batch_end(self, trainer, loss):
            if trainer.step == 13:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
                raise AssertionError("this is never reached")

    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, Twice()).fit()
    assert Run(tmp_path).fit().state() == whole


def test_an_interrupt_inside_a_step_saves_nothing_inexact(tmp_path, whole):
    def loss(y_pred, y):
        if run.trainer.step == 13:
            raise KeyboardInterrupt
        return F.cross_entropy(y_pred, y)

    run = Run(tmp_path)
    run.trainer.loss = loss
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    assert not os.path.exists(run.saver.interrupted_path)
    assert Run(tmp_path).fit().state() == whole


def test_a_loader_without_position_resumes_from_the_last_epoch(tmp_path):
    run = Run(tmp_path, Press(13))
    batches = list(run.loader)
    with pytest.raises(KeyboardInterrupt):
        run.fit(loader=batches)
    assert not os.path.exists(run.saver.interrupted_path)
    again = Run(tmp_path).fit(2, loader=batches)
    assert (again.trainer.epoch, again.trainer.step) == (2, 20)


def test_an_interrupted_pass_with_workers_continues(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, Press(13), num_workers=2).fit()
    assert multiprocessing.active_children() == []
    assert Run(tmp_path, num_workers=2).fit().state() == whole


def test_the_handler_of_another_is_left_alone():
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            interrupts.check()
        assert pressed == [1]
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_after_the_last_check_is_not_lost():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_fit_in_a_thread_that_gets_no_signals(tmp_path, whole):
    found = []
    thread = threading.Thread(target=lambda: found.append(Run(tmp_path).fit().state()))
    thread.start()
    thread.join()
    assert found == [whole]


@pytest.mark.promise("P16")
def test_ctrl_c_at_the_start_of_train_leaves_no_folder(tmp_path, record_property):
    program = (
        "import os, signal, sys\n"
        "from tinygrad_norm import cli\n"
        "from tinygrad_norm.train import Trainer\n"
        "Trainer.fit = lambda *a, **k: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(cli.main(['train', '--out', sys.argv[1]]))"
    )
    for out in ("new/deep/run", "there"):
        (tmp_path / "there").mkdir(exist_ok=True)
        command = [sys.executable, "-c", program, tmp_path / out]
        ended = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(HERE.parent)}
        )
        assert (ended.returncode, ended.stderr) == (130, "tinygrad-norm train: interrupted\n")
    assert os.listdir(tmp_path) == ["there"] and os.listdir(tmp_path / "there") == []
    record_property("figure", "no folder left behind")


# ---- killed


def fit_in_child(folder):
    Run(folder).fit()


def killed_until_done(folder, draw, longest):
    """Start the training again and again, each time killed after a while; how often it was killed."""
    kills = 0
    while True:
        child = multiprocessing.get_context("fork").Process(target=fit_in_child, args=(folder,))
        child.start()
        child.join(draw.uniform(0.0, longest))
        child.kill()
        child.join()
        if child.exitcode == 0:
            return kills
        assert child.exitcode == -signal.SIGKILL
        kills += 1
        assert kills < 400
        longest *= 1.05  # a machine under load gets there too


@pytest.mark.promise("P18", "P19")
def test_a_training_that_is_killed_ends_with_the_same_bits(tmp_path, whole, record_property):
    kills = killed_until_done(tmp_path, random.Random(1), 0.02)
    final = Run(tmp_path).fit()
    assert final.state() == whole and kills >= 3
    record_property("figure", f"kill -9 {kills} times, restarted with resume=True: equal bits")


@pytest.mark.slow
@pytest.mark.promise("P18", "P19")
def test_trainings_that_are_killed_end_with_the_same_bits(tmp_path, whole, record_property):
    kills = runs = 0
    while kills < 200:
        runs += 1
        kills += killed_until_done(tmp_path / str(runs), random.Random(runs), 0.05)
        assert Run(tmp_path / str(runs)).fit().state() == whole
    record_property("figure", f"kill -9 {kills} times in {runs} trainings: all ended with equal bits")


# ---- resume


def test_resume_without_a_file_starts_and_without_a_callback_refuses(tmp_path, whole):
    run = Run(tmp_path / "new")
    run.fit(2)
    assert (run.trainer.epoch, run.trainer.step) == (2, 20)
    assert Run(tmp_path / "new").fit(2).trainer.step == 20
    assert Run(tmp_path / "new").fit(1).trainer.epoch == 2
    assert Run(tmp_path / "new").fit().state() == whole
    run.trainer.callbacks = []
    with pytest.raises(ValueError, match="fit: resume=True continues from the files of a callback Checkpoint"):
        run.fit()


@pytest.mark.promise("P18")
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, whole, record_property):
    run = Run(tmp_path).fit(3)
    assert run.saver.saved() == [str(tmp_path / f"run-epoch{n:04}.npz") for n in (3, 2)]
    newest = Path(run.saver.saved()[0])
    newest.write_bytes(newest.read_bytes()[:-50])
    with pytest.warns(
        train.CheckpointWarning, match=r"the checkpoint before it is used: .*run-epoch0003\.npz' is damaged"
    ):
        again = Run(tmp_path).fit()
    assert again.state() == whole
    for path in again.saver.saved():
        Path(path).write_bytes(b"nothing")
    with pytest.raises(train.checkpoint.CheckpointError), pytest.warns(train.CheckpointWarning):
        Run(tmp_path).fit()
    record_property("figure", "newest damaged: the one before it continues to equal bits, with a warning")


def test_the_last_written_counts_not_the_highest_number(tmp_path):
    long = Run(tmp_path).fit(4)
    assert long.saver.saved()[0].endswith("0004.npz")
    Run(tmp_path).fit(1, resume=False)
    again = Run(tmp_path)
    assert again.saver.saved()[0].endswith("0001.npz")
    assert again.fit(1).trainer.epoch == 1


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_last_k_are_kept(tmp_path, keep):
    Run(tmp_path, keep=keep).fit(4)
    left = tmp_path / "run-epoch0001.npz"  # by a kill between saving and removing; it goes as well
    left.write_bytes(b"")
    os.utime(left, (0, 0))
    run = Run(tmp_path, keep=keep).fit()
    assert [path[-8:-4] for path in run.saver.saved()] == [f"{n:04}" for n in (5, 4, 3)[:keep]]


def test_restore_without_the_loader_starts_the_epoch_anew(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, Press(13)).fit()
    run = Run(tmp_path)
    with pytest.warns(train.CheckpointWarning, match="also holds the state of loader"):
        run.trainer.restore(run.saver.interrupted_path)
    run.fit(1, resume=False)
    assert (run.trainer.epoch, run.trainer.step) == (2, 23)


# ---- interrupts that nobody waits for: inside the library, at any instruction


def net():
    tn.manual_seed(1)
    model = nn.MLP([2, 8, 8, 2], norm="batch", dropout=0.2)
    return model, optim.Adam(model.named_parameters(), lr=0.01)


def plain_training(model, optimizer, steps):
    """What a user writes by hand."""
    x, y = data.moons(40, noise=0.2, seed=0)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return [p.numpy().tobytes() for p in model.parameters()]


def usable(wanted, arrays, copies):
    """The library computes what it did, in its usual modes, and the user's arrays are theirs."""
    assert tn.is_grad_enabled() and not tn.engine.modes.modes.composite and tn.engine.modes.modes.before == []
    assert plain_training(*net(), 2) == wanted
    for array, copy in zip(arrays, copies, strict=True):
        assert array.flags.writeable and np.array_equal(array, copy)


class Interrupt(BaseException):
    pass


def interrupted(wait, work):
    """Run ``work`` and interrupt it after ``wait`` seconds; whether it was."""

    def ring(*_):
        raise Interrupt

    before = signal.signal(signal.SIGALRM, ring)
    try:
        # Again each second: exceptions in a callback of the garbage collector are ignored; Hypothesis and JAX have one.
        signal.setitimer(signal.ITIMER_REAL, wait, 1)
        work()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return False
    except Interrupt:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@untraced
@pytest.mark.promise("P16")
def test_200_random_interrupts(record_property):
    wanted = plain_training(*net(), 2)
    arrays = [np.arange(12.0).reshape(4, 3), np.ones((3, 2))]
    copies = [array.copy() for array in arrays]
    nets = []

    def work():
        model, optimizer = nets[-1]
        while True:
            x, w = tn.from_numpy(arrays[0]), tn.tensor(arrays[1], requires_grad=True)
            (x @ w).sum().backward()
            plain_training(model, optimizer, 1)

    draw = random.Random(2)
    for _ in range(200):
        nets.append(net())
        assert interrupted(draw.uniform(1e-4, 6e-3), work)
        usable(wanted, arrays, copies)
        assert all(np.isfinite(p.numpy()).all() for p in nets[-1][0].parameters())
        plain_training(*nets[-1], 1)
    record_property("figure", "200 interrupts, 0 with anything broken after")


MODES = {
    "no_grad": lambda: tn.no_grad(),
    "enable_grad": lambda: tn.enable_grad(),
    "composite": lambda: tn.composite(),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["__enter__", "__exit__"])
def test_an_interrupt_while_a_mode_is_switched(mode, method):
    """The smallest windows, where a random interrupt seldom falls: after every call that is made while switching.

    (CPython may also raise Ctrl-C before the first instruction of ``__exit__``, where no manager written in Python can
    be helped. Trainer keeps Ctrl-C away from its own.)
    """
    state = tn.engine.modes.modes

    def run(stop):
        """Interrupt the first switching after so many calls; whether there were that many."""
        calls = 0

        def profile(frame, event, arg):
            nonlocal calls
            if event == "c_return" and frame.f_code.co_name == method and "modes.py" in frame.f_code.co_filename:
                calls += 1
                if calls == stop:
                    sys.setprofile(None)
                    raise Interrupt

        sys.setprofile(profile)
        try:
            with MODES[mode]():
                pass
        except Interrupt:
            return True
        finally:
            sys.setprofile(None)
        return False

    for stop in range(1, 10):
        more = run(stop)
        assert (state.recording, state.composite, state.before) == (True, False, []), stop
        if not more:
            return
    raise AssertionError("it was still interrupted")


# ---- memory


SHORT_OF_MEMORY = """
import resource, sys
sys.path[:0] = sys.argv[1:]
import numpy as np
import tinygrad_norm as tn
from tinygrad_norm import nn, optim, data, train, functional as F
from test_faults_training import net, plain_training, usable
wanted = plain_training(*net(), 2)
model = nn.MLP([1000, 1000, 2], norm="batch")
optimizer = optim.Adam(model.named_parameters())
trainer = train.Trainer(model, optimizer, F.cross_entropy)
trainer.fit([(tn.ones((4, 1000)), tn.tensor([0, 1, 0, 1]))], 1, progress=False)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, resource.RLIM_INFINITY))
mine = np.ones((4, 1000), np.float32)
failed = 0
for rows in (2**12, 2**13, 2**14, 2**15, 2**16, 2**20):
    before = [p.numpy().copy() for p in model.parameters()]
    steps = optimizer.steps
    try:
        large = np.broadcast_to(mine[:1], (rows, 1000))
        trainer.fit([(tn.from_numpy(large), tn.zeros(rows, dtype="int64"))], 1, progress=False)
    except MemoryError:
        failed += 1
        assert optimizer.steps == steps
        assert all(np.array_equal(a, p.numpy()) for a, p in zip(before, model.parameters()))
    usable(wanted, [mine], [np.ones((4, 1000))])
    trainer.fit([(tn.from_numpy(mine), tn.tensor([0, 1, 0, 1]))], 1, progress=False)
assert failed >= 3, failed
print(failed)
"""


@pytest.mark.promise("P16")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_memory_errors_are_recovered_from(record_property):
    out = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, HERE, HERE.parent], capture_output=True, text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    record_property("figure", f"{out.stdout.strip()} MemoryErrors of 6 batches: parameters as before, training goes on")
