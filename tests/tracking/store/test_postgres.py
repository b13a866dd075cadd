"""A store on a real PostgreSQL: written, read by every way to the same frame, and shown by a server on it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

import reports
from reports.__main__ import main
from tests.support.forked import Forked
from tests.support.postgres import made, mlflow_server, postgres
from tests.support.runs import Filler, predictions, trained
from tests.support.stores import Stopped, StoppingStore, write_full_journal
from tracking import run as tracked
from tracking.__main__ import main as tracking
from tracking.errors import RunNotFound, StoreError
from tracking.frame import api, frame, sql
from tracking.frame import tables as frame_tables
from tracking.frame.query import Query
from tracking.journal import Journal
from tracking.journal.progress import is_done
from tracking.store import Store, connection, resolve, schema
from tracking.store.replay import replay

pytest.importorskip("psycopg2")
pytestmark = pytest.mark.slow


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
def server() -> Iterator[str]:
    """A server; its database has MLflow's tables, which take MLflow seconds to make, and nothing in them."""
    with postgres() as uri:
        MlflowClient(tracking_uri=uri).search_experiments()
        yield uri


@pytest.fixture(scope="module")
def filled(server: str, tmp_path_factory: pytest.TempPathFactory) -> Filler:
    """A database with a bit of everything."""
    filler = Filler(made(server, "filled", "postgres"), tmp_path_factory.mktemp("artifacts"))
    for depth, score in ((44, 0.95), (34, 0.97)):
        for seed in range(2):
            run_id = filler.run(**trained(depth, seed=seed, test=score), inputs={"test": "d1", "train": "t"})
            predictions(filler, run_id, score, seed=seed)
    filler.run(**trained(20, test=None), inputs={"test": "other"})
    infinite = {"odd": float("nan"), "up": float("inf"), "down": float("-inf")}
    filler.run("odd ünï", metrics=infinite, params={"num_layers": "deep"}, status="FAILED")
    filler.run("going", experiment="second", metrics={"odd": 0.0}, status="RUNNING")
    filler.client.delete_run(filler.run("deleted"))
    return filler


def restart(uri: str) -> None:
    """End every connection to a database, as the server does that is restarted."""
    other = sa.create_engine(f"{uri.rpartition('/')[0]}/template1")
    with other.connect() as connection:
        ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(sa.text(ending), {"name": uri.rpartition("/")[2]})
    other.dispose()


@pytest.fixture(scope="module")
def own(server: str) -> str:
    """The URI of a database to write into."""
    return made(server, "own", "postgres")


@pytest.fixture
def store(own: str, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own)
    return resolve()


def test_runs_live_there_as_they_live_in_a_file(store: Store, tmp_path: Path) -> None:
    with tracked.start(experiment="exp", system_metrics=False, flush_s=120) as run:
        run.log_metrics({"loss": 0.5, "nan": float("nan")}, step=1)
        run.log_text("hello", "notes.txt")
    assert run.mlflow_run_id is not None
    found = store.find_run(run.mlflow_run_id[:8])
    assert (found.info.status, found.data.metrics["loss"]) == ("FINISHED", 0.5)
    assert (tmp_path / "mlruns" / "artifacts" / "exp" / run.mlflow_run_id / "artifacts" / "notes.txt").exists()
    for stop_at in (0, 1, 2, 4, 7):
        for after in (False, True):
            directory = write_full_journal(store, tmp_path)
            stopping = StoppingStore(
                store.tracking_uri, store.artifact_root, store.journals, stop_at=stop_at, after=after
            )
            with pytest.raises(Stopped):
                replay(directory, stopping)
            replay(directory, store)
            [one] = store.runs(None, f"tags.journal_id = '{directory.name}'")
            history = store.client().get_metric_history(one.info.run_id, "train_accuracy")
            assert [(m.step, m.timestamp) for m in history] == [(1, 1_000), (2, 2_000), (3, 3_000)]
            assert (one.info.status, one.info.end_time) == ("FAILED", 10_000)


def test_a_restarted_server_loses_nothing_of_a_run_that_is_shown(store: Store) -> None:
    with tracked.start(experiment="exp", system_metrics=False, flush_s=60) as run:
        for step in range(1, 401):
            run.log_metrics({"loss": step}, step=step)
            if step % 50 == 0:
                assert run.run_id  # which has it look for what is new, as it does every two seconds
                time.sleep(0.02)
                restart(store.tracking_uri)
    assert replay(run.dir, store).status == "FINISHED"
    history = store.client().get_metric_history(run.run_id, "loss")
    assert sorted(point.step for point in history) == list(range(1, 401))


def test_a_password_goes_nowhere_and_a_new_one_replays_nothing(
    store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server takes any password; the former version's file had this one in it."""
    former, later = (replace(store, tracking_uri=_with(store, word)) for word in ("pa/ss:w0rd", "another"))
    directory = write_full_journal(former, tmp_path)
    first = replay(directory, former)
    state = directory / "replay.json"
    assert "w0rd" not in state.read_text() and state.stat().st_mode & 0o777 == 0o600
    state.write_text(state.read_text().replace("tester:***@", "tester:pa/ss:w0rd@"))
    assert is_done(directory, former.public_uri) and is_done(directory, later.public_uri)
    again = replay(directory, later)
    assert (again.run_id, again.num_events) == (first.run_id, 0)
    journal = Journal.reopen(directory)
    journal.tags({"more": "1"})
    journal.close()
    replay(directory, later)
    assert "w0rd" not in state.read_text() and list(json.loads(state.read_text())["stores"]) == [later.public_uri]
    said = capfd.readouterr()
    assert not [word for word in ("w0rd", "another@") if word in said.out + said.err]


def _with(store: Store, password: str) -> str:
    return store.tracking_uri.replace("tester@", f"tester:{password}@")


def test_what_it_cannot_hold_is_written_otherwise_or_noted(store: Store, tmp_path: Path) -> None:
    """Half of these end in its driver where sqlite takes them; one of them must not keep the others out."""
    odd = "NUL \0 and \udce9"
    journal = Journal.create(
        store.journals, experiment=f"odd {odd}", run_name=odd * 50, tags={"mlflow.source.name": odd}
    )
    journal.params({"odd": odd, "long": odd * 1_000})
    journal.tags({"odd": odd, "ä" * 250: odd * 2_000})
    for number, value in enumerate((5e-324, 1.8e308 / 2, math.inf, -math.inf, math.nan, 2**62)):
        journal.metrics({f"m{number}": value}, step=(2**63 - 1) * (-1) ** number)
    journal.dataset(context="test", name=odd, digest="d\0", source=odd, num_images=1, num_classes=2, profile={"a": odd})
    journal.close()
    with (journal.dir / "journal-000001.jsonl").open("a") as lines:
        for event in (
            {"event": "metric", "step": 2**63, "values": {"never": 1.0}},
            {"event": "dataset", "context": "test", "name": "n", "digest": "x" * 40, "source": "s"},
        ):
            lines.write(json.dumps({"time_ms": 1, "num_images": 1, "num_classes": 2, **event}) + "\n")
    again = Journal.reopen(journal.dir)
    again.status("FAILED", reason=odd)
    again.close()
    outcome = replay(journal.dir, store)
    assert outcome.status == "FAILED"
    assert [("does not fit" in problem, "dataset" in problem) for problem in outcome.problems] == [
        (True, False),
        (False, True),
    ]
    (journal.dir / "replay.json").unlink()
    assert len(replay(journal.dir, store).problems) == 2
    run = store.find_run(outcome.run_id)
    assert (run.info.status, len(run.info.run_name)) == ("FAILED", 250)
    plain = "NUL \\x00 and \\udce9"
    assert (run.data.params["odd"], run.data.tags["odd"]) == (plain, plain)
    assert (run.data.tags["status_reason"], run.data.tags["mlflow.source.name"]) == (plain, plain)
    assert sorted(run.data.metrics) == [f"m{number}" for number in range(6)]
    assert [known.dataset.name for known in run.inputs.dataset_inputs] == [plain]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding_takes_what_it_lacks_as_escapes(
    server: str, workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], encoding: str
) -> None:
    """Each of these kept the rest of its run out, or its end."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made(server, encoding.lower(), encoding=encoding))
    params, tags = {"a": "ü", "深": "🐈", "dataset": "深"}, {"c": "深" * 9000}
    with tracked.start("cat 🐈", experiment="深 exp", params=params, tags=tags, system_metrics=False) as run:
        run.log_metrics({"loss 深": 0.5, "loss": 0.25}, step=1)
        run.set_tags({"b": "é", "tag 深": "🐈"})
        run.log_dataset("test", name="d 🐈", digest="d1", source="/深", num_images=1, num_classes=2)
        run.log_text("深", "notes 深.txt")
        run.finish("FAILED", "深 is gone")
    with tracked.start("other", experiment="plain") as other:
        other.log_metrics({"loss": 0.5}, step=1)
    store = resolve()
    assert tracking(["sync"]) == 0 and tracking(["sync", "--all"]) == 0
    assert [one.info.status for one in store.runs()] == ["FINISHED", "FAILED"]
    there = store.find_run(run.mlflow_run_id or "")
    assert there.info.run_name == "cat \\U0001f408"
    latin = encoding == "LATIN1"
    assert there.data.params == {
        "a": "ü" if latin else "\\xfc",
        "_u6df1": "\\U0001f408",
        "dataset": "\\u6df1",
    }
    assert there.data.tags["b"] == ("é" if latin else "\\xe9") and there.data.tags["tag _u6df1"] == "\\U0001f408"
    assert there.data.metrics == {"loss _u6df1": 0.5, "loss": 0.25}
    assert there.data.tags["status_reason"] == "\\u6df1 is gone" and "replay_problems" not in there.data.tags
    assert [known.dataset.name for known in there.inputs.dataset_inputs] == ["d \\U0001f408"]
    assert [one.path for one in store.client().list_artifacts(run.mlflow_run_id or "")] == ["notes 深.txt", "tags"]
    assert "Failed" in there.data.tags["mlflow.note.content"] and there.data.tags["c"].startswith("\\u6df1\\u6df1")
    capsys.readouterr()
    assert main(["leaderboard"]) == 0 and main(["leaderboard", "--experiment", "深 exp"]) != 0
    assert "Traceback" not in capsys.readouterr().err


def test_two_processes_make_the_tables_at_once(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = made(server, "several")
    code = "from tracking.store import resolve; s = resolve(); s.client().create_run(s.experiment_id('exp'))"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    processes = [Forked("-c", code) for _ in range(2)]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert len(list(resolve().runs())) == 2


def test_a_look_keeps_no_lock_from_a_program_that_makes_the_tables(store: Store) -> None:
    """Else one of many that begin at once, the maker or a looker, is ended by the database as deadlocked."""
    engine = sa.create_engine(store.tracking_uri, poolclass=sa.NullPool)
    with engine.begin() as maker, ThreadPoolExecutor(1) as pool:
        maker.exec_driver_sql("LOCK TABLE experiments IN ACCESS EXCLUSIVE MODE")
        looking = pool.submit(schema.look, store.tracking_uri)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not looking.done() and not statement(store.tracking_uri, waiting)[0][0]:
            time.sleep(0.01)
        maker.exec_driver_sql("SET LOCAL lock_timeout = '300ms'")
        maker.exec_driver_sql("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        maker.commit()
        assert schema.state(looking.result()) == "ready"


def test_a_database_of_another_version_is_said_with_the_way_out(store: Store) -> None:
    import psycopg2

    connection = psycopg2.connect(store.tracking_uri.replace("+psycopg2", ""))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    finally:
        connection.close()
    # MLflow has the store open in this process, so its own check is asked here.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    from tracking.store import connection as border

    with (
        pytest.raises(StoreError, match=r"found version 451aebb31d03, but expected .*mlflow db upgrade postgresql"),
        border.translated(store.tracking_uri),
    ):
        SqlAlchemyStore(store.tracking_uri, "/nowhere")


@pytest.mark.parametrize("text", FILTERS)
def test_sql_and_api_give_the_same_frame(filled: Filler, text: str) -> None:
    query = Query(filter=text)
    by_sql, by_api = (frame.shaped(way.read(filled.uri, query), query) for way in (sql, api))
    pd.testing.assert_frame_equal(by_sql, by_api, check_exact=True)
    assert by_sql.attrs == by_api.attrs


@pytest.mark.parametrize("order_by", ["metrics.test_accuracy", "metrics.odd", "params.dataset", "start_time"])
@pytest.mark.parametrize("descending", [True, False])
def test_top_k_is_the_same(filled: Filler, order_by: str, descending: bool) -> None:
    for limit in (1, 3, None):
        query = Query(order_by=order_by, descending=descending, limit=limit)
        by_sql, by_api = (frame.shaped(way.read(filled.uri, query), query) for way in (sql, api))
        pd.testing.assert_frame_equal(by_sql, by_api, check_exact=True)


def test_the_fast_path_is_taken_read_only(filled: Filler) -> None:
    assert frame.load(filled.uri).attrs["read_by"] == "sql"
    with frame_tables.connect(filled.uri) as (connection, _):
        assert connection.execute(sa.text("SHOW transaction_read_only")).scalar() == "on"
        assert connection.execute(sa.text("SHOW transaction_isolation")).scalar() == "repeatable read"
        with pytest.raises(sa.exc.InternalError, match="read-only"):
            connection.execute(sa.text("DELETE FROM runs"))


def test_histories_are_the_same(filled: Filler) -> None:
    ids = frame.load(filled.uri, filter="params.num_layers = '44'")["run_id"].tolist()
    ways = (
        sql.histories(filled.uri, ids, ["train_accuracy"]),
        api.histories(filled.uri, ids, ["train_accuracy"]),
    )
    assert sorted(ways[0]) == sorted(ways[1]) and len(ways[0]) == 6


def test_a_server_shows_the_same_page_with_links(filled: Filler, tmp_path: Path) -> None:
    direct = reports.leaderboard(filled.uri)
    with mlflow_server(filled.uri, tmp_path) as address:
        through = reports.leaderboard(address)
        assert through.board.runs.attrs["read_by"] == "api"
        pd.testing.assert_frame_equal(pd.DataFrame(direct), pd.DataFrame(through), check_exact=True)
        text = through.to_text()
    run_id, experiment = direct.iloc[0]["run_ids"][0], direct.iloc[0]["experiment_id"]
    assert f"[`{run_id[:8]}`](<{address}/#/experiments/{experiment}/runs/{run_id}>)" in text
    # The answer, significance on paired predictions included, is the same by either way.
    assert text.split("\n\n")[1] == direct.to_text().split("\n\n")[1]


def statement(uri: str, *statements: str) -> list[Any]:
    """Carry statements out; the rows of the last."""
    engine = sa.create_engine(uri, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for one in statements[:-1]:
            connection.exec_driver_sql(one)
        last = connection.exec_driver_sql(statements[-1])
        return list(last.all()) if last.returns_rows else []


def tables(uri: str) -> list[Any]:
    return statement(
        uri,
        "SELECT table_schema, table_name, column_name FROM information_schema.columns"
        " WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2, 3",
    )


def test_another_applications_database_stays_as_it_is(
    server: str, workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = made(server, "theirs")
    statement(uri, "CREATE TABLE customers (id INTEGER)", "CREATE TABLE alembic_version (version_num TEXT)")
    before = tables(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for command, words in (
        *((main, words) for words in (["leaderboard"], ["run", "abcd1234"], ["compare", "abcd1234", "dcba4321"])),
        *((tracking, words) for words in (["ui", "--port", "0"], ["demote", "--name", "m"])),
    ):
        assert command(words) == 2
        said = capsys.readouterr().err
        assert "not an MLflow store but another program's database (tables alembic_version, customers)" in said, words
    for use in (resolve().client, resolve().experiment_id):
        with pytest.raises(StoreError, match="another program's database"):
            use()
    assert tables(uri) == before
    assert statement(uri, "SELECT * FROM alembic_version") == []


def test_a_reader_makes_no_tables_in_an_empty_database(server: str) -> None:
    uri = made(server, "blank")
    # Its view is the extension's, not data.
    statement(uri, "CREATE EXTENSION pg_stat_statements")
    before = tables(uri)
    with pytest.raises(StoreError, match="no store at postgresql.*/blank: nothing has been tracked there yet"):
        frame.load(uri)
    with pytest.raises(RunNotFound, match="no run 'abcd1234'"):
        Store(uri, None, Path("journals")).find_run("abcd1234")
    assert tables(uri) == before
    assert schema.state(schema.look(uri)) == "absent"


def test_a_search_keeps_its_trials_beside_the_runs(server: str, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a schema of its own, since MLflow and Optuna both have a table alembic_version; MLflow's stay as they are."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made(server, "searched", "postgres"))
    store = resolve()
    pytest.importorskip("optuna")
    from trainers.config.study import load
    from trainers.launch.sampler import Chooser, num_begun

    Path("s.toml").write_text("[search]\n[search.space]\nlearning_rate = { low = 0.01, high = 0.1 }\n")
    search = load("s.toml").search
    assert search is not None
    before = tables(store.tracking_uri)
    assert num_begun("s", search, store) == 0 and tables(store.tracking_uri) == before, "a reader makes no tables"
    chooser = Chooser("s", search, store)
    first, second = chooser.ask(), chooser.ask()
    assert first is not None and second is not None
    chooser.report(first, 1, 0.5)
    chooser.tell(first, "complete", [0.75])
    again = Chooser("s", search, store)
    (left,) = again.under_way()
    assert (left.number, left.values) == (second.number, second.values)
    assert [row["state"] for row in again.summary()] == ["complete", "running"] and num_begun("s", search, store) == 2
    assert [one for one in tables(store.tracking_uri) if one[0] != "optuna"] == before
    assert resolve().client().search_experiments(), "MLflow opens its own as before"


def test_a_database_of_an_older_mlflow_is_read_as_it_is_and_not_written_to(filled: Filler, server: str) -> None:
    known = frame.load(filled.uri)
    uri = made(server, "older", "filled")
    # As MLflow 2.8 left it, in what is read and what MLflow would miss.
    late = ("logged_model_params", "logged_model_tags", "logged_model_metrics", "logged_models", "webhook_events")
    statement(
        uri,
        *(f"DROP TABLE {table} CASCADE" for table in late),
        "ALTER TABLE experiments DROP COLUMN workspace",
        "UPDATE alembic_version SET version_num = '7f2a7d5fae7d'",
    )
    before = tables(uri)
    runs = frame.load(uri)
    assert runs.attrs["read_by"] == "sql" and frame.models(uri, runs["run_id"][0]) == []
    pd.testing.assert_frame_equal(runs, known, check_exact=True)
    digests = {one.digest for run_id in runs["run_id"] for one in frame.inputs(uri, run_id)}
    assert digests == {"d1", "t", "other"}
    with pytest.raises(StoreError, match="an older MLflow made it.*reads it as it is; to write to it, copy it, then"):
        Store(uri, None, Path("journals")).client()
    assert tables(uri) == before
    assert statement(uri, "SELECT version_num FROM alembic_version") == [("7f2a7d5fae7d",)]


def test_inputs_are_the_same(filled: Filler) -> None:
    for run_id in frame.load(filled.uri)["run_id"]:
        assert sorted(sql.inputs(filled.uri, run_id)) == sorted(api.inputs(filled.uri, run_id))


def test_what_mlflow_was_stopped_in_the_middle_of_is_finished_by_who_writes(server: str, tmp_path: Path) -> None:
    """Its first tables are one transaction, everything else the next."""
    from mlflow.store.tracking.dbmodels.initial_models import Base

    uri = made(server, "half")
    engine = sa.create_engine(uri, poolclass=sa.NullPool)
    Base.metadata.create_all(engine)
    before = tables(uri)
    store = Store(uri, tmp_path / "artifacts", tmp_path / "journals")
    with pytest.raises(StoreError, match="no store at"):
        frame.load(uri)
    with pytest.raises(RunNotFound):
        store.find_run("abcd1234")
    assert tables(uri) == before
    assert store.experiment_id("exp") and schema.state(schema.look(uri)) == "ready"


def test_what_the_database_refuses_is_said(filled: Filler, server: str) -> None:
    uri = made(server, "closed", "filled")
    statement(uri, "CREATE ROLE guest LOGIN", "GRANT SELECT ON runs, experiments, alembic_version TO guest")
    with pytest.raises(StoreError, match="guest@.*cannot be read: permission denied for table"):
        frame.load(uri.replace("tester@", "guest@"))
    with pytest.raises(StoreError, match='cannot be read: .*database "none" does not exist'):
        frame.load(uri.replace("/closed", "/none"))


def test_a_wrong_database_is_said_once_for_all_journals(
    own: str, workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong with the address, and no lock is left behind."""
    for _ in range(3):
        write_full_journal(resolve(), tmp_path)
    for wrong, said in (
        (own.replace("/own", "/nowhere"), 'database "nowhere" does not exist; look at that server, or correct'),
        (own.replace("tester@", "stranger@"), 'role "stranger" does not exist; look at that server, or correct'),
        (own.replace("127.0.0.1", "nowhere.invalid"), "nothing answers at"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", wrong)
        began = time.monotonic()
        for command in (["sync"], ["import", str(workdir / "none.csv")]):
            (workdir / "none.csv").write_text("run,num_layers,epochs,test_accuracy\nold,44,30,0.95\n")
            assert tracking(command) != 0
            err = capsys.readouterr().err
            assert said in err and err.count("\n") == 1
        assert time.monotonic() - began < 20
        with connection.opening(wrong):
            pass


def test_a_copy_of_the_artifacts_is_repointed(
    server: str, workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = made(server, "copied", "postgres")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own)
    store = resolve()
    run_id = replay(write_full_journal(store, tmp_path), store).run_id
    (workdir / "other").mkdir()
    (workdir / "mlruns").rename(workdir / "other" / "mlruns")
    monkeypatch.chdir(workdir / "other")
    assert not (workdir / "mlruns").exists()
    assert tracking(["relocate", "--yes"]) == 0
    where = statement(own, f"SELECT artifact_uri FROM runs WHERE run_uuid = '{run_id}'")[0][0]
    assert where.startswith((workdir / "other" / "mlruns" / "artifacts").as_uri())
    undo = next((workdir / "other" / "mlruns").glob("relocated-*.json"))
    assert tracking(["relocate", "--undo", str(undo), "--yes"]) == 0
    assert statement(own, f"SELECT artifact_uri FROM runs WHERE run_uuid = '{run_id}'")[0][0] != where
