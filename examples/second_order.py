"""Derivatives of derivatives
==========================

Take derivatives of derivatives: ``tn.grad`` twice, a Hessian, and Newton's method with it.

What one learns: with ``create_graph=True`` a gradient is a Tensor like any other and can be differentiated again.
Newton's method uses the Hessian to jump to the minimum of the parabola that touches the function; near a minimum the
error is squared in each step, where gradient descent only shrinks it by a factor.
"""

import numpy as np

import tinygrad_norm as tn

# %%
# A derivative of a derivative of a derivative.
x = tn.tensor(2.0, dtype="float64", requires_grad=True)
y = x * x * x * x
first = tn.grad(y, x, create_graph=True)
second = tn.grad(first, x, create_graph=True)
third = tn.grad(second, x)
print(f"x^4 at 2: {y.item():g}, derivatives {first.item():g}, {second.item():g}, {third.item():g}")


# %%
# Newton's method jumps to the minimum of the parabola; gradient descent creeps along the valley.
def rosenbrock(v):
    """A curved valley with its minimum, 0, at (1, 1)."""
    return (1.0 - v[0]) ** 2 + 100.0 * (v[1] - v[0] ** 2) ** 2


def gradient(v):
    v = tn.tensor(v, requires_grad=True)
    return tn.grad(rosenbrock(v), v).numpy()


start = np.array([-1.2, 1.0])

v = start.copy()
print("\nNewton's method on Rosenbrock's valley")
for step in range(1, 8):
    hessian = tn.hessian(rosenbrock, tn.tensor(v)).numpy()
    v = v - np.linalg.solve(hessian, gradient(v))
    print(f"  step {step}: distance to the minimum {np.linalg.norm(v - 1):.1e}")

v = start.copy()
for _ in range(1000):
    v = v - 1e-3 * gradient(v)
print(f"gradient descent after 1000 steps: {np.linalg.norm(v - 1):.1e}")
