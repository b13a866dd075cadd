"""What tracking costs: one metric on the training thread, its share of a run, and bringing a journal into MLflow.

The peer is MLflow's own client on the same sqlite store in the same run. Prints one line a figure.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tracking import run as tracked  # noqa: E402
from tracking.journal import Journal  # noqa: E402
from tracking.replay import replay  # noqa: E402
from tracking.store import Store  # noqa: E402

EPOCHS, METRICS = 1000, 8
# An epoch of the smallest run anybody waits for: 44 layers on the bundled digits.
EPOCH_S = 2.0


def best_us(call: Callable[[int], object], count: int, repeats: int = 7) -> float:
    """Microseconds a call, the best of ``repeats`` rounds of ``count`` calls."""
    rounds = []
    for number in range(repeats):
        begin = time.perf_counter()
        for i in range(count):
            call(number * count + i)
        rounds.append((time.perf_counter() - begin) / count * 1e6)
    return min(rounds)


def one_metric(store: Store, folder: Path) -> None:
    """A metric into the journal, and by MLflow's client into the same kind of store."""
    journal = Journal.create(folder / "one", experiment="bench", run_name=None)
    ours = best_us(lambda i: journal.metrics({"train_loss": 0.123456789}, step=i), 2000)
    eight = {f"metric_{k}": 0.123456789 * k for k in range(METRICS)}
    ours_eight = best_us(lambda i: journal.metrics(eight, step=i), 2000)
    journal.close()
    client = store.client()
    run_id = client.create_run(store.experiment_id("bench")).info.run_id
    theirs = best_us(lambda i: client.log_metric(run_id, "train_loss", 0.123456789, step=i), 50, repeats=5)
    print(
        f"one metric            journal {ours:8.1f} us   MlflowClient.log_metric {theirs:8.1f} us   {theirs / ours:.0f}x"
    )
    print(f"{METRICS} metrics in a call  journal {ours_eight:8.1f} us")


def whole_replay(store: Store, folder: Path) -> None:
    """A long run's journal into MLflow in one go."""
    journal = Journal.create(folder / "long", experiment="bench", run_name="long")
    for epoch in range(1, EPOCHS + 1):
        journal.metrics({f"metric_{k}": 1 / (epoch + k) for k in range(METRICS)}, step=epoch)
    journal.status("FINISHED")
    journal.close()
    begin = time.perf_counter()
    outcome = replay(journal.dir, store)
    seconds = time.perf_counter() - begin
    rows = EPOCHS * METRICS
    print(f"replay of {EPOCHS} x {METRICS} metrics   {seconds:.2f} s   {rows / seconds:.0f} rows/s   {outcome.status}")
    begin = time.perf_counter()
    replay(journal.dir, store)
    print(f"replay again (nothing to do)   {(time.perf_counter() - begin) * 1e3:.1f} ms")


def share_of_a_run(store: Store) -> None:
    """CPU time of everything tracking does in a live run of 20 epochs, against the time such a run takes."""
    epochs = 20
    begin = time.process_time()
    with tracked.start(live=store) as run:
        run.params({f"param_{k}": k for k in range(35)})
        for epoch in range(1, epochs + 1):
            run.metrics({f"metric_{k}": 1 / (epoch + k) for k in range(METRICS)}, step=epoch)
    cpu_s = time.process_time() - begin
    total_s = epochs * EPOCH_S
    print(
        f"live run of {epochs} epochs   {cpu_s * 1e3:.0f} ms of CPU in all threads   {cpu_s / total_s:.2%} of {total_s:.0f} s"
    )


def main() -> None:
    """Print every figure."""
    folder = Path(tempfile.mkdtemp(prefix="bench-tracking-"))
    try:
        store = Store(f"sqlite:///{folder}/mlflow.db", folder / "artifacts", folder / "journals")
        begin = time.process_time()
        store.client()
        print(f"import MLflow and make a store   {time.process_time() - begin:.1f} s of CPU, once")
        one_metric(store, folder)
        whole_replay(store, folder)
        share_of_a_run(store)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
