"""The two forms that ``pack`` writes: one record file a channel, or a folder of pictures and a list."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from trainers.data.formats import recordio
from trainers.data.formats.image_record import pack_image

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
