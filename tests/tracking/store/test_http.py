"""A real tracking server on this machine: our ``ui`` serves it, our replayer writes to it."""

from __future__ import annotations

import contextlib
import http.server
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils import rest_utils

import reports
from tests.faults.moods import relay, say
from tests.support import ROOT
from tests.support.runs import Filler
from tests.support.stores import Stopped, StoppingStore, made_database, write_full_journal
from tests.tracking.store.test_logged_models import model_folder
from tracking import run as tracked
from tracking.__main__ import main
from tracking.errors import StoreError, StoreUnreachable
from tracking.frame import api, frame
from tracking.journal import Journal
from tracking.store import Store, artifacts, connection, logged_models, resolve
from tracking.store.replay import Replayer, replay

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The default store of a directory with ``python -m tracking ui`` on it, whose address is in the file ``url``."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "mlruns").mkdir()
    shutil.copy(made_database(), folder / "mlruns" / "mlflow.db")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tracking", "ui", "--port", str(port)]
        + ["--", "--serve-artifacts", "--artifacts-destination", str(folder / "proxied")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = ""
        while "ready: " not in said:
            assert select.select([process.stdout], [], [], 120)[0], said
            line = process.stdout.readline()
            assert line, said
            said += line
        assert re.search(rf"coming up at http://127.0.0.1:{port} \(Ctrl-C ends them\)", said)
        (folder / "url").write_text(f"http://127.0.0.1:{port}")
        yield resolve(folder)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        process.stdout.close()


@pytest.fixture
def remote(served: Store, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The server as a store, from another directory; its experiment ``far`` keeps artifacts behind the server."""
    url = (served.journals.parent.parent / "url").read_text()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    store = resolve()
    client = store.client()
    if client.get_experiment_by_name("far") is None:
        client.create_experiment("far", artifact_location="mlflow-artifacts:/far")
    return store


def test_the_pages_show_runs_and_artifacts_of_the_store(served: Store, tmp_path: Path) -> None:
    run_id = replay(write_full_journal(served, tmp_path), served).run_id
    url = (served.journals.parent.parent / "url").read_text()
    with urllib.request.urlopen(f"{url}/", timeout=30) as page:
        assert b"<title>MLflow</title>" in page.read()
    with urllib.request.urlopen(f"{url}/get-artifact?path=model/weights.bin&run_uuid={run_id}", timeout=30) as answer:
        assert answer.read() == b"w" * 1000


def test_no_command_line_names_the_store(served: Store) -> None:
    """Every user of the machine sees them; the URI of a database holds its password."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    assert any("mlflow" in line and "server" in line for line in lines)
    assert not [line for line in lines if served.tracking_uri in line]


def test_a_run_goes_to_a_server_as_it_goes_to_a_file(remote: Store, tmp_path: Path) -> None:
    with tracked.start(experiment="far", run_name="remote", live=remote, system_metrics=False) as run:
        run.log_params({"num_layers": 44, "long": "x" * 7_000})
        run.log_metrics({"loss": 0.5, "nan": float("nan")}, step=1)
        run.log_dataset("train", name="digits", digest="abc", source="/d", num_images=5, num_classes=2)
        (tmp_path / "model" / "deep").mkdir(parents=True)
        (tmp_path / "model" / "deep" / "weights").write_text("w")
        run.log_artifact(tmp_path / "model")
        run.log_text("hello", "texts/notes.txt")
    assert run.mlflow_run_id is not None
    found = remote.find_run(run.mlflow_run_id)
    assert (found.info.status, found.data.params["num_layers"], found.data.metrics["loss"]) == ("FINISHED", "44", 0.5)
    assert found.info.artifact_uri.startswith("mlflow-artifacts:")
    assert [i.dataset.digest for i in found.inputs.dataset_inputs] == ["abc"]
    client = remote.client()
    for path in ("model/deep/weights", "texts/notes.txt", "params/long.txt"):
        assert Path(client.download_artifacts(run.mlflow_run_id, path, str(tmp_path))).stat().st_size > 0
    assert remote.journal_dir(run.mlflow_run_id[:8]) == run.dir
    where = found.info.artifact_uri
    fetched = artifacts.fetch(remote.tracking_uri, where, "texts/notes.txt", tmp_path / "fetched")
    assert fetched is not None and fetched.read_text() == "hello"
    assert artifacts.fetch(remote.tracking_uri, where, "texts/other.txt", tmp_path) is None
    assert artifacts.fetch(remote.tracking_uri, where, "nowhere/notes.txt", tmp_path) is None
    assert [one.digest for one in frame.inputs(remote, run.mlflow_run_id)] == ["abc"]


def test_a_model_goes_to_a_server_with_its_scores(remote: Store, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", epoch=1)
    with tracked.start(experiment="far", run_name="remote", live=remote, system_metrics=False) as run:
        run.log_metrics({"validation_accuracy": 0.5}, step=1)
        run.log_artifact(folder)
        run.log_metrics({"test_accuracy": 0.25}, step=1)
    assert run.mlflow_run_id is not None
    client = remote.client()
    (output,) = remote.find_run(run.mlflow_run_id).outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert {m.key: m.value for m in model.metrics} == {"validation_accuracy": 0.5, "test_accuracy": 0.25}
    assert str(model.status) == "READY" and model.artifact_location.startswith("mlflow-artifacts:")
    found = Path(client.download_artifacts(run.mlflow_run_id, "model", str(tmp_path)))
    assert (found / "code" / "loader" / "__init__.py").is_file()
    assert output.model_id in (found / "MLmodel").read_text()
    ((_, location),) = frame.models(remote, run.mlflow_run_id)
    fetched = artifacts.fetch(remote.tracking_uri, location, "MLmodel", tmp_path / "fetched")
    assert fetched is not None and output.model_id in fetched.read_text()
    assert artifacts.fetch(remote.tracking_uri, location, "none.json", tmp_path) is None
    whole = logged_models.fetch(client, remote.find_run(run.mlflow_run_id), "model", tmp_path / "whole")
    assert whole is not None and output.model_id in (whole / "MLmodel").read_text()


def test_a_server_is_read_in_few_calls_and_to_the_same_frame(
    served: Store, remote: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    filler = Filler(served.tracking_uri)
    odd = {"nan": float("nan"), "up": float("inf"), "system/cpu": 1.0, "test_accuracy": 0.9}
    for seed in range(7):
        curves = {"val/loss": [0.5, 0.25, float("nan")]}
        filler.run(f"ünï {seed}", experiment="theirs", params={"lr": seed}, metrics=odd, curves=curves, tags={"t": "x"})
        filler.client.log_param(frame.load(filler.uri, "theirs").iloc[-1]["run_id"], "system/empty", "")
    filler.run("with data", experiment="theirs", inputs={"test": "d1", "train": "d0"}, status="RUNNING")
    calls: list[str] = []
    send = rest_utils.http_request

    def counted(host_creds: object, endpoint: str, method: str, **named: object) -> object:
        calls.append(endpoint.rpartition("/mlflow/")[2])
        return send(host_creds, endpoint, method, **named)

    monkeypatch.setattr(rest_utils, "http_request", counted)
    monkeypatch.setattr(api, "PAGE", 3)
    by_sql, by_http = frame.load(served, "theirs"), frame.load(remote, "theirs")
    assert by_http.attrs["read_by"] == "api" and by_http["tags.t"].count() == 7
    pd.testing.assert_frame_equal(by_sql, by_http, check_exact=True)
    assert [call for call in calls if "workspace" not in call] == ["experiments/search", *["runs/search"] * 3]
    ids = by_sql["run_id"].tolist()
    del calls[:]
    pd.testing.assert_frame_equal(
        frame.histories(served, ids, ["val/loss"]), frame.histories(remote, ids, ["val/loss"])
    )
    assert calls == ["metrics/get-history-bulk"]
    del calls[:]
    assert "lr 0" in reports.leaderboard_text(store=remote, experiments="theirs", metric="test_accuracy")
    assert calls.count("runs/search") == 3


@pytest.mark.parametrize(("stop_at", "after"), [(0, True), (2, True), (3, True), (5, False), (6, True), (7, True)])
def test_over_http_too_it_is_exactly_once(remote: Store, tmp_path: Path, stop_at: int, after: bool) -> None:
    directory = write_full_journal(remote, tmp_path)
    stopping = StoppingStore(remote.tracking_uri, None, remote.journals, stop_at=stop_at, after=after)
    with pytest.raises(Stopped):
        replay(directory, stopping)
    replay(directory, remote)
    found = list(remote.runs(None, f"tags.journal_id = '{directory.name}'"))
    assert [(run.info.status, run.info.start_time, run.info.end_time) for run in found] == [("FAILED", 1_000, 10_000)]
    for name in ("train_loss", "train_accuracy"):
        history = remote.client().get_metric_history(found[0].info.run_id, name)
        assert [(m.step, m.timestamp) for m in history] == [(1, 1_000), (2, 2_000), (3, 3_000)]


@pytest.fixture
def moody(remote: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, Path]]:
    """The server behind a relay, and the file that says which mood that is in."""
    port = int(remote.tracking_uri.rpartition(":")[2])
    with relay(port, tmp_path / "mood") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield resolve(), tmp_path / "mood"


def ended_with_a_model(store: Store, tmp_path: Path, run_name: str = "moody") -> Journal:
    journal = Journal.create(store.journals, experiment="far", run_name=run_name)
    journal.metrics({"test_accuracy": 0.5}, step=2)
    journal.dataset(context="test", name="digits", digest="d1", source="/d", num_images=9, num_classes=3)
    journal.artifact(model_folder(tmp_path / "model"))
    journal.status("FINISHED")
    journal.close()
    return journal


def test_an_answer_that_was_lost_makes_nothing_twice(moody: tuple[Store, Path], tmp_path: Path) -> None:
    """MLflow's client repeats such a request by itself: other people's runs without content."""
    store, mood = moody
    journal = ended_with_a_model(store, tmp_path)
    for where in ("runs/create", "mlflow/logged-models"):
        say(mood, f"lost answer @ {where}")
        with pytest.raises(StoreUnreachable):
            replay(journal.dir, store)
    say(mood)
    assert replay(journal.dir, store).status == "FINISHED"
    [run] = store.runs(None, f"tags.journal_id = '{journal.journal_id}'")
    of_run = f"source_run_id = '{run.info.run_id}'"
    assert len(store.client().search_logged_models([run.info.experiment_id], of_run)) == 1


def test_a_page_in_place_of_an_answer_is_no_events_fault(moody: tuple[Store, Path], tmp_path: Path) -> None:
    store, mood = moody
    replayer = Replayer(ended_with_a_model(store, tmp_path).dir, store)
    say(mood, "login page @ runs/log-batch")
    with pytest.raises(MlflowException, match="Sign in"):
        replayer.advance()
    for page, said in (("login page", "Sign in"), ("404 page", "404 Not Found"), ("403 page", "403 Forbidden")):
        say(mood, page)
        with pytest.raises((MlflowException, StoreError), match=said):
            replayer.advance()
    say(mood)
    outcome = replayer.advance()
    assert (outcome.status, outcome.problems, outcome.notes) == ("FINISHED", [], [])
    run = store.find_run(outcome.run_id)
    assert [known.dataset.digest for known in run.inputs.dataset_inputs] == [
        "d1"
    ] and "server_lacks" not in run.data.tags


def test_a_file_that_a_login_page_was_the_answer_to_is_sent_again(moody: tuple[Store, Path], tmp_path: Path) -> None:
    store, mood = moody
    journal = Journal.create(store.journals, experiment="far", run_name="moody")
    (tmp_path / "notes" / "deep").mkdir(parents=True)
    (tmp_path / "notes" / "deep" / "a.txt").write_text("a")
    journal.artifact(tmp_path / "notes" / "deep" / "a.txt", "texts")
    journal.artifact(tmp_path / "notes")
    journal.artifact(model_folder(tmp_path / "model"))
    journal.status("FINISHED")
    journal.close()
    replayer = Replayer(journal.dir, store)
    for where, missing in (("texts/a.txt", "texts/a.txt"), ("deep/a.txt", "notes/deep/a.txt"), ("MLmodel", "MLmodel")):
        say(mood, f"login page @ {where}")
        with pytest.raises(StoreUnreachable, match=f"{missing} was sent"):
            replayer.advance()
    say(mood)
    outcome = replayer.advance()
    assert (outcome.status, outcome.problems) == ("FINISHED", [])
    client = store.client()
    assert [file.path for file in client.list_artifacts(outcome.run_id, "notes/deep")] == ["notes/deep/a.txt"]


def test_a_copy_notices_it_too_and_is_continued(moody: tuple[Store, Path], tmp_path: Path) -> None:
    store, mood = moody
    shutil.copy(made_database(), tmp_path / "here.db")
    here = resolve(tmp_path, f"sqlite:///{tmp_path}/here.db")
    journal = Journal.create(here.journals, experiment="far", run_name="copied")
    (tmp_path / "a.txt").write_text("a")
    journal.artifact(tmp_path / "a.txt", "texts")
    journal.status("FINISHED")
    journal.close()
    replay(journal.dir, here)
    say(mood, "login page @ texts/a.txt")
    assert main(["copy", here.tracking_uri, store.tracking_uri]) == 1
    say(mood)
    assert main(["copy", here.tracking_uri, store.tracking_uri]) == 0
    [run] = store.runs(None, f"tags.journal_id = '{journal.journal_id}'")
    assert [file.path for file in store.client().list_artifacts(run.info.run_id, "texts")] == ["texts/a.txt"]
    assert run.info.status == "FINISHED"


def test_a_file_that_a_proxy_finds_too_large_keeps_nothing_else_out(moody: tuple[Store, Path], tmp_path: Path) -> None:
    store, mood = moody
    (tmp_path / "large.bin").write_bytes(b"x" * 5_000)
    journal = Journal.create(store.journals, experiment="far", run_name="moody")
    journal.artifact(tmp_path / "large.bin")
    journal.metrics({"loss": 0.5}, step=1)
    journal.status("FINISHED")
    journal.close()
    say(mood, "413 page @ /large.bin")
    outcome = replay(journal.dir, store)
    assert outcome.status == "FINISHED" and "413" in outcome.problems[0]
    assert store.find_run(outcome.run_id).data.metrics == {"loss": 0.5}


@pytest.fixture
def asked() -> list[str]:
    """What the older server was asked, in turn."""
    return []


@pytest.fixture
def older(remote: Store, monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> Iterator[Store]:
    """The server as one of MLflow before 2.4 is: it answers 404 to whatever concerns logged models and datasets."""

    class Older(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/version":
                self._answer(200, "text/plain", b"2.3.2")
                return
            asked.append(self.path.rpartition("/mlflow/")[2])
            if "logged-models" in self.path or self.path.endswith(("/outputs", "/log-inputs")):
                self._answer(404, "text/html", b"<!doctype html><title>404 Not Found</title>")
                return
            headers = {k: v for k, v in self.headers.items() if k in ("Content-Type", "Accept")}
            onward = urllib.request.Request(remote.tracking_uri + self.path, body or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(onward) as answer:
                    self._answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())
            except urllib.error.HTTPError as error:
                self._answer(error.code, error.headers.get("Content-Type", ""), error.read())

        do_GET = do_PUT = do_PATCH = do_POST

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not into the test's output."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Older) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        yield resolve()
        server.shutdown()


def test_a_server_without_logged_models_gets_all_it_can_take_and_it_is_said_once(
    older: Store, remote: Store, asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        ended_with_a_model(older, tmp_path, "older")
    assert main(["sync"]) == 0
    said = capsys.readouterr()
    assert "2 brought up to date" in said.out
    assert said.out.count("knows no logged models (MLflow before 3.0): a run's model is kept among its artifacts") == 1
    runs = [run for run in remote.runs() if run.info.run_name == "older"]
    assert [(run.info.status, run.data.metrics) for run in runs] == [("FINISHED", {"test_accuracy": 0.5})] * 2
    for run in runs:
        assert "replay_problems" not in run.data.tags and run.data.tags["server_lacks"] == "datasets, logged models"
        assert run.data.tags["test_dataset_digest"] == "d1"
        found = {file.path for file in remote.client().list_artifacts(run.info.run_id, "model")}
        assert found >= {"model/MLmodel", "model/model-0000.params", "model/code"}
    remark = connection.server_remark(older.tracking_uri)
    assert remark is not None and "runs MLflow 2.3.2: it knows no logged models" in remark
    assert connection.server_remark(remote.tracking_uri) is None
    # Found out once, not with each run.
    assert [call for call in asked if "logged-models" in call or call.endswith("log-inputs")] == [
        *["runs/log-inputs"] * 2,
        *["logged-models/search"] * 2,
    ]
