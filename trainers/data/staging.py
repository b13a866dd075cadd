"""A folder that appears whole or not at all: written beside its place under another name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trainers.errors import BadData, DiskFull, TrainerError

_LOCK = ".lock"


@contextlib.contextmanager
def staged(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder that becomes ``out`` when the block ends well, and is removed when it does not.

    What a killed process left is removed first. Raises BadData where ``out`` holds something already (unless
    ``overwrite``) or cannot be made, DiskFull where there is no room, TrainerError where writing fails otherwise.
    """
    out = Path(os.path.abspath(out))
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise BadData(f"{out}: not empty; give another folder, or --overwrite to replace all of it")
    if out.exists() and not out.is_dir():
        raise BadData(f"{out}: a file stands there; give a folder")
    prefix = f".{out.name}.partial-"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(out.parent, prefix)
        stage = Path(tempfile.mkdtemp(prefix=prefix, dir=out.parent))
        stage.chmod(0o777 & ~_umask())
    except OSError as error:
        raise BadData(f"{out}: cannot be written ({error.strerror}); give a folder you may write to") from error
    try:
        with open(stage / _LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield stage
            (stage / _LOCK).unlink()
            _swap(stage, out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(f"{out}: no room on the disk; nothing was left behind. Free some and start again") from error
        raise TrainerError(f"{out}: writing failed ({error.strerror}); nothing was left behind") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _swap(stage: Path, out: Path) -> None:
    if not out.exists():
        stage.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    out.rename(old / "old")
    stage.rename(out)
    shutil.rmtree(old)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove partial folders whose writer is dead: nobody holds their lock."""
    for folder in parent.iterdir():
        if not folder.name.startswith(prefix):
            continue
        with contextlib.suppress(OSError), open(folder / _LOCK, "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
