"""Runs that could be promoted: their models, and the scores by which they are compared."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking.errors import ModelError
from tracking.store.connection import translated

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tracking.store import Store

MODEL_NAME = "model"
_CHOOSING = ("validation", "test")  # splits whose pictures the network did not learn from


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run's model and its score: ``metric``'s value at the epoch of the model's weights, on which pictures."""

    run_id: str
    run_name: str
    model_id: str
    metric: str
    score: float
    digest: str | None
    num_images: int | None

    def __str__(self) -> str:
        on = "" if self.num_images is None else f" on {self.num_images:,} pictures"
        return f"run {self.run_id[:8]} ({self.run_name}), {self.metric} {self.score:.4f}{on}"


def candidate(store: Store, run_id: str, metric: str = names.VALIDATION_ACCURACY) -> Candidate:
    """A run's model. Raises RunNotFound, and ModelError for a run that has no model or no such score."""
    client = store.client()
    with translated(store.tracking_uri):
        return candidate_of(client, store.find_run(run_id), metric)


def best(
    store: Store, *, experiment: str | None = None, dataset: str | None = None, metric: str = names.VALIDATION_ACCURACY
) -> Candidate:
    """The finished run with the best score of an experiment (None: the default one), if they can be compared.

    Raises ModelError when none has a model and a score, or when their validation pictures differ.
    """
    sign = 1 if choosing_direction(metric) else -1
    client = store.client()
    found, datasets = [], set()
    with translated(store.tracking_uri):
        for run in store.runs([store.experiment_id(experiment, create=False)], "attributes.status = 'FINISHED'"):
            data = str(run.data.params.get("dataset", ""))
            shown = re.split(r"[/\\]", data.rstrip("/\\"))[-1]  # as the leaderboard calls it
            if names.PRETEXT in run.data.tags or (dataset and dataset.rstrip("/\\") not in (data.rstrip("/\\"), shown)):
                continue
            try:
                found.append(candidate_of(client, run, metric))
            except ModelError:
                continue  # a run without model or score is no candidate
            datasets.add(data)
    if not found:
        raise ModelError(f"no finished run of the experiment has a model and a {metric}; name a run, or train one.")
    if len({one.digest for one in found}) > 1:
        raise ModelError(
            f"{len(found)} runs were scored on {len({one.digest for one in found})} different sets of pictures, so none"
            f" is the best of all; {_choose(datasets)}name the run."
        )
    return max(found, key=lambda one: (sign * one.score, one.run_id))


def _choose(datasets: set[str]) -> str:
    listed = " or ".join(f"--dataset {shlex.quote(data)}" for data in sorted(datasets - {""})[:5])
    return f"choose with {listed}, or " if len(datasets) > 1 and listed else ""


def candidate_of(client: MlflowClient, run: Any, metric: str) -> Candidate:
    """As ``candidate``, for a run in hand."""
    known = names.ALL.get(("metric", metric))
    choosing_direction(metric)
    shown = f"run {run.info.run_id[:8]} ({run.info.run_name})"
    if names.PRETEXT in run.data.tags:
        raise ModelError(f"{shown} learned {run.data.tags[names.PRETEXT]}, not the labels; its model is a source only.")
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [(one.step, client.get_logged_model(one.model_id)) for one in outputs]
    models = [(step, model) for step, model in models if model.name == MODEL_NAME]
    if not models:
        raise ModelError(
            f"{shown} has no model in MLflow. Did it finish? `python -m tracking sync` uploads what is left."
        )
    step, model = models[-1]
    score = _score(client, run, model, metric, step)
    if score is None:
        scores = [key for key in sorted(run.data.metrics) if _can_choose(key)]
        raise ModelError(f"{shown} has no {metric} of epoch {step}, its model's; it has {', '.join(scores) or 'none'}.")
    assert known is not None
    if not (known.low is None or score >= known.low) or not (known.high is None or score <= known.high):
        raise ModelError(f"{shown} has {metric} {score:g}, which is impossible; it is not a candidate.")
    split = metric.split("_", 1)[0]
    count = run.data.metrics.get(names.num_images(split))
    return Candidate(
        run_id=run.info.run_id,
        run_name=str(run.info.run_name),
        model_id=model.model_id,
        metric=metric,
        score=float(score),
        digest=run.data.tags.get(f"{split}_dataset_digest"),
        num_images=None if count is None else int(count),
    )


def _score(client: MlflowClient, run: Any, model: Any, metric: str, step: int) -> float | None:
    """The newest value of the epoch whose weights the model has; other epochs' are not this model's."""
    known = [one for one in model.metrics or [] if one.key == metric and one.step == step]
    if not known and metric in run.data.metrics:
        known = [one for one in client.get_metric_history(run.info.run_id, metric) if one.step == step]
    return float(max(known, key=lambda one: one.timestamp).value) if known else None


def choosing_direction(metric: str) -> bool:
    """Which way a score is better. Raises ModelError for a metric that is no score."""
    known = names.ALL.get(("metric", metric))
    if known is None or not _can_choose(metric):
        legal = ", ".join(one.key for one in names.METRICS if one.better and one.key.startswith("validation"))
        raise ModelError(f"{metric!r} is not a score to choose a model by; take one of {legal}.")
    return known.better == "higher"


def _can_choose(metric: str) -> bool:
    """Speed and cost have a better direction too, and so has the score on the pictures that were learned by heart."""
    known = names.ALL.get(("metric", metric))
    return known is not None and bool(known.better) and metric.split("_", 1)[0] in _CHOOSING
