"""Convolution and pooling: against PyTorch, in pieces of every size, at ties and at NaN, and before norms."""

from itertools import product

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import nn, testing
from tinygrad_norm.backend.cpu import CPU
from tinygrad_norm.backend.jit import JIT, windows

RNG = np.random.default_rng(5)


@pytest.fixture
def torch():
    found = pytest.importorskip("torch", reason="the comparison needs PyTorch")
    found.manual_seed(0)
    found.set_num_threads(1)  # threads only cost with arrays as small as these
    return found


def agree(torch, ours, theirs, *arrays):
    """Value and gradients of two functions of the same inputs, to 1e-10."""
    xs = [None if a is None else tn.tensor(a, requires_grad=True) for a in arrays]
    ts = [None if a is None else torch.tensor(a, requires_grad=True) for a in arrays]
    y, t = ours(*xs), theirs(*ts)
    assert y.shape == tuple(t.shape)
    np.testing.assert_allclose(y.numpy(), t.detach().numpy(), rtol=0, atol=1e-10)
    g = RNG.standard_normal(y.shape)
    y.backward(g)
    t.backward(torch.tensor(g))
    for x, expected in zip(xs, ts, strict=True):
        if x is not None:
            np.testing.assert_allclose(x.grad.numpy(), expected.grad.numpy(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 2), (2, 4)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolution_is_pytorchs(torch, groups, kernel):
    options = product((0, 1, 3), ((1, 1), (2, 3)), ((0, 0), (1, 2), (4, 3)), ((1, 1), (2, 1), (1, 2)), (True, False))
    for n, stride, padding, dilation, bias in options:
        agree(
            torch,
            lambda x, w, b, s=stride, p=padding, d=dilation: F.conv2d(x, w, b, s, p, d, groups),
            lambda x, w, b, s=stride, p=padding, d=dilation: torch.nn.functional.conv2d(x, w, b, s, p, d, groups),
            RNG.standard_normal((n, 4, 7, 8)),
            RNG.standard_normal((8, 4 // groups, *kernel)),
            RNG.standard_normal(8) if bias else None,
        )


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_by_name_is_pytorchs(torch, padding, dilation):
    options = {"padding": padding, "dilation": dilation}
    for kernel in ((1, 1), (2, 3), (3, 2)):
        x, w = RNG.standard_normal((2, 3, 6, 7)), RNG.standard_normal((2, 3, *kernel))
        if padding == "same" and 2 in kernel:  # PyTorch warns that it copies
            y = F.conv2d(tn.tensor(x), tn.tensor(w), **options)
            before = [dilation * (k - 1) // 2 for k in kernel]
            after = [dilation * (k - 1) - b for k, b in zip(kernel, before, strict=True)]
            wide = np.pad(x, ((0, 0), (0, 0), (before[0], after[0]), (before[1], after[1])))
            t = torch.nn.functional.conv2d(torch.tensor(wide), torch.tensor(w), dilation=dilation)
            np.testing.assert_allclose(y.numpy(), t.numpy(), rtol=0, atol=1e-12)
        else:
            agree(
                torch,
                lambda x, w: F.conv2d(x, w, **options),
                lambda x, w: torch.nn.functional.conv2d(x, w, **options),
                x,
                w,
            )


@pytest.mark.parametrize("kernel", [1, 2, (3, 2)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pooling_is_pytorchs(torch, ceil_mode, kernel):
    for n, stride, padding, flag in product((0, 1, 3), (None, 1, (2, 3)), (0, 1), (True, False)):
        if 2 * padding > min(kernel if isinstance(kernel, tuple) else (kernel,)):
            continue
        x = RNG.integers(-3, 3, (n, 2, 7, 6)).astype(float)  # with many ties
        dilation = 2 if flag else 1
        agree(
            torch,
            lambda x, s=stride, p=padding, d=dilation: F.max_pool2d(x, kernel, s, p, d, ceil_mode),
            lambda x, s=stride, p=padding, d=dilation: torch.nn.functional.max_pool2d(x, kernel, s, p, d, ceil_mode),
            x,
        )
        agree(
            torch,
            lambda x, s=stride, p=padding, f=flag: F.avg_pool2d(x, kernel, s, p, ceil_mode, f),
            lambda x, s=stride, p=padding, f=flag: torch.nn.functional.avg_pool2d(x, kernel, s, p, ceil_mode, f),
            x,
        )


@pytest.mark.parametrize("size", [1, 2, (3, 4), (None, 5), (7, 9)])
def test_adaptive_pooling_is_pytorchs(torch, size):
    agree(
        torch,
        lambda x: F.adaptive_avg_pool2d(x, size),
        lambda x: torch.nn.functional.adaptive_avg_pool2d(x, size),
        RNG.standard_normal((2, 3, 7, 6)),
    )


def test_layers_are_pytorchs(torch):
    pairs = [
        (nn.Conv2d(4, 8, 3, dtype="float64"), torch.nn.Conv2d(4, 8, 3, dtype=torch.float64)),
        (
            nn.Conv2d(4, 8, (3, 2), (2, 1), (1, 2), (1, 2), 2, False, dtype="float64"),
            torch.nn.Conv2d(4, 8, (3, 2), (2, 1), (1, 2), (1, 2), 2, False, dtype=torch.float64),
        ),
        (nn.MaxPool2d(2), torch.nn.MaxPool2d(2)),
        (nn.MaxPool2d(3, 2, 1, 1, ceil_mode=True), torch.nn.MaxPool2d(3, 2, 1, 1, ceil_mode=True)),
        (nn.AvgPool2d(3, 2, 1, False, False), torch.nn.AvgPool2d(3, 2, 1, False, False)),
        (nn.AdaptiveAvgPool2d((2, 3)), torch.nn.AdaptiveAvgPool2d((2, 3))),
    ]
    for mine, theirs in pairs:
        assert list(mine.state_dict()) == list(theirs.state_dict())
        mine.load_state_dict({name: tn.tensor(v.numpy()) for name, v in theirs.state_dict().items()})
        agree(torch, mine, theirs, RNG.standard_normal((2, 4, 7, 6)))
        for p, t in zip(mine.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), t.grad.numpy(), rtol=0, atol=1e-10)


def test_the_start_is_uniform_with_the_fan_of_one_group():
    tn.manual_seed(0)
    layer = nn.Conv2d(16, 64, (3, 5), groups=4)
    bound = (4 * 15) ** -0.5
    assert layer.weight.shape == (64, 4, 3, 5)
    for p in layer.parameters():
        assert abs(p.numpy()).max() <= bound and abs(p.numpy().std() - bound / 3**0.5) < 0.15 * bound
    assert layer.weight.decay and not layer.bias.decay


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("piece", [1, 700, 3000, 1 << 40])
def test_pieces_of_any_size_give_the_same(monkeypatch, piece, needs):
    monkeypatch.setattr(CPU, "piece_bytes", piece)
    monkeypatch.setattr(windows, "FEW", 1)
    monkeypatch.setattr(JIT, "met_size", piece // 8)
    x, w = RNG.standard_normal((7, 2, 9, 8)), RNG.standard_normal((4, 2, 3, 2))
    arrays = [tn.tensor(a, requires_grad=need) for a, need in zip((x, w), needs, strict=True)]
    y = F.conv2d(*arrays, stride=(2, 1), padding=1)
    g = RNG.standard_normal(y.shape)
    y.backward(g)
    with tn.composite():
        others = [tn.tensor(a, requires_grad=need) for a, need in zip((x, w), needs, strict=True)]
        z = F.conv2d(*others, stride=(2, 1), padding=1)
        z.backward(g)
    np.testing.assert_allclose(y.numpy(), z.numpy(), atol=1e-12)
    for a, b in zip(arrays, others, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-12)


def test_float16_is_summed_in_float32():
    x = tn.full((1, 64, 3, 3), 100.0, dtype="float16")
    w = tn.full((1, 64, 3, 3), 0.1, dtype="float16", requires_grad=True)
    y = F.conv2d(x, w)
    assert y.dtype == "float16" and abs(y.item() - 57600 * float(w.numpy()[0, 0, 0, 0]) / 1) < 32
    assert F.avg_pool2d(tn.full((1, 1, 4, 4), 6e4, dtype="float16"), 4).item() == float(np.float16(6e4))


def test_the_gradient_of_a_maximum_goes_to_one_element_and_is_flat_around_it():
    x = tn.zeros(1, 1, 2, 2, dtype="float64", requires_grad=True)
    y = F.max_pool2d(x, 2)
    (g,) = tn.grad(y.sum(), [x], create_graph=True)
    assert g.tolist() == [[[[1.0, 0.0], [0.0, 0.0]]]]
    x = tn.tensor([[[[1.0, 3.0], [2.0, 0.0]]]], dtype="float64", requires_grad=True)
    assert tn.hessian(lambda x: (F.max_pool2d(x, 2) ** 3).sum(), x).numpy().reshape(4, 4)[1, 1] == 18.0
    assert testing.gradcheck(lambda x: F.max_pool2d(x, 2) ** 3, x, order=2).ok


def test_nan_is_the_largest_and_minus_infinity_the_smallest():
    x = np.array([[[[1.0, np.nan, 2.0, -np.inf], [3.0, 5.0, -np.inf, 1.0]]]])
    for composite in (False, True):
        with tn.composite() if composite else tn.enable_grad():
            y = F.max_pool2d(tn.tensor(x), 2).numpy().reshape(-1)
        assert np.isnan(y[0]) and y[1] == 2.0


def test_an_infinite_value_stays_in_its_own_window():
    x = np.zeros((1, 1, 5, 5))
    x[0, 0, 0, 0] = np.inf
    assert np.isfinite(F.adaptive_avg_pool2d(tn.tensor(x), 2).numpy()).sum() == 3
    assert np.isfinite(F.avg_pool2d(tn.tensor(x), 2).numpy()).sum() == 3
    assert np.isfinite(F.max_pool2d(tn.tensor(x), 2).numpy()).sum() == 3


@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.BatchNorm2d(6, dtype="float64"),
        lambda: nn.GroupNorm(3, 6, dtype="float64"),
        lambda: nn.InstanceNorm2d(6, affine=True, dtype="float64"),
        lambda: nn.LayerNorm((6, 3, 3), dtype="float64"),
    ],
    ids=["batch", "group", "instance", "layer"],
)
def test_norms_stand_behind_convolutions(norm):
    tn.manual_seed(2)
    first, last = nn.Conv2d(2, 6, 3, padding=1, bias=False, dtype="float64"), nn.Linear(6, 3, dtype="float64")
    net = nn.Sequential(first, nn.MaxPool2d(2), norm(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    x = tn.tensor(RNG.standard_normal((4, 2, 6, 6)), requires_grad=True)
    assert testing.gradcheck(net, x, mode="directional").ok
    assert testing.gradcheck(net, x, mode="directional", order=2).ok


@pytest.mark.parametrize("wrapper", [nn.WeightNorm, nn.WeightStandardization])
def test_weights_of_a_convolution_may_be_normed(wrapper):
    layer = wrapper(nn.Conv2d(2, 3, 2, dtype="float64"))
    x = tn.tensor(RNG.standard_normal((2, 2, 4, 4)), requires_grad=True)
    y = layer(x)
    assert testing.gradcheck(layer, x, mode="directional").ok
    np.testing.assert_allclose(layer.remove()(x).numpy(), y.numpy(), atol=1e-12)


BAD = [
    (lambda: nn.Conv2d(4, 6, 3, groups=3), "Conv2d: groups.*got 3 for 4 and 6"),
    (lambda: nn.Conv2d(0, 6, 3), "Conv2d: in_channels.*0"),
    (lambda: nn.Conv2d(4, 6, (3, 0)), r"Conv2d: kernel_size.*\(3, 0\)"),
    (lambda: nn.Conv2d(4, 6, 3, padding="full"), "Conv2d: padding.*'full'"),
    (lambda: nn.Conv2d(4, 6, 3, stride=2, padding="same"), "Conv2d: padding='same'.*stride=2"),
    (
        lambda: nn.Conv2d(4, 6, 3)(tn.ones(2, 3, 8, 8)),
        r"conv2d: x of 3 channels.*\(O, 3, rows, columns\).*\(6, 4, 3, 3\)",
    ),
    (lambda: nn.MaxPool2d(9)(tn.ones(2, 3, 8, 8)), "max_pool2d: the kernel must fit.*9 rows.*of 8"),
]


@pytest.mark.parametrize(("call", "text"), BAD, ids=[text for _, text in BAD])
def test_errors_teach(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_batch_norm_folds_into_the_convolution_before_it():
    tn.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 2, bias=False))
    net = nn.Sequential(net, nn.BatchNorm2d(3))
    x = tn.randn(8, 2, 6, 6)
    net(x)
    with pytest.raises(ValueError, match="a BatchNorm2d behind a Conv2d"):
        nn.fuse_batch_norm(net)
    net = nn.Sequential(*net[0], net[1])
    fused = nn.fuse_batch_norm(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    np.testing.assert_allclose(fused(x).numpy(), net.eval()(x).numpy(), atol=1e-5)


@pytest.mark.parametrize("padding", [0, 1, 2])  # with 1 the width stays, which has a kernel of its own
@pytest.mark.parametrize("where", [(0, 0), (2, 5), (3, 0), (4, 5)])
def test_infinity_at_an_edge_reaches_only_the_gradients_of_taps_that_meet_it(padding, where):
    x, w = RNG.standard_normal((2, 2, 5, 6)), RNG.standard_normal((3, 2, 3, 3))
    for spoilt, place in ((x, (1, 0, *where)), (w, (1, 1, where[0] // 2, where[1] // 5 * 2))):
        values = {False: [], True: []}
        kept, spoilt[place] = spoilt[place], np.inf
        for composite, seen in values.items():
            with tn.composite() if composite else tn.enable_grad(), np.errstate(invalid="ignore"):
                leaves = [tn.tensor(a, requires_grad=True) for a in (x, w)]
                F.conv2d(*leaves, padding=padding).backward(np.ones((2, 3, 3 + 2 * padding, 4 + 2 * padding)))
                seen += [v.grad.numpy() for v in leaves]
        spoilt[place] = kept
        for fused, expected in zip(*values.values(), strict=True):
            np.testing.assert_allclose(fused, expected, rtol=0, atol=1e-12)
