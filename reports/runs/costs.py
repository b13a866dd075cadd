"""What jobs in the cloud cost: paid, wasted, saved and still to come, by user, experiment, tag, month or machine."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from reports.document import Document, text
from reports.document.document import Column, Paragraph, Table
from reports.document.report import Report
from reports.errors import ReportError
from reports.store import open_store
from tracking import names
from tracking.errors.errors import UsageError
from tracking.errors.program import moment
from tracking.frame import load
from tracking.frame.query import HasUri

BY = {
    "experiment": "experiment",
    "user": "tags.mlflow.user",
    "instance": f"tags.{names.INSTANCE_TYPE}",
    "month": "start_time",
}
_COST, _ARN = f"metrics.{names.COST_USD}", f"tags.{names.JOB_ARN}"
_SAVING, _KEPT = f"metrics.{names.SPOT_SAVING}", f"metrics.{names.WARM_POOL_COST_USD_AT_MOST}"
_TEST, _VALIDATION = f"metrics.{names.TEST_ACCURACY}", f"metrics.{names.BEST_VALIDATION_ACCURACY}"
_LATEST_S = 9e9  # pandas knows no time after the year 2262
_SUMS = ("paid_usd", "wasted_usd", "saved_by_spot_usd", "warm_pool_usd_at_most")
COLUMNS = ("jobs", "unknown", *_SUMS, "usd_per_point")


def costs(
    store: HasUri | str | None = None,
    experiments: str | Iterable[str] | None = None,
    *,
    by: str = "experiment",
    since: str = "",
    filter: str = "",
) -> Report:
    """The bills of the store's cloud jobs, summed ``by`` ``experiment``, ``user``, ``month``, ``instance``, ``tag:K``.

    ``since``: a date, or a time ago such as ``30d``. A job whose cost is not known is counted and not guessed. Raises
    ReportError for another ``by`` or ``since``.
    """
    column = f"tags.{by[4:]}" if by.startswith("tag:") and by[4:] else BY.get(by)
    if column is None:
        raise ReportError(f"--by {by}: legal are {text.join(list(BY), 'or')}, or tag:NAME")
    wanted = [_COST, _ARN, _SAVING, _KEPT, _TEST, _VALIDATION, "params.num_classes", "params.dataset"]
    wanted += [column] if column.startswith("tags.") else []
    opened = open_store(store)
    frame = load(opened, experiments, filter, list(dict.fromkeys(wanted)))
    started = pd.to_datetime(frame["start_time"], utc=True)
    if since:
        try:
            frame = frame[started >= pd.Timestamp(min(moment(since, time.time()), _LATEST_S), unit="s", tz="UTC")]
        except UsageError as error:
            raise ReportError(str(error)) from None
    frame = frame.reindex(columns=list(dict.fromkeys([*frame.columns, *wanted])))
    jobs = frame[frame[_ARN].notna() | frame[_COST].notna()]
    key = started.loc[jobs.index].dt.strftime("%Y-%m") if by == "month" else jobs[column]
    groups = [
        {by: str(name), **_summed(part)} for name, part in jobs.groupby(key.fillna("(none)").astype(str), sort=True)
    ]
    groups.sort(key=lambda row: (str(row[by]) if by == "month" else "", -row["paid_usd"]))
    total = _summed(jobs)
    return Report(
        lambda _: _document(by, groups, total, since),
        lambda: {"by": by, "since": since, "total": total, "groups": groups},
        lambda: _csv(by, groups),
    )


def _summed(jobs: pd.DataFrame) -> dict[str, Any]:
    cost = jobs[_COST].astype(float)
    saving = jobs[_SAVING].astype(float).clip(0.0, 0.999)
    return {
        "jobs": len(jobs),
        "unknown": int(cost.isna().sum()),
        "paid_usd": float(cost.sum()),
        "wasted_usd": float(cost[jobs["status"] == "FAILED"].sum()),
        "saved_by_spot_usd": float((cost * saving / (1 - saving)).sum()),
        "warm_pool_usd_at_most": float(jobs[_KEPT].astype(float).sum()),
        "usd_per_point": _per_point(jobs, float(cost.sum())),
    }


def _per_point(jobs: pd.DataFrame, paid: float) -> float | None:
    """Money for each point of the best accuracy above chance; None unless all is about one data set."""
    if jobs["params.dataset"].nunique() != 1 or jobs["params.num_classes"].nunique() != 1:
        return None
    known = jobs[_TEST if jobs[_TEST].notna().any() else _VALIDATION].astype(float)
    points = 100 * (float(known.max()) - 1 / float(jobs["params.num_classes"].dropna().iloc[0]))
    return paid / points if points > 0 and paid > 0 else None


def _document(by: str, groups: Sequence[dict[str, Any]], total: dict[str, Any], since: str) -> Document:
    when = f" since {since}" if since else ""
    if not total["jobs"]:
        return Document(
            "Costs", [Paragraph(f"No run of a cloud job{when}: nothing was paid that is known here.", "answer")]
        )
    said = f"{text.money(total['paid_usd'])} paid for {text.plural(total['jobs'], 'job')}{when}"
    said += f", {text.money(total['wasted_usd'])} of it for jobs that failed"
    if total["saved_by_spot_usd"]:
        said += f"; spot capacity saved {text.money(total['saved_by_spot_usd'])}"
    blocks: list[Any] = [Paragraph(f"{said}.", "answer")]
    if total["unknown"]:
        known = "The cost of {} is not known and is not in the sums: they run, were deleted, or have no price."
        blocks.append(Paragraph(known.format(text.plural(total["unknown"], "job")), "warning"))
    cells = [str(row[by]) for row in groups]
    columns = [Column(by.removeprefix("tag:"), False, cells, cells)]
    columns.append(_numbers("jobs", [row["jobs"] for row in groups], str))
    for title, key in (
        ("paid", "paid_usd"),
        ("on failed jobs", "wasted_usd"),
        ("saved by spot", "saved_by_spot_usd"),
        ("warm pools, at most", "warm_pool_usd_at_most"),
        ("a point", "usd_per_point"),
    ):
        values = [row[key] for row in groups]
        if any(values):
            columns.append(_numbers(title, values, text.money))
    blocks.append(Table(tuple(columns)))
    blocks.append(
        Paragraph(
            "Paid: billed seconds, at the price of the machine; spot at its discount. A point: what was paid for each"
            " percentage point of the best test accuracy (else validation accuracy) above chance, where a row's jobs"
            " share one data set. Not in it: S3, logs, volumes, transfer.",
            "note",
        )
    )
    return Document("Costs", blocks)


def _numbers(title: str, values: Sequence[Any], shown: Any) -> Column:
    return Column(title, True, ["–" if value is None else shown(value) for value in values], values)


def _csv(by: str, groups: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, [by, *COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(groups)
    return out.getvalue()
