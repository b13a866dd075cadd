"""What a notebook does with the public names, on one small training: ``tracking``, ``trainers``, ``reports``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reports
import tracking
import trainers
from tracking.__main__ import main as promote

pytestmark = [pytest.mark.mxnet, pytest.mark.slow]
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28)).astype("float32")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A directory with one run in its store, and how the run ended."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, trainers.train(trainers.Config(num_layers=20, epochs=1, run_name="small"))


@pytest.fixture
def outcome(trained: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(trained[0])
    yield trained[1]


def test_train_says_how_the_run_ended(outcome: Any) -> None:
    assert outcome.status == "FINISHED" and not outcome.reason
    (row,) = tracking.runs("tags.mlflow.runName = 'small'").to_dict("records")
    assert row["run_id"] == outcome.run_id
    assert row["metrics.test_accuracy"] == outcome.scores["test_accuracy"]


def test_bad_input_raises(outcome: Any, tmp_path: Path) -> None:
    with pytest.raises(trainers.BadConfig, match="--top-k"):
        trainers.train(trainers.Config(top_k=10))
    with pytest.raises(trainers.BadInput, match="is finished"):
        trainers.resume(outcome.run_id)
    with pytest.raises(tracking.RunNotFound):
        trainers.evaluate_run("00000000")
    # Found only once the run is recorded: it fails there, and the caller hears of it too.
    weights = tmp_path / "none.params"
    weights.write_bytes(b"no weights")
    with pytest.raises(trainers.BadInput, match=r"none\.params"):
        trainers.train(trainers.Config(num_layers=20, init=str(weights), run_name="late"))
    assert list(tracking.runs("tags.mlflow.runName = 'late'")["status"]) == ["FAILED"]


def test_a_model_loads_by_each_of_its_names(outcome: Any) -> None:
    store = tracking.open_store()
    client = store.client()
    run = store.find_run(outcome.run_id)
    model_id = run.outputs.model_outputs[0].model_id
    assert promote(["promote", outcome.run_id, "--name", "digits"]) == 0
    folder = client.get_logged_model(model_id).artifact_location.removeprefix("file://")
    named = [f"runs:/{outcome.run_id}/model", f"runs:/{outcome.run_id[:8]}/model", f"models:/{model_id}"]
    named += ["models:/digits@champion", "models:/digits/1", folder]
    first, *others = [tracking.load_model(name, runtime="onnx")(PICTURES) for name in named]
    assert first.shape == (3, 10) and all(np.array_equal(first, other) for other in others)
    by_mxnet = tracking.load_model(named[0], runtime="mxnet")
    assert type(by_mxnet).__name__ == "SymbolBlock"


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("runs:/00000000/model", tracking.RunNotFound, "no run '00000000'"),
        ("models:/nobody@champion", tracking.ModelError, "models:/nobody@champion cannot be loaded from sqlite:"),
        ("models:/m-0", tracking.ModelError, "models:/m-0 cannot be loaded"),
        ("no/such/folder", tracking.ModelError, "no/such/folder cannot be loaded"),
    ],
)
def test_what_is_no_model_raises(outcome: Any, uri: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tracking.load_model(uri)


def test_a_study_returns_its_board(outcome: Any, tmp_path: Path) -> None:
    study = tmp_path / "one.toml"
    study.write_text("[[runs]]\nname = 'one'\nnum_layers = 20\nepochs = 1\nimage_shape = '1,8,8'\n", encoding="utf-8")
    board = trainers.run_study(study)
    assert isinstance(board, reports.LeaderboardFrame) and list(board["n"]) == [1]
    assert len(tracking.runs("tags.study = 'one' and metrics.test_accuracy > 0")) == 1  # and the study's own run
    assert trainers.run_study(study).equals(board), "nothing is trained again"


def test_evaluate_scores_other_pictures_too(outcome: Any) -> None:
    done = trainers.evaluate_run(outcome.run_id, split="validation")
    assert done.name == "validation" and done.scores.num_images == 179


def test_a_loop_of_its_own_is_written_down(outcome: Any) -> None:
    with tracking.start_run(run_name="mine") as run:
        run.log_params({"learning_rate": 0.1})
        run.log_metrics({"validation_accuracy": 0.91}, step=1)
    (row,) = tracking.runs("metrics.validation_accuracy > 0.9 and tags.mlflow.runName = 'mine'").to_dict("records")
    assert (row["status"], row["params.learning_rate"], row["run_id"]) == ("FINISHED", 0.1, run.mlflow_run_id)
    with tracking.resume_run(run.dir) as again:
        again.set_tags({"note": "resumed"})
    with tracking.attach_run(row["run_id"]) as added:
        added.log_metrics({"test_accuracy": 0.9}, step=1)
    (row,) = tracking.runs("tags.note = 'resumed'").to_dict("records")
    assert (row["metrics.test_accuracy"], os.fspath(tracking.open_store().journal_dir(row["run_id"]))) == (
        0.9,
        os.fspath(run.dir),
    )
