"""What all optimizers share: groups of parameters, flat gathered updates, state that is kept by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy

from ..backend import BACKENDS
from ..engine import Tensor
from ..engine.op import mark_edited
from ..engine.tensor import describe
from .checks import Params, listed, named, number
from .state import restore, snapshot


@dataclass(slots=True, eq=False)
class Slot:
    """One parameter's place in the flat arrays of its bucket; ``view`` is that place in the parameter's shape."""

    parameter: Tensor
    key: str
    label: str
    steps: int = 0
    start: int = 0
    stop: int = 0
    view: Any = None


class Bucket:
    """The parameters of one group that share a dtype and a device, with their state laid end to end.

    One update of a flat array replaces one update per parameter. ``flat`` receives the gradients and then holds the
    step; ``state`` maps the name of each state array to a flat array of the same length. float16 parameters are updated
    in float32 and rounded once, when written.
    """

    def __init__(self, slots: list[Slot]) -> None:
        first = slots[0].parameter._data
        self.dtype, self.kind = first.dtype, type(first)
        self.xp: Any = BACKENDS[self.kind]
        self.slots = slots
        self.size = sum(slot.parameter.size for slot in slots)
        self.flat = self.xp.laid_apart(self.size, numpy.result_type(self.dtype, numpy.float32), 0)
        self.state: dict[str, Any] = {}
        start = 0
        for slot in slots:
            slot.start, slot.stop = start, start + slot.parameter.size
            slot.view = self.flat[start : slot.stop].reshape(slot.parameter.shape)
            start = slot.stop

    def __reduce__(self) -> Any:
        # Copied or unpickled it is laid out anew: a copy of a view is an array of its own, no longer part of ``flat``.
        return Bucket, ([replace(slot, view=None) for slot in self.slots],), {"state": self.state}

    def gather(self) -> list[list[Slot]]:
        """Copy the gradients into ``flat``; return the runs of neighbours that have one and count the same steps."""
        runs: list[list[Slot]] = []
        run: list[Slot] = []
        for slot in self.slots:
            p = slot.parameter
            grad = p.grad
            if grad is None:
                run = []
                continue
            if p._data.dtype != self.dtype or type(p._data) is not self.kind:
                raise RuntimeError(
                    f"step: {slot.label} is now {p.dtype} on {p.device!r} but was {self.dtype} on {self.xp.device!r} "
                    "when the optimizer was made; move the model first and make the optimizer after it"
                )
            slot.view[...] = grad._data
            if run and run[-1].steps == slot.steps:
                run.append(slot)
            else:
                run = [slot]
                runs.append(run)
        return runs

    def values(self, run: list[Slot]) -> Any:
        """A flat copy of the parameters' values."""
        return self.xp.concatenate([s.parameter._data.reshape(-1) for s in run], dtype=self.flat.dtype)

    def prepare(self, buffers: dict[str, float]) -> None:
        """Make the state arrays that are not there yet."""
        for name, value in buffers.items():
            if name not in self.state:
                self.state[name] = self.xp.laid_apart(self.size, self.flat.dtype, len(self.state) + 1)
                self.state[name][...] = value


class Optimizer:
    """Base of all optimizers: updates parameters in place from their ``.grad``.

    Parameters whose ``.grad`` is None are skipped: neither their values nor their state change. State is kept by
    parameter name when (name, Parameter) pairs are given, else by position.

    A subclass passes its hyperparameters as ``defaults`` and defines ``buffers`` and ``update``.

    Args:
        params: Parameters (any leaf that needs a gradient), (name, Parameter) pairs as ``model.named_parameters()``
            yields them, or dicts ``{"params": ..., "lr": ...}``: groups with hyperparameters of their own.
        defaults: hyperparameters of the groups that do not set them.
        check_finite: refuse to step with a gradient that is NaN or infinite.

    Attributes:
        param_groups: list of dicts with ``"params"`` (a tuple), ``"names"`` and the hyperparameters, which may be
            changed at any time.
        steps: number of ``step()`` calls that were not refused.

    Raises:
        TypeError: something that is not a Parameter, or needs no gradient; named and nameless mixed.
        ValueError: nothing to optimize, a parameter or name given twice, a hyperparameter out of range.
    """

    # Ranges of the hyperparameters that are numbers: lowest value, end of the range, whether the lowest is excluded.
    ranges: ClassVar[dict[str, tuple]] = {"lr": (0.0,), "weight_decay": (0.0,)}

    def __init__(self, params: Params, defaults: dict[str, Any], check_finite: bool = True) -> None:
        self.defaults = defaults
        self.check_finite = check_finite
        self.steps = 0
        self.named: bool | None = None
        self.param_groups: list[dict[str, Any]] = []
        self.buckets: list[list[Bucket]] = []
        self.check(defaults)
        items = listed(type(self).__name__, params)
        groups = items if items and all(isinstance(item, Mapping) for item in items) else [{"params": items}]
        for group in groups:
            self.add_param_group(group)
        if self.named is None:
            raise ValueError(f"{type(self).__name__}: params is empty: nothing to optimize; give model.parameters()")

    # ---- what a subclass defines

    def buffers(self, group: dict[str, Any]) -> dict[str, float]:
        """Names of the state arrays that a group with these hyperparameters needs, with their initial values."""
        raise NotImplementedError

    def update(self, xp: Any, group: dict[str, Any], g: Any, p: Any, state: dict[str, Any], t: int) -> None:
        """Turn the flat gradient ``g`` into the step to subtract, and update the flat state arrays.

        ``p`` holds the parameters' values (None without weight decay) and ``t`` counts the steps from 1.
        """
        raise NotImplementedError

    # ---- groups

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters, with hyperparameters that differ from the defaults: ``{"params": ..., "lr": 0.01}``."""
        where = type(self).__name__
        unknown = [key for key in group if key != "params" and key not in self.defaults]
        if unknown or "params" not in group:
            raise ValueError(
                f"{where}: a group holds 'params' and may set {', '.join(self.defaults)}; got {', '.join(group)}"
            )
        slots = self._new_slots(named(where, group["params"]))
        made = {key: group.get(key, value) for key, value in self.defaults.items()}
        self.check(made)
        made["params"] = tuple(slot.parameter for slot in slots)
        made["names"] = tuple(slot.key for slot in slots)
        alike: dict[Any, list[Slot]] = {}
        for slot in slots:
            alike.setdefault((slot.parameter.dtype, slot.parameter.device), []).append(slot)
        self.param_groups.append(made)
        self.buckets.append([Bucket(slots) for slots in alike.values()])

    def _new_slots(self, pairs: list[tuple[str | None, Tensor]]) -> list[Slot]:
        where = type(self).__name__
        taken = {id(slot.parameter): slot.label for slot in self.slots()}
        keys = {slot.key for slot in self.slots()}
        slots = []
        for name, p in pairs:
            label = f"parameter {len(taken)} of shape {p.shape}" if name is None else repr(name)
            if self.named is None:
                self.named = name is not None
            if self.named != (name is not None):
                raise TypeError(f"{where}: {label}: give names to all parameters or to none (model.named_parameters())")
            if id(p) in taken:
                raise ValueError(f"{where}: {label} is given twice, first as {taken[id(p)]}; leave one out")
            if name in keys:
                raise ValueError(f"{where}: two parameters are named {label}; state is kept by name")
            if not getattr(p._data.flags, "writeable", True):
                raise ValueError(f"{where}: {label} ({describe(p)}) is read-only; copy it with tn.tensor(...)")
            slots.append(Slot(p, str(len(taken)) if name is None else name, label))
            taken[id(p)] = label
            keys.add(slots[-1].key)
        return slots

    def check(self, group: dict[str, Any]) -> None:
        """Make the hyperparameters Python numbers in their ranges, or raise; NumPy's scalars would widen float32."""
        where = type(self).__name__
        for name, limits in self.ranges.items():
            group[name] = number(where, name, group[name], *limits)

    def slots(self) -> Iterator[Slot]:
        """All parameters' slots."""
        return (slot for buckets in self.buckets for bucket in buckets for slot in bucket.slots)

    # ---- steps

    def zero_grad(self) -> None:
        """Set every ``.grad`` to None."""
        for slot in self.slots():
            slot.parameter.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient. Nothing is recorded.

        Raises:
            FloatingPointError: a gradient is NaN or infinite; no parameter and no state has changed.
        """
        work = []
        for group, buckets in zip(self.param_groups, self.buckets, strict=True):
            self.check(group)
            for bucket in buckets:
                for run in bucket.gather():
                    a, b = run[0].start, run[-1].stop
                    if self.check_finite:
                        bucket.xp.refuse_non_finite(bucket.flat[a:b], self._not_finite(run))
                    work.append((group, bucket, run, a, b))
        for group, bucket, run, a, b in work:
            bucket.prepare(self.buffers(group))
            p = bucket.values(run) if group["weight_decay"] else None
            state = {name: array[a:b] for name, array in bucket.state.items()}
            with bucket.xp.unless_refused(self.update, bucket.flat[a:b], list(state.values())):
                self.update(bucket.xp, group, bucket.flat[a:b], p, state, run[0].steps + 1)
            for slot in run:
                data = slot.parameter._data
                data -= slot.view
                mark_edited(slot.parameter)
                slot.steps += 1
        self.steps += 1

    def _not_finite(self, run: list[Slot]) -> Callable[[int, float], Exception]:
        step, start = self.steps + 1, run[0].start

        def error(position: int, value: float) -> Exception:
            slot = next(slot for slot in run if start + position < slot.stop)
            index = tuple(map(int, numpy.unravel_index(start + position - slot.start, slot.parameter.shape)))
            count = ""
            if isinstance(slot.view, numpy.ndarray):  # a GPU has gone on to the next step, and written over it
                count = f"{int((~numpy.isfinite(slot.view)).sum())} of {slot.view.size} elements; "
            return FloatingPointError(
                f"{type(self).__name__}: step {step}: the gradient of {slot.label} is not finite "
                f"({count}{value} at {index}). Nothing was changed. Lower the learning rate or clip the gradients, "
                "and look at the loss; check_finite=False lets it through"
            )

        return error

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """A snapshot: nested dicts and lists of strings, Python numbers and NumPy arrays that belong to the caller.

        Returns:
            ``"state"``: for each parameter, under its name (its position when nameless), ``"shape"``, the number of its
            ``"steps"``, and its state arrays in the parameter's shape. ``"param_groups"``: hyperparameters and
            parameter names. ``"optimizer"``: the class; ``"named"``: whether parameters have names; ``"steps"`` taken.
        """
        return snapshot(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot: hyperparameters, step counts and state arrays.

        State goes to the parameter of the same name, whatever the order; without names, to the same position.

        Raises:
            ValueError: the snapshot is of another optimizer class, or of other names, shapes, dtypes or groups. Nothing
                was loaded.
        """
        restore(self, state)

    def __repr__(self) -> str:
        settings = [", ".join(f"{name}={group[name]!r}" for name in self.defaults) for group in self.param_groups]
        return f"{type(self).__name__}({'; '.join(settings)})"
