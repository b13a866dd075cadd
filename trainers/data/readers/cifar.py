"""CIFAR-10 and CIFAR-100 binary files: label byte(s), then 3 x 32 x 32 bytes a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainers.data.catalog import SOURCES
from trainers.data.dataset import Split, SplitsRead
from trainers.data.pictures.pictures import ArrayPictures
from trainers.data.readers import download
from trainers.errors import BadData

_PIXELS = 3 * 32 * 32
_FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "cifar10": {"train": tuple(f"data_batch_{part}.bin" for part in range(1, 6)), "test": ("test_batch.bin",)},
    "cifar100": {"train": ("train.bin",), "test": ("test.bin",)},
}
_SUBFOLDERS = ("", "cifar-10-batches-bin", "cifar-100-binary")


def name_of(folder: Path) -> str | None:
    """``cifar10`` or ``cifar100`` where the folder holds its training files, else None."""
    return next((name for name in _FILES if _home(name, folder) is not None), None)


def read_named(name: str, folder: Path | None) -> SplitsRead:
    """A CIFAR set from ``folder`` (all five, or the first few, training files), MXNet's folder or its download."""
    every = [file for files in _FILES[name].values() for file in files]
    home = _home(name, folder or download.folder(name))
    if home is None and folder is not None:
        raise BadData(f"--dataset {name}:{folder}: no binary files there; expected {', '.join(every)}")
    if home is None:
        fetched = download.fetch(name, every)
        home = _home(name, fetched)
        if home is None:
            raise BadData(f"--dataset {name}: MXNet's download left no {every[0]} in {fetched}; give {name}:DIR")
    splits = {split: _read_split(name, home, files) for split, files in _FILES[name].items()}
    return SplitsRead(
        name=name,
        class_names=SOURCES[name].class_names,
        splits={s: part for s, part in splits.items() if part},
        source=str(home),
    )


def _home(name: str, folder: Path) -> Path | None:
    first = _FILES[name]["train"][0]
    return next((folder / sub for sub in _SUBFOLDERS if (folder / sub / first).is_file()), None)


def _read_split(name: str, home: Path, files: tuple[str, ...]) -> Split | None:
    """All files of a split that are there, in order; None when none is."""
    marks = 1 if name == "cifar10" else 2  # CIFAR-100 has the coarse label first
    size = marks + _PIXELS
    pixels, labels, keys = [], [], []
    for path in (home / file for file in files):
        if not path.is_file():
            continue
        try:
            raw = np.fromfile(path, np.uint8)
        except OSError as error:
            raise BadData(f"{path}: cannot be read ({error.strerror})") from error
        if len(raw) == 0 or len(raw) % size:
            raise BadData(
                f"{path}: {len(raw):,} bytes are no whole number of pictures of {size:,} bytes; fetch it again"
            )
        rows = raw.reshape(-1, size)
        highest = int(rows[:, marks - 1].max())
        if highest >= SOURCES[name].num_classes:
            raise BadData(
                f"{path}: label {highest}, but {name} has {SOURCES[name].num_classes} classes; fetch it again"
            )
        labels.append(rows[:, marks - 1].astype(np.int64))
        pixels.append(np.ascontiguousarray(rows[:, marks:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)))
        keys += [f"{path.name}[{index}]" for index in range(len(rows))]
    if not pixels:
        return None
    return Split(ArrayPictures(np.concatenate(pixels), str(home)), np.concatenate(labels), keys)
