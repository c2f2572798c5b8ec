"""Runs the rules of house.py on this package, and each on small planted sources that break it.

A rule that sees nothing would pass for a clean house; the planted sources show that every rule can fail.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from house import (
    CORE,
    LIGHT,
    NAME,
    circular_imports,
    forbidden_text,
    heavy_imports,
    hidden_imports,
    large_core,
    long_files,
    missing_docstrings,
    upward_imports,
)

ROOT = Path(__file__).resolve().parent.parent
RULES = [
    upward_imports,
    circular_imports,
    hidden_imports,
    heavy_imports,
    missing_docstrings,
    long_files,
    large_core,
]


# --- the package ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def package():
    folder = ROOT / NAME
    return {p.relative_to(folder).as_posix(): p.read_text("utf-8") for p in sorted(folder.rglob("*.py"))}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_package(rule, package):
    assert "__init__.py" in package
    assert not (complaints := list(rule(package))), "\n" + "\n".join(complaints)


def test_tracked_files_hold_no_forbidden_text():
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: nobody knows which files are tracked")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    contents = {p.relative_to(ROOT).as_posix(): p.read_bytes() for p in files if p.is_file()}
    texts = {name: data.decode("utf-8", "replace") for name, data in contents.items() if b"\0" not in data}
    assert "tests/test_house.py" in texts
    assert not (complaints := list(forbidden_text(texts))), "\n" + "\n".join(complaints)


def loaded_by(statement, cwd):
    """The packages a fresh interpreter holds after a statement and did not hold before it."""
    script = (
        "import sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "new = [m for n, m in sys.modules.items() if n not in before and getattr(m, '__spec__', None)]\n"
        "print(*{m.__spec__.name.split('.')[0] for m in new})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_loads_numpy_and_nothing_heavier():
    loaded = loaded_by(f"import {NAME}", ROOT)
    assert {NAME, "numpy"} <= loaded <= LIGHT


def test_a_heavy_import_is_seen(tmp_path):
    (tmp_path / "heavy_thing.py").write_text("")
    assert loaded_by("import numpy, heavy_thing", tmp_path) - LIGHT == {"heavy_thing"}


def test_the_checkout_is_what_is_tested():
    module = pytest.importorskip(NAME)
    assert Path(module.__file__).parent == ROOT / NAME


# --- every rule can fail --------------------------------------------------------------------------

DOC = '"""Says what it is."""\n'
CORE_FILES = {pattern.replace("*", "tensor"): "x = 1\n" for pattern in CORE}
OP = 'class Relu(Op):\n    """max(x, 0)."""\n'

BROKEN = [
    # who imports whom
    (upward_imports, {"backend/a.py": "from ..engine import Tensor"}, "backend may not import engine"),
    (upward_imports, {"engine/a.py": "from .. import ops"}, "engine may not import ops"),
    (upward_imports, {"nn/a.py": "from tinygrad_norm.optim import SGD"}, "nn may not import optim"),
    (upward_imports, {"nn/a.py": "import tinygrad_norm.data.digits as d"}, "nn may not import data"),
    (upward_imports, {"functional.py": "from .serialize import save"}, "functional may not import serialize"),
    (upward_imports, {"serialize.py": "from . import functional"}, "serialize may not import functional"),
    (upward_imports, {"viz/a.py": "from ..train.history import History"}, "viz may not import train"),
    (upward_imports, {"ops/a.py": "from .. import no_grad"}, "ops may not import tinygrad_norm"),
    (upward_imports, {"lab/a.py": "import tinygrad_norm as tn"}, "lab may not import tinygrad_norm"),
    (upward_imports, {"__init__.py": "from .cli import main"}, "tinygrad_norm may not import cli"),
    (upward_imports, {"nn/a/b.py": "from ...lab import x"}, "nn may not import lab"),
    (upward_imports, {"nn/a.py": "def f():\n    from ..train import x"}, "nn may not import train"),
    (upward_imports, {"nn/a.py": "if TYPE_CHECKING:\n    from ..train import x"}, "nn may not import train"),
    (upward_imports, {"nn/a.py": "m = import_module('tinygrad_norm.train')"}, "nn may not import train"),
    (upward_imports, {"attic.py": ""}, "'attic' is not a room"),
    (circular_imports, {"nn/a.py": "from .b import x", "nn/b.py": "from . import a"}, "nn.a"),
    (circular_imports, {"nn/__init__.py": "from .a import x", "nn/a.py": "from . import y"}, "nn.a"),
    (circular_imports, {"nn/a.py": "import tinygrad_norm.nn.a"}, "nn.a"),
    (
        hidden_imports,
        {"nn/a.py": "def f():\n    from ..ops import exp"},
        "nn/a.py:2: the import of ops is hidden",
    ),
    (hidden_imports, {"nn/a.py": "class A:\n    async def f(self):\n        import tinygrad_norm"}, "hidden"),
    (
        hidden_imports,
        {"nn/a.py": "def f():\n    return import_module('.ops')"},
        "the import of ops is hidden",
    ),
    # heavy imports
    (
        heavy_imports,
        {"viz/a.py": "import matplotlib.pyplot as plt"},
        "matplotlib is imported at module level",
    ),
    (
        heavy_imports,
        {"nn/a.py": "try:\n    from scipy import special\nexcept ImportError:\n    pass"},
        "scipy",
    ),
    (heavy_imports, {"nn/a.py": "if TYPE_CHECKING:\n    pass\nelse:\n    import torch"}, "torch"),
    (heavy_imports, {"nn/a.py": "class A:\n    import cupy"}, "cupy"),
    (heavy_imports, {"testing/a.py": "import pytest"}, "pytest"),
    # docstrings
    (missing_docstrings, {"nn/a.py": "def f(): pass"}, "nn/a.py:1: f has no docstring"),
    (missing_docstrings, {"nn/a.py": "class A: pass"}, "A has no docstring"),
    (missing_docstrings, {"nn/a.py": f"class A:\n    {DOC}\n    def f(self): pass"}, "A.f has no docstring"),
    (
        missing_docstrings,
        {"nn/a.py": f"class A(B):\n    {DOC}\n    def f(self): pass"},
        "A.f has no docstring",
    ),
    (missing_docstrings, {"ops/a.py": OP + "    def helper(x): pass"}, "Relu.helper has no docstring"),
    (missing_docstrings, {"nn/a.py": OP + "    def forward(xp, x): pass"}, "Relu.forward has no docstring"),
    (missing_docstrings, {"ops/a.py": "def forward(xp, x): pass"}, "forward has no docstring"),
    # budgets
    (long_files, {"nn/a.py": "x = 1\n" * 301}, "301 code lines"),
    (long_files, {"nn/a.py": "x = '''\n" + "a\n" * 299 + "'''"}, "301 code lines"),
    (large_core, {**CORE_FILES, "engine/b.py": "x = 1\n" * 1194}, "the core has 1201 code lines"),
    (large_core, {p: t for p, t in CORE_FILES.items() if p != "nn/module.py"}, "nn/module.py: this part"),
    # forbidden text
    (forbidden_text, {"a.md": "see /" + "work/notes"}, "a path of one machine"),
    (forbidden_text, {"a.py": "open('/" + "tmp/x')"}, "a path of one machine"),
    (forbidden_text, {"a.cfg": "home = /" + "root"}, "a path of one machine"),
    (forbidden_text, {"a.md": "https://" + "py" + "pi" + ".org/simple"}, "a package index"),
    (forbidden_text, {"a.sh": "pip install --" + "index" + "-" + "url x"}, "a package index"),
]

CLEAN = [
    (
        upward_imports,
        {"nn/a.py": "from ..engine import Tensor\nfrom .. import functional as F\nimport numpy"},
    ),
    (upward_imports, {"cli.py": "from . import __version__, lab", "__main__.py": "from .cli import main"}),
    (circular_imports, {"nn/__init__.py": "from .a import x", "nn/a.py": "from .b import y", "nn/b.py": ""}),
    (circular_imports, {"nn/a.py": "if TYPE_CHECKING:\n    from .b import x", "nn/b.py": "from .a import y"}),
    (hidden_imports, {"viz/a.py": "def f():\n    import matplotlib"}),
    (heavy_imports, {"viz/a.py": "import numpy, math\ndef f():\n    import matplotlib"}),
    (heavy_imports, {"viz/a.py": "if TYPE_CHECKING:\n    from matplotlib.axes import Axes"}),
    (heavy_imports, {"testing/fixtures.py": "import pytest"}),
    (missing_docstrings, {"nn/a.py": f"def _f(): pass\ndef f():\n    {DOC}    def inner(): pass"}),
    (missing_docstrings, {"ops/a.py": OP + "    def forward(xp, x): pass\n    def slope(xp, g, y, x): pass"}),
    (
        missing_docstrings,
        {
            "nn/a.py": f"class A:\n    {DOC}\n    def f(self):\n        {DOC}",
            "nn/b.py": f"class B(a.A):\n    {DOC}\n    def f(self): pass",
        },
    ),
    (long_files, {"nn/a.py": '"""Doc\n\nmore."""\n# comment\n\n' + "x = 1  # why\n" * 300}),
    (long_files, {"nn/a.py": f"def f():\n    {DOC}" + '    """more\n' + "text\n" * 300 + '"""'}),
    (large_core, {**CORE_FILES, "engine/b.py": "x = 1\n" * 1193, "nn/linear.py": "x = 1\n" * 99}),
    (forbidden_text, {"a.md": "a/" + "work/b, ../" + "tmp/x, https://host/" + "root, n /" + "tmpfs"}),
]


@pytest.mark.parametrize("rule, sources, complaint", BROKEN)
def test_a_rule_sees_what_breaks_it(rule, sources, complaint):
    complaints = list(rule(sources))
    assert any(complaint in c for c in complaints), complaints


@pytest.mark.parametrize("rule, sources", CLEAN)
def test_a_rule_passes_what_is_right(rule, sources):
    assert list(rule(sources)) == []
