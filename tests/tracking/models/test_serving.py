"""A served model over HTTP: the same answers as in MXNet; what is no picture is refused, and the server lives on."""

from __future__ import annotations

import base64
import io
import json
import socket
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.support.models import CLASS_NAMES, FAMILIES, ask, by_class, crops, network, probabilities, saved_model
from tests.support.serving import Server, serve
from tests.tracking.models.test_pictures import a_png, encoded
from tracking.models.serving.model import BODY_VARIABLE
from tracking.models.serving.pictures import ROOT_VARIABLE

pytestmark = pytest.mark.mxnet
SMALL = (20, "v1", (3, 28, 28))
PICTURES = crops(3, SMALL[2], seed=21)
MOST_BYTES = 1_000_000


def base64s() -> list[str]:
    return [base64.b64encode(encoded(pixels)).decode() for pixels in PICTURES]


@pytest.fixture(scope="module")
def pictures_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, pixels in enumerate(PICTURES):
        (folder / f"{number}.png").write_bytes(encoded(pixels))
    return folder


@pytest.fixture(scope="module")
def model() -> Path:
    return saved_model(*SMALL)


@pytest.fixture(scope="module")
def server(model: Path, pictures_folder: Path) -> Iterator[Server]:
    with serve(model, **{ROOT_VARIABLE: str(pictures_folder), BODY_VARIABLE: str(MOST_BYTES)}) as running:
        yield running


def answers(reply: tuple[int, Any]) -> np.ndarray[Any, Any]:
    status, found = reply
    assert status == 200, found
    return np.array([[row["probabilities"][name] for name in CLASS_NAMES] for row in found["predictions"]])


def test_image_bytes_in_the_same_probabilities_out(server: Server) -> None:
    expected = probabilities(ask(network(*SMALL), PICTURES))
    status, found = server.ask({"dataframe_split": {"columns": ["image"], "data": [[text] for text in base64s()]}})
    assert np.abs(answers((status, found)) - expected).max() <= 1e-4
    first = found["predictions"][0]
    assert first["class_name"] == CLASS_NAMES[int(expected[0].argmax())]
    assert first["probability"] == pytest.approx(expected[0].max(), abs=1e-4)


@pytest.mark.parametrize(
    "payload",
    [
        {"inputs": base64s()},
        {"inputs": {"image": base64s()}},
        {"instances": base64s()},
        {"instances": [{"image": text} for text in base64s()]},
        {"dataframe_records": [{"image": text} for text in base64s()]},
        {"inputs": [f"data:image/png;base64,{text}" for text in base64s()]},
        {"inputs": PICTURES.tolist()},
        {"instances": PICTURES.tolist()},
        {"inputs": ["0.png", "1.png", "2.png"]},
        {"inputs": base64s(), "params": {"top_k": 4}},
    ],
    ids=lambda payload: json.dumps(payload)[:40],
)
def test_every_form_of_request_gives_the_same(payload: Any, server: Server) -> None:
    assert np.abs(answers(server.ask(payload)) - probabilities(ask(network(*SMALL), PICTURES))).max() <= 1e-4


def test_tables_in_csv_and_parquet(server: Server) -> None:
    expected = probabilities(ask(network(*SMALL), PICTURES))
    pixels = pd.DataFrame(PICTURES.reshape(3, -1))
    for table in (
        pd.DataFrame({"image": base64s(), "label": "a"}),
        pd.DataFrame({"image": ["0.png", "1.png", "2.png"]}),
        pixels,
        pixels.add_prefix("pixel").assign(label=3),
    ):
        reply = server.ask(table.to_csv().encode(), content_type="text/csv")
        assert np.abs(answers(reply) - expected).max() <= 1e-4
    status, said = server.ask(pixels.to_csv(header=False, index=False).encode(), content_type="text/csv")
    assert status == 400 and "add a header line" in said
    file = io.BytesIO()
    pd.DataFrame({"content": [encoded(pixels) for pixels in PICTURES]}).iloc[1:].to_parquet(file)
    reply = server.ask(file.getvalue(), content_type="application/vnd.apache.parquet")
    assert np.abs(answers(reply) - expected[1:]).max() <= 1e-4


def test_the_example_in_the_model_is_a_request(model: Path, server: Server) -> None:
    status, found = server.ask((model / "serving_input_example.json").read_bytes())
    assert status == 200 and len(found["predictions"]) == 1


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


HOSTILE = {
    "not an image": {"inputs": [text_of(b"GIF89a" + bytes(100))]},
    "a half picture": {"inputs": [base64s()[0][:200]]},
    "10,000 x 10,000 pixels": {"inputs": [text_of(a_png(10_000, 10_000, zlib.compress(bytes(300_000_000), 9)))]},
    "a size that cannot be": {"inputs": [text_of(a_png(2**31 - 1, 2**31 - 1))]},
    "channels first": {"inputs": np.zeros((1, 3, 28, 28), int).tolist()},
    "a wrong number of axes": {"inputs": np.zeros((1, 1, 28, 28, 3), int).tolist()},
    "rows of different length": {"inputs": [[[[1, 2, 3], [1, 2]]]]},
    "numbers that are no pixels": {"inputs": np.full((1, 28, 28, 3), 300).tolist()},
    "scaled pixels": {"inputs": np.full((1, 28, 28, 3), 0.5).tolist()},
    "words": {"inputs": "cat"},
    "nothing": {"inputs": None},
    "no picture": {"inputs": []},
    "a number": {"inputs": 7},
    "an empty table": {"dataframe_split": {"columns": ["image"], "data": [[None]]}},
    "another column": {"dataframe_split": {"columns": ["price"], "data": [[3]]}},
    "a file of the server": {"inputs": ["/etc/passwd"]},
    "a way out of the folder": {"inputs": ["../../../../etc/passwd"]},
    "an unknown form": {"pictures": base64s()},
    "two forms": {"inputs": base64s(), "instances": base64s()},
    "a negative top_k": {"inputs": base64s(), "params": {"top_k": -1}},
    "a top_k in words": {"inputs": base64s(), "params": {"top_k": "many"}},
    "no json": b"{",
    "no text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_input_is_refused_and_the_server_goes_on(kind: str, server: Server) -> None:
    status, said = server.ask(HOSTILE[kind])
    assert 400 <= status < 500, (status, said)
    assert "root:" not in str(said)
    assert server.is_alive()
    assert answers(server.ask({"inputs": base64s()[:1]})).shape == (1, 4)


def test_a_nest_too_deep_for_mlflows_own_reader_does_not_end_the_server(server: Server) -> None:
    status, _ = server.ask(b'{"inputs": ' + b"[" * 20_000 + b"]" * 20_000 + b"}")
    assert status >= 400 and server.is_alive()


@pytest.mark.parametrize("way", ["with its length", "in chunks", "with a false length"])
def test_a_request_that_is_too_large_is_refused_before_all_of_it_is_sent(way: str, server: Server) -> None:
    chunks = f"Transfer-Encoding: chunked\r\n\r\n{2 * MOST_BYTES:x}\r\n" + " " * (MOST_BYTES + 10)
    rest = {
        "with its length": f"Content-Length: {MOST_BYTES + 1}\r\n\r\n",
        "in chunks": chunks,
        "with a false length": f"Content-Length: 5\r\n{chunks}",
    }[way]
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as caller:
        caller.sendall(f"POST /invocations HTTP/1.1\r\nHost: {place.netloc}\r\n{rest}".encode())
        reply = HTTPResponse(caller)
        reply.begin()
        assert reply.status == 413 and f"at most {MOST_BYTES:,} bytes" in reply.read().decode()
    assert answers(server.ask({"inputs": base64s()[:1]})).shape == (1, 4)


def test_other_kinds_of_content_are_refused(server: Server) -> None:
    status, _ = server.ask(encoded(PICTURES[0]), content_type="image/png")
    assert status == 415 and server.is_alive()


def test_several_ask_at_once(server: Server) -> None:
    expected = probabilities(ask(network(*SMALL), PICTURES))
    with ThreadPoolExecutor(4) as people:
        replies = list(people.map(lambda number: server.ask({"inputs": [base64s()[number % 3]]}), range(12)))
    for number, reply in enumerate(replies):
        assert np.abs(answers(reply) - expected[number % 3]).max() <= 1e-4


@pytest.mark.parametrize("family", FAMILIES[1:], ids=str)
def test_every_family_answers_over_http(family: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    # The server's own application, without a process each: test_image_bytes… has the process. It sets this itself,
    # and would have every model of later tests served.
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    from mlflow.pyfunc import scoring_server
    from starlette.testclient import TestClient

    net = network(*family)
    pictures = crops(2, family[2], seed=22)
    loaded = mlflow.pyfunc.load_model(str(saved_model(*family)), suppress_warnings=True)
    with TestClient(scoring_server.init(loaded)) as client:
        payload = {"inputs": [base64.b64encode(encoded(pixels)).decode() for pixels in pictures]}
        reply = client.post("/invocations", json=payload)
    found = answers((reply.status_code, reply.json()))
    assert np.abs(found - probabilities(ask(net, pictures))).max() <= 1e-4
    assert by_class(loaded.predict(pictures), CLASS_NAMES) == pytest.approx(found, abs=1e-9)
