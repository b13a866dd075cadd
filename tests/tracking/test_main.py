"""``python -m tracking``: sync, repair and what each says."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.stores import half_made, write_full_journal
from tracking import run as tracked
from tracking.__main__ import COMMANDS, main
from tracking.commands import ui
from tracking.journal import Journal
from tracking.journal.events import read
from tracking.journal.files import sign
from tracking.store import Store, resolve

Captured = pytest.CaptureFixture[str]

DIE = """
import os, signal, sys
from tracking import run as tracked
with tracked.start(experiment="exp", run_name="dies", live=False, system_metrics=False) as run:
    run.log_metrics({"loss": 0.5}, step=1)
    print(run.journal_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_journal(store: Store) -> Path:
    """The journal of a run whose process was killed in the middle."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", DIE], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return store.journals / done.stdout.strip()


def test_help_names_every_command(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    said = capsys.readouterr().out
    assert left.value.code == 0
    for command in COMMANDS:
        assert command.NAME in said and command.HELP in said
        with pytest.raises(SystemExit) as left:
            main([command.NAME, "--help"])
        assert left.value.code == 0
        assert command.__doc__.splitlines()[0] in capsys.readouterr().out


def test_sync_without_journals_has_nothing_to_do(workdir: Path, capsys: Captured) -> None:
    assert main(["sync"]) == 0
    assert "0 brought up to date, 0 were already" in capsys.readouterr().out


def test_sync_brings_in_what_is_named(store: Store, tmp_path: Path, capsys: Captured) -> None:
    first, second = write_full_journal(store, tmp_path), write_full_journal(store, tmp_path)
    assert main(["sync", str(first)]) == 0
    assert capsys.readouterr().out.startswith(f"{first.name[:8]}  ->  run ")
    assert main(["sync", str(store.journals)]) == 0
    assert second.name[:8] in capsys.readouterr().out
    assert len(list(store.runs())) == 2
    assert main(["sync", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no journal; give a directory such as" in capsys.readouterr().err


def test_sync_leaves_alone_what_another_store_has(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    import shutil

    database = store.database
    assert database is not None
    shutil.copy(database, tmp_path / "other.db")
    done, going_on = (
        write_full_journal(store, tmp_path),
        Journal.create(store.journals, experiment="exp", run_name=None),
    )
    assert main(["sync"]) == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    capsys.readouterr()
    assert main(["sync"]) == 0
    said = capsys.readouterr().out
    assert "1 brought up to date, 0 were already" in said
    assert "1 left out: another store has them; name their directories to bring them here as well" in said
    assert main(["sync", str(done)]) == 0
    assert len(list(resolve().runs())) == 2
    going_on.close()


def test_sync_goes_on_after_a_journal_it_cannot_read(store: Store, tmp_path: Path, capsys: Captured) -> None:
    good, bad = write_full_journal(store, tmp_path), write_full_journal(store, tmp_path)
    path = bad / "journal-000001.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], "garbage\n", *lines[3:]]))
    assert main(["sync"]) == 1
    captured = capsys.readouterr()
    assert f"{bad.name[:8]}: {path.name}, byte" in captured.err
    assert good.name[:8] in captured.out
    assert [run.info.status for run in store.runs()] == ["FAILED"] * 2  # as they say themselves: its end is in


def test_sync_goes_on_after_a_journal_that_a_stopped_process_brings_in(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("tracking.store.replay.BUSY_S", 0.1)
    good, busy = write_full_journal(store, tmp_path), write_full_journal(store, tmp_path)
    stopped = os.open(busy / "replay.lock", os.O_RDWR | os.O_CREAT)
    sign(stopped)
    fcntl.flock(stopped, fcntl.LOCK_EX)
    try:
        assert main(["sync"]) == 1
    finally:
        os.close(stopped)
    captured = capsys.readouterr()
    assert f"{busy.name}: process {os.getpid()} on" in captured.err and "for 0.1 s" in captured.err
    assert good.name[:8] in captured.out
    assert main(["sync"]) == 0


def test_sync_that_asks_the_store_finds_what_it_lost(store: Store, tmp_path: Path, capsys: Captured) -> None:
    directory = write_full_journal(store, tmp_path)
    assert main(["sync"]) == 0
    state = json.loads((directory / "replay.json").read_text())
    state["stores"][store.tracking_uri]["run_id"] = "f" * 32
    (directory / "replay.json").write_text(json.dumps(state))
    capsys.readouterr()
    assert main(["sync"]) == 0
    assert "0 brought up to date" in capsys.readouterr().out
    assert main(["sync", "--all"]) == 0
    assert "1 brought up to date" in capsys.readouterr().out
    assert len(list(store.runs())) == 1


def test_a_killed_run_is_closed_as_killed(store: Store, capsys: Captured) -> None:
    directory = killed_journal(store)
    assert main(["sync"]) == 0
    assert "1 ended without a word; `python -m tracking repair` closes them as KILLED" in capsys.readouterr().out
    [run] = store.runs()
    assert run.info.status == "RUNNING"
    assert main(["repair", "--dry-run"]) == 0
    assert f"{directory.name[:8]}  would be KILLED: process" in capsys.readouterr().out
    assert tracked.ended(directory) is None
    assert main(["repair"]) == 0
    [run] = store.runs()
    *_, last = [event for event, _ in read(directory) if event["event"] == "metric"]
    assert (run.info.status, run.info.end_time) == ("KILLED", last["time_ms"])
    assert run.data.metrics == {"loss": 0.5}
    reason = run.data.tags["status_reason"]
    assert reason.startswith("process ") and f"on {socket.gethostname()} ended without a word; last written" in reason
    capsys.readouterr()
    assert main(["repair"]) == 0
    assert capsys.readouterr().out == "nothing to repair\n"


def test_a_killed_run_can_be_resumed_after_it_was_closed(store: Store) -> None:
    directory = killed_journal(store)
    assert main(["repair"]) == 0
    with tracked.resume(directory, system_metrics=False) as run:
        run.log_metrics({"loss": 0.25}, step=2)
    [found] = store.runs()
    assert (found.info.status, found.data.metrics["loss"]) == ("FINISHED", 0.25)
    assert "status_reason" not in found.data.tags


def test_a_living_run_is_left_alone(store: Store, capsys: Captured) -> None:
    with tracked.start(live=False, system_metrics=False) as run:
        assert main(["repair"]) == 0
        assert capsys.readouterr().out == "nothing to repair\n"
    assert tracked.ended(run.dir) == "FINISHED"


def test_a_run_of_another_machine_is_closed_only_when_asked_to(store: Store, capsys: Captured) -> None:
    directory = killed_journal(store)
    (directory / "lock").write_text(json.dumps({"pid": 7, "host": "elsewhere"}))
    assert main(["repair"]) == 0
    assert "left open: it was written on elsewhere" in capsys.readouterr().out
    assert tracked.ended(directory) is None
    assert main(["repair", "--anywhere"]) == 0
    assert tracked.ended(directory) == "KILLED"


def test_a_half_made_store_is_made_anew_from_the_journals(store: Store, tmp_path: Path, capsys: Captured) -> None:
    database = store.database
    assert database is not None
    directory = write_full_journal(store, tmp_path)
    assert main(["sync"]) == 0
    database.unlink()
    half_made(database)
    assert main(["sync"]) == 2
    assert "left half made" in capsys.readouterr().err
    assert main(["repair"]) == 2
    assert "someone may be at it" in capsys.readouterr().err
    an_hour_ago = time.time() - 3600
    os.utime(database, (an_hour_ago, an_hour_ago))
    assert main(["repair", "--dry-run"]) == 0
    assert f"would put {database} aside" in capsys.readouterr().out
    # In a process of its own, as a person would: MLflow keeps the file it opened in this one.
    code = """
from tracking.__main__ import main
from tracking.store import resolve
assert main(["repair"]) == 0
[run] = resolve().runs()
print(run.info.status, run.data.tags["journal_id"])
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"half-made store put aside: {database}.broken-1" in done.stdout
    assert done.stdout.splitlines()[-1] == f"FAILED {directory.name}"
    assert Path(f"{database}.broken-1").exists()


def test_a_taken_port_is_said(store: Store, capsys: Captured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert main(["ui", "--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use; choose another" in capsys.readouterr().err


def test_a_tracking_server_has_its_own_pages(workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example")
    monkeypatch.setattr("tracking.store.connection.check_reachable", lambda uri: None)  # as where it answers
    assert main(["ui"]) == 0
    assert (
        capsys.readouterr().out == "MLflow's pages are served by the tracking server: https://me:***@mlflow.example\n"
    )


def test_the_server_gets_the_store_its_artifacts_and_what_follows_two_dashes(store: Store) -> None:
    line = ui.command(store, "127.0.0.1", 5001, ["--", "--workers", "2"])
    assert line[1:4] == ["-m", "mlflow", "server"]
    options: dict[str, Any] = dict(zip(line[4:], line[5:], strict=False))
    assert store.tracking_uri not in line
    assert ui.environment(store)["MLFLOW_BACKEND_STORE_URI"] == store.tracking_uri
    assert options["--default-artifact-root"] == (store.journals.parent / "artifacts").as_uri()
    assert line[-2:] == ["--workers", "2"]


@pytest.mark.parametrize(
    ("host", "rest", "said"),
    [("0.0.0.0", [], True), ("127.0.0.1", [], False), ("localhost", [], False),
     ("0.0.0.0", ["--", "--app-name", "basic-auth"], False)],
)  # fmt: skip
def test_pages_that_others_reach_come_with_the_way_to_passwords(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Captured, host: str, rest: list[str], said: bool
) -> None:
    monkeypatch.setattr(ui, "command", lambda *_: [sys.executable, "-c", ""])  # a server that ends at once
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    main(["ui", "--host", host, "--port", str(port), *rest])
    assert ("note: everyone who reaches 0.0.0.0 may" in capsys.readouterr().out) == said


def test_the_ui_starts_no_judges_of_language_models_unless_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ui.environment(store)["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "true")
    assert ui.environment(store)["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "true"
