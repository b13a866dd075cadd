"""The two ways to read a store give the same frame, whatever is asked; and the fast one writes nothing."""

from __future__ import annotations

import math
import os
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.runs import Filler, empty_store, new_store, trained
from tracking.errors import StoreError
from tracking.frame import api, filter, frame, sql, tables
from tracking.frame.query import Query

FILTERS = [
    "params.dataset = 'digits'",
    "params.dataset != 'digits'",
    "params.dataset LIKE 'dig%'",
    "params.dataset like 'DIG%'",
    "params.dataset ILIKE 'DIG%'",
    "params.`odd key` = 'a|b'",
    'params."odd key" = "a|b"',
    "param.epochs = '30' and metrics.test_accuracy > 0.9",
    "metrics.test_accuracy >= 0.95 AND metrics.test_accuracy < 1",
    "metrics.test_accuracy != 0.95",
    "metrics.`odd` != 0",
    "metrics.odd > -1",
    "metrics.odd <= 1e300",
    "tags.launcher = 'local'",
    "tags.mlflow.runName = 'odd one'",
    "tags.launcher IS NULL",
    "tags.launcher IS NOT NULL",
    "params.note IS  NULL",
    "attributes.status = 'FINISHED'",
    "status != 'FINISHED'",
    "attributes.run_name LIKE '%odd%'",
    "run_name ILIKE '%ODD%'",
    "attributes.start_time > 1700000100000",
    "start_time <= 1700000100000 and status = 'FINISHED'",
    "attribute.end_time >= 0",
    "dataset.digest = 'other'",
    "datasets.name IN ('pictures', 'none')",
    "datasets.context = 'test'",
    "dataset.context LIKE 'te%' AND dataset.digest != 'other'",
    "params.dataset = 'no such thing'",
    "",
]
COLUMNS = [None, ["params.num_layers", "metrics.test_accuracy", "tags.launcher", "datasets.test"], ["params.*"], []]
ORDERS = ["metrics.test_accuracy", "metrics.odd", "params.dataset", "tags.launcher", "start_time", "run_name"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Filler:
    filler = new_store(tmp_path_factory.mktemp("paths"))
    for seed in range(3):
        filler.run(**trained(44, seed=seed, test=0.95 + seed / 100), inputs={"train": "t1", "test": "d1"})
    filler.run(**trained(34, "imagenet", 50, test=None), inputs={"test": "other"})
    filler.run(
        "odd one",
        params={"odd key": "a|b", "note": "ünï\ncode", "num_layers": "deep"},
        metrics={"odd": math.nan, "up": math.inf, "down": -math.inf, "big": 1e300, "system/cpu": 1.0},
        tags={"mlflow.log-model.history": "[]"},
        status="FAILED",
    )
    filler.run("odd two", experiment="second", metrics={"odd": 0.5}, status="KILLED")
    filler.run("going", experiment="second", metrics={"odd": 0.0}, status="RUNNING")
    filler.client.delete_run(filler.run("deleted"))
    filler.client.delete_experiment(filler.client.get_run(filler.run("gone", experiment="gone")).info.experiment_id)
    filler.client.create_experiment("empty")
    return filler


def both(store: Filler, **asked: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The frame by SQL and by the API."""
    query = Query(**asked)  # type: ignore[arg-type]
    return frame.shaped(sql.read(store.uri, query), query), frame.shaped(api.read(store.uri, query), query)


def same(store: Filler, **asked: object) -> pd.DataFrame:
    by_sql, by_api = both(store, **asked)
    pd.testing.assert_frame_equal(by_sql, by_api, check_exact=True)
    assert by_sql.attrs == by_api.attrs
    return by_sql


@pytest.mark.parametrize("text", FILTERS)
def test_every_filter_means_the_same(store: Filler, text: str) -> None:
    assert filter.parse(text) is not None
    same(store, filter=text)


@pytest.mark.parametrize("columns", COLUMNS)
def test_every_choice_of_columns_gives_the_same(store: Filler, columns: list[str] | None) -> None:
    same(store, columns=None if columns is None else tuple(columns))


@pytest.mark.parametrize("order_by", ORDERS)
@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("limit", [None, 1, 3])
def test_order_and_limit_give_the_same(store: Filler, order_by: str, descending: bool, limit: int | None) -> None:
    same(store, order_by=order_by, descending=descending, limit=limit)


def test_the_newest_few_and_single_experiments(store: Filler) -> None:
    assert len(same(store, limit=2)) == 2
    assert len(same(store, order_by="metrics.odd", limit=100)) == 7
    assert len(same(store, experiments=("second",))) == 2
    assert len(same(store, experiments=("empty",))) == 0
    assert len(same(store, experiments=("second", "image-classification"), filter="status = 'FAILED'")) == 1


clause = st.sampled_from([f for f in FILTERS if f])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(clause, min_size=2, max_size=4), st.sampled_from(["and", "AND", " And "]))
def test_joined_filters_mean_the_same(store: Filler, clauses: list[str], link: str) -> None:
    same(store, filter=f" {link} ".join(clauses))


@pytest.mark.parametrize(
    "text",
    [
        "params.a = 'x' or params.b = 'y'",
        "params.a = 'it''s'",
        "params.a = 5",
        "metrics.a = '5'",
        "metrics.a LIKE 1",
        "status IN ('FINISHED')",
        "colour = 'red'",
        "params.a = 'x' params.b = 'y'",
        "params.a =",
        "models.a = 'x'",
        "metrics.a IS NULL",
        "metrics.a > 1 and",
        "dataset.colour = 'x'",
    ],
)
def test_what_is_not_understood_is_left_to_mlflow(text: str) -> None:
    assert filter.parse(text) is None


def test_a_filter_mlflow_refuses_is_our_error_in_its_words(store: Filler) -> None:
    with pytest.raises(StoreError, match="filter 'params.a = 5'.*quoted"):
        frame.load(store.uri, filter="params.a = 5")


def test_the_fast_path_is_taken_and_says_so(store: Filler) -> None:
    runs = frame.load(store.uri)
    assert runs.attrs["read_by"] == "sql" and runs.attrs["note"] == ""


def test_a_store_with_workspaces_is_left_to_mlflow(tmp_path: Path) -> None:
    filler = new_store(tmp_path)
    filler.run(**trained())
    with sqlite3.connect(tmp_path / "mlflow.db") as raw:
        raw.execute("INSERT INTO workspaces (name) VALUES ('team')")
        raw.execute(
            "INSERT INTO experiments (experiment_id, name, lifecycle_stage, workspace)"
            " VALUES (99, 'x', 'active', 'team')"
        )
    raw.close()
    with pytest.raises(tables.Unsuitable, match="workspaces"):
        sql.read(filler.uri, Query())


def test_reading_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    filler = new_store(tmp_path)
    filler.run(**trained())
    path = tmp_path / "mlflow.db"
    before = path.read_bytes()
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        assert len(frame.load(filler.uri)) == 1
    finally:
        tmp_path.chmod(0o755)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["mlflow.db"]


def test_a_run_named_by_its_tag_alone(tmp_path: Path) -> None:
    filler = new_store(tmp_path)
    run_id = filler.run("old one")
    with sqlite3.connect(tmp_path / "mlflow.db") as raw:
        raw.execute("UPDATE runs SET name = '' WHERE run_uuid = ?", (run_id,))
    raw.close()
    assert same(filler)["run_name"].tolist() == ["old one"]


def test_histories_are_every_point_once_by_both_paths(store: Filler) -> None:
    runs = frame.load(store.uri, filter="params.num_layers = '44'")
    ids = runs["run_id"].tolist()
    points = frame.histories(store.uri, ids, ["train_accuracy", "validation_accuracy"])
    assert len(points) == 3 * 2 * 3
    one = points[(points["run_id"] == ids[0]) & (points["metric"] == "train_accuracy")]
    assert one["step"].tolist() == [1, 2, 3] and one["value"].tolist() == pytest.approx([0.85, 0.95, 0.96])
    assert sorted(api.histories(store.uri, ids, ["train_accuracy"])) == sorted(
        sql.histories(store.uri, ids, ["train_accuracy"])
    )


def test_the_last_logged_value_of_a_step_counts() -> None:
    filler = empty_store()
    run_id = filler.run()
    for timestamp, value in ((20, 0.7), (10, 0.1)):
        filler.client.log_metric(run_id, "m", value, timestamp=timestamp, step=4)
    assert frame.histories(filler.uri, [run_id], ["m"])["value"].tolist() == [0.7]


def test_the_api_pages_beyond_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    filler = empty_store()
    for _ in range(7):
        filler.run()
    monkeypatch.setattr(api, "PAGE", 3)
    assert len(frame.shaped(api.read(filler.uri, Query()), Query())) == 7
    assert len(same(filler, limit=5)) == 5


def test_models_are_found_by_both_paths() -> None:
    filler = empty_store()
    run_id, other = filler.run(), filler.run()
    experiment_id = filler.client.get_run(run_id).info.experiment_id
    made = [filler.client.create_logged_model(experiment_id, name="model", source_run_id=run_id) for _ in range(2)]
    filler.client.create_logged_model(experiment_id, name="model", source_run_id=other)
    found = frame.models(filler.uri, run_id)
    assert sorted(found) == sorted((m.model_id, m.artifact_location) for m in made)
    assert api.models(filler.uri, run_id) == sql.models(filler.uri, run_id) == found
    filler.client.delete_logged_model(made[0].model_id)
    assert [model_id for model_id, _ in frame.models(filler.uri, run_id)] == [made[1].model_id]
    assert len(api.models(filler.uri, run_id)) == 1
