"""How Sphinx builds the site: python -m sphinx -W --keep-going -b html docs docs/_build.

Nothing is loaded from a network, neither when the site is built nor when it is read: formulas become MathML, which
browsers draw themselves, and a link to a file of the repository leads to a page that shows it.
"""

import re
import sys
from html import escape
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

import tinygrad_norm  # noqa: E402

project = "tinygrad_norm"
author = "tinygrad_norm contributors"
copyright = "tinygrad_norm contributors"
version = release = tinygrad_norm.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.linkcode"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "tinygrad_norm"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"


# --- formulas -------------------------------------------------------------------------------------


def mathml(text, display):
    return convert(" ".join(text.split()), display=display)


def visit_math(self, node):
    self.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_math_block(self, node):
    self.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


# --- docstrings and files of the repository ----------------------------------------------------------------------


def page_of(path):
    """The page that shows a file: tinygrad_norm/engine/op.py -> source/tinygrad_norm/engine/op.py."""
    return f"source/{path.relative_to(ROOT).as_posix()}"


class Pages(SphinxTransform):
    """Links that leave docs/ lead to pages made of these files, not to downloads; blocks end with their last line."""

    default_priority = 500

    def apply(self):
        for link in list(self.document.findall(addnodes.download_reference)):
            path = (DOCS / self.env.docname).parent.joinpath(link["reftarget"]).resolve()
            if path.suffix != ".py":
                continue
            up = "../" * self.env.docname.count("/")
            uri = f"{up}{page_of(path)}.html"
            link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))
        for block in self.document.findall(nodes.literal_block):
            block.rawsource = block.astext().rstrip()  # doctest wants an empty line at the end, readers do not
            block.children = [nodes.Text(block.rawsource)]


def plain_text(app, what, name, obj, options, lines):
    """Docstrings are plain text with the roles of Sphinx; |x|, *shape and val_ are no markup in them."""
    if what == "property":
        lines[:0] = ["..", ""]  # an empty comment; else napoleon takes the words before a colon for a type
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(``.*?``|:\w+:`.*?`)", line)
            parts[::2] = [re.sub(r"\*|\||_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
            lines[i] = "".join(parts)


def linkcode_resolve(domain, info):
    """[source] beside a name of the reference, whose pages stand in docs/api."""
    thing = sys.modules.get(info["module"])
    for part in info["fullname"].split("."):
        thing = getattr(thing, part, None)
    code = getattr(thing, "__code__", None) or getattr(getattr(thing, "__init__", None), "__code__", None)
    if code is None or ROOT not in Path(code.co_filename).parents:
        return None
    return f"../{page_of(Path(code.co_filename))}.html#line-{code.co_firstlineno}"


def source_pages(app):
    for folder in ("tinygrad_norm", "examples", "tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            text = app.builder.highlighter.highlight_block(
                path.read_text(encoding="utf-8"), "python", linenos=False, location=name
            )
            lines = text.split("\n")
            numbered = "\n".join(f'<span id="line-{n}"></span>{line}' for n, line in enumerate(lines, 1))
            yield page_of(path), {"title": name, "body": f"<h1>{escape(name)}</h1>{numbered}"}, "page.html"


def setup(app):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.add_transform(Pages)
    app.connect("autodoc-process-docstring", plain_text, priority=400)
    app.connect("html-collect-pages", source_pages)
