"""A document as one HTML file: no network, dark and light, sortable tables, readable on a phone.

The template escapes every text; a content security policy also allows only this page's own script.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from reports.document.document import Column, Document, Link, Range, RunId, Span, Strong, Table, Text, plain, spans
from reports.document.text import cut, is_missing, one_line, width
from tracking.errors.words import harmless

_FOLDER = Path(__file__).parent / "templates"
_SHORT = 28
# A table with more rows has a box to search it.
SEARCHED = 100
# A space that no line may break at: between a number and its unit, around the sign of a comparison.
_UNIT = re.compile(r"(?<=\d) (?=(?:%|±|USD|s|min|h|kB|MB|GB)(?:\W|$))|(?<=±) |(?<=\bp) (?=[<=])|(?<=p [<=]) ")


def render(document: Document) -> str:
    """The whole page."""
    style, script = _asset("page.css"), _asset("page.js")
    return _template("page.html.j2").render(
        document=document, write=_Writer(), style=Markup(style), script=Markup(script), policy=_policy(script)
    )


def fragment(document: Document) -> str:
    """The blocks alone, in a ``div`` with its style: what a notebook shows."""
    return _template("fragment.html.j2").render(document=document, write=_Writer(), style=Markup(_asset("page.css")))


class _Writer:
    """Text with its marks. The first place of a run's id on the page is where its other places lead."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, text: Text) -> Markup:
        return Markup("").join(self._span(span) for span in spans(text))

    def _span(self, span: Span) -> Markup:
        if isinstance(span, str):
            return escape(_UNIT.sub("\u00a0", harmless(span)))
        shown = escape(one_line(span.text))
        if isinstance(span, Strong):
            return Markup("<strong>{}</strong>").format(shown)
        if isinstance(span, Link) and span.url.startswith(("http://", "https://")):
            return Markup('<a href="{}"><code>{}</code></a>').format(span.url, shown)
        if isinstance(span, Range):
            return Markup("{}{}").format(_UNIT.sub("\u00a0", span.text), _drawn(span))
        if isinstance(span, RunId):
            again = span.whole in self._seen
            self._seen.add(span.whole)
            inner = '<a href="#r{}" title="{}"><code>{}</code></a>' if again else '<code id="r{}" title="{}">{}</code>'
            return Markup(inner).format(span.whole, span.whole, shown)
        return Markup("<code>{}</code>").format(shown)


def _drawn(span: Range) -> Markup:
    """The interval as a line with a dot at its middle, as wide as the column's scale; the words beside it say it."""
    low, middle, high = (2 + round(92 * at, 1) for at in (span.low, span.middle, span.high))
    return Markup(
        '<svg class="range" width="96" height="8" viewBox="0 0 96 8" aria-hidden="true">'
        '<path d="M0 4H96"/><path d="M{} 4H{}"/><circle cx="{}" cy="4" r="3"/></svg>'
    ).format(low, high, middle)


def sort_key(column: Column, row: int) -> str:
    """What the cell sorts by, as text: a number or words; empty for a missing value, which stays last."""
    value: Any = column.values[row] if len(column.values) else plain(column.cells[row])
    if is_missing(value):
        return ""
    if isinstance(value, str):
        return value
    number = float(value)
    return repr(number) if number == number else ""


def classes(table: Table) -> list[Markup]:
    """The class attribute of each column's cells."""
    found = []
    for place, column in enumerate(table.columns):
        is_long = not column.right and any(width(plain(cell)) > _SHORT for cell in column.cells)
        marks = (
            ("right", column.right),
            ("long", is_long),
            ("name", place == table.named),
            ("before", place < table.named),
        )
        words = " ".join(word for word, there in marks if there)
        found.append(Markup(' class="{}"').format(words) if words else Markup(""))
    return found


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    no_address = "base-uri 'none'; form-action 'none'"  # which default-src leaves open
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; {no_address}"


def _asset(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(sort_key=sort_key, cut=cut, classes=classes, plain=plain, searched=SEARCHED)
    environment.filters["harmless"] = harmless
    environment.tests["kind"] = lambda block, name: type(block).__name__ == name
    return environment.get_template(name)
