"""Probable label errors: planted ones are found, what cannot be judged is said, and the file is what pack takes."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import reports
from reports.__main__ import main
from tests.support.runs import Filler, empty_store
from tracking.store import predictions

needs_cleanlab = pytest.mark.skipif(find_spec("cleanlab") is None, reason="cleanlab is not installed")


@pytest.fixture
def filler() -> Filler:
    return empty_store()


def rows_of(labels: Sequence[int], sure: float = 0.9, classes: int = 3) -> np.ndarray[Any, Any]:
    """Probabilities of a network that is ``sure`` of these labels."""
    out = np.full((len(labels), classes), (1 - sure) / (classes - 1), np.float32)
    out[np.arange(len(labels)), labels] = sure
    return out


def logged(
    filler: Filler,
    folder: Path,
    labels: Sequence[int],
    probabilities: np.ndarray[Any, Any],
    split: str = "test",
    start: int = 0,
    digests: Sequence[str] | None = None,
    **params: Any,
) -> str:
    """A run with these predictions of pictures 0.png, 1.png …"""
    run_id = filler.run("net", params={"dataset": "my photos", **params}, metrics={"test_accuracy": 0.9})
    path = folder / run_id / f"{split}.parquet"
    names = [f"{i:04d}" for i in range(start, start + len(labels))]
    predictions.write(
        path,
        digests=digests or [f"d{name}" for name in names],
        keys=[f"{name}.png" for name in names],
        labels=np.array(labels),
        probabilities=probabilities,
    )
    filler.client.log_artifact(run_id, str(path), "predictions")
    return run_id


TRUE = [0, 1, 2] * 40


@needs_cleanlab
def test_planted_errors_are_listed_and_written(filler: Filler, tmp_path: Path, capsys: Any) -> None:
    given = list(TRUE)
    given[4], given[60] = 0, 2
    run_id = logged(filler, tmp_path, given, rows_of(TRUE))
    out, relabel = tmp_path / "page.md", tmp_path / "relabel.csv"
    asked = ["mistakes", run_id[:8], "--store", filler.uri, "--out", str(out), "--relabel", str(relabel)]
    assert main(asked) == 0
    page = out.read_text().replace("\u00a0", " ")
    assert "2 of 120 pictures (1.7 %) are probably labelled wrong." in page
    assert "They agree with 98.3 % of the labels" in page and "No picture is shown" in page
    assert f"python -m trainers.data pack 'my photos' relabelled --relabel {relabel.name}" in page
    assert "2 labels to look at" in capsys.readouterr().err
    with relabel.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["key"], r["image_digest"], r["label"], r["suggested"]) for r in rows] == [
        ("0004.png", "d0004", "0", "1"),
        ("0060.png", "d0060", "2", "0"),
    ]
    assert float(rows[0]["score"]) == pytest.approx(0.05, abs=1e-3)
    paper = reports.mistakes([run_id], filler.uri, top=1)
    assert len(paper.data["mistakes"]) == 2 and paper.to_text("csv") == relabel.read_text()
    assert "0060.png" not in paper.to_text() and "0004.png" in paper.to_text()


@needs_cleanlab
def test_folds_are_read_together_and_a_missing_one_is_said(filler: Filler, tmp_path: Path) -> None:
    given = list(TRUE)
    given[4] = 0
    rows = rows_of(TRUE)
    ids = [
        logged(filler, tmp_path, given[at : at + 40], rows[at : at + 40], "fold", at, fold=f"{n}/3")
        for n, at in enumerate((0, 40, 80), 1)
    ]
    whole = reports.mistakes(ids, filler.uri)
    assert (whole.data["split"], whole.data["num_images"]) == ("fold", 120)
    assert [row["key"] for row in whole.data["mistakes"]] == ["0004.png"] and "not judged" not in whole.to_text()
    assert "No run given held out fold 2 of 3" in reports.mistakes([ids[0], ids[2]], filler.uri).to_text()


@needs_cleanlab
def test_a_picture_of_several_runs_has_the_mean_of_their_probabilities(filler: Filler, tmp_path: Path) -> None:
    given = list(TRUE)
    given[4] = 0
    sure, unsure = rows_of(TRUE), rows_of(TRUE)
    unsure[4] = [0.99, 0.005, 0.005]  # one of the two agrees with the wrong label, and is surer
    ids = [logged(filler, tmp_path, given, rows) for rows in (sure, unsure)]
    assert len(reports.mistakes(ids[:1], filler.uri).data["mistakes"]) == 1
    both = reports.mistakes(ids, filler.uri)
    assert both.data["num_images"] == 120 and both.data["mistakes"] == []
    assert "No label of 120 pictures looks wrong." in both.to_text()


# What users of cleanlab meet, rebuilt.
@needs_cleanlab
def test_a_class_without_pictures_in_the_split_may_still_be_suggested(filler: Filler, tmp_path: Path) -> None:
    true = [0, 1] * 40
    rows = rows_of(true)
    rows[7] = [0.01, 0.01, 0.98]
    found = reports.mistakes([logged(filler, tmp_path, true, rows)], filler.uri).data["mistakes"]
    assert all(row["key"] == "0007.png" and row["suggested"] == "2" for row in found)


@needs_cleanlab
def test_rows_that_do_not_sum_to_one_and_rows_of_a_diverged_network(filler: Filler, tmp_path: Path) -> None:
    given = list(TRUE)
    given[4] = 0
    rows = rows_of(TRUE) * 3
    rows[9] = np.nan
    rows[10] = 0
    page = reports.mistakes([logged(filler, tmp_path, given, rows)], filler.uri)
    assert [row["key"] for row in page.data["mistakes"]] == ["0004.png"]
    assert page.data["left_out"] == 2 and "2 pictures had no probabilities" in page.to_text()


@needs_cleanlab
def test_one_picture_under_two_labels_is_said(filler: Filler, tmp_path: Path) -> None:
    digests = [f"d{i}" for i in range(120)]
    digests[1] = digests[0]
    page = reports.mistakes([logged(filler, tmp_path, TRUE, rows_of(TRUE), digests=digests)], filler.uri).to_text()
    assert "Under several labels, of which at most one is right: 1 picture" in page
    assert "0000.png (0) and 0001.png (1)" in page.replace("\\", "")


@needs_cleanlab
@pytest.mark.parametrize(
    ("labels", "probabilities", "split", "said"),
    [
        ([1] * 20, rows_of([1] * 20), "test", "carry one label, 1"),
        (TRUE, rows_of(TRUE) * np.nan, "test", "the training diverged"),
        ([0, 1, 5], rows_of([0, 1, 2]), "test", "knows 3 classes, but its labels go from 0 to 5"),
        (TRUE, rows_of(TRUE), "validation", "logged no predictions of validation: it has those of test"),
        (TRUE, rows_of(TRUE), "train", "repeats the labels it learned"),
        ([0, 1], np.eye(257, dtype=np.float32)[:2], "test", "kept only the probability of the likeliest class"),
    ],
)
def test_what_cannot_be_judged_gets_a_sentence(
    filler: Filler, tmp_path: Path, labels: list[int], probabilities: Any, split: str, said: str
) -> None:
    run_id = logged(filler, tmp_path, labels, probabilities)
    with pytest.raises(reports.ReportError, match=said):
        reports.mistakes([run_id], filler.uri, split=split)


def test_a_run_of_an_older_version_is_told_how_to_be_scored_again(filler: Filler, tmp_path: Path) -> None:
    run_id = filler.run("old")
    pd.DataFrame(
        {"image_digest": ["a"], "key": ["a"], "label": [0], "predicted": [0], "probability": [0.5]}
    ).to_parquet(tmp_path / "test.parquet")
    filler.client.log_artifact(run_id, str(tmp_path / "test.parquet"), "predictions")
    with pytest.raises(reports.ReportError, match=f"score it again: `python -m trainers.evaluate {run_id}`"):
        reports.mistakes([run_id], filler.uri)
    with pytest.raises(reports.ReportError, match="it has none of any split"):
        reports.mistakes([filler.run("empty")], filler.uri)


@needs_cleanlab
def test_runs_of_other_classes_are_not_mixed(filler: Filler, tmp_path: Path) -> None:
    ids = [logged(filler, tmp_path, TRUE, rows_of(TRUE, classes=count)) for count in (3, 4)]
    with pytest.raises(reports.ReportError, match="different numbers of classes"):
        reports.mistakes(ids, filler.uri)
    with pytest.raises(reports.ReportError, match="the same run twice"):
        reports.mistakes([ids[0], ids[0]], filler.uri)


def test_without_cleanlab_the_command_says_how_to_install_it(
    filler: Filler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with pytest.raises(reports.ReportError, match="python -m pip install 'cleanlab"):
        reports.mistakes([logged(filler, tmp_path, TRUE, rows_of(TRUE))], filler.uri)


@needs_cleanlab
def test_flipped_digits_are_found(filler: Filler, tmp_path: Path) -> None:
    """2 % of scikit-learn's digits flipped, judged by a model that did not see them."""
    svm, data = pytest.importorskip("sklearn.linear_model"), pytest.importorskip("sklearn.datasets").load_digits()
    choose = pytest.importorskip("sklearn.model_selection")
    rng = np.random.default_rng(0)
    flipped = rng.choice(len(data.target), len(data.target) // 50, replace=False)
    given = data.target.copy()
    given[flipped] = (given[flipped] + rng.integers(1, 10, len(flipped))) % 10
    model = svm.LogisticRegression(C=0.1, max_iter=300)
    rows = choose.cross_val_predict(model, data.data / 16, given, cv=3, method="predict_proba").astype(np.float32)
    assert (rows.argmax(axis=1) == data.target).mean() > 0.85
    found = reports.mistakes([logged(filler, tmp_path, given.tolist(), rows)], filler.uri).data["mistakes"]
    hits = [int(row["key"][:4]) in flipped for row in found]
    needed = int(np.ceil(0.7 * len(flipped)))
    assert sum(hits) >= needed and needed / (np.flatnonzero(hits)[needed - 1] + 1) >= 0.7
