"""MXNet's ``.params`` files, read with NumPy alone: every length is checked against the file before it is believed.

The format (little endian): ``0x112``, 0, the number of arrays, the arrays, the number of names, the names. An array is
a magic word, its storage kind, its shape, the device it was on, its type and its bytes; files before MXNet 1.0 lack
some of these.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracking.errors import ModelError

_LIST = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "|u1", 4: "<i4", 5: "|i1", 6: "<i8", 7: "|b1"}
_MAX_AXES = 32
_MAX_ARRAYS = 1_000_000
MAX_BYTES = 2**30  # four times the largest network's that is trained here

Array = NDArray[Any]


def read(path: str | Path) -> dict[str, Array]:
    """Every array of a file by its name, with the ``arg:`` or ``aux:`` that MXNet writes before it; read-only.

    Raises ModelError for anything that is not a whole file of dense arrays.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelError(f"{path} has {size:,} bytes; parameter files of up to {MAX_BYTES:,} are read.")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error}).") from error
    return _Reader(content, str(path)).arrays()


def weights(path: str | Path) -> dict[str, Array]:
    """The arrays without ``arg:`` and ``aux:``. Raises ModelError."""
    return {name.removeprefix("arg:").removeprefix("aux:"): array for name, array in read(path).items()}


class _Reader:
    def __init__(self, content: bytes, name: str) -> None:
        self._content, self._name, self._at = content, name, 0

    def arrays(self) -> dict[str, Array]:
        if self._take("<QQ") != (_LIST, 0):
            raise self._error("it does not begin as one")
        (count,) = self._take("<Q")
        if count > _MAX_ARRAYS:
            raise self._error(f"{count:,} arrays cannot be")
        arrays = [self._array() for _ in range(count)]
        (names,) = self._take("<Q")
        if names != count:
            raise self._error(f"{count} arrays have {names} names")
        found = {self._text(): array for array in arrays}
        if len(found) != count:
            raise self._error("two arrays have the same name")
        return found

    def _array(self) -> Array:
        (magic,) = self._take("<I")
        if magic in (_V2, _V3):
            (storage,) = self._take("<i")
            if storage not in (-1, 0):
                raise self._error("it holds a sparse array")
            shape = self._shape(self._take("<i")[0], "q")
        elif magic == _V1:
            shape = self._shape(self._take("<I")[0], "q")
        else:
            shape = self._shape(magic, "I")
        if not shape:
            raise self._error("it holds an array without a shape")
        self._take("<ii")  # the device it was on
        (kind,) = self._take("<i")
        if kind not in _TYPES:
            raise self._error(f"type {kind} is unknown")
        dtype = np.dtype(_TYPES[kind])
        count = math.prod(shape)
        start = self._advance(count * dtype.itemsize)
        try:
            return np.frombuffer(self._content, dtype, count, start).reshape(shape)
        except ValueError as error:  # (0, 2**62): nothing to read, yet more than NumPy can address
            raise self._error(f"an array of shape {shape} cannot be") from error

    def _shape(self, num_axes: int, letter: str) -> tuple[int, ...]:
        if not 0 <= num_axes <= _MAX_AXES:
            raise self._error(f"an array of {num_axes} axes cannot be")
        shape = self._take(f"<{num_axes}{letter}")
        if any(side < 0 for side in shape):
            raise self._error(f"an array of shape {shape} cannot be")
        return shape

    def _text(self) -> str:
        data = self._bytes(self._take("<Q")[0])
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self._error(f"{data[:40]!r} is no name") from None

    def _take(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))

    def _bytes(self, count: int) -> bytes:
        start = self._advance(count)
        return self._content[start : self._at]

    def _advance(self, count: int) -> int:
        """Go on by ``count`` bytes; where they begin."""
        start = self._at
        if count > len(self._content) - start:
            raise self._error(f"{count:,} bytes are announced at byte {start:,}, the file ends before")
        self._at += count
        return start

    def _error(self, why: str) -> ModelError:
        return ModelError(f"{self._name} is not a readable MXNet parameter file: {why}.")
