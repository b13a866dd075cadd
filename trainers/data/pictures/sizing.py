"""From a picture's own size to the network's: what is resized before training, and what is left to crop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tracking.models.serving.pictures import shortest_side
from trainers.data.pictures.codec import Pixels, opencv
from trainers.errors import BadData

Fit = Literal["crop", "squash"]


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """How pictures come to (height, width) px. All sizes in px.

    ``crop`` with ``resize``: the shortest side becomes ``resize``, the rest is left for the crop. ``crop`` without:
    the user's ``own`` pictures stay as they are, bundled ones are scaled to fit. ``squash``: scaled to fit, whatever
    becomes of the aspect ratio.
    """

    channels: int
    height: int
    width: int
    resize: int | None
    fit: Fit
    own: bool

    def targets(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N, 2) height, width after ``apply``, for pictures of ``sizes`` (N, 2 or more)."""
        if self.fit == "squash" or (self.resize is None and not self.own):
            return np.tile(np.array([self.height, self.width], np.int64), (len(sizes), 1))
        if self.resize is None:
            return sizes[:, :2].copy()
        distinct, places = np.unique(sizes[:, :2], axis=0, return_inverse=True)
        scaled = [shortest_side(int(height), int(width), self.resize) for height, width in distinct]
        table = np.array(scaled, np.int64).reshape(-1, 2)
        picked: NDArray[np.int64] = table[places.reshape(-1)]
        return picked

    def apply(self, pixels: Pixels, target: NDArray[np.int64]) -> Pixels:
        """(H, W, C) uint8 resized to its ``target`` of ``targets``; the very same array when nothing is to be done.

        The user's own pictures are interpolated linearly, as the built-in does; bundled ones by area when they shrink.
        """
        height, width = target
        if pixels.shape[:2] == (height, width):
            return pixels
        return resized(pixels, int(height), int(width), area=not self.own)

    def demand_fit(self, targets: NDArray[np.int64], name: Callable[[int], str]) -> None:
        """BadData when a picture is smaller than the crop; ``name`` says what a row is called."""
        small = np.flatnonzero((targets[:, 0] < self.height) | (targets[:, 1] < self.width))
        if len(small) == 0:
            return
        first = int(small[0])
        height, width = (int(side) for side in targets[first])
        more = f" and {len(small) - 1} more" if len(small) > 1 else ""
        wants = f"image_shape {self.channels},{self.height},{self.width}"
        if self.resize is None:
            advice = (
                f"give --resize {max(self.height, self.width)} or more (the shortest side before the crop),"
                " or a smaller --image-shape"
            )
        else:
            advice = f"--resize {self.resize} must be at least {max(self.height, self.width)}"
        raise BadData(f"{name(first)}{more}: {width} x {height} px (w x h) is smaller than {wants}; {advice}")


def resized(pixels: Pixels, height: int, width: int, *, area: bool = False) -> Pixels:
    """(H, W, C) uint8 to (height, width, C): linear, or by area where ``area`` is set and the picture shrinks."""
    shrinks = height < pixels.shape[0] and width < pixels.shape[1]
    cv2 = opencv()
    if cv2 is not None:
        method = cv2.INTER_AREA if area and shrinks else cv2.INTER_LINEAR
        out = cv2.resize(pixels, (width, height), interpolation=method)
        return np.asarray(out, np.uint8).reshape(height, width, pixels.shape[2])
    from PIL import Image

    method = Image.Resampling.BOX if area and shrinks else Image.Resampling.BILINEAR
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(image.resize((width, height), method), np.uint8).reshape(height, width, pixels.shape[2])
