"""The pages about normalization: links and pictures are there, formulas are whole, statements have their tests.

Their examples run as doctests.
"""

import ast
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted((DOCS / "normalization").glob("*.md"))


def prose(page):
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_formulas(page):
    text = prose(page)
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert targets
    for target in targets:
        assert (page.parent / target).exists(), target
    for paragraph in text.split("\n\n"):
        assert paragraph.count("$") % 2 == 0, paragraph
    for formula in re.findall(r"\$\$(.*?)\$\$|\$(.*?)\$", text, re.DOTALL):
        inside = "".join(formula)
        assert inside.count("{") == inside.count("}") and inside.strip("$"), formula
        assert inside.count(r"\left") - inside.count(r"\leftarrow") == inside.count(r"\right"), formula
        assert not re.search(r"\\[\\,;!{}|]", inside), f"GitHub eats the backslash: {formula}"


def test_every_page_is_reached_from_the_first():
    first = (DOCS / "normalization" / "index.md").read_text(encoding="utf-8")
    assert {p.name for p in PAGES} == {"index.md", *re.findall(r"\]\((\w+\.md)\)", first)}


def test_statements_have_their_tests():
    tests = [
        node.name
        for path in (ROOT / "tests").glob("test_claims*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    ]
    numbers = {n for name in tests for n in re.findall(r"\d+", (re.match(r"test((?:_\d+)+)", name) or [""])[0])}
    cited = {
        n for page in PAGES for n in re.findall(r"\d+", " ".join(re.findall(r"statements?\s[\d\sand]+", prose(page))))
    }
    assert cited and cited <= numbers


def test_pictures_are_small_and_come_from_the_script(tmp_path):
    pictures = sorted((DOCS / "images").glob("norm-*.png"))
    assert all(p.stat().st_size < 60_000 for p in pictures)
    script = runpy.run_path(str(DOCS / "make_pictures.py"))
    assert [p.name for p in pictures] == sorted(f"norm-{name}.png" for name in script["PICTURES"])
    pytest.importorskip("matplotlib")
    script["picture"].__globals__["IMAGES"] = tmp_path
    for name, (width, height, draw) in script["PICTURES"].items():
        assert script["picture"](name, width, height, draw).read_bytes()[:4] == b"\x89PNG"
