"""Step 3: arrays instead of numbers, and broadcasting
===================================================

What one learns: with arrays a slope becomes a rule, a function from the gradient of the output to that of an input. An
array that was repeated to fit (broadcast) got a gradient from each repetition, so these are summed; the sweep does it
for all operations, and no rule has to.
"""

from itertools import count

import numpy as np

births = count()


class Tensor:
    """An array of the graph. ``sources`` are pairs (tensor, rule)."""

    __array_ufunc__ = None  # array * tensor asks the tensor

    def __init__(self, data, sources=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.sources = sources
        self.grad = np.zeros_like(self.data)
        self.birth = next(births)

    def __add__(self, other):
        a, b = self, tensor(other)
        return Tensor(a.data + b.data, [(a, lambda g: g), (b, lambda g: g)])

    def __mul__(self, other):
        a, b = self, tensor(other)
        return Tensor(a.data * b.data, [(a, lambda g: g * b.data), (b, lambda g: g * a.data)])

    def __sub__(self, other):
        return self + tensor(other) * -1.0

    __radd__ = __add__
    __rmul__ = __mul__

    def sum(self, axis=None, keepdims=False):
        total = self.data.sum(axis=axis, keepdims=True)
        data = total if keepdims else self.data.sum(axis=axis)
        return Tensor(data, [(self, lambda g: np.broadcast_to(g.reshape(total.shape), self.data.shape))])

    def backward(self, gradient=1.0):
        arrived = {self: np.broadcast_to(gradient, self.data.shape)}
        while arrived:
            youngest = max(arrived, key=lambda t: t.birth)
            gradient = arrived.pop(youngest)
            youngest.grad = youngest.grad + gradient
            for source, rule in youngest.sources:
                arrived[source] = arrived.get(source, 0.0) + summed_to(source.data.shape, rule(gradient))


def tensor(x):
    return x if isinstance(x, Tensor) else Tensor(x)


def summed_to(shape, g):
    """Undo broadcasting: sum over the axes that were added or stretched."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


# %%
if __name__ == "__main__":
    table, row = Tensor(np.arange(6.0).reshape(2, 3)), Tensor([1.0, 10.0, 100.0])
    y = (table * row + 5.0).sum()
    y.backward()
    print(f"sum of table * row + 5: {y.data:.0f}")
    print(f"by the row: {row.grad} (the columns' sums)\nby the table:\n{table.grad}")
