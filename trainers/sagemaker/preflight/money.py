"""The preflight's sums: disk, machines paid for and not used, time and money against their ceilings.

Enters: the request, what the data checks learnt, the estimate and the price. Leaves: findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracking.errors.words import money, plural
from trainers.config import Config
from trainers.config.checks import devices_of
from trainers.data.batches import share_of
from trainers.data.check.rules import Finding
from trainers.sagemaker.cost import estimate, instances
from trainers.sagemaker.options import JobOptions
from trainers.sagemaker.preflight.data.facts import Facts
from trainers.sagemaker.preflight.findings import finding

if TYPE_CHECKING:
    from trainers.sagemaker.preflight.report import Report

_FEW = 16  # of fewer pictures batch normalisation has poor statistics, and a GPU waits more than it computes
_SYSTEM_BYTES = 2e9  # what a machine's own disk holds besides: image layers, logs


def idle(kind: str, count: int, config: Config, report: Report) -> list[Finding]:
    """What our own trainer, which takes ``--devices`` of each machine, leaves unused, and what that costs."""
    machine, used, batch = instances.find(kind), estimate.used_gpus(config, kind), config.mini_batch_size
    findings = []
    if count > 1 and batch < _FEW * count * used:
        what = f"each of the {count} x {kind} takes {batch / count:.3g} of the {batch} pictures of a batch"
        findings.append(finding("machines-idle", what))
    if machine is not None and used < machine.num_gpus:
        share = (machine.num_gpus - used) / machine.num_gpus
        findings.append(
            finding(
                "gpus-idle",
                f"{kind} has {machine.num_gpus} GPUs, our trainer uses {used}{_wasted(report, share)}",
                fix=f"Give --devices gpu, with a --mini-batch-size of at least {_FEW} for each, or take"
                f" {instances.with_one_gpu(kind) or 'a machine such as ml.g5.xlarge'}, with one.",
            )
        )
    named = devices_of(config.devices or "") or ("", ())
    if machine is not None and max(named[1], default=0) >= machine.num_gpus and named[0] == "gpu":
        findings.append(finding("gpus-missing", f"--devices {config.devices}: {kind} has {machine.num_gpus}, from 0"))
    if min(len(share_of(batch, which, count)) for which in range(count)) < used:
        what = f"--mini-batch-size {batch} leaves some of the {used} GPUs of {count} x {kind} without a picture"
        findings.append(finding("batch-below-gpus", what))
    return findings


def _wasted(report: Report, share: float) -> str:
    """`` ($12.30 of the estimate)``; an hour's share where there is no estimate."""
    if report.price is None:
        return ""
    if report.usd is not None:
        return f" ({money(report.usd * share)} of the estimated {money(report.usd)} are for nothing)"
    hourly = report.price.usd * report.num_instances
    return f" ({money(hourly * share)} of {money(hourly)} an hour are for nothing)"


def disk(
    request: Mapping[str, Any], config: Config, facts: Mapping[str, Facts], kind: str, is_listed: bool
) -> list[Finding]:
    """Data, checkpoints and archive against the volume, or the machine's own disk."""
    machine = instances.find(kind)
    volume_gb = request.get("ResourceConfig", {}).get("VolumeSizeInGB")
    own_gb = machine.disk_gb if machine is not None else None
    room_gb = own_gb if own_gb is not None else volume_gb
    if room_gb is None:
        return []
    num_bytes = sum(f.num_bytes for f in facts.values())
    needed = estimate.disk_bytes(config, num_bytes, is_listed=is_listed) + _SYSTEM_BYTES
    room = room_gb * 1e9
    where = f"{kind}'s own disk" if own_gb is not None else "VolumeSizeInGB"
    what = f"{needed / 1e9:.1f} GB are needed ({num_bytes / 1e9:.1f} GB of data), {where} has {room_gb}"
    fix = "Take a machine with a larger disk." if own_gb is not None else f"Give --volume-gb {int(needed / 0.8e9) + 1}."
    if needed > room:
        return [finding("disk", what, fix=fix)]
    return [finding("disk-tight", what, fix=fix)] if needed > 0.8 * room else []


def budget(request: Mapping[str, Any], options: JobOptions, report: Report) -> list[Finding]:
    """Time and money against their ceilings; a rough estimate is an error only when it is far beyond."""
    guess = report.estimate
    if guess is None:
        return []
    findings = []
    limit_s = request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds")
    usd = report.usd
    said = f"about {_time(guess.total_s)} billed"
    if usd is not None and report.price is not None:
        said += f", {money(usd)} ({money(usd / guess.spread)} to {money(usd * guess.spread)}) at {report.price}"
        said += f" x {report.num_instances}" if report.num_instances > 1 else ""
    for number, (kind, cost) in enumerate(report.usd_by_type.items()):
        said += f"{', ' if number else ': '}{money(cost)} on {kind}"
    rest = f"download {_time(guess.download_s)}, start {_time(guess.start_s)}, training {_time(guess.training_s)}"
    note = f"; {report.price.note}" if report.price is not None and report.price.note else ""
    kept = ""
    if report.kept_s and report.price is not None:
        kept = f"; the machine kept for {_time(report.kept_s)} costs up to {money(report.kept_usd_at_most)} more"
    basis = f"learnt from {plural(guess.num_jobs, 'finished job')}" if guess.num_jobs else "no finished job like it"
    findings.append(finding("estimate", f"{said}: {rest}, upload {_time(guess.upload_s)}; {basis}{kept}{note}"))
    if options.max_cost_usd is not None and usd is not None and usd > options.max_cost_usd:
        far = usd / guess.spread > options.max_cost_usd
        what = f"the job is estimated at {money(usd)}, --max-cost is {money(options.max_cost_usd)}"
        findings.append(finding("max-cost" if far else "max-cost-tight", what))
    elif limit_s is not None and guess.training_s > limit_s:
        far = guess.training_s / guess.spread > limit_s
        what = f"training is estimated at {_time(guess.training_s)}, MaxRuntimeInSeconds is {_time(limit_s)}"
        findings.append(finding("max-runtime" if far else "max-runtime-tight", what))
    return findings


def _time(seconds: float) -> str:
    """``45 s``, ``14 min``, ``3.2 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
