"""Networks: every depth and version runs, takes raw pixels, and loads from disk to the same bits."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tracking import names
from trainers.errors import BadInput, DiskFull
from trainers.networks import resnet, saved, weights

mx = resnet.mx
pytestmark = pytest.mark.mxnet

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32)).astype(np.float32)


def made(num_layers: int = 20, version: str = "v1", shape: tuple[int, int, int] = (3, 8, 8), classes: int = 4) -> Any:
    net = resnet.build(num_layers, classes, shape, version)
    weights.initialise(net, "scratch", seed=0)
    return net


def layers_of(net: Any) -> int:
    """Convolutions and dense layers on the longest path: what a depth counts (shortcuts are not on it)."""
    shortcuts = ("downsample", "down")
    names_ = net.body._collect_params_with_prefix()
    return sum(
        parameter.name.endswith("_weight") and not any(part in key for part in shortcuts)
        for key, parameter in names_.items()
    )


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("num_layers", names.SMALL_IMAGE_DEPTHS)
def test_small_networks_have_their_depth(num_layers: int, version: str) -> None:
    assert layers_of(resnet.build(num_layers, 4, (1, 28, 28), version)) == num_layers


@pytest.mark.parametrize("version", ["v1", "v1b", "v2"])
@pytest.mark.parametrize("num_layers", names.LARGE_IMAGE_DEPTHS)
def test_large_networks_have_their_depth(num_layers: int, version: str) -> None:
    assert layers_of(resnet.build(num_layers, 4, (3, 32, 32), version)) == num_layers


@pytest.mark.parametrize(
    ("num_layers", "version", "channels"), [(18, "v1", 1), (18, "v1b", 3), (50, "v2", 1), (20, "v2", 3), (32, "v1", 1)]
)
def test_a_network_answers_with_logits_from_32_px(num_layers: int, version: str, channels: int) -> None:
    net = made(num_layers, version, (channels, 32, 32))
    logits = net(resnet.to_array(PICTURES[:, :channels])).asnumpy()
    assert logits.shape == (3, 4) and np.isfinite(logits).all()


def test_the_number_of_weights_is_the_published_one() -> None:
    assert resnet.num_parameters(made(44, "v1", (3, 28, 28), classes=43)) == 663_483
    assert resnet.num_parameters(made(34, "v1b", (3, 32, 32), classes=1000)) == 21_797_672


def test_normalisation_is_inside_and_equals_the_zoos_net_on_normalised_pixels() -> None:
    net = made(20, "v1", (3, 32, 32))
    normal = (PICTURES - np.reshape(resnet.MEAN, (1, 3, 1, 1))) / np.reshape(resnet.STD, (1, 3, 1, 1))
    expected = net.body(resnet.to_array(normal)).asnumpy()  # the zoo's own forward pass, with its own pool
    np.testing.assert_allclose(net(resnet.to_array(PICTURES)).asnumpy(), expected, rtol=1e-4, atol=1e-4)


def test_grey_is_normalised_by_the_mean_of_the_channels() -> None:
    net = made(20, "v1", (1, 8, 8))
    assert net.mean.data().asnumpy().reshape(-1) == pytest.approx([(123.675 + 116.28 + 103.53) / 3])
    assert net.scale.data().asnumpy().reshape(-1) == pytest.approx([3 / (58.395 + 57.12 + 57.375)])


def test_names_do_not_depend_on_what_the_process_built_before() -> None:
    first, second = resnet.build(18, 4, (3, 32, 32), "v1b"), resnet.build(18, 4, (3, 32, 32), "v1b")
    assert list(first.collect_params()) == list(second.collect_params())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((45, 4, (3, 28, 28), "v1"), "45 layers: there are networks of 18, 20, 32"),
        ((20, 4, (3, 28, 28), "v1b"), "v1b has no 20-layer network"),
        ((20, 4, (3, 28, 28), "v3"), "'v3': there are v1, v1b and v2"),
        ((20, 1, (3, 28, 28), "v1"), "1 classes: a classifier needs at least 2"),
        ((20, 4, (2, 28, 28), "v1"), "1 or 3 channels"),
        ((20, 4, (3, 7, 28), "v1"), "at least 8 px"),
    ],
)
def test_networks_that_do_not_exist_are_refused(arguments: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        resnet.build(*arguments)


@pytest.mark.parametrize(("num_layers", "version"), [(20, "v1"), (20, "v2"), (18, "v1b")])
def test_a_saved_network_gives_the_same_bits(tmp_path: Path, num_layers: int, version: str) -> None:
    net = made(num_layers, version, (3, 32, 32))
    pictures = resnet.to_array(PICTURES)
    with mx.autograd.train_mode():  # running statistics of its own, as after training
        net(pictures)
    expected = net(pictures).asnumpy()
    saved.save_model(net, tmp_path, {"class_names": ["a", "b", "c", "ü"], "resize": None, "fit": "crop"})
    loaded, meta = saved.load_model(tmp_path)
    assert np.array_equal(loaded(pictures).asnumpy(), expected)
    assert meta == {
        "format": 1,
        "num_layers": num_layers,
        "resnet_version": version,
        "num_classes": 4,
        "image_shape": [3, 32, 32],
        "input": "raw RGB 0..255 NCHW",
        "output": "logits",
        "class_names": ["a", "b", "c", "ü"],
        "resize": None,
        "fit": "crop",
    }


def test_the_files_are_mxnets_own(tmp_path: Path) -> None:
    saved.save_model(made(), tmp_path, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model-0000.params",
        "model-symbol.json",
        "model.json",
    ]
    symbol, arguments, auxiliary = mx.model.load_checkpoint(str(tmp_path / "model"), 0)
    assert symbol.list_arguments()[0] == "data" and set(symbol.list_arguments()) - {"data"} == set(arguments)
    assert set(symbol.list_auxiliary_states()) == set(auxiliary)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model-0000.params").unlink(), "model-0000.params missing"),
        (lambda folder: (folder / "model-0000.params").write_bytes(b"\x12\x01"), "cannot be read"),
        (lambda folder: (folder / "model-symbol.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "model.json").write_text("[]"), "cannot be read as a model's description"),
        (lambda folder: (folder / "model.json").write_text(json.dumps({"format": 9})), "format 9; .* reads format 1"),
    ],
)
def test_a_damaged_model_is_named(tmp_path: Path, damage: Any, said: str) -> None:
    saved.save_model(made(), tmp_path, {})
    damage(tmp_path)
    with pytest.raises(BadInput, match=said):
        saved.load_model(tmp_path)


@pytest.mark.parametrize("lost", [1, 5000])
def test_a_lost_tail_is_noticed(tmp_path: Path, lost: int) -> None:
    net = made()
    saved.save_model(net, tmp_path, {})
    former = (tmp_path / "model-0000.params").read_bytes()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(former) - lost, hard))
    try:
        with pytest.raises(DiskFull):  # MXNet itself says nothing when only the last few bytes are refused
            saved.save_model(net, tmp_path, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert (tmp_path / "model-0000.params").read_bytes() == former


def test_a_full_disk_keeps_the_former_model(tmp_path: Path) -> None:
    net = made()
    saved.save_model(net, tmp_path, {})
    former = (tmp_path / "model-0000.params").read_bytes()
    (tmp_path / "model-0000.params.part").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="No room left to write .*model-0000.params"):
        saved.save_model(net, tmp_path, {})
    assert (tmp_path / "model-0000.params").read_bytes() == former
    assert not (tmp_path / "model-0000.params.part").is_symlink()
