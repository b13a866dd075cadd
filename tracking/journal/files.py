"""The run directory on disk: its lock, how files get into it, the error when it cannot be written."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tracking.errors import JournalError
from tracking.errors.program import open_standard_descriptors
from tracking.journal.background import in_background
from tracking.journal.events import SEGMENT_BYTES, Position, open_segment, segment_path, segments

# Freed when the disk is full, so that the end of the run can still be written.
RESERVE_BYTES = 64 * 2**10
# How long an event may wait in the machine's memory before it is brought to the disk itself.
SYNC_S = 0.5
# A thread that has not begun by then never will: it may end before where memory runs out.
BEGIN_S = 5.0

_FULL = (errno.ENOSPC, errno.EDQUOT)


class AppendFile:
    """Whole lines appended to a journal's segments: all of a line is written or nothing of it."""

    def __init__(self, directory: Path, number: int, size: int) -> None:
        """Go on in segment ``number`` after ``size`` bytes, cutting off what follows; make it where there is none."""
        self._directory = directory
        self._failed: OSError | None = None
        self.is_synced = False
        reserve = directory / "reserve"
        try:
            remove(reserve)
            with open(open_own(reserve, os.O_WRONLY | os.O_EXCL), "wb") as stream:
                stream.write(b"\0" * RESERVE_BYTES)
            self._fd = self._open(number, size)
        except OSError as error:
            raise cannot_write(directory, error) from error
        self._number, self._size = number, size

    def append(self, line: bytes, *, last_words: bool = False) -> None:
        """Write a line that ends in a newline. ``last_words`` may use the space held back for a full disk.

        It is flushed to the disk itself within ``SYNC_S``, in the background; where that failed, this call fails.
        """
        try:
            try:
                self._append(line)
            except OSError as error:
                if error.errno not in _FULL or not last_words:
                    raise
                self.drop_reserve()
                self._append(line)
            self._check()
            _flush_soon(self)
        except OSError as error:
            raise cannot_write(segment_path(self._directory, self._number), error) from error

    def sync(self) -> None:
        """Return when everything is on the disk itself."""
        self.is_synced = True  # before: a signal handler may write meanwhile
        try:
            os.fdatasync(self._fd)
            self._check()
        except OSError:
            self.is_synced = False
            raise

    def flush(self) -> None:
        """``sync`` for another thread: the next call here fails where the disk did not take it."""
        fd = self._fd
        if fd == -1:  # who closed it has synced it
            return
        try:
            os.fdatasync(fd)
        except OSError as error:
            if fd == self._fd:  # else it was closed meanwhile
                self._failed = error

    def _check(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:  # the system says it once
            raise failed

    def move(self, directory: Path) -> None:
        """Go on in the segment where it is now."""
        self._directory = directory

    def drop_reserve(self) -> None:
        """Free the space reserved for last words."""
        (self._directory / "reserve").unlink(missing_ok=True)

    def close(self) -> None:
        """Close the segment."""
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _open(self, number: int, size: int) -> int:
        path = segment_path(self._directory, number)
        fd = open_own(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.ftruncate(fd, size)
            sync_folder(self._directory)
        except OSError:
            os.close(fd)
            if not size:
                path.unlink()  # a segment that has a successor is complete, and this one's former may yet grow
            raise
        return fd

    def _append(self, line: bytes) -> None:
        if self._size and self._size + len(line) > SEGMENT_BYTES:
            self.sync()
            # The former one stays open until there is a next: its number may be another file's after that.
            former, self._fd = self._fd, self._open(self._number + 1, 0)
            self._number, self._size = self._number + 1, 0
            os.close(former)
        written = 0
        self.is_synced = False
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError:
            # Half a line in the middle would make every later one unreadable.
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise
        self._size += written


# Waiting for a disk is no business of the training thread: one thread of the process does it, while there is anything.
_waiting: set[AppendFile] = set()
_guard = threading.RLock()
# Until when the thread has to begin, inf once it has; -inf where there is none.
_alive_until = -math.inf


def _flush_soon(file: AppendFile) -> None:
    global _alive_until
    if file in _waiting and time.monotonic() < _alive_until:
        return  # what is written before it is taken out is flushed with the rest
    with _guard:
        _waiting.add(file)
        if time.monotonic() < _alive_until:
            return
        _alive_until = time.monotonic() + BEGIN_S
        if in_background(_flush_waiting).is_set() and _alive_until < math.inf:  # no thread can be made
            _alive_until = -math.inf
            file.sync()


def _flush_waiting() -> None:
    global _alive_until
    try:
        _alive_until = math.inf
        while True:
            for file in list(_waiting):
                _waiting.discard(file)
                file.flush()
            time.sleep(SYNC_S)
            with _guard:
                if not _waiting:
                    _alive_until = -math.inf
                    return
    except BaseException:  # out of memory; the next event begins another thread
        _alive_until = -math.inf


def _flush_anew() -> None:
    """In a forked child, where the thread is not, and what it held is held for good."""
    global _guard, _alive_until
    _guard, _alive_until = threading.RLock(), -math.inf
    _waiting.clear()


os.register_at_fork(after_in_child=_flush_anew)


def flush(directory: Path, position: Position) -> Position:
    """Bring what was written after ``position`` to the disk itself; the place up to which it is. Raises JournalError.

    What a store is sent up to there cannot be lost here any more.
    """
    end = position
    for number in segments(directory):
        if number < position.segment:
            continue
        fd = open_segment(segment_path(directory, number))
        try:
            end = Position(number, os.fstat(fd).st_size)
            if end > position:
                os.fsync(fd)
        except OSError as error:
            raise cannot_write(segment_path(directory, number), error) from error
        finally:
            os.close(fd)
    return end


def sync_files(path: Path) -> None:
    """Bring a file, or a folder with all that is in it, to the disk itself."""
    if path.is_dir():
        for inner in path.iterdir():
            if not inner.is_symlink():
                sync_files(inner)
    elif not path.is_file():
        return
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to the disk itself."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # some network file systems do not support it
            raise
    finally:
        os.close(fd)


def make_private(folder: Path) -> None:
    """Make a folder that its owner alone may enter; where others may write beside it, with the usual permissions."""
    shared = folder.parent.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    folder.mkdir(0o777 if shared else 0o700)


def open_own(path: Path, flags: int) -> int:
    """Open or make a file of a journal's; OSError where it is a link, which might be to any file of the user's.

    Who may enter its folder may read it, and nobody else.
    """
    mode = path.parent.stat().st_mode & 0o666
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, mode)


def hold(directory: Path) -> int:
    """Take the writer's lock; the descriptor that holds it. JournalError when another process has it."""
    path = directory / "lock"
    open_standard_descriptors()
    try:
        fd = open_own(path, os.O_RDWR)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        _lock(fd, directory)
        sign(fd)
    except OSError as error:
        os.close(fd)
        raise cannot_write(path, error) from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def sign(fd: int) -> None:
    """Write into a lock's file which process holds it."""
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)


def _lock(fd: int, directory: Path) -> None:
    for last in (*[False] * 10, True):
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not last:  # another process may only be checking whether it is held
                time.sleep(0.02)
    raise JournalError(f"{directory} is being written by {holder(directory)}; wait for it or end it first")


def holder(directory: Path, name: str = "lock") -> str:
    """Which process signed a lock last, in words."""
    owner = writer(directory, name)
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


def is_held(directory: Path) -> bool:
    """Whether a living process writes this journal (on this machine, or on another that shares locks with it)."""
    path = Path(directory) / "lock"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def writer(directory: Path, name: str = "lock") -> dict[str, Any]:
    """The process that wrote the journal last: ``{"pid": …, "host": …}``, empty where unknown."""
    path = Path(directory) / name
    try:
        found = json.loads(path.read_text()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def whole_file(path: Path, *, shared: bool = False, keep_part: bool = False) -> Iterator[Path]:
    """``with whole_file(path) as part:`` write ``part``; on leaving it is flushed to the disk and becomes ``path``.

    Readers see the former file or the new one, never half of it. Any error removes the part, unless ``keep_part``, and
    leaves ``path`` as it was. ``shared``: the folder holds files of any name, or other processes write the same path.
    """
    part = path.with_name(f".{path.name[:100]}.{os.getpid()}.part" if shared else f"{path.name}.part")
    try:
        yield part
        sync_files(part)
        part.replace(path)
        sync_folder(path.parent)
    except BaseException:
        if not keep_part:
            with suppress(OSError):
                remove(part)
        raise


def place(source: Path, target: Path, move: bool) -> None:
    """Put the file or folder ``source`` at ``target`` as ``whole_file`` does.

    What links point at is copied, so that nothing leads out of the journal; a link to nothing is left out.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    move = move and not any(path.is_symlink() for path in (source, *source.rglob("*")))
    former = None
    with whole_file(target, shared=True, keep_part=move) as part:  # what was moved exists nowhere else
        if move:
            shutil.move(source, part)
        elif source.is_dir():
            shutil.copytree(source, part, ignore_dangling_symlinks=True)
        else:
            shutil.copy2(source, part)
        if target.is_dir():
            sync_files(part)
            former = target.rename(part.with_suffix(".former"))
    if former is not None:
        remove(former)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    """Whether a disk is full, a quota used up, or a file as large as it may be."""
    return isinstance(error, OSError) and error.errno in (*_FULL, errno.EFBIG)


def is_exhausted(error: BaseException | None) -> bool:
    """Whether a machine or process has no room, descriptor or memory left: for now, and for no file's fault."""
    return isinstance(error, OSError) and error.errno in (*_FULL, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def cannot_write(path: Path, error: OSError) -> JournalError:
    """The error to raise where ``path`` could not be written, with the way out."""
    full = is_disk_full(error) or os.strerror(errno.ENOSPC) in str(error)
    why = error.strerror or (os.strerror(errno.ENOSPC) if full else str(error))
    if full:
        way_out = "what was logged until here is kept; make room, then resume the run"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        way_out = "let this process hold fewer files or allow it more (ulimit -n)"
    else:
        way_out = "give a folder that can be written, or change its owner or permissions"
    return JournalError(f"cannot write {path}: {why}; {way_out}")
