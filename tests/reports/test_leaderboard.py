"""The ranking: groups over seeds, pages by test digest, what is never ranked."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import reports
from reports.errors import ReportError
from tests.support.runs import Filler, empty_store, trained


@pytest.fixture
def filler() -> Filler:
    return empty_store()


def test_one_row_a_configuration_over_its_seeds(filler: Filler) -> None:
    for seed, accuracy in enumerate((0.95, 0.96, 0.97)):
        filler.run(**trained(44, seed=seed, test=accuracy))
    board = reports.leaderboard(filler.uri)
    assert isinstance(board, pd.DataFrame) and len(board) == 1
    row = board.iloc[0]
    assert row["n"] == 3 and row["test_accuracy"] == pytest.approx(0.96)
    assert row["test_accuracy_spread"] == pytest.approx(0.01)
    # The seeds' variance 0.01² / 3 = 3.333e-5 (t of 2: 4.30265), the pictures' at most 0.96 * 0.04 / 360 = 1.0667e-4
    # (1.96656): together t 2.52262 at 0.96 * 0.04 / 1.4e-4 = 274.29 pictures, Wilson's from 0.91827 to 0.98087.
    assert (row["low"], row["high"]) == (pytest.approx(0.918269, abs=2e-6), pytest.approx(0.980868, abs=2e-6))
    assert row["interval"] == "seeds and pictures, bound"


def test_one_seed_gets_wilson_on_its_pictures(filler: Filler) -> None:
    filler.run(**trained(test=0.9, images=100))
    row = reports.leaderboard(filler.uri).iloc[0]
    # Wilson for 90 of 100: 0.8256 to 0.9448.
    assert (row["low"], row["high"]) == (pytest.approx(0.8256, abs=1e-4), pytest.approx(0.9448, abs=1e-4))


def test_ranked_by_test_accuracy_with_the_missing_unranked_at_the_end(filler: Filler) -> None:
    missing = filler.run(**trained(20, test=None))
    filler.run(**trained(34, test=0.91))
    filler.run(**trained(44, test=0.93))
    board = reports.leaderboard(filler.uri)
    assert board["layers"].tolist() == [44, 34, 20]
    assert board["rank"].tolist() == [1, 2, pd.NA]
    page = board.to_text("md")
    assert f"python -m trainers.evaluate {missing}" in page
    assert page.count("trainers.evaluate") == 1


def test_scores_on_different_test_pictures_never_share_a_ranking(filler: Filler) -> None:
    filler.run(**trained(34, test=0.99, digest="small"))
    filler.run(**trained(44, test=0.90, digest="large"))
    board = reports.leaderboard(filler.uri)
    assert board["rank"].tolist() == [1, 1]
    page = board.to_text()
    assert page.index("test pictures `large`") != page.index("test pictures `small`")


def test_pretext_running_and_failed_runs_are_listed_not_ranked(filler: Filler) -> None:
    filler.run(**trained(44))
    filler.run("the source", tags={"pretext": "rotation"}, metrics={"test_accuracy": 1.0})
    filler.run("still going", status="RUNNING", metrics={"test_accuracy": 1.0})
    filler.run("fell over", status="FAILED", tags={"status_reason": "the loss is nan"}, metrics={"test_accuracy": 1.0})
    board = reports.leaderboard(filler.uri)
    assert len(board) == 1
    page = board.to_text()
    assert "the source" in page and "Still RUNNING" in page and "the loss is nan" in page


def test_an_impossible_score_is_not_ranked(filler: Filler) -> None:
    filler.run(**trained(44, test=994.0))
    filler.run(**trained(34, test=0.5))
    board = reports.leaderboard(filler.uri)
    assert board["layers"].tolist() == [34, 44] and board["rank"].tolist() == [1, pd.NA]


def test_a_foreign_store_groups_by_its_parameters(filler: Filler) -> None:
    for seed in range(2):
        filler.run(params={"lr": 0.1, "seed": seed}, metrics={"acc": 0.5 + seed / 10})
    filler.run(params={"lr": 0.2, "seed": 0}, metrics={"acc": 0.9})
    board = reports.leaderboard(filler.uri, metric="acc")
    assert board["n"].tolist() == [1, 2] and board["acc"].tolist() == [0.9, pytest.approx(0.55)]


def test_an_interval_ends_where_the_metric_does(filler: Filler) -> None:
    for seed, loss in enumerate((0.1, 0.5)):
        settings = trained(44, seed=seed)
        settings["metrics"] |= {"test_loss": loss}
        filler.run(**settings)
    row = reports.leaderboard(filler.uri, metric="test_loss").iloc[0]
    # 0.3 ± 12.7062 * 0.283 / sqrt(2): a loss is never below 0.
    assert row["low"] == 0 and row["high"] == pytest.approx(0.3 + 12.7062 * 0.2)


def test_the_same_store_gives_the_same_bytes(filler: Filler) -> None:
    for seed in range(3):
        filler.run(**trained(44, seed=seed))
    for format in ("md", "csv", "json"):
        assert reports.leaderboard_text(filler.uri, format=format) == reports.leaderboard_text(
            filler.uri, format=format
        )
    parsed = json.loads(reports.leaderboard_text(filler.uri, format="json"))
    assert parsed["pages"][0]["rows"][0]["n"] == 3


def test_nothing_to_rank_is_one_clear_message(filler: Filler) -> None:
    filler.run(**trained())
    with pytest.raises(ReportError, match="no runs that match"):
        reports.leaderboard(filler.uri, filter="params.dataset = 'x'")
    with pytest.raises(ReportError, match="no run has a metric 'speed'; there are: "):
        reports.leaderboard(filler.uri, metric="speed")
    with pytest.raises(ReportError, match="no run has a parameter, metric or tag 'colour'"):
        reports.leaderboard(filler.uri, by="colour")


def sweep(filler: Filler) -> pd.DataFrame:
    """Ten rates and two batch sizes; one run stops early, with a patience of its own, and scores worst."""
    for i, rate in enumerate((0.3, 0.1, 0.03, 0.01, 0.003)):
        for size in (32, 64):
            stops = i == 0 and size == 32
            filler.run(
                **trained(
                    test=0.1 if stops else 0.95 - i / 20 - size / 10_000,
                    learning_rate=rate,
                    mini_batch_size=size,
                    optimizer="adam" if i == 4 else "sgd",
                    beta_1=0.9 + i / 100,
                    early_stopping=stops,
                    early_stopping_patience=7 if stops else 5,
                    early_stopping_min_epochs=3 if stops else 10,
                )
            )
    return reports.leaderboard(filler.uri)


def test_names_are_what_differs_and_matters_the_most_telling_first(filler: Filler) -> None:
    board = sweep(filler)
    assert board["label"].tolist()[:2] == ["learning rate 0.3, batch size 64", "learning rate 0.1, batch size 32"]
    assert board["label"].tolist()[-1] == "learning rate 0.3, batch size 32, early stopping"
    # Patience has no effect where early stopping is off, nor beta 1 without adam.
    assert not {"early_stopping_patience", "beta_1", "num_layers"} & set(board.attrs["settings"])
    common = board.to_text().partition("Unless a name says otherwise: ")[2].partition(".\n")[0]
    assert set(common.split(", ")) == {"44 layers", "scratch", "30 epochs", "optimizer sgd", "no early stopping"}


def test_equal_names_mean_equal_settings(filler: Filler) -> None:
    for i in range(64):
        bits = {f"option_{k}": i >> k & 1 for k in range(6)}
        filler.run(params=bits, metrics={"test_accuracy": 0.5 + i / 200})
    for decay in (0.1, 0.2):
        filler.run(params={"optimizer": "adam", "weight_decay": decay}, metrics={"test_accuracy": 0.4})
    for rate in (0.100001, 0.100002):
        filler.run(params={"optimizer": "adam", "learning_rate": rate}, metrics={"test_accuracy": 0.3})
    labels = reports.leaderboard(filler.uri)["label"].tolist()
    assert len(set(labels)) == 68 and not any("(" in label for label in labels)
    assert "weight decay 0.1" in labels[-4] and "learning rate 0.100001" in labels[-2]


def test_what_has_no_place_is_named_with_the_option_that_shows_it(filler: Filler) -> None:
    for i in range(24):
        filler.run(
            params={f"option_{chr(97 + k)}_with_a_long_name": (i * (k + 3)) % 5 for k in range(12)},
            metrics={"test_accuracy": 0.5 + i / 100, "train_accuracy": 0.9},
        )
    text = reports.leaderboard(filler.uri).to_text()
    cut = text.partition("more settings differ: `--columns ")[2].partition("`")[0].split(",")
    assert len(cut) >= 2 and cut[0] not in text.partition("more settings differ")[0]
    assert cut[0] in reports.leaderboard(filler.uri, columns=cut[0]).to_text().partition("| --:")[0]


def test_another_tools_paths_tell_nothing_and_one_value_written_two_ways_is_one(filler: Filler) -> None:
    for i in range(6):
        filler.run(
            params={
                "output_dir": f"./results/exp_{i}",
                "checkpoint": f"/data/{i}/last.ckpt",
                "rate": ["1e-3", "0.001", "0.01"][i % 3],
                "layers_kept": str(i),
            },
            metrics={"test_accuracy": 0.5 + i / 100},
        )
    board = reports.leaderboard(filler.uri)
    assert board["label"].tolist()[0] == "layers_kept 5, rate 0.01"
    assert len({label.partition("rate ")[2] for label in board["label"]}) == 2
    assert not any("exp_" in label or "ckpt" in label for label in board["label"])


def test_a_repr_is_the_first_sentence(filler: Filler) -> None:
    board = sweep(filler)
    assert (
        repr(board).startswith("learning rate 0.3, batch size 64 scored best on digits: 94.4 %")
        and len(repr(board)) < 600
    )
    assert repr(board.report) == repr(board)
    assert repr(board.board) == "Board(10 runs, [Page('digits', 'd1', 10 configurations)])"
    first, second = (ids[0] for ids in board["run_ids"][:2])
    assert "test accuracy" in repr(reports.compare([first, second], filler.uri))
    assert repr(reports.run_card(first, filler.uri)).startswith("44 layers, scratch, 30 epochs on digits: 94.4 %")


def test_a_network_of_the_zoo_is_named_where_others_have_their_depth() -> None:
    from reports.settings import name_rows

    rows = pd.DataFrame(
        {
            "params.num_layers": [44.0, 20.0, None, None],
            "params.network": [None, None, "resnest14", "mobilenet1.0"],
            "params.learning_rate": [0.1] * 4,
        }
    )
    named = name_rows(rows, [0.9, 0.8, 0.7, 0.6])
    assert named.names == ["44 layers", "20 layers", "resnest14", "mobilenet1.0"]
    assert set(named.used) == {"params.num_layers"}
