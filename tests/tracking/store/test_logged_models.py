"""A journal's model becomes one LoggedModel with its epoch's scores, however often and wherever it is replayed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import tracking
from tests.support.stores import Stopped, StoppingStore
from tracking import run as tracked
from tracking.errors import ModelError, RunNotFound
from tracking.journal import Journal
from tracking.store import Store
from tracking.store.replay import replay


def model_folder(folder: Path, epoch: int = 2, content: str = "weights") -> Path:
    """What a training run leaves, as far as a replayer looks at it."""
    (folder / "code" / "loader").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "loader" / "__init__.py").write_text("")
    (folder / "model-0000.params").write_text(content)
    (folder / "model.json").write_text(json.dumps({"format": 1, "epoch": epoch}))
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"gluon": {}}, "model_uuid": "of the trainer"}))
    return folder


def write(store: Store, tmp_path: Path, *, end: bool = True) -> Path:
    """A run of three epochs whose second one's weights are kept."""
    journal = Journal.create(store.journals, experiment="exp", run_name="made", start_time_ms=1_000)
    journal.params({"num_layers": 44, "note": "x" * 600}, time_ms=1_001)
    for context in ("train", "validation", "test"):
        journal.dataset(
            context=context,
            name="owls",
            digest=f"d-{context}",
            source="/owls",
            num_images=9,
            num_classes=3,
            time_ms=1_002,
        )
    for epoch in (1, 2, 3):
        values = {"validation_accuracy": epoch / 10, "train_loss": float("nan") if epoch == 2 else 1.0}
        journal.metrics(values, step=epoch, time_ms=1_000 * epoch)
        journal.metrics({"system/cpu": 50}, step=epoch, time_ms=1_000 * epoch)
    journal.artifact(model_folder(tmp_path / "model"), time_ms=4_000)
    journal.metrics({"test_accuracy": 0.25, "best_epoch": 2}, step=2, time_ms=5_000)
    journal.metrics({"total_time_s": 9.0}, step=3, time_ms=5_001)
    if end:
        journal.status("FINISHED", end_time_ms=6_000, time_ms=6_000)
    journal.close()
    return journal.dir


def models(store: Store) -> list[Any]:
    return list(store.client().search_logged_models([store.experiment_id("exp")]))


def folder_of(model: Any) -> Path:
    return Path(model.artifact_location.removeprefix("file://"))


LINKED = {
    ("validation_accuracy", 2, 2_000, 0.2, "owls", "d-validation"),
    ("test_accuracy", 2, 5_000, 0.25, "owls", "d-test"),
    ("best_epoch", 2, 5_000, 2.0, None, None),
}


def check(store: Store) -> None:
    """One model, whole, ready, linked, and the only output of the only run."""
    (model,) = models(store)
    (run,) = store.runs()
    assert (model.name, str(model.status), model.source_run_id) == ("model", "READY", run.info.run_id)
    assert [(one.model_id, one.step) for one in run.outputs.model_outputs] == [(model.model_id, 2)]
    linked = [(m.key, m.step, m.timestamp, m.value, m.dataset_name, m.dataset_digest) for m in model.metrics]
    assert set(linked) == LINKED and len(linked) == len(LINKED)
    assert model.params == {"num_layers": "44"}  # the long one is the run's alone
    folder = folder_of(model)
    assert sorted(p.name for p in folder.iterdir()) == ["MLmodel", "code", "model-0000.params", "model.json"]
    description = yaml.safe_load((folder / "MLmodel").read_text())
    assert description == {
        "flavors": {"gluon": {}},
        "model_uuid": model.model_id,
        "model_id": model.model_id,
        "run_id": run.info.run_id,
        "artifact_path": model.artifact_location,
    }
    history = store.client().get_metric_history(run.info.run_id, "validation_accuracy")
    assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_a_model_is_registered_once_however_often_it_is_replayed(store: Store, tmp_path: Path) -> None:
    directory = write(store, tmp_path)
    replay(directory, store)
    check(store)
    replay(directory, store)
    (directory / "replay.json").unlink()  # as if another machine had begun it
    replay(directory, store)
    check(store)
    kept = yaml.safe_load((directory / "files" / "model" / "MLmodel").read_text())
    assert kept["model_uuid"] == "of the trainer"  # the journal's own copy stays as it was


def with_digests(store: Store, tmp_path: Path) -> Path:
    """The same run, as the trainer writes its model: with the digests of what never changes in place."""
    model = model_folder(tmp_path / "model")
    facts = {"format": 1, "epoch": 2, "sha256": {"model-0000.params": "0" * 64, "../outside": "1" * 64, "none": ""}}
    journal = Journal.create(store.journals, experiment="exp", run_name="made", start_time_ms=1_000)
    (model / "model.json").write_text(json.dumps(facts))
    journal.artifact(model.rename(journal.dir / "files" / "model"), time_ms=4_000)
    journal.close()
    return journal.dir


def test_weights_are_on_the_disk_once(store: Store, tmp_path: Path) -> None:
    directory = with_digests(store, tmp_path)
    assert replay(directory, store).notes == []
    (model,) = models(store)
    kept, shown = directory / "files" / "model", folder_of(model)
    assert (shown / "model-0000.params").samefile(kept / "model-0000.params")
    assert not (shown / "model.json").samefile(kept / "model.json"), "this one is written in place"
    model_folder(tmp_path / "new", content="other weights")
    (tmp_path / "new" / "model-0000.params").replace(kept / "model-0000.params")  # as a resumed run does
    assert (shown / "model-0000.params").read_text() == "weights"
    (directory / "replay.json").unlink()
    replay(directory, store)
    assert (shown / "model-0000.params").read_text() == "other weights"
    shutil.rmtree(directory)
    assert (shown / "model-0000.params").read_text() == "other weights", "neither name needs the other"


def test_two_file_systems_keep_two_copies_and_say_so(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Any, target: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    directory = with_digests(store, tmp_path)
    outcome = replay(directory, store)
    (model,) = models(store)
    assert (folder_of(model) / "model-0000.params").read_text() == "weights"
    assert outcome.problems == [] and len(outcome.notes) == 1 and "twice" in outcome.notes[0]


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after it"])
def test_a_replayer_stopped_at_any_call_leaves_one_model(store: Store, tmp_path: Path, after: bool) -> None:
    directory = write(store, tmp_path)
    stop_at = 0
    while True:
        stopping = StoppingStore(store.tracking_uri, store.artifact_root, store.journals, stop_at=stop_at, after=after)
        try:
            replay(directory, stopping)
            break
        except Stopped:
            stop_at += 1
        assert len(models(store)) <= 1
        assert stop_at < 60
    assert stop_at > 6
    check(store)


def test_scores_that_come_later_are_the_models_too(store: Store, tmp_path: Path) -> None:
    replay(write(store, tmp_path), store)
    (run,) = store.runs()
    with tracked.attach(run.info.run_id, live=store) as attached:
        attached.log_dataset(
            context="test", name="new owls", digest="d-new", source="/new", num_images=5, num_classes=3
        )
        attached.log_metrics({"test_accuracy": 0.75}, step=2)
        attached.log_metrics({"test_accuracy": 0.5}, step=1)
    (model,) = models(store)
    found = [(m.value, m.dataset_name, m.dataset_digest) for m in model.metrics if m.key == "test_accuracy"]
    assert sorted(found) == [(0.25, "owls", "d-test"), (0.75, "new owls", "d-new")]


def test_a_model_that_is_written_anew_replaces_its_files(store: Store, tmp_path: Path) -> None:
    directory = write(store, tmp_path, end=False)
    replay(directory, store)
    journal = Journal.reopen(directory)
    journal.artifact(model_folder(tmp_path / "again" / "model", content="better"))
    journal.close()
    replay(directory, store)
    (model,) = models(store)
    assert (folder_of(model) / "model-0000.params").read_text() == "better"
    (run,) = store.runs()
    assert len(run.outputs.model_outputs) == 1


@pytest.mark.parametrize(
    ("name", "artifact_path", "has_description"),
    [("model", "", False), ("model", "checkpoints", True), ("model.v2", "", True)],
)
def test_what_is_no_model_of_the_run_stays_an_artifact(
    name: str, artifact_path: str, has_description: bool, store: Store, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path / name)
    if not has_description:
        (folder / "MLmodel").unlink()
    journal = Journal.create(store.journals, experiment="exp", run_name="made")
    journal.artifact(folder, artifact_path)
    journal.close()
    replay(journal.dir, store)
    (run,) = store.runs()
    place = f"{artifact_path}/{name}".lstrip("/")
    paths = {file.path for file in store.client().list_artifacts(run.info.run_id, place)}
    assert f"{place}/model-0000.params" in paths and not models(store)


def test_a_model_that_says_no_epoch_belongs_to_the_state_before_training(store: Store, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "model.json").write_text("not json")
    journal = Journal.create(store.journals, experiment="exp", run_name="made")
    journal.metrics({"validation_accuracy": 0.5}, step=0)
    journal.artifact(folder)
    journal.close()
    replay(journal.dir, store)
    (model,) = models(store)
    assert {m.key for m in model.metrics} == {"validation_accuracy"}


def test_no_name_of_a_model_leads_elsewhere(store: Store) -> None:
    for name in ("../../x", "a\0b", "x" * 5000, "..", "\x1b[31mred", "=1+1", ""):
        for uri in (f"models:/{name}@champion", f"models:/{name}/1", f"runs:/{name}/model", f"runs:/../../etc/{name}"):
            with pytest.raises((ModelError, RunNotFound)):
                tracking.load_model(uri)
