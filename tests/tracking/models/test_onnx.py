"""The ONNX copy: every operator against MXNet, the file's form, and that a wrong copy is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.support.models import FAMILIES, ask, crops, network, save, saved_model
from tracking.errors import ModelError
from tracking.models import package
from tracking.models.formats import onnx_export, params
from tracking.models.formats import symbol as symbol_graph
from tracking.models.serving import runtime
from tracking.models.serving.runtime import OnnxNetwork
from trainers.networks import backend as door

pytestmark = [pytest.mark.mxnet, pytest.mark.slow]
SHAPE = (4, 8, 8)


def layers(mx: Any) -> dict[str, Any]:
    """A symbol for every kind of operator, on data of shape (N, 4, 8, 8)."""
    s, data = mx.sym, mx.sym.var("data")
    flat = s.Flatten(data)
    return {
        "convolution": s.Convolution(data, num_filter=5, kernel=(3, 3), stride=(2, 2), pad=(1, 1)),
        "dilated and grouped": s.Convolution(
            data, num_filter=4, kernel=(3, 3), dilate=(2, 2), num_group=2, no_bias=True
        ),
        "batch norm, gamma fixed": s.BatchNorm(data),
        "batch norm": s.BatchNorm(data, fix_gamma=False, eps=2e-5),
        **{act: s.Activation(data, act_type=act) for act in ("relu", "sigmoid", "tanh", "softrelu", "softsign")},
        "leaky": s.LeakyReLU(data, act_type="leaky", slope=0.3),
        "elu": s.LeakyReLU(data, act_type="elu", slope=0.7),
        "max pool": s.Pooling(data, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max"),
        "max pool, full": s.Pooling(data, kernel=(3, 3), stride=(2, 2), pool_type="max", pooling_convention="full"),
        "mean pool": s.Pooling(data, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg"),
        "mean pool, inside": s.Pooling(data, kernel=(3, 3), pad=(1, 1), pool_type="avg", count_include_pad=False),
        "global mean": s.Pooling(data, kernel=(1, 1), global_pool=True, pool_type="avg"),
        "global max": s.Pooling(data, kernel=(1, 1), global_pool=True, pool_type="max"),
        "dense": s.FullyConnected(data, num_hidden=3),
        "dense without bias": s.FullyConnected(flat, num_hidden=3, no_bias=True),
        "dense over the last axis": s.FullyConnected(data, num_hidden=3, flatten=False),
        "mean over places": s.mean(data, axis=(2, 3)),
        "mean over places, kept": s.mean(data, axis=(2, 3), keepdims=True),
        "mean over channels": s.mean(data, axis=1, keepdims=True),
        "concat": s.Concat(data, data * 2, dim=1),
        "reshape": s.Reshape(data, shape=(0, -1)),
        "clip": s.clip(data, a_min=-0.5, a_max=0.5),
        "transpose": s.transpose(data, axes=(0, 2, 3, 1)),
        "softmax": s.softmax(flat),
        "log softmax": s.log_softmax(flat),
        "half precision": s.Cast(s.Cast(data, dtype="float16"), dtype="float32"),
        "sum": s.elemwise_add(data, s.relu(data)),
        "difference": s.broadcast_sub(data, s.sigmoid(data)),
        "product": s.broadcast_mul(data, s.tanh(data)),
        "quotient": s.broadcast_div(data, s.Activation(data, act_type="softrelu")),
        "with numbers": (3 - (data + 1) * 2) / 4 - 0.5,
        "over a number": 2 / s.Activation(data, act_type="softrelu"),
        "nothing at inference": s.BlockGrad(s.identity(s.Dropout(data, p=0.5))),
    }


def converted(symbol: Any, mx: Any, tmp_path: Path) -> tuple[OnnxNetwork, Any]:
    """The symbol in both runtimes, with the same random weights."""
    with door.quiet():
        block = mx.gluon.SymbolBlock(symbol, [mx.sym.var("data")])
    block.initialize(mx.init.Uniform(0.5))
    for name, parameter in block.collect_params().items():
        if name.endswith("moving_var"):
            parameter.set_data(mx.nd.ones(parameter.shape) * 2) if parameter.shape and parameter.shape[0] else None
    block(mx.nd.zeros((1, *SHAPE)))
    arrays = {name: p.data().asnumpy() for name, p in block.collect_params().items()}
    pieces = onnx_export.convert(symbol_graph.parse(symbol.tojson()), arrays, SHAPE)
    (tmp_path / "model.onnx").write_bytes(b"".join(pieces))
    return OnnxNetwork(tmp_path / "model.onnx"), block


@pytest.mark.parametrize("kind", sorted(layers(runtime.mxnet())))
def test_an_operator_computes_what_mxnets_does(kind: str, tmp_path: Path) -> None:
    mx = runtime.mxnet()
    network, block = converted(layers(mx)[kind], mx, tmp_path)
    data = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    expected = block(runtime.to_array(data)).asnumpy()
    np.testing.assert_allclose(network(data), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_every_family_gives_the_same_answers(family: tuple[Any, ...]) -> None:
    net, model = network(*family), saved_model(*family)
    onnx_network = OnnxNetwork(model / "model.onnx")
    for count in (1, 5):  # the size of a batch is free
        pictures = crops(count, family[2], seed=3)
        agreement = onnx_export.compare(ask(net, pictures), onnx_network(pictures.transpose(0, 3, 1, 2)))
        assert agreement.max_difference <= 1e-5
    known = json.loads((model / "model.json").read_text())["onnx"]
    assert known["num_images"] == 4 and 0 < known["max_logit_difference"] < 1e-4


def test_the_file_is_what_any_runtime_reads() -> None:
    model = saved_model(20, "v1", (3, 28, 28))
    proto = onnx.load(str(model / "model.onnx"))
    onnx.checker.check_model(proto, full_check=True)
    assert [(one.domain, one.version) for one in proto.opset_import] == [("", 17)] and proto.ir_version == 8
    assert [one.name for one in proto.graph.input] == ["data"]  # no initializer among them
    sides = [one.dim_param or one.dim_value for one in proto.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", 3, 28, 28]
    (answer,) = proto.graph.output
    assert [d.dim_param or d.dim_value for d in answer.type.tensor_type.shape.dim] == ["batch", 4]
    notes = {one.key: one.value for one in proto.metadata_props}
    assert json.loads(notes["class_names"]) == ["cat", "dog", "naïve owl", "4"]


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    net = network(20, "v1", (3, 28, 28))
    one, two = save(net, tmp_path / "one"), save(net, tmp_path / "two")
    assert (one / "model.onnx").read_bytes() == (two / "model.onnx").read_bytes()


def test_an_unknown_operator_is_named() -> None:
    mx = runtime.mxnet()
    symbol = mx.sym.L2Normalization(mx.sym.var("data"), name="odd")
    with pytest.raises(ModelError, match=r"L2Normalization \('odd'\) has no ONNX translation"):
        onnx_export.convert(symbol_graph.parse(symbol.tojson()), {}, SHAPE)


@pytest.mark.parametrize(
    ("attrs", "words"),
    [
        ({"kernel": "(3,)", "num_filter": "2"}, r"kernel \[3\]"),
        ({"kernel": "(3, 3)", "layout": "NHWC"}, "layout='NHWC'"),
        ({"kernel": "__import__('os')"}, 'kernel="__import__'),
        ({"kernel": "(3, 3)", "num_group": "many"}, "num_group='many'"),
        ({"kernel": "(3, 3)", "no_bias": "perhaps"}, "no_bias='perhaps'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(attrs: dict[str, str], words: str) -> None:
    nodes = [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "w", "inputs": []},
        {"op": "Convolution", "name": "c", "attrs": attrs, "inputs": [[0, 0, 0], [1, 0, 0]]},
    ]
    graph = symbol_graph.parse(json.dumps({"nodes": nodes, "arg_nodes": [0, 1], "heads": [[2, 0, 0]]}))
    with pytest.raises(ModelError, match=words):
        onnx_export.convert(graph, {"w": np.zeros((2, 4, 3, 3), np.float32)}, SHAPE)


def test_missing_weights_are_named() -> None:
    mx = runtime.mxnet()
    symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="fc")
    with pytest.raises(ModelError, match="takes data, fc_weight, fc_bias beside its weights"):
        onnx_export.convert(symbol_graph.parse(symbol.tojson()), {}, SHAPE)


def test_agreement_is_in_probabilities_and_logits() -> None:
    logits = np.array([[1.0, 2.0], [0.0, 5.0]], np.float32)
    found = onnx_export.compare(logits, logits + np.array([[0, 1e-5], [0, 0]], np.float32))
    assert found.num_images == 2 and found.max_logit_difference == pytest.approx(1e-5, rel=0.05)
    # The derivative of a softmax of two is p (1 - p).
    assert found.max_difference == pytest.approx(1e-5 * 0.7311 * 0.2689, rel=0.05)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ([[1.0, 2.1], [0.0, 5.0]], "differ by 0.01"),
        ([[1.0, 2.0], [np.nan, 5.0]], "no numbers"),
        ([[1.0, 2.0]], "in shape"),
    ],
)
def test_answers_that_differ_are_not_the_same(other: list[list[float]], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        onnx_export.compare(np.array([[1.0, 2.0], [0.0, 5.0]]), np.array(other))


def test_a_copy_that_answers_otherwise_is_left_out_and_the_model_stays(tmp_path: Path) -> None:
    net = network(20, "v1", (3, 28, 28))
    model = save(net, tmp_path / "model")
    pictures = crops(4, net.shape).transpose(0, 3, 1, 2)
    written = package.package(model, pictures=pictures, ask=lambda shown: np.tile([0.0, 1, 2, 3], (len(shown), 1)))
    assert not (model / "model.onnx").exists()
    assert "differ by" in written["metadata"]["onnx"]["problem"]
    assert "differ by" in json.loads((model / "model.json").read_text())["onnx"]["problem"]
    assert "mxnet==1.9.1" in (model / "requirements.txt").read_text()
    assert written["flavors"]["gluon"].get("onnx") is None


def test_weights_saved_beside_a_running_forward_pass_are_whole(tmp_path: Path) -> None:
    from trainers.networks import resnet, weights
    from trainers.networks import saved as modelfiles

    for number in range(3):
        net = resnet.build(18, 4, (3, 64, 64), "v1")
        weights.initialise(net, "scratch", number)  # its forward pass may still be under way
        modelfiles.save_model(net, tmp_path / "model", {})
        saved = params.weights(tmp_path / "model" / "model-0000.params")
        for name, parameter in net.collect_params().items():
            assert (parameter.data().asnumpy() == saved[name]).all(), name


@pytest.mark.parametrize("name", ["mobilenet0.25", "mobilenetv2_0.25", "mobilenetv3_small", "resnest14"])
def test_networks_of_the_zoo_give_the_same_answers(name: str) -> None:
    from trainers.config import Config
    from trainers.networks import resnet, weights

    config = Config(network=name, num_classes=4, num_training_samples=8, image_shape="3,40,40")
    net = resnet.build_for(config)
    weights.initialise(net, "scratch", seed=1)
    pictures = np.ascontiguousarray(crops(8, config.shape, seed=3).transpose(0, 3, 1, 2))
    with resnet.mx.autograd.record():  # the statistics fit photographs
        net(resnet.to_array(pictures))
    resnet.mx.nd.waitall()  # a pass under way moves weights into layouts of its own while they are read
    arrays = {key: one.data().asnumpy() for key, one in net.collect_params().items()}
    graph = symbol_graph.parse(net(resnet.mx.sym.var("data")).tojson())
    content = b"".join(onnx_export.convert(graph, arrays, config.shape))
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    for count in (1, 8):
        answer = OnnxNetwork(content)(pictures[:count])
        onnx_export.compare(net(resnet.to_array(pictures[:count])).asnumpy(), answer)
