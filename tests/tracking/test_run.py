"""The write side: statuses, what a left block writes, the thread that shows a run while it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tracking import run as tracked
from tracking.errors import TrackingError
from tracking.journal.events import read
from tracking.store import Store


def events(directory: Path, kind: str) -> list[dict[str, object]]:
    return [event for event, _ in read(directory) if event["event"] == kind]


def test_a_run_appears_in_mlflow_with_everything_it_logged(store: Store) -> None:
    with tracked.start(run_name="first", experiment="exp") as run:
        run.params({"num_layers": 44, "resize": None})
        run.metrics({"train_loss": 0.5}, step=1)
        run.metrics({"train_loss": 0.25}, step=2)
        run.tags({"study": "depths"})
        run.text("hello", "notes.txt", "texts")
        run.dataset("train", name="digits", digest="abc", source="/d", num_images=5, num_classes=2)
    assert run.status == "FINISHED"
    assert run.mlflow_run_id is not None
    found = store.find_run(run.mlflow_run_id)
    assert found.info.run_name == "first"
    assert found.info.status == "FINISHED"
    assert found.data.params == {"num_layers": "44"}
    assert found.data.metrics["train_loss"] == 0.25
    assert found.data.tags["study"] == "depths"
    assert found.data.tags["journal_id"] == run.journal_id
    assert (Path(found.info.artifact_uri.removeprefix("file://")) / "texts" / "notes.txt").read_text() == "hello"
    [dataset] = found.inputs.dataset_inputs
    assert (dataset.dataset.digest, dataset.tags[0].value) == ("abc", "train")
    [start] = events(run.dir, "start")
    [end] = events(run.dir, "status")
    assert found.info.start_time == start["start_time_ms"]
    assert found.info.end_time == end["end_time_ms"]
    assert store.journal_dir(run.mlflow_run_id) == run.dir


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt(), "KILLED", "interrupted from the keyboard"),
        (KeyboardInterrupt("ended by SIGTERM"), "KILLED", "ended by SIGTERM"),
        (SystemExit(143), "KILLED", "ended by a signal (exit code 143)"),
        (SystemExit(130), "KILLED", "ended by a signal (exit code 130)"),
        (SystemExit(0), "FINISHED", ""),
        (SystemExit(None), "FINISHED", ""),
        (SystemExit(2), "FAILED", "exited with 2"),
        (ZeroDivisionError("by 0\nsecond line"), "FAILED", "ZeroDivisionError: by 0"),
        (MemoryError(), "FAILED", "MemoryError"),
    ],
)
def test_the_way_a_block_is_left_decides_the_status(
    workdir: Path, error: BaseException, status: str, reason: str
) -> None:
    with pytest.raises(type(error)), tracked.start(live=False, system_metrics=False) as run:
        raise error
    [end] = events(run.dir, "status")
    assert (run.status, end["status"], end["reason"]) == (status, status, reason)
    assert tracked.ended(run.dir) == status
    crashed = status == "FAILED" and not isinstance(error, SystemExit)
    assert (run.dir / "files" / "traceback.txt").exists() == crashed
    if crashed:
        [tag] = events(run.dir, "tag")
        assert tag["values"] == {"error_type": type(error).__name__, "status_reason": reason}
        assert type(error).__name__ in (run.dir / "files" / "traceback.txt").read_text()


def test_a_run_that_was_finished_by_hand_keeps_its_status(workdir: Path) -> None:
    with tracked.start(live=False, system_metrics=False) as run:
        run.finish("FAILED", "loss is nan")
        run.finish("FINISHED")
    [end] = events(run.dir, "status")
    assert (end["status"], end["reason"]) == ("FAILED", "loss is nan")


def test_a_parameter_never_changes(workdir: Path) -> None:
    with tracked.start(live=False, system_metrics=False) as run:
        run.params({"epochs": 3})
        run.params({"epochs": "3"})
        with pytest.raises(TrackingError, match="epochs: '3', now '4'"):
            run.params({"epochs": 4})
    resumed = tracked.resume(run.dir, live=False, system_metrics=False)
    with pytest.raises(TrackingError, match="epochs: '3', now '5'"):
        resumed.params({"epochs": 5})
    resumed.finish()


def test_a_resumed_run_is_the_same_run(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), tracked.start(experiment="exp", system_metrics=False) as run:
        run.metrics({"train_loss": 1.0}, step=1)
        raise KeyboardInterrupt
    assert run.mlflow_run_id is not None
    killed = store.find_run(run.mlflow_run_id)
    assert (killed.info.status, killed.data.tags["status_reason"]) == ("KILLED", "interrupted from the keyboard")
    with tracked.resume(run.dir, system_metrics=False) as again:
        again.metrics({"train_loss": 0.5}, step=2)
    assert again.mlflow_run_id == run.mlflow_run_id
    found = store.find_run(run.mlflow_run_id)
    assert found.info.status == "FINISHED"
    assert found.data.tags["resumed"] == "1"
    assert "status_reason" not in found.data.tags
    history = store.client().get_metric_history(run.mlflow_run_id, "train_loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 0.5)]
    assert len(list(store.runs())) == 1


def test_attaching_leaves_status_and_times_as_they_were(store: Store) -> None:
    with tracked.start(experiment="exp", system_metrics=False) as run:
        run.metrics({"validation_accuracy": 0.5}, step=1)
    assert run.mlflow_run_id is not None
    before = store.find_run(run.mlflow_run_id).info
    with pytest.raises(ZeroDivisionError), tracked.attach(run.mlflow_run_id) as more:
        more.metrics({"test_accuracy": 0.75}, step=1)
        more.tags({"checked": "yes"})
        raise ZeroDivisionError
    after = store.find_run(run.mlflow_run_id)
    assert (after.info.status, after.info.start_time, after.info.end_time) == (
        before.status,
        before.start_time,
        before.end_time,
    )
    assert after.data.metrics["test_accuracy"] == 0.75
    assert after.data.tags["journal_id"] == run.journal_id
    assert len(list(store.runs())) == 1


def test_texts_keep_their_place_and_any_characters(workdir: Path) -> None:
    with tracked.start(live=False, system_metrics=False) as run:
        assert run.text("one\n", "a.txt") == run.dir / "files" / "a.txt"
        assert run.text("two", "b/c.txt", "deep") == run.dir / "files" / "deep" / "b" / "c.txt"
        run.text("odd \ud800 tief", "a.txt")
        with pytest.raises(TrackingError, match="leads out of the run"):
            run.text("", "../../x.txt")
    assert (run.dir / "files" / "a.txt").read_text() == "odd \\ud800 tief"
    assert [e["artifact_path"] for e in events(run.dir, "artifact")] == ["", "deep/b", ""]
    assert not list(run.dir.glob(".text-*"))


@pytest.mark.parametrize("more", ["live=True, system_metrics=False", "live=False, system_metrics=True"])
def test_no_thread_imports_while_setuptools_finder_holds_the_import_lock(workdir: Path, more: str) -> None:
    pytest.importorskip("_distutils_hack")
    code = f"""
import sys, threading
import _distutils_hack
_distutils_hack.add_shim()
seen = []
begin = threading.Thread.start
threading.Thread.start = lambda thread: (seen.append("distutils" in sys.modules), begin(thread))
from tracking import run as tracked
with tracked.start({more}, flush_s=120):
    pass
assert seen and all(seen), seen
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=workdir, timeout=120)
