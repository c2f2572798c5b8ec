"""Statements 69 to 74, which the documents imply: modes, running statistics, blind checks, gains, images."""

from __future__ import annotations

import numpy

from ... import functional as F
from ...nn import BatchNorm1d, CosineLinear, GroupNorm, LayerNorm, Linear, RMSNorm, WeightNorm
from ...ops.create import ones, tensor, zeros
from .frame import FRAMES
from .record import Record, claim
from .tools import apart, bits_apart, run


@claim(69, "Training or evaluation mode matters to batch norm only", "Implied")
def modes(record: Record) -> None:
    """Layer, group, RMS, weight and cosine norm give the same bits in both modes and keep no buffers; batch norm does
    neither."""
    x = tensor(numpy.random.default_rng(record.seeds[0]).normal(2.0, 3.0, size=(8, 6)))
    layers = [LayerNorm(6), GroupNorm(2, 6), RMSNorm(6), WeightNorm(Linear(6, 6)), CosineLinear(6, 6), BatchNorm1d(6)]
    for module in layers:
        module.to("float64")
        train, evaluation = module.train()(x).numpy(), module.eval()(x).numpy()
        name, buffers = type(module).__name__, len(list(module.buffers()))
        if isinstance(module, BatchNorm1d):
            record.stated(f"{name}: relative change from training to evaluation", apart(train, evaluation), above=0.1)
        else:
            record.stated(
                f"{name}: values that differ in a bit, and buffers", bits_apart(train, evaluation) + buffers, equals=0
            )


@claim(70, "Each forward pass in training moves the running statistics", "Implied")
def moved_twice(record: Record) -> None:
    """Two passes over one batch move them twice: the share of the batch is 0.1 + 0.9 · 0.1. A check of gradients by
    differences calls the function often and must not let that count."""
    found = []
    for seed in record.seeds:
        x = numpy.random.default_rng(seed).normal(2.0, 3.0, size=(8, 3))
        mean, var = zeros(3, dtype="float64"), ones(3, dtype="float64")
        for _ in range(2):
            F.batch_norm(tensor(x), mean, var, training=True)
        found.append(max(apart(mean.numpy(), 0.19 * x.mean(0)), apart(var.numpy(), 0.81 + 0.19 * x.var(0, ddof=1))))
    record.stated("running statistics from the closed form", max(found), below=1e-12)


@claim(
    71, "A gradient of ones from above gives exactly no gradient below batch and layer norm", "Implied",
)  # fmt: skip
def blind_check(record: Record) -> None:
    """The values of a standardized slice sum to 0 whatever the input, so a check with y.sum() as loss sees nothing:
    it accepts a backward that returns zeros. A random gradient from above sees it."""
    by_ones, by_random = [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x = rng.normal(3.0, 2.0, size=(12, 9))
        for axis in (0, 1):
            by_ones.append(numpy.abs(run(lambda t: F.standardize(t, axis), x, g=numpy.ones_like(x))[1]).max())  # noqa: B023
            by_random.append(numpy.abs(run(lambda t: F.standardize(t, axis), x, g=rng.normal(size=x.shape))[1]).max())  # noqa: B023
    record.stated("largest gradient for ones", max(by_ones), below=1e-14)
    record.stated("largest gradient for random numbers", min(by_random), above=0.1)


@claim(72, "One value per channel has no variance: batch norm cannot train on it", "Implied")
def one_value(record: Record) -> None:
    """The function gives exactly the bias, with no gradient for the input, and the layer refuses, with the remedy."""
    x = numpy.random.default_rng(record.seeds[0]).normal(size=(1, 3))
    y, by_x = run(lambda t: F.batch_norm(t, None, None, ones(3, dtype="float64"), ones(3, dtype="float64"), True), x)
    record.stated("largest |y - bias| and |gradient|", max(numpy.abs(y - 1).max(), numpy.abs(by_x).max()), equals=0)
    try:
        BatchNorm1d(3)(tensor(x.astype("float32")))
        refused = 0
    except ValueError:
        refused = 1
    record.stated("the layer refuses (1: yes)", refused, equals=1)


@claim(73, "The gradients of gain and bias are Σ g x̂ and Σ g", "Implied")
def affine_gradients(record: Record) -> None:
    """Summed over all that shares a gain: samples and positions in batch and group norm, samples in layer norm."""
    for name in ("batch", "layer", "instance", "group", "rms"):
        shape, affine, fused, _ = FRAMES[name]
        worst = 0.0
        for seed in record.seeds:
            rng = numpy.random.default_rng(seed)
            x, gain, bias, g = (rng.normal(size=s) for s in (shape, affine, affine, shape))
            _, _, by_gain, by_bias = run(lambda *v: fused(*v, 1e-5), x, gain, bias, g=g)  # noqa: B023
            x_hat = fused(*map(tensor, (x, numpy.ones(affine), numpy.zeros(affine))), 1e-5).numpy()
            axes = (0,) if affine[-1] != 1 else (0, 2)
            expected = [v.sum(axis=axes).reshape(affine) for v in (g * x_hat, g)]
            worst = max(worst, apart(by_gain, expected[0]), apart(by_bias, expected[1]))
        record.stated(f"{name}: largest relative difference", worst, below=1e-12)


@claim(74, "All four normalizations work on images, (N, C, H, W)", "Implied")
def images(record: Record) -> None:
    """Batch norm of an image is that of its pixels as samples, layer norm that of all its values, weight norm takes a
    kernel as one row, cosine norm the channels of a pixel."""
    rng = numpy.random.default_rng(record.seeds[0])
    x, w, g = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(7, 3)), rng.normal(size=(2, 1))
    rows = numpy.moveaxis(x, 1, -1)
    y = F.batch_norm(tensor(x), training=True).numpy()
    pixels = F.batch_norm(tensor(rows.reshape(-1, 3)), training=True).numpy().reshape(rows.shape)
    record.stated("batch: relative difference", apart(y, numpy.moveaxis(pixels, -1, 1)), below=1e-12)
    y = F.layer_norm(tensor(x), (3, 4, 5)).numpy().reshape(2, 60)
    record.stated(
        "layer: relative difference", apart(y, F.layer_norm(tensor(x.reshape(2, 60)), 60).numpy()), below=1e-12
    )
    kernels = F.weight_norm(tensor(x), tensor(g.reshape(2, 1, 1, 1))).numpy().reshape(2, 60)
    flat = F.weight_norm(tensor(x.reshape(2, 60)), tensor(g)).numpy()
    record.stated("weight: relative difference", apart(kernels, flat), below=1e-12)
    y = F.cosine_linear(tensor(rows), tensor(w)).numpy().reshape(-1, 7)
    record.stated(
        "cosine: relative difference",
        apart(y, F.cosine_linear(tensor(rows.reshape(-1, 3)), tensor(w)).numpy()),
        below=1e-12,
    )
