"""Results as text: the table that ends an experiment, and CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

from ..ops.show import html_table

TITLES = (
    "norm", "parameters", "best rate", "test accuracy", "steps to {goal}", "final loss", "rates that reach {goal}",
    "diverged",
)  # fmt: skip
COLUMNS = ("norm", "learning_rate", "seed", "steps", "diverged", "final_loss", "test_accuracy", "steps_to_goal")


class Comparison(dict[str, Any]):
    """What ``compare`` gives: a dict, that prints as its table and that a notebook shows as one."""

    def __repr__(self) -> str:
        return comparison(self)

    def _repr_html_(self) -> str:
        head, titles, rows, notes = _parts(self)
        return html_table(titles, rows, head, notes)


def comparison(results: dict[str, Any]) -> str:
    """The results of ``compare`` as a table, with a line above that says what was done and notes below."""
    head, titles, rows, notes = _parts(results)
    return "\n".join([head, "", *table(titles, rows), "", *notes])


def _parts(results: dict[str, Any]) -> tuple[str, list[str], list[list[str]], list[str]]:
    plan = results["plan"]
    goal = f"{100 * plan['goal']:g} %"
    seeds, rates = len(plan["seeds"]), plan["rates"]
    head = (
        f"{plan['dataset']}: {plan['train_images']:,} images to train on, {plan['test_images']} to test; "
        f"MLP {'-'.join(map(str, plan['sizes']))} with ReLU\n"
        f"{plan['optimizer']}; {plan['steps']} steps of {plan['batch_size']} images; "
        f"{len(rates)} learning rates from {rate(rates[0])} to {rate(rates[-1])}; {counted(seeds, 'seed')}"
    )
    titles = [title.format(goal=goal) for title in TITLES]
    rows = [_row(summary, goal) for summary in results["summary"]]
    notes = [
        "best rate: lowest training loss in the last epoch; test images choose nothing",
        "test accuracy, steps, final (training) loss: at the best rate"
        + (f", mean of {seeds} seeds; ± standard deviation" if seeds > 1 else ""),
        f"steps to {goal} of the test images, looked at every {plan['check_every']} steps",
        "diverged: runs that ended because the loss or a gradient was no longer finite",
    ]
    return head, titles, rows, notes


def _row(summary: dict[str, Any], goal: str) -> list[str]:
    good, spread = summary["good_rates"], summary["test_accuracy_std"]
    steps, loss = summary["steps_to_goal"], summary["final_loss"]
    reach = "none" if not good else f"{rate(good[0])} to {rate(good[-1])}" if len(good) > 1 else rate(good[0])
    return [
        summary["norm"], f"{summary['parameters']:,}", rate(summary["learning_rate"]),
        f"{100 * summary['test_accuracy']:.1f} %" if spread is None
        else f"{100 * summary['test_accuracy']:.1f} ± {100 * spread:.1f} %",
        "not reached" if steps is None else f"{steps:.0f}",
        "diverged" if loss is None else f"{loss:.2g}" if loss < 0.1 else f"{loss:.2f}",
        f"{reach} ({len(good)} of {summary['rates']})",
        f"{summary['diverged']} of {summary['runs']}",
    ]  # fmt: skip


def table(titles: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of columns under their titles: the first to the left, the others to the right.

    >>> print(*table(["name", "n"], [["a", "1"], ["bc", "23"]]), sep="\\n")
    name   n
    ----  --
    a      1
    bc    23
    """
    widths = [max(map(len, column)) for column in zip(titles, *rows)]
    lines = [titles, ["-" * width for width in widths], *rows]
    first, *others = widths
    return ["  ".join([line[0].ljust(first), *(c.rjust(w) for c, w in zip(line[1:], others))]) for line in lines]


def rate(value: float) -> str:
    """A learning rate in three digits.

    >>> rate(0.003162), rate(100.0)
    ('0.00316', '100')
    """
    return f"{value:.3g}"


def counted(count: int, thing: str) -> str:
    """A number with its noun.

    >>> counted(1, "seed"), counted(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{count} {thing}{'s' * (count != 1)}"


def runs_csv(runs: list[dict[str, Any]]) -> str:
    """A row for each run; empty where there is no value.

    >>> print(runs_csv([dict.fromkeys(COLUMNS, 1)]))
    norm,learning_rate,seed,steps,diverged,final_loss,test_accuracy,steps_to_goal
    1,1,1,1,1,1,1,1
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([run[name] for name in COLUMNS] for run in runs)
    return text.getvalue()


def confusion_table(confusion: list[list[int]]) -> str:
    """How often each class got each answer, and how many of each class were right.

    Args:
        confusion: a row for each class, a column for each answer.

    >>> print(confusion_table([[3, 1], [0, 4]]))
    class    right  answer 0  1
    -----  -------  --------  -
    0       75.0 %         3  1
    1      100.0 %         0  4
    """
    classes = range(len(confusion))
    titles = ["class", "right", *(f"answer {c}" if c == 0 else str(c) for c in classes)]
    rows = []
    for label, counts in enumerate(confusion):
        right = 100 * counts[label] / max(sum(counts), 1)
        rows.append([str(label), f"{right:.1f} %", *map(str, counts)])
    return "\n".join(table(titles, rows))
