"""What a study still has to do: done, ready, waiting, failed, as every place asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stores import make_store
from tracking import names
from tracking import run as tracked
from trainers.config import Config
from trainers.config import study as studies
from trainers.launch.study import StudyPlan, ended

STUDY = """
[settings]
num_layers = 20
[[runs]]
name = "source"
[[runs]]
name = "transfer"
init = "run:source"
[[runs]]
name = "further"
init = "run:transfer"
[[runs]]
name = "alone"
"""


@pytest.fixture
def study(workdir: Path) -> studies.Study:
    Path("four.toml").write_text(STUDY)
    return studies.load("four.toml")


def left(plan: StudyPlan) -> list[str]:
    return [planned.name for planned in plan.left]


def test_a_single_run_is_a_plan_without_a_study() -> None:
    config = Config(dataset="digits")
    plan = StudyPlan.of(config)
    assert [plan.config(planned) for planned in plan.ready()] == [config]


def test_a_run_waits_for_its_source_and_starts_from_its_id(study: studies.Study) -> None:
    plan = StudyPlan.of(study)
    source, transfer, *_ = plan.left
    assert [planned.name for planned in plan.ready()] == ["source", "alone"] and plan.waits(transfer)
    assert plan.config(transfer).init == "run:source"
    plan.done[source.key] = "abcd1234"
    plan.leave_out(under_way={study.runs[3].key})
    assert left(plan) == ["transfer", "further"] and [planned.name for planned in plan.ready()] == ["transfer"]
    config = plan.config(transfer)
    assert config.init == "run:abcd1234" and config.tags[names.STUDY_RUN] == transfer.key
    assert config.tags[names.STUDY] == study.name


def test_what_starts_from_a_failed_run_fails_with_it(study: studies.Study) -> None:
    plan = StudyPlan.of(study)
    source = plan.left.pop(0)
    plan.fail(source, "no such data")
    assert left(plan) == ["alone"]
    assert list(plan.failed.values()) == [
        "no such data",
        "its source 'source' was not trained",
        "its source 'transfer' was not trained",
    ]


def test_the_newest_run_with_the_status_counts(study: studies.Study, workdir: Path) -> None:
    store = make_store(workdir)
    plan, ids = StudyPlan.of(study), list[str]()
    for number in range(2):
        tags = plan.config(plan.left[0]).tags
        with tracked.start(experiment="e", run_name=f"run {number}", root=store.journals, live=store) as run:
            run.set_tags(dict(tags))
        ids.append(str(run.mlflow_run_id))
    assert ended(study, store, "FINISHED") == {plan.left[0].key: ids[1]}
    assert ended(study, store, "KILLED") == {}
