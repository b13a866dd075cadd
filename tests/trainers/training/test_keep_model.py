"""``--keep-model``: which networks a run keeps, that they are the right ones, and who finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import trainers
from tests.support.pictures import class_folders, noise
from tests.support.stores import make_store
from tracking import store as stores
from tracking.models.serving.model import PictureModel
from tracking.store import predictions
from trainers import evaluate, predict, run
from trainers.config import study as studies

pytestmark = [pytest.mark.mxnet, pytest.mark.slow]
SETTINGS: dict[str, Any] = {
    "dataset": "photos",
    "num_layers": 20,
    "image_shape": "3,8,8",
    "mini_batch_size": 8,
    "epochs": 2,
    "learning_rate": 0.01,
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The same training with two of the settings, in one store."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_store(folder)
        class_folders(folder / "photos", 12)
        return folder, {
            how: trainers.train(trainers.Config(**SETTINGS, keep_model=how, run_name=how)) for how in ("all", "none")
        }


@pytest.fixture
def kept(outcomes: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(outcomes[0])
    return outcomes[1]


def models(run_id: str) -> dict[str, tuple[int, Path]]:
    """Name → epoch and folder of each model that MLflow has of a run."""
    store = stores.resolve()
    client = store.client()
    found = store.find_run(run_id).outputs.model_outputs
    by_name = {client.get_logged_model(one.model_id): one.step for one in found}
    return {
        model.name: (step, Path(model.artifact_location.removeprefix("file://"))) for model, step in by_name.items()
    }


def test_what_is_kept_changes_no_score(kept: dict[str, Any]) -> None:
    assert kept["all"].scores == kept["none"].scores


def test_each_network_is_on_the_disk_once(kept: dict[str, Any]) -> None:
    journal = stores.resolve().journal_dir(kept["all"].run_id)
    for name, (_, folder) in models(kept["all"].run_id).items():
        for file in ("model-0000.params", "model.onnx", "model-symbol.json"):
            assert (folder / file).samefile(journal / "files" / name / file)


def test_all_keeps_the_network_of_each_epoch_with_its_scores(kept: dict[str, Any]) -> None:
    run_id = kept["all"].run_id
    found = models(run_id)
    assert {name: step for name, (step, _) in found.items() if name != "model"} == {
        f"model-epoch-000{epoch}": epoch for epoch in (1, 2)
    }
    pictures = noise(1, (8, 8))[None]
    answers = {name: PictureModel(folder).probabilities(pictures) for name, (_, folder) in found.items()}
    best = f"model-epoch-000{found['model'][0]}"
    assert np.array_equal(answers.pop("model"), answers[best])
    assert len({answer.tobytes() for answer in answers.values()}) == 2
    client = stores.resolve().client()
    history = {m.step: m.value for m in client.get_metric_history(run_id, "validation_accuracy")}
    for output in stores.resolve().find_run(run_id).outputs.model_outputs:
        model = client.get_logged_model(output.model_id)
        assert [m.value for m in model.metrics if m.key == "validation_accuracy"] == [history[output.step]]


def test_predict_answers_as_the_run_did_when_it_was_tested(kept: dict[str, Any]) -> None:
    run = stores.resolve().find_run(kept["all"].run_id)
    logged = predictions.load(stores.resolve().tracking_uri, run.info.artifact_uri, "test")
    assert logged is not None
    answers = ["--top=1", "--out=answers.csv"]
    assert predict.main([run.info.run_id, *(f"photos/{key}" for key in logged.key), *answers]) == 0
    table = pd.read_csv("answers.csv")
    assert table["class"].tolist() == [("cat", "dog")[index] for index in logged.predicted]
    assert table["probability"].to_numpy() == pytest.approx(logged.probability, abs=1e-4)


def test_none_keeps_scores_alone_and_each_command_says_so(kept: dict[str, Any], capsys: Any) -> None:
    run_id = kept["none"].run_id
    assert kept["none"].scores["test_accuracy"] >= 0 and models(run_id) == {}
    assert not (stores.resolve().journal_dir(run_id) / "files" / "model").exists()
    for main, argv in (
        (evaluate.main, [run_id]),
        (predict.main, [run_id, "photos"]),
        (run.main, ["--dataset=photos", "--mini-batch-size=8", f"--init=run:{run_id}"]),
    ):
        assert main(argv) == 2
        assert "--keep-model none" in capsys.readouterr().err


def test_the_stores_copy_serves_where_the_journals_is_gone(kept: dict[str, Any], capsys: Any) -> None:
    run_id = kept["all"].run_id
    folder = stores.resolve().journal_dir(run_id) / "files" / "model"
    assert predict.main([run_id, "photos/cat"]) == 0
    said = capsys.readouterr().out
    folder.rename(folder.parent.parent / "away")
    try:
        assert predict.main([run_id, "photos/cat"]) == 0 and capsys.readouterr().out == said
        assert evaluate.main([run_id]) == 0
        fine = [f"--{key.replace('_', '-')}={value}" for key, value in SETTINGS.items()]
        assert run.main([*fine, "--epochs=1", f"--init=run:{run_id}", "--run-name=transferred"]) == 0
        (made,) = stores.resolve().runs(None, "attributes.run_name = 'transferred'")
        assert list(models(made.info.run_id)) == ["model"], "the best one is kept where nothing else was asked for"
    finally:
        (folder.parent.parent / "away").rename(folder)


def test_bad_values_and_studies_that_need_a_dropped_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(trainers.BadConfig, match="--keep-model last is not one of best, all, none"):
        trainers.Config(keep_model="last")
    runs = "[[runs]]\nname = 'source'\nkeep_model = '{}'\n\n[[runs]]\nname = 'fine'\ninit = 'run:source'\n"
    (tmp_path / "study.toml").write_text(runs.format("none"), encoding="utf-8")
    with pytest.raises(trainers.BadConfig, match="'fine' starts from 'source', whose network --keep-model none drops"):
        studies.load(str(tmp_path / "study.toml"))
    (tmp_path / "study.toml").write_text(runs.format("all"), encoding="utf-8")
    assert len(studies.load(str(tmp_path / "study.toml")).runs) == 2
