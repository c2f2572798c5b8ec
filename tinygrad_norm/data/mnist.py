"""MNIST: 70,000 images of digits, downloaded once (extra ``data``)."""

from __future__ import annotations

import gzip
import os
from math import prod
from pathlib import Path

import numpy as np

from ..engine import Tensor
from ..ops.create import tensor

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

TRAIN = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
}
TEST = {
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
"""The files, images first, and their SHA-256."""


def mnist(train: bool = True, cache: str | os.PathLike[str] | None = None) -> tuple[Tensor, Tensor]:
    """Handwritten digits: 60,000 images of 28 x 28 pixels for training, or 10,000 for testing, and their labels.

    The set of Y. LeCun, C. Cortes and C. Burges, 1998. The first call downloads the compressed files, 10 MB for
    training and 2 MB for testing; later calls read them from the cache. Their checksums are compared each time, and a
    damaged file is fetched anew.

    Args:
        train: the training part, or (False) the test part.
        cache: the folder of the downloaded files; None: the environment variable TINYGRAD_NORM_DATA, or else the
            folder that the operating system has for caches.

    Returns:
        ``(x, y)`` on the default device: x of shape (N, 784), float32, the pixels divided by 255; y of shape (N,),
        int64, the digits 0 to 9. ``x.reshape(-1, 28, 28)`` are the pictures.

    Raises:
        ImportError: pooch, which downloads and compares, is not installed.
        ConnectionError: a file is not in the cache, and no server gave it.

    >>> x, y = mnist()  # doctest: +SKIP
    >>> x.shape, y.shape  # doctest: +SKIP
    ((60000, 784), (60000,))
    """
    images, labels = (parsed(file) for file in fetched(TRAIN if train else TEST, cache))
    return tensor(images.reshape(len(images), -1).astype(np.float32) / 255), tensor(labels.astype(np.int64))


def fetched(files: dict[str, str], cache: str | os.PathLike[str] | None) -> list[Path]:
    """The files in the cache, downloaded where they are missing or damaged.

    Args:
        files: names and SHA-256.
        cache: as for ``mnist``.

    Raises:
        ImportError: pooch is not installed.
        ConnectionError: no mirror gave a file that is right.
    """
    try:
        import pooch
    except ImportError as error:
        raise ImportError('data.mnist: pooch is not installed; write pip install "tinygrad_norm[data]"') from error
    folder = Path(cache or os.environ.get("TINYGRAD_NORM_DATA") or pooch.os_cache("tinygrad_norm"))
    paths = []
    for name, digest in files.items():
        reasons = []
        for mirror in MIRRORS:
            try:
                paths.append(Path(pooch.retrieve(mirror + name, f"sha256:{digest}", fname=name, path=folder)))
                break
            except (OSError, ValueError) as error:  # no network, no such file there, or the wrong checksum
                reasons.append(f"  {mirror}{name}: {error}")
        else:
            raise ConnectionError(
                "\n".join([f"mnist: {name} is not in the cache, {folder}, and could not be downloaded:", *reasons])
                + "\nTry again when this machine is online, or put the file into that folder yourself."
            )
    return paths


def parsed(path: Path) -> np.ndarray:
    """The array in a compressed IDX file of unsigned bytes: two zeros, type, dimensions, sizes, values.

    Raises:
        ValueError: it is none.
    """
    content = gzip.decompress(path.read_bytes())
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    if content[:3] != b"\0\0\x08" or len(content) != start + prod(shape):
        raise ValueError(
            f"mnist: {path} is no IDX file of bytes: it begins with {content[:4]!r}, {len(content)} bytes."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
