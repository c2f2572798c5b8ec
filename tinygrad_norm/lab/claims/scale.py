"""Statements 43 to 53: what scaled weights and scaled data change."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy

from ...functional import linear, relu
from ...nn import Parameter
from ...ops.calculus import grad
from ...ops.create import tensor
from ...optim import SGD
from ...viz.style import new_figure, plain_axes
from .record import Record, claim
from .tools import COLORS, NORMS, apart, bits_apart, run

LAMBDAS = (1e-3, 0.3, 3.0, 1e3)
POWERS = (2.0**-3, 2.0, 2.0**10)


def samples(seed: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Data (6, 5) and weights (4, 5) in float64."""
    rng = numpy.random.default_rng(seed)
    return rng.normal(size=(6, 5)), rng.normal(size=(4, 5))


def _scaled_weights(record: Record, which: int, power: int) -> None:
    """For each norm, one of its value, gradient by the data and gradient by the weights (``which`` is 0, 1 or 2), times
    λ to a power, against that at λ = 1."""
    for name, norm in NORMS.items():
        found, exact, negative = [], [], []
        for seed in record.seeds:
            x, w = samples(seed)
            old = run(norm, x, w)[which]
            new = {k: run(norm, x, k * w)[which] * k**power for k in (*LAMBDAS, *POWERS, -2.0)}
            found += [apart(new[k], old) for k in LAMBDAS]
            exact += [bits_apart(new[k], old) for k in POWERS]
            negative.append(apart(new[-2.0], old))
        record.stated(f"{name}: largest relative difference, λ = -2", max(negative), below=1e-12)
        record.when(f"{name}: the same, λ from 0.001 to 1000", max(found), below=1e-12)
        record.when(f"{name}: entries that differ in a bit, λ a power of two", max(exact), equals=0)


@claim(
    43, "Norm(λWx) = Norm(Wx) for batch, layer, weight and cosine norm, for any constant λ", "Not only BN", "ICS notes",
    condition="λ > 0 and eps = 0",
)  # fmt: skip
def weight_scale(record: Record) -> None:
    """For λ > 0 and eps = 0 all four are equal to rounding, and bitwise equal where λ is a power of two. A negative λ
    turns the sign of all four, so "any constant" is too much; and with eps > 0 small weights lose the invariance: at
    eps = 1e-5 and λ = 0.001 batch norm changes by more than half. Layer norm needs the whole matrix scaled."""
    _scaled_weights(record, 0, 0)
    x, w = samples(0)
    small = apart(run(lambda x, w: NORMS["batch"](x, w, 1e-5), x, 1e-3 * w)[0], run(NORMS["batch"], x, w)[0])
    record.figure("batch: relative change at eps = 1e-5, λ = 0.001", small)


@claim(
    45, "∂Norm(λWx)/∂(λW) = (1/λ) ∂Norm(Wx)/∂W", "Not only BN", "ICS notes", condition="λ > 0 and eps = 0",
)  # fmt: skip
def weight_gradient(record: Record) -> None:
    """The gradient by the weights is 1/λ times the old one: exactly for a power of two, to rounding for other λ > 0.
    For a negative λ the output turns its sign, and the factor is 1/|λ|."""
    _scaled_weights(record, 2, 1)


@claim(44, "∂Norm(λWx)/∂x = ∂Norm(Wx)/∂x", "Not only BN", condition="λ > 0 and eps = 0")
def input_gradient(record: Record) -> None:
    """The gradient by the input does not see the scale of the weights: bitwise for a power of two, to rounding for
    other λ > 0. A negative λ turns its sign together with the output's."""
    _scaled_weights(record, 1, 0)


@claim(46, "Weights and their gradient are orthogonal, w · ∂L/∂w = 0", "Not only BN", condition="eps = 0")
def orthogonal(record: Record) -> None:
    """What follows from 43 by Euler's theorem for homogeneous functions: per row of the weights, in layer norm for the
    whole matrix. With eps = 0.1 the product is not 0, and has the value that the closed form gives."""
    for name, norm in NORMS.items():
        found = []
        for seed in record.seeds:
            x, w = samples(seed)
            by_w = run(norm, x, w)[2]
            rows = (w * by_w).sum(axis=1)
            rows = rows.sum() if name == "layer" else rows
            found.append(numpy.abs(rows).max() / (numpy.linalg.norm(w) * numpy.linalg.norm(by_w)))
        record.when(f"{name}: |w · grad| / (|w| |grad|)", max(found), below=1e-14)
    x, w = samples(record.seeds[0])
    g = numpy.random.default_rng(99).normal(size=(6, 4))
    y, _, by_w = run(lambda x, w: NORMS["batch"](x, w, 0.1), x, w, g=g)
    product, expected = (w * by_w).sum(axis=1), (g * y).sum(axis=0) * 0.1 / ((x @ w.T).var(axis=0) + 0.1)
    size = numpy.linalg.norm(w) * numpy.linalg.norm(by_w)
    record.stated("batch, eps = 0.1: |w · grad| / (|w| |grad|)", numpy.abs(product).max() / size, below=1e-14)
    record.when("batch, eps = 0.1: difference from Σ g x̂ eps / (var + eps)", apart(product, expected), below=1e-12)


def descent(norm: Any, x: Any, w: Any, target: Any, lr: float, steps: int) -> tuple[numpy.ndarray, ...]:
    """Plain gradient descent on the weights: losses, ||w||^2 before each step and after the last, ||grad||^2."""
    weights = Parameter(tensor(w))
    optimizer = SGD([weights], lr=lr)
    losses, lengths, gradients = [], [], []
    for _ in range(steps):
        loss = ((norm(tensor(x), weights) - tensor(target)) ** 2).mean()
        losses.append(loss.item())
        lengths.append((weights.numpy() ** 2).sum())
        weights.grad = grad(loss, weights)
        gradients.append((weights.grad.numpy() ** 2).sum())
        optimizer.step()
    return numpy.array(losses), numpy.array([*lengths, (weights.numpy() ** 2).sum()]), numpy.array(gradients)


@claim(
    47, "Larger weights have smaller gradients, which regularizes implicitly and allows larger learning rates",
    "Not only BN", "ICS notes",
)  # fmt: skip
def growth(record: Record) -> None:
    """The length of the gradient falls as 1/‖w‖, so that steps of gradient descent, which are orthogonal to the
    weights, make them longer and the effective learning rate lr/‖w‖² smaller: after a rate far too high the descent
    settles by itself. Whether that improves generalization is another question: see 27, 35 and 39."""
    factors = numpy.logspace(-3, 3, 7)
    lengths, curves = {}, {}
    for name, norm in NORMS.items():
        slopes, pythagoras, smallest, final = [], [], [], []
        for seed in record.seeds:
            x, w = samples(seed)
            target = numpy.random.default_rng(seed + 50).normal(size=(6, 4))
            sizes = [numpy.linalg.norm(run(norm, x, c * w)[2]) for c in factors]
            slopes.append(numpy.polyfit(numpy.log(factors), numpy.log(sizes), 1)[0])
            losses, squares, gradients = descent(norm, x, w, target, 30.0, 20 if record.quick else 200)
            pythagoras.append(apart(numpy.diff(squares), 900.0 * gradients))
            smallest.append(numpy.diff(squares).min())
            final.append(losses[-1] / losses[0])
            lengths[name], curves[name] = sizes, 30.0 / squares
        record.stated(f"{name}: |slope of log ‖grad‖ against log ‖w‖ + 1|", numpy.abs(numpy.add(slopes, 1)), below=1e-9)
        record.stated(f"{name}: ‖w‖² grows by lr² ‖grad‖² in a step, relative error", pythagoras, below=1e-9)
        record.stated(f"{name}: least growth of ‖w‖² in a step", smallest, above=0.0)
        record.figure(f"{name}: last loss over first, at the rate 30", final)

    def draw() -> Any:
        figure = new_figure("growth", 9, 3.6)
        left, right = figure.subplots(1, 2)
        for name in NORMS:
            left.loglog(factors, lengths[name], color=COLORS[name], label=name, marker="o")
            right.semilogy(curves[name], color=COLORS[name], label=name)
        plain_axes(left, "factor on the weights", "length of the gradient")
        plain_axes(right, "step", "effective learning rate lr / ‖w‖²")
        left.legend(frameon=False)
        return figure

    record.picture(
        "The gradient shrinks as the weights grow (slope -1); and under descent the weights only grow.", draw
    )


def chain(norm: Any, x: Any, *weights: Any) -> Any:
    """Layers one after the other, without activation."""
    for w in weights:
        x = linear(x, w) if norm is None else norm(x, w)
    return x


@claim(48, "So gradients neither explode nor vanish with the scale of the weights", "Not only BN")
def deep_scale(record: Record) -> None:
    """Six linear layers whose weights are all multiplied by λ: the gradient by the input is λ⁶ times the old one
    without normalization, and the same to the bit, for powers of two, with any of the four."""
    for name, norm in {"none": None, **NORMS}.items():
        changes = []
        for seed in record.seeds:
            rng = numpy.random.default_rng(seed)
            x, weights = rng.normal(size=(6, 5)), list(rng.normal(size=(6, 5, 5)))
            g = rng.normal(size=(6, 5))
            old = run(partial(chain, norm), x, *weights, g=g)[1]
            new = run(partial(chain, norm), x, *(4.0 * w for w in weights), g=g)[1]
            changes.append(numpy.linalg.norm(new) / numpy.linalg.norm(old))
        if norm is None:
            record.figure("without normalization: factor on the gradient for λ = 4", changes)
        else:
            record.stated(
                f"{name}: |factor on the gradient for λ = 4, minus 1|", numpy.abs(numpy.subtract(changes, 1)), equals=0
            )


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
