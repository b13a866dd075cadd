"""The preflight of the request alone: the API's own limits, the rules between fields, the machine, the settings.

Enters: the request, the config. Leaves: findings. Nothing is asked over the network; patterns, lengths and
enumerations are those of the API model that boto3 carries (boto3 itself checks types only).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from trainers.config import Config
from trainers.data.check.rules import Finding, Severity
from trainers.sagemaker.aws import images
from trainers.sagemaker.builtin import limits as builtin
from trainers.sagemaker.cost import instances
from trainers.sagemaker.job.request import INIT_CHANNEL, types_of
from trainers.sagemaker.preflight.findings import finding

# An older boto3 does not know the field: then the launcher takes one machine after the other.
_OLD_BOTO = "InstancePreferences is no field"
_OUR_CODE = (
    "MXNet's wheel for CUDA 11.7 holds code for "
    + ", ".join(f"{major}.{minor}" for major, minor in instances.CODE_FOR)
    + " and no PTX"
)


def check(
    request: Mapping[str, Any], config: Config, *, region: str, is_builtin: bool, fallback: Sequence[str] = ()
) -> list[Finding]:
    """Every finding that needs no answer from AWS; ``region`` is the job's, ``fallback`` machines that come next."""
    machines = [*types_of(request), *fallback] or [""]
    return [
        *(finding("request-limit", words) for words in _walk(_model(), request, "") if _OLD_BOTO not in words),
        *_between(request),
        *(one for kind in machines for one in _machine(kind, request, config, is_builtin)),
        *_image(request, region, is_builtin),
        *_settings(request, config, is_builtin),
    ]


@cache
def _model() -> Any:
    import botocore.session

    service = botocore.session.get_session().get_service_model("sagemaker")
    return service.operation_model("CreateTrainingJob").input_shape


def _walk(shape: Any, value: Any, path: str) -> Iterator[str]:
    limits, kind = shape.metadata, shape.type_name
    here = path.lstrip(".")
    if kind == "structure":
        for name in shape.required_members:
            if value.get(name) is None:
                yield f"{f'{here}.{name}'.lstrip('.')} is missing"
        for name, inner in value.items():
            if name not in shape.members:
                yield f"{f'{here}.{name}'.lstrip('.')} is no field of the request"
            elif inner is not None:
                yield from _walk(shape.members[name], inner, f"{path}.{name}")
        return
    low, high = limits.get("min"), limits.get("max")
    measure = len(value) if kind in ("string", "list", "map") else value
    unit = {"string": " characters", "list": " items", "map": " items"}.get(kind, "")
    if kind in ("string", "list", "map", "integer", "long", "float", "double"):
        if high is not None and measure > high:
            yield (
                f"{here} has {measure}{unit}, at most {high} are legal"
                if unit
                else f"{here} is {measure}, at most {high}"
            )
        if low is not None and measure < low:
            yield (
                f"{here} has {measure}{unit}, at least {low} are needed"
                if unit
                else f"{here} is {measure}, at least {low}"
            )
    if kind == "string":
        enum = shape.enum
        if enum and value not in enum:
            yield f"{here} {value!r} is none that boto3's API model knows"
        elif "pattern" in limits and not _pattern(limits["pattern"]).fullmatch(value):
            yield f"{here} {value!r} has not the form {limits['pattern']}"
    elif kind == "list":
        for number, inner in enumerate(value):
            yield from _walk(shape.member, inner, f"{path}[{number}]")
    elif kind == "map":
        for key, inner in value.items():
            yield from _walk(shape.key, key, f"{path} name")
            yield from _walk(shape.value, inner, f"{path}[{key}]")


@cache
def _pattern(java: str) -> re.Pattern[str]:
    # Java's letters, separators and digits; \w has _ on top, which every pattern that uses these allows as well.
    return re.compile(java.replace(r"\p{L}", r"\w").replace(r"\p{Z}", " ").replace(r"\p{N}", r"\d"))


def _between(request: Mapping[str, Any]) -> Iterator[Finding]:
    """Rules between fields."""
    resources, limits = request.get("ResourceConfig", {}), request.get("StoppingCondition", {})
    runtime_s, wait_s = limits.get("MaxRuntimeInSeconds"), limits.get("MaxWaitTimeInSeconds")
    spot = request.get("EnableManagedSpotTraining", False)
    if runtime_s is None:
        yield finding("runtime-open", "MaxRuntimeInSeconds is not set")
    if spot and (wait_s is None or (runtime_s is not None and wait_s < runtime_s)):
        yield finding("spot-wait", f"MaxWaitTimeInSeconds is {wait_s}, MaxRuntimeInSeconds {runtime_s}")
    if spot and resources.get("KeepAlivePeriodInSeconds"):
        yield finding("spot-warm-pool", "spot capacity and KeepAlivePeriodInSeconds together")
    for kind in types_of(request):
        if resources.get("VolumeKmsKeyId") and instances.has_own_disk(kind):
            yield finding("volume-key", f"VolumeKmsKeyId with {kind}")
    if spot and resources.get("InstancePreferences"):
        yield finding("request-limit", "InstancePreferences exclude spot capacity")
    for tag in request.get("Tags", []):
        if tag.get("Key", "").lower().startswith("aws:"):
            yield finding("tag-reserved", f"tag {tag['Key']!r}")
    uri = request.get("Environment", {}).get("MLFLOW_TRACKING_URI", "")
    if uri and not uri.startswith("arn:"):
        parts = urlsplit(uri)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or host in ("localhost", "0.0.0.0", "::1") or host.startswith("127."):
            yield finding("tracking-uri-local", f"MLFLOW_TRACKING_URI {uri}")
    if request.get("VpcConfig"):
        yield finding("vpc-unchecked", "the job runs in your VPC")
    if resources.get("VolumeKmsKeyId") or request.get("OutputDataConfig", {}).get("KmsKeyId"):
        yield finding("kms-unchecked", "the job encrypts with a key of yours")


def _machine(kind: str, request: Mapping[str, Any], config: Config, is_builtin: bool) -> Iterator[Finding]:
    gpu, other = instances.gpu(kind), instances.other_accelerator(kind)
    image = images.registry(request.get("AlgorithmSpecification", {}).get("TrainingImage", ""))
    is_ours = image is not None and image.repository == images.OWN_REPOSITORY
    # What another image holds is its owner's to know.
    severity: Severity = "error" if is_ours else "warning"
    if instances.is_cpu(kind):
        code = "instance-cpu" if is_builtin else "instance-no-driver" if is_ours else "instance-slow"
        yield finding(code, f"{kind} has no GPU")
    elif is_builtin and instances.family(kind) not in instances.BUILTIN_FAMILIES:
        yield finding("instance-family", f"{kind} is not among the families that AWS lists")
    elif other is not None:
        yield finding("instance-cuda", f"{kind} has {other}: MXNet drives NVIDIA's GPUs alone", severity=severity)
    elif not is_builtin and gpu is not None and not gpu.runs_our_code:
        yield finding("instance-cuda", f"{kind}: {_gpu(gpu)}; {_OUR_CODE}", severity=severity)
    elif not is_builtin and gpu is not None and not gpu.is_tried:
        yield finding("instance-untried", f"{kind}: {_gpu(gpu)}; {_OUR_CODE}")
    elif not is_builtin and gpu is None:
        yield finding("instance-unknown", f"nothing is known of {kind}")
    if config.precision_dtype == "float16" and not is_builtin and instances.is_cpu(kind):
        yield finding("precision", "--precision-dtype float16 on a CPU", fix="Take float32 or bfloat16.")


def _gpu(gpu: instances.Gpu) -> str:
    return f"its {gpu.name} has compute capability {gpu.capability[0]}.{gpu.capability[1]}"


def _image(request: Mapping[str, Any], region: str, is_builtin: bool) -> Iterator[Finding]:
    image = request.get("AlgorithmSpecification", {}).get("TrainingImage", "")
    if is_builtin and not image.endswith(":1"):
        yield finding("image-old", f"{image or 'no image'} is not the stable tag")
    registry = images.registry(image)
    if registry is not None and registry.region != region:
        yield finding("image-region", f"{image} for a job in {region}")
    if registry is None and not is_builtin:
        yield finding("image-unchecked", f"{image or 'no image'} is in no registry of AWS", fix="Push it to ECR.")


def _settings(request: Mapping[str, Any], config: Config, is_builtin: bool) -> Iterator[Finding]:
    resources = request.get("ResourceConfig", {})
    machines = [known for kind in types_of(request) if (known := instances.find(kind)) is not None]
    if is_builtin:
        faults = builtin.faults(
            config,
            num_gpus=max((machine.num_gpus for machine in machines), default=None),
            num_instances=resources.get("InstanceCount", 1),
        )
        for fault in faults:
            yield finding(fault.code, fault.what)
        return
    if config.workers is not None:
        what = f"--workers {config.workers}: each machine of a job is a worker"
        yield finding("setting-foreign", what, fix=f"Give --instance-count {config.workers} instead.")
    if config.kv_store == "dist_async":
        what = "--kv-store dist_async: our trainer sums the gradients of several machines with dist_sync"
        yield finding("setting-foreign", what, fix="Leave it out, or take --on sagemaker-builtin.")
    if config.initial not in ("scratch", "imagenet") and not _has_channel(request, INIT_CHANNEL):
        yield finding("init-local", f"--init {config.initial}")


def _has_channel(request: Mapping[str, Any], name: str) -> bool:
    return any(channel.get("ChannelName") == name for channel in request.get("InputDataConfig", []))


def is_builtin(request: Mapping[str, Any]) -> bool:
    """Whether a request is for AWS's algorithm rather than our image."""
    spec = request.get("AlgorithmSpecification", {})
    return images.is_builtin(spec.get("TrainingImage", "")) or "image-classification" in spec.get("AlgorithmName", "")
