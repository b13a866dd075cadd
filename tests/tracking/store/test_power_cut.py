"""A machine that loses power: what MLflow has is in the journal, and what comes after it arrives."""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tracking import run as tracked
from tracking.__main__ import main
from tracking.errors import JournalError
from tracking.journal import Journal, files
from tracking.journal.events import read
from tracking.journal.progress import is_done
from tracking.store import Store
from tracking.store.replay import replay


def history(store: Store) -> list[int]:
    """The steps of the only run's metric, in order."""
    [run] = store.runs()
    return sorted(m.step for m in store.client().get_metric_history(run.info.run_id, "loss"))


def cut(directory: Path, num_lines: int, padding: bytes = b"") -> None:
    """Take the journal's last lines, as a cut does that comes before they were on the disk."""
    path = directory / "journal-000001.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-num_lines]) + padding)


def started(store: Store, num_steps: int) -> Path:
    """A run that was replayed while it went on, and then lost its process."""
    journal = Journal.create(store.journals, experiment="exp", run_name="cut")
    for step in range(1, num_steps + 1):
        journal.metrics({"loss": step}, step=step)
    journal.close()
    return journal.dir


def go_on(directory: Path, steps: range) -> None:
    with tracked.resume(directory, live=None, system_metrics=False) as run:
        for step in steps:
            run.log_metrics({"loss": step}, step=step)


@pytest.mark.parametrize("padding", [b"", b"\0" * 700, b'{"time_ms":1,"event":"met'])
@pytest.mark.parametrize("more", [1, 200])  # the journal ends before, or after, where it had been replayed to
@pytest.mark.parametrize("arguments", [["sync"], ["sync", "--all"]])
def test_what_a_resumed_run_logs_after_a_cut_arrives(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: list[str], more: int, padding: bytes
) -> None:
    directory = started(store, 20)
    assert replay(directory, store).num_events == 21
    cut(directory, 10, padding)
    assert not is_done(directory, store.public_uri)
    go_on(directory, range(11, 11 + more))
    assert main(["repair"]) == 0
    assert "nothing to repair\n1 not wholly in sqlite" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "FINISHED\n1 brought up to date, 0 were already" in capsys.readouterr().out
    assert [run.info.status for run in store.runs()] == ["FINISHED"]
    assert set(history(store)) == set(range(1, max(20, 10 + more) + 1))
    assert main(arguments) == 0
    when = "already" if "--all" in arguments else "before (--all looks again)"
    assert f"0 brought up to date, 1 were {when}, in" in capsys.readouterr().out
    assert main(["repair"]) == 0
    assert capsys.readouterr().out == "nothing to repair\n"


def test_a_place_that_happens_to_be_a_lines_end_is_not_believed(store: Store) -> None:
    directory = started(store, 20)
    replay(directory, store)
    path = directory / "journal-000001.jsonl"
    size = path.stat().st_size
    cut(directory, 10)
    journal = Journal.reopen(directory)
    journal.tags({"a": ""})
    journal.tags({"a": "x" * (size - path.stat().st_size * 2 + 1)})
    missing = size - path.stat().st_size
    journal.close()
    line = json.dumps({"time_ms": 1, "event": "tag", "values": {"b": ""}})
    path.write_bytes(path.read_bytes() + f"{line.ljust(missing - 1)}\n".encode())
    assert path.stat().st_size == size
    go_on(directory, range(21, 23))
    replay(directory, store)
    [run] = store.runs()
    assert "b" in run.data.tags
    assert history(store) == list(range(1, 23))


def test_a_state_of_before_there_was_a_checksum_is_believed(store: Store) -> None:
    directory = started(store, 3)
    replay(directory, store)
    path = directory / "replay.json"
    state = json.loads(path.read_text())
    for said in state["stores"].values():
        del said["checksum"]
    path.write_text(json.dumps(state))
    assert is_done(directory, store.public_uri)


class Flushes:
    """What was flushed to the disk itself, and how much of each file was in it then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: dict[str, int] = {}
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._noting(getattr(os, name)))

    def _noting(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def flush(fd: int) -> None:
            real(fd)
            self.sizes[os.readlink(f"/proc/self/fd/{fd}")] = os.fstat(fd).st_size

        return flush


def test_nothing_is_told_to_mlflow_before_it_is_on_the_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = started(store, 5)
    path = directory / "journal-000001.jsonl"
    sent: list[tuple[int, int]] = []

    class Watched(Store):
        def client(self) -> Any:
            client = super().client()
            real = client.log_batch

            def log_batch(*arguments: Any, **named: Any) -> Any:
                sent.append((flushes.sizes.get(str(path), 0), path.stat().st_size))
                return real(*arguments, **named)

            client.log_batch = log_batch
            return client

    flushes = Flushes(monkeypatch)
    replay(directory, Watched(store.tracking_uri, store.artifact_root, store.journals))
    assert sent and all(flushed == size for flushed, size in sent)


def test_artifacts_are_on_the_disk_before_their_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.create(tmp_path / "r", experiment="exp", run_name=None)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"w" * 1000)
    own = journal.dir / "files" / "log.txt"
    own.write_text("log")
    flushes = Flushes(monkeypatch)
    seen: list[set[str]] = []
    append = files.AppendFile.append
    monkeypatch.setattr(
        files.AppendFile, "append", lambda *line, **how: (seen.append(set(flushes.sizes)), append(*line, **how))
    )
    journal.artifact(tmp_path / "model")
    journal.artifact(own)
    assert {Path(path).name for path in seen[0]} >= {"weights", "files"}
    assert str(own) in seen[1]


def test_events_are_flushed_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SYNC_S", 0.05)
    flushes = Flushes(monkeypatch)
    journal = Journal.create(tmp_path, experiment="exp", run_name=None)
    path = journal.dir / "journal-000001.jsonl"
    assert flushes.sizes[str(path)] == path.stat().st_size  # the beginning
    for pause in (0.0, 0.0, 0.06, 0.3):  # a burst, one while its thread sleeps, one after that has ended
        time.sleep(pause)
        journal.metrics({"loss": 1}, step=1)
    pid = os.fork()  # the child has no such thread, and its own journal has one
    if not pid:
        with suppress(BaseException):
            other = Journal.create(tmp_path, experiment="exp", run_name=None)
            other.metrics({"loss": 1}, step=1)
            os._exit(0 if all_flushed(flushes, other.dir / "journal-000001.jsonl") else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert all_flushed(flushes, path), faulthandler.dump_traceback()
    journal.metrics({"loss": 1}, step=2)
    journal.status("FINISHED")
    assert flushes.sizes[str(path)] == path.stat().st_size


def flushed_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> tuple[list[Journal], list[Path], Flushes]:
    """Journals, their files and what is flushed of them, soon after each event and by no thread of before."""
    monkeypatch.setattr(files, "SYNC_S", 0.01)
    monkeypatch.setattr(files, "BEGIN_S", 0.05)
    journals = [Journal.create(tmp_path, experiment="exp", run_name=None) for _ in range(number)]
    flushes = Flushes(monkeypatch)
    time.sleep(0.1)  # the thread of what was before is over
    return journals, [journal.dir / "journal-000001.jsonl" for journal in journals], flushes


def test_a_thread_that_never_begins_or_dies_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals, paths, flushes = flushed_soon(tmp_path, monkeypatch, 3)
    with monkeypatch.context() as patch:
        patch.setattr(files, "in_background", lambda _: threading.Event())
        journals[0].metrics({"loss": 1}, step=1)
        time.sleep(0.1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda _: 1 / 0)
        journals[1].metrics({"loss": 1}, step=1)
        time.sleep(0.1)
    journals[2].metrics({"loss": 1}, step=1)
    assert all_flushed(flushes, paths[2])
    journals[0].metrics({"loss": 1}, step=2)
    assert all_flushed(flushes, paths[0])
    journals[1].metrics({"loss": 1}, step=2)
    assert all_flushed(flushes, paths[1])


def test_closed_journals_keep_no_other_one_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journals, paths, flushes = flushed_soon(tmp_path, monkeypatch, 30)
    with monkeypatch.context() as patch:
        patch.setattr(files, "in_background", lambda _: threading.Event())
        for number, journal in enumerate(journals[1:]):
            journal.metrics({"loss": 1}, step=1)
            if number % 2:
                journal.status("FINISHED")
            journal.close()
        assert [flushes.sizes.get(str(path)) for path in paths[1:]] == [path.stat().st_size for path in paths[1:]]
        time.sleep(0.1)
    journals[0].metrics({"loss": 1}, step=1)
    assert all_flushed(flushes, paths[0])


def test_a_disk_that_fails_as_a_journal_is_closed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.create(tmp_path, experiment="exp", run_name=None)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(files, "in_background", lambda _: threading.Event())
        patch.setattr(os, "fdatasync", fail)
        journal.metrics({"loss": 1}, step=1)
        with pytest.raises(JournalError, match="Input/output error"):
            journal.close()
    journal.close()
    Journal.reopen(journal.dir).close()  # it was released


def all_flushed(flushes: Flushes, path: Path, limit_s: float = 30.0) -> bool:
    """Whether all of a file comes to the disk, without a further event."""
    end = time.monotonic() + limit_s
    while flushes.sizes.get(str(path)) != path.stat().st_size and time.monotonic() < end:
        time.sleep(0.01)
    return flushes.sizes.get(str(path)) == path.stat().st_size


def test_a_slow_disk_keeps_no_event_waiting_and_a_failing_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.create(tmp_path, experiment="exp", run_name=None)
    entered, go_on = threading.Event(), threading.Event()

    def hang(_: int) -> None:
        entered.set()
        go_on.wait(30)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", hang)
        journal.metrics({"loss": 1}, step=1)
        assert entered.wait(30)
        journal.metrics({"loss": 1}, step=2)  # returns while the disk hangs
        go_on.set()
        with pytest.raises(JournalError, match="Input/output error"):
            for step in range(3, 3000):
                journal.metrics({"loss": 1}, step=step)
                time.sleep(0.01)
    journal.status("FAILED")
    steps = [one["step"] for one, _ in read(journal.dir) if one["event"] == "metric"]
    assert steps == list(range(1, len(steps) + 1))
