"""JAX: the whole training step, Adam included, is one compiled function. Flag ``cuda``: on the GPU."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy

from ..cases import ADAM_EPS, BETA1, BETA2, LEARNING_RATE, Case, operands, start
from . import Missing, formulas


def versions(flags: Collection[str]) -> dict[str, str]:
    """Of JAX."""
    platform = "cuda" if "cuda" in flags else "cpu"
    if platform == "cuda":
        jax.config.update("jax_default_matmul_precision", "highest")  # as the others compute, and not in TF32
    try:
        jax.config.update("jax_default_device", jax.devices(platform)[0])
    except RuntimeError as error:
        raise Missing(f"no {platform}: {str(error).splitlines()[0]}") from error
    return {"jax": jax.__version__, "jaxlib": jax.lib.__version__}


def make(case: Case, flags: Collection[str]) -> tuple[Callable, Callable]:
    """See the package's text."""
    if case["work"] == "chain":
        raise Missing("JAX jit compiles the chain as a whole, so no operation is recorded")
    return {"train": train, "norm": norm}[case["work"]](case)


def train(case: Case) -> tuple[Callable, Callable]:
    """One compiled training step."""
    layers, x, labels = start(case)
    rows = len(x)

    def loss_of(layers: Any, x: Any, target: Any) -> Any:
        statistics: list = []
        z = formulas.logits(jnp, layers, x, case["norm"], statistics)
        return formulas.cross_entropy(jnp, z, target, jax.lax.stop_gradient), statistics

    def step(state: Any, x: Any, target: Any) -> Any:
        layers, m, v, running, t = state
        (loss, statistics), g = jax.value_and_grad(loss_of, has_aux=True)(layers, x, target)
        t = t + 1
        m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
        v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
        root = jnp.sqrt(1 - BETA2**t)
        rate = LEARNING_RATE * root / (1 - BETA1**t)
        layers = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + ADAM_EPS * root), layers, m, v)
        return loss, (layers, m, v, formulas.moved(running, statistics, rows), t)

    compiled = jax.jit(step, donate_argnums=0)
    zeros = jax.tree.map(jnp.zeros_like, layers)
    running = formulas.fresh(layers) if case["norm"] == "batch" else []
    state = jax.tree.map(jnp.array, (layers, zeros, jax.tree.map(jnp.copy, zeros), running, numpy.float32(0)))
    data, target = jnp.array(x), jnp.array(formulas.one_hot(labels, case["sizes"][-1]))

    def run() -> float:
        nonlocal state
        loss, state = compiled(state, data, target)
        return float(loss)

    return run, lambda: [numpy.asarray(var) for _, var in state[3]]


def norm(case: Case) -> tuple[Callable, Callable]:
    """Forward and backward of one normalization or convolution, compiled together."""
    values = {name: jnp.array(a) for name, a in operands(case).items()}
    g = values.pop("g")

    def forward(values: Any) -> Any:
        if case["norm"] == "conv":
            y = jax.lax.conv_general_dilated(values["x"], values["w"], (1, 1), "SAME")
            return y + values["b"][:, None, None]
        return formulas.normalized(jnp, case["norm"], values)

    @jax.jit
    def both(values: Any, g: Any) -> Any:
        y, pull = jax.vjp(forward, values)
        return y, pull(g)[0]

    last: Any = None

    def run() -> None:
        nonlocal last
        last = jax.block_until_ready(both(values, g))

    return run, lambda: [numpy.asarray(a) for a in (last[0], *(last[1][name] for name in values))]
