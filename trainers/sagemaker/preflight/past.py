"""What finished jobs of the same kind were billed, for the estimate of the next one: from the journals here, else AWS.

Enters: the journals' folder, the client of AWS, a request. Leaves: bills beside what was expected of each job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tracking import names
from tracking.errors import TrackingError
from tracking.journal.events import read
from trainers.config import Config
from trainers.errors import TrainerError
from trainers.sagemaker.aws import images
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.cost import instances
from trainers.sagemaker.cost.estimate import Bill, Estimate
from trainers.sagemaker.job import ledger, phases
from trainers.sagemaker.job.request import CODE_CHANNEL, INIT_CHANNEL, types_of
from trainers.sagemaker.preflight.data.facts import channels

_ENOUGH, _MOST = 3, 12  # finished jobs that suffice, and how many are looked at
_PATIENCE_S = 5.0
# What decides how long a picture takes, with the built-in's defaults.
_DEFAULTS = {"num_layers": "152", "image_shape": "3,224,224", "precision_dtype": "float32"}
_DEFAULTS |= {"network": "", "devices": ""}
_OF_EPOCHS = (names.TRAIN_ACCURACY, names.VALIDATION_ACCURACY)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A job that went to its end, with the seconds it would have been billed on demand."""

    request: Mapping[str, Any]
    instance_type: str
    epochs: int
    run_s: float
    billed_s: float


class Past:
    """The finished jobs that can be learnt from; looked up once for all jobs of a study."""

    def __init__(self, root: Path | None, aws: Aws) -> None:
        self._root, self._aws = root, aws
        self._found: dict[tuple[str, ...], list[Finished]] = {}

    def look(self, request: Mapping[str, Any]) -> None:
        """Read and ask what ``bills`` of the request will need; it may take seconds."""
        self._like(request)

    def bills(
        self, request: Mapping[str, Any], config: Config, kind: str, num_train: int, expect: Callable[..., Estimate]
    ) -> list[Bill]:
        """The bills of jobs of the same algorithm, depth, picture size, precision and family of machines.

        ``expect(config, kind, count, num_train)`` estimates a job as if none had been seen.
        """
        found = []
        for job in self._like(request):
            pictures = (
                num_train if _data(job.request) == _data(request) else _number(job.request, "num_training_samples")
            )
            if instances.family(job.instance_type) != instances.family(kind) or not pictures:
                continue
            theirs = Config(
                num_layers=config.num_layers,
                image_shape=config.image_shape,
                precision_dtype=config.precision_dtype,
                devices=config.devices,
                epochs=job.epochs,
                mini_batch_size=_number(job.request, "mini_batch_size") or config.mini_batch_size,
            )
            count = int(job.request.get("ResourceConfig", {}).get("InstanceCount", 1))
            guess = expect(theirs, job.instance_type, count, pictures)
            found.append(Bill(guess=guess, run_s=job.run_s, billed_s=job.billed_s))
        return found

    def _like(self, request: Mapping[str, Any]) -> list[Finished]:
        key = _likeness(request)
        if key not in self._found:
            ours = [entry for entry in self._entries if entry.ended == "finished" and _likeness(entry.request) == key]
            found = [job for entry in ours[:_MOST] for job in _from_journal(entry)]
            if len(found) < _ENOUGH:
                found += [job for job in self._account if _likeness(job.request) == key]
            self._found[key] = found
        return self._found[key]

    @cached_property
    def _entries(self) -> list[ledger.Entry]:
        """The jobs launched from here, the newest first."""
        return [] if self._root is None else list(ledger.entries(self._root, lambda text: None))[::-1]

    @cached_property
    def _account(self) -> list[Finished]:
        """The account's newest finished jobs that were not launched from here; none where AWS may not be asked."""
        known, found = {entry.name for entry in self._entries}, list[Finished]()
        newest = {"StatusEquals": "Completed", "SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 50}
        try:
            page = self._aws.call("sagemaker", "ListTrainingJobs", patience_s=_PATIENCE_S, **newest)
            others = [job["TrainingJobName"] for job in page.get("TrainingJobSummaries", [])]
            for name in [name for name in others if name not in known][:_MOST]:
                asked = {"patience_s": _PATIENCE_S, "TrainingJobName": name}
                found += _from_answer(self._aws.call("sagemaker", "DescribeTrainingJob", **asked))
        except TrainerError:
            pass  # the estimate rests on less, and says so
        return found


def _number(request: Mapping[str, Any], key: str) -> int:
    """A whole number among the hyperparameters; 0 where there is none."""
    text = str(request.get("HyperParameters", {}).get(key, ""))
    return int(text) if text.isdecimal() else 0


def _likeness(request: Mapping[str, Any]) -> tuple[str, ...]:
    """The algorithm, and what beside the machine decides how long a picture takes."""
    hyper = request.get("HyperParameters", {})
    image = images.registry(request.get("AlgorithmSpecification", {}).get("TrainingImage", ""))
    return ("" if image is None else image.repository, *(str(hyper.get(key, _DEFAULTS[key])) for key in _DEFAULTS))


def _data(request: Mapping[str, Any]) -> list[str]:
    return [channel.uri for channel in channels(request) if channel.name not in (CODE_CHANNEL, INIT_CHANNEL)]


def _from_journal(entry: ledger.Entry) -> Iterator[Finished]:
    """The job as its journal says, where it says enough."""
    values: dict[str, float] = {}
    kind, epochs = next(iter(types_of(entry.request)), ""), 0
    try:
        for event, _ in read(entry.directory):
            if event["event"] == "metric":
                values |= event["values"]
                epochs = max(epochs, event["step"]) if any(name in event["values"] for name in _OF_EPOCHS) else epochs
            elif event["event"] == "tag":
                kind = str(event["values"].get(names.INSTANCE_TYPE) or kind)
    except (TrackingError, OSError):
        return  # the other jobs say enough
    billed_s = values.get(names.BILLABLE_TIME_S, 0.0) / max(0.01, 1 - values.get(names.SPOT_SAVING, 0.0))
    run_s = values.get("training_s", 0.0)
    if epochs and 0 < run_s < billed_s and "interrupted_s" not in values:
        yield Finished(request=entry.request, instance_type=kind, epochs=epochs, run_s=run_s, billed_s=billed_s)


def _from_answer(answer: Mapping[str, Any]) -> Iterator[Finished]:
    """The job as AWS describes it; one that may have stopped early does not say after how many epochs."""
    hyper = answer.get("HyperParameters", {})
    epochs, may_stop = str(hyper.get("epochs", "30")), str(hyper.get("early_stopping", "")).lower() == "true"
    times = phases.times(answer, phases.seconds(answer.get("TrainingEndTime", 0)))
    run_s, billed_s = times.get("training_s", 0.0), float(answer.get("TrainingTimeInSeconds", 0))
    if epochs.isdecimal() and int(epochs) and not may_stop and 0 < run_s < billed_s and "interrupted_s" not in times:
        kind = phases.instances(answer)[0]
        yield Finished(request=answer, instance_type=kind, epochs=int(epochs), run_s=run_s, billed_s=billed_s)
