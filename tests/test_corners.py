"""Corners where a silent wrong number once was."""

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import nn


def leaf(values, dtype="float64"):
    return tn.tensor(values, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("index", [((0, 0), (1, 1)), ([0, 0], (1, 1)), (slice(None), (1, 1, 0))])
def test_tuples_inside_an_index_are_integer_arrays_and_accumulate(index):
    x, values = leaf([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    expected = np.zeros((2, 2))
    np.add.at(expected, index, 1.0)
    y = x[index]
    assert y.numpy().tolist() == values[index].tolist()
    y.sum().backward()
    assert x.grad.numpy().tolist() == expected.tolist()


@pytest.mark.parametrize("n", [7, 10, 49, 300, 1000])
@pytest.mark.parametrize("value", [0.1, 1.0, 1e6 + 0.1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_slice_has_no_deviation_and_gradient_0(n, value, dtype):
    for statistic in (tn.std, tn.var):
        x = tn.full((n, 2), value, dtype=dtype, requires_grad=True)
        y = statistic(x, axis=0)
        y.sum().backward()
        assert y.tolist() == [0.0, 0.0] and not x.grad.numpy().any()
        with tn.composite():
            g = tn.grad(statistic(x, axis=0).sum(), x)
        assert not g.numpy().any()


def test_mean_of_equal_numbers_is_that_number():
    for n in range(1, 200):
        assert tn.full((n,), 1.0, dtype="float64").mean().item() == 1.0


def test_float16_means_and_deviations_do_not_overflow():
    many = tn.full((100_000,), 2.0, dtype="float16")
    assert many.mean().item() == 2.0 and many.mean().dtype == np.float16
    assert F.mse_loss(many, many * 0).item() == 4.0
    loss = F.cross_entropy(tn.zeros(100_000, 2, dtype="float16"), tn.zeros(100_000, dtype="int64"))
    assert loss.dtype == np.float16 and abs(loss.item() - np.log(2)) < 1e-3
    x = np.random.default_rng(0).normal(300, 100, 5000).astype("float16")
    for found, expected in ((tn.tensor(x).std(), x.astype("f8").std()), (tn.tensor(x / 4).var(), None)):
        expected = (x / 4).astype("f8").var() if expected is None else expected
        assert found.dtype == np.float16 and abs(found.item() / expected - 1) < 2e-3


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool"])
def test_variance_of_integers_does_not_wrap(dtype):
    values = np.array([1, 0, 1, 0, 0]).astype(dtype)
    assert tn.var(tn.tensor(values)).item() == pytest.approx(0.24)
    assert tn.std(tn.tensor(values)).item() == pytest.approx(0.24**0.5)


def test_variance_far_from_0_keeps_its_digits():
    x = np.random.default_rng(0).normal(size=1000) + 2.0**20
    x32 = x.astype("float32")
    assert tn.tensor(x32).var().item() == pytest.approx(x32.astype("f8").var(), rel=1e-5)


@pytest.mark.parametrize("twice", [False, True])
def test_a_gradient_that_a_hook_returned_has_memory_of_its_own(twice):
    x, mine = leaf([1.0, 2.0]), tn.tensor([5.0, 5.0], dtype="float64")
    x.register_hook(lambda g: mine)
    (x * 2 + x * 3 if twice else x * 2).sum().backward()
    assert x.grad.tolist() == [5.0, 5.0] and not np.shares_memory(x.grad.numpy(), mine.numpy())


def test_one_input_asked_for_twice_gives_two_gradients():
    x = leaf([1.0, 2.0])
    a, b = tn.grad((x * x).sum(), [x, x])
    a += 1
    assert b.tolist() == [2.0, 4.0]


class Same(tn.Op):
    """A user's op that gives back its input and does not declare ``view``."""

    @staticmethod
    def forward(xp, x):
        return x

    backward = (lambda xp, g, y, x: g,)


class Backwards(Same):
    @staticmethod
    def forward(xp, x):
        return x[::-1]

    backward = (lambda xp, g, y, x: g[::-1],)


@pytest.mark.parametrize("op", [Same, Backwards])
def test_an_op_that_hides_a_view_cannot_make_a_gradient_wrong(op):
    x = leaf([1.0, 2.0])
    z, y = x * x, tn.apply(op, x)
    with tn.no_grad():
        y += 5.0
    z.sum().backward()
    assert x.tolist() == [1.0, 2.0] and x.grad.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("composite", [False, True])
def test_an_impossible_class_does_not_spoil_the_loss(composite):
    logits = leaf([[0.0, -np.inf], [-np.inf, 0.0]])
    with tn.composite() if composite else tn.enable_grad():
        loss = F.cross_entropy(logits, tn.tensor([0, -100]))
        assert loss.item() == 0.0
        loss.backward()
        assert F.nll_loss(logits.detach(), tn.tensor([0, -100])).item() == 0.0
    assert not logits.grad.numpy().any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_nan_in_an_ignored_row_stays_out_of_the_loss_and_its_gradient(smoothing):
    x = tn.tensor([[float("nan"), 0.0], [0.0, 0.0]], requires_grad=True)
    loss = tn.functional.cross_entropy(x, tn.tensor([-100, 1]), label_smoothing=smoothing)
    loss.backward()
    assert loss.item() == pytest.approx(np.log(2))
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0], [0.5 - 0.5 * smoothing, -0.5 + 0.5 * smoothing]], atol=1e-7)


def test_a_no_grad_object_may_be_used_again_nested_and_as_a_decorator():
    x = tn.tensor([1.0], requires_grad=True)
    block = tn.no_grad()
    for _ in range(2):
        with block, block:
            assert not (x * x).requires_grad
        assert (x * x).requires_grad

    @block
    def square(v):
        with tn.enable_grad():
            inside = (v * v).requires_grad
        return inside, (v * v).requires_grad

    assert square(x) == (True, False) and (x * x).requires_grad


@pytest.mark.parametrize("value, dtype", [(1e300, None), ([1.0, -1e39], "float32"), (np.float64(1e5), "float16")])
def test_a_float_that_the_dtype_cannot_hold_is_refused(value, dtype):
    with pytest.raises(ValueError, match=r"tensor: dtype float.. cannot hold .*astype"):
        tn.tensor(value, dtype=dtype)
    assert tn.tensor([float("inf"), float("nan")]).numpy()[0] == np.inf


# --- a setting is no operand: where no gradient would come, none is lost silently ------------------


SETTINGS = {
    "leaky_relu: negative_slope": lambda x, p: F.leaky_relu(x, p),
    "elu: alpha": lambda x, p: F.elu(x, p),
    "softplus: beta": lambda x, p: F.softplus(x, p),
    "softplus: threshold": lambda x, p: F.softplus(x, 1.0, p),
    "dropout: p": lambda x, p: F.dropout(x, p),
    "cross_entropy: label_smoothing": lambda x, p: F.cross_entropy(x, tn.tensor([0, 1]), label_smoothing=p),
    "layer_norm: eps": lambda x, p: F.layer_norm(x, 2, eps=p),
    "batch_norm: eps": lambda x, p: F.batch_norm(x, training=True, eps=p),
    "batch_norm: momentum": lambda x, p: F.batch_norm(x, training=True, momentum=p),
    "mean_only_batch_norm: momentum": lambda x, p: F.mean_only_batch_norm(x, training=True, momentum=p),
    "instance_norm: momentum": lambda x, p: F.instance_norm(x.reshape(1, 2, 2), momentum=p),
    "weight_norm: eps": lambda x, p: F.weight_norm(x, 1.0, eps=p),
    "normalize: eps": lambda x, p: F.normalize(x, eps=p),
    "whiten: eps": lambda x, p: F.whiten(x, eps=p),
}


@pytest.mark.parametrize("what", SETTINGS)
@pytest.mark.parametrize("given", [tn.tensor(0.5, requires_grad=True), nn.Parameter([0.5])])
def test_a_tensor_is_refused_as_a_setting(what, given):
    x = tn.tensor([[1.0, -2.0], [0.5, 3.0]], requires_grad=True)
    with pytest.raises(TypeError, match=rf"{what} must be a number in .*, which no gradient would reach"):
        SETTINGS[what](x, given)


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss, nn.CrossEntropyLoss, nn.NLLLoss, nn.BCEWithLogitsLoss])
def test_class_weights_that_need_a_gradient_are_refused(loss):
    with pytest.raises(TypeError, match=r"weight is a constant of the loss.* write weight.detach\(\)"):
        if isinstance(loss, type):
            loss(weight=nn.Parameter([1.0, 2.0]))
        else:
            loss(tn.zeros(1, 2), tn.tensor([0]), weight=nn.Parameter([1.0, 2.0]))


def test_the_momentum_of_a_function_is_a_share():
    with pytest.raises(ValueError, match=r"batch_norm: momentum must be a number in \[0, 1\]; got 2.0"):
        F.batch_norm(tn.ones(2, 2), tn.zeros(2), tn.ones(2), training=True, momentum=2.0)


# --- rows that do not count ------------------------------------------------------------------------


@pytest.mark.parametrize("composite", [False, True])
@pytest.mark.parametrize("smoothing", [None, 0.0, 0.1])
@pytest.mark.parametrize("weight", [None, [1.0, 2.0]])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_ignored_row_may_hold_anything(bad, weight, smoothing, composite):
    def loss(values, labels):
        x, w = leaf(values), None if weight is None else tn.tensor(weight)
        if smoothing is None:
            y = F.nll_loss(x, tn.tensor(labels), w)
        else:
            y = F.cross_entropy(x, tn.tensor(labels), w, label_smoothing=smoothing)
        y.backward()
        return y.item(), x.grad.tolist()

    good = [[0.5, -1.0], [2.0, 0.25]]
    value, grad = loss(good, [0, 1])
    with tn.composite() if composite else tn.enable_grad(), np.errstate(invalid="ignore"):
        found, found_grad = loss([[bad, 1.0], *good, [bad, bad]], [-100, 0, 1, -100])
    np.testing.assert_allclose(found, value, rtol=1e-15)
    np.testing.assert_allclose(found_grad, [[0.0, 0.0], *grad, [0.0, 0.0]], rtol=1e-14)


# --- integers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64"])
@pytest.mark.parametrize("loss", [F.l1_loss, F.mse_loss, F.huber_loss, F.binary_cross_entropy_with_logits])
def test_losses_of_integers_do_not_wrap_around(loss, dtype):
    for values, target in [([0, 1], [1, 0]), ([0, 20], [1, 1]), ([3, 100], [0, 1])]:
        x, y = (np.asarray(v).astype(dtype) for v in (values, target))
        expected = loss(tn.tensor(x.astype("float32")), tn.tensor(y.astype("float32")))
        found = loss(tn.tensor(x), tn.tensor(y))
        assert found.dtype == "float32" and found.item() == expected.item()
        assert loss(tn.tensor(x), tn.tensor(y.astype("float64"))).dtype == "float64"


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_products_of_integers_are_as_wide_as_sums(dtype):
    x = tn.tensor(np.array([1, 100, 100, 100, 100, 100]).astype(dtype))
    assert x.prod().dtype == x.sum().dtype == np.prod(x.numpy()).dtype
    assert x.prod().item() == np.prod(x.numpy()) == 10_000_000_000 ** (dtype != "bool")
    assert x[:0].prod().dtype == x.sum().dtype


def test_functions_of_integers_give_the_default_dtype():
    x = tn.tensor([3, -2, 4])
    assert F.leaky_relu(x).dtype == F.dropout(x, 0.25).dtype == "float32"
    np.testing.assert_allclose(F.leaky_relu(x).numpy(), [3, -0.02, 4], rtol=1e-7)
    assert set(F.dropout(x, 0.25).tolist()) <= {0.0, 4.0, np.float32(-2 / 0.75), np.float32(4 / 0.75)}


# --- weight norm -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 2), (40, 30), (5,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_one_length_for_all_slices_in_every_form(shape, dtype):
    v = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    expected = F.weight_norm(tn.tensor(v), tn.tensor(np.full((1,) * len(shape), 2, dtype)))
    for g in (2, 2.0, np.float64(2), np.array([2.0]), [2.0], tn.tensor([[[[2.0]]]], dtype=dtype)):
        x = leaf(v, dtype)
        w = F.weight_norm(x, g)
        w.sum().backward()
        assert w.shape == x.grad.shape == shape and w.dtype == dtype
        np.testing.assert_array_equal(w.numpy(), expected.numpy())
    g, wide = leaf([[[2.0]]]), tn.tensor(v, dtype="float64")
    (F.weight_norm(wide, g) * 3).sum().backward()
    np.testing.assert_allclose(g.grad.numpy(), [[[3 * F.weight_norm(wide, 1.0).sum().item()]]], rtol=1e-12)


# --- sums of many float16 numbers ------------------------------------------------------------------


def test_float16_is_added_in_float32():
    table = leaf(np.zeros((2, 1)), "float16")
    F.embedding(tn.zeros(5000, dtype="int64"), table).sum().backward()
    assert table.grad.tolist() == [[5000.0], [0.0]] and table.grad.dtype == "float16"
    x = leaf(np.ones(5000), "float16")
    y = tn.cumsum(x)
    y.backward(tn.ones(5000, dtype="float16"))
    assert y.dtype == x.grad.dtype == "float16"
    np.testing.assert_array_equal(y.numpy(), np.arange(1, 5001).astype("float16"))
    np.testing.assert_array_equal(x.grad.numpy(), np.arange(5000, 0, -1).astype("float16"))


# --- integers that do not fit, numbers of no dtype here --------------------------------------------


@pytest.mark.parametrize("value", [300, [1, 300, 2], tn.tensor(300), np.array([300]), tn.tensor([200], dtype="uint8")])
def test_an_integer_that_does_not_fit_is_not_written(value):
    x = tn.zeros(3, dtype="int8")
    with pytest.raises(ValueError, match=r"assignment: Tensor of shape \(3,\) and dtype int8 cannot hold [23]00"):
        x[...] = value
    x[...] = tn.tensor([-128, 127, 5])
    x[0] = 100
    assert x.tolist() == [100, 127, 5]


@pytest.mark.parametrize("other", [np.longdouble(2), np.array([2], "longdouble")])
def test_a_dtype_that_is_none_of_ours_is_refused(other):
    with pytest.raises(TypeError, match="multiply: operands are Tensors, arrays of numbers or Python numbers; got"):
        tn.tensor([1.0]) * other
