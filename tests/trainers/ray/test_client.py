"""Ray's Jobs API at the wire: addresses, headers, and every answer that is none."""

from __future__ import annotations

import io
import json
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ray import FakeRay, running
from trainers.errors import BadInput
from trainers.ray.client import RayClient, RayDenied, RayRefused, RayUnreachable, address_of, sources
from trainers.sagemaker.errors import NameTaken

JOB = {"entrypoint": "true", "submission_id": "one", "entrypoint_num_cpus": 1}


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeRay]:
    with running(tmp_path) as fake:
        yield fake


@pytest.mark.parametrize(
    ("given", "environment", "address"),
    [
        (None, {}, "http://127.0.0.1:8265"),
        (None, {"RAY_ADDRESS": "auto"}, "http://127.0.0.1:8265"),
        (None, {"RAY_ADDRESS": "http://head:8265/"}, "http://head:8265"),
        (None, {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_API_SERVER_ADDRESS": "10.0.0.1:8265"}, "http://10.0.0.1:8265"),
        ("head:8265", {"RAY_ADDRESS": "other:8265"}, "http://head:8265"),
        ("[::1]:8265", {}, "http://[::1]:8265"),
        ("https://ray.example.com/team/a/", {}, "https://ray.example.com/team/a"),
    ],
)
def test_an_address_is_read_as_ray_s_own_commands_read_it(
    given: str | None, environment: dict[str, str], address: str
) -> None:
    assert address_of(given, environment) == address


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("ray://head:10001", "Ray Client's address; jobs go to the dashboard: http://head:8265"),
        ("head:10001", "http://head:8265"),
        ("http://head:6379", "the nodes' address"),
        ("ftp://head", "must have the form"),
        ("http://head:port", "must have the form"),
        ("http://", "must have the form"),
    ],
)
def test_an_address_of_something_else_is_refused(given: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        address_of(given, {})


@pytest.mark.parametrize(
    ("answer", "kind", "why"),
    [
        ((404, "404: Not Found"), RayRefused, "has no Jobs API"),
        ((200, "<html>Sign in</html>"), RayRefused, "not as Ray's dashboard does"),
        ((200, "[]"), RayRefused, "not as Ray's dashboard does"),
        ((401, "Unauthorized: Missing authentication token"), RayDenied, "RAY_AUTH_TOKEN"),
        ((403, "Forbidden: Invalid authentication token"), RayDenied, "RAY_JOB_HEADERS"),
        ((503, "no healthy upstream"), RayUnreachable, "not ready"),
        ((500, "No available agent to submit job, please try again later."), RayUnreachable, "not ready"),
        ((200, json.dumps({"ray_version": "1.13.0"})), RayRefused, "Ray 2.0 or newer"),
    ],
)
def test_an_answer_that_is_not_ray_s_says_what_to_do(
    fake: FakeRay, answer: tuple[int, str], kind: type[Exception], why: str
) -> None:
    fake.refuse = [answer]
    with pytest.raises(kind, match=why):
        RayClient(fake.address).version()


def test_no_answer_and_no_http(fake: FakeRay) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(RayUnreachable, match="does not answer"):
            RayClient(f"http://127.0.0.1:{free.getsockname()[1]}").version()
    with pytest.raises(RayRefused, match="begins with http://"):
        RayClient(fake.address.replace("http", "https")).version()
    with socket.create_server(("127.0.0.1", 0)) as grpc:

        def speak() -> None:
            with grpc.accept()[0] as caller:
                caller.recv(4096)
                caller.sendall(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x04\x00\x40\r\n")

        threading.Thread(target=speak, daemon=True).start()
        with pytest.raises(RayRefused, match="does not speak HTTP"):
            RayClient(f"http://127.0.0.1:{grpc.getsockname()[1]}").version()


def test_jobs_are_submitted_once_asked_about_and_stopped(fake: FakeRay) -> None:
    client = RayClient(fake.address)
    assert client.version() == "2.60.0" and client.info("one") is None and client.logs("one") == ""
    assert not client.stop("one")
    client.submit(JOB)
    with pytest.raises(NameTaken):
        client.submit(JOB)
    with pytest.raises(RayRefused, match="must be a number"):
        client.submit({**JOB, "submission_id": "two", "entrypoint_num_cpus": "x"})
    assert [job["submission_id"] for job in client.jobs()] == ["one"]
    assert client.stop("one") and client.info("one")["status"] == "STOPPED"  # type: ignore[index]


def test_sources_are_sent_once_and_hold_the_packages_alone(fake: FakeRay) -> None:
    client = RayClient(fake.address)
    uri = client.send_sources()
    assert client.send_sources() == uri and client.has_sources(uri) and not client.has_sources("gcs://_ray_pkg_0.zip")
    (content,) = fake.packages.values()
    names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert "trainers/ray/node.py" in names and "trainers/config/presets.toml" in names
    assert {name.split("/")[0] for name in names} == {"tracking", "reports", "trainers"}
    assert content == sources.__wrapped__() and len(content) < 2 * 2**20


@pytest.mark.parametrize(
    ("environment", "header"),
    [
        ({}, None),
        ({"RAY_AUTH_TOKEN": "secret"}, "Bearer secret"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "token"}, "Bearer from-a-file"),
        ({"RAY_JOB_HEADERS": '{"authorization": "Basic eA=="}', "RAY_AUTH_TOKEN": "secret"}, "Basic eA=="),
    ],
)
def test_headers_and_tokens_go_along(
    fake: FakeRay, workdir: Path, environment: dict[str, str], header: str | None
) -> None:
    Path("token").write_text("from-a-file\n")
    RayClient(fake.address, environment=environment).version()
    assert {key.lower(): value for key, value in fake.headers[-1].items()}.get("authorization") == header


def test_headers_that_are_no_json_are_refused() -> None:
    with pytest.raises(BadInput, match="RAY_JOB_HEADERS must be JSON"):
        RayClient("http://head:8265", environment={"RAY_JOB_HEADERS": "Authorization: x"})
