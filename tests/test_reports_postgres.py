"""Reading a real PostgreSQL, and an MLflow server on it: the same frame and the same page by every way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from postgres_fixtures import mlflow_server, postgres
from reports_fixtures import Filler, predictions, trained

import reports
from tracking import frame, frame_api, frame_sql, frame_tables

pytest.importorskip("psycopg2")

FILTERS = [
    "",
    "params.dataset LIKE 'dig%' and metrics.test_accuracy >= 0.95",
    "params.dataset ILIKE 'DIG%'",
    "metrics.odd != 0",
    "metrics.odd > -1",
    "tags.launcher IS NULL",
    "status != 'FINISHED'",
    "run_name LIKE '%odd%'",
    "datasets.context = 'test' and dataset.digest != 'other'",
    "start_time > 1700000100000",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filler]:
    with postgres() as uri:
        filler = Filler(uri, tmp_path_factory.mktemp("artifacts"))
        for depth, score in ((44, 0.95), (34, 0.97)):
            for seed in range(2):
                run_id = filler.run(**trained(depth, seed=seed, test=score), inputs={"test": "d1", "train": "t"})
                predictions(filler, run_id, score, seed=seed)
        filler.run(**trained(20, test=None), inputs={"test": "other"})
        infinite = {"odd": float("nan"), "up": float("inf"), "down": float("-inf")}
        filler.run("odd ünï", metrics=infinite, params={"num_layers": "deep"}, status="FAILED")
        filler.run("going", experiment="second", metrics={"odd": 0.0}, status="RUNNING")
        filler.client.delete_run(filler.run("deleted"))
        yield filler


@pytest.mark.parametrize("text", FILTERS)
def test_sql_and_api_give_the_same_frame(store: Filler, text: str) -> None:
    query = frame.Query(filter=text)
    by_sql, by_api = (frame._frame(way.read(store.uri, query), query) for way in (frame_sql, frame_api))
    pd.testing.assert_frame_equal(by_sql, by_api, check_exact=True)
    assert by_sql.attrs == by_api.attrs


@pytest.mark.parametrize("order_by", ["metrics.test_accuracy", "metrics.odd", "params.dataset", "start_time"])
@pytest.mark.parametrize("descending", [True, False])
def test_top_k_is_the_same(store: Filler, order_by: str, descending: bool) -> None:
    for limit in (1, 3, None):
        query = frame.Query(order_by=order_by, descending=descending, limit=limit)
        by_sql, by_api = (frame._frame(way.read(store.uri, query), query) for way in (frame_sql, frame_api))
        pd.testing.assert_frame_equal(by_sql, by_api, check_exact=True)


def test_the_fast_path_is_taken_read_only(store: Filler) -> None:
    assert frame.load(store.uri).attrs["read_by"] == "sql"
    with frame_tables.connect(store.uri) as connection:
        assert connection.execute(sa.text("SHOW transaction_read_only")).scalar() == "on"
        assert connection.execute(sa.text("SHOW transaction_isolation")).scalar() == "repeatable read"
        with pytest.raises(sa.exc.InternalError, match="read-only"):
            connection.execute(sa.text("DELETE FROM runs"))


def test_histories_are_the_same(store: Filler) -> None:
    ids = frame.load(store.uri, filter="params.num_layers = '44'")["run_id"].tolist()
    ways = (
        frame_sql.histories(store.uri, ids, ["train_accuracy"]),
        frame_api.histories(store.uri, ids, ["train_accuracy"]),
    )
    assert sorted(ways[0]) == sorted(ways[1]) and len(ways[0]) == 6


@pytest.mark.slow
def test_a_server_shows_the_same_page_with_links(store: Filler, tmp_path: Path) -> None:
    direct = reports.leaderboard(store.uri)
    with mlflow_server(store.uri, tmp_path) as address:
        through = reports.leaderboard(address)
        assert through.board.runs.attrs["read_by"] == "api"
        pd.testing.assert_frame_equal(pd.DataFrame(direct), pd.DataFrame(through), check_exact=True)
        text = through.to_text()
    run_id, experiment = direct.iloc[0]["run_ids"][0], direct.iloc[0]["experiment_id"]
    assert f"[`{run_id[:8]}`](<{address}/#/experiments/{experiment}/runs/{run_id}>)" in text
    # The answer, significance on paired predictions included, is the same by either way.
    assert text.split("\n\n")[1] == direct.to_text().split("\n\n")[1]
