"""Compiled kernels on several threads: the same results, and nobody waits for ever."""

import multiprocessing
import threading

import numpy
import pytest

import tinygrad_norm as tn
from tinygrad_norm import functional as F
from tinygrad_norm.backend.cpu import CPU
from tinygrad_norm.backend.jit import JIT, threads
from tinygrad_norm.backend.openblas import one_thread

pytest.importorskip("numba", reason="the kernels that take threads are compiled by numba")


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

    def watched(call, *args, **options):
        return plain(lambda first, last: seen.append((first, last)) or call(first, last), *args, **options)

    for module in ("norms", "training", "windows"):
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


def test_convolutions_share_the_pictures(monkeypatch):
    blocks, results = used(monkeypatch), []
    with one_thread():
        for n in (1, 2):
            tn.set_num_threads(n)
            x, w, b = (tn.tensor(random(*shape)).requires_grad_() for shape in ((48, 3, 8, 8), (5, 3, 3, 3), (5,)))
            y = F.conv2d(x, w, b, padding=1)
            y.backward(tn.tensor(random(*y.shape)))
            results.append([v.numpy() for v in (y, x.grad, w.grad, b.grad)])
    assert sorted(blocks) == sorted(2 * [(0, 48), (0, 24), (24, 48)])
    for one, several in zip(*results, strict=True):
        numpy.testing.assert_allclose(several, one, rtol=0, atol=numpy.abs(one).max() * 1e-6)


@pytest.mark.parametrize("of_blas, most", [(1, 1), (2, 2), (3, 3), (None, 1)])
def test_convolutions_have_as_many_threads_as_products_of_matrices(of_blas, most, monkeypatch):
    monkeypatch.setattr("tinygrad_norm.backend.jit.windows.threads", lambda: of_blas)
    blocks = used(monkeypatch)
    x, w = tn.tensor(random(48, 3, 8, 8)), tn.tensor(random(5, 3, 3, 3))
    F.conv2d(x, w)
    assert sorted(blocks) == [(48 * i // most, 48 * (i + 1) // most) for i in range(most)]
    F.layer_norm(tn.tensor(random(200, 64)), 64)  # other kernels do not
    assert blocks[most:] == [(0, 200)]


def test_each_thread_has_enough_to_do(monkeypatch):
    monkeypatch.setattr(threads, "LEAST", 1000)
    blocks = []
    for count, size in ((100, 900), (100, 1000), (100, 1600), (100, 2000), (100, 9000), (40, 9000), (16, 9000)):
        seen = threads.in_blocks(lambda first, last: last - first, count, size, 4)
        assert sum(seen) == count
        blocks.append(len(seen))
    assert blocks == [1, 2, 3, 4, 4, 2, 1]


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
