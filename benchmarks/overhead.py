"""Time per operation, forward and backward, of a chain of 2x2 multiplications: what recording costs.

    python benchmarks/overhead.py

Runs this package and, where installed, PyTorch, MyGrad and HIPS autograd by turns in one process, and prints the median
over the rounds and the ratio to PyTorch. Arrays this small make the arithmetic negligible.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy

import tinygrad_norm as tn


def ours(length: int, both: bool) -> Callable[[], float]:
    """A timed chain y = y * w; ``both``: w needs a gradient too."""
    x = tn.tensor(numpy.eye(2, dtype="float32"), requires_grad=True)
    w = tn.tensor(numpy.eye(2, dtype="float32"), requires_grad=both)
    seed = tn.ones(2, 2)

    def run() -> float:
        start = time.perf_counter()
        y = x
        for _ in range(length):
            y = y * w
        y.backward(seed)
        return time.perf_counter() - start

    return run


def pytorch(length: int, both: bool) -> Callable[[], float]:
    """The same in PyTorch, eager."""
    import torch

    x, w, seed = torch.eye(2, requires_grad=True), torch.eye(2, requires_grad=both), torch.ones(2, 2)

    def run() -> float:
        start = time.perf_counter()
        y = x
        for _ in range(length):
            y = y * w
        y.backward(seed)
        return time.perf_counter() - start

    return run


def mygrad(length: int, both: bool) -> Callable[[], float]:
    """The same in MyGrad."""
    import mygrad

    x = mygrad.tensor(numpy.eye(2, dtype="float32"))
    w = mygrad.tensor(numpy.eye(2, dtype="float32"), constant=not both)

    def run() -> float:
        start = time.perf_counter()
        y = x
        for _ in range(length):
            y = y * w
        y.backward(numpy.ones((2, 2), "float32"))
        return time.perf_counter() - start

    return run


def autograd(length: int, both: bool) -> Callable[[], float]:
    """The same in HIPS autograd."""
    from autograd import make_vjp

    eye, seed = numpy.eye(2, dtype="float32"), numpy.ones((2, 2), "float32")

    def chain(x, w):
        y = x
        for _ in range(length):
            y = y * w
        return y

    def run() -> float:
        start = time.perf_counter()
        pull, _ = make_vjp(chain, (0, 1) if both else 0)(eye, eye)
        pull(seed)
        return time.perf_counter() - start

    return run


def measure(length: int, rounds: int, both: bool) -> dict[str, float]:
    """Median microseconds per operation of every library that is installed."""
    runs = {}
    for name, make in (("tinygrad_norm", ours), ("PyTorch", pytorch), ("MyGrad", mygrad), ("autograd", autograd)):
        try:
            runs[name] = make(length, both)
        except ImportError:
            continue
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(run() / length * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=1000, help="operations in the chain (default 1000)")
    parser.add_argument("--rounds", type=int, default=51, help="rounds, libraries by turns (default 51)")
    options = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {numpy.__version__}\n")
    print("| gradient wanted of | library | us per operation | ratio to PyTorch |\n|---|---|---|---|")
    for both in (True, False):
        result = measure(options.length, options.rounds, both)
        for name, value in result.items():
            ratio = f"{value / result['PyTorch']:.2f}" if "PyTorch" in result else "-"
            print(f"| {'both operands' if both else 'one operand'} | {name} | {value:.2f} | {ratio} |")


if __name__ == "__main__":
    main()
