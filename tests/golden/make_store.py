"""Make a small store with the MLflow of this environment and print it as SQL text, for tests/golden.

``python tests/golden/make_store.py > tests/golden/mlflow_store_VERSION.sql`` with that version alone installed. A file
that is there stays as it is, whatever is changed here: it is what that version of MLflow left.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import tempfile
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param, RunTag

START_MS = 1_700_000_000_000


def fill(client: mlflow.MlflowClient) -> None:
    """Two runs, a deleted one, a registered model; a dataset and a logged model where the version knows them."""
    experiment = client.create_experiment("flowers", artifact_location="/data/artifacts")
    for depth, score in ((34, 0.91), (44, 0.93), (20, 0.99)):
        run = client.create_run(
            experiment, START_MS, tags={"mlflow.runName": f"depth-{depth}", "mlflow.user": "tester", "note": "x"}
        )
        run_id = run.info.run_id
        metrics = [Metric("train_accuracy", 0.5, START_MS + 1, 1), Metric("train_accuracy", 0.8, START_MS + 2, 2)]
        metrics += [Metric("test_accuracy", score, START_MS + 1000, 2), Metric("odd", float("nan"), 1, 0)]
        params = [Param("num_layers", str(depth)), Param("seed", "0")]
        client.log_batch(run_id, metrics, params, [RunTag("more", "y")])
        if hasattr(client, "log_inputs"):
            from mlflow.entities import Dataset, DatasetInput, InputTag

            dataset = Dataset("flowers", "d1", "local", '{"uri": "/data/flowers"}', profile='{"num_rows": 100}')
            client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "test")])])
        if hasattr(client, "create_logged_model"):
            client.create_logged_model(experiment, name="model", source_run_id=run_id)
        client.set_terminated(run_id, "FINISHED", START_MS + 60_000)
        if depth == 20:
            client.delete_run(run_id)
    client.create_registered_model("m")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        fill(mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}", registry_uri=f"sqlite:///{path}"))
        raw = sqlite3.connect(path)
        text = "\n".join(raw.iterdump()).replace(folder, "/data")
        raw.close()
    # The user and folder of the machine that it was made on are nothing of MLflow's.
    sys.stdout.write(re.sub(r"/[\w/.-]*/mlruns/0", "/data/mlruns/0", text) + "\n")


if __name__ == "__main__":
    main()
