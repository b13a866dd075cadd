"""Read runs page by page through MLflow's public client: servers, and what only MLflow understands in a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tracking.errors import StoreError
from tracking.frame.query import CONTEXT, CORE, Cells, Input, Query, experiment_error
from tracking.store import connection, schema

PAGE = 1000


def read(uri: str, query: Query) -> Cells:
    """Every run the query asks for, however many pages that takes."""
    with _client(uri) as client:
        return _read(client, query)


def _read(client: Any, query: Query) -> Cells:
    from mlflow.exceptions import MlflowException

    experiments = _experiments(client, query)
    runs: list[Any] = []
    token: str | None = None
    # An empty list of experiments would be an error of MLflow's, not an empty answer.
    while experiments:
        try:
            page = client.search_runs(
                sorted(experiments, key=_id_order),
                filter_string=query.filter,
                max_results=PAGE if query.limit is None else min(PAGE, query.limit - len(runs)),
                order_by=[_order(query)] if query.order_by else None,
                page_token=token,
            )
        except MlflowException as error:
            if not connection.is_bad_value(error):
                raise
            raise StoreError(f"reading with filter {query.filter!r}: {error.message}") from error
        runs.extend(page)
        token = page.token
        if not token or (query.limit is not None and len(runs) >= query.limit):
            break
    if query.limit is not None and not query.order_by:
        runs.sort(key=lambda run: (run.info.start_time or 0, run.info.run_id))
    return _cells(runs, experiments, query)


def histories(uri: str, run_ids: list[str], keys: list[str]) -> list[tuple[str, str, int, int, float]]:
    """``(run_id, metric, step, timestamp_ms, value)`` of every logged point."""
    with _client(uri) as client:
        return [
            (run_id, key, point.step, point.timestamp, point.value)
            for run_id in run_ids
            for key in keys
            for point in client.get_metric_history(run_id, key)
        ]


def models(uri: str, run_id: str) -> list[tuple[str, str]]:
    """``(model_id, artifact_location)`` of the models a run logged, oldest first."""
    with _client(uri) as client:
        experiment_id = client.get_run(run_id).info.experiment_id
        found = client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'")
        ordered = sorted(found, key=lambda model: (model.creation_timestamp, model.model_id))
        return [(model.model_id, model.artifact_location) for model in ordered]


def inputs(uri: str, run_id: str) -> list[Input]:
    """The datasets a run logged as inputs."""
    with _client(uri) as client:
        found = client.get_run(run_id).inputs
    return [
        Input(
            next((tag.value for tag in one.tags if tag.key == CONTEXT), ""),
            one.dataset.name,
            one.dataset.digest,
            one.dataset.source,
            one.dataset.profile or "",
        )
        for one in (found.dataset_inputs if found else ())
    ]


def check(uri: str, why: str = "") -> None:
    """Raise StoreError where MLflow may not be asked, since it would make, upgrade or change a store by opening it.

    MLflow makes tables in a database that lacks some of its own, and its first experiment where that is gone; so it
    gets only a database in which it finds all that. A file store is changed by being opened. ``why`` says why the
    store is not read by SQL.
    """
    kind = connection.kind(uri)
    if kind in connection.DATABASES:
        found = schema.look(uri)
        is_what = schema.state(found)
        if is_what == "absent":
            raise StoreError(schema.unreadable(uri, found))
        if is_what == "newer":
            raise StoreError(
                f"{connection.public(uri)}: {why}; so MLflow has to be asked, and the one installed here does not know"
                f" the schema {found.revisions[0]}: `pip install --upgrade mlflow`"
            )
        if is_what != "ready" or not found.has_default:
            raise StoreError(
                f"{why + '; ' if why else ''}only MLflow itself could answer this, and it would change"
                f" {connection.public(uri)} by opening it;"
                " a filter is read without MLflow when it compares params., metrics., tags., datasets. or attributes."
                " with plain values, joined by AND"
            )


@contextmanager
def _client(uri: str) -> Iterator[Any]:
    """MLflow's client of a store that may be opened, its errors in our words."""
    connection.check_reachable(uri)
    with connection.translated(uri):
        yield connection.open_client(uri)


def _experiments(client: Any, query: Query) -> dict[str, str]:
    """Id -> name of the active experiments asked for."""
    active: dict[str, str] = {}
    token: str | None = None
    while True:
        page = client.search_experiments(page_token=token)
        active.update((e.experiment_id, e.name) for e in page)
        token = page.token
        if not token:
            break
    if query.experiments is None:
        return active
    chosen = {i: n for i, n in active.items() if i in query.experiments or n in query.experiments}
    unknown = [e for e in query.experiments if e not in chosen and e not in chosen.values()]
    if unknown:
        raise experiment_error(unknown, active.values())
    return chosen


def _id_order(experiment_id: str) -> tuple[int, str]:
    return (len(experiment_id), experiment_id)


def _order(query: Query) -> str:
    kind, _, key = query.order_by.partition(".")
    column = f"{kind}.`{key}`" if key else f"attributes.{query.order_by}"
    return f"{column} {'DESC' if query.descending else 'ASC'}"


def _cells(runs: list[Any], experiments: dict[str, str], query: Query) -> Cells:
    core: dict[str, list[Any]] = {column: [] for column in CORE}
    cells = Cells(len(runs), core)
    wanted = {kind: query.wants(kind) for kind in ("params", "metrics", "tags", "datasets")}
    for row, run in enumerate(runs):
        info = run.info
        core["experiment"].append(experiments[info.experiment_id])
        for column in ("run_id", "run_name", "experiment_id", "status", "start_time", "end_time", "artifact_uri"):
            core[column].append(getattr(info, column))
        for kind, values in (("params", run.data.params), ("metrics", run.data.metrics), ("tags", run.data.tags)):
            keys = wanted[kind]
            for key, value in values.items():
                if (keys is None and not key.startswith("system/")) or (keys is not None and key in keys):
                    cells.put(row, f"{kind}.{key}", value)
        digests: dict[str, set[str]] = {}
        for dataset_input in run.inputs.dataset_inputs if run.inputs else ():
            context = next((tag.value for tag in dataset_input.tags if tag.key == CONTEXT), None)
            if context is not None and (wanted["datasets"] is None or context in wanted["datasets"]):
                digests.setdefault(context, set()).add(dataset_input.dataset.digest)
        for context, found in digests.items():
            cells.put(row, f"datasets.{context}", " ".join(sorted(found)))
    return cells
