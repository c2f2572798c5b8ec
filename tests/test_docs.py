"""The pages: links lead somewhere, the seven steps run and print what is shown, the site needs no network.

Blocks with >>> run as doctests. The pages about normalization have tests of their own in test_claims_docs.py.
"""

import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from tinygrad_norm.lab.claims import CLAIMS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)
STEPS = sorted((ROOT / "examples" / "steps").glob("*.py"))
SHOWN = re.findall(r"^```text\n(.*?)^```$", (DOCS / "steps.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def prose(page):
    """A page without its blocks of code, and without code inside lines."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`]*`", "", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(DOCS).as_posix())
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose(page)):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_there_are_seven_steps_with_their_output():
    assert [p.name for p in STEPS] == [f"step{n}.py" for n in range(1, 8)]
    assert len(SHOWN) == len(STEPS)


@pytest.mark.parametrize("number", range(1, 8))
def test_a_step_is_short_and_prints_what_the_page_shows(number, tmp_path):
    script = STEPS[number - 1]
    text = script.read_text(encoding="utf-8")
    assert 20 <= len(text.splitlines()) <= 75
    assert text.startswith(f'"""Step {number}: ') and "What one learns" in text
    environment = os.environ | {"PYTHONPATH": os.fspath(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-W", "error", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == SHOWN[number - 1]
    assert list(tmp_path.iterdir()) == []


def test_every_statement_has_its_line_in_the_table():
    page = (DOCS / "claims.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*) \| (holds|holds when .*|does not hold) \| .* \|$", page, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == sorted(CLAIMS)
    for number, sentence, _ in rows:
        assert re.sub(r"\\(.)", r"\1", sentence) == CLAIMS[int(number)].sentence


def test_the_table_is_written_from_the_results():
    render = runpy.run_path(str(DOCS / "make_claims.py"))["render"]
    finding = {"text": "|x|: 1 (NOT MET: = 0)", "kind": "stated", "met": False}
    same = {"number": 3, "sentence": "a_b", "documents": ["A"], "explanation": "Because.", "findings": [finding]}
    text = render([same | {"verdict": "holds when c", "condition": "c"}, same | {"verdict": "holds", "condition": ""}])
    assert "Of 2 statements 1 hold, 1 hold under a condition, 0 do not hold, 0 are undecided." in text
    assert r"| 3 | a\_b | holds when c | \|x\|: 1 (NOT MET: = 0) |" in text
    assert text.count(r"**3. a\_b** (A). *Holds when c.* Because.") == 1


def test_formulas_have_only_commands_that_are_understood():
    convert = pytest.importorskip("latex2mathml.converter").convert
    formulas = [f for page in PAGES for f in re.findall(r"\$\$(.*?)\$\$|\$(.*?)\$", prose(page), re.DOTALL)]
    assert len(formulas) > 100
    for formula in map("".join, formulas):
        assert "\\" not in convert(" ".join(formula.split())), formula


class Links(HTMLParser):
    """What a page of the site links to and loads, and the ids it has."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.ids = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids.add(values.get("id"))
        if tag in ("script", "img", "link", "iframe"):
            self.loads.append(values.get("src") or values.get("href") or "")
        elif "href" in values:
            self.links.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built as continuous integration builds it."""
    for tool in ("sphinx", "furo", "myst_parser", "latex2mathml", "sphinx_gallery", "matplotlib"):
        pytest.importorskip(tool)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", folder / "cache"]
    done = subprocess.run([*command, DOCS, folder / "html"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.mark.slow
def test_every_example_is_a_notebook_that_runs(site, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in (site / "_downloads").rglob("*.ipynb")}
    assert notebooks.keys() == {path.stem for path in (ROOT / "examples").rglob("*.py")}
    for name, notebook in notebooks.items():
        nbformat.validate(notebook)
        kinds = [cell.cell_type for cell in notebook.cells]
        assert kinds[:2] == ["markdown", "code"] and kinds.count("code") > 1, name
        assert notebook.cells[0].source.startswith("# "), name
    code = "\n".join(cell.source for cell in notebooks["xor"].cells if cell.cell_type == "code")
    environment = os.environ | {"PYTHONPATH": os.fspath(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "a line:    loss 0.6931" in done.stdout
    assert "a line:    loss 0.6931" in (site / "gallery" / "xor.html").read_text(encoding="utf-8")
    assert "_images/sphx_glr_spiral_002.png" in (site / "gallery" / "spiral.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_site_is_whole_and_needs_no_network(site):
    pages = {path: Links(path) for path in site.rglob("*.html")}
    assert len(pages) > 100
    assert "claims-measured/index.html" in pages[site / "claims.html"].links
    assert (site / "claims-measured" / "index.html").read_text(encoding="utf-8").count("<svg") > 5
    for path, page in pages.items():
        assert not [load for load in page.loads if load.startswith(("http:", "https:", "//"))], path
        for link in page.links:
            if link.startswith(("http:", "https:", "mailto:")):
                continue
            file, _, anchor = unquote(link).partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.exists(), f"{path.name}: {link}"
            assert not anchor or target not in pages or anchor in pages[target].ids, f"{path.name}: {link}"
