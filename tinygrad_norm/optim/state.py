"""An optimizer's state as plain values, keyed by parameter name, and back: all of it or nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy

from ..engine import Tensor
from ..engine.tensor import describe
from .checks import number

KEYS = ("optimizer", "named", "steps", "param_groups", "state")


def snapshot(optimizer: Any) -> dict[str, Any]:
    """What ``Optimizer.state_dict`` returns; see there."""
    state: dict[str, Any] = {}
    for group, buckets in zip(optimizer.param_groups, optimizer.buckets, strict=True):
        needed = optimizer.buffers(group)
        for bucket in buckets:
            bucket.prepare(needed)
            for slot in bucket.slots:
                entry = state[slot.key] = {"shape": list(slot.parameter.shape), "steps": slot.steps}
                for name in needed:
                    flat = bucket.xp.to_host(bucket.state[name][slot.start : slot.stop])
                    entry[name] = flat.reshape(slot.parameter.shape).copy()
    groups = [
        {name: group[name] for name in optimizer.defaults} | {"params": list(group["names"])}
        for group in optimizer.param_groups
    ]
    return {
        "optimizer": type(optimizer).__name__,
        "named": bool(optimizer.named),
        "steps": optimizer.steps,
        "param_groups": groups,
        "state": state,
    }


def restore(optimizer: Any, saved: Mapping[str, Any]) -> None:
    """What ``Optimizer.load_state_dict`` does; see there."""
    where = f"{type(optimizer).__name__}.load_state_dict"
    groups = matching_groups(where, optimizer, saved)
    state = saved["state"]
    for settings, buckets in zip(groups, optimizer.buckets, strict=True):
        for bucket in buckets:
            for slot in bucket.slots:
                check_entry(where, slot, state[slot.key], optimizer.buffers(settings), bucket.flat.dtype)
    for settings, group, buckets in zip(groups, optimizer.param_groups, optimizer.buckets, strict=True):
        group.update(settings)
        for bucket in buckets:
            bucket.state = {}
            bucket.prepare(optimizer.buffers(group))
            for slot in bucket.slots:
                entry = state[slot.key]
                slot.steps = int(entry["steps"])
                for name, array in bucket.state.items():
                    array[slot.start : slot.stop] = bucket.xp.from_host(host(entry[name]).reshape(-1))
    optimizer.steps = int(saved["steps"])


def matching_groups(where: str, optimizer: Any, saved: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The saved hyperparameters of each group, once class, names and groups agree with the optimizer's."""
    if not isinstance(saved, Mapping) or set(saved) != set(KEYS):
        raise ValueError(f"{where}: expected what state_dict() returns, with {', '.join(KEYS)}; got {describe(saved)}")
    check_steps(where, saved["steps"])
    kind = type(optimizer).__name__
    if saved["optimizer"] != kind:
        raise ValueError(f"{where}: this is the state of {saved['optimizer']}, not of {kind}")
    if bool(saved["named"]) != bool(optimizer.named):
        words = ("named", "nameless") if saved["named"] else ("nameless", "named")
        raise ValueError(
            f"{where}: the state is of {words[0]} parameters and this optimizer's are {words[1]}; "
            "give model.named_parameters() to both"
        )
    same_names(f"{where}: parameters", {slot.key for slot in optimizer.slots()}, saved["state"])
    theirs, ours = len(saved["param_groups"]), len(optimizer.param_groups)
    if theirs != ours:
        raise ValueError(f"{where}: the state has {theirs} groups; this optimizer has {ours}")
    groups = []
    for i, (group, mine) in enumerate(zip(saved["param_groups"], optimizer.param_groups, strict=True)):
        same_names(f"{where}: group {i}: entries", {"params", *optimizer.defaults}, group)
        same_names(f"{where}: group {i}: parameters", mine["names"], group["params"])
        settings = {name: group[name] for name in optimizer.defaults}
        optimizer.check(settings)
        groups.append(settings)
    return groups


def same_names(what: str, ours: Collection[str], theirs: Collection[str]) -> None:
    """Raise when two collections of names differ, naming what differs."""
    missing, unknown = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
    if missing or unknown:
        raise ValueError(f"{what} differ; missing in the state: {missing}; unknown to this optimizer: {unknown}")


def check_entry(where: str, slot: Any, entry: Mapping[str, Any], buffers: Collection[str], dtype: Any) -> None:
    """Raise when one parameter's saved state does not fit it."""
    same_names(f"{where}: {slot.label}: entries", {"shape", "steps", *buffers}, entry)
    shape = slot.parameter.shape
    if tuple(entry["shape"]) != shape:
        raise ValueError(f"{where}: {slot.label} has shape {shape}; the state has {tuple(entry['shape'])}")
    check_steps(f"{where}: {slot.label}", entry["steps"])
    for name in buffers:
        array = host(entry[name])
        if not isinstance(array, numpy.ndarray) or array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"{where}: {slot.label}: {name} must have shape {shape} and dtype {dtype}; got {describe(array)}"
            )


def check_steps(where: str, steps: Any) -> None:
    """Raise when a saved count of steps is none."""
    if number(where, "steps", steps, 0.0) % 1:
        raise ValueError(f"{where}: steps must be a whole number; got {steps!r}")


def host(x: Any) -> Any:
    """A saved array as NumPy's, also when it was loaded as a Tensor."""
    return x.numpy() if isinstance(x, Tensor) else x
