"""Saving with the flavor: each form in which a network comes, MLflow's own options, and what cannot be saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema

from tests.support.models import CLASS_NAMES, by_class, crops, network, probabilities, saved_model
from tests.tracking.models.test_files import archive, builtin_files
from tracking.errors import ModelError
from tracking.models import facts as model_format
from tracking.models import gluon
from tracking.models.serving import runtime
from tracking.models.serving.model import PictureModel

pytestmark = pytest.mark.mxnet
SMALL = (20, "v1", (3, 28, 28))


@pytest.fixture
def saved() -> Path:
    """A saved small network, read only."""
    return saved_model(*SMALL)


def pyfunc(path: Path) -> Any:
    return mlflow.pyfunc.load_model(str(path), suppress_warnings=True)


def test_a_pair_of_symbol_and_params_is_saved(saved: Path, tmp_path: Path) -> None:
    mx = runtime.mxnet()
    symbol, arrays = mx.sym.load(str(saved / "model-symbol.json")), mx.nd.load(str(saved / "model-0000.params"))
    arg = {name[4:]: array for name, array in arrays.items() if name.startswith("arg:")}
    aux = {name[4:]: array for name, array in arrays.items() if name.startswith("aux:")}
    pictures = crops(2, SMALL[2])
    expected = pyfunc(saved).predict(pictures)
    forms = {
        "paths": (saved / "model-symbol.json", saved / "model-0000.params"),
        "objects": (symbol, arrays),
        "module": (symbol, (arg, aux)),
        "softmax": (mx.sym.softmax(symbol, name="p"), {**arg, **aux}),
    }
    for name, pair in forms.items():
        gluon.save_model(pair, tmp_path / name, class_names=CLASS_NAMES, pictures=pictures.transpose(0, 3, 1, 2))
        found = pyfunc(tmp_path / name).predict(pictures)
        assert np.abs(by_class(found, CLASS_NAMES) - by_class(expected, CLASS_NAMES)).max() <= 1e-6, name


def test_a_model_of_the_built_in_algorithm_is_saved(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.tar.gz", builtin_files(tmp_path, epochs=(4, 12)))
    pictures = crops(4, (3, 8, 8))
    gluon.save_model(path, tmp_path / "model", epoch=12, pictures=pictures.transpose(0, 3, 1, 2))
    facts = model_format.read_facts(tmp_path / "model")
    assert facts["class_names"] == ["0", "1", "2"] and facts["epoch"] == 12 and facts["image_shape"] == [3, 8, 8]
    assert facts["onnx"]["num_images"] == 4 and "problem" not in facts["onnx"]
    in_mxnet = PictureModel(tmp_path / "model", runtime="mxnet").predict(pictures)
    in_onnx = pyfunc(tmp_path / "model").predict(pictures)
    assert np.abs(by_class(in_mxnet, ["0", "1", "2"]) - by_class(in_onnx, ["0", "1", "2"])).max() <= 1e-5
    with pytest.raises(ModelError, match="2 class names for a network of 3"):
        gluon.save_model(path, tmp_path / "other", epoch=4, class_names=["a", "b"])
    assert not (tmp_path / "other").exists()


def test_what_our_own_job_left_keeps_its_facts(saved: Path, tmp_path: Path) -> None:
    files = {one.name: one.read_bytes() for one in saved.iterdir() if one.is_file()}
    said = json.loads(files["model.json"]) | {"resize": 32, "fit": "squash"}
    names = ("model-symbol.json", "model-0000.params")
    path = archive(
        tmp_path / "model.tar.gz", {"model.json": json.dumps(said).encode(), **{name: files[name] for name in names}}
    )
    gluon.save_model(path, tmp_path / "model", pictures=crops(2, SMALL[2]).transpose(0, 3, 1, 2))
    facts = model_format.read_facts(tmp_path / "model")
    for key in ("class_names", "image_shape", "epoch", "num_layers", "native_size"):
        assert facts.get(key) == said.get(key), key
    assert (facts["resize"], facts["fit"]) == (32, "squash")
    # What the caller says goes before what the archive says.
    gluon.save_model(path, tmp_path / "other", fit="crop", class_names=[f"c{n}" for n in range(len(CLASS_NAMES))])
    other = model_format.read_facts(tmp_path / "other")
    assert (other["fit"], other["resize"], other["class_names"][0]) == ("crop", 32, "c0")


def test_a_block_of_ones_own_needs_only_its_shape(tmp_path: Path) -> None:
    mx = runtime.mxnet()
    net = mx.gluon.nn.HybridSequential(prefix="own_")
    with net.name_scope():
        net.add(mx.gluon.nn.Conv2D(4, 3, in_channels=3), mx.gluon.nn.LeakyReLU(0.1), mx.gluon.nn.GlobalAvgPool2D())
        net.add(mx.gluon.nn.Dense(5))
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 9, 12)))
    with pytest.raises(ModelError, match="give image_shape"):
        gluon.save_model(net, tmp_path / "model")
    gluon.save_model(net, tmp_path / "model", image_shape=(3, 9, 12))
    assert model_format.read_facts(tmp_path / "model")["onnx"]["pictures"] == "noise"
    assert len(pyfunc(tmp_path / "model").predict(crops(1, (3, 9, 12)))["probabilities"][0]) == 5


def test_a_network_without_an_onnx_form_is_served_by_mxnet(tmp_path: Path) -> None:
    mx = runtime.mxnet()
    data = mx.sym.var("data")
    symbol = mx.sym.FullyConnected(mx.sym.L2Normalization(data), num_hidden=3, name="fc")
    params = {
        "fc_weight": runtime.to_array(np.repeat([[0], [1], [2]], 192, axis=1)),
        "fc_bias": mx.nd.zeros(3),
    }
    pictures = crops(2, (3, 8, 8))
    gluon.save_model((symbol, params), tmp_path / "model", pictures=pictures.transpose(0, 3, 1, 2))
    assert "L2Normalization" in model_format.read_facts(tmp_path / "model")["onnx"]["problem"]
    assert not (tmp_path / "model" / "model.onnx").exists()
    assert "mxnet==1.9.1" in (tmp_path / "model" / "requirements.txt").read_text()
    flat = pictures.transpose(0, 3, 1, 2).reshape(2, -1).astype(np.float64)
    sums = (flat / np.sqrt((flat**2).sum(axis=1, keepdims=True))).sum(axis=1)
    expected = probabilities(sums[:, None] * np.array([0, 1, 2]))
    model = pyfunc(tmp_path / "model")
    assert model.get_raw_model().network.runtime == "mxnet"
    assert np.abs(by_class(model.predict(pictures), ["0", "1", "2"]) - expected).max() <= 1e-4
    with pytest.raises(ModelError, match="no ONNX copy"):
        gluon.load_model(tmp_path / "model", runtime="onnx")


@pytest.mark.parametrize(
    ("model", "how", "words"),
    [
        (object(), {}, "object cannot be saved"),
        (("nowhere.json", "nowhere.params"), {}, "nowhere.params cannot be read"),
        (None, {"class_names": ["a", "a", "b", "c"]}, "different names"),
        (None, {"class_names": ["a", "b"]}, "2 class names for a network of 4"),
        (None, {"fit": "stretch"}, "legal are crop, squash"),
        (None, {"resize": 0}, "resize 0"),
        (None, {"image_shape": (2, 28, 28)}, "C 1 or 3"),
        (None, {"conda_env": {}, "pip_requirements": []}, "not both"),
    ],
)
def test_what_cannot_be_saved_leaves_nothing_behind(
    model: Any, how: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=words):
        gluon.save_model(network(*SMALL) if model is None else model, tmp_path / "model", **how)
    assert not list(tmp_path.iterdir())


def test_a_model_is_never_saved_over_another(saved: Path) -> None:
    with pytest.raises(ModelError, match="not empty"):
        gluon.save_model(network(*SMALL), saved)


def test_mlflows_own_options_are_honoured(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("x = 1\n")
    signature = ModelSignature(Schema([ColSpec("string", "image")]))
    gluon.save_model(
        network(*SMALL),
        tmp_path / "model",
        class_names=CLASS_NAMES,
        signature=signature,
        input_example=pd.DataFrame({"image": ["cat.png"]}),
        extra_pip_requirements=["tqdm"],
        code_paths=[str(tmp_path / "helper.py")],
        metadata={"team": "birds"},
    )
    found = Model.load(str(tmp_path / "model"))
    assert found.signature == signature and found.metadata["team"] == "birds" and found.metadata["fit"] == "crop"
    assert (tmp_path / "model" / "code" / "helper.py").read_text() == "x = 1\n"
    assert (tmp_path / "model" / "requirements.txt").read_text().splitlines()[-1] == "tqdm"
    assert list(found.load_input_example(str(tmp_path / "model"))["image"]) == ["cat.png"]
    gluon.save_model(network(*SMALL), tmp_path / "pinned", class_names=CLASS_NAMES, pip_requirements=["mlflow==3.17.2"])
    assert (tmp_path / "pinned" / "requirements.txt").read_text() == "mlflow==3.17.2\n"
