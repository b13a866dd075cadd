"""Names beside the points of a drawing: where each has room, and upon no other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.charts import svg
from reports.document import text


@dataclass(frozen=True)
class Point:
    """A configuration by what it cost and how well it does, with its interval; NaN where there is none."""

    label: str
    cost: float
    score: float
    low: float
    high: float
    front: bool


# Where a point's name may stand: beside it, above and below, right and left.
_PLACES = tuple((dx, dy, anchor) for dy in (4, -8, 17, -24, 33) for dx, anchor in ((9, "start"), (-9, "end")))


def place_names(
    frame: svg.Frame, labelled: Sequence[Point], points: Sequence[Point], area: tuple[float, float, float, float]
) -> None:
    """Name the points, on the side where there is room: upon no point and no other name, and rather upon no line."""
    taken = [(frame.x(p.cost) - 6, frame.y(p.score) - 6, frame.x(p.cost) + 6, frame.y(p.score) + 6) for p in points]
    thin = [
        (frame.x(p.cost) - 3, frame.y(p.high), frame.x(p.cost) + 3, frame.y(p.low))
        for p in points
        if math.isfinite(p.low)
    ]
    front = [(frame.x(p.cost), frame.y(p.score)) for p in points if p.front]
    for (x1, y1), (x2, y2) in zip(front, front[1:], strict=False):
        steps = [i / 12 for i in range(1, 12)]
        thin += [
            (x1 + t * (x2 - x1) - 2, y1 + t * (y2 - y1) - 2, x1 + t * (x2 - x1) + 2, y1 + t * (y2 - y1) + 2)
            for t in steps
        ]
    for p in sorted(labelled, key=lambda p: (not p.front, -p.score, p.label)):
        said = svg.truncated(p.label, 34)
        wide = 6.6 * text.width(said)
        x, y = frame.x(p.cost), frame.y(p.score)
        free: list[tuple[int, int, int, int, str, tuple[float, float, float, float]]] = []
        for dx, dy, anchor in _PLACES:
            left = x + dx if anchor == "start" else x + dx - wide
            box = (left, y + dy - 11, left + wide, y + dy + 3)
            inside = box[0] >= area[0] and box[2] <= area[2] + 20 and box[1] >= area[1] - 12 and box[3] <= area[3]
            if inside and not any(_overlap(box, other) for other in taken):
                free.append((sum(_overlap(box, other) for other in thin), len(free), dx, dy, anchor, box))
        if free:
            _, _, dx, dy, anchor, box = min(free)
            frame.drawing.text(x + dx, y + dy, said, "ink" if p.front else "soft", 12, anchor, halo=True)
            taken.append(box)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
