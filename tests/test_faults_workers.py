"""Batches read by other processes: the same bits as without them, and no failure of theirs that hangs or hides."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import data, nn, optim, train

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills with SIGKILL, and forks")


class Noisy(data.Dataset):
    """Samples that take a while, draw random numbers, and may do ``what`` when ``at`` is read."""

    def __init__(self, n=50, at=None, what=None, draw=tn.rand, seconds=0.0):
        self.n, self.at, self.what, self.draw, self.seconds = n, at, what, draw, seconds

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if index == self.at:
            self.what()
        time.sleep(self.seconds)
        return np.full(3, index, np.float32), np.float32(self.draw(1)[0].item()), index


def loader(num_workers, shuffle=True, batch_size=7, **options):
    return data.DataLoader(Noisy(**options), batch_size, shuffle, seed=3, num_workers=num_workers)


def bits(batches):
    return [tuple(column.numpy().tobytes() for column in batch) for batch in batches]


@pytest.fixture(autouse=True)
def no_process_stays(monkeypatch):
    """Workers are forks, on Python 3.14 too: samples here are made by functions that cannot be pickled."""
    monkeypatch.setattr(multiprocessing, "Process", multiprocessing.get_context("fork").Process)
    yield
    assert active_children() == []


# ---- the same batches


@pytest.mark.promise("P21")
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_number_of_workers_gives_the_same_bits(shuffle, record_property):
    alone, numbers = loader(0, shuffle), (1, 2, 3, 20)
    wanted = [bits(alone) for _ in range(3)]
    assert len(set(map(tuple, wanted))) == 3
    for n in numbers:
        tn.manual_seed(n)
        np.random.seed(n)
        several = loader(n, shuffle)
        assert [bits(several) for _ in range(3)] == wanted
    record_property("figure", f"3 epochs, {numbers} workers: equal bits")


def test_the_draws_of_a_dataset_leave_those_of_training_alone():
    tn.manual_seed(0)
    before, state = tn.backend.random.get_state(), np.random.get_state()[1].copy()
    for n in (0, 2):
        bits(loader(n))
        assert tn.backend.random.get_state() == before
        assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("draw", [tn.rand, np.random.rand, lambda n: np.array([random.random()])])
def test_no_draw_is_repeated(draw):
    batches = list(loader(3, draw=draw))
    drawn = np.concatenate([noise.numpy() for _, noise, _ in batches])
    assert len(set(drawn.tolist())) == 50
    assert bits(batches) == bits(loader(2, draw=draw))


def test_going_on_inside_an_epoch():
    whole, first, second = loader(0), loader(2), loader(2)
    wanted = bits(whole)
    passing = iter(first)
    found = bits(next(passing) for _ in range(3))
    second.load_state_dict(first.state_dict())
    assert found + bits(second) == wanted
    passing.close()


def test_a_pass_left_early_ends_its_processes():
    several = loader(3, seconds=0.02)
    for _ in several:
        assert len(active_children()) == 3
        break
    assert active_children() == []


def test_two_passes_at_once():
    several = loader(2)
    one, other = iter(several), iter(several)
    found = [bits(pair) for pair in zip(one, other)]
    assert [pair[0] for pair in found] == bits(loader(0)) != [pair[1] for pair in found]


def test_large_batches_are_not_read_far_ahead(tmp_path):
    class Large(Noisy):
        def __getitem__(self, index):
            (tmp_path / str(index)).touch()
            return np.zeros(2**17)

    batches = iter(data.DataLoader(Large(), batch_size=1, num_workers=2))
    next(batches)
    time.sleep(0.5)
    assert len(os.listdir(tmp_path)) <= 5
    batches.close()


def test_a_training_with_workers():
    def fit(n):
        tn.manual_seed(0)
        model = nn.MLP([2, 8, 2], norm="batch", dropout=0.2)
        batches = data.DataLoader(data.TensorDataset(*data.moons(60, seed=1)), 16, True, seed=1, num_workers=n)
        train.Trainer(model, optim.Adam(model.named_parameters()), nn.CrossEntropyLoss()).fit(
            batches, 3, progress=False
        )
        return [p.numpy().tobytes() for p in model.parameters()]

    assert fit(0) == fit(2)


SPAWNED = """
import multiprocessing, sys
sys.path[:0] = sys.argv[2:]
from test_faults_workers import bits, loader
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    assert bits(loader(2)) == bits(loader(0))
    print("equal")
"""


@pytest.mark.promise("P21")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_way_to_start_processes(tmp_path, method, record_property):
    (tmp_path / "main.py").write_text(SPAWNED)
    here = Path(__file__).parent
    out = subprocess.run(
        [sys.executable, "-W", "error", tmp_path / "main.py", method, here, here.parent],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert (out.stdout, out.stderr) == ("equal\n", "")
    record_property("figure", f"{method}: bits equal to num_workers=0")


# ---- what goes wrong is said


def bad_pixel():
    raise ValueError("bad pixel")


class Awkward(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def awkward():
    raise Awkward(1, 2)


@pytest.mark.promise("P21")
def test_an_error_names_the_sample_and_shows_where(record_property):
    for n in (0, 1, 3):
        with pytest.raises(ValueError, match="bad pixel") as caught:
            list(loader(n, at=17, what=bad_pixel))
        notes = caught.value.__notes__
        assert notes[0] == "while Noisy[17] was read"
        assert len(notes) == (2 if n else 1)
        if n:
            assert "which read batch" in notes[1] and "17" in notes[1].split("\n")[0]
            assert "Traceback (most recent call last)" in notes[1] and "in bad_pixel" in notes[1]
    record_property("figure", "type, sample index and traceback come through")


@pytest.mark.parametrize("what", [awkward, sys.exit, lambda: (_ for _ in ()).throw(KeyboardInterrupt)])
def test_an_error_that_cannot_travel_is_told_by_name(what):
    with pytest.raises(RuntimeError, match=r"DataLoader: (Awkward: 1 and 2|SystemExit|KeyboardInterrupt)") as caught:
        list(loader(2, at=17, what=what))
    assert "Traceback (most recent call last)" in caught.value.__notes__[-1]


def test_a_sample_that_cannot_travel():
    class Local(Noisy):
        def take(self, indices):
            return (lambda: 0,)

    with pytest.raises(Exception, match="local object") as caught:
        list(data.DataLoader(Local(), 7, num_workers=2))
    assert "which read batch 0" in caught.value.__notes__[-1]


@pytest.mark.promise("P21")
@pytest.mark.parametrize("when", ["while reading", "between batches", "another one"])
def test_a_killed_worker_is_reported_at_once(when, record_property):
    slowest = 0.0
    for n in (1, 2, 4) if when != "another one" else (2, 4):
        options = {"at": 17, "what": lambda: os.kill(os.getpid(), signal.SIGKILL)} if when == "while reading" else {}
        batches = iter(loader(n, seconds=0.05, shuffle=when == "while reading", **options))
        began = time.monotonic()
        if when != "while reading":
            next(batches)
            began = time.monotonic()
            pids = sorted(child.pid for child in active_children())
            os.kill(pids[-1] if when == "another one" else pids[0], signal.SIGKILL)
        text = r"worker process \d+ was killed by SIGKILL before it had sent batch \d \(samples .*\). Too little"
        with pytest.raises(RuntimeError, match=text):
            list(batches)
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 5
    record_property("figure", f"{when}: reported after at most {slowest:.1f} s")


def test_a_worker_that_leaves_is_reported():
    for code in (0, 3):
        with pytest.raises(RuntimeError, match=f"ended with exit code {code} before"):
            list(loader(2, at=17, what=lambda code=code: os._exit(code)))


@pytest.mark.promise("P21")
def test_a_worker_that_hangs_does_not_outlive_ctrl_c(record_property):
    batches = iter(loader(2, at=3, what=lambda: time.sleep(600), shuffle=False))
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(batches)
    batches.close()
    seconds = time.monotonic() - began
    assert seconds < 5 and active_children() == []
    record_property("figure", f"ended {seconds:.1f} s after the start, no process left")


ORPHANS = """
import multiprocessing, sys
sys.path[:0] = sys.argv[1:]
from test_faults_workers import loader
batches = iter(loader(3, seconds=0.01))
next(batches)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
sys.stdin.read()
"""


@pytest.mark.promise("P21")
def test_workers_end_when_their_parent_is_killed(record_property):
    here = Path(__file__).parent
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHANS, here, here.parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 3
    parent.kill()
    parent.communicate()
    began = time.monotonic()
    while any(map(running, pids)):
        assert time.monotonic() - began < 5
        time.sleep(0.01)
    record_property("figure", f"3 orphans gone after {time.monotonic() - began:.1f} s")


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.promise("P21")
def test_a_killed_worker_is_reported_while_another_is_slow(record_property):
    batches = iter(loader(2, at=0, what=lambda: time.sleep(30), shuffle=False, seconds=0.05))

    def kill():
        os.kill(max(child.pid for child in active_children()), signal.SIGKILL)  # not the one that sleeps

    threading.Timer(0.5, kill).start()
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="was killed by SIGKILL before it had sent batch 1"):
        next(batches)
    seconds = time.monotonic() - began
    assert seconds < 5
    record_property("figure", f"while another is slow: reported {seconds - 0.5:.1f} s after the kill")
