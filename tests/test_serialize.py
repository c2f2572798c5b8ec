"""Saved files: what goes in comes out, damage is always reported, a crash never costs the previous file."""

import builtins
import errno
import io
import json
import os
import pickle
import signal
import stat
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_norm as tn
from tinygrad_norm.serialize import CheckpointError, archive, load, load_arrays, replace, save

DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.npz"


def samples(seed=0):
    draw = np.random.default_rng(seed)
    return {
        "model/weight": draw.standard_normal((5, 3)).astype(np.float32),
        "model/bias": draw.standard_normal(3),
        "model/layers.0.half": draw.standard_normal(4).astype(np.float16),
        "steps": np.int64(12).reshape(()),
        "mask": draw.random(7) < 0.5,
        "none": np.zeros((0, 4), np.uint8),
    }


META = {
    "step": 12,
    "loss": [0.5, 0.25],
    "rng": {"state": 2**127 + 1, "kind": "PCG64"},
    "note": "größer",
    "best": None,
}


def same(found, wanted):
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert type(found[name]) is np.ndarray
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


def temporaries(folder):
    return [name for name in os.listdir(folder) if name.endswith(".tmp")]


# ---- what goes in comes out


def test_values_names_dtypes_shapes_and_meta_come_back(path):
    save(path, samples(), meta=META)
    arrays, meta = load_arrays(path)
    same(arrays, samples())
    assert meta == META
    for array in arrays.values():
        assert array.flags.writeable and array.flags.c_contiguous and array.flags.owndata


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (2, 3, 4)])
def test_every_dtype_and_shape(path, dtype, shape):
    array = (np.random.default_rng(0).standard_normal(shape) * 3 + 100).astype(dtype)
    save(path, {"a": array})
    same(load_arrays(path)[0], {"a": array})


def test_special_values_keep_their_bits(path):
    array = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 5e-324, np.finfo(np.float64).max])
    save(path, {"a": array})
    same(load_arrays(path)[0], {"a": array})


def test_every_memory_layout(path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    readonly = base.copy()
    readonly.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + base.tobytes(), np.float32, offset=1).reshape(4, 6)
    layouts = {
        "fortran": np.asfortranarray(base),
        "transposed": base.T,
        "strided": base[::2, ::3],
        "reversed": base[::-1, ::-1],
        "broadcast": np.broadcast_to(base[0], (3, 6)),
        "readonly": readonly,
        "unaligned": unaligned,
    }
    swapped = base.astype(">f4")
    save(path, {**layouts, "swapped": swapped})
    arrays, _ = load_arrays(path)
    same(arrays, {**{name: np.array(a, order="C") for name, a in layouts.items()}, "swapped": base})


def test_numpy_scalars_are_0d_arrays(path):
    save(path, {"a": np.float32(1.5), "b": np.bool_(True)})
    same(load_arrays(path)[0], {"a": np.array(1.5, np.float32), "b": np.array(True)})


def test_tensors_go_in_and_come_out(path):
    x = tn.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    save(path, {"x": x, "labels": tn.tensor([1, 2])})
    found = load(path)
    assert list(found) == ["x", "labels"]
    assert all(type(value) is tn.Tensor and not value.requires_grad for value in found.values())
    assert found["x"].device == "cpu" and found["x"].dtype == np.float32 and found["labels"].dtype == np.int64
    assert np.array_equal(found["x"].numpy(), x.numpy())


def test_nested_mappings_are_flattened(path):
    one, two = np.ones(1), np.zeros(2)
    save(path, {"model": {"a": one, "deep": {"b": two}}, "model.c": one, "empty": {}})
    same(load_arrays(path)[0], {"model/a": one, "model/deep/b": two, "model.c": one})


def test_nothing_is_a_file_too(path):
    save(path, {})
    assert load_arrays(path) == ({}, {})


def test_names_may_be_any_printable_text(path):
    arrays = {name: np.array(i) for i, name in enumerate(["größe", "a b", "重み", "..x", "x..y", "meta.json", "a.npy"])}
    save(path, arrays)
    same(load_arrays(path)[0], arrays)


def test_meta_takes_numpy_scalars_tuples_and_non_finite_numbers(path):
    save(
        path,
        {},
        meta={"a": np.float64(0.5), "b": (np.int64(1), np.bool_(True)), "c": [float("inf"), float("nan")]},
    )
    _, meta = load_arrays(path)
    assert meta["a"] == 0.5 and meta["b"] == [1, True] and meta["b"][1] is True
    assert meta["c"][0] == float("inf") and meta["c"][1] != meta["c"][1]


def test_numpy_opens_the_file(path):
    save(path, samples(), meta=META)
    with np.load(path, allow_pickle=False) as archive:
        same({name: archive[name] for name in samples()}, samples())
        assert json.loads(archive["meta.json"])["numpy"] == np.__version__


def test_the_same_content_gives_the_same_bytes(tmp_path):
    save(tmp_path / "a.npz", samples(), meta=META)
    save(tmp_path / "b.npz", samples(), meta=META)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), max_size=6).map(tuple),
    dtype=st.sampled_from(DTYPES),
    name=st.text(min_size=1, max_size=20).filter(archive._is_name),
    meta=st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=4,
    ),
)
def test_round_trip_of_anything(tmp_path_factory, shape, dtype, name, meta):
    path = tmp_path_factory.getbasetemp() / "any.npz"
    array = np.frombuffer(np.random.default_rng(1).bytes(8 * int(np.prod(shape))), np.uint8)
    array = array[: int(np.prod(shape)) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)
    save(path, {name: array}, meta=meta)
    arrays, found = load_arrays(path)
    same(arrays, {name: array})
    assert found == meta


# ---- what is refused


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a\\b",
        "a\0b",
        "a\nb",
        "\ud800",
        "n" * 1001,
    ],
)
def test_unsafe_names_are_refused(path, name):
    with pytest.raises(ValueError, match="save: a name must be printable text"):
        save(path, {name: np.ones(1)})
    assert not path.exists()


def test_names_that_are_no_text_or_clash_are_refused(path):
    with pytest.raises(ValueError, match=r"save: a name must be .* got '3'"):
        save(path, {3: np.ones(1)})
    with pytest.raises(ValueError, match="two tensors would be stored under the name 'a/b'"):
        save(path, {"a": {"b": np.ones(1)}, "a/b": np.ones(1)})


@pytest.mark.parametrize("value", [1, 1.5, "text", None, [1, 2], (1,), object(), np.ma.array([1, 2], mask=[0, 1])])
def test_values_that_are_no_arrays_are_refused(path, value):
    with pytest.raises(TypeError, match=r"save: 'a/b' must be a Tensor or a NumPy array; got .* meta="):
        save(path, {"a": {"b": value}})


@pytest.mark.parametrize(
    "dtype",
    ["object", "complex64", "longdouble", "S3", "U3", "datetime64[s]", [("a", "f4"), ("b", "i4")], "V4"],
)
def test_dtypes_outside_the_format_are_refused(path, dtype):
    with pytest.raises(ValueError, match="save: 'a' must hold bool, integers or float16 to float64; got dtype"):
        save(path, {"a": np.zeros(2, dtype)})


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"a": {"b": [1, object()]}}, r"meta\['a'\]\['b'\]\[1\] must be .*; got object"),
        ({"a": np.ones(2)}, r"meta\['a'\] must be .*; got ndarray"),
        ({"a": {1: 2}}, r"the keys of meta\['a'\] must be strings, as in JSON; got 1"),
        ({"a": 1j}, "got complex"),
        ({"a": b"x"}, "got bytes"),
    ],
)
def test_meta_that_json_cannot_hold_is_refused(path, meta, message):
    with pytest.raises(TypeError, match=message):
        save(path, {}, meta=meta)


def test_too_much_meta_is_refused(path, monkeypatch):
    monkeypatch.setattr(archive, "META_LIMIT", 500)
    with pytest.raises(ValueError, match="store large data as arrays"):
        save(path, {}, meta={"a": "x" * 500})


def test_other_bad_calls(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in '\.npz'.*got 'model\.pt'"):
        save("model.pt", {})
    with pytest.raises(TypeError, match=r"tensors must be a mapping .* got list"):
        save(tmp_path / "a.npz", [np.ones(1)])
    with pytest.raises(FileNotFoundError, match=r"the folder does not exist.*nowhere"):
        save(tmp_path / "nowhere" / "a.npz", {})
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(IsADirectoryError):
        save(tmp_path / "folder.npz", {})
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.npz")
    assert temporaries(tmp_path) == []


# ---- damage is reported


def outcome(path, data, wanted=None):
    """ "reported", "identical" or "silent": what became of a damaged file."""
    path.write_bytes(data)
    try:
        arrays, meta = load_arrays(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        return "reported"
    try:
        same(arrays, wanted or samples())
        assert meta == META
    except AssertionError:
        return "silent"
    return "identical"


@pytest.mark.parametrize("seed", [0, 1])
def test_flipped_bits(path, seed):
    save(path, samples(), meta=META)
    good = path.read_bytes()
    counts = {"reported": 0, "identical": 0, "silent": 0}
    draw = np.random.default_rng(seed)
    for position in draw.choice(8 * len(good), 300, replace=False):
        bad = bytearray(good)
        bad[position // 8] ^= 1 << position % 8
        counts[outcome(path, bytes(bad))] += 1
    assert counts["silent"] == 0
    assert counts["reported"] > 200  # the rest hit dates, versions and attributes, which nobody reads


def test_every_bit_of_the_directory_and_the_headers(path):
    few = {name: samples()[name] for name in ("model/bias", "mask")}
    save(path, few, meta=META)
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        starts = [info.header_offset for info in archive.infolist()]
        directory = archive.start_dir
    places = [byte for start in starts for byte in range(start, start + 50)] + list(range(directory, len(good)))
    for byte in places:
        for bit in range(8):
            bad = bytearray(good)
            bad[byte] ^= 1 << bit
            assert outcome(path, bytes(bad), few) != "silent", (byte, bit)


def test_truncation(path):
    save(path, samples(), meta=META)
    good = path.read_bytes()
    for length in [0, 1, len(good) - 1, *np.linspace(2, len(good) - 2, 40).astype(int)]:
        assert outcome(path, good[:length]) == "reported", length


def test_overwritten_and_exchanged_blocks(path):
    save(path, samples(), meta=META)
    good = path.read_bytes()
    for start in range(0, len(good) - 16, 16):
        for block in (bytes(16), b"\xff" * 16, good[start + 8 : start + 16] + good[start : start + 8]):
            assert outcome(path, good[:start] + block + good[start + 16 :]) != "silent"


def test_bytes_around_the_archive_change_nothing(path):
    save(path, samples(), meta=META)
    good = path.read_bytes()
    assert outcome(path, good + b"\n") == "identical"
    assert outcome(path, b"#!" + good) == "identical"


# ---- hostile files


def write_members(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name) if not options else name, data)


def header(arrays=("w",), **changes):
    return json.dumps({"format": "tinygrad_norm", "version": 1, "arrays": list(arrays), "meta": {}, **changes})


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


def bomb(shape, descr="<f4", data=b"\0" * 128):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


class Trap:
    def __reduce__(self):
        return exec, ("import builtins; builtins._trapped = True",)


HOSTILE = {
    "two tebibytes declared": [("meta.json", header()), ("w.npy", bomb((2**39,)))],
    "sizes that overflow": [("meta.json", header()), ("w.npy", bomb((2**32, 2**32)))],
    "sizes that overflow to nothing": [("meta.json", header()), ("w.npy", bomb((0, 2**62), data=b""))],
    "negative sizes": [("meta.json", header()), ("w.npy", bomb((-1, -32)))],
    "less data than declared": [("meta.json", header()), ("w.npy", bomb((33,)))],
    "more data than declared": [("meta.json", header()), ("w.npy", bomb((31,)))],
    "Python in the header": [("meta.json", header()), ("w.npy", bomb("(exit(), 2)"))],
    "an object array": [("meta.json", header()), ("w.npy", npy(np.array([Trap()], object)))],
    "an object dtype over plain bytes": [("meta.json", header()), ("w.npy", bomb((16,), "|O8"))],
    "a structured array": [("meta.json", header()), ("w.npy", npy(np.zeros(2, "f4,i4")))],
    "a complex array": [("meta.json", header()), ("w.npy", npy(np.zeros(2, complex)))],
    "a complex array of the right size": [("meta.json", header()), ("w.npy", bomb((16,), "<c8"))],
    "a bare pickle": [("meta.json", header()), ("w.npy", pickle.dumps(Trap()))],
    "a pickle as meta": [("meta.json", pickle.dumps(Trap())), ("w.npy", npy(np.ones(2)))],
    "an empty member": [("meta.json", header()), ("w.npy", b"")],
    "no meta": [("w.npy", npy(np.ones(2)))],
    "a member not listed": [("meta.json", header([])), ("w.npy", npy(np.ones(2)))],
    "a listed member missing": [("meta.json", header(["w", "v"])), ("w.npy", npy(np.ones(2)))],
    "another format": [("meta.json", header(format="other")), ("w.npy", npy(np.ones(2)))],
    "a later version": [("meta.json", header(version=2)), ("w.npy", npy(np.ones(2)))],
    "a name that climbs": [("meta.json", header(["../w"])), ("../w.npy", npy(np.ones(2)))],
    "names that are no list": [("meta.json", header(arrays=[], meta={}).replace("[]", "3"))],
    "meta that is no mapping": [("meta.json", header([], meta=[1]))],
    "JSON that is no mapping": [("meta.json", "[1, 2]")],
    "JSON of great depth": [("meta.json", "[" * 10**6)],
    "JSON cut short": [("meta.json", header()[:-3])],
    "JSON that is not UTF-8": [("meta.json", b"\xff\xfe{}")],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_members(path, case):
    write_members(path, HOSTILE[case])
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"is damaged or was not written by tinygrad_norm: ."):
            load_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24 + 4 * path.stat().st_size
    finally:
        tracemalloc.stop()
    assert not hasattr(builtins, "_trapped")


def test_the_trap_would_snap():
    try:
        pickle.loads(pickle.dumps(Trap()))
        assert builtins._trapped
    finally:
        del builtins._trapped


def test_the_message_says_what_is_wrong(path):
    write_members(path, HOSTILE["two tebibytes declared"])
    with pytest.raises(CheckpointError) as caught:
        load(path)
    for part in (str(path), "'w.npy'", "(549755813888,)", "2,199,023,255,552 bytes", "holds 128"):
        assert part in str(caught.value)


def test_compressed_members_are_refused(path):
    members = [("meta.json", header()), ("w.npy", npy(np.zeros(10**6)))]
    write_members(path, members, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**5
    with pytest.raises(CheckpointError, match=r"'meta\.json' is compressed"):
        load_arrays(path)


def test_too_little_memory_is_not_called_damage(path, monkeypatch):
    save(path, samples())

    def full(*args):
        raise MemoryError("no room")

    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(MemoryError, match="no room"):
        load_arrays(path)


def test_a_name_that_occurs_twice_is_refused(path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        write_members(path, [("meta.json", header()), ("w.npy", npy(np.ones(2))), ("w.npy", npy(np.zeros(2)))])
    with pytest.raises(CheckpointError, match="a member name occurs twice"):
        load_arrays(path)


def test_members_that_share_their_bytes_are_refused(path):
    data = npy(np.zeros(2**16))
    write_members(path, [("meta.json", header([f"w{i}" for i in range(50)])), ("w0.npy", data)])
    with zipfile.ZipFile(path) as archive:
        first = archive.infolist()[1]
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b" "  # marks the directory as changed, so that it is written anew
        for i in range(1, 50):
            twin = zipfile.ZipInfo(f"w{i}.npy")
            twin.CRC, twin.file_size, twin.compress_size = first.CRC, first.file_size, first.compress_size
            twin.header_offset = first.header_offset
            archive.filelist.append(twin)
    with pytest.raises(CheckpointError, match="claim more than the"):
        load_arrays(path)


def test_large_meta_is_refused_unread(path, monkeypatch):
    save(path, {}, meta={"a": "x" * 1000})
    monkeypatch.setattr(archive, "META_LIMIT", 500)
    with pytest.raises(CheckpointError, match="larger than 500 bytes"):
        load_arrays(path)


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + b"\0" * 18, b"PK\x05\x06" + b"\xff" * 18, b"\x93NUMPY"])
def test_files_of_another_kind(path, data):
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        load_arrays(path)


def test_plain_npz_is_told_where_to_go(path):
    np.savez(path, a=np.ones(2))
    with pytest.raises(CheckpointError, match=r"no member 'meta\.json'; numpy\.load reads a plain \.npz"):
        load(path)


# ---- a crash costs nothing


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    save(path, samples(0), meta=META)
    size = path.stat().st_size
    for room in range(0, size, size // 12):
        with monkeypatch.context() as patch:
            patch.setattr(replace, "open", lambda *a, room=room: FullDisk(*a, room=room), raising=False)
            with pytest.raises(OSError, match="No space left") as caught:
                save(path, samples(1), meta=META)
            assert caught.value.errno == errno.ENOSPC
        assert os.listdir(path.parent) == ["file.npz"]
    arrays, meta = load_arrays(path)
    same(arrays, samples(0))
    assert meta == META


class FullDisk(io.FileIO):
    """A file on a disk that has ``room`` bytes left."""

    def __init__(self, *args, room):
        super().__init__(*args)
        self.room = room

    def write(self, data):
        if self.tell() + memoryview(data).nbytes > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt(), MemoryError()])
def test_a_failure_at_any_step_leaves_the_old_file(path, monkeypatch, step, failure):
    save(path, samples(0))

    def fail(*args):
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(failure)):
            save(path, samples(1))
    assert os.listdir(path.parent) == ["file.npz"]
    same(load_arrays(path)[0], samples(0))


def test_a_bad_value_leaves_the_old_file(path):
    save(path, samples(0))
    with pytest.raises(TypeError):
        save(path, {"a": np.ones(3), "b": "text"})
    assert os.listdir(path.parent) == ["file.npz"]
    same(load_arrays(path)[0], samples(0))


def test_data_reach_the_disk_before_the_name(path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def noted(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("replace"), replace(a, b)))
    save(path, samples())
    assert steps == ["file", "replace", "folder"]


def test_a_folder_that_cannot_be_synced_is_no_failure(path, monkeypatch):
    fsync, failures = os.fsync, []

    def picky(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            failures.append(descriptor)
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", picky)
    save(path, samples())
    assert failures
    same(load_arrays(path)[0], samples())


def test_symbolic_links_and_permissions_stay(tmp_path):
    (tmp_path / "real").mkdir()
    save(tmp_path / "real" / "a.npz", samples(0))
    (tmp_path / "link.npz").symlink_to(tmp_path / "real" / "a.npz")
    save(tmp_path / "link.npz", samples(1))
    assert (tmp_path / "link.npz").is_symlink()
    same(load_arrays(tmp_path / "real" / "a.npz")[0], samples(1))
    (tmp_path / "plain").touch()
    assert (tmp_path / "real" / "a.npz").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_stale_temporaries_of_dead_processes_are_removed(tmp_path):
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead = tmp_path / f".tinygrad_norm-{int(child.stdout)}-00ff.tmp"
    alive = tmp_path / f".tinygrad_norm-{os.getppid()}-00ff.tmp"
    impossible = tmp_path / f".tinygrad_norm-{10**30}-00ff.tmp"
    others = [tmp_path / name for name in ("notes.tmp", ".tinygrad_norm-1x-00.tmp", ".other-1-00.tmp")]
    for file in (dead, alive, impossible, *others):
        file.write_bytes(b"x")
    save(tmp_path / "a.npz", {})
    assert not dead.exists() and not impossible.exists()
    assert alive.exists() and all(file.exists() for file in others)


LOOP = """
import sys, numpy as np
from tinygrad_norm.serialize import save
step = 0
while True:
    step += 1
    arrays = {f"a{i}": np.full(20000, step, np.float32) for i in range(5)}
    save(sys.argv[1], arrays, meta={"step": step})
    if step == 1:
        print("ready", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills with SIGKILL")
def test_kill_while_saving_in_a_loop(path):
    draw = np.random.default_rng(0)
    left_behind, latest = 0, 0
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", LOOP, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(draw.uniform(0.0, 0.06))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        left_behind += len(temporaries(path.parent))
        arrays, meta = load_arrays(path)
        latest = max(latest, meta["step"])
        assert list(arrays) == [f"a{i}" for i in range(5)]
        for array in arrays.values():
            assert array.shape == (20000,) and (array == meta["step"]).all()
        save(path.parent / "other.npz", {})
        assert temporaries(path.parent) == []
    assert latest > 1
