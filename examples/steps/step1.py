"""Step 1: numbers that remember where they came from, and the chain rule
======================================================================

What one learns: a derivative needs no symbols and no differences. Each operation knows the slopes by its two inputs;
going back, slopes along a path are multiplied, and the paths that end at one value are added.
"""


class Value:
    """A number, and for each number it was made of: that one, and the slope by it."""

    def __init__(self, data, sources=()):
        self.data = data
        self.sources = sources
        self.grad = 0.0

    def __add__(self, other):
        return Value(self.data + other.data, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Value(self.data * other.data, [(self, other.data), (other, self.data)])

    def backward(self, gradient=1.0):
        """Add ``gradient`` here, and what follows from it at everything this was made of. Counts the calls."""
        self.grad += gradient
        return 1 + sum(source.backward(gradient * slope) for source, slope in self.sources)


def function(x, y):
    return x * y + y * y


# %%
if __name__ == "__main__":
    x, y = Value(3.0), Value(2.0)
    z = function(x, y)
    z.backward()
    print(f"z = x y + y y = {z.data}")
    print(f"by x: {x.grad} (y), by y: {y.grad} (x + 2 y)")

    h = 1e-6
    print(f"by differences: {(function(Value(3.0), Value(2.0 + h)).data - z.data) / h:.4f}")

    for length in (5, 10, 15):
        x = y = Value(1.0)
        for _ in range(length):
            y = y + y
        calls = y.backward()
        print(f"doubled {length} times: gradient {x.grad:.0f}, {calls} calls")
