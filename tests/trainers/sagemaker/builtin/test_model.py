"""The built-in's archive: unpacked safely, the right epoch, and the very numbers of the network that was trained."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tracking.errors import ModelError
from tracking.models import gluon
from trainers.errors import BadInput
from trainers.networks import backend as door
from trainers.sagemaker.builtin import model

pytestmark = pytest.mark.mxnet
SHAPES = [{"name": "data", "shape": [128, 3, 28, 28]}, {"name": "softmax_label", "shape": [128]}]


def _tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _preactivation(num_classes: int = 5, dtype: str = "float32") -> Any:
    """A small net of the layout that the built-in descends from: bn_data, pre-activation units, SoftmaxOutput."""
    mx = door.load()

    data = mx.sym.var("data")
    if dtype == "float16":
        data = mx.sym.Cast(data, dtype="float16")
    body = mx.sym.BatchNorm(data, fix_gamma=True, eps=2e-5, momentum=0.9, name="bn_data")
    body = mx.sym.Convolution(body, num_filter=8, kernel=(3, 3), pad=(1, 1), no_bias=True, name="conv0")
    for unit in ("stage1_unit1", "stage1_unit2"):
        first = mx.sym.BatchNorm(body, fix_gamma=False, eps=2e-5, name=f"{unit}_bn1")
        first = mx.sym.Activation(first, act_type="relu", name=f"{unit}_relu1")
        branch = mx.sym.Convolution(first, num_filter=8, kernel=(3, 3), pad=(1, 1), no_bias=True, name=f"{unit}_conv1")
        shortcut = (
            body
            if unit.endswith("2")
            else mx.sym.Convolution(first, num_filter=8, kernel=(1, 1), no_bias=True, name=f"{unit}_sc")
        )
        body = branch + shortcut
    pool = mx.sym.Flatten(mx.sym.Pooling(body, global_pool=True, kernel=(7, 7), pool_type="avg", name="pool1"))
    logits = mx.sym.FullyConnected(pool, num_hidden=num_classes, name="fc1")
    if dtype == "float16":
        logits = mx.sym.Cast(logits, dtype="float32")
    return mx.sym.SoftmaxOutput(logits, name="softmax")


def _write(folder: Path, symbol: Any, seed: int = 0, epoch: int = 10, dtype: str = "float32") -> None:
    """Random weights and what the built-in puts beside them, in ``folder``."""
    mx = door.load()

    rng = np.random.default_rng(seed)
    shapes, _, auxiliary = symbol.infer_shape(data=(2, 3, 28, 28))
    arrays = {}
    for name, shape in zip(symbol.list_arguments(), shapes, strict=True):
        if name not in ("data", "softmax_label"):
            kind = dtype if not name.startswith("bn") and "_bn" not in name else "float32"
            arrays[f"arg:{name}"] = _array(rng.normal(0.1, 0.3, shape), dtype=kind)
    for name, shape in zip(symbol.list_auxiliary_states(), auxiliary, strict=True):
        arrays[f"aux:{name}"] = _array(rng.uniform(0.5, 2.0, shape) * (50 if name.startswith("bn_data") else 1))
    folder.mkdir(exist_ok=True)
    symbol.save(str(folder / "image-classification-symbol.json"))
    mx.nd.save(str(folder / f"image-classification-{epoch:04d}.params"), arrays)
    (folder / "model-shapes.json").write_text(json.dumps(SHAPES))


def _array(values: Any, dtype: str = "float32") -> Any:
    with door.quiet():  # MXNet asks SciPy for a name that SciPy gives with a warning
        return door.load().nd.array(values, dtype=dtype)


def _pictures(count: int = 4) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 256, (count, 3, 28, 28)).astype(np.float32)


_MODULE = """
import sys, numpy as np
np.bool = bool  # MXNet asks for it, NumPy 1.24 dropped it
import mxnet as mx
folder, epoch, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sym, args, aux = mx.model.load_checkpoint(folder + "/image-classification", epoch)
x = np.load(folder + "/x.npy")
module = mx.mod.Module(sym, data_names=["data"], label_names=["softmax_label"])
module.bind([("data", x.shape)], [("softmax_label", (len(x),))], for_training=False)
module.set_params(args, aux)
module.forward(mx.io.DataBatch([mx.nd.array(x)]), is_train=False)
np.save(out, module.get_outputs()[0].asnumpy())
"""


def _module(folder: Path, epoch: int, x: np.ndarray[Any, Any], *, subgraph: bool) -> Any:
    """Probabilities of MXNet's own Module, in a process of its own; ``subgraph``: with its fusing of operators."""
    np.save(folder / "x.npy", x)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | ({} if subgraph else {"MXNET_SUBGRAPH_BACKEND": "NONE"})
    done = subprocess.run(
        [sys.executable, "-c", _MODULE, str(folder), str(epoch), str(folder / "y.npy")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return np.load(folder / "y.npy")


def _softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def test_the_archive_gives_the_numbers_that_mxnet_itself_gives(tmp_path: Path) -> None:

    _write(tmp_path / "made", _preactivation())
    members = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    folder = tmp_path / "made"
    net, meta = model.load(_tar(tmp_path / "model.tar.gz", members))
    assert (meta["num_classes"], meta["image_shape"], meta["epoch"]) == (5, [3, 28, 28], 10)
    assert (meta["class_names"], meta["output"]) == (None, "logits")
    x = _pictures()
    logits = net(_array(x)).asnumpy()
    assert logits.shape == (4, 5) and np.ptp(logits) > 0.1
    expected = _module(folder, 10, x, subgraph=False)
    np.testing.assert_allclose(_softmax(logits), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(net(_array(x[:1])).asnumpy(), logits[:1], rtol=1e-5)  # any batch size


def test_a_network_that_module_gets_wrong_is_right_here(tmp_path: Path) -> None:
    mx, get_model = door.load(), door.zoo("model_zoo").get_model

    mx.random.seed(3)
    net = get_model("cifar_resnet20_v2", classes=5)
    net.initialize(mx.init.Xavier())
    x = _array(_pictures(8)) / 255
    with mx.autograd.record():  # running averages other than 0 and 1
        net(x)
    expected = net(x).asnumpy()
    symbol = mx.sym.SoftmaxOutput(net(mx.sym.var("data")), name="softmax")
    auxiliary = set(symbol.list_auxiliary_states())
    arrays = {f"{'aux' if n in auxiliary else 'arg'}:{n}": p.data() for n, p in net.collect_params().items()}
    symbol.save(str(tmp_path / "image-classification-symbol.json"))
    mx.nd.save(str(tmp_path / "image-classification-0001.params"), arrays)
    (tmp_path / "model-shapes.json").write_text(json.dumps(SHAPES))
    loaded, _ = model.load(tmp_path)
    np.testing.assert_allclose(loaded(x).asnumpy(), expected, rtol=1e-5, atol=1e-6)
    # The danger is real on this machine: Module, as a naive reader would bind it, is off by far more.
    wrong = _module(tmp_path, 1, x.asnumpy(), subgraph=True)
    assert np.abs(wrong - _softmax(expected)).max() > 1e-3


def test_half_precision_weights_work_on_a_cpu_which_cannot_multiply_them(tmp_path: Path) -> None:
    mx = door.load()
    _write(tmp_path / "half", _preactivation(dtype="float16"), dtype="float16")
    saved = mx.nd.load(str(tmp_path / "half" / "image-classification-0010.params"))
    assert any(array.dtype == np.float16 for array in saved.values())
    _write(tmp_path / "single", _preactivation())
    singles = {name: array.astype("float32") for name, array in saved.items()}
    mx.nd.save(str(tmp_path / "single" / "image-classification-0010.params"), singles)
    net, _ = model.load(tmp_path / "half")
    logits = net(_array(_pictures())).asnumpy()
    assert logits.dtype == np.float32
    expected = _module(tmp_path / "single", 10, _pictures(), subgraph=False)
    np.testing.assert_allclose(_softmax(logits), expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(ModelError, match="computes in float16"):
        gluon.save_model(tmp_path / "half", tmp_path / "saved", image_shape=(3, 28, 28))


def test_several_labels_a_picture_are_refused(tmp_path: Path) -> None:
    mx = door.load()

    inner = _preactivation().get_internals()["fc1_output"]
    _write(tmp_path, mx.sym.LogisticRegressionOutput(inner, name="softmax"))
    with pytest.raises(ModelError, match="several labels a picture"):
        model.load(tmp_path)


def test_the_epoch_decides_the_weights(tmp_path: Path) -> None:

    for number in (1, 10):
        _write(tmp_path, _preactivation(), seed=number, epoch=number)
    x = _array(_pictures())
    first, tenth = (model.load(tmp_path, number)[0](x).asnumpy() for number in (1, 10))
    assert np.abs(first - tenth).max() > 0.01


def test_folders_that_lack_something_say_what(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no graph of a network"):
        model.load(tmp_path)
    _write(tmp_path, _preactivation())
    (tmp_path / "model-shapes.json").unlink()
    with pytest.raises(BadInput, match=r"has no model-shapes\.json, so the size"):
        model.load(tmp_path)
    (tmp_path / "model-shapes.json").write_text("[]")
    with pytest.raises(BadInput, match=r"has no model-shapes\.json, so the size"):
        model.load(tmp_path)
    (tmp_path / "model-shapes.json").write_text(json.dumps(SHAPES))
    symbol = tmp_path / "image-classification-symbol.json"
    text = symbol.read_text()
    symbol.unlink()
    with pytest.raises(ModelError, match="has no graph of a network"):
        model.load(tmp_path)
    symbol.write_text(text.replace("stage1_unit2_conv1", "another_name"))
    with pytest.raises(ModelError, match="beside the weights"):
        model.load(tmp_path)
