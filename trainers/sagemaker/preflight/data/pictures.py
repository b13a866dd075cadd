"""Channels of single pictures: every object by its name and size, a handful of them by their bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainers.config import Config
from trainers.data.check.examine import NOTHING, look_at_files
from trainers.data.check.findings import CheckedSplit, Findings
from trainers.data.check.pictures import check_looks
from trainers.data.check.rules import Finding
from trainers.data.readers.folder import PICTURE_SUFFIXES
from trainers.data.readers.layouts import Form
from trainers.sagemaker.aws.objects import Object, Objects
from trainers.sagemaker.preflight.data.facts import PICTURES, Channel, Facts, some
from trainers.sagemaker.preflight.findings import finding, of_channel

# A picture is read whole up to here; of a larger one the header alone.
WHOLE_PICTURE_BYTES = 2 * 2**20
HEADER_BYTES = 2**16
SAMPLED = 6  # pictures a channel


def check_names(channel: Channel, facts: Facts, *, is_builtin: bool) -> list[Finding]:
    """What names and sizes alone give away. Our own trainer leaves out what is no picture by its name."""
    pictures = read(channel, facts, is_builtin=is_builtin)
    empty = [o.key for o in pictures if o.size == 0] if facts.listed is None else []  # of a list's: said of the list
    others = [o.key for o in facts.objects if o.suffix not in PICTURES] if is_builtin else []
    found = Findings()
    found.add_all("picture-unreadable", channel.uri, range(len(empty)), lambda at: f"{empty[at]}: no bytes")
    findings = of_channel(channel.name, found)
    if others:
        findings.append(
            finding("picture-type", f"{channel.name}: {len(others):,} objects are named otherwise: {some(others)}")
        )
    return findings


def check_sample(
    channel: Channel, facts: Facts, objects: Objects, config: Config, *, is_builtin: bool
) -> list[Finding]:
    """The check of pictures over a few: the smallest, the largest and some between. Raises AwsError."""
    found = Findings()
    pictures = read(channel, facts, is_builtin=is_builtin)
    sample = choose([o for o in pictures if o.suffix in PICTURES and o.size and not o.archive])
    found.looked_at(channel.uri, len(sample))
    for is_whole in (True, False):
        keys = [o.key for o in sample if (o.size <= WHOLE_PICTURE_BYTES) == is_whole]
        source = _Read([objects.read(channel.bucket, key, 0, None if is_whole else HEADER_BYTES) for key in keys], keys)
        part = CheckedSplit(
            name=channel.name,
            path=channel.uri,
            form=Form.FOLDER,
            looks=look_at_files(source, deep=is_whole, hashes=False),
            labels=np.full(len(keys), np.nan),
            place=source.name,
            file_name=source.name,
        )
        check_looks(part, config.shape if config.image_shape is not None else None, config.resize, found)
    return of_channel(channel.name, found)


@dataclass(frozen=True)
class _Read:
    """Pictures that were read, with their keys."""

    pictures: list[bytes]
    keys: list[str]

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int) -> bytes:
        return self.pictures[index]

    def name(self, index: int) -> str:
        return self.keys[index]


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
    parts = [(o.key, o.key[start:].lstrip("/").partition("/")) for o in pictures]
    loose = [key for key, (_, slash, _) in parts if not slash]
    keys = [key for key, (_, slash, _) in parts if slash]
    facts.num_images, facts.all_labels = len(keys), True
    facts.part = CheckedSplit(
        name=channel.name,
        path=channel.uri,
        form=Form.FOLDER,
        looks=NOTHING,
        labels=np.array([classes.index(folder) for _, (folder, slash, _) in parts if slash], np.float64),
        place=keys.__getitem__,
        file_name=keys.__getitem__,
        class_names=tuple(classes),
    )
    findings = []
    if channel.name == "train" and not classes:
        findings.append(finding("folder-classes", f"{channel.name}: {channel.uri} has no folder of pictures"))
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
