"""MXNet's image header in a record's payload: ``IfQQ`` for flag, label, id, second id, then the encoded picture.

Flag 0: one label, in the header. Flag n: n labels follow the header as float32.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

HEADER_BYTES = 24
_IMAGE = struct.Struct("<IfQQ")


@dataclass(frozen=True)
class ImageRecord:
    """One image's record: its labels (one where ``flag`` is 0), id and encoded bytes."""

    flag: int
    labels: tuple[float, ...]
    id: int
    image: bytes


def unpack_image(payload: bytes) -> ImageRecord | None:
    """Read MXNet's image header; None where the payload is too short for what it announces."""
    if len(payload) < HEADER_BYTES:
        return None
    flag, label, number, _ = _IMAGE.unpack_from(payload)
    if flag == 0:
        return ImageRecord(0, (label,), number, payload[HEADER_BYTES:])
    end = HEADER_BYTES + 4 * flag
    if end > len(payload):
        return None
    labels = tuple(np.frombuffer(payload, "<f4", flag, HEADER_BYTES).tolist())
    return ImageRecord(flag, labels, number, payload[end:])


def pack_image(label: int, number: int, image: bytes) -> bytes:
    """A payload with flag 0 and an integral label, as the built-in reads it."""
    return _IMAGE.pack(0, float(label), number, 0) + image


def is_protobuf_record(payload: bytes) -> bool:
    """True where the whole payload is a ``Record`` message: fields 1 (features) or 2 (label), each a map entry.

    Only lengths are followed, so it costs next to nothing, whatever the bytes are.
    """
    at, seen = 0, False
    while at < len(payload):
        key = payload[at]
        if key & 7 != 2 or not 1 <= key >> 3 <= 5:  # every field of the message is length-delimited
            return False
        length, at = _varint(payload, at + 1)
        if length is None or at + length > len(payload):
            return False
        if key >> 3 <= 2:
            if length < 2 or payload[at] not in (0x0A, 0x12):  # a map entry: key, then value
                return False
            seen = True
        at += length
    return seen


def _varint(data: bytes, at: int) -> tuple[int | None, int]:
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(data):
            return None, at
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return None, at
