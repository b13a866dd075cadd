"""Channels that name their pictures in text: ``.lst`` lists and augmented manifests."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainers.config import Config
from trainers.data.check.examine import NOTHING
from trainers.data.check.findings import CheckedSplit, Findings
from trainers.data.check.lists import check_lines, check_paths, listed_split
from trainers.data.check.pictures import check_labels
from trainers.data.check.rules import Finding
from trainers.data.readers import lists
from trainers.data.readers.layouts import Form
from trainers.data.readers.lists import ListRules
from trainers.data.readers.paths import leads_out
from trainers.sagemaker.aws.objects import Object, Objects
from trainers.sagemaker.preflight.data.facts import Channel, Facts, num_labels, some
from trainers.sagemaker.preflight.findings import finding, of_channel

_LONGEST_LIST_BYTES = 128 * 2**20
_MANIFEST_BYTES = 2**20


def check_list(
    channel: Channel,
    listed: list[Object],
    pictures: Channel,
    picture_facts: Facts,
    objects: Objects,
    config: Config,
) -> list[Finding]:
    """Findings of a ``*_lst`` channel; what it says of the pictures goes into their facts. Raises AwsError."""
    files = [o for o in listed if o.suffix == ".lst"]
    if len(files) != 1 or len(listed) != 1:
        return [
            finding("lst-count", f"{channel.name}: {len(files)} lists and {len(listed) - len(files)} other objects")
        ]
    file = files[0]
    if file.archive:
        return []
    if file.size > _LONGEST_LIST_BYTES:
        return [finding("data-unchecked", f"{channel.name}: {file.key} is too large to read here")]
    data = objects.read(channel.bucket, file.key) if file.size else b""
    uri, found, labels = channel.uri_of(file.key), Findings(), num_labels(config)
    rows, is_read = check_lines(uri, ListRules.of(data), lists.rows(io.BytesIO(data)), labels, found)
    if is_read:
        place = _Prefix(pictures, picture_facts.objects)
        there = check_paths(uri, rows, place, found)
        empty = [row.path for row in there if place.sizes[place.key(row.path)] == 0]
        found.add_all("picture-unreadable", uri, range(len(empty)), lambda at: f"{empty[at]}: no bytes")
        picture_facts.num_images = len(there) - len(empty)
        picture_facts.listed = frozenset(place.key(row.path) for row in rows)
        part = picture_facts.part = listed_split(uri, pictures.name, rows, NOTHING, labels, None)
        picture_facts.all_labels = True
        check_labels(part, config.num_classes, found)
    return of_channel(channel.name, found)


class _Prefix:
    """A channel's prefix as the place of a list's pictures."""

    def __init__(self, channel: Channel, objects: list[Object]) -> None:
        self._channel = channel
        self._folder = channel.prefix if channel.prefix.endswith("/") or not channel.prefix else channel.prefix + "/"
        self.sizes = {o.key: o.size for o in objects}
        self._by_lower = {key.lower(): key for key in self.sizes}

    def key(self, relative: str) -> str:
        return self._folder + relative.removeprefix("./")

    def path(self, relative: str) -> str:
        return self._channel.uri_of(self.key(relative))

    def has(self, relative: str) -> bool:
        return self.key(relative) in self.sizes

    def similar(self, relative: str) -> str | None:
        key = self._by_lower.get(self.key(relative).lower())
        return None if key is None else key[len(self._folder) :]

    def escapes(self, relative: str) -> str | None:
        return leads_out(relative)


def check_manifest(channel: Channel, objects: Objects, config: Config) -> tuple[list[Finding], Facts]:
    """Findings of an augmented manifest: attributes, framing and its first lines. Raises AwsError."""
    facts, findings = Facts(), []
    if len(channel.attributes) != 2:
        findings.append(
            finding(
                "manifest-attributes", f"{channel.name}: AttributeNames is {list(channel.attributes)}, two are needed"
            )
        )
    if channel.wrapper != "RecordIO":
        findings.append(finding("manifest-wrapper", f"{channel.name}: RecordWrapperType is {channel.wrapper}"))
    if channel.mode != "Pipe":
        findings.append(finding("manifest-mode", f"{channel.name}: a manifest in {channel.mode} mode"))
    listed = [o for o in objects.listing(channel.bucket, channel.prefix) if o.key == channel.prefix]
    if not listed:
        return [*findings, finding("channel-empty", f"{channel.name}: there is no manifest {channel.uri}")], facts
    size = listed[0].size
    data = objects.read(channel.bucket, channel.prefix, 0, _MANIFEST_BYTES) if size else b""
    lines = data.decode("utf-8", "replace").splitlines()
    if size > _MANIFEST_BYTES:
        lines = lines[:-1]  # cut off in the middle
    parsed = [_json(line) for line in lines if line.strip()]
    name = f"{channel.name}: {channel.prefix}"
    bad = [number for number, value in enumerate(parsed, start=1) if not isinstance(value, dict)]
    if bad or not parsed:
        return [
            *findings,
            finding("manifest-format", f"{name}: {'line ' + str(bad[0]) if bad else 'it'} is no JSON object"),
        ], facts
    lacking = [
        (number, attribute)
        for number, value in enumerate(parsed, start=1)
        for attribute in channel.attributes
        if attribute not in value
    ]
    if lacking:
        number, attribute = lacking[0]
        has = ", ".join(parsed[number - 1])
        findings.append(finding("manifest-attributes", f"{name}: line {number} has no {attribute!r}; it has {has}"))
    elif len(channel.attributes) == 2:
        source, label = channel.attributes
        not_s3 = [n for n, v in enumerate(parsed, start=1) if not str(v[source]).startswith("s3://")]
        if not_s3:
            findings.append(
                finding(
                    "manifest-attributes", f"{name}: line {not_s3[0]}: {source!r} is no picture in S3; it comes first"
                )
            )
        if not config.multi_label:
            facts.part, found = _labelled(channel, [value[label] for value in parsed]), Findings()
            wrong = np.flatnonzero(np.isnan(facts.part.labels))
            found.add_all("label-not-integral", channel.uri, wrong, lambda at: f"line {at + 1}: {parsed[at][label]!r}")
            check_labels(facts.part, config.num_classes, found)
            findings += of_channel(channel.name, found)
    if size <= _MANIFEST_BYTES:
        facts.num_images, facts.all_labels = len(parsed), True
    return findings, facts


def unlisted(given: Mapping[str, Channel], facts: Mapping[str, Facts]) -> list[Finding]:
    """Objects of listed pictures that none of the lists names; two lists may share one folder."""
    named = {
        (given[split].bucket, key)
        for split, learnt in facts.items()
        if learnt.listed is not None
        for key in learnt.listed
    }
    findings = []
    for split, learnt in facts.items():
        if learnt.listed is not None:
            others = [o.key for o in learnt.objects if (given[split].bucket, o.key) not in named]
            if others:
                what = f"{len(others):,} objects are in no list: {some(sorted(others))}"
                findings.append(finding("lst-unlisted", f"{split}: {what}"))
    return findings


def _labelled(channel: Channel, labels: list[Any]) -> CheckedSplit:
    return CheckedSplit(
        name=channel.name,
        path=channel.uri,
        form=Form.MANIFEST,
        looks=NOTHING,
        labels=np.array([_number(label) for label in labels], np.float64),
        place=lambda index: f"line {index + 1}",
        file_name=lambda _: "",
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
