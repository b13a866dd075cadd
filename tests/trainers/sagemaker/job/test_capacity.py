"""Several machines that will do: AWS takes the first with capacity, and where it cannot, the watcher goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws.fake import FakeSageMaker, Plan
from tests.support.aws.launches import CONFIG, account, launched, launcher, metrics, options, statuses, tags
from tracking import names
from trainers.errors import BadConfig
from trainers.sagemaker.command import consent
from trainers.sagemaker.job import ledger
from trainers.sagemaker.job.request import build
from trainers.sagemaker.preflight import examine
from trainers.sagemaker.watch.many_jobs import watch_many

pytestmark = pytest.mark.slow
THREE = "ml.p3.2xlarge,ml.g5.xlarge,ml.g4dn.xlarge"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSageMaker]:
    with account(tmp_path / "fake", monkeypatch) as fake:
        yield fake


def resources(**changes: Any) -> dict[str, Any]:
    made = build(CONFIG, options(**changes), [], job_name="job-1")
    return {**made["ResourceConfig"], **{k: v for k, v in made["StoppingCondition"].items() if "Pending" in k}}


def test_the_request_names_them_in_order_with_what_each_needs() -> None:
    listed = [{"InstanceType": kind} for kind in THREE.split(",")]
    # p3 has no disk of its own and needs a volume; the others pass over it.
    assert resources(instance_type=THREE) == {"InstancePreferences": listed, "InstanceCount": 1, "VolumeSizeInGB": 30}
    assert resources(instance_type="ml.g5.xlarge, ml.g4dn.xlarge", max_pending_s=7200) == {
        "InstancePreferences": listed[1:],
        "InstanceCount": 1,
        "MaxPendingTimeInSeconds": 7200,
    }
    assert resources(instance_type=THREE, spot=True)["InstanceType"] == "ml.p3.2xlarge"  # spot knows no list


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"instance_type": "ml.g5.xlarge,ml.g5.xlarge"}, "names a machine twice"),
        ({"instance_type": ",".join(f"ml.g5.{n}xlarge" for n in (2, 4, 8, 12, 16, 24))}, "at most 5 are legal"),
        ({"instance_type": "ml.g5.xlarge,g4dn"}, "--instance-type 'g4dn' must have the form"),
        ({"instance_type": "ml.g5.xlarge,"}, "--instance-type '' must have the form"),
        ({"instance_type": THREE, "kms_key": "key"}, "name machines of one kind"),
        ({"max_pending_s": 600}, "--max-pending 600 is out of range: 1800"),
    ],
)
def test_lists_that_aws_would_refuse_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        options(**changes)


@pytest.mark.parametrize(
    ("without", "got", "usd"),
    [((), "ml.p3.2xlarge", 3.825), (("ml.p3.2xlarge",), "ml.g5.xlarge", 1.408)],
)
def test_the_job_is_billed_as_the_machine_that_it_got(
    fake: FakeSageMaker, tmp_path: Path, without: tuple[str, ...], got: str, usd: float
) -> None:
    fake.without_capacity = set(without)
    entry = launched(fake, tmp_path / "journals", instance_type=THREE)
    assert entry.price is not None and entry.price["usd"] == 3.825  # what it may cost at most
    (outcome,) = watch_many([entry], aws=launcher(fake, tmp_path).aws)
    assert outcome is not None and outcome.cost_usd == pytest.approx(266 / 3600 * usd)
    assert tags(entry.directory)[names.INSTANCE_TYPE] == got and f"{usd:.2f}"[:3] in tags(entry.directory)[names.PRICE]


@pytest.mark.parametrize(("changes", "has"), [({"spot": True, "max_wait_s": 14400}, True), ({}, False)])
def test_where_aws_does_not_choose_the_watcher_goes_on_once_for_each_machine(
    fake: FakeSageMaker, tmp_path: Path, changes: dict[str, Any], has: bool
) -> None:
    """Spot, and an account that may not give preferences: one run, the last machine's bill."""
    fake.has_preferences, fake.without_capacity = has, {"ml.p3.2xlarge", "ml.g5.xlarge"}
    entry = launched(fake, tmp_path / "journals", instance_type=THREE, **changes)
    (outcome,) = watch_many([entry], aws=launcher(fake, tmp_path).aws, poll_s=120)
    assert outcome is not None and outcome.state == "finished" and len(fake.jobs) == 3
    paid = fake.job(outcome.name)
    assert outcome.cost_usd == pytest.approx(paid.billable_s / 3600 * 0.7364)
    assert tags(entry.directory)[names.INSTANCE_TYPE] == "ml.g4dn.xlarge"
    assert tags(entry.directory)[names.JOB_NAME] == outcome.name == paid.name
    assert [status for status, _ in statuses(entry.directory)] == ["FINISHED"]
    assert len(metrics(entry.directory, names.VALIDATION_ACCURACY)) == 3


def test_when_no_machine_is_left_the_run_has_failed_and_cost_nothing(fake: FakeSageMaker, tmp_path: Path) -> None:
    fake.without_capacity = set(THREE.split(","))
    entry = launched(fake, tmp_path / "journals", instance_type=THREE)
    (outcome,) = watch_many([entry], aws=launcher(fake, tmp_path).aws)
    assert outcome is not None and (outcome.state, outcome.kind) == ("failed", "capacity") and len(fake.jobs) == 1
    assert metrics(entry.directory, names.COST_USD) == [(0, 0)]


def test_a_repeated_launch_continues_with_the_machine_whose_turn_it_is(fake: FakeSageMaker, tmp_path: Path) -> None:
    where = launcher(fake, tmp_path / "journals", instance_type=THREE, spot=True)
    entry, journal = where.record(where.plan(CONFIG))
    moved = entry.on_next_type()
    journal.close()
    assert (moved.instance_type, list(moved.fallback), list(moved.tried)) == (
        "ml.g5.xlarge",
        ["ml.g4dn.xlarge"],
        ["ml.p3.2xlarge"],
    )
    again, journal = where.record(where.plan(CONFIG))
    journal.close()
    assert again.directory == entry.directory and again.instance_type == "ml.g5.xlarge"
    loaded = ledger.load(entry.directory)
    assert loaded is not None and loaded.name == moved.name != entry.name


def test_the_preflight_looks_at_every_machine_and_prices_the_list(
    fake: FakeSageMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.plan("*", Plan())
    where = launcher(fake, tmp_path / "journals", instance_type="ml.g5.xlarge,ml.m5.large,ml.g6.xlarge")
    plan = where.plan(CONFIG, dry=True)
    report = examine.examine(plan.request, CONFIG, plan.options, where.aws, counts={"train": 640})
    found = {(one.code, one.what.split()[0]) for one in report.findings}
    assert {("instance-cpu", "ml.m5.large"), ("instance-family", "ml.g6.xlarge")} <= found
    assert not any(one.code == "request-limit" for one in report.findings)
    assert list(report.usd_by_type) == ["ml.g5.xlarge", "ml.m5.large", "ml.g6.xlarge"]
    assert report.usd == max(report.usd_by_type.values())
    (words,) = [one.what for one in report.findings if one.code == "estimate"]
    assert all(f"on {kind}" in words for kind in report.usd_by_type)
    seen = consent.Checked(reports=[report], has_errors=False, usd=report.usd, usd_at_most=9.0, billed_s=600.0)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda words: "n")
    consent.consent([plan], seen, plan.options, None)
    said = capsys.readouterr().err
    assert "1 × ml.g5.xlarge, else ml.m5.large, else ml.g6.xlarge" in said and "$0.12 to $1.41 an hour" in said
    # Four hours and 320 s at the dearest of the three, $1.408 an hour.
    assert "at most   $5.76 in all, should every job run until its limit stops it" in said
    assert "in all, perhaps up to $9.00: no finished job like it is known" in said
    spot = launcher(fake, tmp_path / "spot", spot=True, max_wait_s=20_000, instance_count=2)
    waiting = spot.plan(CONFIG, dry=True)
    report = examine.examine(waiting.request, CONFIG, waiting.options, spot.aws, counts={"train": 640})
    seen = consent.Checked(reports=[report], has_errors=False, usd=1.0, usd_at_most=9.0, billed_s=600.0)
    consent.consent([waiting], seen, waiting.options, None)
    assert "at most   $8.18 in all" in capsys.readouterr().err  # 20,000 s on two machines at $0.7364
