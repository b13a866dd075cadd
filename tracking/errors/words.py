"""Words that every program says alike: ``1 epoch``, ``$0.31``, ``Did you mean …?``"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal

# What a terminal acts upon: control characters but for tabs and line ends, and marks that turn the way of writing.
_SEQUENCE = re.compile(
    r"(?:\x1b\]|\x9d|\x1b[PX^_])[^\x07\x1b\x9c\n]{0,4096}(?:\x07|\x1b\\|\x9c)|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# A spreadsheet takes a cell that begins so for a formula, which may send away what others hold.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*%?|[+-]?(?:inf|nan)", re.I)
_IRREGULAR = {"class": "classes"}


def plural(n: int, noun: str) -> str:
    """``1 run``, ``3 runs``, ``1,797 pictures``."""
    return f"{n:,} {noun if n == 1 else _IRREGULAR.get(noun, noun + 's')}"


def money(usd: float) -> str:
    """An amount of US dollars to the cent, ``$0.31``; less than a cent is not called nothing: ``under $0.01``.

    For terminals: in markdown a dollar sign begins a formula, so reports write ``0.31 USD``.
    """
    cents = Decimal(str(usd)).quantize(Decimal("0.01"), ROUND_HALF_UP)
    return f"${cents:,}" if cents or not usd else "under $0.01"


def harmless(text: str) -> str:
    """A text that others may have written, without what a terminal would act upon (colours, titles, directions)."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROLS.sub("", _SEQUENCE.sub("", text))


def csv_cell(value: object) -> object:
    """A cell of CSV; text that a spreadsheet would compute gets an apostrophe before it. Numbers stay numbers."""
    if not isinstance(value, str) or not value.lstrip(" ").startswith(_FORMULA) or _NUMBER.fullmatch(value.strip(" ")):
        return value
    return f"'{value}"


def csv_text(cell: str) -> str:
    """The text that ``csv_cell`` made a cell of."""
    return cell[1:] if cell.startswith("'") and csv_cell(cell[1:]) != cell[1:] else cell


def nearest(word: str, legal: Iterable[str]) -> str:
    """`` Did you mean …?`` for a misspelt word, or nothing."""
    close = difflib.get_close_matches(word, list(legal), n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""


def duration(seconds: float) -> str:
    """``48s``, ``3m05s``, ``2h10m``."""
    if seconds < 59.95:
        return f"{seconds:.1f}s" if seconds < 9.95 else f"{seconds:.0f}s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{left:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def readable(num_bytes: int) -> str:
    """1,234 bytes -> 1.2 kB, in powers of 1000."""
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
