"""The optimizers' arithmetic, each rule written once for every array library.

``self`` is the array namespace (a Backend). A compiled or CUDA version overrides a method and keeps its signature.

All arrays are flat, of one length and one float dtype, and belong to the optimizer: ``g`` holds the gradients of many
parameters one after the other and is overwritten with the step, which the caller subtracts from the parameters. ``p``
holds the parameters' values and serves as scratch; it may be None where ``weight_decay`` is 0, when it is not read.
State arrays are updated in place. Hyperparameters are Python floats, so that no dtype is widened.
"""

from __future__ import annotations

import math
from typing import Any

Array = Any


class Updates:
    """Update rules in terms of ``self``'s array functions; mixed into every Backend."""

    def laid_apart(self: Any, size: int, dtype: Any, place: int) -> Array:
        """An empty flat array for an optimizer; arrays of different ``place`` lie where they do not slow each other."""
        return self.empty(size, dtype)

    def all_finite(self: Any, x: Array) -> bool:
        """Whether a flat array holds neither NaN nor infinity.

        One dot product decides nearly always (3 us for 26,000 float32); only when it is not
        finite, which may be overflow, are the elements themselves looked at.
        """
        with self.errstate(over="ignore"):
            return math.isfinite(x.dot(x)) or bool(self.isfinite(x).all())

    def sgd_update(
        self: Any, g: Array, p: Any, velocity: Any, lr: float, momentum: float, weight_decay: float, nesterov: bool
    ) -> None:
        """g += weight_decay p; velocity = momentum velocity + g; step = lr velocity.

        With ``nesterov`` the step is lr (g + momentum velocity). ``velocity`` is None where momentum is 0.
        """
        add_decay(g, p, weight_decay)
        if momentum:
            velocity *= momentum
            velocity += g
            if nesterov:
                g += velocity * momentum
            else:
                g[...] = velocity
        g *= lr

    def adam_update(
        self: Any, g: Array, p: Any, m: Array, v: Array, t: int, lr: float, beta1: float, beta2: float, eps: float,
        weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        """m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; step = lr mhat / (sqrt(vhat) + eps).

        mhat = m / (1 - beta1^t), vhat = v / (1 - beta2^t), with ``t`` counted from 1. Weight decay is added to g, or,
        when ``decoupled``, lr weight_decay p to the step. Both bias corrections are folded into two numbers, which
        saves a pass over the data each.
        """
        if not decoupled:
            add_decay(g, p, weight_decay)
        square = g * g
        square *= 1.0 - beta2
        v *= beta2
        v += square
        g *= 1.0 - beta1
        m *= beta1
        m += g
        root = math.sqrt(1.0 - beta2**t)
        self.sqrt(v, out=g)
        g += eps * root
        self.divide(m, g, out=g)
        g *= lr * root / (1.0 - beta1**t)
        if decoupled:
            add_decay(g, p, lr * weight_decay)

    def rmsprop_update(
        self: Any, g: Array, p: Any, square_mean: Array, mean: Any, velocity: Any, lr: float, alpha: float, eps: float,
        weight_decay: float, momentum: float,
    ) -> None:  # fmt: skip
        """square_mean = alpha square_mean + (1 - alpha) g^2; step = lr g / (sqrt(square_mean) + eps).

        Where ``mean`` is not None it is the running mean of g, and mean^2 is subtracted from square_mean under the root
        (the centred form); rounding may make that difference negative, so it is limited to 0. With momentum, velocity =
        momentum velocity + g / (...) and step = lr velocity.
        """
        add_decay(g, p, weight_decay)
        scratch = g * g
        scratch *= 1.0 - alpha
        square_mean *= alpha
        square_mean += scratch
        if mean is None:
            self.sqrt(square_mean, out=scratch)
        else:
            mean *= alpha
            mean += g * (1.0 - alpha)
            self.multiply(mean, mean, out=scratch)
            self.subtract(square_mean, scratch, out=scratch)
            self.maximum(scratch, 0.0, out=scratch)
            self.sqrt(scratch, out=scratch)
        scratch += eps
        g /= scratch
        if momentum:
            velocity *= momentum
            velocity += g
            g[...] = velocity
        g *= lr

    def adagrad_update(
        self: Any, g: Array, p: Any, square_sum: Array, t: int, lr: float, lr_decay: float, weight_decay: float,
        eps: float,
    ) -> None:  # fmt: skip
        """square_sum += g^2; step = lr / (1 + (t - 1) lr_decay) g / (sqrt(square_sum) + eps), ``t`` from 1."""
        add_decay(g, p, weight_decay)
        scratch = g * g
        square_sum += scratch
        self.sqrt(square_sum, out=scratch)
        scratch += eps
        g /= scratch
        g *= lr / (1.0 + (t - 1) * lr_decay)


def add_decay(g: Array, p: Any, weight_decay: float) -> None:
    """g += weight_decay p, using up p; nothing where weight_decay is 0."""
    if weight_decay:
        p *= weight_decay
        g += p
