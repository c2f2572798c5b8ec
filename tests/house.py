"""The rules of the house, read from the syntax trees: who imports whom, docstrings, budgets, forbidden text.

Every rule is a function from the package's sources, {"nn/linear.py": text}, to its complaints.
test_house.py runs them on this package.
"""

import ast
import io
import re
import sys
import tokenize
from fnmatch import fnmatch
from functools import cache
from graphlib import CycleError, TopologicalSorter

NAME = "tinygrad_norm"

# A room imports only rooms on the lines above it; rooms on one line do not know each other.
# "" is the package's own __init__: what it re-exports stands above it, so only the command line imports it.
HOUSE = [
    ["backend"],
    ["engine"],
    ["ops"],
    ["functional", "serialize", "cuda"],
    ["nn", "optim", "data"],
    ["testing", "train", "viz"],
    ["lab"],
    [""],
    ["cli"],
    ["__main__"],
]
RANK = {room: rank for rank, rooms in enumerate(HOUSE) for room in rooms}
LIGHT = {*sys.stdlib_module_names, "numpy", NAME}
MAY_IMPORT = {("testing/fixtures.py", "pytest")}  # a pytest plugin, loaded by pytest only
RULE_NAMES = {"forward", "backward", "composite"}
FILE_BUDGET = 300
CORE_BUDGET = 1200
CORE = ["engine/*.py", "ops/elementwise.py", "ops/reduce.py", "ops/shape.py", "ops/matmul.py"]
CORE += ["backend/base.py", "nn/module.py"]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# Spelled with brackets, so that this file does not contain what it looks for.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.)\]}~-])/(?:[w]ork|[t]mp|[r]oot|[h]ome/\w+)\b",
    "a package index": r"(?:[p]ypi\.org|[p]ythonhosted\.org|[p]ypi\.python\.org|--(?:extra-)?[i]ndex-url)",
}


# --- reading --------------------------------------------------------------------------------------


@cache
def read(text):
    return ast.parse(text)


def module_name(path):
    """The dotted name inside the package: "nn/linear.py" -> "nn.linear", "nn/__init__.py" -> "nn"."""
    return path.removesuffix(".py").removesuffix("__init__").strip("/").replace("/", ".")


def room(module):
    return module.split(".")[0]


class Imports(ast.NodeVisitor):
    """Collects (module, line, inside a function?, for the type checker only?) for every import of a file."""

    def __init__(self, path, modules):
        self.path, self.modules, self.found = path, modules, []
        self.hidden = self.typing = False

    def add(self, module, line):
        self.found.append((module, line, self.hidden, self.typing))

    def visit_FunctionDef(self, node):
        outside, self.hidden = self.hidden, True
        self.generic_visit(node)
        self.hidden = outside

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_If(self, node):
        typing = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        self.typing = self.typing or typing
        for child in node.body:
            self.visit(child)
        self.typing = self.typing and not typing
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node):
        for alias in node.names:
            self.add(alias.name, node.lineno)

    def visit_ImportFrom(self, node):
        base = node.module or ""
        if node.level:
            package = [NAME, *self.path.split("/")[:-1]]
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            self.add(inner if self.known(inner) else base, node.lineno)

    def visit_Call(self, node):
        name = ast.unparse(node.func).split(".")[-1]
        if name in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
            module = str(node.args[0].value)
            self.add(NAME + module if module.startswith(".") else module, node.lineno)
        self.generic_visit(node)

    def known(self, module):
        inside = module.removeprefix(NAME + ".")
        return inside != module and (inside in self.modules or inside in RANK)


def imports(sources, path):
    visitor = Imports(path, {module_name(p) for p in sources})
    visitor.visit(read(sources[path]))
    return visitor.found


def project_imports(sources, path):
    """(module inside the package, line, hidden, typing): what this file imports of the project."""
    for module, line, hidden, typing in imports(sources, path):
        if module.split(".")[0] == NAME:
            yield module[len(NAME) + 1 :], line, hidden, typing


def code_lines(text):
    """Lines that hold code: no docstrings, no comments, no blanks."""
    names = "COMMENT NL NEWLINE INDENT DEDENT ENDMARKER".split()
    silent = {getattr(tokenize, name) for name in names}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(read(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return len(lines)


# --- the rules ------------------------------------------------------------------------------------


def upward_imports(sources):
    """A room imports only rooms to its left; neighbours in one pair of braces do not import each other."""
    for path in sources:
        here = room(module_name(path))
        if here not in RANK:
            yield f"{path}: {here!r} is not a room of the house"
            continue
        for module, line, _, _ in project_imports(sources, path):
            there = room(module)
            if there != here and RANK.get(there, 99) >= RANK[here]:
                yield f"{path}:{line}: {here or NAME} may not import {there or NAME}"


def circular_imports(sources):
    """Within a room the imports run downhill: no module reaches itself."""
    graph = {}
    for path in sources:
        here = module_name(path)
        known = [m for m, _, _, typing in project_imports(sources, path) if not typing]
        graph[here] = {m for m in known if room(m) == room(here)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "imports in a circle: " + " <- ".join(error.args[1])


def hidden_imports(sources):
    """No import of the project inside a function: it would hide an edge of the import graph."""
    for path in sources:
        for module, line, hidden, _ in project_imports(sources, path):
            if hidden:
                yield f"{path}:{line}: the import of {module or NAME} is hidden inside a function"


def heavy_imports(sources):
    """At module level: the standard library, NumPy and the project; anything heavier where it is needed."""
    for path in sources:
        for module, line, hidden, typing in imports(sources, path):
            top = module.split(".")[0]
            if top not in LIGHT and not hidden and not typing and (path, top) not in MAY_IMPORT:
                yield f"{path}:{line}: {top} is imported at module level; import it where it is needed"


def missing_docstrings(sources):
    """Public functions, classes and methods say what they are; an override may leave that to the original."""
    classes = {}
    for path in sources:
        for node in read(sources[path]).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name] = node
    for path, text in sources.items():
        for node in read(text).body:
            if not isinstance(node, (*FUNCTIONS, ast.ClassDef)) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node) and not has_decorator(node, "overload"):
                yield f"{path}:{node.lineno}: {node.name} has no docstring"
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    if isinstance(method, FUNCTIONS) and not documented(method, node, classes, path):
                        yield f"{path}:{method.lineno}: {node.name}.{method.name} has no docstring"


def has_decorator(node, *names):
    return any(ast.unparse(d).split(".")[-1] in names for d in node.decorator_list)


def ancestors(node, classes):
    """The names of the classes above this one, as far as the package defines them."""
    names = [ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases]
    for name in names:
        above = {n: c for n, c in classes.items() if n != name}
        names = names + (ancestors(classes[name], above) if name in classes else [])
    return names


def delegates(method):
    """Whether a method only passes its arguments on: ``return xp.name(self, ...)``."""
    (statement, *more) = method.body
    call = getattr(statement, "value", None)
    return not more and isinstance(call, ast.Call) and ast.unparse(call.func).startswith("xp.")


def documented(method, owner, classes, path):
    if method.name.startswith("_") or ast.get_docstring(method) or has_decorator(method, "overload", "setter"):
        return True
    if path == "engine/tensor.py" and delegates(method):  # documented where the function is, and copied from there
        return True
    above = ancestors(owner, classes)
    # The class explains a rule of an op, and its arguments are the same everywhere.
    first = method.args.args[0].arg if method.args.args else ""
    if path.startswith("ops/") and "Op" in above and (method.name in RULE_NAMES or first == "xp"):
        return True
    originals = [m for name in above if name in classes for m in classes[name].body]
    return any(isinstance(m, FUNCTIONS) and m.name == method.name and ast.get_docstring(m) for m in originals)


def long_files(sources):
    for path, text in sources.items():
        if (lines := code_lines(text)) > FILE_BUDGET:
            yield f"{path}: {lines} code lines; a file has at most {FILE_BUDGET}"


def large_core(sources):
    """The core is read in class, so it stays short. A core file that is gone must not escape the count."""
    parts = {pattern: [p for p in sources if fnmatch(p, pattern)] for pattern in CORE}
    yield from (f"{pattern}: this part of the core is missing" for pattern, paths in parts.items() if not paths)
    lines = {p: code_lines(sources[p]) for paths in parts.values() for p in paths}
    if sum(lines.values()) > CORE_BUDGET:
        yield f"the core has {sum(lines.values())} code lines, at most {CORE_BUDGET}: {lines}"


def forbidden_text(sources):
    for path, text in sources.items():
        for number, line in enumerate(text.splitlines(), 1):
            for what, pattern in FORBIDDEN.items():
                if match := re.search(pattern, line):
                    yield f"{path}:{number}: {what}: {match[0]!r}"
