"""Runs that go on together in one table: redrawn in a terminal, nothing but the news in a pipe; or printed once.

A row is one line, whatever its name: a table whose rows wrap cannot be redrawn in place.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from tracking.errors.program import drawn, harmless_streams
from tracking.errors.words import duration, harmless, money

if TYPE_CHECKING:
    from rich.text import Text

_TITLES = ("run", "state", "epoch", "score", "images/s", "left", "cost")
# As wide from the first moment on, so that columns do not move when numbers grow.
_LEAST = (16, 8, 7, 6, 8, 6, 0)
# Where the window is narrow, the first of these goes first.
_DROPPED = ("images/s", "cost", "left", "epoch", "score")
_GAP = "  "
_STYLES = {"finished": "green", "failed": "red", "waiting": "dim", "running": "cyan", "training": "cyan"}
# Which rows a window that is too low keeps: what goes on, what went wrong, what ended, what is to come.
_KEPT = ("failed", "interrupted", "killed", "pruned", "finished", "waiting")


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one run is. ``score`` is the validation accuracy that it would be chosen by now."""

    name: str
    state: str
    epoch: int | None = None
    epochs: int | None = None
    score: float | None = None
    images_per_s: float | None = None
    left_s: float | None = None
    cost_usd: float | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts of the row, in the order of the columns."""
        return (
            _one_line(self.name),
            _one_line(self.state),
            "" if self.epoch is None else f"{self.epoch}/{self.epochs or '?'}",
            "" if self.score is None else f"{self.score:.4f}",
            "" if self.images_per_s is None else f"{self.images_per_s:,.0f}",
            "" if self.left_s is None else duration(self.left_s),
            "" if self.cost_usd is None else money(self.cost_usd),
        )


class LiveTable:
    """``with LiveTable() as view:`` then ``say`` for news and ``draw`` for the state of all, as often as wanted."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._live: Any = None
        self._shown: tuple[str, ...] = ()
        self._width = 0
        self._exit = ExitStack()

    @property
    def is_live(self) -> bool:
        """Whether a table is drawn; elsewhere only what is said appears."""
        return self._live is not None

    def __enter__(self) -> LiveTable:
        if not self._out.isatty():
            return self
        from rich.console import Console
        from rich.live import Live

        console = Console(file=drawn(self._out), highlight=False)
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = self._exit.enter_context(Live(console=console, auto_refresh=False))
            self._exit.enter_context(harmless_streams())  # what is printed now passes through rich, which acts on it
        return self

    def __exit__(self, *_: object) -> None:
        self._live, live = None, self._live
        if live is not None:
            self._exit.close()

    def say(self, text: str) -> None:
        """A line that stays, above the table."""
        if self._live is None:
            print(text, file=self._out, flush=True)
        else:
            from rich.text import Text

            self._remove_wrapped()
            self._live.console.print(Text(harmless(text)), soft_wrap=True)

    def draw(self, rows: Sequence[Row], title: str) -> None:
        """Show the state of all runs; an unchanged table is left alone."""
        if self._live is None:
            return
        from rich.console import Group

        size = self._live.console.size
        lines = table(rows, title, size.width, size.height - 1)
        shown = tuple(line.plain for line in lines)
        if shown != self._shown or size.width != self._width:
            self._remove_wrapped()
            self._shown, self._width = shown, size.width
            self._live.update(Group(*lines), refresh=True)

    def _remove_wrapped(self) -> None:
        """Terminals wrap what is there when they become narrower; rich knows nothing of the lines that come of it."""
        from rich.cells import cell_len
        from rich.control import Control
        from rich.segment import ControlType

        console, width = self._live.console, self._live.console.width
        if width < self._width:
            for _ in range(sum(max(0, cell_len(line) - 1) // width for line in self._shown)):
                console.control(Control((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)))
            self._width = width


def show(rows: Sequence[Row], title: str) -> None:
    """Print the table once: as wide as the terminal, whole in a pipe."""
    from rich.console import Console

    console = Console(file=drawn(sys.stdout), highlight=False)
    if not sys.stdout.isatty():
        for line in table(rows, title):
            print(line.plain)
        return
    for line in table(rows, title, console.width):
        console.print(line, no_wrap=True, overflow="crop")


def table(rows: Sequence[Row], title: str, columns: int | None = None, height: int | None = None) -> list[Text]:
    """The table's lines, none wider than ``columns`` and no more than ``height``; without limits nothing is cut."""
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    kept = _kept(rows, None if height is None else max(1, height - 3))
    cells = [row.cells for row in kept]
    names = _names([one[0] for one in cells], None)
    widths = [
        max([cell_len(title), least, *(cell_len(one[at]) for one in cells)])
        for at, (title, least) in enumerate(zip(_TITLES, _LEAST, strict=True))
    ]
    shown = [at for at in range(1, len(_TITLES)) if _TITLES[at] != "cost" or any(one[at] for one in cells)]
    widths[0] = max([cell_len(name) for name in names], default=0)
    if columns is not None:
        for dropped in (_TITLES.index(one) for one in _DROPPED):
            if dropped in shown and columns - _width(widths, shown) < _LEAST[0]:
                shown.remove(dropped)
        widths[0] = max(1, min(max(widths[0], _LEAST[0]), columns - _width(widths, shown)))
        names = _names(names, widths[0])

    def line(texts: Sequence[str], style: str) -> Text:
        parts = [set_cell_size(texts[0], widths[0])]
        parts += [texts[at].ljust(widths[at]) if at == 1 else texts[at].rjust(widths[at]) for at in shown]
        whole = _GAP.join(parts).rstrip()
        return Text(whole if columns is None else set_cell_size(whole, min(cell_len(whole), columns)), style)

    heading = _one_line(title)
    lines = [Text(heading if columns is None else shortened(heading, columns), "bold"), line(_TITLES, "dim")]
    for name, row, one in zip(names, kept, cells, strict=True):
        lines.append(line((name, *one[1:]), _STYLES.get(row.state, "")))
    if len(kept) < len(rows):
        counts = Counter(row.state for row in rows) - Counter(row.state for row in kept)
        more = f"… and {len(rows) - len(kept)} more: {', '.join(f'{n} {state}' for state, n in counts.items())}"
        lines.append(Text(more if columns is None else shortened(more, columns), "dim"))
    return lines


def _one_line(text: str) -> str:
    return " ".join(harmless(" ".join(text.split())).split())


def _width(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[at] + len(_GAP) for at in shown)


def _kept(rows: Sequence[Row], most: int | None) -> list[Row]:
    """As many rows as there is room for, the most telling ones, in their order."""
    if most is None or len(rows) <= most + 1:  # a line that says what is left out takes one as well
        return list(rows)

    def rank(at: int) -> tuple[int, int]:
        state = rows[at].state
        return _KEPT.index(state) if state in _KEPT else -1, at if state == "waiting" else -at

    return [rows[at] for at in sorted(sorted(range(len(rows)), key=rank)[:most])]


def _names(names: list[str], room: int | None) -> list[str]:
    """The names so that they fit: without the parts that all of them share, then cut in the middle."""
    from rich.cells import cell_len

    if room is None:
        return names
    if len(names) > 1 and any(cell_len(name) > room for name in names):
        parts = [name.split(", ") for name in names]
        shared = set(parts[0]).intersection(*parts[1:])
        names = [", ".join(part for part in one if part not in shared) or ", ".join(one) for one in parts]
    return [shortened(name, room) for name in names]


def shortened(text: str, room: int) -> str:
    """Cut in the middle to so many columns: what tells a study's runs apart is mostly at the end."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= room:
        return text
    tail = (room - 1) // 2
    end = set_cell_size(text[::-1], tail)[::-1] if tail else ""
    return f"{set_cell_size(text, room - 1 - tail)}…{end}"
