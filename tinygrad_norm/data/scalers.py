"""Each feature scaled by itself: to a range, or to mean 0 and variance 1."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from .preprocessing import Preprocessing, constant, constant_and_mean


class MinMaxScaler(Preprocessing):
    """Each feature from its range in the training data to [a, b]: y = a (1 - s) + b s, s = (x - min) / (max - min).

    The smallest training value becomes a and the largest b, exactly. A feature that is constant in the training data
    becomes a there, and keeps its distances: 0 / 0 is replaced by s = x - min. Data that ``fit`` has not seen may leave
    [a, b], as far as they leave the training range, unless ``clip`` is set. One outlier squeezes all else together.

    Args:
        feature_range: (a, b), with a < b.
        clip: cut what leaves [a, b] off, in ``transform``; it has no inverse.

    Attributes:
        data_min_, data_max_: of each feature, once fitted.

    Raises:
        ValueError: a feature range that is none.

    >>> scaler = MinMaxScaler(feature_range=(-1, 1))
    >>> scaler.fit_transform(np.array([[1.0, 10.0], [2.0, 30.0], [5.0, 20.0]])).tolist()
    [[-1.0, -1.0], [-0.5, 1.0], [1.0, 0.0]]
    >>> scaler.transform(np.array([[7.0, 10.0]])).tolist()
    [[2.0, -1.0]]
    >>> scaler.inverse_transform(np.array([[2.0, -1.0]])).tolist()
    [[7.0, 10.0]]
    """

    state = ("data_min_", "data_max_")
    data_min_: np.ndarray
    data_max_: np.ndarray

    def __init__(self, feature_range: tuple[float, float] = (0, 1), clip: bool = False) -> None:
        try:
            a, b = map(float, feature_range)
        except (TypeError, ValueError):
            a = b = 0.0
        if not (a < b and isfinite(b - a)):
            raise ValueError(
                f"MinMaxScaler: feature_range must be two numbers (a, b) with a < b; got {feature_range!r}."
            )
        self.feature_range = (a, b)
        self.clip = bool(clip)

    def _options(self) -> str:
        return f"feature_range={self.feature_range}, clip={self.clip}"

    def _measure(self, x: np.ndarray) -> dict[str, np.ndarray]:
        low, high = x.min(axis=0), x.max(axis=0)
        if not np.isfinite(high - low).all():
            raise ValueError("MinMaxScaler.fit: max - min overflows float64; divide x by a constant first.")
        return {"data_min_": np.asarray(low), "data_max_": np.asarray(high)}

    def _span(self) -> np.ndarray:
        span = self.data_max_ - self.data_min_
        return np.where(span == 0, 1.0, span)

    def _forwards(self, x: Any) -> Any:
        a, b = self.feature_range
        share = (x - constant(self.data_min_, x)) / constant(self._span(), x)
        y = a * (1.0 - share) + b * share
        return y.clip(a, b) if self.clip else y

    def _backwards(self, y: Any) -> Any:
        a, b = self.feature_range
        return constant(self.data_min_, y) + (y - a) * constant(self._span() / (b - a), y)


class StandardScaler(Preprocessing):
    """The z-score of each feature: y = (x - mean) / std, with std = sqrt(1/N sum (x - mean)^2).

    The training data come out with mean 0 and (biased) variance 1, as a batch norm without parameters gives them for
    the whole set as one batch. A feature that is constant in the training data becomes 0, and its scale is 1.

    Attributes:
        mean_, scale_: of each feature, once fitted; ``scale_`` is the standard deviation, or 1 where that is 0.

    >>> scaler = StandardScaler()
    >>> scaler.fit_transform(np.array([[1.0, 7.0], [3.0, 7.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    >>> scaler.mean_, scaler.scale_
    (array([2., 7.]), array([1., 1.]))
    """

    state = ("mean_", "scale_")
    mean_: np.ndarray
    scale_: np.ndarray

    def _measure(self, x: np.ndarray) -> dict[str, np.ndarray]:
        same, mean = constant_and_mean(x)
        x -= mean
        largest = np.where(same, 1.0, np.abs(x).max(axis=0))
        x /= largest  # squares neither overflow nor vanish
        std = np.where(same, 1.0, largest * np.sqrt(np.square(x, out=x).mean(axis=0)))
        return {"mean_": mean, "scale_": std}

    def _forwards(self, x: Any) -> Any:
        return (x - constant(self.mean_, x)) / constant(self.scale_, x)

    def _backwards(self, y: Any) -> Any:
        return y * constant(self.scale_, y) + constant(self.mean_, y)
