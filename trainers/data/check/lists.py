"""``check`` of a ``.lst`` with its pictures, and of folders of pictures: lines, paths, names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from trainers.data import dataset
from trainers.data.check.examine import PictureFacts, look_at_files
from trainers.data.check.findings import CheckedSplit, Findings
from trainers.data.pictures.pictures import Files
from trainers.data.readers import lists
from trainers.data.readers.folder import class_folders, walk
from trainers.data.readers.layouts import Form
from trainers.data.readers.lists import BadLine, ListRules, Root, Row


def check_list(
    path: Path, root: Path, name: str, findings: Findings, *, num_labels: int, fast: bool, threads: int
) -> CheckedSplit:
    """Every line, and the picture behind it."""
    written, rows = lists.parse(path)
    good, _ = check_lines(path, written, rows, num_labels, findings)
    found = check_paths(path, good, Folder(root), findings)
    full = [os.path.join(root, row.path) for row in found]
    looks = look_at_files(Files(full), deep=not fast, hashes=not fast, threads=threads)
    return listed_split(path, name, found, looks, num_labels, dataset.find(path.parent, path.parent.parent))


def listed_split(
    path: Path | str,
    name: str,
    rows: Sequence[Row],
    looks: PictureFacts,
    num_labels: int,
    class_names: tuple[str, ...] | None,
) -> CheckedSplit:
    """The pictures of a list. Of several labels none is a class."""
    return CheckedSplit(
        name=name,
        path=path,
        form=Form.LIST,
        looks=looks,
        labels=np.array([row.labels[0] if num_labels == 1 else np.nan for row in rows], np.float64),
        place=lambda index: f"line {rows[index].line}: {rows[index].path}",
        file_name=lambda index: rows[index].path,
        class_names=class_names,
    )


def check_lines(
    path: Path | str, written: ListRules, rows: Iterable[Row | BadLine], num_labels: int, findings: Findings
) -> tuple[list[Row], bool]:
    """The rows of a list that are as the job reads them, and whether it reads the list at all."""
    if written.bom:
        findings.add("list-bom", path)
    if written.crlf:
        findings.add("list-crlf", path)
    good: list[Row] = []
    lines = 0
    for row in rows:
        lines += 1
        if isinstance(row, BadLine):
            code = {"spaces": "list-spaces", "encoding": "list-encoding", "values": "list-values"}.get(row.kind)
            findings.add(code or "list-fields", path, f"line {row.line}: {_words(row)}{row.text!r}")
        elif len(row.labels) != num_labels:
            findings.add("list-multi-label", path, f"line {row.line}: {len(row.labels)} label(s), not {num_labels}")
        else:
            good.append(row)
    if lines == 0:
        findings.add("list-empty", path)
    indexes = Counter(row.index for row in good)
    repeated = [index for index, count in indexes.items() if count > 1]
    findings.add_all("list-duplicate-index", path, repeated, lambda index: f"index {index}, {indexes[index]} times")
    paths = Counter(row.path for row in good)
    for text, count in paths.items():
        if count > 1:
            findings.add("list-duplicate-path", path, f"{text}, {count} times")
    return good, 0 < len(good) == lines and not written.bom and not written.crlf


def _words(row: BadLine) -> str:
    """``label 'cat' is a word: `` of a line whose labels are words; empty of every other."""
    labels = row.text.split("\t")[1:-1] if row.kind == "values" else []
    word = next((label for label in labels if label[:1].isalpha() and label.lower() not in ("nan", "inf")), None)
    return "" if word is None else f"label {word!r} is a word: "


class Place(Protocol):
    """Where the paths of a list lead: a folder, or a prefix in S3."""

    def path(self, relative: str) -> str: ...

    def has(self, relative: str) -> bool: ...

    def similar(self, relative: str) -> str | None: ...

    def escapes(self, relative: str) -> str | None: ...


class Folder(Root):
    """A folder as the place of a list's pictures."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._names: dict[str, dict[str, str]] = {}

    def has(self, relative: str) -> bool:
        return os.path.isfile(self.path(relative))

    def similar(self, relative: str) -> str | None:
        """The path of the file that differs from ``relative`` in case alone."""
        found = ""
        for name in relative.split("/"):
            folder = os.path.join(self.folder, found)
            if folder not in self._names:
                self._names[folder] = _by_lower(folder)
            called = name if os.path.exists(os.path.join(folder, name)) else self._names[folder].get(name.lower())
            if called is None:
                return None
            found = os.path.join(found, called)
        return found if os.path.isfile(os.path.join(self.folder, found)) else None


def check_paths(path: Path | str, rows: Iterable[Row], place: Place, findings: Findings) -> list[Row]:
    """The rows whose picture is there, inside the place."""
    found = []
    for row in rows:
        reason = place.escapes(row.path)
        if reason is not None:
            findings.add("list-path-escapes", path, f"line {row.line}: {row.path!r} {reason}")
        elif place.has(row.path):
            found.append(row)
        elif (other := place.similar(row.path)) is not None:
            findings.add("list-path-case", path, f"line {row.line}: {row.path}, but the file is called {other}")
        else:
            findings.add("list-path-missing", path, f"line {row.line}: {place.path(row.path)}")
    return found


def _by_lower(folder: str) -> dict[str, str]:
    try:
        return {name.lower(): name for name in os.listdir(folder)}
    except OSError:
        return {}


def check_folder(
    path: Path, name: str, class_names: tuple[str, ...], findings: Findings, *, fast: bool, threads: int
) -> CheckedSplit:
    """Every picture below the class folders of ``path``."""
    paths: list[str] = []
    labels: list[int] = []
    for label, class_name in enumerate(class_names):
        for file, is_picture in walk(path / class_name) if (path / class_name).is_dir() else ():
            if is_picture:
                paths.append(file)
                labels.append(label)
            else:
                findings.add("folder-other-files", path, file)
    looks = look_at_files(Files(paths), deep=not fast, hashes=not fast, threads=threads)
    return CheckedSplit(
        name=name,
        path=path,
        form=Form.FOLDER,
        looks=looks,
        labels=np.array(labels, np.float64),
        place=lambda index: paths[index],
        file_name=lambda index: paths[index],
        class_names=class_names,
    )


def folder_classes(*paths: Path) -> tuple[str, ...]:
    """The class map of several split folders: every sub-folder that holds a picture, sorted by name."""
    names: set[str] = set()
    for path in paths:
        for name in class_folders(path):
            if name not in names and any(is_picture for _, is_picture in walk(path / name)):
                names.add(name)
    return tuple(sorted(names))
