"""Module, Parameter and Buffer: what belongs to a model, its state, its copies, its errors."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import nn


class Net(nn.Module):
    """Parameters, a buffer and modules on three levels."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.gain = nn.Parameter([2.0], decay=False)
        self.seen = nn.Buffer(np.array(0))
        self.rest = nn.Sequential(nn.ReLU(), nn.ModuleDict({"out": nn.Linear(4, 2, bias=False)})["out"])

    def forward(self, x):
        return self.rest(self.first(x)) * self.gain


def values(module):
    return {name: x.numpy().copy() for name, x in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


# --- Parameter and Buffer -------------------------------------------------------------------------


@pytest.mark.parametrize("data", [[1.0, 2.0], np.array([1.0, 2.0], "float32"), "tensor"])
def test_a_parameter_is_a_leaf_over_a_copy(data):
    data = tn.tensor([1.0, 2.0]) if isinstance(data, str) else data
    p = nn.Parameter(data)
    assert isinstance(p, tn.Tensor) and p.is_leaf and p.requires_grad and p.decay and p.dtype == "float32"
    if not isinstance(data, list):
        data[0] = 9.0
    assert p.tolist() == [1.0, 2.0]
    y = (p * p).sum()
    assert type(y) is tn.Tensor
    y.backward()
    assert p.grad.tolist() == [2.0, 4.0]


def test_a_parameter_of_a_result_leaves_the_graph():
    x = tn.tensor([1.0], requires_grad=True)
    p = nn.Parameter(x * 3.0)
    p.sum().backward()
    assert p.is_leaf and p.grad.item() == 1.0 and x.grad is None


def test_integers_are_no_parameter():
    with pytest.raises(TypeError, match="int64"):
        nn.Parameter([1, 2])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("decay", [True, False])
def test_a_copied_parameter_keeps_everything(again, decay):
    p = nn.Parameter(np.array([1.0, 2.0]), decay=decay)
    (p * p).sum().backward()
    q = again(p)
    assert type(q) is nn.Parameter and q.decay is decay and q.requires_grad and q.dtype == "float64"
    assert q.tolist() == [1.0, 2.0] and q.grad.tolist() == [2.0, 4.0]
    with tn.no_grad():
        q += 1.0
    assert p.tolist() == [1.0, 2.0]
    frozen = again(nn.Parameter([1.0], decay=decay).requires_grad_(False))
    assert frozen.decay is decay and not frozen.requires_grad
    assert type(again(nn.Buffer([1]))) is nn.Buffer


# --- what belongs to a module ---------------------------------------------------------------------


def test_attributes_are_found_in_order():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["gain", "first.weight", "first.bias", "rest.1.weight"]
    assert [n for n, _ in net.named_buffers()] == ["seen"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "rest", "rest.0", "rest.1"]
    assert [n for n, _ in net.named_children()] == ["first", "rest"]
    assert list(net.children()) == [net.first, net.rest]
    assert [p.shape for p in net.parameters()] == [(1,), (4, 3), (4,), (2, 4)]
    assert list(net.buffers()) == [net.seen] and len(list(net.modules())) == 5


def test_a_module_works_without_calling_the_base_constructor():
    class Bare(nn.Module):
        def __init__(self):
            self.w = nn.Parameter([3.0])

        def forward(self, x):
            return x * self.w

    bare = Bare()
    bare.register_forward_hook(lambda module, inputs, output: None)
    assert bare(tn.tensor([2.0])).item() == 6.0 and bare.training and len(list(bare.parameters())) == 1
    assert bare.eval().training is False and Bare().training and nn.Module.training


def test_attributes_come_and_go():
    layer = nn.Linear(2, 2)
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"] and layer(tn.ones(1, 2)).shape == (1, 2)
    layer.bias = nn.Parameter([1.0, 2.0])
    assert list(layer.state_dict()) == ["weight", "bias"]
    del layer.bias
    assert list(layer.state_dict()) == ["weight"] and not hasattr(layer, "bias")
    layer.weight = nn.Parameter(tn.zeros(2, 2))
    assert [p.sum().item() for p in layer.parameters()] == [0.0]


def test_attributes_may_change_while_they_are_listed():
    net = Net()
    for name, p in net.named_parameters():
        setattr(net, f"{name}_norm".replace(".", "_"), abs(p).max().item())
    for module in net.modules():
        module.visited = True
    assert net.first_weight_norm > 0 and net.rest[1].visited


def test_a_tensor_does_not_silently_take_the_place_of_a_parameter():
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"weight is a Parameter; write nn\.Parameter.*\(2, 2\)"):
        layer.weight = tn.zeros(2, 2)
    assert isinstance(layer.weight, nn.Parameter)


def test_a_buffer_may_be_assigned_or_written_to():
    net = Net()
    old = net.seen
    new = tn.tensor(5)
    net.seen = new
    assert type(net.seen) is nn.Buffer and net.state_dict()["seen"].item() == 5
    new[...] = 7
    assert net.seen.item() == 5 and old.item() == 0
    net.seen += 1
    assert type(net.seen) is nn.Buffer and net.state_dict()["seen"].item() == 6


class Tied(nn.Module):
    def __init__(self):
        self.a = nn.Linear(3, 3, bias=False)
        self.b = nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight
        self.again = self.a


def test_shared_parameters_and_modules_are_listed_once():
    tied = Tied()
    assert [n for n, _ in tied.named_parameters()] == ["a.weight"]
    assert [n for n, _ in tied.named_modules()] == ["", "a", "b"]
    assert [n for n, _ in tied.named_children()] == ["a", "b"]
    assert list(tied.state_dict()) == ["a.weight", "b.weight", "again.weight"]
    for other in (copy.deepcopy(tied), pickle.loads(pickle.dumps(tied))):
        assert other.a.weight is other.b.weight and other.a is other.again and other.a is not tied.a
    other = Tied()
    other.load_state_dict(tied.state_dict())
    assert same(values(other), values(tied)) and other.a.weight is other.b.weight


def test_a_dropped_model_is_freed_at_once():
    gc.disable()
    try:
        net = Net()
        net(tn.ones(2, 3)).sum().backward()
        watch = weakref.ref(net.first.weight)
        del net
        assert watch() is None
    finally:
        gc.enable()


# --- modes and bulk changes -----------------------------------------------------------------------


def test_train_and_eval_change_the_mode_and_nothing_else():
    net = Net()
    before = values(net)
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert same(values(net), before) and all(p.requires_grad for p in net.parameters()) and tn.is_grad_enabled()
    assert net.train() is net and all(m.training for m in net.modules())
    assert not net.train(False).training
    with pytest.raises(TypeError, match="'eval'"):
        net.train("eval")


def test_zero_grad_and_freezing():
    net = Net()
    net(tn.ones(2, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert net.requires_grad_(False) is net and not net(tn.ones(2, 3)).requires_grad
    assert all(p.requires_grad for p in net.requires_grad_().parameters())


def test_apply_goes_from_the_leaves_to_the_root():
    net, seen = Net(), []
    assert net.apply(seen.append) is net
    assert seen == [net.first, net.rest[0], net.rest[1], net.rest, net]


def test_to_keeps_the_objects_and_moves_values_and_gradients():
    net = Net()
    net(tn.ones(2, 3)).sum().backward()
    before, parameters, grads = values(net), list(net.parameters()), [p.grad.numpy() for p in net.parameters()]
    assert net.to("float64") is net and net.to("cpu") is net
    assert all(a is b for a, b in zip(parameters, net.parameters()))
    assert all(p.dtype == "float64" and p.grad.dtype == "float64" for p in parameters) and net.seen.dtype == "int64"
    assert all(np.array_equal(p.grad.numpy(), g) for p, g in zip(parameters, grads))
    assert all(np.array_equal(v, before[k]) for k, v in values(net).items())
    net(tn.ones(2, 3, dtype="float64")).sum().backward()
    assert all(np.allclose(p.grad.numpy(), 2 * g) for p, g in zip(parameters, grads))
    assert same(values(net.to("float32")), before)


def test_to_refuses_what_a_model_cannot_be():
    net = Net()
    before = values(net)
    with pytest.raises(TypeError, match="int64"):
        net.to("int64")
    with pytest.raises(ValueError, match=r"'gpu'.*'cpu'"):
        net.to("gpu")
    with pytest.raises(TypeError, match="S3"):
        net.to(np.dtype("S3"))
    assert same(values(net), before)


def test_a_graph_recorded_before_a_move_is_no_longer_used():
    layer = nn.Linear(2, 2)
    x = tn.ones(1, 2, requires_grad=True)
    y = layer(x).sum()
    layer.to("float64")
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


# --- state ----------------------------------------------------------------------------------------


def test_state_dict_holds_detached_host_copies():
    net = Net()
    state = net.state_dict()
    assert list(state) == ["gain", "seen", "first.weight", "first.bias", "rest.1.weight"]
    for name, x in state.items():
        assert type(x) is tn.Tensor and not x.requires_grad and x.device == "cpu", name
    kept = values(net)
    for x in state.values():
        x[...] = 7
    assert same(values(net), kept)
    with tn.no_grad():
        net.gain += 1.0
    assert state["gain"].item() == 7.0


def test_loading_what_was_saved():
    a, b = Net(), Net()
    assert not same(values(a), values(b))
    parameters = list(b.parameters())
    report = b.load_state_dict(a.state_dict())
    assert report.missing_keys == [] == report.unexpected_keys
    assert same(values(a), values(b)) and all(p is q for p, q in zip(parameters, b.parameters()))
    assert all(p.requires_grad and p.is_leaf for p in b.parameters())
    b.load_state_dict({name: x.numpy() for name, x in Net().state_dict().items()})
    assert not same(values(a), values(b))


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda s: s.pop("first.bias"), ["missing_keys: first.bias"]),
        (lambda s: s.update(extra=tn.ones(1)), ["unexpected_keys: extra"]),
        (lambda s: s.update(gain=tn.ones(2)), ["gain", "(1,)", "(2,)"]),
        (lambda s: s.update(gain=tn.ones(1, dtype="float64")), ["gain", "float32", "float64", "model.to(dtype)"]),
        (lambda s: s.update(seen=tn.ones(dtype="float32")), ["seen", "int64", "float32"]),
        (lambda s: (s.pop("gain"), s.update(extra=1.0)), ["missing_keys: gain", "unexpected_keys: extra"]),
    ],
)
def test_loading_is_all_or_nothing(spoil, words):
    net, other = Net(), Net()
    before, state = values(net), other.state_dict()
    spoil(state)
    with pytest.raises(ValueError) as caught:
        net.load_state_dict(state)
    assert all(word in str(caught.value) for word in [*words, "Net", "nothing was loaded"]), caught.value
    assert same(values(net), before)


def test_loading_part_of_a_state():
    net, other = Net(), Net()
    state = other.state_dict()
    del state["gain"]
    state["more"] = tn.ones(1)
    report = net.load_state_dict(state, strict=False)
    assert report == (["gain"], ["more"]) and net.gain.item() == 2.0
    assert np.array_equal(net.first.weight.numpy(), other.first.weight.numpy())
    state["first.bias"] = tn.ones(5)
    with pytest.raises(ValueError, match=r"first.bias"):
        net.load_state_dict(state, strict=False)
    with pytest.raises(TypeError, match="mapping"):
        net.load_state_dict([1, 2])


def test_a_state_may_view_the_model_it_is_loaded_into():
    class Two(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Parameter([1.0]), nn.Parameter([2.0])

    two = Two()
    two.load_state_dict({"a": two.b.detach(), "b": two.a.detach()})
    assert (two.a.item(), two.b.item()) == (2.0, 1.0)
    two.load_state_dict({"a": two.b.numpy(), "b": two.a.numpy()})
    assert (two.a.item(), two.b.item()) == (1.0, 2.0)


def test_loading_counts_as_an_edit():
    layer = nn.Linear(2, 2)
    y = layer(tn.ones(1, 2, requires_grad=True)).sum()
    layer.load_state_dict(nn.Linear(2, 2).state_dict())
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_state_through_a_file(tmp_path):
    serialize = pytest.importorskip("tinygrad_norm.serialize")
    a, b = Net(), Net()
    serialize.save(tmp_path / "net.npz", a.state_dict())
    b.load_state_dict(serialize.load(tmp_path / "net.npz"))
    assert same(values(a), values(b))


# --- copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("norm", [None, "batch", "layer", "weight", "cosine", "rms", "group"])
def test_a_copied_model_is_equal_and_independent(again, norm):
    model = nn.MLP([4, 6, 6, 3], norm=norm, activation="tanh")
    x = tn.randn(5, 4)
    model(x).sum().backward()  # the copy is taken after a step has been recorded
    other = again(model.eval())
    assert same(values(other), values(model)) and not other.training
    assert np.array_equal(other(x).numpy(), model(x).numpy())
    assert [p.decay for p in other.parameters()] == [p.decay for p in model.parameters()]
    with tn.no_grad():
        for p in other.parameters():
            p += 1.0
    assert not np.array_equal(other(x).numpy(), model(x).numpy())
    assert repr(other) == repr(model)


# --- hooks ----------------------------------------------------------------------------------------


def test_forward_hooks_see_and_may_replace_the_output():
    layer, seen = nn.Identity(), []
    x = tn.tensor([1.0])
    first = layer.register_forward_hook(lambda module, inputs, output: seen.append((module, inputs, output)))
    second = layer.register_forward_hook(lambda module, inputs, output: output * 2.0)
    third = layer.register_forward_hook(lambda module, inputs, output: output + 1.0)
    assert layer(x).item() == 3.0 and seen == [(layer, (x,), x)]
    second()
    second()  # removing twice changes nothing
    assert layer(x).item() == 2.0
    first(), third()
    assert layer(x) is x and len(seen) == 2


def test_one_function_hooked_twice_and_a_hook_that_removes_itself():
    layer, calls = nn.Identity(), []

    def hook(module, inputs, output):
        calls.append(1)
        remove()

    remove = layer.register_forward_hook(hook)
    other = layer.register_forward_hook(hook)
    layer(0)
    assert len(calls) == 2
    layer(0)
    assert len(calls) == 3
    other()
    layer(0)
    assert len(calls) == 3


def test_hooks_belong_to_one_module():
    a, calls = nn.Identity(), []
    remove = a.register_forward_hook(lambda *args: calls.append(args[0]))
    b = copy.deepcopy(a)
    nn.Identity()(0)
    assert calls == []
    b(0)
    assert calls == [b]
    remove()
    a(0), b(0)
    assert calls == [b, b]


# --- errors name the module -----------------------------------------------------------------------


def test_an_error_names_the_path_of_the_module():
    model = nn.Sequential(nn.Flatten(), Net(), nn.ReLU())
    with pytest.raises(ValueError, match="linear") as caught:
        model(tn.ones(2, 5))
    assert caught.value.__notes__ == ["in 1.first (Linear(in_features=3, out_features=4, bias=True))"]


def test_the_error_itself_stays_what_it_was():
    class Custom(Exception):
        pass

    class Bad(nn.Module):
        def forward(self, x):
            raise error

    error = Custom("words", 1)
    model = nn.Sequential({"deep": nn.Sequential({"bad": Bad()})})
    with pytest.raises(Custom) as caught:
        model(1)
    assert caught.value is error and error.args == ("words", 1) and error.__notes__ == ["in deep.bad (Bad())"]
    other = Custom("a")
    other.add_note("first")
    error = other
    with pytest.raises(Custom):
        model(1)
    assert other.__notes__ == ["first", "in deep.bad (Bad())"]


def test_paths_through_lists_and_through_modules_nobody_owns():
    class Loop(nn.Module):
        def __init__(self):
            self.blocks = nn.ModuleList([nn.Linear(3, 3), nn.Linear(2, 3)])
            self.hidden = [nn.Linear(9, 9)]

        def forward(self, x, hidden=False):
            for block in self.hidden if hidden else self.blocks:
                x = block(x)
            return x

    with pytest.raises(ValueError) as caught:
        nn.Sequential(Loop())(tn.ones(1, 3))
    assert caught.value.__notes__ == ["in 0.blocks.1 (Linear(in_features=2, out_features=3, bias=True))"]
    with pytest.raises(ValueError) as caught:
        Loop()(tn.ones(1, 3), hidden=True)
    assert caught.value.__notes__ == ["in Linear(in_features=9, out_features=9, bias=True)"]


def test_an_error_that_was_handled_leaves_no_trace():
    class Careful(nn.Module):
        def __init__(self):
            self.risky = nn.Linear(2, 2)

        def forward(self, x):
            try:
                return self.risky(x)
            except ValueError:
                return x

    assert Careful()(tn.ones(1, 5)).shape == (1, 5)


def test_errors_of_hooks_are_named_too():
    layer = nn.Identity()
    layer.register_forward_hook(lambda module, inputs, output: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        nn.Sequential(layer)(1)
    assert caught.value.__notes__ == ["in 0 (Identity())"]


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="ModuleList: write forward"):
        nn.ModuleList([nn.ReLU()])(1)


# --- repr -----------------------------------------------------------------------------------------


def test_repr_is_nested_and_counts_parameters():
    assert repr(nn.ReLU()) == "ReLU()"
    assert repr(Net()) == (
        "Net(\n"
        "  (first): Linear(in_features=3, out_features=4, bias=True)\n"
        "  (rest): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Linear(in_features=4, out_features=2, bias=False)\n"
        "  )\n"
        ")  # 25 parameters"
    )
    assert repr(nn.WeightNorm(nn.Linear(1000, 2))).startswith("WeightNorm(name='weight', dim=0\n  (layer): Linear(")
    assert repr(nn.WeightNorm(nn.Linear(1000, 2))).endswith(")  # 2,004 parameters")
