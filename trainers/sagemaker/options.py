"""What a SageMaker job needs beside the run's config: account, machine, limits and where the data is.

Enters: flags, a ``[sagemaker]`` table, AWS's environment and files, in this order. Leaves: a ``JobOptions`` whose
values are legal, or BadConfig with every fault. Standard library alone, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracking.errors.words import nearest
from trainers.config.checks import flag
from trainers.config.text import read_toml
from trainers.errors import BadConfig
from trainers.sagemaker.aws.uri import is_legal, is_s3
from trainers.sagemaker.cost.instances import SMALLEST_GPU, has_own_disk

DEFAULT_MAX_RUNTIME_S = 4 * 3600
LONGEST_RUNTIME_S = 28 * 86400
SHORTEST_PENDING_S = 1800
MOST_TYPES = 5
LONGEST_KEEP_ALIVE_MIN = 60  # what the guide says; the API's model would take 360
CHANNELS = ("train", "validation", "test", "train_lst", "validation_lst")

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/?[\w+=,.@/-]+", re.ASCII)
_ROLE_NAME = re.compile(r"[\w+=,.@/-]{1,512}", re.ASCII)
_INSTANCE_TYPE = re.compile(r"ml\.[a-z0-9-]+\.\w+")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")
_UNIT_S = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}

# field → (metavar, help)
_FLAGS = {
    "role": ("ARN|NAME", "role that the job runs under (in a SageMaker notebook: the notebook's)"),
    "output": ("S3_URI", "where models, journals, checkpoints and uploads go: s3://bucket/prefix"),
    "region": ("NAME", "AWS region (default: AWS_REGION, AWS_DEFAULT_REGION, the profile's)"),
    "profile": ("NAME", "profile in AWS's files (default: AWS_PROFILE, else the default one)"),
    "instance_type": ("TYPE[,TYPE…]", f"machine, or up to 5: the first one free (default: {SMALLEST_GPU})"),
    "instance_count": ("N", "machines a job (default: 1)"),
    "spot": ("true|false", "spare capacity: cheaper, may be interrupted and resumes from the checkpoint"),
    "keep_alive": ("MIN", "keep the machine for the next job, billed (warm pool)"),
    "max_runtime": ("TIME", "stop the job then: seconds, or 90m, 4h, 1d (default: 4h)"),
    "max_wait": ("TIME", "with --spot: wait for capacity and run within it (default: run time + 1h)"),
    "max_pending": ("TIME", "give up waiting for a machine then: 30m to 28d"),
    "queue": ("NAME", "wait in this queue of AWS Batch (docs/queue.md)"),
    "queue_priority": ("N", "with --queue: 0 to 9999, the higher the sooner (in a queue with fair shares)"),
    "queue_share": ("NAME", "with --queue: the share that the job counts to"),
    "max_cost": ("USD", "most that a job may cost; shortens --max-runtime to it"),
    "volume_gb": ("N", "disk of machines without one of their own"),
    "subnet": ("ID", "subnet of your VPC; repeatable"),
    "security_group": ("ID", "security group of your VPC; repeatable"),
    "kms_key": ("KEY", "encrypt output and volume with this key"),
    "image": ("URI", "our own image in your registry (--on sagemaker)"),
    "train": ("PATH", "training data: s3://bucket/prefix/ or a local path, which is packed and uploaded"),
    "validation": ("PATH", "validation data, likewise"),
    "test": ("PATH", "test data, likewise; never sent to the built-in algorithm"),
    "train_lst": ("PATH", "the list of --train, when that is a folder of pictures"),
    "validation_lst": ("PATH", "the list of --validation"),
}
_REPEATABLE = ("subnet", "security_group")
# Spelled on the command line → the field; the fields carry the unit.
_FIELD_OF = {
    "keep_alive": "keep_alive_min",
    "max_runtime": "max_runtime_s",
    "max_wait": "max_wait_s",
    "max_pending": "max_pending_s",
    "max_cost": "max_cost_usd",
}


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """How and where a job is rented. ``None`` means unset; ``tags`` are the job's AWS tags beside the run's,
    ``stop_on`` the rules of ``trainers.launch.watching`` that stop it.

    ``role`` is an ARN, or a name, which the launch completes.

    ``instance_type`` may name several with commas, in the order in which they are taken. ``train`` …
    ``validation_lst`` are S3 URIs or local paths, as given. Raises BadConfig with every fault.
    """

    role: str | None = None
    output: str | None = None
    region: str | None = None
    profile: str | None = None
    instance_type: str = SMALLEST_GPU
    instance_count: int = 1
    spot: bool = False
    keep_alive_min: int | None = None
    max_runtime_s: int = DEFAULT_MAX_RUNTIME_S
    max_wait_s: int | None = None
    max_pending_s: int | None = None
    max_cost_usd: float | None = None
    queue: str | None = None
    queue_priority: int | None = None
    queue_share: str | None = None
    volume_gb: int | None = None
    subnet: tuple[str, ...] = ()
    security_group: tuple[str, ...] = ()
    kms_key: str | None = None
    image: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    stop_on: tuple[str, ...] = ()
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    train_lst: str | None = None
    validation_lst: str | None = None

    def __post_init__(self) -> None:
        faults = _faults(self)
        if faults:
            raise BadConfig(faults)

    @property
    def instance_types(self) -> tuple[str, ...]:
        """The machines that will do, the preferred one first."""
        return tuple(kind.strip() for kind in self.instance_type.split(","))

    @property
    def account(self) -> str:
        """The 12 digits of the account that the role is in; empty where the role is unset or a name alone."""
        match = _ROLE.fullmatch(self.role or "")
        return "" if match is None else match[1]

    def missing(self) -> list[str]:
        """What a job needs and was not given, a sentence each."""
        faults = []
        output = default_output(self.region, self.account) if self.region and self.account else "s3://bucket/prefix"
        for key, example in (("role", "NAME"), ("output", output)):
            if getattr(self, key) is None:
                faults.append(f"--{key} is needed for a SageMaker job: --{key} {example}, or {key} under [sagemaker].")
        if self.role is not None and not self.account and self.region is not None:
            faults.append(f"--role {self.role} is a name that no command has completed; give its ARN.")
        if self.region is None:
            faults.append("--region is needed for a SageMaker job, or AWS_REGION, or a region in your AWS profile.")
        if faults:
            faults[-1] += " `python -m trainers.jobs setup` shows what an account has; with --create it makes the rest."
        return faults


def default_output(region: str, account: str) -> str:
    """Under the bucket that SageMaker itself proposes."""
    return f"s3://sagemaker-{region}-{account}/image-classification"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every option. Values stay text; ``read`` casts them, so that all faults come in one message."""
    job = parser.add_argument_group("SageMaker", "for --on sagemaker and --on sagemaker-builtin")
    for key, (metavar, text) in _FLAGS.items():
        more: dict[str, Any] = {}
        if key in _REPEATABLE:
            more = {"action": "append"}
        elif key == "spot":
            more = {"nargs": "?", "const": "true"}
        job.add_argument(flag(key), dest=key, metavar=metavar, default=None, help=text, **more)


def flags() -> tuple[str, ...]:
    """The options that have a flag, as attributes of the parsed arguments."""
    return tuple(_FLAGS)


def read(
    arguments: argparse.Namespace | None = None,
    config_file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> JobOptions:
    """The options from flags, over a file's ``[sagemaker]`` table, over AWS's own environment and files.

    Raises BadConfig with every unknown name, unreadable and illegal value.
    """
    faults: list[str] = []
    values: dict[str, Any] = {}
    table = read_toml(config_file).get("sagemaker", {}) if config_file is not None else {}
    if not isinstance(table, Mapping):
        raise BadConfig([f"{config_file}: sagemaker is not a table; write [sagemaker] and the settings below it."])
    flags = {key: getattr(arguments, key, None) for key in _FLAGS} if arguments is not None else {}
    for where, layer in ((f"{config_file}: [sagemaker] ", table), ("", flags)):
        for key, value in layer.items():
            key = key.replace("-", "_")
            if value is None:
                continue
            if key not in _FLAGS and key != "tags" and key not in _FIELD_OF.values():
                faults.append(f"{where}{key} is not a setting.{nearest(key, [*_FLAGS, 'tags'])}")
                continue
            name = _FIELD_OF.get(key, key)
            try:
                values[name] = _cast(name, value)
            except ValueError as error:
                faults.append(f"{where}{_flag(name)} {value!s} is not {error}.")
    if faults:
        raise BadConfig(faults)
    values.setdefault("profile", environment.get("AWS_PROFILE") or None)
    values.setdefault("region", _region(environment, values["profile"]))
    return JobOptions(**values)


def _cast(name: str, value: Any) -> Any:
    """A field's value from text or TOML's own type. Raises ValueError saying what it should have been."""
    if name == "tags":
        if not isinstance(value, Mapping):
            raise ValueError("a table of name = value")
        return {str(key): str(text) for key, text in value.items()}
    if name in _REPEATABLE:
        return tuple(str(item) for item in ([value] if isinstance(value, str) else value))
    if name == "spot":
        text = str(value).lower()
        if text not in ("true", "false"):
            raise ValueError("true or false")
        return text == "true"
    if isinstance(value, bool):
        raise ValueError("of the right type")
    if name == "instance_type" and isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if name in ("max_runtime_s", "max_wait_s", "max_pending_s"):
        match = _DURATION.fullmatch(str(value).strip())
        if match is None:
            raise ValueError("a time: seconds, or 90m, 4h, 1d")
        return round(float(match[1]) * _UNIT_S[match[2] or ""])
    if name in ("instance_count", "keep_alive_min", "volume_gb", "queue_priority"):
        try:
            return int(str(value))
        except ValueError:
            raise ValueError("a whole number") from None
    if name == "max_cost_usd":
        try:
            return float(str(value).removesuffix("$").strip())
        except ValueError:
            raise ValueError("an amount of US dollars, such as 2.50") from None
    return str(value)


def _faults(options: JobOptions) -> list[str]:
    faults = []
    for key, pattern, example in (
        ("role", _ROLE, "NAME or arn:aws:iam::123456789012:role/NAME"),
        ("region", _REGION, "us-east-1"),
    ):
        value = getattr(options, key)
        is_name = key == "role" and value is not None and ":" not in value and _ROLE_NAME.fullmatch(value)
        if value is not None and not pattern.fullmatch(value) and not is_name:
            faults.append(f"{_flag(key)} {value!r} must have the form {example}.")
    faults += _type_faults(options)
    if options.output is not None and not is_legal(options.output):
        faults.append(f"--output {options.output!r} must have the form s3://bucket/prefix.")
    for key, low, high in (
        ("instance_count", 1, 64),
        ("keep_alive_min", 0, LONGEST_KEEP_ALIVE_MIN),
        ("max_runtime_s", 60, LONGEST_RUNTIME_S),
        ("max_pending_s", SHORTEST_PENDING_S, LONGEST_RUNTIME_S),
        ("volume_gb", 1, 16384),
        ("queue_priority", 0, 9999),
    ):
        value = getattr(options, key)
        if value is not None and not low <= value <= high:
            faults.append(f"{_flag(key)} {value} is out of range: {low} to {high}.")
    if options.max_cost_usd is not None and not 0 < options.max_cost_usd < float("inf"):
        faults.append(f"--max-cost {options.max_cost_usd:g} must be more than nothing.")
    faults += [
        f"{_flag(key)} needs --queue."
        for key in ("queue_priority", "queue_share")
        if options.queue is None and getattr(options, key) is not None
    ]
    if options.queue is not None and options.spot and len(options.instance_types) > 1:
        faults.append("--queue with --spot takes one --instance-type: AWS Batch itself waits until there is one free.")
    if options.spot and options.keep_alive_min is not None:
        faults.append("--keep-alive and --spot exclude one another: a warm pool keeps on-demand machines. Give one.")
    if options.max_wait_s is not None:
        if not options.spot:
            faults.append("--max-wait needs --spot.")
        elif options.max_wait_s < options.max_runtime_s:
            faults.append(
                f"--max-wait {options.max_wait_s} s must be at least --max-runtime {options.max_runtime_s} s, which it"
                " includes."
            )
    if bool(options.subnet) != bool(options.security_group):
        faults.append("--subnet and --security-group go together: a job in your VPC needs both.")
    for key in CHANNELS:
        value = getattr(options, key)
        if value is not None and is_s3(value) and not is_legal(value):
            faults.append(f"{_flag(key)} {value!r} must have the form s3://bucket/prefix/.")
        if value is not None and not value.strip():
            faults.append(f"{_flag(key)} is empty.")
    for lst, data in (("train_lst", "train"), ("validation_lst", "validation")):
        if getattr(options, lst) is not None and getattr(options, data) is None:
            faults.append(f"{_flag(lst)} needs {_flag(data)}: the list's paths start there.")
    if (options.train_lst is None) != (options.validation_lst is None):
        faults.append("--train-lst and --validation-lst go together.")
    return faults


def _type_faults(options: JobOptions) -> list[str]:
    kinds = options.instance_types
    faults = [
        f"--instance-type {kind!r} must have the form {SMALLEST_GPU}."
        for kind in kinds
        if not _INSTANCE_TYPE.fullmatch(kind)
    ]
    if len(kinds) > MOST_TYPES:
        faults.append(f"--instance-type names {len(kinds)} machines, at most {MOST_TYPES} are legal.")
    if len(set(kinds)) < len(kinds):
        faults.append(f"--instance-type {options.instance_type} names a machine twice.")
    with_disk = [kind for kind in kinds if has_own_disk(kind)]
    if options.kms_key is not None and 0 < len(with_disk) < len(kinds):
        faults.append(
            f"--kms-key encrypts a volume, and of --instance-type {options.instance_type} {with_disk[0]} has a disk of"
            " its own in place of one: name machines of one kind."
        )
    return faults


def _flag(name: str) -> str:
    spelled = next((key for key, target in _FIELD_OF.items() if target == name), name)
    return flag(spelled)


def _region(environment: Mapping[str, str], profile: str | None) -> str | None:
    """The region of the environment, else of the profile in AWS's config file."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if environment.get(name):
            return environment[name]
    home = environment.get("HOME") or str(Path.home())
    path = Path(environment.get("AWS_CONFIG_FILE") or Path(home, ".aws", "config")).expanduser()
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return None  # boto3 will say what is wrong with the file when it reads the credentials
    section = "default" if profile in (None, "default") else f"profile {profile}"
    return parser.get(section, "region", fallback=None)
