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
