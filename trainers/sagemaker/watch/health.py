"""A job's health while it runs: the load of its machines, as CloudWatch has it every minute, and what the rules say.

The load goes into the run's journal under MLflow's own names, in 0..100 %: CloudWatch adds up processors and GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from tracking import names
from tracking.journal import Journal
from tracking.journal.system import PREFIX
from trainers.launch.watching import notify, rules
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.cost import instances
from trainers.sagemaker.errors import AwsError, NotAllowed
from trainers.sagemaker.job import ledger, phases
from trainers.sagemaker.watch.events import EventLog
from trainers.sagemaker.watch.outcome import Listener

NAMESPACE = "/aws/sagemaker/TrainingJobs"
_MINUTE_S = 60.0
_PAUSE_S = 20.0  # between two questions while a minute is late
_LATE_S = 300.0  # how much later than others a minute's value may come
_NAMES = {
    "CPUUtilization": "cpu_utilization_percentage",
    "MemoryUtilization": "system_memory_usage_percentage",
    "DiskUtilization": "disk_usage_percentage",
    "GPUUtilization": "gpu_{}utilization_percentage",
    "GPUMemoryUtilization": "gpu_{}memory_usage_percentage",
}


class Health:
    """One job's; ``state`` says how far the load was read and what was found, and grows in place."""

    def __init__(self, aws: Aws, entry: ledger.Entry, state: dict[str, Any], *, journal: Journal, listener: Listener):
        self._aws, self._entry, self._state, self._journal, self._listener = aws, entry, state, journal, listener
        self.signals = rules.Signals()
        state.setdefault("findings", {})

    def measure(self, description: Mapping[str, Any], taker: EventLog) -> None:
        """Write the load since the last look to the journal. Raises NotAllowed where credentials have expired."""
        begun, now = description.get("TrainingStartTime"), self._aws.clock.now()
        until_s, asked_s = self._state.get("load_until_s", 0.0), self._state.get("load_asked_s", 0.0)
        is_early = now < max(until_s + 2 * _MINUTE_S, asked_s + _PAUSE_S)
        if begun is None or self._state.get("no_load") or is_early:
            return
        self._state["load_asked_s"] = now
        try:
            minutes = self._ask(description, max(until_s - _LATE_S, phases.seconds(begun) - _MINUTE_S), now)
        except NotAllowed as error:
            if error.has_expired:
                raise
            self._state["no_load"] = True
            self._listener.say(self._entry, f"The machine's load cannot be read, so no rule looks at it: {error}")
            return
        except AwsError:
            return  # asked again soon; the job's state and log are what counts
        known = self._state.setdefault("load_known", {})
        for at_s, values in sorted(minutes.items()):
            new = {name: value for name, value in values.items() if at_s > known.get(name, 0.0)}
            known |= dict.fromkeys(new, at_s)
            new = {name: value for name, value in new.items() if name not in self._state.get("own_load", ())}
            step = 1 + int((at_s - phases.seconds(begun)) // _MINUTE_S)
            taker.metrics(new, step=step, time_ms=int(at_s * 1000))
            self._state["load_until_s"] = max(until_s, at_s)

    def _ask(self, description: Mapping[str, Any], start_s: float, end_s: float) -> dict[float, dict[str, float]]:
        """Minute → name → value; the mean of several machines. A minute that is not over is left out."""
        kind, count = phases.instances(description)
        parts = dict(_parts(kind))
        queries = [
            {
                "Id": f"m{number}_{metric.lower()}",
                "MetricStat": {
                    "Metric": {
                        "Namespace": NAMESPACE,
                        "MetricName": metric,
                        "Dimensions": [{"Name": "Host", "Value": f"{self._entry.training_job}/algo-{number}"}],
                    },
                    "Period": int(_MINUTE_S),
                    "Stat": "Average",
                },
            }
            for number in range(1, min(count, 500 // len(parts)) + 1)
            for metric in parts
        ]
        found: dict[float, dict[str, list[float]]] = {}
        pages = self._aws.pages(
            "cloudwatch",
            "GetMetricData",
            patience_s=0.0,
            MetricDataQueries=queries,
            StartTime=datetime.fromtimestamp(start_s, timezone.utc),
            EndTime=datetime.fromtimestamp(end_s, timezone.utc),
            ScanBy="TimestampAscending",
        )
        by_id = {metric.lower(): part for metric, part in parts.items()}
        for page in pages:
            for result in page.get("MetricDataResults", []):
                name, share = by_id[result["Id"].partition("_")[2]]
                for moment, value in zip(result["Timestamps"], result["Values"], strict=True):
                    if (at_s := phases.seconds(moment)) + _MINUTE_S <= end_s:
                        found.setdefault(at_s, {}).setdefault(PREFIX + name, []).append(value / share)
        mean = {at_s: {name: sum(v) / len(v) for name, v in values.items()} for at_s, values in found.items()}
        return {at_s: {name: round(min(100.0, v), 1) for name, v in values.items()} for at_s, values in mean.items()}

    def judge(self, since_s: float, usd_per_hour: float | None) -> str:
        """Say what the rules newly find of a job whose machine trains since ``since_s``; why it is to stop, or ""."""
        now, found = self._aws.clock.now(), self._state["findings"]
        self.signals.since_s = since_s
        self.signals.follow(self._entry.directory)
        why = ""
        for finding in rules.judge(self.signals, now):
            if finding.rule in found:
                continue
            text = found[finding.rule] = finding.text(usd_per_hour)
            self._journal.tags({names.FINDINGS: "\n".join(found.values())}, time_ms=int(now * 1000))
            self._listener.say(self._entry, text)
            notify.tell(f"{self._entry.run_name or self._entry.name}: {finding.rule}", text, "warning")
            if finding.rule in self._entry.stop_on:
                why = why or f"stopped by --stop-on {finding.rule}: {finding.what}."
                self._listener.say(self._entry, why)
        return why


def _parts(instance_type: str) -> Iterator[tuple[str, tuple[str, int]]]:
    """What can be asked of a machine: AWS's metric → our name, and how many processors or GPUs share its 100 %."""
    known = instances.find(instance_type)
    gpus = 1 if known is None else known.num_gpus
    for metric, name in _NAMES.items():
        if metric in ("MemoryUtilization", "DiskUtilization"):
            yield metric, (name, 1)
        elif known is not None:
            share = known.num_cpus if metric == "CPUUtilization" else gpus
            yield metric, (name.format("0_" if gpus == 1 else ""), share)
