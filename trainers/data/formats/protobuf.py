"""Tell SageMaker's protobuf records from image records: both are framed alike, with the same magic number."""

from __future__ import annotations


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
