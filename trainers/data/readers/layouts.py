"""What a path holds, by its content, and which reader takes it."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from trainers.data import catalog
from trainers.data.dataset import WHOLE, SplitsRead
from trainers.data.formats.recordio import MAGIC
from trainers.data.readers import augmented, cifar, folder, idx, lists, manifest, records
from trainers.data.readers.folder import SPLIT_FOLDERS
from trainers.errors import BadData


class Form(Enum):
    """What a path holds; the value is what it is called."""

    RECORDS = "RecordIO of images"
    LIST = "list of pictures"
    MANIFEST = "manifest of pictures"
    AUGMENTED = "augmented manifest"
    ARCHIVE = "an archive (tar or zip)"
    OTHER = "something else"
    IDX = "IDX files"
    CIFAR = "CIFAR binary files"
    LIST_CHANNELS = "lists of pictures, one for each split"
    RECORD_CHANNELS = "folders with a file of records, one for each split"
    RECORD_FOLDER = "folder with files of records"
    SPLIT_FOLDERS = "folders of pictures, one for each split"
    FOLDER = "folder of pictures"


# The end of a file's name decides; for other names and for folders the content does.
SUFFIXES: dict[Form, tuple[str, ...]] = {
    Form.RECORDS: (".rec",),
    Form.LIST: (".lst",),
    Form.MANIFEST: manifest.SUFFIXES,
    Form.AUGMENTED: augmented.SUFFIXES,
    Form.ARCHIVE: (".tar", ".tgz", ".zip", ".tar.gz", ".tar.bz2", ".tar.xz"),
}
_BEGINNINGS = {Form.RECORDS: (MAGIC.to_bytes(4, "little"),), Form.ARCHIVE: (b"PK", b"\x1f\x8b", b"BZ")}


def form_of(path: Path) -> Form:
    """The form of a file or folder. Raises BadData for what is neither, and for a file that cannot be read."""
    if path.is_dir():
        return _form_of_folder(path)
    if not path.is_file():  # opening a pipe would wait
        raise BadData(f"{path}: neither a file nor a folder; legal: {catalog.FORMS}")
    for form, suffixes in SUFFIXES.items():
        if path.name.lower().endswith(suffixes):
            return form
    try:
        head = first_bytes(path)
        if head.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"{") and augmented.is_augmented(first_bytes(path, 4096)):
            return Form.AUGMENTED
        is_tar = tarfile.is_tarfile(path)
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    for form, beginnings in _BEGINNINGS.items():
        if head.startswith(beginnings):
            return form
    return Form.ARCHIVE if is_tar else Form.OTHER


def first_bytes(path: Path, count: int = 8) -> bytes:
    """The first bytes of a file."""
    with open(path, "rb") as file:
        return file.read(count)


def _form_of_folder(path: Path) -> Form:
    if idx.holds_files(path):
        return Form.IDX
    if cifar.name_of(path) is not None:
        return Form.CIFAR
    if any((path / f"{name}_lst").is_dir() for name in SPLIT_FOLDERS["train"]):
        return Form.LIST_CHANNELS
    if "train" in record_channels(path):
        return Form.RECORD_CHANNELS
    if with_suffix(path, ".rec"):
        return Form.RECORD_FOLDER
    return Form.SPLIT_FOLDERS if folder.split_folders(path) else Form.FOLDER


def read_path(path: Path, image_root: Path | None, *, salvage: bool = False) -> SplitsRead:
    """Read a file or a folder of any legal form; ``salvage`` as in ``records``. BadData says which forms are legal."""
    return READERS[form_of(path)](path, image_root, salvage)


def _read_cifar(path: Path, image_root: Path | None, salvage: bool) -> SplitsRead:
    name = cifar.name_of(path)
    assert name is not None
    return cifar.read_named(name, path)


def _refuse_archive(path: Path, image_root: Path | None, salvage: bool) -> SplitsRead:
    raise BadData(f"{path}: an archive; unpack it first: tar -xf {path}")


def _refuse(path: Path, image_root: Path | None, salvage: bool) -> SplitsRead:
    raise BadData(f"{path}: not a form of data set this reads; legal: {catalog.FORMS}")


def _read_records(path: Path, image_root: Path | None, salvage: bool) -> SplitsRead:
    if not path.name.lower().endswith(SUFFIXES[Form.RECORDS]):
        return _refuse(path, image_root, salvage)
    return records.read_file(path, salvage=salvage)


def _read_record_folder(path: Path, image_root: Path | None, salvage: bool) -> SplitsRead:
    return records.read_files(record_files(path), path, salvage=salvage)


READERS: dict[Form, Callable[[Path, Path | None, bool], SplitsRead]] = {
    Form.RECORDS: _read_records,
    Form.LIST: lambda path, root, _: lists.read_file(path, root),
    Form.MANIFEST: lambda path, root, _: manifest.read_file(path, root),
    Form.AUGMENTED: lambda path, root, _: augmented.read_file(path, root),
    Form.ARCHIVE: _refuse_archive,
    Form.OTHER: _refuse,
    Form.IDX: lambda path, *_: idx.read_folder(path),
    Form.CIFAR: _read_cifar,
    Form.LIST_CHANNELS: lambda path, *_: lists.read_files(list_channels(path), path),
    Form.RECORD_CHANNELS: _read_record_folder,
    Form.RECORD_FOLDER: _read_record_folder,
    Form.SPLIT_FOLDERS: lambda path, *_: folder.read_split_folders(path),
    Form.FOLDER: lambda path, *_: folder.read_folder(path),
}
"""Form → its reader: of path, folder that a list's paths start from, salvage. The check has its checkers by form."""


def list_channels(path: Path) -> dict[str, tuple[Path, Path]]:
    """(list, root) of each split of the built-in's four-channel layout; empty where ``path`` is none.

    ``train_lst/`` and ``validation_lst/`` hold one list each, with paths that start from ``train/``, ``validation/``.
    """
    found = {}
    for split, names in SPLIT_FOLDERS.items():
        for name in names:
            channel = path / f"{name}_lst"
            if channel.is_dir():
                found[split] = (_only(channel, ".lst"), path / name)
                break
    return found if "train" in found else {}


def record_channels(path: Path) -> dict[str, Path]:
    """The folder of each split that has ``.rec`` files in it."""
    found = {}
    for split, names in SPLIT_FOLDERS.items():
        for name in names:
            if (path / name).is_dir() and with_suffix(path / name, ".rec"):
                found[split] = path / name
                break
    return found


def record_files(path: Path) -> dict[str, Path]:
    """The ``.rec`` of each split: ``train/*.rec`` or ``train.rec`` and so on, or one file for all; empty where none."""
    channels = record_channels(path)
    found = {}
    for split, names in SPLIT_FOLDERS.items():
        files = [path / f"{name}.rec" for name in names if (path / f"{name}.rec").is_file()]
        if split in channels:
            found[split] = _only(channels[split], ".rec")
        elif files:
            found[split] = files[0]
    if "train" in found:
        return found
    return {WHOLE: _only(path, ".rec")} if with_suffix(path, ".rec") else {}


def with_suffix(directory: Path, suffix: str) -> list[Path]:
    """The files of a folder whose names end so, sorted."""
    return [entry for entry in sorted(directory.iterdir()) if entry.suffix.lower() == suffix and entry.is_file()]


def _only(directory: Path, suffix: str) -> Path:
    files = with_suffix(directory, suffix)
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:5]) or "none"
        raise BadData(f"{directory}: expected exactly one {suffix} there, found {names}")
    return files[0]
