"""Statements 54 to 57 and 60 to 67: layer norm, weight norm and cosine norm."""

from __future__ import annotations

from typing import Any

import numpy

from ... import functional as F
from ...backend import manual_seed
from ...engine import Tensor
from ...nn import MLP, CosineLinear, LayerNorm, Linear, Parameter, ReLU, Sequential, WeightNorm
from ...ops.create import arange, ones, tensor
from ...optim import SGD, Adam
from .nets import test_accuracy, train
from .record import Record, claim
from .tools import apart, bits_apart, run


def lengths(v: Any, axis: int = 1) -> Any:
    """The lengths of the rows."""
    return numpy.sqrt((v**2).sum(axis=axis, keepdims=True))


@claim(
    54, "Layer norm: μ = Σ x_i and σ = sqrt(Σ (x_i - μ)² + eps)", "Not only BN",
)  # fmt: skip
def layer_formula(record: Record) -> None:
    """1/H is missing in both printed sums; another of the documents and the paper have it. Taken literally a row of 64
    values comes out with mean near -1/sqrt(H) and hardly any deviation. With 1/H in both it is layer norm."""
    right, mean, deviation = [], [], []
    for seed in record.seeds:
        x = numpy.random.default_rng(seed).normal(3.0, 0.5, size=(4, 64))
        y = F.layer_norm(tensor(x), 64, eps=0.0).numpy()
        right.append(apart(y, (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)))
        mu = x.sum(axis=1, keepdims=True)
        literal = (x - mu) / numpy.sqrt(((x - mu) ** 2).sum(axis=1, keepdims=True))
        mean.append(numpy.abs(literal.mean(axis=1)).max())
        deviation.append(numpy.abs(literal.std(axis=1) - 1).max())
    record.stated("as printed: largest |mean of a row|", mean, below=1e-12)
    record.stated("as printed: largest |deviation of a row - 1|", deviation, below=1e-12)
    record.when("with 1/H: relative difference from layer norm", right, below=1e-12)


@claim(
    55, "Gain and bias of layer norm are scalars, shared by the layer", "Not only BN",
    condition="shared=True is written: the paper and another document have one per neuron, the usual form",
)  # fmt: skip
def shared_gain(record: Record) -> None:
    """Both forms are in the package. A shared gain is a vector of equal entries, and its gradient the sum of theirs."""
    value, gradient = [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x, gain, bias = rng.normal(size=(5, 6)), rng.normal(size=1), rng.normal(size=1)
        one = run(lambda *v: F.layer_norm(v[0], 6, v[1], v[2]), x, gain, bias)
        each = run(lambda *v: F.layer_norm(v[0], 6, v[1], v[2]), x, gain.repeat(6), bias.repeat(6))
        value.append(bits_apart(one[0], each[0]))
        gradient.append(max(apart(one[2], each[2].sum()), apart(one[3], each[3].sum())))
    usual, shared = (LayerNorm(6, shared=s).weight for s in (False, True))
    assert usual is not None and shared is not None
    record.stated("gains of LayerNorm(6)", usual.size, equals=1)
    record.when("gains of LayerNorm(6, shared=True)", shared.size, equals=1)
    record.when("shared against equal entries: values that differ in a bit", value, equals=0)
    record.when("gradient from the sum of the entries' gradients", gradient, below=1e-12)


@claim(56, "Layer norm depends on a single sample: no batch, no running statistics, no difference in the test",
       "Not only BN", "ICS notes")  # fmt: skip
def single_sample(record: Record) -> None:
    """Each row of a batch has the same bits, values and gradients, as alone; training and evaluation are the same."""
    bits, buffers = 0, 0
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x, g = rng.normal(size=(7, 33)), rng.normal(size=(7, 33))
        module = LayerNorm(33).to("float64")
        buffers += len(list(module.buffers()))
        y, by_x = run(module, x, g=g)
        bits += bits_apart(module.eval()(tensor(x)).numpy(), y)
        for i in range(7):
            row, by_row = run(module, x[i : i + 1], g=g[i : i + 1])
            bits += bits_apart(row[0], y[i]) + bits_apart(by_row[0], by_x[i])
    record.stated("values and gradients that differ in a bit", bits, equals=0)
    record.stated("buffers", buffers, equals=0)


@claim(57, "One transform for a layer may hurt where its inputs are of different kinds, such as colour and size",
       "Not only BN", "ICS notes")  # fmt: skip
def different_kinds(record: Record) -> None:
    """The class is whether one feature, of another kind and scale than the rest, is above its usual level. Layer norm
    takes level and scale of each sample away, so that a classifier behind it answers worse; batch norm keeps them."""
    scores: dict[str, list[float]] = {"layer": [], "batch": []}
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        size = rng.normal(100.0, 1.0, size=(600, 1))  # one feature far from the rest, its small changes decide
        x = tensor(numpy.concatenate([rng.normal(size=(600, 5)), size], axis=1))
        labels = tensor((size[:, 0] > 100).astype(int))
        for name, found in scores.items():
            inputs = F.layer_norm(x, 6) if name == "layer" else F.batch_norm(x, training=True)
            found.append(_trained(inputs, labels, seed, 50 if record.quick else 200))
    record.stated("accuracy behind batch norm", scores["batch"], above=0.95)
    record.stated("accuracy lost behind layer norm", numpy.subtract(scores["batch"], scores["layer"]), above=0.1)
    record.figure("accuracy behind layer norm", scores["layer"])


def _trained(inputs: Tensor, labels: Tensor, seed: int, steps: int, norm: str | None = None) -> float:
    """Accuracy on the second half of the data of a small net trained on the first."""
    half = len(inputs) // 2
    model = MLP([inputs.shape[1], 16, 2], norm=norm).to("float64")
    optimizer = Adam(model.named_parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[:half]), labels[:half]).backward()
        optimizer.step()
    answers = model.eval()(inputs[half:]).numpy().argmax(axis=1)
    return float((answers == labels.numpy()[half:]).mean())


@claim(60, "Weight norm: w = g v / ‖v‖, which fixes the length of w", "Not only BN",
       condition="fixed means: to |g|, which is learned")  # fmt: skip
def length_is_gain(record: Record) -> None:
    """‖w‖ = |g| whatever v is. As g is a parameter, the length moves in training: here by a step of descent."""
    gap, moved = [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        v, g, target = rng.normal(size=(4, 6)), rng.normal(size=(4, 1)), rng.normal(size=(4, 6))
        gap.append(apart(lengths(F.weight_norm(tensor(v), tensor(g)).numpy()), numpy.abs(g)))
        direction, gain = Parameter(tensor(v)), Parameter(tensor(g))
        ((F.weight_norm(direction, gain) - tensor(target)) ** 2).sum().backward()
        SGD([direction, gain], lr=0.1).step()
        moved.append(apart(lengths(F.weight_norm(direction, gain).numpy()), numpy.abs(g)))
    record.stated("relative change of ‖w‖ in one step of descent", moved, below=1e-12)
    record.when("‖w‖ from |g|, relative", gap, below=1e-12)


@claim(61, "Scaling the weights by g/‖v‖ is scaling the data: f_w(WN(x)) = f_v(g x / ‖v‖), with σ = ‖v‖, μ = 0, b = 0",
       "Not only BN")  # fmt: skip
def weights_or_data(record: Record) -> None:
    """Three orders of evaluation, with all gradients. b = 0 belongs to the analogy; the layer keeps its bias."""
    worst = 0.0
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x, v, g = rng.normal(size=(5, 4)), rng.normal(size=(3, 4)), rng.normal(size=(3, 1))

        def scaled_data(x: Tensor, v: Tensor, g: Tensor) -> Tensor:
            return (x.reshape(5, 1, 4) * (g / (v * v).sum(1, keepdims=True).sqrt()) * v).sum(-1)

        expected = run(lambda x, v, g: F.linear(x, F.weight_norm(v, g)), x, v, g)
        unit = run(lambda x, v, g: F.linear(x, F.normalize(v, eps=0.0)) * g.reshape(3), x, v, g)
        for other in (unit, run(scaled_data, x, v, g)):
            worst = max(worst, *(apart(a, b) for a, b in zip(other, expected)))
    record.stated("values and gradients, largest relative difference", worst, below=1e-12)


@claim(62, "Weight norm uses no statistics of the data and does not depend on the batch", "Not only BN", "ICS notes")
def no_statistics(record: Record) -> None:
    """The layer has no buffers, and a row alone is the row in the batch (to the rounding of the matrix product)."""
    module = WeightNorm(Linear(4, 3)).to("float64")
    gaps = []
    for seed in record.seeds:
        x = numpy.random.default_rng(seed).normal(size=(7, 4))
        y = module(tensor(x)).numpy()
        gaps += [apart(module(tensor(x[i : i + 1])).numpy()[0], y[i]) for i in range(7)]
    record.stated("buffers", len(list(module.buffers())), equals=0)
    record.stated("a row alone: largest relative difference", max(gaps), below=1e-14)


@claim(63, "Weight norm only scales, and can be combined with the mean of batch or layer norm", "Not only BN")
def mean_only(record: Record) -> None:
    """With the mean of batch norm: not changed by scaled weights nor by shifted data, and times λ for scaled data. With
    the mean of layer norm: not changed by scaled weights, times λ for a single scaled sample, and mean 0 in each."""
    batch, layer = [], []
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x, v, factors = rng.normal(1.0, 2.0, size=(6, 4)), rng.normal(size=(3, 4)), rng.uniform(0.1, 10.0, size=(6, 1))

        def scaled(x: Any, v: Any) -> Tensor:
            return F.linear(tensor(x), F.weight_norm(tensor(v), ones(3, 1, dtype="float64")))

        def of_batch(x: Any, v: Any) -> Any:
            return F.mean_only_batch_norm(scaled(x, v), training=True).numpy()

        def of_layer(x: Any, v: Any) -> Any:
            y = scaled(x, v)
            return (y - y.mean(1, keepdims=True)).numpy()

        y = of_batch(x, v)
        batch += [apart(of_batch(x, 3 * v), y), apart(of_batch(x + rng.normal(size=4), v), y)]
        batch.append(apart(of_batch(3 * x, v), 3 * y))
        y = of_layer(x, v)
        layer += [apart(of_layer(x, 3 * v), y), apart(of_layer(factors * x, v), factors * y), abs(y.sum(axis=1)).max()]
    record.stated("mean of batch norm: the three laws, largest difference", max(batch), below=1e-12)
    record.stated("mean of layer norm: the three laws, largest difference", max(layer), below=1e-12)


@claim(64, "Cosine norm: w · x / (‖w‖ ‖x‖), between -1 and 1", "Not only BN", "ICS notes")
def bounded(record: Record) -> None:
    """Never outside, not by rounding either, in float16, float32 and float64, for data of sizes from 1/1000 to 1000."""
    for dtype in ("float16", "float32", "float64"):
        largest, parallel = 0.0, 0.0
        for seed in record.seeds:
            rng = numpy.random.default_rng(seed)
            x = (rng.normal(size=(300, 7)) * 10.0 ** rng.integers(-3, 4, size=(300, 1))).astype(dtype)
            y = F.cosine_linear(tensor(x), tensor(x)).numpy().astype(float)
            largest = max(largest, float(numpy.abs(y).max()))
            parallel = max(parallel, float(numpy.abs(numpy.diag(y) - 1).max()))
        record.stated(f"{dtype}: largest |cosine|", largest, below=1.0)
        record.stated(
            f"{dtype}: largest |cosine of parallel vectors - 1|", parallel, below=4 * float(numpy.finfo(dtype).eps)
        )


@claim(65, "Cosine norm is weight norm divided by ‖x‖ as well", "Not only BN")
def divided_again(record: Record) -> None:
    """CN(x; w) = WN(x; v = w, g = 1) / ‖x‖, values and gradients."""
    worst = 0.0
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x, w = rng.normal(size=(5, 4)), rng.normal(size=(3, 4))

        def by_weight(x: Tensor, w: Tensor) -> Tensor:
            y = F.linear(x, F.weight_norm(w, ones(3, 1, dtype="float64")))
            return y / (x * x).sum(1, keepdims=True).sqrt()

        worst = max(worst, *(apart(a, b) for a, b in zip(run(F.cosine_linear, x, w), run(by_weight, x, w))))
    record.stated("values and gradients, largest relative difference", worst, below=1e-12)


@claim(66, "Dot products have no bound, so their variance explodes; cosines are bounded", "Not only BN", "ICS notes")
def variances(record: Record) -> None:
    """For normal data the variance of w · x grows with the number of inputs and with the square of the data's scale;
    that of the cosine is 1 / inputs, whatever the scale."""
    for inputs in (4, 64, 256):
        dots, cosines, scaled = [], [], []
        for seed in record.seeds:
            rng = numpy.random.default_rng(seed)
            x, w = rng.normal(size=(2000, inputs)), rng.normal(size=(20, inputs))
            dots.append((x @ w.T).var() / inputs)
            y = F.cosine_linear(tensor(x), tensor(w)).numpy()
            cosines.append(y.var() * inputs)
            scaled.append(apart(F.cosine_linear(tensor(1e3 * x), tensor(w)).numpy(), y))
        record.stated(f"{inputs} inputs: variance of dot products over inputs", dots, above=0.5)
        record.stated(f"{inputs} inputs: variance of cosines times inputs", cosines, below=1.1)
        record.stated(f"{inputs} inputs: change of the cosines, data times 1000", scaled, below=1e-12)


@claim(67, "Cosine norm loses the scale of the data, which may cost expressive power", "Not only BN", "ICS notes")
def lost_scale(record: Record) -> None:
    """The class is whether ‖x‖ is large. A net whose first layer gives cosines stays at chance; the same net without
    normalization, or with batch or weight norm, learns it. And ten cosines as logits are never sure: the softmax is
    at most 0.451, and the mean loss over ten classes at least log(1 + 9 e^(-10/9)) = 1.377, which descent reaches. So a
    last layer of cosines needs a scale: trained with the cosines times 10 that loss is almost 0, and a net on the
    digits gets a tenth more of them right."""
    steps = 60 if record.quick else 300
    scores: dict[str, list[float]] = {"none": [], "batch": [], "weight": [], "cosine": []}
    losses: dict[float, list[float]] = {1.0: [], 10.0: []}
    digits_right: dict[float, list[float]] = {1.0: [], 10.0: []}
    for seed in record.seeds:
        rng = numpy.random.default_rng(seed)
        x = rng.normal(size=(800, 4))
        x *= rng.choice([0.5, 2.0], size=(800, 1)) / lengths(x)
        labels = tensor((lengths(x)[:, 0] > 1).astype(int))
        for name, found in scores.items():
            found.append(_trained(tensor(x), labels, seed, steps, None if name == "none" else name))
        vectors = rng.normal(size=(2, 10, 12))
        for scale in losses:
            losses[scale].append(_ten_cosines(vectors, scale))
            manual_seed(seed)
            model = Sequential(Linear(64, 32), ReLU(), CosineLinear(32, 10, scale=scale))
            train(model, 0.0, 300, seed, optimizer=Adam(model.named_parameters(), lr=0.01))
            digits_right[scale].append(test_accuracy(model))
    bound = float(numpy.log(1 + 9 * numpy.exp(-10 / 9)))
    record.stated("cosine: accuracy, chance is 0.5", scores["cosine"], below=0.6)
    for name in ("none", "batch", "weight"):
        record.stated(f"{name}: accuracy", scores[name], above=0.95)
    gap = numpy.subtract(losses[1.0], bound)
    record.stated("lowest loss with cosines as ten logits, above the bound by", gap, above=-1e-12)
    record.stated("the same loss, trained with the cosines times 10", losses[10.0], below=0.01)
    gap = numpy.subtract(digits_right[10.0], digits_right[1.0])
    record.stated("digits, last layer of cosines: test accuracy trained with scale 10 less without", gap, above=0.05)
    record.figure("lowest loss with cosines as ten logits", losses[1.0])
    for scale, found in digits_right.items():
        record.figure(f"digits, last layer of cosines times {scale:g}: test accuracy", found)


def _ten_cosines(vectors: numpy.ndarray, scale: float) -> float:
    """The loss of telling ten classes apart by cosines times a scale, after descent on the vectors."""
    left, right = (Parameter(tensor(v)) for v in vectors)
    optimizer = Adam([left, right], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss = F.cross_entropy(F.cosine_linear(left, right) * scale, arange(10))
        loss.backward()
        optimizer.step()
    return loss.item()
