"""Write ``tree_2026_11_23.tar.gz``: what the project of 2026-11-23 left behind, for every later version to read.

Made once, by that day's code, in an empty folder; kept for how it was made. Holds a study of three runs (two done, one
killed), a journal that never reached the store, the ledger of a cloud job, the store as SQL, and that day's pages.
``@ROOT@`` stands for the folder.
"""

import io
import json
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np

import tracking.run
from tracking import names
from trainers import predictions
from trainers.data.dataset import Split
from trainers.data.pictures import ArrayPictures
from trainers.sagemaker import ledger
from trainers.study import load

STUDY = """\
title = "Three old runs"
[settings]
dataset = "digits"
epochs = 3
[[runs]]
num_layers = [20, 32, 44]
"""
GOLDEN = Path(__file__).parent


def main(folder: Path) -> None:
    study_file = folder / "old.toml"
    study_file.write_text(STUDY)
    study = load(str(study_file))
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 60).astype(np.int32)
    pixels = generator.integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)
    split = Split(ArrayPictures(pixels, "old"), labels, tuple(f"{n}.png" for n in range(60)))
    runs = {}
    for number, planned in enumerate(study.runs):
        config = planned.config
        with tracking.run.start(
            experiment="image-classification", run_name=config.run_name, system_metrics=False
        ) as run:
            run.params(config.params())
            run.tags({names.STUDY: study.name, names.STUDY_RUN: planned.key, **config.tags})
            for context, count in (("train", 100), ("validation", 20), ("test", 60)):
                run.dataset(
                    context,
                    name="digits",
                    digest=f"{context}-0123456789abcdef",
                    source="here",
                    num_images=count,
                    num_classes=10,
                )
            for epoch in range(1, 4 if number < 2 else 2):
                run.metrics(
                    {
                        names.TRAIN_ACCURACY: 0.3 * epoch,
                        names.VALIDATION_ACCURACY: 0.25 * epoch + 0.01 * number,
                        names.TRAIN_LOSS: 1 / epoch,
                    },
                    step=epoch,
                )
            if number < 2:
                right = generator.random(60) < (0.9, 0.7)[number]
                answers = np.full((60, 10), 0.05, np.float32)
                answers[np.arange(60), np.where(right, labels, (labels + 1) % 10)] = 0.55
                path = folder / "test.parquet"
                predictions.write(path, split, answers)
                run.artifact(path, "predictions")
                accuracy = float((answers.argmax(1) == labels).mean())
                run.metrics({names.TEST_ACCURACY: accuracy, names.TRAINING_TIME_S: 20.0 + number}, step=3)
                run.text("an old log\n", "train.log")
            else:
                run.finish("KILLED", "interrupted")
        runs[planned.key] = run.journal_id
    with tracking.run.start(
        experiment="image-classification", run_name="never synced", live=None, system_metrics=False
    ) as run:
        run.params({"num_layers": 56, "epochs": 1, "seed": 7})
        run.metrics({names.VALIDATION_ACCURACY: 0.5}, step=1)
        run.text("never synced\n", "note.txt")
    with tracking.run.start(
        experiment="image-classification", run_name="a cloud job", live=None, system_metrics=False
    ) as run:
        run.params({"num_layers": 34})
        request = json.loads((GOLDEN / "sagemaker_builtin_recordio.json").read_text())
        ledger.Entry(
            name="old-job",
            kind=ledger.BUILTIN,
            region="us-east-1",
            profile=None,
            request=request,
            experiment="image-classification",
            run_name="a cloud job",
            dataset="s3://bucket-one/data",
            created_ms=1_700_000_000_000,
            price={"hourly_usd": 0.736},
            arn="arn:aws:sagemaker:us-east-1:123456789012:training-job/old-job",
            submitted_ms=1_700_000_001_000,
            ended="Completed",
            directory=run.dir,
        ).save()


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    main(folder)
    files = {"old.toml": (folder / "old.toml").read_text()}
    for kind in ("md", "csv", "json"):
        form = kind
        files[f"leaderboard.{kind}"] = subprocess.run(
            [sys.executable, "-m", "reports", "leaderboard", "--format", form],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    database = folder / "mlruns" / "mlflow.db"
    with sqlite3.connect(database) as connection:
        pairs = connection.execute("select run_uuid, name from runs order by start_time").fetchall()
        a, b = (r for r, n in pairs if n and "44" not in n)
        files["compare.md"] = subprocess.run(
            [sys.executable, "-m", "reports", "compare", a, b], capture_output=True, text=True, check=True
        ).stdout
        files["card.md"] = subprocess.run(
            [sys.executable, "-m", "reports", "run", a], capture_output=True, text=True, check=True
        ).stdout
        files["store.sql"] = "\n".join(connection.iterdump())
    files["ids.json"] = json.dumps(dict(pairs))
    with tarfile.open(GOLDEN / "tree_2026_11_23.tar.gz", "w:gz") as tar:

        def add(name, data):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

        for path in sorted((folder / "mlruns").rglob("*")):
            if path.is_file() and path.suffix != ".db" and not path.name.startswith("."):
                data = path.read_bytes()
                if path.suffix in (".json", ".jsonl", ".txt", ".log"):
                    data = data.replace(str(folder).encode(), b"@ROOT@")
                add(str(path.relative_to(folder)), data)
        for name, text in files.items():
            add(name, text.replace(str(folder), "@ROOT@").encode())
