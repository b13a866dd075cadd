"""Read runs page by page through MLflow's public client: servers, and what only MLflow understands in a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tracking.errors import StoreError
from tracking.frame.query import CONTEXT, CORE, Cells, Input, Query, experiment_error
from tracking.store import connection, schema

PAGE = 1000
# Runs, and points of all of them, that a server tells of in one answer for its own pages.
_BULK_RUNS, _BULK_POINTS = 100, 25_000


class _Run(NamedTuple):
    """What a page of the API says of a run: its attributes, its values as ``(key, value)``, its data's digests."""

    info: dict[str, Any]
    values: dict[str, list[tuple[str, Any]]]
    digests: list[tuple[str | None, str]]


def read(uri: str, query: Query) -> Cells:
    """Every run the query asks for, however many pages that takes."""
    with opened(uri) as client:
        experiments = _experiments(client, query)
        runs: list[_Run] = []
        token: str | None = None
        # An empty list of experiments would be an error of MLflow's, not an empty answer.
        while experiments:
            page, token = _page(
                client,
                uri,
                {
                    "experiment_ids": sorted(experiments, key=_id_order),
                    "filter": query.filter,
                    "max_results": PAGE if query.limit is None else min(PAGE, query.limit - len(runs)),
                    "order_by": [_order(query)] if query.order_by else [],
                    "page_token": token,
                },
            )
            runs += page
            if not token or (query.limit is not None and len(runs) >= query.limit):
                break
    if query.limit is not None and not query.order_by:
        runs.sort(key=lambda run: (run.info["start_time"] or 0, run.info["run_id"]))
    return _cells(runs, experiments, query)


def _page(client: Any, uri: str, asked: dict[str, Any]) -> tuple[list[_Run], str | None]:
    """A page of runs and what the next one is asked by."""
    from mlflow.exceptions import MlflowException

    try:
        if connection.kind(uri) in ("http", "https"):
            # MLflow's client makes an object for every value, twice; half of the time that a page takes.
            answer = _ask(uri, "POST", "/api/2.0/mlflow/runs/search", json={**asked, "run_view_type": "ACTIVE_ONLY"})
            return [_from_json(run) for run in answer.get("runs", ())], answer.get("next_page_token") or None
        page = client.search_runs(
            asked["experiment_ids"],
            filter_string=asked["filter"],
            **{key: asked[key] for key in ("max_results", "order_by", "page_token")},
        )
        return [_from_entity(run) for run in page], page.token
    except MlflowException as error:
        if not connection.is_bad_value(error):
            raise
        raise StoreError(f"reading with filter {asked['filter']!r}: {error.message}") from error


def _ask(uri: str, method: str, endpoint: str, **asked: Any) -> Any:
    """A server's answer, asked as MLflow's client asks: the same user, certificates, retries."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    answer = http_request(get_default_host_creds(uri), endpoint, method, **asked)
    return verify_rest_response(answer, endpoint).json()


def _from_json(run: dict[str, Any]) -> _Run:
    info, data = run["info"], run.get("data", {})
    for key in ("start_time", "end_time"):
        info[key] = int(info[key]) if info.get(key) else None
    inputs = run.get("inputs", {}).get("dataset_inputs", ())
    return _Run(
        info,
        {
            "params": [(one["key"], one.get("value", "")) for one in data.get("params", ())],
            "metrics": [(one["key"], float(one.get("value", 0))) for one in data.get("metrics", ())],
            "tags": [(one["key"], one.get("value", "")) for one in data.get("tags", ())],
        },
        [
            (next((tag.get("value", "") for tag in one.get("tags", ()) if tag["key"] == CONTEXT), None), digest)
            for one in inputs
            if (digest := one["dataset"].get("digest"))
        ],
    )


def _from_entity(run: Any) -> _Run:
    inputs = run.inputs.dataset_inputs if run.inputs else ()
    return _Run(
        {key: getattr(run.info, key) for key in CORE if key != "experiment"},
        {kind: list(getattr(run.data, kind).items()) for kind in ("params", "metrics", "tags")},
        [(next((tag.value for tag in one.tags if tag.key == CONTEXT), None), one.dataset.digest) for one in inputs],
    )


def histories(uri: str, run_ids: list[str], keys: list[str]) -> list[tuple[str, str, int, int, float]]:
    """``(run_id, metric, step, timestamp_ms, value)`` of every logged point."""
    with opened(uri) as client:
        points: list[tuple[str, str, int, int, float]] = []
        for key in keys:
            for at in range(0, len(run_ids), _BULK_RUNS):
                some = run_ids[at : at + _BULK_RUNS]
                found = _together(uri, some, key) if len(some) > 1 else None
                points += (
                    found
                    if found is not None
                    else [
                        (run_id, key, point.step, point.timestamp, point.value)
                        for run_id in some
                        for point in client.get_metric_history(run_id, key)
                    ]
                )
        return points


def _together(uri: str, run_ids: list[str], key: str) -> list[tuple[str, str, int, int, float]] | None:
    """The points of several runs in one answer; None where a server gives none, or leaves some out."""
    from mlflow.exceptions import MlflowException

    if connection.kind(uri) not in ("http", "https"):
        return None
    asked = {"run_id": run_ids, "metric_key": key, "max_results": _BULK_POINTS}
    try:
        answer = _ask(uri, "GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk", params=asked)
    except (MlflowException, ValueError):  # only MLflow's own server has it, and not for every kind of store
        return None
    points = answer.get("metrics", ())
    if len(points) >= _BULK_POINTS:
        return None
    return [(p["run_id"], key, int(p.get("step", 0)), int(p["timestamp"]), float(p["value"])) for p in points]


def models(uri: str, run_id: str) -> list[tuple[str, str]]:
    """``(model_id, artifact_location)`` of the models a run logged, oldest first."""
    with opened(uri) as client:
        experiment_id = client.get_run(run_id).info.experiment_id
        found = client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'")
        ordered = sorted(found, key=lambda model: (model.creation_timestamp, model.model_id))
        return [(model.model_id, model.artifact_location) for model in ordered]


def inputs(uri: str, run_id: str) -> list[Input]:
    """The datasets a run logged as inputs."""
    with opened(uri) as client:
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
                f"{connection.public(uri)}: {why + '; so ' if why else ''}MLflow has to be asked, and the one installed"
                f" here does not know the schema {found.revisions[0]}: `pip install --upgrade mlflow`"
            )
        if is_what != "ready" or not found.has_default:
            raise StoreError(
                f"{why + '; ' if why else ''}only MLflow itself could answer this, and it would change"
                f" {connection.public(uri)} by opening it;"
                " a filter is read without MLflow when it compares params., metrics., tags., datasets. or attributes."
                " with plain values, joined by AND"
            )


@contextmanager
def opened(uri: str) -> Iterator[Any]:
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


def _cells(runs: list[_Run], experiments: dict[str, str], query: Query) -> Cells:
    core: dict[str, list[Any]] = {column: [] for column in CORE}
    cells = Cells(len(runs), core)
    kinds = ("params", "metrics", "tags", "datasets")
    wanted = {kind: None if (chosen := query.wants(kind)) is None else frozenset(chosen) for kind in kinds}
    for row, (info, values, digests) in enumerate(runs):
        core["experiment"].append(experiments[info["experiment_id"]])
        for column in CORE:
            if column != "experiment":
                core[column].append(info.get(column))
        for kind, found in values.items():
            keys = wanted[kind]
            for key, value in found:
                if (keys is None and not (kind == "metrics" and key.startswith("system/"))) or (
                    keys is not None and key in keys
                ):
                    cells.put(row, f"{kind}.{key}", value)
        of: dict[str, set[str]] = {}
        for context, digest in digests:
            if context is not None and (wanted["datasets"] is None or context in wanted["datasets"]):
                of.setdefault(context, set()).add(digest)
        for context, several in of.items():
            cells.put(row, f"datasets.{context}", " ".join(sorted(several)))
    return cells
