"""The paths of a list or manifest: where they lead, and how one with no file behind it was meant."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from trainers.data.pictures.pictures import Files
from trainers.data.readers.folder import PICTURE_SUFFIXES
from trainers.errors import BadData

_MAX_PATH = 4000
_DRIVE = re.compile(r"(?:^|.*/)[A-Za-z]:/")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True)
class Meant:
    """``path`` is there; ``cause`` is a stable word for what is wrong with the one written, ``words`` say it."""

    path: str
    cause: str
    words: str


def plain(written: str) -> tuple[str, list[tuple[str, str]]]:
    """A path without quotes, drives and the like, and (cause, words) of each that was taken off."""
    path, causes = written, list[tuple[str, str]]()
    if path != path.strip():
        path = path.strip()
        causes.append(("blanks", "a blank at its beginning or end"))
    if len(path) > 2 and path[0] == path[-1] and path[0] in "\"'":
        path = path[1:-1].strip()
        causes.append(("quotes", "quotes around it"))
    if "\\" in path:
        path = path.replace("\\", "/")
        causes.append(("backslash", "Windows' separators"))
    if (scheme := _SCHEME.match(path)) is not None:
        path = path[scheme.end() :]
        causes.append(("absolute", f"an address ({scheme[0]})"))
    elif (drive := _DRIVE.match(path)) is not None:
        path = path[drive.end() :]
        causes.append(("absolute", "a Windows drive"))
    elif path.startswith("/"):
        path = path.lstrip("/")
        causes.append(("absolute", "a slash at its beginning"))
    return "/".join(part for part in path.split("/") if part not in ("", ".", "..")), causes


def meant(written: str, has: Callable[[str], bool]) -> Meant | None:
    """The path that was meant by one with no file behind it, or one that leads out; None where there is no such file.

    ``has`` says whether there is a file behind a relative path.
    """
    whole, causes = plain(written)
    spelled = {whole: ""}
    spelled.setdefault(unquote(whole), "percent signs for letters, as in a URL")
    spelled.setdefault(unicodedata.normalize("NFC", whole), "accents as Macs write them (Unicode NFD)")
    spelled.setdefault(unicodedata.normalize("NFD", whole), "accents written in one piece (Unicode NFC)")
    tries, parts = list(spelled.items()), whole.split("/")
    tries += [("/".join(parts[at:]), f"{'/'.join(parts[:at])}/ before it") for at in range(1, min(len(parts), 12))]
    tries += [(whole + end, f"no ending {end}") for low in PICTURE_SUFFIXES for end in (low, low.upper())]
    for path, words in tries:
        if path and path != written and has(path):
            said = [words for _, words in causes] + ([words] if words else [])
            return Meant(path, causes[0][0] if causes else "written", ", ".join(said) or "other separators")
    return None


def hint(found: Meant | None) -> str:
    """``; cat/1.jpg is there, the one written has Windows' separators``; empty where nothing was found."""
    return "" if found is None else f"; {found.path} is there, the path written has {found.words}"


def rooted_files(path: Path, root: Path, relative: Sequence[str]) -> Files:
    """The files a list names. BadData for a path that leaves the root and for the first that is not there."""
    inside = Root(root)
    for name in relative:
        reason = inside.escapes(name)
        if reason is not None:
            raise BadData(
                f"{path}: path {name[:200]!r} {reason}; paths must stay under {root}{hint(meant(name, inside.has))}"
            )
    files = Files([inside.path(name) for name in relative])
    first = Path(files.paths[0])
    if not first.is_file():
        found = meant(relative[0], inside.has)
        raise BadData(
            f"{path}: {first} is not there; --image-root must be the folder that its paths start from{hint(found)}"
        )
    return files


def leads_out(relative: str) -> str | None:
    """Why a path cannot be one below a root, as it is written; None where it can."""
    if "\x00" in relative:
        return "holds a null byte"
    if len(os.fsencode(relative)) > _MAX_PATH or any(len(os.fsencode(part)) > 255 for part in relative.split("/")):
        return f"is longer than a path can be ({_MAX_PATH:,} bytes, 255 a name)"
    if os.path.isabs(relative) or relative.startswith("\\") or relative[1:3] == ":\\":
        return "is absolute"
    return "climbs with .." if ".." in relative.replace("\\", "/").split("/") else None


class Root:
    """A folder that the paths of a list may not leave."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self._real = os.path.realpath(folder)
        self._inside: dict[str, bool] = {}

    def escapes(self, relative: str) -> str | None:
        """Why ``relative`` may not be followed, in a few words; None where it may."""
        reason = leads_out(relative)
        if reason is not None:
            return reason
        full = os.path.join(self.folder, relative)
        parent = os.path.dirname(full)
        if parent not in self._inside:
            self._inside[parent] = self._holds(os.path.realpath(parent))
        if not self._inside[parent] or (os.path.islink(full) and not self._holds(os.path.realpath(full))):
            return "is a link that leads out"
        return None

    def path(self, relative: str) -> str:
        """The full path of ``relative``; ask ``escapes`` first."""
        return os.path.join(self.folder, relative)

    def has(self, relative: str) -> bool:
        """Whether there is a file behind ``relative``, inside the folder."""
        return self.escapes(relative) is None and os.path.isfile(self.path(relative))

    def _holds(self, real: str) -> bool:
        return real == self._real or real.startswith(self._real.rstrip(os.sep) + os.sep)
