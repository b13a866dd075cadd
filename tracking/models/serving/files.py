"""A saved model's files before anything reads them: the facts in ``model.json``, and whether the others are whole.

Ships inside every saved model. Runtimes read their files with native code, which may crash on damaged ones or answer
from other weights than those of training; a digest that was written beside them detects it first.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

META, DIGESTS = "model.json", "sha256"
FORMAT = 1
_CHUNK_BYTES = 2**20


class DamagedModel(ValueError):
    """A model's folder that is not as it was written; the message names the file."""


def read_facts(directory: str | Path) -> dict[str, Any]:
    """The contents of ``model.json``. Raises DamagedModel where they describe nothing that can be run here."""
    path = Path(directory) / META
    try:
        found = _read(path)
        version = found["format"]
        if version == FORMAT:
            channels, height, width = (int(side) for side in found["image_shape"])
            if channels not in (1, 3) or min(height, width) < 1 or not isinstance(found["class_names"], list):
                raise ValueError("sizes or classes that cannot be")
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DamagedModel):
            raise
        raise _unreadable(path, error) from error
    if version != FORMAT:
        raise DamagedModel(f"{path} has format {version!r}; this reads format {FORMAT}")
    return found


def check(directory: str | Path, *names: str) -> None:
    """Raise DamagedModel for a file that is missing, or whose digest is another than ``model.json`` says.

    A model that is only being made, or was made before there were digests, is believed.
    """
    folder = Path(directory)
    known = _read(folder / META).get(DIGESTS) if (folder / META).exists() else None
    for name in names:
        wanted = known.get(name) if isinstance(known, dict) else None
        try:
            found = digest(folder / name)
        except OSError as error:
            raise DamagedModel(f"{folder / name} cannot be read ({error.strerror or error})") from error
        if wanted is not None and found != wanted:
            raise DamagedModel(
                f"{folder / name} is not the file that was saved (SHA-256 {found[:12]}…, {META} says"
                f" {str(wanted)[:12]}…); fetch the model again"
            )


def digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits. Raises OSError."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DamagedModel:
    return DamagedModel(f"{path} cannot be read as a model's description ({type(error).__name__}: {error})")
