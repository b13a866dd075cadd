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

from reports.document.document import Code, Column, Document, Link, Strong, Text, plain, spans
from reports.document.text import is_missing, one_line, width

_FOLDER = Path(__file__).parent / "templates"
_SHORT = 28
# A space that no line may break at: between a number and its unit, around the sign of a comparison.
_UNIT = re.compile(r"(?<=\d) (?=(?:%|±|USD|s|min|h|kB|MB|GB)(?:\W|$))|(?<=±) |(?<=\bp) (?=[<=])|(?<=p [<=]) ")


def render(document: Document) -> str:
    """The whole page."""
    style, script = _asset("page.css"), _asset("page.js")
    return _template("page.html.j2").render(
        document=document, style=Markup(style), script=Markup(script), policy=_policy(script)
    )


def fragment(document: Document) -> str:
    """The blocks alone, in a ``div`` with its style: what a notebook shows."""
    return _template("fragment.html.j2").render(document=document, style=Markup(_asset("page.css")))


def inline(text: Text) -> Markup:
    """Text with its marks."""
    return Markup("").join(_span(span) for span in spans(text))


def _span(span: str | Strong | Code | Link) -> Markup:
    if isinstance(span, str):
        return escape(_UNIT.sub("\u00a0", span))
    shown = escape(one_line(span.text))
    if isinstance(span, Strong):
        return Markup("<strong>{}</strong>").format(shown)
    if isinstance(span, Link) and span.url.startswith(("http://", "https://")):
        return Markup('<a href="{}"><code>{}</code></a>').format(span.url, shown)
    return Markup("<code>{}</code>").format(shown)


def sort_key(column: Column, row: int) -> str:
    """What the cell sorts by, as text: a number or words; empty for a missing value, which stays last."""
    value: Any = column.values[row] if len(column.values) else plain(column.cells[row])
    if is_missing(value):
        return ""
    if isinstance(value, str):
        return value
    number = float(value)
    return repr(number) if number == number else ""


def is_long(column: Column) -> bool:
    """Whether it has a cell too long for one line."""
    return any(width(plain(cell)) > _SHORT for cell in column.cells)


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"


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
    environment.filters["inline"] = inline
    environment.globals.update(sort_key=sort_key, is_long=is_long)
    environment.tests["kind"] = lambda block, name: type(block).__name__ == name
    return environment.get_template(name)
