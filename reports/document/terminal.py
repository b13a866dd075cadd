"""A document drawn in a terminal by rich: as wide as the window, in colour where the terminal has it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.style import Style
from rich.table import Table as Grid
from rich.text import Text as Words

from reports.document.document import (
    Block,
    Bullets,
    Column,
    Document,
    Figure,
    Folded,
    Heading,
    Link,
    Listing,
    Paragraph,
    Strong,
    Table,
    Text,
    plain,
    spans,
)
from reports.document.text import cut, one_line, plural, width
from tracking.errors.program import drawn
from tracking.errors.words import harmless

# A column of words may be wrapped to this many characters, one of numbers never.
_NARROW = 24
_MOST_WIDE = 100


def show(document: Document, console: Console | None = None) -> None:
    """Print the whole document, without its figures. ``NO_COLOR`` and ``TERM=dumb`` are rich's to honour."""
    console = console or Console(file=drawn(sys.stdout), highlight=False)
    console.print(draw(document, console.width))


def draw(document: Document, columns: int) -> Group:
    """What rich prints into so many columns; headings over figures alone are left out."""
    return Group(*_parts(document, columns))


def _parts(document: Document, columns: int) -> Iterator[RenderableType]:
    yield Words(document.title, "bold")
    blocks = [block for block in document.blocks if not isinstance(block, Figure)]
    for i, block in enumerate(blocks):
        following = blocks[i + 1] if i + 1 < len(blocks) else None
        if isinstance(block, Heading) and (
            following is None or (isinstance(following, Heading) and following.level <= block.level)
        ):
            continue
        yield ""
        yield from _block(block, columns)


def _block(block: Block, columns: int) -> Iterator[RenderableType]:
    if isinstance(block, Heading):
        yield _words(block.text, "bold underline" if block.level == 2 else "bold")
    elif isinstance(block, Paragraph) and block.tone in ("answer", "warning"):
        style = "green" if block.tone == "answer" else "yellow"
        yield Panel(_words(block.text), box=box.ROUNDED, border_style=style, width=min(columns, _MOST_WIDE))
    elif isinstance(block, Paragraph):
        yield Padding(
            _words(block.text, "dim" if block.tone == "note" else ""), (0, max(0, columns - _MOST_WIDE), 0, 0)
        )
    elif isinstance(block, (Bullets, Folded)):
        if isinstance(block, Folded):
            yield _words(block.summary)
        for item in block.items:
            line = Grid.grid(padding=(0, 1))
            line.add_row("•", _words(item))
            yield line
    elif isinstance(block, Listing):
        # Not wrapped by us, so that it can be copied.
        yield Words(block.text, "cyan", no_wrap=True, overflow="ignore")
    elif isinstance(block, Table):
        yield from _table(block, columns)


def _table(block: Table, columns: int) -> Iterator[RenderableType]:
    """The columns that fit, the first ones first; what is left out is named."""
    shown = _fitting(block.columns, columns)
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for column in shown:
        grid.add_column(
            Words(one_line(column.title)),
            justify="right" if column.right else "left",
            no_wrap=column.right,
            overflow="fold",
            min_width=_least(column),
            header_style="bold",
        )
    for row in range(block.num_rows):
        grid.add_row(*(_words(cut(c.cells[row])) for c in shown), style="bold" if row in block.marked else "")
    yield grid
    left_out = [one_line(c.title) for c in block.columns[len(shown) :]]
    if left_out:
        yield Words(f"A wider window also shows {', '.join(left_out)}.", "dim")
    if block.more:
        yield Words(f"… and {plural(block.more, 'row')} more; --top 0 shows all.", "dim")


def _fitting(columns: Sequence[Column], room: int) -> list[Column]:
    shown: list[Column] = []
    for column in columns:
        room -= _least(column) + 2
        if room < -2 and len(shown) > 1:
            break
        shown.append(column)
    return shown


def _least(column: Column) -> int:
    """The fewest characters the column can have."""
    widest = max([width(one_line(plain(cut(cell)))) for cell in column.cells], default=0)
    return max(width(column.title), widest if column.right else min(widest, _NARROW))


def _words(text: Text, style: str = "") -> Words:
    words = Words(style=style)
    for span in spans(text):
        if isinstance(span, str):
            words.append(harmless(span) if span.strip() == span else harmless(span).replace("\n", " "))
        elif isinstance(span, Strong):
            words.append(one_line(span.text), "bold")
        elif isinstance(span, Link):
            words.append(one_line(span.text), Style(color="cyan", link=one_line(span.url)))
        else:
            words.append(one_line(span.text), "cyan")
    return words
