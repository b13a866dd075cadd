"""``pack --relabel``: labels corrected by hand in the file that ``python -m reports mistakes`` writes."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tracking.errors.words import csv_text
from trainers.data.dataset import Split, SplitsRead
from trainers.errors import BadData

_NEEDED = ("key", "image_digest", "label", "suggested")
_SHOWN = 5  # faults, and pictures that were not found


@dataclass(frozen=True)
class _Row:
    line: int
    key: str
    digest: str
    label: str
    suggested: str


def relabelled(found: SplitsRead, path: Path) -> tuple[SplitsRead, tuple[str, ...]]:
    """The source with the labels of the file, and what was changed and what was not found, a sentence each.

    A picture is the file's where key and content digest agree. An empty ``suggested``, or one that is the label, leaves
    the picture as it is. Raises BadData with every fault of the file before anything is changed.
    """
    rows = _read(path)
    faults = _faults(rows, found.class_names)
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise BadData(f"{path}: {'; '.join(faults[:_SHOWN])}{more}. Nothing was written")
    wanted = defaultdict[str, dict[str, _Row]](dict)
    for row in rows:
        if row.suggested not in ("", row.label):
            wanted[row.key][row.digest] = row
    changed, already = 0, 0
    other: list[str] = []
    met: set[_Row] = set()
    splits: dict[str, Split] = {}
    for name, split in found.splits.items():
        at = np.array([index for index, key in enumerate(split.keys) if key in wanted], np.int64)
        labels = split.labels.copy()
        for index, digest in zip(at, split.take(at).image_digests if len(at) else (), strict=True):
            meant = wanted[split.keys[index]].get(digest)
            if meant is None:
                continue
            met.add(meant)
            now = found.class_names[labels[index]]
            if now == meant.label:
                labels[index] = found.class_names.index(meant.suggested)
                changed += 1
            elif now == meant.suggested:
                already += 1
            else:
                other.append(f"{meant.key} ({now}, not {meant.label})")
        splits[name] = Split(split.pictures, labels, split.keys)
    lost = [row.key for pair in wanted.values() for row in pair.values() if row not in met]
    kept = sum(row.suggested in ("", row.label) for row in rows)
    notes = [f"{path}: {changed:,} labels changed"]
    notes += [f"{kept:,} rows leave the label as it is"] if kept else []
    notes += [f"{already:,} pictures have the suggested label already"] if already else []
    notes += [f"{len(other):,} left alone, since their label is another now: {_some(other)}"] if other else []
    notes += [f"{len(lost):,} not found in {found.source} by key and content: {_some(lost)}"] if lost else []
    return replace(found, splits=splits), tuple(notes)


def _read(path: Path) -> list[_Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadData(f"{path}: {error.strerror or error}; give the file of python -m reports mistakes") from error
    except UnicodeDecodeError as error:
        raise BadData(f"{path}: not UTF-8; save it as CSV in UTF-8") from error
    head = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=head.count))
    missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        raise BadData(f"{path}: no column {', '.join(missing)}; needed are {', '.join(_NEEDED)} in the first line")
    return [
        _Row(
            reader.line_num, csv_text(row["key"] or ""), *(csv_text((row[name] or "").strip()) for name in _NEEDED[1:])
        )
        for row in reader
    ]


def _faults(rows: list[_Row], class_names: tuple[str, ...]) -> list[str]:
    faults, seen = [], dict[tuple[str, str, str], _Row]()
    for row in rows:
        where = f"line {row.line}"
        if not row.key or not row.digest:
            faults.append(f"{where}: no {'key' if not row.key else 'image_digest'}")
        for column, name in (("label", row.label), ("suggested", row.suggested)):
            if name not in class_names and not (column == "suggested" and not name):
                few = ", ".join(class_names[:5]) + (", …" if len(class_names) > 5 else "")
                faults.append(f"{where}: {column} {name!r} is no class ({few})")
        former = seen.setdefault((row.key, row.digest, row.label), row)
        if former is not row and former.suggested != row.suggested:
            faults.append(f"lines {former.line} and {row.line} give {row.key} two labels")
    return faults


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", …" if len(keys) > _SHOWN else "")
