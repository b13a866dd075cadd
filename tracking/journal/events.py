"""What a journal is made of: its events' vocabulary and checks, its segments, and how it is read.

A journal is a directory, ``<root>/<journal_id>/``:

    journal-000001.jsonl …  the events, one JSON object a line, a new segment every 16 MiB
    files/                  what artifact events point at
    lock                    held (flock) by the running writer; names its process
    replay.json             how far each store has it (``tracking.store.replay``)

Every event carries its own time, so reading it twice gives the very same rows.

A journal may come from anywhere, so a reader gets events of the writer's shape and nothing else: any other line is
read as an event ``damaged``, single illegal values are moved to ``refused``.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tracking.errors import JournalError, TrackingError
from tracking.journal.checks import DAMAGED, Event, check

VERSION = 1
SEGMENT_BYTES = 16 * 2**20
MAX_LINE_BYTES = 4 * SEGMENT_BYTES  # a longer one is no writer's, and would fill the memory

_SEGMENT = re.compile(r"journal-(\d{6})\.jsonl")

encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, order=True)
class Position:
    """A place between two events: the segment's number, from 1, and the byte in it."""

    segment: int = 1
    offset: int = 0


def now_ms() -> int:
    """The time now, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def beginning(directory: Path) -> Event:
    """The event a journal begins with. Raises JournalError where it does not begin as one."""
    start = next((event for event, _ in read(directory)), None)
    if start is None:
        raise JournalError(
            f"{directory} holds no journal, or one whose first line is torn: its program was stopped before it had"
            " logged anything; remove the folder"
        )
    if start["event"] == DAMAGED:
        raise JournalError(f"{directory} is not a journal: {start['why']}")
    if start["event"] != "start":
        raise JournalError(f"{directory} does not begin with the start of a run but with {start['event']!r}")
    if start["version"] > VERSION:
        raise JournalError(f"{directory} is a journal of a newer version of this package; update the package")
    return start


def read(directory: Path, position: Position | None = None) -> Iterator[tuple[Event, Position]]:
    """Yield each event from ``position`` on (the beginning), with the position after it.

    A last line that is not complete, or that a power cut garbled, is left for later. Any other line that is no event
    is read as one of the kind ``damaged``, which says ``why``. Raises JournalError for a segment that is missing or
    cannot be read.
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
        with open(open_segment(path), "rb") as stream:
            stream.seek(offset)
            while line := stream.readline(MAX_LINE_BYTES):
                size, is_too_long = len(line), len(line) == MAX_LINE_BYTES
                while is_too_long and not line.endswith(b"\n") and (more := stream.readline(MAX_LINE_BYTES)):
                    size, line = size + len(more), more[-1:]
                event = _decode(line)
                if event is None:
                    if number == last and not stream.peek(1):
                        return
                    event = _damaged(f"not an event: {line[:80]!r}")
                if event["event"] == DAMAGED:
                    event["why"] = f"{path.name}, byte {offset}: {event['why']}"
                offset += size
                yield event, Position(number, offset)
        if number == last:
            return
        number, offset = number + 1, 0


def checksum(directory: Path, position: Position) -> int | None:
    """A checksum of the bytes before a position; None where no event ends there, or it cannot be read."""
    length = min(position.offset, 1024)
    if position.segment < 1 or length < 0:
        return None
    try:
        with open(open_segment(segment_path(directory, position.segment)), "rb") as stream:
            stream.seek(position.offset - length)
            before = stream.read(length)
    except (JournalError, OSError, OverflowError):
        return None
    if length and (len(before) < length or not before.endswith(b"\n")):
        return None
    return zlib.crc32(before)


def journals(root: Path) -> list[Path]:
    """Every journal directory under ``root``, by name; none where ``root`` does not exist. Raises JournalError."""
    return [path for path, fault in _inside(root) if fault is None]


def strangers(root: Path) -> list[tuple[Path, str]]:
    """What else is under ``root``, with the reason why it is not a readable journal."""
    return [(path, fault) for path, fault in _inside(root) if fault is not None]


def _inside(root: Path) -> Iterator[tuple[Path, str | None]]:
    try:
        found = sorted(p for p in Path(root).iterdir() if not p.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise JournalError(f"the journals' folder {root} cannot be read: {error.strerror}") from error
    for path in found:
        try:
            if path.is_symlink():  # its files would be others'
                yield path, "it is a link"
                continue
            segment_path(path, 1).lstat()
        except (FileNotFoundError, NotADirectoryError):
            yield path, f"it holds no {segment_path(Path(), 1)}"
        except OSError as error:
            yield path, f"it cannot be read: {error.strerror}; change its owner or permissions"
        else:
            yield path, None


def segments(directory: Path) -> list[int]:
    """The numbers of a journal's segments, rising. Raises JournalError."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise JournalError(f"{directory} cannot be read: {error.strerror}") from error
    return sorted(int(match[1]) for match in map(_SEGMENT.fullmatch, names) if match)


def segment_path(directory: Path, number: int) -> Path:
    """The path of a segment."""
    return directory / f"journal-{number:06d}.jsonl"


def open_segment(path: Path) -> int:
    """A descriptor to read a segment by. Raises JournalError for what is no file of the journal's own."""
    try:
        # A pipe would be waited for; a link would show some other file's content.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise JournalError(f"{path} is missing though later segments exist; bring it back from a copy") from None
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise JournalError(f"{path} cannot be read: it is not a file")
    return fd


def _damaged(why: str) -> Event:
    return {"time_ms": 0, "event": DAMAGED, "why": why}


def _decode(line: bytes) -> Event | None:
    """The event of a line, ``damaged`` where it has not the shape of one; None where it is no JSON object."""
    if not line.endswith(b"\n"):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or "event" not in event:
        return None
    try:
        check(event)
    except TrackingError as error:
        return _damaged(str(error))
    return event


# What a shell reports for SIGINT and SIGTERM.
_KILLED_CODES = (130, 143)


def verdict(error: BaseException | None) -> tuple[str, str]:
    """Status (FINISHED, FAILED or KILLED) and reason for the exception that ended a block, None being none."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "FINISHED", ""
    if isinstance(error, KeyboardInterrupt):
        return "KILLED", str(error) or "interrupted from the keyboard"
    if isinstance(error, SystemExit):
        if error.code in _KILLED_CODES:
            return "KILLED", f"ended by a signal (exit code {error.code})"
        return "FAILED", f"exited with {error.code!r}"
    return "FAILED", one_line(error)


def one_line(error: BaseException) -> str:
    """An error's class and the line of its message that says what is wrong."""
    lines = str(error).strip().splitlines() or [""]
    if not lines[0].startswith("Traceback (most recent call last)"):
        return f"{type(error).__name__}: {lines[0]}".removesuffix(": ")
    # MXNet puts its own traceback before its message, which begins with the class.
    return lines[-1]
