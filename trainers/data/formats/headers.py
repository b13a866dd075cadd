"""What the first bytes of a JPEG or PNG say of it: size, channels, depth, orientation. Pure, never decodes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.data.formats.kinds import HEAD_BYTES, HEIC, kind_of
from trainers.data.formats.recordio import gather

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
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
    animated = data[37:41] == b"acTL"  # in practice the first chunk after the header
    return Header(
        format="png",
        height=height,
        width=width,
        channels=channels,
        components=components,
        bits=bits,
        alpha=colour in (4, 6),
        animated=animated,
    )


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
            return Header(
                format="jpeg",
                height=height,
                width=width,
                channels=1 if components == 1 else 3,
                components=components,
                bits=bits,
                orientation=orientation,
            )
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


FORMATS = ("unknown", "jpeg", "png", "gif", "bmp", "webp", "tiff", "npy", "heic")
_JPEG_FORMAT, _PNG_FORMAT = 1, 2
HEAD = np.dtype(
    [
        ("format", "u1"),
        ("height", "<i4"),
        ("width", "<i4"),
        ("components", "u1"),
        ("bits", "u1"),
        ("alpha", "?"),
        ("orientation", "u1"),
        ("animated", "?"),
    ]
)
"""One picture: ``format`` an index into FORMATS; ``height``, ``width`` in px, upright, 0 where unknown."""

Heads = NDArray[np.void]
_SEGMENT, _FRAME, _ODD = range(3)
_KINDS = np.full(1 << 16, _ODD, np.uint8)  # by the two bytes of a marker
_KINDS[0xFFC0:0xFFFF] = _SEGMENT
_KINDS[0xFFD0:0xFFDA] = _ODD  # restart marks, and start of image, end of image
_KINDS[0xFFE1] = _ODD  # EXIF, which holds the orientation
_KINDS[[0xFF00 + frame for frame in sorted(FRAMES)]] = _FRAME
_PNG_COMPONENTS = np.array([1, 0, 3, 3, 2, 0, 4, 0], np.uint8)
_LONGEST_WALK = 40  # segments before the frame; more is left to the slow path
_SIGNATURES = ((b"GIF8", 3), (b"BM", 4), (b"II*\x00", 6), (b"MM\x00*", 6), (b"\x93NUMPY", 7))


def probe_many(data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Heads:
    """(n,) HEAD of the pictures at bytes ``starts`` to ``ends`` of ``data``; zero sizes where none was seen."""
    heads = np.zeros(len(starts), HEAD)
    heads["orientation"] = 1
    long = np.flatnonzero(ends - starts >= 33)
    first = gather(data, starts[long], 8).view("<u8")[:, 0]
    jpeg = (first & 0xFFFFFF) == 0xFFD8FF
    png = first == int.from_bytes(b"\x89PNG\r\n\x1a\n", "little")
    heads["format"][long[jpeg]], heads["format"][long[png]] = _JPEG_FORMAT, _PNG_FORMAT
    _read_png(heads, data, starts, ends, long[png])
    slow = _walk_jpeg(heads, data, starts, ends, long[jpeg])
    others = np.setdiff1d(np.arange(len(starts)), long[jpeg | png], assume_unique=True)
    for index in (*slow, *others):
        heads[index] = row(data[starts[index] : ends[index]].tobytes())
    return heads


def row(data: bytes) -> tuple[int, int, int, int, int, bool, int, bool]:
    """HEAD of one picture."""
    found = probe(data)
    if found is None:
        return (_signature(data), 0, 0, 0, 0, False, 1, False)
    return as_row(found)


def as_row(found: Header) -> tuple[int, int, int, int, int, bool, int, bool]:
    """HEAD of a picture whose header was read elsewhere."""
    place = FORMATS.index(found.format) if found.format in FORMATS else 0
    return (
        place,
        found.height,
        found.width,
        found.components,
        found.bits,
        found.alpha,
        found.orientation,
        found.animated,
    )


def _signature(data: bytes) -> int:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return FORMATS.index("webp")
    if data[4:8] == b"ftyp":
        return FORMATS.index("heic") if kind_of(data[:HEAD_BYTES]) == HEIC else 0
    if data[:3] == b"\xff\xd8\xff":
        return _JPEG_FORMAT
    if data[:4] == b"\x89PNG":
        return _PNG_FORMAT
    return next((place for magic, place in _SIGNATURES if data.startswith(magic)), 0)


def _read_png(
    heads: Heads,
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> None:
    if len(rows) == 0:
        return
    chunk = data[starts[rows, None] + np.arange(12, 26)]
    good = (chunk[:, :4] == tuple(b"IHDR")).all(axis=1) & (chunk[:, 13] < 8)
    rows, chunk = rows[good], chunk[good]
    sides = np.ascontiguousarray(chunk[:, 4:12]).view(">u4").astype(np.int64)
    colour = chunk[:, 13]
    good = (sides < 2**31).all(axis=1) & (_PNG_COMPONENTS[colour] > 0)
    rows, sides, colour, bits = rows[good], sides[good], colour[good], chunk[good, 12]
    heads["width"][rows], heads["height"][rows] = sides[:, 0], sides[:, 1]
    heads["components"][rows] = _PNG_COMPONENTS[colour]
    heads["bits"][rows] = bits
    heads["alpha"][rows] = (colour == 4) | (colour == 6)
    rows = rows[ends[rows] - starts[rows] >= 41]
    heads["animated"][rows] = (data[starts[rows, None] + np.arange(37, 41)] == tuple(b"acTL")).all(axis=1)


def _walk_jpeg(
    heads: Heads,
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Fill in the frames found; returns the rows that need a closer look: EXIF, odd markers, bytes cut short."""
    slow = []
    # Every byte as the start of a big-endian word: marker and length come with one look.
    words: NDArray[np.uint32] = np.ndarray(max(0, len(data) - 3), ">u4", data, strides=(1,))
    at, end = starts[rows] + 2, ends[rows]
    for _ in range(_LONGEST_WALK):
        inside = at + 10 <= end
        slow.append(rows[~inside])
        rows, at, end = rows[inside], at[inside], end[inside]
        if len(rows) == 0:
            break
        word = words[at]
        kind, length = _KINDS[word >> 16], word & 0xFFFF
        kind[length < 2] = _ODD
        frames = kind == _FRAME
        if frames.any():
            _fill_frame(heads, data, rows[frames], at[frames])
        closer = kind == _ODD
        if closer.any():
            slow.append(rows[closer])
        on = kind == _SEGMENT
        rows, at, end = rows[on], at[on] + 2 + length[on], end[on]
    slow.append(rows)
    return np.concatenate(slow)


def _fill_frame(heads: Heads, data: NDArray[np.uint8], rows: NDArray[np.int64], at: NDArray[np.int64]) -> None:
    heads["bits"][rows] = data[at + 4]
    heads["height"][rows] = data[at + 5].astype(np.int32) * 256 + data[at + 6]
    heads["width"][rows] = data[at + 7].astype(np.int32) * 256 + data[at + 8]
    heads["components"][rows] = data[at + 9]
