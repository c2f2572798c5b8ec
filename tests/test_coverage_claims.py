"""Every statement, measured in a quick run, and the verdicts of docs/claims.md, which come from a whole one."""

import re
from pathlib import Path

import pytest

from tinygrad_norm.lab import claims

PAGE = Path(__file__).parent.parent / "docs" / "claims.md"


def verdicts_of_the_page():
    """{number: verdict} from the table."""
    rows = re.findall(r"^\| (\d+) (\|.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    cells = {int(number): re.split(r"(?<!\\)\|", row) for number, row in rows}
    return {number: re.sub(r"\\(.)", r"\1", row[2]).strip() for number, row in cells.items()}


@pytest.mark.slow
def test_a_quick_run_comes_to_the_same_verdicts():
    quick = {result["number"]: result["verdict"] for result in claims.measure(quick=True)}
    whole = verdicts_of_the_page()
    assert quick.keys() == whole.keys()
    others = {number: (quick[number], whole[number]) for number in quick if quick[number] != whole[number]}
    assert len(others) <= 2, others  # one seed in place of three, on another machine: seen were none
