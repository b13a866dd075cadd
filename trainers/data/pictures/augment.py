"""The built-in's augmentation on whole batches: crop and flip; colour shifts; rotation, shear and aspect.

Ranges are those of MXNet's ImageRecordIter as the built-in sets them: hue, lightness and saturation shifts of up to 36,
50 and 50 in OpenCV's 8-bit HLS, clipped; rotation up to 10 degrees, shear up to 0.1, aspect up to 0.25.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.data.pictures.codec import Pixels, opencv
from trainers.errors import BadData

KINDS = ("crop", "crop_color", "crop_color_transform")
PAD_PX = 4  # around pictures of exactly the crop's size, by reflection; a crop could not move otherwise
MAX_HUE, MAX_LIGHTNESS, MAX_SATURATION = 36, 50, 50
MAX_ANGLE_DEG, MAX_SHEAR, MAX_ASPECT = 10.0, 0.1, 0.25
_TALLEST = 32_000  # OpenCV addresses rows with 16 bits when it samples

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The chances of B pictures: ``y``, ``x`` in [0, 1) place the crop; ``flip`` (B,) bool; ``hls`` (B, 3) int16;
    ``inverse`` (B, 2, 2) maps an output offset from the centre to the source."""

    y: Floats
    x: Floats
    flip: NDArray[np.bool_]
    hls: NDArray[np.int16] | None
    inverse: Floats | None

    def take(self, places: NDArray[np.int64]) -> Draws:
        """Those of some of the pictures."""
        hls = None if self.hls is None else self.hls[places]
        inverse = None if self.inverse is None else self.inverse[places]
        return Draws(y=self.y[places], x=self.x[places], flip=self.flip[places], hls=hls, inverse=inverse)


def draw(rng: np.random.Generator, count: int, kind: str) -> Draws:
    """Chances for ``count`` pictures; only what ``kind`` needs is drawn."""
    y, x = rng.random((2, count), np.float32)
    flip = rng.random(count, np.float32) < 0.5
    hls = inverse = None
    if kind != "crop":
        reach = np.array([MAX_HUE, MAX_LIGHTNESS, MAX_SATURATION])
        hls = rng.integers(-reach, reach, (count, 3), np.int16, endpoint=True)
    if kind == "crop_color_transform":
        angle = np.deg2rad(rng.uniform(-MAX_ANGLE_DEG, MAX_ANGLE_DEG, count))
        shear = rng.uniform(-MAX_SHEAR, MAX_SHEAR, count)
        ratio = 1 + rng.uniform(-MAX_ASPECT, MAX_ASPECT, count)
        inverse = inverse_affine(angle, shear, ratio)
    return Draws(y=y, x=x, flip=flip, hls=hls, inverse=inverse)


def inverse_affine(
    angle: NDArray[np.float64], shear: NDArray[np.float64], ratio: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(B, 2, 2) output-to-source matrices on (x, y) offsets from the centre; angles in radians.

    Forward, a picture is scaled by 2/(1+ratio) along x and ratio times that along y, turned and sheared.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    across = 2 / (1 + ratio)
    down = ratio * across
    forward = np.stack(
        [
            np.stack([across * cos - shear * sin * down, across * sin + shear * cos * down], axis=-1),
            np.stack([-sin * down, cos * down], axis=-1),
        ],
        axis=-2,
    )
    return np.linalg.inv(forward).astype(np.float32)


def augment(images: Pixels | Sequence[Pixels], height: int, width: int, draws: Draws) -> Pixels:
    """(B, h, w, C) uint8, or B pictures of their own sizes, to (B, height, width, C) under ``draws``."""
    if isinstance(images, np.ndarray):
        out = _place(images, height, width, draws)
    else:
        singles = (_place(image[None], height, width, _one(draws, at)) for at, image in enumerate(images))
        out = np.concatenate(list(singles))
    return out if draws.hls is None else shift_colour(out, draws.hls)


def centre_crop(images: Pixels | Sequence[Pixels], height: int, width: int) -> Pixels:
    """(B, h, w, C) uint8, or B pictures of their own sizes, to their middle (B, height, width, C)."""
    if isinstance(images, np.ndarray):
        top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
        return images[:, top : top + height, left : left + width]
    return np.stack([centre_crop(image[None], height, width)[0] for image in images])


def _one(draws: Draws, at: int) -> Draws:
    inverse = None if draws.inverse is None else draws.inverse[at : at + 1]
    return Draws(
        y=draws.y[at : at + 1], x=draws.x[at : at + 1], flip=draws.flip[at : at + 1], hls=None, inverse=inverse
    )


def _place(images: Pixels, height: int, width: int, draws: Draws) -> Pixels:
    """Crop at the drawn place, flip, and sample through the affine map where there is one."""
    rows, columns = images.shape[1:3]
    pad = PAD_PX if (rows, columns) == (height, width) else 0
    top = (draws.y * (rows + 2 * pad - height + 1)).astype(np.int64) - pad
    left = (draws.x * (columns + 2 * pad - width + 1)).astype(np.int64) - pad
    across = np.arange(width)
    places = left[:, None] + np.where(draws.flip[:, None], across[::-1], across)
    heights = top[:, None] + np.arange(height)
    if draws.inverse is None:
        if pad:
            heights, places = _reflected(heights, rows), _reflected(places, columns)
        picked = np.arange(len(images))[:, None, None]
        cropped: Pixels = images[picked, heights[:, :, None], places[:, None, :]]
        return cropped
    return _sample(images, heights.astype(np.float32), places.astype(np.float32), draws.inverse)


def _reflected(places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Fold coordinates back at the borders without repeating the edge: -1 -> 1, size -> size - 2."""
    folded = np.abs(places)
    inside: NDArray[np.int64] = np.clip(size - 1 - np.abs(size - 1 - folded), 0, size - 1)
    return inside


def _sample(images: Pixels, y: Floats, x: Floats, inverse: Floats) -> Pixels:
    """Bilinear samples of (B, h, w, C) at the images of rows ``y`` (B, H) and columns ``x`` (B, W) under ``inverse``.

    All pictures lie under one another as one tall picture, so that one call samples the whole batch.
    """
    cv2 = opencv()
    if cv2 is None:
        raise BadData("crop_color and crop_color_transform need OpenCV: pip install opencv-python-headless")
    count, rows, columns, channels = images.shape
    per_call = max(1, _TALLEST // max(rows, y.shape[1]))
    if count > per_call:
        parts = [slice(at, at + per_call) for at in range(0, count, per_call)]
        return np.concatenate([_sample(images[p], y[p], x[p], inverse[p]) for p in parts])
    middle_y, middle_x = np.float32((rows - 1) / 2), np.float32((columns - 1) / 2)
    dy, dx = (y - middle_y)[:, :, None], (x - middle_x)[:, None, :]
    entry = inverse[:, :, :, None, None]
    source_x = _folded(entry[:, 0, 0] * dx + entry[:, 0, 1] * dy + middle_x, columns)
    source_y = _folded(entry[:, 1, 0] * dx + entry[:, 1, 1] * dy + middle_y, rows)
    source_y += (np.arange(count, dtype=np.float32) * rows)[:, None, None]
    tall = np.ascontiguousarray(images).reshape(count * rows, columns, channels)
    flat = (count * y.shape[1], x.shape[1])
    out = cv2.remap(tall, source_x.reshape(flat), source_y.reshape(flat), cv2.INTER_LINEAR)
    return np.asarray(out, np.uint8).reshape(count, y.shape[1], x.shape[1], channels)


def _folded(places: Floats, size: int) -> Floats:
    """As ``_reflected``, in place, on px rounded to the 1/32 that OpenCV samples at.

    Rounded here, because adding a picture's place in the batch would otherwise move the rounding.
    """
    np.multiply(places, np.float32(32), out=places)
    np.rint(places, out=places)
    np.multiply(places, np.float32(1 / 32), out=places)
    last = np.float32(size - 1)
    np.abs(places, out=places)
    np.subtract(last, places, out=places)
    np.abs(places, out=places)
    np.subtract(last, places, out=places)
    return np.clip(places, 0, last, out=places)


def shift_colour(images: Pixels, hls: NDArray[np.int16]) -> Pixels:
    """Shift (B, H, W, 3) by ``hls`` (B, 3) in OpenCV's 8-bit hue, lightness, saturation, clipped to 180, 255, 255.

    Grey pictures (C = 1) have lightness alone.
    """
    count, height, width, channels = images.shape
    if channels == 1:
        lighter = images.astype(np.int16) + hls[:, 1, None, None, None]
        return np.clip(lighter, 0, 255).astype(np.uint8)
    cv2 = opencv()
    if cv2 is None:
        raise BadData("crop_color and crop_color_transform need OpenCV: pip install opencv-python-headless")
    tall = np.ascontiguousarray(images).reshape(count * height, width, 3)
    values = cv2.cvtColor(tall, cv2.COLOR_RGB2HLS).reshape(count, height, width * 3).astype(np.int16)
    values += np.tile(hls, width)[:, None, :]  # whole rows: three values at a time would take five times as long
    np.maximum(values, 0, out=values)
    np.minimum(values, np.tile(np.array([180, 255, 255], np.int16), width), out=values)
    out = cv2.cvtColor(values.astype(np.uint8).reshape(tall.shape), cv2.COLOR_HLS2RGB)
    return np.asarray(out, np.uint8).reshape(images.shape)
