"""One run on several devices or workers: the weights of one, whatever is lost on the way; real MXNet, on loopback."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import ROOT
from trainers.config import Config
from trainers.data import Batches, open_dataset
from trainers.data.batches import share_of
from trainers.errors import BadData, BadInput, TrainerError, WorkerLost
from trainers.networks import backend
from trainers.networks.group import ALONE, Alone, Follower, Leader, leave
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


def network(devices: str = "cpu") -> Plain:
    mx.random.seed(3)
    net = Plain()
    net.initialize(mx.init.Xavier(), ctx=backend.contexts(devices))
    net.hybridize(static_alloc=True, static_shape=True)
    for device in backend.contexts(devices):  # as the first weights are drawn; it moves them into oneDNN's layout
        net(mx.nd.zeros((1, 1, 8, 8), ctx=device))
    return net


def batches(config: Config, group: Alone = ALONE) -> Batches:
    return fit.training_batches(open_dataset("digits").train.take(np.arange(110)), config, group)


def trained(folder: Path, devices: str = "cpu", group: Alone = ALONE, epochs: int = 3, **settings: Any) -> Any:
    """The weights after training, by name, and the records."""
    config, net = dataclasses.replace(CONFIG, **settings), network(devices)
    validation = Batches(open_dataset("digits").validation.take(np.arange(40)), config.shape, 64)
    records = fit.fit(net, batches(config, group), validation, config, state_dir=folder, group=group)
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


def test_shares_are_the_batch_with_no_picture_twice_or_left_out() -> None:
    for size in range(1, 40):
        for count in range(1, 6):
            shares = [share_of(size, which, count) for which in range(count)]
            assert sorted(np.concatenate(shares)) == list(range(size))
            assert max(map(len, shares)) - min(map(len, shares)) <= 3
            assert all((size - 1 - share[::-1] == share).all() for share in shares)  # each mixes with its own
    for kind in ("crop", "crop_color_transform", None):
        config = dataclasses.replace(CONFIG, augmentation_type=kind)
        groups = [Alone() for _ in range(3)]
        for rank, group in enumerate(groups):
            group.rank, group.size = rank, 3
        whole = list(batches(config).epoch(2))
        parts = zip(*(batches(config, group).epoch(2) for group in groups), strict=True)
        for (images, labels), several in zip(whole, parts, strict=True):
            for which, (own, right) in enumerate(several):
                places = share_of(33, which, 3)
                assert np.array_equal(own, images[places]) and np.array_equal(right, labels[places])


def test_devices_that_cannot_be_are_refused() -> None:
    for wrong in ("cuda", "cpu:0", "gpu:1", "0,0", "-1", "1.5", ""):
        with pytest.raises(BadInput, match="is none of cpu, cpu:N"):
            Config(devices=wrong)
    with pytest.raises(BadInput, match=r"--devices 0,1: MXNet sees no GPU\. Take others, or cpu\."):
        backend.contexts("0,1")
    with pytest.raises(BadInput, match="dist_async is of the built-in"):
        Config(workers=2, kv_store="dist_async")
    with pytest.raises(BadInput, match="only python -m trainers.run starts"):
        experiment.run(Config(workers=2))
    assert Config(workers=1).workers is None and "workers" not in Config(workers=1).params()
    assert Config(devices="cpu:2", workers=3).fingerprint() == Config().fingerprint()
    assert leave(7) == 7  # of a process that was in no group


def test_a_batch_must_have_a_picture_for_each_device_of_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    from tracking.store import Store

    config = Config(devices="cpu:2", workers=2, mini_batch_size=6)
    with pytest.raises(BadInput, match=r"leaves some of 2 workers x 2 devices without a picture\. Take at least 8"):
        experiment.prepare(dataclasses.replace(config, mini_batch_size=3), Store("sqlite://", None, Path("none")))


# -- workers ----------------------------------------------------------------------------------------------------------


def joined(leader: Leader, rank: int) -> socket.socket:
    """A connection as a worker makes it."""
    connection = socket.create_connection(leader._listener.getsockname()[:2])
    connection.sendall(json.dumps({"worker": rank, "bytes": 0}).encode() + b"\n")
    return connection


@pytest.fixture
def leader() -> Iterator[Leader]:
    leader = Leader(2, "epochs = 1\n")
    yield leader
    leader.close()


def until_raised(leader: Leader) -> None:
    for _ in range(500):
        leader.check()
        time.sleep(0.01)


def test_a_worker_that_is_gone_ends_the_run_with_its_reason(leader: Leader) -> None:
    for stranger in (b"GET / HTTP/1.1\r\n\r\n", b'{"worker": 7, "bytes": 0}\n', b"[]\n", b""):
        with socket.create_connection(leader._listener.getsockname()[:2]) as connection:
            connection.sendall(stranger)
    with joined(leader, 1) as connection:
        assert json.loads(connection.makefile("rb").readline())["config"] == "epochs = 1\n"
        leader.check()
    with pytest.raises(WorkerLost, match=r"Worker 1 of 2 was lost: its connection ended\."):
        until_raised(leader)


def test_a_worker_s_own_reason_is_the_run_s(leader: Leader) -> None:
    with joined(leader, 1) as connection:
        connection.sendall(b'{"failed": "no such file", "bytes": 0}\n')
    with pytest.raises(TrainerError, match="Worker 1 of 2 failed: no such file"):
        leader.assemble("digest", None)


def test_a_worker_with_other_pictures_is_refused(leader: Leader) -> None:
    with joined(leader, 1) as connection:
        connection.sendall(b'{"ready": "others", "bytes": 0}\n')
        with pytest.raises(BadData, match="other training pictures than worker 0"):
            leader.assemble("digest", None)


def test_a_worker_that_does_not_start_is_no_hang(leader: Leader) -> None:
    leader.start([sys.executable, "-c", "raise SystemExit('no memory')"])
    with pytest.raises(WorkerLost, match=r"Worker 1 of 2 did not start \(exit code 1: no memory\)\."):
        leader.assemble("digest", None)


def test_two_workers_give_the_weights_of_one_and_one_that_is_killed_is_no_hang(tmp_path: Path) -> None:
    """The other worker is killed in the third epoch; the state after two is that of a run of one worker."""
    program = f"import {__name__} as test; test.lead({str(tmp_path / 'two')!r})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PORT": "80"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 5, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["error"] == "Worker 1 of 2 was lost: its connection ended (exit code -9)."
    one, records = trained(tmp_path / "one")
    for row, record in zip(said["rows"], records, strict=False):  # of the pictures of both
        assert row["train_loss"] == pytest.approx(record.train_loss, rel=1e-4)
        assert row["train_accuracy"] == pytest.approx(record.train_accuracy, abs=0.011)  # one picture of 99
    assert len(said["rows"]) == 2
    assert_alike(one, trained(tmp_path / "two")[0])  # it goes on


def lead(folder: str) -> None:
    """The program of worker 0."""
    leader, rows, error = Leader(2, ""), [], ""
    try:
        leader.start([sys.executable, "-c", f"import sys, {__name__} as test; test.train_along(*sys.argv[1:])"])
        config, net = CONFIG, network()
        validation = Batches(open_dataset("digits").validation.take(np.arange(40)), config.shape, 64)
        for record in fit.fit(net, batches(config, leader), validation, config, state_dir=Path(folder), group=leader):
            rows.append(record.values())
    except WorkerLost as lost:
        error = str(lost)
    finally:
        leader.close()
    print(json.dumps({"rows": rows, "error": error}))
    leave(5)


def train_along(address: str, rank: str) -> None:
    """The program of worker 1, which is killed in its third epoch."""
    host, _, port = address.rpartition(":")
    group = Follower(host, int(port), int(rank))
    train, folder = batches(CONFIG, group), Path.cwd()
    make = train._make

    def killed(number: int, place: int, whole: Any) -> Any:
        if number == 3 and place == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return make(number, place, whole)

    train._make = killed  # type: ignore[method-assign]
    fit.follow(network(), train, CONFIG, folder=folder, group=group)
