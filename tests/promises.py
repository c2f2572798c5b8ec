"""`python -m pytest -m promises`: the promises of docs/reliability.md, each with what was measured.

A test that measures a promise is marked ``@pytest.mark.promise("P4")`` and may say what it found with the fixture
``record_property("figure", "0 of 24 silent")``; of the errors noted with ``measured("what", error)`` the largest is
shown, of ``record_property("count", ("what", number))`` the sum. ``--write-promises`` writes the page anew.
"""

from operator import add
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
PROMISES = {
    "P1": "No silent wrong gradient in the table of operations",
    "P2": "Depth and reuse cost linear time, and no recursion",
    "P3": "A second backward, a missing graph, a wrong upstream gradient, a detached result: a clear error",
    "P4": "A buffer changed between forward and backward: the right gradient or a clear error, never a wrong one",
    "P5": "A gradient owns its memory, and has its leaf's shape and dtype",
    "P6": "Any legal memory layout gives the contiguous result; masked, object, ragged and text input is refused",
    "P7": "float32 stays float32; statistics of float16 are computed in float32",
    "P8": "Points without a derivative follow a written table",
    "P9": "Batch and layer norm are exact for means to 1e6 deviations and for a million rows",
    "P10": "Weight and cosine norm: a zero vector gives 0 with gradient 0; norms are right from 1e-30 to 1e30",
    "P11": "The 1/lambda law of scale-invariant weights, and the gradient's orthogonality",
    "P12": "Cross-entropy is exact for logits to 1e4, and its labels are checked",
    "P13": "Every user's error says what was given, the rule, and what to write instead",
    "P14": "A NaN or infinity never reaches the parameters silently, and what made it is named",
    "P15": "1,000 steps, good or failing, leave nothing behind without the cyclic collector",
    "P16": "Ctrl-C, a full memory and exceptions leave the library usable and the user's arrays as they were",
    "P17": "Modes belong to their thread; threads and forked processes train as if alone; NumPy's state is left alone",
    "P18": "Saving never loses the previous checkpoint; damage is reported; loading runs no code",
    "P19": "Resuming is equal to the bit: parameters, optimizer by name, schedule, random state, loader",
    "P20": "Same seed, same bits, across processes and hash seeds",
    "P21": "A failing or killed loader's worker is reported with the sample, in seconds",
}
GATHERED = {"worst": (max, "{1}: at most {0:.1e}"), "count": (add, "{0:,} {1}")}
"""What is gathered over many tests: how, and how it is shown."""
NUMERICS = "test_norm_numerics.py::test_"
EVIDENCE = {
    "P1": ["test_ops.py::test_op[", "test_fuzz.py::test_random_graphs", "test_mutation.py"],
    "P3": ["test_engine.py::test_a_second_backward", "test_engine.py::test_two_losses", "test_engine.py::test_the_seed",
           "test_engine.py::test_nothing_to_diff", "test_engine.py::test_grad_stores_nothing"],
    "P4": ["test_edits.py"],
    "P5": ["test_engine.py::test_gradients_own", "test_engine.py::test_the_gradient_has",
           "test_engine.py::test_two_inputs_never"],
    "P7": ["test_tensor.py::test_scalars_are_weak", "test_tensor.py::test_functions_keep_the_dtype",
           NUMERICS + "float16"],
    "P9": [NUMERICS + "values_and_gradients_at_large", NUMERICS + "batch_norm_of_signals", NUMERICS + "rms_norm_at",
           NUMERICS + "integers_at", NUMERICS + "the_pair", NUMERICS + "a_constant_slice", NUMERICS + "one_row",
           NUMERICS + "eps_0"],
    "P10": [NUMERICS + "lengths", NUMERICS + "a_zero_vector", NUMERICS + "cosines"],
    "P11": ["test_invariance.py"],
    "P12": ["test_ops.py::test_op[cross_entropy"],
    "P17": ["test_engine.py::test_modes_belong", "test_engine.py::test_threads_train",
            "test_tensor.py::test_the_library_leaves"],
}  # fmt: skip
"""Tests without a mark that measure a promise too, by the beginning of their names."""


class Promises:
    """The plugin: marks the tests, gathers their outcomes and figures, prints and writes the table."""

    def __init__(self, config):
        self.config = config
        self.of = {}  # test -> promises
        self.found = {}  # promise -> file::test -> [passed, failed, figures, seconds, gathered]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items):
        for item in items:
            names = [name for mark in item.iter_markers("promise") for name in mark.args]
            short = item.nodeid.rpartition("/")[2]
            names += [p for p, starts in EVIDENCE.items() if short.startswith(tuple(starts)) and p not in names]
            unknown = [name for name in names if name not in PROMISES]
            if unknown:
                raise pytest.UsageError(
                    f"{item.nodeid}: there is no promise {unknown[0]}; they are in tests/promises.py"
                )
            if names:
                item.add_marker("promises")
                self.of[item.nodeid] = names

    def pytest_runtest_logreport(self, report):
        for name in self.of.get(report.nodeid, ()):
            test = report.nodeid.split("[")[0]
            entry = self.found.setdefault(name, {}).setdefault(test, [0, 0, [], 0.0, {}])
            entry[0] += report.when == "call" and report.passed
            entry[1] += report.failed
            entry[3] += report.duration
            if report.when == "teardown":  # the last word, with all properties
                entry[2] += [str(value) for key, value in report.user_properties if key == "figure"]
                gather(entry[4], (p for p in report.user_properties if p[0] in GATHERED))

    def pytest_terminal_summary(self, terminalreporter):
        asked = self.config.getoption("markexpr").startswith("promises")
        if not asked:
            return
        terminalreporter.section("promises")
        for name, promise in PROMISES.items():
            figures, verdict = self.line(name)
            terminalreporter.write_line(f"{name:4} {verdict:12} {promise}: {figures}")
        if self.config.getoption("--write-promises"):
            PAGE.write_text(self.page(), encoding="utf-8")

    def line(self, name):
        """(figures, verdict) of a promise."""
        tests = self.found.get(name, {})
        passed, failed = (sum(entry[i] for entry in tests.values()) for i in (0, 1))
        figures = list(dict.fromkeys(figure for entry in tests.values() for figure in entry[2]))
        gathered = {}
        for entry in tests.values():
            gather(gathered, ((key, (what, value)) for (key, what), value in entry[4].items()))
        figures += [GATHERED[key][1].format(value, what) for (key, what), value in gathered.items()]
        counted = f"{passed} checks" if passed != 1 else "1 check"
        verdict = "BROKEN" if failed else "kept" if passed else "not measured"
        return "; ".join([*figures, counted] if passed else figures or ["-"]), verdict

    def page(self):
        """The table as Markdown."""
        rows = []
        for name, promise in PROMISES.items():
            figures, verdict = self.line(name)
            tests = sorted({test.partition("::")[0].rpartition("/")[2] for test in self.found.get(name, {})})
            where = ", ".join(f"[{test}](../tests/{test})" for test in tests)
            rows.append(f"| {name} | {promise} | {figures} | {verdict} | {where} |".replace("\n", " "))
        return HEAD + "\n".join(rows) + "\n"


def gather(found, properties):
    """Add what tests measured to what others did."""
    for key, (what, value) in properties:
        found[key, what] = GATHERED[key][0](found[key, what], value) if (key, what) in found else value


HEAD = """# Reliability

What this package promises, and what was measured. `python -m pytest -m promises` measures it again on your machine and
prints this table; `--write-promises` writes this page. A test belongs to a promise by its mark
`@pytest.mark.promise("P4")`. Times and sizes are those of one machine with two cores.

The two long mutation runs have pages of their own: [the normalizations](mutation-norms.md), [all rules](mutation.md).
One limit is known: CPython may raise Ctrl-C before the first instruction of a block's end, so that a `with
tn.no_grad():` of your own has a window of nanoseconds in which gradients stay switched off; the Trainer keeps Ctrl-C
away from its own blocks.

| | promise | measured | verdict | tests |
|---|---|---|---|---|
"""


def pytest_configure(config):
    config.pluginmanager.register(Promises(config), "promises-table")
