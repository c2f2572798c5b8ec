"""Break every term of every normalization, forward and backward, one at a time, and see whether the tests notice.

    python tests/mutate_norms.py                     all mutants, a table of them
    python tests/mutate_norms.py Zca                 those of functions whose name contains "Zca"
    python tests/mutate_norms.py --write FILE.md     the table as Markdown

A mutant is a function whose source was changed in one place: a term or factor left out, a sign or a comparison turned, a
constant changed, a sum not taken or taken over another axis, float32 inside, a gradient zero. It takes the place of the
function in a forked copy of this process, where the checks of the op table run for the operations that use the function
and then, if these all pass, the test files named in ``FILES``. The first failure kills it.
"""

import argparse
import ast
import copy
import inspect
import io
import multiprocessing
import os
import sys
import textwrap
import time
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from functools import partial, reduce
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ["TINYGRAD_NORM_JIT"] = "0"  # compiled kernels would stand before the mutants
    sys.path.insert(0, str(ROOT))

import numpy as np
import pytest

from tinygrad_norm.backend import kernels
from tinygrad_norm.backend.cpu import CPU
from tinygrad_norm.backend.kernels import Kernels
from tinygrad_norm.backend.special import Special
from tinygrad_norm.ops import norm, norm_variants, unit, whiten
from tinygrad_norm.testing.checks import CHECKS
from tinygrad_norm.testing.samples import ROWS

STATISTICS = [
    "batch_norm", "layer_norm", "rms_norm", "group_norm", "standardize", "instance_norm", "weight_standardization",
    "batch_norm without affine",
]  # fmt: skip
CENTRED = [*STATISTICS, "centre", "mean_only_batch_norm", "whiten", "cosine_linear centered"]
LENGTHS = ["normalize", "weight_norm", "cosine_linear", "cosine_linear centered", "cosine_similarity"]
WHITE = ["whiten", "whiten newton"]
TARGETS = [
    (Kernels, "norm_forward", STATISTICS), (Kernels, "statistics", STATISTICS),
    (Kernels, "centred", CENTRED), (Kernels, "norm_backward", STATISTICS),
    (kernels, "gained", STATISTICS), (CPU, "norm_forward", STATISTICS),
    (Kernels, "unit_forward", LENGTHS), (Kernels, "unit_backward", LENGTHS),
    (CPU, "unit_forward", LENGTHS), (CPU, "weight_norm_forward", LENGTHS), (CPU, "weight_norm_backward", LENGTHS),
    (Kernels, "sum_products", [*STATISTICS, *LENGTHS]), (CPU, "column_products", STATISTICS),
    (Kernels, "weight_norm_forward", LENGTHS), (Kernels, "weight_norm_backward", LENGTHS),
    (Special, "inverse_roots", WHITE),
    (norm.Norm, "composite", STATISTICS), (norm.Norm, "forward", STATISTICS), (norm.Norm, "backward", STATISTICS),
    (norm, "inverse_root", [*STATISTICS, "batch_norm outside training"]), (norm, "centred", CENTRED),
    (norm.Centre, "composite", CENTRED), (norm.Centre, "forward", CENTRED), (norm.Centre, "backward", CENTRED),
    (norm, "batch_norm", ["batch_norm outside training", *STATISTICS]),
    (norm_variants, "mean_only_batch_norm", ["mean_only_batch_norm"]),
    (unit.Unit, "composite", LENGTHS), (unit.Unit, "forward", LENGTHS), (unit.Unit, "backward", LENGTHS),
    (unit.WeightNorm, "composite", LENGTHS), (unit.WeightNorm, "forward", LENGTHS),
    (unit.WeightNorm, "backward", LENGTHS), (unit.CosineLinear, "composite", LENGTHS),
    (unit.CosineLinear, "forward", LENGTHS), (unit.CosineLinear, "backward", LENGTHS),
    (unit, "cosine_similarity", LENGTHS),
    (whiten.Zca, "composite", WHITE), (whiten.Zca, "forward", WHITE), (whiten.Zca, "backward", WHITE),
    (whiten, "newton_whitened", WHITE),
]  # fmt: skip
"""Where the function is, its name, and the rows of the op table that use it."""

FAST = ("complex_step", "fused_is_composite", "values", "singular_points", "second_order")
NUMERICS = (
    "(scaling_first or first_element or no_square or cosines_stay or extreme_rows or keep or running or float16_is or "
    "float16_at) and not 300000 and not 100000"
)
FILES = (
    ("test_norm_terms.py", ""),
    ("test_norm_numerics.py", NUMERICS),
    ("test_norm_layers.py", ""),
    ("test_layers.py", ""),
)
REDUCTIONS = ("sum", "mean", "max")
WRAPPERS = ("wide", "astype", "abs", "clip", "sqrt", "rounded_inside")
OPERATIONS = {
    "apply",
    "sum",
    "mean",
    "sqrt",
    "where",
    "matmul",
    "maximum",
    "inverse_root",
    "centred",
    "newton_whitened",
}
UNUSED = "it stands where its quotient is not used"
SAME = {
    ("Kernels.norm_forward", "`mean * rstd` as `rstd`"): "only decides when a second pass is worth its time",
    ("Kernels.norm_forward", "`2` as `4`"): "only decides when a second pass is worth its time",
    ("CPU.norm_forward", "`2` as `4`"): "only decides when a second pass is worth its time",
    ("CPU.weight_norm_backward", "`v.dtype != norm.dtype` turned"): "both ways give the same, one in less time",
    (
        "CPU.weight_norm_backward",
        "`numpy.where(norm < eps, 0.0, along) if eps else along` as `numpy.where(norm < eps, 0.0, along)`",
    ): "no norm is below 0",
    ("Kernels.unit_forward", "`0` as `1`"): "the exponent of an array without elements",
    ("Special.inverse_roots", "`0.0` as `1.0`"): "any finite number will do: all roots are NaN then",
    ("Special.inverse_roots", "`1.0` as `2.0` (2)"): UNUSED,
    ("inverse_root", "`1.0` as `2.0` (2)"): UNUSED,
    ("Unit.composite", "`1.0` as `2.0`"): UNUSED,
    ("Zca.backward", "`1.0` as `2.0`"): UNUSED,
    ("Norm.forward", "`None if isinstance(v, float) else v` as `v`"): "an absent weight is 1, an absent bias 0",
    ("Norm.backward", "`None if isinstance(weight, float) else weight` as `weight`"): "an absent weight is 1",
    ("newton_whitened", "`matmul(y, step)` the other way round"): "polynomials of one matrix commute",
    ("newton_whitened", "`matmul(step, z)` the other way round"): "polynomials of one matrix commute",
}
"""Mutants that do the same, or only cost time: {(function, mutation): why}."""


# ---- making mutants


def text_of(node):
    return ast.unparse(node)


def replacements(node):
    """What may stand for an expression, with what is said about it."""
    shown = text_of(node)
    if isinstance(node, ast.BinOp):
        swap = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
        if type(node.op) in swap:
            turned = ast.BinOp(node.left, swap[type(node.op)](), node.right)
            yield f"`{shown}` as `{text_of(turned)}`", turned
        yield f"`{shown}` as `{text_of(node.left)}`", node.left
        if not isinstance(node.op, (ast.Div, ast.Pow)):
            yield f"`{shown}` as `{text_of(node.right)}`", node.right
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield f"`{shown}` as `{text_of(node.operand)}`", node.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        changed = ast.Constant(node.value * 2 if node.value else type(node.value)(1))
        yield f"`{shown}` as `{text_of(changed)}`", changed
    elif isinstance(node, ast.Compare):
        yield f"`{shown}` turned", ast.parse(f"({shown}) == False").body[0].value
    elif isinstance(node, ast.IfExp):
        yield f"`{shown}` as `{text_of(node.orelse)}`", node.orelse
        if not text_of(node.test).startswith("needs"):  # a gradient that nobody asked for does no harm
            yield f"`{shown}` as `{text_of(node.body)}`", node.body
    elif isinstance(node, ast.Attribute) and node.attr == "T":
        yield f"`{shown}` as `{text_of(node.value)}`", node.value
    elif isinstance(node, ast.Call):
        name = text_of(node.func).split(".")[-1]
        builtin = text_of(node.func) == "max"
        if name in (*REDUCTIONS, *WRAPPERS) and node.args:
            yield f"`{shown}` as `{text_of(node.args[0])}`", node.args[0]
        if name in REDUCTIONS and not builtin:
            for i, a in enumerate(node.args[1:], 1):
                if text_of(a) == "axes" or isinstance(a, ast.Constant) and type(a.value) is int:
                    other = ast.parse("tuple(a - 1 for a in axes)" if text_of(a) == "axes" else "-1").body[0].value
                    call = ast.Call(node.func, [*node.args[:i], other, *node.args[i + 1 :]], node.keywords)
                    yield f"`{shown}` over the axes before", call
        if name == "matmul":
            yield f"`{shown}` the other way round", ast.Call(node.func, node.args[::-1], node.keywords)
            yield f"`{shown}` as its first factor", node.args[0]


class Sites(ast.NodeVisitor):
    """The expressions of a function that compute something: not its checks, error messages, indices and shapes."""

    def __init__(self):
        self.found = []
        self.path = []

    def generic_visit(self, node):
        for name, value in ast.iter_fields(node):
            for i, child in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(child, ast.AST):
                    self.path.append((name, i if isinstance(value, list) else None))
                    self.visit(child)
                    self.path.pop()

    def visit(self, node):
        if isinstance(node, ast.expr):
            self.found.append((tuple(self.path), node))
        super().visit(node)

    def visit_FunctionDef(self, node):
        for i, statement in enumerate(node.body):
            self.path.append(("body", i))
            self.visit(statement)
            self.path.pop()

    def visit_If(self, node):
        if any(isinstance(s, ast.Raise) for s in node.body):
            return
        self.generic_visit(node)

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Call):  # no docstring
            self.generic_visit(node)

    def visit_Subscript(self, node):
        """Not the index."""
        self.path.append(("value", None))
        self.visit(node.value)
        self.path.pop()

    def visit_UnaryOp(self, node):
        """Not the 1 of a -1 that stands for a length or an axis."""
        if isinstance(node.operand, ast.Constant) and isinstance(node.operand.value, int):
            return
        self.generic_visit(node)

    def visit_Call(self, node):
        """Not what only checks."""
        if not text_of(node.func).startswith("check_"):
            self.generic_visit(node)

    def visit_Raise(self, node):
        """Nothing."""


def put(tree, path, new):
    """A copy of the tree with another expression at a path."""
    tree = copy.deepcopy(tree)
    *way, (name, i) = path
    parent = reduce(lambda node, step: pick(node, *step), way, tree)
    if i is None:
        setattr(parent, name, new)
    else:
        getattr(parent, name)[i] = new
    return tree


def pick(node, name, i):
    value = getattr(node, name)
    return value if i is None else value[i]


def function_of(owner, name):
    """The function, and its syntax tree."""
    found = inspect.unwrap(getattr(owner, name))
    return found, ast.parse(textwrap.dedent(inspect.getsource(found))).body[0]


def mutants(owner, name):
    """(what was done, function that gives the syntax tree) for every mutant of a function."""
    _, tree = function_of(owner, name)
    sites = Sites()
    sites.visit(tree)
    tensors = name == "composite" or inspect.ismodule(owner) and owner is not kernels
    seen = Counter()
    for path, node in sites.found:
        changes = list(replacements(node))
        if tensors and has_history(node):
            changes.append((f"`{text_of(node)}` held constant", ast.Call(ast.Name("held"), [node], [])))
        for what, new in changes:
            seen[what] += 1
            yield what + (f" ({seen[what]})" if seen[what] > 1 else ""), partial(put, tree, path, new)
    if name.endswith("backward"):
        yield from wrong_results(tree)


def has_history(node):
    """Whether an expression is the result of an operation, for all that its text shows."""
    if isinstance(node, ast.Call):
        return text_of(node.func) in OPERATIONS
    return isinstance(node, ast.BinOp) and not any(word in text_of(node) for word in ("ndim", "(n", "n -", "n /"))


def wrong_results(tree):
    """Gradients that are zero, and an upstream gradient rounded to float32."""
    for at, statement in [(i, s) for i, s in enumerate(tree.body) if isinstance(s, ast.Return)]:
        values = statement.value.elts if isinstance(statement.value, ast.Tuple) else []
        for i, value in enumerate(values):
            zero = ast.parse(f"zero({text_of(value)})").body[0].value
            path = [("body", at), ("value", None), ("elts", i)]
            yield f"`{text_of(value)}` returned as zero", partial(put, tree, path, zero)
    g = next(a.arg for a in tree.args.args if a.arg in ("g", "gw"))
    changed = copy.deepcopy(tree)
    start = 1 if ast.get_docstring(tree) else 0
    changed.body.insert(start, ast.parse(f"{g} = {g}.astype('float32').astype({g}.dtype)").body[0])
    yield f"`{g}` rounded to float32", lambda: changed


HELD = []


def held(x):
    """A Tensor without history; anything else as it is."""
    if not getattr(x, "requires_grad", False):
        return x
    HELD.append(1)
    return x.detach()


def zero(x):
    """Zeros like x; None for None."""
    return None if x is None else 0 * x


def install(owner, name, tree):
    """Let the function run the mutant's code: whoever refers to the function runs it too."""
    original, _ = function_of(owner, name)
    tree.decorator_list = []
    holder = ast.ClassDef("Holder", [], [], [tree], [], type_params=[])  # so that super() has its class
    source = text_of(ast.fix_missing_locations(ast.Module([holder], [])))
    space = {**original.__globals__, "__name__": original.__module__}
    exec(compile("from __future__ import annotations\n" + source, "mutant", "exec"), space)
    original.__globals__.update(held=held, zero=zero)
    original.__code__ = vars(space["Holder"])[name].__code__
    if owner is Kernels and name in vars(CPU):  # what other array libraries run, run here
        delattr(CPU, name)


# ---- running the tests on one


NOTHING = "nothing was held"


def killer(what, rows, files):
    """What notices a mutant, in words; None when nothing does."""
    warnings.simplefilter("error")
    for check in FAST:
        for row in rows:
            try:
                with np.errstate(divide="ignore", invalid="ignore") if check == "singular_points" else np.errstate():
                    CHECKS[check](ROWS[row])
            except BaseException:
                return f"{check} of {row}"
    if "held constant" in what and not HELD:
        return NOTHING
    for file, chosen in files:
        options = ["-k", chosen, "-x", "-q", "-p", "no:cacheprovider", "-p", "no:warnings", "--rootdir", str(ROOT)]
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            status = pytest.main([*options, str(ROOT / "tests" / file)])
        if status:
            return file
    return None


def run_one(job):
    """The fate of one mutant, in a process of its own; of none, for the job (None, None, files)."""
    number, i, files = job
    if number is None:
        label, what, rows = (
            "nothing",
            "nothing changed",
            list(dict.fromkeys(row for *_, rows in TARGETS for row in rows)),
        )
    else:
        owner, name, rows = TARGETS[number]
        label = label_of(owner, name)
        what, mutant = list(mutants(owner, name))[i]

    def judged():
        if number is not None:
            install(owner, name, mutant())
        return killer(what, rows, files)

    return label, what, in_a_child(judged)


def in_a_child(judged):
    """What a function gives in a forked copy of this process; a crash, or a mutant that is no Python, in words."""
    receiver, sender = multiprocessing.Pipe(False)
    child = os.fork()
    if child == 0:
        try:
            try:
                sender.send(judged())
            except (SyntaxError, ValueError) as error:
                sender.send(f"cannot be compiled: {error}")
        finally:
            os._exit(0)
    sender.close()
    try:
        fate = receiver.recv()
    except EOFError:
        fate = "a crash"
    os.waitpid(child, 0)
    return fate


def label_of(owner, name):
    return name if inspect.ismodule(owner) else f"{owner.__name__}.{name}"


def mutate(chosen="", processes=2, files=FILES, progress=None):
    """(function, mutation, what killed it or None) for every mutant of the functions whose name contains ``chosen``."""
    jobs = [
        (number, i, files)
        for number, (owner, name, _) in enumerate(TARGETS)
        if chosen in label_of(owner, name)
        for i, (what, _) in enumerate(mutants(owner, name))
        if (label_of(owner, name), what) not in SAME
    ]
    fates = []
    if (by := run_one((None, None, files))[2]) is not None:
        raise AssertionError(f"{by} fails without any mutant")
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for fate in pool.imap(run_one, jobs):
            if fate[2] != NOTHING:  # a constant that was held constant is no mutant
                fates.append(fate)
            if progress:
                progress(len(fates), len(jobs), fate)
    return fates


def markdown(fates, seconds):
    """The fates as a page."""
    killed = sum(fate is not None for _, _, fate in fates)
    lines = [
        "# Mutants of the normalizations", "",
        f"{killed} of {len(fates)} mutants were noticed ({100 * killed / len(fates):.1f} %), in {seconds:.0f} s. "
        "Made by `python tests/mutate_norms.py --write docs/mutation-norms.md`: each mutant changes one place of one "
        "function, and the last column is the first check or test file that failed.", "",
    ]  # fmt: skip
    for function in dict.fromkeys(f for f, _, _ in fates):
        rows = [(what, fate or "**survived**") for f, what, fate in fates if f == function]
        lines += [f"## {function}", "", "| changed | noticed by |", "| --- | --- |"]
        lines += [f"| {what.replace('|', chr(92) + '|')} | {fate} |" for what, fate in rows] + [""]
    lines += [
        "## Left out, because they do the same",
        "",
        *(f"* {f}: {what}: {why}" for (f, what), why in SAME.items()),
    ]
    return "\n".join(lines) + "\n"


def main():
    """Run from the command line; the exit status is 1 when a mutant survives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chosen", nargs="?", default="")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--quick", action="store_true", help="the op table only, not the test files")
    args = parser.parse_args()
    began = time.perf_counter()

    def progress(done, total, fate):
        function, what, by = fate
        print(f"{done}/{total} {'killed  ' if by else 'SURVIVED'} {function}: {what} ({by})", flush=True)

    fates = mutate(args.chosen, files=[] if args.quick else FILES, progress=progress)
    seconds = time.perf_counter() - began
    survivors = [fate for fate in fates if fate[2] is None]
    print(f"{len(fates) - len(survivors)} of {len(fates)} killed in {seconds:.0f} s")
    if args.write:
        args.write.write_text(markdown(fates, seconds), encoding="utf-8")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
