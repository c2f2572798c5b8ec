"""Compiled kernels on several threads: the same results, and nobody waits for ever."""

import multiprocessing
import subprocess
import sys
import threading
import time
from itertools import pairwise

import numpy
import pytest

import tinygrad_norm as tn
from tinygrad_norm import functional as F
from tinygrad_norm.backend.cpu import CPU
from tinygrad_norm.backend.jit import JIT, threads, windows
from tinygrad_norm.backend.openblas import gemm

pytest.importorskip("numba", reason="the kernels that take threads are compiled by numba")


compiled_convolutions = pytest.mark.skipif(
    gemm("sgemm") is None, reason="convolutions are compiled where NumPy's BLAS is an OpenBLAS with 64-bit sizes"
)


@pytest.fixture(autouse=True)
def small_arrays_too(monkeypatch):
    monkeypatch.setattr(threads, "LEAST", 1)
    yield
    tn.set_num_threads(1)


def random(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape, "float32")


def used(monkeypatch):
    """The blocks that kernels were split into."""
    seen, plain = [], threads.in_blocks

    def watched(call, count, size):
        return plain(lambda first, last: seen.append((first, last)) or call(first, last), count, size)

    for module in ("norms", "training"):
        monkeypatch.setattr(f"tinygrad_norm.backend.jit.{module}.in_blocks", watched)
    return seen


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("shape, axes", [((200, 333), (0,)), ((200, 333), (1,)), ((9, 100, 5, 7), (0, 2, 3))])
def test_norms_have_the_same_bits(shape, axes, count, monkeypatch):
    xp, x, g = JIT(), random(*shape), random(*shape, seed=1)
    size = 333 if len(shape) == 2 else 100
    weight = random(size, seed=2) if len(shape) == 2 else random(size, 1, 1, seed=2)
    blocks, results = used(monkeypatch), []
    for n in (1, count):
        tn.set_num_threads(n)
        y, stats = xp.norm_forward(x, weight, weight, axes, 1e-5)
        results.append((y, *stats, *xp.norm_backward(g, x, stats, weight, axes, (True, True, True))))
    assert len(blocks) == 2 * (1 + count)
    *same, gweight, gbias = zip(*results, strict=True)
    for one, several in same:
        numpy.testing.assert_array_equal(one, several)
    for one, several in (gweight, gbias):
        if axes == (1,):  # sums over rows, of which each thread has its own
            numpy.testing.assert_allclose(several, one, rtol=0, atol=numpy.abs(one).max() * 1e-6)
        else:
            numpy.testing.assert_array_equal(one, several)


def test_weight_norm_has_the_same_bits(monkeypatch):
    xp, v, g, length = JIT(), random(100, 333), random(100, 333, seed=1), random(100, 1, seed=2)
    blocks, results = used(monkeypatch), []
    for n in (1, 3):
        tn.set_num_threads(n)
        w, norm = xp.weight_norm_forward(v, length, (1,), 0.0)
        results.append((w, norm, *xp.weight_norm_backward(g, v, length, norm, (1,), 0.0, (True, True))))
    assert len(blocks) == 2 * (1 + 3)
    for one, several in zip(*results, strict=True):
        numpy.testing.assert_array_equal(one, several)


def test_a_slice_out_of_range_in_any_block_is_found():
    xp = JIT()
    tn.set_num_threads(3)
    for row in (0, 100, 199):
        x = random(200, 64)
        x[row] *= 1e30
        want, _ = CPU().norm_forward(x, None, None, (1,), 0.0)
        numpy.testing.assert_allclose(xp.norm_forward(x, None, None, (1,), 0.0)[0], want, atol=1e-5)


@pytest.mark.parametrize("name, states", [("SGD", 1), ("Adam", 2), ("RMSprop", 1), ("Adagrad", 1)])
def test_updates_have_the_same_bits(name, states, monkeypatch):
    options = {"SGD": {"momentum": 0.9}}.get(name, {})
    blocks, results = used(monkeypatch), []
    for n in (1, 2):
        tn.set_num_threads(n)
        p = tn.tensor(random(1000)).requires_grad_()
        optimizer = getattr(tn.optim, name)([p], lr=0.1, **options)
        for seed in range(3):
            p.grad = tn.tensor(random(1000, seed=seed))
            optimizer.step()
        results.append(p.numpy().copy())
    assert len(blocks) == 3 * (1 + 2)
    numpy.testing.assert_array_equal(*results)


@compiled_convolutions
def test_convolutions_have_the_same_bits(monkeypatch):
    monkeypatch.setattr(windows, "ENOUGH", 1)
    monkeypatch.setattr(windows, "PLACES", 500)
    asked, plain, results = [], threads.share, []
    monkeypatch.setattr(
        windows, "share", lambda call, blocks, n: asked.append((len(blocks), n)) or plain(call, blocks, n)
    )
    for n in (1, 2, 5):
        monkeypatch.setattr(windows, "threads", lambda n=n: n)
        x, w, b = (tn.tensor(random(*shape)).requires_grad_() for shape in ((70, 16, 9, 8), (6, 16, 3, 3), (6,)))
        y = F.conv2d(x, w, b, padding=1)
        y.backward(tn.tensor(random(*y.shape)))
        results.append([v.numpy() for v in (y, x.grad, w.grad, b.grad)])
    assert asked == [(10, 1)] * 2 + [(10, 2)] * 2 + [(10, 5)] * 2
    for one, *several in zip(*results, strict=True):
        for other in several:
            numpy.testing.assert_array_equal(other, one)


@compiled_convolutions
@pytest.mark.parametrize("of_blas, asked, number", [(1, 1, 1), (2, 1, 2), (2, 3, 3), (None, 1, 1), (None, 4, 4)])
def test_convolutions_have_as_many_threads_as_products_of_matrices(of_blas, asked, number, monkeypatch):
    seen = []
    monkeypatch.setattr(windows, "threads", lambda: of_blas)
    monkeypatch.setattr(windows, "share", lambda call, blocks, n: seen.append(n))
    tn.set_num_threads(asked)
    F.conv2d(tn.tensor(random(48, 3, 8, 8)), tn.tensor(random(5, 3, 3, 3)))
    assert seen == [number]


@pytest.mark.parametrize(
    "threads_, count, size, blocks",
    [(4, 100, 900, 1), (4, 100, 1000, 2), (4, 100, 1600, 3), (4, 100, 9000, 4), (4, 40, 9000, 2), (4, 16, 9000, 1)],
)
def test_each_thread_has_enough_to_do(threads_, count, size, blocks, monkeypatch):
    monkeypatch.setattr(threads, "LEAST", 1000)
    tn.set_num_threads(threads_)
    seen = threads.in_blocks(lambda first, last: (first, last), count, size)
    assert len(seen) == blocks and seen[0][0] == 0 and seen[-1][1] == count
    assert all(end == start for (_, end), (start, _) in pairwise(seen))


def test_whoever_is_free_takes_the_next_block():
    slow = threading.Event()

    def call(i, _):
        name = threading.current_thread().name
        if name == taken_by.setdefault("first", name) and i == 0:
            slow.wait(60)  # until all others are done
        elif i == 9:
            slow.set()
        return name, i

    taken_by = {}
    names, order = zip(*threads.share(call, [(i, i) for i in range(10)], 2), strict=True)
    assert order == tuple(range(10)) and len(set(names[1:])) == 1 and names[0] != names[1]


def test_an_error_in_one_block_is_raised_and_ends_the_others():
    begun = []

    def call(i, _):
        begun.append(i)
        if i == 1:
            raise ZeroDivisionError
        time.sleep(0.01)

    with pytest.raises(ZeroDivisionError):
        threads.share(call, [(i, i) for i in range(100)], 2)
    assert len(begun) < 100


def test_where_no_thread_can_be_had_the_caller_does_it_all(monkeypatch):
    class Full:
        def submit(self, work):
            raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr(threads, "_pool", Full)
    me = threading.current_thread()
    assert threads.share(lambda i, _: (i, threading.current_thread()), [(0, 0), (1, 1)], 2) == [(0, me), (1, me)]


@compiled_convolutions
def test_a_thread_may_outlive_the_main_one():
    program = """
import threading, tinygrad_norm as tn
tn.set_num_threads(2)
x, w = tn.randn(64, 16, 16, 16), tn.randn(32, 16, 3, 3)
want = tn.functional.conv2d(x, w).numpy()
def later():
    threading.main_thread().join()
    print((tn.functional.conv2d(x, w).numpy() == want).all())
threading.Thread(target=later).start()
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (out.stdout.strip(), out.stderr) == ("True", "")


def test_python_threads_may_all_ask_for_threads():
    tn.set_num_threads(4)
    x, ones = tn.tensor(random(300, 64)), tn.ones(64)
    want, results = F.layer_norm(x, 64, ones).numpy(), []
    workers = [
        threading.Thread(
            target=lambda: results.extend(F.layer_norm(x, 64, ones).numpy() for _ in range(50)), daemon=True
        )
        for _ in range(6)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    assert len(results) == 300
    for y in results:
        numpy.testing.assert_array_equal(y, want)


def normalized(queue):
    queue.put(F.layer_norm(tn.tensor(random(300, 64)), 64).numpy().sum().item())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_threads_of_its_own():
    tn.set_num_threads(2)
    want = F.layer_norm(tn.tensor(random(300, 64)), 64).numpy().sum().item()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=normalized, args=(queue,), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert queue.get() == want


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2", None])
def test_a_number_of_threads_is_a_number(wrong):
    with pytest.raises(ValueError, match="set_num_threads: threads must be an integer of at least 1; got"):
        tn.set_num_threads(wrong)


def test_small_arrays_are_left_alone(monkeypatch):
    monkeypatch.setattr(threads, "LEAST", 1 << 19)
    blocks = used(monkeypatch)
    tn.set_num_threads(2)
    F.layer_norm(tn.tensor(random(300, 64)), 64)
    assert blocks == [(0, 300)]
