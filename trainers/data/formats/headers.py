"""What the first bytes of a JPEG or PNG say of it: size, channels, depth, orientation. Pure, never decodes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Header:
    """``height``, ``width`` in px, upright; ``channels`` 1 or 3 as a network would see them.

    ``components`` are those in the file (4: CMYK or alpha), ``bits`` a component's depth, ``orientation`` the EXIF
    value (1: upright).
    """

    format: str
    height: int
    width: int
    channels: int
    components: int = 0
    bits: int = 8
    alpha: bool = False
    orientation: int = 1
    animated: bool = False


def probe(data: bytes) -> Header | None:
    """The header of a JPEG or PNG; None for anything else, or where the bytes end before the size is known."""
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    if data[:8] == _PNG:
        return _png(data)
    return None


def _png(data: bytes) -> Header | None:
    if len(data) < 29 or data[12:16] != b"IHDR":
        return None
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    components = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(colour)
    if components is None or max(width, height) >= 1 << 31:
        return None
    channels = 1 if colour in (0, 4) else 3
    animated = data[37:41] == b"acTL"  # stands first after the header, as far as is known
    return Header("png", height, width, channels, components, bits, alpha=colour in (4, 6), animated=animated)


def _jpeg(data: bytes) -> Header | None:
    orientation = 1
    at, end = 2, len(data)
    while at + 4 <= end:
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _BARE:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2:
            return None
        if marker in FRAMES:
            if at + 10 > end:
                return None
            bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            if orientation >= 5:  # stored lying on its side
                height, width = width, height
            return Header("jpeg", height, width, 1 if components == 1 else 3, components, bits, orientation=orientation)
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\x00\x00":
            orientation = _orientation(data[at + 10 : at + 2 + length])
        at += 2 + length
    return None


def _orientation(tiff: bytes) -> int:
    """EXIF tag 0x0112 of the first directory; 1 when it is absent or makes no sense."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for index in range(min(count, (len(tiff) - start - 2) // 12)):
        tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * index)
        if tag == 0x0112:
            return int(value) if 1 <= value <= 8 else 1
    return 1
