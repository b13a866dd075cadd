"""``.lst`` files: index, label, path, separated by tabs. One parser for training, packing and the check."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from trainers.data import dataset
from trainers.data.dataset import WHOLE, Split, SplitsRead
from trainers.data.pictures.pictures import EncodedPictures, Files
from trainers.errors import BadData

_SPACED = re.compile(r"\s*(\d+)\s+(-?\d+(?:\.\d+)?)\s+(\S.*?)\s*")
MAX_LINE_BYTES = 1 << 16
_MAX_PATH = 4000
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Row:
    """One line: ``labels`` has one entry unless the list is multi-label; ``path`` as written."""

    line: int
    index: int
    labels: tuple[float, ...]
    path: str


@dataclass(frozen=True)
class BadLine:
    """A line that is no row: ``kind`` is a stable word, ``text`` its first 120 characters."""

    line: int
    kind: str
    text: str


@dataclass(frozen=True)
class ListRules:
    """How the file as a whole is written."""

    bom: bool
    crlf: bool

    @classmethod
    def of(cls, head: bytes) -> ListRules:
        """As the bytes at the beginning of a list show them."""
        return cls(head.startswith(_BOM), b"\r\n" in head)


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
            yield BadLine(number, "long", f"{raw[:40]!r} … no end within {MAX_LINE_BYTES:,} bytes")
            return
        if number == 1:
            raw = raw.removeprefix(_BOM)
        raw = raw.rstrip(b"\r\n")
        if raw.strip():
            yield _row(number, raw)


def _row(number: int, raw: bytes) -> Row | BadLine:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return BadLine(number, "encoding", repr(raw[:120]))
    fields = text.split("\t")
    if len(fields) < 3:
        spaced = _SPACED.fullmatch(text) is not None
        return BadLine(number, "spaces" if spaced else "fields", text[:120])
    index, *labels, path = fields
    try:
        values = tuple(float(label) for label in labels)
        whole = int(float(index))  # some writers give 17.0
        if float(index) != whole or whole < 0 or not path.strip() or any(map(math.isnan, values)):
            raise ValueError
    except (ValueError, OverflowError):
        return BadLine(number, "values", text[:120])
    return Row(number, whole, values, path)


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
            raise BadData(f"{path}:{row.line}: {row.text!r} is not index, label, path separated by tabs ({row.kind})")
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


def rooted_files(path: Path, root: Path, relative: Sequence[str]) -> Files:
    """The files a list names. BadData for a path that leaves the root and for the first that is not there."""
    inside = Root(root)
    for name in relative:
        reason = inside.escapes(name)
        if reason is not None:
            raise BadData(f"{path}: path {name[:200]!r} {reason}; paths must stay under {root}")
    files = Files([inside.path(name) for name in relative])
    first = Path(files.paths[0])
    if not first.is_file():
        raise BadData(f"{path}: {first} is not there; --image-root must be the folder that its paths start from")
    return files


def leads_out(relative: str) -> str | None:
    """Why a path cannot be one below a root, as it is written; None where it can."""
    if "\x00" in relative:
        return "holds a null byte"
    if len(os.fsencode(relative)) > _MAX_PATH or any(len(os.fsencode(part)) > 255 for part in relative.split("/")):
        return f"is longer than a path can be ({_MAX_PATH:,} bytes, 255 a name)"
    if os.path.isabs(relative) or relative.startswith("\\") or relative[1:3] == ":\\":
        return "is absolute"
    return "climbs with .." if ".." in relative.replace("\\", "/").split("/") else None


class Root:
    """A folder that the paths of a list may not leave."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self._real = os.path.realpath(folder)
        self._inside: dict[str, bool] = {}

    def escapes(self, relative: str) -> str | None:
        """Why ``relative`` may not be followed, in a few words; None where it may."""
        reason = leads_out(relative)
        if reason is not None:
            return reason
        full = os.path.join(self.folder, relative)
        parent = os.path.dirname(full)
        if parent not in self._inside:
            self._inside[parent] = self._holds(os.path.realpath(parent))
        if not self._inside[parent] or (os.path.islink(full) and not self._holds(os.path.realpath(full))):
            return "is a link that leads out"
        return None

    def path(self, relative: str) -> str:
        """The full path of ``relative``; ask ``escapes`` first."""
        return os.path.join(self.folder, relative)

    def _holds(self, real: str) -> bool:
        return real == self._real or real.startswith(self._real.rstrip(os.sep) + os.sep)
