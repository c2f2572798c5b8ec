"""Threads, forks and processes: each trains as if it were alone, and the same seed gives the same bits."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import data, nn, optim

HERE = Path(__file__).parent
NORMS = (None, "batch", "layer", "weight", "cosine")


def training(norm, seed=0, steps=25):
    """The bytes of a small net's parameters after some steps with shuffling, dropout and Adam."""
    tn.manual_seed(seed)
    model = nn.MLP([2, 16, 16, 2], norm=norm, dropout=0.2)
    optimizer = optim.Adam(model.named_parameters(), lr=0.01)
    loader = data.DataLoader(data.TensorDataset(*data.moons(100, noise=0.2, seed=seed)), 16, True)
    taken = 0
    while taken < steps:
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            taken += 1
    return b"".join(p.numpy().tobytes() for p in model.state_dict().values())


def in_threads(*works):
    """The results of functions that run at the same time, each in a thread of its own."""
    found, barrier = [None] * len(works), threading.Barrier(len(works))

    def run(i):
        barrier.wait()
        try:
            found[i] = works[i]()
        except BaseException as error:
            found[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    return found


# ---- threads


@pytest.mark.promise("P17")
@pytest.mark.parametrize("norm", NORMS)
def test_four_threads_train_as_one_after_the_other(norm, record_property):
    alone = [training(norm, seed) for seed in range(4)]
    assert len(set(alone)) == 4
    for _ in range(3):
        assert in_threads(*[lambda seed=seed: training(norm, seed) for seed in range(4)]) == alone
    record_property("figure", f"{norm or 'no norm'}: 3 times 4 threads, equal bits")


@pytest.mark.promise("P17")
def test_modes_and_random_numbers_belong_to_their_thread(record_property):
    inside, looked = threading.Event(), threading.Event()

    def switches():
        tn.manual_seed(1)
        with tn.no_grad(), tn.composite():
            inside.set()
            looked.wait(10)
        return True

    def looks():
        tn.manual_seed(2)
        before = tn.backend.random.get_state()
        inside.wait(10)
        x = tn.tensor([2.0], requires_grad=True)
        (x * x).sum().backward()
        found = tn.is_grad_enabled(), x.grad.item(), tn.backend.random.get_state() == before
        looked.set()
        return found

    assert in_threads(switches, looks) == [True, (True, 4.0, True)]
    record_property("figure", "no_grad, composite and manual_seed in one thread: unseen in another")


def test_threads_that_share_a_model_to_predict():
    tn.manual_seed(0)
    model = nn.MLP([2, 16, 2], norm="batch").eval()
    x = tn.randn(200, 2)
    wanted = model(x).numpy()

    def predict():
        with tn.no_grad():
            return all(np.array_equal(model(x).numpy(), wanted) for _ in range(50))

    assert in_threads(*[predict] * 4) == [True] * 4
    assert tn.is_grad_enabled()


# ---- what is NumPy's


@pytest.mark.promise("P17")
def test_numpy_state_is_left_alone(record_property):
    program = (
        "import numpy as np, sys\n"
        "np.random.seed(3)\n"
        "np.seterr(over='raise', under='ignore', divide='warn', invalid='print')\n"
        "def state(): return np.geterr(), np.geterrcall(), str(np.random.get_state()), np.get_printoptions()\n"
        "before = state()\n"
        "sys.path[:0] = sys.argv[1:]\n"
        "import tinygrad_norm as tn\n"
        "from test_faults_threads import NORMS, training\n"
        "from tinygrad_norm import data, nn, train, optim\n"
        "for norm in NORMS: training(norm)\n"
        "data.digits(), data.spirals(), data.xor(), tn.manual_seed(4), tn.randn(3)\n"
        "repr(tn.tensor([1e30, 1e-30])); tn.functional.softmax(tn.tensor([1e4, 0.0]))\n"
        "try: tn.ones(2) @ tn.ones(3)\n"
        "except ValueError: pass\n"
        "assert state() == before, (state(), before)\n"
    )
    out = subprocess.run([sys.executable, "-c", program, HERE, HERE.parent], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    record_property("figure", "global random state, errstate and print options as before")


# ---- forks

FORKS = """
import os, sys, threading, warnings
sys.path[:0] = sys.argv[1:]
import numpy as np
from test_faults_threads import training
warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: a fork with threads
a = np.ones((500, 500))
a @ a
wanted = training("batch")
for _ in range(8):
    a @ a
    child = os.fork()
    if child == 0:
        large = np.ones((500, 500))
        large @ large
        os._exit(0 if training("batch") == wanted else 3)
    alarm = threading.Timer(60, os.kill, [child, 9])
    alarm.start()
    _, status = os.waitpid(child, 0)
    alarm.cancel()
    assert status == 0, status
assert training("batch") == wanted
"""


@pytest.mark.promise("P17")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_forks_after_blas_has_run_in_threads(record_property):
    """The product of two 500 x 500 matrices wakes BLAS's threads, of which a fork has none."""
    out = subprocess.run(
        [sys.executable, "-c", FORKS, HERE, HERE.parent], capture_output=True, text=True, timeout=300,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    record_property("figure", "8 forks after two-thread BLAS trained to equal bits, none hung")


# ---- processes

HASHES = """
import hashlib, json, sys
sys.path[:0] = sys.argv[1:]
from test_faults_threads import NORMS, training
print(json.dumps({str(norm): hashlib.sha256(training(norm)).hexdigest() for norm in NORMS}))
"""


@pytest.mark.promise("P20")
def test_the_same_seed_gives_the_same_bits_in_every_process(record_property):
    found = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", HASHES, HERE, HERE.parent], check=True, capture_output=True, text=True,
                env={**os.environ, "PYTHONHASHSEED": seed},
            ).stdout
        )
        for seed in ("0", "1", "4242")
    ]  # fmt: skip
    assert found[0] == found[1] == found[2] and len(set(found[0].values())) == len(NORMS)
    here = {str(norm): hashlib.sha256(training(norm)).hexdigest() for norm in NORMS}
    assert here == found[0]
    assert hashlib.sha256(training("batch", seed=1)).hexdigest() != here["batch"]
    record_property(
        "figure", f"{len(NORMS)} trainings in 4 processes with 3 hash seeds: equal sha256 of all parameters"
    )
