"""``inspect``: a contact sheet, one row a class: its label, a few pictures, and how many there are in each split.

OpenCV draws it. Its font has ASCII letters only: a class is always shown with its number, so no row is without a name.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data.dataset import WHOLE, Split, SplitsRead
from trainers.data.pictures.codec import Pixels, encode, opencv
from trainers.data.pictures.sizing import resized
from trainers.data.source import read_source
from trainers.errors import BadData, BadInput

_CELL_PX, _GAP_PX = 96, 6
_MOST_ROWS = 60
Colour = tuple[int, int, int]
_COLOURS: dict[str, Colour] = {  # RGB
    "train": (76, 120, 168),
    "validation": (245, 133, 24),
    "test": (84, 162, 75),
    WHOLE: (76, 120, 168),
}
_INK: Colour = (34, 34, 34)
_SOFT: Colour = (85, 85, 85)
_BLANK = 255
_HEAD_PX, _FOOT_PX, _BARS_PX, _LONGEST_BAR_PX = 112, 24, 420, 310


@dataclass(frozen=True, kw_only=True)
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
    png, _ = encode(_composed(found, np.concatenate(rows), counts, shown), None)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(png)
    except OSError as error:
        raise BadData(f"--out {out}: cannot be written ({error.strerror})") from error
    return Sheet(
        out=out,
        class_names=found.class_names,
        counts=counts,
        shown_classes=shown,
        unreadable=tuple(unreadable),
        notes=found.notes,
    )


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


def _composed(found: SplitsRead, pictures: Pixels, counts: dict[str, list[int]], shown: int) -> Pixels:
    """(H, W, 3) pixels of the sheet: its head, then a row a class of label, pictures and counts."""
    titles = [_title(found, label) for label in range(shown)]
    label_px = 32 + max(_width(title, 0.5) for title in titles)
    step = _CELL_PX + _GAP_PX
    total = sum(sum(split) for split in counts.values())
    title = f"{found.name}: {total:,} pictures, {len(found.class_names)} classes"
    detail = " + ".join(f"{sum(split):,} {name}" for name, split in counts.items())
    if len(counts) == 1:
        detail = "no splits of its own"
    if shown < len(found.class_names):
        detail += f"; the first {shown} classes are shown"
    bars_left = label_px + pictures.shape[1] + 24
    width = max(bars_left + _BARS_PX, 32 + _width(title, 0.7), 32 + _width(detail, 0.5))
    canvas = np.full((_HEAD_PX + len(pictures) + _FOOT_PX, width, 3), _BLANK, np.uint8)
    canvas[_HEAD_PX : _HEAD_PX + len(pictures), label_px : label_px + pictures.shape[1]] = pictures
    _write(canvas, 16, 34, title, 0.7, _INK, thick=2)
    _write(canvas, 16, 62, detail, 0.5, _SOFT)
    for row, name in enumerate(titles):
        y = _HEAD_PX + row * step + step // 2
        _write(canvas, label_px - 12 - _width(name, 0.5), y + 5, name, 0.5, _INK)
    _draw_bars(canvas, bars_left, counts, shown)
    return canvas


def _draw_bars(canvas: Pixels, left: int, counts: dict[str, list[int]], shown: int) -> None:
    """Stacked horizontal bars, a row a class, in line with the pictures, with the sum at the end."""
    step = _CELL_PX + _GAP_PX
    sums = np.sum([split[:shown] for split in counts.values()], axis=0)
    scale = _LONGEST_BAR_PX / max(int(sums.max()), 1)
    _write(canvas, left, _HEAD_PX - 34, "pictures a class", 0.5, _INK)
    x = left
    for name in counts if len(counts) > 1 else ():
        canvas[_HEAD_PX - 22 : _HEAD_PX - 10, x : x + 12] = _COLOURS[name]
        _write(canvas, x + 18, _HEAD_PX - 11, name, 0.45, _SOFT)
        x += 36 + _width(name, 0.45)
    for row in range(shown):
        top, before = _HEAD_PX + row * step + step // 5, 0
        for name, split in counts.items():
            start, end = (left + round(n * scale) for n in (before, before + split[row]))
            canvas[top : top + 3 * step // 5, start:end] = _COLOURS[name]
            before += split[row]
        _write(canvas, left + round(before * scale) + 6, top + 3 * step // 10 + 5, f"{before:,}", 0.45, _INK)


def _write(canvas: Pixels, x: int, y: int, said: str, size: float, colour: Colour, thick: int = 1) -> None:
    """Text with its baseline's left end at (x, y) px."""
    cv2 = _opencv()
    cv2.putText(canvas, _ascii(said), (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, thick, cv2.LINE_AA)


def _width(said: str, size: float) -> int:
    """The text's width in px."""
    cv2 = _opencv()
    return int(cv2.getTextSize(_ascii(said), cv2.FONT_HERSHEY_SIMPLEX, size, 2)[0][0])


def _opencv() -> Any:
    cv2 = opencv()
    if cv2 is None:
        raise BadInput("a contact sheet needs OpenCV: pip install opencv-python-headless")
    return cv2


def _ascii(said: str) -> str:
    """Text in the letters that OpenCV's font has: accents are left out, other letters become a question mark."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", said) if not unicodedata.combining(c))
    return plain.encode("ascii", "replace").decode()


def _title(found: SplitsRead, label: int) -> str:
    name = found.class_names[label]
    name = name if len(name) <= 24 else name[:22] + "..."
    return str(label) if name == str(label) else f"{label}  {name}"
