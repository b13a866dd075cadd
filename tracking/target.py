"""One MLflow run as the receiver of events: each kind of event in MLflow's terms, nothing silently cut or dropped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tracking import names
from tracking.border import is_bad_value, kind
from tracking.errors import StoreUnreachable
from tracking.events import Event

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_PARAM_CHARACTERS = 6000
MAX_TAG_CHARACTERS = 8000
_SHOWN_CHARACTERS = 200
_PER_CALL = {"metrics": 1000, "params": 100, "tags": 100}


class Target:
    """Writes events onto one run; sending the same events again changes nothing.

    ``attached``: the run is somebody else's, so its status and times stay. ``problems`` collects what MLflow cannot
    hold, in words.
    """

    def __init__(self, client: MlflowClient, run: Any, directory: Path, *, attached: bool, tracking_uri: str) -> None:
        self.run_id: str = run.info.run_id
        self.problems: list[str] = []
        self._client = client
        self._directory = directory
        self._attached = attached
        self._params: dict[str, str] = dict(run.data.params)
        self._folder = _local_folder(run.info.artifact_uri)
        self._out_of_reach = self._folder is not None and not _is_reachable(self._folder, tracking_uri)

    def send(self, events: list[Event]) -> None:
        """Write a batch: parameters, metrics and tags together, or one event of another kind."""
        if events[0]["event"] in ("param", "metric", "tag"):
            self._log(events)
            return
        for event in events:
            handler = getattr(self, f"_on_{event['event']}", None)
            if handler is None:
                self._problem(f"event {event['event']!r} is unknown to this version")
            else:
                handler(event)

    def _log(self, events: list[Event]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics: list[Metric] = []
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        for event in events:
            for name, value in event["values"].items():
                if event["event"] == "metric":
                    metrics.append(Metric(name, float(value), event["time_ms"], event["step"]))
                elif event["event"] == "tag":
                    tags[name] = self._fitting("tags", name, value, MAX_TAG_CHARACTERS)
                else:
                    text = self._fitting("params", name, value, MAX_PARAM_CHARACTERS)
                    if self._params.get(name, text) != text:
                        self._problem(f"parameter {name} is {self._params[name]!r} and was given as {text!r} later")
                    elif params.setdefault(name, text) != text:
                        self._problem(f"parameter {name} is {params[name]!r} and was given as {text!r} later")
        self._batch(
            metrics=metrics,
            params=[Param(k, v) for k, v in params.items()],
            tags=[RunTag(k, v) for k, v in tags.items()],
        )
        self._params.update(params)

    def _batch(self, **kinds: list[Any]) -> None:
        from mlflow.exceptions import MlflowException

        while any(kinds.values()):
            part = {k: v[: _PER_CALL[k]] for k, v in kinds.items()}
            kinds = {k: v[_PER_CALL[k] :] for k, v in kinds.items()}
            try:
                self._client.log_batch(self.run_id, **part, synchronous=True)
            except MlflowException as error:
                if not is_bad_value(error):
                    raise
                single = [{k: [value]} for k, values in part.items() for value in values]
                # One bad apple must not keep the rest, nor the run's end, out of the store.
                for one in single:
                    try:
                        self._client.log_batch(self.run_id, **one, synchronous=True)
                    except MlflowException as cause:
                        if not is_bad_value(cause):
                            raise
                        self._problem(f"MLflow does not take {one}: {cause.message}")

    def _on_start(self, event: Event) -> None:
        """The run was made or found before; what the start says is in it."""

    def _on_status(self, event: Event) -> None:
        if self._attached:
            return
        if event["status"] == "RUNNING":
            self._client.update_run(self.run_id, status="RUNNING")
            for tag in {names.STATUS_REASON, names.ERROR_TYPE} & set(self._client.get_run(self.run_id).data.tags):
                self._client.delete_tag(self.run_id, tag)  # it says why an earlier attempt ended
            return
        if event.get("reason"):
            self._set_tag(names.STATUS_REASON, event["reason"])
        self._client.set_terminated(self.run_id, event["status"], event["end_time_ms"])

    def _on_dataset(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name, context = event["name"], event["context"]
        for known in self._client.get_run(self.run_id).inputs.dataset_inputs:
            same = (known.dataset.name, known.dataset.digest) == (name, event["digest"])
            if same and all(tag.value != context for tag in known.tags):
                name = f"{name} ({context})"  # MLflow keeps one context for a dataset in a run
                break
        source_type, source = _source(event["source"])
        profile = {"num_rows": event["num_images"], **{k: event[k] for k in ("num_images", "num_classes")}}
        dataset = Dataset(
            name=name,
            digest=event["digest"],
            source_type=source_type,
            source=json.dumps(source),
            profile=json.dumps({**profile, **event.get("profile", {})}),
        )
        tag = InputTag("mlflow.data.context", context)
        self._client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, [tag])])

    def _on_artifact(self, event: Event) -> None:
        source = self._directory / event["path"]
        if not source.exists():
            time.sleep(0.1)  # a folder that is being replaced is away for a moment
        if not source.exists():
            self._problem(f"artifact {event['path']} is gone from {self._directory}")
            return
        self._upload(source, event["artifact_path"], may_link=event.get("placed", False))

    def _upload(self, source: Path, folder: str, *, may_link: bool) -> None:
        if self._out_of_reach:
            self._problem(
                f"artifacts stay in {self._directory}: the server keeps them in a folder of its own machine,"
                f" {self._folder}; start it with --serve-artifacts"
            )
        elif self._folder is not None:
            _copy(source, self._folder / folder / source.name, may_link)
        elif source.is_dir():
            self._client.log_artifacts(self.run_id, str(source), f"{folder}/{source.name}".lstrip("/"))
        else:
            self._client.log_artifact(self.run_id, str(source), folder or None)

    def _fitting(self, folder: str, name: str, value: str, limit: int) -> str:
        """The value as MLflow can hold it; one that is too long becomes an artifact and its beginning points there."""
        value = value.encode("utf-8", "backslashreplace").decode()
        if len(value) <= limit:
            return value
        file = f"{name.replace('/', '_')}.txt"
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / file).write_text(value, encoding="utf-8")
            self._upload(Path(scratch) / file, folder, may_link=False)
        return f"{value[:_SHOWN_CHARACTERS]}… ({len(value)} characters, all in artifact {folder}/{file})"

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)
            self._set_tag(names.REPLAY_PROBLEMS, "\n".join(self.problems))

    def _set_tag(self, name: str, value: str) -> None:
        # Explicitly now: MLFLOW_ENABLE_ASYNC_LOGGING would report success before anything is written.
        self._client.set_tag(
            self.run_id, name, self._fitting("tags", name, value, MAX_TAG_CHARACTERS), synchronous=True
        )


def _local_folder(artifact_uri: str) -> Path | None:
    """The folder behind an artifact URI on this machine, None for any other."""
    if kind(artifact_uri) != "file":
        return None
    return Path(unquote(urlsplit(artifact_uri).path) if artifact_uri.startswith("file:") else artifact_uri)


def _is_reachable(folder: Path, tracking_uri: str) -> bool:
    """Whether a server's artifact folder is one of this machine's: it is here, or can only be here."""
    parts = urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https") or parts.hostname in ("localhost", "127.0.0.1", "::1"):
        return True
    return any(parent.is_dir() for parent in (folder, folder.parent, folder.parent.parent))


def _copy(source: Path, target: Path, may_link: bool) -> None:
    """Copy a file or folder, whole files at a time; ``may_link`` where the source is never written in place."""
    if source.is_dir():
        for inner in sorted(source.rglob("*")):
            if inner.is_file():
                _copy(inner, target / inner.relative_to(source), may_link)
        return
    if target.exists() and target.samefile(source):
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        if not (may_link and _link(source, part)):
            shutil.copy2(source, part)
        part.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise StoreUnreachable(
            f"cannot write artifact {target}: {error.strerror or error}; make room or change its folder's permissions,"
            " then `python -m tracking sync`"
        ) from error


def _link(source: Path, target: Path) -> bool:
    """Make a second name for a file; False on another disk, or where there are no links."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def _source(source: str) -> tuple[str, dict[str, Any]]:
    """MLflow's kind of dataset source and its description."""
    scheme = kind(source)
    if scheme == "s3":
        return "s3", {"uri": source}
    if scheme in ("http", "https"):
        return "http", {"url": source}
    return "local", {"uri": source}
