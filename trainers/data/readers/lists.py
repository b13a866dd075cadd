"""``.lst`` files: index, label, path, separated by tabs. One parser for training, packing and the check."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from trainers.data import dataset
from trainers.data.dataset import WHOLE, Split, SplitsRead
from trainers.data.pictures.pictures import EncodedPictures
from trainers.data.readers.paths import rooted_files
from trainers.errors import BadData

_PATH = re.compile(r".*[/\\]|.*\.(?:jpe?g|jpe|jfif|png|bmp|gif|tiff?|webp|heic|heif)", re.IGNORECASE | re.DOTALL)
_SPACED = re.compile(r"\s*(\d+)\s+(-?\d+(?:\.\d+)?)\s+(\S.*?)\s*")
MAX_LINE_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"
UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Row:
    """One line: ``labels`` has one entry unless the list is multi-label; ``path`` as written."""

    line: int
    index: int
    labels: tuple[float, ...]
    path: str


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """A line that is no row: ``kind`` is a stable word, ``text`` its first 120 characters.

    Where it can be read all the same, ``causes`` say what is wrong with it, ``index``, ``labels`` (as written) and
    ``path`` what it means. Causes: separator, spaces, quotes, columns, names, labels (several in one field), index.
    """

    line: int
    kind: str
    text: str
    causes: tuple[str, ...] = ()
    index: str = ""
    labels: tuple[str, ...] = ()
    path: str = ""


@dataclass(frozen=True)
class ListRules:
    """How the file as a whole is written."""

    bom: bool
    crlf: bool
    utf16: bool = False

    @classmethod
    def of(cls, head: bytes) -> ListRules:
        """As the bytes at the beginning of a list show them."""
        return cls(head.startswith(_BOM), b"\r\n" in head, head.startswith(UTF16))


def parse(path: Path) -> tuple[ListRules, Iterator[Row | BadLine]]:
    """Read a list line by line; empty lines are skipped. BadData when it cannot be opened."""
    try:
        with open(path, "rb") as file:
            head = file.read(MAX_LINE_BYTES)
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    return ListRules.of(head), _rows_of(path)


def _rows_of(path: Path) -> Iterator[Row | BadLine]:
    with open(path, "rb") as file:
        yield from rows(file)


def rows(file: BinaryIO) -> Iterator[Row | BadLine]:
    """The lines of a list from any source of bytes; empty lines are skipped."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES):
        number += 1
        if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
            yield BadLine(line=number, kind="long", text=f"{raw[:40]!r} … no end within {MAX_LINE_BYTES:,} bytes")
            return
        if number == 1 and raw.startswith(UTF16):
            yield BadLine(line=1, kind="encoding", text="the file is UTF-16, as PowerShell and Excel write it")
            return
        if number == 1:
            raw = raw.removeprefix(_BOM)
        raw = raw.rstrip(b"\r\n")
        if raw.strip():
            yield _row(number, raw)


def _row(number: int, raw: bytes) -> Row | BadLine:
    try:
        return row(number, raw.decode("utf-8"))
    except UnicodeDecodeError:
        return BadLine(line=number, kind="encoding", text=repr(raw[:120]))


def row(number: int, text: str) -> Row | BadLine:
    """One line without its end."""
    fields = text.split("\t")
    if len(fields) < 3:
        spaced = _SPACED.fullmatch(text) is not None
        return _bad(number, "spaces" if spaced else "fields", text)
    index, *labels, path = fields
    try:
        values = tuple(float(label) for label in labels)
        whole = int(float(index))  # some writers give 17.0
        if float(index) != whole or whole < 0 or not path.strip() or any(map(math.isnan, values)):
            raise ValueError
    except (ValueError, OverflowError):
        return _bad(number, "values", text)
    if _number(path.strip()) and _PATH.match(labels[-1]):
        return _bad(number, "values", text)
    return Row(number, whole, values, path)


def _bad(number: int, kind: str, text: str) -> BadLine:
    for causes, fields in _divided(text):
        found = _arranged(fields)
        if found is not None:
            wrong, index, labels, path = found
            every = tuple(dict.fromkeys((*causes, *wrong)))
            return BadLine(line=number, kind=kind, text=text[:120], causes=every, index=index, labels=labels, path=path)
    return BadLine(line=number, kind="header" if number == 1 and _is_header(text) else kind, text=text[:120])


def _divided(text: str) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """The fields of a line, in every way it may have been divided, with what is wrong with that way."""
    if "\t" in text:
        yield (), text.split("\t")
        yield ("columns",), text.rstrip("\t ").split("\t")
    for mark in ",;|":
        try:
            cells = next(csv.reader([text], delimiter=mark, skipinitialspace=True), [])
        except csv.Error:
            continue
        if len(cells) > 1:
            yield ("separator",), cells
    if (match := _SPACED.fullmatch(text)) is not None:
        yield ("spaces",), list(match.groups())
    if "," not in text:
        yield ("spaces",), text.split()


def _arranged(fields: Sequence[str]) -> tuple[tuple[str, ...], str, tuple[str, ...], str] | None:
    """(causes, index, labels, path) where exactly one field can be the path and the others its index and labels."""
    clean = [field.strip() for field in fields]
    bare = [
        field[1:-1].strip() if len(field) > 1 and field[0] == field[-1] and field[0] in "\"'" else field
        for field in clean
    ]
    causes = ["quotes"] if bare != clean else []
    places = [at for at, field in enumerate(bare) if not _number(field) and _PATH.fullmatch(field)]
    if len(places) != 1 or not 2 <= len(bare) <= 1000 or not all(bare):
        return None
    at, last = places[0], len(bare) - 1
    before, behind = bare[:at], bare[at + 1 :]
    index = before[0] if before and before[0].isdecimal() else ""
    if at == last and len(before) > 1:
        labels = before[1:]
        if not index:
            causes.append("index")
    elif (behind and len(before) < 2) or (at == last and not _number(before[0])):
        labels, index = behind or before, index if behind else ""
        causes.append("columns")
    else:
        return None
    if len(labels) == 1 and not _number(labels[0]):
        several = re.split(r"[\s,;]+", labels[0].strip("[]()"))
        if all(map(_number, several)):
            labels = several
            causes.append("labels" if len(several) > 1 else "index")
        elif labels[0].lower().lstrip("+-") in ("nan", "inf", "infinity"):
            return None
        else:
            causes.append("names")
    if len(labels) > 1 and not all(map(_number, labels)):
        return None
    return tuple(causes), index, tuple(labels), bare[at]


def _number(text: str) -> bool:
    return _float(text) is not None


def _float(text: str) -> float | None:
    """A finite number, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_header(text: str) -> bool:
    fields = [field.strip(" \"'") for field in re.split(r"[\t,;|]| +", text)]
    return len(fields) > 1 and not any(_number(field) or _PATH.fullmatch(field) for field in fields if field)


def extra_column(rows: Sequence[Row]) -> bool:
    """Whether the first column only counts the lines: a row name, before the index."""
    if len(rows) < 2 or any(len(row.labels) != 2 for row in rows):
        return False
    steps = {later.index - row.index for row, later in itertools.pairwise(rows)}
    return steps == {1} and len({row.labels[0] for row in rows}) == len(rows)


def read_file(path: Path, root: Path | None) -> SplitsRead:
    """A list and the folder its paths start from (by default the folder of the list), as one set."""
    return read_files({WHOLE: (path, root if root is not None else path.parent)}, path)


def read_files(lists: Mapping[str, tuple[Path, Path]], source: Path) -> SplitsRead:
    """(list, root) of each split; labels mean the same in all (see ``classmap``). BadData names line and path."""
    splits = {name: _read_split(path, root) for name, (path, root) in lists.items()}
    some = next(path for path, _ in lists.values())
    labels = np.concatenate([split.labels for split in splits.values()])
    names = dataset.named(labels, dataset.find(some.parent, some.parent.parent), str(source))
    return SplitsRead(name=source.stem, class_names=names, splits=splits, source=str(source))


def _read_split(path: Path, root: Path) -> Split:
    if not root.is_dir():
        raise BadData(f"--image-root {root}: not a folder; give the folder that the paths of {path} start from")
    labels: list[float] = []
    keys: list[str] = []
    for row in parse(path)[1]:
        if isinstance(row, BadLine):
            raise BadData(
                f"{path}:{row.line}: {row.text!r} is not index, label, path separated by tabs ({row.kind});"
                f" python -m trainers.data check {path} says what is wrong with it"
            )
        if len(row.labels) != 1:
            raise BadData(f"{path}:{row.line}: {len(row.labels)} labels; one label a picture is legal here")
        if not math.isfinite(row.labels[0]) or row.labels[0] != int(row.labels[0]) or row.labels[0] < 0:
            raise BadData(f"{path}:{row.line}: label {row.labels[0]:g}; legal are whole numbers from 0")
        labels.append(row.labels[0])
        keys.append(row.path)
    if not keys:
        raise BadData(f"{path}: the list is empty; write one line a picture: index, label, path")
    if max(labels) >= dataset.MAX_CLASSES:
        raise BadData(f"{path}: label {max(labels):g}; legal are 0 to the number of classes - 1")
    return Split(EncodedPictures(rooted_files(path, root, keys)), np.array(labels, np.int64), keys)
