"""Spellings that people from PyTorch bring along, and errors that name the function and the value."""

import numpy as np
import pytest

import tinygrad_norm as tn


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (lambda x: tn.concatenate([x, x], axis=1), lambda x: tn.cat([x, x], dim=1)),
        (lambda x: tn.stack([x, x], axis=-1), lambda x: tn.stack([x, x], dim=-1)),
        (lambda x: x.split(3, axis=1)[1], lambda x: x.split(3, dim=1)[1]),
        (lambda x: tn.split(x, [1], axis=1)[1], lambda x: tn.split(x, [1], dim=1)[1]),
        (lambda x: x.expand_dims(1), lambda x: x.unsqueeze(dim=1)),
        (lambda x: tn.expand_dims(x, 1).squeeze(1), lambda x: tn.unsqueeze(x, dim=1).squeeze(dim=1)),
        (lambda x: x.flip(0), lambda x: x.flip(dim=0)),
        (lambda x: x.argmax(axis=1, keepdims=True), lambda x: x.argmax(dim=1, keepdim=True)),
        (lambda x: tn.argmin(x, axis=1, keepdims=True), lambda x: tn.argmin(x, dim=1, keepdim=True)),
        (lambda x: x.var((0, 1), 1, True), lambda x: x.var(dim=[0, 1], ddof=1, keepdim=True)),
        (lambda x: tn.maximum(x, 2.0), lambda x: x.maximum(2.0)),
        (lambda x: x @ x.T, lambda x: x.matmul(x.T)),
    ],
)  # fmt: skip
def test_both_spellings_say_the_same(ours, theirs):
    x = tn.tensor([[1.0, 2.0, 3.0], [6.0, 5.0, 4.0]])
    assert ours(x).shape == theirs(x).shape and ours(x).tolist() == theirs(x).tolist()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x: x.var(unbiased=True), "var: .* write ddof=1"),
        (lambda x: x.std(dim=1, correction=1), "std: .* write ddof="),
        (lambda x: tn.max(x, x), r"max: .*of shape \(2, 3\).*maximum\(a, b\)"),
        (lambda x: tn.cat([x, x], 1, dim=1), "concatenate: give axis or dim"),
        (lambda x: x.sum(0, dim=0), "sum: give axis or dim"),
        (lambda x: x.reshape(1.5, 4), "float"),
    ],
)
def test_words_that_mean_something_else_here_are_refused(call, words):
    with pytest.raises(TypeError, match=words):
        call(tn.ones(2, 3))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x: x.var(axis=2), r"^var: axis 2 .*\[-2, 2\)"),
        (lambda x: x.prod(axis=2), "^prod: axis 2"),
        (lambda x: x.swapaxes(0, 5), "^swapaxes: axis 5"),
        (lambda x: x.squeeze(5), "^squeeze: axis 5"),
        (lambda x: x.unsqueeze(5), "^expand_dims: axis 5"),
        (lambda x: x.split(1, axis=5), "^split: axis 5"),
        (lambda x: x.repeat(2, 3), "^repeat .*tile.*axis 3"),
        (lambda x: tn.randint(5, 2, (2,)), "randint: .*low=5, high=2"),
        (lambda x: tn.arange(0, 1, 0), "arange: .*step=0"),
        (lambda x: tn.linspace(0, 1, -1), "linspace: .*-1"),
        (lambda x: tn.tensor([np.ma.array([1.0, 2.0], mask=[0, 1])]), "mask"),
    ],
)
def test_errors_name_the_function_and_the_value(call, words):
    with pytest.raises(ValueError, match=words):
        call(tn.ones(2, 3))


def test_constructors_take_pytorchs_forms():
    assert tn.randint(5, (3, 2)).shape == tn.randint(0, 5, (3, 2)).shape == tn.randint(5, size=(3, 2)).shape == (3, 2)
    assert tn.linspace(0, 1, steps=3).tolist() == [0.0, 0.5, 1.0]
    assert tn.pad(tn.ones(1), (1, 2)).tolist() == [0.0, 1.0, 0.0, 0.0]
    assert tn.pad(tn.ones(1, 1), (1, 0)).tolist() == [[0.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "prod", "any", "all", "var", "std"])
def test_numpy_functions_of_a_tensor_are_told_its_method(name):
    with pytest.raises(TypeError, match=rf"{name}: .*write x\.{name}\(\) for np\.{name}\(x\)"):
        getattr(np, name)(tn.ones(2))


def test_names_of_dtypes_in_numpys_other_words():
    assert tn.ones(2).to("double").dtype == tn.nn.Linear(2, 2).to("double").weight.dtype == "float64"
    assert tn.ones(2).to("half").dtype == "float16"
    with pytest.raises(TypeError, match=r"astype: dtype 'complex64' is not supported"):
        tn.ones(2).to("complex64")
    with pytest.raises(ValueError, match="device: 'gpu' is not available"):
        tn.ones(2).to("gpu")


def test_booleans_on_the_left():
    mask = tn.tensor([True, False])
    assert (True & mask).tolist() == (mask & True).tolist() == [True, False]
    assert (False | mask).tolist() == (np.array([False, False]) | mask).tolist() == [True, False]
    with pytest.raises(TypeError, match="& is for boolean tensors"):
        1 & mask


def test_a_condition_has_the_gradient_0():
    condition, a, b = (tn.tensor([1.0, 0.0], requires_grad=True) for _ in range(3))
    tn.where(condition, a, b).sum().backward()
    assert [x.grad.tolist() for x in (condition, a, b)] == [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    "name, call",
    [
        ("where", lambda: tn.where([True], 1.0, 2.0)),
        ("stack", lambda: tn.stack([[1.0], [2.0]])),
        ("stack", lambda: tn.stack([1.0, 2.0])),
        ("split", lambda: tn.split([1.0, 2.0], 2)),
        ("pad", lambda: tn.pad([1.0], 1)),
        ("full_like", lambda: tn.full_like([1.0], 2.0)),
        ("var", lambda: tn.var(1.0)),
        ("std", lambda: tn.std([1.0, 2.0])),
        ("prod", lambda: tn.prod([1.0, 2.0])),
    ],
)
def test_a_list_or_number_in_place_of_a_tensor_is_named(name, call):
    with pytest.raises(TypeError, match=rf"{name}: .*Tensor.*; got .*1\.0|where: .* got \[True\]"):
        call()
