"""The short form of the soak, and that what it compares by can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.oracle import Oracle, Verdict, compare
from tests.support import ROOT
from tests.support.stores import store_fixture as store_fixture
from tracking.journal import Journal
from tracking.store import Store
from tracking.store.replay import replay

pytestmark = pytest.mark.slow


def announced(store: Store, oracle: Oracle, *, kept: bool = True, again: int = 0, status: str = "FINISHED") -> None:
    """A run whose calls are announced; ``kept`` False: one of them is announced and not made."""
    journal = Journal.create(store.journals, experiment="exp", run_name=None)
    said = {"journal": journal.journal_id}
    oracle.call({**said, "kind": "create", "run_id": None}, lambda: None)
    for step in range(3):
        call = {**said, "kind": "metrics", "step": step, "values": {"loss": step}}
        oracle.call(call, journal.metrics if kept or step else lambda *_, **__: None, {"loss": step}, step=step)
    for time_ms in range(again):
        journal.metrics({"loss": 0}, step=0, time_ms=time_ms)
    oracle.call({**said, "kind": "status", "status": "FINISHED"}, journal.status, status)
    journal.close()
    replay(journal.dir, store)


@pytest.mark.parametrize(
    ("how", "lost", "doubled", "wrong"),
    [
        ({}, 0, 0, 0),
        ({"kept": False}, 1, 0, 0),
        ({"again": 2}, 0, 2, 0),
        ({"status": "KILLED"}, 0, 0, 1),
    ],
)
def test_what_is_lost_doubled_or_ended_otherwise_is_found(
    store: Store, tmp_path: Path, how: dict[str, object], lost: int, doubled: int, wrong: int
) -> None:
    announced(store, Oracle(tmp_path / "oracle"), **how)  # type: ignore[arg-type]
    assert store.database is not None
    found: Verdict = compare(tmp_path / "oracle", store.database)
    assert (found.lost, found.doubled, found.wrong) == (lost, doubled, wrong), found.why


def test_a_run_that_is_stopped_loses_nothing() -> None:
    """A point of some, one of them of a store; ``make soak`` has a thousand of all."""
    some = ("kill -9", "out of memory", "disk full", "clock steps", "deleted")
    faults = [word for fault in some for word in ("--fault", fault)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.faults", "logging", "sqlite", "--points", "4", *faults],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "logging: kill -9" in done.stdout and "sqlite: deleted" in done.stdout
