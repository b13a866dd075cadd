"""What a journal is made of: its events' vocabulary and checks, its segments, and how it is read.

A journal is a directory, ``<root>/<journal_id>/``:

    journal-000001.jsonl …  the events, one JSON object a line, a new segment every 16 MiB
    files/                  what artifact events point at
    lock                    held (flock) by the living writer; says who that is
    replay.json             how far each store has it (``tracking.replay``)

Every event carries its own time, so whoever reads it twice writes the very same rows.
"""

from __future__ import annotations

import json
import math
import os
import posixpath
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat

from tracking.errors import JournalError, TrackingError

VERSION = 1
SEGMENT_BYTES = 16 * 2**20
FILES = "files"
STATUSES = ("RUNNING", "FINISHED", "FAILED", "KILLED")
CONTEXTS = ("train", "validation", "test")
MAX_NAME_LENGTH = 250
MAX_DIGEST_LENGTH = 36

Event = dict[str, Any]

_SEGMENT = re.compile(r"journal-(\d{6})\.jsonl")
_NAME = re.compile(r"[/\w.\- :]+")

encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, order=True)
class Position:
    """A place between two events: the segment's number, from 1, and the byte in it."""

    segment: int = 1
    offset: int = 0


def now_ms() -> int:
    """The time now, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def check_name(name: str) -> str:
    """Return a parameter's, metric's or tag's name unchanged; TrackingError where MLflow would refuse it."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise TrackingError(
            f"{name!r} cannot be a name: use 1 to {MAX_NAME_LENGTH} letters, digits, spaces and any of _ - . : /"
        )
    if name != posixpath.normpath(name) or name == "." or name.startswith(("..", "/")):
        raise TrackingError(f"{name!r} cannot be a name: as a path it would lead elsewhere; drop the dots or slashes")
    return name


def encode_number(name: str, value: SupportsFloat) -> float | str:
    """A metric's value as JSON can hold it: a float, or ``"nan"``, ``"inf"``, ``"-inf"``."""
    if isinstance(value, str):
        raise TrackingError(f"metric {name}: {value!r} is text; give a number")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TrackingError(f"metric {name}: {value!r} is not a number") from None
    if math.isfinite(number):
        return number
    return "nan" if number != number else "inf" if number > 0 else "-inf"


def read(directory: Path, position: Position | None = None) -> Iterator[tuple[Event, Position]]:
    """Yield each event from ``position`` on (the beginning), with the position after it.

    A last line that is not complete, or that a power cut garbled, is left for later. Anything else unreadable raises
    JournalError with file and byte.
    """
    directory = Path(directory)
    position = position or Position()
    number, offset = position.segment, position.offset
    while True:
        # Looked at before reading: a segment that has a successor is complete, the newest may still grow.
        last = max(segments(directory), default=0)
        if number > last:
            return
        path = segment_path(directory, number)
        try:
            stream = path.open("rb")
        except FileNotFoundError:
            raise JournalError(f"{path} is missing though later segments exist; bring it back from a copy") from None
        with stream:
            stream.seek(offset)
            for line in stream:
                event = _decode(line)
                if event is None:
                    if number == last and not stream.read(1):
                        return
                    raise JournalError(
                        f"{path}, byte {offset}: not an event: {line[:80]!r}; cut the line out by hand to go on"
                    )
                offset += len(line)
                yield event, Position(number, offset)
        if number == last:
            return
        number, offset = number + 1, 0


def journals(root: Path) -> list[Path]:
    """Every journal directory under ``root``, by name; none where ``root`` does not exist."""
    try:
        found = sorted(p for p in Path(root).iterdir() if not p.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [p for p in found if segment_path(p, 1).exists()]


def segments(directory: Path) -> list[int]:
    """The numbers of a journal's segments, rising."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(match[1]) for match in map(_SEGMENT.fullmatch, names) if match)


def segment_path(directory: Path, number: int) -> Path:
    """Where a segment lies."""
    return directory / f"journal-{number:06d}.jsonl"


def _decode(line: bytes) -> Event | None:
    if not line.endswith(b"\n"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
