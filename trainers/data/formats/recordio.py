"""The RecordIO container: find the frames, read and write payloads.

A record is a little-endian magic number, a word with a continuation flag (top 3 bits) and a length (29 bits), the
payload, zeros up to 4 bytes. A payload that holds the magic number at a multiple of 4 is stored in parts, split there.
"""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from trainers.data.formats.image_record import HEADER_BYTES
from trainers.errors import BadData

MAGIC = 0xCED7230A
MAX_LENGTH = (1 << 29) - 1
WHOLE, FIRST, MIDDLE, LAST = range(4)
_MAGIC_BYTES = MAGIC.to_bytes(4, "little")
_FRAME = struct.Struct("<II")
_SMALL_BYTES = 1 << 14  # records up to this size are read many at a time
_WINDOW_BYTES = 1 << 20


@dataclass(frozen=True)
class Fault:
    """Why reading stopped: a stable ``kind``, the byte ``offset`` and what was found there."""

    kind: str
    offset: int
    detail: str


@dataclass(frozen=True)
class Frames:
    """N whole records of a file. ``offsets`` of their first frames and ``lengths`` of their payloads, in bytes;
    ``parts`` is 1 unless the payload was split. ``fault`` says why reading stopped before the end of the file."""

    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    parts: NDArray[np.int64]
    fault: Fault | None

    def __len__(self) -> int:
        return len(self.offsets)


class Records:
    """Records in ``size`` bytes that are read by position."""

    size: int

    def at(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``offset``; fewer at the end."""
        raise NotImplementedError

    def scan(self) -> Frames:
        """Walk all frame headers. Stops at the first fault, which it returns with the good records before it."""
        found = _Columns()
        position, fault, split = 0, None, _Split()
        while position < self.size and fault is None:
            # Where records are large on average, only their frame headers are read.
            large = position > _SMALL_BYTES * (len(found) + 1)
            window = self.at(position, 8 if large else _WINDOW_BYTES)
            words = np.frombuffer(window, "<u4", len(window) // 4)
            run = _whole_run(words.data) if split.start < 0 else []
            if run:
                places = np.array(run, np.int64)
                lengths = words[places + 1].astype(np.int64)
                found.extend(position + 4 * places, lengths)
                position += int(4 * places[-1] + 8 + lengths[-1] + (-lengths[-1] & 3))
                if position > self.size:
                    fault = _truncated(found.pop(), self.size)
            else:
                position, fault = self._step(position, window, split, found)
        if fault is None and split.start >= 0:
            fault = Fault("truncated", split.start, "the last part of a split record is missing")
        return found.frames(fault)

    def _step(self, position: int, window: bytes, split: _Split, found: _Columns) -> tuple[int, Fault | None]:
        """One frame that is not a plain whole record: a part, or a fault."""
        if len(window) < 8:
            return position, Fault("trailing", position, f"{self.size - position} byte(s) after the last record")
        magic, word = _FRAME.unpack_from(window)
        if magic != MAGIC:
            return position, Fault("magic", position, f"0x{magic:08x} instead of 0x{MAGIC:08x}")
        flag, length = word >> 29, word & MAX_LENGTH
        following = position + 8 + length + (-length & 3)
        if flag > LAST or (split.start < 0) != (flag in (WHOLE, FIRST)):
            return position, Fault("parts", position, f"continuation flag {flag} out of turn")
        if following > self.size:
            return position, _truncated((position, length), self.size)
        if flag == FIRST:
            split.start, split.length, split.parts = position, length, 1
        else:
            split.length, split.parts = split.length + len(_MAGIC_BYTES) + length, split.parts + 1
        if flag == LAST:
            found.add(split.start, split.length, split.parts)
            split.start = -1
        return following, None

    def payload(self, frames: Frames, index: int) -> bytes:
        """One record's payload, parts joined again with the magic number between them."""
        offset, length = int(frames.offsets[index]), int(frames.lengths[index])
        if frames.parts[index] == 1:
            data = self.at(offset + 8, length)
        else:
            pieces = []
            for _ in range(int(frames.parts[index])):
                _, word = _FRAME.unpack(self.at(offset, 8))
                size = word & MAX_LENGTH
                pieces.append(self.at(offset + 8, size))
                offset += 8 + size + (-size & 3)
            data = _MAGIC_BYTES.join(pieces)
        if len(data) != length:
            raise BadData(f"{self}: record {index} shrank while it was read")
        return data

    def end(self, frames: Frames, index: int) -> int:
        """The byte after one record, its padding included."""
        offset = int(frames.offsets[index])
        for _ in range(int(frames.parts[index])):
            size = _FRAME.unpack(self.at(offset, 8))[1] & MAX_LENGTH
            offset += 8 + size + (-size & 3)
        return offset

    def windows(self, frames: Frames, head_bytes: int = 4096) -> Iterator[Window]:
        """All records in order, a few thousand at a time: whole runs of small ones, the first bytes of large ones."""
        at, total = 0, len(frames)
        large = np.flatnonzero((frames.lengths > _SMALL_BYTES) | (frames.parts > 1))
        while at < total:
            next_large = int(large[np.searchsorted(large, at)]) if len(large) and at <= large[-1] else total
            if next_large > at:
                limit = int(frames.offsets[at]) + (_WINDOW_BYTES << 2)
                stop = max(at + 1, min(next_large, int(np.searchsorted(frames.offsets, limit))))
                begin = int(frames.offsets[at])
                data = self.at(begin, int(frames.offsets[stop - 1] + 8 + frames.lengths[stop - 1]) - begin)
                starts = frames.offsets[at:stop] + 8 - begin
                ends = np.minimum(starts + frames.lengths[at:stop], len(data))
            else:
                run = np.searchsorted(large, at)
                stop, taken = at, 0
                pieces: list[bytes] = []
                while run < len(large) and large[run] == stop and taken < _WINDOW_BYTES << 2:
                    pieces.append(self._head(frames, stop, head_bytes))
                    taken += len(pieces[-1])
                    stop, run = stop + 1, run + 1
                data = b"".join(pieces)
                ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
                starts = ends - np.array([len(piece) for piece in pieces], np.int64)
            yield Window(slice(at, stop), np.frombuffer(data, np.uint8), starts, ends)
            at = stop

    def _head(self, frames: Frames, index: int, head_bytes: int) -> bytes:
        if frames.parts[index] > 1:
            return self.payload(frames, index)[:head_bytes]
        return self.at(int(frames.offsets[index]) + 8, min(head_bytes, int(frames.lengths[index])))


class RecordFile(Records):
    """A file of records, opened once, so that threads may share it. Holds no more than asked."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise BadData(f"{self.path}: cannot be read ({error.strerror})") from error
        self.close = weakref.finalize(self, os.close, self._fd)
        self.size = os.fstat(self._fd).st_size

    def __str__(self) -> str:
        return str(self.path)

    def at(self, offset: int, count: int) -> bytes:
        """As ``Records``. Raises BadData."""
        try:
            return os.pread(self._fd, count, offset)
        except OSError as error:
            raise BadData(f"{self.path}: cannot be read at byte {offset:,} ({error.strerror})") from error


class RecordBytes(Records):
    """Records in a piece of a file, which begins with one and ends anywhere."""

    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)

    def at(self, offset: int, count: int) -> bytes:
        """As ``Records``."""
        return self._data[offset : offset + count]


def _whole_run(words: memoryview) -> list[int]:
    """Places of plain whole records, one after another from the first word on, whose frame headers are in sight."""
    found: list[int] = []
    at, last = 0, len(words) - 1
    while at < last and words[at] == MAGIC:
        length = words[at + 1]
        if length > MAX_LENGTH:
            break
        found.append(at)
        at += 2 + (length + 3 >> 2)
    return found


def _truncated(record: tuple[int, int], size: int) -> Fault:
    offset, length = record
    return Fault("truncated", offset, f"{length:,} bytes promised, {size - offset - 8:,} are there")


@dataclass
class _Split:
    """A record in parts, while its parts come in; ``start`` is -1 outside of one."""

    start: int = -1
    length: int = 0
    parts: int = 0


class _Columns:
    """Offsets, lengths and parts of the records found so far."""

    def __init__(self) -> None:
        self._chunks: list[NDArray[np.int64]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        self._chunks.append(np.stack([offsets, lengths, np.ones_like(offsets)]))
        self._count += len(offsets)

    def add(self, offset: int, length: int, parts: int) -> None:
        self._chunks.append(np.array([[offset], [length], [parts]], np.int64))
        self._count += 1

    def pop(self) -> tuple[int, int]:
        last = self._chunks.pop()
        self._chunks.append(last[:, :-1])
        self._count -= 1
        return int(last[0, -1]), int(last[1, -1])

    def frames(self, fault: Fault | None) -> Frames:
        table = np.concatenate([np.zeros((3, 0), np.int64), *self._chunks], axis=1)
        return Frames(table[0], table[1], table[2], fault)


@dataclass(frozen=True)
class Window:
    """Payloads of the records in ``records``: bytes ``starts[i]`` to ``ends[i]`` of ``data``, maybe cut short."""

    records: slice
    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def headers(self) -> NDArray[np.void]:
        """(n,) records of flag, label, id, id2; zeros where the payload is shorter than a header."""
        fields = np.dtype([("flag", "<u4"), ("label", "<f4"), ("id", "<u8"), ("id2", "<u8")])
        out = np.zeros((len(self.starts), HEADER_BYTES), np.uint8)
        long = np.flatnonzero(self.ends - self.starts >= HEADER_BYTES)
        out[long] = gather(self.data, self.starts[long], HEADER_BYTES)
        return out.view(fields)[:, 0]


def gather(data: NDArray[np.uint8], starts: NDArray[np.int64], count: int) -> NDArray[np.uint8]:
    """(n, count) bytes of ``data`` from each of ``starts`` on; four at a time where all lie on words, as records do."""
    if count % 4 or (starts % 4).any():
        some: NDArray[np.uint8] = data[starts[:, None] + np.arange(count)]
        return some
    words = data[: len(data) // 4 * 4].view("<u4")
    picked: NDArray[np.uint32] = words[(starts // 4)[:, None] + np.arange(count // 4)]
    return picked.view(np.uint8)


def write(file: BinaryIO, payload: bytes) -> int:
    """Append one record, split where the payload holds the magic number at a multiple of 4; returns bytes written."""
    if len(payload) > MAX_LENGTH:
        raise BadData(f"a record of {len(payload):,} bytes is more than RecordIO holds ({MAX_LENGTH:,}); scale it down")
    cuts, at = [], payload.find(_MAGIC_BYTES)
    while at >= 0:
        if at % 4 == 0:
            cuts.append(at)
            at = payload.find(_MAGIC_BYTES, at + 4)
        else:
            at = payload.find(_MAGIC_BYTES, at + 1)
    if not cuts:
        pieces = [(WHOLE, payload)]
    else:
        bounds = [0, *(cut + 4 for cut in cuts)]
        pieces = [
            (FIRST if number == 0 else MIDDLE, payload[begin:cut])
            for number, (begin, cut) in enumerate(zip(bounds, cuts, strict=False))
        ]
        pieces.append((LAST, payload[bounds[-1] :]))
    written = 0
    for flag, piece in pieces:
        written += file.write(_FRAME.pack(MAGIC, flag << 29 | len(piece)))
        written += file.write(piece)
        written += file.write(bytes(-len(piece) & 3))
    return written
