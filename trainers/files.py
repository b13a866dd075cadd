"""Writing files so that they are whole or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracking.journal import files
from tracking.journal.files import is_disk_full as is_disk_full
from trainers.errors import DiskFull


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """As ``tracking.journal.files.whole_file``; a full disk raises DiskFull."""
    try:
        with files.whole_file(path) as part:
            yield part
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"No room left to write {path}. Free some space and go on with --resume.") from error
        raise
