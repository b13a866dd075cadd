"""Headers of thousands of JPEG and PNG pictures at once: every step walks one segment of all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainers.data.formats.headers import FRAMES, Header, probe
from trainers.data.formats.recordio import gather

FORMATS = ("unknown", "jpeg", "png", "gif", "bmp", "webp", "tiff", "npy")
_JPEG, _PNG = 1, 2
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
_KINDS[0xFFE1] = _ODD  # EXIF, where the orientation stands
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
    heads["format"][long[jpeg]], heads["format"][long[png]] = _JPEG, _PNG
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
    if data[:3] == b"\xff\xd8\xff":
        return _JPEG
    if data[:4] == b"\x89PNG":
        return _PNG
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
