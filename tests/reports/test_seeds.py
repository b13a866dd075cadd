"""What counts as a seed: runs that differ in nothing else; stores as other tools fill them, by their own names."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

import reports
from reports.board import page
from reports.document.document import Paragraph, plain
from tests.support.runs import Filler, empty_store, predictions, trained

# What scikit-learn's estimators answer to get_params(), which mlflow.sklearn.autolog logs.
SGD = {
    "alpha": 0.0001,
    "early_stopping": False,
    "learning_rate": "optimal",
    "loss": "hinge",
    "validation_fraction": 0.1,
    "class_weight": None,
    "random_state": None,
}
# mlflow.tensorflow.autolog, without and with the optimizer that was compiled into the model.
KERAS = {
    "epochs": 5,
    "batch_size": 32,
    "opt_name": "adam",
    "opt_learning_rate": 0.0010000000474974513,
    "opt_amsgrad": False,
}
# Lightning's logger joins nested names by a slash.
LIGHTNING = {"model/num_layers": 18, "model/optimizer/lr": 0.001, "data/batch_size": 64, "task_name": "train"}
# The callback of transformers logs the arguments and the model's configuration.
TRANSFORMERS = {
    "learning_rate": 5e-05,
    "num_train_epochs": 3.0,
    "data_seed": None,
    "hidden_size": 768,
    "lr_scheduler_type": "linear",
}


@pytest.fixture
def filler() -> Filler:
    return empty_store()


def log(filler: Filler, params: dict[str, Any], value: float, experiment: str = "theirs") -> str:
    return filler.run(experiment=experiment, params=params, metrics={"acc": value})


def board(filler: Filler, **asked: Any) -> reports.LeaderboardFrame:
    return reports.leaderboard(filler.uri, metric="acc", **asked)


def answer(filler: Filler, metric: str = "acc") -> str:
    blocks = page.document(reports.leaderboard(filler.uri, metric=metric).board, with_figures=False).blocks
    return next(plain(b.text) for b in blocks if isinstance(b, Paragraph) and b.tone == "answer")


def text_of(filler: Filler, metric: str = "acc") -> str:
    return reports.leaderboard_text(filler.uri, metric=metric).replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("num_layers", ["resnet18", "resnet34", "resnet101"]),
        ("learning_rate", ["optimal", "adaptive", "nan"]),
        ("early_stopping", ["yes", "val_loss", "5"]),
        ("mini_batch_size", ["auto", "2**6", "1e400"]),
    ],
)
def test_a_setting_that_cannot_be_read_is_a_setting_all_the_same(filler: Filler, name: str, values: list[str]) -> None:
    for seed, value in enumerate(values):
        log(filler, {name: value, "seed": seed}, 0.9 - seed / 100)
    rows = board(filler)
    assert rows["n"].tolist() == [1, 1, 1]
    assert rows[{"num_layers": "layers"}.get(name, name)].tolist() == values
    assert [values[i] in label for i, label in enumerate(rows["label"])] == [True] * 3
    assert board(filler, by=name)["n"].tolist() == [1, 1, 1]
    said = text_of(filler)
    assert "mean of" not in said and "significant" not in said
    found = [f.text for f in rows.board.findings]
    assert f"{name} is '{values[0]}', which is not of its type; it is used as text." in found


def test_many_runs_with_one_unreadable_value_are_one_finding(filler: Filler) -> None:
    ids = [log(filler, SGD | {"random_state": seed}, 0.9) for seed in range(5)]
    [found] = [f for f in board(filler).board.findings if "not of its type" in f.text]
    assert set(found.run_ids) == set(ids) and "'optimal'" in found.text


def test_a_depth_in_words_is_listed_with_depths_in_numbers(filler: Filler) -> None:
    for layers in ("resnet18", 34, 44):
        filler.run(**trained(44) | {"params": {"num_layers": layers, "init": "scratch"}, "tags": {}})
    said = reports.leaderboard_text(filler.uri)
    assert "resnet18 layers" in said and "44 layers instead of 34" in said


def test_the_card_and_the_comparison_show_it_too(filler: Filler) -> None:
    first, second = (log(filler, SGD | {"learning_rate": rate}, 0.9) for rate in ("optimal", "adaptive"))
    assert "| `learning_rate`       | optimal" in reports.run_card(first, filler.uri).to_text()
    assert "adaptive" in reports.compare([first, second], filler.uri).to_text().partition("## Scores")[0]


def test_runs_without_parameters_are_never_one_configuration(filler: Filler) -> None:
    for value in (0.8, 0.85, 0.9):
        log(filler, {}, value)
    for seed in range(2):
        log(filler, {"seed": seed}, 0.7)
    assert board(filler)["n"].tolist() == [1] * 5
    assert "mean of" not in text_of(filler) and "one run" in answer(filler)


def test_equal_parameters_of_two_experiments_are_two_configurations(filler: Filler) -> None:
    for experiment in ("before", "after"):
        for seed in range(2):
            log(filler, KERAS | {"seed": seed}, 0.9 + seed / 100 + (experiment == "after") / 20, experiment)
    rows = board(filler)
    assert rows["n"].tolist() == [2, 2] and rows["experiment"].tolist() == ["after", "before"]
    assert rows["label"].tolist() == ["experiment after", "experiment before"]
    assert len({json.dumps(r["config"]) for r in json.loads(rows.to_text("json"))["pages"][0]["rows"]}) == 2


def test_equal_fingerprints_of_two_experiments_are_two_configurations(filler: Filler) -> None:
    for experiment in ("before", "after"):
        filler.run(**trained(44) | {"experiment": experiment})
    assert reports.leaderboard(filler.uri)["n"].tolist() == [1, 1]


@pytest.mark.parametrize("params", [SGD, KERAS, LIGHTNING, TRANSFORMERS])
def test_without_a_seed_there_are_runs(filler: Filler, params: dict[str, Any]) -> None:
    for value in (0.90, 0.91, 0.92):
        log(filler, params, value)
    for value in (0.80, 0.81, 0.82):
        log(filler, params | {"extra": 1}, value)
    rows = board(filler)
    assert rows["n"].tolist() == [3, 3] and not rows["seeded"].any()
    said = text_of(filler)
    assert "mean of 3 runs" in said and "over runs, p < 0.001" in said
    assert "± is one standard deviation over runs" in said and "With several runs the interval is Student's t" in said
    assert "seed" not in said


@pytest.mark.parametrize(
    ("params", "seed"),
    [
        (SGD, "random_state"),
        (KERAS, "seed"),
        (LIGHTNING, "seed"),
        (LIGHTNING, "data/seed"),
        (TRANSFORMERS, "seed"),
        ({"clf__alpha": 1.0}, "clf__random_state"),
        ({"depth": 6}, "random_seed"),
    ],
)
def test_a_seed_by_any_of_its_names_makes_seeds(filler: Filler, params: dict[str, Any], seed: str) -> None:
    for number in range(3):
        log(filler, params | {seed: number}, 0.9 + number / 100)
    rows = board(filler)
    assert rows["n"].tolist() == [3] and rows["seeds"].tolist() == [(0, 1, 2)] and rows["seeded"].all()
    assert "mean of 3 seeds" in answer(filler).replace("\u00a0", " ")


def test_two_kinds_of_seed_make_one(filler: Filler) -> None:
    for seed, data_seed in ((1, 1), (1, 2)):
        log(filler, TRANSFORMERS | {"seed": seed, "data_seed": data_seed}, 0.9 + data_seed / 100)
    rows = board(filler)
    assert rows["seeded"].all() and rows["seeds"].tolist() == [("1 / 1", "2 / 1")]


def test_a_rerun_to_the_last_bit_is_not_another_seed(filler: Filler) -> None:
    ids = [
        log(filler, SGD | {"random_state": seed}, value) for seed, value in ((0, 0.9), (0, 0.9), (1, 0.92), (0, 0.9))
    ]
    [row] = [row for _, row in board(filler).iterrows()]
    assert row["n"] == 2 and row["acc_n"] == 2 and row["acc"] == pytest.approx(0.91)
    assert row["run_ids"] == tuple(ids) and row["repeats"] == (ids[1], ids[3])
    said = " ".join(f.text for f in board(filler).board.findings)
    assert "2 runs repeat another of the same seed exactly; each seed counts once." in said
    assert "mean of 2 seeds" in answer(filler)


def test_a_lone_seed_run_twice_is_one_seed(filler: Filler) -> None:
    for seed in (0, 0):
        predictions(filler, filler.run(**trained(44, seed=seed, test=0.99)), 0.99)
    predictions(filler, filler.run(**trained(34, test=0.80)), 0.80)
    said = answer(filler, "test_accuracy")
    assert "one seed" in said and "Of these networks the first is better" in said and "mean of" not in said


def test_a_rerun_that_came_out_otherwise_is_a_run_and_no_seed(filler: Filler) -> None:
    for value in (0.9, 0.92):
        log(filler, KERAS | {"seed": 7}, value)
    rows = board(filler)
    assert rows["n"].tolist() == [2] and not rows["seeded"].any() and "mean of 2 runs" in answer(filler)
    assert any("seed 7 was run more than once, so n counts runs, not seeds" in f.text for f in rows.board.findings)


def test_the_mean_is_of_the_seeds_that_have_the_score(filler: Filler) -> None:
    for seed, test in enumerate((0.95, 0.97, None)):
        filler.run(**trained(44, seed=seed, test=test))
    rows = reports.leaderboard(filler.uri)
    assert rows["n"].tolist() == [3] and rows["test_accuracy_n"].tolist() == [2]
    assert "mean of 2 seeds" in answer(filler, "test_accuracy")
    head, _, row = [line for line in text_of(filler, "test_accuracy").splitlines() if line.startswith("|")][:3]
    cells = dict(zip(*([c.strip() for c in line.split("|")] for line in (head, row)), strict=True))
    assert cells["seeds"] == "2 of 3"


def test_rows_that_mix_settings_have_no_seeds(filler: Filler) -> None:
    for seed, rate in enumerate((0.1, 0.2)):
        log(filler, {"depth": 18, "lr": rate, "seed": seed}, 0.9 + seed / 100)
    rows = board(filler, by="depth")
    assert rows["n"].tolist() == [2] and not rows["seeded"].any()
    assert pd.notna(rows["acc_spread"]).all() and "mean of 2 runs" in rows.to_text()
