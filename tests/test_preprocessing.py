"""Preprocessing: the definitions, scikit-learn beside them, both kinds of data, and what is refused."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import data, testing

MAKERS = {
    "min-max": data.MinMaxScaler,
    "min-max [-2, 5]": lambda: data.MinMaxScaler(feature_range=(-2, 5)),
    "min-max clipped": lambda: data.MinMaxScaler(feature_range=(-1, 1), clip=True),
    "z-score": data.StandardScaler,
    "pca": data.PCAWhitening,
    "pca eps": lambda: data.PCAWhitening(eps=0.1),
    "zca": data.ZCAWhitening,
    "zca eps": lambda: data.ZCAWhitening(eps=0.1),
}
WHITENINGS = [data.PCAWhitening, data.ZCAWhitening]


def correlated(n=200, features=6, seed=0, dtype=np.float64):
    """Features that hang together, of very different scale and mean."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, features)) @ draw.normal(size=(features, features))
    return (x * 10.0 ** np.arange(-2, features - 2) + 100.0 * draw.normal(size=features)).astype(dtype)


def covariance(y):
    d = y - y.mean(axis=0)
    return d.T @ d / len(y)


@pytest.fixture(params=MAKERS)
def fitted(request):
    return MAKERS[request.param]().fit(correlated())


# ---- the definitions


@pytest.mark.parametrize("a, b", [(0, 1), (-1, 1), (-0.1, 0.3), (3, 1000), (1e-9, 7)])
def test_min_max_reaches_both_ends_exactly(a, b):
    x = correlated()
    y = data.MinMaxScaler(feature_range=(a, b)).fit_transform(x)
    assert (y.min(axis=0) == a).all() and (y.max(axis=0) == b).all()
    assert (y[x.argmin(axis=0), range(6)] == a).all() and (y[x.argmax(axis=0), range(6)] == b).all()
    expected = (x - x.min(axis=0)) / (x.max(axis=0) - x.min(axis=0)) * (b - a) + a
    assert np.allclose(y, expected, rtol=1e-13, atol=1e-13 * (b - a))


def test_min_max_to_minus_one_and_one_is_twice_that_to_zero_and_one_less_one():
    x = correlated()
    unit, both = data.MinMaxScaler().fit_transform(x), data.MinMaxScaler((-1, 1)).fit_transform(x)
    assert np.allclose(both, 2 * unit - 1, rtol=0, atol=1e-15)


def test_z_score_has_mean_0_and_biased_variance_1():
    y = data.StandardScaler().fit_transform(correlated())
    assert np.abs(y.mean(axis=0)).max() < 1e-12
    assert np.abs(y.var(axis=0) - 1).max() < 1e-12


def test_z_score_is_batch_norm_of_the_whole_set():
    x = correlated()
    y = F.batch_norm(tn.tensor(x), training=True, eps=0.0).numpy()
    assert np.allclose(data.StandardScaler().fit_transform(x), y, rtol=0, atol=1e-12)


def test_z_score_keeps_its_digits_beside_large_means_and_at_the_ends_of_the_range():
    unit = np.random.default_rng(0).normal(size=(100, 1))
    unit = (unit - unit.mean()) / unit.std()
    for scale in (1e-200, 1e-30, 1e150, 1e300):
        assert np.allclose(data.StandardScaler().fit_transform(unit * scale), unit, rtol=1e-12, atol=1e-12), scale
    x = (unit + 4e5).astype(np.float32)
    y = data.StandardScaler().fit_transform(x)
    assert y.dtype == np.float32
    assert abs(y.mean(dtype=np.float64)) < 1e-6  # in float32 arithmetic the mean alone is 0.01 off
    assert abs(y.var(dtype=np.float64) - 1) < 1e-6


@pytest.mark.parametrize("make", WHITENINGS)
def test_whitened_data_have_the_identity_as_covariance(make):
    y = make().fit_transform(correlated())
    assert np.abs(y.mean(axis=0)).max() < 1e-10
    assert np.abs(covariance(y) - np.eye(6)).max() < 1e-10


@pytest.mark.parametrize("make", WHITENINGS)
def test_whitening_needs_no_square_of_the_condition_number(make):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 3)) * [1.0, 1e-5, 1e-10] @ np.linalg.qr(draw.normal(size=(3, 3)))[0]
    y = make().fit_transform(x)
    # Entries of x are known to 1e-16 of the largest, so those along the smallest axis to 1e-6 of it.
    assert np.abs(covariance(y) - np.eye(3)).max() < 1e-5


@pytest.mark.parametrize("make", WHITENINGS)
def test_eps_gives_eigenvalues_l_over_l_plus_eps(make):
    x = np.random.default_rng(0).normal(size=(100, 4)) * [0.1, 1.0, 3.0, 0.0]
    y = make(eps=0.5).fit_transform(x)
    before = np.linalg.eigvalsh(covariance(x))
    assert np.allclose(np.linalg.eigvalsh(covariance(y)), before / (before + 0.5), rtol=0, atol=1e-12)


def test_zca_is_the_inverse_root_of_the_covariance_and_what_the_layer_computes():
    x = correlated()
    x /= x.std(axis=0)
    for eps in (0.0, 0.1):
        y = data.ZCAWhitening(eps).fit_transform(x)
        values, vectors = np.linalg.eigh(covariance(x))
        assert np.allclose(y, (x - x.mean(axis=0)) @ (vectors / np.sqrt(values + eps)) @ vectors.T, rtol=0, atol=1e-9)
        assert np.allclose(y, F.whiten(tn.tensor(x), eps=eps).numpy(), rtol=0, atol=1e-9)


def test_zca_is_the_whitening_nearest_to_the_data():
    x = correlated()
    x /= x.std(axis=0)
    centred = x - x.mean(axis=0)
    y, rotated = data.ZCAWhitening().fit_transform(x), data.PCAWhitening().fit_transform(x)
    distance = np.square(y - centred).mean()
    draw = np.random.default_rng(0)
    others = [y @ np.linalg.qr(draw.normal(size=(6, 6)))[0] for _ in range(50)]
    assert all(np.square(other - centred).mean() > distance for other in [*others, rotated])
    assert np.allclose(np.linalg.svd(y)[1], np.linalg.svd(rotated)[1])  # the two differ by a rotation


def test_zca_undoes_any_invertible_map_up_to_a_rotation():
    x, draw = correlated(), np.random.default_rng(1)
    y, mixed = (data.ZCAWhitening().fit_transform(v) for v in (x, x @ draw.normal(size=(6, 6))))
    rotation = np.linalg.lstsq(y, mixed, rcond=None)[0]
    assert np.allclose(y @ rotation, mixed, rtol=0, atol=1e-8)
    assert np.allclose(rotation @ rotation.T, np.eye(6), rtol=0, atol=1e-8)


# ---- scikit-learn


def sklearn(name, **options):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn import decomposition, preprocessing

    return getattr(decomposition if name == "PCA" else preprocessing, name)(**options)


X = correlated()
CONSTANT = np.concatenate([X, np.full((200, 1), 0.1), np.zeros((200, 1))], axis=1)
SCALERS = [
    ("MinMaxScaler", {}),
    ("MinMaxScaler", {"feature_range": (-3, 2.5)}),
    ("MinMaxScaler", {"feature_range": (-1, 1), "clip": True}),
    ("StandardScaler", {}),
]


@pytest.mark.parametrize("name, options", SCALERS)
@pytest.mark.parametrize("x", [X, CONSTANT, X.astype(np.int64)], ids=["plain", "constant features", "integers"])
def test_scalers_agree_with_scikit_learn(name, options, x):
    agree(getattr(data, name)(**options).fit(x), sklearn(name, **options).fit(x), x)


def test_pca_agrees_with_scikit_learn():
    # Data without directions of no variance: there scikit-learn divides rounding by rounding.
    agree(data.PCAWhitening().fit(X), sklearn("PCA", whiten=True, svd_solver="full").fit(X), X, (200 / 199) ** 0.5)


def agree(our, their, x, factor=1.0):
    unseen = np.concatenate([x[:5] * 3 + 1, x[-3:] - 7])
    for batch in (x, unseen):
        expected = their.transform(batch) * factor
        assert np.allclose(our.transform(batch), expected, rtol=1e-10, atol=1e-10)
        back = their.inverse_transform(their.transform(batch))
        assert np.allclose(our.inverse_transform(our.transform(batch)), back, rtol=1e-10, atol=1e-10)


def test_agrees_with_scikit_learn_on_more_features_than_samples():
    x = correlated(8, 20)
    expected = sklearn("PCA", n_components=7, whiten=True, svd_solver="full").fit_transform(x) * (8 / 7) ** 0.5
    y = data.PCAWhitening().fit_transform(x)
    assert y.shape == (8, 20)
    assert np.allclose(y[:, :7], expected, rtol=1e-10, atol=1e-10)
    assert not y[:, 7:].any()


# ---- there and back


def test_the_inverse_gives_the_data_back(fitted):
    x = correlated()
    assert np.allclose(fitted.inverse_transform(fitted.transform(x)), x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", [name for name in MAKERS if "clip" not in name])
def test_the_inverse_gives_unseen_data_back(name):
    x = correlated()
    unseen = correlated(seed=5) * 2
    scaler = MAKERS[name]().fit(x)
    assert np.allclose(scaler.inverse_transform(scaler.transform(unseen)), unseen, rtol=1e-10, atol=1e-9)


@given(st.lists(st.floats(-1e100, 1e100), min_size=2, max_size=20), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_min_max_stays_in_range_and_in_order_for_any_numbers(values, a, width):
    x = np.sort(np.array(values))[:, None]
    y = data.MinMaxScaler((a, a + width)).fit_transform(x)
    slack = 4 * np.spacing(abs(a) + width)
    assert y.min() >= a - slack and y.max() <= a + width + slack
    assert (np.diff(y, axis=0) >= -slack).all()


# ---- constant features, unseen data


def test_a_constant_feature_becomes_the_lower_end_and_its_inverse_the_constant():
    x = np.array([[7.0, 1.0], [7.0, 2.0], [7.0, 4.0]])
    scaler = data.MinMaxScaler((-1, 1))
    assert scaler.fit_transform(x)[:, 0].tolist() == [-1.0, -1.0, -1.0]
    assert scaler.inverse_transform(scaler.transform(x))[:, 0].tolist() == [7.0, 7.0, 7.0]
    unseen = np.array([[7.5, 1.0]])
    assert scaler.transform(unseen)[0, 0] == 0.0
    assert scaler.inverse_transform(scaler.transform(unseen)).tolist() == unseen.tolist()


@pytest.mark.parametrize("value", [0.1, 1e300, -3e-310, 0.0])
@pytest.mark.parametrize("name", MAKERS)
def test_constant_data_give_no_noise(name, value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaler = MAKERS[name]()
        y = scaler.fit_transform(np.full((49, 3), value))
        assert (y == (scaler.feature_range[0] if "min-max" in name else 0.0)).all()


def test_unseen_data_leave_the_range_unless_clipped():
    x = np.array([[0.0], [10.0]])
    unseen = np.array([[-5.0], [5.0], [20.0]])
    assert data.MinMaxScaler((0, 2)).fit(x).transform(unseen).ravel().tolist() == [-1.0, 1.0, 4.0]
    assert data.MinMaxScaler((0, 2), clip=True).fit(x).transform(unseen).ravel().tolist() == [0.0, 1.0, 2.0]


def test_one_outlier_squeezes_the_rest_together():
    x = np.concatenate([np.random.default_rng(0).normal(size=(999, 1)), [[1e4]]])
    y = data.MinMaxScaler().fit_transform(x)
    assert np.ptp(y[:-1]) < 1e-3


@pytest.mark.parametrize("make", WHITENINGS)
def test_directions_without_variance_are_dropped(make):
    x = correlated()
    x[:, 3] = 2 * x[:, 4] - x[:, 0]
    whitening = make().fit(x)
    assert (whitening.explained_variance_ == 0).sum() == 1
    y = whitening.transform(x)
    values = np.linalg.eigvalsh(covariance(y))
    assert np.allclose(values, [0, 1, 1, 1, 1, 1], rtol=0, atol=1e-8)
    assert np.allclose(whitening.inverse_transform(y), x, rtol=1e-10, atol=1e-8)


# ---- arrays and Tensors


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", MAKERS)
def test_the_result_is_of_the_kind_and_dtype_of_the_data(name, dtype, backend):
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(dtype)
    scaler = MAKERS[name]().fit(tn.tensor(x))
    y, z = scaler.transform(x), scaler.transform(tn.tensor(x))
    assert type(y) is np.ndarray and type(z) is tn.Tensor
    assert y.dtype == z.dtype == np.dtype(dtype)
    assert np.array_equal(y, z.numpy())
    assert np.array_equal(scaler.inverse_transform(y), scaler.inverse_transform(z).numpy())


def test_integers_become_floats(fitted, backend):
    x = correlated().round().astype(np.int64)
    assert fitted.transform(x).dtype == np.float64
    assert fitted.transform(tn.tensor(x)).dtype == np.float32
    assert np.array_equal(fitted.transform(x), fitted.transform(x.astype(np.float64)))


def test_data_of_more_dimensions_are_scaled_by_feature():
    images = np.random.default_rng(0).normal(size=(30, 2, 4, 4)) * 3 + 1
    for make in (data.MinMaxScaler, data.StandardScaler):
        y = make().fit_transform(images)
        assert np.array_equal(y.reshape(30, 32), make().fit_transform(images.reshape(30, 32)))
    one = data.StandardScaler().fit_transform(np.array([1.0, 3.0]))
    assert one.tolist() == [-1.0, 1.0]


def test_fit_and_transform_leave_the_data_alone(fitted):
    x = correlated()
    before = x.copy()
    fitted.inverse_transform(fitted.fit_transform(x))
    assert np.array_equal(x, before)
    assert not any(np.shares_memory(getattr(fitted, name), x) for name in fitted.state)


@pytest.mark.parametrize("name", [name for name in MAKERS if "clip" not in name])
def test_gradients_flow_through(name, backend):
    scaler = MAKERS[name]().fit(np.random.default_rng(0).normal(size=(20, 3)) * 3)
    x = tn.tensor(np.random.default_rng(1).normal(size=(4, 3)), requires_grad=True)
    assert testing.gradcheck(scaler.transform, [x])
    assert testing.gradcheck(scaler.inverse_transform, [x])


def test_measuring_a_tensor_records_nothing():
    x = tn.tensor(correlated(), requires_grad=True)
    scaler = data.StandardScaler().fit(x)
    assert type(scaler.mean_) is np.ndarray
    assert not scaler.transform(x.detach()).requires_grad


# ---- state


def test_state_survives_a_file(fitted, tmp_path):
    x = correlated(seed=3)
    tn.save(tmp_path / "scaler.npz", fitted.state_dict())
    other = type(fitted)(**{k: v for k, v in vars(fitted).items() if k in ("feature_range", "clip", "eps")})
    other.load_state_dict(tn.load(tmp_path / "scaler.npz"))
    assert np.array_equal(other.transform(x), fitted.transform(x))
    assert np.array_equal(other.inverse_transform(x), fitted.inverse_transform(x))


def test_state_is_a_copy_both_ways():
    scaler = data.StandardScaler().fit(correlated())
    state = {name: value.numpy().copy() for name, value in scaler.state_dict().items()}
    scaler.load_state_dict(state)
    state["mean_"] += 1.0
    assert not np.array_equal(scaler.mean_, state["mean_"])
    with pytest.raises(ValueError, match="read-only"):
        scaler.mean_ += 1.0


@pytest.mark.parametrize(
    "state, text",
    [
        ({"mean_": np.zeros(3)}, "needs a mapping with the names mean_, scale_; got mean_"),
        ({"data_min_": np.zeros(3), "data_max_": np.ones(3)}, "got data_min_, data_max_"),
        ([1, 2], "got "),
        ({"mean_": np.zeros(3), "scale_": np.ones(4)}, r"scale_ must be finite and of shape \(3,\)"),
        ({"mean_": np.zeros(3), "scale_": np.array([1.0, np.nan, 1.0])}, "scale_ must be finite"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_whole(state, text):
    scaler = data.StandardScaler().fit(correlated())
    before = scaler.mean_.copy()
    with pytest.raises(ValueError, match=text):
        scaler.load_state_dict(state)
    assert np.array_equal(scaler.mean_, before)


def test_options_show():
    assert repr(data.MinMaxScaler((-1, 1), clip=True)) == "MinMaxScaler(feature_range=(-1.0, 1.0), clip=True)"
    assert repr(data.ZCAWhitening(0.1)) == "ZCAWhitening(eps=0.1)"
    assert repr(data.StandardScaler()) == "StandardScaler()"


# ---- what is refused


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_was_measured_yet(name):
    scaler = MAKERS[name]()
    for call in (scaler.transform, scaler.inverse_transform, lambda _: scaler.state_dict()):
        with pytest.raises(RuntimeError, match=rf"{type(scaler).__name__}\.\w+: nothing was measured yet; call fit"):
            call(np.zeros((2, 3)))


@pytest.mark.parametrize("kind", [np.asarray, tn.tensor])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_named_with_its_place(fitted, kind, bad, backend):
    x = correlated()
    x[17, 4] = bad
    for method in ("fit", "transform", "inverse_transform"):
        with pytest.raises(ValueError, match=rf"\.{method}: x must be finite; got {bad} at position \(17, 4\)"):
            getattr(fitted, method)(kind(x))


@pytest.mark.parametrize("shape", [(4, 5), (4, 7), (6,), (4, 6, 1)])
def test_other_features_are_refused(fitted, shape):
    for method in ("transform", "inverse_transform"):
        with pytest.raises(ValueError, match=rf"\.{method}: x must have (the )?shape"):
            getattr(fitted, method)(np.zeros(shape))


@pytest.mark.parametrize(
    "x, error, text",
    [
        ([[1.0, 2.0]], TypeError, "must be a Tensor or a NumPy array; got "),
        (np.array([["a", "b"]]), TypeError, "must hold real numbers"),
        (np.array([[1j, 2.0]]), TypeError, "must hold real numbers"),
        (np.zeros((0, 3)), ValueError, "a row per sample; got .*0, 3"),
        (np.array(3.0), ValueError, "a row per sample"),
    ],
)
@pytest.mark.parametrize("name", MAKERS)
def test_data_that_cannot_be_measured_are_refused(name, x, error, text):
    with pytest.raises(error, match=text):
        MAKERS[name]().fit(x)


@pytest.mark.parametrize("name", MAKERS)
def test_an_overflow_is_refused_where_there_is_one(name):
    x = np.array([[-1.7e308], [1.7e308]])
    if name == "z-score":
        assert data.StandardScaler().fit_transform(x).tolist() == [[-1.0], [1.0]]
        x = np.full((100, 2), 1.7e308) * [[1.0, 0.5]] * np.linspace(0.9, 1, 100)[:, None]  # their sum overflows
    with pytest.raises(ValueError, match=r"fit: .*overflows float64; divide"):
        MAKERS[name]().fit(x)


@pytest.mark.parametrize("limits", [(1, 0), (1, 1), (0, np.nan), (-np.inf, 0), "ab", 3, (1, 2, 3), (-1.7e308, 1.7e308)])
def test_a_range_must_be_one(limits):
    with pytest.raises(ValueError, match=r"must be two numbers .* with a < b; got"):
        data.MinMaxScaler(limits)


@pytest.mark.parametrize("eps", [-1e-9, np.nan, np.inf, "1"])
@pytest.mark.parametrize("make", WHITENINGS)
def test_eps_must_not_be_negative(make, eps):
    with pytest.raises(ValueError, match="eps must be a finite number of at least 0; got"):
        make(eps)
