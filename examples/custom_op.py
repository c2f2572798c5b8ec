"""Operations of your own
======================

Add operations of your own: a primitive, with one rule per input, and a fused one, with a definition beside it.

What one learns: a rule is written once, with the namespace ``xp``, and serves arrays, every order of derivative and
every device; a fused op computes forward and backward in one go, and its higher derivatives come from its definition.
"""

import tinygrad_norm as tn
from tinygrad_norm.testing import gradcheck


# %%
# A primitive: one rule for each input.
class Hypotenuse(tn.Op):
    """y = sqrt(a^2 + b^2), a primitive. Its rules read inputs and output, so it says so."""

    reads = tn.INPUTS | tn.OUTPUT

    @staticmethod
    def forward(xp, a, b):
        return xp.sqrt(a * a + b * b)

    backward = (
        lambda xp, g, y, a, b: g * a / y,
        lambda xp, g, y, a, b: g * b / y,
    )


# %%
# A fused operation: forward and backward by hand, and what it means.
class Swish(tn.Op):
    """y = x / (1 + exp(-x)), fused."""

    @staticmethod
    def composite(x):
        return x / (1.0 + tn.exp(-x))

    @staticmethod
    def forward(xp, x):
        share = 1.0 / (1.0 + xp.exp(-x))
        return x * share, share

    @staticmethod
    def backward(xp, g, y, share, needs, x):
        return (g * share * (1.0 + x * (1.0 - share)),)


# %%
# Both can be used and checked like any other.
a = tn.tensor([3.0, 5.0], dtype="float64", requires_grad=True)
b = tn.tensor([4.0, 12.0], dtype="float64", requires_grad=True)
length = tn.apply(Hypotenuse, a, b)
print("hypotenuse:", length.tolist())
print("gradient by a:", tn.grad(length.sum(), a).tolist())

print(gradcheck(lambda a, b: tn.apply(Hypotenuse, a, b), (a, b), order=2))
print(gradcheck(lambda x: tn.apply(Swish, x), a, order=2))
