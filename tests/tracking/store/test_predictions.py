"""The predictions file: what is written is read, pictures pair by content and label, and McNemar's exact test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from tracking.store import predictions
from tracking.store.predictions import McNemar, Predictions, common, mcnemar


def test_predictions_hold_one_row_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "p" / "test.parquet"
    probabilities = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.0, 0.1, 0.9]], np.float32)
    predictions.write(
        path, digests=["d2", "d1", "d0"], keys=["a", "b", 3], labels=np.array([0, 1, 2]), probabilities=probabilities
    )
    table = parquet.read_table(path).to_pydict()
    assert table["predicted"] == [0, 0, 2] and table["label"] == [0, 1, 2] and table["key"] == ["a", "b", "3"]
    np.testing.assert_allclose(table["probability"], [0.7, 0.6, 0.9], rtol=1e-6)
    found = predictions.read(path)
    assert found is not None
    assert found.digest.tolist() == ["d0", "d1", "d2"] and found.hits.tolist() == [True, False, True]


@pytest.mark.parametrize(("num_classes", "kept"), [(2, True), (256, True), (257, False)])
def test_every_class_has_its_probability_while_classes_are_few(tmp_path: Path, num_classes: int, kept: bool) -> None:
    rows = np.random.default_rng(0).dirichlet(np.full(num_classes, 0.2), 50).astype(np.float32)
    path, digests = tmp_path / "test.parquet", [f"{49 - i:02d}" for i in range(50)]
    predictions.write(path, digests=digests, keys=digests, labels=np.zeros(50), probabilities=rows)
    found, short = predictions.read(path, every_class=True), predictions.read(path)
    assert found is not None and short is not None and short.probabilities is None
    assert (found.probabilities is not None) is kept
    if found.probabilities is not None:
        np.testing.assert_allclose(found.probabilities, rows[::-1], rtol=1e-3, atol=1e-7)
        assert found.take(np.array([3])).probabilities is not None


@pytest.mark.parametrize("rows", [[[0.5, 0.5], [1.0]], [[1.0, 0.0], None], ["a", "b"], [[], []]])
def test_probabilities_that_are_no_rows_are_none(tmp_path: Path, rows: list[Any]) -> None:
    frame = pd.DataFrame({"image_digest": ["a", "b"], "label": [0, 1], "predicted": [0, 1], "probabilities": rows})
    frame.to_parquet(tmp_path / "rows.parquet")
    found = predictions.read(tmp_path / "rows.parquet", every_class=True)
    assert found is not None and found.hits.all()
    assert found.probabilities is None or found.probabilities.shape == (2, 0)


def test_a_table_of_something_else_holds_no_predictions(tmp_path: Path) -> None:
    pd.DataFrame({"label": [1]}).to_parquet(tmp_path / "other.parquet")
    assert predictions.read(tmp_path / "other.parquet") is None


def of(tmp_path: Path, rows: list[tuple[str, str, int, int]]) -> Predictions:
    """Predictions of rows ``(digest, key, label, predicted)``."""
    frame = pd.DataFrame(rows, columns=["image_digest", "key", "label", "predicted"])
    frame.to_parquet(tmp_path / "rows.parquet")
    found = predictions.read(tmp_path / "rows.parquet")
    assert found is not None
    return found


def test_pictures_pair_by_content_and_label_even_when_one_is_there_twice(tmp_path: Path) -> None:
    a = of(tmp_path, [("x", "k0", 0, 0), ("y", "k1", 0, 0), ("x", "k2", 0, 1), ("only-a", "k3", 0, 0)])
    b = of(tmp_path, [("y", "k0", 0, 1), ("x", "k1", 0, 0), ("only-b", "k2", 0, 0), ("x", "k3", 0, 0)])
    pair = common([a, b])
    assert pair[0].pictures == pair[1].pictures == ["x#0#0", "x#0#1", "y#0#0"]
    test = mcnemar(pair[0].hits, pair[1].hits)
    assert (test.only_first, test.only_second) == (1, 1)
    assert common([a, of(tmp_path, [("z", "k0", 0, 0)])])[0].pictures == []


def test_equal_pictures_of_two_labels_pair_by_their_label_whatever_their_keys(tmp_path: Path) -> None:
    a = of(tmp_path, [("x", "cat/1", 0, 0), ("x", "dog/1", 1, 0)])
    b = of(tmp_path, [("x", "1-dog", 1, 1), ("x", "2-cat", 0, 1), ("x", "3-owl", 2, 2)])
    first, second = common([a, b])
    assert first.label.tolist() == second.label.tolist() == [0, 1]
    assert first.hits.tolist() == [True, False] and second.hits.tolist() == [False, True]


def test_the_order_of_a_file_does_not_matter(tmp_path: Path) -> None:
    rows = [("x", "k0", 0, 0), ("x", "k1", 0, 1), ("y", "k2", 1, 1)]
    once, turned = of(tmp_path, rows), of(tmp_path, rows[::-1])
    assert once.key.tolist() == turned.key.tolist() and once.predicted.tolist() == turned.predicted.tolist()


def test_mcnemar_by_hand() -> None:
    # 8 against 2: twice (1 + 10 + 45) / 2¹⁰ = 0.109375.
    first = [True] * 8 + [False] * 2 + [True] * 5 + [False] * 3
    second = [False] * 8 + [True] * 2 + [True] * 5 + [False] * 3
    assert mcnemar(first, second) == McNemar(8, 2, pytest.approx(0.109375))
    assert mcnemar(first, first) == McNemar(0, 0, 1.0)
    # Level at 1 against 1, and never above 1.
    assert mcnemar([True, False], [False, True]).p_value == 1.0


def binomial(b: int, c: int) -> tuple[float, float]:
    """The p value here and scipy's, for ``b`` pictures only the first has right and ``c`` only the second."""
    theirs: Any = 1.0 if b + c == 0 else scipy.stats.binomtest(b, b + c, 0.5).pvalue
    return mcnemar([True] * b + [False] * c, [False] * b + [True] * c).p_value, float(theirs)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(b: int, c: int) -> None:
    ours, theirs = binomial(b, c)
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(("b", "c"), [(0, 6), (15, 15), (40, 20), (600, 500), (900, 400)])
def test_mcnemar_is_exact_for_many_pictures_too(b: int, c: int) -> None:
    ours, theirs = binomial(b, c)
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_paired_hits_must_be_of_the_same_pictures() -> None:
    with pytest.raises(ValueError, match="both must be"):
        mcnemar([True], [True, False])
