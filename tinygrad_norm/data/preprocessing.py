"""Preprocessing in scikit-learn's form: the features of a data set scaled, standardized or whitened, and back.

Each class measures the training data in ``fit`` and applies what it measured to any data of the same features. All of
it is computed in float64 and rounded once to the dtype of the result, so large means cost no digits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import isfinite
from typing import Any, ClassVar, Self

import numpy as np

from ..backend import BACKENDS, FLOATS
from ..engine import Tensor, get_default_dtype
from ..engine.tensor import describe
from ..ops.create import tensor
from .common import to_host

Shape = tuple[int, ...]


class Preprocessing(ABC):
    """What the four have in common; use MinMaxScaler, StandardScaler, PCAWhitening or ZCAWhitening.

    Data are Tensors or NumPy arrays of shape (N, ...): N samples, and the features behind. What comes back is of the
    same kind, shape and floating dtype; integers become float64 arrays, or Tensors of the default dtype. A Tensor's
    gradient flows through ``transform`` and ``inverse_transform``, in which what was measured is constant.
    """

    state: ClassVar[tuple[str, ...]]

    def fit(self, x: Any) -> Self:
        """Measure the features of ``x``, in place of what was measured before.

        Args:
            x: a Tensor or an array of shape (N, ...) with N at least 1.

        Returns:
            This object.

        Raises:
            TypeError: neither a Tensor nor an array, or not of numbers.
            ValueError: no samples, NaN or infinity among the values, or values so large that float64 overflows.
        """
        self._check(x, "fit")
        with np.errstate(over="ignore", invalid="ignore"):
            measured = self._measure(to_host(x).astype(np.float64))
        for name, value in measured.items():
            if not np.isfinite(value).all():
                raise ValueError(f"{self._name}.fit: {name} overflows float64; divide x by a constant first.")
        self._accept(measured)
        return self

    def transform(self, x: Any) -> Any:
        """The data in the new scale; nothing is measured.

        Args:
            x: a Tensor or an array of shape (N, ...) with the features of ``fit``.

        Returns:
            The same kind and shape.

        Raises:
            RuntimeError: ``fit`` was not called.
            TypeError: neither a Tensor nor an array, or not of numbers.
            ValueError: other features than in ``fit``, NaN or infinity.
        """
        return self._applied("transform", self._forwards, x)

    def inverse_transform(self, y: Any) -> Any:
        """The data in their old scale again: ``inverse_transform(transform(x))`` is x, up to what was left out.

        Args, Returns, Raises: as ``transform``.
        """
        return self._applied("inverse_transform", self._backwards, y)

    def fit_transform(self, x: Any) -> Any:
        """``fit(x).transform(x)``."""
        return self.fit(x).transform(x)

    def state_dict(self) -> dict[str, Tensor]:
        """What ``fit`` measured, by name, as float64 Tensors on the host, for ``tn.save``; options are not in it.

        Raises:
            RuntimeError: ``fit`` was not called.
        """
        self._check_fitted("state_dict")
        return {name: tensor(getattr(self, name), device="cpu") for name in self.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what another object of this class measured; options stay those of this one.

        Args:
            state: what ``state_dict`` gave, or ``tn.load``.

        Raises:
            ValueError: other names, shapes that do not belong together, NaN or infinity; nothing was loaded.
        """
        if not isinstance(state, Mapping) or set(state) != set(self.state):
            raise ValueError(
                f"{self._name}.load_state_dict: needs a mapping with the names {', '.join(self.state)}; got "
                f"{', '.join(map(str, state)) if isinstance(state, Mapping) else describe(state)}."
            )
        values = {name: to_host(state[name]).astype(np.float64) for name in self.state}
        expected = self._shapes(values[self.state[0]].shape)
        for name, value in values.items():
            if value.shape != expected[name] or not np.isfinite(value).all():
                raise ValueError(
                    f"{self._name}.load_state_dict: {name} must be finite and of shape {expected[name]}, beside "
                    f"{self.state[0]} of shape {values[self.state[0]].shape}; got {describe(value)}."
                )
        self._accept(values)

    # ---- what a subclass writes; its arguments are float64, arrays or Tensors

    @abstractmethod
    def _measure(self, x: np.ndarray) -> dict[str, np.ndarray]: ...

    @abstractmethod
    def _forwards(self, x: Any) -> Any: ...

    @abstractmethod
    def _backwards(self, y: Any) -> Any: ...

    def _shapes(self, features: Shape) -> dict[str, Shape]:
        return dict.fromkeys(self.state, features)

    def _options(self) -> str:
        return ""

    # ---- the machinery

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        return f"{self._name}({self._options()})"

    def _accept(self, values: dict[str, np.ndarray]) -> None:
        for name, value in values.items():
            value.flags.writeable = False  # a slip such as scaler.mean_ += 1 is an error
            setattr(self, name, value)

    def _applied(self, method: str, rule: Any, x: Any) -> Any:
        self._check_fitted(method)
        self._check(x, method)
        features = getattr(self, self.state[0]).shape
        if x.shape[1:] != features:
            raise ValueError(
                f"{self._name}.{method}: x must have the shape (N, *{features}) of the data given to fit; got "
                f"{describe(x)}."
            )
        integers = get_default_dtype() if isinstance(x, Tensor) else np.float64
        return rule(x.astype("float64")).astype(x.dtype if x.dtype in FLOATS else integers)

    def _check_fitted(self, method: str) -> None:
        if not hasattr(self, self.state[0]):
            raise RuntimeError(f"{self._name}.{method}: nothing was measured yet; call fit(x) first.")

    def _check(self, x: Any, method: str) -> None:
        if not isinstance(x, Tensor | np.ndarray):
            raise TypeError(f"{self._name}.{method}: x must be a Tensor or a NumPy array; got {describe(x)}.")
        if x.dtype.kind not in "biuf":
            raise TypeError(f"{self._name}.{method}: x must hold real numbers; got {describe(x)}.")
        if x.ndim == 0 or (method == "fit" and len(x) == 0):
            raise ValueError(f"{self._name}.{method}: x must have shape (N, ...), a row per sample; got {describe(x)}.")
        raw = x._data if isinstance(x, Tensor) else x
        finite = BACKENDS.get(type(raw), np).isfinite(raw)  # a subclass of ndarray, such as memmap, is no key
        if not finite.all():
            where = np.argwhere(~to_host(tensor(finite)))[0].tolist()
            raise ValueError(
                f"{self._name}.{method}: x must be finite; got {to_host(x)[tuple(where)]} at position {tuple(where)} "
                f"of {describe(x)}; drop such rows, or put a value in its place."
            )


def constant(value: np.ndarray, x: Any) -> Any:
    """An array of ``fit`` beside ``x``: as it is, or a Tensor on the device of the Tensor ``x``.

    >>> constant(np.ones(2), np.zeros(2))
    array([1., 1.])
    """
    return tensor(value, device=x.device) if isinstance(x, Tensor) else value


def constant_and_mean(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which features are constant, and the means: of a constant, exactly that. (A sum of equal numbers is rounded.)

    >>> constant_and_mean(np.array([[1.0, 0.1], [2.0, 0.1], [6.0, 0.1]]))
    (array([False,  True]), array([3. , 0.1]))
    """
    same = (x == x[0]).all(axis=0)
    return same, np.where(same, x[0], x.mean(axis=0))


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
        if not np.isfinite(x).all():
            raise ValueError(f"{self._name}.fit: x overflows float64; divide it by a constant first.")
        # Not from the covariance, whose condition number is the square of the data's.
        _, lengths, axes = np.linalg.svd(np.linalg.qr(x, mode="r"))
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
