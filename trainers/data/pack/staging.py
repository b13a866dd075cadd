"""A folder that appears whole or not at all: written beside its place under another name, then renamed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trainers.errors import BadData, DiskFull, TrainerError

_log = logging.getLogger(__name__)
_LOCK, _FORMER = ".lock", "former"


@contextlib.contextmanager
def staged(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder that becomes ``out`` when the block ends well, and is removed when it does not.

    Whatever kills the process, ``out`` is there with its former or its new content; on a file system that cannot
    exchange two names, at the latest after ``clear_abandoned``. Raises BadData where ``out`` holds something already
    (unless ``overwrite``) or cannot be made, DiskFull where there is no room, TrainerError where writing fails
    otherwise.
    """
    out = Path(os.path.abspath(out))
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise BadData(f"{out}: not empty; give another folder, or --overwrite to replace all of it")
    if out.exists() and not out.is_dir():
        raise BadData(f"{out}: a file stands there; give a folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=_prefix(out), dir=out.parent))
        stage = place / "new"
        stage.mkdir()
    except OSError as error:
        raise BadData(f"{out}: cannot be written ({error.strerror}); give a folder you may write to") from error
    try:
        with open(place / _LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield stage
            _swap(stage, out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(f"{out}: no room on the disk; nothing was left behind. Free some and start again") from error
        raise TrainerError(f"{out}: writing failed ({error.strerror}); nothing was left behind") from error
    finally:
        _put_back(place, out)
        shutil.rmtree(place, ignore_errors=True)


def clear_abandoned(out: Path) -> None:
    """Remove what dead writers of ``out`` left: nobody holds their lock. What they had moved aside is put back."""
    out = Path(os.path.abspath(out))
    for place in out.parent.glob(f"{glob.escape(_prefix(out))}*"):
        with contextlib.suppress(OSError), open(place / _LOCK, "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _put_back(place, out):
                _log.warning("%s: put back; a process that was replacing it was killed.", out)
            shutil.rmtree(place)


def _swap(stage: Path, out: Path) -> None:
    if not out.exists():
        stage.rename(out)
    elif not _exchange(stage, out):
        out.rename(stage.with_name(_FORMER))
        stage.rename(out)


def _put_back(place: Path, out: Path) -> bool:
    """Give ``out`` its former content where nothing has taken its place; whether that was so."""
    former = place / _FORMER
    if out.exists() or not former.exists():
        return False
    former.rename(out)
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once, so that neither is ever missing; False where system or file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def _prefix(out: Path) -> str:
    return f".{out.name}.partial-"
