"""The training loop: it learns, keeps what validation chose, stops where it should, and continues to the same bits."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.forked import Forked
from trainers.config import Config
from trainers.data import Batches, open_dataset
from trainers.errors import BadInput, DiskFull, TrainerError, TrainingDiverged
from trainers.networks import backend, resnet, saved, weights
from trainers.training import fit, scores
from trainers.training.steps import checkpoints, optimizers

mx = resnet.mx
pytestmark = [pytest.mark.mxnet, pytest.mark.slow]

BASE = Config(
    num_layers=20,
    num_classes=10,
    num_training_samples=128,
    image_shape="1,8,8",
    mini_batch_size=32,
    epochs=3,
    learning_rate=0.1,
    augmentation_type="crop",
)


class Course:
    """One training course on 140 digits (4 batches of 32; 12 are left out), validated on 60."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.config = dataclasses.replace(BASE, **settings)
        self.folder = folder
        data = open_dataset("digits")
        shape, size = self.config.shape, self.config.mini_batch_size
        self.train = Batches(
            data.train.take(np.arange(140)),
            shape,
            size,
            augmentation=self.config.augmentation_type,
            shuffle=True,
            seed=self.config.seed,
            last="discard",
        )
        self.validation = Batches(data.validation.take(np.arange(60)), shape, 64)
        self.net = resnet.build(20, 10, shape, self.config.resnet_version)
        weights.initialise(self.net, "scratch", seed=self.config.seed)

    def run(self, **how: Any) -> list[fit.EpochRecord]:
        return list(fit.fit(self.net, self.train, self.validation, self.config, state_dir=self.folder, **how))

    def digest(self) -> str:
        return digest_of(self.net)


def digest_of(net: Any) -> str:
    """Of all weights and running statistics, bit for bit."""
    arrays = checkpoints.arrays_of(net)
    return hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()


def after(calls: int) -> Callable[[], bool]:
    """A ``stop`` that says True from the given call on."""
    count = iter(range(10**9))
    return lambda: next(count) >= calls


def rows_without_times(records: list[fit.EpochRecord]) -> list[fit.EpochRecord]:
    return [dataclasses.replace(record, images_per_s=0, epoch_time_s=0) for record in records]


def test_it_learns_and_says_how_it_went(tmp_path: Path) -> None:
    course = Course(tmp_path, top_k=3, learning_rate=0.02, lr_scheduler_step="2", augmentation_type=None)
    records = course.run()
    assert [record.epoch for record in records] == [1, 2, 3]
    assert [record.epoch_learning_rate for record in records] == pytest.approx([0.02, 0.02, 0.002])
    assert records[-1].train_loss < records[0].train_loss < 4
    assert records[-1].train_accuracy > 0.5
    # 128 pictures are trained on and 60 are validated on: the shares are whole numbers of them.
    assert all((record.train_accuracy * 128).is_integer() for record in records)
    assert all(round(record.validation_accuracy * 60, 9).is_integer() for record in records)
    assert all(record.images_per_s > 128 / record.epoch_time_s for record in records)
    assert fit.history(tmp_path) == [record.values() for record in records]
    values = records[0].values()
    assert values["train_top3_accuracy"] >= values["train_accuracy"]
    assert values["validation_top3_accuracy"] >= values["validation_accuracy"]
    assert "top_k" not in values and "train_top_k_accuracy" not in values


def test_the_best_weights_come_back(tmp_path: Path) -> None:
    course = Course(tmp_path, epochs=4)
    records = course.run()
    best = max(records, key=lambda record: (record.validation_accuracy, -record.epoch))
    assert [record.epoch for record in records if record.is_best][-1] == best.epoch
    assert fit.load_best(course.net, tmp_path) == best.epoch
    seen = scores.score(course.net, course.validation)
    assert (seen.accuracy, seen.loss) == (best.validation_accuracy, best.validation_loss)


def test_the_folder_stays_small(tmp_path: Path) -> None:
    course = Course(tmp_path, epochs=4, optimizer="adam", learning_rate=0.01)
    limit = checkpoints.peak_bytes(resnet.num_parameters(course.net), "adam") * 1.05  # names, statistics, history
    for record in fit.fit(course.net, course.train, course.validation, course.config, state_dir=tmp_path):
        kept = [path.name for path in tmp_path.glob("state-*")]
        assert sorted(kept) == [f"state-{epoch:04d}.npz" for epoch in (record.epoch - 1, record.epoch) if epoch]
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < limit


def test_without_its_file_the_best_epoch_is_named(tmp_path: Path) -> None:
    course = Course(tmp_path, epochs=1)
    course.run()
    (tmp_path / "best-0001.npz").unlink()
    with pytest.raises(TrainerError, match="best checkpoint, .*best-0001.npz, cannot be read"):
        fit.load_best(course.net, tmp_path)


def test_of_equally_good_epochs_the_earliest_is_kept() -> None:
    def rows(*accuracies: float) -> list[dict[str, Any]]:
        return [{"validation_accuracy": accuracy} for accuracy in accuracies]

    assert checkpoints.best_epoch(rows(0.5, 0.7, 0.7, 0.6)) == 2
    assert checkpoints.best_epoch(rows(0.0, 0.0)) == 1
    assert checkpoints.best_epoch([]) == 0


def test_a_checkpoint_every_so_many_epochs_is_a_weights_file(tmp_path: Path) -> None:
    course = Course(tmp_path, checkpoint_frequency=2, epochs=2)
    course.run()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["epoch-0002.params"]
    net = resnet.build(20, 10, (1, 8, 8))
    told = weights.initialise(net, str(tmp_path / "checkpoints" / "epoch-0002.params"), seed=0)
    assert told["num_loaded"] == len(list(net.collect_params())) - 4  # mean, scale, and the head's two


def test_weights_are_not_read_while_a_prediction_moves_them(tmp_path: Path) -> None:
    """Without waiting, some of these reads find a mixture of two layouts, or MXNet raises (in 3 of 5 runs)."""
    net = resnet.build(20, 10, (1, 8, 8))
    weights.initialise(net, "scratch", seed=0)
    pictures = resnet.to_array(np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8)))
    trainer = optimizers.trainer_for(net, BASE)
    for _ in range(20):
        with mx.autograd.record():
            loss = net(pictures).sum()
        loss.backward()
        trainer.step(8)
        answer = net(pictures)
        during = [checkpoints.arrays_of(net) for _ in range(20)]
        answer.asnumpy()
        after = checkpoints.arrays_of(net)
        assert all(np.array_equal(arrays[name], after[name]) for arrays in during for name in after)


def test_learning_rate_steps() -> None:
    config = dataclasses.replace(BASE, epochs=30, lr_scheduler_step="10,20", lr_scheduler_factor=0.1)
    rates = {epoch: optimizers.learning_rate(config, epoch) for epoch in (1, 10, 11, 20, 21, 30)}
    assert rates == pytest.approx({1: 0.1, 10: 0.1, 11: 0.01, 20: 0.01, 21: 0.001, 30: 0.001})


@pytest.mark.parametrize(
    ("accuracies", "settings", "stops"),
    [
        ([0.5, 0.5, 0.5], {}, True),  # two epochs without a gain
        ([0.5, 0.5, 0.6], {}, False),
        ([0.5, 0.4, 0.45], {}, True),
        ([0.5, 0.5], {}, False),  # patience is 2
        ([0.5, 0.5, 0.5], {"early_stopping_min_epochs": 4}, False),
        ([0.5, 0.5, 0.5, 0.5], {"early_stopping_min_epochs": 4}, True),
        ([0.5, 0.5, 0.5], {"early_stopping": False}, False),
        ([0.50, 0.52, 0.53], {"early_stopping_tolerance": 0.05}, True),  # gains of 4 % and 1.9 %
        ([0.50, 0.52, 0.57], {"early_stopping_tolerance": 0.05}, False),  # the last gains 9.6 %
        ([0.0, 0.0, 0.1], {"early_stopping_tolerance": 0.5}, False),  # anything is a gain over nothing
    ],
)
def test_early_stopping(accuracies: list[float], settings: dict[str, Any], stops: bool) -> None:
    wanted = {"early_stopping": True, "early_stopping_min_epochs": 1, "early_stopping_patience": 2} | settings
    why = fit.early_stop(accuracies, dataclasses.replace(BASE, epochs=9, **wanted))
    assert bool(why) is stops
    if stops:
        assert f"after epoch {len(accuracies)} of 9: " in why and f"the best is {max(accuracies):.4f}, of epoch " in why
    assert not fit.early_stop(accuracies, dataclasses.replace(BASE, epochs=len(accuracies), **wanted)), "all are done"


def test_early_stopping_ends_training(tmp_path: Path) -> None:
    settings = {"early_stopping": True, "early_stopping_min_epochs": 2, "early_stopping_patience": 1}
    course = Course(tmp_path, epochs=9, early_stopping_tolerance=1.0, **settings)
    stopped = course.run()
    assert 2 <= len(stopped) < 9
    assert course.run() == []  # and a continuation does not start again


def one_update(optimizer: str, gradients: list[float], **settings: Any) -> tuple[float, float]:
    """Where a head weight of 1 and a head bias of 1 are after the given gradients, as the optimizer has it."""
    net = resnet.build(20, 10, (1, 8, 8))
    weights.initialise(net, "scratch", seed=0)
    trainer = optimizers.trainer_for(net, dataclasses.replace(BASE, optimizer=optimizer, **settings))
    pair = (net.head.weight, net.head.bias)
    for parameter in pair:
        parameter.set_data(mx.nd.ones(parameter.shape))
    for gradient in gradients:
        with mx.autograd.record():  # gradients are sums over a batch, here of 4
            loss = sum(parameter.data().sum() for parameter in pair) * gradient * 4
        loss.backward()
        trainer.step(4, ignore_stale_grad=True)
    return float(pair[0].data()[0, 0].asscalar()), float(pair[1].data()[0].asscalar())


def test_sgd_by_hand() -> None:
    weight, bias = one_update("sgd", [2.0], weight_decay=0.5)
    assert weight == pytest.approx(1 - 0.1 * (2 + 0.5 * 1)) and bias == pytest.approx(1 - 0.1 * 2)  # biases don't decay
    _, bias = one_update("sgd", [2.0, 1.0], momentum=0.5)
    assert bias == pytest.approx(1 - 0.1 * 2 - 0.1 * (1 + 0.5 * 2))


def test_nag_by_hand() -> None:
    _, bias = one_update("nag", [2.0], momentum=0.5)
    assert bias == pytest.approx(1 - 0.1 * (2 + 0.5 * 2))  # looks one momentum step ahead


def test_adam_by_hand() -> None:
    weight, bias = one_update("adam", [2.0], beta_1=0.8, beta_2=0.9, eps=0.5, weight_decay=0.5)
    corrected = 0.1 * (1 - 0.9) ** 0.5 / (1 - 0.8)
    expected = 1 - corrected * (0.2 * 2) / ((0.1 * 4) ** 0.5 + 0.5)
    assert weight == pytest.approx(expected) and bias == pytest.approx(expected)  # no decay anywhere


def test_rmsprop_by_hand() -> None:
    weight, bias = one_update("rmsprop", [2.0], gamma=0.75, eps=0.0, weight_decay=0.5)
    expected = 1 - 0.1 * 2 / (0.25 * 4) ** 0.5
    assert weight == pytest.approx(expected) and bias == pytest.approx(expected)


SCRIPT = """
import sys
from pathlib import Path
import tests.trainers.training.test_fit as test
course = test.Course(Path(sys.argv[1]), epochs=2, seed=int(sys.argv[2]))
course.run(stop=test.after(int(sys.argv[3])))
print(course.digest())
"""


def in_a_process(folder: Path, seed: int = 5, stop_after: int = 1000) -> str:
    arguments = [str(folder), str(seed), str(stop_after)]
    process = Forked("-W", "ignore", "-c", SCRIPT, *arguments)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said.strip()


def test_the_same_seed_gives_the_same_bits_in_another_process_and_after_an_interruption(tmp_path: Path) -> None:
    whole = Course(tmp_path / "whole", epochs=2, seed=5)
    whole.run()
    # 1 question before each epoch and 4 in it: the 8th is in the middle of the second.
    assert in_a_process(tmp_path / "parts", stop_after=7) != whole.digest()
    assert [path.name for path in (tmp_path / "parts").glob("state-*")] == ["state-0001.npz"]
    assert in_a_process(tmp_path / "parts") == whole.digest()


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    digests = []
    for seed in (0, 0, 1):
        course = Course(tmp_path / f"{len(digests)}", epochs=1, seed=seed)
        course.run()
        digests.append(course.digest())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("optimizer", ["nag", "adam"])
def test_a_continued_run_ends_with_the_same_weights_and_records(tmp_path: Path, optimizer: str) -> None:
    settings = {"optimizer": optimizer, "learning_rate": 0.01, "epochs": 3, "lr_scheduler_step": "2"}
    whole = Course(tmp_path / "whole", **settings)
    expected = whole.run()
    first = Course(tmp_path / "parts", **settings).run(stop=after(7))
    course = Course(tmp_path / "parts", **settings)
    rest = course.run()
    assert [len(first), len(rest)] == [1, 2]
    assert rows_without_times(first + rest) == rows_without_times(expected)
    assert course.digest() == whole.digest()


def test_more_epochs_may_be_added_later(tmp_path: Path) -> None:
    Course(tmp_path / "parts", epochs=1).run()
    course, whole = Course(tmp_path / "parts", epochs=2), Course(tmp_path / "whole", epochs=2)
    assert [record.epoch for record in course.run()] == [2]
    whole.run()
    assert course.digest() == whole.digest()


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    Course(tmp_path, epochs=1).run()
    with pytest.raises(BadInput, match="learning_rate was 0.1, is 0.2; .*seed was 0, is 3"):
        Course(tmp_path, epochs=2, learning_rate=0.2, seed=3).run()


def test_stopping_before_the_first_epoch_leaves_nothing(tmp_path: Path) -> None:
    for calls in (0, 2):
        assert Course(tmp_path, epochs=1).run(stop=after(calls)) == []
    assert list(tmp_path.iterdir()) == [] and fit.history(tmp_path) == []


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: flipped(data)])
def test_a_damaged_state_falls_back_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    whole = Course(tmp_path / "whole", epochs=3)
    whole.run()
    Course(tmp_path / "parts", epochs=2).run()
    newest = tmp_path / "parts" / "state-0002.npz"
    newest.write_bytes(damage(newest.read_bytes()))
    course = Course(tmp_path / "parts", epochs=3)
    assert [record.epoch for record in course.run()] == [2, 3]
    assert "state-0002.npz" in caplog.text and "going on from epoch 1" in caplog.text
    assert course.digest() == whole.digest()


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def test_without_a_whole_state_the_damage_is_named(tmp_path: Path) -> None:
    Course(tmp_path, epochs=1).run()
    (tmp_path / "state-0001.npz").write_bytes(b"PK")
    with pytest.raises(TrainerError, match="No saved state can be read: .*state-0001.npz"):
        Course(tmp_path).run()


def test_a_full_disk_keeps_the_former_state(tmp_path: Path) -> None:
    course = Course(tmp_path, epochs=2)
    (tmp_path / "state-0002.npz.part").symlink_to("/dev/full")
    records = []
    with pytest.raises(DiskFull, match="No room left to write .*state-0002.npz"):
        for record in fit.fit(course.net, course.train, course.validation, course.config, state_dir=tmp_path):
            records.append(record)
    assert len(records) == len(fit.history(tmp_path)) == 1
    assert [record.epoch for record in Course(tmp_path, epochs=2).run()] == [2]


def test_a_loss_that_is_no_number_ends_the_run_at_its_step(tmp_path: Path) -> None:
    course = Course(tmp_path, optimizer="rmsprop", eps=0.0, gamma=1.0)  # divides by zero at the first update
    with pytest.raises(TrainingDiverged, match="at step 2 of 4 of epoch 1.*learning rate is too high"):
        course.run()
    assert fit.history(tmp_path) == []


def test_progress_reaches_the_last_batch_and_is_rationed(tmp_path: Path) -> None:
    seen: list[fit.BatchProgress] = []
    records = Course(tmp_path, epochs=2).run(on_batch=seen.append)
    last = [progress for progress in seen if progress.batch == progress.num_batches]
    assert [(progress.epoch, progress.images) for progress in last] == [(1, 128), (2, 128)]
    assert [(p.loss, p.accuracy) for p in last] == [(record.train_loss, record.train_accuracy) for record in records]
    assert len(seen) <= 2 + 2 + sum(record.epoch_time_s for record in records) / 0.1


def test_bfloat16_learns_with_float32_weights_and_leaves_other_networks_alone(tmp_path: Path) -> None:
    try:
        backend.require_bfloat16()
    except BadInput:
        pytest.skip("this processor has no bfloat16")
    settings = {"learning_rate": 0.02, "augmentation_type": None}
    course = Course(tmp_path / "low", precision_dtype="bfloat16", **settings)
    records, expected = course.run(), Course(tmp_path / "exact", **settings).run()
    assert records[0].train_loss != expected[0].train_loss
    assert records[-1].train_loss == pytest.approx(expected[-1].train_loss, rel=0.2)
    assert {array.dtype.name for array in checkpoints.arrays_of(course.net).values()} == {"float32"}
    saved.save_model(course.net, tmp_path / "model", {})
    assert "amp_cast" not in (tmp_path / "model" / saved.SYMBOL).read_text()


def test_bfloat16_is_refused_where_the_processor_lacks_it() -> None:
    code = (
        "from trainers.networks import resnet; from trainers.networks import backend as precision\n"
        "precision.computing_in(resnet.build(20, 2, (1, 8, 8)), 'bfloat16')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | {"DNNL_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "BadInput: --precision-dtype bfloat16 needs a processor with AVX-512" in done.stderr


def test_float16_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="float16 needs a GPU; on a CPU take bfloat16 or float32"):
        Course(tmp_path, precision_dtype="float16").run()
