"""The CreateTrainingJob request as a pure function of config, options and channels: same in, same out, nothing sent.

``build`` makes both kinds of job: with ``code_uri`` our own trainer in our own image, without it AWS's built-in image
classification. Golden files in ``tests/golden`` pin the result.
"""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlsplit

from tracking.errors.redaction import public
from trainers.config import Config
from trainers.config.checks import quoted
from trainers.config.text import build as build_config
from trainers.config.text import cast, to_hyperparameters
from trainers.errors import BadConfig
from trainers.sagemaker.aws import images
from trainers.sagemaker.aws.uri import is_s3
from trainers.sagemaker.cost import instances, pricing
from trainers.sagemaker.options import JobOptions

RECORDIO = "application/x-recordio"
IMAGE = "application/x-image"
CODE_CHANNEL, INIT_CHANNEL = "code", "init"
MAX_WAIT_BEYOND_S = 3600  # spot: how much longer than it runs a job may take, capacity included
BILLED_BESIDE_S = 320  # data, image and model travel on billed time too, outside MaxRuntimeInSeconds; 313 s seen
# Settings that mean something on this machine alone.
_LOCAL = ("image_root", "num_threads", "tags")
_TAG = re.compile(r"[\w \t.:/=+\-@]*")


@dataclass(frozen=True)
class Channel:
    """One input of a job: the objects under ``s3_uri`` appear in ``/opt/ml/input/data/<name>/``.

    ``attribute_names`` make it an augmented manifest (``s3_uri`` is then its key, read through a pipe).
    """

    name: str
    s3_uri: str
    content_type: str | None = None
    attribute_names: tuple[str, ...] = ()


def build(
    config: Config,
    options: JobOptions,
    channels: Sequence[Channel],
    *,
    job_name: str,
    code_uri: str | None = None,
    environment: Mapping[str, str] | None = None,
    price: pricing.Price | None = None,
) -> dict[str, Any]:
    """The request as boto3's ``create_training_job(**request)`` takes it.

    ``code_uri`` is our source archive in S3; ``environment`` goes to our own container; ``price`` (default: the shipped
    table's) turns ``max_cost_usd`` into MaxRuntimeInSeconds. Raises BadConfig when account facts are missing or the
    money doesn't last for a minute.
    """
    missing = options.missing()
    if missing:
        raise BadConfig(missing)
    assert options.region is not None and options.output is not None
    own = code_uri is not None
    inputs = [_channel(channel) for channel in channels]
    if code_uri is not None:
        inputs.append(_channel(Channel(CODE_CHANNEL, code_uri)))
    output = options.output.rstrip("/")
    image = (options.image or images.own_image(options.account, options.region)) if own else None
    request: dict[str, Any] = {
        "TrainingJobName": job_name,
        "RoleArn": options.role,
        "AlgorithmSpecification": {
            "TrainingImage": image or images.builtin_image(options.region),
            "TrainingInputMode": "File",
        },
        "HyperParameters": hyperparameters(config) if own else to_hyperparameters(config),
        "InputDataConfig": inputs,
        "OutputDataConfig": {"S3OutputPath": output},
        "ResourceConfig": _resources(options),
        "StoppingCondition": _limits(options, price),
        "EnableManagedSpotTraining": options.spot,
        "Tags": _tags(config, options, own),
    }
    if not inputs:
        del request["InputDataConfig"]
    if options.kms_key is not None:
        request["OutputDataConfig"]["KmsKeyId"] = options.kms_key
    if own or options.spot or options.queue is not None:
        # A prefix for each run: its objects are restored into the container when it starts.
        request["CheckpointConfig"] = {"S3Uri": f"{output}/{job_name}/checkpoints/"}
    if options.subnet:
        request["VpcConfig"] = {"Subnets": list(options.subnet), "SecurityGroupIds": list(options.security_group)}
    if own and environment:
        request["Environment"] = dict(environment)
    return request


def hyperparameters(config: Config) -> dict[str, str]:
    """Our own container's hyperparameters: every setting that is set, as text; ``config_from`` reads them back."""
    values = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in _LOCAL}
    text = {key: quoted(value) for key, value in values.items() if value is not None}
    if config.tags:
        text["tags"] = json.dumps(dict(config.tags))
    return text


def config_from(values: Mapping[str, str]) -> Config:
    """The config that ``hyperparameters`` wrote down. Raises BadConfig."""
    settings: dict[str, Any] = dict(values)
    if "tags" in settings:
        settings["tags"] = json.loads(settings["tags"])
    settings.pop("use_pretrained_model", None)  # follows from init, which is always there
    return build_config(cast(settings, where="hyperparameter "))


def job_name(config: Config, moment_s: float, number: int = 0) -> str:
    """A name no other job has: run's name or depth, fingerprint, UTC time, and a number among jobs of one second.

    At most 63 of ``A-Za-z0-9-``, as the API wants it.
    """
    words = config.run_name or f"layers-{config.num_layers}"
    stem = re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-")[:24].rstrip("-") or "run"
    moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(moment_s))
    return f"{stem}-{config.fingerprint()[:8]}-{moment}-{number:03d}"


def s3_channels(options: JobOptions, *, builtin: bool) -> list[Channel]:
    """The channels whose data is in S3 already; local paths are the uploader's.

    The built-in algorithm gets no test data: it has no use for it.
    """
    listed = options.train_lst is not None
    content = (IMAGE if listed else RECORDIO) if builtin else None
    names = ("train", "validation", "train_lst", "validation_lst") + (() if builtin else ("test",))
    given = [(name, getattr(options, name)) for name in names]
    return [Channel(name, uri, content) for name, uri in given if uri is not None and is_s3(uri)]


def tracking_environment(
    environment: Mapping[str, str], run_id: str | None = None, *, in_vpc: bool = False
) -> tuple[dict[str, str], str]:
    """What a container needs to log live to the same MLflow run, and otherwise a sentence why it will not.

    A URI that only this machine or its network can see is not handed on (``in_vpc``: the job runs in a network of the
    user's, which may), nor one with a password in it, which every reader of the job's description would see.
    """
    uri = environment.get("MLFLOW_TRACKING_URI", "")
    if not uri or not (uri.startswith("arn:") or urlsplit(uri).scheme in ("http", "https")):
        return {}, "The job writes its journal to S3; the tracking store is on this machine and is filled from there."
    if public(uri) != uri:
        return {}, "MLFLOW_TRACKING_URI holds a password and is not handed to the job; its journal comes through S3."
    host = urlsplit(uri).hostname or ""
    private = host in ("localhost", "0.0.0.0", "::1") or host.startswith("127.") or host.endswith(".local")
    private = private or (not in_vpc and _is_private(host))
    if not uri.startswith("arn:") and (private or "." not in host and ":" not in host):
        return {}, f"Only this machine sees {uri}; the job's journal comes through S3."
    out = {"MLFLOW_TRACKING_URI": uri}
    if environment.get("MLFLOW_EXPERIMENT_NAME"):
        out["MLFLOW_EXPERIMENT_NAME"] = environment["MLFLOW_EXPERIMENT_NAME"]
    if run_id:
        out["MLFLOW_RUN_ID"] = run_id
    return out, ""


def types_of(request: Mapping[str, Any]) -> tuple[str, ...]:
    """The machines that a request names, the preferred one first."""
    resources = request.get("ResourceConfig", {})
    listed = [one["InstanceType"] for one in resources.get("InstancePreferences", [])]
    return tuple(listed) or ((resources["InstanceType"],) if resources.get("InstanceType") else ())


def _is_private(host: str) -> bool:
    """Whether a host is an address of a local network, such as 192.168.1.2."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def capped(options: JobOptions, price: pricing.Price | None = None) -> JobOptions:
    """The options with ``max_runtime_s`` shortened to what ``max_cost_usd`` pays for. Raises BadConfig under a minute.

    Downloading, uploading and a kept machine are billed beside the run time and are taken off first.
    """
    if options.max_cost_usd is None:
        return options
    assert options.region is not None
    price = price or pricing.dearest([pricing.price_per_hour(options.region, kind) for kind in options.instance_types])
    bought_s = pricing.seconds_for(options.max_cost_usd, options.instance_count, price.usd)
    left_s = bought_s - BILLED_BESIDE_S - 60 * (options.keep_alive_min or 0)
    if left_s < 60:
        least = pricing.cost_usd(bought_s - left_s + 60, options.instance_count, price.usd)
        raise BadConfig(
            [
                f"--max-cost {options.max_cost_usd:g}: at {price} that leaves no minute to train beside download,"
                f" upload and --keep-alive. Give at least {least:.2f}, or a cheaper --instance-type."
            ]
        )
    runtime_s = min(options.max_runtime_s, left_s)
    return replace(options, max_runtime_s=runtime_s)


def _channel(channel: Channel) -> dict[str, Any]:
    source: dict[str, Any] = {
        "S3DataType": "AugmentedManifestFile" if channel.attribute_names else "S3Prefix",
        "S3Uri": channel.s3_uri if channel.attribute_names else _as_folder(channel.s3_uri),
        "S3DataDistributionType": "FullyReplicated",
    }
    out: dict[str, Any] = {"ChannelName": channel.name, "DataSource": {"S3DataSource": source}}
    if channel.content_type is not None:
        out["ContentType"] = channel.content_type
    if channel.attribute_names:
        source["AttributeNames"] = list(channel.attribute_names)
        out |= {"InputMode": "Pipe", "RecordWrapperType": "RecordIO"}
    return out


def _as_folder(uri: str) -> str:
    """An S3 prefix is a plain beginning of keys: ``s3://b/train`` would take ``train_lst/…`` in as well."""
    last = uri.rpartition("/")[2]
    return uri if not last or "." in last else uri + "/"


def _resources(options: JobOptions) -> dict[str, Any]:
    kinds = options.instance_types
    out: dict[str, Any] = {"InstanceType": kinds[0], "InstanceCount": options.instance_count}
    if len(kinds) > 1 and not options.spot:  # spot knows no preferences: there the watcher goes on to the next type
        del out["InstanceType"]
        out["InstancePreferences"] = [{"InstanceType": kind} for kind in kinds]
    if not all(map(instances.has_own_disk, kinds)):
        out["VolumeSizeInGB"] = instances.DEFAULT_VOLUME_GB if options.volume_gb is None else options.volume_gb
        if options.kms_key is not None:
            out["VolumeKmsKeyId"] = options.kms_key
    if options.keep_alive_min:
        out["KeepAlivePeriodInSeconds"] = 60 * options.keep_alive_min
    return out


def _limits(options: JobOptions, price: pricing.Price | None) -> dict[str, int]:
    runtime_s = capped(options, price).max_runtime_s
    out = {"MaxRuntimeInSeconds": runtime_s}
    if options.spot:
        wait_s = options.max_wait_s if options.max_wait_s is not None else runtime_s + MAX_WAIT_BEYOND_S
        out["MaxWaitTimeInSeconds"] = max(wait_s, runtime_s)
    if options.max_pending_s is not None:
        out["MaxPendingTimeInSeconds"] = options.max_pending_s
    return out


def _tags(config: Config, options: JobOptions, own: bool) -> list[dict[str, str]]:
    """Tags as AWS wants them: the user's, and what a job is picked up by elsewhere, as far as AWS can spell it."""
    facts = {
        "launcher": "sagemaker" if own else "sagemaker-builtin",
        "config_fingerprint": config.fingerprint(),
        "experiment": config.experiment,
        "run_name": config.run_name,
    }
    spelled = {key: text for key, text in facts.items() if text and len(text) <= 256 and _TAG.fullmatch(text)}
    tags = {**spelled, **config.tags, **options.tags}
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
