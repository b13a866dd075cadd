"""One run, looked up by its id, the beginning of it, or its name: settings, scores, data, artifacts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.board.runs import as_shares, as_written
from reports.document import text
from reports.document.document import Code, Paragraph
from reports.errors import ReportError
from reports.metrics import impossible
from reports.store import moved_away, open_store
from tracking import names
from tracking.frame import inputs, load
from tracking.frame.query import HasUri
from tracking.store import connection


@dataclass(frozen=True, kw_only=True)
class Data:
    """A split as the run logged it: ``num_images`` and ``source`` as far as they were written down."""

    context: str
    name: str
    digest: str
    num_images: int | None
    num_classes: int | None
    source: str


# One of them is on each run of this project's trainer, launchers and importers.
_TRAINED = (names.FINGERPRINT, names.STUDY, names.LAUNCHER, names.MODEL_URI)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A tracked run; ``params``, ``metrics`` and ``tags`` hold what is there, in the vocabulary's types."""

    run_id: str
    name: str
    experiment: str
    experiment_id: str
    status: str
    artifact_uri: str | None
    params: dict[str, Any]
    metrics: dict[str, float]
    tags: dict[str, str]
    impossible: tuple[tuple[str, float], ...]

    @property
    def label(self) -> str:
        """What to call it: its name, else its id."""
        return text.one_line(self.name) or text.short(self.run_id)

    @property
    def is_ours(self) -> bool:
        """Whether this project logged it, so that its commands can do something with it."""
        logged = any(tag in self.tags for tag in _TRAINED) or names.MODEL_SIZE_BYTES in self.metrics
        return logged and not self.is_own_code

    @property
    def is_own_code(self) -> bool:
        """Whether training code of the user's logged it with this package: no command here knows its settings."""
        journal = names.JOURNAL_ID in self.tags and not any(tag in self.tags for tag in _TRAINED)
        return journal or (names.NETWORK in self.params and names.FINGERPRINT not in self.tags)

    def metric(self, key: str) -> float | None:
        """A metric's value; None where it is missing or impossible."""
        value = self.metrics.get(key)
        return None if value is None or value != value or key in dict(self.impossible) else value


def find(ids: list[str], store: HasUri | str | None) -> tuple[HasUri, list[Run]]:
    """The store and the runs, in the order asked. Raises ReportError for an id that matches none or several."""
    opened = open_store(store)
    return opened, [_find(run_id, opened) for run_id in ids]


def _find(run_id: str, store: HasUri) -> Run:
    for where in connection.run_filters(run_id):
        found = load(store, filter=where)
        if len(found) > 1:
            listed = ", ".join(sorted(found["run_id"])[:5])
            raise ReportError(f"{run_id!r} matches {len(found)} runs: {listed}; give the whole id of one")
        if len(found) == 1:
            as_shares(found, store, filtered=True, narrowed=True)
            return _run(found)
    raise ReportError(
        f"no run {run_id!r} in {connection.public(store.tracking_uri)}: give an id, at least 4 characters of its"
        " beginning, or a name; `python -m reports leaderboard` lists the runs"
    )


def _run(frame: pd.DataFrame) -> Run:
    row = as_written(frame).iloc[0]

    def of(kind: str) -> dict[str, Any]:
        start = len(kind) + 1
        return {c[start:]: row[c] for c in frame.columns if c.startswith(f"{kind}.") and not text.is_missing(row[c])}

    logged = {c[8:]: float(row[c]) for c in frame.columns if c.startswith("metrics.")}
    return Run(
        run_id=str(row["run_id"]),
        name=str(row["run_name"] or ""),
        experiment=str(row["experiment"]),
        experiment_id=str(row["experiment_id"]),
        status=str(row["status"]),
        artifact_uri=row["artifact_uri"],
        params={k: v.item() if hasattr(v, "item") else v for k, v in of("params").items()},
        metrics=logged,
        tags={k: str(v) for k, v in of("tags").items()},
        impossible=tuple((metric, value) for _, metric, value in impossible(frame)),
    )


def data_of(run: Run, store: HasUri) -> list[Data]:
    """The splits the run logged as dataset inputs: train, validation, test, then the rest."""
    found = []
    for one in inputs(store, run.run_id):
        profile = _parsed(one.profile)
        num_images = profile.get("num_images", profile.get("num_rows"))
        found.append(
            Data(
                context=one.context,
                name=one.name,
                digest=one.digest,
                num_images=num_images,
                num_classes=profile.get("num_classes"),
                source=_place(one.source),
            )
        )
    order = {name: i for i, name in enumerate(names.SPLITS)}
    return sorted(found, key=lambda d: (order.get(d.context, 9), d.context, d.digest))


def _parsed(written: str | None) -> dict[str, Any]:
    try:
        value = json.loads(written or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _place(source: str) -> str:
    """Where a dataset came from, out of MLflow's JSON or as it is."""
    known = _parsed(source)
    return str(next((known[k] for k in ("uri", "path", "url", "source") if k in known), "" if known else source))


def missing_artifacts(runs: Sequence[Run], store: HasUri) -> list[Paragraph]:
    """What to say where the artifacts of runs cannot be found since the store was moved; once for all of them."""
    away = moved_away(store, [run.artifact_uri for run in runs])
    return [
        Paragraph((f"{said[0].upper()}{said[1:]} Re-point them: ", Code(command), "."), "warning")
        for said, command in away
    ]
