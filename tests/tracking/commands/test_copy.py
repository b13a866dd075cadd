"""``python -m tracking copy``: all of a run arrives, once, wherever a copy is stopped; the source stays as it is."""

from __future__ import annotations

import hashlib
import http.server
import itertools
import json
import math
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput, Metric, Param, RunTag
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from tests.support import GOLDEN
from tests.support.runs import Filler, new_store
from tests.support.stores import Stopped, made_database
from tests.tracking.frame.test_versions import VERSIONS
from tracking.__main__ import main
from tracking.commands.targets.client import keep_pace
from tracking.frame import frame
from tracking.store import Store

Captured = pytest.CaptureFixture[str]
# What a run is in a database, but for where it is kept.
CONTENT = {
    "runs": "SELECT run_uuid, r.name, user_id, status, start_time, end_time, e.name FROM runs r"
    " JOIN experiments e USING (experiment_id) WHERE r.lifecycle_stage = 'active'",
    "params": "SELECT run_uuid, key, value FROM params",
    "tags": "SELECT run_uuid, key, value FROM tags JOIN runs USING (run_uuid)"
    " WHERE lifecycle_stage = 'active' AND key <> 'copied_from'",
    "metrics": "SELECT run_uuid, key, value, timestamp, step, is_nan FROM metrics",
    "latest_metrics": "SELECT run_uuid, key, value, timestamp, step, is_nan FROM latest_metrics",
    "data sets": "SELECT destination_id, d.name, digest, dataset_source_type, dataset_source, dataset_schema,"
    " dataset_profile, t.name, t.value FROM inputs JOIN datasets d ON source_id = dataset_uuid"
    " LEFT JOIN input_tags t USING (input_uuid)",
    "links": "SELECT source_type, source_id, destination_id, step FROM inputs WHERE source_type <> 'DATASET'",
    "models": "SELECT model_id, name, status, model_type, source_run_id FROM logged_models",
    "model params": "SELECT model_id, param_key, param_value FROM logged_model_params",
    "model tags": "SELECT model_id, tag_key, tag_value FROM logged_model_tags WHERE tag_key <> 'copied_from'",
    "model metrics": "SELECT model_id, metric_name, metric_timestamp_ms, metric_step, metric_value, run_id,"
    " dataset_name, dataset_digest FROM logged_model_metrics",
}


def content(path: Path, *, former_ids: bool = False) -> dict[str, list[tuple[Any, ...]]]:
    """What a store holds, by plain SQL; ``former_ids``: with the ids of what it is a copy of."""
    with closing(sqlite3.connect(path)) as raw:
        ids = dict(raw.execute("SELECT run_uuid, value FROM tags WHERE key = 'copied_from'"))
        ids |= dict(raw.execute("SELECT model_id, tag_value FROM logged_model_tags WHERE tag_key = 'copied_from'"))
        found = {name: raw.execute(sql).fetchall() for name, sql in CONTENT.items()}
    new = ids if former_ids else {}
    return {name: sorted((tuple(new.get(v, v) for v in row) for row in rows), key=repr) for name, rows in found.items()}


def files_of(folder: Path) -> list[tuple[str, str]]:
    """The files in a folder, without MLmodel, which names its model's id: path in the run, digest."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "MLmodel")
    return sorted(
        (path.as_posix().partition("/artifacts/")[2].partition("/artifacts/")[2], digest(path)) for path in found
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fill(filler: Filler, scratch: Path) -> None:
    """Runs with all that a run can have: nesting, histories, odd values, data, models made and taken, files, ends."""
    client = filler.client
    parent = client.create_run(filler.experiment("one"), start_time=5, run_name="parent", tags={"mlflow.user": "ada"})
    (scratch / "w.bin").write_bytes(b"w" * 99)
    (scratch / "MLmodel").write_text("flavors: {}\n")
    former = None
    for number, status in enumerate(["FINISHED", "FAILED", "RUNNING"]):
        tags = {"mlflow.user": "ada", "mlflow.parentRunId": parent.info.run_id}
        made = client.create_run(filler.experiment("two" if number else "one"), 9 + number, tags, f"run {number}")
        run_id = made.info.run_id
        dataset = Dataset("digits", "d1", "local", json.dumps({"uri": "/d"}), '{"s": 1}', '{"n": 5}')
        client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "test")])])
        model = client.create_logged_model(made.info.experiment_id, "model", run_id, {"t": "v"}, {"p": "1"}, "kind")
        client.log_model_artifacts(model.model_id, str(scratch))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 3)])
        former = former or model
        client.log_inputs(run_id, models=[LoggedModelInput(former.model_id)])
        points = [Metric("loss", 1 / (step + 1), 1000 + step, step) for step in range(20)]
        points += [Metric("odd", math.nan, 5, 0), Metric("up", math.inf, 5, 0), Metric("val/deep", 0.5, 5, -3)]
        links = {"model_id": model.model_id, "dataset_name": "digits", "dataset_digest": "d1", "run_id": run_id}
        points.append(Metric("test_accuracy", 0.9, 7, 3, **links))
        client.log_batch(run_id, points, [Param("lr", "0.1"), Param("empty", "")], [RunTag("note", "ünï\ncode")])
        client.log_artifact(run_id, str(scratch / "w.bin"), "deep/er")
        if status != "RUNNING":
            client.set_terminated(run_id, status, 900 + number)
    client.set_terminated(parent.info.run_id, "KILLED", 999)
    client.delete_run(client.create_run(filler.experiment("one")).info.run_id)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with such runs; tests only read it."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "scratch").mkdir()
    fill(new_store(folder), folder / "scratch")
    return folder


def empty(folder: Path) -> Path:
    (folder / "to").mkdir()
    shutil.copy(made_database(), folder / "to" / "mlflow.db")
    return folder / "to" / "mlflow.db"


def copy(source: Path | str, target: Path | str, *options: str) -> int:
    named = [f"sqlite:///{one}" if str(one).endswith(".db") else str(one) for one in (source, target)]
    return main(["copy", *named, *options])


def test_all_of_a_run_arrives_once_with_its_id(source: Path, workdir: Path, capsys: Captured) -> None:
    before = digest(source / "mlflow.db")
    assert copy(source / "mlflow.db", workdir / "to" / "mlflow.db", "--dry-run") == 0
    assert "would copy 4 runs: 6 parameters, 72 metric points" in capsys.readouterr().out
    assert list(workdir.iterdir()) == []
    target = empty(workdir)
    assert copy(source / "mlflow.db", target) == 0
    assert "copied 4 runs: 6 parameters, 72 metric points" in capsys.readouterr().out
    assert content(target) == content(source / "mlflow.db")
    assert files_of(target.parent / "artifacts") == files_of(source / "artifacts")
    after = digest(target)
    assert copy(source / "mlflow.db", target) == 0
    assert "nothing to copy" in (said := capsys.readouterr().out) and "4 runs there already" in said
    assert (digest(target), digest(source / "mlflow.db")) == (after, before)
    # A copy of the copy is the same runs: neither the first nor the second store gets any of them again.
    (workdir / "third").mkdir()
    shutil.copy(made_database(), third := workdir / "third" / "mlflow.db")
    for one, other in ((target, third), (source / "mlflow.db", third), (third, target)):
        assert copy(one, other) == 0
        assert content(other) == content(source / "mlflow.db")
    assert Store(f"sqlite:///{third}", None, workdir).find_run("parent").info.status == "KILLED"


def test_only_what_is_asked_for_is_copied(source: Path, workdir: Path, capsys: Captured) -> None:
    target = empty(workdir)
    assert copy(source / "mlflow.db", target, "--experiment", "two", "--filter", "attributes.status = 'FAILED'") == 0
    assert frame.load(f"sqlite:///{target}")["run_name"].tolist() == ["run 1"]
    assert copy(source / "mlflow.db", target, "--experiment", "none") == 2
    assert "no experiment 'none' in this store; there are: Default, one, two" in capsys.readouterr().err
    for wrong, why in (
        ([source / "mlflow.db", source / "mlflow.db"], "is SRC and DST"),
        ([workdir / "no.db", target], "no store at"),
        ([source / "mlflow.db", "s3://bucket/x"], "a place for artifacts"),
        ([source / "mlflow.db", target, "--rate", "0"], "give a number above 0"),
        ([source / "mlflow.db", "http://127.0.0.1:1"], "nothing answers"),
    ):
        assert copy(*wrong) in (1, 2)  # type: ignore[arg-type]
        assert why in capsys.readouterr().err


def test_a_run_that_went_on_is_brought_up_to_date(source: Path, workdir: Path) -> None:
    folder = workdir / "from"
    folder.mkdir()
    shutil.copy(source / "mlflow.db", folder)
    target = empty(workdir)
    assert copy(folder / "mlflow.db", target) == 0
    filler = Filler(f"sqlite:///{folder}/mlflow.db")
    [run_id] = frame.load(filler.uri, filter="attributes.status = 'RUNNING'")["run_id"]
    filler.client.log_metric(run_id, "loss", 0.01, timestamp=2000, step=20)
    filler.client.set_tag(run_id, "note", "new")
    filler.client.set_terminated(run_id, "FINISHED", 3000)
    assert copy(folder / "mlflow.db", target) == 0
    assert content(target) == content(folder / "mlflow.db")


@pytest.mark.parametrize("table", ["metrics", "logged_models"])
def test_a_stopped_copy_leaves_whole_runs_and_is_continued(source: Path, workdir: Path, table: str) -> None:
    target = empty(workdir)
    with closing(sqlite3.connect(target)) as raw:
        raw.execute(
            f"CREATE TRIGGER stop BEFORE INSERT ON {table} WHEN (SELECT count(*) FROM {table}) >= 2"
            " BEGIN SELECT RAISE(ABORT, 'stopped'); END"
        )
    assert copy(source / "mlflow.db", target) == 2
    there = content(target)
    ids = {row[0] for row in there["runs"]}
    for name, rows in content(source / "mlflow.db").items():
        of_runs = [row for row in rows if row[name == "links"] in ids]
        assert there[name] == of_runs or name in ("models", "model params", "model tags", "model metrics")
    with closing(sqlite3.connect(target)) as raw:
        raw.execute("DROP TRIGGER stop")
    assert copy(source / "mlflow.db", target) == 0
    assert content(target) == content(source / "mlflow.db")
    assert files_of(target.parent / "artifacts") == files_of(source / "artifacts")


def stopping(call: Any, late: bool) -> Any:
    """A function that stops its user at the second call, before or after it has taken effect."""
    calls = itertools.count()

    def stopped(*given: Any, **named: Any) -> Any:
        number = next(calls)
        made = None if number == 1 and not late else call(*given, **named)
        if number == 1:
            raise Stopped
        return made

    return stopped


@pytest.mark.parametrize("call", ["create_run", "log_outputs", "log_batch"])
def test_so_is_one_that_mlflow_itself_writes(
    source: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    target = empty(workdir)
    with closing(sqlite3.connect(target)) as raw:  # a column that is not MLflow's: its API is used, as for a server
        raw.execute("ALTER TABLE runs ADD COLUMN theirs INTEGER")
    for late in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, call, stopping(getattr(MlflowClient, call), late))
            with pytest.raises(Stopped):
                copy(source / "mlflow.db", target)
    assert copy(source / "mlflow.db", target) == 0
    after = digest(target)
    assert content(target, former_ids=True) == content(source / "mlflow.db")
    assert files_of(target.parent / "artifacts") == files_of(source / "artifacts")
    assert copy(source / "mlflow.db", target) == 0 and digest(target) == after
    [run_id] = frame.load(f"sqlite:///{source}/mlflow.db", filter="attributes.run_name = 'parent'")["run_id"]
    assert Store(f"sqlite:///{target}", None, workdir).find_run(run_id[:8]).info.run_name == "parent"


def test_stores_of_every_version_are_copied(workdir: Path) -> None:
    target = empty(workdir)
    for number, version in enumerate(VERSIONS[::3], 1):
        path = workdir / f"{version}.db"
        with closing(sqlite3.connect(path)) as raw:
            raw.executescript((GOLDEN / f"mlflow_store_{version}.sql").read_text())
        assert copy(path, target) == 0, version
        theirs, ours = frame.load(f"sqlite:///{path}"), frame.load(f"sqlite:///{target}")
        assert len(ours) == 2 * number
        mine = ours[ours["run_id"].isin(theirs["run_id"])]
        same = ["run_id", "run_name", "status", "start_time", "end_time", "metrics.test_accuracy", "params.num_layers"]
        assert mine[same].values.tolist() == theirs[same].values.tolist()
        for run_id in theirs["run_id"]:
            assert [one[:3] for one in frame.inputs(f"sqlite:///{target}", run_id)] == [
                one[:3] for one in frame.inputs(f"sqlite:///{path}", run_id)
            ]


@pytest.mark.filterwarnings("ignore:.*(file|maintenance).*:FutureWarning")
def test_a_file_store_gets_a_database_in_its_place(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workdir / "scratch").mkdir()
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        fill(Filler(str(workdir / "made")), workdir / "scratch")
    (workdir / "made").rename(workdir / "mlruns")  # and nothing says so in it
    before = {path: digest(path) for path in sorted((workdir / "mlruns").rglob("*")) if path.is_file()}
    assert copy("mlruns", workdir / "mlruns" / "mlflow.db") == 0
    assert {path: digest(path) for path in before} == before
    by_files, by_sql = frame.load(str(workdir / "mlruns")), frame.load(f"sqlite:///{workdir}/mlruns/mlflow.db")
    assert by_sql.drop(columns=["artifact_uri", "experiment_id", "tags.copied_from"]).equals(
        by_files.drop(columns=["artifact_uri", "experiment_id"])
    )
    found = content(workdir / "mlruns" / "mlflow.db")
    assert [len(found[name]) for name in ("metrics", "data sets", "links", "models", "model metrics")] == [
        72,
        3,
        6,
        3,
        3,
    ]
    assert len(files_of(workdir / "mlruns" / "artifacts")) == 6
    assert copy("mlruns", workdir / "mlruns" / "mlflow.db") == 0
    assert content(workdir / "mlruns" / "mlflow.db") == found


def test_files_stay_where_they_are_if_asked_and_links_are_not_followed(source: Path, workdir: Path) -> None:
    target = empty(workdir)
    assert copy(source / "mlflow.db", target, "--leave-artifacts") == 0
    runs = frame.load(f"sqlite:///{target}")
    assert not (workdir / "to" / "artifacts").exists()
    assert set(runs["artifact_uri"]) == set(frame.load(f"sqlite:///{source}/mlflow.db")["artifact_uri"])
    filler = Filler(f"sqlite:///{workdir}/theirs.db", workdir / "theirs")
    shutil.copy(made_database(), workdir / "theirs.db")
    place = workdir / "theirs" / "image-classification" / filler.run() / "artifacts"
    (workdir / "secret").write_text("mine")
    place.mkdir(parents=True)
    (place / "good.txt").write_text("theirs")
    (place / "bad.txt").symlink_to(workdir / "secret")
    assert copy(workdir / "theirs.db", target) == 0
    assert [path.name for path in (workdir / "to").rglob("*.txt")] == ["good.txt"]


@pytest.fixture
def asked() -> Iterator[tuple[str, list[float]]]:
    """A server that notes when it was asked."""
    times: list[float] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            times.append(time.monotonic())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", times
        server.shutdown()


def test_a_server_is_asked_no_faster_than_the_rate(asked: tuple[str, list[float]]) -> None:
    address, times = asked
    keep_pace(25)
    threads = [
        threading.Thread(target=lambda: http_request(get_default_host_creds(address), "/x", "GET")) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keep_pace(0)
    assert len(times) == 6 and max(times) - min(times) >= 5 / 25 * 0.7  # the first may be sent late
