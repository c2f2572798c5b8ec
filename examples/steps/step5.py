"""Step 5: a loss, and a net that learns to read digits
====================================================

What one learns: with two more functions, exp and log, cross-entropy can be written down, and a step of training is
forward, loss, backward, and a step against the gradient. Nothing in it knows what a digit is.
"""

import numpy as np
from step3 import Tensor
from step4 import Linear, relu

from tinygrad_norm import data


def exp(a):
    y = np.exp(a.data)
    return Tensor(y, [(a, lambda g: g * y)])


def log(a):
    return Tensor(np.log(a.data), [(a, lambda g: g / a.data)])


def cross_entropy(scores, labels):
    """Mean of -log softmax(scores)[label]. Subtracting the largest score changes nothing but keeps exp in range."""
    shifted = scores - scores.data.max(axis=1, keepdims=True)
    log_softmax = shifted - log(exp(shifted).sum(axis=1, keepdims=True))
    one_hot = np.eye(scores.data.shape[1])[labels]
    return (log_softmax * one_hot).sum() * (-1.0 / len(labels))


def digits():
    """1,797 images of 8 x 8 pixels, in [0, 1], three quarters of them to learn from."""
    parts = data.train_test_split(*data.digits(), test_size=0.25, seed=0)
    return [part.numpy() for part in parts]


def train(net, parameters, loss, steps=300, rate=0.1):
    x, x_test, y, y_test = digits()
    rng = np.random.default_rng(0)
    for step in range(steps):
        batch = rng.choice(len(x), 64, replace=False)
        for parameter in parameters:
            parameter.grad = np.zeros_like(parameter.data)
        value = loss(net(Tensor(x[batch])), y[batch])
        value.backward()
        for parameter in parameters:
            parameter.data = parameter.data - rate * parameter.grad
        if step % 100 == 0 or step == steps - 1:
            print(f"  step {step:3}: loss {value.data:.3f}")
    return (net(Tensor(x_test)).data.argmax(axis=1) == y_test).mean()


# %%
if __name__ == "__main__":
    rng = np.random.default_rng(1)
    first, second = Linear(64, 64, rng), Linear(64, 10, rng)
    parameters = [first.weight, first.bias, second.weight, second.bias]
    right = train(lambda x: second(relu(first(x))), parameters, cross_entropy)
    print(f"right on unseen images: {right:.0%}")
