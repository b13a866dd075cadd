"""Results in JSON: this project's plain form, and what MLflow, its exporter, SageMaker and Keras write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tracking import names
from tracking.errors import TrackingError
from tracking.importers.result import JOBS_COMMAND, Reading
from tracking.importers.tables import ONE_CURVE, by_epoch, read_rows

_KINDS = ("params", "metrics", "tags")
_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")


def read_json(text: str, name: str, *, lines: bool = False) -> Reading:
    """A list of objects (or one, or ``{"runs": […]}``, or one a line), flat or with params, metrics and tags inside.

    A metric may be a list: its values after epochs 1, 2, …
    """
    try:
        if lines:
            found: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = _loaded(text)
    except RecursionError as error:
        raise TrackingError(f"{name} is nested too deeply; a list of objects is expected, one for each run") from error
    except ValueError as error:
        if text.lstrip().startswith(("{'", "[{'")):
            raise TrackingError(
                f"{name} is not JSON but what Python prints, in single quotes; write it with json.dump(…, default=str)"
                " or save what the command prints: aws sagemaker describe-training-job … --output json > job.json"
            ) from error
        raise TrackingError(f"{name} is not JSON: {error}") from error
    if isinstance(found, dict) and "TrainingJobSummaries" in found:
        raise TrackingError(
            f"{name} is a list of SageMaker jobs, without their settings and scores; {JOBS_COMMAND}"
            " from the account, or save `aws sagemaker describe-training-job` of each"
        )
    if isinstance(found, dict):
        found = _runs(found)
    if isinstance(found, list) and found:
        if all(isinstance(item, list) and len(item) == 3 for item in found):
            raise TrackingError(f"{name} {ONE_CURVE}")
        if all(isinstance(item, dict) and isinstance(item.get("x"), list) and "y" in item for item in found):
            raise TrackingError(f"{name} {ONE_CURVE}")
        found = [_points_apart(found)] if all(map(_is_point, found)) else found
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise TrackingError(f"{name}: a list of objects is expected, one for each run")
    rows: list[tuple[str, Mapping[str, Any]]] = [
        (f"{name}, run {n}", _flat(item)) for n, item in enumerate(found, start=1)
    ]
    return read_rows(by_epoch(rows), name)


def _loaded(text: str) -> Any:
    """One value, or where the text is a line of JSON each, a list of them whatever the file is called."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data") or error.lineno < 2:
            raise
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def _is_point(item: Any) -> bool:
    """Whether this is a metric's value at a step, as Comet (``metricName``) and MLflow (``key``) list them."""
    keys = set(item) if isinstance(item, Mapping) else set()
    return {"metricName", "metricValue"} <= keys or {"key", "value", "step"} <= keys


def _points_apart(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A list for each metric among these points, by epoch where each of them has one."""
    step = "epoch" if all(point.get("epoch") is not None for point in points) else "step"
    out: dict[str, Any] = {}
    for n, point in enumerate(points, start=1):
        found = {"step": point.get(step) or n if step == "step" else point[step],
                 "value": point.get("metricValue", point.get("value"))}  # fmt: skip
        out.setdefault(str(point.get("metricName", point.get("key"))), []).append(found)
    return out


def _clearml(found: Mapping[str, Any]) -> dict[str, Any]:
    """The curves of ``task.get_reported_scalars()``: an object for each title, in it one for each series."""
    return {
        f"{series} {title}": [{"step": x, "value": y} for x, y in zip(curve["x"], curve["y"], strict=False)]
        for title, inside in found.items()
        for series, curve in inside.items()
    }


def _is_clearml(found: Mapping[str, Any]) -> bool:
    curves = [c for inside in found.values() for c in (inside.values() if isinstance(inside, Mapping) else [None])]
    return bool(curves) and all(
        isinstance(c, Mapping) and isinstance(c.get("x"), list) and isinstance(c.get("y"), list) for c in curves
    )


def _runs(found: dict[str, Any]) -> list[Any]:
    """The runs of one object: a list under ``runs``, an object for each run's name, or one run."""
    if _is_clearml(found):
        return [_clearml(found)]
    points = found.get("metrics")
    if len(found) == 1 and isinstance(points, list) and points and all(map(_is_point, points)):
        return points
    for key in ("runs", "TrainingJobs"):
        if isinstance(found.get(key), list):
            return list(found[key])
    inside = [value for value in found.values() if isinstance(value, Mapping)]
    reserved = {*_KINDS, *_SPLITS, "info", "data", "run", "mlflow", "history", "config"}
    if any(key.isdecimal() for value in inside for key in value):  # pandas' columns
        return [found]
    if len(inside) < 2 or len(inside) < len(found) or reserved & {key.lower() for key in found}:
        return [found]
    shared = set.intersection(*(set(value) for value in inside))
    return [{"name": key, **value} for key, value in found.items()] if shared else [found]


def _flat(item: Mapping[str, Any]) -> dict[str, Any]:
    """One run's cells under their columns' names."""
    if "TrainingJobName" in item:
        return _sagemaker(item)
    for key in ("run", "mlflow"):
        if isinstance(item.get(key), Mapping) and "info" in item[key]:
            item = item[key]
    if isinstance(item.get("info"), Mapping) and ("data" in item or set(_KINDS) & set(item)):
        data = item["data"] if isinstance(item.get("data"), Mapping) else item
        info = {key: value for key, value in item["info"].items() if key not in ("run_uuid", "lifecycle_stage")}
        item = {**info, **{kind: data[kind] for kind in _KINDS if kind in data}}
    out: dict[str, Any] = {}
    for key, value in item.items():
        if key in _KINDS:
            out |= {f"{key}.{inner}": _points(v) for inner, v in _pairs(value)}
        elif isinstance(value, Mapping):
            if isinstance(_points(value), list):
                out[key] = _points(value)
                continue
            for inner, cell in _nested(str(key), value).items():
                out[inner if inner not in item and inner not in out else f"{key} {inner}"] = cell
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            out |= {key: value} if all({"step", "value"} <= set(v) for v in value) else _columns(value)
        else:
            out[key] = value
    return out


def _nested(key: str, inside: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of an object inside; of one called ``test`` with that before their names."""
    before = f"{key}_" if key.lower() in _SPLITS else ""
    return {f"{before}{k}": _points(v) for k, v in inside.items() if not isinstance(v, Mapping) or k.isdecimal()}


def _pairs(value: Any) -> list[tuple[str, Any]]:
    """Of an object, or of MLflow's list of keys and values."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list):
        return [(v["key"], v.get("value")) for v in value if isinstance(v, Mapping) and isinstance(v.get("key"), str)]
    return []


def _points(value: Any) -> Any:
    """A list of ``{"value", "step"}`` as such, one of them as its value; pandas' ``{"0": …, "1": …}`` as a list."""
    if isinstance(value, Mapping) and value and all(str(key).isdecimal() for key in value):
        return list(value.values())
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping) and "value" in value[0]:
        return value[0]["value"]
    return value


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A list with an object for each epoch, as a list for each of its numbers."""
    out: dict[str, Any] = {}
    for n, row in enumerate(rows, start=1):
        epoch = row.get("epoch", n)
        for key, value in row.items():
            if (
                key not in ("epoch", "step", "global_step")
                and isinstance(value, int | float)
                and not isinstance(value, bool)
            ):
                out.setdefault(key, []).append({"step": epoch, "value": value})
    return out


def _sagemaker(job: Mapping[str, Any]) -> dict[str, Any]:
    """What ``aws sagemaker describe-training-job`` prints of a job; ``trainers.jobs import`` knows it by its ARN."""

    def at(*keys: str) -> Any:
        found: Any = job
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    settings = at("HyperParameters") or {}
    scores = at("FinalMetricDataList") or []
    arn = str(at("TrainingJobArn") or "")
    tags = {
        names.JOB_NAME: at("TrainingJobName"),
        names.JOB_ARN: arn,
        names.REGION: arn.split(":")[3] if arn.count(":") > 3 else None,
        names.INSTANCE_TYPE: at("ResourceConfig", "InstanceType"),
        names.INSTANCE_COUNT: at("ResourceConfig", "InstanceCount"),
        names.IMAGE_URI: at("AlgorithmSpecification", "TrainingImage"),
        names.MODEL_URI: at("ModelArtifacts", "S3ModelArtifacts"),
        names.STATUS_REASON: at("FailureReason"),
    }
    return {
        "name": at("TrainingJobName"),
        "id": arn or at("TrainingJobName"),
        "status": at("TrainingJobStatus"),
        "start_time": at("TrainingStartTime") or at("CreationTime"),
        "end_time": at("TrainingEndTime"),
        names.BILLABLE_TIME_S: at("BillableTimeInSeconds"),
        **{f"params.{key}": str(value).strip('"') for key, value in dict(settings).items()},
        **{f"metrics.{s['MetricName']}": s.get("Value") for s in scores if s.get("MetricName")},
        **{f"tags.{key}": value for key, value in tags.items() if value is not None},
    }
