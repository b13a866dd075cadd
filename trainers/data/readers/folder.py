"""Folders of pictures: one sub-folder per class, alone or under train/, validation/, test/."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from trainers.data.dataset import WHOLE, Split, SplitsRead
from trainers.data.formats.kinds import FOREIGN, HEAD_BYTES, READ, kind_of
from trainers.data.pictures.pictures import EncodedPictures, Files
from trainers.errors import BadData

PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".heif",
)  # fmt: skip
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
_JUNK = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini"})
# Folders of copies and previews that systems make by themselves; hidden ones are left out anyway.
_LEFTOVERS = frozenset(
    {
        "__macosx", "@eadir", "@tmp", "#recycle", "@recycle", "@recently-snapshot", "#snapshot", "$recycle.bin",
        "system volume information", "lost+found", "__pycache__",
    }
)  # fmt: skip


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
    """Names of the sub-folders, sorted; hidden ones and leftovers of systems are left out."""
    return [name for name in _folders(folder) if not is_leftover(name)]


def leftover_folders(folder: Path) -> list[str]:
    """Names of the sub-folders that a system made by itself, sorted."""
    return [name for name in _folders(folder) if is_leftover(name) and name != ".git"]


def is_leftover(name: str) -> bool:
    """Whether a folder is no part of a data set: hidden, or previews, waste and copies that a system keeps."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir())
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
    _demand_readable(source, listed)
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


def _demand_readable(source: Path, listed: Mapping[str, Mapping[str, list[tuple[str, bool]]]]) -> None:
    """A class whose pictures are all of a kind that is not read must not vanish."""
    for split, classes in listed.items():
        for name, files in classes.items():
            kinds = {} if any(is_picture for _, is_picture in files) else kinds_of([path for path, _ in files])
            if any(kind in (*READ, *FOREIGN) for kind in kinds):
                where = name if split == WHOLE else f"{split}/{name}"
                raise BadData(
                    f"{source}: folder {where} has no picture that is read, but {words_of(kinds)}; convert them to JPEG"
                    f" or PNG with a name that says so, or move the folder away"
                )


_LOOKED_AT = 50


def kinds_of(paths: Sequence[str]) -> dict[str, int]:
    """What files are by their first bytes, as ``kinds.kind_of`` names it, the most frequent first; of many the first
    few are looked at."""
    found: Counter[str] = Counter()
    for path in paths[:_LOOKED_AT]:
        try:
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    found[kind_of(file.read(HEAD_BYTES)) or "of no known format"] += 1
        except OSError as error:
            found[f"cannot be read ({error.strerror})"] += 1
    return dict(found.most_common())


def words_of(kinds: Mapping[str, int]) -> str:
    """``GIF 3, text 1``."""
    return ", ".join(f"{kind} {count}" for kind, count in kinds.items()) or "nothing"


def _remarks(
    split: str, classes: Mapping[str, list[tuple[str, bool]]], names: list[str], others: list[str]
) -> list[str]:
    where = "" if split == WHOLE else f"{split}: "
    notes = []
    for name in classes:
        if name not in names:
            kinds = kinds_of([path for path, _ in classes[name]])
            notes.append(f"{where}no picture in folder {name}{f' ({words_of(kinds)})' if kinds else ''}, left out")
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
        folders[:] = sorted(name for name in folders if not is_leftover(name))
        for name in sorted(files):
            if not name.startswith(".") and name.lower() not in _JUNK:
                yield f"{base}{os.sep}{name}", name.lower().endswith(PICTURE_SUFFIXES)
