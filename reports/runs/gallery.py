"""A model's answers to pictures as a page: those it is least sure of first, what was not answered, counts by class."""

from __future__ import annotations

import base64
import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from reports.charts import svg
from reports.document import text
from reports.document.document import Code, Column, Document, Figure, Heading, Paragraph, Table

MOST = 400
_COLUMNS, _WIDTH = 6, 736  # a phone scrolls drawings of this width
_CELL, _GAP, _WORDS = _WIDTH / _COLUMNS, 10, 52
Classes = Sequence[tuple[str, float]]


@dataclass(frozen=True)
class _Shown:
    path: str
    classes: Classes
    thumbnail: bytes


class Gallery:
    """Takes answers one by one and keeps at most ``MOST`` of the pictures, those with the least probable best class."""

    def __init__(self) -> None:
        self._kept: list[tuple[float, int, _Shown]] = []
        self._problems: list[tuple[str, str]] = []
        self._num_problems = 0
        self._counts: Counter[str] = Counter()

    def add(self, path: str, classes: Classes, problem: str, thumbnail: bytes) -> None:
        """One picture: its classes with their probabilities, best first, and a small JPEG or PNG; or a problem."""
        if problem:
            self._num_problems += 1
            if len(self._problems) < MOST:
                self._problems.append((path, problem))
            return
        best, probability = classes[0]
        self._counts[best] += 1
        heapq.heappush(self._kept, (-probability, -self._counts.total(), _Shown(path, classes, thumbnail)))
        if len(self._kept) > MOST:
            heapq.heappop(self._kept)

    def document(self, model: str) -> Document:
        """The page."""
        shown = [one for _, _, one in sorted(self._kept, reverse=True)]
        total = self._counts.total()
        page = Document(f"{text.plural(total, 'picture')} answered by {model}")
        if shown:
            cut = f" The {len(shown)} least sure of {total:,} are shown." if len(shown) < total else ""
            page.add(
                Paragraph(f"Least sure first: the picture whose likeliest class has the lowest probability.{cut}"),
                _sheet(shown),
            )
        if self._problems:
            paths = Column("picture", False, [(Code(path),) for path, _ in self._problems])
            page.add(Heading("Not answered"))
            page.add(Table((paths, Column("reason", False, [reason for _, reason in self._problems]))))
        if self._num_problems > len(self._problems):
            page.add(Paragraph(f"… and {self._num_problems - len(self._problems):,} more.", "note"))
        if shown:
            classes, counts = zip(*self._counts.most_common(), strict=True)
            said = Column("pictures", True, [text.count(count) for count in counts], counts)
            page.add(Heading("Answers by class"), Table((Column("class", False, classes), said)))
        return page


def _sheet(shown: Sequence[_Shown]) -> Figure:
    side, high = _CELL - _GAP, _CELL + _WORDS
    drawing = svg.Drawing(_WIDTH, -(-len(shown) // _COLUMNS) * high)
    for number, one in enumerate(shown):
        x, y = (number % _COLUMNS) * _CELL, (number // _COLUMNS) * high
        kind = "jpeg" if one.thumbnail.startswith(b"\xff\xd8") else "png"
        title = ", ".join(f"{name} {text.percent(share)}" for name, share in one.classes)
        drawing.parts.append(
            f'<image x="{svg.n(x)}" y="{svg.n(y)}" width="{svg.n(side)}" height="{svg.n(side)}"'
            f' preserveAspectRatio="xMidYMax meet" href="data:image/{kind};base64,'
            f'{base64.b64encode(one.thumbnail).decode()}"><title>{svg.words(f"{one.path}: {title}")}</title></image>'
        )
        best, probability = one.classes[0]
        drawing.text(x + side / 2, y + side + 14, svg.fitted(best, side), "ink", 12, "middle", bold=True)
        drawing.text(x + side / 2, y + side + 29, text.percent(probability), anchor="middle")
        drawing.text(
            x + side / 2, y + side + 43, svg.fitted(PurePath(one.path).name, side, 10), size=10, anchor="middle"
        )
    alt = f"{text.plural(len(shown), 'picture')} with the likeliest class of each."
    return Figure("pictures", drawing.svg(alt), alt)
