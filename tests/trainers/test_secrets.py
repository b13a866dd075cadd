"""Secrets are where people have them; then programs run, fail, and are answered with them: none is kept or shown."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

import reports.__main__
from tests.support.aws.fake import Plan, ScaledClock
from tests.support.aws.launches import ROLE, account
from tests.support.stores import make_store
from tracking import __main__ as tracking_program
from tracking import run as tracked
from trainers import evaluate, jobs, run
from trainers.config import Config
from trainers.launch.job import LocalLauncher
from trainers.training.environment import environment

# In each kind of place one of its own, so that a leak says where it came from.
PLACES = (
    "aws session mlflow token wandb hf database proxy index postgres openai flask notify"
    " uri query sas presigned netrc git pip uv credentials raised reason"
).split()
SECRETS = {place: f"zq{number}S3cr+t/{place}" for number, place in enumerate(PLACES, 10)}
KEY_ID = "ASIAZQ7SECRETKEYID12"
JOB = (
    f"--on=sagemaker-builtin --role={ROLE} --output=s3://bucket-one/jobs --region=us-east-1 --poll=0.1 --yes --force -v"
    " --train=s3://bucket-one/data/train/ --validation=s3://bucket-one/data/validation/ --num-layers=18 --epochs=1"
    " --image-shape=3,224,224 --num-classes=2 --num-training-samples=640"
).split()


def url(place: str, scheme: str = "https", rest: str = "host.example/x") -> str:
    return f"{scheme}://me:{quote(SECRETS[place], safe='')}@{rest}"


def forms(secret: str) -> list[bytes]:
    """How it may be written: as it is, in a URL, beside a user in the header of a request."""
    pairs = (base64.b64encode(f"{user}:{secret}".encode()).rstrip(b"=") for user in ("me", ""))
    return [secret.encode(), quote(secret).encode(), quote(secret, safe="").encode(), *pairs]


FORMS = {**{place: forms(secret) for place, secret in SECRETS.items()}, "key id": [KEY_ID.encode()]}


def secrets_in(content: bytes) -> list[str]:
    return [place for place, written in FORMS.items() if any(form in content for form in written)]


class World:
    """A folder with a home, a checkout and a store, and what was seen of the programs that ran there."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self.patch, self.capfd = folder, patch, capfd
        self.command_lines: set[str] = set()
        home = folder / "home"
        (folder / "tmp").mkdir()
        (home / ".aws").mkdir(parents=True)
        (home / ".netrc").write_text(f"machine 127.0.0.1 login me password {SECRETS['netrc']}\n")
        (home / ".netrc").chmod(0o600)
        (home / ".aws" / "credentials").write_text(
            f"[other]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRETS['credentials']}\n"
        )
        (home / "pip.conf").write_text(f"[global]\nindex-url = {url('pip')}\n")
        (folder / "uv.lock").write_text(f'version = 1\n[[package]]\nsource = {{ registry = "{url("uv")}" }}\n')
        for words in ("init -q", f"remote add origin {url('git')}", "commit -q --allow-empty -m x"):
            git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", *words.split()]
            subprocess.run(git, cwd=folder, check=True)
        self.planted = {path for path in folder.rglob("*") if path.is_file()}
        patch.setattr(tempfile, "tempdir", str(folder / "tmp"))
        self.set(
            HOME=str(home),
            WANDB_API_KEY=SECRETS["wandb"],
            HF_TOKEN=SECRETS["hf"],
            OPENAI_API_KEY=SECRETS["openai"],
            PGPASSWORD=SECRETS["postgres"],
            DATABASE_URL=url("database", "postgresql"),
            FTP_PROXY=url("proxy", "http"),
            PIP_EXTRA_INDEX_URL=url("index"),
            MLFLOW_FLASK_SERVER_SECRET_KEY=SECRETS["flask"],
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
        )
        self.keys()
        make_store(folder)

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self.patch.setenv(name, value)

    def keys(self) -> None:
        self.set(AWS_ACCESS_KEY_ID=KEY_ID, AWS_SECRET_ACCESS_KEY=SECRETS["aws"], AWS_SESSION_TOKEN=SECRETS["session"])

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Note the command lines of all that is started meanwhile."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.1):
                for child in psutil.Process().children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        self.command_lines.add(" ".join(child.cmdline()))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def check(self, said_at_least: str) -> None:
        """No secret is on the screen, in a file or in the list of processes."""
        said = "".join(self.capfd.readouterr())
        found = {"screen": secrets_in(said.encode()), "processes": secrets_in(" ".join(self.command_lines).encode())}
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in self.planted:
                found[str(path.relative_to(self.folder))] = secrets_in(path.read_bytes())
        assert not {place: secrets for place, secrets in found.items() if secrets}
        assert said_at_least in said


@pytest.fixture
def world(workdir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> World:
    return World(workdir, monkeypatch, capfd)


class _Echo(BaseHTTPRequestHandler):
    """Answers with all that it was asked, as proxies and debugging servers do: ``form`` is how."""

    form = "html"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = "\n".join([self.requestline, *(f"{name}: {value}" for name, value in self.headers.items())])
        status, body = {
            "html": (404, f"<html><pre>{said}</pre></html>"),
            "mlflow": (403, json.dumps({"error_code": "PERMISSION_DENIED", "message": said[-300:]})),
            "headers": (400, json.dumps({"headers": dict(self.headers), "url": self.path})),
            "aws": (403, json.dumps({"__type": "SignatureDoesNotMatch", "message": f"should be\n'{said}'"})),
        }[self.form]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_PUT = do_PATCH = do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """The host and port of a server that repeats what it is asked."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_of_runs_studies_and_pages(world: World) -> None:
    """One that fails quoting them, a study with a child process that cannot read its data, and what comes after."""
    signed = f"https://b.s3.amazonaws.com/d?X-Amz-Signature={quote(SECRETS['presigned'], safe='')}&X-Amz-Date=1"
    shared = f"https://a.blob.core.windows.net/d?sv=1&sig={quote(SECRETS['sas'], safe='')}"
    told = f"json://127.0.0.1:9/{quote(SECRETS['notify'], safe='')}"
    dsn = url("raised", "postgresql")
    with contextlib.suppress(RuntimeError), tracked.start(system_metrics=False) as failed:
        raise RuntimeError(f"{dsn} {dsn.replace('//', '/')} {SECRETS['hf']} password='{SECRETS['raised']}' {signed}")
    world.patch.setattr("trainers.launch.watching.notify.PAUSES_S", (0.0,))
    for place in ("pets/cat", "pets/dog"):
        Path(place).mkdir(parents=True)
        Path(place, "1.png").write_bytes(b"no picture")
    Path("s.toml").write_text("[settings]\nepochs = 1\n[[runs]]\nname = 'a'\ndataset = 'pets'\n")
    with world.watched():
        assert run.main(["--study=s.toml", "--notify", told]) == 1
        child = LocalLauncher(world.folder / "launched").submit(Config(dataset="pets", epochs=1))
        assert child.wait(60) == "failed"
    assert any("-m trainers.run --config" in line for line in world.command_lines)
    for data in (signed, shared, url("uri", rest="host.example/d.tar")):
        assert run.main(["--dataset", data, "--epochs=1", "--notify", told]) == 2
    assert tracking_program.main(["-v", "sync"]) == 0
    assert tracking_program.main(["repair"]) == 0
    assert tracking_program.main(["copy", "sqlite:///mlruns/mlflow.db", f"sqlite:///{world.folder}/copy.db"]) == 0
    assert tracking_program.main(["prune", "--older-than", "1h"]) in (0, 1)
    assert evaluate.main([failed.journal_id]) == 2
    assert reports.__main__.main(["leaderboard", "--out", "board.html"]) in (0, 1, 2)
    assert reports.__main__.main(["run", failed.journal_id, "--out", "card.html"]) in (0, 1, 2)
    world.patch.setattr(sys, "argv", ["run.py", "--dataset", signed, f"--ray-address={url('uri')}"])
    assert not secrets_in(json.dumps(environment(1)).encode())
    for database in (url("uri", "postgresql", "127.0.0.1:9/x"), url("uri", "postgresql").replace("//", "/")):
        world.set(MLFLOW_TRACKING_URI=database)
        assert tracking_program.main(["ui"]) in (1, 2)
    world.check("host.example")


@pytest.mark.parametrize("form", ["html", "mlflow", "headers"])
def test_of_a_tracking_server_that_repeats_what_it_is_asked(form: str, world: World, echo: str) -> None:
    world.patch.setattr(_Echo, "form", form)
    password, query = (
        {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": SECRETS["mlflow"]},
        SECRETS["query"],
    )
    for uri, variables in (
        (url("uri", "http", echo), {}),
        (f"http://{echo}/?access_token={quote(query, safe='')}", {}),
        (f"http://{echo}", password),
        (f"http://{echo}", {"MLFLOW_TRACKING_TOKEN": SECRETS["token"]}),
        (f"http://{echo}", {}),  # requests takes what .netrc has
    ):
        with world.patch.context() as patch:
            for name, value in {"MLFLOW_TRACKING_URI": uri, **variables}.items():
                patch.setenv(name, value)
            assert tracking_program.main(["-v", "sync"]) in (0, 1, 2)
            if uri.endswith(echo):
                with tracked.start(system_metrics=False) as live:
                    live.log_metrics({"loss": 1.0}, step=1)
                assert reports.__main__.main(["leaderboard"]) in (1, 2)
    assert tracking_program.main(["copy", "sqlite:///mlruns/mlflow.db", url("uri", "http", echo)]) == 2
    world.check("***@127.0.0.1")


def test_of_aws_that_repeats_a_request_and_of_a_job_that_fails_with_one(world: World, echo: str) -> None:
    world.patch.setattr(_Echo, "form", "aws")
    with world.patch.context() as patch, world.watched():
        patch.setenv("AWS_ENDPOINT_URL", f"http://{echo}")
        assert run.main([*JOB, "--run-name=refused"]) in (1, 2)
        assert jobs.main(["import", "--region=us-east-1"]) in (1, 2)
    reason = f"AlgorithmError: no answer from {url('reason', 'postgresql')} with {SECRETS['hf']}, exit code: 1"
    plan = Plan(1, 1, 1, 1, 1, 1, log_lag_s=1, fails_in="Training", failure=reason)
    with account(world.folder / "fake", world.patch, ScaledClock(600.0), default=plan), world.watched():
        world.planted |= set((world.folder / "fake").rglob("*"))
        world.keys()
        assert run.main([*JOB, "--run-name=fails"]) == 1
        assert jobs.main(["list"]) == 0
    world.check("AlgorithmError")
