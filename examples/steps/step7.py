"""Step 7: batch normalization as an operation, checked against differences and against the package
================================================================================================

What one learns: every value of a column acts on all of that column, through mean and deviation, and the backward needs
both terms. A check with ones from above cannot see either: the sum of a normalized column is 0 whatever the input. The
package's kernel does the same with more care (large means, tiny deviations, constant columns, other dtypes).
"""

from functools import partial

import numpy as np
from step3 import Tensor
from step4 import Linear, relu
from step5 import train
from step6 import cross_entropy, worst_error

import tinygrad_norm as tn
import tinygrad_norm.functional as F


def batch_norm(x, eps=1e-5, broken=False):
    d = x.data - x.data.mean(axis=0)
    r = 1.0 / np.sqrt((d * d).mean(axis=0) + eps)
    x_hat = d * r

    def rule(g):
        if broken:
            return 0.0 * g
        return r * (g - g.mean(axis=0) - x_hat * (g * x_hat).mean(axis=0))

    return Tensor(x_hat, [(x, rule)])


# %%
if __name__ == "__main__":
    x, g = np.random.default_rng(0).normal(3.0, 2.0, size=(2, 8, 3))
    print("passes, checked with a random gradient from above:", worst_error(batch_norm, x) < 1e-8)
    broken = partial(batch_norm, broken=True)
    print("one that gives 0 passes, checked with ones from above:", worst_error(broken, x, ones=True) < 1e-8)
    print("one that gives 0 passes, checked with a random one:", worst_error(broken, x) < 1e-8)

    ours, theirs = Tensor(x), tn.tensor(x, requires_grad=True)
    batch_norm(ours).backward(g)
    F.batch_norm(theirs, training=True).backward(g)
    print("the package has the same gradient:", np.allclose(ours.grad, theirs.grad.numpy(), rtol=0, atol=1e-14))

    for norm in (False, True):
        rng = np.random.default_rng(1)
        layers = [Linear(64, 64, rng), *(Linear(64, 64, rng) for _ in range(3)), Linear(64, 10, rng)]

        def net(x, layers=layers, norm=norm):
            for layer in layers[:-1]:
                x = relu(batch_norm(layer(x)) if norm else layer(x))
            return layers[-1](x)

        print("four hidden layers", "with batch norm" if norm else "without")
        parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
        print(f"  right on unseen images: {train(net, parameters, cross_entropy, steps=100, rate=0.5):.0%}")
