"""Folders of pictures: one sub-folder per class, alone or under train/, validation/, test/."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from trainers.data.dataset import WHOLE, Split, SplitsRead
from trainers.data.pictures.pictures import EncodedPictures, Files
from trainers.errors import BadData

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
_JUNK = frozenset({"thumbs.db", "desktop.ini"})


def split_folders(folder: Path) -> dict[str, Path]:
    """The sub-folders that are splits, by split; empty unless there is a training one that holds folders itself."""
    found = {
        split: folder / spelled
        for split, names in SPLIT_FOLDERS.items()
        for spelled in reversed(names)
        if (folder / spelled).is_dir()
    }
    return found if "train" in found and class_folders(found["train"]) else {}


def class_folders(folder: Path) -> list[str]:
    """Names of the sub-folders, sorted, hidden ones left out."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError as error:
        raise BadData(f"{folder}: cannot be listed ({error.strerror})") from error


def read_folder(folder: Path) -> SplitsRead:
    """One class per sub-folder, in the order of their names; pictures may lie deeper."""
    return _read({WHOLE: folder}, folder)


def read_split_folders(folder: Path) -> SplitsRead:
    """train/ and, where they are, validation/ and test/, with one class map over all of them."""
    return _read(split_folders(folder), folder)


def _read(roots: Mapping[str, Path], source: Path) -> SplitsRead:
    listed = {split: {name: list(walk(root / name)) for name in class_folders(root)} for split, root in roots.items()}
    names = sorted({name for classes in listed.values() for name, files in classes.items() if any(p for p, _ in files)})
    _demand_classes(source, listed, names)
    notes, splits = [], {}
    for split, classes in listed.items():
        paths: list[str] = []
        labels: list[int] = []
        others: list[str] = []
        for name, files in classes.items():
            pictures = [path for path, is_picture in files if is_picture]
            others += [path for path, is_picture in files if not is_picture]
            paths += pictures
            labels += [names.index(name)] * len(pictures) if pictures else []
        notes += _remarks(split, classes, names, others)
        start = len(os.path.join(source, ""))
        keys = [path[start:].replace(os.sep, "/") for path in paths]
        splits[split] = Split(EncodedPictures(Files(paths)), np.array(labels, np.int64), keys)
    return SplitsRead(
        name=source.resolve().name, class_names=tuple(names), splits=splits, source=str(source), notes=tuple(notes)
    )


def _demand_classes(source: Path, listed: Mapping[str, Mapping[str, object]], names: list[str]) -> None:
    if len(names) >= 2:
        return
    folders = sorted({name for classes in listed.values() for name in classes})
    if not folders:
        found = "no sub-folder"
    elif not names:
        found = f"no picture in {', '.join(folders[:5])}{' …' if len(folders) > 5 else ''}"
    else:
        found = f"pictures of one class only ({names[0]})"
    raise BadData(
        f"{source}: {found}; expected at least two sub-folders, one per class, with pictures"
        f" ({', '.join(PICTURE_SUFFIXES)})"
    )


def _remarks(split: str, classes: Mapping[str, object], names: list[str], others: list[str]) -> list[str]:
    where = "" if split == WHOLE else f"{split}: "
    notes = [f"{where}no picture in folder {name}, left out" for name in classes if name not in names]
    if others:
        shown = ", ".join(others[:3])
        notes.append(f"{where}{len(others)} file(s) that are no pictures by their name, left out: {shown}")
    if split not in (WHOLE, "train"):
        notes += [f"{where}no picture of class {name}" for name in names if name not in classes]
    return notes


def _fail(error: OSError) -> None:
    raise BadData(f"{error.filename}: cannot be listed ({error.strerror})") from error


def walk(folder: Path, on_error: Callable[[OSError], None] = _fail) -> Iterator[tuple[str, bool]]:
    """Every file below ``folder`` with whether its name is a picture's, sorted; a link is followed once.

    ``on_error`` gets what cannot be listed. Paths are text: for a hundred thousand of them ``Path`` takes longer than
    reading the pictures.
    """
    seen = set()
    for base, folders, files in os.walk(folder, followlinks=True, onerror=on_error):
        real = os.path.realpath(base)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and name.lower() not in _JUNK:
                yield f"{base}{os.sep}{name}", name.lower().endswith(PICTURE_SUFFIXES)
