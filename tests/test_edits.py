"""Memory changed between forward and backward: the right gradient or a clear error, never a wrong one."""

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import functional as F

X, W = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([[0.5, -1.0, 2.0], [3.0, 0.1, -0.2]])
CHANGED = "changed in place after"


def leaf(values):
    return tn.tensor(values, dtype="float64", requires_grad=True)


def right_or_refused(y, x, expected, refused=None):
    """Run backward. ``refused`` True or False when the outcome is promised, None when either will do."""
    try:
        y.backward()
    except RuntimeError as error:
        assert CHANGED in str(error) and refused is not False, error
    else:
        assert refused is not True, "the edit was not noticed"
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-12)


# ---- every way to write into what multiply has read


def by_setitem(w):
    w[0, 0] = 99.0


def by_iadd(w):
    w += 1.0


def by_imul(w):
    w *= 3.0


def by_copy_(w):
    w.copy_(np.zeros(w.shape))


def by_data(w):
    w.data = np.zeros(w.shape)


def by_a_new_view(w):
    w[1:][...] = 5.0


def by_a_new_transpose(w):
    w.T[0] = 5.0


def by_a_new_reshape(w):
    w.reshape(-1)[0] = 5.0


def by_detach(w):
    w.detach()[...] = 5.0


ROUTES = [
    by_setitem,
    by_iadd,
    by_imul,
    by_copy_,
    by_data,
    by_a_new_view,
    by_a_new_transpose,
    by_a_new_reshape,
    by_detach,
]


@pytest.mark.parametrize("route", ROUTES)
def test_a_constant_operand_is_written_to(route):
    x, w = leaf(X), tn.tensor(W)
    y = (x * w).sum()
    route(w)
    right_or_refused(y, x, W, refused=True)


@pytest.mark.parametrize("route", ROUTES)
def test_a_leaf_is_written_to_under_no_grad(route):
    x, w = leaf(X), leaf(W)
    y = (x * w).sum()
    with tn.no_grad():
        route(w)
    right_or_refused(y, x, W, refused=True)


@pytest.mark.parametrize("route", ROUTES)
def test_a_result_is_written_to_under_no_grad(route):
    x = leaf(X)
    h = tn.exp(x)
    y = h.sum()
    with tn.no_grad():
        route(h)
    right_or_refused(y, x, np.exp(X), refused=True)


@pytest.mark.parametrize(
    "view", [lambda w: w[0], lambda w: w.T, lambda w: w.reshape(-1), lambda w: w.detach(), lambda w: w[::-1, 1:]]
)
def test_a_view_from_before_is_written_to(view):
    x, w = leaf(X), tn.tensor(W)
    v = view(w)
    y = (x * w).sum()
    v[...] = 7.0
    right_or_refused(y, x, W, refused=True)
    x, w = leaf(X), tn.tensor(W)
    y = (x * view(w).detach()).sum() if view(w).shape == X.shape else (x * w[:, :]).sum()
    w[...] = 7.0
    with pytest.raises(RuntimeError, match=CHANGED):
        y.backward()


def test_the_message_names_the_operation_and_the_way_out():
    x, w = leaf(X), tn.tensor(W)
    y = (x * w).sum()
    w += 1.0
    with pytest.raises(
        RuntimeError, match=r"input 1 of multiply \(.*\(2, 3\).*float64\) was changed in place.*x = x \+ v"
    ):
        y.backward()


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize(
    "fn",
    [
        tn.exp,
        tn.tanh,
        F.relu,
        F.sigmoid,
        F.softmax,
        F.gelu,
        F.silu,
        lambda x: F.layer_norm(x, 3),
        F.normalize,
        lambda x: x.std(axis=1),
    ],
)
def test_what_kernels_save_is_guarded_in_every_order(fn, order):
    for what in ("input", "output"):
        x = leaf(X)
        h = x * 1.0
        y = fn(h)
        seed = np.resize([0.3, -1.0, 0.7, 0.2], y.shape)
        expected = tn.grad(y, x, seed, retain_graph=True).numpy()
        with tn.no_grad():
            (h if what == "input" else y)[...] = 0.37
        try:
            g = tn.grad(y, x, seed, create_graph=order == "second")
        except RuntimeError as error:
            assert CHANGED in str(error)
        else:
            np.testing.assert_allclose(g.numpy(), expected, rtol=1e-12, atol=1e-15)


# ---- memory of the user's own


def test_a_numpy_operand_is_copied():
    x, w = leaf(X), W.copy()
    y = (w * x).sum() + (x @ w.T).sum() + tn.where(w > 0, x, 0.0).sum() + tn.maximum(x, w).sum()
    first = tn.grad(y, x, retain_graph=True).numpy()
    w[...] = -7.0
    right_or_refused(y, x, first, refused=False)


def test_from_numpy_borrows_and_recording_copies():
    a = W.copy()
    older = a[0]
    w, x = tn.from_numpy(a), leaf(X)
    y = (x * w).sum() + (x * w.T.T[...]).sum() + (x * w.reshape(2, 3)).sum()
    a[1] = 9.0
    older[...] = 8.0
    right_or_refused(y, x, 3 * W, refused=False)
    assert w.tolist() == [[8.0] * 3, [9.0] * 3]


def test_a_borrowed_leaf():
    a = X.copy()
    x = tn.from_numpy(a).requires_grad_()
    y = (x * x).sum()
    a[...] = 0.0
    right_or_refused(y, x, 2 * X, refused=False)


def test_constructors_copy():
    a = W.copy()
    x, w = leaf(X), tn.tensor(a)
    y = (x * w).sum()
    a[...] = 0.0
    right_or_refused(y, x, W, refused=False)
    assert not np.shares_memory(tn.tensor(w).numpy(), w.numpy())


@pytest.mark.parametrize("make", [np.array, tn.tensor])
def test_labels_indices_masks_and_weights(make):
    x = leaf(X)
    labels, index, mask = make([2, 0]), make([0, 0, 1]), make([[True, False, True], [False, True, True]])
    weight, target, limit = make([0.5, 1.0, 2.0]), make([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]), make([[2.0] * 3] * 2)
    terms = {
        "labels": F.cross_entropy(x, labels),
        "nll labels": F.nll_loss(x, labels),
        "class weights": F.cross_entropy(x, labels, weight=weight),
        "smoothed class weights": F.cross_entropy(x, labels, weight=weight, label_smoothing=0.1),
        "weights of probabilities": F.cross_entropy(x, target, weight=weight),
        "index": (x[index] * x[index]).sum(),
        "pair of indices": (x[index, index] * 3.0).sum(),
        "mask": (x[mask] * 2.0).sum(),
        "condition": tn.where(mask, x * x, 0.0).sum(),
        "limit": x.clip(max=limit).sum(),
        "targets": F.mse_loss(x, target),
        "binary targets": F.binary_cross_entropy_with_logits(x, target, weight=weight, pos_weight=weight),
    }
    expected = {name: tn.grad(y, x, retain_graph=True).numpy() for name, y in terms.items()}
    with tn.no_grad():
        labels[...] = 1
        index[...] = 1
        mask[...] = False
        weight[...] = 9.0
        target[...] = 0.9
        limit[...] = -1.0
    for name, y in terms.items():
        x.grad = None
        try:
            y.backward()
        except RuntimeError as error:
            assert make is tn.tensor and CHANGED in str(error), name
        else:
            np.testing.assert_allclose(x.grad.numpy(), expected[name], rtol=1e-12, err_msg=name)


def test_running_statistics_that_a_later_forward_moves():
    x, w, b = leaf(X), leaf(np.ones(3)), leaf(np.zeros(3))
    mean, var = tn.zeros(3), tn.ones(3)
    y = (F.batch_norm(x, mean, var, w, b) * tn.tensor(W)).sum()
    expected = [g.numpy() for g in tn.grad(y, [x, w, b], retain_graph=True)]
    F.batch_norm(x, mean, var, w, b, training=True)
    assert mean.tolist() != [0.0] * 3
    try:
        y.backward()
    except RuntimeError as error:
        assert CHANGED in str(error)
    else:
        for v, e in zip((x, w, b), expected):
            np.testing.assert_allclose(v.grad.numpy(), e, rtol=1e-6)


# ---- what is handed out cannot be written to


def test_numpy_and_data_are_read_only():
    x = tn.tensor(X)
    for view in (x.numpy(), x.data, x.detach().numpy(), np.asarray(x)):
        with pytest.raises(ValueError, match="read-only"):
            view[0, 0] = 1.0
    g = leaf(X)
    (g * g).sum().backward()
    with pytest.raises(ValueError, match="read-only"):
        g.grad.numpy()[0, 0] = 1.0


# ---- no false alarms


def test_edits_of_what_no_rule_reads_do_not_raise():
    x, w = leaf(X), tn.tensor(W)
    y = x + w
    z = (y - 3.0).reshape(-1)[1:].sum() + y.mean() + tn.concatenate([y, y]).sum()
    w += 1.0
    with tn.no_grad():
        x += 5.0
        y[...] = 0.0
    z.backward()
    np.testing.assert_allclose(x.grad.numpy(), np.where(np.arange(6).reshape(2, 3) > 0, 1, 0) + 1 / 6 + 2)


@pytest.mark.parametrize("fn", [tn.exp, tn.tanh, tn.sqrt, F.relu, F.sigmoid, F.softmax])
def test_an_input_that_only_forward_reads_may_change(fn):
    x = leaf(X)
    h = x * 1.0
    y = fn(h)
    expected = tn.grad(y, x, np.ones(y.shape), retain_graph=True).numpy()
    with tn.no_grad():
        h[...] = 0.0
    y.backward(np.ones(y.shape))
    np.testing.assert_allclose(x.grad.numpy(), expected)


def test_edits_before_the_operation_and_after_backward_are_fine():
    x, w = leaf(X), tn.zeros(2, 3, dtype="float64")
    w.copy_(W)
    y = (x * w).sum()
    y.backward()
    w += 1.0
    (x * w).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * W + 1)


def test_a_step_of_gradient_descent():
    x = leaf(X)
    for _ in range(3):
        (x * x).sum().backward()
        with tn.no_grad():
            x -= 0.25 * x.grad
        x.grad = None
    np.testing.assert_allclose(x.numpy(), X / 8)
    assert x.is_leaf and x.requires_grad


# ---- what cannot be recorded is refused


def test_edits_while_recording():
    x = leaf(X)
    for edit in (by_setitem, by_iadd, by_imul, by_copy_):
        with pytest.raises(RuntimeError, match=r"in-place edit of a leaf that needs a gradient.*x = x \+ v.*no_grad"):
            edit(x)
        with pytest.raises(RuntimeError, match="in-place edit of a recorded result of exp"):
            edit(tn.exp(x))
    with pytest.raises(RuntimeError, match="in-place"):
        x[0] += 1.0
    target = tn.zeros(2, 3, dtype="float64")
    with pytest.raises(RuntimeError, match="needs a gradient, which an in-place write would lose"):
        target[...] = x
    assert target.tolist() == [[0.0] * 3] * 2 and np.array_equal(x.numpy(), X)


def test_edits_that_do_not_fit():
    x = tn.zeros(2, 3)
    with pytest.raises(ValueError, match=r"assignment.*\(2, 3\).*\(4,\)"):
        x[...] = np.zeros(4, "float32")
    with pytest.raises(TypeError, match=r"assignment: float64.*int64"):
        tn.tensor([1, 2])[...] = np.array([0.5, 0.5])
    with pytest.raises(TypeError, match="int64"):
        tn.tensor([1, 2])[0] = 0.5
    with pytest.raises(ValueError, match=r"broadcast or read-only view.*clone"):
        tn.zeros(1, 3).broadcast_to(2, 3)[...] = 1.0
    with pytest.raises(IndexError, match="5"):
        x[5] = 1.0
    x[0], x[:, 1] = 1.0, np.float64(2.0)
    x[tn.tensor([1, 1]), tn.tensor([0, 2])] = tn.tensor([5.0, 6.0])
    assert x.tolist() == [[1.0, 2.0, 1.0], [5.0, 2.0, 6.0]] and x.dtype == "float32"
