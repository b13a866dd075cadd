"""Stores that were copied or renamed: artifact locations that still name the old place, and where the files are now.

A location is MLflow's text, an absolute path or ``file:`` URI. It was moved when it is not below the store's folder and
the end of its path is: ``/old/mlruns/artifacts/exp/RUN`` and ``/new/mlruns/artifacts/exp/RUN``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tracking.errors import StoreError
from tracking.store import readonly
from tracking.store.artifacts import local_folder
from tracking.store.readonly import sqlite_path

# Where a database has locations, with the key of the row.
COLUMNS = (
    ("experiments", "artifact_location", ("experiment_id",)),
    ("runs", "artifact_uri", ("run_uuid",)),
    ("logged_models", "artifact_location", ("model_id",)),
    ("model_versions", "source", ("name", "version")),
    ("model_versions", "storage_location", ("name", "version")),
)
WAY_OUT = "`python -m tracking relocate` shows what would change, and re-points it with --yes"


@dataclass(frozen=True)
class Move:
    """A folder of artifacts that was ``old`` and is ``new`` now."""

    old: Path
    new: Path

    def of(self, location: str) -> str | None:
        """The location in the new place, written as it was; None where it is not below the old one."""
        folder = _folder(location)
        if folder is None or not folder.is_relative_to(self.old):
            return None
        moved = self.new / folder.relative_to(self.old)
        return moved.as_uri() if location.lower().startswith("file:") else str(moved)


def move_of(tracking_uri: str, location: str | None) -> Move | None:
    """How a location was moved; None where it was not, or that cannot be known."""
    folder, path = _folder(location), sqlite_path(tracking_uri)
    home = Path.cwd() / "mlruns" if path is None else path.absolute().parent
    if folder is None or tracking_uri.startswith("http"):
        return None
    homes = {home, home.resolve()}
    if any(folder.is_relative_to(one) or folder.resolve().is_relative_to(one) for one in homes):
        return None
    # An experiment's folder in a shared database may have a namesake here; a run's id has none.
    shortest = 2 if path is not None else 3
    for start in range(1, len(folder.parts) - shortest + 1):
        for place in (home, home.parent):
            found = place.joinpath(*folder.parts[start:])
            if found.is_dir() and not (folder.is_dir() and folder.samefile(found)):
                return Move(Path(*folder.parts[: start + 1]), place / folder.parts[start])
    root = folder.parent
    if path is not None and root.name == "artifacts" and not root.parent.exists():  # as `Store` lays them out
        return Move(root, home / "artifacts")
    return None


def check(tracking_uri: str, location: str | None) -> None:
    """Raise StoreError where a location is the old place of a store that was moved: nothing is to be written there."""
    if (move := move_of(tracking_uri, location)) is not None:
        raise StoreError(sentence(move))


def check_experiment(path: Path, name: str) -> None:
    """``check`` for an experiment in an sqlite store."""
    with closing(readonly.connect(path)) as connection:
        row = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (name,)).fetchone()
    if row is not None:
        check(f"sqlite:///{path}", row[0])


def sentence(move: Move) -> str:
    """What to say of a store that was moved, and what to do."""
    return f"{fault(move)}; {WAY_OUT}"


def fault(move: Move) -> str:
    """What to say of a store that was moved."""
    gone = "" if move.old.is_dir() else ", which is gone"
    return (
        f"this store was moved or copied: its artifacts are recorded in {move.old}{gone}, and belong in {move.new} now"
    )


def why_missing(tracking_uri: str, location: str | None) -> str:
    """Why a run's artifacts cannot be found; empty where they can be, or the run may have none."""
    folder = _folder(location)
    if folder is None or folder.is_dir():
        return ""
    move = move_of(tracking_uri, location)
    return "" if move is None else sentence(move)


def whys_missing(tracking_uri: str, locations: Iterable[str | None]) -> list[str]:
    """Why the artifacts of these runs cannot be found, as ``why_missing`` without what to do: one for each move."""
    away = [one for one in locations if (folder := _folder(one)) is not None and not folder.is_dir()]
    return [fault(move) for move in moves(tracking_uri, filter(None, away))]


def leads_nowhere(location: str, home: Path) -> bool:
    """Whether a location is a folder of this machine that is not there, outside of ``home``."""
    folder = _folder(location)
    return folder is not None and not folder.exists() and not folder.is_relative_to(home)


def moves(tracking_uri: str, locations: Iterable[str]) -> list[Move]:
    """Every move among these locations."""
    found: list[Move] = []
    for location in locations:
        if not any(move.of(location) for move in found) and (move := move_of(tracking_uri, location)) is not None:
            found.append(move)
    return found


def target(location: str, found: Iterable[Move]) -> str | None:
    """Where a location is to point; None where it is to stay: never from files that are there to none."""
    for move in found:
        if (there := move.of(location)) is not None:
            is_left = (_folder(location) or Path()).exists() and not (_folder(there) or Path()).exists()
            return None if is_left else there
    return None


def _folder(location: str | None) -> Path | None:
    if not location:
        return None
    if re.match(r"[A-Za-z]:\\", location):  # a store that was made on Windows
        return Path("/" + location.replace("\\", "/"))
    folder = local_folder(location)
    return folder if folder is not None and folder.is_absolute() else None
