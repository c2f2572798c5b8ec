"""The results as one page of HTML that needs nothing but itself: pictures are drawn into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light; --line: #d8dde3; --grey: #57606a; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2328; margin: 0 auto; max-width: 62rem; padding: 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { font-size: 1.15rem; margin: 0 0 .3rem; }
section { border-top: 1px solid var(--line); padding: 1.2rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
td, th { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.chip { display: inline-block; border-radius: 1rem; padding: .05rem .7rem; font-size: .88rem; font-weight: 600; }
.holds { background: #dafbe1; color: #0b5c2a; } .when { background: #fff3c4; color: #6b4a00; }
.fails { background: #ffe2e0; color: #8c1410; } .undecided { background: #eaeef2; color: #1f2328; }
.small { color: var(--grey); font-size: .88rem; } .unmet { color: #8c1410; font-weight: 600; }
a { color: #0a58b5; } figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
@media (max-width: 40rem) { td.hide, th.hide { display: none; } body { padding: .7rem; } }
"""

KINDS = {"holds": "hold", "when": "hold under a condition", "fails": "do not hold", "undecided": "are undecided"}


def page(
    results: list[dict[str, Any]], documents: dict[str, str], corrections: Iterable[tuple[str, str]],
    environment: dict[str, Any],
) -> str:  # fmt: skip
    """The page as text.

    Args:
        results: of ``measure``.
        documents: short name -> title.
        corrections: short name of a document, and what is misprinted in it.
        environment: where it was measured.

    >>> "<title>" in page([], {}, [], {})
    True
    """
    counts = Counter(css_class(r["verdict"]) for r in results)
    summary = " ".join(f'<span class="chip {name}">{counts[name]} {words}</span>' for name, words in KINDS.items())
    contents = "".join(
        f'<tr><td class="number">{r["number"]}</td><td><a href="#s{r["number"]}">{escape(r["sentence"])}</a></td>'
        f"<td>{chip(r['verdict'])}</td></tr>"
        for r in results
    )
    names = "".join(f"<li>{escape(short)}: {escape(title)}</li>" for short, title in documents.items())
    slips = "".join(f"<li>{escape(short)}: {escape(what)}</li>" for short, what in corrections)
    where = ", ".join(f"{key} {escape(str(value))}" for key, value in environment.items() if value is not None)
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>What is said about normalization, measured</title><style>{STYLE}</style></head><body>"
        "<h1>What is said about normalization, measured</h1>"
        "<p>Every statement of five articles about batch, layer, weight and cosine normalization, with what was "
        "measured and the verdict that follows from it. An article is judged by its own words first; where they do "
        "not hold as written, by the condition under which they do.</p>"
        f"<p>{summary}</p><table>{contents}</table>"
        f"{''.join(map(section, results))}"
        f"<section><h2>The articles</h2><ul>{names}</ul>"
        f"<h2>Their misprints and slips</h2><ul>{slips}</ul><p class='small'>Measured with {where}.</p></section>"
        "</body></html>\n"
    )


def css_class(verdict: str) -> str:
    """The class of a verdict's chip.

    >>> css_class("holds when eps = 0")
    'when'
    """
    starts = {"does not": "fails", "undecided": "undecided", "holds when": "when", "holds": "holds"}
    return next(name for start, name in starts.items() if verdict.startswith(start))


def chip(verdict: str) -> str:
    """A verdict in its colour."""
    return f'<span class="chip {css_class(verdict)}">{escape(verdict)}</span>'


def section(result: dict[str, Any]) -> str:
    """One statement: its sentence, verdict, explanation, figures and pictures."""
    rows = "".join(map(finding_row, result["findings"]))
    pictures = "".join(
        f"<figure>{p['svg'][p['svg'].index('<svg') :]}"
        f"<figcaption class='small'>{escape(p['caption'])}</figcaption></figure>"
        for p in result["pictures"]
    )
    return (
        f'<section id="s{result["number"]}"><h2>{result["number"]}. {escape(result["sentence"])}</h2>'
        f"<p>{chip(result['verdict'])} <span class='small'>{escape(', '.join(result['documents']))}; "
        f"{result['seconds']:.1f} s</span></p><p>{escape(result['explanation'])}</p>"
        f"<table><tr><th>measured</th><th>value</th><th>required</th></tr>{rows}</table>{pictures}</section>"
    )


def finding_row(finding: dict[str, Any]) -> str:
    """One figure, with what was required of it."""
    mean, spread, limit = finding["mean"], finding["spread"], finding["limit"]
    value = "not finite" if mean is None else f"{mean:.4g}" + ("" if spread is None else f" ± {spread:.2g}")
    required = "" if limit is None else f"{finding['rule']} {limit:g}" + ("" if finding["met"] else ", not met")
    if limit is not None:
        required += " (under the condition, or instead)" if finding["kind"] == "when" else " (as stated)"
    style = "" if finding["met"] else ' class="unmet"'
    return f"<tr><td>{escape(finding['what'])}</td><td class='number'>{value}</td><td{style}>{required}</td></tr>"
