"""``check`` of a ``.lst`` with its pictures, and of folders of pictures: lines, paths, names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from trainers.data import dataset
from trainers.data.check.examine import NOTHING, PictureFacts, look_at_files
from trainers.data.check.findings import CheckedSplit, Findings
from trainers.data.pictures.pictures import Files
from trainers.data.readers import augmented, lists
from trainers.data.readers.folder import class_folders, kinds_of, leftover_folders, walk, words_of
from trainers.data.readers.layouts import Form
from trainers.data.readers.lists import BadLine, ListRules, Row, extra_column
from trainers.data.readers.paths import Root, hint, meant, plain


def check_list(
    path: Path, root: Path, name: str, findings: Findings, *, num_labels: int, fast: bool, threads: int
) -> CheckedSplit:
    """Every line, and the picture behind it."""
    if root != path.parent:
        findings.roots[str(path)] = str(root)
    written, rows = lists.parse(path)
    good, _ = check_lines(path, written, rows, num_labels, findings)
    found = check_paths(path, good, Folder(root), findings)
    full = [os.path.join(root, row.path) for row in found]
    looks = look_at_files(Files(full), deep=not fast, hashes=not fast, threads=threads)
    num_labels = len(found[0].labels) if found else num_labels
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
            _add_bad(path, row, findings)
        else:
            good.append(row)
    if lines == 0:
        findings.add("list-empty", path)
    good = _as_asked(path, good, num_labels, findings)
    indexes = Counter(row.index for row in good)
    repeated = [index for index, count in indexes.items() if count > 1]
    findings.add_all("list-duplicate-index", path, repeated, lambda index: f"index {index}, {indexes[index]} times")
    paths = Counter(row.path for row in good)
    for text, count in paths.items():
        if count > 1:
            findings.add("list-duplicate-path", path, f"{text}, {count} times")
    return good, 0 < len(good) == lines and not written.bom and not written.crlf


_OF_KIND = {"spaces": "list-spaces", "encoding": "list-encoding", "values": "list-values", "header": "list-header"}
_OF_CAUSE = {
    "spaces": "list-spaces",
    "separator": "list-separator",
    "quotes": "list-quotes",
    "columns": "list-columns",
    "names": "list-names",
    "labels": "list-values",
    "index": "list-values",
}


def _add_bad(path: Path | str, row: BadLine, findings: Findings) -> None:
    words = f"line {row.line}: {row.text!r}"
    for cause in row.causes:
        meaning = f": label {row.labels[0]}, path {row.path}" if cause == "columns" else ""
        if cause == "labels":
            meaning = f": {len(row.labels)} labels in one field, with blanks or commas between them"
        findings.add(_OF_CAUSE[cause], path, words + meaning)
    if not row.causes:
        findings.add(_OF_KIND.get(row.kind, "list-fields"), path, words)


def _as_asked(path: Path | str, rows: list[Row], num_labels: int, findings: Findings) -> list[Row]:
    """The rows with as many labels as the job reads. A list of several labels throughout is checked as one."""
    counts = Counter(len(row.labels) for row in rows)
    most = counts.most_common(1)[0][0] if counts else num_labels
    other = [row for row in rows if len(row.labels) != (num_labels or most)]
    if extra_column(rows):
        findings.add("list-columns", path, f"line {rows[0].line}: the first column counts the lines, before the index")
        return []
    kind = _kind_of_labels(other)
    for row in other:
        wanted = num_labels or most
        findings.add("list-multi-label", path, f"line {row.line}: {len(row.labels)} label(s), not {wanted}{kind}")
    multi = num_labels != 1 or (len(counts) == 1 and most > 1 and "multi-label" in kind)
    if not multi:
        return [row for row in rows if len(row.labels) == num_labels]
    good = [row for row in rows if len(row.labels) == (most if num_labels == 1 else num_labels or most)]
    for row in good:
        if set(row.labels) - {0.0, 1.0}:
            findings.add(
                "label-out-of-range", path, f"line {row.line}: {row.labels}; with several labels each is 0 or 1"
            )
    return good


def _kind_of_labels(rows: Sequence[Row]) -> str:
    """What lines of several labels seem to be, in words."""
    several = [row.labels for row in rows if len(row.labels) > 1]
    if not several or len(several) < len(rows):
        return ""
    if all({*labels} <= {0.0, 1.0} for labels in several):
        one = ", one-hot" if all(sum(labels) == 1 for labels in several) else ""
        return f": a 0 or 1 for each class{one}: a multi-label list, checked as such with --multi-label"
    if all(_is_detection(labels) for labels in several):
        width, size = (int(value) for value in several[0][:2])
        return f": an object-detection list (a header of {width} numbers, then {size} for each object)"
    return ""


def _is_detection(labels: Sequence[float]) -> bool:
    """im2rec's form for object detection: width of the header, width of an object, …, then class and box of each."""
    width, size = labels[0], labels[1]
    return 2 <= width <= 10 and 5 <= size <= 10 and len(labels) > width and (len(labels) - width) % size == 0


def check_augmented(
    path: Path, root: Path | None, name: str, findings: Findings, fast: bool, threads: int
) -> CheckedSplit:
    """Every line of an augmented manifest, and the pictures that are on this machine."""
    lines = augmented.parse(path)
    for line in lines:
        if line.fault:
            code = "manifest-no-label" if line.picture else "manifest-line"
            findings.add(code, path, f"line {line.line} {line.fault}")
    if not lines:
        findings.add("list-empty", path)
    good = [line for line in lines if not line.fault]
    names, labels = augmented.classes(path, good) if good else ((), np.zeros(0, np.int64))
    folder = root if root is not None else path.parent
    keys = augmented.located([line.picture for line in good], folder)
    gone = [at for at, key in enumerate(keys) if key is None]
    if gone:
        advice = augmented.fetch_advice([good[at].picture for at in gone], path)
        findings.add_all(
            "manifest-elsewhere", path, gone, lambda at: f"line {good[at].line}: {good[at].picture}: {advice}"
        )
    here = [at for at, key in enumerate(keys) if key is not None]
    if here:
        labels = labels[here]
        looks = look_at_files(
            Files([str(folder / str(keys[at])) for at in here]), deep=not fast, hashes=not fast, threads=threads
        )
    else:
        here, looks = list(range(len(good))), NOTHING
    return CheckedSplit(
        name=name,
        path=path,
        form=Form.AUGMENTED,
        looks=looks,
        labels=labels.astype(np.float64),
        place=lambda index: f"line {good[here[index]].line}: {good[here[index]].picture}",
        file_name=lambda index: good[here[index]].picture,
        class_names=names or None,
    )


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
        if reason is None and place.has(row.path):
            found.append(row)
            continue
        other = place.similar(row.path) if reason is None else None
        there = meant(row.path, place.has) if other is None else None
        causes = plain(row.path)[1]
        if reason is not None:
            findings.add("list-path-escapes", path, f"line {row.line}: {row.path!r} {reason}{hint(there)}")
        elif other is not None:
            findings.add("list-path-case", path, f"line {row.line}: {row.path}, but the file is called {other}")
        else:
            cause = there.cause if there is not None else causes[0][0] if causes else ""
            full = place.path(row.path)
            shown = repr(full) if row.path != row.path.strip() else full
            words = hint(there)
            if there is None and causes:
                words = f"; it has {causes[0][1]}, and there is no such file without either"
            findings.add(_OF_PATH.get(cause, "list-path-missing"), path, f"line {row.line}: {shown}{words}")
    return found


_OF_PATH = {
    "blanks": "list-blanks",
    "quotes": "list-quotes",
    "backslash": "list-backslash",
    "absolute": "list-path-escapes",
}


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
    numbers = {class_name: label for label, class_name in enumerate(class_names)}
    for class_name in class_folders(path):
        files = list(walk(path / class_name))
        pictures = [file for file, is_picture in files if is_picture]
        paths += pictures
        if pictures:
            labels += [numbers[class_name]] * len(pictures)
            findings.add_all("folder-other-files", path, range(len(files) - len(pictures)), _others(files))
        elif files:
            words = f"{class_name}: no picture by its name, but {words_of(kinds_of([file for file, _ in files]))}"
            findings.add("class-unreadable", path, f"{words}, such as {files[0][0]}")
        else:
            findings.add("class-empty", path, class_name)
    for leftover in leftover_folders(path):
        findings.add("folder-leftover", path, leftover)
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


def _others(files: Sequence[tuple[str, bool]]) -> Callable[[int], str]:
    return lambda at: [file for file, is_picture in files if not is_picture][at]


def folder_classes(*paths: Path) -> tuple[str, ...]:
    """The class map of several split folders: every sub-folder that holds a picture, sorted by name."""
    names: set[str] = set()
    for path in paths:
        for name in class_folders(path):
            if name not in names and any(is_picture for _, is_picture in walk(path / name)):
                names.add(name)
    return tuple(sorted(names))
