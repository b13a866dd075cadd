"""Writing files so that they are whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from trainers.errors import DiskFull


class whole_file:
    """``with whole_file(path) as part:`` write ``part``; on leaving it is flushed to disk and becomes ``path``.

    A full disk leaves ``path`` as it was and raises DiskFull; any error removes the part.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")

    def __enter__(self) -> Path:
        return self.part

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                with open(self.part, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(self.part, self.path)
                return
        except OSError as failure:
            error = failure
        self.part.unlink(missing_ok=True)
        if is_disk_full(error):
            raise DiskFull(f"No room left to write {self.path}. Free some space and go on with --resume.") from error
        if kind is None:
            raise error


def is_disk_full(error: BaseException) -> bool:
    """True for a full disk or an exhausted quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
