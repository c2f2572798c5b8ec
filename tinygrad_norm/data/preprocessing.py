"""Preprocessing in scikit-learn's form: the features of a data set scaled, standardized or whitened, and back.

Each class measures the training data in ``fit`` and applies what it measured to any data of the same features. All of
it is computed in float64 and rounded once to the dtype of the result, so large means cost no digits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
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
                f"{self._name}.{method}: x must have shape (N, {', '.join(map(str, features))}), as the data given to "
                f"fit; got {describe(x)}."
            )
        integers = get_default_dtype() if isinstance(x, Tensor) else np.float64
        return rule(x.astype("float64")).astype(x.dtype if x.dtype in FLOATS else integers)

    def _check_fitted(self, method: str) -> None:
        if not hasattr(self, self.state[0]):
            raise RuntimeError(f"{self._name}.{method}: nothing was measured yet; call fit(x) first.")

    def _check(self, x: Any, method: str) -> None:
        if not isinstance(x, Tensor | np.ndarray):
            raise TypeError(
                f"{self._name}.{method}: x must be a Tensor or a NumPy array; got {describe(x)}; write np.array(...)."
            )
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
