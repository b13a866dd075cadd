"""One run's card: shows what was logged, leaves out the rest, and begins with what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag

import reports
from reports.document.document import Figure, Heading, plain
from reports.runs import card
from tests.support.runs import Filler, empty_store, predictions, trained
from tracking.store.artifacts import local_folder
from tracking.store.predictions import Predictions


@pytest.fixture
def filler() -> Filler:
    return empty_store()


def headings(paper: reports.Report) -> list[str]:
    return [plain(b.text) for b in paper.document.blocks if isinstance(b, Heading)]


def test_a_full_run(filler: Filler) -> None:
    settings = trained(44, test=0.975, optimizer="adam", momentum=0.9, beta_1=0.9)
    settings["metrics"] |= {
        "best_validation_accuracy": 0.98,
        "best_epoch": 2.0,
        "test_loss": 0.08,
        "test_top5_accuracy": 1.0,
        "validation_num_images": 200.0,
        "model_size_bytes": 2.7e6,
        "billable_time_s": 300.0,
        "cost_usd": 0.0042,
        "starting_s": 61.0,
        "training_s": 200.0,
    }
    settings["tags"] |= {"instance_type": "ml.p3.2xlarge"}
    run_id = filler.run(**settings)
    predictions(filler, run_id, 0.975)
    for context, count in (("test", 360), ("train", 1257)):
        data = Dataset(
            "digits", f"dd-{context}", "local", '{"uri": "somewhere"}', profile=json.dumps({"num_images": count})
        )
        filler.client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", context)])])
    environment = {
        "python": "3.11",
        "packages": {"mlflow": "3.17"},
        "git": {"commit": "abc123", "dirty": True},
        "argv": ["x"],
    }
    filler.client.log_text(run_id, json.dumps(environment), "environment.json")
    filler.client.log_text(run_id, "num_layers = 44\n", "config.toml")
    filler.client.log_text(run_id, json.dumps({"class_names": [f"digit {i}" for i in range(10)]}), "model/model.json")
    paper = reports.run_card(run_id[:8], filler.uri)
    assert headings(paper) == [
        *("Scores", "Data", "Learning curve", "By class", "Calibration", "What it took", "Settings", "Environment"),
        *("How to repeat it", "How to load the model"),
    ]
    text = paper.to_text().replace("\u00a0", " ")
    # Wilson for 351 of 360: 95.3 % to 98.7 %.
    assert "44 layers, scratch, 30 epochs on digits: **97.5 % (95.3–98.7 %)** test accuracy on 360 pictures" in text
    assert "The kept checkpoint is that of epoch 2." in text
    assert "| train | digits |    1,257 |" in text and "`dd-test`" in text
    assert "Without effect with these settings: momentum." in text and "`beta_1`" in text
    assert "starting" in text and "ml.p3.2xlarge" in text and "0.0042 USD" in text
    assert "git checkout abc123" in text and "python -m trainers.run --config config.toml" in text
    assert "not committed" in text
    fetch = f"mlflow artifacts download --run-id {run_id} --artifact-path model --dst-path ."
    assert f"export MLFLOW_TRACKING_URI={filler.uri}\n{fetch}" in text
    filler.client.log_text(run_id, "flavors: {}", "model/MLmodel")
    text = reports.run_card(run_id, filler.uri).to_text()
    assert f"mlflow.set_tracking_uri('{filler.uri}')" in text
    assert f'mlflow.pyfunc.load_model("runs:/{run_id}/model")' in text
    assert "digit 3" in text
    assert [f.name for f in paper.document.figures()] == ["curves", "confusion", "calibration"]
    assert paper.data["test_accuracy_low"] == pytest.approx(0.9532, abs=1e-4)


def test_a_card_shows_the_scores_of_one_epoch(filler: Filler) -> None:
    curves = {
        "train_accuracy": [0.5, 0.91, 0.99],
        "train_loss": [2.0, 0.91, 0.11],
        "validation_accuracy": [0.4, 0.92, 0.81],
        "validation_loss": [3.0, 0.72, 0.42],
        "validation_top5_accuracy": [0.6, 0.97],
    }
    settings = {**trained(44), "curves": curves}
    settings["metrics"] |= {"best_validation_accuracy": 0.92, "best_epoch": 2.0}

    def rows(run_id: str) -> tuple[list[list[str]], str]:
        text = reports.run_card(run_id, filler.uri).to_text().replace("\u00a0", " ")
        table = [line for line in text.splitlines() if line.startswith(("| train ", "| validation "))][:2]
        return [[cell.strip().split(" (")[0] for cell in line.split("|")[2:-1]] for line in table], text

    found, text = rows(filler.run(**settings))
    assert found == [["91.0 %", "0.9100", "–", "–"], ["92.0 %", "0.7200", "97.0 %", "–"]]
    assert "The kept checkpoint is that of epoch 2. Train and validation are those of this epoch." in text
    del settings["metrics"]["best_validation_accuracy"], settings["metrics"]["best_epoch"]
    found, text = rows(filler.run(**settings))  # it was stopped: the last epoch, which has no top-5
    assert found == [["99.0 %", "0.1100", "–"], ["81.0 %", "0.4200", "–"]]
    assert "Train and validation are those of the last epoch." in text


@pytest.mark.parametrize(
    ("test", "more"),
    [
        (0.975, {}),
        (1.0, {"test_num_images": 0.0}),
        (None, {}),
        (0.5, {"test_loss": float("nan"), "own": float("inf")}),
        (1.7, {}),
    ],
)
def test_a_run_s_card_is_json_too(filler: Filler, test: float | None, more: dict[str, float]) -> None:
    settings = trained(44, test=test)
    settings["metrics"] |= more
    run_id = filler.run(**settings)
    if test == 0.975:
        predictions(filler, run_id, 0.975)
    body = json.loads(reports.run_card(run_id, filler.uri).to_text("json"), parse_constant=pytest.fail)
    assert body["metrics"].get("test_accuracy") == test
    interval = (body["test_accuracy_low"], body["test_accuracy_high"])
    if test == 0.975:
        assert interval == pytest.approx((0.9532, 0.9868), abs=1e-4) and 0 < body["calibration_error"] < 1
    elif test == 0.5:
        assert interval == pytest.approx((0.4486, 0.5514), abs=1e-4)
    else:
        assert interval == (None, None)


def test_a_bare_foreign_run(filler: Filler) -> None:
    run_id = filler.run("theirs", params={"lr": 0.1}, metrics={"acc": 0.5})
    paper = reports.run_card(run_id, filler.uri)
    assert headings(paper) == ["Other metrics", "Settings"]
    text = paper.to_text()
    assert text.startswith("# theirs\n\nNo test accuracy: another tool logged this run.\n")
    assert "| acc    |        0.5 |" in text and "python -m" not in text


def test_a_run_without_a_score_says_what_fills_it(filler: Filler) -> None:
    run_id = filler.run(**trained(44, test=None))
    said = "44 layers, scratch, 30 epochs on digits: no test accuracy. To compute it: "
    assert f"{said}`python -m trainers.evaluate {run_id}`." in reports.run_card(run_id, filler.uri).to_text()
    noted = filler.run("noted", params={"num_layers": 34, "epochs": 50}, tags={"launcher": "import"})
    said = "34 layers, 50 epochs: no test accuracy, and no model that could be tested. To train it again: "
    text = reports.run_card(noted, filler.uri).to_text()
    assert f"{said}`python -m trainers.run --epochs 50 --num-layers 34 --dataset PATH`." in text


@pytest.mark.parametrize(
    ("right", "sure", "word"),
    [(0.9, 0.99, "overconfident"), (0.9, 0.5, "underconfident"), (0.9, 0.91, ": calibrated")],
)
def test_calibration_is_judged_within_what_so_many_pictures_can_tell(
    filler: Filler, tmp_path: Path, right: float, sure: float, word: str
) -> None:
    pictures = [str(i) for i in range(100)]
    predicted = (np.arange(100) >= 100 * right).astype(np.int32)
    frame = pd.DataFrame(
        {"image_digest": pictures, "key": pictures, "label": 0, "predicted": predicted, "probability": sure}
    )
    frame.to_parquet(tmp_path / "test.parquet")
    run_id = filler.run(**trained(44, test=right, images=100))
    filler.client.log_artifact(run_id, str(tmp_path / "test.parquet"), "predictions")
    _, _, calibration = reports.run_card(run_id, filler.uri).to_text().partition("## Calibration")
    assert word in calibration.replace("\u00a0", " ")


def test_what_is_wrong_comes_first(filler: Filler) -> None:
    settings = trained(44, test=994.0)
    settings["tags"] |= {
        "status_reason": "the loss is not a number",
        "advice": "lower the learning rate",
        "test_overlap_images": "2",
        "flagged": "train_accuracy 994 was read as 0.994",
    }
    run_id = filler.run(**settings, status="FAILED")
    top = reports.run_card(run_id, filler.uri).to_text().partition("## ")[0]
    assert "> **Warning:** FAILED: the loss is not a number (lower the learning rate)" in top
    assert "> **Warning:** test_accuracy is 994, which is impossible; the value is ignored." in top
    assert "2 test pictures were trained on" in top and "train_accuracy 994 was read as 0.994" in top
    assert "!\u00a0994" in reports.run_card(run_id, filler.uri).to_text()


def test_a_source_is_no_candidate(filler: Filler) -> None:
    run_id = filler.run(
        "source", params={"num_layers": 34}, tags={"pretext": "rotation"}, metrics={"test_accuracy": 0.9}
    )
    assert (
        "a pretext run (rotation), not ranked; it only provides starting weights"
        in reports.run_card(run_id, filler.uri).to_text()
    )


def test_a_run_is_found_by_its_journal_too(filler: Filler) -> None:
    run_id = filler.run(tags={"journal_id": "feed" * 8})
    assert reports.run_card("feedfeed", filler.uri).data["run_id"] == run_id


def test_per_class_numbers_by_hand() -> None:
    # Labels 0 0 0 1 1, predicted 0 0 1 1 0: recall and precision of class 0 are two of three.
    none = np.array([""] * 5, dtype=object)
    label, said = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0])
    one = Predictions(digest=none, key=none, label=label, predicted=said, probability=np.ones(5))
    counts = card.confusion(one, 3)
    assert counts.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    table = card.table(counts, ["a", "b", "c"])
    assert [list(c.cells) for c in table.columns] == [
        ["a", "b", "c"],
        ["3", "2", "0"],
        ["66.7 %", "50.0 %", "–"],
        ["20.8–93.9 %", "9.5–90.5 %", "–"],
        ["66.7 %", "50.0 %", "–"],
        ["b (1)", "a (1)", "–"],
    ]


def test_figures_have_alternative_texts(filler: Filler) -> None:
    run_id = filler.run(**trained(44))
    predictions(filler, run_id, 0.95)
    for block in reports.run_card(run_id, filler.uri).document.blocks:
        if isinstance(block, Figure):
            assert len(block.alt) > 40


def test_a_model_that_mlflow_keeps_beside_the_run(filler: Filler) -> None:
    run_id = filler.run(**trained(44))
    predictions(filler, run_id, 0.95)
    experiment_id = filler.client.get_run(run_id).info.experiment_id
    model = filler.client.create_logged_model(experiment_id, name="model", source_run_id=run_id)
    folder = local_folder(model.artifact_location)
    assert folder is not None
    folder.mkdir(parents=True)
    names = [f"digit {i}" for i in range(10)]
    (folder / "model.json").write_text(json.dumps({"class_names": names}), encoding="utf-8")
    text = reports.run_card(run_id, filler.uri).to_text()
    assert "digit 7" in text and f'mlflow.pyfunc.load_model("runs:/{run_id}/model")' in text
    page = reports.leaderboard(filler.uri).to_text("html")
    assert "digit 7" in page


def test_scores_by_class_and_a_network_no_better_than_the_commonest_class(filler: Filler) -> None:
    settings = trained(18, test=120 / 130, images=130)
    settings["metrics"] |= {"test_balanced_accuracy": 0.5, "test_macro_f1": 0.48, "test_majority_accuracy": 120 / 130}
    text = card.run_card(filler.run(**settings), filler.uri).to_text("md").replace("\u00a0", " ")
    assert "balanced accuracy" in text and "macro-F1" in text and "50.0 % |" in text and "48.0 % |" in text
    assert "not better than that of always answering the commonest class, which is right in 92.3 %" in text


@pytest.mark.parametrize(
    ("gpu", "memory", "cpu", "says"),
    [
        ((20, 31, 40), 30, 20, "half as fast, with half of the memory, would have done. Half of the processors and"),
        ((20, 25, 80), 30, 95, "waited more than half of the time: faster input, or a smaller GPU"),
        ((92, 95, 97), 30, 20, "was used; a slower one would have taken longer."),
    ],
)
def test_the_machine_s_load_says_whether_a_smaller_one_would_have_done(
    filler: Filler, gpu: tuple[int, ...], memory: float, cpu: float, says: str
) -> None:
    run_id = filler.run(**trained(44, test=0.97))
    filler.client.set_tag(run_id, "findings", "gpu-idle since 10:00:00: the GPU is 2 % busy.")
    for step, busy in enumerate(gpu):
        load = {"gpu_0_utilization_percentage": busy, "gpu_0_memory_usage_percentage": memory}
        load |= {"cpu_utilization_percentage": cpu, "system_memory_usage_percentage": 30, "disk_usage_percentage": 12}
        for key, value in load.items():
            filler.client.log_metric(run_id, f"system/{key}", value, step=step)
    written = reports.run_card(run_id, filler.uri).to_text().replace("\u00a0", " ")
    assert says in written and "The machine" in written and "Half of the disk would have done." in written
    assert "GPU memory" not in written and "GPU 0 memory" in written and "gpu-idle since 10:00:00" in written
    assert "system/" not in written
