"""What a job costs: billed seconds x instances x price, with the price's source and date beside it.

SageMaker bills training by the second, without a minimum, from the first ``Downloading`` to the end; waiting for the
machine is free. The shipped table is dated and an estimate; the pricing API's answer is taken where it is allowed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tracking.errors.words import money
from trainers.errors import BadInput, TrainerError
from trainers.sagemaker.aws.client import Aws

TABLE_DATE = "2026-09"
TABLE_REGION = "us-east-1"
# Where the price list can be asked; its answers are about every region of the partition.
_PRICING_REGIONS = {"cn": "cn-northwest-1", "eu": "eu-central-1", "ap": "ap-south-1"}
_PATIENCE_S = 5.0
# On-demand USD an hour for training in us-east-1 (us-west-2 is equal). Copies of AWS's price list and pricing page.
_USD_PER_HOUR = {
    "ml.m5.large": 0.115,
    "ml.m5.xlarge": 0.23,
    "ml.m5.2xlarge": 0.461,
    "ml.m5.4xlarge": 0.922,
    "ml.m5.12xlarge": 2.765,
    "ml.m5.24xlarge": 5.53,
    "ml.c5.xlarge": 0.204,
    "ml.c5.2xlarge": 0.408,
    "ml.c5.4xlarge": 0.816,
    "ml.c5.9xlarge": 1.836,
    "ml.p2.xlarge": 1.125,
    "ml.p3.2xlarge": 3.825,
    "ml.p3.8xlarge": 14.688,
    "ml.p3.16xlarge": 28.152,
    "ml.p3dn.24xlarge": 35.894,
    "ml.g4dn.xlarge": 0.7364,
    "ml.g4dn.2xlarge": 0.94,
    "ml.g4dn.4xlarge": 1.505,
    "ml.g4dn.8xlarge": 2.72,
    "ml.g4dn.12xlarge": 4.89,
    "ml.g4dn.16xlarge": 5.44,
    "ml.g5.xlarge": 1.408,
    "ml.g5.2xlarge": 1.515,
    "ml.g5.4xlarge": 2.03,
    "ml.g5.8xlarge": 3.06,
    "ml.g5.12xlarge": 7.09,
    "ml.g5.16xlarge": 5.12,
    "ml.g5.24xlarge": 10.18,
    "ml.g5.48xlarge": 20.36,
    "ml.g6.xlarge": 1.127,
    "ml.g6.2xlarge": 1.222,
    "ml.g6.4xlarge": 1.654,
    "ml.g6.8xlarge": 2.52,
    "ml.g6.12xlarge": 5.752,
    "ml.g6.24xlarge": 8.344,
    "ml.g6.48xlarge": 16.688,
    "ml.p4d.24xlarge": 25.25,
    "ml.p5.48xlarge": 63.296,
}
# eu-west-1, rounded to the cent in its source.
_EU_WEST_1 = {
    "ml.m5.large": 0.13,
    "ml.m5.xlarge": 0.25,
    "ml.m5.2xlarge": 0.51,
    "ml.m5.4xlarge": 1.02,
    "ml.c5.xlarge": 0.23,
    "ml.c5.2xlarge": 0.45,
    "ml.g4dn.xlarge": 0.82,
    "ml.g4dn.2xlarge": 1.17,
    "ml.p3.2xlarge": 4.13,
    "ml.p3.8xlarge": 15.90,
}
_TABLE = {TABLE_REGION: _USD_PER_HOUR, "us-west-2": _USD_PER_HOUR, "eu-west-1": _EU_WEST_1}


@dataclass(frozen=True, kw_only=True)
class Price:
    """One instance's hour: ``source`` is ``live`` or ``table``, ``date`` the price list's own.

    ``region`` is whose price it is: another than the job's where the table lacks that, and then ``note`` says so.
    """

    usd: float
    source: str
    date: str
    region: str
    note: str = ""

    def __str__(self) -> str:
        """``$0.74/h (table of 2026-09, us-east-1)``."""
        where = "AWS price list" if self.source == "live" else "table"
        return f"{money(self.usd)}/h ({where} of {self.date}, {self.region})"


class NoPrice(BadInput):
    """No price of the instance type is known."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a job was billed. ``training_usd`` without, ``warm_pool_usd`` for the machine kept afterwards."""

    training_usd: float
    warm_pool_usd: float
    billable_s: int
    num_instances: int
    price: Price
    spot_saving: float | None = None

    @property
    def usd(self) -> float:
        """All of it."""
        return self.training_usd + self.warm_pool_usd


def price_per_hour(region: str, instance_type: str, aws: Aws | None = None) -> Price:
    """The on-demand price of one training instance's hour.

    With ``aws`` the price list is asked first; where that is not allowed or has no answer, the shipped table answers,
    with the reason in ``note``. Raises NoPrice when neither knows the type.
    """
    notes = []
    if aws is not None:
        try:
            live = _live(aws, region, instance_type)
        except TrainerError as error:  # a price is no reason to stop: whatever the API says, the table answers
            notes.append(f"the price list could not be asked: {error}")
        else:
            if live is not None:
                return live
            notes.append(f"the price list has no training price of {instance_type} in {region}")
    if instance_type in _TABLE.get(region, {}):
        return Price(
            usd=_TABLE[region][instance_type], source="table", date=TABLE_DATE, region=region, note="; ".join(notes)
        )
    if instance_type in _USD_PER_HOUR:
        notes.append(f"no price of {region} is shipped, {TABLE_REGION}'s is used and may be too low")
        return Price(
            usd=_USD_PER_HOUR[instance_type],
            source="table",
            date=TABLE_DATE,
            region=TABLE_REGION,
            note="; ".join(notes),
        )
    why = f" ({notes[0]})" if notes else ""
    raise NoPrice(
        f"--instance-type {instance_type}: no price is known{why}. Prices are shipped for {', '.join(_USD_PER_HOUR)};"
        " others need leave to call pricing:GetProducts."
    )


def pricing_region(region: str) -> str:
    """Where the pricing API that knows this region is reached."""
    return _PRICING_REGIONS.get(region.split("-")[0], "us-east-1")


def cost_usd(billable_s: float, num_instances: int, usd_per_hour: float) -> float:
    """Billed seconds x instances x price; AWS's own arithmetic, with no minimum and no rounding up to an hour."""
    return float(Decimal(str(billable_s)) * num_instances * Decimal(str(usd_per_hour)) / 3600)


def dearest(prices: Sequence[Price]) -> Price:
    """The highest of several prices: what a job may cost that takes the first machine which is free."""
    return max(prices, key=lambda price: price.usd)


def job_cost(description: Mapping[str, Any], price: Price) -> Cost | None:
    """The cost of an ended job from DescribeTrainingJob's answer; None while nothing was billed yet.

    Spot's seconds are already reduced by AWS, so they are multiplied by the on-demand price.
    """
    billable_s = description.get("BillableTimeInSeconds")
    if billable_s is None:
        return None
    resources = description.get("ResourceConfig", {})
    count = int(resources.get("SelectedInstanceCount") or resources.get("InstanceCount") or 1)
    kept_s = description.get("WarmPoolStatus", {}).get("ResourceRetainedBillableTimeInSeconds", 0)
    training_s = description.get("TrainingTimeInSeconds")
    saving = None
    if description.get("EnableManagedSpotTraining") and training_s:
        saving = 1 - billable_s / training_s
    return Cost(
        training_usd=cost_usd(billable_s, count, price.usd),
        warm_pool_usd=cost_usd(kept_s, count, price.usd),
        billable_s=int(billable_s),
        num_instances=count,
        price=price,
        spot_saving=saving,
    )


def seconds_for(usd: float, num_instances: int, usd_per_hour: float) -> int:
    """How many whole seconds an amount buys."""
    return int(Decimal(str(usd)) * 3600 / (num_instances * Decimal(str(usd_per_hour))))


def _live(aws: Aws, region: str, instance_type: str) -> Price | None:
    """The price list's answer, or None when it has none. Raises AwsError."""
    match = {"regionCode": region, "instanceName": instance_type, "platoinstancetype": "Training"}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in match.items()]
    # The price list has its own few addresses, whatever the region that is asked about.
    list_of_prices = Aws(region=pricing_region(region), profile=aws.profile, clock=aws.clock)
    pages = list_of_prices.pages(
        "pricing",
        "GetProducts",
        patience_s=_PATIENCE_S,
        ServiceCode="AmazonSageMaker",
        Filters=filters,
        FormatVersion="aws_v1",
    )
    for page in pages:
        for text in page.get("PriceList", []):
            found = _price_of(json.loads(text) if isinstance(text, str) else text, region, match)
            if found is not None:
                return found
    return None


def _price_of(item: Mapping[str, Any], region: str, match: Mapping[str, str]) -> Price | None:
    """The USD an hour of one product, where it is the on-demand training hour that was asked for."""
    attributes = item.get("product", {}).get("attributes", {})
    if any(attributes.get(field) != value for field, value in match.items()):
        return None
    if "free" in str(attributes.get("usagetype", "")).lower() or attributes.get("locationType") == "AWS Outposts":
        return None
    for term in item.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            usd = dimension.get("pricePerUnit", {}).get("USD")
            if usd is not None and dimension.get("unit") == "Hrs" and float(usd) > 0:
                return Price(
                    usd=float(usd), source="live", date=str(item.get("publicationDate", ""))[:10], region=region
                )
    return None
