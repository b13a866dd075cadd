"""Metrics of other tools: their direction, shares, nested runs, names of seeds; NaN and the commonest class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import reports
from reports.errors import ReportError
from reports.metrics import guess, nearest, suggested
from tests.support.runs import Filler, empty_store, trained
from tracking.store.predictions import write


@pytest.fixture
def filler() -> Filler:
    return empty_store()


def plain(page: str) -> str:
    return page.replace("\u00a0", " ")


def board_text(filler: Filler) -> str:
    return plain(reports.leaderboard(filler.uri).to_text())


# As sklearn, keras, transformers, lightning, xgboost, lightgbm, fastai, ultralytics and MLflow's evaluation log them.
HIGHER = """
    accuracy accuracy_score training_accuracy_score training_roc_auc best_cv_score mean_test_score val_acc test/F1_macro
    sparse_categorical_accuracy SparseCategoricalAccuracy MulticlassAccuracy eval_f1 sentiment_f1 eval_bleu rougeL
    eval_samples_per_second validation_0-auc valid_1-average_precision metrics/mAP50-95B metrics/mAP50(B) IoU mIoU
    metrics/accuracy_top1 acc1 accuracy@5 recall_at_10 precision_at_recall_90 log_likelihood matthews_corrcoef r2_score
    explained_variance neg_mean_squared_error neg_log_loss F1Score PSNR images_per_s positive_likelihood_ratio dice
"""
LOWER = """
    rmse mae wer fid nll training_mean_squared_error RootMeanSquaredError training_log_loss eval_loss val/box_loss
    valLoss train-logloss validation_0-merror valid_0-binary_logloss training-l2 error_rate top1_err eval_runtime
    mean_fit_time
    mean_score_time rank_test_score perplexity hd95 false_negatives negative_log_likelihood ECE bits_per_byte
    time_to_accuracy mean_absolute_percentage_error cross_entropy word-error-rate fid50k
"""
UNKNOWN = "std_test_score objective value best_C epoch lr grad_norm sometimes lossless commit total_flos costume scorer"


def test_the_direction_is_guessed_by_whole_words() -> None:
    assert [m for m in HIGHER.split() if guess(m) != "higher"] == []
    assert [m for m in LOWER.split() if guess(m) != "lower"] == []
    assert [m for m in UNKNOWN.split() if guess(m)] == []


def test_an_error_ranks_the_lowest_first_and_the_page_says_so(filler: Filler) -> None:
    for depth, rmse in ((18, 0.9), (34, 0.2)):
        filler.run(params={"depth": depth}, metrics={"rmse": rmse})
    board = reports.leaderboard(filler.uri, metric="rmse")
    assert board["rmse"].tolist() == [0.2, 0.9]
    page = plain(board.to_text())
    assert "Ranked by rmse, the lowest first, a guess from its name; `--higher-is-better` reverses it." in page
    turned = reports.leaderboard(filler.uri, metric="rmse", higher_is_better=True)
    assert turned["rmse"].tolist() == [0.9, 0.2] and "the highest first, as asked." in turned.to_text()


def test_an_objective_without_a_known_direction_is_said_to_have_none(filler: Filler) -> None:
    for x, value in ((1, 4.0), (2, 9.0)):
        filler.run(params={"x": x}, metrics={"value": value})
    page = reports.leaderboard(filler.uri, metric="value").to_text()
    assert "Whether a higher or a lower value is better is not known; ranked highest first." in page
    assert "`--lower-is-better`" in page


def test_an_optuna_study_says_its_direction(filler: Filler) -> None:
    for x, value in ((1, 4.0), (2, 9.0)):
        filler.run(params={"x": x}, metrics={"value": value}, tags={"direction": "MINIMIZE", "number": x})
    board = reports.leaderboard(filler.uri, metric="value")
    assert board["value"].tolist() == [4.0, 9.0] and "the direction of its Optuna study" in board.to_text()


def test_a_foreign_share_is_in_percent_with_wilson_where_pictures_are_counted(filler: Filler) -> None:
    filler.run(params={"lr": 0.1}, metrics={"eval_accuracy": 0.9, "eval_f1": 0.85, "eval_samples": 100})
    row = reports.leaderboard(filler.uri, metric="eval_accuracy").iloc[0]
    # Wilson for 90 of 100: 0.8256 to 0.9448. An F1 is no share of pictures.
    assert (row["low"], row["high"]) == (pytest.approx(0.8256, abs=1e-4), pytest.approx(0.9448, abs=1e-4))
    f1 = reports.leaderboard(filler.uri, metric="eval_f1")
    assert "85.0 %" in f1.to_text() and np.isnan(f1.iloc[0]["low"])


def test_a_metric_that_mixes_shares_and_percentages_is_judged_as_a_whole(filler: Filler) -> None:
    for depth, value in ((18, 0.97), (34, 91.0), (50, 92.5)):
        filler.run(params={"depth": depth}, metrics={"val_acc": value})
    page = reports.leaderboard(filler.uri, metric="val_acc").to_text()
    assert "val_acc is between 0 and 1 in 1 run and above 1 in 2" in page
    assert "97.0 %" not in page and "92.5" in page


@pytest.mark.parametrize("name", ["rank_test_score", "neg_error", "epoch"])
def test_what_is_no_share_is_not_called_one(filler: Filler, name: str) -> None:
    for depth, value in ((18, 1), (34, 2), (50, 3)):
        filler.run(params={"depth": depth}, metrics={name: value})
    page = reports.leaderboard(filler.uri, metric=name).to_text()
    assert "%" not in page and "What looks wrong" not in page


def test_a_parent_that_repeats_its_childs_score_is_no_candidate(filler: Filler) -> None:
    parent = filler.run("sweep", params={"budget": 2}, metrics={"test_accuracy": 0.85})
    for lr, value in ((0.1, 0.8 + 5 / 100), (0.2, 0.80)):  # 0.8500000000000001
        filler.run(params={"learning_rate": lr}, metrics={"test_accuracy": value}, tags={"mlflow.parentRunId": parent})
    unscored = filler.run("cv", tags={"mlflow.parentRunId": parent})
    filler.run(params={"fold": 1}, metrics={"test_accuracy": 0.7}, tags={"mlflow.parentRunId": unscored})
    board = reports.leaderboard(filler.uri)
    assert board["test_accuracy"].tolist() == pytest.approx([0.85, 0.80, 0.70])
    assert parent not in {run for ids in board["run_ids"] for run in ids}
    assert "another tool" not in board.to_text(), "neither parent lacks a score"


def test_a_parent_with_a_score_of_its_own_is_ranked(filler: Filler) -> None:
    parent = filler.run("refit on everything", params={"lr": "best"}, metrics={"test_accuracy": 0.9})
    filler.run(params={"lr": 0.1}, metrics={"test_accuracy": 0.8}, tags={"mlflow.parentRunId": parent})
    assert reports.leaderboard(filler.uri)["test_accuracy"].tolist() == [0.9, 0.8]


def test_runs_that_differ_in_a_seed_are_one_configuration(filler: Filler) -> None:
    names = ["manual_seed", "rng_seed", "global_seed", "np_seed", "torch_seed", "seed_value", "clf__random_state"]
    names += ["train/manual-seed", "trainer.seed"]
    for name in names:
        for seed in range(3):
            params = {"lr": 0.1, name: seed}
            filler.run(experiment=name, params=params, metrics={"test_accuracy": 0.9 + seed / 100})
    for name in names:
        board = reports.leaderboard(filler.uri, experiments=[name])
        assert len(board) == 1 and board.iloc[0]["seeded"], name


def test_a_split_seed_makes_another_configuration(filler: Filler) -> None:
    for seed in range(2):
        filler.run(params={"lr": 0.1, "split_seed": seed}, metrics={"test_accuracy": 0.9 + seed / 100})
    assert len(reports.leaderboard(filler.uri)) == 2


def test_experiments_never_share_a_row(filler: Filler) -> None:
    for experiment, accuracy in (("a", 0.9), ("b", 0.8)):
        filler.run(experiment=experiment, params={"num_layers": 18}, metrics={"test_accuracy": accuracy})
    for by in (None, "num_layers"):
        board = reports.leaderboard(filler.uri, by=by)
        assert board["n"].tolist() == [1, 1] and board["label"].nunique() == 2


def test_a_metric_that_no_run_has_names_those_there_are_the_nearest_first(filler: Filler) -> None:
    filler.run(params={"lr": 0.1}, metrics={"eval_loss": 1.0, "eval_accuracy": 0.9, "epoch": 3, "zz_top": 1})
    with pytest.raises(ReportError, match="'eval_acuracy'; there are: eval_accuracy, "):
        reports.leaderboard(filler.uri, metric="eval_acuracy")
    filler.run(experiment="empty", params={"lr": 0.1})
    with pytest.raises(ReportError, match="these runs logged no metrics"):
        reports.leaderboard(filler.uri, "empty", metric="eval_acuracy")
    assert nearest("acc", ["loss", "train_accuracy", "val_accuracy"]) == ["val_accuracy", "train_accuracy", "loss"]


def test_another_metric_is_suggested_of_validation_or_test_never_of_training(filler: Filler) -> None:
    assert suggested(["train_acc", "val_loss", "val_acc", "epoch"]) == "val_acc"
    assert suggested(["accuracy", "loss", "val_accuracy", "val_loss"]) == "val_accuracy"
    assert suggested(["eval_loss", "eval_runtime", "train_loss"]) == "eval_loss"
    assert suggested(["training_accuracy_score", "training_score", "lr"]) == ""
    filler.run(params={"lr": 0.1}, metrics={"train_acc": 0.99, "valid_acc": 0.9})
    assert "--metric valid_acc`" in board_text(filler)


def test_nan_scores_are_named_under_what_looks_wrong(filler: Filler) -> None:
    filler.run(params={"lr": 0.1}, metrics={"test_accuracy": 0.9})
    diverged = filler.run(params={"lr": 9}, metrics={"test_accuracy": float("nan"), "train_accuracy": float("nan")})
    board = reports.leaderboard(filler.uri)
    (found,) = (f for f in board.board.findings if "NaN" in f.text)
    assert found.run_ids == (diverged,) and found.text.startswith("test_accuracy and train_accuracy are NaN")
    assert board["rank"].isna().sum() == 1


def test_an_always_cat_network_is_called_what_it_is(filler: Filler, tmp_path: Path) -> None:
    label = np.array([0] * 120 + [1] * 10)
    always = filler.run(**trained(18, test=120 / 130, images=130, digest="pets"))
    right = filler.run(**trained(34, test=1.0, images=130, digest="pets"))
    for run, predicted in ((always, np.zeros(130, np.int64)), (right, label)):
        path = tmp_path / "test.parquet"
        digests = [f"{i:064x}" for i in range(130)]
        shares = np.eye(2, dtype=np.float32)[predicted]
        write(path, digests=digests, keys=digests, labels=label, probabilities=shares)
        filler.client.log_artifact(run, str(path), "predictions")
    board = reports.leaderboard(filler.uri)
    (found,) = (f for f in board.board.findings if "not better than always" in f.text)
    assert found.run_ids == (always,) and "92.3 % accuracy is not better" in found.text
    page = plain(board.to_text())
    assert "For comparison: always answering 0 is right in 92.3 %, chance (1 of 2 classes) in 50.0 %." in page


def test_the_logged_share_of_the_commonest_class_is_enough(filler: Filler) -> None:
    settings = trained(18, test=120 / 130, images=130, digest="pets")
    settings["metrics"] |= {"test_majority_accuracy": 120 / 130, "test_balanced_accuracy": 0.5, "test_macro_f1": 0.48}
    filler.run(**settings)
    page = board_text(filler)
    assert "(92.3 %); its balanced accuracy is 50.0 %." in page
    assert "balanced accuracy" in page and "macro-F1" in page and "48.0 %" in page


def test_a_sweep_among_other_runs_is_one_row_that_unfolds(filler: Filler) -> None:
    parent = filler.run("my sweep", params={"budget": 4})
    for i in range(4):
        settings = trained(34, test=0.80 + i / 100, learning_rate=(i + 1) / 10)
        settings["tags"]["mlflow.parentRunId"] = parent
        filler.run(**settings)
    other = trained(18, test=0.815)
    other["metrics"]["test_loss"] = 0.5
    filler.run(**other)
    board = reports.leaderboard(filler.uri)
    assert board["rank"].tolist() == [1, 2, 3, 4, 5], "the frame has all of them"
    page = plain(board.to_text())
    table = page[page.index("|   #") : page.index("\n\n", page.index("|   #"))]
    assert len(table.splitlines()) == 2 + 2, "the best of the sweep and the other run"
    assert f"- Sweep my sweep `{parent[:8]}`: 3 more configurations; its best is in the table" in page
    assert page.count("  - learning rate 0.") == 3 and "80.0 %, rank 5" in page
    assert "<details><summary>Sweep my sweep" in board.to_text("html")
    unranked = plain(reports.leaderboard(filler.uri, metric="test_loss").to_text())
    assert "Sweep" not in unranked, "there is no best"
    alone = reports.leaderboard(filler.uri, filter="params.num_layers = '34'")
    assert "Sweep" not in alone.to_text(), "all rows are of it"


def test_accuracies_of_other_tools_in_percent_are_read_as_a_column(filler: Filler) -> None:
    for depth, value in ((18, 62.1), (34, 70.9), (50, 1.0), (101, 105.0), (152, 0.0)):
        filler.run(experiment="theirs", params={"depth": depth}, metrics={"test_accuracy": value, "acc": value})
    filler.run(experiment="shares", params={"depth": 20}, metrics={"test_accuracy": 0.653, "acc": 0.653})
    filler.run(experiment="one", params={"depth": 8}, metrics={"test_accuracy": 1.0})
    board = reports.leaderboard(filler.uri)
    page = plain(board.to_text())
    ranked = board["test_accuracy"].dropna().round(4).tolist()
    assert sorted(ranked, reverse=True) == [0.709, 0.653, 0.621, 0.01, 0.01, 0.0]
    assert "test_accuracy is 105, but must be" in page and "it was read as 1.00 %" in page
    assert "test_accuracy was logged in percent by another tool in 4 runs" in page
    board = reports.leaderboard(filler.uri, metric="acc", experiments=["theirs"])
    assert board["acc"].dropna().tolist() == [70.9, 62.1, 1.0, 0.0]
    assert "cc is 105, no percentage as the others are" in plain(board.to_text())
    # What is filtered does not change what a number means, nor does asking for one run.
    (only,) = reports.leaderboard(filler.uri, filter="params.depth = '50'")["test_accuracy"]
    run = filler.run(experiment="theirs", params={"depth": 9}, metrics={"test_accuracy": 0.9})
    assert only == pytest.approx(0.01) and "**0.9 %**" in plain(reports.run_card(run, filler.uri).to_text())


def test_our_own_accuracies_are_shares_whatever_others_log(filler: Filler) -> None:
    for value in (62.1, 70.9):
        filler.run(experiment="pets", params={"depth": str(value)}, metrics={"test_accuracy": value})
    filler.run(**{**trained(44, test=1.0), "experiment": "pets"})
    board = reports.leaderboard(filler.uri)
    assert sorted(board["test_accuracy"].round(3)) == [0.621, 0.709, 1.0]
