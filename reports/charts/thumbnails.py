"""The pictures themselves, where they lie at hand: found by the key a run logged and known by their content's digest.

Picture files, IDX files and scikit-learn's digits are looked up; a picture whose content is not the one that was scored
is not shown.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import numpy as np

from reports.charts import svg
from reports.document import text
from reports.document.document import Figure

_CELL = 92.0
_COLUMNS = 8
_IDX = re.compile(r"(.+)\[(\d+)\]\Z")


def contact_sheet(
    name: str, pictures: Sequence[tuple[str, str, str]], source: str, caption: str, most: int = 24
) -> Figure | None:
    """Pictures in rows: each ``(digest, key, words below it)``; None where none is at hand."""
    shown = []
    for digest, key, said in pictures:
        found = picture(source, key, digest)
        if found is not None:
            shown.append((found, said))
        if len(shown) == most:
            break
    if not shown:
        return None
    rows = -(-len(shown) // _COLUMNS)
    drawing = svg.Drawing(_CELL * min(_COLUMNS, len(shown)), rows * (_CELL + 18))
    for i, (found, said) in enumerate(shown):
        x, y = (i % _COLUMNS) * _CELL, (i // _COLUMNS) * (_CELL + 18)
        drawing.parts.append(
            f'<image x="{svg.n(x)}" y="{svg.n(y)}" width="{svg.n(_CELL - 8)}" height="{svg.n(_CELL - 8)}"'
            f' preserveAspectRatio="xMidYMid meet" style="image-rendering:pixelated"'
            f' href="data:image/png;base64,{base64.b64encode(found).decode()}"><title>{svg.words(said)}</title></image>'
        )
        drawing.text(x + (_CELL - 8) / 2, y + _CELL + 6, svg.truncated(said, 13), anchor="middle", size=11)
    alt = f"{text.plural(len(shown), 'picture')}: {text.join([said for _, said in shown])}."
    rest = f", {len(shown)} of {len(pictures)}" if len(shown) < len(pictures) else ""
    return Figure(name, drawing.svg(alt), alt, f"{caption}{rest}.")


def picture(source: str, key: str, digest: str) -> bytes | None:
    """A picture as PNG, at most 128 px on a side; None where it is not found or has changed."""
    for found in (_file, _idx, _digits):
        pixels = found(source, key, digest)
        if pixels is not None:
            return _png(pixels)
    return None


def _file(source: str, key: str, digest: str) -> Any:
    from PIL import Image, UnidentifiedImageError

    path = Path(key) if Path(key).is_absolute() else _local(source) / key
    try:
        data = path.read_bytes() if path.is_file() else b""
        if not data or hashlib.blake2b(data, digest_size=16).hexdigest() != digest:
            return None
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, ValueError):
        return None


def _idx(source: str, key: str, digest: str) -> Any:
    """Picture ``i`` of an IDX file, ``name[i]``: 16 bytes of head, then a byte a pixel."""
    match = _IDX.match(key)
    folder = _local(source)
    path = (
        None if match is None else next((p for p in (folder / match[1], folder.parent / match[1]) if p.is_file()), None)
    )
    if match is None or path is None:
        return None
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = np.frombuffer(file.read(16), ">u4")
            if len(head) != 4 or int(head[0]) != 0x803:
                return None
            height, width = int(head[2]), int(head[3])
            file.seek(16 + int(match[2]) * height * width)
            pixels = np.frombuffer(file.read(height * width), np.uint8).reshape(height, width)
    except (OSError, ValueError, EOFError):
        return None
    return pixels if _digest(pixels) == digest else None


def _digits(source: str, key: str, digest: str) -> Any:
    if "digits" not in source or not key.isdigit():
        return None
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        return None
    values = load_digits(return_X_y=True)[0]
    if int(key) >= len(values):
        return None
    pixels = (values[int(key)].astype(np.uint16) * 255 // 16).astype(np.uint8).reshape(8, 8)
    return pixels if _digest(pixels) == digest else None


def _digest(pixels: Any) -> str:
    """The content's hash as the training side computes it for pictures that were never encoded."""
    height, width = pixels.shape
    hasher = hashlib.blake2b(f"uint8 {height}x{width}x1:".encode(), digest_size=16)
    hasher.update(np.ascontiguousarray(pixels).tobytes())
    return hasher.hexdigest()


def _local(source: str) -> Path:
    return Path(url2pathname(source[7:])) if source.startswith("file://") else Path(source)


def _png(pixels: Any) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((128, 128))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
