"""The pictures themselves, where they are files on this machine: found by the key that a run logged.

A file is shown only if its digest is the logged one. Pictures in IDX, RecordIO and other containers are not shown.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from urllib.request import url2pathname

from reports.charts import svg
from reports.document import text
from reports.document.document import Figure

_CELL = 92.0
_COLUMNS = 8


def contact_sheet(
    name: str, pictures: Sequence[tuple[str, str, str]], source: str, caption: str, most: int = 24
) -> Figure | None:
    """Pictures in rows: each ``(digest, key, words below it)``; None where none was found."""
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
        drawing.text(x + (_CELL - 8) / 2, y + _CELL + 6, svg.fitted(said, _CELL - 8, 11), anchor="middle", size=11)
    alt = f"{text.plural(len(shown), 'picture')}: {text.join([said for _, said in shown])}."
    rest = f", {len(shown)} of {len(pictures)}" if len(shown) < len(pictures) else ""
    return Figure(name, drawing.svg(alt), alt, f"{caption}{rest}.")


def picture(source: str, key: str, digest: str) -> bytes | None:
    """A picture file as PNG, at most 128 px on a side; None where it is not found or has changed."""
    from PIL import Image, UnidentifiedImageError

    path = Path(key) if Path(key).is_absolute() else _local(source) / key
    try:
        data = path.read_bytes() if path.is_file() else b""
        if not data or hashlib.blake2b(data, digest_size=16).hexdigest() != digest:
            return None
        with Image.open(io.BytesIO(data)) as opened:
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError):
        return None
    image.thumbnail((128, 128))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _local(source: str) -> Path:
    return Path(url2pathname(source[7:])) if source.startswith("file://") else Path(source)
