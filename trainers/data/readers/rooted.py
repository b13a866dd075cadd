"""Paths out of a list, held inside their root: nothing absolute, no ``..``, no link that leads out."""

from __future__ import annotations

import os
from pathlib import Path


class Root:
    """A folder that the paths of a list may not leave."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self._real = os.path.realpath(folder)
        self._inside: dict[str, bool] = {}

    def escapes(self, relative: str) -> str | None:
        """Why ``relative`` may not be followed, in a few words; None where it may."""
        if "\x00" in relative:
            return "holds a null byte"
        if os.path.isabs(relative) or relative.startswith("\\") or relative[1:3] == ":\\":
            return "is absolute"
        if ".." in relative.replace("\\", "/").split("/"):
            return "climbs with .."
        full = os.path.join(self.folder, relative)
        parent = os.path.dirname(full)
        if parent not in self._inside:
            self._inside[parent] = self._holds(os.path.realpath(parent))
        if not self._inside[parent] or (os.path.islink(full) and not self._holds(os.path.realpath(full))):
            return "is a link that leads out"
        return None

    def path(self, relative: str) -> str:
        """Where ``relative`` lies; ask ``escapes`` first."""
        return os.path.join(self.folder, relative)

    def _holds(self, real: str) -> bool:
        return real == self._real or real.startswith(self._real.rstrip(os.sep) + os.sep)
