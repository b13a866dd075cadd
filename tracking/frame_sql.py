"""Read runs with plain SQL, read-only, from MLflow's own tables in SQLite or PostgreSQL.

Ten to thirty times faster than MLflow's API, which builds an object for every value. Raises ``Unsuitable`` where only
MLflow itself can answer.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tracking.frame import CORE, Cells, Query, experiment_error
from tracking.frame_filter import Condition, parse
from tracking.frame_tables import (
    DATASETS,
    EXPERIMENTS,
    INPUT_TAGS,
    INPUTS,
    LATEST,
    METRICS,
    PARAMS,
    RUNS,
    TAGS,
    Unsuitable,
    connect,
    suits,
)

__all__ = ["Unsuitable", "histories", "read", "suits"]


def read(uri: str, query: Query) -> Cells:
    """The runs asked for. Raises Unsuitable where MLflow itself has to be asked."""
    conditions = parse(query.filter)
    if conditions is None:
        raise Unsuitable(f"the filter {query.filter!r} is left to MLflow")
    with connect(uri) as connection:
        experiments = _experiments(connection, query)
        chosen = _chosen(query, sorted(experiments), conditions)
        return _Reader(connection, query, chosen).cells(experiments)


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
        return chosen
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
            tag = sa.and_(INPUT_TAGS.c.input_uuid == INPUTS.c.input_uuid, INPUT_TAGS.c.name == "mlflow.data.context")
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


class _Reader:
    """Reads the chosen runs' values, one key at a time, into lists."""

    def __init__(self, connection: sa.Connection, query: Query, chosen: sa.Select[Any]) -> None:
        self.connection = connection
        self.query = query
        self.chosen = chosen
        self.rows: dict[str, int] = {}
        self.narrow = bool(query.filter or query.limit is not None or query.experiments is not None)

    def cells(self, experiments: dict[int, str]) -> Cells:
        found: list[Any] = list(self.connection.execute(self.chosen))
        ids, run_names, experiment_ids, status, start, end, artifact_uri = (
            [row[i] for row in found] for i in range(len(self.chosen.selected_columns))
        )
        self.rows = {run_id: row for row, run_id in enumerate(ids)}
        core = dict(
            zip(CORE[:2], (ids, [n or None for n in run_names]), strict=True),
            experiment=[experiments[e] for e in experiment_ids],
            experiment_id=[str(e) for e in experiment_ids],
            status=status,
            start_time=start,
            end_time=end,
            artifact_uri=artifact_uri,
        )
        cells = Cells(len(ids), core)
        if ids:
            for kind, table in (("params", PARAMS), ("metrics", LATEST), ("tags", TAGS)):
                for key in self._keys(kind, table):
                    self._fill(cells, f"{kind}.{key}", table, key)
            if self.query.wants("datasets") != ():
                self._digests(cells)
            if not all(run_names):
                self._names_from_tags(cells)
        return cells

    def _keys(self, kind: str, table: sa.Table) -> tuple[str, ...]:
        wanted = self.query.wants(kind)
        if wanted is not None:
            return wanted
        every = self.connection.execute(sa.select(table.c.key).distinct()).scalars()
        return tuple(sorted(str(k) for k in every if not (kind == "metrics" and str(k).startswith("system/"))))

    def _of_chosen(self, column: sa.ColumnElement[Any]) -> list[sa.ColumnElement[bool]]:
        """The condition that keeps other runs' values in the database, where that saves anything."""
        if not self.narrow:
            return []
        if len(self.rows) <= 500:
            return [column.in_(list(self.rows))]
        return [column.in_(sa.select(self.chosen.subquery().c.run_uuid))]

    def _fill(self, cells: Cells, name: str, table: sa.Table, key: str) -> None:
        wanted = sa.select(table.c.run_uuid, table.c.value).where(
            table.c.key == key, *self._of_chosen(table.c.run_uuid)
        )
        if table is LATEST:
            wanted = wanted.add_columns(table.c.is_nan)
        column: list[Any] = [None] * cells.num_runs
        same: dict[Any, Any] = {}
        row_of = self.rows.get
        found = False
        for row in self.connection.execute(wanted):
            at = row_of(row[0])
            if at is not None:
                value = row[1]
                found = True
                # One object for equal texts: a parameter has few values, a store has many runs.
                column[at] = same.setdefault(value, value) if table is not LATEST else float("nan") if row[2] else value
        if found:
            cells.wide[name] = column

    def _digests(self, cells: Cells) -> None:
        contexts = self.query.wants("datasets")
        wanted = (
            sa.select(INPUTS.c.destination_id, INPUT_TAGS.c.value, DATASETS.c.digest)
            .join(DATASETS, INPUTS.c.source_id == DATASETS.c.dataset_uuid)
            .join(INPUT_TAGS, INPUT_TAGS.c.input_uuid == INPUTS.c.input_uuid)
            .where(INPUTS.c.destination_type == "RUN", INPUT_TAGS.c.name == "mlflow.data.context")
            .where(*self._of_chosen(INPUTS.c.destination_id))
        )
        if contexts is not None:
            wanted = wanted.where(INPUT_TAGS.c.value.in_(contexts))
        digests: dict[tuple[int, str], set[str]] = {}
        for run_id, context, digest in self.connection.execute(wanted):
            at = self.rows.get(run_id)
            if at is not None:
                digests.setdefault((at, context), set()).add(digest)
        for (at, context), found in digests.items():
            cells.put(at, f"datasets.{context}", " ".join(sorted(found)))

    def _names_from_tags(self, cells: Cells) -> None:
        """Runs of MLflow 1 have their name in a tag only."""
        wanted = sa.select(TAGS.c.run_uuid, TAGS.c.value).where(TAGS.c.key == "mlflow.runName")
        for run_id, name in self.connection.execute(wanted):
            at = self.rows.get(run_id)
            if at is not None and not cells.core["run_name"][at]:
                cells.core["run_name"][at] = name


def histories(uri: str, run_ids: list[str], keys: list[str]) -> list[tuple[str, str, int, int, float]]:
    """``(run_id, metric, step, timestamp_ms, value)`` of every logged point. Raises Unsuitable."""
    points: list[tuple[str, str, int, int, float]] = []
    with connect(uri) as connection:
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
