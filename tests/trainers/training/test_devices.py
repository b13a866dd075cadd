"""One run on several devices: the weights of one; real MXNet, the processor as several devices."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tracking.store import Store
from trainers.config import Config
from trainers.data import Batches, open_dataset
from trainers.errors import BadInput
from trainers.networks import backend
from trainers.networks.resnet import to_array
from trainers.training import experiment, fit
from trainers.training.steps import checkpoints
from trainers.training.steps.recipe import Learner

mx = backend.load()
pytestmark = pytest.mark.mxnet
CLOSE = {"rtol": 2e-4, "atol": 2e-5}  # of float32 weights after a dozen steps, summed in another order
CONFIG = Config(
    num_layers=20,
    num_classes=10,
    num_training_samples=99,
    image_shape="1,8,8",
    mini_batch_size=33,
    epochs=3,
    learning_rate=0.02,
    augmentation_type="crop",
    mixup=0.2,
    label_smoothing=0.1,
)


class Plain(mx.gluon.HybridBlock):  # type: ignore[misc, name-defined]
    """A classifier without batch normalisation."""

    num_classes, shape = 10, (1, 8, 8)

    def __init__(self, body: Any = None) -> None:
        super().__init__(prefix="plain_")
        with self.name_scope():
            self.body = body or mx.gluon.nn.Conv2D(16, 3, activation="relu", in_channels=1)
            self.head = mx.gluon.nn.Dense(10)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.head(self.body(x / 255))


def network(devices: str = "cpu", seed: int = 3) -> Plain:
    mx.random.seed(seed)
    net = Plain()
    net.initialize(mx.init.Xavier(), ctx=backend.contexts(devices))
    net.hybridize(static_alloc=True, static_shape=True)
    for device in backend.contexts(devices):  # as the first weights are drawn; it moves them into oneDNN's layout
        net(mx.nd.zeros((1, 1, 8, 8), ctx=device))
    return net


def batches(config: Config) -> Batches:
    return fit.training_batches(open_dataset("digits").train.take(np.arange(110)), config)


def trained(folder: Path, devices: str = "cpu", epochs: int = 3, **settings: Any) -> Any:
    """The weights after training, by name, and the records."""
    config, net = dataclasses.replace(CONFIG, **settings), network(devices)
    validation = Batches(open_dataset("digits").validation.take(np.arange(40)), config.shape, 64)
    records = fit.fit(net, batches(config), validation, config, state_dir=folder)
    seen = [record for _, record in zip(range(epochs), records, strict=False)]
    return checkpoints.arrays_of(net), seen


def assert_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], err_msg=name, **CLOSE)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_devices_give_the_weights_of_one(tmp_path: Path, optimizer: str) -> None:
    rate = {"sgd": 0.02, "adam": 0.002}[optimizer]
    settings: dict[str, Any] = {"optimizer": optimizer, "learning_rate": rate}
    one, records = trained(tmp_path / "one", **settings)
    for devices in ("cpu:2", "cpu:3"):  # 33 pictures: 17 and 16
        several, seen = trained(tmp_path / devices, devices, **settings)
        assert_alike(one, several)
        assert [record.train_loss for record in seen] == pytest.approx([r.train_loss for r in records], rel=1e-4)
    # One that began on one device goes on with two, and one on two goes on to its own bits.
    trained(tmp_path / "begun", epochs=1, **settings)
    assert_alike(one, trained(tmp_path / "begun", "cpu:2", **settings)[0])
    trained(tmp_path / "again", "cpu:3", epochs=2, **settings)
    again, _ = trained(tmp_path / "again", "cpu:3", **settings)
    assert all(np.array_equal(again[name], several[name]) for name in again)


def test_devices_keep_statistics_of_their_own_and_end_an_epoch_with_the_mean() -> None:
    net = Plain(mx.gluon.nn.BatchNorm(in_channels=1, momentum=0.0))
    net.initialize(ctx=backend.contexts("cpu:2"))
    net(mx.nd.zeros((1, 1, 8, 8)))
    learner = Learner(net, dataclasses.replace(CONFIG, mixup=None, label_smoothing=None), np.arange(10))
    images = np.concatenate([np.full((16, 1, 8, 8), 10, np.uint8), np.full((17, 1, 8, 8), 30, np.uint8)])[::-1]
    learner.begin(1)
    learner.step(images, np.arange(33) % 10, 1, 0)
    mean = net.body.running_mean
    assert [255 * float(data.asnumpy()[0]) for data in mean.list_data()] == pytest.approx([30, 10], rel=1e-4)
    learner.end()
    assert [255 * float(data.asnumpy()[0]) for data in mean.list_data()] == pytest.approx([20, 20], rel=1e-4)


def test_devices_with_batch_normalisation_give_the_weights_of_one_that_normalises_by_halves() -> None:
    """What differs from one device is the statistics of a share, and nothing else."""
    config = dataclasses.replace(CONFIG, mixup=None, label_smoothing=None)
    rows = list(batches(config).epoch(1))
    nets = []
    for devices in ("cpu", "cpu:2"):
        mx.random.seed(3)
        body = mx.gluon.nn.HybridSequential()
        body.add(mx.gluon.nn.Conv2D(8, 3, in_channels=1), mx.gluon.nn.BatchNorm(in_channels=8))
        net = Plain(body)
        net.initialize(mx.init.Xavier(), ctx=backend.contexts(devices))
        for device in backend.contexts(devices):
            net(mx.nd.zeros((1, 1, 8, 8), ctx=device))
        nets.append(net)
    halves, learner = (Learner(net, config, np.arange(10)) for net in nets)
    for number, (images, labels) in enumerate(rows):
        learner.step(images, labels, 1, number)
        with mx.autograd.record():
            losses = [
                mx.gluon.loss.SoftmaxCrossEntropyLoss()(nets[0](to_array(part)), to_array(right))
                for part, right in zip(np.array_split(images, 2), np.array_split(labels, 2), strict=True)
            ]
        mx.autograd.backward(losses)
        halves.trainer.update(len(labels))
    one, two = (checkpoints.arrays_of(net) for net in nets)
    for (name, array), other in zip(one.items(), two.values(), strict=True):
        if "running" not in name:
            np.testing.assert_allclose(array, other, err_msg=name, **CLOSE)


def test_devices_that_cannot_be_are_refused() -> None:
    for wrong in ("cuda", "cpu:0", "gpu:1", "0,0", "-1", "1.5", ""):
        with pytest.raises(BadInput, match="is none of cpu, cpu:N"):
            Config(devices=wrong)
    with pytest.raises(BadInput, match=r"--devices 0,1: MXNet sees no GPU\. Take others, or cpu\."):
        backend.contexts("0,1")
    assert Config(devices="cpu:2").fingerprint() == Config().fingerprint()
    config = Config(devices="cpu:2", mini_batch_size=1)
    with pytest.raises(BadInput, match="--mini-batch-size 1 is less than a picture for each device"):
        experiment.prepare(config, Store("sqlite://", None, Path("none")))
