"""Every statement, measured in a quick run, and the verdicts of docs/claims.md, which come from a whole one."""

import json
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
def test_a_quick_run_comes_to_the_same_verdicts(run, tmp_path, record_property):
    """The command measures them all and says how long that took."""
    status, out, _ = run("claims", "--quick", "--quiet", "--json", "--no-pictures", "--out", "here")
    assert status == 0
    quick = {result["number"]: result["verdict"] for result in json.loads(out)["results"]}
    assert sorted(quick) == sorted(claims.CLAIMS)
    seconds = json.loads((tmp_path / "here" / "claims.json").read_text(encoding="utf-8"))["environment"]["seconds"]
    record_property("figure", f"claims --quick: {seconds} s")
    assert seconds > 1
    whole = verdicts_of_the_page()
    assert quick.keys() == whole.keys()
    others = {number: (quick[number], whole[number]) for number in quick if quick[number] != whole[number]}
    assert len(others) <= 2, others  # one seed in place of three, on another machine: seen were none
