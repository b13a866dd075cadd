"""What tracking costs: one metric on the training thread, all of it in a run, and bringing a journal into MLflow.

``python tests/benchmarks/bench_tracking.py``. The peer is MLflow's own client on the same sqlite store in the same run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tracking.journal import Journal  # noqa: E402
from tracking.store import Store  # noqa: E402
from tracking.store.replay import replay  # noqa: E402

EPOCHS, METRICS = 1000, 8
SHARE = 0.01

# A run in a process of its own, so that the import of MLflow is paid for; its epochs take no time of their own.
LIVE_RUN = """
import json, sys, time
from tracking import run as tracked
from tracking.store import resolve
live, epochs = sys.argv[1] == "live", 20
before, thread_before = time.process_time(), time.thread_time()
with tracked.start(live=live, system_metrics=live, flush_s=120) as run:
    run.log_params({f"param_{k}": k for k in range(35)})
    for epoch in range(1, epochs + 1):
        run.log_metrics({f"metric_{k}": 1 / (epoch + k) for k in range(8)}, step=epoch)
    thread_s = time.thread_time() - thread_before
print(json.dumps({"all": time.process_time() - before, "training thread": thread_s}))
"""


def best_us(call: Callable[[int], object], count: int, repeats: int = 7) -> float:
    """Microseconds a call, the best of ``repeats`` rounds of ``count`` calls."""
    rounds = []
    for number in range(repeats):
        begin = time.perf_counter()
        for i in range(count):
            call(number * count + i)
        rounds.append((time.perf_counter() - begin) / count * 1e6)
    return min(rounds)


def one_metric(store: Store) -> None:
    """A metric into the journal, and by MLflow's client into the store."""
    journal = Journal.create(store.journals, experiment="bench", run_name=None)
    ours = best_us(lambda i: journal.metrics({"train_loss": 0.123456789}, step=i), 2000)
    eight = {f"metric_{k}": 0.123456789 * k for k in range(METRICS)}
    ours_eight = best_us(lambda i: journal.metrics(eight, step=i), 2000)
    journal.close()
    client = store.client()
    run_id = client.create_run(store.experiment_id("bench")).info.run_id
    theirs = best_us(lambda i: client.log_metric(run_id, "train_loss", 0.123456789, step=i), 50, repeats=5)
    print(f"one metric: {ours:.1f} us; MlflowClient.log_metric {theirs:.0f} us: {theirs / ours:.0f} times faster")
    print(f"{METRICS} metrics in one call: {ours_eight:.1f} us")


def whole_replay(store: Store) -> None:
    """A long run's journal into MLflow in one go."""
    journal = Journal.create(store.journals, experiment="bench", run_name="long")
    for epoch in range(1, EPOCHS + 1):
        journal.metrics({f"metric_{k}": 1 / (epoch + k) for k in range(METRICS)}, step=epoch)
    journal.status("FINISHED")
    journal.close()
    begin = time.perf_counter()
    outcome = replay(journal.dir, store)
    seconds = time.perf_counter() - begin
    rows = EPOCHS * METRICS
    print(
        f"replay of {EPOCHS} epochs x {METRICS} metrics: {seconds:.2f} s, {rows / seconds:.0f} rows/s, {outcome.status}"
    )
    begin = time.perf_counter()
    replay(journal.dir, store)
    print(f"replay again, nothing to do: {(time.perf_counter() - begin) * 1e3:.1f} ms")


def whole_run(folder: Path) -> None:
    """CPU time of everything tracking does in a run of 20 epochs, in all threads, from import to the last flush."""
    for kind, means in (("live", "journal, MLflow and system metrics"), ("journal", "the journal alone")):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", LIVE_RUN, kind]
        done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
        used = json.loads(done.stdout)
        whole_s = used["all"] / SHARE / (os.cpu_count() or 1)
        print(
            f"a run with {means}: {used['all']:.2f} s of CPU, {used['training thread'] * 1e3:.0f} ms of it in the"
            f" training thread; under {SHARE:.0%} of a run longer than {whole_s:.0f} s on {os.cpu_count()} cores"
        )


def main() -> None:
    """Print every figure."""
    folder = Path(tempfile.mkdtemp(prefix="bench-tracking-"))
    try:
        mlruns = folder / "mlruns"
        store = Store(f"sqlite:///{mlruns}/mlflow.db", mlruns / "artifacts", mlruns / "journals")
        store.client()
        one_metric(store)
        whole_replay(store)
        whole_run(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
