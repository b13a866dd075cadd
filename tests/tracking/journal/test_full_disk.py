"""A disk that fills up under a run: said once, nothing lost, the rest brought in when there is room again."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import made_database
from tracking import run as tracked
from tracking.errors import JournalError, StoreUnreachable
from tracking.journal import Journal, files
from tracking.journal.events import read
from tracking.store import Store
from tracking.store.replay import replay


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tiny file system needs more rights than this test has")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> None:
    """Write until nothing fits any more."""
    with (folder / "filler").open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError:
            pass


def test_a_run_on_a_full_disk_fails_with_its_reason_written_down(
    tiny_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(JournalError, match="No space left on device; what was logged until here is kept"),
        tracked.start(root=tiny_disk, experiment="exp", live=False, system_metrics=False) as run,
    ):
        run.log_metrics({"loss": 1}, step=1)
        fill(tiny_disk)
        for step in range(2, 1000):
            run.log_metrics({"loss": step}, step=step)
    assert run.status == "FAILED"
    events = [event for event, _ in read(run.dir)]
    assert events[1]["values"] == {"loss": 1.0}
    assert (events[-1]["status"], events[-1]["reason"][:13]) == ("FAILED", "JournalError:")
    [tags] = [event["values"] for event in events if event["event"] == "tag"]
    assert tags["error_type"] == "JournalError"


def test_a_disk_that_is_full_at_a_segments_end_costs_no_other_file_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No next segment can be made: what was written stays, and no descriptor that was closed is written to."""
    monkeypatch.setattr(files, "SEGMENT_BYTES", 2_000)
    folder = tmp_path / "tiny"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=20", "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a tiny file system needs more rights than this test has")
    try:
        journal = Journal.create(folder, experiment="exp", run_name=None)
        step = number = 0
        for number in range(100):
            try:
                (folder / f"filler-{number}").touch()
            except OSError:
                break
        with pytest.raises(JournalError, match="No space left on device; what was logged until here is kept"):
            for step in range(1_000):
                journal.metrics({"m": step}, step=step)
        with (tmp_path / "data").open("w+b") as data:  # it would get the number of what was closed
            for _ in range(3):
                with pytest.raises(JournalError, match="No space left on device"):
                    journal.metrics({"m": 0.123456789}, step=10**18)
            (folder / f"filler-{number - 1}").unlink()
            for more in range(step, step + 20):
                journal.metrics({"m": more}, step=more)
            for filler in folder.glob("filler-*"):
                filler.unlink()
            journal.status("FINISHED")
            journal.close()
            assert data.read() == b""
        events = [event for event, _ in read(journal.dir)]
        assert [event["step"] for event in events if event["event"] == "metric"] == list(range(step + 20))
        assert events[-1]["status"] == "FINISHED"
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_the_last_words_begin_a_segment_where_the_reserve_makes_room(
    tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.create(tiny_disk, experiment="exp", run_name=None)
    monkeypatch.setattr(files, "SEGMENT_BYTES", 0)
    fill(tiny_disk)
    before = set(os.listdir("/proc/self/fd"))
    journal.status("FAILED", reason="disk full")
    assert set(os.listdir("/proc/self/fd")) == before
    assert [event["event"] for event, _ in read(journal.dir)] == ["start", "status"]


def test_artifacts_that_do_not_fit_are_said(tiny_disk: Path, tmp_path: Path) -> None:
    journal = Journal.create(tiny_disk, experiment="exp", run_name=None)
    (tmp_path / "large").write_bytes(b"x" * 3_000_000)
    with pytest.raises(JournalError, match=r"cannot write .*large: No space left on device"):
        journal.artifact(tmp_path / "large")
    (tmp_path / "model").mkdir()
    (tmp_path / "large").rename(tmp_path / "model" / "large")
    with pytest.raises(JournalError, match=r"cannot write .*model: No space left on device; what was logged"):
        journal.artifact(tmp_path / "model")
    journal.tags({"still": "works"})
    assert [event["event"] for event, _ in read(journal.dir)] == ["start", "tag"]
    assert [path.name for path in (journal.dir / "files").iterdir()] == []


def test_a_full_disk_under_mlflow_is_waited_for(tiny_disk: Path, tmp_path: Path) -> None:
    database = tiny_disk / "mlflow.db"
    shutil.copy(made_database(), database)
    store = Store(f"sqlite:///{database}", tmp_path / "artifacts", tmp_path / "journals")
    journal = Journal.create(store.journals, experiment="exp", run_name=None)
    for step in range(2_000):
        journal.metrics({"loss": step}, step=step)
    journal.status("FINISHED")
    fill(tiny_disk)
    with pytest.raises(StoreUnreachable, match="the disk is full; make room, then `python -m tracking sync`"):
        replay(journal.dir, store)
    (tiny_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", tiny_disk], check=True)
    assert replay(journal.dir, store).status == "FINISHED"
    [run] = store.runs()
    assert len(store.client().get_metric_history(run.info.run_id, "loss")) == 2_000


def test_artifacts_that_do_not_fit_the_artifact_folder_are_waited_for(tiny_disk: Path, tmp_path: Path) -> None:
    shutil.copy(made_database(), tmp_path / "mlflow.db")
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", tiny_disk / "artifacts", tmp_path / "journals")
    journal = Journal.create(store.journals, experiment="exp", run_name=None)
    (tmp_path / "large").write_bytes(b"x" * 3_000_000)
    journal.artifact(tmp_path / "large", "model")
    journal.status("FINISHED")
    with pytest.raises(StoreUnreachable, match=r"cannot write artifact .*large: No space left on device; make room"):
        replay(journal.dir, store)
    assert [path.name for path in tiny_disk.rglob("*") if path.is_file()] == []
    subprocess.run(["mount", "-o", "remount,size=64m", tiny_disk], check=True)
    assert replay(journal.dir, store).status == "FINISHED"
    assert sum(path.stat().st_size for path in tiny_disk.rglob("large")) == 3_000_000


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path, shared: bool) -> None:
    path = tmp_path / "state.json"
    for text in ("one", "two"):
        with files.whole_file(path, shared=shared) as part:
            part.write_text(text)
        assert path.read_text() == text
    with pytest.raises(OSError, match="full"), files.whole_file(path, shared=shared) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(FileNotFoundError), files.whole_file(path, shared=shared):
        pass  # nothing was written
    assert path.read_text() == "two" and list(tmp_path.iterdir()) == [path]
