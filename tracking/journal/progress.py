"""How far a journal has been brought into a store: the file ``replay.json`` beside its events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracking.errors.redaction import public
from tracking.journal.events import Position, checksum, read

STATE_FILE = "replay.json"


@dataclass
class Progress:
    """How far one store has a journal."""

    run_id: str | None = None
    experiment_id: str | None = None
    position: Position = Position()
    status: str | None = None


def progress(directory: Path, public_uri: str) -> Progress:
    """The entry of ``replay.json`` for the store of this address (without password)."""
    return all_progress(directory).get(public_uri, Progress())


def all_progress(directory: Path) -> dict[str, Progress]:
    directory = Path(directory)
    try:
        known = json.loads((directory / STATE_FILE).read_text())["stores"]
        # Former versions left parts of some passwords in.
        return {public(uri): _believed(directory, p) for uri, p in known.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # It is only a shortcut: without it the run is found by its tag and everything is compared again.
        return {}


def _believed(directory: Path, entry: dict[str, Any]) -> Progress:
    """One store's entry, as far as the journal is still the one that it was written for."""
    segment, offset, known = entry["segment"], entry["offset"], Progress(entry["run_id"], entry["experiment_id"])
    if type(segment) is not int or type(offset) is not int or not isinstance(known.run_id, str | None):
        raise TypeError(STATE_FILE)
    position = Position(segment, offset)
    found = checksum(directory, position)
    if found is not None and entry.get("checksum", found) == found:
        known.position, known.status = position, entry["status"]
    return known


def replayed_as(directory: Path, public_uri: str) -> str | None:
    """The MLflow run a journal became in this store, None before it has."""
    return progress(directory, public_uri).run_id


def is_done(directory: Path, public_uri: str) -> bool:
    """Whether this store has all that the journal holds now, as far as ``replay.json`` knows."""
    return _is_all(directory, progress(directory, public_uri))


def is_elsewhere(directory: Path, public_uri: str) -> bool:
    """Whether this store has nothing of the journal and another has all of a run that has ended."""
    known = all_progress(directory)
    return public_uri not in known and any(
        p.status not in (None, "RUNNING") and _is_all(directory, p) for p in known.values()
    )


def _is_all(directory: Path, known: Progress) -> bool:
    return known.run_id is not None and next(read(directory, known.position), None) is None
