"""Many runs that log into one store at once, and one very long run.

    python tests/benchmarks/bench_writers.py [sqlite | postgres | bare | long …] [--writers 32] [--rate 1000]

``sqlite``, ``postgres``: so many processes log ``--rate`` metrics a second together, shown in MLflow while they go on.
Printed are the slowest call, the memory that the writers have for themselves after a minute and at the end, the seconds
from the last call to the moment when all is in the store, and what is lost or doubled there, by SQL. ``bare``: the same
program with MLflow's own calls, on SQLite. ``long``: one run of ``--points`` points from its journal into SQLite.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import sqlalchemy

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from tests.support.postgres import postgres  # noqa: E402
from tracking import run as tracked  # noqa: E402
from tracking.store import Store, resolve  # noqa: E402
from tracking.store.replay import replay  # noqa: E402

A_CALL = 10  # metrics
LIMIT_CALL_MS, LIMIT_DRAIN_S, LIMIT_LONG_S, LIMIT_LONG_MB = 100.0, 60.0, 120.0, 300.0


def write(number: int, bare: bool, interval_s: float, end: float, said: int) -> None:
    """One writer: calls at even intervals until ``end`` (monotonic seconds), then one line of figures."""
    import mlflow

    slowest, count, failed = 0.0, 0, 0
    values = {f"m{k}": 0.0 for k in range(A_CALL)}
    if bare:
        mlflow.start_run(run_name=f"writer-{number}")
    else:
        run = tracked.start(f"writer-{number}", experiment="writers", system_metrics=False, flush_s=120)
    log = mlflow.log_metrics if bare else run.log_metrics
    due = time.monotonic() + interval_s * number / 32  # not all at the same moment
    while due < end:
        time.sleep(max(0.0, due - time.monotonic()))
        begin = time.monotonic()
        try:
            log({name: count + k for k, name in enumerate(values)}, step=count)
        except Exception:
            failed += 1
        slowest = max(slowest, time.monotonic() - begin)
        count += 1
        due = max(due + interval_s, time.monotonic() if bare else 0.0)
    last = time.monotonic()
    with suppress(Exception):
        mlflow.end_run() if bare else run.finish()
    os.write(said, f"{count} {failed} {slowest} {last} {time.monotonic()}\n".encode())


def own_mb(pids: list[int]) -> float:
    """What these processes have for themselves."""
    return sum(psutil.Process(pid).memory_full_info().uss for pid in pids) / 2**20


def many(where: str, uri: str, asked: argparse.Namespace) -> bool:
    """All writers on one store; prints a line, and whether the limits hold."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    store = resolve()
    store.client()  # makes the store, and has MLflow imported before the writers fork
    engine = sqlalchemy.create_engine(uri)
    begin = time.monotonic()
    end, interval_s = begin + asked.minutes * 60, A_CALL * asked.writers / asked.rate
    reading, writing = os.pipe()
    pids = []
    for number in range(asked.writers):
        if not (pid := os.fork()):
            with suppress(BaseException):
                write(number, where == "bare", interval_s, end, writing)
            os._exit(0)
        pids.append(pid)
    os.close(writing)
    time.sleep(min(60.0, asked.minutes * 30))
    early = own_mb(pids)
    time.sleep(max(0.0, end - time.monotonic() - 2))
    late = own_mb(pids)
    with os.fdopen(reading) as stream:
        figures = [[float(word) for word in line.split()] for line in stream]
    for pid in pids:
        os.waitpid(pid, 0)
    calls = int(sum(one[0] for one in figures))
    failed, slowest = int(sum(one[1] for one in figures)), max(one[2] for one in figures) * 1e3
    drained_s = max(one[4] for one in figures) - max(one[3] for one in figures)
    with engine.connect() as connection:
        rows, kinds = connection.execute(
            sqlalchemy.text(
                "SELECT COUNT(*), COUNT(DISTINCT run_uuid || key || '/' || CAST(step AS VARCHAR(20))) FROM metrics"
            )
        ).one()
        ended = connection.execute(sqlalchemy.text("SELECT COUNT(*) FROM runs WHERE status = 'FINISHED'")).scalar()
    lost, doubled = calls * A_CALL - kinds, rows - kinds
    print(
        f"{where}: {len(figures)} of {asked.writers} writers, {asked.minutes:g} min: {calls * A_CALL:,} points in"
        f" {calls:,} calls, {failed} failed, {lost:,} lost, {doubled:,} doubled, {ended} runs FINISHED; slowest call"
        f" {slowest:.0f} ms; own memory {early:.0f} MB, at the end {late:.0f} MB; all in the store {drained_s:.1f} s"
        " after the last call",
        flush=True,
    )
    good = len(figures) == asked.writers == ended and not lost and not doubled
    return where == "bare" or (good and slowest < LIMIT_CALL_MS and drained_s < LIMIT_DRAIN_S)


def long(folder: Path, points: int) -> bool:
    """One long run's journal into SQLite, in a process of its own."""
    mlruns = folder / "mlruns"
    store = Store(f"sqlite:///{mlruns}/mlflow.db", mlruns / "artifacts", mlruns / "journals")
    store.client()
    with tracked.start("long", live=None, system_metrics=False, root=store.journals) as run:
        for step in range(points // A_CALL):
            run.log_metrics({f"m{k}": step / (k + 1) for k in range(A_CALL)}, step=step)
    pid = os.fork()
    if not pid:
        with suppress(BaseException):
            begin, before = time.monotonic(), time.process_time()
            outcome = replay(run.dir, store)
            seconds, processor_s = time.monotonic() - begin, time.process_time() - before
            mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"long: {points:,} points, {outcome.status}: {seconds:.0f} s ({processor_s:.0f} of the processor),"
                f" {mb:.0f} MB at most",
                flush=True,
            )
            os._exit(0 if seconds <= LIMIT_LONG_S and mb <= LIMIT_LONG_MB else 1)
        os._exit(2)
    return os.waitpid(pid, 0)[1] == 0


@contextmanager
def _store(where: str, folder: Path) -> Iterator[str]:
    if where == "postgres":
        with postgres() as uri:
            yield uri
    else:
        yield f"sqlite:///{folder}/mlruns/mlflow.db"


def main() -> int:
    """Run what is asked for; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="sqlite, postgres, bare, long; all of them without a word")
    parser.add_argument("--writers", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--rate", type=float, default=1000, help="metrics a second, of all writers together")
    parser.add_argument("--points", type=int, default=1_000_000)
    asked = parser.parse_args()
    good = True
    for what in asked.what or ("sqlite", "postgres", "bare", "long"):
        with tempfile.TemporaryDirectory(prefix="writers-") as name:
            os.chdir(name)
            if what == "long":
                good &= long(Path(name), asked.points)
            else:
                with _store(what, Path(name)) as uri:
                    good &= many(what, uri, asked)
            os.chdir(ROOT)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
