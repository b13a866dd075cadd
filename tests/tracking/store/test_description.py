"""The description of a run in MLflow's pages: made by the run, kept true, and a person's own never touched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tracking import run as tracked
from tracking.store import Store
from tracking.store.mlflow_run import NOTE

PARAMS = {"dataset": "digits", "num_layers": 44, "learning_rate": 0.1, "seed": 0, "other": "x"}
SCORES = {"test_accuracy": 0.978, "test_num_images": 1360, "best_validation_accuracy": 0.9722, "best_epoch": 7}


def ran(store: Store, scores: Mapping[str, float] = SCORES, **params: Any) -> tracked.Run:
    with tracked.start(live=store, run_name="a run", system_metrics=False) as run:
        run.log_params({**PARAMS, **params})
        run.set_tags({"init_label": "scratch"})
        run.log_metrics(scores, step=7)
    return run


def note(store: Store, run: tracked.Run) -> str:
    assert run.mlflow_run_id is not None
    return str(store.client().get_run(run.mlflow_run_id).data.tags.get(NOTE, ""))


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("- ")]


def test_it_says_score_settings_and_time(store: Store) -> None:
    run = ran(store, {**SCORES, "total_time_s": 63.2})
    assert lines(note(store, run)) == [
        "- **97.8 % test accuracy** on 1,360 pictures",
        "- 97.2 % validation accuracy at epoch 7",
        "- data `digits`, layers `44`, init `scratch`, learning rate `0.1`, seed `0`",
        "- 63 s in all",
    ]


def test_a_failed_run_says_why(store: Store) -> None:
    with pytest.raises(ValueError), tracked.start(live=store, system_metrics=False) as run:
        run.log_params({"dataset": "a`b\n<b>"})
        raise ValueError("the `loss` is lost")
    assert lines(note(store, run)) == ["- **Failed**: `ValueError: the 'loss' is lost`", "- data `a'b <b>`"]


def test_nothing_known_is_no_description(store: Store) -> None:
    with tracked.start(live=store, system_metrics=False) as run:
        run.log_metrics({"reward": 1.0}, step=1)
    assert note(store, run) == ""


def test_odd_scores_do_not_keep_a_run_from_its_end(store: Store) -> None:
    odd = {"test_accuracy": 97.8, "test_num_images": float("nan"), "best_validation_accuracy": float("nan")}
    run = ran(store, {**odd, "best_epoch": float("nan"), "total_time_s": float("inf")})
    assert lines(note(store, run))[:2] == ["- **97.8 test accuracy**", "- nan validation accuracy"]
    assert run.mlflow_run_id and store.client().get_run(run.mlflow_run_id).info.status == "FINISHED"


def test_a_score_that_comes_later_is_in_it(store: Store) -> None:
    run = ran(store, {"best_validation_accuracy": 0.9})
    assert "test accuracy" not in note(store, run)
    with tracked.attach(str(run.mlflow_run_id), live=store) as later:
        later.log_metrics({"test_accuracy": 0.5}, step=7)
    assert lines(note(store, run))[0] == "- **50.0 % test accuracy**"


@pytest.mark.parametrize("theirs", ["my best run", "", "changed"])
def test_what_a_person_wrote_stays(store: Store, theirs: str) -> None:
    run = ran(store, {"best_validation_accuracy": 0.9})
    client = store.client()
    text = theirs if theirs != "changed" else note(store, run).replace("validation", "(lucky) validation", 1)
    client.set_tag(str(run.mlflow_run_id), NOTE, text)
    with tracked.attach(str(run.mlflow_run_id), live=store) as later:
        later.log_metrics({"test_accuracy": 0.5}, step=7)
    assert note(store, run) == text


def test_a_run_of_another_tool_gets_none(store: Store) -> None:
    client = store.client()
    other = client.create_run(store.experiment_id("exp"))
    with tracked.attach(other.info.run_id, live=store) as later:
        later.log_metrics({"test_accuracy": 0.5}, step=7)
    assert NOTE not in client.get_run(other.info.run_id).data.tags


def test_the_same_journal_again_changes_nothing(store: Store) -> None:
    run = ran(store)
    before = note(store, run)
    (Path(run.dir) / "replay.json").unlink()
    from tracking.store.replay import replay

    replay(run.dir, store)
    assert note(store, run) == before != ""
