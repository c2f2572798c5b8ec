"""The digits: 1,797 real images that come with the package, enough to see a normalization work in seconds."""

from __future__ import annotations

from importlib import resources

import numpy as np

from ..engine import Tensor
from ..ops.create import tensor


def digits() -> tuple[Tensor, Tensor]:
    """Handwritten digits of 13 people: 1,797 images of 8 x 8 pixels, and the digit that each one shows.

    It is the test part of the "Optical Recognition of Handwritten Digits" data (E. Alpaydin and C. Kaynak,
    UCI Machine Learning Repository, 1998, doi 10.24432/C50P49, CC BY 4.0). A pixel counts the inked dots of a
    block of 4 x 4.

    Returns:
        ``(x, y)`` on the default device: x of shape (1797, 64), float32, the counts 0 to 16 divided by 16; y
        of shape (1797,), int64, the digits 0 to 9. ``x.reshape(-1, 8, 8)`` are the pictures.

    >>> x, y = digits()
    >>> x.shape, float(x.max()), np.bincount(y.numpy()).tolist()
    ((1797, 64), 1.0, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    """
    with (resources.files(__package__) / "digits.npz").open("rb") as file, np.load(file) as archive:
        images, labels = archive["images"], archive["labels"]
    return tensor(images.reshape(-1, 64).astype(np.float32) / 16), tensor(labels.astype(np.int64))
