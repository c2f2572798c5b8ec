"""Break a backward in five ways
=============================

Break the backward of batch norm in five ways, and watch the gradient check fail.

What one learns: a wrong gradient does not stop training, it only makes it worse, so it has to be looked for; a random
upstream gradient finds what the sum of the output cannot; the report says where the gradient is wrong, and how much.
"""

import warnings

import numpy as np

import tinygrad_norm as tn
from tinygrad_norm.testing import gradcheck


def right(g, xhat, rstd):
    return rstd * (g - g.mean(0) - xhat * (g * xhat).mean(0))


BACKWARDS = {
    "right": right,
    "mean term forgotten": lambda g, xhat, rstd: rstd * (g - xhat * (g * xhat).mean(0)),
    "deviation held constant": lambda g, xhat, rstd: rstd * (g - g.mean(0)),
    "n - 1 for n": lambda g, xhat, rstd: rstd * (g - g.mean(0) - xhat * (g * xhat).sum(0) / (len(g) - 1)),
    "0.01 % too large": lambda g, xhat, rstd: 1.0001 * right(g, xhat, rstd),
    "zero": lambda g, xhat, rstd: 0.0 * g,
}


# %%
# Each becomes an operation, whose second definition, ``composite``, is the plain formula.
def batch_norm(rule):
    """Batch norm with this backward."""

    class BatchNorm(tn.Op):
        @staticmethod
        def composite(x):
            d = x - x.mean(axis=0)
            return d / tn.sqrt((d * d).mean(axis=0))

        @staticmethod
        def forward(xp, x):
            d = x - x.mean(0)
            rstd = 1.0 / xp.sqrt((d * d).mean(0))
            return d * rstd, (d * rstd, rstd)

        @staticmethod
        def backward(xp, g, y, saved, needs, x):
            return (rule(g, *saved),)

    return lambda x: tn.apply(BatchNorm, x)


# %%
# The check compares with differences under a random gradient from above.
x = np.random.default_rng(0).standard_normal((6, 3))
for name, rule in BACKWARDS.items():
    print(f"--- {name}\n{gradcheck(batch_norm(rule), x, raise_exception=False)}\n")

# %%
# The sum of a normalized column is 0 whatever the input, so through it the check sees nothing, and says so.
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    passed = gradcheck(lambda x: batch_norm(BACKWARDS["zero"])(x).sum(), x)
print(f"--- zero, checked through the sum of the output\npassed: {bool(passed)}, but: {said[0].message}")
