"""One run by several workers: the weights of one, an end with a reason when one is lost; real MXNet, on loopback."""

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
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import ROOT
from tests.trainers.training.test_devices import CONFIG, assert_alike, network, trained
from tracking.store import Store
from trainers.config import Config
from trainers.data import Batches, open_dataset
from trainers.data.batches import share_of
from trainers.errors import BadData, BadInput, TrainerError, WorkerLost
from trainers.networks.group import Follower, Group, Leader, leave
from trainers.training import experiment, fit
from trainers.training.steps import checkpoints

pytestmark = pytest.mark.mxnet


def batches(config: Config, rank: int, size: int) -> Batches:
    group = Group()
    group.rank, group.size = rank, size
    return fit.training_batches(open_dataset("digits").train.take(np.arange(110)), config, group)


def test_shares_are_the_batch_with_no_picture_twice_or_left_out() -> None:
    for size in range(1, 40):
        for count in range(1, 6):
            shares = [share_of(size, which, count) for which in range(count)]
            assert sorted(np.concatenate(shares)) == list(range(size))
            assert max(map(len, shares)) - min(map(len, shares)) <= 3
            assert all((size - 1 - share[::-1] == share).all() for share in shares)  # each mixes with its own
    for kind in ("crop", "crop_color_transform", None):
        config = dataclasses.replace(CONFIG, augmentation_type=kind)
        images, labels = next(batches(config, 0, 1).epoch(2))
        for which in range(3):
            own, right = next(batches(config, which, 3).epoch(2))
            places = share_of(33, which, 3)
            assert np.array_equal(own, images[places]) and np.array_equal(right, labels[places])


def test_settings_of_workers() -> None:
    with pytest.raises(BadInput, match="dist_async is of the built-in"):
        Config(workers=2, kv_store="dist_async")
    assert Config(workers=1).workers is None and "workers" not in Config(workers=1).params()
    assert Config(workers=3).fingerprint() == Config().fingerprint()
    with pytest.raises(BadInput, match="--mini-batch-size 3 is less than a picture for each device of each worker"):
        experiment.prepare(
            Config(devices="cpu:2", workers=2, mini_batch_size=3), Store("sqlite://", None, Path("none"))
        )
    assert leave(7) == 7  # of a process that was in no group


@pytest.fixture
def leader() -> Iterator[Leader]:
    leader = Leader(2, "epochs = 1\n")
    yield leader
    leader.close()


def joined(leader: Leader) -> Connection:
    """A connection as worker 1 makes it, once strangers have come and gone."""
    for stranger in (b"GET / HTTP/1.1\r\n\r\n", b"worker 7        ", b"worker 0        ", b"", b"worker -1       "):
        with socket.create_connection(("127.0.0.1", leader.port)) as connection:
            connection.sendall(stranger)
    own = socket.create_connection(("127.0.0.1", leader.port))
    own.sendall(b"worker 1        ")
    return Connection(own.detach())


def test_a_worker_that_is_gone_ends_the_run_with_its_reason(leader: Leader) -> None:
    joined(leader).close()
    with pytest.raises(WorkerLost, match=r"Worker 1 of 2 was lost: its connection ended"):
        leader.assemble("abcdef123456")


def test_a_worker_s_own_reason_is_the_run_s(leader: Leader) -> None:
    with joined(leader) as connection:
        connection.send_bytes(b"fno such file")
        with pytest.raises(TrainerError, match="Worker 1 of 2 failed: no such file"):
            leader.assemble("abcdef123456")


def test_a_worker_that_does_not_start_is_no_hang(leader: Leader) -> None:
    leader.start([sys.executable, "-c", "raise SystemExit('no memory')"])
    with pytest.raises(WorkerLost, match=r"Worker 1 of 2 did not start: it ended with exit code 1"):
        leader.assemble("abcdef123456")


def sent(digest: str) -> bytes:
    return b"d" + np.array([float(int(digest[:12], 16))]).tobytes()


def test_a_worker_with_other_pictures_is_refused(leader: Leader) -> None:
    with joined(leader) as connection:
        connection.send_bytes(sent("abcdef123455"))
        with pytest.raises(BadData, match="do not have the same training pictures"):
            leader.assemble("abcdef123456")


def test_other_weights_at_the_start_end_the_run(leader: Leader, tmp_path: Path) -> None:
    """The other worker says that it has other weights, whatever it was given; a store is not needed to see that."""
    net = network()
    with joined(leader) as connection:
        connection.send_bytes(sent("abcdef123455"))
        with pytest.raises(BadData):  # they have met
            leader.assemble("abcdef123456")
        connection.send_bytes(sent(checkpoints.digest(network(seed=4))))
        records = fit.fit(net, batches(CONFIG, 0, 2), batches(CONFIG, 0, 1), CONFIG, state_dir=tmp_path, group=leader)
        with pytest.raises(TrainerError, match="The workers' weights are not the same before the first step"):
            next(records)


def test_two_workers_give_the_weights_of_one_and_one_that_is_killed_is_no_hang(tmp_path: Path) -> None:
    """The other worker is killed in the third epoch; the state after two is that of a run of one worker."""
    program = f"import {__name__} as test; test.lead({str(tmp_path / 'two')!r}, 3)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PORT": "80"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 5, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["error"] == "Worker 1 of 2 was lost: its connection ended."
    one, records = trained(tmp_path / "one")
    for row, record in zip(said["rows"], records, strict=False):  # of the pictures of both
        assert row["train_loss"] == pytest.approx(record.train_loss, rel=1e-4)
        assert row["train_accuracy"] == pytest.approx(record.train_accuracy, abs=0.011)  # one picture of 99
    assert len(said["rows"]) == 2
    assert_alike(one, trained(tmp_path / "two")[0])  # it goes on


def lead(folder: str, killed_in: int) -> None:
    """The program of worker 0; worker 1 is killed in an epoch, in none with 0."""
    leader, rows, error, net, began = Leader(2, ""), [], "", network(), time.monotonic()
    if killed_in == 0:  # the weights are worker 0's, whatever worker 1 has drawn
        os.environ["OTHER_SEED"] = "1"
    try:
        program = f"import sys, {__name__} as test; test.train_along(*sys.argv[1:], {killed_in})"
        leader.start([sys.executable, "-c", program])
        validation = Batches(open_dataset("digits").validation.take(np.arange(40)), CONFIG.shape, 64)
        train = batches(CONFIG, 0, 2)
        leader.assemble("abcdef123456")
        for record in fit.fit(net, train, validation, CONFIG, state_dir=Path(folder), group=leader):
            rows.append(record.values())
    except TrainerError as lost:
        error = str(lost)
    finally:
        leader.close()
    print(json.dumps({"rows": rows, "error": error, "took_s": time.monotonic() - began}))
    leave(5)


def train_along(address: str, rank: str, killed_in: int) -> None:
    """The program of worker 1."""
    host, _, port = address.rpartition(":")
    group = Follower(host, int(port), int(rank))
    train = batches(CONFIG, 1, 2)
    make = train._make

    def killed(number: int, place: int, whole: Any) -> Any:
        if number == killed_in and place == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return make(number, place, whole)

    train._make = killed  # type: ignore[method-assign]
    group.assemble("abcdef123456")
    fit.follow(network(seed=int(os.environ.get("OTHER_SEED", 3))), train, CONFIG, group)
