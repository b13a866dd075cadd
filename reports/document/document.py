"""What a report is made of, before it is markdown or HTML: a title and blocks of text, tables and figures.

Text is a plain string, shown as it is whatever it holds, or a tuple of strings, ``Strong``, ``Code``, ``Link`` ….
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from tracking.errors.words import harmless


@dataclass(frozen=True)
class Strong:
    """Words that matter most."""

    text: str


@dataclass(frozen=True)
class Code:
    """An id, a name or a command as it is typed."""

    text: str


@dataclass(frozen=True)
class Link:
    """``text`` that leads to ``url``; shown as code."""

    text: str
    url: str


@dataclass(frozen=True)
class RunId:
    """A run's id as ``whole`` and its beginning; in HTML its first place on the page is where the others lead."""

    text: str
    whole: str


@dataclass(frozen=True)
class Range:
    """An interval in words, and its ends and middle as fractions of its column's scale, to be drawn."""

    text: str
    low: float
    middle: float
    high: float


Span: TypeAlias = str | Strong | Code | Link | RunId | Range
Text: TypeAlias = str | tuple[Span, ...]


@dataclass(frozen=True)
class Heading:
    """A section's or subsection's title; ``level`` 2 or 3."""

    text: Text
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """``tone``: the page's answer, a note in small print or a warning; empty for ordinary text."""

    text: Text
    tone: Literal["", "answer", "note", "warning"] = ""


@dataclass(frozen=True)
class Bullets:
    """A list without order."""

    items: tuple[Text, ...]


@dataclass(frozen=True)
class Folded:
    """A line that unfolds into a list; where nothing can unfold, the list stands below it."""

    summary: Text
    items: tuple[Text, ...]


@dataclass(frozen=True)
class Listing:
    """Lines to copy into a terminal or a program."""

    text: str
    language: str = "sh"

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", harmless(self.text))  # it is shown with its line ends and spaces


@dataclass(frozen=True)
class Column:
    """A table's column: its head, its side, the cells as text and what they sort by (None: last)."""

    title: str
    right: bool
    cells: Sequence[Text]
    values: Sequence[Any] = ()


@dataclass(frozen=True)
class Table:
    """Columns of equal length. ``marked``: rows that stand out; ``more``: rows left out, which the page mentions.

    ``named``: the column that names the rows, which a narrow screen keeps in sight and begins with.
    """

    columns: tuple[Column, ...]
    marked: tuple[int, ...] = ()
    more: int = 0
    named: int = 0

    @property
    def num_rows(self) -> int:
        return len(self.columns[0].cells)


@dataclass(frozen=True)
class Figure:
    """A drawing: ``name`` is the file's without its ending, ``svg`` also works as a file, ``alt`` describes it."""

    name: str
    svg: str
    alt: str
    caption: str = ""


Block: TypeAlias = Heading | Paragraph | Bullets | Folded | Listing | Table | Figure


@dataclass
class Document:
    """A report; ``contents``: long enough for a table of its sections."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    contents: bool = False

    def __post_init__(self) -> None:
        self.title = harmless(self.title)

    def add(self, *blocks: Block | None) -> None:
        """Append the blocks that are there."""
        self.blocks += [b for b in blocks if b is not None]

    def answer(self) -> str:
        """Its first sentence: what a report answers, or its title."""
        answers = (plain(b.text) for b in self.blocks if isinstance(b, Paragraph) and b.tone == "answer")
        return next(answers, self.title)

    def figures(self) -> Iterator[Figure]:
        """The figures in their order."""
        return (b for b in self.blocks if isinstance(b, Figure))


def spans(text: Text) -> tuple[Span, ...]:
    """Text as a tuple of spans."""
    return (text,) if isinstance(text, str) else text


def plain(text: Text) -> str:
    """Text without its marks."""
    return "".join(s if isinstance(s, str) else s.text for s in spans(text))


def joined(texts: Sequence[Text], link: str = ", ", last: str = " and ") -> tuple[Span, ...]:
    """Texts in a row: ``a, b and c``."""
    result: list[Span] = []
    for i, text in enumerate(texts):
        if i:
            result.append(last if i == len(texts) - 1 else link)
        result.extend(spans(text))
    return tuple(result)
