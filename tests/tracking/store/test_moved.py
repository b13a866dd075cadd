"""Stores that were copied or renamed: said, nothing written to the old place, re-pointed and back."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from reports.__main__ import main as reports
from reports.errors import ReportError
from reports.runs.mistakes import mistakes
from tests.support.stores import make_store, write_full_journal
from tests.tracking.store.test_logged_models import model_folder
from tracking import store as stores
from tracking.__main__ import main as tracking
from tracking.errors import StoreError
from tracking.journal import Journal
from tracking.store import Store, moved
from tracking.store.replay import replay

Captured = pytest.CaptureFixture[str]


def trained(folder: Path, tmp_path: Path, name: str) -> str:
    """A run with a model and a score in the store of a folder; its id."""
    store = stores.resolve(folder)
    journal = Journal.create(store.journals, experiment="image-classification", run_name=name, start_time_ms=1000)
    folder = model_folder(tmp_path / "model")
    step = json.loads((folder / "model.json").read_text())["epoch"]
    journal.metrics({"validation_accuracy": 0.5}, step=step)
    journal.artifact(folder)
    (tmp_path / "config.toml").write_text("epochs = 1")
    journal.artifact(tmp_path / "config.toml")
    journal.status("FINISHED")
    journal.close()
    return replay(journal.dir, store).run_id


@pytest.fixture(name="old")
def old_fixture(workdir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A store with two runs in ``old``, copied to ``new``, where we are; the ids."""
    old = workdir / "old place"
    old.mkdir()
    make_store(old)
    ids = [trained(old, tmp_path_factory.mktemp(name), name) for name in ("one", "two")]
    shutil.copytree(old, workdir / "new")
    return old, *ids  # type: ignore[return-value]


def locations(store: Store) -> list[str]:
    assert store.database is not None
    with closing(sqlite3.connect(store.database)) as connection:
        return [
            str(row[0])
            for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri"))
            for row in connection.execute(f"SELECT {column} FROM {table} ORDER BY 1")
        ] + [str(row[0]) for row in connection.execute("SELECT artifact_location FROM logged_models ORDER BY 1")]


def test_a_copied_store_is_said_and_repointed(
    workdir: Path,
    tmp_path: Path,
    old: tuple[Path, str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    place, first, second = old
    before = sorted(place.rglob("*"))
    monkeypatch.chdir(workdir / "new")
    store = stores.resolve()
    said = f"this store was moved or copied: its artifacts are recorded in {place}/mlruns"
    pages = (["leaderboard"], ["compare", first, second], ["run", first])
    for is_gone in (False, True):
        if is_gone:
            place.rename(workdir / "gone")
        assert tracking(["promote", first, "--name", "m"]) == 2
        assert f"cannot be promoted: {said}" in capsys.readouterr().err
        with pytest.raises(StoreError, match=said):
            store.check("image-classification")
        with pytest.raises(StoreError, match=said):
            trained(workdir / "new", tmp_path, "three")
        assert store.check("another") is None and store.check() is None
        for page in pages:
            assert reports(page) == 0
            out = capsys.readouterr().out
            assert out.lower().count("artifacts are missing: this store was moved") == is_gone, page
            assert ("`python -m tracking relocate`" in out) == is_gone
    with pytest.raises(ReportError, match=f"the predictions of run one .* are missing: {said}"):
        mistakes([first], store)
    assert not place.exists() and len(list((workdir / "gone").rglob("*"))) == len(before)

    former = locations(store)
    assert tracking(["relocate"]) == 0
    out = capsys.readouterr().out
    assert f"{place}/mlruns  ->  {workdir}/new/mlruns  " in out and "would be changed; --yes" in out
    assert locations(store) == former
    assert tracking(["relocate", "--yes"]) == 0
    out = capsys.readouterr().out
    assert not [one for one in locations(store) if "old%20place" in one]
    store.check("image-classification")
    assert tracking(["promote", first, "--name", "m"]) == 0
    capsys.readouterr()
    assert tracking(["relocate"]) == 0 and "nothing to re-point" in capsys.readouterr().out

    undo = next((workdir / "new" / "mlruns").glob("relocated-*.json"))
    assert str(undo) in out and json.loads(undo.read_text())["changes"]
    assert tracking(["relocate", "--undo", str(undo), "--yes"]) == 0
    assert locations(store) == former


def test_what_is_not_below_the_store_stays_until_it_is_named(workdir: Path, tmp_path: Path, capsys: Captured) -> None:
    store = make_store(workdir)
    run_id = replay(write_full_journal(store, tmp_path), store).run_id
    for place in ("s3://bucket/runs/1", f"{workdir}/elsewhere/1/{run_id}/artifacts", "mlflow-artifacts:/1"):
        assert store.database is not None
        with closing(sqlite3.connect(store.database)) as connection:
            connection.execute("UPDATE runs SET artifact_uri = ?", (place,))
            connection.commit()
        is_lost = place.startswith("/")
        assert tracking(["relocate", "--yes"]) == is_lost
        assert ("1 location of no folder that is there" in capsys.readouterr().out) == is_lost
        assert locations(store)[-1] == place
    with closing(sqlite3.connect(store.database)) as connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", (f"{workdir}/elsewhere/1/r/artifacts",))
        connection.commit()
    (workdir / "there" / "1" / "r" / "artifacts").mkdir(parents=True)
    assert tracking(["relocate", "--from", "elsewhere", "--to", "there", "--yes"]) == 0
    assert locations(store)[-1] == f"{workdir}/there/1/r/artifacts"


def test_shapes_of_locations(workdir: Path) -> None:
    """MLflow's own layouts, from Windows, from a container; what is not absolute or not ours is not moved."""
    uri = f"sqlite:///{workdir}/mlflow.db"
    there = workdir / "mlruns" / "1" / "r1" / "artifacts"
    there.mkdir(parents=True)
    for location in (
        "/opt/project/mlruns/1/r1/artifacts",
        "file:///opt/project/mlruns/1/r1/artifacts",
        "file:///C:/Users/ada/mlruns/1/r1/artifacts",
        "C:\\Users\\ada\\mlruns\\1\\r1\\artifacts",
        "/mlruns/1/r1/artifacts",
    ):
        move = moved.move_of(uri, location)
        assert move is not None and move.new == workdir / "mlruns"
        assert move.of(location) == (there.as_uri() if location.startswith("file:") else str(there))
    for location in (
        str(there),
        there.as_uri(),
        "mlruns/1/r1/artifacts",
        "./mlruns/1/r1/artifacts",
        "s3://mlruns/1/r1/artifacts",
        "/opt/mlruns/2/r2/artifacts",
        "models:/m-1",
        "",
        None,
    ):
        assert moved.move_of(uri, location) is None
    assert moved.move_of("http://server:5000", "/opt/project/mlruns/1/r1/artifacts") is None
