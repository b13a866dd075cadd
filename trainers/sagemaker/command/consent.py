"""Before a launch: the preflight of every job, put together, and the question whether to spend the money.

Enters: plans, dry. Leaves: what was found and what it all may cost.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from tracking.errors.words import duration, money, plural
from trainers.config import Config
from trainers.errors import BadInput
from trainers.sagemaker.aws.uri import is_s3
from trainers.sagemaker.job.request import BILLED_BESIDE_S

if TYPE_CHECKING:
    from trainers.sagemaker.job.launcher import Plan, SageMakerLauncher
    from trainers.sagemaker.options import JobOptions
    from trainers.sagemaker.preflight.report import Report


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the preflight of all jobs came to; the sums are None where a price or a size is not known."""

    reports: list[Report]
    has_errors: bool
    usd: float | None
    usd_at_most: float | None
    billed_s: float | None

    def of(self, count: int) -> Checked:
        """The same for so many jobs, of which these are a sample."""
        share = count / len(self.reports)
        usd, usd_at_most, billed_s = (
            None if one is None else one * share for one in (self.usd, self.usd_at_most, self.billed_s)
        )
        reports = list(islice(cycle(self.reports), count))
        return replace(self, reports=reports, usd=usd, usd_at_most=usd_at_most, billed_s=billed_s)


def preflight(plans: list[Plan], launcher: SageMakerLauncher, max_cost_usd: float | None) -> Checked:
    """Findings on standard error, so that standard output has a dry run's JSON alone."""
    from trainers.sagemaker.options import CHANNELS
    from trainers.sagemaker.preflight import examine as one_job
    from trainers.sagemaker.preflight import findings

    options = launcher.options
    given = {name: str(getattr(options, name)) for name in CHANNELS if getattr(options, name) is not None}
    # What is not in S3 yet can't be looked at there; its files are looked at here.
    pending = {"data", "code", "init", *(name for name in CHANNELS if not is_s3(given.get(name, "")))}
    local = [Path(path).expanduser() for path in given.values() if not is_s3(path)]
    if is_s3(plans[0].config.dataset):
        pending.discard("data")
    elif not given:
        local = _data_here(plans[0].config)
    reports: list[Report] = []
    for plan in plans:
        reports.append(
            one_job.examine(
                plan.request,
                plan.config,
                options,
                launcher.aws,
                num_jobs=len(plans),
                pending=pending,
                local=local if not reports else [],  # the data is the same for all jobs: looked at once
                counts=_counts(plan, options),
                former=reports[0] if reports else None,
                root=launcher.root,
            )
        )
    usd, billed_s = (
        _sum(one.usd for one in reports),
        _sum(None if one.estimate is None else one.estimate.total_s for one in reports),
    )
    names = [plan.config.run_name for plan in plans]
    jobs = [plan.name if None in names or len(set(names)) < len(names) else str(plan.config.run_name) for plan in plans]
    found = findings.merge({job: one.findings for job, one in zip(jobs, reports, strict=True)})
    if len(plans) > 1 and usd is not None and max_cost_usd is not None and usd > max_cost_usd:
        what = f"all {len(plans)} jobs are estimated at {money(usd)}, --max-cost is {money(max_cost_usd)}"
        found = findings.priced([*found, findings.finding("max-cost-tight", what)], {})
    print(findings.render(found), file=sys.stderr)
    return Checked(
        reports=reports,
        has_errors=findings.has_errors(found),
        usd=usd,
        usd_at_most=_sum(one.usd_at_most for one in reports),
        billed_s=billed_s,
    )


def consent(plans: list[Plan], seen: Checked, options: JobOptions, max_cost_usd: float | None) -> bool:
    """Ask once, with the price. Raises BadInput without a terminal to ask on."""

    count = plural(len(plans), "job")
    kinds = ", else ".join(options.instance_types)
    lines = [f"{count} on {options.instance_count} × {kinds}" + (", spot" if options.spot else "")]
    price, kept_usd = seen.reports[0].price, sum(one.kept_usd_at_most for one in seen.reports)
    prices = seen.reports[0].prices
    if len(prices) > 1:
        low, high = min(one.usd for one in prices.values()), max(one.usd for one in prices.values())
        each = ", ".join(f"{kind} {one}" for kind, one in prices.items())
        lines.append(f"price     {money(low)} to {money(high)} an hour: {each}")
    elif price is not None:
        lines.append(f"price     {price}")
    least = [min(one.usd_by_type.values(), default=one.usd or 0.0) for one in seen.reports]
    if seen.usd is not None and seen.usd_at_most is not None and seen.billed_s is not None:
        cost = money(seen.usd) if sum(least) == seen.usd else f"{money(sum(least))} to {money(seen.usd)}"
        lines.append(f"estimate  {duration(seen.billed_s)} billed, {cost} in all, {_how_far_off(seen)}")
    if kept_usd:
        lines.append(
            f"kept      up to {money(kept_usd)} more for machines that wait {options.keep_alive_min} min for work"
        )
    ceiling = "" if max_cost_usd is None else f", {money(max_cost_usd)} in all"
    limits_s = [plan.request["StoppingCondition"]["MaxRuntimeInSeconds"] for plan in plans]
    lines.append(f"limit     {duration(max(limits_s))} of training a job{ceiling}")
    if len(prices) == len(options.instance_types):
        usd_per_s = max(one.usd for one in prices.values()) * options.instance_count / 3600
        most_usd = sum(_longest_s(plan) for plan in plans) * usd_per_s + kept_usd
        lines.append(f"at most   {money(most_usd)} in all, should every job run until its limit stops it")
    if options.queue is not None:
        lines.append(f"queue     {options.queue}: each job waits there for its turn, which is not billed")
    print("\n".join(lines), file=sys.stderr)
    if not sys.stdin.isatty():
        raise BadInput("the price must be confirmed, and there is no terminal to ask on; give --yes to confirm it.")
    return input("Launch? [y/N] ").strip().lower() in ("y", "yes")


def _longest_s(plan: Plan) -> float:
    """The most seconds that a job can be billed: spot's attempts all end within its wait."""
    limits = plan.request["StoppingCondition"]
    return float(limits.get("MaxWaitTimeInSeconds") or limits["MaxRuntimeInSeconds"] + BILLED_BESIDE_S)


def _how_far_off(seen: Checked) -> str:
    """Up to what the estimate may go, and what it rests on."""
    num_jobs = min((one.estimate.num_jobs for one in seen.reports if one.estimate is not None), default=0)
    most = money(seen.usd_at_most or 0.0)
    if not num_jobs:
        return f"perhaps up to {most}: no finished job like it is known"
    return f"in nine of ten cases at most {most}, learnt from {plural(num_jobs, 'finished job')}"


def compared(config: Config, region: str, *, is_builtin: bool) -> str:
    """The run's estimated time and price on every machine that can take it, the cheapest first; nothing is asked."""
    from trainers.sagemaker.cost import estimate, instances, pricing
    from trainers.training import experiment

    num_train, num_validation = config.num_training_samples, 0
    if num_train is None:
        if is_s3(config.dataset):
            raise BadInput("--compare-instances: give --num-training-samples, --num-layers and --image-shape.")
        dataset, config = experiment.load_data(config)
        num_train, num_validation = len(dataset.splits["train"]), len(dataset.splits.get("validation", ()))
    rows, unpriced, impossible = [], [], Counter[str]()
    kinds = _types()
    for kind in kinds:
        if why := instances.cannot(kind, is_builtin=is_builtin):
            impossible[why] += 1
            continue
        try:
            price = pricing.price_per_hour(region, kind)
        except pricing.NoPrice:
            unpriced.append(kind)
            continue
        guess = estimate.estimate(
            config, kind, num_train=num_train, num_validation=num_validation, is_builtin=is_builtin
        )
        billed_s = guess.total_s
        rows.append((pricing.cost_usd(billed_s, 1, price.usd), kind, billed_s, price))
    lines = [f"{'machine':20} {'time':>10} {'price':>9}  an hour"]
    lines += [
        f"{kind:20} {duration(s):>10} {money(usd):>9}  {price}"
        for usd, kind, s, price in sorted(rows, key=lambda r: r[:2])
    ]
    lines.append(f"Estimates, within a factor of {estimate.SPREAD:g}, at prices of {pricing.TABLE_DATE}.")
    lines.append(f"No price is known of: {', '.join(unpriced) or 'none'}.")
    others = ", ".join(f"{count} ({why})" for why, count in impossible.most_common())
    lines.append(f"Of AWS's {len(kinds)} machines these cannot take the run: {others}.")
    return "\n".join(lines)


def _types() -> list[str]:
    """Every machine that boto3's API model names for training."""
    from botocore.session import get_session

    return list(get_session().get_service_model("sagemaker").shape_for("TrainingInstanceType").enum)


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum, None where one of the values is not known."""
    known = list(values)
    return None if None in known else float(sum(value for value in known if value is not None))


def _data_here(config: Config) -> list[Path]:
    """The data set's path on this machine; none for one that comes by its name."""
    from trainers.data import catalog

    name, path = catalog.split_spec(config.dataset)
    return [path] if path is not None and name is None else []


def _counts(plan: Plan, options: JobOptions) -> dict[str, int]:
    """Split -> number of pictures, where the data set is on this machine; the estimate of time and price needs it."""
    from trainers.training import experiment

    if plan.datasets:
        return {str(known["context"]): int(known["num_images"]) for known in plan.datasets}
    if options.train is not None or is_s3(plan.config.dataset):
        return {}
    dataset, _ = experiment.load_data(plan.config)
    return {name: len(split) for name, split in dataset.splits.items()}
