"""What happens inside a model during training: activations, their gradients, weights and running statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..engine import Tensor
from ..nn import Dropout, Flatten, Identity, Module
from ..ops.arguments import whole_number
from .callbacks import Callback

PERCENTILES = 15, 50, 85
"""Those of the figures in Ioffe, Szegedy 2015."""

Series = dict[str, list[Any]]


class NormMonitor(Callback):
    """Record, every few steps, how activations, gradients, weights and statistics of a model are spread.

    Training is not changed by it, to the last bit. ``viz.activations``, ``viz.gradients`` and ``viz.norms`` draw the
    record. With a trainer that has not made a step yet the record begins anew; otherwise it goes on.

    Args:
        every: steps from one record to the next, the first step of all being recorded. A record takes the time of
            several steps of a small model.
        layers: dotted names of the modules whose outputs are recorded; None: all that contain no other module, without
            Dropout, Flatten and Identity. Of a module called several times in one step, the first call.
        bins: of the histograms.

    Attributes:
        activations: name of a module to lists with an entry per record: "step", "mean", "std", "p15", "p50" and "p85"
            (percentiles), and a histogram of the finite values, "counts" and "edges".
        gradients: the same of the gradient of the loss with respect to the module's output.
        weights: names of parameters with two dimensions or more to "step", "norm" (after the step) and "grad_norm".
        vectors: names of other parameters, and of floating buffers, to "step", "mean", "low" and "high" (after it).

    Raises:
        ValueError: a number out of range; from ``fit``, a name that no module of the model has.

    >>> from tinygrad_norm import data, nn, optim, train
    >>> model = nn.MLP([2, 8, 2], norm="batch")
    >>> optimizer = optim.SGD(model.named_parameters(), lr=0.1)
    >>> monitor = train.NormMonitor(every=4)
    >>> trainer = train.Trainer(model, optimizer, nn.CrossEntropyLoss(), callbacks=[monitor])
    >>> loader = data.DataLoader(data.TensorDataset(*data.moons(100)), batch_size=20)
    >>> history = trainer.fit(loader, epochs=2, progress=False)
    >>> list(monitor.activations), monitor.activations["norm1"]["step"]
    (['linear1', 'norm1', 'activation1', 'linear2'], [1, 5, 9])
    >>> [round(std, 1) for std in monitor.activations["norm1"]["std"]][0]
    1.0
    """

    def __init__(self, every: int = 10, layers: Iterable[str] | None = None, bins: int = 60) -> None:
        self.every = whole_number("NormMonitor", "every", every)
        self.layers = None if layers is None else list(layers)
        self.bins = whole_number("NormMonitor", "bins", bins)
        self._trainer: Any = None
        self._removers: list[Callable[[], None]] = []
        self._begin()

    def _begin(self) -> None:
        self.activations: dict[str, Series] = {}
        self.gradients: dict[str, Series] = {}
        self.weights: dict[str, Series] = {}
        self.vectors: dict[str, Series] = {}

    def on_fit_begin(self, trainer: Any) -> None:
        if trainer.step == 0:
            self._begin()
        self._trainer = trainer
        self._new: list[tuple[Series, dict[str, Any]]] = []
        self._called: set[str] = set()
        for name, module in self._watched(trainer.model):
            self._removers.append(module.register_forward_hook(self._hook(name)))

    def on_batch_end(self, trainer: Any, loss: float) -> None:
        if self._due(trainer.step - 1):
            for series, row in self._new:
                add(series, trainer.step, row)
            self._record_tensors(trainer)
        self._new, self._called = [], set()

    def on_fit_end(self, trainer: Any, interrupted: bool) -> None:
        for remove in self._removers:
            remove()
        self._removers, self._trainer = [], None
        self._new, self._called = [], set()

    def _due(self, steps: int) -> bool:
        return steps % self.every == 0

    def _watched(self, model: Module) -> list[tuple[str, Module]]:
        modules = dict(model.named_modules())
        if self.layers is None:
            without = Dropout, Flatten, Identity
            return [(n, m) for n, m in modules.items() if not any(m.children()) and not isinstance(m, without)]
        if unknown := [name for name in self.layers if name not in modules]:
            raise ValueError(
                f"NormMonitor: layers must be names of modules, {', '.join(filter(None, modules))}; got {unknown}"
            )
        return [(name, modules[name]) for name in self.layers]

    def _hook(self, name: str) -> Callable[[Any, tuple, Any], None]:
        def forward(module: Any, inputs: tuple, output: Any) -> None:
            y = output[0] if isinstance(output, tuple) else output
            training = self._trainer.model.training and self._due(self._trainer.step)
            if not training or name in self._called or not isinstance(y, Tensor) or y.dtype.kind != "f":
                return
            self._called.add(name)
            self._new.append((self.activations.setdefault(name, {}), self._spread(y)))
            series = self.gradients.setdefault(name, {})  # now, for the order of the names
            if y.requires_grad:
                y.register_hook(lambda g: self._new.append((series, self._spread(g))))

        return forward

    def _spread(self, x: Tensor) -> dict[str, Any]:
        values = x.numpy().astype(np.float64).ravel()
        finite = values[np.isfinite(values)]
        counts, edges = np.histogram(finite, self.bins)
        with np.errstate(all="ignore"):
            row = {"mean": values.mean(), "std": values.std()}
            row |= dict(zip([f"p{p}" for p in PERCENTILES], np.percentile(values, PERCENTILES)))
        return {k: float(v) for k, v in row.items()} | {"counts": counts, "edges": edges}

    def _record_tensors(self, trainer: Any) -> None:
        floating = [(name, b) for name, b in trainer.model.named_buffers() if b.dtype.kind == "f"]
        for name, x in [*trainer.model.named_parameters(), *floating]:
            values = x.numpy().astype(np.float64)
            if x.ndim >= 2:
                gradient = np.nan if x.grad is None else np.linalg.norm(x.grad.numpy().astype(np.float64))
                row = {"norm": float(np.linalg.norm(values)), "grad_norm": float(gradient)}
                add(self.weights.setdefault(name, {}), trainer.step, row)
            else:
                row = {"mean": float(values.mean()), "low": float(values.min()), "high": float(values.max())}
                add(self.vectors.setdefault(name, {}), trainer.step, row)


def add(series: Series, step: int, row: dict[str, Any]) -> None:
    """Add an entry to every list.

    >>> series = {}
    >>> add(series, 1, {"norm": 2.0})
    >>> series
    {'step': [1], 'norm': [2.0]}
    """
    for name, value in {"step": step, **row}.items():
        series.setdefault(name, []).append(value)
