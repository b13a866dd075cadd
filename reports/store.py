"""Opening the store that a report is about."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tracking.frame.query import HasUri
from tracking.store import connection


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
