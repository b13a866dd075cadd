"""Read runs from MLflow's old file store, the folder ``./mlruns`` of YAML and text that MLflow left before 3.13.

No MLflow is needed, and nothing is written: MLflow's own reader makes folders in a store by opening it, and its newest
versions refuse to. What cannot be read there is left out and said in ``Cells.faults``.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from tracking.errors import StoreError
from tracking.frame.filter import Condition, parse
from tracking.frame.query import CONTEXT, CORE, Cells, Input, Query, experiment_error
from tracking.store import address
from tracking.store.artifacts import local_folder

_META = "meta.yaml"
# In an experiment's folder beside its runs.
_NOT_RUNS = ("tags", "datasets", "traces", "models")
_STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def store_folder(uri: str) -> Path | None:
    """The file store that a URI means: its folder, or that of an sqlite file which is not there yet; else None."""
    folder = address.file_store_folder(uri)
    return folder if folder is not None and address.is_old_layout(folder) else None


class StoredRun:
    """A run's folder, read as far as it is asked."""

    def __init__(self, folder: Path, meta: dict[str, Any], faults: list[str]) -> None:
        self.folder = folder
        self._meta = meta
        self._faults = faults
        status = meta.get("status")
        self.core: dict[str, Any] = {
            "run_id": str(meta.get("run_id") or meta.get("run_uuid") or folder.name),
            "run_name": meta.get("run_name") or meta.get("name") or self.value("tags", "mlflow.runName") or None,
            "experiment_id": str(meta["experiment_id"]),
            "status": _STATUS.get(status, str(status)) if isinstance(status, int) else status,
            "start_time": whole_number(meta.get("start_time")),
            "end_time": whole_number(meta.get("end_time")),
            "artifact_uri": place(meta.get("artifact_uri"), folder / "artifacts"),
        }

    def attribute(self, name: str) -> Any:
        return self._meta.get("user_id") if name == "user_id" else self.core.get(name)

    @cached_property
    def keys(self) -> dict[str, list[str]]:
        """The names of its parameters, metrics and tags; a ``/`` in one is a folder."""
        return {kind: sorted(names_below(self.folder / kind)) for kind in ("params", "metrics", "tags")}

    def value(self, kind: str, key: str) -> Any:
        """A value, of a metric that at the highest step; None where there is none."""
        if kind == "metrics":
            points = self.points(key)
            return max(points, key=lambda point: point[:2])[2] if points else None
        try:
            return (self.folder / kind / key).read_bytes().decode("utf-8", errors="replace")
        except (OSError, ValueError):
            return None

    def points(self, key: str) -> list[tuple[int, int, float]]:
        """``(step, timestamp_ms, value)`` of a metric, as logged; a line of MLflow before 1.0 has no step."""
        path = self.folder / "metrics" / key
        points = []
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except (OSError, ValueError):
            return []
        for number, line in enumerate(lines, 1):
            words = line.split()
            try:
                points.append((int(words[2]) if len(words) > 2 else 0, int(words[0]), float(words[1])))
            except (ValueError, IndexError):
                if words:
                    self._faults.append(f"line {number} of {path} is no metric: {line[:80]!r}")
        return points

    @cached_property
    def inputs(self) -> list[Input]:
        found = []
        for path in sorted((self.folder / "inputs").glob(f"*/{_META}")):
            one = read_yaml(path)
            data = read_yaml(self.folder.parent / "datasets" / str(one.get("source_id")) / _META)
            tags = one.get("tags")
            if data:
                context = tags.get(CONTEXT, "") if isinstance(tags, dict) else ""
                texts = [str(data.get(key) or "") for key in ("name", "digest", "source", "profile")]
                found.append(Input(str(context), *texts))
        return found


def read(uri: str, query: Query) -> Cells:
    """The active runs the query asks for, in its order. Raises StoreError."""
    conditions = parse(query.filter)
    if conditions is None:
        raise StoreError(
            f"the filter {query.filter!r} is not understood: of a file store it compares params., metrics., tags.,"
            " datasets. or attributes. with plain values, joined by AND"
        )
    root = root_of(uri)
    faults: list[str] = []
    experiments = _experiments(root, query, faults)
    runs = [run for one in experiments for run in _runs(one, faults) if all(_holds(run, c) for c in conditions)]
    runs = _in_order(runs, query)[: query.limit]
    cells = Cells(len(runs), {column: [] for column in CORE}, faults=faults)
    names = {one.name: str(name) for one, name in experiments.items()}
    wanted = {kind: query.wants(kind) for kind in ("params", "metrics", "tags", "datasets")}
    for row, run in enumerate(runs):
        for column in CORE:
            cells.core[column].append(names[run.core["experiment_id"]] if column == "experiment" else run.core[column])
        for kind in ("params", "metrics", "tags"):
            keys = wanted[kind]
            for key in run.keys[kind] if keys != () else ():
                if key in keys if keys is not None else not (kind == "metrics" and key.startswith("system/")):
                    value = run.value(kind, key)
                    if value is not None:
                        cells.put(row, f"{kind}.{key}", value)
        contexts = wanted["datasets"]
        digests: dict[str, set[str]] = {}
        for one in run.inputs if contexts != () else ():
            if one.context and (contexts is None or one.context in contexts):
                digests.setdefault(one.context, set()).add(one.digest)
        for context, found in digests.items():
            cells.put(row, f"datasets.{context}", " ".join(sorted(found)))
    return cells


def histories(uri: str, run_ids: list[str], keys: list[str]) -> list[tuple[str, str, int, int, float]]:
    """``(run_id, metric, step, timestamp_ms, value)`` of every logged point."""
    root = root_of(uri)
    return [
        (run_id, key, *point)
        for run_id in run_ids
        if (run := find(root, run_id)) is not None
        for key in keys
        for point in run.points(key)
    ]


def models(uri: str, run_id: str) -> list[tuple[str, str]]:
    """``(model_id, artifact_location)`` of the models a run logged, oldest first; MLflow 3 alone has them."""
    run = find(root_of(uri), run_id)
    found = []
    for path in sorted(run.folder.parent.glob(f"models/*/{_META}")) if run is not None else ():
        meta = read_yaml(path)
        if meta.get("source_run_id") == run_id and meta.get("lifecycle_stage", "active") == "active":
            where = place(meta.get("artifact_location"), path.parent / "artifacts")
            found.append((whole_number(meta.get("creation_timestamp")) or 0, str(meta.get("model_id")), where or ""))
    return [(model_id, where) for _, model_id, where in sorted(found)]


def inputs(uri: str, run_id: str) -> list[Input]:
    """The datasets a run logged as inputs; MLflow 2.4 and later have them."""
    run = find(root_of(uri), run_id)
    return [] if run is None else run.inputs


def root_of(uri: str) -> Path:
    folder = store_folder(uri)
    assert folder is not None
    return folder


def _experiments(root: Path, query: Query, faults: list[str]) -> dict[Path, str]:
    """Folder -> name of the active experiments asked for; deleted ones are in ``.trash``, or say so."""
    active: dict[Path, str] = {}
    for folder in sorted(root.iterdir()):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        meta = read_yaml(folder / _META)
        if not meta:
            if (folder / _META).exists() or any(folder.glob(f"*/{_META}")) and folder.name != "models":
                faults.append(f"the runs in {folder}: its {_META} is missing or no YAML")
        elif str(meta.get("experiment_id")) != folder.name:
            faults.append(f"the runs in {folder}: its {_META} is of experiment {meta.get('experiment_id')}")
        elif meta.get("lifecycle_stage", "active") == "active":
            active[folder] = str(meta.get("name") or folder.name)
    if query.experiments is None:
        return active
    chosen = {f: name for f, name in active.items() if f.name in query.experiments or name in query.experiments}
    unknown = [e for e in query.experiments if e not in {f.name for f in chosen} and e not in chosen.values()]
    if unknown:
        raise experiment_error(unknown, active.values())
    return chosen


def _runs(experiment: Path, faults: list[str]) -> Iterator[StoredRun]:
    for folder in sorted(experiment.iterdir()):
        if folder.name in _NOT_RUNS or folder.name.startswith(".") or not folder.is_dir():
            continue
        meta = read_yaml(folder / _META)
        if str(meta.get("experiment_id")) != experiment.name:
            what = f"is of experiment {meta['experiment_id']}" if "experiment_id" in meta else "is missing or no YAML"
            faults.append(f"{folder}: its {_META} {what}")
        elif meta.get("lifecycle_stage", "active") == "active":
            yield StoredRun(folder, meta, faults)


def find(root: Path, run_id: str) -> StoredRun | None:
    folders = [] if "/" in run_id else list(root.glob(f"*/{run_id}/{_META}"))
    meta = read_yaml(folders[0]) if folders else {}
    return StoredRun(folders[0].parent, meta, []) if meta.get("experiment_id") is not None else None


def _holds(run: StoredRun, condition: Condition) -> bool:
    """Whether a run matches, with MLflow's meaning: one without the key matches nothing but ``IS NULL``."""
    if condition.kind == "datasets":
        return any(_compares(getattr(one, condition.key), condition) for one in run.inputs)
    of_run = condition.kind == "attributes"
    value = run.attribute(condition.key) if of_run else run.value(condition.kind, condition.key)
    if condition.value is None:
        return (value is None) == (condition.operator == "IS NULL")
    return value is not None and _compares(value, condition)


def _compares(value: Any, condition: Condition) -> bool:
    asked = condition.value
    if isinstance(asked, tuple):
        return (value in asked) == (condition.operator == "IN")
    if condition.operator in ("LIKE", "ILIKE"):
        parts = {"%": ".*", "_": "."}
        pattern = "".join(parts.get(letter) or re.escape(letter) for letter in str(asked))
        flags = re.DOTALL | (re.IGNORECASE if condition.operator == "ILIKE" else 0)
        return re.fullmatch(pattern, str(value), flags) is not None
    return _COMPARE[condition.operator](value, asked)


def _in_order(runs: list[StoredRun], query: Query) -> list[StoredRun]:
    """As MLflow has it: by what is asked, missing ones last, the newest first among equals."""
    runs.sort(key=lambda run: str(run.core["run_id"]))
    runs.sort(key=lambda run: -(run.core["start_time"] or 0))
    if not query.order_by:
        return runs
    kind, _, key = query.order_by.partition(".")

    def value(run: StoredRun) -> Any:
        return run.value(kind, key) if key else run.core.get(kind)

    asked = [(value(run), run) for run in runs]
    there = [(found, run) for found, run in asked if found is not None and found == found]
    there.sort(key=lambda pair: pair[0], reverse=query.descending)
    odd = [run for found, run in asked if found is not None and found != found]
    return [run for _, run in there] + odd + [run for found, run in asked if found is None]


def names_below(folder: Path) -> Iterator[str]:
    """The ordinary files below a folder, by their path in it; not what a file manager or an editor keeps there."""
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(where) / name
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(folder).as_posix()


def read_yaml(path: Path) -> dict[str, Any]:
    """What a file of YAML says; nothing where it is missing or says nothing that can be read."""
    import yaml

    try:
        content, loader = path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        # MLflow repeats no part of a file; one that does may be of any length as text.
        if b"&" in content and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, loader)):
            return {}
        found = yaml.load(content, loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def whole_number(value: Any) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def place(uri: Any, beside: Path) -> str | None:
    """Where artifacts are: as stated, or in the run's own folder where the store was moved since."""
    stated = None if not uri else local_folder(str(uri))
    if (not uri or (stated is not None and not stated.is_dir())) and next(beside.glob("*"), None) is not None:
        return beside.absolute().as_uri()
    return str(uri) if uri else None
