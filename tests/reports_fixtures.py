"""Fill a real MLflow store with runs such as the trainers log, without training anything."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

START_MS = 1_700_000_000_000


@functools.cache
def _blank() -> Path:
    """An empty store, made once a session: MLflow takes seconds to migrate a new database."""
    folder = Path(tempfile.mkdtemp(prefix="blank-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


def new_store(folder: Path) -> Filler:
    """A filler over a fresh SQLite store in ``folder``."""
    shutil.copy(_blank(), folder / "mlflow.db")
    return Filler(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")


class Filler:
    """Writes runs into a store at ``uri``, one after another, at made-up but fixed times."""

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        self.uri = uri
        self.artifacts = artifacts
        self.client = MlflowClient(tracking_uri=uri)
        self.clock_ms = START_MS

    def experiment(self, name: str) -> str:
        known = self.client.get_experiment_by_name(name)
        if known is not None:
            return known.experiment_id
        location = None if self.artifacts is None else (self.artifacts / name).as_uri()
        return self.client.create_experiment(name, artifact_location=location)

    def run(
        self,
        name: str = "a run",
        *,
        experiment: str = "image-classification",
        params: dict[str, Any] | None = None,
        metrics: dict[str, float] | None = None,
        tags: dict[str, Any] | None = None,
        curves: dict[str, list[float]] | None = None,
        inputs: dict[str, str] | None = None,
        status: str = "FINISHED",
        seconds: float = 60.0,
    ) -> str:
        """One run; ``curves`` are values by epoch from 1, ``inputs`` are dataset digests by context. Returns its id."""
        start = self.clock_ms
        end = start + int(seconds * 1000)
        self.clock_ms = end + 1000
        client = self.client
        run = client.create_run(self.experiment(experiment), start_time=start, run_name=name)
        run_id = run.info.run_id
        points = [Metric(k, v, end, 0) for k, v in (metrics or {}).items()]
        for key, values in (curves or {}).items():
            points += [Metric(key, v, start + 1000 * i, i) for i, v in enumerate(values, 1)]
        client.log_batch(
            run_id,
            metrics=points,
            params=[Param(k, str(v)) for k, v in (params or {}).items()],
            tags=[RunTag(k, str(v)) for k, v in (tags or {}).items()],
        )
        if inputs:
            client.log_inputs(
                run_id,
                [
                    DatasetInput(Dataset("pictures", digest, "local", "{}"), [InputTag("mlflow.data.context", context)])
                    for context, digest in inputs.items()
                ],
            )
        if status != "RUNNING":
            client.set_terminated(run_id, status, end)
        return run_id


def trained(
    depth: int = 44,
    init: str = "scratch",
    epochs: int = 30,
    seed: int = 0,
    test: float | None = 0.95,
    *,
    images: int = 360,
    dataset: str = "digits",
    digest: str | None = "d1",
    **params: Any,
) -> dict[str, Any]:
    """The keyword arguments of ``Filler.run`` for a run such as ``trainers.run`` logs."""
    settings = {
        "num_layers": depth,
        "init": init,
        "epochs": epochs,
        "seed": seed,
        "dataset": dataset,
        "mini_batch_size": 32,
        "learning_rate": 0.1,
        **params,
    }
    fingerprint = "-".join(str(settings[k]) for k in sorted(settings) if k != "seed")
    tags = {"config_fingerprint": fingerprint, "init_label": init, "launcher": "local"}
    if digest is not None:
        tags["test_dataset_digest"] = digest
    metrics = {"training_time_s": 50.0, "total_time_s": 60.0, "images_per_s": 900.0, "num_parameters": 660_000.0}
    if test is not None:
        metrics |= {"test_accuracy": test, "test_num_images": float(images)}
    base = 0.9 if test is None else test
    curves = {
        "train_accuracy": [base - 0.1, base, min(base + 0.01, 1.0)],
        "validation_accuracy": [base - 0.12, base - 0.01, base - 0.005],
    }
    return {
        "name": f"{depth} layers, {init}, seed {seed}",
        "params": settings,
        "metrics": metrics,
        "tags": tags,
        "curves": curves,
        "seconds": 60.0,
    }
