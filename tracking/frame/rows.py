"""Whole runs as rows of MLflow's own tables: all that a store holds of them, by SQL, through MLflow, or from files.

Some runs at a time, and of their metrics' points a part at a time, so that memory does not grow with the store.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import sqlalchemy as sa

from tracking.frame import api, files, tables
from tracking.store import schema

PART = 10_000
Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Rows by table; those of ``metrics`` are in ``points``, which is gone through once."""

    tables: dict[str, list[Row]]
    points: Iterable[list[Row]]


@contextmanager
def read(uri: str, run_ids: list[str], read_by: str) -> Iterator[Rows]:
    """Everything about these runs; ``read_by`` is how their frame was read: ``sql``, ``api`` or ``files``."""
    if read_by == "sql":
        with tables.connect(uri) as (connection, found):
            yield _by_sql(connection, found, run_ids)
    else:
        yield _by_api(uri, run_ids) if read_by == "api" else _from_files(uri, run_ids)


def _by_sql(connection: sa.Connection, found: schema.Look, run_ids: list[str]) -> Rows:
    def chosen(table: str, column: str, values: list[Any]) -> sa.Select[Any] | None:
        known = found.columns.get(table, {})
        if column not in known or not values:
            return None
        named = sa.table(table, *map(sa.column, known))
        return sa.select(named).where(named.c[column].in_(values))

    def rows(table: str, column: str, values: list[Any]) -> list[Row]:
        select = chosen(table, column, values)
        return [] if select is None else [dict(row) for row in connection.execute(select).mappings()]

    def points() -> Iterator[list[Row]]:
        select = chosen("metrics", "run_uuid", run_ids)
        assert select is not None
        result = connection.execution_options(yield_per=PART).execute(select)
        for part in result.mappings().partitions(PART):
            yield [dict(row) for row in part]

    got = {table: rows(table, "run_uuid", run_ids) for table in ("runs", "params", "tags", "latest_metrics")}
    got["inputs"] = [row for row in rows("inputs", "destination_id", run_ids) if row["destination_type"] == "RUN"]
    got["input_tags"] = rows("input_tags", "input_uuid", [row["input_uuid"] for row in got["inputs"]])
    got["datasets"] = rows("datasets", "dataset_uuid", [row["source_id"] for row in got["inputs"]])
    got["inputs"] += [
        r for r in rows("inputs", "source_id", run_ids) if r["source_type"] in ("RUN_INPUT", "RUN_OUTPUT")
    ]
    models = rows("logged_models", "source_run_id", run_ids)
    got["logged_models"] = [row for row in models if row["lifecycle_stage"] == "active"]
    ids = [row["model_id"] for row in got["logged_models"]]
    for table in ("logged_model_params", "logged_model_tags", "logged_model_metrics"):
        got[table] = rows(table, "model_id", ids)
    return Rows(got, points())


def _from_files(uri: str, run_ids: list[str]) -> Rows:
    got: dict[str, list[Row]] = defaultdict(list)
    points: list[Row] = []
    root = files.root_of(uri)
    for run_id in run_ids:
        run = files.find(root, run_id)
        if run is None:
            continue
        core = run.core
        info = {key: core[key] for key in ("status", "start_time", "end_time", "artifact_uri", "experiment_id")}
        _put_run(got, run_id, core["run_name"], run.attribute("user_id"), info)
        for kind in ("params", "tags"):
            values = ((key, run.value(kind, key)) for key in run.keys[kind])
            got[kind] += [{"run_uuid": run_id, "key": key, "value": text} for key, text in values if text is not None]
        for key in run.keys["metrics"]:
            points += [point(run_id, key, *one) for one in run.points(key)]
        for path in sorted(run.folder.glob("inputs/*/meta.yaml")):
            one = files.read_yaml(path)
            source, given = str(one.get("source_id")), one.get("tags")
            data = files.read_yaml(run.folder.parent / "datasets" / source / "meta.yaml")
            if one.get("source_type") == "MODEL":
                _put_link(got, run_id, "INPUT", source, 0)
            elif data:
                texts = [data.get(key) for key in ("name", "digest", "source_type", "source", "schema", "profile")]
                _put_dataset(got, run_id, core["experiment_id"], texts, given if isinstance(given, dict) else {})
        for path in sorted(run.folder.glob("outputs/*/meta.yaml")):
            _put_link(
                got, run_id, "OUTPUT", path.parent.name, files.whole_number(files.read_yaml(path).get("step")) or 0
            )
        for path in sorted(run.folder.parent.glob("models/*/meta.yaml")):
            meta = files.read_yaml(path)
            if meta.get("source_run_id") == run_id and meta.get("lifecycle_stage", "active") == "active":
                _put_stored_model(got, path.parent, meta)
    return Rows(got | {"latest_metrics": latest(points)}, [points])


def _put_stored_model(got: dict[str, list[Row]], folder: Path, meta: dict[str, Any]) -> None:
    known = {"model_id": str(meta.get("model_id") or folder.name), "experiment_id": meta.get("experiment_id")}
    times = [files.whole_number(meta.get(f"{key}_timestamp")) or 0 for key in ("creation", "last_updated")]
    where = files.place(meta.get("artifact_location"), folder / "artifacts") or ""
    same = {key: meta.get(key) for key in ("name", "status", "model_type", "source_run_id", "status_message")}
    _put_model(got, known, where, times, same)
    for kind in ("param", "tag"):
        for key in files.names_below(folder / f"{kind}s"):
            text = (folder / f"{kind}s" / key).read_text(encoding="utf-8", errors="replace")
            got[f"logged_model_{kind}s"].append({**known, f"{kind}_key": key, f"{kind}_value": text})
    for key in files.names_below(folder / "metrics"):
        for line in (folder / "metrics" / key).read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split()
            if len(words) in (4, 6):  # time, value, step, run; a data set's name and digest
                name, digest = words[4:] or (None, None)
                _put_model_metric(
                    got, known, key, int(words[0]), int(words[2]), float(words[1]), words[3], name, digest
                )


def _by_api(uri: str, run_ids: list[str]) -> Rows:
    got: dict[str, list[Row]] = defaultdict(list)
    keys: set[str] = set()
    with api.opened(uri) as client:
        for run in map(client.get_run, run_ids):
            info, run_id = run.info, run.info.run_id
            named = ("status", "start_time", "end_time", "artifact_uri", "experiment_id")
            _put_run(got, run_id, info.run_name, info.user_id, {key: getattr(info, key) for key in named})
            for kind in ("params", "tags"):
                texts = getattr(run.data, kind).items()
                got[kind] += [{"run_uuid": run_id, "key": key, "value": text} for key, text in texts]
            keys |= run.data.metrics.keys()
            for one in run.inputs.dataset_inputs if run.inputs else ():
                data = one.dataset
                texts = [data.name, data.digest, data.source_type, data.source, data.schema, data.profile]
                _put_dataset(got, run_id, info.experiment_id, texts, {tag.key: tag.value for tag in one.tags})
            for one in getattr(run.inputs, "model_inputs", None) or ():
                _put_link(got, run_id, "INPUT", one.model_id, 0)
            for one in run.outputs.model_outputs if run.outputs else ():
                _put_link(got, run_id, "OUTPUT", one.model_id, one.step)
                model = client.get_logged_model(one.model_id)
                known = {"model_id": model.model_id, "experiment_id": model.experiment_id}
                same = {key: getattr(model, key) for key in ("name", "model_type", "source_run_id", "status_message")}
                times = [model.creation_timestamp, model.last_updated_timestamp]
                same["status"] = model.status.to_int()
                _put_model(got, known, model.artifact_location, times, same)
                for kind, texts in (("param", model.params), ("tag", model.tags)):
                    rows = [{**known, f"{kind}_key": key, f"{kind}_value": text} for key, text in texts.items()]
                    got[f"logged_model_{kind}s"] += rows
                for m in model.metrics or ():
                    score = (m.key, m.timestamp, m.step, m.value, m.run_id, m.dataset_name, m.dataset_digest)
                    _put_model_metric(got, known, *score)
    points = [point(*one[:3], one[3], one[4]) for one in api.histories(uri, run_ids, sorted(keys))]
    return Rows(got | {"latest_metrics": latest(points)}, [points])


def _put_run(got: dict[str, list[Row]], run_id: str, name: str | None, user: str | None, info: Row) -> None:
    got["runs"].append({"run_uuid": run_id, "name": name, "user_id": user, "lifecycle_stage": "active", **info})


def _put_dataset(
    got: dict[str, list[Row]], run_id: str, experiment_id: str, texts: list[Any], tags: dict[str, str]
) -> None:
    name, digest, source_type, source, schema_, profile = texts
    # No reader but SQL has the ids of these rows; the same ones are found each time.
    data_id = uuid5(NAMESPACE_URL, f"{experiment_id}\n{name}\n{digest}").hex
    input_id = uuid5(NAMESPACE_URL, f"{run_id}\n{data_id}").hex
    row = {"dataset_uuid": data_id, "experiment_id": experiment_id, "name": name, "digest": digest}
    kept = {"dataset_source_type": source_type, "dataset_source": source, "dataset_schema": schema_}
    got["datasets"].append({**row, **kept, "dataset_profile": profile})
    link = {"source_type": "DATASET", "source_id": data_id, "destination_type": "RUN", "destination_id": run_id}
    got["inputs"].append({"input_uuid": input_id, **link, "step": 0})
    got["input_tags"] += [{"input_uuid": input_id, "name": key, "value": str(value)} for key, value in tags.items()]


def _put_link(got: dict[str, list[Row]], run_id: str, way: str, model_id: str, step: int) -> None:
    """A model that a run took (``INPUT``) or made (``OUTPUT``)."""
    input_id = uuid5(NAMESPACE_URL, f"{run_id}\n{way}\n{model_id}").hex
    ends = {"source_id": run_id, "destination_id": model_id, "step": step}
    types = {"source_type": f"RUN_{way}", "destination_type": f"MODEL_{way}"}
    got["inputs"].append({"input_uuid": input_id, **ends, **types})


def _put_model(got: dict[str, list[Row]], known: Row, where: str, times: list[int], same: Row) -> None:
    created = {"creation_timestamp_ms": times[0], "last_updated_timestamp_ms": times[1]}
    got["logged_models"].append({**known, "artifact_location": where, **created, **same, "lifecycle_stage": "active"})


def _put_model_metric(
    got: dict[str, list[Row]],
    known: Row,
    key: str,
    time_ms: int,
    step: int,
    value: float,
    run_id: str,
    name: str | None,
    digest: str | None,
) -> None:
    at = {"metric_name": key, "metric_timestamp_ms": time_ms, "metric_step": step}
    data = {"dataset_uuid": None, "dataset_name": name, "dataset_digest": digest}
    got["logged_model_metrics"].append({**known, **at, "metric_value": value, "run_id": run_id, **data})


def point(run_id: str, key: str, step: int, time_ms: int, value: float) -> Row:
    """A row of ``metrics``: a database has neither NaN nor infinity."""
    largest = sys.float_info.max
    is_nan = value != value
    value = 0.0 if is_nan else min(max(value, -largest), largest)
    return {"run_uuid": run_id, "key": key, "step": step, "timestamp": time_ms, "value": value, "is_nan": is_nan}


def latest(points: Iterable[Row]) -> list[Row]:
    """The rows of ``latest_metrics``: of each metric the point that MLflow takes for its newest."""
    found: dict[tuple[str, str], Row] = {}
    for row in points:
        key = (row["run_uuid"], row["key"])
        known = found.get(key)
        order = ("step", "timestamp", "value")
        if known is None or [row[name] for name in order] > [known[name] for name in order]:
            found[key] = row
    return list(found.values())
