"""Whole runs into any store through MLflow's client: a server, or a database that only MLflow may write.

The ids are the store's own. A run is made with its source's id as a tag and stays RUNNING until all of it is there, so
a copy that was stopped finds what it has begun; what is sent again is the same and changes nothing.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tracking import names
from tracking.commands.targets.database import Fetch, Home, Known, put
from tracking.errors import StoreUnreachable, TrackingError
from tracking.frame import load
from tracking.frame.rows import Row, Rows
from tracking.models.facts import MLMODEL
from tracking.store import Store, artifacts
from tracking.store.connection import asked_once, has_no_such_call, is_refusal, translated
from tracking.store.logged_models import described
from tracking.store.mlflow_run import log_in_parts

ENDED = ("FINISHED", "FAILED", "KILLED")
PARENT = "mlflow.parentRunId"
_FIRST = ("mlflow.user", "mlflow.source.name", "mlflow.source.type")  # MLflow takes these at a run's making only
_STATUS = {2: "READY", 3: "FAILED"}
_pace = {"every_s": 0.0, "next": 0.0}
_pacing = threading.Lock()


def keep_pace(rate: float) -> None:
    """Let MLflow's client ask servers at most ``rate`` times a second from now on; 0 is no limit."""
    from mlflow.tracking.request_header import registry
    from mlflow.tracking.request_header.abstract_request_header_provider import RequestHeaderProvider

    class Pace(RequestHeaderProvider):  # type: ignore[misc]
        """MLflow asks it for headers before each request, of artifacts too."""

        def in_context(self) -> bool:
            return _pace["every_s"] > 0

        def request_headers(self) -> dict[str, str]:
            with _pacing:
                time.sleep(max(0.0, _pace["next"] - time.monotonic()))
                _pace["next"] = time.monotonic() + _pace["every_s"]
            return {}

    if not _pace["next"]:
        registry._request_header_provider_registry.register(Pace)
    _pace.update(every_s=1 / rate if rate else 0.0, next=time.monotonic())


class Client:
    """The target of a copy, written through MLflow."""

    keeps_ids = False
    read_by = "api"
    num_at_once = 50

    def __init__(self, store: Store) -> None:
        self._store = store
        self._client = store.client()
        self._known: dict[str, Known] = {}
        self._experiment_ids: set[str] = set()
        self.problems: list[str] = []

    def known(self, experiments: list[str]) -> dict[str, Known]:
        """The active runs of these experiments, by their id and by that of the run they are a copy of."""
        found = {one.name: one.experiment_id for one in self._client.search_experiments() if one.name in experiments}
        self._experiment_ids = set(found.values())
        there = list(found)
        frame = load(self._store, there, columns=[f"tags.{names.COPIED_FROM}"]) if there else None
        for row in frame.to_dict("records") if frame is not None else ():
            origin = row.get(f"tags.{names.COPIED_FROM}")
            one = Known(row["run_id"], row["status"], bool(origin))
            self._known |= {one.run_id: one} | ({origin: one} if origin else {})
        return self._known

    def write(self, rows: Rows, home: Home, origins: dict[str, str], fetch: Fetch, leave: bool) -> Counter[str]:
        """Write the runs one after the other; how many rows of each table, and how many ``files``."""
        self._experiment_ids.add(home.experiment_id)
        count = Counter[str]()
        points: dict[str, list[Row]] = defaultdict(list)
        for part in rows.points:
            for row in part:
                points[row["run_uuid"]].append(row)
        for run in rows.tables["runs"]:
            run_id = run["run_uuid"]
            mine = _of_run(rows.tables, run_id) | {"metrics": points.pop(run_id, [])}
            try:
                with translated(self._store.tracking_uri):
                    count.update(self._write(run, mine, home, origins[run_id], fetch))
            except Exception as error:
                is_its_own = isinstance(error, (TrackingError, OSError)) or is_refusal(error)
                if isinstance(error, StoreUnreachable) or not is_its_own:
                    raise
                self.problems.append(
                    f"run {run_id}: {' '.join(str(error).split())[:400]}"
                )  # tried again by the next copy
                continue
            count += Counter({name: len(some) for name, some in mine.items()}) + Counter(runs=1)
        return count

    def _write(self, run: Row, mine: dict[str, list[Row]], home: Home, origin: str, fetch: Fetch) -> Counter[str]:
        from mlflow.entities import Metric, Param, RunTag

        former = len(self.problems)
        tags = {row["key"]: row["value"] for row in mine["tags"]} | {names.COPIED_FROM: origin}
        if (parent := self._known.get(tags.get(PARENT, ""))) is not None:
            tags[PARENT] = parent.run_id
        made = self._made(run, tags, home, origin)
        run_id = made.info.run_id
        with fetch(run["artifact_uri"]) as folder:
            count = self._put(folder, made.info.artifact_uri)
        of_metric: dict[tuple[Any, ...], tuple[str, str | None, str | None]] = {}
        for model in mine["logged_models"]:
            files, model_id = self._log_model(made, model, mine, fetch)
            count += files
            of_metric |= {
                _place(row, "metric_"): (model_id, row["dataset_name"], row["dataset_digest"])
                for row in mine["logged_model_metrics"]
                if row["model_id"] == model["model_id"] and model_id
            }
        self._log_inputs(made, mine)
        metrics = [_metric(Metric, row, of_metric.get(_place(row)), run_id) for row in mine["metrics"]]
        params = [Param(row["key"], row["value"]) for row in mine["params"]]
        log_in_parts(self._client, run_id, self._problem(run), metrics=metrics, params=params)
        if refused := self.problems[former:]:
            tags[names.REPLAY_PROBLEMS] = "\n".join(refused)[:5000]
        log_in_parts(self._client, run_id, self._problem(run), tags=[RunTag(k, v) for k, v in tags.items()])
        if run["status"] in ENDED:
            self._client.set_terminated(run_id, run["status"], run["end_time"])
        elif run["status"] != "RUNNING":
            self._client.update_run(run_id, run["status"])
        return count

    def _made(self, run: Row, tags: dict[str, str], home: Home, origin: str) -> Any:
        known = self._known.get(origin)
        if known is not None:
            return self._client.get_run(known.run_id)
        first = {"mlflow.user": run["user_id"] or "unknown"} | {k: v for k, v in tags.items() if k in _FIRST}
        first |= {k: v for k, v in tags.items() if k in (PARENT, names.COPIED_FROM)}
        with asked_once():
            made = self._client.create_run(home.experiment_id, run["start_time"], first, run["name"])
        self._known[origin] = self._known[run["run_uuid"]] = Known(made.info.run_id, "RUNNING", True)
        return made

    def _model(self, former: str) -> Any:
        """The copy of a model; None where there is none."""
        found = self._client.search_logged_models(
            sorted(self._experiment_ids), f"tags.{names.COPIED_FROM} = '{former}'"
        )
        return next(iter(found), None)

    def _log_inputs(self, made: Any, mine: dict[str, list[Row]]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput

        run_id = made.info.run_id
        of_id = {row["dataset_uuid"]: row for row in mine["datasets"]}
        given = []
        for link in mine["inputs"]:
            if (row := of_id.get(link["source_id"])) is not None:
                texts = [row[f"dataset_{key}"] for key in ("source_type", "source", "schema", "profile")]
                tags = [
                    InputTag(t["name"], t["value"]) for t in mine["input_tags"] if t["input_uuid"] == link["input_uuid"]
                ]
                given.append(DatasetInput(Dataset(row["name"], row["digest"], *texts), tags))
        taken = [row["destination_id"] for row in mine["inputs"] if row["source_type"] == "RUN_INPUT"]
        try:
            found = {one: self._model(one) for one in taken}
            models = [LoggedModelInput(model.model_id) for model in found.values() if model is not None]
            lost = [one for one in taken if found[one] is None]
            self.problems += [f"run {run_id}: model {one}, which it took, is not copied" for one in lost]
            if given or models:
                self._client.log_inputs(run_id, given, **({"models": models} if models else {}))
        except Exception as error:
            if not (has_no_such_call(error) or is_refusal(error)):
                raise
            self.problems.append(f"run {run_id}: what it took, data sets or models: {error}")

    def _log_model(self, made: Any, model: Row, mine: dict[str, list[Row]], fetch: Fetch) -> tuple[Counter[str], str]:
        """Make the model, or find it, and bring its files; how many, and its id, empty where the server knows none."""
        from mlflow.entities import LoggedModelOutput

        run_id, experiment_id = made.info.run_id, made.info.experiment_id
        texts = {
            kind: {
                row[f"{kind}_key"]: row[f"{kind}_value"]
                for row in mine[f"logged_model_{kind}s"]
                if row["model_id"] == model["model_id"]
            }
            for kind in ("param", "tag")
        }
        tags = texts["tag"] | {names.COPIED_FROM: model["model_id"]}
        there: Any = None
        try:
            there = self._model(model["model_id"])
            with asked_once():
                there = there or self._client.create_logged_model(
                    experiment_id, model["name"], run_id, tags, texts["param"], model["model_type"]
                )
        except Exception as error:
            if not has_no_such_call(error):
                raise
            self._client.set_tag(run_id, names.SERVER_LACKS, "logged models")
        with fetch(model["artifact_location"]) as folder:
            target = f"{made.info.artifact_uri}/{model['name']}" if there is None else there.artifact_location
            files = self._put(folder, target)
            if there is None:
                return files, ""
            if folder is not None and (folder / MLMODEL).is_file():
                with tempfile.TemporaryDirectory() as scratch:
                    (Path(scratch) / MLMODEL).write_text(described(folder, there, run_id), encoding="utf-8")
                    put(Path(scratch), target, self._store.tracking_uri)
        outputs = made.outputs.model_outputs if made.outputs else []
        links = [row for row in mine["inputs"] if row["destination_id"] == model["model_id"]]
        steps = [row["step"] for row in links if row["source_type"] == "RUN_OUTPUT"]
        if steps and there.model_id not in [one.model_id for one in outputs]:
            self._client.log_outputs(run_id, [LoggedModelOutput(there.model_id, step) for step in steps])
        if model["status"] in _STATUS:
            self._client.finalize_logged_model(there.model_id, _STATUS[model["status"]])
        return files, str(there.model_id)

    def _put(self, folder: Path | None, target: str) -> Counter[str]:
        local = artifacts.local_folder(target)
        if folder is None or not any(folder.iterdir()):
            return Counter()
        if local is not None and not artifacts.is_reachable(local, self._store.tracking_uri):
            raise TrackingError(
                f"its files cannot be brought to {target}, a folder of the server's machine; start it with"
                " --serve-artifacts"
            )
        return put(folder, target, self._store.tracking_uri)

    def _problem(self, run: Row) -> Any:
        return lambda text, *_: self.problems.append(f"run {run['run_uuid']}: {text}")


def _of_run(got: dict[str, list[Row]], run_id: str) -> dict[str, list[Row]]:
    """The rows that belong to one run."""
    mine = {name: [row for row in got[name] if row["run_uuid"] == run_id] for name in ("params", "tags")}
    mine["inputs"] = [row for row in got["inputs"] if run_id in (row["source_id"], row["destination_id"])]
    ends = {row[key] for row in mine["inputs"] for key in ("source_id", "input_uuid")}
    mine["datasets"] = [row for row in got["datasets"] if row["dataset_uuid"] in ends]
    mine["input_tags"] = [row for row in got["input_tags"] if row["input_uuid"] in ends]
    mine["logged_models"] = [row for row in got["logged_models"] if row["source_run_id"] == run_id]
    ids = {row["model_id"] for row in mine["logged_models"]}
    for name in ("logged_model_params", "logged_model_tags", "logged_model_metrics"):
        mine[name] = [row for row in got[name] if row["model_id"] in ids]
    return mine


def _place(row: Row, start: str = "") -> tuple[Any, ...]:
    if start:
        return row["metric_name"], row["metric_step"], row["metric_timestamp_ms"]
    return row["key"], row["step"], row["timestamp"]


def _metric(make: Any, row: Row, link: tuple[str, str | None, str | None] | None, run_id: str) -> Any:
    value = float("nan") if row["is_nan"] else row["value"]
    named = (row["key"], value, row["timestamp"], row["step"])
    if link is None or row["is_nan"]:
        return make(*named)
    return make(*named, model_id=link[0], dataset_name=link[1], dataset_digest=link[2], run_id=run_id)
