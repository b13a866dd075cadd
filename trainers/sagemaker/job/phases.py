"""What DescribeTrainingJob's answer says about time and end: phases, seconds in each, billed so far, how it ended.

Pure: an answer goes in (times as datetimes or seconds since 1970), numbers and words come out. Statuses that AWS adds
one day count as being under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracking.errors.redaction import hidden
from trainers.launch.job import State

ENDED = ("Completed", "Failed", "Stopped")
# What each of AWS's secondary statuses is called here; those that are missing keep their own name.
_PHASE = {
    "Queued": "queued",  # in a queue of AWS Batch
    "Pending": "starting",
    "Starting": "starting",
    "LaunchingMLInstances": "starting",
    "PreparingTrainingStack": "starting",
    "Restarting": "starting",
    "Downloading": "downloading",
    "DownloadingTrainingImage": "training",  # an older spelling of what now happens under Training
    "Training": "training",
    "Uploading": "uploading",
    "Interrupted": "interrupted",
    "Stopping": "stopping",
}
MEASURED = ("starting", "downloading", "training", "uploading", "interrupted", "stopping")


@dataclass(frozen=True)
class Phase:
    """One stretch of a job's life; ``end_s`` is None while it lasts. Times are seconds since 1970."""

    name: str
    start_s: float
    end_s: float | None
    message: str

    def seconds(self, now_s: float) -> float:
        """How long it lasted, or has lasted so far."""
        return max(0.0, (now_s if self.end_s is None else self.end_s) - self.start_s)


@dataclass(frozen=True, kw_only=True)
class End:
    """How a job ended: our state, the status its run gets, and AWS's own words."""

    state: State
    status: str
    secondary: str
    reason: str
    end_s: float


def seconds(moment: Any) -> float:
    """A time of AWS's answer as seconds since 1970."""
    return float(moment.timestamp()) if hasattr(moment, "timestamp") else float(moment)


def phases(description: Mapping[str, Any]) -> list[Phase]:
    """The job's transitions in order, the one kind of end that lasts no time left out."""
    found = []
    for transition in description.get("SecondaryStatusTransitions", []):
        status = transition["Status"]
        if status in ("Completed", "Failed", "Stopped", "MaxRuntimeExceeded", "MaxWaitTimeExceeded"):
            continue
        end = transition.get("EndTime")
        found.append(
            Phase(
                _PHASE.get(status, status.lower()),
                seconds(transition["StartTime"]),
                None if end is None else seconds(end),
                str(transition.get("StatusMessage", "")),
            )
        )
    # AWS leaves the last one open for a moment after the next has begun.
    for index, phase in enumerate(found[:-1]):
        if phase.end_s is None:
            found[index] = Phase(phase.name, phase.start_s, found[index + 1].start_s, phase.message)
    return found


def attempts(description: Mapping[str, Any]) -> int:
    """How often training began: once more after each interruption that came after it had begun."""
    names = [phase.name for phase in phases(description)]
    return sum(name == "training" and before != "training" for before, name in zip(["", *names], names, strict=False))


def times(description: Mapping[str, Any], now_s: float) -> dict[str, float]:
    """Seconds in each phase that the job has been in, as metrics: ``starting_s`` and so on."""
    ended = description.get("TrainingEndTime")
    until = now_s if ended is None else seconds(ended)
    out: dict[str, float] = {}
    for phase in phases(description):
        if phase.name in MEASURED:
            out[f"{phase.name}_s"] = out.get(f"{phase.name}_s", 0.0) + phase.seconds(until)
    return out


def billed_s(description: Mapping[str, Any], now_s: float) -> float:
    """Seconds that are billed, AWS's own count once it is there; until then from the first ``Downloading`` on.

    A spot job's waiting for its next machine is left out; its discount is not known before the end.
    """
    if description.get("BillableTimeInSeconds") is not None:
        return float(description["BillableTimeInSeconds"])
    return sum(
        seconds
        for name, seconds in times(description, now_s).items()
        if name in ("downloading_s", "training_s", "uploading_s", "stopping_s")
    )


def state(description: Mapping[str, Any]) -> State:
    """The job's state in our words."""
    status, secondary = description["TrainingJobStatus"], description.get("SecondaryStatus", "")
    if status in ENDED or status in ("Deleting",):
        found = end(description)
        return "killed" if found is None else found.state
    return "waiting" if _PHASE.get(secondary) in ("queued", "starting", "interrupted") else "running"


def end(description: Mapping[str, Any]) -> End | None:
    """How the job ended, None while it goes on."""
    status, secondary = description["TrainingJobStatus"], description.get("SecondaryStatus", "")
    if status not in ENDED:
        return None
    moment = description.get("TrainingEndTime") or description.get("LastModifiedTime") or description["CreationTime"]
    end_s = seconds(moment)
    if status == "Completed":
        return End(state="finished", status="FINISHED", secondary=secondary, reason="", end_s=end_s)
    if status == "Failed":
        return End(
            state="failed",
            status="FAILED",
            secondary=secondary,
            reason=hidden(str(description.get("FailureReason") or "AWS gave no reason")),
            end_s=end_s,
        )
    limits = description.get("StoppingCondition", {})
    reason = {
        "MaxRuntimeExceeded": f"stopped at its time limit of {limits.get('MaxRuntimeInSeconds', '?')} s",
        "MaxWaitTimeExceeded": f"stopped after waiting {limits.get('MaxWaitTimeInSeconds', '?')} s for spot capacity",
    }.get(secondary, "stopped on request")
    return End(state="killed", status="KILLED", secondary=secondary, reason=reason, end_s=end_s)


def instances(description: Mapping[str, Any]) -> tuple[str, int]:
    """The machine the job got and how many of them."""
    resources = description.get("ResourceConfig", {})
    groups = resources.get("InstanceGroups") or []
    kind = resources.get("SelectedInstanceType") or resources.get("InstanceType") or ""
    count = resources.get("SelectedInstanceCount") or resources.get("InstanceCount")
    if groups and not count:
        kinds = dict.fromkeys(str(group.get("InstanceType", "")) for group in groups)
        kind, count = "+".join(kinds), sum(int(group.get("InstanceCount", 1)) for group in groups)
    return str(kind), int(count or 1)
