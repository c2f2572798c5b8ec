"""Step 4: matrix products, and with them a linear layer
=====================================================

What one learns: the rule of a product is two more products, and their shapes leave no choice: for y = x w^T with x
(N, in) and w (out, in), the gradient of x must be (N, in) and that of w (out, in). Operations can be functions beside
the class; a layer is a function that owns its parameters.
"""

import numpy as np
from step3 import Tensor


def matmul(a, b):
    return Tensor(a.data @ b.data, [(a, lambda g: g @ b.data.T), (b, lambda g: a.data.T @ g)])


def transpose(a):
    return Tensor(a.data.T, [(a, lambda g: g.T)])


def relu(a):
    return Tensor(np.maximum(a.data, 0.0), [(a, lambda g: g * (a.data > 0.0))])


class Linear:
    """y = x w^T + b. The weights start so that the variance of a signal survives ReLU (He et al. 2015)."""

    def __init__(self, inputs, outputs, rng):
        self.weight = Tensor(rng.normal(size=(outputs, inputs)) * (2.0 / inputs) ** 0.5)
        self.bias = Tensor(np.zeros(outputs))

    def __call__(self, x):
        return matmul(x, transpose(self.weight)) + self.bias


# %%
if __name__ == "__main__":
    rng = np.random.default_rng(0)
    first, second = Linear(4, 8, rng), Linear(8, 2, rng)
    x = Tensor(rng.normal(size=(5, 4)))
    g = rng.normal(size=(5, 2))
    y = second(relu(first(x)))
    y.backward(g)
    for layer in (first, second):
        print(f"weight {layer.weight.data.shape}, gradient {layer.weight.grad.shape}; bias {layer.bias.grad.shape}")

    by_hand = ((g @ second.weight.data) * (first(x).data > 0.0)).T @ x.data
    print("the first weight's gradient is the one by hand:", np.allclose(first.weight.grad, by_hand))

    before, h = y.data, 1e-6
    first.weight.data[3, 1] += h
    slope = ((second(relu(first(x))).data - before) * g).sum() / h
    print(f"one entry of it: {first.weight.grad[3, 1]:.4f}, by differences: {slope:.4f}")
