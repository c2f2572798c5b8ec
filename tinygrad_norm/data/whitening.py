"""All features together: decorrelated, each direction of variance 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.tensor import describe
from .preprocessing import Preprocessing, Shape, constant, constant_and_mean


class Whitening(Preprocessing):
    """What PCA and ZCA whitening have in common: the principal axes of the data."""

    state = ("mean_", "components_", "explained_variance_")
    mean_: np.ndarray
    components_: np.ndarray
    explained_variance_: np.ndarray

    def __init__(self, eps: float = 0.0) -> None:
        if not isinstance(eps, int | float) or not 0 <= eps < float("inf"):
            raise ValueError(f"{self._name}: eps must be a finite number of at least 0; got {eps!r}.")
        self.eps = float(eps)

    def _options(self) -> str:
        return f"eps={self.eps:g}"

    def _check(self, x: Any, method: str) -> None:
        super()._check(x, method)
        if x.ndim != 2:
            raise ValueError(
                f"{self._name}.{method}: x must have shape (N, D); got {describe(x)}; write x.reshape(len(x), -1)."
            )

    def _shapes(self, features: Shape) -> dict[str, Shape]:
        return {"mean_": features, "components_": features + features, "explained_variance_": features}

    def _measure(self, x: np.ndarray) -> dict[str, np.ndarray]:
        n, features = x.shape
        _, mean = constant_and_mean(x)
        x -= mean
        # Not from the covariance, whose condition number is the square of the data's.
        triangle = np.linalg.qr(x, mode="r")
        if not np.isfinite(triangle).all():
            raise ValueError(f"{self._name}.fit: x overflows float64; divide it by a constant first.")
        _, lengths, axes = np.linalg.svd(triangle)
        lengths[lengths <= lengths[:1] * max(n, features) * np.finfo(np.float64).eps] = 0.0  # rounding, not variance
        variance = np.zeros(features)
        variance[: len(lengths)] = lengths**2 / n
        largest = np.abs(axes).argmax(axis=1)
        axes *= np.sign(axes[np.arange(features), largest])[:, None]
        return {"mean_": mean, "components_": axes, "explained_variance_": variance}

    def _std(self) -> np.ndarray:
        return np.sqrt(self.explained_variance_ + self.eps)

    def _scores(self, x: Any) -> Any:
        std = self._std()
        root = np.where(std == 0, 0.0, 1.0 / np.where(std == 0, 1.0, std))
        return (x - constant(self.mean_, x)) @ constant(self.components_.T * root, x)


class PCAWhitening(Whitening):
    """Data in their principal axes, each of variance 1: y = (x - mean) V^T diag(1 / sqrt(l + eps)).

    The rows of V are the eigenvectors of the covariance 1/N sum (x - mean)(x - mean)^T and l its eigenvalues, largest
    first. The covariance of y is diag(l / (l + eps)), at ``eps=0`` the identity. An axis is determined up to its sign:
    here the largest entry by magnitude is positive, as in scikit-learn. That divides by N - 1 where N stands here:
    its ``PCA(whiten=True)`` gives sqrt((N - 1) / N) times this y.

    Args:
        eps: added to the eigenvalues, so that directions of almost no variance, which are noise, are not blown up to
            variance 1. At 0, directions without any variance (to rounding) give 0, and the inverse puts their mean.

    Attributes:
        mean_: (D,), once fitted.
        components_: (D, D), the rows of V.
        explained_variance_: (D,), l.

    Raises:
        ValueError: a negative eps.

    >>> x = np.array([[3.0, 1.0], [1.0, 3.0], [-1.0, -3.0], [-3.0, -1.0]])
    >>> whitening = PCAWhitening()
    >>> y = whitening.fit_transform(x)
    >>> whitening.explained_variance_.round(12).tolist(), (y.T @ y / 4).round(12).tolist()
    ([8.0, 2.0], [[1.0, 0.0], [0.0, 1.0]])
    >>> np.allclose(whitening.inverse_transform(y), x)
    True
    """

    def _forwards(self, x: Any) -> Any:
        return self._scores(x)

    def _backwards(self, y: Any) -> Any:
        return y @ constant(self._std()[:, None] * self.components_, y) + constant(self.mean_, y)


class ZCAWhitening(Whitening):
    """Data decorrelated with the least change: y = (x - mean) (C + eps I)^(-1/2), C the covariance.

    The principal axes of :class:`PCAWhitening`, scaled to variance 1 and turned back, so that every feature stays next
    to what it was (Bell, Sejnowski 1997): images stay images. The covariance of y has eigenvalues l / (l + eps) where
    C = 1/N sum (x - mean)(x - mean)^T has l. Of all y with the identity as covariance, this one is nearest to x - mean.

    Args, Attributes, Raises: as in :class:`PCAWhitening`.

    >>> x = np.array([[3.0, 1.0], [1.0, 3.0], [-1.0, -3.0], [-3.0, -1.0]])
    >>> y = ZCAWhitening().fit_transform(x)
    >>> np.abs(y.round(3)).tolist(), (y.T @ y / 4).round(12).tolist()
    ([[1.414, 0.0], [0.0, 1.414], [0.0, 1.414], [1.414, 0.0]], [[1.0, 0.0], [0.0, 1.0]])
    """

    def _forwards(self, x: Any) -> Any:
        return self._scores(x) @ constant(self.components_, x)

    def _backwards(self, y: Any) -> Any:
        axes = self.components_
        return y @ constant((axes.T * self._std()) @ axes, y) + constant(self.mean_, y)
