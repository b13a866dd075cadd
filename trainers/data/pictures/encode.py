"""Pixels to encoded bytes: JPEG with a quality, or PNG."""

from __future__ import annotations

import io

from trainers.data.pictures.codec import opencv
from trainers.data.pictures.pictures import Pixels
from trainers.errors import BadData


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
