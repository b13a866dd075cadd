"""The run directory on disk: who holds it, how files get into it, what to say when it cannot be written."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from tracking.errors import JournalError
from tracking.events import SEGMENT_BYTES, segment_path

# Given back to the file system when the disk is full, so that the end of the run can still be written down.
RESERVE_BYTES = 64 * 2**10

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Lines:
    """Whole lines appended to a journal's segments: either all of a line lands on the disk or nothing of it."""

    def __init__(self, directory: Path, number: int, size: int) -> None:
        """Go on in segment ``number`` after ``size`` bytes, cutting off what follows; make it where there is none."""
        self._directory = directory
        self._open(number, size)
        try:
            (directory / "reserve").write_bytes(b"\0" * RESERVE_BYTES)
        except OSError as error:
            raise cannot_write(directory, error) from error

    def append(self, line: bytes, *, last_words: bool = False) -> None:
        """Write a line that ends in a newline. ``last_words`` may use the space held back for a full disk."""
        if self._size and self._size + len(line) > SEGMENT_BYTES:
            os.close(self._fd)
            self._open(self._number + 1, 0)
        try:
            self._append(line)
        except OSError as error:
            if error.errno in _FULL and last_words:
                self.drop_reserve()
                try:
                    return self._append(line)
                except OSError as again:
                    error = again
            raise cannot_write(segment_path(self._directory, self._number), error) from error

    def sync(self) -> None:
        """Return when everything is on the disk itself."""
        os.fsync(self._fd)

    def drop_reserve(self) -> None:
        """Give back the space held for last words."""
        (self._directory / "reserve").unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the segment."""
        os.close(self._fd)

    def _open(self, number: int, size: int) -> None:
        path = segment_path(self._directory, number)
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise cannot_write(path, error) from error
        self._number, self._size = number, size

    def _append(self, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError:
            # Half a line in the middle would make every later one unreadable.
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise
        self._size += written


def hold(directory: Path) -> int:
    """Take the writer's lock; the descriptor that holds it. JournalError when another process has it."""
    path = directory / "lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise cannot_write(path, error) from error
    for last in (*[False] * 10, True):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not last:  # it may be somebody who only looks whether it is held
                time.sleep(0.02)
                continue
            os.close(fd)
            owner = writer(directory)
            raise JournalError(
                f"{directory} is being written by process {owner.get('pid', '?')} on {owner.get('host', '?')};"
                " wait for it or end it first"
            ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
    return fd


def is_held(directory: Path) -> bool:
    """Whether a living process writes this journal (on this machine, or on another that shares locks with it)."""
    try:
        fd = os.open(Path(directory) / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def writer(directory: Path) -> dict[str, Any]:
    """Who wrote the journal last: ``{"pid": …, "host": …}``, empty where nobody said."""
    try:
        found: dict[str, Any] = json.loads((Path(directory) / "lock").read_text())
    except (OSError, ValueError):
        return {}
    return found


def place(source: Path, target: Path, move: bool) -> None:
    """Put ``source`` at ``target`` so that no reader ever sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f".{target.name}.{os.getpid()}.part"
    try:
        if move:
            shutil.move(source, part)
        elif source.is_dir():
            shutil.copytree(source, part)
        else:
            shutil.copy2(source, part)
        if target.is_dir():
            former = part.with_suffix(".former")
            target.rename(former)
            part.rename(target)
            remove(former)
        else:
            part.replace(target)
    except BaseException:
        if not move:  # what was moved exists nowhere else
            remove(part)
        raise


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> JournalError:
    """The error to raise where ``path`` could not be written, with the way out."""
    full = error.errno in (*_FULL, errno.EFBIG) or os.strerror(errno.ENOSPC) in str(error)
    why = error.strerror or (os.strerror(errno.ENOSPC) if full else str(error))
    if full:
        way_out = "what was logged until here is kept; make room, then resume the run"
    else:
        way_out = "give a folder that can be written, or change its owner or permissions"
    return JournalError(f"cannot write {path}: {why}; {way_out}")
