"""The read side on a real store: types, order, what is missing and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.support.runs import Filler, empty_store, trained
from tracking.errors import StoreError
from tracking.frame import frame, query


@pytest.fixture
def filler() -> Filler:
    return empty_store()


def test_types_come_from_the_vocabulary(filler: Filler) -> None:
    filler.run(params={"num_layers": 44, "early_stopping": "True", "learning_rate": 0.1, "mine": 7}, metrics={"m": 2})
    runs = frame.load(filler.uri)
    assert runs.loc[0, "params.num_layers"] == 44 and str(runs["params.num_layers"].dtype) == "Int64"
    assert runs.loc[0, "params.early_stopping"] is True or bool(runs.loc[0, "params.early_stopping"])
    assert str(runs["params.early_stopping"].dtype) == "boolean"
    assert runs["params.learning_rate"].dtype == "float64"
    assert runs.loc[0, "params.mine"] == "7" and runs["params.mine"].dtype == object
    assert runs["metrics.m"].dtype == "float64"
    assert runs.loc[0, "start_time"] == pd.Timestamp("2023-11-14 22:13:20", tz="UTC")


def test_columns_are_core_then_sorted_and_the_latest_step_counts(filler: Filler) -> None:
    filler.run(
        params={"b": 1, "a": 2}, metrics={"z": 1, "system/cpu": 3}, curves={"acc": [0.9, 0.5]}, inputs={"test": "dd"}
    )
    runs = frame.load(filler.uri)
    ours = [c for c in runs.columns if not c.startswith("tags.mlflow.")]
    assert ours == [*query.CORE, "params.a", "params.b", "metrics.acc", "metrics.z", "datasets.test"]
    assert runs.loc[0, "metrics.acc"] == 0.5
    assert runs.loc[0, "datasets.test"] == "dd"


def test_only_the_columns_asked_for(filler: Filler) -> None:
    filler.run(params={"a": 1, "b": 2}, metrics={"system/cpu": 3, "m": 1}, tags={"t": "x"})
    runs = frame.load(filler.uri, columns=["params.a", "params.nowhere", "metrics.system/cpu"])
    assert list(runs.columns) == [*query.CORE, "params.a", "metrics.system/cpu"]


def test_missing_is_missing_and_unreadable_is_listed(filler: Filler) -> None:
    first = filler.run(params={"num_layers": "deep", "note": "x"})
    filler.run(params={"num_layers": 44})
    runs = frame.load(filler.uri)
    assert runs["params.num_layers"].tolist() == [pd.NA, 44]
    assert runs["params.note"].tolist() == ["x", None]
    assert runs.attrs["unreadable"] == [(first, "params.num_layers", "deep")]


def test_a_switch_of_0_or_1_that_another_tool_stored_as_true_is_1(filler: Filler) -> None:
    for word in ("True", "false", "1", "yes"):
        filler.run(params={"use_pretrained_model": word})
    runs = frame.load(filler.uri)
    assert runs["params.use_pretrained_model"].tolist() == [1, 0, 1, pd.NA]
    assert [text for _, _, text in runs.attrs["unreadable"]] == ["yes"]


def test_infinity_and_nan_survive_the_store(filler: Filler) -> None:
    filler.run(metrics={"up": float("inf"), "down": float("-inf"), "nan": float("nan")})
    runs = frame.load(filler.uri)
    assert runs.loc[0, "metrics.up"] == float("inf") and runs.loc[0, "metrics.down"] == float("-inf")
    assert pd.isna(runs.loc[0, "metrics.nan"])


def test_rows_by_start_time_or_by_a_column_with_missing_last(filler: Filler) -> None:
    low, none, high = (filler.run(metrics=m) for m in ({"acc": 0.1}, {}, {"acc": 0.9}))
    assert frame.load(filler.uri)["run_id"].tolist() == [low, none, high]
    assert frame.load(filler.uri, order_by="metrics.acc")["run_id"].tolist() == [high, low, none]
    assert frame.load(filler.uri, order_by="metrics.acc", limit=1)["run_id"].tolist() == [high]
    assert frame.load(filler.uri, limit=1)["run_id"].tolist() == [high]


def test_filter_experiments_and_deleted_runs(filler: Filler) -> None:
    kept = filler.run(**trained(44))
    gone = filler.run(**trained(34))
    other = filler.run(experiment="other", params={"num_layers": 44})
    filler.client.delete_run(gone)
    assert frame.load(filler.uri)["run_id"].tolist() == [kept, other]
    assert frame.load(filler.uri, "other")["run_id"].tolist() == [other]
    assert frame.load(filler.uri, filter="params.dataset = 'digits'")["run_id"].tolist() == [kept]
    assert frame.load(filler.uri, filter="params.dataset = 'none'").empty


def test_no_store_is_said_and_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store at .*nothing has been tracked"):
        frame.load(f"sqlite:///{tmp_path}/none.db")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_experiment_or_column_names_the_legal_ones(filler: Filler) -> None:
    filler.run()
    with pytest.raises(StoreError, match="no experiment 'nowhere'.*Default, image-classification"):
        frame.load(filler.uri, "nowhere")
    with pytest.raises(StoreError, match="column 'accuracy': columns are run_id"):
        frame.load(filler.uri, columns=["accuracy"])
