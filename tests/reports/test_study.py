"""A study's answer: planted effects and interactions are found with their intervals, and what a search saved."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import reports
from reports.runs import study_effects as effects
from reports.runs.study_answer import savings
from tests.support.runs import Filler, empty_store
from tracking import names


def matrix(noise: float = 0.004, both: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Depth adds 3 points, the start 5, and ``both`` on top; three seeds of each."""
    random = np.random.default_rng(1)
    rows = [(depth, init) for depth in (20, 44) for init in ("scratch", "imagenet") for _ in range(3)]
    settings = pd.DataFrame(rows, columns=["params.num_layers", "params.init"]).astype(object)
    deep, near = (settings["params.num_layers"] == 44), (settings["params.init"] == "scratch")
    score = 0.8 + 0.03 * deep - 0.05 * near + both * (deep & near) + random.normal(0, noise, len(rows))
    return settings, score.to_numpy(dtype="float64")


def test_planted_effects_lie_in_their_intervals() -> None:
    found = {one.factor: one for one in effects.effects(*matrix())}
    assert found["num_layers"].low < 0.03 < found["num_layers"].high
    assert found["init"].low < -0.05 < found["init"].high and found["init"].change == "imagenet to scratch"
    assert found["num_layers"].high - found["num_layers"].low < 0.02


def test_an_interaction_is_seen_where_there_is_one() -> None:
    pair = ("params.num_layers", "params.init")
    (with_one,) = effects.interaction(*matrix(both=-0.06), pair)
    (without,) = effects.interaction(*matrix(), pair)
    assert with_one.low < -0.06 < with_one.high < 0 and without.low < 0 < without.high
    settings, score = matrix()
    lacks = ~((settings["params.num_layers"] == 44) & (settings["params.init"] == "scratch"))
    assert effects.interaction(settings[lacks].reset_index(drop=True), score[lacks.to_numpy()], pair) == []


def test_what_matters_is_found() -> None:
    pytest.importorskip("optuna")
    random = np.random.default_rng(0)
    rate, other = 10 ** random.uniform(-3, 0, 40), random.uniform(0, 1, 40)
    settings = pd.DataFrame({"params.learning_rate": rate, "params.momentum": other})
    found = effects.importance(settings, 0.9 - 0.2 * abs(np.log10(rate) + 1.5))
    assert found is not None and found["learning_rate"] > 0.8


def test_savings_count_what_was_not_trained_and_who_was_wrong() -> None:
    def trial(state: str, value: float, done: int, **more: object) -> dict[str, object]:
        scores = {str(n): value for n in range(1, done + 1)}
        values = {names.VALIDATION_ACCURACY: value} if state == "complete" else {}
        return {"state": state, "values": values, "reported": scores, "steps": 10, "time_s": 2.0 * done, **more}

    rows = [trial("complete", 0.8, 10), trial("pruned", 0.3, 4), trial("complete", 0.9, 10, hopeless_at=3)]
    saved = savings(rows)
    assert saved == {
        "trials": 3,
        "pruned": 1,
        "saved_s": 12.0,
        "saved_usd": 0.0,
        "whole_s": 60.0,
        "let_run": 1,
        "wrong": 1,
    }
    assert savings([trial("complete", 0.8, 10)]) is None


def test_the_page_answers_the_question() -> None:
    filler: Filler = empty_store()
    settings, score = matrix()
    filler.run("study", tags={"study": "d", "report": "study", "question": "Does depth help?"})
    for number, (depth, init) in enumerate(settings.itertuples(index=False)):
        filler.run(
            f"r{number}",
            params={"num_layers": depth, "init": init, "seed": number % 3, "dataset": "x"},
            metrics={"test_accuracy": score[number], "test_num_images": 500, "total_time_s": 10.0 * depth},
            tags={"study": "d", "study_run": str(number)},
        )
    page = reports.study("d", filler.uri)
    text = page.to_text()
    assert "Does depth help?" in text and "num_layers 44, init imagenet" in page.answer
    assert "No interaction shown" in text and "| init" in text and "The best for how much time" in text
    assert {figure.name for figure in page.document.figures()} == {"coordinates", "history", "cost"}
    assert len(page.data["configurations"]) == 4 and page.data["metric"] == "test_accuracy"
    with pytest.raises(reports.ReportError, match="no study 'e'"):
        reports.study("e", filler.uri)


def test_the_answer_is_the_best_that_is_not_too_dear() -> None:
    filler: Filler = empty_store()
    filler.run("study", tags={"study": "e", "report": "study", "question": "Which depth?"})
    trials: list[dict[str, object]] = []
    for number, (depth, score, cost) in enumerate([(20, 0.8, 0.1), (32, 0.85, 0.3), (44, 0.9, 0.9)]):
        filler.run(
            f"r{number}",
            params={"num_layers": depth, "seed": 0, "dataset": "x"},
            metrics={"best_validation_accuracy": score, "validation_num_images": 500, "total_time_s": 1.0},
            tags={"study": "e", "study_run": f"k{number}"},
        )
        values = {names.VALIDATION_ACCURACY: score}
        row = {"state": "complete", "values": values, "runs": [f"k{number}"], "cost_usd": cost, "max_cost_usd": 0.5}
        trials.append({"number": number, "steps": 3, "reported": {}, **row})
    page = reports.study("e", filler.uri, trials=trials)
    text = page.to_text()
    assert "num_layers 32" in page.answer and "1 of them cost more than the 0.50" in text
    assert [one["settings"]["num_layers"] for one in page.data["configurations"]] == [32, 20, 44]
    assert "The best for how much money" in text
    assert json.loads(page.to_text("json"))["effects"][0]["low"] is None, "three runs use up what they say"


def test_an_interval_that_is_not_known_is_not_given() -> None:
    filler: Filler = empty_store()
    for number, rate in enumerate((0.01, 0.1)):
        filler.run(
            f"r{number}",
            params={"learning_rate": rate, "dataset": "x"},
            metrics={"best_validation_accuracy": 0.9 - rate, "cost_usd": 1.0 + number},
            tags={"study": "d", "study_run": str(number)},
        )
    page = reports.study("d", filler.uri)
    assert "100.0" not in page.to_text() and page.answer.startswith("learning_rate 0.01: 89.0 %")
    assert "(" not in page.answer, "neither seeds nor a number of pictures say how sure it is"
