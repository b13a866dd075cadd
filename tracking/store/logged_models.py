"""A run's model as MLflow's LoggedModel: made once, its files uploaded, its epoch's scores linked to it.

A model is a folder with an ``MLmodel`` among a journal's artifacts. It goes to the LoggedModel alone, not a second time
among the run's artifacts: MLflow finds it there by ``runs:/<run id>/<name>`` as well as by ``models:/<model id>``.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking.errors import ModelError, StoreError
from tracking.journal.checks import CONTEXTS, MAX_STEP
from tracking.journal.files import is_exhausted
from tracking.models.facts import META, MLMODEL
from tracking.models.serving.files import DIGESTS
from tracking.store import artifacts, connection, moved

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from tracking.store.store import Store

MODEL_TYPE = "image-classifier"
_MAX_PARAM_CHARACTERS = 500
_FORBIDDEN = set("/:.%\"'")  # in a model's name


def is_model(folder: Path) -> bool:
    """Whether an artifact is a model that MLflow can hold as one."""
    return (folder / MLMODEL).is_file() and not _FORBIDDEN & set(folder.name)


def fetch(client: MlflowClient, run: Any, name: str, folder: Path) -> Path | None:
    """Where a run's model can be read, as ``artifacts.fetch``; from the run's artifacts where it was logged as one.

    (MLflow's own ``download_artifacts`` looks for models in the process's store, whichever client is asked.)
    """
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [client.get_logged_model(output.model_id) for output in outputs]
    location = next((model.artifact_location for model in reversed(models) if model.name == name), None)
    if location is None:
        return artifacts.fetch(client.tracking_uri, run.info.artifact_uri, name, folder)
    return artifacts.fetch(client.tracking_uri, location, "", folder)


@contextmanager
def folder_of(store: Store, model_uri: str) -> Iterator[Path]:
    """A model's folder: where it is, if that is on this machine, else a copy that lives as long as the block.

    ``model_uri``: ``runs:/RUN/NAME``, ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``models:/MODEL_ID``, all of
    ``store``, or any artifact URI. Raises ModelError, RunNotFound, and StoreError.
    """
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="model-") as scratch:
        why = f"{model_uri} cannot be loaded from {store.public_uri}"
        try:
            with connection.translated(store.tracking_uri):
                client, location = store.client(), model_uri
                while location.startswith(("runs:/", "models:/")):
                    location = _location(store, client, location)
        except (MlflowException, OSError) as error:
            raise ModelError(f"{why}: {error}") from error
        try:
            folder = artifacts.fetch(store.tracking_uri, location, "", Path(scratch))
        except StoreError as error:
            raise ModelError(f"{why}: {error}") from error
        if folder is None or not folder.is_dir():
            raise ModelError(
                f"{why}: {moved.why_missing(store.tracking_uri, location) or f'there is no folder {location}'}"
            )
        yield folder


def _location(store: Store, client: MlflowClient, uri: str) -> str:
    """One step from the name of a model to where its files are."""
    scheme, _, rest = uri.partition(":/")
    name, _, last = rest.rpartition("@" if "@" in rest else "/")
    if scheme == "runs":
        run_id, _, name = rest.partition("/")
        run = store.find_run(run_id)
        outputs = run.outputs.model_outputs if run.outputs else []
        models = [client.get_logged_model(output.model_id) for output in outputs]
        found = [model.artifact_location for model in models if model.name == name]
        return str(found[-1] if found else f"{run.info.artifact_uri}/{name}")
    if not name:
        return str(client.get_logged_model(rest).artifact_location)
    version = client.get_model_version_by_alias(name, last).version if "@" in rest else last
    return str(client.get_model_version_download_uri(name, version))


class LoggedModels:
    """The models of one run, and which of its metrics are theirs: those of the epoch whose weights they have."""

    def __init__(self, client: MlflowClient, run: Any) -> None:
        self._client = client
        self._run_id: str = run.info.run_id
        self._experiment_id: str = run.info.experiment_id
        outputs = run.outputs.model_outputs if run.outputs else []
        self._model_of_step: dict[int, str] = {output.step: output.model_id for output in outputs}
        self.is_kept_twice = False
        self._datasets: dict[str, tuple[str, str]] = {}
        for known in run.inputs.dataset_inputs if run.inputs else []:
            for tag in known.tags:
                if tag.key == "mlflow.data.context":
                    self.note_dataset(tag.value, known.dataset.name, known.dataset.digest)

    def note_dataset(self, context: str, name: str, digest: str) -> None:
        """Scores of this split from now on belong to this dataset."""
        self._datasets[context] = (name, digest)

    def link(self, metric: Metric) -> Metric:
        """The metric with the model it is a score of, and with the split's dataset; unchanged where it is of no model.

        MLflow's table of models' metrics knows no NaN and would say 0, so such a value stays the run's alone.
        """
        model_id = self._model_of_step.get(metric.step)
        if model_id is None or metric.key.startswith("system/") or not math.isfinite(metric.value):
            return metric
        from mlflow.entities import Metric

        split = metric.key.split("_", 1)[0]
        name, digest = self._datasets.get(split, (None, None)) if split in CONTEXTS else (None, None)
        return Metric(
            metric.key,
            metric.value,
            metric.timestamp,
            metric.step,
            model_id=model_id,
            dataset_name=name,
            dataset_digest=digest,
            run_id=self._run_id,
        )

    def upload(self, folder: Path, params: Mapping[str, str]) -> tuple[str, int]:
        """Make the LoggedModel, or find it, and bring its files there; its id and the step of its scores.

        On one file system graph and weights get a second name, not a copy: their digests are in ``model.json``, so
        no one writes them in place. ``is_kept_twice`` says afterwards that this machine holds both after all.
        """
        model = self._find(folder.name)
        if model is None:
            with connection.asked_once():
                model = self._client.create_logged_model(
                    self._experiment_id,
                    name=folder.name,
                    source_run_id=self._run_id,
                    params={key: value for key, value in params.items() if len(value) <= _MAX_PARAM_CHARACTERS},
                    model_type=MODEL_TYPE,
                )
        step = _step(folder)
        with tempfile.TemporaryDirectory() as scratch:
            description = Path(scratch) / MLMODEL
            description.write_text(described(folder, model, self._run_id), encoding="utf-8")
            target = artifacts.local_folder(model.artifact_location)
            if target is None:
                self._client.log_model_artifacts(model.model_id, str(folder))
                artifacts.check_arrived(folder, model.artifact_location, self._client.tracking_uri)
                self._client.log_model_artifact(model.model_id, str(description))
                artifacts.check_arrived(description, model.artifact_location, self._client.tracking_uri)
            else:
                fixed = _fixed(folder)
                for part in sorted(folder.iterdir()):
                    if part.name != MLMODEL:
                        artifacts.copy(part, target / part.name, may_link=part.name in fixed)
                self.is_kept_twice = not all((target / name).samefile(folder / name) for name in fixed)
                artifacts.copy(description, target / MLMODEL, may_link=False)
        self._model_of_step[step] = str(model.model_id)
        return str(model.model_id), step

    def scores(self, step: int) -> list[Metric]:
        """What the store has of this step, linked to the step's model."""
        keys = self._client.get_run(self._run_id).data.metrics
        histories = (self._client.get_metric_history(self._run_id, key) for key in sorted(keys))
        return [self.link(metric) for history in histories for metric in history if metric.step == step]

    def finish(self, model_id: str, step: int) -> None:
        """Say that the model is one of the run's outputs, and ready."""
        from mlflow.entities import LoggedModelOutput

        outputs = self._client.get_run(self._run_id).outputs
        known = [(output.model_id, output.step) for output in outputs.model_outputs] if outputs else []
        if (model_id, step) not in known:
            self._client.log_outputs(self._run_id, [LoggedModelOutput(model_id, step)])
        self._client.finalize_logged_model(model_id, "READY")

    def _find(self, name: str) -> Any:
        found = self._client.search_logged_models([self._experiment_id], f"source_run_id = '{self._run_id}'")
        return next((model for model in found if model.name == name), None)


def _fixed(folder: Path) -> set[str]:
    """The files of a model whose digests it states."""
    stated = _facts(folder).get(DIGESTS)
    return {part.name for part in folder.iterdir() if part.name in stated} if isinstance(stated, dict) else set()


def _facts(folder: Path) -> dict[str, Any]:
    """What a model's ``model.json`` says; nothing where it has none."""
    try:
        return dict(json.loads((folder / META).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        if is_exhausted(error):
            raise
        return {}


def _step(folder: Path) -> int:
    """The epoch of a model's weights, 0 where it says none."""
    epoch = _facts(folder).get("epoch")
    return epoch if isinstance(epoch, int) and abs(epoch) <= MAX_STEP else 0


def described(folder: Path, model: Any, run_id: str) -> str:
    """The text of a model's MLmodel with what only the store knows."""
    import yaml

    try:
        found = dict(yaml.safe_load((folder / MLMODEL).read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"{MLMODEL} is not YAML: {error}") from None
    known = {"artifact_path": model.artifact_location, "model_id": model.model_id, "run_id": run_id}
    return str(yaml.safe_dump({**found, **known, "model_uuid": model.model_id}, sort_keys=False, allow_unicode=True))
