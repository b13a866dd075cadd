"""The preflight: everything that would make a job fail or cost too much, found in seconds, before a machine is rented.

Enters: a request, its config and options, the client of AWS. Leaves: findings with stable codes, worst first, each with
the moment it would strike and the money gone by then. It reads and never changes anything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainers.config import Config
from trainers.data.check.rules import Finding
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.objects import Objects
from trainers.sagemaker.cost import estimate, pricing
from trainers.sagemaker.job import queue as queues
from trainers.sagemaker.job.request import types_of
from trainers.sagemaker.options import JobOptions
from trainers.sagemaker.preflight import account as preflight_account
from trainers.sagemaker.preflight import money
from trainers.sagemaker.preflight import request as preflight_request
from trainers.sagemaker.preflight.data import channels as preflight_data
from trainers.sagemaker.preflight.data import local as preflight_local
from trainers.sagemaker.preflight.data.facts import Facts, channels
from trainers.sagemaker.preflight.findings import finding, priced
from trainers.sagemaker.preflight.past import Past
from trainers.sagemaker.preflight.report import Report

_COUNTED = ("train", "validation")


def run(
    request: Mapping[str, Any],
    config: Config,
    options: JobOptions,
    aws: Aws,
    *,
    num_jobs: int = 1,
    pending: Collection[str] = (),
    local: Sequence[Path] = (),
    counts: Mapping[str, int] | None = None,
) -> list[Finding]:
    """Every finding, worst first. See ``examine`` for the other arguments."""
    given: dict[str, Any] = {"num_jobs": num_jobs, "pending": pending, "local": local, "counts": counts}
    return examine(request, config, options, aws, **given).findings


def examine(
    request: Mapping[str, Any],
    config: Config,
    options: JobOptions,
    aws: Aws,
    *,
    num_jobs: int = 1,
    pending: Collection[str] = (),
    local: Sequence[Path] = (),
    counts: Mapping[str, int] | None = None,
    former: Report | None = None,
    root: Path | None = None,
) -> Report:
    """The findings together with what they rest on.

    ``num_jobs``: how many such jobs a study will want at once. ``pending``: channels that are not uploaded yet, and
    ``local``: the paths of this machine they come from, which are checked in their stead. ``counts``: split → number
    of pictures, where the caller knows (for the estimate). ``former``: the report of another job of the same study;
    account and price are not asked about again, and what was read of S3 is not read again. ``root``: the journals'
    folder, whose finished jobs the estimate learns from.
    """
    region = options.region if options.region is not None else aws.region
    is_builtin = preflight_request.is_builtin(request)
    objects = former.objects if former is not None and former.objects is not None else Objects(aws)
    fallback = options.instance_types[1:] if options.spot else ()
    kinds = tuple(dict.fromkeys([*types_of(request), *fallback]))
    count = int(request.get("ResourceConfig", {}).get("InstanceCount", 1))
    findings = preflight_request.check(request, config, region=region, is_builtin=is_builtin, fallback=fallback)
    past = former.past if former is not None and former.past is not None else Past(root, aws)
    with ThreadPoolExecutor(max_workers=4) as pool:
        looked = pool.submit(past.look, request)
        data = pool.submit(preflight_data.check, request, config, objects, is_builtin=is_builtin, pending=pending)
        if former is None:
            asked: dict[str, Any] = {"region": region, "is_builtin": is_builtin, "num_jobs": num_jobs}
            asked |= {"fallback": fallback, "queue": queues.asked(options)}
            account = pool.submit(preflight_account.check, request, aws, objects, **asked)
            asked_price = pool.submit(_prices, region, kinds, aws)
        sizes: dict[str, int] = dict(former.local_sizes) if former is not None else {}
        if local:
            named = preflight_local.named(local, options)
            local_findings, sizes = preflight_local.check(named, config, is_builtin=is_builtin)
            findings += local_findings
        data_findings, facts = data.result()
        if former is None:
            prices, price_findings = asked_price.result()
            of_account = [*account.result(), *price_findings]
        else:
            prices, of_account = dict(former.prices), former.account
        findings += [*of_account, *data_findings]
    if any(finding.code == "credentials" for finding in findings):
        findings = [f for f in findings if f.severity != "unchecked"]  # all for the same reason
    most = {name: f.num_images + f.error for name, f in facts.items() if f.num_images is not None}
    findings += preflight_data.below_batch(config, {**sizes, **(counts or {}), **most}, is_builtin=is_builtin)
    findings = [_informed(finding, facts.get("train", Facts())) for finding in findings]
    is_listed = _is_listed(request, is_builtin)
    looked.result()
    guesses = _estimates(request, config, kinds, past, facts, is_listed, is_builtin, counts or {})
    for kind in kinds:
        findings += money.disk(request, config, facts, kind, is_listed)
    report = Report(
        findings=[],
        facts=facts,
        prices=prices,
        estimates=guesses,
        instance_types=kinds,
        num_instances=count,
        num_reads=objects.num_reads,
        num_lists=objects.num_lists,
        num_bytes_read=objects.num_bytes_read,
        kept_s=int(request.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds", 0)),
        objects=objects,
        account=of_account,
        local_sizes=sizes,
        past=past,
    )
    if not is_builtin:
        findings += [one for kind in kinds for one in money.idle(kind, count, config, report)]
    findings += money.budget(request, options, report)
    guess, price = report.estimate, report.price
    spent = (
        {}
        if guess is None or price is None
        else {moment: pricing.cost_usd(billed_s, count, price.usd) for moment, billed_s in guess.billed_by().items()}
    )
    return replace(report, findings=priced(findings, spent))


def _informed(finding: Finding, train: Facts) -> Finding:
    """What the data say of a number that is missing, as the way to correct it."""
    if finding.code == "num-training-samples-missing" and train.num_images is not None:
        about = "" if not train.error else " (about; count them)"
        return replace(finding, fix=f"Give --num-training-samples {train.num_images}{about}.")
    if finding.code == "num-classes-missing" and train.labels:
        highest = max(train.labels)
        seen = "the labels" if train.all_labels else "the labels looked at"
        return replace(finding, fix=f"Give --num-classes {highest + 1}: {seen} go up to {highest}.")
    return finding


def _prices(region: str, kinds: Sequence[str], aws: Aws) -> tuple[dict[str, pricing.Price], list[Finding]]:
    prices: dict[str, pricing.Price] = {}
    findings = []
    for kind in kinds:
        try:
            prices[kind] = pricing.price_per_hour(region, kind, aws)
        except pricing.NoPrice as error:
            findings.append(finding("price-unknown", str(error)))
    return prices, findings


def _estimates(
    request: Mapping[str, Any],
    config: Config,
    kinds: Sequence[str],
    past: Past,
    facts: Mapping[str, Facts],
    is_listed: bool,
    is_builtin: bool,
    counts: Mapping[str, int],
) -> dict[str, estimate.Estimate]:
    """The job's time on each machine; empty unless the data, the caller or the settings say how many pictures."""
    known = {name: counts.get(name, facts[name].num_images if name in facts else None) for name in _COUNTED}
    num_train = known["train"] if known["train"] is not None else config.num_training_samples
    if not num_train:
        return {}
    validation = (known["validation"] if known["validation"] is not None else num_train // 10) / num_train
    num_bytes = sum(f.num_bytes for f in facts.values()) / num_train

    def expect(config: Config, kind: str, count: int, pictures: int) -> estimate.Estimate:
        return estimate.estimate(
            config,
            kind,
            num_instances=count,
            num_train=pictures,
            num_validation=round(validation * pictures),
            num_bytes=round(num_bytes * pictures),
            is_listed=is_listed,
            is_builtin=is_builtin,
        )

    count = int(request.get("ResourceConfig", {}).get("InstanceCount", 1))
    return {
        kind: estimate.learnt(
            expect(config, kind, count, num_train), past.bills(request, config, kind, num_train, expect)
        )
        for kind in kinds
    }


def _is_listed(request: Mapping[str, Any], is_builtin: bool) -> bool:
    """Whether the built-in will first pack pictures into records, beside the pictures."""
    return is_builtin and any(channel.name in preflight_data.LISTS for channel in channels(request))
