"""A document as CommonMark with GitHub's tables, aligned so that it reads well in a terminal too.

Any text in a run's name or tag is shown as it is and never interpreted: it is escaped here, and only here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from reports.document.document import (
    Block,
    Bullets,
    Document,
    Figure,
    Folded,
    Heading,
    Link,
    Listing,
    Paragraph,
    Range,
    Span,
    Strong,
    Table,
    Text,
    spans,
)
from reports.document.text import cut, one_line, pad, plural, width
from reports.document.text import markdown as escaped


def render(document: Document, figures: Mapping[str, str] | None = None) -> str:
    """The document as text ending in one newline. ``figures``: figure's name -> path beside the text; others are left
    out, with headings that would have nothing below them."""
    blocks = [b for b in document.blocks if not (isinstance(b, Figure) and b.name not in (figures or {}))]
    parts = [f"# {escaped(document.title)}"]
    for i, block in enumerate(blocks):
        following = blocks[i + 1] if i + 1 < len(blocks) else None
        if isinstance(block, Heading) and (
            following is None or (isinstance(following, Heading) and following.level <= block.level)
        ):
            continue
        parts.append(_block(block, figures or {}))
    return "\n\n".join(parts) + "\n"


def inline(text: Text, in_table: bool = False) -> str:
    """Text with its marks, on one line."""
    return "".join(_span(span, in_table) for span in spans(text))


def table(block: Table) -> str:
    """A pipe table, its columns padded."""
    heads = [inline(c.title, True) for c in block.columns]
    rights = [c.right for c in block.columns]
    rows = [
        [
            _unbroken(inline(cell, True)) if right else inline(cut(cell), True)
            for cell, right in zip(cells, rights, strict=True)
        ]
        for cells in zip(*(c.cells for c in block.columns), strict=True)
    ]
    widths = [max(3, *(width(r[i]) for r in (heads, *rows))) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(pad(c, w, r) for c, w, r in zip(cells, widths, rights, strict=True)) + " |"

    rule = "| " + " | ".join("-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, rights, strict=True)) + " |"
    lines = [line(heads), rule, *(line(r) for r in rows)]
    if block.more:
        lines += ["", f"*… and {plural(block.more, 'row')} more; `--top 0` shows all.*"]
    return "\n".join(lines)


def _unbroken(number: str) -> str:
    """A number with its unit and spread, which a narrow table must not break."""
    return number.replace(" ", "\u00a0")


def _block(block: Block, figures: Mapping[str, str]) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {inline(block.text)}"
    if isinstance(block, Paragraph):
        text = _at_line_start(inline(block.text))
        return f"> **Warning:** {text}" if block.tone == "warning" else text
    if isinstance(block, Folded):
        return "\n".join(
            [f"- {inline(block.summary)}", *(f"  - {_at_line_start(inline(item))}" for item in block.items)]
        )
    if isinstance(block, Bullets):
        return "\n".join(f"- {_at_line_start(inline(item))}" for item in block.items)
    if isinstance(block, Listing):
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", block.text)), default=0))
        return f"{fence}{block.language}\n{block.text}\n{fence}"
    if isinstance(block, Figure):
        image = f"![{escaped(block.alt)}]({quote(figures[block.name])})"
        return f"{image}\n\n*{escaped(block.caption)}*" if block.caption else image
    return table(block)


def _span(span: Span, in_table: bool) -> str:
    if isinstance(span, str):
        return escaped(span) if span.strip() == span else _keeping_ends(span)
    if isinstance(span, Range):
        return escaped(span.text)
    if isinstance(span, Strong):
        return f"**{escaped(span.text)}**"
    if isinstance(span, Link):
        return f"[{_code(span.text, in_table)}](<{quote(span.url, safe=':/#?&=%@+,;~')}>)"
    return _code(span.text, in_table)


def _keeping_ends(text: str) -> str:
    """Escaped text that keeps one space at the ends it has some."""
    body = escaped(text)
    if not body:
        return " "
    return f"{' ' if text[0].isspace() else ''}{body}{' ' if text[-1].isspace() else ''}"


def _code(text: str, in_table: bool) -> str:
    text = one_line(text)
    if in_table and "|" in text:
        # GitHub's tables split at a pipe even within code unless it is escaped; CommonMark would show the backslash.
        return escaped(text)
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{fence}{space}{text}{space}{fence}"


def _at_line_start(text: str) -> str:
    """Text that cannot be read as a heading, list, quote or rule."""
    return re.sub(r"^(\d+)([.)])", r"\1\\\2", re.sub(r"^([#>+=-])", r"\\\1", text))
