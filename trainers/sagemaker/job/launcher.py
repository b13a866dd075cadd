"""From a config to a training job: data and code to S3, the request, the run's journal, CreateTrainingJob exactly once.

A job is recorded (``ledger``) before it is sent (``submit``), so a launcher may die at any moment and another one
continues.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracking import names
from tracking.errors import JournalError
from tracking.journal import Journal
from tracking.journal.origin import origin
from trainers.config import Config
from trainers.errors import TrainerError
from trainers.launch.job import State, wait_for_end
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.upload import Uploads
from trainers.sagemaker.cost import pricing
from trainers.sagemaker.job import channels as first_weights
from trainers.sagemaker.job import ledger, phases, queue, request
from trainers.sagemaker.job.channels import channels_of
from trainers.sagemaker.job.submit import stop
from trainers.sagemaker.options import JobOptions

if TYPE_CHECKING:
    from tracking.store import Store

_SPLITTING = ("split_seed", "validation_fraction", "test_fraction", "group", "fold")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A job as it would be launched. ``request`` is what CreateTrainingJob gets, but for the tag ``journal_id``.

    ``datasets`` are the values of ``Journal.dataset`` for each split that could be read here.
    """

    config: Config
    options: JobOptions
    kind: str
    request: Mapping[str, Any]
    price: pricing.Price | None
    prices: Mapping[str, pricing.Price] = field(default_factory=dict)
    datasets: tuple[Mapping[str, Any], ...] = ()

    @property
    def fallback(self) -> tuple[str, ...]:
        """Machines that are taken next where there is no capacity and AWS does not see to that itself."""
        return () if "InstancePreferences" in self.request["ResourceConfig"] else self.options.instance_types[1:]

    @property
    def name(self) -> str:
        """The training job's name."""
        return str(self.request["TrainingJobName"])


class SageMakerLauncher:
    """Runs configs as training jobs; ``kind`` is ``sagemaker`` (our image) or ``sagemaker-builtin``."""

    def __init__(
        self,
        options: JobOptions,
        kind: str,
        root: Path,
        *,
        experiment: str,
        aws: Aws | None = None,
        tags: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        max_cost_usd: float | None = None,
        on_news: Callable[[str], None] = lambda text: None,
    ) -> None:
        """``root`` is the journals' folder; ``tags`` go to every run; ``environment`` to our own container.

        ``max_cost_usd`` holds for all jobs of this launcher together (default: the options').
        """
        usd = options.max_cost_usd if max_cost_usd is None else max_cost_usd
        self._budget = None if usd is None else {"id": uuid.uuid4().hex, "usd": usd}
        self.aws = Aws(region=options.region, profile=options.profile) if aws is None else aws
        self.options, self.kind, self.root, self.experiment = options, kind, root, experiment
        self.tags, self.environment, self.on_news = dict(tags or {}), dict(environment or {}), on_news
        self._number = 0
        self._prices: dict[str, pricing.Price | None] = {}

    def plan(self, config: Config, *, dry: bool = False, awaited: bool = False) -> Plan:
        """Make everything ready; with ``dry`` nothing is sent, not even data. Raises BadInput, AwsError.

        ``awaited``: the run to start from is yet to be trained.
        """
        uploads = Uploads(self.aws, str(self.options.output), dry=dry, say=self.on_news)
        config = replace(config, experiment=config.experiment or self.experiment)
        config, channels, datasets = channels_of(config, self.options, self.kind, uploads)
        if self.kind == ledger.OWN:
            channels += first_weights.init_channels(config, uploads, self._store(), awaited=awaited)
        prices = self._known_prices()
        is_priced = len(prices) == len(self.options.instance_types)
        price = pricing.dearest(list(prices.values())) if is_priced else None
        name = request.job_name(config, self.aws.clock.now(), self._number)
        self._number += 1
        made = request.build(
            config,
            self.options,
            channels,
            job_name=name,
            code_uri=uploads.code() if self.kind == ledger.OWN else None,
            environment=self.environment or None,
            price=price,
        )
        return Plan(
            config=config,
            options=self.options,
            kind=self.kind,
            request=made,
            price=price,
            prices=prices,
            datasets=datasets,
        )

    def record(self, plan: Plan) -> tuple[ledger.Entry, Journal]:
        """Record the job before it is sent: its journal, open, and its line in the ledger.

        A launch that is repeated continues with the job that was recorded before and not sent, or whose sending had no
        answer: there are never two.
        """
        left = self._left(plan)
        if left is not None:
            return left
        now_ms = int(self.aws.clock.now() * 1000)
        config = plan.config
        run_name = config.run_name or plan.name
        assert config.experiment is not None
        journal = Journal.create(
            self.root,
            experiment=config.experiment,
            run_name=run_name,
            start_time_ms=now_ms,
            parent=config.tags.get(names.STUDY_PARENT),
            tags=origin("JOB"),
        )
        resources = plan.request["ResourceConfig"]
        journal.params(_params(plan), time_ms=now_ms)
        for dataset in plan.datasets:
            journal.dataset(**dataset, time_ms=now_ms)
            journal.tags({f"{dataset['context']}_dataset_digest": dataset["digest"]}, time_ms=now_ms)
        journal.tags(
            {
                names.LAUNCHER: plan.kind,
                names.FINGERPRINT: config.fingerprint(),
                names.JOB_NAME: plan.name,
                names.REGION: self.aws.region,
                names.INSTANCE_TYPE: ",".join(request.types_of(plan.request)),
                names.INSTANCE_COUNT: resources["InstanceCount"],
                names.IMAGE_URI: plan.request["AlgorithmSpecification"]["TrainingImage"],
                names.IMAGE_DIGEST: self._image_digest(plan),
                names.PRICE: None if plan.price is None else str(plan.price),
                **self.tags,
                **config.tags,
            },
            time_ms=now_ms,
        )
        # Last: a job that is in the ledger has all that is known of it in its journal.
        entry = ledger.Entry(
            name=plan.name,
            kind=plan.kind,
            region=self.aws.region,
            profile=plan.options.profile,
            request=self._complete(plan, journal),
            experiment=config.experiment,
            run_name=run_name,
            dataset=plan.options.train or config.dataset,
            created_ms=now_ms,
            price=None if plan.price is None else asdict(plan.price),
            prices={kind: asdict(price) for kind, price in plan.prices.items()},
            fallback=list(plan.fallback),
            queue=queue.asked(plan.options),
            budget=self._budget,
            stop_on=list(plan.options.stop_on),
            directory=journal.dir,
        ).save()
        return entry, journal

    def _left(self, plan: Plan) -> tuple[ledger.Entry, Journal] | None:
        """The same job as an earlier launch left it unsent, if no process holds it."""
        wanted = _essence(plan.request, [*request.types_of(plan.request), *plan.fallback])
        place = (plan.kind, self.aws.region, queue.asked(plan.options))
        for entry in ledger.unsent(self.root):
            if (entry.kind, entry.region, entry.queue) != place or wanted != _essence(
                entry.request, [*entry.tried, *request.types_of(entry.request), *entry.fallback]
            ):
                continue
            try:
                journal = Journal.reopen(entry.directory)
            except JournalError:  # its launcher waits for quota, and this one is asked for beside it
                continue
            now = ledger.load(entry.directory)  # it may have been sent until the journal was ours
            if now is not None and now.submitted_ms is None and not now.ended:
                self.on_news(f"{now.name} was recorded before and not launched; this launch continues with it")
                stop_on = list(plan.options.stop_on)
                return now.changed(profile=plan.options.profile, budget=self._budget, stop_on=stop_on), journal
            journal.close()
        return None

    def _complete(self, plan: Plan, journal: Journal) -> dict[str, Any]:
        """The request with what only the run's journal decides: whose job it is, and the MLflow run to log live to."""
        made = dict(plan.request)
        made["Tags"] = [*made["Tags"], {"Key": names.JOURNAL_ID, "Value": journal.journal_id}]
        uri = made.get("Environment", {}).get("MLFLOW_TRACKING_URI")
        if uri is None:
            return made
        from tracking.errors import TrackingError
        from tracking.store import Store
        from tracking.store.replay import replay

        try:
            run_id = replay(journal.dir, Store(uri, None, self.root)).run_id
        except TrackingError as error:
            self.on_news(f"The job will not log live to MLflow: {error}")
        else:
            made["Environment"] = {**made["Environment"], "MLFLOW_RUN_ID": run_id}
        return made

    def _store(self) -> Store:
        """Where the run is found that another starts from."""
        from tracking import store

        return replace(store.resolve(), journals=self.root)

    def _known_prices(self) -> dict[str, pricing.Price]:
        for kind in self.options.instance_types:
            if kind not in self._prices:
                try:
                    self._prices[kind] = pricing.price_per_hour(self.aws.region, kind, self.aws)
                except pricing.NoPrice:
                    self._prices[kind] = None
        found = ((kind, self._prices[kind]) for kind in self.options.instance_types)
        return {kind: price for kind, price in found if price is not None}

    def _image_digest(self, plan: Plan) -> str | None:
        """What the image's tag points at now; None where the registry does not say."""
        image = str(plan.request["AlgorithmSpecification"]["TrainingImage"])
        registry, _, rest = image.partition("/")
        if "@" in rest:
            return rest.partition("@")[2]
        repository, _, tag = rest.partition(":")
        try:
            answer = self.aws.call(
                "ecr",
                "BatchGetImage",
                patience_s=0.0,
                registryId=registry.partition(".")[0],
                repositoryName=repository,
                imageIds=[{"imageTag": tag or "latest"}],
            )
            return str(answer["images"][0]["imageId"]["imageDigest"])
        except (TrainerError, LookupError):
            return None


class SageMakerJob:
    """A training job that AWS runs; it continues when this process ends."""

    def __init__(self, aws: Aws, entry: ledger.Entry) -> None:
        self._aws, self.entry = aws, entry

    @property
    def id(self) -> str:
        """The training job's name."""
        return self.entry.name

    def describe(self, patience_s: float | None = 120.0) -> dict[str, Any]:
        """AWS's whole answer. Raises AwsError."""
        if self.entry.queue is not None:
            return queue.describe(self._aws, self.entry, patience_s)
        answer = self._aws.call(
            "sagemaker", "DescribeTrainingJob", patience_s=patience_s, TrainingJobName=self.entry.name
        )
        return dict(answer)

    def training_job(self) -> str:
        """The name of its training job, asked of AWS where that decides it; "" where there is none yet."""
        return self.entry.name if self.entry.queue is None else self.describe()["TrainingJobArn"].rpartition("/")[2]

    def state(self) -> State:
        """Asked of AWS each time."""
        return phases.state(self.describe())

    def wait(self, timeout_s: float | None = None, *, poll_s: float = 15.0) -> State:
        """Block until the job has ended, or the time is over."""
        clock = self._aws.clock
        return wait_for_end(self.state, timeout_s, poll_s=poll_s, now=clock.now, sleep=clock.sleep)

    def cancel(self) -> None:
        """Ask the job to end; it keeps the model it has. One that has ended is left alone."""
        stop(self._aws, self.entry)

    def logs(self) -> Iterator[str]:
        """The lines that CloudWatch has so far."""
        from trainers.sagemaker.aws.logs import LogReader

        name = self.training_job()
        for page in LogReader(self._aws, name, {}).read(drain=True) if name else ():
            yield from (line.text for line in page)


def _params(plan: Plan) -> dict[str, names.Value]:
    """What is known of the run's settings now; our own container adds what its data decide."""
    values = plan.config.params()
    if plan.kind == ledger.BUILTIN:  # the algorithm has no other settings, whatever their defaults are here
        known = {name.key for name in names.HYPERPARAMETERS} | {"dataset", "init"}
        known |= set(_SPLITTING) if plan.datasets else set()  # the splits were made here
        values = {key: value for key, value in values.items() if key in known}
    if plan.options.train is not None:
        values["dataset"] = plan.options.train
    elif plan.kind == ledger.OWN and "num_threads" in values:
        del values["num_threads"]  # the container's machine has its own
    return values


def _essence(request: Mapping[str, Any], types: Sequence[str]) -> str:
    """A request without what differs between two launches of the same: the job's name, the ids of its run.

    ``types``: the machines that will do, whichever of them its turn it is.
    """
    kept = {key: value for key, value in request.items() if key not in ("TrainingJobName", "Tags", "Environment")}
    machines = ("InstanceType", "InstancePreferences")
    kept["ResourceConfig"] = {k: v for k, v in kept["ResourceConfig"].items() if k not in machines} | {"types": types}
    kept["Tags"] = [tag for tag in request.get("Tags", []) if tag["Key"] != names.JOURNAL_ID]
    kept["Environment"] = {k: v for k, v in request.get("Environment", {}).items() if k != "MLFLOW_RUN_ID"}
    return json.dumps(kept, sort_keys=True).replace(request["TrainingJobName"], "")
