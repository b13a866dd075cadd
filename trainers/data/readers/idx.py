"""MNIST-style IDX files, gzipped or not: big-endian header, then raw bytes."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.data.catalog import SOURCES
from trainers.data.dataset import Split, SplitsRead
from trainers.data.pictures.pictures import ArrayPictures
from trainers.data.readers import download
from trainers.errors import BadData

_IMAGES, _LABELS = 0x00000803, 0x00000801
# Gzipped digits take a fifth; what unpacks to less than the first figure does no harm.
_HARMLESS_BYTES, _MOST_TIMES = 64 * 2**20, 30
_DEBIAN = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}
_STEMS = {"train": "train", "test": "t10k"}
FILES = tuple(f"{stem}-{kind}.gz" for stem in _STEMS.values() for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))


def holds_files(folder: Path) -> bool:
    """True for a folder with at least the training pictures as an IDX file."""
    return _find(folder, "train", "images-idx3") is not None


def read_named(name: str, folder: Path | None) -> SplitsRead:
    """``mnist`` or ``fashion-mnist`` from ``folder``, Debian's package, MXNet's folder, or MXNet's download."""
    if folder is not None and not holds_files(folder):
        raise BadData(f"--dataset {name}:{folder}: no IDX files there; expected {', '.join(FILES)} (.gz or not)")
    places = [folder] if folder else [place for place in (_DEBIAN.get(name), download.folder(name)) if place]
    home = next((place for place in places if holds_files(place)), None)
    if home is None:
        home = download.fetch(name, FILES)
    return read_folder(home, name, SOURCES[name].class_names)


def read_folder(folder: Path, name: str = "", class_names: tuple[str, ...] = ()) -> SplitsRead:
    """IDX files of a folder: ``train-*`` and, where they are, ``t10k-*`` or ``test-*``.

    Without ``class_names`` the classes are called by their numbers.
    """
    splits: dict[str, Split] = {}
    for split in _STEMS:
        images, labels = _find(folder, split, "images-idx3"), _find(folder, split, "labels-idx1")
        if images is None and labels is None and split == "test":
            continue
        if images is None or labels is None:
            missing = "pictures" if images is None else "labels"
            raise BadData(f"{folder}: the {split} split has no file of {missing}; expected {', '.join(FILES)}")
        splits[split] = _read_split(images, labels)
    highest = max(int(split.labels.max(initial=0)) for split in splits.values())
    names = class_names or tuple(str(label) for label in range(highest + 1))
    if highest >= len(names):
        raise BadData(f"{folder}: label {highest}, but {name} has the classes 0..{len(names) - 1}")
    return SplitsRead(name=name or folder.name, class_names=names, splits=splits, source=str(folder))


def _find(folder: Path, split: str, kind: str) -> Path | None:
    for stem in (_STEMS[split], split):
        for spelled in (f"{kind}-ubyte", f"{kind}-ubyte".replace("-idx", ".idx")):
            for suffix in ("", ".gz"):
                path = folder / f"{stem}-{spelled}{suffix}"
                if path.is_file():
                    return path
    return None


def _read_split(images: Path, labels: Path) -> Split:
    pixels, marks = read_file(images), read_file(labels)
    if pixels.ndim != 3 or marks.ndim != 1:
        raise BadData(f"{images}, {labels}: pictures and labels are swapped")
    if len(pixels) != len(marks):
        raise BadData(
            f"{images} holds {len(pixels):,} pictures but {labels} {len(marks):,} labels; fetch the pair again"
        )
    if len(pixels) == 0:
        raise BadData(f"{images}: holds no picture")
    keys = [f"{images.name}[{index}]" for index in range(len(marks))]
    return Split(ArrayPictures(pixels[..., None], str(images)), marks.astype(np.int64), keys)


def read_file(path: Path) -> NDArray[np.uint8]:
    """(N,) labels or (N, H, W) pictures. BadData for a wrong magic number and for too few or too many bytes.

    Never allocates by the header's word: only what the file really holds.
    """
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as file:
            head = file.read(4)
            magic = int.from_bytes(head, "big")
            if magic not in (_IMAGES, _LABELS):
                raise BadData(
                    f"{path}: not an IDX file of pictures or labels (magic 0x{magic:08x},"
                    f" legal are 0x{_IMAGES:08x} and 0x{_LABELS:08x})"
                )
            axes = magic & 0xFF
            sizes = file.read(4 * axes)
            shape = tuple(int.from_bytes(sizes[at : at + 4], "big") for at in range(0, len(sizes), 4))
            if len(shape) < axes or len(sizes) < 4 * axes:
                raise BadData(f"{path}: cut off inside its header; fetch it again")
            expected = 1
            for size in shape:
                expected *= size
            size = path.stat().st_size
            if expected > max(_HARMLESS_BYTES, (_MOST_TIMES if packed else 1) * size):
                raise BadData(
                    f"{path}: its header promises {' x '.join(map(str, shape))} = {expected:,} bytes of data,"
                    f" the file has {size:,}: more than {_MOST_TIMES} times as much is no picture; fetch it again"
                )
            data = _read_at_most(file, expected + 1)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise BadData(f"{path}: cannot be read ({error}); fetch it again") from error
    if len(data) != expected:
        word = "cut off" if len(data) < expected else "has bytes to spare"
        raise BadData(
            f"{path}: {word}: its header promises {' x '.join(map(str, shape))} = {expected:,} bytes of data"
            f" and there are {'more' if len(data) > expected else format(len(data), ',')}; fetch it again"
        )
    try:
        return np.frombuffer(data, np.uint8).reshape(shape)
    except ValueError as error:  # no picture, of sides that no array has
        raise BadData(f"{path}: {' x '.join(map(str, shape))} bytes cannot be; fetch it again") from error


def _read_at_most(file: object, limit: int) -> bytes:
    parts, left = [], limit
    while left > 0:
        part = file.read(min(left, 1 << 24))  # type: ignore[attr-defined]
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
