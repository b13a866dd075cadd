"""Watching 100 jobs at once, in real time: calls a second against AWS's limits, memory, how late an end is noticed.

The fake runs in this process, the watcher in another (with MLflow, as ``python -m trainers.jobs watch`` has it).
Limits: no throttling, 200 MB, 60 s. The peer is boto3's own waiter, one a job, which looks every 120 s by default.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS.parent))
NUM_JOBS = int(os.environ.get("BENCH_JOBS", "100"))


def watch(folder: Path) -> None:
    """The watcher's process: watch everything in the ledger, then tell what it took."""
    from tracking.store import Store
    from trainers.sagemaker.aws.client import Aws
    from trainers.sagemaker.job import ledger
    from trainers.sagemaker.watch.many_jobs import Fleet

    noticed: dict[str, float] = {}
    peaks = []

    def look(fleet: Fleet) -> None:
        noticed.update({job.entry.name: job.ended_noticed_s for job in fleet.jobs if job.ended_noticed_s is not None})
        peaks.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

    store = Store(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts", folder / "journals")
    aws = Aws(region="us-east-1")
    started = time.process_time()
    fleet = Fleet(list(ledger.entries(folder / "journals")), lambda entry: aws, store=store, on_round=look)
    outcomes = fleet.run()
    finished = sum(outcome is not None and outcome.state == "finished" for outcome in outcomes)
    told = {"noticed": noticed, "peak": max(peaks), "cpu_s": time.process_time() - started, "finished": finished}
    print(json.dumps(told))


def main() -> None:
    """Make the jobs, let them be watched, compare."""
    from tests.support.aws.fake import RATES_PER_S, Plan, environment, running
    from tests.support.aws.launches import CONFIG, options
    from tests.support.clock import ScaledClock
    from trainers.sagemaker.aws.client import Aws
    from trainers.sagemaker.job.launcher import SageMakerLauncher

    with (
        tempfile.TemporaryDirectory() as name,
        running(Path(name) / "fake", ScaledClock(1.0), rates_per_s={"CreateTrainingJob": 1000}) as fake,
    ):
        folder = Path(name)
        os.environ.update(environment(fake))
        for split in ("train", "validation"):
            fake.put(f"s3://bucket-one/data/{split}/{split}.rec", b"pictures")
        aws = Aws(region="us-east-1")
        aws.pace._rates = {}  # making the jobs is not what is measured
        where = SageMakerLauncher(options(), "sagemaker-builtin", folder / "journals", experiment="bench", aws=aws)
        for number in range(NUM_JOBS):
            plan = Plan(
                pending_s=number * 60 / NUM_JOBS, starting_s=20, downloading_s=5, image_s=5, epoch_s=15, uploading_s=5
            )
            entry, journal = where.record(where.plan(replace(CONFIG, seed=number, run_name=f"job{number:03d}")))
            journal.close()
            fake.plan(entry.name, plan)
            from trainers.sagemaker.job.submit import send

            send(aws, entry)
        fake.calls.clear()
        argv, started = [sys.executable, __file__, "--watch", str(folder)], time.monotonic()
        done = subprocess.run(argv, capture_output=True, text=True, timeout=900, env=dict(os.environ))
        assert done.returncode == 0, done.stderr
        told, took_s = json.loads(done.stdout.splitlines()[-1]), time.monotonic() - started
        assert told["finished"] == NUM_JOBS, told
        late = sorted(told["noticed"][job.name] - (job.ended_at or 0.0) for job in fake.jobs.values())
        print(f"{NUM_JOBS} jobs watched for {took_s:.0f} s, {told['cpu_s']:.1f} s of processor time")
        throttled = Counter(name for name, _, code in fake.calls if code == "ThrottlingException")
        for operation in sorted({name for name, _, _ in fake.calls}):
            count, most = fake.count(operation), fake.fastest_second(operation)
            limit = f"limit {RATES_PER_S[operation]:g}/s" if operation in RATES_PER_S else ""
            print(
                f"  {operation:25} {count:5} calls, {count / took_s:5.2f}/s, most in a second {most:2}, throttled"
                f" {throttled[operation]}  {limit}"
            )
        peak_mb = told["peak"] / 1e6
        print(f"  memory {peak_mb:.0f} MB with MLflow ({peak_mb / 200:.2f} of 200 MB)")
        middle, most_s = late[len(late) // 2], late[-1]
        print(f"  an end is noticed after {middle:.0f} s (middle), {most_s:.0f} s (most; {most_s / 60:.2f} of 60 s)")
        print(f"  ratio to boto3's waiter, that looks every 120 s: noticed {120 / most_s:.1f} times sooner at worst")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        watch(Path(sys.argv[2]))
    else:
        main()
