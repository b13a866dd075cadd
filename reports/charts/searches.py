"""Two figures of a study: its runs as lines over the axes of their settings, and the best score so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.charts import svg
from reports.charts.figures import percent_ticks
from reports.document import text
from reports.document.document import Figure

_WIDTH = 720.0
_MOST_AXES = 8
_MOST_LINES = 400


@dataclass(frozen=True)
class Axis:
    """A setting of all runs: ``places`` from 0 to 1 (NaN: without effect in that run), and its labelled ``ticks``."""

    title: str
    places: Sequence[float]
    ticks: Sequence[tuple[float, str]]


def parallel_coordinates(name: str, axes: Sequence[Axis], score: Sequence[float], score_title: str) -> Figure:
    """A line a run through its settings to its score (fractions) at the right; the best tenth stands out."""
    axes = list(axes)[:_MOST_AXES]
    order = sorted(range(len(score)), key=lambda run: score[run])[-_MOST_LINES:]
    best = set(order[-max(1, len(order) // 10) :])
    ticks, tick_text = percent_ticks(min(score), max(score))
    low, high = ticks[0], ticks[-1]
    drawing = svg.Drawing(_WIDTH, 340)
    top, bottom = 46.0, 300.0
    step = (_WIDTH - 130) / max(len(axes), 1)
    xs = [40 + step * number for number in range(len(axes) + 1)]

    def y(place: float) -> float:
        return bottom - place * (bottom - top)

    for run in order:
        ends = [(x, y(axis.places[run])) for x, axis in zip(xs, axes, strict=False) if math.isfinite(axis.places[run])]
        ends.append((xs[-1], y((score[run] - low) / (high - low))))
        drawing.path(ends, "c2" if run in best else "faint", 2.0 if run in best else 1.0)
    for number, (x, axis) in enumerate(zip(xs, axes, strict=False)):
        drawing.line(x, top, x, bottom, "soft")
        title = svg.fitted(axis.title, step - 8)
        drawing.text(x, top - 14 - 16 * (number % 2), title, anchor="middle" if number else "start", bold=True)
        for place, label in axis.ticks:
            drawing.text(x + 5, y(place) + 4, svg.fitted(label, step - 12))
    drawing.line(xs[-1], top, xs[-1], bottom, "soft")
    drawing.text(xs[-1], top - 14, svg.fitted(score_title, 150), anchor="middle", bold=True)
    for tick in ticks:
        drawing.text(xs[-1] + 6, y((tick - low) / (high - low)) + 4, tick_text(tick))
    said = ", ".join(axis.title for axis in axes)
    span = f"{text.percent(min(score))} to {text.percent(max(score))}"
    alt = f"{len(score)} runs as lines over {said} and {score_title}, from {span}."
    return Figure(name, drawing.svg(alt), alt, "Each line is a run; the best tenth is drawn strong.")


def history(name: str, score: Sequence[float], stopped: Sequence[tuple[int, float]], score_title: str) -> Figure:
    """The score (fraction) of each run in the order they began, NaN for one stopped early, and the best so far.

    ``stopped``: number and last value of the runs that were stopped early.
    """
    count = len(score)
    known = [value for value in [*score, *(value for _, value in stopped)] if math.isfinite(value)]
    ticks, tick_text = percent_ticks(min(known), max(known))
    drawing = svg.Drawing(_WIDTH, 300)
    area = (svg.gutter([tick_text(tick) for tick in ticks]), 40.0, _WIDTH - 24, 250.0)
    x_ticks = sorted(
        {
            *(tick for tick in svg.nice_ticks(1, max(count, 2)) if tick == int(tick) and tick >= 1),
            1.0,
            float(max(count, 2)),
        }
    )
    frame = svg.axes(drawing, area, x_ticks, ticks, text.number, tick_text, x_title="run", y_title=score_title, inset=8)
    best, line = -math.inf, []
    for number, value in enumerate(score, start=1):
        best = max(best, value) if math.isfinite(value) else best
        if math.isfinite(best):
            line.append((frame.x(number), frame.y(best)))
    if len(line) > 1:
        drawing.path(line, "c1", 2.2)
    for number, value in enumerate(score, start=1):
        if math.isfinite(value):
            drawing.dot(frame.x(number), frame.y(value), 3, "c1", title=f"run {number}: {text.percent(value)}")
    for number, value in stopped:
        if math.isfinite(value):
            drawing.dot(frame.x(number), frame.y(value), 3, "c2", hollow=True, title=f"run {number}, stopped early")
    alt = f"{score_title} of {count} runs in order, the best so far as a line; it ends at {text.percent(best)}."
    more = " Hollow: stopped early, with its last value." if stopped else ""
    return Figure(name, drawing.svg(alt), alt, f"Dots are runs, the line is the best so far.{more}")
