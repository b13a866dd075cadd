"""Channels of single pictures: every object by its name and size, a handful of them by their bytes."""

from __future__ import annotations

from trainers.config import Config
from trainers.sagemaker.findings import Finding, found
from trainers.sagemaker.lint import (
    HEADER_BYTES,
    PICTURES,
    SAMPLED,
    WHOLE_PICTURE_BYTES,
    Channel,
    Facts,
    picture_fault,
    picture_findings,
    some,
)
from trainers.sagemaker.objects import Object, Objects


def check_names(channel: Channel, facts: Facts) -> list[Finding]:
    """What names and sizes alone give away."""
    empty = [o.key for o in facts.objects if o.size == 0]
    others = [o.key for o in facts.objects if o.suffix not in PICTURES]
    findings = []
    if empty:
        findings.append(found("picture-empty", f"{channel.name}: {len(empty):,} objects have no bytes: {some(empty)}"))
    if others:
        findings.append(
            found("picture-type", f"{channel.name}: {len(others):,} objects are named otherwise: {some(others)}")
        )
    return findings


def check_sample(channel: Channel, facts: Facts, objects: Objects, config: Config) -> list[Finding]:
    """Faults of a few pictures: the smallest, the largest and some between. Raises AwsError."""
    faults = []
    sample = choose([o for o in facts.objects if o.suffix in PICTURES and o.size])
    for picture in sample:
        is_whole = picture.size <= WHOLE_PICTURE_BYTES
        data = objects.read(channel.bucket, picture.key, 0, picture.size if is_whole else HEADER_BYTES)
        fault = picture_fault(data, picture.key, config, is_whole=is_whole)
        if fault is not None:
            faults.append((fault[0], picture.key, fault[1]))
    return picture_findings(channel.name, faults, len(sample))


def check_folders(channel: Channel, facts: Facts, config: Config) -> list[Finding]:
    """One sub-folder a class, as our own trainer reads it; labels follow the folders' names in order."""
    start = len(channel.prefix)
    by_class: dict[str, int] = {}
    loose = []
    for picture in facts.objects:
        if picture.suffix not in PICTURES:
            continue
        folder, slash, _ = picture.key[start:].lstrip("/").partition("/")
        if slash:
            by_class[folder] = by_class.get(folder, 0) + 1
        else:
            loose.append(picture.key)
    names = sorted(by_class)
    facts.num_images = sum(by_class.values())
    facts.labels, facts.all_labels = frozenset(range(len(names))), True
    facts.classes = {name: frozenset((number,)) for number, name in enumerate(names)}
    findings = []
    if len(names) < 2:
        findings.append(found("folder-classes", f"{channel.name}: {channel.uri} has {len(names)} folders of pictures"))
    elif config.num_classes is not None and len(names) != config.num_classes:
        findings.append(
            found(
                "folder-classes",
                f"{channel.name}: {len(names)} folders ({some(names)}), --num-classes {config.num_classes}",
                mend="Leave --num-classes out; the data decides.",
            )
        )
    if loose:
        findings.append(
            found(
                "folder-classes",
                f"{channel.name}: {len(loose):,} pictures lie in no class's folder: {some(loose)}",
                severity="warning",
            )
        )
    return findings


def choose(pictures: list[Object], count: int = SAMPLED) -> list[Object]:
    """The smallest and the largest, which are the likeliest to be broken, and others spread over the names."""
    if len(pictures) <= count:
        return list(pictures)
    by_size = sorted(pictures, key=lambda o: (o.size, o.key))
    picked = {by_size[0].key: by_size[0], by_size[-1].key: by_size[-1]}
    rest = [o for o in pictures if o.key not in picked]
    step = len(rest) / (count - 2)
    for number in range(count - 2):
        chosen = rest[int((number + 0.5) * step)]
        picked[chosen.key] = chosen
    return list(picked.values())
