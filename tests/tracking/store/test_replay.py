"""Journal → MLflow: exactly once, wherever the replayer is stopped, and nothing silently cut or dropped."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import INTERNAL_ERROR, MlflowException

from tests.support.forked import Forked
from tests.support.stores import Stopped, StoppingStore, made_database, write_full_journal
from tracking import run as tracked
from tracking.errors import JournalError, RunNotFound, StoreError, TrackingError
from tracking.journal import Journal
from tracking.journal.checks import check_name
from tracking.journal.progress import is_done, is_elsewhere, progress
from tracking.store import Store, artifacts
from tracking.store.replay import replay

pytestmark = pytest.mark.slow


def snapshot(store: Store) -> list[dict[str, Any]]:
    """Everything MLflow shows of every run, without ids of its own making."""
    client = store.client()
    shown = []
    for run in store.runs():
        history = {
            name: [(m.step, m.timestamp, repr(m.value)) for m in client.get_metric_history(run.info.run_id, name)]
            for name in sorted(run.data.metrics)
        }
        shown.append(
            {
                "times": (run.info.start_time, run.info.end_time),
                "status": run.info.status,
                "name": run.info.run_name,
                "params": dict(run.data.params),
                "tags": {k: v for k, v in run.data.tags.items() if k != "journal_id"},
                "metrics": history,
                "inputs": [
                    (i.dataset.name, i.dataset.digest, i.dataset.source, i.dataset.profile, [t.value for t in i.tags])
                    for i in run.inputs.dataset_inputs
                ],
                "artifacts": [f.path for f in client.list_artifacts(run.info.run_id, "model")],
            }
        )
    return shown


EXPECTED = {
    "times": (1_000, 10_000),
    "status": "FAILED",
    "name": "full",
    "params": {"num_layers": "44", "learning_rate": "0.1"},
    "tags": {
        "mlflow.user": "ada",
        "mlflow.runName": "full",
        "epoch": "3",
        "status_reason": "made up",
        "mlflow.note.content": "- **Failed**: `made up`\n- **50.0 % test accuracy**\n- layers `44`, learning rate `0.1`"
        "\n\n<!-- written by the run: 04e1a7077faaed18 -->",
    },
    "metrics": {
        "test_accuracy": [(3, 9_000, "0.5")],
        "train_accuracy": [(1, 1_000, "nan"), (2, 2_000, "nan"), (3, 3_000, "nan")],
        "train_loss": [(1, 1_000, "1.0"), (2, 2_000, "0.5"), (3, 3_000, repr(1 / 3))],
    },
    "inputs": [("digits", "d1", '{"uri": "/data"}', '{"num_rows": 9, "num_images": 9, "num_classes": 3}', ["train"])],
    "artifacts": ["model/weights.bin"],
}
NUM_EVENTS = 12


def journal(store: Store, **rest: Any) -> Journal:
    return Journal.create(store.journals, experiment="exp", run_name="made", **rest)


def only_run(store: Store) -> Any:
    [run] = store.runs()
    return run


def test_a_journal_becomes_one_run_however_often_it_is_replayed(store: Store, tmp_path: Path) -> None:
    directory = write_full_journal(store, tmp_path)
    assert not is_done(directory, store.public_uri)
    first = replay(directory, store)
    assert (first.num_events, first.status, first.problems) == (NUM_EVENTS, "FAILED", [])
    assert is_done(directory, store.public_uri)
    second = replay(directory, store)
    assert (second.run_id, second.num_events) == (first.run_id, 0)
    (directory / "replay.json").unlink()
    third = replay(directory, store)
    assert (third.run_id, third.num_events) == (first.run_id, NUM_EVENTS)
    (directory / "replay.json").write_text('{"version": 1, "stor')  # torn by a power cut
    assert replay(directory, store).run_id == first.run_id
    assert snapshot(store) == [EXPECTED]
    assert only_run(store).data.tags["journal_id"] == directory.name


@pytest.mark.parametrize("after", [False, True])
def test_stopped_at_any_call_and_replayed_again_it_is_exactly_once(store: Store, tmp_path: Path, after: bool) -> None:
    for stop_at in range(1000):
        directory = write_full_journal(store, tmp_path)
        stopping = StoppingStore(store.tracking_uri, store.artifact_root, store.journals, stop_at=stop_at, after=after)
        try:
            replay(directory, stopping)
        except Stopped:
            replay(directory, store)
        else:
            break
    assert stop_at >= 8  # search, make, two batches, inputs, reading them, reason, end
    assert snapshot(store) == [EXPECTED] * (stop_at + 1)


def test_killed_at_any_write_to_the_disk_it_is_exactly_once(store: Store, tmp_path: Path) -> None:
    """As above with a real death: no handler runs, no lock is given back by hand."""
    code = """
import os, sys
from pathlib import Path
import mlflow.entities
import mlflow.store.tracking.sqlalchemy_store
from tracking.store.replay import replay
from tracking.store import resolve
for directory, fatal in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    pid = os.fork()
    if pid == 0:
        left = [fatal]
        def die(event, arguments):
            if event in ("os.rename", "os.link", "os.mkdir"):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
        sys.addaudithook(die)
        replay(Path(directory), resolve())
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    deaths = [0, 1, 3, 5, 8, 1000]
    directories = [write_full_journal(store, tmp_path) for _ in deaths]
    arguments = [str(word) for pair in zip(directories, deaths, strict=True) for word in pair]
    said, _ = Forked("-W", "ignore", "-c", code, *arguments).communicate()  # Python 3.12 warns of a fork beside threads
    assert said.split() == ["9"] * (len(deaths) - 1) + ["0"], said
    for directory in directories:
        replay(directory, store)
    assert snapshot(store) == [EXPECTED] * len(directories)


def test_where_descriptors_run_out_nothing_is_left_out(store: Store, tmp_path: Path) -> None:
    """A file that cannot be opened for now is not one that cannot be read; sqlite opens its own."""
    code = """
import errno, os, sys
from pathlib import Path
import mlflow.entities
import mlflow.store.tracking.sqlalchemy_store
from tracking.errors import TrackingError
from tracking.store.replay import replay
from tracking.store import resolve
for number, directory in enumerate(sys.argv[1:], 12):  # from where the artifact's turn comes
    pid = os.fork()
    if pid == 0:
        left = [number]
        def refuse(event, arguments):
            if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(os.getcwd()):
                left[0] -= 1
                if left[0] == -1:  # there are some again at once
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), arguments[0])
        sys.addaudithook(refuse)
        try:
            replay(Path(directory), resolve())
        except (OSError, TrackingError) as error:
            os._exit(1 if "Too many open files" in str(error) else 2)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    directories = []
    for _ in range(9):
        journal = Journal.create(store.journals, experiment="exp", run_name=None)
        (journal.dir / "files" / "notes.txt").write_text("x")
        journal.artifact(journal.dir / "files" / "notes.txt")
        journal.status("FINISHED")
        journal.close()
        directories.append(journal.dir)
    said, _ = Forked("-W", "ignore", "-c", code, *map(str, directories)).communicate()
    assert set(said.split()) <= {"0", "1"} and "1" in said, said
    for directory in directories:
        replay(directory, store)
    for run in store.runs():
        assert "replay_problems" not in run.data.tags and run.info.status == "FINISHED"
        assert [file.path for file in store.client().list_artifacts(run.info.run_id)] == ["notes.txt"]


def test_stopped_again_and_again_it_gets_there(store: Store, tmp_path: Path) -> None:
    directory = write_full_journal(store, tmp_path)
    num_stops = 0
    for _ in range(50):
        stopping = StoppingStore(store.tracking_uri, store.artifact_root, store.journals, stop_at=3, after=True)
        try:
            replay(directory, stopping)
            break
        except Stopped:
            num_stops += 1
    assert 2 <= num_stops < 60
    assert snapshot(store) == [EXPECTED]


def test_asynchronous_logging_is_not_believed(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With it MLflow says done before anything is written, and the position kept beside the journal would be a lie."""
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    before = {thread.name for thread in threading.enumerate()}
    replay(write_full_journal(store, tmp_path), store)
    assert {thread.name for thread in threading.enumerate()} <= before
    assert snapshot(store) == [EXPECTED]


def test_a_server_that_keeps_artifacts_in_its_own_folders_is_said(store: Store, tmp_path: Path) -> None:
    class Far(Store):
        def client(self) -> Any:
            return store.client()

    store.client().create_experiment("exp", artifact_location="file:///server/own/folder")
    far = Far("http://mlflow.example:5000", None, store.journals)
    outcome = replay(write_full_journal(store, tmp_path), far)
    [problem] = outcome.problems
    assert "the server keeps them in a folder of its own machine, /server/own/folder/" in problem
    assert "start it with --serve-artifacts" in problem
    assert (outcome.status, Path("/server").exists()) == ("FAILED", False)


def test_two_processes_at_once_make_one_run(store: Store, tmp_path: Path) -> None:
    directory = write_full_journal(store, tmp_path, num_epochs=200)
    both = [Forked("-m", "tracking", "sync", str(directory)) for _ in range(2)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(list(store.runs())) == 1
    history = store.client().get_metric_history(only_run(store).info.run_id, "train_loss")
    assert sorted(m.step for m in history) == list(range(1, 201))


def test_a_growing_journal_is_followed(store: Store) -> None:
    written = journal(store)
    written.metrics({"loss": 1}, step=1)
    first = replay(written.dir, store)
    assert (first.num_events, first.status, only_run(store).info.status) == (2, None, "RUNNING")
    written.metrics({"loss": 2}, step=2)
    written.status("FINISHED")
    again = replay(written.dir, store)
    assert (again.num_events, again.status, only_run(store).info.status) == (2, "FINISHED", "FINISHED")


def test_large_journals_go_over_in_batches_mlflow_takes(store: Store) -> None:
    written = journal(store)
    written.params({f"p{n}": "x" * 50 for n in range(450)})
    written.tags({f"t{n}": "y" * 7_000 for n in range(250)})
    written.metrics({f"m{n}": n for n in range(2_500)}, step=1)
    for step in range(1_500):
        written.metrics({"loss": step}, step=step)
    outcome = replay(written.dir, store)
    assert outcome.problems == []
    run = only_run(store)
    assert len(run.data.params) == 450
    assert len(run.data.metrics) == 2_501
    assert len([name for name in run.data.tags if name.startswith("t")]) == 250
    assert len(store.client().get_metric_history(run.info.run_id, "loss")) == 1_500


def test_what_is_too_long_for_mlflow_is_kept_whole_beside_it(store: Store) -> None:
    whole = "ä" * 6_001
    written = journal(store)
    written.params({"just": "a" * 6_000, "config_text": whole[:-1] + "x", "config/text": whole, "ä" * 250: whole})
    written.tags({"just_tag": "b" * 8_000, "long_tag": "c" * 8_001})
    outcome = replay(written.dir, store)
    assert outcome.problems == []
    (written.dir / "replay.json").unlink()
    assert replay(written.dir, store).problems == []
    run = only_run(store)
    assert run.data.params["just"] == "a" * 6_000
    file = "config_text-28a55c9c.txt"  # another one than that of config_text
    assert run.data.params["config/text"] == "ä" * 200 + f"… (6001 characters, all in artifact params/{file})"
    assert run.data.tags["just_tag"] == "b" * 8_000
    assert run.data.tags["long_tag"].endswith("… (8001 characters, all in artifact tags/long_tag.txt)")
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert (folder / "params" / file).read_text() == whole
    assert (folder / "params" / "config_text.txt").read_text() == whole[:-1] + "x"
    assert (folder / "tags" / "long_tag.txt").read_text() == "c" * 8_001


def test_a_parameter_given_twice_keeps_the_first_value_and_says_so(store: Store) -> None:
    written = journal(store)
    written.params({"epochs": 3})
    written.params({"epochs": 4, "seed": 1})
    written.status("FINISHED")
    outcome = replay(written.dir, store)
    assert outcome.problems == ["parameter epochs is '3' and was given as '4' later"]
    run = only_run(store)
    assert (run.data.params, run.info.status) == ({"epochs": "3", "seed": "1"}, "FINISHED")
    assert run.data.tags["replay_problems"] == outcome.problems[0]
    written.params({"epochs": 5})
    assert replay(written.dir, store).problems == ["parameter epochs is '3' and was given as '5' later"]


def test_one_bad_event_of_a_foreign_journal_does_not_keep_out_the_rest(store: Store) -> None:
    written = journal(store)
    written.metrics({"good": 1}, step=1)
    written.close()
    with (written.dir / "journal-000001.jsonl").open("a") as lines:
        for event in (
            {"time_ms": 1, "event": "metric", "step": 1, "values": {"bad?": 1.0, "fine": 2.0}},
            {"time_ms": 1, "event": "from the future", "what": 1},
            {"time_ms": 1, "event": "artifact", "path": "files/gone", "artifact_path": ""},
            {"time_ms": 9, "event": "status", "status": "FINISHED", "reason": "", "end_time_ms": 9},
        ):
            lines.write(json.dumps(event) + "\n")
    outcome = replay(written.dir, store)
    run = only_run(store)
    assert run.data.metrics == {"good": 1.0, "fine": 2.0}
    assert (run.info.status, run.info.end_time) == ("FINISHED", 9)
    bad, unknown, gone = outcome.problems
    assert "bad?" in bad
    assert unknown == "event 'from the future' is unknown to this version"
    assert gone.startswith("artifact files/gone is gone from")
    assert run.data.tags["replay_problems"].splitlines()[-2:] == [unknown, gone]


def test_a_server_that_fails_now_and_then_is_not_taken_for_one_that_refuses(store: Store) -> None:
    journal = Journal.create(store.journals, experiment="exp", run_name=None)
    for step in range(100):
        journal.metrics({"loss": step, "accuracy": step}, step=step)
        journal.tags({f"tag_{step}": "x"})
    journal.status("FINISHED")
    client, chance, calls = store.client(), random.Random(1), 0

    def flaky(method: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 1 or chance.random() < 0.1:
                raise MlflowException("too busy", error_code=INTERNAL_ERROR)
            return method(*arguments, **named)

        return call

    for name in ("log_batch", "set_tag"):
        setattr(client, name, flaky(getattr(client, name)))
    outcome = replay(journal.dir, store, client)
    assert calls > 100 and (outcome.problems, outcome.status) == ([], "FINISHED")
    [run] = store.runs()
    assert len(run.data.tags.keys() & {f"tag_{step}" for step in range(100)}) == 100
    for name in ("loss", "accuracy"):
        assert len(store.client().get_metric_history(run.info.run_id, name)) == 100


def test_the_names_we_take_are_the_names_mlflow_takes(store: Store) -> None:
    from mlflow.exceptions import MlflowException

    client = store.client()
    run_id = client.create_run(store.experiment_id()).info.run_id
    for name in [
        "a",
        "system/gpu_0",
        "a b",
        "a:b",
        "a.b-c_d",
        "über",
        "a\\b",
        "..a",
        "a/..",
        "a/",
        "é",
        "a%",
        "a" * 251,
    ]:
        for write, refusal in (
            (check_name, TrackingError),
            (lambda n: client.log_metric(run_id, n, 1.0), MlflowException),
        ):
            try:
                write(name)
            except refusal:
                taken = False
            else:
                taken = True
            if write is check_name:
                ours = taken
        assert ours == taken, name


def test_values_of_every_kind_arrive(store: Store) -> None:
    written = journal(store)
    written.metrics({"nan": float("nan"), "inf": float("inf"), "tiny": 5e-324, "big": 2**60}, step=-1, time_ms=5)
    written.params({"empty": "", "surrogate": "\ud800", "text": "日本\n|x"})
    assert replay(written.dir, store).problems == []
    run = only_run(store)
    metrics = run.data.metrics
    assert metrics["nan"] != metrics["nan"]
    # A database has no infinity: MLflow keeps the largest float instead.
    assert (metrics["inf"], metrics["tiny"], metrics["big"]) == (sys.float_info.max, 5e-324, 2.0**60)
    assert run.data.params == {"empty": "", "surrogate": "\\ud800", "text": "日本\n|x"}


def test_datasets_are_inputs_with_our_digest(store: Store) -> None:
    import mlflow.data

    written = journal(store)
    sources = {"train": "/data/digits", "validation": "s3://bucket/digits", "test": "https://example.org/digits.zip"}
    for context, source in sources.items():
        digest = f"{context}-digest"
        written.dataset(context=context, name="digits", digest=digest, source=source, num_images=5, num_classes=2)
    # The same pictures in two splits: MLflow alone would keep the first context only.
    written.dataset(context="test", name="digits", digest="train-digest", source="/d", num_images=5, num_classes=2)
    replay(written.dir, store)
    (written.dir / "replay.json").unlink()
    replay(written.dir, store)
    inputs = only_run(store).inputs.dataset_inputs
    found = sorted((i.tags[0].value, i.dataset.name, i.dataset.digest) for i in inputs)
    assert found == [
        ("test", "digits", "test-digest"),
        ("test", "digits (test)", "train-digest"),
        ("train", "digits", "train-digest"),
        ("validation", "digits", "validation-digest"),
    ]
    kinds = {i.tags[0].value: mlflow.data.get_source(i.dataset) for i in inputs if i.dataset.name == "digits"}
    assert kinds["train"].uri == "/data/digits"
    assert kinds["test"].url == "https://example.org/digits.zip"


def test_local_artifacts_are_linked_where_they_never_change_in_place(store: Store, tmp_path: Path) -> None:
    written = journal(store)
    (tmp_path / "model.bin").write_bytes(b"first")
    placed = written.artifact(tmp_path / "model.bin", "model")
    own = written.dir / "files" / "log.txt"
    own.write_text("log")
    written.artifact(own)
    replay(written.dir, store)
    folder = Path(only_run(store).info.artifact_uri.removeprefix("file://"))
    assert (folder / "model" / "model.bin").samefile(placed)
    assert not (folder / "log.txt").samefile(own)
    own.write_text("changed in place")
    assert (folder / "log.txt").read_text() == "log"
    (tmp_path / "model.bin").write_bytes(b"second")
    written.artifact(tmp_path / "model.bin", "model")
    assert (folder / "model" / "model.bin").read_bytes() == b"first"
    replay(written.dir, store)
    assert (folder / "model" / "model.bin").read_bytes() == b"second"
    assert sorted(p.name for p in folder.rglob("*")) == ["log.txt", "model", "model.bin"]


def test_what_a_killed_program_left_of_a_file_does_not_stay_as_an_artifact(store: Store, tmp_path: Path) -> None:
    """That of a program that is alive does, and so does every other file."""
    source, folder = tmp_path / "log.txt", tmp_path / "there"
    folder.mkdir()
    source.write_text("log")
    others = {f".log.txt.{os.getppid()}.part", ".log.txt.part", ".other.txt.4194305.part"}
    for name in (*others, ".log.txt.4194305.part"):  # above every process's number
        (folder / name).write_text("lo")
    artifacts.copy(source, folder / "log.txt", may_link=False)
    assert set(os.listdir(folder)) == {"log.txt", *others}


def test_a_child_is_shown_under_its_parent(store: Store) -> None:
    parent, orphan = journal(store), journal(store, parent="unknown")
    child = journal(store, parent=parent.journal_id)
    parent_id = replay(parent.dir, store).run_id
    child_id = replay(child.dir, store).run_id
    orphan_id = replay(orphan.dir, store).run_id
    assert store.find_run(child_id).data.tags["mlflow.parentRunId"] == parent_id
    assert "mlflow.parentRunId" not in store.find_run(orphan_id).data.tags


def test_a_store_made_anew_gets_the_run_again(store: Store, tmp_path: Path) -> None:
    directory = write_full_journal(store, tmp_path)
    replay(directory, store)
    shutil.copy(made_database(), tmp_path / "other.db")
    other = Store(f"sqlite:///{tmp_path}/other.db", tmp_path / "a", store.journals)
    assert (is_elsewhere(directory, store.public_uri), is_elsewhere(directory, other.public_uri)) == (False, True)
    replay(directory, other)
    assert snapshot(other) == [EXPECTED]
    assert is_done(directory, store.public_uri) and is_done(directory, other.public_uri)
    # As if the file at the other's place had been replaced: what replay.json says is no longer true.
    state = json.loads((directory / "replay.json").read_text())
    state["stores"][other.tracking_uri]["run_id"] = "f" * 32
    state["stores"][store.tracking_uri]["run_id"] = "f" * 32
    (directory / "replay.json").write_text(json.dumps(state))
    store.client().delete_run(only_run(store).info.run_id)
    assert replay(directory, other).run_id == only_run(other).info.run_id


def test_a_run_deleted_in_mlflow_stays_deleted(store: Store, tmp_path: Path) -> None:
    directory = write_full_journal(store, tmp_path)
    run_id = replay(directory, store).run_id
    store.client().delete_run(run_id)
    for _ in range(2):
        with pytest.raises(StoreError, match=f"run {run_id} was deleted in sqlite.*mlflow runs restore"):
            replay(directory, store)
        (directory / "replay.json").unlink(missing_ok=True)
    assert list(store.runs()) == []


def test_a_run_deleted_while_it_is_followed_is_said(store: Store) -> None:
    from tracking.store.replay import Replayer

    written = journal(store)
    replayer = Replayer(written.dir, store)
    run_id = replayer.advance().run_id
    store.client().delete_run(run_id)
    written.metrics({"loss": 1}, step=1)
    with pytest.raises(StoreError, match="was deleted"):
        replayer.advance()
    store.client().restore_run(run_id)
    assert replayer.advance().num_events == 1
    assert only_run(store).data.metrics == {"loss": 1.0}


def test_a_deleted_experiment_is_said(store: Store) -> None:
    store.client().delete_experiment(store.experiment_id("exp"))
    with pytest.raises(StoreError, match="experiment 'exp' is deleted.*mlflow experiments restore --experiment-id"):
        replay(journal(store).dir, store)


def test_attaching_to_a_run_that_is_not_there_is_said(store: Store) -> None:
    with tracked.attach("f" * 32, live=None) as run:
        run.log_metrics({"test_accuracy": 1}, step=1)
    with pytest.raises(RunNotFound, match="no run 'f{32}'"):
        replay(run.dir, store)


def test_a_journal_of_a_newer_version_is_left_alone(store: Store) -> None:
    written = journal(store)
    path = written.dir / "journal-000001.jsonl"
    path.write_text(path.read_text().replace('"version":1', '"version":2'))
    with pytest.raises(JournalError, match="newer version"):
        replay(written.dir, store)
    path.write_text("")
    with pytest.raises(JournalError, match="holds no journal"):
        replay(written.dir, store)
    assert progress(written.dir, store).run_id is None


def test_a_users_own_active_run_is_untouched_though_it_is_in_the_same_store(store: Store) -> None:
    code = """
import mlflow
from tracking import run as tracked
mlflow.set_tracking_uri("sqlite:///mlruns/mlflow.db")
mlflow.set_experiment("theirs")
with mlflow.start_run(run_name="mine") as active:
    mlflow.log_metric("before", 1)
    with tracked.start(experiment="ours", system_metrics=False) as run:
        run.log_metrics({"ours": 1}, step=1)
        mlflow.log_metric("during", 1)
    assert run.mlflow_run_id not in (None, active.info.run_id)
    assert mlflow.active_run().info.run_id == active.info.run_id
    assert mlflow.get_tracking_uri() == "sqlite:///mlruns/mlflow.db"
    mlflow.log_metric("after", 1)
assert mlflow.active_run() is None
mlflow.log_metric("later", 1)
assert mlflow.active_run().info.experiment_id == active.info.experiment_id
"""
    theirs = Forked("-c", code)
    said, _ = theirs.communicate()
    assert theirs.returncode == 0, said
    runs = {run.info.run_name: run for run in store.runs([store.experiment_id("theirs", create=False)])}
    assert sorted(runs.pop("mine").data.metrics) == ["after", "before", "during"]
    [later] = runs.values()
    assert sorted(later.data.metrics) == ["later"]
    [ours] = store.runs([store.experiment_id("ours", create=False)])
    assert ours.data.metrics == {"ours": 1.0}
