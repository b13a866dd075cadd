"""MXNet's RecordIO in pieces: whole records out of any part of a file, without the rest of it.

A record is a magic number, a word of 3 bits (which part of a split record) and 29 (its length), the payload, and zeros
up to 4 bytes. The payload is ``<IfQQ`` (number of labels, label, two ids), more labels where there are, then a picture.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = struct.pack("<I", 0xCED7230A)
HEADER = struct.Struct("<IfQQ")
_FRAME = struct.Struct("<II")
_WHOLE, _FIRST, _MIDDLE, _LAST = 0, 1, 2, 3
PICTURES = (b"\xff\xd8\xff", b"\x89PNG")


class NotRecords(ValueError):
    """The bytes are no RecordIO where a record should begin; ``offset`` is the byte in the file."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"byte {offset}: no record begins there")
        self.offset = offset


@dataclass(frozen=True)
class Record:
    """One record: where it lies (bytes, frame and padding included), its labels and its picture."""

    offset: int
    size: int
    payload: bytes

    @property
    def has_header(self) -> bool:
        """Whether the payload is long enough for MXNet's image header and its labels."""
        return len(self.payload) >= HEADER.size and len(self.payload) >= HEADER.size + 4 * self.num_labels

    @property
    def num_labels(self) -> int:
        """The header's flag: 0 for the one label in it, else how many follow."""
        return int(HEADER.unpack_from(self.payload)[0])

    @property
    def labels(self) -> tuple[float, ...]:
        """The record's labels."""
        if not self.num_labels:
            return (float(HEADER.unpack_from(self.payload)[1]),)
        return struct.unpack_from(f"<{self.num_labels}f", self.payload, HEADER.size)

    @property
    def picture(self) -> bytes:
        """The encoded picture."""
        return self.payload[HEADER.size + 4 * self.num_labels :]

    @property
    def is_picture(self) -> bool:
        """Whether a JPEG or PNG lies where MXNet expects it."""
        return self.has_header and self.picture.startswith(PICTURES)


def parse(data: bytes, base: int = 0) -> tuple[list[Record], int]:
    """The whole records that ``data`` begins with, and the offset where the first incomplete one begins.

    ``base`` is the file offset of ``data``; all offsets are the file's. Raises NotRecords.
    """
    found: list[Record] = []
    at = 0
    while True:
        end, payload = _record(data, at, base)
        if payload is None:
            return found, base + at
        found.append(Record(base + at, end - at, payload))
        at = end


def first(data: bytes, base: int = 0) -> int | None:
    """The offset in the file of the first record that surely begins in ``data``; ``base`` is a multiple of 4.

    A picture's bytes may look like a frame: a beginning counts when another record, or the end of ``data``, follows.
    """
    at = data.find(MAGIC)
    while at >= 0:
        if at % 4 == 0:
            try:
                end, payload = _record(data, at, base)
            except NotRecords:
                pass
            else:
                if payload is not None and (end == len(data) or data[end : end + 4] == MAGIC):
                    return base + at
        at = data.find(MAGIC, at + 1)
    return None


def length_at(data: bytes) -> int:
    """How many bytes the first part of the record at the beginning of ``data`` takes, padding included."""
    _, word = _FRAME.unpack_from(data)
    return _FRAME.size + -(-(int(word) & 0x1FFFFFFF) // 4) * 4


def _record(data: bytes, at: int, base: int) -> tuple[int, bytes | None]:
    """End and payload of the record at ``at``; None when ``data`` ends inside it."""
    start, parts = at, []
    while True:
        if at + _FRAME.size > len(data):
            if data[at : at + 4] != MAGIC[: len(data) - at]:
                raise NotRecords(base + at)
            return at, None
        if data[at : at + 4] != MAGIC:
            raise NotRecords(base + at)
        word = _FRAME.unpack_from(data, at)[1]
        kind, length = word >> 29, word & 0x1FFFFFFF
        if kind > _LAST or (kind in (_WHOLE, _FIRST)) != (at == start):
            raise NotRecords(base + at)
        begin = at + _FRAME.size
        at = begin + -(-length // 4) * 4
        if at > len(data):
            return at, None
        parts.append(data[begin : begin + length])
        if kind in (_WHOLE, _LAST):
            return at, MAGIC.join(parts)
