"""Addresses that are no store's, and servers that are sick: one sentence each, from every command alike, soon."""

from __future__ import annotations

import http.server
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.exceptions import TEMPORARILY_UNAVAILABLE, MlflowException

from reports.__main__ import main as reports
from tracking.__main__ import main as tracking
from tracking.errors import StoreError, StoreUnreachable
from tracking.store import address, connection
from trainers.evaluate import main as evaluate
from trainers.predict import main as predict
from trainers.run import main as train

Captured = pytest.CaptureFixture[str]

WRONG = {
    "databricks": "nothing says which: set DATABRICKS_HOST",
    "databricks://team": "nothing says which: set DATABRICKS_HOST",
    "uc": "nothing says which: set DATABRICKS_HOST",
    "postgres://me@db/runs": "stores of the kind 'postgres'.*Did you mean postgresql",
    "htp://server:5000": "kind 'htp'.*Did you mean http",
    "oracle://me@db/runs": "kind 'oracle'; legal are",
    "localhost:5000": "has no scheme; write http://localhost:5000",
    "10.0.0.7:5000/mlflow": "has no scheme; write http://10.0.0.7:5000/mlflow",
    "http:/server:5000": "two slashes follow the colon; write http://server:5000",
    "postgresql:me@db/runs": "two slashes follow the colon; write postgresql://me@db/runs",
    "http://": "names no host",
    "http://:5000": "names no host",
    "http://127.0.0.1:70000": "the port 70000 is not a number from 0 to 65535",
    "postgresql+psycopg2://me@db:99999/runs": "the port 99999 is not a number",
    "http://server:port": "the port port is not a number",
    "http://[::1:5000": "brackets",
    "http://[server]:5000": "brackets",
    "postgresql+psycopg2://[::1/runs": "brackets",
    "http://my server:5000": "has a blank in it",
    "mysql+pymsql://me@db/runs": "'pymsql' is no driver for mysql.*Did you mean pymysql",
    "s3://bucket/runs": "a place for artifacts, not a store of runs",
    "mlflow-artifacts:/1": "a place for artifacts, not a store of runs",
    "sqlite://runs.db": "three slashes and the path; write sqlite:///.*/runs.db",
    "sqlite:runs.db": "three slashes and the path; write sqlite:///.*/runs.db",
    "sqlite:///": "is in memory",
    "sqlite://": "is in memory",
    "sqlite:///:memory:": "is in memory",
    "sqlite+aiosqlite:///runs.db": "Python's own sqlite alone; write sqlite:///",
    "runs.db": "a path without a scheme; write sqlite:///.*/runs.db",
    "there.db": "an sqlite file; for a store in it write sqlite:///.*/there.db",
    "notes.txt": "the path of a file, no database",
    "nowhere": "a folder that does not exist",
    "file:///nowhere": "a folder that does not exist",
    "http//server": "a folder that does not exist; a store's URI is",
}


@pytest.mark.parametrize("uri", WRONG)
def test_an_address_that_is_no_stores_is_refused_in_a_sentence(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.delenv("DATABRICKS_HOST", raising=False)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(workdir / "none"))
    (workdir / "notes.txt").write_text("34 layers\n")
    with closing(sqlite3.connect(workdir / "there.db")) as database:
        database.execute("CREATE TABLE a (b)")
    for check in (address.check, connection.check_reachable):
        with pytest.raises(StoreError, match=WRONG[uri]) as caught:
            check(uri)
        assert "\n" not in str(caught.value)


def test_addresses_of_stores_are_let_through(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", "https://x.example")
    for uri in (
        "databricks",
        "sqlite:///runs.db",
        "sqlite:////a/runs.db?timeout=5",
        "sqlite+pysqlite:///runs.db",
        "postgresql+psycopg2://me@one:5432,two:5433/runs",
        "postgresql+psycopg2:///runs?host=/var/run/postgresql",
        "http://[::1]:5000",
        "HTTPS://server/mlflow",
        "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/x",
    ):
        address.check(uri)


@pytest.mark.parametrize(("version", "driver"), [("2.1.9", "psycopg"), ("2.0.58", "psycopg2")])
def test_the_driver_that_sqlalchemy_takes_is_named_with_the_one_that_is_here(
    monkeypatch: pytest.MonkeyPatch, version: str, driver: str
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: version)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name == "pg8000" else None)
    said = f"needs the driver {driver}, which is not installed; pg8000 is installed: write postgresql\\+pg8000://me@db"
    with pytest.raises(StoreError, match=said):
        address.check("postgresql://me@db")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(StoreError, match=r"`pip install psycopg2-binary` and write postgresql\+psycopg2://me@db"):
        address.check("postgresql://me@db")


def every_command(capsys: Captured, *, is_answered: bool = False) -> set[tuple[int, str]]:
    """What the commands say of the store: exit code and sentence, without the program's name.

    ``is_answered``: without those that ask a server nothing.
    """
    Path("n.csv").write_text("run,num_layers,epochs,test_accuracy\nold,44,30,0.95\n")
    commands: dict[Callable[..., int], tuple[list[str], ...]] = {
        reports: (["leaderboard"], ["run", "abcd1234"], ["compare", "abcd1234", "bcde1234"]),
        tracking: (["sync"], ["import", "n.csv"], ["promote", "abcd1234", "--name", "m"], ["ui"]),
        evaluate: (["abcd1234"], ["--missing"]),
        predict: (["abcd1234", "n.csv"],),
    }
    if not is_answered:
        commands[tracking] += (["repair"],)
        commands[train] = (["--num-layers", "20", "--epochs", "1", "--dataset", "digits", "--dry-run"],)
    said = set()
    for command, calls in commands.items():
        for words in calls:
            code = command(words)
            text = capsys.readouterr().err
            assert text.count("\n") == 1, (words, text)
            said.add((code, text.partition(": ")[2]))
    return said


@pytest.mark.parametrize("uri", ["http://127.0.0.1:70000", "databricks", "runs.db", "sqlite+aiosqlite:///runs.db"])
def test_every_command_says_the_same(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("DATABRICKS_HOST", raising=False)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(workdir / "none"))
    [(code, text)] = every_command(capsys)
    assert code == 2 and uri in text


class Sick(http.server.BaseHTTPRequestHandler):
    """Answers everything with ``server.answer``: status and body; a body of None never ends."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        status, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "1000" if body is None or body.endswith("[") else str(len(body.encode())))
        self.end_headers()
        self.close_connection = True
        if body is not None:
            self.wfile.write(body.encode())
            return
        while not self.server.is_over.wait(0.1):  # type: ignore[attr-defined]
            self.wfile.write(b" ")

    do_GET = do_POST = _answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def sick() -> Iterator[http.server.ThreadingHTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sick) as server:
        server.daemon_threads = True
        server.is_over = threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.is_over.set()  # type: ignore[attr-defined]
        server.shutdown()


PAGE = "<html><style>p {}</style><h1>Welcome to nginx!</h1></html>"
ANSWERS = {
    (200, PAGE): "not answer as an MLflow server does .*Welcome to nginx",
    (200, "\x01{{"): "not answer as an MLflow server does",
    (200, "[1, 2]"): "not answer as an MLflow server does",
    (200, '{"status": "ok"}'): "not answer as an MLflow server does .*JSON of another kind",
    (200, '{"experiments": 5}'): "not answer as an MLflow server does",
    (404, PAGE): "not answer as an MLflow server does .*404",
    (404, '{"detail": "Not Found"}'): "not answer as an MLflow server does .*Not Found",
    (401, '{"message": "Unauthorized"}'): "Unauthorized.*its user and token",
    (401, '{"error_code": "UNAUTHENTICATED", "message": "no"}'): "refused: .*check user, password",
    (403, '{"error_code": "PERMISSION_DENIED", "message": "no"}'): "refused: .*check user, password",
    (401, PAGE): "refused: .*check user, password",
    (200, '{"experiments": ['): "no answer from",
    (500, PAGE): "no answer from .*: too many 500 error responses; look at",
    (200, None): "no complete answer from .* within",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_sick_server_is_named_soon(
    sick: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str | None]
) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 3.0 if answer[1] is not None else 0.3)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    sick.answer = answer  # type: ignore[attr-defined]
    began = time.monotonic()
    with pytest.raises(StoreError, match=ANSWERS[answer]) as caught:
        connection.check_reachable(f"http://127.0.0.1:{sick.server_port}")
    assert "\n" not in str(caught.value) and "<" not in str(caught.value)
    assert isinstance(caught.value, StoreUnreachable) == (answer[1] is None or answer[0] >= 500 or answer[1][-1] == "[")
    assert time.monotonic() - began < 10


def test_every_command_says_the_same_of_a_sick_server(
    workdir: Path, sick: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{sick.server_port}")
    sick.answer = (200, PAGE)  # type: ignore[attr-defined]
    [(code, text)] = every_command(capsys, is_answered=True)
    assert code == 2 and "does not answer as an MLflow server does" in text


@pytest.mark.parametrize(
    "said",
    [
        '(pymysql.err.OperationalError) (1267, "Illegal mix of collations (latin1_swedish_ci,IMPLICIT) and'
        " (utf8mb4_general_ci,COERCIBLE) for operation '='\") [SQL: SELECT experiments.name]",
        "(pymysql.err.DataError) (1366, \"Incorrect string value: '\\\\xF0\\\\x9F' for column 'value' at row 1\")",
        "(MySQLdb.OperationalError) (3988, 'Conversion from collation utf8mb4_0900_ai_ci into latin1_swedish_ci"
        " impossible for parameter')",
        "(psycopg.errors.UntranslatableCharacter) character with byte sequence 0xf0 0x9f 0x90 0x88 in encoding"
        ' "UTF8" has no equivalent in encoding "LATIN1"',
    ],
)
def test_a_character_that_a_database_lacks_is_no_silence_of_its_server(said: str) -> None:
    """MLflow calls them all temporary."""
    error = MlflowException(said, error_code=TEMPORARILY_UNAVAILABLE)
    assert connection.is_refusal(error) and connection.lacks_character(error)
    with pytest.raises(StoreError, match="no place for some character") as caught, connection.translated("mysql://h/d"):
        raise error
    assert not isinstance(caught.value, StoreUnreachable)
