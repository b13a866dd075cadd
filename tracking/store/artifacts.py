"""Artifacts of a run: fetch one, or put files where an artifact URI says, directly where that is a local folder."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tracking.errors import StoreError, StoreUnreachable
from tracking.journal.files import is_disk_full, is_exhausted, whole_file
from tracking.store.connection import kind, public, translated


def local_folder(artifact_uri: str) -> Path | None:
    """The folder behind an artifact URI on this machine, None for any other."""
    if kind(artifact_uri) != "file":
        return None
    return Path(unquote(urlsplit(artifact_uri).path) if artifact_uri.startswith("file:") else artifact_uri)


def fetch(tracking_uri: str, artifact_uri: str | None, name: str, folder: Path) -> Path | None:
    """Where the artifact ``name`` can be read, a file or a folder; None where there is none. ``""`` is all of them.

    In place where the artifacts are in a folder of this machine, else downloaded into ``folder``, without asking the
    tracking store about the run. Raises StoreError.
    """
    if artifact_uri is None:
        return None
    root = local_folder(artifact_uri)
    if root is not None:
        return root / name if (root / name).exists() else None
    from mlflow.artifacts import download_artifacts, list_artifacts
    from mlflow.exceptions import MlflowException

    uri = f"{artifact_uri.rstrip('/')}/{name}".rstrip("/")
    try:
        with translated(tracking_uri):
            found = list_artifacts(artifact_uri=uri.rpartition("/")[0] if name else uri, tracking_uri=tracking_uri)
            if uri.rpartition("/")[2] not in [item.path.rpartition("/")[2] for item in found] if name else not found:
                return None
            folder.mkdir(parents=True, exist_ok=True)
            return Path(download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=tracking_uri))
    except (MlflowException, OSError) as error:
        raise StoreError(f"cannot fetch {uri}: {error}") from error


def check_arrived(source: Path, artifact_uri: str, tracking_uri: str) -> None:
    """StoreUnreachable where a server has not all of ``source``, a file or a folder's files, sent to ``artifact_uri``.

    MLflow's client takes every answer of status 200 for success, a proxy's login page too.
    """
    if kind(artifact_uri) not in ("http", "https", "mlflow-artifacts"):
        return
    from mlflow.artifacts import list_artifacts

    top = source.parent if source.is_file() else source
    folders: dict[Path, list[Path]] = {}
    for path in [source] if source.is_file() else source.rglob("*"):
        if path.is_file():
            folders.setdefault(path.parent.relative_to(top), []).append(path)
    for folder, files in folders.items():
        where = "/".join([artifact_uri.rstrip("/"), *folder.parts])
        found = list_artifacts(artifact_uri=where, tracking_uri=tracking_uri)
        sizes = {item.path.rpartition("/")[2]: item.file_size for item in found}
        for path in files:
            if path.name not in sizes or sizes[path.name] not in (path.stat().st_size, None):
                raise StoreUnreachable(f"{public(where)}/{path.name} was sent and is not there as it was sent")


def is_reachable(folder: Path, tracking_uri: str) -> bool:
    """Whether a server's artifact folder is one of this machine's: it is here, or can only be here."""
    parts = urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https") or parts.hostname in ("localhost", "127.0.0.1", "::1"):
        return True
    return any(parent.is_dir() for parent in (folder, folder.parent, folder.parent.parent))


@contextmanager
def readable(source: Path, root: Path) -> Iterator[tuple[Path | None, list[str]]]:
    """What of a file or folder may be uploaded: the ordinary files under ``root``; and what not, in words.

    Yields ``source`` itself where all of it may, else a copy that lives as long as the block; None where nothing may.
    """
    away: list[OSError] = []
    files = [source]
    if source.is_dir() and not _leads_out(source, root):
        inside = [
            Path(folder) / name
            for folder, folders, names in os.walk(source, onerror=away.append)
            for name in (*folders, *names)
        ]
        for error in filter(is_exhausted, away):
            raise error
        # Links to folders are not followed; what they point at is found at its own place.
        files = sorted(path for path in inside if path.is_symlink() or not path.is_dir())
    faults = {path: fault for path in files if (fault := _fault(path, root)) is not None}
    left_out = [f"{path.relative_to(root.parent)} {fault}" for path, fault in faults.items()]
    left_out += [f"{Path(error.filename).relative_to(root.parent)} cannot be read: {error.strerror}" for error in away]
    is_shared = root.parent.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not faults and not is_shared:
        yield source, left_out
    elif len(faults) == len(files):
        yield None, left_out
    else:
        with tempfile.TemporaryDirectory() as scratch:
            whole = Path(scratch) / source.name
            for path in files:
                if path not in faults:
                    _take(path, whole / path.relative_to(source), root)
            yield whole, left_out


def _take(path: Path, target: Path, root: Path) -> None:
    """Copy a file of a folder that others may write to. OSError where what was opened is none of the folder's: they
    may have put a link in its place since it was looked at."""
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as stream:
        opened = Path(f"/proc/self/fd/{stream.fileno()}")
        is_file = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
        if not is_file or _leads_out(opened if opened.exists() else path, root):
            raise OSError(errno.ELOOP, "is a link that leads elsewhere", str(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            shutil.copyfileobj(stream, out)


def _leads_out(path: Path, root: Path) -> bool:
    return not path.resolve(strict=True).is_relative_to(root.parent.resolve() / root.name)


def _fault(path: Path, root: Path) -> str | None:
    try:
        if _leads_out(path, root):
            return f"is a link that leads out of {root}"
        if not path.is_file():
            return "is a link to a folder" if path.is_dir() else "is not an ordinary file"
        with path.open("rb") as stream:
            stream.read(1)
    except FileNotFoundError:
        return f"is gone from {root.parent}"
    except OSError as error:
        if is_exhausted(error):
            raise
        return f"cannot be read: {error.strerror}"
    except RuntimeError:  # as Python 3.10 to 3.12 say it
        return "is a link to itself"
    return None


def copy(source: Path, target: Path, *, may_link: bool) -> None:
    """Copy a file or folder, whole files at a time; ``may_link`` where the source is never written in place.

    All of it is on the disk itself when the call returns. Raises StoreError where the target cannot be written, OSError
    where the source cannot be read.
    """
    if source.is_dir():
        for inner in sorted(source.rglob("*")):
            if inner.is_file():
                copy(inner, target / inner.relative_to(source), may_link=may_link)
        return
    try:
        if target.exists() and target.samefile(source):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_parts(target)
        with whole_file(target, shared=True) as part:
            part.unlink(missing_ok=True)
            if not (may_link and _link(source, part)):
                shutil.copy2(source, part)
    except OSError as error:
        _read_through(source)
        # A full disk is full for every run, a folder's permissions are its own.
        raise (StoreUnreachable if is_disk_full(error) or is_exhausted(error) else StoreError)(
            f"cannot write artifact {target}: {error.strerror or error}; make room or change its folder's permissions,"
            " then `python -m tracking sync`"
        ) from error


def _remove_parts(target: Path) -> None:
    """Remove what programs that were stopped while they wrote this file have left: it would pass for an artifact."""
    start = f".{target.name[:100]}."
    for name in os.listdir(target.parent):
        pid = name[len(start) : -len(".part")]
        if name.startswith(start) and name.endswith(".part") and pid.isdecimal():
            try:
                os.kill(int(pid), 0)
            except (ProcessLookupError, OverflowError):
                target.with_name(name).unlink(missing_ok=True)
            except PermissionError:  # another user's process
                continue


def _read_through(path: Path) -> None:
    with path.open("rb") as stream:
        while stream.read(2**20):
            pass


def _link(source: Path, target: Path) -> bool:
    """Make a second name for a file; False on another disk, or where there are no links."""
    if source.is_symlink():  # it is the link that would get another name
        return False
    try:
        os.link(source, target)
    except OSError:
        return False
    return True
