"""A damaged model is refused in words that name the file, by every way in, before any native code reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from tests.support.models import CLASS_NAMES, saved_model
from tracking.errors import ModelError
from tracking.models import gluon
from tracking.models.formats import params
from tracking.models.serving.files import check, digest, read_facts
from tracking.models.serving.model import PictureModel
from trainers.errors import BadInput
from trainers.training import scores

pytestmark = pytest.mark.mxnet
FAMILY = (20, "v1", (3, 28, 28))
GRAPH, WEIGHTS, ONNX = "model-symbol.json", "model-0000.params", "model.onnx"
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "one bit turned over": lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 1]) + b[len(b) // 2 + 1 :],
    "cut short": lambda b: b[:-1],
    "empty": lambda b: b"",
    "something else": lambda b: b"\x80\x04cos\nsystem\n(S'false'\ntR.",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_model(*FAMILY), tmp_path / "model"))


def pyfunc(model: Path, runtime: str) -> Any:
    return mlflow.pyfunc.load_model(str(model), suppress_warnings=True, model_config={"runtime": runtime})


def change(model: Path, **facts: Any) -> None:
    known = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**known, **facts}))


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize(("name", "runtime"), [(ONNX, "onnx"), (GRAPH, "mxnet"), (WEIGHTS, "mxnet")])
def test_any_damage_is_noticed_before_the_file_is_used(name: str, runtime: str, how: str, model: Path) -> None:
    path = model / name
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    # MLflow hands on an error of the model's own code, whose classes are its own.
    with pytest.raises(ValueError, match=f"{name} is not the file that was saved"):
        pyfunc(model, runtime)
    with pytest.raises(ModelError, match=name):
        gluon.load_model(model, runtime=runtime)
    with pytest.raises(BadInput, match=name):
        scores.scorer(model, runtime)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "KeyError"),
        ("[" * 100_000, "RecursionError"),
        ("\udcff", "UnicodeDecodeError"),
        ('{"format": 2}', "format 2; this reads format 1"),
        ('{"format": 1, "image_shape": [3, 28]}', "ValueError"),
        ('{"format": 1, "image_shape": [2, 28, 28], "class_names": []}', "cannot be"),
        ('{"format": 1, "image_shape": [3, 28, 28]}', "class_names"),
    ],
)
def test_a_description_that_is_none_is_refused(text: str, words: str, model: Path) -> None:
    (model / "model.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=rf"model\.json .*{words}"):
        pyfunc(model, "auto")


def test_a_missing_file_is_named(model: Path) -> None:
    (model / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=rf"{WEIGHTS} cannot be read \(No such file"):
        pyfunc(model, "mxnet")
    with pytest.raises(ModelError, match=WEIGHTS):
        gluon.load_model(model)
    (model / "model.json").unlink()
    with pytest.raises(ValueError, match="model.json cannot be read"):
        pyfunc(model, "auto")


def test_what_onnxruntime_or_mxnet_do_not_take_is_said(model: Path) -> None:
    for name in (ONNX, GRAPH):
        (model / name).write_bytes(b"{}")
    change(model, sha256={})  # a description that vouches for nothing
    with pytest.raises(ValueError, match=r"model\.onnx is not taken by onnxruntime"):
        pyfunc(model, "onnx")
    with pytest.raises(ValueError, match="MXNet does not take graph and weights"):
        pyfunc(model, "mxnet")
    with pytest.raises(ModelError, match="is not an MXNet graph"):  # our own reader is asked before MXNet's
        gluon.load_model(model)


def test_a_network_that_is_not_the_one_described_is_refused(model: Path) -> None:
    change(model, class_names=CLASS_NAMES[:3])
    with pytest.raises(ValueError, match=r"has 4 classes, model\.json names 3"):
        pyfunc(model, "onnx")
    change(model, class_names=CLASS_NAMES, image_shape=[1, 28, 28])
    with pytest.raises(ValueError, match=r"does not answer as model\.json describes it"):
        pyfunc(model, "onnx")


def test_a_model_of_before_there_were_digests_is_read(model: Path) -> None:
    known = json.loads((model / "model.json").read_text())
    del known["sha256"]
    (model / "model.json").write_text(json.dumps(known))
    assert PictureModel(model).class_names == CLASS_NAMES
    check(model, ONNX, GRAPH, WEIGHTS)
    assert params.read(model / WEIGHTS) and "sha256" not in read_facts(model)


def test_the_digests_are_those_that_sha256sum_prints(model: Path) -> None:
    (model / "abc").write_bytes(b"abc")
    assert digest(model / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert set(read_facts(model)["sha256"]) == {GRAPH, WEIGHTS, ONNX}
