"""Fixtures for a user's own tests: write ``pytest_plugins = "tinygrad_norm.testing.fixtures"`` in conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest

from .gradcheck import gradcheck
from .report import Report


@pytest.fixture
def rng() -> numpy.random.Generator:
    """A random generator that starts anew, from the same seed, in every test."""
    return numpy.random.default_rng(0)


@pytest.fixture
def assert_gradients() -> Callable[..., Report]:
    """``assert_gradients(fn, *inputs, **options)``: first and second derivatives are right, or the test fails."""

    def check(fn: Callable[..., Any], *inputs: Any, **options: Any) -> Report:
        return gradcheck(fn, list(inputs), **{"order": 2, **options})

    return check
