"""First weights: what was asked for is loaded, only the head is fresh, and nothing claims to be what it is not."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainers.errors import BadInput
from trainers.networks import backend as door
from trainers.networks import resnet, saved, weights, zoo

pytestmark = pytest.mark.mxnet


def build(num_layers: int = 20, version: str = "v1", classes: int = 4, channels: int = 3, side: int = 8) -> Any:
    side = max(side, 32) if num_layers in (18, 34) else side
    return resnet.build(num_layers, classes, (channels, side, side), version)


def drawn(seed: int = 0, **kind: Any) -> Any:
    net = build(**kind)
    weights.initialise(net, "scratch", seed=seed)
    return net


def values(net: Any) -> dict[str, Any]:
    return {name: parameter.data().asnumpy() for name, parameter in net.collect_params().items()}


def assert_transferred(net: Any, source: Any, seed: int) -> None:
    """All but the head is ``source``'s; the head is what ``seed`` draws."""
    head = set(net.head.collect_params())
    fresh = drawn(seed, num_layers=net.num_layers, version=net.resnet_version, classes=net.num_classes)
    mine, theirs, drawn_values = values(net), values(source), values(fresh)
    assert len(head) == 2
    for name, value in mine.items():
        assert np.array_equal(value, drawn_values[name] if name in head else theirs[name]), name


def test_scratch_depends_on_the_seed_alone() -> None:
    first, again, other = values(drawn(1)), values(drawn(1)), values(drawn(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    conv = next(name for name in first if name.endswith("conv1_weight"))
    assert not np.array_equal(first[conv], other[conv])


def test_scratch_draws_as_he_2015() -> None:
    net = drawn(num_layers=44, classes=10)
    weight = values(net)["classifier_cifarresnetv10_stage3_conv1_weight"]  # 64 x 64 x 3 x 3
    assert weight.std() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_file_of_the_zoos_kind_gives_all_but_the_head(tmp_path: Path, version: str) -> None:
    source = drawn(7, version=version, classes=1000)
    source.body.save_parameters(str(tmp_path / "w.params"))
    net = build(version=version)
    told = weights.initialise(net, str(tmp_path / "w.params"), seed=3)
    assert_transferred(net, source, seed=3)
    sha1 = hashlib.sha1((tmp_path / "w.params").read_bytes()).hexdigest()
    assert told["kind"] == "file" and told["sha1"] == sha1 and told["label"] == f"file w.params (sha1 {sha1[:8]})"


def test_a_v1b_file_gives_all_but_the_head(tmp_path: Path) -> None:
    source = drawn(7, num_layers=18, version="v1b", classes=9)
    source.body.save_parameters(str(tmp_path / "w.params"))
    net = build(num_layers=18, version="v1b")
    assert weights.initialise(net, str(tmp_path / "w.params"), seed=3)["num_loaded"] == len(values(net)) - 4
    assert_transferred(net, source, seed=3)


@pytest.mark.parametrize("prefix", ["", "cifarresnetv15_", "arg:cifarresnetv10_"])
def test_files_with_full_names_are_read_too(tmp_path: Path, prefix: str) -> None:
    source = drawn(7, classes=1000)
    arrays = {prefix + p.name.removeprefix(source.body.prefix): p.data() for p in source.body.collect_params().values()}
    resnet.mx.nd.save(str(tmp_path / "w.params"), arrays)
    net = build()
    weights.initialise(net, str(tmp_path / "w.params"), seed=3)
    assert_transferred(net, source, seed=3)


def test_a_runs_model_is_a_source(tmp_path: Path) -> None:
    source = drawn(7, classes=4)
    saved.save_model(source, tmp_path / "model", {})
    net = build()
    told = weights.initialise(net, "run:0123abcd", seed=3, model_dir=tmp_path / "model")
    assert_transferred(net, source, seed=3)
    assert (told["kind"], told["label"]) == ("run", "run 0123abcd")
    other = build()
    assert weights.initialise(other, str(tmp_path / "model"), seed=3)["kind"] == "file"
    assert_transferred(other, source, seed=3)


def test_a_runs_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    saved.save_model(drawn(channels=1), tmp_path, {})
    for kind in ({"channels": 3}, {"channels": 1, "num_layers": 32}, {"channels": 1, "version": "v2"}):
        with pytest.raises(BadInput, match=r"that model is a ResNet-20 v1 for 1 channel"):
            weights.initialise(build(**kind), "run:x", seed=0, model_dir=tmp_path)
    with pytest.raises(BadInput, match="no saved model|cannot be read"):
        weights.initialise(build(), "run:x", seed=0, model_dir=tmp_path / "gone")


def test_files_that_do_not_fit_are_refused_with_the_reason(tmp_path: Path) -> None:
    drawn(num_layers=32).body.save_parameters(str(tmp_path / "deep.params"))
    with pytest.raises(BadInput, match="deep.params is not a ResNet-20 v1 .* 0 arrays are missing, .* unknown"):
        weights.initialise(build(), str(tmp_path / "deep.params"), seed=0)
    drawn(channels=1).body.save_parameters(str(tmp_path / "grey.params"))
    with pytest.raises(BadInput, match=r"conv0_weight is \(16, 1, 3, 3\), not \(16, 3, 3, 3\)"):
        weights.initialise(build(), str(tmp_path / "grey.params"), seed=0)
    (tmp_path / "text.params").write_text("weights")
    with pytest.raises(BadInput, match="text.params is not an MXNet .params file"):
        weights.initialise(build(), str(tmp_path / "text.params"), seed=0)
    with pytest.raises(BadInput, match="no such file. Legal: scratch, imagenet, run:<id>"):
        weights.initialise(build(), str(tmp_path / "none.params"), seed=0)


def test_a_torchvision_state_gives_all_but_the_head(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    source = drawn(7, num_layers=18, version="v1b", classes=1000)
    owners = {key.rsplit(".", 1)[0] for key in source.body._collect_params_with_prefix() if "running_mean" in key}
    state = {}
    for key, parameter in source.body._collect_params_with_prefix().items():
        owner, last = key.rsplit(".", 1)
        last = {"gamma": "weight", "beta": "bias"}.get(last, last) if owner in owners else last
        state[f"{owner}.{last}"] = torch.tensor(parameter.data().asnumpy())
    state |= {f"{owner}.num_batches_tracked": torch.tensor(1) for owner in owners}
    torch.save(state, tmp_path / "resnet18.pth")
    net = build(num_layers=18, version="v1b")
    assert weights.initialise(net, str(tmp_path / "resnet18.pth"), seed=3)["kind"] == "file"
    assert_transferred(net, source, seed=3)


def test_a_torch_file_is_for_v1b_alone(tmp_path: Path) -> None:
    (tmp_path / "resnet18.pth").write_bytes(b"")
    with pytest.raises(BadInput, match="--resnet-version v1b, not v1"):
        weights.initialise(build(num_layers=18), str(tmp_path / "resnet18.pth"), seed=0)


# ImageNet weights: the zoo's real code, against servers of our own.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "home"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home" / "models"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, str]:
    """A network's weights, zipped as the zoo does under a file name with its hash; and that file's name."""
    source = drawn(7, num_layers=18, classes=1000)
    file = tmp_path / "resnet18.params"
    source.body.save_parameters(str(file))
    sha1 = hashlib.sha1(file.read_bytes()).hexdigest()
    monkeypatch.setitem(door.zoo("model_store")._model_sha1, "resnet18_v1", sha1)
    stem = f"resnet18_v1-{sha1[:8]}"
    with zipfile.ZipFile(tmp_path / f"{stem}.zip", "w") as archive:
        archive.write(file, f"{stem}.params")
    return source, stem


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """An HTTP server for ``/gluon/models/*.zip`` in ``tmp_path``; the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            file = tmp_path / Path(self.path).name
            self.send_response(200 if file.is_file() else 404)
            body = file.read_bytes() if file.is_file() else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("MXNET_GLUON_REPO", f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_imagenet_comes_through_the_mirror_once_and_then_from_the_cache(
    cache: Path, published: tuple[Any, str], mirror: list[str]
) -> None:
    source, stem = published
    net = build(num_layers=18)
    told = weights.initialise(net, "imagenet", seed=3)
    assert_transferred(net, source, seed=3)
    assert told["kind"] == "imagenet" and told["label"] == "ImageNet (GluonCV resnet18_v1)"
    assert mirror == [f"/gluon/models/{stem}.zip"] and (cache / f"{stem}.params").is_file()
    weights.initialise(build(num_layers=18), "imagenet", seed=3)
    assert len(mirror) == 1
    # The same content under any name is known for what it is.
    (cache / f"{stem}.params").rename(cache / "mine.params")
    assert weights.initialise(net, str(cache / "mine.params"), seed=3)["label"] == "ImageNet (GluonCV resnet18_v1)"


def test_weights_with_the_wrong_hash_are_not_taken_for_imagenets(
    cache: Path, mirror: list[str], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "resnet34_v1-48216ba9.zip", "w") as archive:
        archive.writestr("resnet34_v1-48216ba9.params", b"something else")
    with pytest.raises(BadInput, match="different hash"):
        zoo.weights_file("resnet34_v1")


def test_what_the_mirror_lacks_is_explained(cache: Path, mirror: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        zoo.weights_file("resnet34_v1")
    said = str(caught.value)
    assert mirror == ["/gluon/models/resnet34_v1-48216ba9.zip"]
    assert "could not be fetched from http://127.0.0.1:" in said and "Failed downloading" in said
    assert f"unpack that archive into {cache}, so that resnet34_v1-48216ba9.params" in said
    assert "48216ba99a8b1005d75c0f3a0c422301a0473233" in said and "--init resnet34_v1-48216ba9.params" in said


def test_no_network_is_explained(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MXNET_GLUON_REPO", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(BadInput, match="there is no way to that host from here"):
            zoo.weights_file("resnet34_v1")


def test_a_server_that_never_answers_does_not_hang_the_run(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MXNET_GLUON_REPO", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(BadInput, match="no answer"):
            zoo.weights_file("resnet34_v1", timeout_s=0.3)
        assert time.monotonic() - started < 5


def test_a_server_that_stops_in_the_middle_does_not_hang_the_run(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MXNET_GLUON_REPO", f"http://127.0.0.1:{server.getsockname()[1]}")

        def stall() -> None:
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nPK")
            done.wait(10)
            connection.close()

        done = threading.Event()
        thread = threading.Thread(target=stall)
        thread.start()
        try:
            with pytest.raises(BadInput, match="could not be fetched"):
                zoo.weights_file("resnet34_v1", timeout_s=0.3)
        finally:
            done.set()
            thread.join()


def test_the_time_limit_is_ten_seconds_and_leaves_requests_alone() -> None:
    import requests

    assert zoo.TIMEOUT_S <= 10
    before = requests.get
    with zoo.time_limit(1):
        assert requests.get is before


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"num_layers": 20}, "ImageNet weights for 18 to 152 layers and 3 channels, not for 20"),
        ({"num_layers": 18, "channels": 1}, "not for 18 layers and 1"),
    ],
)
def test_networks_without_imagenet_weights_are_refused(kind: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        weights.initialise(build(**kind), "imagenet", seed=0)


def test_the_zoo_has_no_200_layers() -> None:
    with pytest.raises(BadInput, match="no weights for resnet200_v1"):
        zoo.weights_file("resnet200_v1")
