"""Values as text: the only place where a value becomes what a reader sees.

Everything takes Python or numpy scalars and gives plain text; a missing value gives ``MISSING``. Nothing here knows
markdown or HTML beyond the escaping of markdown cells.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import pandas as pd

from tracking.errors.words import harmless
from tracking.errors.words import plural as plural

MISSING = "–"
_NARROW = re.compile("[ -~\u00a0±–−×∞…]*\\Z")


def is_missing(value: Any) -> bool:
    """None, NaN, NA and NaT alike."""
    return value is None or (not isinstance(value, (list, tuple, dict, str)) and bool(pd.isna(value)))


def percent(share: Any, decimals: int = 1) -> str:
    """0.9784 -> ``97.8 %``."""
    if is_missing(share):
        return MISSING
    if math.isinf(float(share)):
        return number(share)
    return f"{100 * float(share):.{decimals}f} %"


def points(share: Any, decimals: int = 1) -> str:
    """A difference of shares in percentage points, signed: 0.012 -> ``+1.2``."""
    if is_missing(share):
        return MISSING
    text = f"{100 * float(share):+.{decimals}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{decimals}f}"


def score(mean: Any, spread: Any, n: Any, decimals: int = 1) -> str:
    """A mean over seeds: ``97.8 %`` for one, ``97.8 ± 0.4 %`` for several (± one sample standard deviation)."""
    if is_missing(mean):
        return MISSING
    if is_missing(n) or int(n) < 2 or is_missing(spread):
        return percent(mean, decimals)
    return f"{100 * float(mean):.{decimals}f} ± {100 * float(spread):.{decimals}f} %"


def interval(low: Any, high: Any, decimals: int = 1) -> str:
    """``95.7–98.9 %``, or missing."""
    if is_missing(low) or is_missing(high):
        return MISSING
    return f"{100 * float(low):.{decimals}f}–{100 * float(high):.{decimals}f} %"


def count(value: Any) -> str:
    """Whole numbers with thousands apart: ``12,345``."""
    return MISSING if is_missing(value) else f"{round(float(value)):,}"


def number(value: Any, digits: int = 4) -> str:
    """Any number by significant digits, without exponent between 1e-4 and 1e7."""
    if is_missing(value):
        return MISSING
    if isinstance(value, str):
        return value
    if str(value) in ("True", "False"):
        return str(value).lower()
    x = float(value)
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    if x == int(x) and abs(x) < 1e7:
        return str(int(x))
    return f"{x:.{digits}g}"


def numbers(values: Sequence[Any], digits: int = 4) -> list[str]:
    """A column of numbers with as many decimals each, so that they can be read down: four digits of the largest.

    Whole numbers stay whole; where the smallest would vanish each is written by its own digits.
    """
    known = [abs(float(v)) for v in values if not is_missing(v) and math.isfinite(float(v)) and v]
    whole = all(v == int(v) for v in known)
    decimals = 0 if whole or not known else max(0, digits - 1 - math.floor(math.log10(max(known))))
    if known and (max(known) >= 1e7 if whole else min(known) < 10.0**-decimals):
        said = [number(v, digits) for v in values]
    else:
        odd = [is_missing(v) or math.isinf(float(v)) for v in values]
        said = [number(v) if o else f"{float(v):.{decimals}f}" for v, o in zip(values, odd, strict=True)]
    return [f"−{s[1:]}" if s.startswith("-") else s for s in said]


def p_value(p: float) -> str:
    """``p = 0.03``, ``p < 0.001``."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def duration(seconds: Any) -> str:
    """``45 ms``, ``0.4 s``, ``52 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if is_missing(seconds):
        return MISSING
    s = float(seconds)
    if 0 < s < 0.0995:
        return f"{1000 * s:.0f} ms" if s >= 0.0005 else "< 1 ms"
    if s < 9.95:
        return f"{s:.1f} s"
    whole = round(s)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def money(usd: Any) -> str:
    """``0.0042 USD`` below ten cents, ``3.06 USD`` otherwise."""
    if is_missing(usd):
        return MISSING
    x = float(usd)
    return f"{x:.4f} USD" if 0 < x < 0.1 else f"{x:,.2f} USD"


def size(num_bytes: Any) -> str:
    """Bytes in powers of 1000: ``2.7 MB``."""
    if is_missing(num_bytes):
        return MISSING
    x = float(num_bytes)
    for unit in ("B", "kB", "MB"):
        if x < 1000:
            return f"{x:.0f} {unit}" if unit == "B" or x >= 100 else f"{x:.1f} {unit}"
        x /= 1000
    return f"{x:.1f} GB"


def short(value: Any, length: int = 8) -> str:
    """The first characters of an id."""
    return MISSING if is_missing(value) else str(value)[:length]


def join(words: Sequence[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def one_line(value: Any) -> str:
    """Any text without line breaks, tabs, control characters or runs of spaces."""
    text = str(value)
    if _NARROW.match(text) and "  " not in text:
        return text.strip()
    # Without the first, an escape's own characters stay; marks that turn the direction of writing go as well.
    lines = re.sub(r"[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]", " ", text)
    cleaned = harmless(lines)
    return re.sub(r" {2,}", " ", cleaned).strip()


MOST_IN_CELL = 300


def cut(cell: Any) -> Any:
    """A table's cell, its text after 300 characters replaced by …; the JSON has all of it."""
    return f"{cell[: MOST_IN_CELL - 1]}…" if isinstance(cell, str) and len(cell) > MOST_IN_CELL else cell


_PLAIN = re.compile(r"[0-9A-Za-z %.,:+±–−-]*\Z")
_ALWAYS = re.compile(r"([\\`*\[\]|~$]|<(?=[A-Za-z/!?])|&(?=[#A-Za-z]))")
_UNDERSCORE = re.compile(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")
_SCHEME = re.compile(r"(?i)\b(https?|ftp|mailto):|\bwww\.|@")


def markdown(value: Any) -> str:
    """Text made safe inside a CommonMark or GitHub paragraph or table cell: shown as it is, never acted upon."""
    text = one_line(value)
    if _PLAIN.match(text) and "www." not in text and "://" not in text:
        return text
    text = _ALWAYS.sub(r"\\\1", text)
    text = _UNDERSCORE.sub(r"\\_", text)
    # GitHub turns bare addresses into links and notifies the people named by @, however the sign is written.
    return _SCHEME.sub(lambda m: m.group().replace(":", "&#58;").replace(".", "&#46;").replace("@", "@\u2060"), text)


def width(text: str) -> int:
    """Columns the text takes on a terminal."""
    if _NARROW.match(text):
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def pad(text: str, columns: int, right: bool = False) -> str:
    """Fill up with spaces to so many terminal columns."""
    space = " " * (columns - width(text))
    return space + text if right else text + space
