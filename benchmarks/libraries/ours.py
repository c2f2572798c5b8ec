"""This package. Flags: ``fast`` insists on the compiled kernels, which with ``threads`` use all cores; ``cuda`` puts
everything on the GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from typing import Any

import numpy

import tinygrad_norm as tn
from tinygrad_norm import functional as F
from tinygrad_norm import nn, optim
from tinygrad_norm.backend import backend_for, cpu
from tinygrad_norm.backend.openblas import kernel, threads

from ..cases import EPS, LEARNING_RATE, Case, operands, start
from . import Missing, queued

SPELLING = {
    "batch": {"w": "linear{}.weight", "gain": "norm{}.weight", "shift": "norm{}.bias"},
    "layer": {"w": "linear{}.weight", "b": "linear{}.bias", "gain": "norm{}.weight", "shift": "norm{}.bias"},
    "weight": {"w": "linear{}.weight_v", "b": "linear{}.layer.bias", "length": "linear{}.weight_g"},
    "cosine": {"w": "linear{}.weight", "b": "linear{}.bias", "scale": "linear{}.scale"},
}
LAST = {"w": "linear{}.weight", "b": "linear{}.bias"}


def versions(flags: Collection[str]) -> dict[str, str]:
    """Of this package, NumPy and, where it is used, Numba."""
    found = {"tinygrad_norm": tn.__version__, "numpy": numpy.__version__}
    if "fast" in flags:
        if not find_spec("numba"):
            raise Missing("numba is not installed")
        if type(cpu).__name__ == "CPU":
            raise Missing("this version has no compiled kernels")
        found["numba"] = version("numba")
    if "cuda" in flags:
        try:
            tn.zeros(1, device="cuda")
        except Exception as error:
            raise Missing(f"no cuda: {error}") from error
        library = backend_for("cuda").library
        name = library.cuda.runtime.getDeviceProperties(0)["name"].decode()
        return found | {"cupy": library.__version__, "GPU": name, "kernels": type(backend_for("cuda")).__name__}
    return found | {"blas": f"OpenBLAS, kernels for {kernel()}, {threads()} threads" if kernel() else "not OpenBLAS"}


def make(case: Case, flags: Collection[str]) -> tuple[Callable, Callable]:
    """See the package's text."""
    device = "cuda" if "cuda" in flags else "cpu"
    if "threads" in flags:
        tn.set_num_threads(os.cpu_count() or 1)
    makers = {"train": train, "norm": norm, "chain": product, "copy": copy, "one way": one_way}
    return makers[case["work"]](case, device)


def train(case: Case, device: str) -> tuple[Callable, Callable]:
    """A training step as the tour writes it."""
    layers, x, labels = start(case)
    model = nn.MLP(case["sizes"], norm=case["norm"])
    names = [SPELLING[case["norm"]]] * (len(layers) - 1) + [LAST]
    values = (
        {spelling[key].format(i): array for key, array in layer.items()}
        for i, (layer, spelling) in enumerate(zip(layers, names, strict=True), 1)
    )
    given = dict(chain.from_iterable(v.items() for v in values))
    report = model.load_state_dict(given, strict=False)
    assert {key.split(".")[-1] for key in report.missing_keys} <= {"running_mean", "running_var", "num_batches_tracked"}
    assert not report.unexpected_keys
    model.to(device)
    optimizer = optim.Adam(model.named_parameters(), lr=LEARNING_RATE)
    data, target = tn.tensor(x, device=device), tn.tensor(labels, device=device)

    def run() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run, lambda: [b.numpy() for name, b in model.named_buffers() if name.endswith("running_var")]


def norm(case: Case, device: str) -> tuple[Callable, Callable]:
    """Forward and backward of one normalization or convolution."""
    values: dict[str, Any] = {name: tn.tensor(a, device=device) for name, a in operands(case).items()}
    g = values.pop("g")
    for v in values.values():
        v.requires_grad_()
    x = values["x"]
    forward = {
        "batch": lambda: F.batch_norm(x, None, None, values["gain"], values["shift"], True),
        "layer": lambda: F.layer_norm(x, x.shape[1], values["gain"], values["shift"]),
        "weight": lambda: F.weight_norm(x, values["length"]),
        "cosine": lambda: F.cosine_linear(x, values["w"]),
        "conv": lambda: F.conv2d(x, values["w"], values["b"], padding=1),
    }[case["norm"]]
    last = []

    def run() -> None:
        for v in values.values():
            v.grad = None
        y = forward()
        y.backward(g)
        last[:] = [y]
        tn.cuda.synchronize()

    return run, lambda: [t.detach().numpy() for t in (*last, *(v.grad for v in values.values()))]


def product(case: Case, device: str) -> tuple[Callable, Callable]:
    """The chain y = y * w."""
    x = tn.tensor(numpy.eye(2, dtype="float32"), requires_grad=True, device=device)
    w = tn.tensor(numpy.eye(2, dtype="float32"), requires_grad=case["both"], device=device)
    seed = tn.ones(2, 2, device=device)

    def run() -> None:
        x.grad = w.grad = None
        y = x
        for _ in range(case["length"]):
            y = y * w
        y.backward(seed)

    return run, lambda: [v.grad.numpy() for v in (x, w)[: 1 + case["both"]]]


def copy(case: Case, device: str) -> tuple[Callable, Callable]:
    """A copy of an array."""
    xp = backend_for(device)
    x = xp.from_host(numpy.ones(case["shape"], "float32"))
    return queued(case, lambda: (xp.copy(x),), tn.cuda.synchronize, xp.to_host)


def one_way(case: Case, device: str) -> tuple[Callable, Callable]:
    """Forward or backward of a normalization, without the graph."""
    xp = backend_for(device)
    values = {name: xp.from_host(a) for name, a in operands(case).items()}
    x, g, gain, shift = (values.get(name) for name in ("x", "g", "gain", "shift"))
    axes = (0,) if case["norm"] == "batch" else (1,)
    if case["norm"] == "unit":
        ways = unit_ways(xp, x, g)
    else:
        stats = xp.norm_forward(x, gain, shift, axes, EPS)[1]

        def backward() -> tuple:
            gx, by_gain, by_shift = xp.norm_backward(g, x, stats, gain, axes, (True, True, True))
            return gx, xp.sum_to(by_gain, gain.shape), xp.sum_to(by_shift, gain.shape)

        ways = {"forward": lambda: xp.norm_forward(x, gain, shift, axes, EPS)[:1], "backward": backward}
    return queued(case, ways[case["way"]], tn.cuda.synchronize, xp.to_host)


def unit_ways(xp: Any, x: Any, g: Any) -> dict[str, Callable[[], tuple]]:
    """Rows made unit vectors, which weight norm and the cosine do."""
    u, norm = xp.unit_forward(x, (1,), 0.0)
    return {
        "forward": lambda: xp.unit_forward(x, (1,), 0.0)[:1],
        "backward": lambda: (xp.unit_backward(g, u, norm, (1,), 0.0),),
    }
