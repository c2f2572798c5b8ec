"""What is held between forward and backward, byte for byte: what a gradient rule will read, and nothing else.

An array the size of an activation is one unit. Each net's sum is written out, so that it says which arrays they are.
"""

import os
import platform
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import nn

N, WIDTH, DEPTH = 1024, 256, 3
UNIT = N * WIDTH * 4  # bytes of one activation
MATRIX, ROW, COLUMN = WIDTH / N, 1 / N, 1 / WIDTH  # of a weight; one number for each feature, for each sample
OBJECTS = 0.02  # 20 kB: Python's objects, and a compiled kernel's copy of what is a view in NumPy's (one number a row)


@pytest.fixture
def traced():
    """Bytes that are held now, and were at most since ``start``, in activations."""

    class Traced:
        def start(self):
            tracemalloc.start()
            self.base = tracemalloc.get_traced_memory()[0]

        def held(self):
            return (tracemalloc.get_traced_memory()[0] - self.base) / UNIT

        def peak(self):
            return (tracemalloc.get_traced_memory()[1] - self.base) / UNIT

    yield Traced()
    tracemalloc.stop()


def batch(activation):
    return [nn.Linear(WIDTH, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), activation()]


def layer(activation):
    return [nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), activation()]


def weight(activation):
    return [nn.WeightNorm(nn.Linear(WIDTH, WIDTH)), activation()]


def cosine(activation):
    return [nn.CosineLinear(WIDTH, WIDTH, bias=True, scale="learned"), activation()]


def plain(activation):
    return [nn.Linear(WIDTH, WIDTH), activation()]


def dropped(activation):
    return [nn.Linear(WIDTH, WIDTH), activation(), nn.Dropout(0.5)]


# What one layer holds, in activations. The activation's result is also what the next layer reads.
HELD = {
    "ReLU": (plain, nn.ReLU, 1),  # the result
    "sigmoid": (plain, nn.Sigmoid, 1),  # the result
    "tanh": (plain, nn.Tanh, 1),  # the result
    "leaky ReLU": (plain, nn.LeakyReLU, 2),  # its input; the result, for the next layer
    "GELU, dropout": (dropped, nn.GELU, 4),  # GELU: its input, P(Z <= x); the mask; the result, for the next layer
    "batch norm, ReLU": (batch, nn.ReLU, 2 + 3 * ROW),  # the norm's input, mean, variance, 1 / std; the result
    "batch norm, sigmoid": (batch, nn.Sigmoid, 2 + 3 * ROW),
    "layer norm, ReLU": (layer, nn.ReLU, 2 + 3 * COLUMN),
    "layer norm, sigmoid": (layer, nn.Sigmoid, 2 + 3 * COLUMN),
    "weight norm, ReLU": (weight, nn.ReLU, 1 + MATRIX),  # the weight; the result
    "weight norm, sigmoid": (weight, nn.Sigmoid, 1 + MATRIX),
    "cosine, ReLU": (cosine, nn.ReLU, 3 + MATRIX + COLUMN),  # unit vectors of x and w, lengths; cosines; the result
    "cosine, sigmoid": (cosine, nn.Sigmoid, 3 + MATRIX + COLUMN),
}


def net_of(make, activation):
    tn.manual_seed(0)
    return nn.Sequential(*(part for _ in range(DEPTH) for part in make(activation)))


@pytest.mark.parametrize("name", HELD)
def test_a_net_holds_what_its_rules_read(name, traced):
    make, activation, units = HELD[name]
    net, x = net_of(make, activation), tn.randn(N, WIDTH)
    net(x).sum().backward()
    net.zero_grad()
    traced.start()
    y = net(x)
    assert DEPTH * units <= traced.held() <= DEPTH * units + OBJECTS
    del y
    assert traced.held() <= OBJECTS


@pytest.mark.parametrize("name", HELD)
def test_after_backward_only_the_result_and_the_gradients_are_held(name, traced):
    make, activation, _ = HELD[name]
    net, x = net_of(make, activation), tn.randn(N, WIDTH)
    net(x).sum().backward()
    gradients = sum(p.size for p in net.parameters()) * 4 / UNIT
    net.zero_grad()
    traced.start()
    y = net(x)
    y.sum().backward()
    assert 1 + gradients <= traced.held() <= 1 + gradients + OBJECTS


def test_the_sweep_drops_each_gradient_when_it_is_used(traced):
    x, g = tn.zeros(N, WIDTH, requires_grad=True), np.ones((N, WIDTH), "float32")
    y = x
    traced.start()
    for _ in range(4):
        y = y.exp()
    assert 4 <= traced.held() <= 4 + OBJECTS
    y.backward(g)
    # Four results, the gradient of the last (a copy of g) or the next to last, and the product with the result.
    assert 6 <= traced.peak() <= 6 + OBJECTS


def test_the_sweep_drops_the_parts_of_a_sum(traced):
    x, g = tn.zeros(N, WIDTH, requires_grad=True), np.ones((N, WIDTH), "float32")
    traced.start()
    y = x.log1p()
    y = y + y.exp()
    y.backward(g)
    # At the exp: its result, y, the copy of g, what comes of it, their sum. At the log: y, that sum, 1 + x, a quotient.
    assert 5 <= traced.peak() <= 5 + OBJECTS


FAULTS = """
import resource
import tinygrad_norm as tn

x = tn.ones(1024, 1024).requires_grad_()
g = tn.ones(1024, 1024)
for step in range(20):
    if step == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x.grad = None
    tn.functional.batch_norm(x, training=True).backward(g)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have rules of their own")
def test_large_arrays_find_the_memory_of_those_before():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | {"TINYGRAD_NORM_JIT": "0"}
    faults = subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True)
    assert int(faults.stdout) < 100  # all of the ten steps; in new pages it would be 20,000
