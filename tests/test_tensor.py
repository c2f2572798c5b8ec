"""Tensors beside NumPy: dtypes, scalars, constructors, indexing, copies, words of either library."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_norm as tn
from tinygrad_norm import functional as F
from tinygrad_norm import ops

BOUNDED = settings(max_examples=60, derandomize=True, deadline=None, database=None)


def leaf(values, dtype="float64"):
    return tn.tensor(values, dtype=dtype, requires_grad=True)


# ---- NumPy on either side

BINARY = [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b, lambda a, b: a**b]


@pytest.mark.parametrize("fn", BINARY)
def test_an_array_on_the_left_keeps_the_graph(fn):
    a, v = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.5, 1.5])
    x = leaf(v)
    y = fn(a, x)
    assert type(y) is tn.Tensor and y.requires_grad
    np.testing.assert_array_equal(y.numpy(), fn(a, v))
    y.backward(np.ones((2, 2)))
    z = leaf(v)
    fn(tn.tensor(a), z).backward(np.ones((2, 2)))
    np.testing.assert_array_equal(x.grad.numpy(), z.grad.numpy())
    np.testing.assert_array_equal(fn(x, a).numpy(), fn(v, a))


def test_matmul_and_comparisons_with_an_array_on_the_left():
    a, x = np.ones((2, 3)), leaf(np.ones((3, 2)))
    (a @ x).backward(np.ones((2, 2)))
    assert x.grad.tolist() == [[2.0, 2.0]] * 3
    for y in (a.T > x, a.T == x, x != a.T, a.T <= x):  # noqa: SIM300 -- the array is on the left on purpose
        assert type(y) is tn.Tensor and y.dtype == bool and not y.requires_grad


def test_asarray_refuses_what_needs_a_gradient():
    x = leaf([1.0, 2.0])
    for call in (np.asarray, np.array, np.linalg.norm, lambda v: np.concatenate([v, v])):
        with pytest.raises(RuntimeError, match=r"needs a gradient.*detach\(\)"):
            call(x)
    assert np.asarray(x.detach()).tolist() == [1.0, 2.0]
    assert np.asarray(tn.tensor([1.0]), dtype="float64").dtype == "float64"
    assert x.numpy().tolist() == [1.0, 2.0]


def test_ufuncs_refuse_tensors():
    for call in (np.exp, lambda x: np.add(np.ones(2), x)):
        with pytest.raises(TypeError):
            call(leaf([1.0, 2.0]))


# ---- dtypes


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("scalar", [2, 2.0, True, np.float64(2.0), np.float32(2.0), np.int64(2), np.float16(2.0)])
def test_scalars_are_weak(dtype, scalar):
    x = tn.tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    results = [
        x + scalar,
        scalar + x,
        x - scalar,
        scalar - x,
        x * scalar,
        scalar * x,
        x / scalar,
        scalar / x,
        x**scalar,
        scalar**x,
        tn.maximum(x, scalar),
        tn.where(x > 1, x, scalar),
        tn.where(x > 1, scalar, x),
        x.clip(0, scalar),
    ]
    for y in results:
        assert y.dtype == dtype, y
        assert tn.grad(y.sum(), x, allow_unused=True).dtype == dtype
    with tn.no_grad():
        x += scalar
        x[0] = scalar
    assert x.dtype == dtype


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_functions_keep_the_dtype(dtype):
    x = tn.tensor([[0.3, 0.6], [0.9, 0.2]], dtype=dtype)
    results = [
        x.exp(),
        x.log(),
        x.sqrt(),
        x.sum(),
        x.mean(),
        x.var(),
        x.std(axis=0),
        x.max(axis=1),
        x.prod(),
        x.cumsum(0),
        x.logsumexp(),
        x @ x,
        F.softmax(x),
        F.gelu(x),
        F.layer_norm(x, 2),
        F.cross_entropy(x, tn.tensor([0, 1])),
        F.dropout(x, 0.5),
        tn.concatenate([x, x]),
        tn.pad(x, 1),
        abs(x),
        x[0],
    ]
    for y in results:
        assert y.dtype == dtype, y


FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["bool", "int8", "int32", "int64", "uint8"]


@pytest.mark.parametrize("b", INTEGERS)
def test_integers_take_the_float_s_dtype(b):
    i = tn.tensor([1, 1], dtype=b)
    for a in FLOATS:
        x = tn.tensor([1.0, 2.0], dtype=a, requires_grad=True)
        for y in (x + i, i + x, x * i, x / i, i / x, x - i, tn.maximum(i, x), tn.where(x > 1, x, i), x**i, i * x):
            assert y.dtype == a, (a, b)
        assert tn.concatenate([x, i]).dtype == tn.stack([i, x]).dtype == a
    for y in (
        i / i,
        tn.exp(i),
        tn.sqrt(i),
        i.mean(),
        i * 0.5,
        i + 1.5,
        tn.where(i > 0, 0.5, i),
        i.astype("float32").std(),
    ):
        assert y.dtype == "float32", (b, y.dtype)


def test_floats_promote_as_in_numpy():
    for a in FLOATS:
        for b in FLOATS:
            y = tn.tensor([1.0], dtype=a, requires_grad=True) * tn.tensor([1.0], dtype=b)
            assert y.dtype == np.result_type(a, b)
    with pytest.raises(TypeError, match=r"linear.*float64.*float32.*astype\('float32'\)"):
        F.linear(tn.ones(1, 2, dtype="float64"), tn.ones(3, 2))
    with pytest.raises(TypeError, match=r"matmul.*float32.*float16"):
        tn.ones(2, 2) @ tn.ones(2, 2, dtype="float16")


def test_integers_have_no_gradient():
    for values in ([1, 2], [True, False]):
        with pytest.raises(TypeError, match=r"only floating tensors have gradients.*(int64|bool).*astype"):
            tn.tensor(values, requires_grad=True)
        with pytest.raises(TypeError, match="only floating"):
            tn.tensor(values).requires_grad_()
    assert not (leaf([1.0]) > 0).requires_grad
    assert not leaf([1.5]).astype("int64").requires_grad


def test_the_default_dtype():
    assert tn.tensor([1.0]).dtype == "float32" and tn.tensor(np.array([1.0])).dtype == "float64"
    assert tn.tensor([1]).dtype == "int64" and tn.tensor([True]).dtype == bool and tn.tensor([]).dtype == "float32"
    assert tn.tensor(np.float64(1.0)).dtype == "float64" and tn.tensor([1, 2.5]).dtype == "float32"
    tn.set_default_dtype("float64")
    try:
        assert tn.tensor([1.0]).dtype == tn.zeros(2).dtype == (tn.tensor([1]) / 2).dtype == "float64"
    finally:
        tn.set_default_dtype("float32")
    with pytest.raises(TypeError, match="'int64' is not a floating dtype"):
        tn.set_default_dtype("int64")


# ---- constructors


@pytest.mark.parametrize(
    "obj, error, text",
    [
        (np.ma.array([1.0, 2.0], mask=[0, 1]), ValueError, r"masked array.*filled"),
        (np.array([1.0, None]), TypeError, "object"),
        ([[1.0, 2.0], [3.0]], ValueError, "rectangular"),
        ("text", TypeError, "'text'"),
        (["a", "b"], TypeError, "'a'"),
        (np.array([1j]), TypeError, "complex128"),
        (1 + 2j, TypeError, r"\(1\+2j\)"),
        (None, TypeError, "None"),
        ({"a": 1}, TypeError, "'a'"),
        (np.array(["2020-01-01"], "datetime64[D]"), TypeError, "datetime64"),
        (2**80, TypeError, "1208925819614629174706176"),
        (np.longdouble(1), TypeError, "longdouble|float128"),
    ],
)
def test_what_a_tensor_cannot_hold(obj, error, text):
    with pytest.raises(error, match=text):
        tn.tensor(obj)


@pytest.mark.parametrize(
    "values, dtype",
    [([0.5], "int64"), ([-1], "uint8"), ([300], "int8"), ([np.nan], "int32"), ([2], "bool"), ([2.0**40], "int16")],
)
def test_values_that_a_dtype_cannot_hold(values, dtype):
    with pytest.raises(ValueError, match=f"dtype {dtype} cannot hold"):
        tn.tensor(values, dtype=dtype)


def test_unknown_dtypes_and_devices():
    with pytest.raises(TypeError, match="'complex64' is not supported; use one of float16, float32"):
        tn.tensor([1.0], dtype="complex64")
    with pytest.raises(TypeError, match="'floaty'"):
        tn.zeros(2, dtype="floaty")
    with pytest.raises(ValueError, match=r"'tpu' is not available.*'cpu'"):
        tn.tensor([1.0], device="tpu")
    with pytest.raises(ValueError, match=r"integers that are not negative.*-1"):
        tn.zeros(2, -1)
    with pytest.raises(TypeError, match=r"tn\.tensor"):
        tn.Tensor([1.0])


def test_from_numpy_is_for_plain_arrays():
    for bad in ([1.0], np.ma.array([1.0]), np.float64(1.0), np.ones(2, ">f8"), np.array(["a"])):
        with pytest.raises((TypeError, ValueError)):
            tn.from_numpy(bad)


def test_tensors_are_made_contiguous_and_native():
    a = np.arange(6.0).reshape(2, 3)
    for b in (a.T, a[:, ::-1], np.asfortranarray(a), a.astype(">f8"), np.broadcast_to(a[0], (4, 3))):
        x = tn.tensor(b)
        assert x.data.flags.c_contiguous and x.dtype.isnative and np.array_equal(x.numpy(), b)


def test_factories():
    tn.manual_seed(0)
    a = [tn.rand(2), tn.randn(2), tn.randint(5, size=3)]
    tn.manual_seed(0)
    for x, y in zip(a, [tn.rand(2), tn.randn(2), tn.randint(5, size=3)]):
        assert x.tolist() == y.tolist()
    assert tn.full((2,), 3).dtype == "int64" and tn.full(2, 0.5).tolist() == [0.5, 0.5]
    assert tn.arange(1, 2, 0.5).tolist() == [1.0, 1.5] and tn.arange(3).dtype == "int64"
    assert tn.eye(2).tolist() == [[1.0, 0.0], [0.0, 1.0]] and tn.linspace(0, 1, 3).tolist() == [0.0, 0.5, 1.0]
    x = tn.ones(2, 3, dtype="float64")
    assert tn.zeros_like(x).dtype == "float64" and tn.randn_like(x).shape == (2, 3)


# ---- copies


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_leaves_are_copied_and_pickled(clone):
    x = leaf([[1.0, 2.0]], "float32")
    (x * 3.0).sum().backward()
    y = clone(x)
    assert type(y) is tn.Tensor and y.requires_grad and y.dtype == "float32" and y.tolist() == x.tolist()
    assert y.grad.tolist() == [[3.0, 3.0]]
    with tn.no_grad():
        y += 1.0
    (y * 1.0).sum().backward()
    assert x.tolist() == [[1.0, 2.0]] and x.grad.tolist() == [[3.0, 3.0]] and y.grad.tolist() == [[4.0, 4.0]]
    assert clone(tn.tensor([1, 2])).dtype == "int64" and clone(tn.tensor(2.0)).shape == ()
    with pytest.raises(RuntimeError, match=r"only leaf tensors.*detach"):
        clone(x * 2.0)


def test_clone_detach_and_astype():
    x = leaf([1.0, 2.0])
    assert np.shares_memory(x.detach().numpy(), x.numpy()) and not np.shares_memory(x.clone().numpy(), x.numpy())
    assert x.clone().requires_grad and not x.detach().requires_grad
    x.astype("float32").sum().backward()
    assert x.grad.dtype == "float64"
    assert x.to("float32").dtype == "float32" and x.to("cpu") is x


# ---- small manners


def test_truth_numbers_and_iteration():
    assert (
        float(tn.tensor(2.5)) == 2.5
        and int(tn.tensor([3])) == 3
        and bool(tn.tensor(1.0))
        and [10, 20][tn.tensor(1)] == 20
    )
    with pytest.raises(ValueError, match=r"ambiguous.*\.any\(\) or \.all\(\)"):
        bool(tn.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"one element.*\(2,\)"):
        tn.tensor([1.0, 2.0]).item()
    with pytest.raises(TypeError, match="integer tensor"):
        [1, 2][tn.tensor(1.0)]
    with pytest.raises(TypeError, match="0-d"):
        len(tn.tensor(1.0))
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2 and [row.tolist() for row in x] == [[1.0, 2.0], [3.0, 4.0]] and next(iter(x)).requires_grad
    assert hash(x) != hash(leaf([1.0])) and len({x, x}) == 1
    assert f"{tn.tensor(0.123456):.2f}" == "0.12"


def test_words_of_pytorch_and_of_numpy():
    x = tn.tensor(np.arange(6.0).reshape(2, 3))
    for name in ("sum", "mean", "max", "min", "var", "std", "prod", "logsumexp"):
        a = getattr(x, name)(axis=1, keepdims=True)
        assert a.shape == (2, 1)
        np.testing.assert_array_equal(a.numpy(), getattr(x, name)(dim=1, keepdim=True).numpy())
        np.testing.assert_array_equal(a.numpy()[:, 0], getattr(tn, name)(x, [1]).numpy())
        with pytest.raises(TypeError, match="axis or dim, not both"):
            getattr(x, name)(axis=1, dim=1)
        with pytest.raises(TypeError):
            getattr(x, name)(dims=1)
    assert x.var().item() == np.var(np.arange(6.0)) and x.std(ddof=1).item() == np.std(np.arange(6.0), ddof=1)
    assert x.view(3, 2).shape == x.permute(1, 0).shape == x.T.shape == x.swapaxes(0, 1).shape == (3, 2)
    assert x.unsqueeze(0).shape == (1, 2, 3) and x[:1].expand(4, -1).shape == (4, 3) and x.clamp(0, 1).max().item() == 1
    assert x.argmax(dim=1).tolist() == [2, 2] and x.max().shape == ()


def test_the_library_leaves_numpy_s_state_alone():
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    old = np.geterr()
    tn.manual_seed(1)
    F.dropout(tn.randn(10), 0.5)
    F.layer_norm(tn.zeros(2, 3), 3, eps=0.0)
    assert (np.random.get_state()[1] == before).all() and np.geterr() == old


def test_norms_and_losses_never_warn():
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        big = tn.tensor(np.array([[1e30, -1e30], [0.0, 0.0]], "float32"), requires_grad=True)
        results = [
            F.normalize(big),
            F.layer_norm(big, 2),
            F.batch_norm(big, training=True),
            F.cross_entropy(big, tn.tensor([1, 0])),
            F.cosine_linear(big, big.detach()),
            F.softmax(big),
            F.mse_loss(big * 1e-20, big.detach() * 0),
        ]
        for y in results:
            y.sum().backward()


# ---- shapes and indices of every kind


@BOUNDED
@given(
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=0),
    st.sampled_from(["add", "multiply", "maximum", "divide"]),
)
def test_gradients_of_broadcast_operands(shapes, name):
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0.5, 2, s) for s in shapes.input_shapes)
    x, w = leaf(a), leaf(b)
    y = getattr(ops, name)(x, w)
    g = rng.uniform(-1, 1, y.shape)
    y.backward(g)
    slopes = {
        "add": (1, 1), "multiply": (b, a), "maximum": (a > b, a < b), "divide": (1 / b, -a / b**2),
    }[name]  # fmt: skip
    for leaf_, slope in zip((x, w), slopes):
        full = np.broadcast_to(g * slope, y.shape)
        lead = full.ndim - leaf_.ndim
        full = full.sum(axis=tuple(range(lead)))
        full = full.sum(axis=tuple(i for i, n in enumerate(leaf_.shape) if n == 1), keepdims=True)
        assert leaf_.grad.shape == leaf_.shape
        np.testing.assert_allclose(leaf_.grad.numpy(), full.reshape(leaf_.shape), rtol=1e-12, atol=1e-14)


def check_index(shape, index):
    a = np.random.default_rng(0).standard_normal(shape)
    x = leaf(a)
    y = x[index]
    np.testing.assert_array_equal(y.numpy(), a[index])
    y.backward(np.full(y.shape, 2.0))
    expected = np.zeros(shape)
    np.add.at(expected, index, 2.0)
    np.testing.assert_array_equal(x.grad.numpy(), expected)


@BOUNDED
@given(st.data())
def test_basic_indices(data):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    check_index(shape, data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)))


@BOUNDED
@given(st.data())
def test_integer_array_indices(data):
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=4))
    check_index(
        shape, data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3)))
    )


@BOUNDED
@given(st.data())
def test_reductions_over_any_axes(data):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, max_side=3))
    axes = data.draw(st.none() | hnp.valid_tuple_axes(len(shape)))
    keepdims = data.draw(st.booleans())
    a = np.random.default_rng(0).standard_normal(shape)
    for name in ("sum", "mean", "max", "min", "prod"):
        y = getattr(tn, name)(leaf(a), axes, keepdims)
        expected = getattr(np, name)(a, axis=axes, keepdims=keepdims)
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-15, err_msg=name)


@BOUNDED
@given(
    hnp.arrays("float32", hnp.array_shapes(max_dims=2, max_side=5), elements=st.floats(-(2.0**60), 2.0**60, width=32))
)
def test_softmax_of_any_numbers(a):
    x = tn.tensor(a, requires_grad=True)
    y = F.softmax(x)
    assert np.isfinite(y.numpy()).all() and np.allclose(y.numpy().sum(-1), 1, atol=1e-5)
    y.max().backward()
    assert np.isfinite(x.grad.numpy()).all()
