"""Step 2: a graph, and a way back that visits every value once
============================================================

What one learns: the paths of step 1 double with every use of a value, the values do not. If a value is visited only
when all its gradients have arrived, once is enough. Values are numbered as they are born, and a value is always younger
than what it was made of: the youngest that waits is complete.
"""

from itertools import count

births = count()


class Value:
    """A number of the graph, with operators for Python's numbers too."""

    def __init__(self, data, sources=()):
        self.data = data
        self.sources = sources
        self.grad = 0.0
        self.birth = next(births)

    def __add__(self, other):
        other = value(other)
        return Value(self.data + other.data, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        other = value(other)
        return Value(self.data * other.data, [(self, other.data), (other, self.data)])

    __radd__ = __add__
    __rmul__ = __mul__

    def backward(self, gradient=1.0):
        """Sweep from the youngest value to the oldest. Counts the visits."""
        arrived, visits = {self: gradient}, 0
        while arrived:
            youngest = max(arrived, key=lambda v: v.birth)
            gradient = arrived.pop(youngest)
            youngest.grad += gradient
            for source, slope in youngest.sources:
                arrived[source] = arrived.get(source, 0.0) + gradient * slope
            visits += 1
        return visits


def value(x):
    return x if isinstance(x, Value) else Value(x)


# %%
if __name__ == "__main__":
    for length in (15, 1000):
        x = y = Value(1.0)
        for _ in range(length):
            y = y + y
        visits = y.backward()
        print(f"doubled {length} times: gradient 2^{length} is {x.grad == 2.0**length}, {visits} visits")

    x = Value(0.5)
    y, power = 1.0, 1.0
    for n in range(1, 20):
        power = power * x * (1.0 / n)
        y = y + power
    y.backward()
    print(f"exp(0.5) as a sum of 20 terms: {y.data:.12f}, its derivative: {x.grad:.12f}")
