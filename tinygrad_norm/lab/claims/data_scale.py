"""Statements 49 to 53: what scaled data change."""

from __future__ import annotations

from functools import partial

import numpy

from ...functional import linear, relu
from ...ops.create import tensor
from .record import Record, claim
from .scale import LAMBDAS, chain, descent, samples
from .tools import NORMS, apart, bits_apart, run


@claim(
    49, "Norm(W λx) = Norm(Wx) for batch, layer and cosine norm, and not for weight norm", "Not only BN", "ICS notes",
    condition="λ > 0, eps = 0 and, for batch norm, the whole batch is scaled",
)  # fmt: skip
def data_scale(record: Record) -> None:
    """Three do not see the scale of the data; weight norm is linear in it. Batch norm needs all samples scaled alike,
    layer norm and cosine also ignore the scale of one. The prose of the layer norm paper says that all normalizations
    ignore the scale of the data; its own Table 1, and what is measured here, say that weight norm does not."""
    for name, norm in NORMS.items():
        found, one = [], []
        for seed in record.seeds:
            x, w = samples(seed)
            y = run(norm, x, w)[0]
            found += [apart(run(norm, k * x, w)[0], k * y if name == "weight" else y) for k in LAMBDAS]
            case = x.copy()
            case[2] *= 3.0
            one.append(apart(run(norm, case, w)[0], y))
        what = "from λ times the old value" if name == "weight" else "from the old value"
        record.when(f"{name}: largest relative difference {what}, all data scaled", max(found), below=1e-12)
        if name in ("layer", "cosine"):
            record.stated(f"{name}: relative change, one sample scaled", max(one), below=1e-12)
        elif name == "batch":
            record.stated(f"{name}: relative change, one sample scaled", min(one), below=1e-12)


@claim(
    50, "∂Norm(W λx)/∂W = ∂Norm(Wx)/∂W", "Not only BN",
    condition="the norm is batch, layer or cosine norm, λ > 0 and eps = 0",
)  # fmt: skip
def data_gradient(record: Record) -> None:
    """True for the three that ignore the scale of the data. What the document leaves out: their gradient by the data is
    1/λ times the old one. In weight norm the gradient by the weights is λ times the old one, and the one by the data
    does not change."""
    for name, norm in NORMS.items():
        by_weights, by_data = [], []
        for seed in record.seeds:
            x, w = samples(seed)
            _, by_x, by_w = run(norm, x, w)
            for k in LAMBDAS:
                _, again_x, again_w = run(norm, k * x, w)
                by_weights.append(apart(again_w, by_w))
                by_data.append(apart(again_x, by_x if name == "weight" else by_x / k))
        judge = record.stated if name == "weight" else record.when
        judge(f"{name}: largest relative change of the gradient by W", max(by_weights), below=1e-12)
        record.when(f"{name}: gradient by the data, from what is expected", max(by_data), below=1e-12)


@claim(
    51, "In a deep net h_l = x₀ ∏ W_k, so that values explode or vanish with depth", "Not only BN",
    condition="the layers are linear, and for columns in the order W_l ... W_1 x₀",
)  # fmt: skip
def product(record: Record) -> None:
    """The product holds for a chain without activations; for column vectors the factors stand in the opposite order.
    Layers that stretch by 1.5 give 1.5^l, with layer norm the length stays sqrt(width) at any depth."""
    right, literal, relu_differs, slopes, normal = [], [], [], [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        weights, x = rng.normal(size=(4, 5, 5)), rng.normal(size=5)
        h = run(partial(chain, None), x[None], *weights)[0][0]
        right.append(apart(numpy.linalg.multi_dot(weights[::-1]) @ x, h))
        literal.append(apart(x @ numpy.linalg.multi_dot(weights), h))
        bent = tensor(x[None])
        for w in weights:
            bent = relu(linear(bent, tensor(w)))
        relu_differs.append(apart(bent.numpy()[0], h))
        turned = [1.5 * numpy.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(20)]
        start = rng.normal(size=(1, 6))
        end = run(partial(chain, None), start, *turned)[0]
        slopes.append(numpy.log(numpy.linalg.norm(end) / numpy.linalg.norm(start)) / 20 / numpy.log(1.5))
        normal.append(numpy.linalg.norm(run(partial(chain, NORMS["layer"]), start, *turned)[0]) / 6**0.5)
    record.stated("x₀ W₁ ... W_l as written: relative difference from h_l", literal, below=1e-12)
    record.when("W_l ... W_1 x₀: relative difference from h_l", right, below=1e-12)
    record.when(
        "|growth of log ‖h_l‖ in a layer over log 1.5, minus 1|", numpy.abs(numpy.subtract(slopes, 1)), below=1e-12
    )
    record.when(
        "layer norm, 20 layers: |‖h_l‖ over sqrt(width), minus 1|", numpy.abs(numpy.subtract(normal, 1)), below=1e-12
    )
    record.figure("with ReLU: relative difference from the linear chain", relu_differs)


@claim(
    52, "After normalization a layer's input keeps the standard distribution whatever happens below", "Not only BN",
    condition="distribution means mean 0 and variance 1, before gain, bias and activation, in training",
)  # fmt: skip
def standard(record: Record) -> None:
    """Mean 0 and variance 1 stay, at any scale of data and weights. The distribution itself does not: exponential data
    stay skewed through the first layer. And after ReLU even the mean is no longer 0."""
    means, variances, skews, after = [], [], [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        for scale in (1e-4, 1.0, 1e4):
            x, weights = rng.exponential(scale, size=(500, 5)), [rng.normal(size=(5, 5)) * scale for _ in range(3)]
            h = run(partial(chain, NORMS["batch"]), x, *weights)[0]
            means.append(numpy.abs(h.mean(axis=0)).max())
            variances.append(numpy.abs(h.var(axis=0) - 1).max())
            skews.append(numpy.abs((run(partial(chain, NORMS["batch"]), x, weights[0])[0] ** 3).mean(axis=0)).max())
            after.append(numpy.maximum(h, 0).mean(axis=0).min())
    record.stated("largest skewness of a standardized feature (a normal one has 0)", skews, below=0.1)
    record.when("largest |mean|", max(means), below=1e-12)
    record.when("largest |variance - 1|", max(variances), below=1e-12)
    record.figure("smallest mean after ReLU", after)


@claim(
    53, "Scaled data need no other learning rate", "Not only BN", "ICS notes",
    condition="the first layer has batch, layer or cosine norm",
)  # fmt: skip
def scaled_training(record: Record) -> None:
    """The same data times 1024, with the same weights and learning rate: the losses of the three that ignore the scale
    are equal to the bit in every step. Weight norm trains otherwise, and a plain layer diverges."""
    for name, norm in {"none": linear, **NORMS}.items():
        differing, ends = [], []
        for seed in record.seeds:
            x, w = samples(seed)
            target = numpy.random.default_rng(seed + 50).normal(size=(6, 4))
            with numpy.errstate(all="ignore"):
                losses = descent(norm, x, w, target, 0.1, 10)[0]
                scaled = descent(norm, 1024 * x, w, target, 0.1, 10)[0]
            differing.append(bits_apart(scaled, losses))
            ends.append(numpy.log10(scaled[-1] / losses[-1]))
        judge = record.stated if name in ("none", "weight") else record.when
        judge(f"{name}: steps of 10 whose loss differs in a bit", differing, equals=0)
        if name in ("none", "weight"):
            record.figure(f"{name}: powers of ten between the last losses", ends)
