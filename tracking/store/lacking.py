"""Whether a store still has what it was sent; one that was put back from an older copy does not."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking.journal.checks import Event, text_from
from tracking.store.logged_models import is_model

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Taken off where a run goes on after it had ended.
_PASSING = {names.STATUS_REASON, names.ERROR_TYPE}


def lacks(client: MlflowClient, run: Any, directory: Path, events: Iterable[Event], *, attached: bool) -> bool:
    """Whether the run is without a point, a parameter, a tag, a data set, a model or the end that ``events`` tell of.

    Values are not compared, nor are files looked for. ``attached``: the run's status is another program's.
    """
    points: dict[str, array[int]] = {}  # step and time in turn: a run may have a million
    named: dict[str, set[str]] = {"param": set(), "tag": set()}
    digests: set[str] = set()
    models: set[str] = set()
    status = None
    for event in events:
        kind = event["event"]
        if kind == "metric":
            for key in event["values"]:
                points.setdefault(key, array("q")).extend((event["step"], event["time_ms"]))
        elif kind in named:
            named[kind] |= event["values"].keys()
        elif kind == "dataset":
            digests.add(text_from(event["digest"]))
        elif kind == "artifact" and not event["artifact_path"] and is_model(directory / event["path"]):
            models.add(event["path"])
        elif kind == "status" and not attached:
            status = event["status"]
    if status not in (None, run.info.status) or points.keys() - run.data.metrics.keys():
        return True
    if named["param"] - run.data.params.keys() or named["tag"] - _PASSING - run.data.tags.keys():
        return True
    if names.SERVER_LACKS not in run.data.tags:
        known = {given.dataset.digest for given in run.inputs.dataset_inputs} if run.inputs else set()
        if digests - known or len(models) > len(run.outputs.model_outputs if run.outputs else ()):
            return True
    for key, expected in points.items():
        found = client.get_metric_history(run.info.run_id, key)
        if set(zip(expected[::2], expected[1::2], strict=True)) - {(point.step, point.timestamp) for point in found}:
            return True
    return False
