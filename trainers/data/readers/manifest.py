"""CSV and Parquet manifests: columns ``path``, ``label`` and, if there are splits, ``split``."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data import dataset
from trainers.data.dataset import WHOLE, Split, SplitsRead
from trainers.data.pictures.pictures import EncodedPictures
from trainers.data.readers.folder import PICTURE_SUFFIXES, SPLIT_FOLDERS
from trainers.data.readers.paths import rooted_files
from trainers.errors import BadData

SUFFIXES = (".csv", ".tsv", ".parquet")
_COLUMNS = ("path", "label", "split")
_SPELLED = {word: split for split, words in SPLIT_FOLDERS.items() for word in words}
MAX_CELL = 4096  # characters
# A Parquet file's rows may take next to nothing; fewer than the first figure do no harm.
_HARMLESS_ROWS, _HARMLESS_BYTES, _MOST_TIMES = 100_000, 64 * 2**20, 30


def read_file(path: Path, root: Path | None, source: str | None = None) -> SplitsRead:
    """Rows of (path, label[, split]). Paths start from ``root``, by default the manifest's own folder; ``source`` names
    one more column, which says where each picture comes from.

    Labels are names or whole numbers; numbers are ordered as numbers. Splits are called train, validation (or val),
    test. BadData names the row.
    """
    extra = () if source is None else (source.lower(),)
    columns = (_read_parquet if path.suffix.lower() == ".parquet" else _read_text)(path, extra)
    paths, labels = columns["path"], columns["label"]
    if not paths:
        raise BadData(f"{path}: the manifest has no row")
    for row, (name, label) in enumerate(zip(paths, labels, strict=True), start=1):
        if not name or not label:
            raise BadData(f"{path}: row {row} has no {'path' if not name else 'label'}")
        if len(label) > MAX_CELL:
            raise BadData(f"{path}: row {row} has a label of {len(label):,} characters; at most {MAX_CELL:,} are read")
    names = _class_names(path, labels)
    numbers = {name: number for number, name in enumerate(names)}
    files = rooted_files(path, root if root is not None else path.parent, paths)
    sources = None if source is None else columns[source.lower()]
    if sources is not None and not all(sources):
        raise BadData(f"{path}: row {sources.index('') + 1} has no {source}; every picture needs one with --group")
    whole = Split(EncodedPictures(files), np.array([numbers[label] for label in labels], np.int64), paths, sources)
    return SplitsRead(
        name=path.stem, class_names=names, splits=_splits(path, whole, columns.get("split"), names), source=str(path)
    )


def _class_names(path: Path, labels: Sequence[str]) -> tuple[str, ...]:
    distinct = set(labels)
    known = dataset.find(path.parent)
    if known is not None and distinct <= set(known):
        return known
    if all(label.isdecimal() for label in distinct):
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    return tuple(sorted(distinct))


def _splits(path: Path, whole: Split, column: Sequence[str] | None, names: Sequence[str]) -> dict[str, Split]:
    if column is None or not any(column):
        return {WHOLE: whole}
    members: dict[str, list[int]] = {}
    for row, word in enumerate(column):
        if word.lower() not in _SPELLED:
            also = "; call it validation" if word.lower() in ("dev", "eval", "holdout") else ""
            pairs = dataset.alike(names)
            twice = f". Class names that differ in case or blanks alone: {', '.join(pairs)}" if pairs else ""
            raise BadData(
                f"{path}: row {row + 1} has split {word!r}; legal are {', '.join(SPLIT_FOLDERS)}{also}{twice}"
            )
        members.setdefault(_SPELLED[word.lower()], []).append(row)
    if "train" not in members:
        raise BadData(f"{path}: no row with split train; give some, or leave the column out")
    return {name: whole.take(np.array(members[name], np.int64)) for name in SPLIT_FOLDERS if name in members}


def _read_text(path: Path, extra: Sequence[str]) -> dict[str, list[str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            header = next(rows, [])
            places = _places(path, [name.strip().lower() for name in header], extra)
            columns: dict[str, list[str]] = {name: [] for name in places}
            for row in rows:
                if not row:
                    continue
                if len(row) != len(header):
                    raise BadData(f"{path}:{rows.line_num}: {len(row)} fields, but the header has {len(header)}")
                for name, place in places.items():
                    columns[name].append(row[place].strip())
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    except csv.Error as error:
        raise BadData(f"{path}:{rows.line_num}: not a CSV file ({error})") from error
    except UnicodeDecodeError as error:
        raise BadData(f"{path}: not a CSV file in UTF-8 ({error})") from error
    return columns


def _read_parquet(path: Path, extra: Sequence[str]) -> dict[str, list[str]]:
    import pyarrow
    import pyarrow.parquet

    try:
        original = pyarrow.parquet.read_schema(path).names
        places = _places(path, [name.lower() for name in original], extra)
        wanted = [original[place] for place in places.values()]
        _check_size(path, wanted)
        table = pyarrow.parquet.read_table(path, columns=wanted, read_dictionary=wanted)
        for name in wanted:
            _check_cells(path, name, table.column(name))
        return {name: _words(table.column(place).to_pylist()) for place, name in enumerate(places)}
    except (OSError, pyarrow.ArrowException) as error:
        raise BadData(f"{path}: not a readable Parquet file ({str(error).splitlines()[0][:200]})") from error


def _check_size(path: Path, wanted: Sequence[str]) -> None:
    """Raise BadData for a file whose cells would take far more memory than it has bytes."""
    import pyarrow.parquet

    found, size = pyarrow.parquet.read_metadata(path), path.stat().st_size
    groups = [found.row_group(n) for n in range(found.num_row_groups)]
    columns = [group.column(n) for group in groups for n in range(group.num_columns)]
    unpacked = sum(c.total_uncompressed_size for c in columns if c.path_in_schema in wanted)
    if found.num_rows > max(_HARMLESS_ROWS, size):
        raise BadData(f"{path}: {found.num_rows:,} rows in {size:,} bytes, more than one a byte, are no manifest")
    if unpacked > max(_HARMLESS_BYTES, _MOST_TIMES * size):
        raise BadData(
            f"{path}: unpacks to {unpacked:,} bytes, more than {_MOST_TIMES} times its size; no manifest does"
        )


def _check_cells(path: Path, name: str, column: Any) -> None:
    import pyarrow
    from pyarrow import compute

    for chunk in column.chunks:
        values = chunk.dictionary if pyarrow.types.is_dictionary(chunk.type) else chunk
        if pyarrow.types.is_string(values.type) or pyarrow.types.is_binary(values.type):
            longest = compute.max(compute.binary_length(values)).as_py() or 0
            if longest > MAX_CELL:
                raise BadData(f"{path}: column {name} has a cell of {longest:,} bytes; at most {MAX_CELL:,} are read")


def _words(values: Iterable[Any]) -> list[str]:
    """Cells as text; whole floats as whole numbers, missing cells as empty."""
    return [
        "" if value is None else str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        for value in values
    ]


_PATHS = (
    "image_path", "image path", "img_path", "filepath", "file_path", "filename", "file_name", "file", "image", "img",
    "image_name", "image_id", "image_file", "id", "name",
)  # fmt: skip
_LABELS = (
    "class",
    "class_name",
    "classname",
    "category",
    "breed",
    "species",
    "target",
    "tag",
    "labels",
    "diagnosis",
    "y",
)
_PLAIN = re.compile(r"[\w .-]+")


def _places(path: Path, header: Sequence[str], extra: Sequence[str]) -> dict[str, int]:
    missing = [name for name in (*_COLUMNS[:2], *extra) if name not in header]
    if missing:
        have = ", ".join(repr(name) for name in header[:8]) or "nothing"
        raise BadData(
            f"{path}: no column {' and '.join(missing)} (columns: {have}); expected path, label[, split]"
            f"{_advice(path, header)}"
        )
    return {name: header.index(name) for name in (*_COLUMNS, *extra) if name in header}


def _advice(path: Path, header: Sequence[str]) -> str:
    """What a header without the wanted columns is instead, and the command that makes it right."""
    file, stem = shlex.quote(str(path)), path.with_suffix("")
    if path.suffix.lower() == ".parquet" or not header:
        return ""
    if len(header) == 1:
        for mark, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (",", "commas")):
            if mark in header[0]:
                shown = "\\t" if mark == "\t" else mark
                out = shlex.quote(f"{stem}-tabs.tsv")
                return f". Its fields are separated by {name}: tr '{shown}' '\\t' < {file} > {out}"
    mark = "\t" if path.suffix.lower() == ".tsv" else ","
    named = shlex.quote(f"{stem}-named{path.suffix}")
    pictures = [at for at, name in enumerate(header) if "://" in name or name.endswith(PICTURE_SUFFIXES)]
    if len(pictures) == 1:  # a row, no header
        splits = [at for at, name in enumerate(header) if name in _SPELLED or name == "unassigned"]
        labels = [at for at in range(len(header)) if at not in (*pictures, *splits)]
        new = [f"column{at + 1}" for at in range(len(header))]
        for name, places in (("path", pictures), ("split", splits[:1]), ("label", labels[:1])):
            for at in places:
                new[at] = name
        return f". The first line is a row, not a header: sed '1i {mark.join(new)}' {file} > {named}"
    new = list(header)
    for wanted, others in (("path", _PATHS), ("label", _LABELS)):
        there = [name for name in others if name in header]
        if wanted not in header and there:
            new[header.index(there[0])] = wanted
    if {"path", "label"} <= set(new) and all(map(_PLAIN.fullmatch, new)):
        return f". Where these are other names for them: sed '1s/.*/{mark.join(new)}/' {file} > {named}"
    return ""
