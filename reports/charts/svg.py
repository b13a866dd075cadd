"""Small drawings without a plotting library: scales, ticks and marks as SVG text, the same bytes on every machine.

Colours are the page's variables with fallbacks, so that a drawing looks right within the page, dark or light, and as a
file of its own: it has its own background, since the page around an image may be dark where the image is not. Every
text has a contrast of 4.5 : 1 or more to what is behind it, in both schemes.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from reports.document.text import one_line

_NAMES = ("ink", "soft", "faint", "grid", "paper", "good", "bad", "c1", "c2", "c3", "c4", "c5", "c6")
_LIGHT = (
    *("#1b1f24", "#59636e", "#d8dee4", "#e8ecf0", "#ffffff", "#2f6fb3", "#b54c12"),
    *("#2f6fb3", "#b54c12", "#207a52", "#8455a8", "#86680a", "#636d7a"),
)
_DARK = (
    *("#e4e8ec", "#9aa5b1", "#3a424b", "#2a3037", "#14181c", "#6ea8e0", "#e8905c"),
    *("#6ea8e0", "#e8905c", "#63bd95", "#b990d8", "#cfae4c", "#9aa5b1"),
)
COLOURS = ("c1", "c2", "c3", "c4", "c5", "c6")
# Around the marks, so that none touches the edge of the drawing's background.
_MARGIN = 8.0
_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif"


def colour(name: str) -> str:
    """A paint of the page's, by its variable's name."""
    return f"var(--{name},var(--x-{name}))"


def _variables(paints: Sequence[str]) -> str:
    return "".join(f"--x-{name}:{paint};" for name, paint in zip(_NAMES, paints, strict=True))


_STYLE = (
    f"<style>svg.chart{{{_variables(_LIGHT)}}}"
    f"@media (prefers-color-scheme:dark){{svg.chart{{{_variables(_DARK)}}}}}</style>"
)


def n(value: float) -> str:
    """A coordinate: two decimals at most."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


@dataclass
class Drawing:
    """A canvas of so many pixels, to which marks are added in order."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, paint: str, thick: float = 1, dash: str = "") -> None:
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{n(x1)}" y1="{n(y1)}" x2="{n(x2)}" y2="{n(y2)}" stroke="{colour(paint)}"'
            f' stroke-width="{n(thick)}"{dashes}/>'
        )

    def path(self, points: Sequence[tuple[float, float]], paint: str, thick: float = 2, dash: str = "") -> None:
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        way = "L".join(f"{n(x)} {n(y)}" for x, y in points)
        self.parts.append(
            f'<path d="M{way}" fill="none" stroke="{colour(paint)}" stroke-width="{n(thick)}" stroke-linejoin="round"'
            f' stroke-linecap="round"{dashes}/>'
        )

    def dot(self, x: float, y: float, radius: float, paint: str, hollow: bool = False, title: str = "") -> None:
        fill = colour("paper") if hollow else colour(paint)
        said = f"<title>{words(title)}</title>" if title else ""
        self.parts.append(
            f'<circle cx="{n(x)}" cy="{n(y)}" r="{n(radius)}" fill="{fill}" stroke="{colour(paint)}"'
            f' stroke-width="1.5">{said}</circle>'
        )

    def box(self, x: float, y: float, w: float, h: float, paint: str, opacity: float = 1, title: str = "") -> None:
        said = f"<title>{words(title)}</title>" if title else ""
        self.parts.append(
            f'<rect x="{n(x)}" y="{n(y)}" width="{n(w)}" height="{n(h)}" fill="{colour(paint)}"'
            f' fill-opacity="{n(opacity)}">{said}</rect>'
        )

    def text(
        self, x: float, y: float, said: str, paint: str = "soft", size: float = 12, anchor: str = "start",
        bold: bool = False, turn: float = 0,
    ) -> None:  # fmt: skip
        weight = ' font-weight="600"' if bold else ""
        turned = f' transform="rotate({n(turn)} {n(x)} {n(y)})"' if turn else ""
        self.parts.append(
            f'<text x="{n(x)}" y="{n(y)}" fill="{colour(paint)}" font-size="{n(size)}" text-anchor="{anchor}"'
            f"{weight}{turned}>{words(said)}</text>"
        )

    def titled(self, title: str) -> Drawing:
        """The drawing under a title: for a file that is not part of a page."""
        title, head = fitted(title, max(self.width, 720), 14), 36.0
        whole = Drawing(max(self.width, measure(title, 14)), self.height + head)
        whole.text(0, 16, title, "ink", 14, bold=True)
        whole.parts += [f'<g transform="translate(0 {n(head)})">', *self.parts, "</g>"]
        return whole

    def svg(self, alt: str) -> str:
        """The drawing, on its background, as an element that is also a whole SVG file."""
        width, height = n(self.width + 2 * _MARGIN), n(self.height + 2 * _MARGIN)
        corner = n(-_MARGIN)
        return (
            f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="{corner} {corner} {width} {height}"'
            f' width="{width}" height="{height}" role="img" aria-label="{words(alt)}" font-family="{_FONT}">{_STYLE}'
            f'<rect x="{corner}" y="{corner}" width="{width}" height="{height}" fill="{colour("paper")}"/>'
            f"{''.join(self.parts)}</svg>"
        )


def words(text: str) -> str:
    """Text fit for an element or an attribute; a character that no XML file may hold becomes a replacement sign."""
    return escape(_NOT_XML.sub("\ufffd", one_line(text)), {'"': "&quot;", "'": "&#39;"})


_NOT_XML = re.compile("[\ud800-\udfff\ufffe\uffff]")
# What a reader sees as one sign: a letter with its accents, a flag, an emoji of several.
_SIGN = re.compile(
    "[\U0001f1e6-\U0001f1ff]{2}|.(?:[\u0300-\u036f\u200d\ufe0f\U0001f3fb-\U0001f3ff]|(?<=\u200d).)*", re.S
)
_NARROW, _WIDE, _WIDEST = (
    frozenset(" .,:;|!'`ijlIftr()[]{}/\\-\""),
    frozenset("wABCDEGHKNOPQRSTUVXY=+<>~^#&"),
    frozenset("mMW%@"),
)


def measure(text: str, size: float = 12) -> float:
    """Pixels the text takes at most: the widths of DejaVu Sans, the widest of the fonts a page may get."""
    return size * sum(map(_em, _SIGN.findall(one_line(text))))


def _em(sign: str) -> float:
    first = sign[0]
    if first in _NARROW:
        return 0.42
    if first.isascii():
        return 1.0 if first in _WIDEST else 0.84 if first in _WIDE else 0.65
    if ord(first) >= 0x1F000 or "\ufe0f" in sign:
        return 1.4
    return 1.05 if unicodedata.east_asian_width(first) in "WF" else 0.0 if unicodedata.combining(first) else 0.85


def fitted(text: str, room: float, size: float = 12) -> str:
    """Text of at most ``room`` pixels, with an ellipsis where it was longer."""
    if measure(text, size) <= room:
        return text
    shown, left = "", room - size
    for sign in _SIGN.findall(one_line(text)):
        left -= size * _em(sign)
        if left < 0:
            break
        shown += sign
    return shown.rstrip() + "…"


def told_apart(labels: Sequence[str], room: float, size: float = 12) -> list[str]:
    """Labels of at most ``room`` pixels each; where two would be cut to the same, what they share is left out first."""
    shown = [fitted(label, room, size) for label in labels]
    for cut in {one for one, label in zip(shown, labels, strict=True) if one != label}:
        same = [i for i, one in enumerate(shown) if one == cut]
        common = os.path.commonprefix([labels[i].lstrip("…") for i in same])
        if len({labels[i] for i in same}) > 1 and common:
            # From the beginning of the setting that differs, where it has one near.
            near = max(0, len(common) - 24)
            ends = [common.rfind(mark, near) + len(mark) for mark in (", ", " ") if mark in common[near:]]
            start = ends[0] if ends else len(common)
            rest = [f"…{labels[i].lstrip('…')[start:]}" for i in same]
            for i, one in zip(same, told_apart(rest, room, size), strict=True):
                shown[i] = one
    return shown


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover ``low`` to ``high``, the ends included: steps of 1, 2, 2.5 or 5 times a power of ten."""
    if not high > low:
        pad = abs(low) * 0.05 if low else 0.5
        low, high = low - pad, high + pad
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def stretched(share: float) -> float:
    """Shares drawn so that 90, 95 and 98 % are apart, and 0 and 100 % still have their place."""
    return -math.log10(1.01 - share)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Maps values between ``low`` and ``high`` to pixels between ``start`` and ``end``, in proportion to ``of``."""

    low: float
    high: float
    start: float
    end: float
    of: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        low, high, v = map(self.of, (self.low, self.high, value))
        return self.start + (v - low) / (high - low) * (self.end - self.start)


@dataclass(frozen=True)
class Frame:
    """The plotting area of a chart, its scales and its axes drawn."""

    drawing: Drawing
    x: Scale
    y: Scale


def axes(
    drawing: Drawing,
    area: tuple[float, float, float, float],
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
    *,
    x_title: str,
    y_title: str,
    x_of: Callable[[float], float] = float,
    y_of: Callable[[float], float] = float,
    inset: float = 0,
) -> Frame:
    """Draw grid, ticks and titles in ``area`` (left, top, right, bottom); the scales run from first to last tick.

    Of ticks whose labels would touch, one is written; the first and the last always are. ``inset`` is what the first
    and the last value of the horizontal scale keep from the area's sides.
    """
    left, top, right, bottom = area
    x = Scale(low=x_ticks[0], high=x_ticks[-1], start=left + inset, end=right - inset, of=x_of)
    y = Scale(low=y_ticks[0], high=y_ticks[-1], start=bottom, end=top, of=y_of)
    y_labels = [y_text(tick) for tick in y_ticks]
    heights = [(bottom - y(tick) - 7, bottom - y(tick) + 7) for tick in y_ticks]
    for tick, label, written in zip(y_ticks, y_labels, _apart(heights), strict=True):
        drawing.line(left, y(tick), right, y(tick), "grid")
        if written:
            drawing.text(left - 8, y(tick) + 4, label, anchor="end")
    drawing.line(left, bottom, right, bottom, "faint")
    x_labels = [x_text(tick) for tick in x_ticks]
    halves = [measure(label) / 2 + 2 for label in x_labels]
    extents = [(x(tick) - half, x(tick) + half) for tick, half in zip(x_ticks, halves, strict=True)]
    for tick, label, written in zip(x_ticks, x_labels, _apart(extents), strict=True):
        drawing.line(x(tick), bottom, x(tick), bottom + 4, "faint")
        if written:
            drawing.text(x(tick), bottom + 18, label, anchor="middle")
    drawing.text(right, bottom + 36, fitted(x_title, right - left), anchor="end")
    start = left - gutter(y_labels)
    drawing.text(start, top - 16, fitted(y_title, right - start))
    return Frame(drawing, x, y)


def _apart(extents: Sequence[tuple[float, float]]) -> list[bool]:
    """Which labels are written so that none touches another: the first, the last and those that fit between them."""
    written, free = [True], extents[0][1]
    for low, high in extents[1:-1]:
        written.append(low >= free and high <= extents[-1][0])
        free = high if written[-1] else free
    return [*written, *[True for _ in extents[1:][-1:]]]


def gutter(labels: Sequence[str], size: float = 12) -> float:
    """How much room the labels of a vertical axis take at its left."""
    return max(measure(label, size) for label in labels) + 8


def pieces(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The parts of a line between the values that are no numbers."""
    found: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            found[-1].append(point)
        elif found[-1]:
            found.append([])
    return [piece for piece in found if piece]


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones, at least ``gap`` apart, within ``low`` to ``high`` as far as they fit."""
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    placed: list[float] = []
    for i in order:
        placed.append(max(wanted[i], placed[-1] + gap if placed else low))
    ceiling = high
    for k in range(len(placed) - 1, -1, -1):
        placed[k] = min(placed[k], ceiling)
        ceiling = placed[k] - gap
    result = [0.0] * len(wanted)
    for k, i in enumerate(order):
        result[i] = placed[k]
    return result
