"""Prices and costs: AWS's own arithmetic to the cent, the table, the live price list on the wire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.aws.answers import Answers, answering, product
from tests.support.clock import ManualClock
from tracking.errors.words import money
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.cost import pricing


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """A price list on the wire, empty and forbidden until a test fills it."""
    with answering() as answers:
        for name, value in {
            **answers.environment(),
            "AWS_ACCESS_KEY_ID": "fake",
            "AWS_SECRET_ACCESS_KEY": "fake",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }.items():
            monkeypatch.setenv(name, value)
        yield answers


def _aws() -> Aws:
    return Aws(region="us-east-1", clock=ManualClock())


# The public jobs whose logs show billed seconds, on one ml.p3.2xlarge at $3.825 an hour.
@pytest.mark.parametrize(
    ("billed_s", "dollars"),
    [(428, "$0.45"), (294, "$0.31"), (428, "$0.45"), (782, "$0.83"), (252, "$0.27")],
)
def test_cost_of_the_five_public_jobs_to_the_cent(billed_s: int, dollars: str) -> None:
    price = pricing.price_per_hour("us-east-1", "ml.p3.2xlarge")
    description = {
        "BillableTimeInSeconds": billed_s,
        "ResourceConfig": {"InstanceType": "ml.p3.2xlarge", "InstanceCount": 1},
    }
    cost = pricing.job_cost(description, price)
    assert cost is not None
    assert money(cost.usd) == dollars


def test_five_small_cpu_jobs_cost_what_the_account_shows() -> None:
    usd = sum(pricing.cost_usd(s, 1, 0.115) for s in (125, 129, 89, 90, 109))
    assert usd == pytest.approx(0.0173, abs=5e-5)


def test_all_machines_of_a_job_are_billed_and_the_kept_one_as_well() -> None:
    price = pricing.Price(usd=3.6, source="table", date="2026-09", region="us-east-1")
    description = {
        "BillableTimeInSeconds": 100,
        "TrainingTimeInSeconds": 100,
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 3},
        "WarmPoolStatus": {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": 50},
    }
    cost = pricing.job_cost(description, price)
    assert cost is not None
    assert (cost.training_usd, cost.warm_pool_usd, cost.num_instances) == (pytest.approx(0.3), pytest.approx(0.15), 3)
    assert cost.spot_saving is None


def test_spot_saves_the_share_that_was_not_billed() -> None:
    price = pricing.Price(usd=3.6, source="table", date="2026-09", region="us-east-1")
    description = {
        "BillableTimeInSeconds": 300,
        "TrainingTimeInSeconds": 1000,
        "EnableManagedSpotTraining": True,
        "ResourceConfig": {"SelectedInstanceType": "ml.g5.xlarge", "SelectedInstanceCount": 1},
    }
    cost = pricing.job_cost(description, price)
    assert cost is not None
    assert cost.usd == pytest.approx(0.3)
    assert cost.spot_saving == pytest.approx(0.7)


def test_a_job_that_was_billed_nothing_yet_has_no_cost() -> None:
    price = pricing.price_per_hour("us-east-1", "ml.g4dn.xlarge")
    assert pricing.job_cost({"ResourceConfig": {"InstanceCount": 1}}, price) is None


def test_the_table_says_its_date_and_whose_price_it_is() -> None:
    here = pricing.price_per_hour("us-west-2", "ml.g4dn.xlarge")
    assert (here.usd, here.source, here.date, here.region, here.note) == (0.7364, "table", "2026-09", "us-west-2", "")
    assert str(here) == "$0.74/h (table of 2026-09, us-west-2)"
    elsewhere = pricing.price_per_hour("sa-east-1", "ml.g4dn.xlarge")
    assert elsewhere.region == "us-east-1"
    assert "no price of sa-east-1" in elsewhere.note


def test_an_unknown_type_has_no_price() -> None:
    with pytest.raises(pricing.NoPrice, match=r"ml\.x9\.huge: no price is known"):
        pricing.price_per_hour("us-east-1", "ml.x9.huge")


def test_the_live_price_is_taken_where_it_may_be_asked(answers: Answers) -> None:
    answers.table["GetProducts"] = {
        "FormatVersion": "aws_v1",
        "PriceList": [
            product("ml.g5.xlarge", "eu-central-1", "0.5", platoinstancetype="Hosting"),
            product("ml.g5.xlarge", "eu-central-1", "0.0", usagetype="EUC1-Train-Free:ml.g5.xlarge"),
            product("ml.g5.xlarge", "eu-central-1", "1.7600000000"),
        ],
    }
    price = pricing.price_per_hour("eu-central-1", "ml.g5.xlarge", _aws())
    assert (price.usd, price.source, price.date, price.note) == (1.76, "live", "2026-11-02", "")
    asked = {f["Field"]: f["Value"] for f in answers.calls[0][1]["Filters"]}
    assert asked == {
        "regionCode": "eu-central-1",
        "instanceName": "ml.g5.xlarge",
        "platoinstancetype": "Training",
    }


def test_the_live_price_list_is_paged_through(answers: Answers) -> None:
    first = {"PriceList": [], "NextToken": "more"}
    second = {"PriceList": [product("ml.g5.xlarge", "us-east-1", "1.5")]}
    answers.table["GetProducts"] = lambda request: second if request.get("NextToken") == "more" else first
    assert pricing.price_per_hour("us-east-1", "ml.g5.xlarge", _aws()).usd == 1.5


def test_the_table_answers_where_the_price_list_may_not_be_asked(answers: Answers) -> None:
    price = pricing.price_per_hour("us-east-1", "ml.g5.xlarge", _aws())
    assert (price.usd, price.source) == (1.408, "table")
    assert "not authorized to perform GetProducts" in price.note


def test_a_proxys_page_in_place_of_an_answer_is_cut(answers: Answers) -> None:
    page = "<!DOCTYPE html><html><head><style>b {}</style></head><body><h1>Blocked</h1>" + "<p>policy 7</p>" * 500
    for answer in (("AccessDeniedException", page), ("Gateway", page), page.encode(), ("x", "y" * 90_000)):
        answers.table["GetProducts"] = answer
        note = pricing.price_per_hour("us-east-1", "ml.g4dn.xlarge", _aws()).note
        assert len(note) < 1400 and "<" not in note
    answers.table["GetProducts"] = ("AccessDeniedException", page)
    note = pricing.price_per_hour("us-east-1", "ml.g4dn.xlarge", _aws()).note
    assert "a web page instead of AWS's answer, perhaps a proxy's: Blocked policy 7" in note and len(note) < 400


def test_the_table_answers_where_the_price_list_has_nothing(answers: Answers) -> None:
    answers.table["GetProducts"] = {"PriceList": []}
    price = pricing.price_per_hour("us-east-1", "ml.g5.xlarge", _aws())
    assert price.source == "table"
    assert "no training price of ml.g5.xlarge in us-east-1" in price.note


@pytest.mark.parametrize(
    ("region", "asked"),
    [
        ("us-west-2", "us-east-1"),
        ("eu-west-3", "eu-central-1"),
        ("ap-northeast-1", "ap-south-1"),
        ("cn-north-1", "cn-northwest-1"),
    ],
)
def test_the_price_list_has_few_addresses(region: str, asked: str) -> None:
    assert pricing.pricing_region(region) == asked


def test_seconds_that_an_amount_buys_are_never_more_than_it_pays_for() -> None:
    assert pricing.seconds_for(1.0, 1, 0.7364) == 4888  # 3600 / 0.7364 = 4888.6
    assert pricing.seconds_for(1.0, 4, 0.7364) == 1222
