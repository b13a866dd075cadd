"""A study in a queue of AWS Batch: launches without capacity, the launcher killed (SIGKILL): each job once, each bill.

python tests/benchmarks/bench_queue.py [--jobs 100] [--kills 10] [--refused 0.4] [--machines 40] [--speed 8]
The launcher submits with --detach and is then started as `jobs watch`; both are killed at random moments.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import ROOT
from tests.support.aws.answers import answering
from tests.support.aws.batch import Queue
from tests.support.aws.fake import FakeSageMaker, Plan, ScaledClock, environment, running
from tests.support.aws.launches import ROLE
from tracking import names
from tracking.store import Store
from trainers.sagemaker.job import ledger

USD = {"ml.p3.2xlarge": 3.825, "ml.g4dn.xlarge": 0.7364}
STUDY = """
title = "many"
[settings]
num_layers = 18
image_shape = "3,224,224"
num_classes = 2
num_training_samples = 640
epochs = 3
seed = {seeds}
[[runs]]
name = "cats"
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--refused", type=float, default=0.4)
    parser.add_argument("--machines", type=int, default=40)
    parser.add_argument("--speed", type=float, default=8.0)
    asked = parser.parse_args()
    chance = random.Random(7)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with running(folder / "aws", ScaledClock(asked.speed)) as fake, answering(fake.moto_url) as answers:
            for split in ("train", "validation"):
                fake.put(f"s3://bucket-one/data/{split}/{split}.rec", b"pictures")

            def launches(number: int) -> Plan | None:
                fake.without_capacity = {"ml.p3.2xlarge"} if chance.random() < 0.5 else set()
                return Plan(fails_in="Starting") if chance.random() < asked.refused else None

            fake.batch.launches = launches
            fake.batch.queues["gpus"] = Queue(name="gpus", most=asked.machines)
            where = {**environment(fake), **answers.environment()}
            uri = f"sqlite:///{folder}/mlruns/mlflow.db"
            where |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": uri}
            (folder / "study.toml").write_text(STUDY.format(seeds=list(range(asked.jobs))))
            store = Store(uri, folder / "mlruns" / "artifacts", folder / "mlruns" / "journals")
            store.client()
            began = time.monotonic()
            kills = _run(folder, {**os.environ, **where}, asked.kills, asked.jobs, fake, chance)
            return _verdict(store, fake, asked.jobs, kills, time.monotonic() - began)


def _run(
    folder: Path, variables: dict[str, str], most: int, count: int, fake: FakeSageMaker, chance: random.Random
) -> int:
    """Launch, then watch, each anew after every kill until it ends by itself; how many kills there were."""
    data = [f"--{split}=s3://bucket-one/data/{split}/" for split in ("train", "validation")]
    launch = ["trainers.run", "--on", "sagemaker-builtin", "--study", "study.toml", "--queue", "gpus", "--detach"]
    launch += ["--yes", "--force", "--instance-type", ",".join(USD), "--role", ROLE, "--output", "s3://bucket-one/jobs"]
    watch = ["trainers.jobs", "watch", "--quiet", "--poll", "2"]
    kills = 0

    def far() -> int:
        """How many jobs are submitted, and while they are watched, how many are done."""
        return sum(job.status == "SUCCEEDED" or words is not watch for job in list(fake.batch.jobs))

    for words, share in (([*launch, *data], 0.7), (watch, 1.0)):
        code = -1
        while code < 0:
            before = far()
            with (folder / "log").open("ab") as log:
                command = [sys.executable, "-m", *words]
                process = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log)
            while kills < most * share and process.poll() is None and far() <= min(before, count - 1):
                time.sleep(0.05)
            time.sleep(chance.uniform(0, 3))
            if kills < most * share and process.poll() is None:
                process.kill()
                kills += 1
            code = process.wait()
            print(f"{words[0]}: exit {code}, {before} before, {far()} after", flush=True)
    # What a killed watcher had in the journals and not yet in MLflow.
    subprocess.run([sys.executable, "-m", "tracking", "sync"], cwd=folder, env=variables, check=True)
    return kills


def _verdict(store: Store, fake: FakeSageMaker, count: int, kills: int, took_s: float) -> int:
    entries = list(ledger.entries(store.journals))
    runs = {run.data.tags[names.JOB_NAME]: run for run in store.runs()}
    ids = [run.info.run_id for run in store.runs()]
    tokens = {job.request["clientToken"] for job in fake.batch.jobs}
    wrong = [entry.name for entry in entries if entry.ended != "finished"]
    types: Counter[str] = Counter()
    for entry in entries:
        paid = fake.job(entry.arn.rpartition("/")[2])
        types[paid.selected] += 1
        if entry.name not in runs:
            wrong.append(f"{entry.name} is not in MLflow")
            continue
        metrics, tags = runs[entry.name].data.metrics, runs[entry.name].data.tags
        usd = paid.billable_s / 3600 * USD[paid.selected]
        if abs(metrics[names.COST_USD] - usd) > 1e-6 or tags[names.INSTANCE_TYPE] != paid.selected:
            wrong.append(f"{entry.name}: {metrics[names.COST_USD]} on {tags[names.INSTANCE_TYPE]}, not {usd}")
    refused = len(fake.batch.order) - len(fake.batch.jobs)
    print(
        f"{len(entries)} recorded, {len(fake.batch.jobs)} in the queue, {len(runs)} runs in MLflow; {kills} kills;"
        f" {len(fake.batch.order)} launches, {refused} without capacity; {dict(types)};"
        f" {len(fake.batch.faults)} faults by the API's models; {took_s:.0f} s"
    )
    print("\n".join(wrong + fake.batch.faults) or "each cost is that of the machine that ran")
    whole = len(entries) == len(fake.batch.jobs) == len(tokens) == len(runs) == len(ids) == count
    return 0 if whole and not wrong and not fake.batch.faults else 1


if __name__ == "__main__":
    sys.exit(main())
