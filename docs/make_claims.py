"""Write the table of verdicts into claims.md, from what the command measured.

python -m tinygrad_norm claims --json > claims.json && python docs/make_claims.py claims.json
"""

import json
import sys
from pathlib import Path

from tinygrad_norm.lab.claims import CORRECTIONS
from tinygrad_norm.lab.claims.run import deciding

PAGE = Path(__file__).resolve().parent / "claims.md"
BEGIN, END = "<!-- verdicts: written by docs/make_claims.py -->\n", "<!-- end of verdicts -->\n"
ESCAPED = str.maketrans({c: "\\" + c for c in "\\|*_[]<>$`~"})


def row(result):
    cells = [str(result["number"]), result["sentence"], result["verdict"], deciding(result)]
    return "| " + " | ".join(cell.translate(ESCAPED) for cell in cells) + " |"


def sentence(text):
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def paragraph(result):
    title = f"**{result['number']}. {result['sentence'].translate(ESCAPED)}**"
    says = ", ".join(result["documents"])
    verdict = sentence(result["verdict"]).translate(ESCAPED)
    return f"{title} ({says}). *{verdict}* {result['explanation'].translate(ESCAPED)}"


def render(results):
    """The table of all verdicts, a paragraph for each that is not simply "holds", and the misprints."""
    kinds = [("hold", "holds"), ("hold under a condition", "holds when"), ("do not hold", "does not hold")]
    kinds += [("are undecided", "undecided")]
    verdicts = [result["verdict"] for result in results]
    counts = [sum(v == key or (key == "holds when" and v.startswith(key)) for v in verdicts) for _, key in kinds]
    total = ", ".join(f"{n} {words}" for n, (words, _) in zip(counts, kinds))
    table = ["| | statement | verdict | decided by |", "|---|---|---|---|", *map(row, results)]
    differs = [paragraph(result) for result in results if result["verdict"] != "holds"]
    lines = [f"Of {len(results)} statements {total}.", "", *table, "", "## Where the project does not simply agree", ""]
    misprints = [f"- {document}: {what.translate(ESCAPED)}" for document, what in CORRECTIONS]
    more = ["## Misprints (68)", "", *misprints, ""]
    return "\n".join([*lines, "\n\n".join(differs), "", *more])


def main(path):
    results = json.loads(Path(path).read_text(encoding="utf-8"))["results"]
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{render(results)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
