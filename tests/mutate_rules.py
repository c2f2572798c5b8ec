"""Break every gradient rule of every operation, in every way one at a time, and see whether the tests notice.

    python tests/mutate_rules.py                     all mutants, a table of those that survive
    python tests/mutate_rules.py Power               those of operations whose name contains "Power"
    python tests/mutate_rules.py --write FILE.md     the table as Markdown

The normalizations have a script of their own, mutate_norms.py, which also breaks their forwards; this one takes all
other operations: the rules of primitives, the backwards of fused operations, the kernels these call, and the helpers
that undo broadcasting and reductions. A mutant is killed by the checks of the op table for the operation's rows.
"""

import argparse
import ast
import copy
import inspect
import multiprocessing
import os
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import mutate_norms as norms
from tinygrad_norm.backend import cpu
from tinygrad_norm.engine.op import Each
from tinygrad_norm.ops import elementwise, reduce
from tinygrad_norm.testing.checks import CHECKS
from tinygrad_norm.testing.samples import ROWS, operations

CPU = type(cpu)
FAST = (*norms.FAST, *(name for name in CHECKS if name not in norms.FAST))
DONE = {norms.label_of(owner, name) for owner, name, _ in norms.TARGETS}
KERNELS = [name for name in dir(CPU) if name.endswith("_backward") and f"Kernels.{name}" not in DONE]
HELPERS = [
    (elementwise._power_by_base, "power"), (elementwise._power_by_exponent, "power"), (reduce.kept, "sum"),
    (reduce.kept, "max"), (reduce.kept, "logsumexp"), (CPU.sum_to, "add"),
]  # fmt: skip

UNUSED = "it stands where its quotient or logarithm is not used"
SLOPE = "this factor is constant between its jumps"
SIGN = "both have the same sign"
FASTER = "only decides which of two equal products is the faster"
SUMMED = "the sweep sums over what was broadcast anyway"
ZERO = "0 times that is 0"
SAME = {
    ("Abs.backward", "`xp.sign(x)` held constant"): SLOPE,
    ("Max.backward", "`kept(xp, y, x, axis, keepdims)` held constant"): SLOPE,
    ("Min.backward", "`kept(xp, y, x, axis, keepdims)` held constant"): SLOPE,
    ("Elu.backward", "`x` as `y`"): SIGN,
    ("Sign.backward", "`xp.zeros_like(g)` returned as zero"): ZERO,
    ("Sign.backward", "`xp.zeros_like(g)` returned as 1.000001 times that"): ZERO,
    ("Sign.backward", "`g` rounded to float32"): ZERO,
    ("Linear.backward", "`xp.sum(rows, axis=0)` as `rows`"): SUMMED,
    (
        "Linear.backward",
        "`xp.sum(rows, axis=0) if len(needs) > 2 and needs[2] else None` as `xp.sum(rows, axis=0)`",
    ): "a gradient that nobody asked for",
    ("Matmul.backward[1]", "`a.ndim > 2` turned"): FASTER,
    ("Matmul.backward[1]", "`2` as `4` (2)"): FASTER,
    ("Power.backward[0]", "`1.0` as `2.0`"): UNUSED,
    ("_power_by_base in power", "`1.0` as `2.0`"): UNUSED,
    ("Power.backward[1]", "`1.0` as `2.0`"): UNUSED,
    ("Power.backward[1]", "`0` as `1`"): "ln 1 is 0",
    ("Std.backward", "`1.0` as `2.0` (2)"): UNUSED,
}
"""Mutants that do the same, or only cost time: {(rule, mutation): why}."""


def plain(name):
    """NumPy's kernel of a name, not the compiled one."""
    found = next(vars(c)[name] for c in reversed(CPU.__mro__) if name in vars(c))
    return bare(found)


def bare(function):
    """The function in a static method."""
    return function.__func__ if isinstance(function, staticmethod) else function


def rules():
    """(label, function, rows) of every gradient rule, its kernels and its helpers."""
    rows_of = {}
    for row in ROWS.values():
        rows_of.setdefault(row.op, []).append(row.name)
    for op in sorted(operations("tinygrad_norm"), key=lambda op: op.__name__):
        label = f"{op.__name__}.backward"
        if op.backward is None or label in DONE:
            continue
        each = isinstance(op.backward, Each)
        found = [op.backward] if op.fused else [op.backward.rule] if each else list(dict.fromkeys(op.backward))
        for i, rule in enumerate(filter(None, found)):
            yield label + (f"[{i}]" if len(found) > 1 else ""), bare(rule), rows_of.get(op, [])
        if op.fused:
            for name in KERNELS:
                if f"xp.{name}(" in inspect.getsource(op.backward):
                    yield f"{name} of {op.__name__}", plain(name), rows_of.get(op, [])
    for function, name in HELPERS:
        yield f"{function.__name__} in {name}", function, rows_of[ROWS[name].op]


def tree_of(function):
    """The syntax tree of a function; that of a lambda as a function, found by its code."""
    tree = ast.parse(Path(inspect.getsourcefile(function)).read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            made = copy.deepcopy(node)
            made.decorator_list = []
        elif isinstance(node, ast.Lambda) and function.__name__ == "<lambda>":
            made = ast.parse(f"def rule({ast.unparse(node.args)}):\n    return {ast.unparse(node.body)}").body[0]
        else:
            continue
        code = compiled(made, function)
        if (code.co_code, code.co_names, code.co_varnames) == tuple(
            getattr(function.__code__, name) for name in ("co_code", "co_names", "co_varnames")
        ):
            return made
    raise LookupError(f"no source for {function}")


def compiled(tree, function):
    """The code object of a function's syntax tree."""
    module = ast.fix_missing_locations(ast.Module([tree], []))
    space = {**function.__globals__, "__name__": function.__module__}
    exec(compile("from __future__ import annotations\n" + ast.unparse(module), "mutant", "exec"), space)
    return space[tree.name].__code__


# ---- mutants


class Sites(norms.Sites):
    """What computes values: not what only asks for a type, a shape or a dtype."""

    def visit_Call(self, node):
        name = ast.unparse(node.func).split(".")[-1]
        if name != "isinstance" and not name.endswith("_like"):
            super().visit_Call(node)

    def visit_Attribute(self, node):
        if node.attr not in ("shape", "ndim", "dtype"):
            self.generic_visit(node)


def replacements(node, inputs):
    """What may stand for an expression, besides what mutate_norms knows: calls undone, branches and inputs swapped."""
    shown = ast.unparse(node)
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).split(".")[-1]
        if name == "where":
            yield f"`{shown}` with its branches swapped", ast.Call(node.func, [node.args[0], *node.args[:0:-1]], [])
            yield f"`{shown}` as `{ast.unparse(node.args[1])}`", node.args[1]
            yield f"`{shown}` as `{ast.unparse(node.args[2])}`", node.args[2]
        elif name not in (*norms.REDUCTIONS, *norms.WRAPPERS, "matmul") and node.args:
            yield f"`{shown}` as `{ast.unparse(node.args[0])}`", node.args[0]
    elif isinstance(node, ast.Name) and node.id in inputs:
        others = [other for other in inputs if other != node.id]
        yield from ((f"`{shown}` as `{other}`", ast.Name(other)) for other in others)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"`{shown}` turned", ast.Constant(not node.value)


def mutants(function, label):
    """(what was done, syntax tree) of every mutant of a gradient rule."""
    tree = tree_of(function)
    names = [a.arg for a in tree.args.args]
    inputs = [name for name in names if name in ("a", "b", "x", "y", "g", "t", "s", "weight")]
    fused = "needs" in names or "self" in names
    sites = Sites()
    sites.visit(tree)
    seen = Counter()
    for path, node in sites.found:
        changes = [*norms.replacements(node), *replacements(node, inputs)]
        if not fused and isinstance(node, (ast.BinOp, ast.Call)) and not label.startswith("sum_to"):
            changes.append((f"`{ast.unparse(node)}` held constant", ast.Call(ast.Name("held"), [node], [])))
        for what, new in changes:
            seen[what] += 1
            yield what + (f" ({seen[what]})" if seen[what] > 1 else ""), norms.put(tree, path, new)
    yield from whole(tree)


def whole(tree):
    """Results that are zero or off by a millionth, and an upstream gradient rounded to float32."""
    for at, statement in [(i, s) for i, s in enumerate(tree.body) if isinstance(s, ast.Return)]:
        tuple_ = isinstance(statement.value, ast.Tuple)
        for i, value in enumerate(statement.value.elts if tuple_ else [statement.value]):
            if isinstance(value, (ast.Starred, ast.Constant)):
                continue
            path = [("body", at), ("value", None), *([("elts", i)] if tuple_ else [])]
            for function, what in (("zero", "zero"), ("off", "1.000001 times that")):
                call = ast.Call(ast.Name(function), [value], [])
                yield f"`{ast.unparse(value)}` returned as {what}", norms.put(tree, path, call)
    if "g" in [a.arg for a in tree.args.args]:
        changed = copy.deepcopy(tree)
        start = 1 if ast.get_docstring(tree) else 0
        changed.body.insert(start, ast.parse("g = g.astype('float32').astype(g.dtype)").body[0])
        yield "`g` rounded to float32", changed


def off(x):
    """x, a millionth too large; None for None."""
    return None if x is None else x * 1.000001


def install(function, tree):
    """Let the function run the mutant's code: whoever refers to the function runs it too."""
    code = compiled(tree, function)
    function.__globals__.update(held=norms.held, zero=norms.zero, off=off)
    function.__code__ = code


# ---- running the tests on one


def killer(what, rows, files):
    """What notices a mutant, in words; None when nothing does."""
    norms.FAST = FAST
    return norms.killer(what, rows, files)


def run_one(job):
    """The fate of one mutant, in a process of its own."""
    number, i, files = job
    label, function, rows = list(rules())[number]
    what, tree = list(mutants(function, label))[i]

    def judged():
        plain_kernels()
        install(function, tree)
        return killer(what, rows, files)

    return label, what, norms.in_a_child(judged)


def plain_kernels():
    """NumPy's kernels, not compiled ones, which would hide the mutants."""
    for name in KERNELS:
        setattr(CPU, name, next(vars(c)[name] for c in reversed(CPU.__mro__) if name in vars(c)))


def mutate(chosen="", processes=2, files=(), progress=None):
    """(rule, mutation, what killed it or None) for every mutant of the rules whose name contains ``chosen``."""
    jobs = [
        (number, i, files)
        for number, (label, function, _) in enumerate(rules())
        if chosen in label
        for i, (what, _) in enumerate(mutants(function, label))
        if (label, what) not in SAME
    ]
    fates = []
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for fate in pool.imap(run_one, jobs):
            if fate[2] != norms.NOTHING:
                fates.append(fate)
            if progress:
                progress(len(fates), len(jobs), fate)
    return fates


def markdown(fates, seconds):
    """The fates as a page: a line per rule, and every survivor."""
    killed = sum(by is not None for *_, by in fates)
    lines = [
        "# Mutants of the gradient rules",
        "",
        f"{killed} of {len(fates)} mutants were noticed ({100 * killed / len(fates):.1f} %), in {seconds:.0f} s. Made "
        "by `python tests/mutate_rules.py --write docs/mutation.md`: each mutant changes one place of one gradient "
        "rule, and the checks of the operation's rows in the op table must fail. The normalizations have "
        "[a page of their own](mutation-norms.md).",
        "",
        "| rule | mutants | noticed | most by |",
        "| --- | --- | --- | --- |",
    ]
    by_rule = {}
    for label, what, by in fates:
        by_rule.setdefault(label, []).append((what, by))
    for label, found in by_rule.items():
        checks = Counter(by.split(" of ")[0] for _, by in found if by)
        best = checks.most_common(1)[0][0] if checks else ""
        lines.append(f"| `{label}` | {len(found)} | {sum(by is not None for _, by in found)} | {best} |")
    survivors = [(label, what) for label, what, by in fates if by is None]
    lines += ["", "## Not noticed", ""] + [f"* `{label}`: {what}" for label, what in survivors] * bool(survivors)
    lines += ["None."] * (not survivors)
    lines += ["", "## Left out, because they do the same", ""]
    lines += [f"* `{label}`: {what}: {why}" for (label, what), why in SAME.items()]
    return "\n".join(lines) + "\n"


def main():
    """Run from the command line; the exit status is 1 when fewer than 95 % of the mutants are noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chosen", nargs="?", default="")
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    began = time.perf_counter()

    def progress(done, total, fate):
        rule, what, by = fate
        if by is None:
            print(f"{done}/{total} SURVIVED {rule}: {what}", flush=True)

    fates = mutate(args.chosen, progress=progress)
    seconds = time.perf_counter() - began
    killed = sum(by is not None for *_, by in fates)
    print(f"{killed} of {len(fates)} killed in {seconds:.0f} s")
    if args.write:
        args.write.write_text(markdown(fates, seconds), encoding="utf-8")
    return 0 if fates and killed >= 0.95 * len(fates) else 1


if __name__ == "__main__":
    sys.exit(main())
