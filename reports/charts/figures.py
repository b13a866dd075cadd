"""Every chart of the project, as SVG: learning curves, score against cost, confusion matrix, calibration, differences.

Each takes plain numbers and gives a ``Figure`` whose alternative text describes it. A ``title`` is drawn into a figure
that is a file of its own, such as a run's artifact; within a page there is the caption.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reports import stats
from reports.charts import svg
from reports.document import text
from reports.document.document import Figure

_WIDTH = 720.0
# Beside curves and points: their names.
_LEGEND = 312.0
_MOST_NAMED = 24


@dataclass(frozen=True)
class Curve:
    """One network's scores by epoch; ``second`` is drawn thin and dashed beside ``first``."""

    label: str
    first: tuple[tuple[int, float], ...]
    second: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Point:
    """A configuration by its cost and its score, with the score's interval; NaN where there is none.

    ``front``: nothing else is both cheaper and better.
    """

    label: str
    cost: float
    score: float
    low: float
    high: float
    front: bool


def training(name: str, history: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """One run's loss and accuracy (fractions) over its epochs, train and validation.

    ``history``: one mapping an epoch with ``epoch``, ``train_loss``, ``validation_loss``, ``train_accuracy`` and
    ``validation_accuracy``.
    """
    drawing = svg.Drawing(_WIDTH, 300)
    epochs = [int(row["epoch"]) for row in history]
    scored = [row for row in history if math.isfinite(row["validation_accuracy"])]
    best = max(scored, key=lambda row: (row["validation_accuracy"], -row["epoch"]), default=None)
    at_best = "no validation accuracy"
    if best is not None:
        at_best = f"best validation {text.percent(best['validation_accuracy'])} at epoch {int(best['epoch'])}"
    middle = _WIDTH / 2
    for what, side in (("loss", 0.0), ("accuracy", middle)):
        lines = {
            split: [(e, float(row[f"{split}_{what}"])) for e, row in zip(epochs, history, strict=True)]
            for split in _SPLITS
        }
        values = [v for points in lines.values() for _, v in points if math.isfinite(v)] or [0.0]
        log = what == "loss" and min(values) > 0 and max(values) >= _DECADES * min(values)
        if what == "accuracy":
            y_ticks = _share_ticks(min(values), max(values))
            y_text = _percent_tick(y_ticks)
        else:
            y_ticks = (_log_ticks if log else svg.nice_ticks)(min(values), max(values))
            y_text = text.number if log else _number_tick(y_ticks)
        area = (side + svg.gutter(list(map(y_text, y_ticks))), 62.0, side + middle - 24, 256.0)
        frame = svg.axes(
            drawing, area, _epoch_ticks(epochs[0], epochs[-1]), y_ticks, text.number, y_text, x_title="epoch",
            y_title=f"{what}, log scale" if log else what, y_of=math.log10 if log else float,
        )  # fmt: skip
        if what == "accuracy" and best is not None:
            x = frame.x(best["epoch"])
            drawing.line(x, area[1], x, area[3], "c1", 1, "2 4")
            drawing.text(area[2], area[1] - 16, at_best, anchor="end")
        for split, (paint, thick, dash) in _SPLITS.items():
            _line(drawing, frame, lines[split], paint, thick, dash, dots=len(history) <= 30)
    for x, (split, (paint, thick, dash)) in zip((0.0, 82.0), _SPLITS.items(), strict=True):
        drawing.line(x, 12, x + 22, 12, paint, thick, dash)
        drawing.text(x + 28, 16, split)
    ends = "; ".join(
        f"{split} {what} {number(history[0][f'{split}_{what}'])} after epoch {epochs[0]},"
        f" {number(history[-1][f'{split}_{what}'])} after epoch {epochs[-1]}"
        for what, number in (("loss", text.number), ("accuracy", text.percent))
        for split in _SPLITS
    )
    alt = f"{f'{title}. ' if title else ''}Learning curves, {at_best}. {ends}."
    return Figure(name, (drawing.titled(title) if title else drawing).svg(alt), alt)


# Paint, thickness and dashes of a split's line.
_SPLITS = {"train": ("soft", 1.4, "2 4"), "validation": ("c1", 2.2, "")}


# Losses that span as much are drawn by their ratios.
_DECADES = 100.0


def _line(
    drawing: svg.Drawing,
    frame: svg.Frame,
    points: Sequence[tuple[float, float]],
    paint: str,
    thick: float,
    dash: str,
    *,
    dots: bool = False,
) -> None:
    """A line through the points, interrupted where a value is no number; a point alone is a dot."""
    for piece in svg.pieces(points):
        placed = [(frame.x(x), frame.y(y)) for x, y in piece]
        if len(placed) > 1:
            drawing.path(placed, paint, thick, dash)
        for x, y in placed if dots or len(placed) == 1 else ():
            drawing.dot(x, y, 2.2 if dots else 3, paint)


def learning_curves(
    name: str,
    curves: Sequence[Curve],
    first: str = "validation",
    second: str = "train",
    caption: str = "Learning curves, means over the runs of a configuration.",
) -> Figure:
    """Scores (fractions) over epochs, a colour a network, each curve named where it ends, with its last score."""
    curves = list(curves)[: len(svg.COLOURS)]
    lines = [points for c in curves for points in (c.first, c.second) if points]
    values = [v for points in lines for _, v in points if math.isfinite(v)] or [0.0]
    start, last = min(points[0][0] for points in lines), max(points[-1][0] for points in lines)
    drawing = svg.Drawing(_WIDTH, 340)
    # From a steep beginning to close ends: all of it is drawn, and the ends are still apart.
    steep = 0 <= min(values) <= max(values) - 0.3 and 0.8 <= max(values) <= 1
    y_ticks = (_stretched_ticks if steep else _share_ticks)(min(values), max(values))
    y_text = _percent_tick(y_ticks)
    area = (svg.gutter(list(map(y_text, y_ticks))), 40.0, _WIDTH - _LEGEND, 290.0)
    frame = svg.axes(
        drawing, area, _epoch_ticks(start, last), y_ticks, text.number, y_text, x_title="epoch", y_title="accuracy",
        y_of=svg.stretched if steep else float,
    )  # fmt: skip
    ends: list[tuple[float, float]] = []
    for curve, paint in zip(curves, svg.COLOURS, strict=False):
        _line(drawing, frame, curve.second, paint, 1.2, "2 4")
        _line(drawing, frame, curve.first, paint, 2.2, "")
        shown = curve.first or curve.second
        ends.append(next((p for p in reversed(shown) if math.isfinite(p[1])), (last, math.nan)))
    heights = [frame.y(score) if math.isfinite(score) else area[3] for _, score in ends]
    places = svg.spread_out(heights, 18, area[1] + 4, area[3])
    scores = [text.percent(score) for _, score in ends]
    names_left = area[2] + 20 + max(map(svg.measure, scores)) + 6
    labels = svg.told_apart([c.label for c in curves], _WIDTH - names_left)
    for label, score, paint, at, (epoch, value), y in zip(
        labels, scores, svg.COLOURS, places, ends, heights, strict=False
    ):
        if math.isfinite(value):
            drawing.path([(frame.x(epoch) + 4, y), (area[2] + 6, y), (area[2] + 16, at)], paint, 0.8, "1 3")
        drawing.text(area[2] + 20, at + 4, score, paint, bold=True)
        drawing.text(names_left, at + 4, label, paint)
    if any(c.second for c in curves):
        for x, said, dash, thick in ((area[2] - 170, first, "", 2.2), (area[2] - 72, second, "2 4", 1.2)):
            drawing.line(x, area[1] - 20, x + 22, area[1] - 20, "soft", thick, dash)
            drawing.text(x + 28, area[1] - 16, said)
    said = "; ".join(
        f"{c.label}: {text.percent(c.first[0][1])} after epoch {c.first[0][0]}, "
        f"{text.percent(c.first[-1][1])} after epoch {c.first[-1][0]}"
        for c in curves
        if c.first
    )
    alt = f"Learning curves, {first} accuracy by epoch. {said}."
    return Figure(name, drawing.svg(alt), alt, caption)


def cost_against_score(name: str, points: Sequence[Point], cost_title: str, unit: str, score_title: str) -> Figure:
    """Score (fraction) over cost in ``unit`` (``s`` or ``USD``), each with its interval; the Pareto front is
    joined by a line. Up to 24 points are numbered from the best score down and named in a legend at the right."""
    points = sorted(points, key=lambda p: (p.cost, -p.score, p.label))
    named = sorted((p for p in points if p.front or len(points) <= 12), key=lambda p: (-p.score, p.cost, p.label))
    on_front = len(named)
    if on_front > _MOST_NAMED:
        named = [named[i * (on_front - 1) // (_MOST_NAMED - 1)] for i in range(_MOST_NAMED)]
    numbered = set(map(id, named))
    drawing = svg.Drawing(_WIDTH, max(360.0, 80 + 18.0 * len(named)))
    costs = [p.cost for p in points]
    cost_text = text.duration if unit == "s" else text.money
    tick_unit, scale = _time_unit(max(costs)) if unit == "s" else (unit, 1.0)
    log = min(costs) > 0 and max(costs) / min(costs) > 12
    x_ticks = [
        t * scale
        for t in (_log_ticks(min(costs) / scale, max(costs) / scale) if log else svg.nice_ticks(0, max(costs) / scale))
    ]
    ends = [v for p in points for v in (p.score, p.low, p.high) if math.isfinite(v)]
    y_ticks = _share_ticks(min(ends), max(ends))
    y_text = _percent_tick(y_ticks)
    area = (svg.gutter(list(map(y_text, y_ticks))), 40.0, _WIDTH - _LEGEND, drawing.height - 52)
    frame = svg.axes(
        drawing,
        area,
        x_ticks,
        y_ticks,
        lambda cost: text.number(cost / scale),
        y_text,
        x_title=f"{cost_title}, {tick_unit}",
        y_title=score_title,
        x_of=math.log10 if log else float,
        inset=12,
    )
    front = [(frame.x(p.cost), frame.y(p.score)) for p in points if p.front]
    if len(front) > 1:
        drawing.path(front, "good", 1.2, "1 4")
    for p in points:
        if math.isfinite(p.low) and math.isfinite(p.high):
            x = frame.x(p.cost)
            drawing.line(x, frame.y(p.low), x, frame.y(p.high), _paint(p), 1.2)
        if id(p) not in numbered:
            drawing.dot(
                frame.x(p.cost), frame.y(p.score), 4.5, _paint(p), hollow=not p.front, title=_said(p, cost_text)
            )
    taken: list[tuple[float, float]] = []
    for p in named:
        x, y = frame.x(p.cost), frame.y(p.score)
        place = _free_place(x, y, taken, area)
        taken.append(place)
        if place != (x, y):
            drawing.line(x, y, *place, _paint(p))
            drawing.dot(x, y, 2.5, _paint(p))
    labels = svg.told_apart([p.label for p in named], _WIDTH - area[2] - 38)
    # The best is drawn last, so that no other point covers it.
    for i, (p, place) in reversed(list(enumerate(zip(named, taken, strict=True)))):
        _numbered(drawing, *place, i + 1, p, _said(p, cost_text))
    for i, (p, label) in enumerate(zip(named, labels, strict=True)):
        y = area[1] + 4 + 18 * i
        _numbered(drawing, area[2] + 24, y, i + 1, p)
        drawing.text(area[2] + 38, y + 4, label, "ink" if p.front else "soft")
    best = ", ".join(
        f"{p.label} ({text.percent(p.score)} for {cost_text(p.cost)})" for p in points if p.front and id(p) in numbered
    )
    alt = f"{score_title} against {cost_title} of {text.plural(len(points), 'configuration')}. On the front: {best}."
    less = "faster" if unit == "s" else "cheaper"
    caption = (
        f"Filled, connected points form the Pareto front: no other is both {less} and better. Bars are 95 % intervals."
    )
    if on_front > len(named):
        caption += f" Named are {len(named)} of the {text.count(on_front)} that are so."
    return Figure(name, drawing.svg(alt), alt, caption)


def _said(point: Point, cost_text: Callable[[float], str]) -> str:
    return f"{point.label}: {text.percent(point.score)}, {cost_text(point.cost)}"


def _free_place(
    x: float, y: float, taken: Sequence[tuple[float, float]], area: tuple[float, float, float, float]
) -> tuple[float, float]:
    """Where a numbered dot covers no other: at its point, else as near as there is room."""
    rings = [(x + r * math.cos(a * math.pi / 4), y - r * math.sin(a * math.pi / 4)) for r in (18, 36) for a in range(8)]
    for place in ((x, y), *rings):
        inside = place == (x, y) or (area[0] < place[0] < area[2] and area[1] < place[1] < area[3])
        if inside and all(math.dist(place, other) >= 16 for other in taken):
            return place
    return x, y


def _paint(point: Point) -> str:
    return "good" if point.front else "soft"


def _numbered(drawing: svg.Drawing, x: float, y: float, number: int, point: Point, title: str = "") -> None:
    """A dot with its number in it: filled on the front, hollow elsewhere."""
    drawing.dot(x, y, 8, _paint(point), hollow=not point.front, title=title)
    drawing.text(x, y + 3.5, str(number), "paper" if point.front else "ink", 10, "middle", bold=point.front)


def _time_unit(most_s: float) -> tuple[str, float]:
    """The unit that gives readable ticks, and its seconds."""
    return ("h", 3600.0) if most_s >= 3 * 3600 else ("min", 60.0) if most_s >= 180 else ("s", 1.0)


def confusion(
    name: str, counts: Sequence[Sequence[int]], classes: Sequence[str], caption: str, title: str = ""
) -> Figure:
    """Rows: the label; columns: what was predicted; a cell's colour is its share of the row.

    With more than about 60 classes there is no room for their names.
    """
    size, sums = len(classes), [sum(row) for row in counts]
    cell = max(6.0 if size <= 100 else 2.0, min(38.0, 660.0 / size))
    named, counted = cell >= 11, cell >= 22
    font = min(12.0, cell - 2)
    shown = svg.told_apart(list(classes), 136, font) if named else []
    longest = max((svg.measure(name, font) for name in shown), default=0.0)
    left, turned = max(58.0, 12 + longest), longest > cell
    top = 30 + (longest + 4 if turned else 16.0)
    side = size * cell
    drawing = svg.Drawing(max(left + side, 150), top + side)
    drawing.text(left, 14, "predicted →")
    drawing.text(left - 7, 14, "label ↓", anchor="end")
    drawing.box(left, top, side, side, "grid", 0.55)
    for i in range(1, size if named else 0):
        drawing.line(left, top + i * cell, left + side, top + i * cell, "paper")
        drawing.line(left + i * cell, top, left + i * cell, top + side, "paper")
    gap = 0.5 if named else 0.0
    # Where a number stands on the colour, half of it is the most that both schemes' ink can be read on.
    most_opaque = 0.5 if counted else 0.95
    for i, class_name in enumerate(classes):
        y = top + i * cell
        if named:
            drawing.text(left - 7, y + cell / 2 + font / 3, shown[i], size=font, anchor="end")
            x = left + (i + 0.5) * cell
            if turned:
                drawing.text(x + font / 3, top - 6, shown[i], size=font, turn=-90)
            else:
                drawing.text(x, top - 7, shown[i], size=font, anchor="middle")
        for j, count in enumerate(counts[i]):
            if count == 0:
                continue
            share = count / sums[i]
            opacity = most_opaque * (0.2 + 0.8 * (share if i == j else min(2 * share, 1.0)))
            said = f"{class_name} predicted as {classes[j]}: {count} of {sums[i]}" if size <= 100 else ""
            x = left + j * cell
            drawing.box(x + gap, y + gap, cell - 2 * gap, cell - 2 * gap, "good" if i == j else "bad", opacity, said)
            if counted:
                number = min(12.0, cell * 0.42, 12 * (cell - 3) / svg.measure(str(count)))
                drawing.text(x + cell / 2, y + cell / 2 + 4, str(count), "ink", number, "middle")
    right = sum(counts[i][i] for i in range(size))
    wrong = sorted(
        ((count, classes[i], classes[j]) for i, row in enumerate(counts) for j, count in enumerate(row) if i != j),
        key=lambda w: (-w[0], w[1], w[2]),
    )[:3]
    most = "; ".join(f"{a} predicted as {b} {'once' if k == 1 else f'{k} times'}" for k, a, b in wrong if k)
    alt = f"Confusion matrix, {title or caption}: {right} of {sum(sums)} right. " + (
        f"Most frequent: {most}." if most else "No error."
    )
    return Figure(name, (drawing.titled(title) if title else drawing).svg(alt), alt, caption)


def reliability(name: str, bins: Sequence[tuple[float, float, int]], error: float) -> Figure:
    """Accuracy against confidence, in bins of confidence; on the diagonal the network is calibrated."""
    drawing = svg.Drawing(400, 360)
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    percent = _percent_tick(ticks)
    area = (svg.gutter(list(map(percent, ticks))), 34.0, 376.0, 300.0)
    frame = svg.axes(drawing, area, ticks, ticks, percent, percent, x_title="confidence", y_title="accuracy")
    drawing.line(frame.x(0), frame.y(0), frame.x(1), frame.y(1), "faint", 1.2, "4 4")
    most = max((count for *_, count in bins), default=1)
    placed = [(frame.x(sure), frame.y(right)) for sure, right, _ in bins]
    if len(placed) > 1:
        drawing.path(placed, "c1", 1.4)
    for (sure, right, count), (x, y) in zip(bins, placed, strict=True):
        low, high = (float(end) for end in stats.wilson(right, count))
        drawing.line(x, frame.y(low), x, frame.y(high), "soft", 1.2)
        said = f"confidence {text.percent(sure)}, accuracy {text.percent(right)}, {text.plural(count, 'picture')}"
        drawing.dot(x, y, 2.5 + 5 * math.sqrt(count / most), "c1", title=said)
    alt = f"Reliability: expected calibration error {text.percent(error)} over {len(bins)} bins of confidence."
    return Figure(name, drawing.svg(alt), alt, "The dashed line is perfect calibration. Bars are 95 % intervals.")


def differences(name: str, rows: Sequence[tuple[str, float, float, float]], title: str) -> Figure:
    """Estimates with their intervals (fractions) on one line each, against zero."""
    drawing = svg.Drawing(_WIDTH, 62 + 30.0 * len(rows))
    ends = [v for _, *numbers in rows for v in numbers if math.isfinite(v)] + [0.0]
    ticks = [t / 100 for t in svg.nice_ticks(100 * min(ends), 100 * max(ends))]
    bottom = 30.0 + 30 * len(rows)
    labels = svg.told_apart([label for label, *_ in rows], 390)
    left = 28 + max(map(svg.measure, labels))
    x = svg.Scale(low=ticks[0], high=ticks[-1], start=left, end=_WIDTH - 24)
    for tick in ticks:
        drawing.line(x(tick), 16, x(tick), bottom, "soft" if tick == 0 else "grid")
        drawing.text(x(tick), bottom + 18, text.points(tick), anchor="middle")
    for i, (label, estimate, low, high) in enumerate(rows):
        y = 38 + 30.0 * i
        clear = not (low <= 0 <= high)
        drawing.text(left - 28, y + 4, labels[i], "ink" if clear else "soft", anchor="end")
        drawing.line(x(low), y, x(high), y, "good" if clear else "soft", 1.6)
        said = f"{label}: {text.points(estimate)} points, {text.points(low)} to {text.points(high)}"
        drawing.dot(x(estimate), y, 4.5, "good" if clear else "soft", hollow=not clear, title=said)
    said = "; ".join(f"{a}: {text.points(b)} ({text.points(c)} to {text.points(d)})" for a, b, c, d in rows)
    alt = f"{title}, in percentage points with 95 % intervals. {said}."
    return Figure(name, drawing.svg(alt), alt, title)


def _share_ticks(low: float, high: float) -> list[float]:
    """Ticks of a share, never beyond 0 and 1 (where the values are not)."""
    ticks = svg.nice_ticks(100 * low, 100 * high)
    return [t / 100 for t in ticks if (0 <= t <= 100) or low < 0 or high > 1]


def _stretched_ticks(low: float, high: float) -> list[float]:
    every = [0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 1.0]
    return [t for t in every if max(e for e in every if e <= low) <= t <= min(e for e in every if e >= high)]


def _percent_tick(ticks: Sequence[float]) -> Callable[[float], str]:
    steps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
    decimals = next((d for d in (0, 1, 2) if all(abs(round(100 * s, d) - 100 * s) < 1e-9 for s in steps)), 2)
    return lambda share: f"{100 * share:.{decimals}f} %"


def _number_tick(ticks: Sequence[float]) -> Callable[[float], str]:
    """As many decimals as the step needs, so that no two ticks read the same."""
    step = ticks[1] - ticks[0]
    decimals = max(0, math.ceil(-math.log10(step) - 1e-9))
    decimals += round(step * 10**decimals, 6) % 1 > 0
    if decimals > 6 or max(map(abs, ticks)) >= 1e7:
        return text.number
    return lambda value: f"{value:.{decimals}f}"


def _epoch_ticks(first: int, last: int) -> list[float]:
    """Whole epochs; the axis begins at the first and ends at the last."""
    if last <= first:
        return [float(first - 1), float(first), float(first + 1)]
    if last - first <= 10:
        return [float(e) for e in range(first, last + 1)]
    inner = [t for t in svg.nice_ticks(first, last, 6) if first < t < last and float(t).is_integer()]
    step = inner[1] - inner[0] if len(inner) > 1 else 1
    kept = [t for t in inner if t - first >= 0.5 * step and last - t >= 0.5 * step]
    return [float(first), *kept, float(last)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from at most the lowest to at least the highest value."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [m * 10.0**p for p in powers for m in (1, 2, 5)]
    first = max((i for i, t in enumerate(every) if t <= low), default=0)
    last = min((i for i, t in enumerate(every) if t >= high), default=len(every) - 1)
    ticks = every[first : last + 1]
    if len(ticks) > 8:
        ticks = [ticks[0], *(t for t in ticks[1:-1] if math.log10(t).is_integer()), ticks[-1]]
    return ticks


def percent_ticks(low: float, high: float) -> tuple[list[float], Callable[[float], str]]:
    """Ticks for shares from ``low`` to ``high``, and how they are written."""
    ticks = _share_ticks(low, high)
    return ticks, _percent_tick(ticks)
