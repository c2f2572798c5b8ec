"""Statements 20 to 25, 32, 33, 37 and 38: batch norm step by step, and what activations are."""

from __future__ import annotations

import math
from typing import Any

import numpy

from ... import functional as F
from ...engine import Tensor
from ...nn import Linear, Parameter
from ...ops.calculus import jacobian
from ...ops.create import ones, tensor, zeros
from ...optim import SGD
from .record import Record, claim
from .tools import apart, bits_apart, run


def normal(x: Tensor, gain: Any = None, bias: Any = None, eps: float = 0.0) -> Tensor:
    """Batch norm in training."""
    return F.batch_norm(x, None, None, gain, bias, True, eps=eps)


def frozen(x: Tensor, mean: Any, var: Any, gain: Any = None, bias: Any = None, eps: float = 0.0) -> Tensor:
    """Batch norm in evaluation with these statistics."""
    weight, shift = (None if v is None else tensor(v) for v in (gain, bias))
    return F.batch_norm(x, tensor(mean), tensor(var), weight, shift, eps=eps)


def statistics(x: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Mean and biased variance of each column, as batch norm hands them to its running buffers."""
    mean, var = zeros(x.shape[1], dtype="float64"), ones(x.shape[1], dtype="float64")
    F.batch_norm(tensor(x), mean, var, training=True, momentum=1.0, unbiased=False)
    return mean.numpy().copy(), var.numpy().copy()


@claim(
    20, "μ = 1/M Σ x and σ = sqrt(1/M Σ (x - μ)² + eps), for each neuron over the batch", "Not only BN", "Normalization"
)
def formula(record: Record) -> None:
    """Batch norm against the formula in NumPy, for matrices, sequences and images."""
    for shape, axes in (((8, 3), (0,)), ((4, 3, 5), (0, 2)), ((4, 3, 2, 5), (0, 2, 3))):
        worst = 0.0
        for seed in record.seeds:
            x = numpy.random.default_rng(seed).normal(3.0, 2.0, size=shape)
            mean = x.mean(axis=axes, keepdims=True)
            for eps in (0.0, 1e-5, 0.1):
                sigma = numpy.sqrt(((x - mean) ** 2).mean(axis=axes, keepdims=True) + eps)
                worst = max(worst, apart(normal(tensor(x), eps=eps).numpy(), (x - mean) / sigma))
        record.stated(f"x of shape {shape}: largest relative difference", worst, below=1e-12)


EXAMPLE = (1.0, 1.5, 1.2, 0.9, 1.7, 2.1, 3.1, 1.7)
PRINTED = (-0.98, -0.23, -0.68, -1.13, 0.08, 0.68, 2.19, 0.08)


@claim(21, "The worked example: μ = 1.65, σ² = 0.44 and eight values", "Not only BN")
def worked_example(record: Record) -> None:
    """The figure with the input is missing from the text; to one decimal there is only one row of numbers that gives
    the eight printed results, and it has exactly the printed mean and variance. The variance that divides by n - 1
    gives other numbers, so the example also says which variance is meant."""
    z = numpy.array(EXAMPLE)
    mean, var = statistics(z.reshape(8, 1))
    y = normal(tensor(z.reshape(8, 1)), eps=1e-8).numpy()[:, 0]
    unbiased = (z - z.mean()) / numpy.sqrt(z.var(ddof=1) + 1e-8)
    record.stated("|mean - 1.65|", abs(mean[0] - 1.65), below=1e-12)
    record.stated("|variance - 0.44|", abs(var[0] - 0.44), below=1e-12)
    record.stated("printed values that differ in two decimals", (y.round(2) != PRINTED).sum(), equals=0)
    record.stated("the same, dividing by n - 1", (unbiased.round(2) != PRINTED).sum(), equals=8)


@claim(
    22, "Z̃ = γ (Z - μ) / sqrt(σ² + eps) + β comes between the linear map and the activation", "Not only BN",
    "Normalization",
)  # fmt: skip
def order(record: Record) -> None:
    """Before and after the activation are different functions. One document writes z = σ(a), after the activation, and
    says in the next sentence "after the linear change, before the activation"; this package's MLP does the latter."""
    agree, other = [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        u, w, gain, bias = (rng.normal(size=s) for s in ((10, 5), (4, 5), 4, 4))
        z = u @ w.T
        y = F.sigmoid(normal(F.linear(tensor(u), tensor(w)), tensor(gain), tensor(bias))).numpy()
        before = 1 / (1 + numpy.exp(-(gain * (z - z.mean(0)) / z.std(0) + bias)))
        s = 1 / (1 + numpy.exp(-z))
        agree.append(apart(y, before))
        other.append(apart(y, gain * (s - s.mean(0)) / s.std(0) + bias))
    record.stated("normalized before the activation, relative difference from the formula", agree, below=1e-12)
    record.figure("normalized after the activation, relative difference", other)


@claim(
    23, "γ² = σ² and β = μ give the identity back", "Not only BN", condition="γ = +sqrt(σ² + eps) and β = μ",
)  # fmt: skip
def identity(record: Record) -> None:
    """γ = -σ has the same square and reflects at the mean, 2μ - x; and with eps, γ = σ shrinks. With the positive root
    and eps inside it the input comes back."""
    right, negative, without = [], [], []
    for seed in record.seeds:
        x = numpy.random.default_rng(seed).normal(3.0, 2.0, size=(10, 4))
        mu, var = x.mean(axis=0), x.var(axis=0)

        def missed(gain: Any, eps: float, x: Any = x, mu: Any = mu) -> float:
            return apart(normal(tensor(x), tensor(gain), tensor(mu), eps).numpy(), x)

        right.append(missed(numpy.sqrt(var + 0.1), 0.1))
        negative.append(missed(-numpy.sqrt(var), 0.0))
        without.append(missed(numpy.sqrt(var), 0.1))
    record.stated("γ = -σ, eps = 0: relative difference from x", negative, below=1e-12)
    record.stated("γ = σ, eps = 0.1: relative difference from x", without, below=1e-12)
    record.when("γ = sqrt(σ² + eps), eps = 0.1: relative difference from x", right, below=1e-12)


@claim(
    24, "A bias before batch norm cancels, BN(Wu + b) = BN(Wu)", "Not only BN", "Normalization",
    condition="the layer is in training mode",
)  # fmt: skip
def bias_cancels(record: Record) -> None:
    """In training the output does not see the bias, its gradient is 0 and descent never moves it. In evaluation, with
    frozen statistics, a bias moves the output."""
    equal, gradient, moved, evaluation = [], [], [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        u, w, b = rng.normal(size=(10, 5)), rng.normal(size=(4, 5)), rng.normal(size=4)
        y, _, _, by_b = run(lambda *v: normal(F.linear(*v)), u, w, b)
        plain = run(lambda *v: normal(F.linear(*v)), u, w)[0]
        equal.append(apart(y, plain))
        gradient.append(numpy.abs(by_b).max())
        layer, target = Linear(5, 4).to("float64"), tensor(rng.normal(size=(10, 4)))
        assert layer.bias is not None
        start, optimizer = layer.bias.numpy().copy(), SGD(layer.parameters(), lr=0.5)
        for _ in range(20):
            optimizer.zero_grad()
            ((normal(layer(tensor(u))) - target) ** 2).sum().backward()
            optimizer.step()
        moved.append(apart(layer.bias.numpy(), start))
        outputs = [frozen(tensor(v), *statistics(u @ w.T)).numpy() for v in (u @ w.T + b, u @ w.T)]
        evaluation.append(apart(*outputs))
    record.stated("evaluation: relative change by a bias", evaluation, below=1e-12)
    record.when("training: relative change by a bias", equal, below=1e-12)
    record.when("training: largest gradient of the bias", gradient, below=1e-13)
    record.when("training: relative change of the bias in 20 steps", moved, below=1e-12)


@claim(25, "Batch norm is vertical, per neuron; layer norm horizontal, per sample", "Not only BN", "Normalization")
def directions(record: Record) -> None:
    """Layer norm is batch norm of the transposed matrix. Other neurons do not change a neuron in batch norm, other
    samples do not change a sample in layer norm."""
    transposed, bits = [], 0
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x = rng.normal(size=(6, 4))
        rows, columns = F.layer_norm(tensor(x), 4, eps=0.0).numpy(), normal(tensor(x)).numpy()
        transposed.append(apart(rows, normal(tensor(x.T.copy())).numpy().T))
        other = rng.normal(size=(6, 4))
        other[0], other[:, 0] = x[0], x[:, 0]
        bits += bits_apart(F.layer_norm(tensor(other), 4, eps=0.0).numpy()[0], rows[0])
        bits += bits_apart(normal(tensor(other)).numpy()[:, 0], columns[:, 0])
    record.stated("layer norm against batch norm of the transpose", transposed, below=1e-12)
    record.stated("values that differ in a bit when the others change", bits, equals=0)


@claim(
    32,
    "With weights times a: μ₂ = a μ₁, σ₂² = a² σ₁² and BN(aWu) = BN(Wu)",
    "Not only BN",
    condition="a > 0 and eps = 0",
)
def scaled_statistics(record: Record) -> None:
    """As stated for a > 0; a negative a turns the sign of the output, and eps keeps small weights small."""
    moments, outputs, negative = [], [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        u, w = rng.normal(1.0, 2.0, size=(10, 5)), rng.normal(size=(4, 5))
        mean, var = statistics(u @ w.T)
        y = normal(F.linear(tensor(u), tensor(w))).numpy()
        for a in (3.0, 1e-3, 1e4):
            again = statistics(u @ (a * w).T)
            moments.append(max(apart(again[0], a * mean), apart(again[1], a * a * var)))
            outputs.append(apart(normal(F.linear(tensor(u), tensor(a * w))).numpy(), y))
        negative.append(apart(normal(F.linear(tensor(u), tensor(-3.0 * w))).numpy(), y))
    record.stated("relative change of the output, a = -3", negative, below=1e-12)
    record.when("mean and variance, largest relative difference", max(moments), below=1e-12)
    record.when("relative change of the output, a > 0", max(outputs), below=1e-12)


@claim(
    33, "∂BN(aWu)/∂u = ∂BN(Wu)/∂u = γW/σ, and ∂BN(aWu)/∂(aW) = 1/a ∂BN(Wu)/∂W = γu/(aσ)", "Not only BN",
    condition="the first equality of each is meant: γW/σ and γu/σ hold for frozen statistics only",
)  # fmt: skip
def jacobians(record: Record) -> None:
    """The laws are right and the terms between them are not: they leave out that μ and σ move with u and W. They are
    the derivatives in evaluation mode, where scaled weights do change the output. In training, ∂x̂/∂x is
    (I - 11ᵀ/m - x̂x̂ᵀ/m) / σ: m - 2 singular values 1/σ, and two that are 0. What training with the statistics left
    outside the gradient comes to, the paper on batch norm says: a bias before it grows with every step, and the loss
    does not change."""
    laws, literal, evaluation, spectrum = [], [], [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        u, w, gain, g = (rng.normal(size=s) for s in ((7, 3), (1, 3), 1, (7, 1)))
        _, by_u, by_w = run(lambda u, w: normal(F.linear(u, w), tensor(gain)), u, w, g=g)  # noqa: B023
        _, again_u, again_w = run(lambda u, w: normal(F.linear(u, w), tensor(gain)), u, 3.0 * w, g=g)  # noqa: B023
        laws.append(max(apart(again_u, by_u), apart(3.0 * again_w, by_w)))
        mean, var = statistics(u @ w.T)
        sigma = numpy.sqrt(var)
        terms = g * gain * w / sigma, (g * gain * u / sigma).sum(axis=0, keepdims=True)
        literal.append(min(apart(terms[0], by_u), apart(terms[1], by_w)))
        _, by_u, by_w = run(lambda u, w: frozen(F.linear(u, w), mean, var, gain), u, w, g=g)  # noqa: B023
        evaluation.append(max(apart(terms[0], by_u), apart(terms[1], by_w)))
        x = u @ w.T
        values = numpy.linalg.svd(jacobian(normal, tensor(x)).numpy().reshape(7, 7))[1] * sigma
        spectrum.append(numpy.abs(values - [1, 1, 1, 1, 1, 0, 0]).max())
    grown = [_statistics_outside(seed) for seed in record.seeds]
    record.stated("γW/σ and γu/σ in training: relative difference from the gradients", literal, below=1e-12)
    record.when("the laws with a = 3: largest relative difference", laws, below=1e-12)
    record.when("γW/σ and γu/σ, statistics frozen: relative difference", evaluation, below=1e-12)
    record.when("singular values of σ ∂x̂/∂x from 1 (m - 2 times), 0, 0", spectrum, below=1e-12)
    record.when("statistics outside: the bias after 200 steps over that after 100", [b for b, _ in grown], above=1.99)
    record.when("statistics outside: relative change of the loss", [change for _, change in grown], below=1e-9)


def _statistics_outside(seed: int) -> tuple[float, float]:
    """Descent on a bias before batch norm whose mean and deviation take no part in the gradient: growth of the bias
    from step 100 to 200, and the largest relative change of the loss."""
    rng = numpy.random.default_rng(seed)
    u, target = tensor(rng.normal(size=(20, 3))), tensor(rng.normal(2.0, 1.0, size=(20, 3)))
    bias, losses, lengths = Parameter(zeros(3, dtype="float64")), [], []
    optimizer = SGD([bias], lr=0.1)
    for _ in range(200):
        x = u + bias
        mean, deviation = x.mean(0).detach(), x.detach().std(0)
        loss = (((x - mean) / deviation - target) ** 2).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lengths.append(float(numpy.linalg.norm(bias.numpy())))
    return lengths[199] / lengths[99], float(numpy.ptp(losses) / losses[0])


@claim(
    37, "sigmoid' = f (1 - f); N(0, 1) is mostly within ±1, over 90 % within ±2, where the gradient is nearly linear",
    "BN notes", condition="nothing is said of the gradient: within ±2 it falls from 0.25 to 0.105",
)  # fmt: skip
def sigmoid_facts(record: Record) -> None:
    """The derivative is exact, and 68.3 % and 95.4 % lie within ±1 and ±2. But on ±2 the slope of sigmoid is far from
    constant: it more than halves, and the curve leaves its tangent by up to 0.119."""
    grid = numpy.linspace(-2, 2, 40_001)
    f, slope = run(F.sigmoid, grid, g=numpy.ones_like(grid))
    record.when("largest |f' - f (1 - f)|", numpy.abs(slope - f * (1 - f)).max(), below=1e-15)
    record.when("share of N(0, 1) within ±1", math.erf(0.5**0.5), above=0.6826)
    record.when("share of N(0, 1) within ±2", math.erf(2**0.5), above=0.9)
    record.stated("slope at 2 over slope at 0", slope[-1] / slope.max(), above=0.9)
    record.figure("largest distance from the tangent within ±2", numpy.abs(f - 0.5 - grid / 4).max())


@claim(38, "Linear layers on one another are one linear layer", "BN notes")
def one_layer(record: Record) -> None:
    """Values and gradients by the input of four layers against those of the product of their matrices."""
    worst = 0.0
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x, weights = rng.normal(size=(10, 5)), [rng.normal(size=s) for s in ((6, 5), (7, 6), (3, 7), (2, 3))]

        def deep(t: Tensor, weights: Any = weights) -> Tensor:
            for w in weights:
                t = F.linear(t, tensor(w))
            return t

        one = tensor(numpy.linalg.multi_dot(weights[::-1]))
        worst = max(worst, *(apart(a, b) for a, b in zip(run(deep, x), run(lambda t: F.linear(t, one), x))))  # noqa: B023
    record.stated("largest relative difference", worst, below=1e-12)
