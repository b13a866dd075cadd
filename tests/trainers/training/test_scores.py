"""Scores: hand-computed on two or three pictures, and every picture counted once whatever the batch size."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from trainers.data import Batches, open_dataset
from trainers.errors import BadData, TrainingDiverged
from trainers.networks import resnet, weights
from trainers.training import scores

pytestmark = pytest.mark.mxnet
LN3 = math.log(3)


class Answers:
    """Pictures whose pixels are the logits that ``read_pixels`` answers with."""

    def __init__(self, logits: Any, labels: Any, batch_size: int) -> None:
        self.logits, self.labels, self.batch_size = np.float32(logits), np.int64(labels), batch_size

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        for at in range(0, len(self.labels), self.batch_size):
            part = slice(at, at + self.batch_size)
            yield self.logits[part].reshape(-1, 1, 1, self.logits.shape[1]), self.labels[part]


def read_pixels(pictures: Any) -> Any:
    return pictures.reshape((0, -1))


def test_accuracy_and_loss_by_hand() -> None:
    result = scores.of_logits(np.array([[LN3, 0.0], [0.0, 0.0]]), np.array([0, 1]))
    assert result.accuracy == 0.5  # of equal logits the lower class is the answer
    assert result.loss == pytest.approx((-math.log(3 / 4) + math.log(2)) / 2)
    assert result.probabilities == pytest.approx(np.array([[0.75, 0.25], [0.5, 0.5]]))
    assert result.predicted.tolist() == [0, 0] and result.labels.tolist() == [0, 1] and result.num_images == 2


def test_an_always_cat_answer_has_a_balanced_accuracy_of_a_half() -> None:
    labels = np.array([0] * 120 + [1] * 10)
    result = scores.of_logits(np.tile([1.0, 0.0], (130, 1)), labels)
    balanced, macro_f1, majority = result.by_class
    assert result.accuracy == majority == pytest.approx(120 / 130)
    assert balanced == 0.5 and macro_f1 == pytest.approx((2 * 120 / 250 + 0) / 2)


def test_the_scores_by_class_are_scikit_learns() -> None:
    generator = np.random.default_rng(3)
    labels = generator.choice([0, 1, 2, 4], 300, p=[0.7, 0.2, 0.05, 0.05])  # no picture of class 3
    logits = generator.normal(size=(300, 6)) - [0, 0, 0, 0, 0, 9]  # class 5 is never answered
    result = scores.of_logits(logits, labels)
    balanced, macro_f1, _ = result.by_class
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that class 3 is answered and not labelled
        assert balanced == pytest.approx(metrics.balanced_accuracy_score(labels, result.predicted))
    assert macro_f1 == pytest.approx(metrics.f1_score(labels, result.predicted, average="macro"))


def test_top_k_by_hand() -> None:
    logits = np.array([[3.0, 2.0, 1.0, 0.0]] * 4)
    assert scores.of_logits(logits, np.arange(4), top_k=2).top_k_accuracy == 0.5
    assert scores.of_logits(logits, np.arange(4), top_k=3).top_k_accuracy == 0.75
    assert scores.of_logits(np.zeros((4, 4)), np.arange(4), top_k=3).top_k_accuracy == 0.75  # ties go to the lower


@pytest.mark.parametrize("top_k", [None, 4, 5])
def test_top_k_of_all_classes_is_no_score(top_k: int | None) -> None:
    result = scores.of_logits(np.zeros((1, 4)), np.array([0]), top_k=top_k)
    assert result.top_k is None and result.top_k_accuracy is None


def test_large_logits_do_not_overflow() -> None:
    result = scores.of_logits(np.array([[1e30, 0.0]], np.float32), np.array([1]))
    assert result.loss == pytest.approx(1e30) and result.accuracy == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_no_number_names_the_picture(bad: float) -> None:
    with pytest.raises(TrainingDiverged, match="picture 2 of 3 is not a number"):
        scores.of_logits(np.array([[0.0, 1.0], [bad, bad], [0.0, 1.0]]), np.array([0, 0, 0]))


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0]])
def test_labels_without_an_output_are_refused(labels: list[int]) -> None:
    with pytest.raises(BadData, match=f"from {labels[0]} to {labels[1]}, but the network has 2 classes"):
        scores.of_logits(np.zeros((2, 2)), np.array(labels))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7, 100])
def test_every_picture_counts_once_and_in_order(batch_size: int) -> None:
    logits = np.random.default_rng(0).normal(size=(7, 4))
    labels = np.array([0, 1, 2, 3, 0, 1, 2])
    result = scores.score(read_pixels, Answers(logits, labels, batch_size), top_k=2)
    expected = scores.of_logits(np.float32(logits), labels, top_k=2)
    assert result.num_images == 7 and result.labels.tolist() == labels.tolist()
    assert np.array_equal(result.probabilities, expected.probabilities)
    assert (result.accuracy, result.loss, result.top_k_accuracy) == (
        expected.accuracy,
        expected.loss,
        expected.top_k_accuracy,
    )


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(BadData, match="not one picture"):
        scores.score(read_pixels, Answers(np.zeros((0, 2)), np.zeros(0), 4))


def test_a_networks_score_does_not_depend_on_the_batch_size() -> None:
    net = resnet.build(20, 10, (1, 8, 8))
    weights.initialise(net, "scratch", seed=0)
    split = open_dataset("digits").test
    assert split is not None
    split = split.take(np.arange(50))
    whole, parts = (scores.score(net, Batches(split, (1, 8, 8), size)) for size in (50, 16))
    assert whole.num_images == parts.num_images == 50 and whole.labels.tolist() == split.labels.tolist()
    np.testing.assert_allclose(whole.probabilities, parts.probabilities, atol=1e-5)
