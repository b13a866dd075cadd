"""Tell what a path holds, by its content: which reader takes it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trainers.data import catalog
from trainers.data.dataset import WHOLE, SplitsRead
from trainers.data.readers import cifar, folder, idx, lists, manifest, records
from trainers.data.readers.folder import SPLIT_FOLDERS
from trainers.errors import BadData


def read_path(path: Path, image_root: Path | None, *, salvage: bool = False) -> SplitsRead:
    """Read a file or a folder of any legal form; ``salvage`` as in ``records``. BadData says which forms are legal."""
    if path.is_dir():
        return _read_directory(path, salvage)
    if not path.is_file():
        raise BadData(f"{path}: neither a file nor a folder; legal: {catalog.FORMS}")
    suffix = path.suffix.lower()
    if suffix == ".rec":
        return records.read_file(path, salvage=salvage)
    if suffix == ".lst":
        return lists.read_file(path, image_root)
    if suffix in manifest.SUFFIXES:
        return manifest.read_file(path, image_root)
    if suffix in (".tar", ".tgz", ".zip") or path.name.endswith((".tar.gz", ".tar.bz2", ".tar.xz")):
        raise BadData(f"{path}: an archive; unpack it first: tar -xf {path}")
    raise BadData(f"{path}: not a form of data set this reads; legal: {catalog.FORMS}")


def _read_directory(path: Path, salvage: bool) -> SplitsRead:
    if idx.holds_files(path):
        return idx.read_folder(path)
    known = cifar.name_of(path)
    if known is not None:
        return cifar.read_named(known, path)
    channels = list_channels(path)
    if channels:
        return lists.read_files(channels, path)
    files = record_files(path)
    if files:
        return records.read_files(files, path, salvage=salvage)
    if folder.split_folders(path):
        return folder.read_split_folders(path)
    return folder.read_folder(path)


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


def record_files(path: Path) -> dict[str, Path]:
    """The ``.rec`` of each split: ``train/*.rec`` or ``train.rec`` and so on, or one file for all; empty where none."""
    found = {}
    for split, names in SPLIT_FOLDERS.items():
        for name in names:
            if (path / name).is_dir() and any(_with_suffix(path / name, ".rec")):
                found[split] = _only(path / name, ".rec")
                break
            if (path / f"{name}.rec").is_file():
                found[split] = path / f"{name}.rec"
                break
    if "train" in found:
        return found
    return {WHOLE: _only(path, ".rec")} if any(_with_suffix(path, ".rec")) else {}


def _with_suffix(directory: Path, suffix: str) -> Iterable[Path]:
    return (entry for entry in sorted(directory.iterdir()) if entry.suffix.lower() == suffix and entry.is_file())


def _only(directory: Path, suffix: str) -> Path:
    files = list(_with_suffix(directory, suffix))
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:5]) or "none"
        raise BadData(f"{directory}: expected exactly one {suffix} there, found {names}")
    return files[0]
