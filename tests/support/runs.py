"""Fill a real MLflow store with runs such as the trainers log, without training anything."""

from __future__ import annotations

import atexit
import functools
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.support.stores import made_database

START_MS = 1_700_000_000_000


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: Any, _: Any) -> None:
    """Stores of tests need not outlive a power cut; waiting for the disk would be most of the time they take."""
    if isinstance(connection, sqlite3.Connection) and not connection.execute("PRAGMA query_only").fetchone()[0]:
        connection.execute("PRAGMA synchronous = OFF")


def new_store(folder: Path) -> Filler:
    """A filler over a fresh SQLite store in ``folder``."""
    shutil.copy(made_database(), folder / "mlflow.db")
    return Filler(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")


@functools.cache
def _shared() -> Filler:
    folder = Path(tempfile.mkdtemp(prefix="shared-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return new_store(folder)


def empty_store() -> Filler:
    """A filler over this process's one store, emptied: MLflow takes a tenth of a second to open another."""
    shared = _shared()
    with sqlite3.connect(shared.uri.removeprefix("sqlite:///")) as raw:
        raw.execute("PRAGMA synchronous = OFF")
        tables = [row[0] for row in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in sorted(set(tables) - {"alembic_version", "experiments", "workspaces"}):
            raw.execute(f"DELETE FROM {table}")
        raw.execute("DELETE FROM experiments WHERE experiment_id != 0")
    raw.close()
    shared.clock_ms = START_MS
    return shared


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


def predictions(
    filler: Filler,
    run_id: str,
    right: float,
    *,
    split: str = "test",
    images: int = 360,
    classes: int = 10,
    seed: int = 0,
) -> None:
    """Log predictions of which the share ``right`` is right; with the same ``seed`` networks fail on like pictures."""
    generator = np.random.Generator(np.random.PCG64(12345))
    label = generator.integers(0, classes, images)
    hardness = generator.random(images)
    noise = np.random.Generator(np.random.PCG64(seed)).random(images)
    order = np.argsort(0.7 * hardness + 0.3 * noise, kind="stable")
    hit = np.zeros(images, dtype=bool)
    hit[order[: round(right * images)]] = True
    wrong = (label + 1 + generator.integers(0, 2, images)) % classes
    frame = pd.DataFrame(
        {
            "image_digest": [f"{i:064x}" for i in range(images)],
            "key": [str(i) for i in range(images)],
            "label": label.astype("int32"),
            "predicted": np.where(hit, label, wrong).astype("int32"),
            "probability": np.where(hit, 0.6 + 0.4 * (1 - hardness), 0.3 + 0.5 * noise).astype("float32"),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{split}.parquet"
        frame.to_parquet(path)
        filler.client.log_artifact(run_id, str(path), "predictions")


def demo(filler: Filler) -> dict[str, list[str]]:
    """A store with a bit of everything the leaderboard has something to say about; run ids by what they are."""
    made: dict[str, list[str]] = {}
    for name, depth, init, epochs, scores in (
        ("deep", 44, "scratch", 30, (0.969, 0.972, 0.975)),
        ("deeper", 44, "scratch", 50, (0.975, 0.978, 0.981)),
        ("transfer", 34, "transfer from rotation", 50, (0.983, 0.986, 0.983)),
        ("shallow", 34, "scratch", 30, (0.961, 0.958)),
    ):
        for seed, score in enumerate(scores):
            settings = trained(depth, init, epochs, seed, score)
            settings["metrics"] |= {
                "test_accuracy": round(score * 360) / 360,
                "total_time_s": epochs * (2.1 if depth == 44 else 1.4) + seed,
                "model_size_bytes": 2.7e6 if depth == 44 else 85.2e6,
                "num_parameters": 661_000.0 if depth == 44 else 21_290_000.0,
                "best_validation_accuracy": score - 0.003,
            }
            rise = [score - 0.5 * 0.86**e for e in range(1, epochs + 1)]
            settings["curves"] = {
                "train_accuracy": [min(v + 0.01, 1.0) for v in rise],
                "validation_accuracy": [v - 0.004 - 0.002 * (e % 3) for e, v in enumerate(rise)],
            }
            run_id = filler.run(**settings)
            predictions(filler, run_id, score, seed=depth + seed)
            made.setdefault(name, []).append(run_id)
    made["missing"] = [filler.run(**trained(34, "transfer from rotation", 100, 0, None))]
    made["source"] = [filler.run("34 layers, rotation", params={"num_layers": 34}, tags={"pretext": "rotation"})]
    made["failed"] = [
        filler.run(
            "44 layers, learning rate 1",
            params={"num_layers": 44, "learning_rate": 1},
            tags={
                "status_reason": "the loss is not a number after step 12 of epoch 1",
                "error_type": "TrainingDiverged",
            },
            status="FAILED",
            seconds=12,
        )
    ]
    made["running"] = [filler.run("still going", params={"num_layers": 20}, status="RUNNING")]
    return made
