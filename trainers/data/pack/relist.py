"""``relist``: a list written anew as the built-in reads it: tabs, numbers, paths below the root, one line a picture."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from trainers.data import dataset
from trainers.data.check.lists import Folder
from trainers.data.readers import lists
from trainers.data.readers.lists import BadLine, Row
from trainers.data.readers.paths import meant
from trainers.errors import BadData

_MAX_BYTES = 1 << 28
_SHOWN = 10


@dataclass(kw_only=True)
class Relisted:
    """What was written: ``lines``; ``changed`` says how many lines were corrected for which cause; ``left_out`` holds
    (line, why)."""

    out: str
    lines: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    left_out: list[tuple[int, str]] = field(default_factory=list)
    class_names: tuple[str, ...] = ()

    def text(self) -> str:
        """A few lines for people."""
        causes = ", ".join(f"{cause} {count:,}" for cause, count in self.changed.items())
        said = [f"{self.out}: {self.lines:,} pictures" + (f"; corrected: {causes}" if causes else "")]
        if self.class_names:
            said.append(
                f"  {dataset.FILE} beside it says which number is which class: {', '.join(self.class_names[:20])}"
            )
        if self.left_out:
            said.append(f"  {len(self.left_out):,} lines were left out:")
            said += [f"    line {line}: {why}" for line, why in self.left_out[:_SHOWN]]
        return "\n".join(said)


def relist(path: Path, out: Path, root: Path | None) -> Relisted:
    """Write ``out`` from the list ``path``, whose pictures are below ``root`` (by default the list's own folder).

    BadData where ``out`` is there already, or no line can be kept; nothing is written then.
    """
    if out.exists():
        raise BadData(f"{out}: is there already; give a new name")
    place = Folder(root if root is not None else path.parent)
    done = Relisted(out=str(out))
    kept: list[tuple[int | None, tuple[str, ...], str]] = []
    lines = [(number, text) for number, text in enumerate(_lines(path, done), start=1) if text.strip()]
    rows = [_repaired(lists.row(number, text), done) for number, text in lines]
    extra = lists.extra_column([row for row in rows if isinstance(row, Row)])
    for row in rows:
        if isinstance(row, Row):
            cells = [f"{label:g}" for label in row.labels]
            index: int | None = row.index
            if extra:
                index, cells = int(float(cells[0])), cells[1:]
                done.changed["columns"] += 1
        elif row.kind == "header":
            done.changed["header"] += 1
            continue
        elif row.causes:
            index, cells = int(row.index) if row.index else None, list(row.labels)
        else:
            done.left_out.append((row.line, f"{row.text!r} cannot be read"))
            continue
        found = _placed(row, place, done)
        if found is not None:
            kept.append((index, tuple(cells), found))
    if not kept:
        raise BadData(f"{path}: not one line has a picture below {place.folder}; give the right --image-root")
    labels = _numbered(kept, done, path)
    indexes = [index for index, _, _ in kept]
    if None in indexes or len(set(indexes)) < len(indexes):
        done.changed["index"] += len(kept)
        indexes = list(range(len(kept)))
    text = "".join(
        "\t".join((str(index), *cells, place)) + "\n"
        for index, cells, (_, _, place) in zip(indexes, labels, kept, strict=True)
    )
    done.lines = len(kept)
    out.parent.mkdir(parents=True, exist_ok=True)
    if done.class_names:
        dataset.write(out.parent, done.class_names)
    out.write_text(text, encoding="utf-8", newline="\n")
    return done


def _repaired(row: Row | BadLine, done: Relisted) -> Row | BadLine:
    """A line that can be read all the same, as a row where its labels are numbers."""
    if isinstance(row, Row) or not row.causes:
        return row
    done.changed.update(row.causes)
    try:
        return Row(row.line, int(row.index), tuple(float(label) for label in row.labels), row.path)
    except ValueError:
        return row


def _lines(path: Path, done: Relisted) -> list[str]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadData(f"{path}: more than {_MAX_BYTES:,} bytes; split the list first")
        data = path.read_bytes()
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    if data.startswith(lists.UTF16):
        done.changed["encoding"] += 1
        text = data.decode("utf-16", "replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            done.changed["encoding"] += 1
            text = data.decode("cp1252", "replace")
    if data.startswith(b"\xef\xbb\xbf"):
        done.changed["byte order mark"] += 1
    if "\r" in text:
        done.changed["line ends"] += text.count("\r")
    return re.split(r"\r\n|\n|\r", text)


def _placed(row: Row | BadLine, place: Folder, done: Relisted) -> str | None:
    """The path of a line as the job reads it; None where there is no picture, which is noted."""
    if place.escapes(row.path) is None:
        if place.has(row.path):
            return row.path
        if (other := place.similar(row.path)) is not None:
            done.changed["case"] += 1
            return other
    there = meant(row.path, place.has)
    if there is None:
        done.left_out.append((row.line, f"{row.path!r} is not below {place.folder}"))
        return None
    done.changed[there.words] += 1
    return there.path


def _numbered(kept: list[tuple[int | None, tuple[str, ...], str]], done: Relisted, path: Path) -> list[tuple[str, ...]]:
    """The labels as numbers: names are numbered in their order, or as an existing class map has them."""
    labels = [cells for _, cells, _ in kept]
    try:
        [[float(cell) for cell in cells] for cells in labels]
        return labels
    except ValueError:
        names = {cells[0] for cells in labels}
    known = dataset.find(path.parent)
    done.class_names = known if known is not None and names <= set(known) else tuple(sorted(names))
    numbers = {name: str(number) for number, name in enumerate(done.class_names)}
    return [(numbers[cells[0]],) for cells in labels]
