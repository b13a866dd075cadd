"""RecordIO in pieces: whole records out of any part of a file in S3, without the rest of it.

``trainers.data.formats.recordio`` reads the frames; here are bytes that begin and end anywhere.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

from trainers.data.formats.image_record import ImageRecord, unpack_image
from trainers.data.formats.recordio import MAGIC as MAGIC_NUMBER
from trainers.data.formats.recordio import MAX_LENGTH, RecordBytes

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
    """One record: its offset and size (bytes, frames and padding included), and its payload."""

    offset: int
    size: int
    payload: bytes

    @cached_property
    def image(self) -> ImageRecord | None:
        """Labels and encoded picture; None without a JPEG or PNG where MXNet expects it."""
        image = unpack_image(self.payload)
        return image if image is not None and image.image.startswith(_PICTURES) else None


def parse(data: bytes, base: int = 0) -> tuple[list[Record], int]:
    """The whole records that ``data`` begins with, and the offset where the first incomplete one begins.

    ``base`` is the file offset of ``data``; all offsets are the file's. Raises NotRecords.
    """
    piece = RecordBytes(data)
    frames = piece.scan()
    fault = frames.fault
    if fault is not None and (fault.kind in ("magic", "parts") or not MAGIC.startswith(data[fault.offset :][:4])):
        raise NotRecords(base + fault.offset)
    found, at = [], 0
    for index, offset in enumerate(frames.offsets.tolist()):
        at = piece.end(frames, index)
        found.append(Record(base + offset, at - offset, piece.payload(frames, index)))
    return found, base + at


def first(data: bytes, base: int = 0) -> int | None:
    """The offset in the file of the first record that surely begins in ``data``; ``base`` is a multiple of 4.

    A picture's bytes may look like a frame: a beginning counts when another record, or the end of ``data``, follows.
    """
    at = data.find(MAGIC)
    while at >= 0:
        if at % 4 == 0:
            piece = RecordBytes(data[at:])
            frames = piece.scan()
            if len(frames) > 0:
                end = at + piece.end(frames, 0)
                if end == len(data) or data[end : end + 4] == MAGIC:
                    return base + at
        at = data.find(MAGIC, at + 1)
    return None


def length_at(data: bytes) -> int:
    """How many bytes the first part of the record at the beginning of ``data`` takes, padding included."""
    _, word = _FRAME.unpack_from(data)
    return _FRAME.size + -(-(int(word) & MAX_LENGTH) // 4) * 4
