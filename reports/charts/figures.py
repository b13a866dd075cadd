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

_WIDTH = 736.0


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
    best = max(history, key=lambda row: (row["validation_accuracy"], -row["epoch"]))
    at_best = f"best validation {text.percent(best['validation_accuracy'])} at epoch {int(best['epoch'])}"
    for what, left in (("loss", 60.0), ("accuracy", _WIDTH / 2 + 60)):
        area = (left, 62.0, left + _WIDTH / 2 - 80, 256.0)
        lines = {split: _finite(epochs, [row[f"{split}_{what}"] for row in history]) for split in _SPLITS}
        values = [value for points in lines.values() for _, value in points] or [0.0]
        y_ticks = (_share_ticks if what == "accuracy" else svg.nice_ticks)(min(values), max(values))
        y_text = _percent_tick(y_ticks) if what == "accuracy" else text.number
        frame = svg.axes(
            drawing, area, _epoch_ticks(epochs[0], epochs[-1]), y_ticks, text.number, y_text, x_title="epoch",
            y_title=what,
        )  # fmt: skip
        if what == "accuracy":
            x = frame.x(best["epoch"])
            drawing.line(x, area[1], x, area[3], "c1", 1, "2 4")
            drawing.text(area[2], area[1] - 16, at_best, anchor="end")
        for split, (paint, thick, dash) in _SPLITS.items():
            placed = [(frame.x(epoch), frame.y(value)) for epoch, value in lines[split]]
            if len(placed) > 1:
                drawing.path(placed, paint, thick, dash)
            for x, y in placed if len(placed) <= 30 else ():
                drawing.dot(x, y, 2.2, paint)
    for x, (split, (paint, thick, dash)) in zip((60.0, 142.0), _SPLITS.items(), strict=True):
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


def _finite(epochs: Sequence[int], values: Sequence[float]) -> list[tuple[int, float]]:
    return [(e, float(v)) for e, v in zip(epochs, values, strict=True) if math.isfinite(v)]


def learning_curves(
    name: str,
    curves: Sequence[Curve],
    first: str = "validation",
    second: str = "train",
    caption: str = "Learning curves, means over the runs of a configuration.",
) -> Figure:
    """Scores (fractions) over epochs, a colour a network, each curve named where it ends.

    The first steep fifth of training may be cut off, so that the ends can be distinguished.
    """
    curves = list(curves)[: len(svg.COLOURS)]
    lines = [points for c in curves for points in (c.first, c.second) if points]
    values = [v for points in lines for _, v in points[len(points) // 5 :] if math.isfinite(v)]
    start, last = min(points[0][0] for points in lines), max(points[-1][0] for points in lines)
    drawing = svg.Drawing(_WIDTH, 340)
    y_ticks = _share_ticks(min(values), max(values))
    x_ticks = _epoch_ticks(start, last)
    area = (60.0, 40.0, _WIDTH - 304, 290.0)
    frame = svg.axes(
        drawing, area, x_ticks, y_ticks, text.number, _percent_tick(y_ticks), x_title="epoch", y_title="accuracy"
    )
    ends = []
    for curve, paint in zip(curves, svg.COLOURS, strict=False):
        for points, thick, dash in ((curve.second, 1.2, "2 4"), (curve.first, 2.2, "")):
            placed = [(frame.x(e), frame.y(v)) for e, v in points if math.isfinite(v)]
            for piece in svg.above(placed, area[3]):
                if len(piece) > 1:
                    drawing.path(piece, paint, thick, dash)
                else:
                    drawing.dot(*piece[0], 3, paint)
        shown = curve.first or curve.second
        ends.append(min(frame.y(shown[-1][1]), area[3]))
    places = svg.spread_out(ends, 18, area[1] + 4, area[3])
    for curve, paint, at, end in zip(curves, svg.COLOURS, places, ends, strict=False):
        x_end = frame.x((curve.first or curve.second)[-1][0])
        drawing.path([(x_end + 4, end), (area[2] + 6, end), (area[2] + 16, at)], paint, 0.8, "1 3")
        drawing.text(area[2] + 20, at + 4, svg.truncated(curve.label, 44), paint)
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
    joined by a line. The points are numbered from the best score down and named in a legend at the right."""
    points = sorted(points, key=lambda p: (p.cost, -p.score, p.label))
    named = sorted((p for p in points if p.front or len(points) <= 12), key=lambda p: (-p.score, p.cost, p.label))
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
    area = (60.0, 40.0, _WIDTH - 304, drawing.height - 52)
    frame = svg.axes(
        drawing,
        area,
        x_ticks,
        y_ticks,
        lambda cost: text.number(cost / scale),
        _percent_tick(y_ticks),
        x_title=f"{cost_title}, {tick_unit}",
        y_title=score_title,
        log_x=log,
    )
    front = [(frame.x(p.cost), frame.y(p.score)) for p in points if p.front]
    if len(front) > 1:
        drawing.path(front, "good", 1.2, "1 4")
    for p in points:
        if math.isfinite(p.low) and math.isfinite(p.high):
            x = frame.x(p.cost)
            drawing.line(x, frame.y(p.low), x, frame.y(p.high), _paint(p), 1.2)
    # The best is drawn last, so that no other point covers it.
    for p in [*(p for p in points if p not in named), *reversed(named)]:
        said = f"{p.label}: {text.percent(p.score)}, {cost_text(p.cost)}"
        if p in named:
            _numbered(drawing, frame.x(p.cost), frame.y(p.score), named.index(p) + 1, p, said)
        else:
            drawing.dot(frame.x(p.cost), frame.y(p.score), 4.5, "soft", hollow=True, title=said)
    for i, p in enumerate(named):
        y = area[1] + 4 + 18 * i
        _numbered(drawing, area[2] + 24, y, i + 1, p)
        drawing.text(area[2] + 38, y + 4, svg.truncated(p.label, 44), "ink" if p.front else "soft")
    best = ", ".join(f"{p.label} ({text.percent(p.score)} for {cost_text(p.cost)})" for p in points if p.front)
    alt = f"{score_title} against {cost_title} of {text.plural(len(points), 'configuration')}. On the front: {best}."
    less = "faster" if unit == "s" else "cheaper"
    caption = f"Filled and joined: no other is both {less} and better. Bars are 95 % intervals."
    return Figure(name, drawing.svg(alt), alt, caption)


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

    With more than about 40 classes there is no room for their names.
    """
    size, sums = len(classes), [sum(row) for row in counts]
    cell = max(6.0 if size <= 100 else 2.0, min(38.0, 460.0 / size))
    named = cell >= 11
    longest = max(text.width(svg.truncated(c, 20)) for c in classes) if named else 0
    left, top = max(58.0, 22 + 6.6 * longest), 30 + (6.6 * longest + 4 if longest > 3 else 16.0)
    side = size * cell
    drawing = svg.Drawing(left + side + 8, top + side + 8)
    drawing.text(left, 14, "predicted →")
    drawing.text(left - 7, 14, "label ↓", anchor="end")
    drawing.box(left, top, side, side, "grid", 0.55)
    for i in range(1, size if named else 0):
        drawing.line(left, top + i * cell, left + side, top + i * cell, "paper")
        drawing.line(left + i * cell, top, left + i * cell, top + side, "paper")
    gap = 0.5 if named else 0.0
    for i, class_name in enumerate(classes):
        shown = svg.truncated(class_name, 20)
        y = top + i * cell
        if named:
            drawing.text(left - 7, y + cell / 2 + 4, shown, size=min(12.0, cell), anchor="end")
            x = left + (i + 0.5) * cell
            if longest > 3:
                drawing.text(x + 4, top - 6, shown, size=min(12.0, cell), turn=-90)
            else:
                drawing.text(x, top - 7, shown, anchor="middle")
        for j, count in enumerate(counts[i]):
            if count == 0:
                continue
            paint, share = ("good" if i == j else "bad"), count / sums[i]
            opacity = 0.15 + 0.75 * share if i == j else min(0.2 + 2.0 * share, 0.95)
            said = f"{class_name} predicted as {classes[j]}: {count} of {sums[i]}" if size <= 100 else ""
            x = left + j * cell
            drawing.box(x + gap, y + gap, cell - 2 * gap, cell - 2 * gap, paint, opacity, said)
            if cell >= 22:
                ink = "paper" if opacity > 0.55 else "ink"
                drawing.text(x + cell / 2, y + cell / 2 + 4, str(count), ink, min(12.0, cell * 0.42), "middle")
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
    area = (52.0, 34.0, 376.0, 300.0)
    percent = _percent_tick(ticks)
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
    left = 16 + 6.6 * max(text.width(svg.truncated(label, 56)) for label, *_ in rows)
    x = svg.Scale(low=ticks[0], high=ticks[-1], start=left, end=_WIDTH - 20)
    for tick in ticks:
        drawing.line(x(tick), 16, x(tick), bottom, "soft" if tick == 0 else "grid")
        drawing.text(x(tick), bottom + 18, text.points(tick), anchor="middle")
    for i, (label, estimate, low, high) in enumerate(rows):
        y = 38 + 30.0 * i
        clear = not (low <= 0 <= high)
        drawing.text(left - 12, y + 4, svg.truncated(label, 56), "ink" if clear else "soft", anchor="end")
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


def _percent_tick(ticks: Sequence[float]) -> Callable[[float], str]:
    steps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
    decimals = next((d for d in (0, 1, 2) if all(abs(round(100 * s, d) - 100 * s) < 1e-9 for s in steps)), 2)
    return lambda share: f"{100 * share:.{decimals}f} %"


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
