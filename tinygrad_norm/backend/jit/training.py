"""The loss, activations and the optimizers' arithmetic."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy

from ..loops import compiled
from ..special import ERF_SMALL, ERFC_LARGE
from ..updates import add_decay
from .base import Array, Compiled
from .threads import in_blocks


class Training(Compiled):
    """Cross entropy, ReLU, the error function and the optimizers."""

    # ---- losses and activations

    def cross_entropy_forward(
        self, logits: Array, labels: Array, weights: Array, smoothing: float
    ) -> tuple[Array, Array]:
        """Around NumPy's exp, which computes several at once."""
        centre = self.loop("centre_rows", logits.shape, logits, weights) if usable(labels) else None
        finish = compiled("cross_entropy_rows", logits.dtype.char) if centre else None
        if centre is None or finish is None:
            return super().cross_entropy_forward(logits, labels, weights, smoothing)
        z, loss = numpy.empty_like(logits), numpy.empty(len(logits), logits.dtype)
        centre(logits, z)
        p = numpy.exp(z)
        if finish(z, p, labels, weights, smoothing, loss):
            return loss, p
        return super().cross_entropy_forward(logits, labels, weights, smoothing)

    def cross_entropy_backward(self, g: Array, p: Array, labels: Array, weights: Array, smoothing: float) -> Array:
        """In one pass."""
        rows = numpy.ascontiguousarray(g)
        loop = self.loop("cross_entropy_rows_backward", p.shape, p, weights, rows) if usable(labels) else None
        if loop:
            out = numpy.empty_like(p)
            if loop(rows, p, labels, weights, smoothing, out):
                return out
        return super().cross_entropy_backward(g, p, labels, weights, smoothing)

    def relu(self, x: Array) -> Array:
        """In one pass."""
        loop = self.loop("relu", x.shape, x)
        if loop is None:
            return super().relu(x)
        y = numpy.empty_like(x)
        loop(x.reshape(-1), y.reshape(-1))
        return y

    def relu_backward(self, g: Array, y: Array) -> Array:
        """In one pass."""
        loop = self.loop("relu_backward", y.shape, y, g) if g.shape == y.shape else None
        if loop is None:
            return super().relu_backward(g, y)
        out = numpy.empty_like(y)
        loop(g.reshape(-1), y.reshape(-1), out.reshape(-1))
        return out

    def erf(self, x: Array) -> Array:
        """Around NumPy's exp, which computes several at once."""
        start = self.loop("erf_exponents", x.shape, x)
        finish = compiled("erf_finish", x.dtype.char) if start else None
        if start is None or finish is None:
            return super().erf(x)
        e, y = numpy.empty_like(x), numpy.empty_like(x)
        start(x.reshape(-1), e.reshape(-1))
        numpy.exp(e, out=e)
        finish(x.reshape(-1), e.reshape(-1), *coefficients(x.dtype), y.reshape(-1))
        return y

    # ---- optimizers

    def sgd_update(
        self, g: Array, p: Any, velocity: Any, lr: float, momentum: float, weight_decay: float, nesterov: bool
    ) -> None:
        """In one pass where there is momentum."""
        loop = self.loop("sgd", g.shape, g, velocity) if momentum else None
        if loop is None:
            super().sgd_update(g, p, velocity, lr, momentum, weight_decay, nesterov)
            return
        add_decay(g, p, weight_decay)
        flat(loop, g, velocity, lr, momentum, nesterov)

    def adam_update(
        self, g: Array, p: Any, m: Array, v: Array, t: int, lr: float, beta1: float, beta2: float, eps: float,
        weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        """In one pass."""
        loop = self.loop("adam", g.shape, g, m, v)
        if loop is None:
            super().adam_update(g, p, m, v, t, lr, beta1, beta2, eps, weight_decay, decoupled)
            return
        if not decoupled:
            add_decay(g, p, weight_decay)
        root = (1.0 - beta2**t) ** 0.5
        flat(loop, g, m, v, beta1, beta2, eps * root, lr * root / (1.0 - beta1**t))
        if decoupled:
            add_decay(g, p, lr * weight_decay)

    def rmsprop_update(
        self, g: Array, p: Any, square_mean: Array, mean: Any, velocity: Any, lr: float, alpha: float, eps: float,
        weight_decay: float, momentum: float,
    ) -> None:  # fmt: skip
        """In one pass."""
        loop = self.loop("rmsprop", g.shape, g, square_mean)
        if loop is None:
            super().rmsprop_update(g, p, square_mean, mean, velocity, lr, alpha, eps, weight_decay, momentum)
            return
        add_decay(g, p, weight_decay)
        absent = square_mean  # stands for what the loop does not look at
        centred = mean is not None
        flat(
            loop, g, square_mean, mean if centred else absent, velocity if momentum else absent, centred,
            alpha, eps, momentum, lr,
        )  # fmt: skip

    def adagrad_update(
        self, g: Array, p: Any, square_sum: Array, t: int, lr: float, lr_decay: float, weight_decay: float,
        eps: float,
    ) -> None:  # fmt: skip
        """In one pass."""
        loop = self.loop("adagrad", g.shape, g, square_sum)
        if loop is None:
            super().adagrad_update(g, p, square_sum, t, lr, lr_decay, weight_decay, eps)
            return
        add_decay(g, p, weight_decay)
        flat(loop, g, square_sum, eps, lr / (1.0 + (t - 1) * lr_decay))


def flat(loop: Any, *args: Any) -> None:
    """A loop over flat arrays of one length."""

    def block(first: int, last: int) -> None:
        loop(*[a[first:last] if isinstance(a, numpy.ndarray) else a for a in args])

    in_blocks(block, args[0].size, args[0].size)


@lru_cache
def coefficients(dtype: Any) -> tuple[Array, Array]:
    """The polynomials of the error function."""
    return numpy.array(ERF_SMALL, dtype), numpy.array(ERFC_LARGE, dtype)


def usable(labels: Array) -> bool:
    """Whether labels are of the type that compiled code takes."""
    return labels.dtype == numpy.int64 and labels.flags.carray
