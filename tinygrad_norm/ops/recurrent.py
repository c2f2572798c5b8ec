"""The cell of a long short-term memory (Hochreiter, Schmidhuber 1997; Gers, Schmidhuber, Cummins 1999).

Four sums per unit, (i, f, g, o) side by side on the last axis, say what happens to its cell c:
c' = sigmoid(f) c + sigmoid(i) tanh(g), and h = sigmoid(o) tanh(c').
"""

from __future__ import annotations

from ..engine.op import Op
from ..engine.tensor import Tensor
from .activation import sigmoid, sigmoid_array
from .elementwise import tanh


class LstmState(Op):
    """c' = sigmoid(f) c + sigmoid(i) tanh(g), the sums being (i, f, g, o)."""

    @staticmethod
    def composite(sums, c):
        i, f, g, _ = quarters(sums)
        return sigmoid(f) * c + sigmoid(i) * tanh(g)

    @staticmethod
    def forward(xp, sums, c):
        i, f, g, _ = quarters(sums)
        i, f, g = sigmoid_array(xp, i), sigmoid_array(xp, f), xp.tanh(g)
        return f * c + i * g, (i, f, g)

    @staticmethod
    def backward(xp, gc, y, saved, needs, sums, c):
        i, f, g = saved
        by_sums = xp.zeros_like(sums) if needs[0] else None
        if needs[0]:
            by_i, by_f, by_g, _ = quarters(by_sums)
            by_i[...] = gc * g * i * (1.0 - i)
            by_f[...] = gc * c * f * (1.0 - f)
            by_g[...] = gc * i * (1.0 - g * g)
        return by_sums, gc * f if needs[1] else None


class LstmOutput(Op):
    """h = sigmoid(o) tanh(c), the sums being (i, f, g, o)."""

    @staticmethod
    def composite(sums, c):
        return sigmoid(quarters(sums)[3]) * tanh(c)

    @staticmethod
    def forward(xp, sums, c):
        o, t = sigmoid_array(xp, quarters(sums)[3]), xp.tanh(c)
        return o * t, (o, t)

    @staticmethod
    def backward(xp, g, y, saved, needs, sums, c):
        o, t = saved
        by_sums = xp.zeros_like(sums) if needs[0] else None
        if needs[0]:
            quarters(by_sums)[3][...] = g * t * o * (1.0 - o)
        return by_sums, g * o * (1.0 - t * t) if needs[1] else None


def quarters(x):
    """Four equal parts of the last axis."""
    n = x.shape[-1] // 4
    return tuple(x[..., k * n : (k + 1) * n] for k in range(4))


def steps(x: Tensor) -> list[Tensor]:
    """x[0], x[1], ...: cut in halves again and again, so that the gradient of n steps takes n log n work, not n^2."""
    if len(x) < 2:
        return [x[0]] if len(x) else []
    return steps(x[: len(x) // 2]) + steps(x[len(x) // 2 :])
