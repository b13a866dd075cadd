"""Pictures out of the tables people have: a column of pictures, or one column for each pixel.

Ships inside every saved model. A table is a pandas DataFrame, however it came: from a notebook with any index, as CSV
or Parquet over HTTP, from Spark (its image type, ``binaryFile``) or from a data set's own format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .pictures import BadPicture, Sizing, as_pixels

COLUMN = "image"
# Under which names other tools keep pictures, the surest first. Spark reads files as path, length, content.
_COLUMNS = (
    f"{COLUMN} images img picture photo content image_bytes bytes b64 data image_base64 base64 pixels image_path"
    " img_path path filepath file_path filename file_name file"
).split()
# Spark's own image type: rows of blue, green, red.
_SPARK = {"height", "width", "nChannels", "data"}
# What is beside the pixels in a table of them, such as MNIST's.
_NO_PIXELS = re.compile(r"(?:label|class|target|y|id|.*_id|imageid|index|split|usage|unnamed: ?0)s?", re.I)


def pictures(table: Any, sizing: Sizing) -> list[Any]:
    """One picture a row, in the order of the rows. Raises BadPicture where no column holds pictures."""
    heads = [str(column) for column in table.columns]
    if set(heads) >= _SPARK:
        return [_from_spark(dict(zip(heads, row, strict=True))) for row in table.itertuples(index=False, name=None)]
    lower = [head.lower() for head in heads]
    known = next((lower.index(name) for name in _COLUMNS if name in lower), 0 if len(heads) == 1 else None)
    if known is not None:
        return [_cell(value, sizing) for value in table.iloc[:, known].tolist()]
    places = [n for n, head in enumerate(heads) if not _NO_PIXELS.fullmatch(head)]
    shape = _shape(len(places), sizing)
    if shape is None:
        size = sizing.height * sizing.width
        raise BadPicture(
            f"a table with {_listed(heads)}; a column {COLUMN!r} of pictures is expected, or {size:,} columns of grey"
            f" pixels ({size * 3:,} of red, green, blue, in the order of the rows)"
        )
    _check_header([heads[n] for n in places])
    rows = table.iloc[:, places].to_numpy()
    return list(as_pixels(rows).reshape(-1, *shape)) if len(rows) else []


def _cell(value: Any, sizing: Sizing) -> Any:
    """What a cell holds, where it is no picture as such."""
    if isinstance(value, Mapping) and set(value) >= _SPARK:
        return _from_spark(value)
    numbers = value.split() if isinstance(value, str) and re.match(r"\s*\d{1,3}\s+\d", value[:100]) else ()
    shape = _shape(len(numbers), sizing)  # FER2013: the pixels of a picture in one cell
    if shape is None:
        return value
    try:
        return as_pixels([float(number) for number in numbers]).reshape(shape)
    except ValueError as error:
        raise BadPicture(str(error)) from None


def _shape(count: int, sizing: Sizing) -> tuple[int, int, int] | None:
    """The picture that so many pixels make at the network's size; None where they make none."""
    size = sizing.height * sizing.width
    return (sizing.height, sizing.width, count // size) if count in (size, 3 * size) else None


def _from_spark(row: Mapping[str, Any]) -> Any:
    try:
        shape = int(row["height"]), int(row["width"]), int(row["nChannels"])
        pixels = np.frombuffer(row["data"], np.uint8).reshape(shape)
    except (TypeError, ValueError) as error:
        raise BadPicture(f"not a picture as Spark keeps it ({error})") from None
    return pixels[:, :, 2::-1] if shape[2] >= 3 else pixels


def _check_header(heads: Sequence[str]) -> None:
    """Raise BadPicture where a table's first row of pixels was read as its header."""
    numbers = [re.fullmatch(r"(\d+)(?:\.\d+)?", head) for head in heads]
    if all(numbers):
        values = [int(match[1]) for match in numbers if match]
        if values != list(range(values[0], values[0] + len(values))):
            raise BadPicture("the first row of pixels is where the columns' names should be; add a header line")


def _listed(heads: Sequence[str]) -> str:
    shown = ", ".join(map(repr, heads[:5]))
    return f"the columns {shown}" if len(heads) <= 5 else f"{len(heads):,} columns ({shown} …)"
