"""Options and fixtures every test may use."""

import signal
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import strict_cupy

import tinygrad_norm as tn
from promises import pytest_configure  # noqa: F401 -- a hook
from tinygrad_norm import cli
from tinygrad_norm.backend import DEVICES, register_backend
from tinygrad_norm.backend.gpu import GPU

ROOT = Path(__file__).resolve().parent.parent

# Docstring examples under these folders draw pictures, so they need an extra that plain `.[test]` leaves out.
DRAWS = (ROOT / "tinygrad_norm" / "viz", ROOT / "tinygrad_norm" / "lab")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    text = "the device under test: cpu (default), cuda, or strict, a stand-in for CuPy that needs no GPU"
    parser.addoption("--backend", default="cpu", help=text)
    text = "the first of the 20,000 seeds of test_many_random_graphs; a failure names its own"
    parser.addoption("--fuzz-seed", type=int, default=10_000, help=text)
    parser.addoption("--write-errors", action="store_true", help="write the texts of errors.md anew")
    parser.addoption("--write-promises", action="store_true", help="with -m promises: write docs/reliability.md anew")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--backend") != "cpu":  # the other tests are about the CPU, or about no device
        chosen = [item for item in items if {"backend", "gpu"} & {*getattr(item, "fixturenames", ())}]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen
    if find_spec("matplotlib"):
        return
    skip = pytest.mark.skip(reason="matplotlib is not installed")
    for item in items:
        if isinstance(item, pytest.DoctestItem) and any(folder in item.path.parents for folder in DRAWS):
            item.add_marker(skip)


@pytest.fixture
def measured(record_property):
    """Note an error that a test measures, and give it back; the table of promises shows the largest of each name."""

    def note(what, error):
        record_property("worst", (what, float(error)))
        return error

    return note


@pytest.fixture
def backend(request):
    """The device given with --backend; tensors are made there during the test."""
    name = request.config.getoption("--backend")
    with on_device(name) as name:
        yield name


@pytest.fixture
def gpu(request):
    """The GPU under test: the stand-in or, with --backend cuda, a real one. Tensors are made there during the test."""
    name = request.config.getoption("--backend")
    with on_device("strict" if name == "cpu" else name) as name:
        yield name


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the command in an empty folder; gives its status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        try:
            status = cli.main([str(a) for a in arguments])
        except SystemExit as leaving:
            status = leaving.code
        return status, *capsys.readouterr()

    return call


@contextmanager
def on_device(name):
    """A block in which ``name`` is the default device; the stand-in is made known when it is first asked for."""
    if name == "strict" and name not in DEVICES:
        register_backend(GPU(strict_cupy.MODULE, "strict"))
    tn.set_default_device(name)
    try:
        yield name
    finally:
        tn.set_default_device("cpu")
