"""How a split holds its pictures: raw arrays in memory, or encoded bytes read when they are needed."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tracking.models.serving.pictures import to_channels
from trainers.data.pictures import digest
from trainers.data.pictures.codec import Pixels, decode, decode_small, header
from trainers.errors import BadData

Indices = NDArray[np.int64]
_CHUNK = 256
MAX_FILE_BYTES = 1 << 29
READERS = 2  # threads that read and decode; the rest of the machine trains


class Pictures(Protocol):
    """N pictures. ``own``: the user's own (cropped to size); otherwise a bundled set (scaled to size)."""

    own: bool

    def __len__(self) -> int: ...

    def take(self, indices: Indices) -> Pictures:
        """The pictures at ``indices``, sharing the storage."""
        ...

    def sizes(self) -> NDArray[np.int64]:
        """(N, 3) height, width in px and channels, as stored and upright."""
        ...

    def digests(self) -> list[str]:
        """Content hash of each picture as stored."""
        ...

    def name(self, index: int) -> str:
        """What to call a picture in a message: its path, or its place in the source."""
        ...

    def load(self, index: int, channels: int, least: int | None = None) -> Pixels:
        """(H, W, channels) uint8; a JPEG maybe at an eighth to a half of its size, where ``least`` px a side suffice.

        BadData names a picture that cannot be decoded.
        """
        ...


class ArrayPictures:
    """Raw pictures (N, H, W, C) uint8 in memory; ``rows`` are those that belong to this split."""

    def __init__(self, array: Pixels, source: str, rows: Indices | None = None, *, own: bool = False) -> None:
        assert array.ndim == 4 and array.dtype == np.uint8
        self.array, self.source, self.own = array, source, own
        self.rows = np.arange(len(array), dtype=np.int64) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Indices) -> ArrayPictures:
        return ArrayPictures(self.array, self.source, self.rows[indices], own=self.own)

    def sizes(self) -> NDArray[np.int64]:
        return np.tile(np.array(self.array.shape[1:], np.int64), (len(self), 1))

    def digests(self) -> list[str]:
        return [digest.of_pixels(self.array[row]) for row in self.rows]

    def name(self, index: int) -> str:
        return f"{self.source}[{self.rows[index]}]"

    def load(self, index: int, channels: int, least: int | None = None) -> Pixels:
        return to_channels(self.array[self.rows[index]], channels)


class Encoded(Protocol):
    """Where encoded pictures lie: files or records."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes: ...

    def name(self, index: int) -> str: ...


class EncodedPictures:
    """JPEG, PNG and other encoded pictures; nothing is kept in memory but sizes and digests, once asked for."""

    own = True

    def __init__(self, source: Encoded, rows: Indices | None = None, survey: _Survey | None = None) -> None:
        self.source = source
        self.rows = np.arange(len(source), dtype=np.int64) if rows is None else rows
        self._survey = _Survey(source) if survey is None else survey

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Indices) -> EncodedPictures:
        return EncodedPictures(self.source, self.rows[indices], self._survey)

    def sizes(self) -> NDArray[np.int64]:
        sizes: NDArray[np.int64] = self._survey.sizes()[self.rows]
        return sizes

    def digests(self) -> list[str]:
        found = self._survey.digests()
        return [found[row] for row in self.rows]

    def name(self, index: int) -> str:
        return self.source.name(int(self.rows[index]))

    def read(self, index: int) -> bytes:
        """The encoded bytes as stored."""
        return self.source.read(int(self.rows[index]))

    def load(self, index: int, channels: int, least: int | None = None) -> Pixels:
        data = self.read(index)
        if least is not None and data.startswith(b"\xff\xd8"):  # other formats gain nothing by it
            return decode_small(data, least, self.name(index), channels)
        return decode(data, channels, self.name(index))


class _Survey:
    """One pass over every byte, shared by all splits of a source: size and content hash of each picture."""

    def __init__(self, source: Encoded) -> None:
        self._source = source
        self._sizes: NDArray[np.int64] | None = None
        self._digests: list[str] = []

    def sizes(self) -> NDArray[np.int64]:
        if self._sizes is None:
            self._run()
        assert self._sizes is not None
        return self._sizes

    def digests(self) -> list[str]:
        self.sizes()
        return self._digests

    def _run(self) -> None:
        starts = range(0, len(self._source), _CHUNK)
        with ThreadPoolExecutor(READERS) as readers:
            chunks = list(readers.map(self._chunk, starts))
        self._digests = [found for digests, _ in chunks for found in digests]
        self._sizes = np.array([size for _, sizes in chunks for size in sizes], np.int64).reshape(-1, 3)

    def _chunk(self, start: int) -> tuple[list[str], list[tuple[int, int, int]]]:
        digests, sizes = [], []
        for index in range(start, min(start + _CHUNK, len(self._source))):
            data = self._source.read(index)
            head = header(data, self._source.name(index))
            digests.append(digest.of_bytes(data))
            sizes.append((head.height, head.width, head.channels))
        return digests, sizes


class Files:
    """Encoded pictures in files of their own; ``read`` raises BadData that names the path."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = [str(path) for path in paths]  # a Path takes five times the memory

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> bytes:
        path = self.paths[index]
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a named pipe must not stop us
            try:
                size = _size(file, path)
                data = os.read(file, size + 1)
                while len(data) < size and (more := os.read(file, size - len(data))):
                    data += more
            finally:
                os.close(file)
        except OSError as error:
            raise BadData(f"{path}: cannot be read ({error.strerror}); repair or remove it") from error
        return data

    def name(self, index: int) -> str:
        return self.paths[index]


def _size(file: int, path: str) -> int:
    """Bytes of an open file that may be a picture; BadData for a device, a pipe, a folder or half a gigabyte."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise BadData(f"{path}: not a regular file; remove it")
    if found.st_size > MAX_FILE_BYTES:
        raise BadData(f"{path}: {found.st_size:,} bytes is too much for a picture; scale it down or remove it")
    return found.st_size


class RotatedPictures:
    """Each picture of ``base`` four times, turned by 0, 90, 180 and 270 degrees: index 4 i + r (Gidaris 2018)."""

    def __init__(self, base: Pictures, rows: Indices | None = None) -> None:
        self.base, self.own = base, base.own
        self.rows = np.arange(4 * len(base), dtype=np.int64) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Indices) -> RotatedPictures:
        return RotatedPictures(self.base, self.rows[indices])

    def sizes(self) -> NDArray[np.int64]:
        sizes: NDArray[np.int64] = self.base.sizes()[self.rows // 4]
        turned = self.rows % 2 == 1
        sizes[turned, :2] = sizes[turned, 1::-1]
        return sizes

    def digests(self) -> list[str]:
        base = self.base.digests()
        return [digest.of_text(base[row // 4], f"rotated {90 * (row % 4)}") for row in self.rows]

    def name(self, index: int) -> str:
        row = int(self.rows[index])
        return f"{self.base.name(row // 4)} turned {90 * (row % 4)}°"

    def load(self, index: int, channels: int, least: int | None = None) -> Pixels:
        row = int(self.rows[index])
        return np.ascontiguousarray(np.rot90(self.base.load(row // 4, channels, least), row % 4))
