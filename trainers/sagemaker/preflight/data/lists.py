"""Channels that name their pictures in text: ``.lst`` lists and augmented manifests."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from trainers.config import Config
from trainers.data.check.rules import Finding
from trainers.data.readers import lists
from trainers.data.readers.lists import ListRules, Row
from trainers.sagemaker.aws.objects import Object, Objects
from trainers.sagemaker.preflight.data.facts import Channel, Facts, label_fault, label_findings, some
from trainers.sagemaker.preflight.findings import finding

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
    data = objects.read(channel.bucket, file.key)
    name = f"{channel.name}: {file.key}"
    written = ListRules.of(data)
    if written.crlf or written.bom:
        fault = (
            "lines end as on Windows: each path ends in a carriage return"
            if written.crlf
            else ("a byte order mark before the first index")
        )
        return [finding("lst-format", f"{name}: {fault}")]
    num_labels = config.num_classes if config.multi_label and config.num_classes is not None else 1
    lines = list(lists.rows(io.BytesIO(data)))
    rows = [row for row in lines if isinstance(row, Row) and len(row.labels) == num_labels]
    if len(rows) < len(lines) or not lines:
        first = next((line for line in lines if not isinstance(line, Row) or len(line.labels) != num_labels), None)
        shown = "it is empty"
        if first is not None:
            seen = f"{len(first.labels)} labels" if isinstance(first, Row) else repr(first.text[:80])
            shown = f"line {first.line}: {seen}"
        bad = f"{len(lines) - len(rows):,} of {len(lines):,} lines are not index, {num_labels} label(s) and path"
        return [finding("lst-format", f"{name}: {bad}; {shown}")]
    findings = []
    repeated = [index for index, times in Counter(row.index for row in rows).items() if times > 1]
    if repeated:
        findings.append(finding("lst-index", f"{name}: {len(repeated):,} numbers come twice, such as {repeated[0]}"))
    if not config.multi_label:
        findings += _labels(name, rows, config, picture_facts)
    findings += _paths(name, rows, pictures, picture_facts)
    return findings


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
            labels = [(n, _number(v[label])) for n, v in enumerate(parsed, start=1)]
            faults = [(f"line {n}", f) for n, value in labels if (f := label_fault(value, config))]
            findings += label_findings("lst-label", name, faults, len(labels))
    if size <= _MANIFEST_BYTES:
        facts.num_images = len(parsed)
    return findings, facts


def _labels(name: str, rows: list[Row], config: Config, facts: Facts) -> list[Finding]:
    labels = [row.labels[0] for row in rows]
    faults = [(f"line {row.line}", fault) for row in rows if (fault := label_fault(row.labels[0], config))]
    facts.labels = frozenset(int(label) for label in labels if abs(label) < 2**31)
    facts.all_labels = True
    folders: dict[str, set[int]] = {}
    for row, label in zip(rows, labels, strict=True):
        folder = row.path.rpartition("/")[0].rpartition("/")[2]
        if folder and abs(label) < 2**31:
            folders.setdefault(folder, set()).add(int(label))
    facts.classes = {folder: frozenset(values) for folder, values in folders.items()}
    return label_findings("lst-label", name, faults, len(labels))


def _paths(name: str, rows: list[Row], pictures: Channel, facts: Facts) -> list[Finding]:
    """Listed pictures that are not there, and the other way round; what is there counts."""
    sizes = {o.key: o.size for o in facts.objects}
    folder = pictures.prefix if pictures.prefix.endswith("/") or not pictures.prefix else pictures.prefix + "/"
    wanted = [folder + row.path.removeprefix("./") for row in rows]
    missing = [path for path in wanted if path not in sizes]
    empty = [path for path in wanted if sizes.get(path) == 0]
    facts.num_images = len(wanted) - len(missing) - len(empty)
    facts.listed = frozenset(wanted)
    findings = []
    if missing:
        findings.append(
            finding("lst-path", f"{name}: {len(missing):,} of {len(wanted):,} pictures are not there: {some(missing)}")
        )
    if empty:
        findings.append(
            finding("picture-empty", f"{name}: {len(empty):,} listed pictures have no bytes: {some(empty)}")
        )
    return findings


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
