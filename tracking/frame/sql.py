"""Read runs with plain SQL, read-only, from MLflow's own tables in SQLite or PostgreSQL.

Ten to thirty times faster than MLflow's API, which builds an object for every value. Raises StoreError where there is
no store that can be read, ``Unsuitable`` where only MLflow itself can answer.
"""

from __future__ import annotations

import math
from typing import Any

import sqlalchemy as sa

from tracking.frame.filter import Condition, parse
from tracking.frame.query import CONTEXT, Cells, Input, Query, experiment_error
from tracking.frame.tables import (
    DATASETS,
    EXPERIMENTS,
    INPUT_TAGS,
    INPUTS,
    LATEST,
    METRICS,
    MODELS,
    PARAMS,
    RUNS,
    TAGS,
    Unsuitable,
    connect,
    has,
)
from tracking.store import schema

_FETCH = 5000
# SQLite joins 64 tables at most.
_WIDTH = 60
_CORE = ("run_id", "run_name", "experiment_id", "status", "start_time", "end_time", "artifact_uri")
# Represents NaN in query results: MLflow never stores an infinity.
_NAN = math.inf


def read(uri: str, query: Query) -> Cells:
    """The runs asked for. Raises Unsuitable where MLflow itself has to be asked."""
    conditions = parse(query.filter)
    if conditions is None:
        raise Unsuitable(f"the filter {query.filter!r} is left to MLflow")
    is_about_datasets = any(condition.kind == "datasets" for condition in conditions)
    with connect(uri) as (connection, found):
        experiments = _experiments(connection, query)
        has_inputs = (query.wants("datasets") != () or is_about_datasets) and has(found, schema.INPUTS)
        if not has_inputs and is_about_datasets:
            experiments = {}  # no run has one that could match
        chosen = _chosen(query, sorted(experiments), [c for c in conditions if has_inputs or c.kind != "datasets"])
        cells = _cells(connection, query, chosen)
        cells.core["experiment"] = [experiments[int(e)] for e in cells.core["experiment_id"]]
        if has_inputs:
            _digests(connection, query, chosen, cells)
        _names_from_tags(connection, cells)
        return cells


def _experiments(connection: sa.Connection, query: Query) -> dict[int, str]:
    """Id -> name of the active experiments asked for."""
    active = EXPERIMENTS.c.lifecycle_stage == "active"
    rows = connection.execute(sa.select(EXPERIMENTS.c.experiment_id, EXPERIMENTS.c.name).where(active)).all()
    known = {int(row[0]): str(row[1]) for row in rows}
    if query.experiments is None:
        return known
    chosen = {i: name for i, name in known.items() if str(i) in query.experiments or name in query.experiments}
    unknown = [e for e in query.experiments if e not in map(str, chosen) and e not in chosen.values()]
    if unknown:
        raise experiment_error(unknown, known.values())
    return chosen


def _chosen(query: Query, experiment_ids: list[int], conditions: list[Condition]) -> sa.Select[Any]:
    """The runs that match, in MLflow's order, cut to the limit: a select of ``runs`` with its core columns."""
    run = RUNS.c
    chosen = sa.select(
        run.run_uuid, run.name, run.experiment_id, run.status, run.start_time, run.end_time, run.artifact_uri
    ).where(run.experiment_id.in_(experiment_ids), run.lifecycle_stage == "active", *map(_clause, conditions))
    if query.limit is None and not query.order_by:
        return chosen.order_by(run.run_uuid)
    order: list[sa.ColumnElement[Any]] = []
    if query.order_by:
        kind, _, key = query.order_by.partition(".")
        if not key:
            column: sa.ColumnElement[Any] = run[{"run_id": "run_uuid", "run_name": "name"}.get(kind, kind)]
            order.append(sa.case((column.is_(None), 1), else_=0))
        else:
            values = {"metrics": LATEST, "params": PARAMS, "tags": TAGS}[kind].alias("ordering")
            chosen = chosen.outerjoin_from(
                RUNS, values, sa.and_(values.c.run_uuid == run.run_uuid, values.c.key == key)
            )
            column = values.c.value
            missing = [(values.c.is_nan == sa.true(), 1)] if kind == "metrics" else []
            order.append(sa.case(*missing, (column.is_(None), 2), else_=0))
        order.append(column.desc() if query.descending else column)
    if query.order_by != "start_time":
        order.append(run.start_time.desc())
    chosen = chosen.order_by(*order, run.run_uuid)
    return chosen if query.limit is None else chosen.limit(query.limit)


def _clause(condition: Condition) -> sa.ColumnElement[bool]:
    """A condition as SQL, with MLflow's meaning: a run without the key matches nothing but ``IS NULL``."""
    run = RUNS.c
    if condition.kind == "attributes" and condition.key != "run_name":
        column = run.run_uuid if condition.key == "run_id" else run[condition.key]
        return _compare(column, condition)
    if condition.kind == "datasets":
        which = sa.select(INPUTS.c.destination_id).join(DATASETS, INPUTS.c.source_id == DATASETS.c.dataset_uuid)
        if condition.key == "context":
            tag = sa.and_(INPUT_TAGS.c.input_uuid == INPUTS.c.input_uuid, INPUT_TAGS.c.name == CONTEXT)
            return run.run_uuid.in_(which.join(INPUT_TAGS, tag).where(_compare(INPUT_TAGS.c.value, condition)))
        return run.run_uuid.in_(which.where(_compare(DATASETS.c[condition.key], condition)))
    table = {"metrics": LATEST, "params": PARAMS}.get(condition.kind, TAGS)
    # MLflow compares a run's name by its tag, since old runs have it only there.
    key = "mlflow.runName" if condition.kind == "attributes" else condition.key
    having = sa.select(table.c.run_uuid).where(table.c.key == key)
    if condition.operator == "IS NULL":
        return run.run_uuid.not_in(having)
    if condition.operator == "IS NOT NULL":
        return run.run_uuid.in_(having)
    match = _compare(table.c.value, condition)
    if condition.kind == "metrics":
        # NaN is stored as 0 with a flag; every comparison with it is false but "!=".
        is_nan = table.c.is_nan == sa.true()
        match = sa.or_(match, is_nan) if condition.operator == "!=" else sa.and_(match, ~is_nan)
    return run.run_uuid.in_(having.where(match))


def _compare(column: sa.ColumnElement[Any], condition: Condition) -> sa.ColumnElement[bool]:
    value = condition.value
    if isinstance(value, tuple):
        return column.in_(value) if condition.operator == "IN" else column.not_in(value)
    if condition.operator == "LIKE":
        return column.like(value)
    if condition.operator == "ILIKE":
        return column.ilike(value)
    result: sa.ColumnElement[bool] = column.op(condition.operator, is_comparison=True)(value)
    return result


def _columns(connection: sa.Connection, query: Query) -> list[tuple[str, sa.Table, str]]:
    """``(column, table, key)`` of every column wanted whose key is anywhere in the store."""
    found: list[tuple[str, sa.Table, str]] = []
    for kind, table in (("params", PARAMS), ("metrics", LATEST), ("tags", TAGS)):
        wanted = query.wants(kind)
        for key in _keys(connection, table) if wanted != () else ():
            if key in wanted if wanted is not None else not (kind == "metrics" and key.startswith("system/")):
                found.append((f"{kind}.{key}", table, key))
    return found


def _keys(connection: sa.Connection, table: sa.Table) -> list[str]:
    """The distinct keys of a table, hopping from one to the next through its index instead of reading all of it."""
    first = sa.select(sa.func.min(table.c.key).label("key")).cte("hop", recursive=True)
    after = sa.select(sa.func.min(table.c.key)).where(table.c.key > first.c.key).scalar_subquery()
    hop = first.union_all(sa.select(after).where(first.c.key.is_not(None)))
    return [str(key) for key in connection.execute(sa.select(hop.c.key)).scalars() if key is not None]


def _cells(connection: sa.Connection, query: Query, chosen: sa.Select[Any]) -> Cells:
    """The core of the runs chosen, in their order, and the columns wanted of them."""
    rows: list[Any] = list(connection.execute(chosen).all())
    core = {name: [row[i] for row in rows] for i, name in enumerate(_CORE)}
    core["run_name"] = [name or None for name in core["run_name"]]
    core["experiment_id"] = [str(e) for e in core["experiment_id"]]
    cells = Cells(len(rows), core)
    if rows:
        row_of = {run_id: row for row, run_id in enumerate(core["run_id"])}
        columns = _columns(connection, query)
        for at in range(0, len(columns), _WIDTH):
            _fill(connection, chosen, columns[at : at + _WIDTH], row_of, cells)
    return cells


def _fill(
    connection: sa.Connection,
    chosen: sa.Select[Any],
    columns: list[tuple[str, sa.Table, str]],
    row_of: dict[str, int],
    cells: Cells,
) -> None:
    """Join a run's values to it, a column each, for as many columns as a database joins in one statement."""
    runs = chosen.subquery("chosen")
    joined: sa.FromClause = runs
    wanted: list[sa.ColumnElement[Any]] = [runs.c.run_uuid]
    for number, (_, table, key) in enumerate(columns):
        one = table.alias(f"value_{number}")
        joined = joined.outerjoin(one, sa.and_(one.c.key == key, one.c.run_uuid == runs.c.run_uuid))
        value: sa.ColumnElement[Any] = one.c.value
        if table is LATEST:
            value = sa.case((one.c.is_nan == sa.true(), sa.literal(_NAN, sa.Float())), else_=value)
        wanted.append(value)
    # In the order of the other tables' keys, so that looking the values up walks through them once.
    select: sa.Select[Any] = sa.select(*wanted).select_from(joined).order_by(runs.c.run_uuid)
    order: list[int] = []
    lists: list[list[Any]] = [[] for _ in columns]
    same: dict[Any, Any] = {}
    for part in connection.execute(select).partitions(_FETCH):
        ids, *transposed = zip(*part, strict=True)
        order += [row_of[run_id] for run_id in ids]
        for (_, table, _), target, values in zip(columns, lists, transposed, strict=True):
            # One object for equal texts: a parameter has few of them, a store has many runs.
            target.extend(values if table is LATEST else [same.setdefault(v, v) for v in values])
    as_asked = order == list(range(cells.num_runs))
    for (name, table, _), found in zip(columns, lists, strict=True):
        if found.count(None) == len(found):
            continue
        if table is LATEST and _NAN in found:
            found = [math.nan if v == _NAN else v for v in found]
        if not as_asked:
            placed = [None] * cells.num_runs
            for row, v in zip(order, found, strict=True):
                placed[row] = v
            found = placed
        cells.wide[name] = found


def _digests(connection: sa.Connection, query: Query, chosen: sa.Select[Any], cells: Cells) -> None:
    contexts = query.wants("datasets")
    if contexts == () or not cells.num_runs:
        return
    wanted = (
        sa.select(INPUTS.c.destination_id, INPUT_TAGS.c.value, DATASETS.c.digest)
        .join(DATASETS, INPUTS.c.source_id == DATASETS.c.dataset_uuid)
        .join(INPUT_TAGS, INPUT_TAGS.c.input_uuid == INPUTS.c.input_uuid)
        .where(INPUTS.c.destination_type == "RUN", INPUT_TAGS.c.name == CONTEXT)
    )
    if contexts is not None:
        wanted = wanted.where(INPUT_TAGS.c.value.in_(contexts))
    if query.filter or query.limit is not None or query.experiments is not None:
        wanted = wanted.where(INPUTS.c.destination_id.in_(sa.select(chosen.subquery().c.run_uuid)))
    row_of = {run_id: row for row, run_id in enumerate(cells.core["run_id"])}
    digests: dict[tuple[int, str], set[str]] = {}
    for run_id, context, digest in connection.execute(wanted):
        row = row_of.get(run_id)
        if row is not None:
            digests.setdefault((row, context), set()).add(digest)
    for (row, context), found in digests.items():
        cells.put(row, f"datasets.{context}", " ".join(sorted(found)))


def _names_from_tags(connection: sa.Connection, cells: Cells) -> None:
    """Runs of MLflow 1 have their name in a tag only."""
    names = cells.core["run_name"]
    nameless = {run_id: row for row, run_id in enumerate(cells.core["run_id"]) if names[row] is None}
    if nameless:
        wanted = sa.select(TAGS.c.run_uuid, TAGS.c.value).where(TAGS.c.key == "mlflow.runName")
        for run_id, name in connection.execute(wanted):
            if run_id in nameless:
                names[nameless[run_id]] = name


def histories(uri: str, run_ids: list[str], keys: list[str]) -> list[tuple[str, str, int, int, float]]:
    """``(run_id, metric, step, timestamp_ms, value)`` of every logged point. Raises Unsuitable."""
    points: list[tuple[str, str, int, int, float]] = []
    with connect(uri) as (connection, _):
        for at in range(0, len(run_ids), 500):
            wanted = sa.select(
                METRICS.c.run_uuid,
                METRICS.c.key,
                METRICS.c.step,
                METRICS.c.timestamp,
                METRICS.c.value,
                METRICS.c.is_nan,
            ).where(METRICS.c.run_uuid.in_(run_ids[at : at + 500]), METRICS.c.key.in_(keys))
            for run_id, key, step, timestamp, value, is_nan in connection.execute(wanted):
                points.append((run_id, key, int(step), int(timestamp), float("nan") if is_nan else float(value)))
    return points


def models(uri: str, run_id: str) -> list[tuple[str, str]]:
    """``(model_id, artifact_location)`` of the models a run logged, oldest first. Raises Unsuitable."""
    model = MODELS.c
    wanted = (
        sa.select(model.model_id, model.artifact_location)
        .where(model.source_run_id == run_id, model.lifecycle_stage == "active")
        .order_by(model.creation_timestamp_ms, model.model_id)
    )
    with connect(uri) as (connection, found):
        if not has(found, schema.MODELS):
            return []
        return [(str(row[0]), str(row[1])) for row in connection.execute(wanted).all()]


def inputs(uri: str, run_id: str) -> list[Input]:
    """The datasets a run logged as inputs. Raises Unsuitable."""
    wanted = (
        sa.select(
            INPUTS.c.input_uuid,
            DATASETS.c.name,
            DATASETS.c.digest,
            DATASETS.c.dataset_source,
            DATASETS.c.dataset_profile,
        )
        .join(DATASETS, INPUTS.c.source_id == DATASETS.c.dataset_uuid)
        .where(INPUTS.c.destination_type == "RUN", INPUTS.c.destination_id == run_id)
    )
    with connect(uri) as (connection, found):
        if not has(found, schema.INPUTS):
            return []
        rows = connection.execute(wanted).all()
        tags = sa.select(INPUT_TAGS.c.input_uuid, INPUT_TAGS.c.value).where(
            INPUT_TAGS.c.name == CONTEXT, INPUT_TAGS.c.input_uuid.in_([row[0] for row in rows])
        )
        contexts = {str(row[0]): str(row[1]) for row in connection.execute(tags)}
        return [Input(contexts.get(row[0], ""), row[1], row[2], row[3], row[4] or "") for row in rows]
