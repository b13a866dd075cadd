"""Small drawings without a plotting library: scales, ticks and marks as SVG text, the same bytes on every machine.

Colours are the page's variables with fallbacks, so that a drawing looks right within the page, dark or light, and as a
file of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from reports.document.text import one_line, width

_NAMES = ("ink", "soft", "faint", "grid", "paper", "good", "bad", "c1", "c2", "c3", "c4", "c5", "c6")
_LIGHT = (
    *("#1b1f24", "#59636e", "#d8dee4", "#e8ecf0", "#ffffff", "#2f6fb3", "#c2571a"),
    *("#2f6fb3", "#c2571a", "#2e8b62", "#8455a8", "#a07d15", "#6b7684"),
)
_DARK = (
    *("#e4e8ec", "#9aa5b1", "#3a424b", "#2a3037", "#14181c", "#6ea8e0", "#e8905c"),
    *("#6ea8e0", "#e8905c", "#63bd95", "#b990d8", "#cfae4c", "#9aa5b1"),
)
COLOURS = ("c1", "c2", "c3", "c4", "c5", "c6")
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
        """The drawing with a background and a title: for a file that is not part of a page."""
        title, margin, head = truncated(title, 110), 16.0, 44.0
        # At most 8 px a column of the title; the drawing stays at the left.
        whole = Drawing(2 * margin + max(self.width, 8 * width(title)), self.height + head + margin)
        whole.box(0, 0, whole.width, whole.height, "paper")
        whole.text(margin, 24, title, "ink", 14, bold=True)
        whole.parts += [f'<g transform="translate({n(margin)} {n(head)})">', *self.parts, "</g>"]
        return whole

    def svg(self, alt: str) -> str:
        """The drawing as an element that is also a whole SVG file."""
        return (
            f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {n(self.width)} {n(self.height)}"'
            f' width="{n(self.width)}" height="{n(self.height)}" role="img" aria-label="{words(alt)}"'
            f' font-family="{_FONT}">{_STYLE}{"".join(self.parts)}</svg>'
        )


def words(text: str) -> str:
    """Text fit for an element or an attribute."""
    return escape(one_line(text), {'"': "&quot;", "'": "&#39;"})


def truncated(text: str, columns: int) -> str:
    """Text of at most so many columns, with an ellipsis where it was longer."""
    if width(text) <= columns:
        return text
    while text and width(text) >= columns:
        text = text[:-1]
    return text.rstrip() + "…"


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover ``low`` to ``high``, the ends included: steps of 1, 2, 2.5 or 5 times a power of ten."""
    if not high > low:
        pad = abs(low) * 0.05 if low else 0.5
        low, high = low - pad, high + pad
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Maps values between ``low`` and ``high`` to pixels between ``start`` and ``end``; ``log`` by ratio."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, v = (math.log10(x) if self.log else x for x in (self.low, self.high, value))
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
    log_x: bool = False,
) -> Frame:
    """Draw grid, ticks and titles in ``area`` (left, top, right, bottom); the scales run from first to last tick."""
    left, top, right, bottom = area
    x = Scale(low=x_ticks[0], high=x_ticks[-1], start=left, end=right, log=log_x)
    y = Scale(low=y_ticks[0], high=y_ticks[-1], start=bottom, end=top)
    for tick in y_ticks:
        drawing.line(left, y(tick), right, y(tick), "grid")
        drawing.text(left - 8, y(tick) + 4, y_text(tick), anchor="end")
    drawing.line(left, bottom, right, bottom, "faint")
    for tick in x_ticks:
        drawing.line(x(tick), bottom, x(tick), bottom + 4, "faint")
        drawing.text(x(tick), bottom + 18, x_text(tick), anchor="middle")
    drawing.text(right, bottom + 36, x_title, anchor="end")
    drawing.text(left - 46, top - 16, y_title)
    return Frame(drawing, x, y)


def above(points: Sequence[tuple[float, float]], bottom: float) -> list[list[tuple[float, float]]]:
    """The pieces of a line above the pixel row ``bottom``, cut where they cross it."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for i, (x, y) in enumerate(points):
        if i and (points[i - 1][1] > bottom) != (y > bottom):
            x0, y0 = points[i - 1]
            share = (bottom - y0) / (y - y0)
            pieces[-1].append((x0 + share * (x - x0), bottom))
            if y > bottom:
                pieces.append([])
        if y <= bottom:
            pieces[-1].append((x, y))
    return [piece for piece in pieces if piece]


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
