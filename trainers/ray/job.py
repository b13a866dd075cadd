"""From a config to a job of a Ray cluster: options, the run's journal, what is posted, exactly once.

A job is recorded in the ledger (``trainers.sagemaker.job.ledger``) before it is sent, as every job is.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tracking import names
from tracking.errors import JournalError, TrackingError
from tracking.errors.redaction import public
from tracking.journal import Journal
from tracking.journal.origin import origin
from trainers.config import Config
from trainers.config.checks import flag
from trainers.config.text import to_toml
from trainers.errors import BadConfig, BadInput
from trainers.launch.job import State, wait_for_end
from trainers.ray import client as api
from trainers.ray.node import CONFIG, INIT, OUTPUT
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.aws.uri import is_legal, is_s3, split_s3
from trainers.sagemaker.job import ledger, request

if TYPE_CHECKING:
    from tracking.store import Store

KIND = "ray"
ENTRYPOINT = "python -m trainers.ray.node"
STATES: Mapping[str, State] = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "finished",
    "STOPPED": "killed",
    "FAILED": "failed",
}
_FLAGS = {
    "ray_address": ("URL", "dashboard of the cluster (default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS, 127.0.0.1:8265)"),
    "cpus": ("N", "processors of a node for a run (default: 1)"),
    "gpus": ("N", "GPUs of a node for a run (default: 0)"),
    "memory": ("SIZE", "memory of a node for a run, such as 4G (default: not reserved)"),
}
# What a node needs to find S3 and MLflow; none of it is a secret.
_HANDED_ON = ("MLFLOW_EXPERIMENT_NAME", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_AMOUNTS = ("entrypoint_num_cpus", "entrypoint_num_gpus", "entrypoint_memory")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where jobs run and what each is given of a node. ``output``: a folder that all nodes share, or an S3 prefix."""

    address: str
    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int = 0
    output: str | None = None
    stop_on: tuple[str, ...] = ()  # rules of trainers.launch.watching


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every option but ``--output``, which SageMaker's jobs have as well."""
    group = parser.add_argument_group("Ray", "for --on ray, with --output: a folder that all nodes share, or s3://…")
    for key, (metavar, text) in _FLAGS.items():
        group.add_argument(flag(key), dest=key, metavar=metavar, default=None, help=text)


def foreign(arguments: argparse.Namespace) -> list[str]:
    """Faults of a run elsewhere that was given these flags."""
    return [f"{flag(key)} is for --on ray." for key in _FLAGS if getattr(arguments, key, None) is not None]


def read(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> RayOptions:
    """The options of the command line. Raises BadConfig with every fault."""
    faults, values = list[str](), dict[str, Any]()
    for key, least in (("cpus", 1.0), ("gpus", 0.0)):
        text = getattr(arguments, key)
        if text is not None:
            try:
                values[key] = float(text)
            except ValueError:
                values[key] = float("nan")
            # Ray runs a job without processors on its head, beside whatever else is there.
            if not least <= values[key] < 1e6 or (values[key] > 1 and values[key] % 1):
                faults.append(f"{flag(key)} {text} is out of range: {least:g} or more, whole above 1.")
    if arguments.memory is not None:
        match = _SIZE.fullmatch(arguments.memory.strip())
        values["memory_bytes"] = round(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else 0
        if values["memory_bytes"] < 1:
            faults.append(f"--memory {arguments.memory} must be a size such as 500M or 4G.")
    output = arguments.output
    if output is not None and is_s3(output):
        if not is_legal(output):
            faults.append(f"--output {output!r} must have the form s3://bucket/prefix.")
    elif output is not None and not Path(output).expanduser().is_absolute():
        faults.append(f"--output {output} must be an absolute path, the same on every node, or s3://bucket/prefix.")
    try:
        address = api.address_of(arguments.ray_address, environment)
    except BadInput as error:
        faults.append(str(error))
    if faults:
        raise BadConfig(faults)
    values |= {"output": None if output is None else output.rstrip("/"), "stop_on": arguments.stop_on}
    return RayOptions(address=address, **values)


def tracking_server(environment: Mapping[str, str]) -> tuple[str, str]:
    """The tracking server that the nodes can log to, and otherwise a sentence why there is none."""
    uri = environment.get("MLFLOW_TRACKING_URI", "").strip()
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return "", "MLFLOW_TRACKING_URI names no server that the nodes could log to"
    if public(uri) != uri:
        return "", "MLFLOW_TRACKING_URI holds a password, which everyone who may see the cluster's jobs would see"
    host = parts.hostname or ""
    if host in ("localhost", "0.0.0.0", "::1") or host.startswith("127."):
        return "", f"only this machine sees {uri}"
    return uri, ""


class RayLauncher:
    """Runs configs as jobs of one cluster; ``root`` is the journals' folder."""

    def __init__(
        self,
        options: RayOptions,
        store: Store,
        *,
        client: api.RayClient | None = None,
        environment: Mapping[str, str] = os.environ,
        on_news: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Raises BadInput where a run's journal could not reach MLflow from the cluster."""
        self.options, self.store, self.on_news = options, store, on_news
        self.client = client or api.RayClient(options.address)
        self.aws = Aws(clock=self.client.clock)  # for --output in S3
        self._environment = {key: environment[key] for key in _HANDED_ON if environment.get(key)}
        self._server, why_not = tracking_server(environment)
        self._number = 0
        self._sources = ""
        if options.output is None and not self._server:
            raise BadInput(
                f"--on ray: {why_not}, so nothing would come back: give --output with a folder that all nodes share, or"
                " s3://bucket/prefix."
            )
        if options.output is not None and not is_s3(options.output):
            _check_folder(Path(options.output))
        if options.output is not None and why_not:
            on_news(f"note: {why_not}; this machine fills MLflow from --output while it watches")

    def plan(self, config: Config, *, dry: bool = False) -> ledger.Entry:
        """The job as it would be recorded; with ``dry`` nothing is sent. Raises BadInput, AwsError."""
        from trainers.data import catalog

        config = replace(config, experiment=config.experiment or self.store.default_experiment)
        name, path = catalog.split_spec(config.dataset)
        if path is not None and not path.is_absolute():  # the job's working directory is another
            spec = str(path.absolute()) if name is None else f"{name}:{path.absolute()}"
            config = replace(config, dataset=spec)
        if config.image_root is not None:
            config = replace(config, image_root=str(Path(config.image_root).expanduser().absolute()))
        if not dry and not self._sources:
            self._sources = self.client.send_sources()
        job_name = request.job_name(config, self.client.clock.now(), self._number)
        self._number += 1
        output = "" if self.options.output is None else f"{self.options.output}/{job_name}"
        variables = {**self._environment, CONFIG: to_toml(config), OUTPUT: output}
        if self._server:
            variables["MLFLOW_TRACKING_URI"] = self._server
        if not self.options.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ""  # a job that asked for none takes none from the others
        job = {
            "entrypoint": ENTRYPOINT,
            "runtime_env": {"working_dir": self._sources, "env_vars": variables},
            "entrypoint_num_cpus": self.options.cpus,
            "entrypoint_num_gpus": self.options.gpus,
            **({"entrypoint_memory": self.options.memory_bytes} if self.options.memory_bytes else {}),
        }
        tags = [{"Key": key, "Value": value} for key, value in config.tags.items()]
        made = {"Address": self.options.address, "Output": output, "Tags": tags, "Job": job}
        made["HyperParameters"] = {"epochs": str(config.epochs)}
        assert config.experiment is not None
        return ledger.Entry(
            name=job_name,
            kind=KIND,
            region="",
            profile=None,
            request=made,
            experiment=config.experiment,
            run_name=config.run_name or job_name,
            dataset=config.dataset,
            stop_on=list(self.options.stop_on),
            created_ms=int(self.client.clock.now() * 1000),
        )

    def record(self, entry: ledger.Entry) -> tuple[ledger.Entry, Journal]:
        """Record a planned job before it is sent: its folder, its journal, open, its line in the ledger.

        A job that was recorded by a launcher that died, and never sent, is gone on with.
        """
        left = self._left(entry)
        if left is not None:
            return left
        config = config_of(entry)
        self._place(entry, config)
        journal = self._begin(entry, config, None)
        variables = dict(entry.request["Job"]["runtime_env"]["env_vars"])
        if self._server:
            variables["MLFLOW_RUN_ID"] = self._begun(journal)
        job = with_variables(entry.request["Job"], variables)
        tags = [*entry.request["Tags"], {"Key": names.JOURNAL_ID, "Value": journal.journal_id}]
        job["metadata"] = {tag["Key"]: tag["Value"] for tag in tags}
        recorded = replace(entry, request={**entry.request, "Tags": tags, "Job": job}, directory=journal.dir)
        return recorded.save(), journal

    def adopted(self, job: Mapping[str, Any], about: Mapping[str, str]) -> ledger.Entry | None:
        """The ledger's entry, made here, of a job that another machine launched; None for one not of this project.

        ``job`` is Ray's answer, ``about`` its metadata. The run keeps its id, so MLflow has it once.
        """
        variables = (job.get("runtime_env") or {}).get("env_vars") or {}
        if not variables.get(CONFIG) or not about.get(names.JOURNAL_ID):
            return None
        body = {key: job[key] for key in ("entrypoint", "runtime_env", "metadata")}
        body |= {key: job[key] for key in _AMOUNTS if job.get(key)}
        tags = [{"Key": key, "Value": value} for key, value in about.items()]
        made = {"Address": self.options.address, "Output": variables.get(OUTPUT, ""), "Tags": tags, "Job": body}
        name, now_ms = str(job["submission_id"]), int(job.get("start_time") or self.client.clock.now() * 1000)
        entry = ledger.Entry(name=name, kind=KIND, region="", profile=None, request=made, experiment="")
        config = config_of(entry)
        entry = replace(
            entry,
            request={**made, "HyperParameters": {"epochs": str(config.epochs)}},
            experiment=config.experiment or self.store.default_experiment,
            run_name=config.run_name or name,
            dataset=config.dataset,
            created_ms=now_ms,
            submitted_ms=now_ms,
        )
        try:
            journal = self._begin(entry, config, about[names.JOURNAL_ID])
        except TrackingError:  # it is here, and another process began to watch it at this moment
            return None
        journal.close()
        return replace(entry, directory=journal.dir).save()

    def _begin(self, entry: ledger.Entry, config: Config, journal_id: str | None) -> Journal:
        """The run's journal, with what is known of it now."""
        journal = Journal.create(
            self.store.journals,
            experiment=entry.experiment,
            run_name=entry.run_name,
            start_time_ms=entry.created_ms,
            tags=origin("JOB"),
            journal_id=journal_id,
        )
        values = {key: value for key, value in config.params().items() if key != "num_threads"}  # the node has its own
        journal.params(values, time_ms=entry.created_ms)
        own = {names.LAUNCHER: KIND, names.FINGERPRINT: config.fingerprint(), names.JOB_NAME: entry.name}
        journal.tags({**own, **config.tags}, time_ms=entry.created_ms)
        return journal

    def _left(self, entry: ledger.Entry) -> tuple[ledger.Entry, Journal] | None:
        for other in ledger.unsent(self.store.journals):
            if other.kind != KIND or _essence(other) != _essence(entry):
                continue
            try:
                journal = Journal.reopen(other.directory)
            except JournalError:  # its launcher is about to send it
                continue
            now = ledger.load(other.directory)
            if now is not None and now.submitted_ms is None and not now.ended:
                self.on_news(f"{now.name} was recorded before and not launched; this launch continues with it")
                return now, journal
            journal.close()
        return None

    def _begun(self, journal: Journal) -> str:
        """The MLflow run that the job logs to live. Raises StoreUnreachable: without --output nothing else is left."""
        from tracking.store.replay import replay

        try:
            return str(replay(journal.dir, replace(self.store, tracking_uri=self._server)).run_id)
        except TrackingError as error:
            if self.options.output is None:
                journal.close()
                raise
            self.on_news(f"the job will not log live to MLflow: {error}")
            return ""

    def _place(self, entry: ledger.Entry, config: Config) -> None:
        """Make the job's folder, with the network it starts from."""
        output = entry.request["Output"]
        if not output:
            return
        if not is_s3(output):
            Path(output).mkdir(parents=True, exist_ok=True)
        if not config.initial.startswith("run:"):
            return
        from trainers.sagemaker.job.channels import put_together

        with tempfile.TemporaryDirectory(prefix="init-") as place:
            put_together(config, self.store, Path(place))
            if not is_s3(output):
                shutil.copytree(place, Path(output) / INIT / "files", dirs_exist_ok=True)
                return
            bucket, prefix = split_s3(output)
            for path in sorted(Path(place).rglob("*")):
                if path.is_file():
                    key = f"{prefix}/{INIT}/files/{path.relative_to(place).as_posix()}"
                    self.aws.s3("UploadFile", Filename=str(path.resolve()), Bucket=bucket, Key=key)


class RayJob:
    """A job of a cluster; it continues when this process ends."""

    def __init__(self, entry: ledger.Entry, client: api.RayClient | None = None) -> None:
        self.entry = entry
        self._client = client or api.RayClient(entry.request["Address"])

    @property
    def id(self) -> str:
        """The job's submission id."""
        return self.entry.name

    def state(self) -> State:
        """Asked of the cluster each time; a job that it no longer knows has failed. Raises AwsError."""
        info = self._client.info(self.entry.name)
        return "failed" if info is None else STATES.get(str(info.get("status")), "running")

    def wait(self, timeout_s: float | None = None, *, poll_s: float = 15.0) -> State:
        """Block until the job has ended, or the time is over."""
        clock = self._client.clock
        return wait_for_end(self.state, timeout_s, poll_s=poll_s, now=clock.now, sleep=clock.sleep)

    def cancel(self) -> None:
        """Ask the job to end."""
        self._client.stop(self.entry.name)

    def logs(self) -> Iterator[str]:
        """The lines that it printed so far."""
        yield from self._client.logs(self.entry.name).splitlines()


def config_of(entry: ledger.Entry) -> Config:
    """The settings that a job carries as text."""
    from trainers.config.text import build, from_toml

    with tempfile.TemporaryDirectory(prefix="config-") as folder:
        file = Path(folder, "config.toml")
        file.write_text(entry.request["Job"]["runtime_env"]["env_vars"][CONFIG], encoding="utf-8")
        return build(from_toml(file))


def with_variables(job: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """A job's body with other environment variables."""
    return {**job, "runtime_env": {**job["runtime_env"], "env_vars": dict(variables)}}


def _essence(entry: ledger.Entry) -> tuple[Any, ...]:
    """What two launches of the same have in common."""
    job = entry.request["Job"]
    amounts = [job.get(key) for key in _AMOUNTS]
    parent = entry.request["Output"].rpartition("/")[0]
    return entry.request["Address"], parent, job["runtime_env"]["env_vars"][CONFIG], *amounts


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise BadInput(f"--output {folder} cannot be written here ({error.strerror}).") from error
