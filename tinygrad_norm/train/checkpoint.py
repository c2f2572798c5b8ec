"""Checkpoints: one file with all that training needs to continue as if it had never stopped.

Members ``model/NAME`` are parameters and buffers, ``optimizer/NAME/BUFFER`` the optimizer's arrays under the model's
parameter names; ``meta.json`` holds the rest: settings and step counts of the optimizer, schedule, loader position,
random states, versions, and what the caller adds.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy

from ..backend import openblas, random
from ..engine.tensor import describe
from ..serialize import CheckpointError, load_arrays, save

KIND = "checkpoint 1"


class CheckpointWarning(UserWarning):
    """A checkpoint that fits, but from which training may continue otherwise than it would have.

    >>> issubclass(CheckpointWarning, UserWarning)
    True
    """


def save_checkpoint(
    path: str | os.PathLike[str], model: Any, optimizer: Any = None, scheduler: Any = None, loader: Any = None,
    **meta: Any,
) -> None:  # fmt: skip
    """Write model, optimizer, schedule, loader position and random states to one ``.npz`` file, atomically.

    Args:
        path: where to write, ending in ``.npz``; the folder must exist. A crash leaves the old file or the new one.
        model: an ``nn.Module``.
        optimizer: its state is stored under the model's parameter names, also when it was made without names.
        scheduler: a learning rate schedule.
        loader: a ``data.DataLoader``; see its ``state_dict`` for what its position means.
        **meta: what :func:`load_checkpoint` shall return: numbers, strings, None, lists and mappings of them.

    Raises:
        ValueError: the optimizer has parameters that are not the model's; another ending than ``.npz``.
        TypeError: something in ``meta`` that JSON cannot hold.
        OSError: the file could not be written; a file that was there before is untouched.

    >>> import tempfile
    >>> from tinygrad_norm import nn, optim, train
    >>> model = nn.Linear(2, 1)
    >>> optimizer = optim.Adam(model.named_parameters(), lr=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     train.save_checkpoint(f"{folder}/run.npz", model, optimizer, epoch=3)
    ...     train.load_checkpoint(f"{folder}/run.npz", model, optimizer)
    {'epoch': 3}
    """
    tensors: dict[str, Any] = {"model": model.state_dict()}
    header: dict[str, Any] = {"kind": KIND, "meta": meta, "random": random.get_state(), **environment()}
    if optimizer is not None:
        state = _with_names(optimizer.state_dict(), _model_names(optimizer, model), named=True)
        entries: dict[str, Any] = state["state"]
        tensors["optimizer"] = {name: _arrays(entry, True) for name, entry in entries.items()}
        header["optimizer"] = state | {"state": {name: _arrays(entry, False) for name, entry in entries.items()}}
    for name, part in (("scheduler", scheduler), ("loader", loader)):
        if part is not None:
            header[name] = part.state_dict()
    save(path, tensors, meta=header)


def load_checkpoint(
    path: str | os.PathLike[str], model: Any, optimizer: Any = None, scheduler: Any = None, loader: Any = None
) -> dict[str, Any]:
    """Continue from a checkpoint: all of what is given gets its state back or, when anything does not fit, nothing.

    With an optimizer, the random numbers of this thread (dropout, new weights) continue as well; a model alone is
    loaded to be used, and they stay as they are. On the same machine with the same NumPy and number of threads,
    training then goes on bitwise as it would have without the break.

    Args:
        path: a file that :func:`save_checkpoint` wrote.
        model: a model of the same structure.
        optimizer: one of the same class over the same parameters; its settings are loaded too.
        scheduler: a schedule of the same class, made for ``optimizer``.
        loader: a loader over as many samples with the same settings.

    Returns:
        What was given to ``save_checkpoint`` as ``meta``.

    Raises:
        CheckpointError: the file is damaged or no checkpoint.
        ValueError: something in it does not fit, or what is asked for is not in it. Nothing was loaded.
        OSError: the file cannot be opened.

    Warns:
        CheckpointWarning: the file was written with another NumPy, BLAS or number of threads, or holds a state that
            nothing was given for.
    """
    arrays, header = load_arrays(path)
    if header.get("kind") != KIND:
        raise CheckpointError(
            f"load_checkpoint: {os.fspath(path)!r} holds tensors but no training state; tn.load reads such files"
        )
    given = {"optimizer": optimizer, "scheduler": scheduler, "loader": loader}
    for name, part in given.items():
        if part is not None and name not in header:
            raise ValueError(
                f"load_checkpoint: {name} was given, but {os.fspath(path)!r} holds the state of none; "
                f"leave it out, or give it to save_checkpoint. Nothing was loaded"
            )
    parts: list[tuple[Any, Any]] = [(model, _members(arrays, "model"))]
    try:
        if optimizer is not None:
            parts.append((optimizer, _optimizer_state(arrays, header["optimizer"], optimizer, model)))
        parts += [
            (part, header[name]) for name, part in (("scheduler", scheduler), ("loader", loader)) if part is not None
        ]
        _load_all(parts, None if optimizer is None else _checked_random(header["random"]))
    except (AttributeError, KeyError, OverflowError, TypeError) as error:
        raise CheckpointError(
            f"load_checkpoint: what {os.fspath(path)!r} holds is not what save_checkpoint writes "
            f"({type(error).__name__}: {error}). Nothing was loaded"
        ) from error
    unused = [] if optimizer is None else [name for name, part in given.items() if part is None and name in header]
    _warn(path, header, unused)
    return header["meta"]


def _checked_random(state: Any) -> dict[str, Any]:
    """The random state, whose parts must be numbers: NumPy would round, and the rest would notice much later."""
    host = state["host"]
    numbers = [state["key"], state["counter"], host["has_uint32"], host["uinteger"], *host["state"].values()]
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise TypeError(f"the random state must consist of whole numbers; got {numbers}")
    return state


def _load_all(parts: list[tuple[Any, Any]], random_state: Any) -> None:
    before: list[tuple[Any, Any]] = []
    random_before = random.get_state()
    try:
        for part, state in parts:
            kept = part.state_dict()
            part.load_state_dict(state)
            before.append((part, kept))
        if random_state is not None:
            random.set_state(random_state)
    except BaseException as error:
        for part, kept in before:  # each load is all or nothing, so only those that went through are undone
            part.load_state_dict(kept)
        random.set_state(random_before)
        error.add_note("load_checkpoint: nothing was loaded")
        raise


# The optimizer's state, under the model's names


def _model_names(optimizer: Any, model: Any) -> dict[str, str]:
    """The optimizer's own key of each parameter (its name or position) -> the model's name for it."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for key, p in zip(group["names"], group["params"]):
            if id(p) not in names:
                raise ValueError(
                    f"checkpoint: the optimizer's parameter {key!r} ({describe(p)}) is not one of the model's; "
                    "give the model that the optimizer was made for"
                )
            found[key] = names[id(p)]
    return found


def _with_names(state: Mapping[str, Any], names: Mapping[str, str], named: bool) -> dict[str, Any]:
    """An optimizer's ``state_dict`` with its parameters renamed; unknown names stay, for the optimizer to refuse."""
    groups = [{**g, "params": [names.get(key, key) for key in g["params"]]} for g in state["param_groups"]]
    entries = {names.get(key, key): entry for key, entry in state["state"].items()}
    return {**state, "named": named, "param_groups": groups, "state": entries}


def _optimizer_state(arrays: Mapping[str, Any], plain: Mapping[str, Any], optimizer: Any, model: Any) -> dict[str, Any]:
    entries = {key: {**entry, **_members(arrays, f"optimizer/{key}")} for key, entry in plain["state"].items()}
    names = {name: key for key, name in _model_names(optimizer, model).items()}
    return _with_names({**plain, "state": entries}, names, optimizer.named)


def _arrays(entry: Mapping[str, Any], wanted: bool) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if isinstance(value, numpy.ndarray) == wanted}


def _members(arrays: Mapping[str, Any], folder: str) -> dict[str, Any]:
    return {name[len(folder) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{folder}/")}


# Where bits may differ


def environment() -> dict[str, Any]:
    """What the bits of a result depend on besides the program: NumPy, its BLAS, and how many threads that uses."""
    blas: Any = numpy.show_config(mode="dicts")
    blas = blas.get("Build Dependencies", {}).get("blas", {})
    return {
        "numpy": numpy.__version__,
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "threads": _threads(),
    }


def _threads() -> int:
    """Threads that BLAS uses; where it cannot be asked, what the environment allows, at most the processors here."""
    if (asked_blas := openblas.threads()) is not None:
        return asked_blas
    affinity = getattr(os, "sched_getaffinity", None)
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        asked = os.environ.get(name, "")
        if asked.isdecimal() and int(asked) > 0:
            return min(int(asked), processors)
    return processors


def _warn(path: str | os.PathLike[str], header: Mapping[str, Any], unused: list[str]) -> None:
    where = f"load_checkpoint: {os.fspath(path)!r}"
    here = environment()
    other = [f"{name} {header.get(name)} (here {here[name]})" for name in here if header.get(name) != here[name]]
    if other:
        text = f"{where} was written with {', '.join(other)}; training may continue with other last digits"
        warnings.warn(text, CheckpointWarning, stacklevel=3)
    if unused:
        text = f"{where} also holds the state of {' and '.join(unused)}, for which nothing was given; it is left out"
        warnings.warn(text, CheckpointWarning, stacklevel=3)
