"""Opening the store that a report is about, and reading names of classes and predictions from it."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tracking.errors import StoreError, TrackingError
from tracking.frame import models
from tracking.frame.query import HasUri
from tracking.models.facts import META
from tracking.store import connection
from tracking.store.artifacts import fetch
from tracking.store.moved import whys_missing
from tracking.store.predictions import Predictions, load

# What reading a run's predictions may raise.
UNREADABLE = (TrackingError, OSError, ValueError, KeyError)


@dataclass(frozen=True)
class Uri:
    """A bare tracking URI where a store is expected."""

    tracking_uri: str


def open_store(store: HasUri | str | None) -> HasUri:
    """The store given, the one at a tracking URI, or the one this directory resolves to."""
    if store is None:
        from tracking.store import resolve

        return resolve()
    return Uri(store) if isinstance(store, str) else store


def export_lines(store: HasUri) -> list[str]:
    """The shell line that points other commands at a store given by its URI; none for the default store."""
    if not isinstance(store, Uri):
        return []
    return [f"export MLFLOW_TRACKING_URI={shlex.quote(connection.public(store.tracking_uri))}"]


def moved_away(store: HasUri, locations: Iterable[str | None]) -> list[tuple[str, str]]:
    """Why artifacts at these places cannot be found, each with the command that re-points them: the store was moved."""
    command = " && ".join([*export_lines(store), "python -m tracking relocate"])
    return [(f"artifacts are missing: {why}.", command) for why in whys_missing(store.tracking_uri, locations)]


def class_names(store: HasUri, run_id: str, artifact_uri: str | None, num_classes: int) -> list[str]:
    """The names of the classes from the run's model, which is an artifact or MLflow's own; else their numbers."""
    uri = store.tracking_uri
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = fetch(uri, artifact_uri, f"model/{META}", Path(folder))
            for _, location in models(store, run_id)[-1:] if path is None else []:
                path = fetch(uri, location, META, Path(folder))
            found = json.loads(path.read_text(encoding="utf-8")).get("class_names", []) if path is not None else []
        except (OSError, ValueError, StoreError):
            found = []
    return [str(c) for c in found] if len(found) >= num_classes else [str(i) for i in range(num_classes)]


def predictions(uri: str, artifact_uri: str | None, split: str = "test") -> Predictions | None:
    """A run's predictions; None where it logged none, or they cannot be read: one bad file never ends a page."""
    try:
        return load(uri, artifact_uri, split)
    except UNREADABLE:
        return None
