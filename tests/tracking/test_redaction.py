"""Passwords and tokens in tracking URIs: in every shape people write them, in every text that leaves."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

import reports.__main__
from tests.support import ROOT
from tests.support.stores import make_store
from tracking import __main__ as command
from tracking import run as tracked
from tracking.errors import StoreError, TrackingError, redaction
from tracking.store import connection

ODBC = "DRIVER%3D%7BODBC+Driver+18%7D%3BSERVER%3Ddb%3BUID%3Dme%3BPWD%3D"

# From the documentation of SQLAlchemy, libpq and MLflow, and from issues of MLflow's: what is shown, and the secrets.
SHAPES = [
    ("postgresql://mlflow:secret9@127.0.0.1:9/mlflow", "postgresql://mlflow:***@127.0.0.1:9/mlflow", ["secret9"]),
    (
        "postgresql+psycopg2://u:pa/ss:w0rd@127.0.0.1:9/x?sslmode=require",
        "postgresql+psycopg2://u:***@127.0.0.1:9/x?sslmode=require",
        ["pa/ss", "w0rd"],
    ),
    (
        "postgresql://m%40host:s3cr3t@127.0.0.1:9/mlflow",
        "postgresql://m%40host:***@127.0.0.1:9/mlflow",
        ["s3cr3t"],
    ),
    ("mysql://id:Redhat@321#@127.0.0.1:9/mlflow", "mysql://id:***@127.0.0.1:9/mlflow", ["Redhat", "321#"]),
    ("postgresql://u:_[]:=?x@127.0.0.1:9/mlflow", "postgresql://u:***@127.0.0.1:9/mlflow", ["_[]", "=?x"]),
    (
        "postgresql+psycopg2://u:_[]:=?//db?host=127.0.0.1&sslmode=require",
        "postgresql+psycopg2://u:***//db?host=127.0.0.1&sslmode=require",
        ["_[]"],
    ),
    ("mysql+pymysql://root:kx%40jj5%2Fg@127.0.0.1:9/db", "mysql+pymysql://root:***@127.0.0.1:9/db", ["kx%40", "jj5"]),
    ("postgresql://u:12/34@127.0.0.1:9/db", "postgresql://u:***@127.0.0.1:9/db", ["12/34"]),
    ("postgresql://:onlypw@127.0.0.1:9/mlflow", "postgresql://:***@127.0.0.1:9/mlflow", ["onlypw"]),
    ("postgresql://u:pw90@[::1]:9/db", "postgresql://u:***@[::1]:9/db", ["pw90"]),
    (
        "postgresql+psycopg2:///mlflow?user=me&password=hunter2&host=127.0.0.1",
        "postgresql+psycopg2:///mlflow?user=me&password=***&host=127.0.0.1",
        ["hunter2"],
    ),
    (
        "postgresql://me@127.0.0.1:9/x?sslkey=/k.pem&sslpassword=hunter2",
        "postgresql://me@127.0.0.1:9/x?sslkey=/k.pem&sslpassword=***",
        ["hunter2"],
    ),
    (f"mssql+pyodbc:///?odbc_connect={ODBC}hunter2", f"mssql+pyodbc:///?odbc_connect={ODBC}***", ["hunter2"]),
    (
        "mssql+pyodbc:///?odbc_connect=DRIVER={ODBC};UID=me;PWD={a1;b2&c3};Encrypt=yes",
        "mssql+pyodbc:///?odbc_connect=DRIVER={ODBC};UID=me;PWD=***;Encrypt=yes",
        ["a1;", "b2&", "c3}"],
    ),
    (
        "mssql+pyodbc://sa:Pass@word1@127.0.0.1:9/db?driver=ODBC+Driver+18",
        "mssql+pyodbc://sa:***@127.0.0.1:9/db?driver=ODBC+Driver+18",
        ["Pass@", "word1"],
    ),
    ("somedb://db2inst1:aaa9;PORT=50001@192.168.99.100/test", "somedb://db2inst1:***@192.168.99.100/test", ["aaa9"]),
    ("http://token:dapi123@127.0.0.1:9", "http://token:***@127.0.0.1:9", ["dapi123"]),
    ("https://dapi123@127.0.0.1:9/x", "https://***@127.0.0.1:9/x", ["dapi123"]),
    ("https://ghp_abc123:x-oauth-basic@127.0.0.1:9", "https://***@127.0.0.1:9", ["ghp_abc123"]),
    ("https://u:pa/ss9@127.0.0.1:9/x", "https://u:***@127.0.0.1:9/x", ["pa/", "ss9"]),
    ("https://127.0.0.1:9/?access_token=abc123", "https://127.0.0.1:9/?access_token=***", ["abc123"]),
    # Nothing to hide, whatever characters they have.
    *(
        (uri, uri, [])
        for uri in (
            "arn:aws:sagemaker:us-east-1:123456789012:mlflow-tracking-server/name",
            "sqlite:////data/a:b@c/mlflow.db",
            "sqlite:///C:/runs/token=1/mlflow.db",
            "file:///home/me@work/mlruns",
            "./mlruns",
            "databricks",
            "databricks://profile:prefix",
            "https://mlflow.example:5000/@scope/x",
            "http://localhost/a@b",
            "postgresql://me@db/x?passfile=/home/me/.pgpass",
            "postgresql://one:5432,two:5433/db",
            "postgresql://[::1]:5432/db",
            "postgresql://me@/db?host=/var/run/postgresql",
        )
    ),
]


@pytest.mark.parametrize(("uri", "shown", "secrets"), SHAPES)
def test_a_uri_is_shown_without_its_secrets(
    uri: str, shown: str, secrets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connection.public(uri) == shown
    assert connection.public(shown) == shown  # so that what was shown before is recognised as the same store
    # Others quote the URI, or what a parser made of it.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    said = [f"cannot open {uri}", f"got '{uri}'."]
    for take_apart in (sa.engine.make_url, lambda text: urlsplit(text).port):
        try:
            said.append(repr(take_apart(uri)))
        except Exception as error:
            said.append(str(error))
    with contextlib.suppress(Exception):
        url = sa.engine.make_url(uri)
        said += [f"could not translate host name '{url.host}'", f"no '{url.password}' for '{url.username}'"]
    text = str(TrackingError(" | ".join(said)))
    assert not [secret for secret in secrets if secret in text]
    assert redaction.hidden(f"see {uri}") == f"see {shown}" and redaction.hidden("nothing of it") == "nothing of it"


@pytest.mark.parametrize(
    ("uri", "secrets"),
    [(uri, secrets) for uri, _, secrets in SHAPES if secrets and uri.startswith(("postgresql", "mysql", "http"))],
)
def test_no_command_says_a_secret(
    uri: str, secrets: list[str], workdir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing listens there; what others would take apart wrongly is said, with the way out."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    codes = [command.main(["ui"])]
    if uri.startswith("http"):
        (workdir / "n.txt").write_text("44 layers, 30 epochs\ntest accuracy: 0.9\n")
        codes.append(command.main(["import", "n.txt"]))
    said = capfd.readouterr()
    assert not [secret for secret in secrets if secret in said.out + said.err], said
    assert max(codes) in (1, 2) or "127.0.0.1:9" in said.out + said.err


# From issues of MLflow, W&B, psycopg2, DuckDB, urllib3, boto3 and OpenSearch: what was printed, "zq" being secret.
TEXTS = [
    '{"password": "zq\\"zq"}',
    'missing "=" after "postgresql:/alice:zq0/x@localhost:5432/db" in connection info string',
    "connect string: dbname=pdns user=me port=5432 password=zq1: could not connect to server",
    "Unable to connect to Postgres at password='zq2' : connection to server failed",
    "should have been\n'POST\n/\n\nhost:ecs.amazonaws.com\nx-amz-security-token:zq3DY+/x==\n\nhost;x-amz-date'",
    "Retrying after connection broken by 'X': /t.json?X-Amz-Security-Token=zq4&X-Amz-Date=1&X-Amz-Signature=zq4b",
    "Redirecting https://host/one -> /private/a b?sv=2020&sig=zq5%3D&se=2026",
    '{"headers": {"Authorization": "Basic dTp6cTY=", "x-api-key": "zq6", "Host": "a"}}',
    "<p>Authorization: Basic dTp6cTc=</p> and in short Basic dTp6cTc=",
    "sscheme or token does not match: Bearer zq8-12345678",
    '{"value": {"azz": "123", "token": "zq9"}}',
    "<Code>InvalidAccessKeyId</Code><AWSAccessKeyId>ASIAZQHBOGN22XLKE7WL</AWSAccessKeyId>",
    "git clone https://me:zq11@github.com/REPO.git; pip --extra-index-url https://zq11@pypi.corp/simple",
    "Cannot connect to proxy http://me:zq12@proxy:3128",
    "AccountName=a;AccountKey=zq13==;EndpointSuffix=core.windows.net",
    "Token ghp_zq14abcdefghijklmnop of hf_zq14abcdefghijklmnop and eyJ0eXAiOiJK.eyJzdWIiOzq14.zq14",
    "what the variable holds: zq15/+text and zq15%2F%2Btext",
]


@pytest.mark.parametrize("text", TEXTS)
def test_what_others_print_is_without_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "zq15/+text")
    shown = redaction.hidden(text)
    assert not re.search("zq|dTp6|ASIA", shown) and "***" in shown
    assert len(shown.splitlines()) == len(text.splitlines()) and shown[:5] in (text[:5], "Token")


@pytest.mark.parametrize(
    "text",
    [
        "password authentication failed for user me",
        "epoch 3 at 12:30:05@host, Basic authentication, git@github.com:me/x.git",
        '{"epoch": 3, "tokenizer": "bert", "key": "value"}',
        "arn:aws:sagemaker:us-east-1:1:mlflow-tracking-server/a@b",
        "models:/my-photos@champion",
        "/data/a:b@c/mlruns",
    ],
)
def test_what_is_no_secret_is_left_in_texts(text: str) -> None:
    assert redaction.hidden(text) == text and redaction.hidden(f"see {text}") == f"see {text}"
    assert " " in text or redaction.public(text) == text


def test_what_the_server_s_user_shows_too_is_left_in_texts() -> None:
    redaction.remember("postgresql://mlflow:mlflow@db/mlflow")
    assert redaction.hidden("mlflow.exceptions of mlflow") == "mlflow.exceptions of mlflow"


def test_mlflow_s_own_log_lines_are_without_it(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make_store(workdir)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:hunter2/x@db.example/mlflow")
    connection.open_client(f"sqlite:///{workdir}/mlruns/mlflow.db")
    logger = logging.getLogger("mlflow.store.db.utils")
    logger.setLevel(logging.INFO)
    logger.warning("engine for %s could not be created", "postgresql://me:hunter2/x@db.example/mlflow")
    try:
        raise ValueError("Port could not be cast to integer value as 'hunter2'")
    except ValueError:
        logger.exception("again")
    said = capfd.readouterr().err
    assert "engine for postgresql://me:***@db.example/mlflow could not" in said and "again" in said
    assert "hunter2" not in said and "Port could not be cast" in said


def test_a_traceback_is_without_it(workdir: Path) -> None:
    """Of a command that meets what it does not know."""
    code = (
        "import sys; from tracking import __main__; from tracking.commands import sync as command_sync;"
        "command_sync.run = lambda _: open('postgresql://me:hunter2@db.example/mlflow');"
        "sys.exit(__main__.main(['sync']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "FileNotFoundError" in done.stderr
    assert "postgresql://me:***@db.example" in done.stderr and "hunter2" not in done.stderr


def test_a_run_that_fails_keeps_no_secret(workdir: Path) -> None:
    make_store(workdir)
    with pytest.raises(RuntimeError), tracked.start(live=False, system_metrics=False) as run:
        raise RuntimeError("no answer from postgresql://me:hunter2@db.example/mlflow")
    kept = [path.read_text() for path in run.dir.rglob("*") if path.is_file()]
    assert any("postgresql://me:***@db.example" in text for text in kept)
    assert not [text for text in kept if "hunter2" in text]


def test_a_page_is_without_it(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = "postgresql+psycopg2://me:pa/ss9@127.0.0.1:9/mlflow"
    assert reports.__main__.main(["leaderboard", "--store", uri]) in (1, 2)
    assert "ss9" not in capsys.readouterr().err


def test_a_uri_that_cannot_be_taken_apart_is_said(workdir: Path) -> None:
    for uri in ("mysql://id:Redhat@321#@host:3306/mlflow", "postgresql://u:_[]:=?x@db.example/mlflow"):
        with pytest.raises(StoreError, match="percent-encode what is special"):
            connection.check_reachable(uri)


def test_a_password_that_is_a_word_of_sentences_garbles_none() -> None:
    """Stars for the word everywhere would tell a reader what the password is."""
    redaction.remember("postgresql://tester:another@db/runs")
    assert redaction.hidden("another program: another one") == "another program: another one"
    said = redaction.hidden("host \"another@db\" of postgresql://tester:another@db/runs, password 'another'")
    assert "another" not in said
