"""What is measured: the cases, and the arrays that every library starts from.

A case is a dict of plain values, so that it can be sent to another process and written into the results.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy

Case = dict[str, Any]

SECTIONS = ("train", "norms", "conv", "overhead", "scaling", "memory", "bandwidth")
NETS = ((64, (64, 128, 128, 10)), (128, (784, 256, 256, 10)), (512, (784, 1024, 1024, 10)))
SHAPES = ((64, 128), (256, 512), (2048, 1024), (8192, 1024))
PICTURES, CHANNELS, BATCHES = (8, 28), ((1, 16), (16, 32)), (64, 256)
NAMES = {"batch": "BatchNorm", "layer": "LayerNorm", "weight": "WeightNorm", "cosine": "CosineNorm"}
# With batch norm, rounding grows with depth: behind 32 layers two libraries no longer have the same loss.
DEPTHS, WIDTHS = (1, 2, 4, 8, 16), (32, 64, 128, 256, 512, 1024)
LENGTH = 1000  # operations in the chain that shows what recording one costs
LARGE = ((65536, 1024), (16384, 4096))
PASSES = {("batch", "forward"): 3, ("batch", "backward"): 5, ("layer", "forward"): 2, ("layer", "backward"): 5,
          ("unit", "forward"): 2, ("unit", "backward"): 3}  # fmt: skip
"""How often a kernel reads or writes an array: sums over the rows need one pass, and what is done with them another."""
QUEUE = 10  # launches between two waits, so that none waits for the program

LEARNING_RATE, BETA1, BETA2, ADAM_EPS = 1e-3, 0.9, 0.999, 1e-8
EPS, MOMENTUM = 1e-5, 0.1


def plan(sections: list[str], quick: bool) -> list[Case]:
    """All cases of these sections; ``quick``: a few of each."""
    makers = {
        "train": train_cases, "norms": norm_cases, "conv": conv_cases, "overhead": overhead_cases,
        "scaling": scaling_cases, "memory": memory_cases, "bandwidth": bandwidth_cases,
    }  # fmt: skip
    return [case for section in SECTIONS if section in sections for case in makers[section](quick)]


def net(section: str, batch: int, sizes: tuple[int, ...], norm: str = "batch", **more: Any) -> Case:
    """One training step of an MLP."""
    label = f"{batch}, {'-'.join(map(str, sizes))}, {NAMES[norm]}"
    return {"section": section, "work": "train", "batch": batch, "sizes": sizes, "norm": norm, "label": label} | more


def train_cases(quick: bool) -> list[Case]:
    """Every net with every normalization; quick: the larger nets with batch norm only."""
    return [
        net("train", batch, sizes, norm)
        for batch, sizes in NETS
        for norm in NAMES
        if norm == "batch" or batch == NETS[0][0] or not quick
    ]


def norm_cases(quick: bool) -> list[Case]:
    """Forward and backward of each normalization alone."""
    return [
        {"section": "norms", "work": "norm", "norm": norm, "shape": (n, d), "label": f"{NAMES[norm]} {n}x{d}"}
        for norm in NAMES
        for n, d in (SHAPES[1:2] if quick else SHAPES)
    ]


def conv_cases(quick: bool) -> list[Case]:
    """Forward and backward of a convolution of pictures of digits; quick: the small pictures, many channels."""
    return [
        {"section": "conv", "work": "norm", "norm": "conv", "shape": (n, c, size, size), "channels": o,
         "label": f"{n} of {c}x{size}x{size} to {o}"}
        for size in PICTURES[: 1 if quick else None]
        for c, o in CHANNELS[1 if quick else 0 :]
        for n in BATCHES
    ]  # fmt: skip


def overhead_cases(quick: bool) -> list[Case]:
    """A chain of multiplications so small that only recording them and going back costs anything."""
    return [
        {"section": "overhead", "work": "chain", "length": LENGTH, "both": both, "label": f"gradient of {of}"}
        for both, of in ((True, "both operands"), (False, "one operand"))
    ]


def scaling_cases(quick: bool) -> list[Case]:
    """The smallest net made deeper, and a net of two hidden layers made wider."""
    deep = [
        net("scaling", 64, (64, *[128] * n, 10), axis="depth", size=n, label=f"{n} hidden layer{'s' * (n > 1)} of 128")
        for n in DEPTHS[:: 3 if quick else 1]
    ]
    return deep + [
        net("scaling", 128, (64, n, n, 10), axis="width", size=n, label=f"2 hidden layers of {n}")
        for n in WIDTHS[:: 3 if quick else 1]
    ]


def memory_cases(quick: bool) -> list[Case]:
    """The three nets with batch norm; quick: the middle one."""
    return [net("memory", batch, sizes) for batch, sizes in (NETS[1:2] if quick else NETS)]


def bandwidth_cases(quick: bool) -> list[Case]:
    """The kernels of the norms on arrays too large for any cache, beside a copy of such an array."""
    found = []
    for n, d in LARGE[: 1 if quick else None]:
        case = {"section": "bandwidth", "shape": (n, d), "length": QUEUE}
        found.append(case | {"work": "copy", "bytes": 8 * n * d, "label": f"copy {n}x{d}"})
        found += [
            case | {"work": "one way", "norm": norm, "way": way, "bytes": 4 * n * d * passes,
                    "label": f"{NAMES.get(norm, 'unit rows')}, {way} {n}x{d}"}
            for (norm, way), passes in PASSES.items()
        ]  # fmt: skip
    return found


def start(case: Case) -> tuple[list[dict[str, numpy.ndarray]], numpy.ndarray, numpy.ndarray]:
    """Initial parameters of each linear layer with its norm, and one batch of data with its labels.

    Keys of a layer: w, (out, in); b where it has a bias (before batch norm it would have no effect); gain and shift of
    batch and layer norm; length of weight norm, (out, 1); scale of the cosine, without dimensions.
    """
    draw = numpy.random.default_rng(0)
    norm, sizes = case["norm"], case["sizes"]

    def normal(*shape: int) -> numpy.ndarray:
        return draw.standard_normal(shape, dtype="float32")

    layers = []
    for i, (n, m) in enumerate(pairwise(sizes)):
        hidden = i < len(sizes) - 2
        layer = {"w": normal(m, n) / numpy.float32(n**0.5)}
        if norm != "batch" or not hidden:
            layer["b"] = 0.1 * normal(m)
        if hidden and norm in ("batch", "layer"):
            layer |= {"gain": 1 + 0.1 * normal(m), "shift": 0.1 * normal(m)}
        if hidden and norm == "weight":
            layer["length"] = 1 + 0.1 * normal(m, 1)
        if hidden and norm == "cosine":
            layer["scale"] = numpy.array(n**0.5, "float32")
        layers.append(layer)
    return layers, normal(case["batch"], sizes[0]), draw.integers(0, sizes[-1], case["batch"])


def operands(case: Case) -> dict[str, numpy.ndarray]:
    """What a normalization or convolution alone is applied to: x, its parameters, and the gradient that comes back.

    Weight norm: x is the direction, ``length`` one number for each row. Cosine: ``w`` is square.
    """
    draw = numpy.random.default_rng(0)
    if case["norm"] == "conv":
        (n, c, *size), o = case["shape"], case["channels"]
        of = {"x": (n, c, *size), "w": (o, c, 3, 3), "b": (o,), "g": (n, o, *size)}
        return {name: draw.standard_normal(shape, dtype="float32") for name, shape in of.items()}
    n, d = case["shape"]
    shapes = {
        "batch": {"gain": (d,), "shift": (d,)}, "layer": {"gain": (d,), "shift": (d,)},
        "weight": {"length": (n, 1)}, "cosine": {"w": (d, d)}, "unit": {},
    }[case["norm"]]  # fmt: skip
    shapes = {"x": (n, d), **shapes, "g": (n, d)}
    return {name: draw.standard_normal(shape, dtype="float32") for name, shape in shapes.items()}
