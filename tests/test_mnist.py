"""MNIST: files made here, in a cache or behind a server of this machine; nothing comes from outside."""

import gzip
import hashlib
import importlib
import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import data

pytest.importorskip("pooch", reason="pooch is not installed")
mnist = importlib.import_module("tinygrad_norm.data.mnist")  # data.mnist is the function

NOWHERE = "http://127.0.0.1:9/"  # the port of the discard service: the connection is refused
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2], np.uint8)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes(), mtime=0)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.served.append(self.path)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The four files in a folder, known by their checksums; no server has them."""
    folder = tmp_path / "files"
    folder.mkdir()
    for part, rows in (("TRAIN", slice(None)), ("TEST", slice(0, 3))):
        known = getattr(mnist, part)
        for name, array in zip(known, (IMAGES[rows], LABELS[rows])):
            (folder / name).write_bytes(idx(array))
            monkeypatch.setitem(known, name, hashlib.sha256(idx(array)).hexdigest())
    monkeypatch.setattr(mnist, "MIRRORS", (NOWHERE,))
    monkeypatch.delenv("TINYGRAD_NORM_DATA", raising=False)
    return folder


@pytest.fixture
def server(files, monkeypatch):
    """A server of this machine that has the files; the mirror before it is down."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=files)) as server:
        server.served = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(mnist, "MIRRORS", (NOWHERE, f"http://127.0.0.1:{server.server_port}/"))
        yield server
        server.shutdown()


def test_from_the_cache(files):
    x, y = data.mnist(cache=files)
    assert (x.shape, x.dtype, y.dtype) == ((7, 784), np.float32, np.int64)
    assert np.array_equal(x.numpy(), IMAGES.reshape(7, 784).astype(np.float32) / 255)
    assert y.tolist() == LABELS.tolist()
    x, y = data.mnist(train=False, cache=files)
    assert (x.shape, y.tolist()) == ((3, 784), [3, 1, 4])


def test_the_cache_may_be_named_by_the_environment(files, monkeypatch):
    monkeypatch.setenv("TINYGRAD_NORM_DATA", str(files))
    assert data.mnist()[0].shape == (7, 784)


@pytest.mark.parametrize("order", [1, -1])
def test_downloaded_once_and_from_the_mirror_that_works(server, tmp_path, monkeypatch, order):
    monkeypatch.setattr(mnist, "MIRRORS", mnist.MIRRORS[::order])
    for _ in range(2):
        x, y = data.mnist(cache=tmp_path / "cache")
        assert (x.shape, y.tolist()) == ((7, 784), LABELS.tolist())
    assert server.served == [f"/{name}" for name in mnist.TRAIN]


def test_a_damaged_file_in_the_cache_is_fetched_anew(server, files, tmp_path):
    cache = shutil.copytree(files, tmp_path / "cache")
    name = "train-labels-idx1-ubyte.gz"
    (cache / name).write_bytes(b"damaged")
    assert data.mnist(cache=cache)[1].tolist() == LABELS.tolist()
    assert server.served == [f"/{name}"]


def test_a_wrong_checksum_is_refused(server, files, tmp_path):
    (files / "train-labels-idx1-ubyte.gz").write_bytes(idx(LABELS + 1))
    with pytest.raises(ConnectionError, match=r"train-labels(.|\n)*hash of downloaded file(.|\n)*does not match"):
        data.mnist(cache=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["train-images-idx3-ubyte.gz"]


def test_offline_says_what_is_missing_where_and_what_to_do(files, tmp_path):
    (files / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ConnectionError) as caught:
        data.mnist(train=False, cache=files)
    first, tried, advice = str(caught.value).splitlines()
    assert first == f"mnist: t10k-labels-idx1-ubyte.gz is not in the cache, {files}, and could not be downloaded:"
    assert tried.startswith(f"  {NOWHERE}t10k-labels-idx1-ubyte.gz: ")
    assert advice == "Try again when this machine is online, or put the file into that folder yourself."


def test_a_missing_pooch_is_named(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r'pooch is not installed; write pip install "tinygrad_norm\[data\]"'):
        data.mnist(cache=files)


def test_on_the_default_device_and_ready_for_training(files, backend):
    x, y = data.mnist(cache=files)
    assert x.device == y.device == tn.get_default_device()
    (batch, labels) = next(iter(data.DataLoader(data.TensorDataset(x, y), batch_size=4)))
    assert (batch.shape, labels.shape) == ((4, 784), (4,))


@pytest.mark.parametrize(
    "content", [b"\0\0\x08\x01\0\0\0\x02a", b"\0\0\x0d\x01\0\0\0\x01a", b"\0\0\x08\x01\0\0\0\x01ab"]
)
def test_what_is_no_idx_file_is_refused(tmp_path, content):
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=r"a\.gz is no IDX file of bytes: it begins with"):
        mnist.parsed(tmp_path / "a.gz")
