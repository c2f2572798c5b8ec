"""Statements 43 to 48: what scaled weights change."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy

from ... import functional as F
from ...nn import Parameter
from ...ops.calculus import grad
from ...ops.create import tensor
from ...optim import SGD
from ...viz.style import new_figure, plain_axes
from .nets import net, test_accuracy, train
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
    "Not only BN", "ICS notes", condition="'regularizes' is left out: kept at their lengths, weights test as well",
)  # fmt: skip
def growth(record: Record) -> None:
    """The length of the gradient falls as 1/‖w‖, so that steps of gradient descent, which are orthogonal to the
    weights, make them longer and the effective learning rate lr/‖w‖² smaller: after a rate far too high the descent
    settles by itself. So does training on the digits at the rate 2, which fails where the weights are brought back to
    their first lengths after every step. At a rate at which both train, 0.5, that changes nothing about the test error:
    a regularization is not to be seen."""
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
        record.when(f"{name}: |slope of log ‖grad‖ against log ‖w‖ + 1|", numpy.abs(numpy.add(slopes, 1)), below=1e-9)
        record.when(f"{name}: ‖w‖² grows by lr² ‖grad‖² in a step, relative error", pythagoras, below=1e-9)
        record.when(f"{name}: least growth of ‖w‖² in a step", smallest, above=0.0)
        record.when(f"{name}: last loss over first, at the rate 30", final, below=1.0)
    seeds = record.seeds if record.quick else (*record.seeds, *(s + 100 for s in record.seeds))
    for rate, judge, limit in ((2.0, record.when, -0.1), (0.5, record.stated, -0.005)):
        free, kept = ([_error(rate, seed, keep) for seed in seeds] for keep in (False, True))
        judge(f"rate {rate:g}: test error, lengths free less kept", numpy.subtract(free, kept), below=limit)
        record.figure(f"rate {rate:g}: test error, lengths free", free)
        record.figure(f"rate {rate:g}: test error, lengths kept", kept)

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


def _error(rate: float, seed: int, keep: bool) -> float:
    """Test error of a net with batch norm after training on 200 images, the rows of its weights kept at their lengths
    or left free."""
    model = net("batch", 2, seed=seed)
    weights = [p for name, p in model.named_parameters() if name.startswith("linear") and p.ndim == 2][:-1]
    lengths = [(w * w).sum(1, keepdims=True).sqrt().detach() for w in weights]

    def back(_: int) -> None:
        if keep:
            for w, length in zip(weights, lengths):
                w.data = F.normalize(w.detach()) * length

    train(model, rate, 300, seed, 50, 200, watch=back)
    return 1 - test_accuracy(model)


def chain(norm: Any, x: Any, *weights: Any) -> Any:
    """Layers one after the other, without activation."""
    for w in weights:
        x = F.linear(x, w) if norm is None else norm(x, w)
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
