"""PyTorch. Flags: ``compile`` compiles model and loss, ``fused`` is Adam in one kernel, ``cuda`` uses the GPU."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from ..cases import EPS, LEARNING_RATE, Case, operands, start
from . import Missing, queued


def versions(flags: Collection[str]) -> dict[str, str]:
    """Of PyTorch."""
    if "cuda" in flags and not torch.cuda.is_available():
        raise Missing("no cuda: torch.cuda.is_available() is False")
    if "cuda" in flags:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # as the others compute
        return {"torch": torch.__version__, "GPU": torch.cuda.get_device_name()}
    return {"torch": torch.__version__, "blas": f"{torch.get_num_threads()} threads"}


def make(case: Case, flags: Collection[str]) -> tuple[Callable, Callable]:
    """See the package's text."""
    if "compile" in flags:
        torch._dynamo.reset()  # or the shapes of the case before lead to one compiled for all shapes
    makers = {"train": train, "norm": norm, "chain": product, "copy": copy, "one way": one_way}
    return makers[case["work"]](case, flags)


def device_of(flags: Collection[str]) -> str:
    return "cuda" if "cuda" in flags else "cpu"


def wait(flags: Collection[str]) -> None:
    """Until the GPU, if one is used, has done its work."""
    if "cuda" in flags:
        torch.cuda.synchronize()


class CosineLinear(nn.Module):
    """The cosine between x and each row of the weight, which PyTorch has not, put together from what it has."""

    def __init__(self, n: int, m: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(m, n))
        self.bias = nn.Parameter(torch.empty(m))
        self.scale = nn.Parameter(torch.empty(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(F.normalize(x), F.normalize(self.weight)) * self.scale + self.bias


def model_of(case: Case, layers: list) -> nn.Sequential:
    """The net with the given parameters."""
    modules: list[nn.Module] = []
    kind, sizes = case["norm"], case["sizes"]
    for layer, (n, m) in zip(layers, pairwise(sizes)):
        hidden = layer is not layers[-1]
        linear = CosineLinear(n, m) if hidden and kind == "cosine" else nn.Linear(n, m, bias="b" in layer)
        norm = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}.get(kind, lambda m: None)(m) if hidden else None
        values = {"weight": layer["w"], "bias": layer.get("b"), "scale": layer.get("scale")}
        with torch.no_grad():
            for name, value in values.items():
                if value is not None:
                    getattr(linear, name).copy_(torch.from_numpy(value))
            if norm is not None:
                norm.weight.copy_(torch.from_numpy(layer["gain"]))
                norm.bias.copy_(torch.from_numpy(layer["shift"]))
            if "length" in layer:
                linear = weight_norm(linear)
                linear.parametrizations.weight.original0.copy_(torch.from_numpy(layer["length"]))
        modules += [v for v in (linear, norm, nn.ReLU() if hidden else None) if v is not None]
    return nn.Sequential(*modules)


def train(case: Case, flags: Collection[str]) -> tuple[Callable, Callable]:
    """A training step as PyTorch's tutorials write it."""
    layers, x, labels = start(case)
    model = model_of(case, layers).to(device_of(flags))
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused="fused" in flags or None)
    data, target = torch.from_numpy(x).to(device_of(flags)), torch.from_numpy(labels).to(device_of(flags))

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(x), y)

    if "compile" in flags:
        loss_of = torch.compile(loss_of, dynamic=False)

    def run() -> float:
        optimizer.zero_grad()
        loss = loss_of(data, target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run, lambda: [b.cpu().numpy() for name, b in model.named_buffers() if name.endswith("running_var")]


def norm(case: Case, flags: Collection[str]) -> tuple[Callable, Callable]:
    """Forward and backward of one normalization or convolution."""
    values = {name: torch.from_numpy(a).to(device_of(flags)) for name, a in operands(case).items()}
    g = values.pop("g")
    leaves = [v.requires_grad_() for v in values.values()]
    forward = {
        "batch": lambda x, gain, shift: F.batch_norm(x, None, None, gain, shift, True),
        "layer": lambda x, gain, shift: F.layer_norm(x, x.shape[1:], gain, shift),
        "weight": lambda v, length: torch._weight_norm(v, length, 0),
        "cosine": lambda x, w: F.linear(F.normalize(x), F.normalize(w)),
        "conv": lambda x, w, b: F.conv2d(x, w, b, padding=1),
    }[case["norm"]]
    if "compile" in flags:
        forward = torch.compile(forward, dynamic=False)
    last = []

    def run() -> None:
        for v in leaves:
            v.grad = None
        y = forward(*leaves)
        y.backward(g)
        wait(flags)
        last[:] = [y.detach()]

    return run, lambda: [t.cpu().numpy() for t in (*last, *(v.grad for v in leaves))]


def product(case: Case, flags: Collection[str]) -> tuple[Callable, Callable]:
    """The chain y = y * w."""
    device = device_of(flags)
    x = torch.eye(2, requires_grad=True, device=device)
    w = torch.eye(2, requires_grad=case["both"], device=device)
    seed = torch.ones(2, 2, device=device)

    def run() -> None:
        x.grad = w.grad = None
        y = x
        for _ in range(case["length"]):
            y = y * w
        y.backward(seed)

    return run, lambda: [v.grad.cpu().numpy() for v in (x, w)[: 1 + case["both"]]]


def copy(case: Case, flags: Collection[str]) -> tuple[Callable, Callable]:
    """A copy of an array."""
    x = torch.ones(case["shape"], device=device_of(flags))
    return queued(case, lambda: (x.clone(),), lambda: wait(flags), to_host)


def one_way(case: Case, flags: Collection[str]) -> tuple[Callable, Callable]:
    """Forward or backward of a normalization, without the graph."""
    if case["norm"] == "unit":
        raise Missing("PyTorch has no kernel that makes unit vectors")
    values = {name: torch.from_numpy(a).to(device_of(flags)) for name, a in operands(case).items()}
    x, g, gain, shift = (values[name] for name in ("x", "g", "gain", "shift"))
    aten, wanted, d = torch.ops.aten, [True, True, True], x.shape[1:]
    if case["norm"] == "layer":
        _, mean, rstd = torch.native_layer_norm(x, d, gain, shift, EPS)
        ways = {
            "forward": lambda: torch.native_layer_norm(x, d, gain, shift, EPS)[:1],
            "backward": lambda: aten.native_layer_norm_backward(g, x, d, mean, rstd, gain, shift, wanted),
        }
    else:
        _, mean, rstd = torch.native_batch_norm(x, gain, shift, None, None, True, 0.0, EPS)
        saved = (None, None, mean, rstd)
        ways = {
            "forward": lambda: torch.native_batch_norm(x, gain, shift, None, None, True, 0.0, EPS)[:1],
            "backward": lambda: aten.native_batch_norm_backward(g, x, gain, *saved, True, EPS, wanted),
        }
    return queued(case, ways[case["way"]], lambda: wait(flags), to_host)


def to_host(a: torch.Tensor) -> Any:
    return a.cpu().numpy()
