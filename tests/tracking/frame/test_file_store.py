"""MLflow's old file store is read from its files alone: as MLflow itself reads it, and nothing is written."""

from __future__ import annotations

import hashlib
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest

from reports.__main__ import main as reports
from tests.support.runs import Filler, trained
from tests.tracking.frame.test_both_ways import FILTERS, ORDERS
from tracking.errors import StoreError
from tracking.frame import api, files, frame
from tracking.frame.query import Query
from tracking.store import resolve

pytestmark = pytest.mark.filterwarnings("ignore:.*(file|maintenance).*:FutureWarning")


def contents(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "folder"
        for p in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Filler, Path]:
    """A store that MLflow wrote, and a copy for reading, which MLflow never opened."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        filler = Filler(str(folder / "made"), folder / "artifacts")
        for seed in range(2):
            filler.run(**trained(44, seed=seed, test=0.95 + seed / 100), inputs={"train": "t1", "test": "d1"})
        filler.run(**trained(34, "imagenet", 50, test=None), inputs={"test": "other"})
        odd = {"odd": math.nan, "up": math.inf, "system/cpu": 1.0, "val/deep/loss": 0.5}
        filler.run("odd one", params={"odd key": "a|b", "note": "ünï\ncode", "a/b": ""}, metrics=odd, status="FAILED")
        filler.run("odd two", experiment="second", metrics={"odd": 0.5}, status="KILLED")
        filler.run("going", experiment="second", metrics={"odd": 0.0}, status="RUNNING")
        filler.client.delete_run(filler.run("deleted"))
        gone = filler.client.get_run(filler.run("gone", experiment="gone")).info
        filler.client.delete_experiment(gone.experiment_id)
        filler.client.create_logged_model(filler.experiment("second"), name="model", source_run_id=gone.run_id)
        last = frame.load(filler.uri).iloc[-1]
        filler.client.create_logged_model(last["experiment_id"], name="model", source_run_id=last["run_id"])
    shutil.copytree(folder / "made", folder / "read")
    return filler, folder / "read"


def same(stores: tuple[Filler, Path], monkeypatch: pytest.MonkeyPatch, **asked: object) -> pd.DataFrame:
    filler, folder = stores
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    # Every command refuses a file store before MLflow is asked; here MLflow says what is right.
    monkeypatch.setattr("tracking.store.connection.check_reachable", lambda uri: None)
    query = Query(**asked)  # type: ignore[arg-type]
    by_files = frame.shaped(files.read(str(folder), query), query)
    by_api = frame.shaped(api.read(filler.uri, query), query)
    pd.testing.assert_frame_equal(by_files, by_api, check_exact=True)
    assert by_files.attrs == by_api.attrs
    return by_files


def test_it_is_what_mlflow_says_whatever_is_asked(stores: tuple[Filler, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(stores[1])
    for text in FILTERS:
        same(stores, monkeypatch, filter=text)
    for order_by in ORDERS:
        for descending in (True, False):
            same(stores, monkeypatch, order_by=order_by, descending=descending)
    same(stores, monkeypatch, limit=2)
    same(stores, monkeypatch, experiments=("second",), columns=("metrics.odd", "params.*"))
    filler, folder = stores
    ids = frame.load(str(folder))["run_id"].tolist()
    for key in ("train_accuracy", "odd", "none"):
        points = files.histories(str(folder), ids, [key])
        assert str(sorted(points)) == str(sorted(api.histories(filler.uri, ids, [key])))
    for run_id in ids:
        assert sorted(files.inputs(str(folder), run_id)) == sorted(api.inputs(filler.uri, run_id))
        assert files.models(str(folder), run_id) == api.models(filler.uri, run_id)
    assert contents(folder) == before


def test_reports_read_it_where_the_default_store_would_be(
    stores: tuple[Filler, Path], workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(stores[1], workdir / "mlruns")
    before = contents(workdir)
    assert reports(["leaderboard"]) == 0
    said = capsys.readouterr().out
    assert "95.5 %" in said and f"read from the files that an older MLflow left in {workdir}/mlruns" in said
    run_id = frame.load("mlruns")["run_id"][0]
    assert reports(["run", run_id[:8]]) == 0 and reports(["compare", *frame.load("mlruns")["run_id"][:2]]) == 0
    assert contents(workdir) == before
    with pytest.raises(StoreError, match="holds runs in MLflow's old file layout and no store yet.*tracking copy"):
        resolve().check()


OLD = """artifact_uri: /home/ada/mlruns/1/{id}/artifacts
end_time: 1541000060000
entry_point_name: ''
experiment_id: {experiment}
name: ''
run_uuid: {id}
source_type: 4
start_time: 1541000000000
status: 3
tags: []
user_id: ada
"""


def old(root: Path, run_id: str, experiment: int = 1) -> Path:
    """A run as MLflow 0.8 left it: no lifecycle, no name but in a tag, no steps, another person's absolute path."""
    folder = root / "1" / run_id
    for name in ("params", "metrics/val", "tags", "artifacts"):
        (folder / name).mkdir(parents=True)
    (root / "1" / "meta.yaml").write_text("artifact_location: /home/ada/mlruns/1\nexperiment_id: 1\nname: flowers\n")
    (folder / "meta.yaml").write_text(OLD.format(id=run_id, experiment=experiment))
    (folder / "params" / "num_layers").write_text("44")
    (folder / "tags" / "mlflow.runName").write_text("first")
    (folder / "metrics" / "val" / "acc").write_text("1541000001 0.5\n1541000002 0.75\n")
    return folder


def test_what_is_damaged_is_left_out_and_said(tmp_path: Path) -> None:
    good = old(tmp_path, "a" * 32)
    (good / "metrics" / "torn").write_text("1541000001 0.5 1\n15410")
    (good / "metrics" / "odd").write_text("1541000001 tensor(0.5) 1\n")
    (good / "params" / ".DS_Store").write_bytes(b"\0\1")
    (good / "artifacts" / "model.txt").write_text("w")
    (good / "params" / "latin").write_bytes(b"caf\xe9")
    (old(tmp_path, "b" * 32) / "meta.yaml").write_text("experiment_id: [1\n")
    (old(tmp_path, "c" * 32) / "meta.yaml").unlink()
    old(tmp_path, "d" * 32, experiment=7)
    shutil.copytree(tmp_path / "1", tmp_path / "1 copy")
    (tmp_path / "models" / "m").mkdir(parents=True)
    (tmp_path / "models" / "m" / "meta.yaml").write_text("name: m\n")
    (tmp_path / "journals").mkdir()
    runs = frame.load(tmp_path.as_uri())
    [run] = runs.to_dict("records")
    assert (run["run_name"], run["status"], run["experiment"], run["experiment_id"]) == (
        *("first", "FINISHED", "flowers", "1"),
    )
    assert (run["params.num_layers"], run["metrics.val/acc"], run["metrics.torn"]) == (44, 0.75, 0.5)
    assert run["params.latin"] == "caf�" and not [c for c in runs.columns if "DS_Store" in c or c == "metrics.odd"]
    assert run["artifact_uri"] == (good / "artifacts").as_uri()
    note = runs.attrs["note"]
    assert "left out: " in note and "and 3 more" in note and "1 copy: its meta.yaml is of experiment 1" in note
    with pytest.raises(StoreError, match="nowhere' is a folder that does not exist"):
        frame.load(str(tmp_path / "nowhere"))
    with pytest.raises(StoreError, match="filter .* is not understood: of a file store it compares"):
        frame.load(str(tmp_path), filter="params.a = 5")


def test_a_description_that_repeats_itself_is_not_spelled_out(tmp_path: Path) -> None:
    """Nine lists, each of nine of the former: half a kilobyte that as text has gigabytes."""
    steps = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    for where, name in (("a", "run_name"), ("b", "status")):
        meta = old(tmp_path, where * 32) / "meta.yaml"
        meta.write_text(f"a: &a [x]\n{steps}{meta.read_text()}{name}: *i\n")
    old(tmp_path, "c" * 32)
    runs = frame.load(tmp_path.as_uri())
    assert list(runs["run_id"]) == ["c" * 32] and "left out: " in runs.attrs["note"]
