"""Other people's databases and files: what has MLflow's columns is read as it is, all else refused, nothing changed."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from reports.__main__ import main as reports
from tests.support import GOLDEN
from tests.support.stores import half_made, made_database
from tracking import run as tracked
from tracking.__main__ import main as tracking
from tracking.errors import RunNotFound, StoreError
from tracking.frame import frame
from tracking.store import resolve, schema

# Dumps of stores that these versions of MLflow made: two runs, a registered model, from 2.9 on a dataset.
VERSIONS = ["1.30.1", "2.9.2", "2.22.0"]
Captured = pytest.CaptureFixture[str]


def from_text(path: Path, text: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(text)
    return path


def older(path: Path, version: str, *more: str) -> Path:
    """A store of an older MLflow, changed by more statements."""
    return from_text(path, (GOLDEN / f"mlflow_store_{version}.sql").read_text() + ";".join(more))


def blank(path: Path, version: str, *more: str) -> Path:
    """A store of an older MLflow in which nothing was tracked."""
    full = ("runs", "latest_metrics", "metrics", "params", "tags", "registered_models")
    wipe = [f"DELETE FROM {table}" for table in full]
    return older(path, version, *wipe, "DELETE FROM experiments WHERE experiment_id <> 0", *more)


def contents(folder: Path) -> dict[str, str]:
    """Every file and folder below, a file by its hash."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "folder"
        for p in sorted(folder.rglob("*"))
    }


def use(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = f"sqlite:///{path}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


READS = [["leaderboard"], ["run", "RUN"], ["compare", "RUN", "RUNS"], ["run", "RUN", "--format", "json"]]
WRITES = [["sync"], ["promote", "RUN", "--name", "m"], ["promote", "--best", "--name", "m"], ["demote", "--name", "m"]]
WRITES += [["ui", "--port", "0"], ["import", "notes.csv"]]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_store_is_read_as_it_is(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, version: str
) -> None:
    uri = use(older(workdir / "theirs.db", version), monkeypatch)
    before = contents(workdir)
    runs = frame.load(uri)
    assert (runs.attrs["read_by"], runs.attrs["note"]) == ("sql", "")
    assert sorted(runs["run_name"]) == ["depth-34", "depth-44"]
    assert sorted(runs["metrics.test_accuracy"]) == [0.91, 0.93] and runs["metrics.odd"].isna().all()
    assert sorted(runs["params.num_layers"]) == [34, 44] and set(runs["experiment"]) == {"flowers"}
    ids = runs["run_id"].tolist()
    assert len(frame.histories(uri, ids, ["train_accuracy"])) == 4
    assert frame.models(uri, ids[0]) == []
    has_inputs = version != "1.30.1"
    assert [one.digest for one in frame.inputs(uri, ids[0])] == (["d1"] if has_inputs else [])
    assert len(frame.load(uri, filter="datasets.digest = 'd1'")) == (2 if has_inputs else 0)
    assert len(frame.load(uri, filter="status = 'FINISHED' and attributes.user_id = 'tester'")) == 2
    assert reports(["leaderboard"]) == 0
    assert "93.0 %" in capsys.readouterr().out
    assert reports(["run", ids[0][:8]]) == 0
    assert reports(["compare", *ids]) == 0
    assert contents(workdir) == before


@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_store_is_not_written_to(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, version: str
) -> None:
    path = older(workdir / "theirs.db", version)
    uri = use(path, monkeypatch)
    run_id = frame.load(uri)["run_id"][0]
    (workdir / "notes.csv").write_text("run,num_layers,epochs,test_accuracy\nold,44,30,0.95\n")
    before = contents(workdir)
    for words in WRITES:
        assert tracking([run_id if word == "RUN" else word for word in words]) == 2, words
        said = capsys.readouterr().err
        assert f"copy it, then `mlflow db upgrade sqlite:///{path}`" in said and "repair" not in said, words
    assert reports(["leaderboard", "--log"]) == 2
    assert "an older MLflow made it" in capsys.readouterr().err
    with pytest.raises(StoreError, match="an older MLflow made it; `python -m reports` reads it as it is"):
        tracked.start()
    with pytest.raises(StoreError, match="would change .*theirs.db by opening it; a filter is read without MLflow"):
        frame.load(uri, filter="params.a = 5")
    assert tracking(["repair"]) == 0
    assert "left as it is: the store" in capsys.readouterr().err
    after = contents(workdir)
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if name.startswith("theirs.db") and name != "theirs.db"]


def test_a_database_that_another_program_shares_is_read_and_not_upgraded(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """Optuna and others keep their version in a table of the same name as MLflow's."""
    studies = ("CREATE TABLE studies (study_id INTEGER)", "UPDATE alembic_version SET version_num = 'v2.4.0.a'")
    uri = use(older(workdir / "shared.db", "2.9.2", *studies), monkeypatch)
    before = contents(workdir)
    assert len(frame.load(uri)) == 2
    assert tracking(["sync"]) == 2
    said = capsys.readouterr().err
    assert "has schema v2.4.0.a" in said and "or another program that shares the database" in said
    assert "give MLflow a database of its own" in said
    assert contents(workdir) == before


def theirs(path: Path) -> None:
    """Another program's database, with an alembic of its own."""
    text = "CREATE TABLE bookmarks (id INTEGER, url TEXT); INSERT INTO bookmarks VALUES (1, 'https://example.org');"
    from_text(path, text + "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('a1')")


def theirs_like_ours(path: Path) -> None:
    """Another program's, empty, whose tables have names that MLflow's have too."""
    from_text(path, "CREATE TABLE experiments (id INTEGER); CREATE TABLE runs (id INTEGER); CREATE TABLE tags (t TEXT)")


def theirs_in_wal(path: Path) -> None:
    from_text(path, "PRAGMA journal_mode = wal; CREATE TABLE cookies (id INTEGER)")


def a_text(path: Path) -> None:
    path.write_text("no database at all")


def a_longer_text(path: Path) -> None:
    path.write_text("no database at all, " * 100)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_half_made_store(path: Path) -> None:
    half_made(path)


def a_registry(path: Path) -> None:
    """An older store of registered models, without a run."""
    blank(path, "1.30.1", "INSERT INTO registered_models (name) VALUES ('m')", "DELETE FROM latest_metrics")


FOREIGN: dict[Callable[[Path], None], str] = {
    theirs: "not an MLflow store but another program's database (tables alembic_version, bookmarks)",
    theirs_like_ours: "cannot be used as an MLflow store: it lacks params, latest_metrics, metrics",
    theirs_in_wal: "not an MLflow store but another program's database (tables cookies)",
    a_text: "is not an sqlite database but another kind of file",
    a_longer_text: "is not an sqlite database but another kind of file",
    a_folder: "is a folder; point",
}


@pytest.mark.parametrize("make", FOREIGN)
def test_what_is_no_store_is_refused_in_a_sentence_and_stays(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, make: Callable[[Path], None]
) -> None:
    make(workdir / "theirs.db")
    uri = use(workdir / "theirs.db", monkeypatch)
    (workdir / "notes.csv").write_text("run,num_layers,epochs,test_accuracy\nold,44,30,0.95\n")
    before = contents(workdir)
    for words in [*READS, *WRITES[:-1], ["repair"]]:
        command = reports if words in READS else tracking
        code = command([{"RUN": "abcd1234", "RUNS": "dcba4321"}.get(word, word) for word in words])
        said = capsys.readouterr().err
        assert FOREIGN[make] in said and said.count("\n") == 1, (words, said)
        assert code == (0 if words == ["repair"] else 2) and "python -m tracking repair" not in said
    for ask in (frame.models, frame.inputs):
        with pytest.raises(StoreError):
            ask(uri, "abcd1234")
    with pytest.raises(StoreError):
        frame.histories(uri, ["abcd1234"], ["m"])
    with pytest.raises(StoreError):
        tracked.start()
    assert contents(workdir) == before


@pytest.mark.parametrize("is_empty", [False, True])
def test_a_reader_makes_no_store_where_there_is_none(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, is_empty: bool
) -> None:
    for uri in (f"sqlite:///{workdir}/none.db", f"sqlite+pysqlite:///{workdir}/none.db", "sqlite:///none.db?timeout=5"):
        if is_empty:
            (workdir / "none.db").touch()
        before = contents(workdir)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        for words in READS:
            assert reports([{"RUN": "abcd1234", "RUNS": "dcba4321"}.get(word, word) for word in words]) == 2
            assert f"no store at {workdir}/none.db: nothing has been tracked" in capsys.readouterr().err
        with pytest.raises(RunNotFound, match="no run 'abcd1234'"):
            resolve().find_run("abcd1234")
        assert list(resolve().runs()) == []
        with pytest.raises(StoreError, match="no store at"):
            resolve().experiment_id("exp", create=False)
        assert contents(workdir) == before


@pytest.mark.parametrize("allowed", ["false", "true"])
def test_a_file_store_is_read_and_not_opened_by_mlflow(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, allowed: str
) -> None:
    """MLflow makes ``.trash`` in one as soon as it opens it."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", allowed)
    (workdir / "old" / "0").mkdir(parents=True)
    (workdir / "old" / "0" / "meta.yaml").write_text("experiment_id: '0'\nname: Default\nlifecycle_stage: active\n")
    before = contents(workdir)
    moved = "MLflow writes no file stores since 3.13, only databases: `python -m tracking copy "
    for uri in (str(workdir / "old"), (workdir / "old").as_uri(), "old"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert reports(["leaderboard"]) == 2
        assert f"no runs in {uri}; train one" in capsys.readouterr().err
        assert tracking(["sync"]) == 2
        assert f"is a file store. {moved}" in capsys.readouterr().err
    assert contents(workdir) == before


def test_a_store_that_mlflow_would_change_by_opening_it_is_not_given_to_it(workdir: Path) -> None:
    """MLflow puts its first experiment back when it opens a store that has lost it."""
    path = workdir / "mlflow.db"
    shutil.copy(made_database(), path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM experiments")
        connection.commit()
    before = contents(workdir)
    with pytest.raises(StoreError, match="it would change .*mlflow.db by opening it; a filter is read without"):
        frame.load(f"sqlite:///{path}", filter="params.a = 5")
    assert contents(workdir) == before


@pytest.mark.parametrize("left", ["-journal", "-wal"])
def test_what_a_store_left_behind_does_not_go_into_a_new_one(workdir: Path, left: str) -> None:
    """sqlite would take a journal without its database for the new one's, and write old pages into it."""
    (workdir / "mlruns").mkdir()
    (workdir / "mlruns" / f"mlflow.db{left}").write_bytes(b"old pages")
    for act in (resolve().check, resolve().client, tracked.start):
        with pytest.raises(StoreError, match=f"mlflow.db{left} is there without its database"):
            act()
    assert [p.name for p in (workdir / "mlruns").iterdir()] == [f"mlflow.db{left}"]


def test_reading_a_store_in_wal_mode_leaves_nothing_beside_it(workdir: Path) -> None:
    """``mlflow migrate-filestore`` makes such stores."""
    path = older(workdir / "theirs.db", "2.22.0")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode = wal").fetchone() == ("wal",)
    before = contents(workdir)
    assert len(frame.load(f"sqlite:///{path}")) == 2
    assert contents(workdir) == before


@pytest.mark.parametrize("make", [theirs, theirs_like_ours, a_registry, a_text])
def test_repair_leaves_what_it_did_not_half_make(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, make: Callable[[Path], None]
) -> None:
    make(workdir / "theirs.db")
    use(workdir / "theirs.db", monkeypatch)
    monkeypatch.setattr("tracking.commands.repair.SETTLED_S", 0.0)
    before = contents(workdir)
    assert tracking(["repair"]) == 0
    said = capsys.readouterr()
    assert said.out == "nothing to repair\n" and said.err.startswith("tracking: left as it is: ")
    assert "python -m tracking repair" not in said.err
    assert contents(workdir) == before


def test_repair_leaves_an_empty_store_that_mlflow_can_upgrade(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    blank(workdir / "theirs.db", "1.30.1")
    use(workdir / "theirs.db", monkeypatch)
    monkeypatch.setattr("tracking.commands.repair.SETTLED_S", 0.0)
    before = contents(workdir)
    assert tracking(["repair"]) == 0
    assert "left as it is: the store" in capsys.readouterr().err
    assert contents(workdir) == before


def test_repair_puts_aside_what_mlflow_was_stopped_in_the_middle_of(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """A table of a later step is there already, so that step cannot be done again."""
    path = blank(workdir / "theirs.db", "1.30.1", "CREATE TABLE datasets (dataset_uuid TEXT)")
    use(path, monkeypatch)
    assert schema.state(schema.look(f"sqlite:///{path}")) == "older"
    monkeypatch.setattr("tracking.commands.repair.SETTLED_S", 0.0)
    assert tracking(["repair"]) == 0
    assert f"half-made store put aside: {path}.broken-1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "row",
    [
        "INSERT INTO registered_models (name) VALUES ('m')",
        "INSERT INTO experiments (experiment_id, name) VALUES (1, 'flowers')",
        "INSERT INTO _alembic_tmp_metrics VALUES ('loss', 0.5)",
        "CREATE TABLE bookmarks (id INTEGER)",
    ],
)
def test_one_row_or_table_more_is_no_half_made_store(workdir: Path, row: str) -> None:
    path = workdir / "mlruns" / "mlflow.db"
    half_made(path)
    assert schema.state(schema.look(f"sqlite:///{path}")) == "half-made"
    from_text(path, "CREATE TABLE registered_models (name TEXT);" + row)
    assert schema.state(schema.look(f"sqlite:///{path}")) != "half-made"
