"""How Sphinx builds the site: python -m sphinx -W --keep-going -b html docs docs/_build.

Nothing is loaded from a network, neither when the site is built nor when it is read: formulas become MathML, which
browsers draw themselves, and a link to a file of the repository leads to a page that shows it.
"""

import re
import shutil
import sys
from html import escape
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx_gallery.scrapers import figure_rst

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

import tinygrad_norm  # noqa: E402
from tinygrad_norm.lab.claims import measure, report  # noqa: E402

project = "tinygrad_norm"
author = "tinygrad_norm contributors"
copyright = "tinygrad_norm contributors"
version = release = tinygrad_norm.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.linkcode"]
extensions += ["sphinx_gallery.gen_gallery"]
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


# --- examples -------------------------------------------------------------------------------------

EXAMPLES = DOCS / "_build" / "examples"
ORDER = """quickstart xor spiral residual second_order custom_op test_my_op broken_backward swap_backend
step1 step2 step3 step4 step5 step6 step7""".split()


def copy_examples(app, config):
    """The gallery runs copies, so that what the examples write does not lie among the sources."""
    shutil.rmtree(EXAMPLES, ignore_errors=True)
    shutil.copytree(ROOT / "examples", EXAMPLES, ignore=shutil.ignore_patterns("__pycache__"))


def in_order(name):
    return ORDER.index(Path(name).stem)


def pictures(block, block_vars, gallery_conf):
    """Shows the pictures that a cell of an example wrote, and takes them away."""
    pairs = zip(sorted(Path.cwd().glob("*.png")), block_vars["image_path_iterator"])
    return "".join(figure_rst([shutil.move(path, target)], gallery_conf["src_dir"]) for path, target in pairs)


sphinx_gallery_conf = {
    "examples_dirs": str(EXAMPLES),
    "gallery_dirs": "gallery",
    "filename_pattern": r"/(?!residual|test_)\w+\.py$",  # not the slow one, nor that for pytest
    "within_subsection_order": in_order,
    "image_scrapers": (pictures,),
    "reset_modules": (),
    "abort_on_example_error": True,
    "min_reported_time": 60,
    "write_computation_times": False,
    "show_signature": False,
}
suppress_warnings = ["config.cache"]  # functions among the settings: they are not compared with the last build's


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
    """The page that shows a file: tinygrad_norm/engine/op.py -> source/tinygrad_norm/engine/op.py.

    An example has one in the gallery: examples/xor.py -> gallery/xor.
    """
    name = path.relative_to(ROOT).as_posix()
    if name.startswith("examples/"):
        return name.replace("examples", "gallery", 1).replace("README.txt", "index").removesuffix(".py")
    return f"source/{name}"


class Pages(SphinxTransform):
    """Links that leave docs/ lead to pages made of these files, not to downloads; blocks end with their last line."""

    default_priority = 500

    def apply(self):
        for link in list(self.document.findall(addnodes.download_reference)):
            path = (DOCS / self.env.docname).parent.joinpath(link["reftarget"]).resolve()
            if path.suffix not in (".py", ".txt") or DOCS in path.parents:  # the gallery's are downloads
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
    for folder in ("tinygrad_norm", "tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            text = app.builder.highlighter.highlight_block(
                path.read_text(encoding="utf-8"), "python", linenos=False, location=name
            )
            lines = text.split("\n")
            numbered = "\n".join(f'<span id="line-{n}"></span>{line}' for n, line in enumerate(lines, 1))
            yield page_of(path), {"title": name, "body": f"<h1>{escape(name)}</h1>{numbered}"}, "page.html"


def measured(app, error):
    """The page of the claims with its pictures, from a quick run: half a minute."""
    if error is None and app.builder.name == "html":
        report(measure(quick=True, pictures=True), Path(app.outdir, "claims-measured"))


def setup(app):
    app.connect("config-inited", copy_examples, priority=1)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.add_transform(Pages)
    app.connect("autodoc-process-docstring", plain_text, priority=400)
    app.connect("html-collect-pages", source_pages)
    app.connect("build-finished", measured)
