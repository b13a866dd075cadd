"""One encoded picture to pixels, with OpenCV (headless) or Pillow; and its size from the header alone."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracking.models.serving.pictures import MAX_PIXELS, MAX_SIDE_PX, is_too_large, is_trap
from trainers.data.formats.headers import Header, probe
from trainers.data.formats.kinds import HEAD_BYTES, HEIC, READ, kind_of
from trainers.errors import BadData

_PNG_CHUNK = struct.Struct(">I4s")
# Never the formats that Pillow hands to another program, such as EPS.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
HEIC_ADVICE = "pip install pillow-heif reads it; or convert it: heif-convert FILE.heic FILE.jpg"


@functools.cache
def opencv() -> Any | None:
    """The cv2 module, or None where it is not installed or lacks its system libraries."""
    try:
        import cv2
    except ImportError:  # also raised for a missing libGL, when it is not the headless build
        return None
    return cv2


def header(data: bytes, name: str) -> Header:
    """Size and channels without decoding. BadData names the picture when it is none or is absurdly large."""
    found = probe(data)
    if found is None:
        found = _pillow_header(data, name)
    if is_too_large(found.height, found.width):
        raise BadData(
            f"{name}: {found.width} x {found.height} px is more than this project decodes"
            f" ({MAX_SIDE_PX} px a side, {MAX_PIXELS:,} in all); scale it down or remove it"
        )
    if is_trap(found.height, found.width, len(data)):
        raise BadData(
            f"{name}: {found.width} x {found.height} px in {len(data):,} bytes is a trap, not a picture; remove it"
        )
    if min(found.height, found.width) < 1:
        raise BadData(f"{name}: the header gives {found.width} x {found.height} px; take the picture out")
    return found


def too_large(height: NDArray[np.int32], width: NDArray[np.int32], num_bytes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) which pictures ``header`` would refuse for their size in px."""
    high, wide = height.astype(np.int64), width.astype(np.int64)
    return np.asarray(is_too_large(high, wide) | is_trap(high, wide, num_bytes), np.bool_)


def decode(data: bytes, channels: int, name: str) -> NDArray[np.uint8]:
    """Decode to (H, W, channels) uint8 RGB or grey, a JPEG upright (by EXIF), alpha dropped.

    Raises BadData with ``name`` for anything that is not a whole picture.
    """
    head = header(data, name)
    pixels = _opencv_decode(data, channels)
    if pixels is None:
        pixels = _pillow_decode(data, channels, name)
    pixels = _TURNS[head.orientation](pixels)
    if pixels.shape[:2] != (head.height, head.width):
        found = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise BadData(
            f"{name}: its header says {head.width} x {head.height} px, the picture has {found}; fix or remove it"
        )
    return np.ascontiguousarray(pixels)


_TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels[::-1].transpose(1, 0, 2),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels[:, ::-1].transpose(1, 0, 2),
}
"""From as stored to upright, by EXIF orientation. Done here, since OpenCV and Pillow read EXIF differently."""


def _opencv_decode(data: bytes, channels: int) -> NDArray[np.uint8] | None:
    cv2 = opencv()
    if cv2 is None or not _is_whole(memoryview(data)):
        return None
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    if pixels is None:
        return None
    if channels == 1:
        return np.asarray(pixels, np.uint8)[:, :, None]
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def decode_small(data: bytes, least: int, name: str, channels: int = 3) -> NDArray[np.uint8]:
    """As ``decode``, but at a half, a quarter or an eighth of the size where both sides keep ``least`` px.

    A JPEG is not decoded whole for that.
    """
    head = header(data, name)
    cv2 = opencv()
    side = min(head.height, head.width)
    scale = max((one for one in (2, 4, 8) if side >= one * least), default=1)
    if cv2 is None or scale == 1 or not _is_whole(memoryview(data)):
        return decode(data, channels, name)
    flag = getattr(cv2, f"IMREAD_REDUCED_{'GRAYSCALE' if channels == 1 else 'COLOR'}_{scale}")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        pixels = None
    if pixels is None:
        return decode(data, channels, name)
    return upright(pixels[:, :, None] if channels == 1 else pixels[:, :, ::-1], head.orientation)


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """(H, W, C) as stored, turned as its EXIF ``orientation`` says."""
    return np.ascontiguousarray(_TURNS[orientation](pixels))


def decoded(data: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 BGR, as stored, where OpenCV decodes the encoded picture (n,) whole; None where it must be looked
    at more closely."""
    cv2 = opencv()
    if cv2 is None or len(data) == 0 or not _is_whole(data.data):
        return None
    try:
        pixels: NDArray[np.uint8] | None = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return pixels


def _is_whole(data: memoryview) -> bool:
    """False for a JPEG or PNG without its end mark, and for a PNG with a broken chunk.

    Some OpenCV builds silently fill the rest of such a JPEG with grey; and OpenCV trusts a PNG's chunk
    lengths: a hundred bytes made it busy for a quarter of a minute.
    """
    start = bytes(data[:4])
    if start[:2] == b"\xff\xd8":
        return b"\xff\xd9" in bytes(data[-64:])
    if start != b"\x89PNG":
        return True
    at, end = 8, len(data)
    while at + 12 <= end:
        length, kind = _PNG_CHUNK.unpack_from(data, at)
        after = at + 12 + length
        if after > end or zlib.crc32(data[at + 4 : after - 4]).to_bytes(4, "big") != bytes(data[after - 4 : after]):
            return False
        if kind == b"IEND":
            return True
        at = after
    return False


def _pillow_decode(data: bytes, channels: int, name: str) -> NDArray[np.uint8]:
    try:
        with _opened(data) as image:
            image.load()
            if image.mode in ("I", "I;16", "I;16B"):  # 16 bit: keep the high byte, as OpenCV does
                image = _pillow().fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.uint8)
    except Exception as error:  # Pillow's plugins raise whatever they like on hostile bytes
        raise BadData(_corrupt(name, error, data)) from error
    return pixels[:, :, None] if channels == 1 else pixels


@functools.cache
def _pillow() -> Any:
    """Pillow with the plugins it does not load by itself."""
    from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401

    return Image


@functools.cache
def reads_heic() -> bool:
    """Whether HEIC is decoded here: pillow-heif is installed."""
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        return False
    return True


def _opened(data: bytes) -> Any:
    """A picture as Pillow opens it; HEIC where pillow-heif is installed, upright already."""
    if data[4:8] == b"ftyp" and kind_of(data[:HEAD_BYTES]) == HEIC:
        if not reads_heic():
            raise BadData(f"HEIC, as phones write it; {HEIC_ADVICE}")
        from pillow_heif import HeifImageFile

        return HeifImageFile(io.BytesIO(data))
    return _pillow().open(io.BytesIO(data), formats=_FORMATS)


def _pillow_header(data: bytes, name: str) -> Header:
    try:
        with _opened(data) as image:
            bands = len(image.getbands())
            moves = bool(getattr(image, "is_animated", False))
            form = {"HEIF": "heic"}.get(str(image.format), str(image.format).lower())
            return Header(
                format=form,
                height=image.height,
                width=image.width,
                channels=1 if bands < 3 else 3,
                components=bands,
                animated=moves,
            )
    except Exception as error:
        raise BadData(_corrupt(name, error, data)) from error


def _corrupt(name: str, error: Exception, data: bytes) -> str:
    if isinstance(error, BadData):
        return f"{name}: {error}"
    kind = kind_of(data[:HEAD_BYTES])
    if kind and kind not in (*READ, HEIC, "GIF"):
        return f"{name}: {kind}, not a picture that is read here; repair or remove it"
    reason = str(error).split(" <_io", 1)[0]
    return f"{name}: not a readable picture ({reason}); repair or remove it"


Pixels = NDArray[np.uint8]


def encode(pixels: Pixels, quality: int | None) -> tuple[bytes, str]:
    """(H, W, 1 or 3) uint8 RGB to (bytes, file suffix): JPEG of ``quality`` 1..100, or PNG where it is None."""
    suffix = ".png" if quality is None else ".jpg"
    cv2 = opencv()
    if cv2 is not None:
        ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.shape[2] == 3 else pixels
        options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
        done, data = cv2.imencode(suffix, ordered, options)
        if not done:
            raise BadData(f"a picture of {pixels.shape[1]} x {pixels.shape[0]} px cannot be written as {suffix}")
        return data.tobytes(), suffix
    from PIL import Image

    file = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if quality is None:
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=quality)
    return file.getvalue(), suffix
