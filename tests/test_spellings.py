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
