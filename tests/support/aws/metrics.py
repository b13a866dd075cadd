"""CloudWatch's GetMetricData as the fake answers it: the load of a job's machines, minute by minute, a while later."""

from __future__ import annotations

from functools import cache
from typing import Any

import botocore.session

from tests.support.aws.rules import Refused, check_members

SERVICE = "GraniteServiceVersion20100801"
NAMESPACE = "/aws/sagemaker/TrainingJobs"
MOST_QUERIES = 500


@cache
def _shape() -> Any:
    return botocore.session.get_session().get_service_model("cloudwatch").operation_model("GetMetricData").input_shape


def answer(fake: Any, request: dict[str, Any]) -> dict[str, Any]:
    """The points of each query that have arrived by now, or Refused."""
    check_members(_shape(), request)
    queries = request["MetricDataQueries"]
    if len(queries) > MOST_QUERIES or len({query["Id"] for query in queries}) < len(queries):
        raise Refused("ValidationError", f"MetricDataQueries: no more than {MOST_QUERIES}, each with an Id of its own.")
    start, end = request["StartTime"], request["EndTime"]
    if start >= end:
        raise Refused("ValidationError", "The parameter StartTime must be less than the parameter EndTime.")
    return {"MetricDataResults": [_result(fake, query, start, end) for query in queries]}


def _result(fake: Any, query: dict[str, Any], start: float, end: float) -> dict[str, Any]:
    metric, period = query["MetricStat"]["Metric"], query["MetricStat"]["Period"]
    ours = metric["Namespace"] == NAMESPACE and [one["Name"] for one in metric["Dimensions"]] == ["Host"]
    load = fake.load.get(metric["Dimensions"][0]["Value"]) if ours else None
    points: list[tuple[float, float]] = []
    at = -(-start // period) * period
    while load is not None and at < end and at + period + fake.load_lag_s <= fake.now():
        values = load(at)
        points += [(at, values[metric["MetricName"]])] if metric["MetricName"] in values else []
        at += period
    return {"Id": query["Id"], "Timestamps": [at for at, _ in points], "Values": [value for _, value in points]}
