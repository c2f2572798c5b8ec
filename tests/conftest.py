"""Options and fixtures every test may use."""

from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Docstring examples under these folders draw pictures, so they need an extra that plain `.[test]` leaves out.
DRAWS = (ROOT / "tinygrad_norm" / "viz", ROOT / "tinygrad_norm" / "lab")


def pytest_addoption(parser):
    parser.addoption("--backend", default="cpu", help="the backend under test (default: cpu)")


def pytest_collection_modifyitems(items):
    if find_spec("matplotlib"):
        return
    skip = pytest.mark.skip(reason="matplotlib is not installed")
    for item in items:
        if isinstance(item, pytest.DoctestItem) and any(folder in item.path.parents for folder in DRAWS):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def backend(request):
    """The name given with --backend."""
    return request.config.getoption("--backend")
