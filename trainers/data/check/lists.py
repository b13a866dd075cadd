"""``check`` of a ``.lst`` with its pictures, and of folders of pictures: lines, paths, names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trainers.data import dataset
from trainers.data.check.examine import look_at_files
from trainers.data.check.findings import CheckedSplit, Findings
from trainers.data.pictures.pictures import Files
from trainers.data.readers import lists
from trainers.data.readers.folder import class_folders, walk
from trainers.data.readers.layouts import Form
from trainers.data.readers.lists import BadLine, Root, Row


def check_list(path: Path, root: Path, name: str, findings: Findings, *, fast: bool, threads: int) -> CheckedSplit:
    """Every line, and the picture behind it."""
    manners, rows = lists.parse(path)
    if manners.bom:
        findings.add("list-bom", path)
    if manners.crlf:
        findings.add("list-crlf", path)
    good: list[Row] = []
    lines = 0
    for row in rows:
        lines += 1
        if isinstance(row, BadLine):
            code = {"spaces": "list-spaces", "encoding": "list-encoding", "values": "list-values"}.get(row.kind)
            findings.add(code or "list-fields", path, f"line {row.line}: {row.text!r}")
        elif len(row.labels) > 1:
            findings.add("list-multi-label", path, f"line {row.line}: {len(row.labels)} labels")
        else:
            good.append(row)
    if lines == 0:
        findings.add("list-empty", path)
    _report_repeats(path, good, findings)
    found = _existing(path, Root(root), good, findings)
    full = [os.path.join(root, row.path) for row in found]
    looks = look_at_files(Files(full), deep=not fast, hashes=not fast, threads=threads)
    labels = np.array([row.labels[0] for row in found], np.float64)
    return CheckedSplit(
        name=name,
        path=path,
        form=Form.LIST,
        looks=looks,
        labels=labels,
        place=lambda index: f"line {found[index].line}: {found[index].path}",
        file_name=lambda index: found[index].path,
        class_names=dataset.find(path.parent, path.parent.parent),
    )


def _report_repeats(path: Path, rows: list[Row], findings: Findings) -> None:
    indexes = Counter(row.index for row in rows)
    repeated = [index for index, count in indexes.items() if count > 1]
    findings.add_all("list-duplicate-index", path, repeated, lambda index: f"index {index}, {indexes[index]} times")
    paths = Counter(row.path for row in rows)
    for text, count in paths.items():
        if count > 1:
            findings.add("list-duplicate-path", path, f"{text}, {count} times")


def _existing(path: Path, root: Root, rows: list[Row], findings: Findings) -> list[Row]:
    """The rows whose picture is there, inside the root."""
    found = []
    folders: dict[str, Mapping[str, str]] = {}
    for row in rows:
        reason = root.escapes(row.path)
        if reason is not None:
            findings.add("list-path-escapes", path, f"line {row.line}: {row.path!r} {reason}")
            continue
        full = root.path(row.path)
        if os.path.isfile(full):
            found.append(row)
            continue
        folder = os.path.dirname(full)
        if folder not in folders:
            folders[folder] = _by_lower(folder)
        other = folders[folder].get(os.path.basename(full).lower())
        if other is None:
            findings.add("list-path-missing", path, f"line {row.line}: {full}")
        else:
            findings.add("list-path-case", path, f"line {row.line}: {row.path}, but the file is called {other}")
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
