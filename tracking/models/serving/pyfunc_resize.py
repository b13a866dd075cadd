"""Bring a picture to another size exactly as training did, with NumPy alone.

Training resizes with OpenCV. Pillow's filters give other pixels, and so other probabilities; and OpenCV need not be
there where a model is served. These are OpenCV's two methods for 8-bit pictures, its fixed-point rounding included.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

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
