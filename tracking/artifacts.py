"""Put files where an artifact URI says, directly where that is a folder of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tracking.border import kind
from tracking.errors import StoreUnreachable


def local_folder(artifact_uri: str) -> Path | None:
    """The folder behind an artifact URI on this machine, None for any other."""
    if kind(artifact_uri) != "file":
        return None
    return Path(unquote(urlsplit(artifact_uri).path) if artifact_uri.startswith("file:") else artifact_uri)


def is_reachable(folder: Path, tracking_uri: str) -> bool:
    """Whether a server's artifact folder is one of this machine's: it is here, or can only be here."""
    parts = urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https") or parts.hostname in ("localhost", "127.0.0.1", "::1"):
        return True
    return any(parent.is_dir() for parent in (folder, folder.parent, folder.parent.parent))


def copy(source: Path, target: Path, *, may_link: bool) -> None:
    """Copy a file or folder, whole files at a time; ``may_link`` where the source is never written in place."""
    if source.is_dir():
        for inner in sorted(source.rglob("*")):
            if inner.is_file():
                copy(inner, target / inner.relative_to(source), may_link=may_link)
        return
    if target.exists() and target.samefile(source):
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        if not (may_link and _link(source, part)):
            shutil.copy2(source, part)
        part.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise StoreUnreachable(
            f"cannot write artifact {target}: {error.strerror or error}; make room or change its folder's permissions,"
            " then `python -m tracking sync`"
        ) from error


def _link(source: Path, target: Path) -> bool:
    """Make a second name for a file; False on another disk, or where there are no links."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True
