"""The write side: statuses, what a left block writes, the thread that shows a run while it goes on."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracking
from tests.support import ROOT
from tracking import run as tracked
from tracking.errors import StoreError, StoreUnreachable, TrackingError
from tracking.journal import Journal
from tracking.journal.events import read
from tracking.store import Store


def events(directory: Path, kind: str) -> list[dict[str, object]]:
    return [event for event, _ in read(directory) if event["event"] == kind]


def test_a_run_appears_in_mlflow_with_everything_it_logged(store: Store) -> None:
    with tracked.start(run_name="first", experiment="exp") as run:
        run.log_params({"num_layers": 44, "resize": None})
        run.log_metrics({"train_loss": 0.5}, step=1)
        run.log_metrics({"train_loss": 0.25}, step=2)
        run.set_tags({"study": "depths"})
        run.log_text("hello", "texts/notes.txt")
        run.log_dataset("train", name="digits", digest="abc", source="/d", num_images=5, num_classes=2)
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
        run.log_params({"epochs": 3})
        run.log_params({"epochs": "3"})
        with pytest.raises(TrackingError, match="epochs: '3', now '4'"):
            run.log_params({"epochs": 4})
    resumed = tracked.resume(run.dir, live=False, system_metrics=False)
    with pytest.raises(TrackingError, match="epochs: '3', now '5'"):
        resumed.log_params({"epochs": 5})
    resumed.finish()


def test_a_resumed_run_is_the_same_run(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), tracked.start(experiment="exp", system_metrics=False) as run:
        run.log_metrics({"train_loss": 1.0}, step=1)
        raise KeyboardInterrupt
    assert run.mlflow_run_id is not None
    killed = store.find_run(run.mlflow_run_id)
    assert (killed.info.status, killed.data.tags["status_reason"]) == ("KILLED", "interrupted from the keyboard")
    with tracked.resume(run.dir, system_metrics=False) as again:
        again.log_metrics({"train_loss": 0.5}, step=2)
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
        run.log_metrics({"validation_accuracy": 0.5}, step=1)
    assert run.mlflow_run_id is not None
    before = store.find_run(run.mlflow_run_id).info
    with pytest.raises(ZeroDivisionError), tracked.attach(run.mlflow_run_id) as more:
        more.log_metrics({"test_accuracy": 0.75}, step=1)
        more.set_tags({"checked": "yes"})
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
        assert run.log_text("one\n", "a.txt") == run.dir / "files" / "a.txt"
        assert run.log_text("two", "deep/b/c.txt") == run.dir / "files" / "deep" / "b" / "c.txt"
        run.log_text("odd \ud800 tief", "a.txt")
        with pytest.raises(TrackingError, match="leads out of the run"):
            run.log_text("", "../../x.txt")
    assert (run.dir / "files" / "a.txt").read_text() == "odd \\ud800 tief"
    assert [e["artifact_path"] for e in events(run.dir, "artifact")] == ["", "deep/b", ""]
    assert not list(run.dir.glob(".text-*"))


@pytest.mark.parametrize("more", ["live=True, system_metrics=False", "live=False, system_metrics=True"])
def test_no_thread_imports_while_setuptools_finder_holds_the_import_lock(workdir: Path, more: str) -> None:
    pytest.importorskip("_distutils_hack")
    code = f"""
import sys, threading, _thread
import _distutils_hack
_distutils_hack.add_shim()
seen = []
begin = _thread.start_new_thread
from tracking import run as tracked
from tracking.journal import files
files.in_background = lambda work: threading.Event()  # it flushes, and imports nothing
_thread.start_new_thread = lambda *work: (seen.append("distutils" in sys.modules), begin(*work))[1]
with tracked.start({more}, flush_s=120):
    pass
assert seen and all(seen), seen
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=workdir, timeout=120)


def test_a_sweep_as_people_write_it(store: Store) -> None:
    """Parameters at the start, an epoch loop, runs inside a run, a score without a step, the id before the end."""
    with tracking.start_run("sweep", params={"optimizer": "sgd", "unset": None}, tags={"author": "ada"}) as sweep:
        children = []
        for rate in (0.1, 0.2):
            with tracking.start_run(f"rate {rate}", parent=sweep, params={"lr": rate}, system_metrics=False) as run:
                for epoch in (1, 2):
                    run.log_metrics({"loss": rate / epoch}, epoch)
                run.log_metrics({"accuracy": rate})
            children.append(run.run_id)
        assert store.find_run(sweep.run_id).data.tags["author"] == "ada"
    assert store.find_run(sweep.run_id).data.params == {"optimizer": "sgd"}
    for run_id, rate in zip(children, (0.1, 0.2), strict=True):
        found = store.find_run(run_id)
        assert found.data.tags["mlflow.parentRunId"] == sweep.run_id and found.info.run_name == f"rate {rate}"
        assert found.data.metrics == {"loss": rate / 2, "accuracy": rate}


class Tensor:
    """A scalar as PyTorch has it: ``float()`` of one with a gradient warns, ``item()`` does not."""

    def __init__(self, *values: float) -> None:
        self.values, self.shape = values, (len(values),) if len(values) > 1 else ()

    def item(self) -> float:
        if self.shape:
            raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")
        return self.values[0]


@pytest.mark.mxnet
@pytest.mark.filterwarnings("ignore::DeprecationWarning:mxnet")  # of SciPy, where an array is made
def test_scalars_of_every_library_are_numbers(workdir: Path) -> None:
    from tracking.models.serving import runtime

    mx = runtime.mxnet()
    given = {
        "numpy": np.float32(0.5),
        "array": np.array(0.5),
        "one": np.array([0.5]),
        "mxnet": mx.nd.array([0.5]),
        "mxnet numpy": mx.np.array(0.5),
        "torch": Tensor(0.5),
    }
    with tracking.start_run(live=False, system_metrics=False) as run:
        run.log_metrics({**given, "nan": float("nan"), "yes": True}, step=np.int64(3))
        for bad, said in (
            (np.zeros((2, 3)), r"an array of shape \(2, 3\), whose mean would be one, is not a number"),
            (mx.nd.zeros(2), r"shape \(2,\)"),
            (Tensor(1, 2), r"shape \(2,\)"),
            (None, "metric bad: None is not"),
            ("0.5", "is text; give a number"),
        ):
            with pytest.raises(TrackingError, match=said):
                run.log_metrics({"bad": bad}, step=3)
    [event] = events(run.dir, "metric")
    assert event["values"] == {**dict.fromkeys(given, 0.5), "nan": "nan", "yes": 1.0} and event["step"] == 3


def test_without_a_step_the_last_value_is_the_last_one_logged(store: Store) -> None:
    with tracking.start_run(system_metrics=False) as run:
        for loss in (3, 1, 2):
            run.log_metrics({"loss": loss})
        run.log_metrics({"loss": 5}, step=7)
    with tracking.resume_run(run.dir, system_metrics=False) as again:
        again.log_metrics({"loss": 4})
    history = store.client().get_metric_history(run.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 3), (1, 1), (2, 2), (7, 5), (8, 4)]


def test_a_resumed_run_knows_the_time_of_every_earlier_attempt(store: Store) -> None:
    journal = Journal.create(store.journals, experiment="exp", run_name=None, start_time_ms=1_000)
    journal.metrics({"loss": 1}, step=1, time_ms=4_000)
    journal.status("KILLED", time_ms=5_000)
    journal.status("RUNNING", time_ms=100_000)
    journal.metrics({"loss": 1}, step=2, time_ms=103_500)  # and then its process was killed
    journal.close()
    with tracking.resume_run(journal.dir, live=False, system_metrics=False) as run:
        assert run.earlier_s == pytest.approx(4 + 3.5)


def _wrong(run: tracking.Run) -> list[tuple[Any, str]]:
    return [
        (lambda: run.log_metrics("loss", 0.5), r"log_metrics takes a dict, as log_metrics\(\{'validation_acc"),  # type: ignore[arg-type]
        (lambda: run.log_params(argparse.Namespace(a=1)), r"log_params takes a dict.* not Namespace\(a=1\)"),  # type: ignore[arg-type]
        (lambda: run.set_tags(["a"]), "set_tags takes a dict"),  # type: ignore[arg-type]
        (lambda: run.log_metrics({"loss": 1}, step=1.5), "step 1.5 is not a whole number"),  # type: ignore[arg-type]
        (lambda: run.log_text({"a": 1}, "a.json"), r"takes text, not dict; json.dumps\(values\)"),  # type: ignore[arg-type]
        (lambda: run.log_text("a", ""), "give one, such as 'notes.txt'"),
        (lambda: run.log_artifact("none.txt"), "none.txt does not exist"),
        (lambda: run.log_figure("figure", "a.svg"), "a Matplotlib or Plotly figure, not str"),
        (lambda: tracking.start_run("x", params=[1]), r"params is a dict, not \[1\]"),  # type: ignore[arg-type]
    ]


def test_what_is_given_wrong_gets_a_sentence(workdir: Path) -> None:
    with tracking.start_run(live=False, system_metrics=False) as run:
        for call, said in _wrong(run):
            with pytest.raises(TrackingError, match=said):
                call()
    for call in (lambda: run.log_metrics({"a": 1}), lambda: run.log_text("a", "a.txt"), lambda: run.set_tags({})):
        with pytest.raises(TrackingError, match=r"has ended \(FINISHED\): log inside its block.*resume_run"):
            call()
    with pytest.raises(TrackingError, match="cannot be a name"):
        tracking.start_run("x", params={"a\n": 1}, live=False, system_metrics=False)
    assert sorted(filter(None, map(tracked.ended, run.dir.parent.iterdir()))) == ["FAILED", "FINISHED"]


@pytest.mark.parametrize(
    ("other", "here"),
    [
        ("log_metric", r"log_metrics\(\{name: value\}, step=1\)"),  # MLflow, Aim
        ("log", "log_metrics"),  # W&B
        ("log_hyperparams", r"log_params\(vars\(args\)\)"),  # Lightning
        ("info", "run_id"),
        ("end_run", r"finish\(\)"),
        ("metrics", "log_metrics"),  # this package, before
    ],
)
def test_another_tools_name_says_what_it_is_here(workdir: Path, other: str, here: str) -> None:
    with tracking.start_run(live=False, system_metrics=False) as run:
        with pytest.raises(AttributeError, match=f"a run has no '{other}'; here it is run.{here}"):
            getattr(run, other)
        assert not hasattr(run, "nothing")


def test_figures_are_kept_by_their_ending(workdir: Path) -> None:
    from matplotlib.figure import Figure

    drawn = Figure()
    axes = drawn.subplots()

    class Page:
        def write_html(self, path: Path) -> None:
            path.write_text("<html>")

    with tracking.start_run(live=False, system_metrics=False) as run:
        assert b"<svg" in run.log_figure(drawn, "figures/curve.svg").read_bytes()
        assert run.log_figure(Page(), "page.html").read_text() == "<html>"
        for figure, file, said in (
            (drawn, "a.xyz", "figure a.xyz: ValueError: Format 'xyz' is not supported"),
            (drawn, "a", "give the name an ending"),
            (axes, "a.svg", "not Axes; of a plot give its .figure"),
        ):
            with pytest.raises(TrackingError, match=said):
                run.log_figure(figure, file)
    assert [event["artifact_path"] for event in events(run.dir, "artifact")] == ["figures", ""]


def test_an_id_that_does_not_come_says_why(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracking.start_run(live=False, system_metrics=False) as run, pytest.raises(StoreError, match="live=False"):
        _ = run.run_id
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with tracking.start_run(system_metrics=False, flush_s=0.5) as run:
        with pytest.raises(StoreUnreachable, match=r"no id in MLflow yet, after 0.5 s(.|\n)*nothing is lost.*sync"):
            _ = run.run_id
        run.log_metrics({"loss": 1})
    assert run.status == "FINISHED"
