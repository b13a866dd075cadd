"""Channels of single pictures: every object by its name and size, a handful of them by their bytes."""

from __future__ import annotations

from trainers.config import Config
from trainers.data.check.rules import Finding
from trainers.data.readers.folder import PICTURE_SUFFIXES
from trainers.sagemaker.aws.objects import Object, Objects
from trainers.sagemaker.preflight.data.facts import (
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
from trainers.sagemaker.preflight.findings import finding


def check_names(channel: Channel, facts: Facts, *, is_builtin: bool) -> list[Finding]:
    """What names and sizes alone give away. Our own trainer leaves out what is no picture by its name."""
    pictures = read(channel, facts, is_builtin=is_builtin)
    empty = [o.key for o in pictures if o.size == 0] if facts.listed is None else []  # of a list's: said of the list
    others = [o.key for o in facts.objects if o.suffix not in PICTURES] if is_builtin else []
    findings = []
    if empty:
        findings.append(
            finding("picture-empty", f"{channel.name}: {len(empty):,} objects have no bytes: {some(empty)}")
        )
    if others:
        findings.append(
            finding("picture-type", f"{channel.name}: {len(others):,} objects are named otherwise: {some(others)}")
        )
    return findings


def check_sample(
    channel: Channel, facts: Facts, objects: Objects, config: Config, *, is_builtin: bool
) -> list[Finding]:
    """Faults of a few pictures: the smallest, the largest and some between. Raises AwsError."""
    faults = []
    pictures = read(channel, facts, is_builtin=is_builtin)
    sample = choose([o for o in pictures if o.suffix in PICTURES and o.size and not o.archive])
    for picture in sample:
        is_whole = picture.size <= WHOLE_PICTURE_BYTES
        data = objects.read(channel.bucket, picture.key, 0, picture.size if is_whole else HEADER_BYTES)
        fault = picture_fault(data, picture.key, config, is_whole=is_whole)
        if fault is not None:
            faults.append((fault[0], picture.key, fault[1]))
    return picture_findings(channel.name, faults, len(sample))


def read(channel: Channel, facts: Facts, *, is_builtin: bool) -> list[Object]:
    """The pictures that the job reads: those of the list, or all; our own trainer leaves out hidden ones."""
    if facts.listed is not None:
        return [o for o in facts.objects if o.key in facts.listed]
    if is_builtin:
        return [o for o in facts.objects if o.suffix in PICTURES]
    start = len(channel.prefix)
    named = [o for o in facts.objects if o.suffix in PICTURE_SUFFIXES]
    return [o for o in named if not any(part.startswith(".") for part in o.key[start:].split("/"))]


def folders(channel: Channel, facts: Facts) -> set[str]:
    """The sub-folders of a channel that hold pictures."""
    start = len(channel.prefix)
    below = (o.key[start:].lstrip("/").partition("/") for o in read(channel, facts, is_builtin=False))
    return {folder for folder, slash, _ in below if slash}


def check_folders(channel: Channel, facts: Facts, classes: list[str], config: Config) -> list[Finding]:
    """One sub-folder a class, as our own trainer reads it; labels follow the names in ``classes``, those of all splits.

    What is wrong with the classes is said of the training pictures.
    """
    start = len(channel.prefix)
    pictures = read(channel, facts, is_builtin=False)
    loose = [o.key for o in pictures if "/" not in o.key[start:].lstrip("/")]
    facts.num_images = len(pictures) - len(loose)
    facts.classes = {name: frozenset((classes.index(name),)) for name in sorted(folders(channel, facts))}
    facts.labels, facts.all_labels = frozenset().union(*facts.classes.values()), True
    findings = []
    if channel.name == "train" and len(classes) < 2:
        findings.append(
            finding("folder-classes", f"{channel.name}: {channel.uri} has {len(classes)} folders of pictures")
        )
    elif channel.name == "train" and config.num_classes is not None and len(classes) != config.num_classes:
        findings.append(
            finding(
                "folder-classes",
                f"{channel.name}: {len(classes)} folders ({some(classes)}), --num-classes {config.num_classes}",
                fix="Leave --num-classes out; the data decides.",
            )
        )
    if loose:
        findings.append(
            finding(
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
