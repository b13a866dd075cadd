"""``inspect``: a contact sheet, one row a class: its label, a few pictures, and how many there are in each split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.data.dataset import WHOLE, Split, SplitsRead
from trainers.data.pictures.codec import Pixels
from trainers.data.pictures.sizing import resized
from trainers.data.source import read_source
from trainers.errors import BadData

_CELL_PX, _GAP_PX = 96, 6
_MOST_ROWS = 60
_COLOURS = {"train": "#4c78a8", "validation": "#f58518", "test": "#54a24b", WHOLE: "#4c78a8"}
_BLANK = 255


@dataclass(frozen=True)
class Sheet:
    """What was drawn: ``counts`` pictures of each class by split, ``unreadable`` pictures that show as a cross."""

    out: Path
    class_names: tuple[str, ...]
    counts: dict[str, list[int]]
    shown_classes: int
    unreadable: tuple[str, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "format": 1,
            "out": str(self.out),
            "class_names": list(self.class_names),
            "counts": self.counts,
            "shown_classes": self.shown_classes,
            "unreadable": list(self.unreadable),
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """One line, and what a reader should know."""
        total = sum(sum(counts) for counts in self.counts.values())
        lines = [f"{self.out}: {total:,} pictures of {len(self.class_names)} classes; look at it before you train"]
        if self.shown_classes < len(self.class_names):
            lines.append(f"  the sheet shows the first {self.shown_classes} classes")
        lines += [f"  cannot be read: {name}" for name in self.unreadable]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def draw_sheet(spec: str, out: Path, *, image_root: Path | None = None, per_class: int = 8, seed: int = 0) -> Sheet:
    """Write ``out`` (PNG). ``seed`` chooses the pictures, the training split first. BadData as ``open_dataset``."""
    if out.suffix.lower() != ".png":
        raise BadData(f"--out {out}: the sheet is a PNG; give a name that ends in .png")
    found = read_source(spec, image_root)
    shown = min(len(found.class_names), _MOST_ROWS)
    unreadable: list[str] = []
    rows = [_row(found, label, per_class, seed, unreadable) for label in range(shown)]
    counts = {
        name: np.bincount(split.labels, minlength=len(found.class_names)).tolist()
        for name, split in found.splits.items()
    }
    _draw(found, np.concatenate(rows), counts, shown, per_class, out)
    return Sheet(out, found.class_names, counts, shown, tuple(unreadable), found.notes)


def _row(found: SplitsRead, label: int, per_class: int, seed: int, unreadable: list[str]) -> Pixels:
    """(cell, per_class cells, 3) pictures of one class, side by side."""
    step = _CELL_PX + _GAP_PX
    row = np.full((step, per_class * step, 3), _BLANK, np.uint8)
    rng = np.random.default_rng([seed, label])
    chosen: list[tuple[Split, int]] = []
    for split in found.splits.values():
        members = np.flatnonzero(split.labels == label)
        picked = rng.permutation(len(members))[: per_class - len(chosen)]
        chosen += [(split, int(members[at])) for at in sorted(picked)]
    for place, (split, index) in enumerate(chosen):
        try:
            cell = _cell(split.pictures.load(index, 3))
        except BadData:
            unreadable.append(split.pictures.name(index))
            cell = _cross()
        top, left = (step - cell.shape[0]) // 2, place * step + (step - cell.shape[1]) // 2
        row[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return row


def _cell(pixels: Pixels) -> Pixels:
    """Scaled to the cell, aspect ratio kept; small pictures are enlarged in whole steps, so that pixels stay square."""
    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest <= _CELL_PX // 2:
        times = _CELL_PX // longest
        return np.repeat(np.repeat(pixels, times, axis=0), times, axis=1)
    scale = _CELL_PX / longest
    return resized(pixels, max(1, round(height * scale)), max(1, round(width * scale)), area=True)


def _cross() -> Pixels:
    cell = np.full((_CELL_PX, _CELL_PX, 3), 235, np.uint8)
    for at in range(8, _CELL_PX - 8):
        for other in (at, _CELL_PX - 1 - at):
            cell[at, max(0, other - 2) : other + 2] = (200, 40, 40)
    return cell


def _draw(
    found: SplitsRead, canvas: NDArray[np.uint8], counts: dict[str, list[int]], shown: int, per_class: int, out: Path
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dpi, bar_px = 100, 420
    step = _CELL_PX + _GAP_PX
    label_px = 60 + 9 * max(len(_title(found, label)) for label in range(shown))
    head_px, foot_px = 96, 24
    width, height = label_px + canvas.shape[1] + bar_px, head_px + canvas.shape[0] + foot_px
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    bottom, tall = foot_px / height, canvas.shape[0] / height

    pictures = figure.add_axes((label_px / width, bottom, canvas.shape[1] / width, tall))
    pictures.imshow(canvas, interpolation="nearest", aspect="auto")
    pictures.set_yticks([(row + 0.5) * step for row in range(shown)], [_title(found, row) for row in range(shown)])
    pictures.set_xticks([])
    pictures.tick_params(axis="y", length=0, labelsize=11)
    pictures.spines[:].set_visible(False)

    bars = figure.add_axes((1 - (bar_px - 24) / width, bottom, (bar_px - 110) / width, tall))
    _draw_bars(bars, counts, shown)
    total = sum(sum(split) for split in counts.values())
    sizes = " + ".join(f"{sum(split):,} {'' if name == WHOLE else name}".strip() for name, split in counts.items())
    title = f"{found.name}: {total:,} pictures, {len(found.class_names)} classes"
    figure.text(16 / width, 1 - 30 / height, title, fontsize=15, fontweight="bold", va="center")
    detail = sizes if len(counts) > 1 else "no splits of its own"
    if shown < len(found.class_names):
        detail += f"; the first {shown} classes are shown"
    figure.text(16 / width, 1 - 58 / height, detail, fontsize=11, color="#555555", va="center")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=dpi, metadata={"Software": None})
    except OSError as error:
        raise BadData(f"--out {out}: cannot be written ({error.strerror})") from error


def _draw_bars(axes: Any, counts: dict[str, list[int]], shown: int) -> None:
    """Stacked horizontal bars, a row a class, in line with the pictures; the sum stands at the end."""
    rows = np.arange(shown)
    left = np.zeros(shown)
    for name, split in counts.items():
        values = np.array(split[:shown], float)
        axes.barh(rows, values, 0.6, left=left, color=_COLOURS[name], label="pictures" if name == WHOLE else name)
        left += values
    for row, total in zip(rows, left, strict=True):
        axes.annotate(f"{int(total):,}", (total, row), (5, 0), textcoords="offset points", va="center", fontsize=10)
    axes.set_ylim(shown - 0.5, -0.5)
    axes.set_xlim(0, max(left.max() * 1.02, 1))
    axes.set_yticks([])
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_title("pictures a class", fontsize=11, loc="left", pad=24 if len(counts) > 1 else 6)
    if len(counts) > 1:
        place = (0, 1.0)
        axes.legend(loc="lower left", bbox_to_anchor=place, ncols=3, frameon=False, fontsize=10, borderpad=0,
                    borderaxespad=0.2, handlelength=1, columnspacing=1)  # fmt: skip


def _title(found: SplitsRead, label: int) -> str:
    name = found.class_names[label]
    name = name if len(name) <= 24 else name[:23] + "…"
    return str(label) if name == str(label) else f"{label}  {name}"
