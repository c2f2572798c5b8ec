"""The format: what may be saved, the members of the archive, and reading that trusts no number in the file."""

from __future__ import annotations

import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from ..backend import DTYPES
from ..engine import Tensor
from ..ops.create import tensor
from .replace import replacing

FORMAT, VERSION = "tinygrad_norm", 1
META_MEMBER = "meta.json"
META_LIMIT = 16 * 2**20  # a parsed JSON text takes many times its own size

_DTYPES = {dtype.newbyteorder("<").str for dtype in DTYPES.values()}  # "<f4", "|b1", ...
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(rb"\{'descr': '(.{3})', 'fortran_order': False, 'shape': \(([0-9, ]*)\), \} *\n")
_CHUNK = 2**20


class CheckpointError(ValueError):
    """A file that ``load`` cannot trust: damaged, cut short, hostile, or not written by ``save``.

    The message names the file, the member where one is at fault, and what is wrong with it.

    >>> issubclass(CheckpointError, ValueError)
    True
    """


def save(path: str | os.PathLike[str], tensors: Mapping[str, Any], *, meta: Mapping[str, Any] | None = None) -> None:
    """Write named tensors to one ``.npz`` file; at every moment the path holds the old file or the new one.

    The same content always gives the same bytes, and ``numpy.load`` opens the file as well.

    Args:
        path: where to write, ending in ``.npz``; the folder must exist.
        tensors: names to Tensors or NumPy arrays (bool, integers, float16 to float64; any shape and memory
            layout, stored in C order). A mapping inside is flattened: ``{"model": {"w": x}}`` is ``model/w``.
        meta: what else belongs to the file: strings, numbers, booleans, None, lists and mappings of these;
            NumPy scalars become Python numbers, tuples become lists.

    Raises:
        TypeError: a value that is no array, or something in ``meta`` that JSON cannot hold.
        ValueError: a name, dtype or path that the format does not allow.
        OSError: the file could not be written; a file that was there before is untouched.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/two.npz", {"model": {"w": np.ones((2, 3), np.float32)}}, meta={"step": 7})
    ...     arrays, meta = load_arrays(f"{folder}/two.npz")
    >>> arrays["model/w"].shape, meta
    ((2, 3), {'step': 7})
    """
    if not os.fsdecode(path).endswith(".npz"):
        raise ValueError(f"save: path must end in '.npz', the format that is written; got {os.fspath(path)!r}.")
    if not isinstance(tensors, Mapping):
        raise TypeError(
            f"save: tensors must be a mapping of names to tensors; got {type(tensors).__name__}. "
            "Write {'name': tensor}."
        )
    arrays: dict[str, np.ndarray] = {}
    for name, array in _flatten(tensors, ""):
        if name in arrays:
            raise ValueError(f"save: two tensors would be stored under the name {name!r}; rename one of them.")
        arrays[name] = array
    header = {
        "format": FORMAT,
        "version": VERSION,
        "numpy": np.__version__,
        "arrays": list(arrays),
        "meta": _plain({} if meta is None else meta, "meta"),
    }
    text = json.dumps(header, indent=1).encode()
    if len(text) > META_LIMIT:
        raise ValueError(
            f"save: meta takes {len(text):,} bytes as JSON, more than the {META_LIMIT:,} allowed; "
            "store large data as arrays."
        )
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        _write_member(archive, META_MEMBER, text)
        for name, array in arrays.items():
            _write_member(archive, f"{name}.npy", _array_header(array), array.reshape(-1).view(np.uint8).data)


def load(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a file that ``save`` wrote, as Tensors on the CPU under their flattened names, in the order saved.

    Args:
        path: the file.

    Returns:
        A dict of names to Tensors that need no gradient, each with the dtype and shape it was saved with.

    Raises:
        CheckpointError: the file is damaged or ``save`` did not write it; nothing of it is returned.
        OSError: the file cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/one.npz", {"w": np.arange(3.0)})
    ...     load(f"{folder}/one.npz")["w"].numpy()
    array([0., 1., 2.])
    """
    arrays, _ = load_arrays(path)
    return {name: tensor(array, device="cpu") for name, array in arrays.items()}


def load_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file that ``save`` wrote, as NumPy arrays, together with its ``meta``.

    Args:
        path: the file.

    Returns:
        ``(arrays, meta)``: flattened names to arrays, in the order saved, and the mapping given to ``save``.

    Raises:
        CheckpointError: the file is damaged or ``save`` did not write it; nothing of it is returned.
        OSError: the file cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/one.npz", {"w": np.float32(2.5)}, meta={"epoch": 3})
    ...     load_arrays(f"{folder}/one.npz")
    ({'w': array(2.5, dtype=float32)}, {'epoch': 3})
    """
    with open(path, "rb") as file:
        try:
            return _read(file)
        except MemoryError:
            raise
        except Exception as error:  # zipfile, struct and json answer damage with a dozen different types
            raise CheckpointError(
                f"load: {os.fspath(path)!r} is damaged or was not written by tinygrad_norm: "
                f"{error or type(error).__name__}"
            ) from error


# What is saved


def _flatten(tensors: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for key, value in tensors.items():
        name = f"{prefix}{key}"
        if not isinstance(key, str) or not _is_name(name):
            raise ValueError(
                "save: a name must be printable text of at most 1,000 characters, parts joined by '/', none "
                f"of them empty, '.' or '..', without '\\'; got {name!r}."
            )
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{name}/")
        else:
            yield name, _host_array(name, value)


def _is_name(name: str) -> bool:
    return name.isprintable() and len(name) <= 1000 and "\\" not in name and not {"", ".", ".."} & set(name.split("/"))


def _host_array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.numpy()
    if isinstance(value, np.ma.MaskedArray) or not isinstance(value, np.ndarray | np.generic):
        raise TypeError(
            f"save: {name!r} must be a Tensor or a NumPy array; got {type(value).__name__}. "
            "Python numbers, strings and lists go into meta={...}."
        )
    little_endian = value.dtype.newbyteorder("<")
    if little_endian.str not in _DTYPES:
        raise ValueError(f"save: {name!r} must hold bool, integers or float16 to float64; got dtype {value.dtype}.")
    return np.asarray(value, dtype=little_endian, order="C")


def _plain(value: Any, where: str) -> Any:
    """``value`` as JSON will give it back, or an error that says where it would not."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, Mapping):
        raise TypeError(
            f"save: {where} must be a string, number, boolean, None, or a list or mapping of them; got "
            f"{type(value).__name__}. Arrays belong into `tensors`."
        )
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"save: the keys of {where} must be strings, as in JSON; got {key!r}.")
    return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}


# Writing


def _array_header(array: np.ndarray) -> bytes:
    """The header of the ``.npy`` format, version 1.0, padded so that the data begin at a multiple of 64."""
    text = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}"
    length = -(len(_MAGIC) + 2 + len(text) + 1) % 64 + len(text) + 1
    return _MAGIC + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"


def _write_member(archive: zipfile.ZipFile, name: str, *parts: Any) -> None:
    info = zipfile.ZipInfo(name)  # stored, and dated 1980: no clock in the file
    info.file_size = sum(len(part) for part in parts)  # lets zipfile pick the 64-bit form where it must
    with archive.open(info, "w") as member:
        for part in parts:
            member.write(part)


# Reading


def _read(file: IO[bytes]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise ValueError("a member name occurs twice")
        for info in members.values():
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"member {info.filename!r} is compressed; only stored members are read")
            if info.compress_size != info.file_size:
                raise ValueError(f"member {info.filename!r} has two sizes, {info.compress_size} and {info.file_size}")
        if sum(info.file_size for info in members.values()) > size:
            raise ValueError(f"the members claim more than the {size:,} bytes of the file")
        names, meta = _read_meta(archive, members)
        for name in {META_MEMBER, *(f"{name}.npy" for name in names)} ^ set(members):
            raise ValueError(f"member {name!r} is {'not listed in meta.json' if name in members else 'missing'}")
        return {name: _read_array(archive, members[f"{name}.npy"]) for name in names}, meta


def _read_meta(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> tuple[list[str], dict[str, Any]]:
    if META_MEMBER not in members:
        raise ValueError(f"there is no member {META_MEMBER!r}; numpy.load reads a plain .npz")
    if members[META_MEMBER].file_size > META_LIMIT:
        raise ValueError(f"member {META_MEMBER!r} is larger than {META_LIMIT:,} bytes")
    header = json.loads(archive.read(META_MEMBER))
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"member {META_MEMBER!r} does not describe a file of {FORMAT}")
    if header.get("version") != VERSION:
        raise ValueError(f"the file has format version {header.get('version')!r}, this release reads {VERSION}")
    names, meta = header.get("arrays"), header.get("meta")
    if not (
        isinstance(names, list) and all(isinstance(n, str) and _is_name(n) for n in names) and isinstance(meta, dict)
        and len(set(names)) == len(names)
    ):  # fmt: skip
        raise ValueError(f"member {META_MEMBER!r} has no valid list of names or no mapping 'meta'")
    return names, meta


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    where = f"member {info.filename!r}"
    with archive.open(info) as member:
        start = member.read(len(_MAGIC) + 2)
        match = _HEADER.fullmatch(member.read(int.from_bytes(start[-2:], "little")))
        if not start.startswith(_MAGIC) or match is None or match[1].decode("latin-1") not in _DTYPES:
            raise ValueError(
                f"{where} has a header that is not a C-ordered array of bool, integers or float16 to float64"
            )
        dtype = np.dtype(match[1].decode())
        shape = tuple(int(n) for n in match[2].replace(b",", b" ").split())
        declared, held = math.prod(shape) * dtype.itemsize, info.file_size - member.tell()
        if declared != held:
            raise ValueError(f"{where} declares shape {shape} of {dtype}, {declared:,} bytes, but holds {held:,}")
        array = np.empty(shape, dtype)
        data = array.reshape(-1).view(np.uint8).data
        for begin in range(0, held, _CHUNK):  # the last read compares the member's CRC; a short one does not fit
            data[begin : begin + _CHUNK] = member.read(_CHUNK)
    return array.astype(dtype.newbyteorder("="), copy=False)
