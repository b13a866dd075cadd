"""What SageMaker refuses at once: shapes and limits from the public API model, and the rules between the fields.

botocore's copy of the model carries every pattern, length and enumeration; botocore itself checks only types.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import botocore.session

GPU_FAMILIES = ("p2", "p3", "p3dn", "g4dn", "g5")  # what the built-in's page lists for training
BUILTIN = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/image-classification:")


class Refused(Exception):
    """An error answer: ``code`` as AWS spells it, HTTP ``status``."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


def invalid(message: str) -> Refused:
    return Refused("ValidationException", message)


@cache
def model() -> Any:
    """SageMaker's API model as botocore ships it."""
    return botocore.session.get_session().get_service_model("sagemaker")


def faults_of(operation: str, request: dict[str, Any], api: Any = None) -> list[str]:
    """All that the API's model finds wrong with a request, in AWS's words; what it does not know, too."""
    shape = (api or model()).operation_model(operation).input_shape
    unknown = [f"Unknown parameter '{name}'" for name in request if name not in shape.members]
    return [*_faults(shape, request, ""), *(unknown if api else ())]


def check_shape(operation: str, request: dict[str, Any]) -> None:
    """Raise ValidationException with all faults, in AWS's words."""
    check_members(model().operation_model(operation).input_shape, request)


def check_members(shape: Any, request: dict[str, Any]) -> None:
    """The same against a shape of any service's model."""
    faults = list(_faults(shape, request, ""))
    if faults:
        count = f"{len(faults)} validation error{'s' if len(faults) > 1 else ''} detected"
        raise invalid(f"{count}: {'; '.join(faults)}")


def _faults(shape: Any, value: Any, path: str) -> Any:
    limits, kind = shape.metadata, shape.type_name
    at = f"at '{path}' failed to satisfy constraint:"
    low, high = limits.get("min"), limits.get("max")
    if kind == "structure":
        for name in shape.required_members:
            if value.get(name) is None:
                yield f"Value null at '{_join(path, name)}' failed to satisfy constraint: Member must not be null"
        for name, inner in value.items():
            if name in shape.members and inner is not None:
                yield from _faults(shape.members[name], inner, _join(path, name))
    elif kind in ("list", "map", "string"):
        if high is not None and len(value) > high:
            yield f"Value '{value}' {at} Member must have length less than or equal to {high}"
        if low is not None and len(value) < low:
            yield f"Value '{value}' {at} Member must have length greater than or equal to {low}"
        if kind == "list":
            for number, inner in enumerate(value, start=1):
                yield from _faults(shape.member, inner, f"{path}.{number}.member")
        elif kind == "map":
            for key, inner in value.items():
                yield from _faults(shape.key, key, f"{path}.key")
                yield from _faults(shape.value, inner, f"{path}.{key}.member")
        elif shape.enum and value not in shape.enum:
            yield f"Value '{value}' {at} Member must satisfy enum value set: [{', '.join(shape.enum)}]"
        elif "pattern" in limits and not re.fullmatch(_python(limits["pattern"]), value, re.DOTALL):
            yield f"Value '{value}' {at} Member must satisfy regular expression pattern: {limits['pattern']}"
    elif kind in ("integer", "long", "float", "double"):
        if high is not None and value > high:
            yield f"Value '{value}' {at} Member must have value less than or equal to {high}"
        if low is not None and value < low:
            yield f"Value '{value}' {at} Member must have value greater than or equal to {low}"


def _join(path: str, name: str) -> str:
    name = name[0].lower() + name[1:]
    return f"{path}.{name}" if path else name


def _python(pattern: str) -> str:
    """The model's patterns are Java's; Python knows no ``\\p``."""
    for java, python in (("\\p{L}\\p{Z}\\p{N}_", "\\w\\s"), ("\\p{Alnum}", "a-zA-Z0-9")):
        pattern = pattern.replace(java, python)
    return pattern


def has_own_disk(instance_type: str) -> bool:
    """Whether the machine brings an NVMe disk, so that no EBS volume is made."""
    family = instance_type.split(".")[1]
    return "d" in family or family.startswith(("g5", "g6", "p5", "trn1"))


def types_of(resources: dict[str, Any]) -> list[str]:
    """The machines that a request names."""
    listed = [one["InstanceType"] for one in resources.get("InstancePreferences", [])]
    return listed or [kind for kind in (resources.get("InstanceType"),) if kind]


def check_preferences(request: dict[str, Any]) -> None:
    """InstancePreferences, as the API's own documentation has it."""
    resources = request.get("ResourceConfig", {})
    listed = resources.get("InstancePreferences")
    if listed is None:
        return
    for other in ("InstanceType", "InstanceGroups", "InstancePlacementConfig"):
        if resources.get(other):
            raise invalid(f"InstancePreferences and {other} are mutually exclusive.")
    if request.get("EnableManagedSpotTraining"):
        raise invalid("InstancePreferences is not supported with EnableManagedSpotTraining.")
    if len({one["InstanceType"] for one in listed}) < len(listed):
        raise invalid("An instance type can appear only once in InstancePreferences.")
    counted = sum("InstanceCount" in one for one in listed)
    if counted not in ((0,) if "InstanceCount" in resources else (len(listed),)):
        raise invalid("Set InstanceCount on every instance preference, or in ResourceConfig and on none of them.")


def check_create(request: dict[str, Any]) -> None:
    """The rules between the fields of CreateTrainingJob."""
    stopping, resources = request.get("StoppingCondition", {}), request.get("ResourceConfig", {})
    algorithm = request.get("AlgorithmSpecification", {})
    instance, image = resources.get("InstanceType"), algorithm.get("TrainingImage")
    if not algorithm or bool(image) == bool(algorithm.get("AlgorithmName")):
        raise invalid("You must specify either an algorithm name or a training image to create a training job.")
    if instance is None and not resources.get("InstanceGroups") and not resources.get("InstancePreferences"):
        raise invalid("InstanceType is a required parameter in ResourceConfig.")
    check_preferences(request)
    runtime, wait = stopping.get("MaxRuntimeInSeconds", 86_400), stopping.get("MaxWaitTimeInSeconds")
    if runtime > 28 * 86_400:
        raise invalid("MaxRuntimeInSeconds is larger than the limit of 2419200 seconds.")
    spot = request.get("EnableManagedSpotTraining", False)
    if spot and wait is None:
        raise invalid("MaxWaitTimeInSeconds is required when EnableManagedSpotTraining is true.")
    if wait is not None and not spot:
        raise invalid("MaxWaitTimeInSeconds can be used only with EnableManagedSpotTraining.")
    if wait is not None and wait < runtime:
        raise invalid("MaxWaitTimeInSeconds must be greater than or equal to MaxRuntimeInSeconds.")
    if spot and resources.get("KeepAlivePeriodInSeconds"):
        raise invalid("KeepAlivePeriodInSeconds is not supported with managed spot training.")
    for instance in types_of(resources) if image and BUILTIN.match(image) else ():
        if instance.split(".")[1] not in GPU_FAMILIES:
            raise invalid(
                f"Instance type {instance} is not supported by algorithm image-classification; only GPU instances are"
                " supported."
            )
        if not request.get("InputDataConfig"):
            raise invalid("InputDataConfig is required for algorithm image-classification.")
    for kind in types_of(resources):
        if resources.get("VolumeKmsKeyId") and has_own_disk(kind):
            raise invalid(f"VolumeKmsKeyId is not supported for instance type {kind}.")
        if not resources.get("VolumeSizeInGB") and not has_own_disk(kind):
            raise invalid(f"VolumeSizeInGB is required for instance type {kind}.")
    names = [channel["ChannelName"] for channel in request.get("InputDataConfig", [])]
    if len(set(names)) != len(names):
        raise invalid("Channel names must be unique.")
    for channel in request.get("InputDataConfig", []):
        mode = channel.get("InputMode", algorithm.get("TrainingInputMode"))
        if mode == "File" and channel.get("RecordWrapperType", "None") != "None":
            raise invalid(f"RecordWrapperType is not supported for File mode (channel {channel['ChannelName']}).")
