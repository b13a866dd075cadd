"""The bills of cloud jobs: sums to the cent, what is unknown is said, other runs are none of it."""

from __future__ import annotations

import pytest

import reports
from reports.__main__ import main
from reports.errors import ReportError
from tests.support.runs import Filler, empty_store

ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/"


@pytest.fixture(scope="module")
def filler() -> Filler:
    filler = empty_store()
    jobs: list[tuple[str, str, str, dict[str, float]]] = [
        ("cats", "anna", "FINISHED", {"cost_usd": 3.0, "spot_saving": 0.7, "best_validation_accuracy": 0.8}),
        ("cats", "anna", "FAILED", {"cost_usd": 0.5}),
        ("cats", "ben", "KILLED", {}),  # deleted: nobody knows
        ("dogs", "ben", "FINISHED", {"cost_usd": 1.25, "warm_pool_cost_usd_at_most": 0.2, "test_accuracy": 0.75}),
        ("dogs", "ben", "FAILED", {"cost_usd": 0.0}),  # never got a machine
    ]
    for number, (experiment, user, status, metrics) in enumerate(jobs):
        filler.run(
            f"job-{number}",
            experiment=experiment,
            params={"dataset": f"s3://b/{experiment}/", "num_classes": 2},
            metrics=metrics,
            tags={
                "job_arn": f"{ARN}{number}",
                "mlflow.user": user,
                "instance_type": "ml.g5.xlarge" if number % 2 else "ml.p3.2xlarge",
                **({"team": "vision"} if number < 2 else {}),
            },
            status=status,
        )
    filler.run("here", experiment="cats", params={"dataset": "digits"}, metrics={"test_accuracy": 0.9})
    return filler


def test_what_was_paid_wasted_saved_and_a_point(filler: Filler) -> None:
    data = reports.costs(filler.uri).data
    assert data["total"] | {"saved_by_spot_usd": 7.0} == {
        "jobs": 5,
        "unknown": 1,
        "paid_usd": 4.75,
        "wasted_usd": 0.5,
        "saved_by_spot_usd": 7.0,
        "warm_pool_usd_at_most": 0.2,
        "usd_per_point": None,  # of two data sets
    }
    assert data["total"]["saved_by_spot_usd"] == pytest.approx(7.0)  # 3 is 30 % of 10
    cats, dogs = data["groups"]
    assert (cats["experiment"], cats["paid_usd"], cats["jobs"]) == ("cats", 3.5, 3)
    assert cats["usd_per_point"] == pytest.approx(3.5 / 30) and dogs["usd_per_point"] == pytest.approx(1.25 / 25)


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("user", {"anna": 3.5, "ben": 1.25}),
        ("instance", {"ml.p3.2xlarge": 3.0, "ml.g5.xlarge": 1.75}),
        ("tag:team", {"vision": 3.5, "(none)": 1.25}),
    ],
)
def test_by_whom_where_and_any_tag(filler: Filler, by: str, groups: dict[str, float]) -> None:
    assert {row[by]: row["paid_usd"] for row in reports.costs(filler.uri, by=by).data["groups"]} == groups


def test_since_and_experiment_and_month_narrow_it(filler: Filler) -> None:
    assert reports.costs(filler.uri, since="2200-01-01").data["total"]["jobs"] == 0
    assert "nothing was paid" in reports.costs(filler.uri, since="1h").answer
    assert reports.costs(filler.uri, "dogs", since="1990-01-01").data["total"]["paid_usd"] == 1.25
    (month,) = reports.costs(filler.uri, by="month").data["groups"]
    assert len(month["month"]) == 7 and month["paid_usd"] == 4.75
    for wrong in ({"by": "colour"}, {"by": "tag:"}, {"since": "lately"}):
        with pytest.raises(ReportError, match="--by|--since"):
            reports.costs(filler.uri, **wrong)


def test_pages_and_files(filler: Filler, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--store", filler.uri, "--by", "user"]) == 0
    page = capsys.readouterr().out
    assert "75 USD paid for 5 jobs, 0.50 USD of it for jobs that failed; spot capacity saved 7.00 USD." in page
    assert "The cost of 1 job is not known" in page and "| anna" in page
    assert main(["cost", "--store", filler.uri, "--format", "csv"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("experiment,jobs,unknown,paid_usd") and rows[1].startswith("cats,3,1,3.5,0.5,")
    assert "<table" in reports.costs(filler.uri).to_text("html")
