"""What the recipes make of rates, labels and layers; runs with them resume to the same bits; advice."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainers.training.test_fit import BASE, Course, after
from tracking import store
from trainers.config import Config
from trainers.data import Batches, open_dataset
from trainers.errors import BadConfig, TrainingDiverged
from trainers.networks import resnet, weights
from trainers.sagemaker.builtin import limits
from trainers.training import find_lr, fit
from trainers.training.steps import checkpoints
from trainers.training.steps.optimizers import learning_rate
from trainers.training.steps.recipe import Learner, class_weights

pytestmark = [pytest.mark.mxnet, pytest.mark.slow]

ALL: dict[str, Any] = {
    "lr_scheduler": "cosine",
    "warmup_epochs": 1,
    "label_smoothing": 0.1,
    "mixup": 0.2,
    "class_weights": "balanced",
    "optimizer": "nag",
}
ZOO = dataclasses.replace(BASE, network="mobilenetv3_small", num_layers=None, image_shape="3,32,32", learning_rate=0.01)


class ZooCourse(Course):
    """The same course for a network of the zoo with dropout, on 32 px."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.config, self.folder = dataclasses.replace(ZOO, **settings), folder
        data = open_dataset("digits")
        shape = self.config.shape
        self.train = Batches(data.train.take(np.arange(64)), shape, 32, resize=32, shuffle=True, seed=0, last="discard")
        self.validation = Batches(data.validation.take(np.arange(32)), shape, 32, resize=32)
        self.net = resnet.build_for(self.config)
        weights.initialise(self.net, "scratch", seed=0)


@pytest.mark.parametrize(
    ("make", "settings"), [(Course, ALL), (ZooCourse, {"epochs": 2, "lr_scheduler": "cosine", "mixup": 1.0})]
)
def test_an_interrupted_run_ends_with_the_same_bits(
    make: Callable[..., Course], settings: dict[str, Any], tmp_path: Path
) -> None:
    whole = make(tmp_path / "whole", **settings)
    whole.run()
    first = make(tmp_path / "parts", **settings)
    first.run(stop=after(2 * len(first.train)))
    rest = make(tmp_path / "parts", **settings)
    assert rest.run() and rest.digest() == whole.digest()


def test_rates_rise_and_fall() -> None:
    config = dataclasses.replace(BASE, epochs=5, learning_rate=0.4, warmup_epochs=1, lr_scheduler="cosine")
    at = [(1, 0.5), (1, 1.0), (3, 1.0), (4, 1.0), (5, 1.0)]
    assert [learning_rate(config, *one) for one in at] == pytest.approx([0.2, 0.4, 0.2, 0.05857864, 0.0])
    assert learning_rate(dataclasses.replace(config, lr_scheduler=None), 5, 0.5) == 0.4


def test_a_continued_cosine_must_have_the_same_end(tmp_path: Path) -> None:
    Course(tmp_path, epochs=1, lr_scheduler="cosine").run()
    with pytest.raises(Exception, match="epochs was 1, is 2"):
        Course(tmp_path, epochs=2, lr_scheduler="cosine").run()


def test_classes_count_alike_whatever_their_number() -> None:
    found = class_weights(np.array([0, 0, 0, 2]), 3)
    assert found.tolist() == pytest.approx([4 / 6, 2, 2])
    counts = np.array([3, 0, 1])
    assert (found * counts).sum() == pytest.approx(4)


def test_a_rare_class_is_recognised_more_often_with_weights(tmp_path: Path) -> None:
    def recall(balanced: str | None) -> float:
        course = Course(tmp_path / str(balanced), class_weights=balanced, epochs=4, learning_rate=0.02)
        data = open_dataset("digits").train
        rare, common = (np.flatnonzero(data.labels == digit) for digit in (8, 1))
        some = data.take(np.concatenate([rare[:6], common[:58]]))
        course.train = Batches(some, course.config.shape, 32, shuffle=True, seed=0, last="discard")
        course.run()
        asked = Batches(data.take(rare[20:80]), course.config.shape, 60)
        (images, _) = next(iter(asked.epoch(0)))
        return float((course.net(resnet.to_array(images)).asnumpy().argmax(axis=1) == 8).mean())

    assert recall("balanced") > recall(None)


def test_a_frozen_body_stays_until_its_epoch(tmp_path: Path) -> None:
    course = Course(tmp_path)
    config = dataclasses.replace(
        course.config,
        freeze="body",
        unfreeze_epoch=2,
        init="imagenet",
        use_pretrained_model=None,
        num_layers=18,
        image_shape="3,32,32",
    )
    net = resnet.build_for(config)
    weights.initialise(net, "scratch", seed=0)
    learner = Learner(net, config, np.zeros(8, np.int64))
    learner.trainer.set_learning_rate(0.1)
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), np.uint8)
    states = [checkpoints.arrays_of(net)]
    for epoch in (1, 2):
        learner.step(images, np.arange(8), epoch, 0)
        states.append(checkpoints.arrays_of(net))
    changed = [
        {name for name in one if not np.array_equal(one[name], two[name])} for one, two in itertools.pairwise(states)
    ]
    assert changed[0] == set(net.head.collect_params())  # no running statistics either
    assert len(changed[1]) > 80


@pytest.mark.parametrize(("rate", "optimizer", "ends"), [(1.0, "adam", False), (1e30, "sgd", True)])
def test_an_explosion_is_said_with_what_to_do(rate: float, optimizer: str, ends: bool, tmp_path: Path) -> None:
    course = Course(tmp_path, epochs=1)
    object.__setattr__(course.config, "learning_rate", rate)  # more than a user may give: it must explode at once
    object.__setattr__(course.config, "optimizer", optimizer)
    if ends:
        with pytest.raises(TrainingDiverged, match=r"try --learning-rate 1e\+29, or see what --find-lr suggests"):
            course.run()
    else:
        (record,) = course.run()
        assert "over 10 times its first, at step" in record.exploded and "try --learning-rate 0.1" in record.exploded


def test_calm_training_says_nothing(tmp_path: Path) -> None:
    assert not any(record.exploded for record in Course(tmp_path, learning_rate=0.02).run())


def test_a_rate_is_suggested_and_nothing_recorded(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(num_layers=20, image_shape="1,8,8")
    found = find_lr.suggest(config, store.resolve())
    said = capsys.readouterr().out
    assert 0.002 <= found <= 0.1 and f"try     --learning-rate {found:g}" in said
    assert list(store.resolve().runs()) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"network": "mobilenet"}, "not one of mobilenet1.0"),
        ({"network": "resnest14", "num_layers": 20}, "--num-layers is of the ResNets"),
        ({"network": "resnest14", "image_shape": "1,32,32"}, "takes 3 channels and sides of at least 32 px"),
        ({"lr_scheduler": "cosine", "lr_scheduler_step": "2"}, "cosine has no steps"),
        ({"freeze": "body"}, "would leave random weights"),
        ({"unfreeze_epoch": 2}, "needs --freeze body"),
        ({"class_weights": "balanced", "pretext": "rotation"}, "equally common"),
        ({"decode": "scaled"}, "goes by --resize"),
        ({"decode": "half", "resize": 32}, "not one of scaled"),
        ({"label_smoothing": 1.0}, "0 to 0.9"),
        ({"mixup": -1.0}, "0 to 10"),
    ],
)
def test_settings_at_odds(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        Config(**settings)


def test_what_is_unset_is_the_same_as_off() -> None:
    off = Config(lr_scheduler="step", warmup_epochs=0, label_smoothing=0.0, mixup=0.0)
    assert off.fingerprint() == Config().fingerprint() == "0a2747f9b48d"  # that of runs from before there were recipes


def test_the_built_in_refuses_every_recipe() -> None:
    config = Config(
        **{**ALL, "optimizer": "sgd"},
        network="resnest14",
        freeze="body",
        unfreeze_epoch=2,
        init="imagenet",
        decode="scaled",
        resize=32,
    )
    refused = [fault.what.split()[0] for fault in limits.faults(config) if fault.code == "setting-foreign"]
    assert set(refused) == {
        "--network",
        "--lr-scheduler",
        "--warmup-epochs",
        "--label-smoothing",
        "--mixup",
        "--freeze",
        "--unfreeze-epoch",
        "--class-weights",
        "--decode",
    }


def test_a_state_from_before_the_recipes_goes_on(tmp_path: Path) -> None:
    course = Course(tmp_path, epochs=1)
    course.run()
    state = checkpoints.load(tmp_path)
    assert state is not None
    assert fit.history(tmp_path) and state.facts["mixup"] is None and "epochs" not in state.facts
