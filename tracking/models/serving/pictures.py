"""From what a person has to the network's input: encoded pictures, paths and arrays to (C, H, W), sized as in training.

Ships inside every saved model, so it needs NumPy and Pillow alone and trusts nothing: what is no picture, or would
take too much memory, is refused before it is decoded. Training goes by the same limits and sizes.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import io
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# A picture above these is refused before a byte of it is decoded: a few kB of PNG can ask for gigabytes.
MAX_SIDE_PX = 32_000
MAX_PIXELS = 89_000_000  # just under where Pillow starts to warn
# Above the first figure, more pixels than the second for each byte are an empty surface or a trap.
HARMLESS_PIXELS, MAX_PIXELS_PER_BYTE = 1_000_000, 10_000
LARGE_PIXELS = 4_000_000  # of these one at a time is decoded: a dozen at once would fill a server's memory
MAX_SIZED_PIXELS = 8_000_000
MOST_TIMES_AS_LONG = 32  # longer ones are brought to size for seconds, and to nothing that can be recognised
MAX_FILE_BYTES = 256 * 2**20
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # what training takes but for GIF; each further one is a way in
# A served model reads files only from this folder, and none where it is not set: its clients must not
# find out what is on its disk.
ROOT_VARIABLE = "MODEL_PICTURES_ROOT"

_ORIENTATION = 274  # the tag of EXIF that says how a picture is turned

_one_at_a_time = threading.Lock()
_DATA_URI = re.compile(r"data:[\w.+/-]*;base64,")
# Red, green, blue in 1/32768, and what is added for rounding. Arrays and WebP: as OpenCV turns colour to grey; PNG: cut
# down, as libpng does; BMP and TIFF: OpenCV's own readers count in 1/16384.
_LUMA = (9798, 19235, 3735), 16384
_LUMA_OF_READERS = (2 * 4899, 2 * 9617, 2 * 1868), 16384
_LUMAS = {"PNG": ((9797, 19234, 3737), 0), "WEBP": _LUMA, "BMP": _LUMA_OF_READERS, "TIFF": _LUMA_OF_READERS}
# How the first bytes of JPEG (FF D8 FF), PNG, WebP, TIFF and BMP look in base64, or in the one for URLs.
_BASE64_START = re.compile(r"[/_]9j[/_]|iVBORw0KGgo|UklGR|SUkqA|TU0AK|Qk.{6}AAAA")

_FROM_URL = str.maketrans("-_", "+/")


class BadPicture(ValueError):
    """What was given is no picture that the network can be shown; the message says which and why."""


class Sizing:
    """How a picture comes to the network's size, from the model's facts. All sizes in px."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.channels, self.height, self.width = (int(side) for side in facts["image_shape"])
        self.resize: int | None = facts.get("resize")
        self.squash = facts.get("fit", "crop") == "squash"
        self.area = facts.get("interpolation", "linear") == "area"
        native = facts.get("native_size")
        self.native = None if native is None else (int(native[0]), int(native[1]))

    def apply(self, pixels: Pixels) -> Pixels:
        """(H, W, 1 or 3) uint8 to (channels, height, width), contiguous."""
        height, width = self._target(*pixels.shape[:2])
        pixels = to_channels(resized(pixels, height, width, area=self.area), self.channels)
        top, left = (height - self.height) // 2, (width - self.width) // 2
        cropped = pixels[top : top + self.height, left : left + self.width]
        return np.ascontiguousarray(cropped.transpose(2, 0, 1))

    def _target(self, height: int, width: int) -> tuple[int, int]:
        """Size before the crop. A picture of another size than all of training's is first brought to theirs."""
        if self.squash:
            return self.height, self.width
        shortest = self.resize
        if shortest is None:
            if (height, width) == self.native or (
                self.native is None and height >= self.height and width >= self.width
            ):
                return height, width
            shortest = max(self.height, self.width) if self.native is None else min(self.native)
        target = shortest_side(height, width, shortest)
        if target[0] < self.height or target[1] < self.width:
            raise BadPicture(f"{width} x {height} px cannot fill the network's {self.width} x {self.height} px")
        if target[0] * target[1] > max(MAX_SIZED_PIXELS, 4 * shortest**2) or (
            max(height, width) > MOST_TIMES_AS_LONG * min(height, width) and target != (height, width)
        ):
            raise BadPicture(
                f"{width} x {height} px is too long and thin; a side is at most {MOST_TIMES_AS_LONG} times the other"
            )
        return target


def shortest_side(height: int, width: int, resize: int) -> tuple[int, int]:
    """(height, width) in px with the shortest side at ``resize``; the long one rounded down, as MXNet does."""
    if height > width:
        return resize * height // width, resize
    return resize, resize * width // height


def is_too_large(height: Any, width: Any) -> Any:
    """Whether pictures of this size in px, numbers or int64 arrays, are too large to decode."""
    return (height * width > MAX_PIXELS) | (np.maximum(height, width) > MAX_SIDE_PX)


def is_trap(height: Any, width: Any, num_bytes: Any) -> Any:
    """Whether so many pixels cannot be in so few encoded bytes; numbers or int64 arrays."""
    return height * width > np.maximum(HARMLESS_PIXELS, MAX_PIXELS_PER_BYTE * num_bytes)


def to_channels(pixels: Pixels, channels: int) -> Pixels:
    """(…, 1 or 3) uint8 to ``channels``: luma (ITU-R 601, rounded as OpenCV does), or grey repeated."""
    have = pixels.shape[-1]
    if have == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    return _grey(pixels, *_LUMA)


def _grey(pixels: Pixels, weights: tuple[int, int, int], rounding: int) -> Pixels:
    return np.asarray((pixels.astype(np.uint32) @ np.array(weights, np.uint32) + rounding) >> 15, np.uint8)[..., None]


def sized(item: Any, sizing: Sizing, *, served: bool) -> Pixels:
    """One picture, as ``read`` takes it, in the network's size. Of the large ones one at a time is in memory."""
    with ExitStack() as turn:
        return sizing.apply(read(item, sizing.channels, served=served, turn=turn))


def read(item: Any, channels: int, *, served: bool, turn: ExitStack | None = None) -> Pixels:
    """One picture, however given, as (H, W, 1 or 3) uint8.

    Bytes of a JPEG, PNG, WebP, BMP or TIFF, the same in base64 (or a ``data:`` URI), a path, or an array (H, W) or
    (H, W, 1 or 3). ``turn``: what makes other large pictures wait, until it is closed. Raises BadPicture.
    """
    if isinstance(item, np.ndarray) and item.ndim == 0:  # how MLflow's server hands over a record's value
        item = item.item()
    if item is None or (isinstance(item, float) and item != item):
        raise BadPicture("nothing is there (a missing value)")
    if isinstance(item, Mapping):  # how TensorFlow's requests and Hugging Face's data sets wrap one
        item = next((item[key] for key in ("bytes", "b64", "path", "image") if item.get(key) is not None), item)
    if isinstance(item, (bytes, bytearray, memoryview)):
        data = bytes(item)
        if _BASE64_START.match(data[:12].decode("latin-1")):
            data = _from_base64(data.decode("latin-1"))
        return decode(data, channels, turn)
    if isinstance(item, str):
        text = item.strip()
        start = _DATA_URI.match(text[:100])
        if start:
            return decode(_from_base64(text[start.end() :]), channels, turn)
        if _BASE64_START.match(text):
            return decode(_from_base64(text), channels, turn)
        return decode(_from_file(Path(item), served=served), channels, turn)
    if isinstance(item, os.PathLike):
        return decode(_from_file(Path(item), served=served), channels, turn)
    if hasattr(item, "getexif") and hasattr(item, "convert"):  # a picture that Pillow has opened
        from PIL import ImageOps

        item = np.asarray(ImageOps.exif_transpose(item).convert("L" if item.mode in ("1", "L", "LA") else "RGB"))
    if isinstance(item, (np.ndarray, list)):
        array = as_pixels(item)
        if array.size == 0:
            raise BadPicture(f"an array of shape {array.shape} has no pixels")
        if array.ndim == 2:
            return array[:, :, None]
        if array.ndim == 3 and array.shape[2] in (1, 3):
            return array
        raise BadPicture(f"an array of shape {array.shape}; one picture is (H, W, 3), or (H, W) in grey")
    raise BadPicture(f"{type(item).__name__} is no picture; give bytes of a JPEG, PNG …, base64 text, a path, an array")


def as_pixels(values: Any) -> Pixels:
    """Numbers as uint8. Raises BadPicture for anything but whole numbers from 0 to 255 in a regular array."""
    if isinstance(values, np.ndarray) and values.dtype == np.uint8:
        return values
    try:
        if isinstance(values, np.ndarray) and values.dtype != object:
            array = values
        else:  # how numbers in JSON arrive
            array = np.array(values.tolist() if isinstance(values, np.ndarray) else values, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise BadPicture("no regular array of numbers; pixels are (N, H, W, 3), whole numbers 0..255") from None
    if array.dtype.kind not in "iuf" or array.size == 0:
        raise BadPicture(f"an array of shape {array.shape} and type {array.dtype}; pixels are whole numbers 0..255")
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 255):  # also where there is a NaN
        raise BadPicture(f"pixels from {low:g} to {high:g}; they are whole numbers 0..255")
    if array.dtype.kind == "f" and (array != np.rint(array)).any():
        raise BadPicture("pixels that are no whole numbers; give them as uint8, 0..255, not scaled")
    return array.astype(np.uint8)


def decode(data: bytes, channels: int, turn: ExitStack | None = None) -> Pixels:
    """Encoded bytes to (H, W, 1 or 3) uint8, upright, alpha dropped; grey for a grey network. Raises BadPicture.

    ``turn``: what makes other large pictures wait, until it is closed; None: until this one is decoded.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if is_too_large(height, width):
                raise BadPicture(
                    f"{width} x {height} px; at most {MAX_PIXELS:,} pixels are decoded, {MAX_SIDE_PX:,} a side"
                )
            if is_trap(height, width, len(data)):
                raise BadPicture(f"{width} x {height} px in {len(data):,} bytes, which is a trap and no picture")
            if channels == 1 and image.format in ("JPEG", "MPO"):
                image.draft("L", image.size)  # the luma the file holds, as training reads it
            with ExitStack() as own:
                if width * height > LARGE_PIXELS:
                    (turn or own).enter_context(_large())
                # A JPEG alone: training takes a PNG as it is stored, whatever its EXIF says.
                # Every further copy of a large picture counts: none is made that changes nothing.
                turned = image.format in ("JPEG", "MPO") and image.getexif().get(_ORIENTATION, 1) != 1
                upright = ImageOps.exif_transpose(image) if turned else image
                if upright.mode in ("I", "I;16", "I;16B"):  # 16 bit: keep the high byte
                    upright = Image.fromarray((np.asarray(upright).astype(np.uint32) >> 8).astype(np.uint8))
                if image.format == "TIFF" and upright.mode == "RGBA":  # training reads it before black
                    rgba = np.asarray(upright, np.uint32)
                    upright = Image.fromarray(((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8))
                grey, form = upright.mode in ("1", "L", "LA"), image.format
                mode = "L" if grey else "RGB"
                pixels = np.asarray(upright if upright.mode == mode else upright.convert(mode), np.uint8)
    except BadPicture:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPicture(f"too large; at most {MAX_PIXELS:,} pixels are decoded") from None
    except Exception as error:  # Pillow's decoders raise whatever they like on hostile bytes
        reason = str(error).split(" <_io", 1)[0]
        raise BadPicture(f"not a readable JPEG, PNG, WebP, BMP or TIFF ({type(error).__name__}: {reason})") from error
    if grey:
        return pixels[:, :, None]
    return _grey(pixels, *_LUMAS.get(str(form), _LUMAS["PNG"])) if channels == 1 else pixels


@contextmanager
def _large() -> Iterator[None]:
    """The turn of one large picture; the memory that it took is given back to the machine."""
    with _one_at_a_time:
        try:
            yield
        finally:
            with suppress(OSError, AttributeError):  # glibc alone: it keeps a heap for each thread
                ctypes.CDLL(None).malloc_trim(0)


def _from_base64(text: str) -> bytes:
    try:
        plain = "".join(text.split()).translate(_FROM_URL)
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadPicture("base64 text that is damaged") from None


def _from_file(path: Path, *, served: bool) -> bytes:
    shown = str(path)[:100]
    if served:
        root = os.environ.get(ROOT_VARIABLE)
        if not root:
            raise BadPicture(
                f"{shown!r} is no picture in base64, and a served model reads no files unless {ROOT_VARIABLE}"
                " names the folder it may read"
            )
        inside = Path(root).resolve()
        try:
            path = (inside / path).resolve()
        except (OSError, ValueError, RuntimeError):
            raise BadPicture(f"{shown!r} is no path") from None
        if not path.is_relative_to(inside):
            raise BadPicture(f"{shown!r} leads out of the folder of pictures")
    try:
        if not path.is_file():
            raise BadPicture(f"{shown!r} is no file, and no picture in base64")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadPicture(f"{shown!r} has more than {MAX_FILE_BYTES:,} bytes")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        if isinstance(error, BadPicture):
            raise
        raise BadPicture(f"{shown!r} cannot be read") from None


_BAND_NUMBERS = 4_000_000
_ONE = 2048  # a weight of 1 in the fixed-point numbers of the linear method


def resized(pixels: Pixels, height: int, width: int, *, area: bool = False) -> Pixels:
    """(H, W, C) uint8 to (height, width, C): linear, or by area where ``area`` is set and the picture shrinks."""
    have_height, have_width = pixels.shape[:2]
    if (have_height, have_width) == (height, width):
        return pixels
    halves = have_height == 2 * height and have_width == 2 * width
    if halves or (area and height < have_height and width < have_width):
        return _by_area(pixels, height, width)
    return _linear(pixels, height, width)


def _linear(pixels: Pixels, height: int, width: int) -> Pixels:
    columns, column_weights = _taps(pixels.shape[1], width, clamp=True)
    rows, row_weights = _taps(pixels.shape[0], height, clamp=False)
    needed, place = np.unique(rows, return_inverse=True)
    band = pixels[needed].astype(np.int32)
    across = sum(
        band[:, columns[:, tap]] * column_weights[None, :, tap, None] for tap in (0, 1)
    )  # (rows needed, width, C), in 1/2048
    across = np.asarray(across) >> 4
    place = place.reshape(rows.shape)
    down = [(across[place[:, tap]] * row_weights[:, tap, None, None]) >> 16 for tap in (0, 1)]
    return np.asarray((down[0] + down[1] + 2) >> 2, np.uint8)


def _taps(have: int, want: int, *, clamp: bool) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """For each of ``want`` places the two source places (want, 2) and their weights (want, 2) in 1/2048.

    Beyond the edge the edge is repeated; across (``clamp``) by the weights, down by the places.
    """
    at = ((np.arange(want) + 0.5) * (have / want) - 0.5).astype(np.float32)
    first = np.floor(at).astype(np.int64)
    share = at - first.astype(np.float32)
    if clamp:
        share[(first < 0) | (first >= have - 1)] = 0
        first = first.clip(0, have - 1)
    places = np.stack([first, first + 1], axis=1).clip(0, have - 1)
    weights = np.rint(np.stack([1 - share, share], axis=1) * np.float32(_ONE)).astype(np.int32)
    return places, weights


def _by_area(pixels: Pixels, height: int, width: int) -> Pixels:
    """Each new pixel is the mean of what it covers."""
    have_height, have_width = pixels.shape[:2]
    if have_height % height == 0 and have_width % width == 0:
        rows, columns = have_height // height, have_width // width
        sums = pixels.reshape(height, rows, width, columns, -1).sum(axis=(1, 3), dtype=np.int64)
        if rows == columns == 2:
            return np.asarray((sums + 2) >> 2, np.uint8)
        return np.asarray(np.rint(sums.astype(np.float32) * np.float32(1 / (rows * columns))), np.uint8)
    # In bands: as numbers with a fraction a large picture would take four times its memory at once.
    flat, shares, down = pixels.reshape(have_height, -1), _shares(have_height, height), []
    step = max(1, height * _BAND_NUMBERS // pixels.size)
    for start in range(0, height, step):
        part = shares[start : start + step]
        covered = np.flatnonzero(part.any(axis=0))
        band = slice(covered[0], covered[-1] + 1)
        down.append(part[:, band] @ flat[band].astype(np.float32))
    high = np.concatenate(down).reshape(height, have_width, -1)
    across = np.einsum("hwc,vw->hvc", high, _shares(have_width, width), optimize=True)
    return np.asarray(np.rint(across).clip(0, 255), np.uint8)


def _shares(have: int, want: int) -> NDArray[np.float32]:
    """(want, have): how much of each new place is each old one."""
    edges = np.arange(want + 1) * (have / want)
    lows = np.maximum(edges[:-1, None], np.arange(have)[None])
    highs = np.minimum(edges[1:, None], np.arange(1, have + 1)[None])
    return np.asarray((highs - lows).clip(0) / (have / want), np.float32)
