"""RecordIO in pieces: whole records out of any part of a file in S3, without the rest of it.

The format is told in ``trainers.data.formats.recordio``, which reads files; here are bytes that begin and end anywhere.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

from trainers.data.formats.image_record import ImageRecord, unpack_image
from trainers.data.formats.recordio import FIRST, LAST, MAX_LENGTH, WHOLE
from trainers.data.formats.recordio import MAGIC as MAGIC_NUMBER

MAGIC = MAGIC_NUMBER.to_bytes(4, "little")
_FRAME = struct.Struct("<II")
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG")


class NotRecords(ValueError):
    """The bytes are no RecordIO where a record should begin; ``offset`` is the byte in the file."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"byte {offset}: no record begins there")
        self.offset = offset


@dataclass(frozen=True)
class Record:
    """One record: where it lies and how much room it takes (bytes, frames and padding included), and its payload."""

    offset: int
    size: int
    payload: bytes

    @cached_property
    def image(self) -> ImageRecord | None:
        """Labels and encoded picture; None where no JPEG or PNG lies where MXNet expects it."""
        image = unpack_image(self.payload)
        return image if image is not None and image.image.startswith(_PICTURES) else None


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
    return _FRAME.size + -(-(int(word) & MAX_LENGTH) // 4) * 4


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
        kind, length = word >> 29, word & MAX_LENGTH
        if kind > LAST or (kind in (WHOLE, FIRST)) != (at == start):
            raise NotRecords(base + at)
        begin = at + _FRAME.size
        at = begin + -(-length // 4) * 4
        if at > len(data):
            return at, None
        parts.append(data[begin : begin + length])
        if kind in (WHOLE, LAST):
            return at, MAGIC.join(parts)
