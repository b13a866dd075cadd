"""The two forms that ``pack`` writes: one record file a channel, or a folder of pictures and a list."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from trainers.data.formats import recordio
from trainers.data.formats.image_record import pack_image
from trainers.errors import BadData, DiskFull, TrainerError

_UNSAFE = re.compile(r"[^\w.+ ()@-]+")


class Writer(Protocol):
    """Takes the pictures of one split, one by one."""

    num_bytes: int

    def add(self, number: int, label: int, key: str, data: bytes, suffix: str) -> None: ...

    def close(self) -> None: ...


class RecordWriter:
    """``<split>/<split>.rec`` alone in its folder, as a channel wants it; ``index/<split>.idx`` and ``.lst`` apart."""

    def __init__(self, stage: Path, split: str, class_names: Sequence[str]) -> None:
        (stage / split).mkdir()
        (stage / "index").mkdir(exist_ok=True)
        self.num_bytes = 0
        self._records = open(stage / split / f"{split}.rec", "wb", buffering=1 << 20)
        self._offsets = open(stage / "index" / f"{split}.idx", "w", encoding="ascii")
        self._list = open(stage / "index" / f"{split}.lst", "w", encoding="utf-8", newline="\n")

    def add(self, number: int, label: int, key: str, data: bytes, suffix: str) -> None:
        self._offsets.write(f"{number}\t{self.num_bytes}\n")
        self._list.write(f"{number}\t{label}\t{one_line(key)}\n")
        self.num_bytes += recordio.write(self._records, pack_image(label, number, data))

    def close(self) -> None:
        with self._records, self._offsets, self._list:
            self._records.flush()
            os.fsync(self._records.fileno())


class ListWriter:
    """``<split>/<class>/<picture>`` and ``<split>_lst/<split>.lst``: the built-in's four-channel layout."""

    def __init__(self, stage: Path, split: str, class_names: Sequence[str]) -> None:
        self._root = stage / split
        self._root.mkdir()
        (stage / f"{split}_lst").mkdir()
        self._list = open(stage / f"{split}_lst" / f"{split}.lst", "w", encoding="utf-8", newline="\n")
        self._folders = _distinct(class_names)
        for folder in self._folders:
            (self._root / folder).mkdir()
        self._used: set[str] = set()
        self.num_bytes = 0

    def add(self, number: int, label: int, key: str, data: bytes, suffix: str) -> None:
        stem, old = os.path.splitext(os.path.basename(key))
        name = f"{safe(stem) if old else f'{number:08}'}{suffix}"
        path = f"{self._folders[label]}/{name}"
        if path.lower() in self._used:  # the same name in two folders of one class
            path = f"{self._folders[label]}/{number:08}-{name}"
        self._used.add(path.lower())
        with open(self._root / path, "xb") as file:
            file.write(data)
        self._list.write(f"{number}\t{label}\t{path}\n")
        self.num_bytes += len(data)

    def close(self) -> None:
        self._list.close()


def safe(name: str) -> str:
    """A file name without separators, control characters or a leading dot; never empty."""
    cleaned = _UNSAFE.sub("_", name).strip(". ")[:100]
    return cleaned or "_"


def _distinct(class_names: Sequence[str]) -> list[str]:
    """A folder for each class, its name where that is safe; numbered where two would fall together."""
    folders = [safe(name) for name in class_names]
    lowered = [folder.lower() for folder in folders]
    return [
        folder if lowered.count(low) == 1 else f"{label:04}-{folder}"
        for label, (folder, low) in enumerate(zip(folders, lowered, strict=True))
    ]


def one_line(text: str) -> str:
    """``text`` fit for a list: tabs and line ends become spaces."""
    return re.sub(r"[\t\r\n]", " ", text)


_log = logging.getLogger(__name__)
_LOCK, _FORMER = ".lock", "former"


@contextlib.contextmanager
def staged(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder that becomes ``out`` when the block ends well, and is removed when it does not.

    Whatever kills the process, ``out`` is there with its former or its new content; on a file system that cannot
    exchange two names, at the latest after ``clear_abandoned``. Raises BadData where ``out`` holds something already
    (unless ``overwrite``) or cannot be made, DiskFull where there is no room, TrainerError where writing fails
    otherwise.
    """
    out = Path(os.path.abspath(out))
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise BadData(f"{out}: not empty; give another folder, or --overwrite to replace all of it")
    if out.exists() and not out.is_dir():
        raise BadData(f"{out}: there is a file; give a folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=_prefix(out), dir=out.parent))
        stage = place / "new"
        stage.mkdir()
    except OSError as error:
        raise BadData(f"{out}: cannot be written ({error.strerror}); give a folder you may write to") from error
    try:
        with open(place / _LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield stage
            _swap(stage, out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(f"{out}: no room on the disk; nothing was left behind. Free some and start again") from error
        raise TrainerError(f"{out}: writing failed ({error.strerror}); nothing was left behind") from error
    finally:
        _put_back(place, out)
        shutil.rmtree(place, ignore_errors=True)


def clear_abandoned(out: Path) -> None:
    """Remove what dead writers of ``out`` left: no process holds their lock. What they had moved aside is put back."""
    out = Path(os.path.abspath(out))
    for place in out.parent.glob(f"{glob.escape(_prefix(out))}*"):
        with contextlib.suppress(OSError), open(place / _LOCK, "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _put_back(place, out):
                _log.warning("%s: put back; a process that was replacing it was killed.", out)
            shutil.rmtree(place)


def _swap(stage: Path, out: Path) -> None:
    if not out.exists():
        stage.rename(out)
    elif not _exchange(stage, out):
        out.rename(stage.with_name(_FORMER))
        stage.rename(out)


def _put_back(place: Path, out: Path) -> bool:
    """Give ``out`` its former content where nothing has taken its place; whether that was so."""
    former = place / _FORMER
    if out.exists() or not former.exists():
        return False
    former.rename(out)
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once, so that neither is ever missing; False where system or file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def _prefix(out: Path) -> str:
    return f".{out.name}.partial-"
