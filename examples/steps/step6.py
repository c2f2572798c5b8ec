"""Step 6: a fused operation, and a numerical check that it is right
=================================================================

What one learns: cross-entropy took ten operations; its gradient by the scores is just softmax - one_hot, so it can be
one. Such a backward is derived by hand, hands err, and training goes on with a gradient that is a little wrong. So it
is compared with differences, under a random gradient from above, and the check itself is tried on something wrong.
"""

import numpy as np
from step3 import Tensor
from step5 import cross_entropy as composed


def cross_entropy(scores, labels):
    shifted = scores.data - scores.data.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    value = (np.log(total[:, 0]) - shifted[rows, labels]).mean()

    def rule(g):
        by_scores = np.exp(shifted) / total
        by_scores[rows, labels] -= 1.0
        return by_scores * (g / len(labels))

    return Tensor(value, [(scores, rule)])


def worst_error(fn, x, h=1e-5, seed=0, ones=False):
    """The largest difference between the gradient of fn at the array x and central differences."""
    shape = fn(Tensor(x)).data.shape
    g = np.ones(shape) if ones else np.random.default_rng(seed).normal(size=shape)
    tensor = Tensor(x)
    fn(tensor).backward(g)
    worst = 0.0
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        slope = ((fn(Tensor(up)).data - fn(Tensor(down)).data) * g).sum() / (2 * h)
        worst = max(worst, abs(tensor.grad[i] - slope))
    return worst


def nodes(tensor):
    """How many operations stand behind a tensor."""
    found, waiting = set(), [tensor]
    while waiting:
        t = waiting.pop()
        if t not in found:
            found.add(t)
            waiting += [source for source, _ in t.sources]
    return sum(bool(t.sources) for t in found)


# %%
if __name__ == "__main__":
    x, labels = np.random.default_rng(0).normal(size=(6, 4)), np.array([0, 3, 1, 1, 2, 0])
    for name, loss in (("composed", composed), ("fused", cross_entropy)):
        error = worst_error(lambda scores, loss=loss: loss(scores, labels), x)
        print(f"{name}: {loss(Tensor(x), labels).data:.6f} by {nodes(loss(Tensor(x), labels))} operations,", end=" ")
        print("gradient right" if error < 1e-8 else f"gradient wrong by {error:.1e}")
    wrong = worst_error(lambda scores: Tensor(scores.data**2, [(scores, lambda g: 2.01 * g * scores.data)]), x)
    print("a square whose slope is 2.01 x:", "gradient right" if wrong < 1e-8 else f"gradient wrong by {wrong:.3f}")
