"""A channel of one RecordIO file: its frames, labels and pictures, out of a few pieces of it.

Up to ``WHOLE_BYTES`` the file is read in one go and counted; of a larger one pieces are read at its head, at its end
and between, and the count is an estimate, or the index's where there is one beside it. A gigabyte is never downloaded.
What was read is checked as a file on this machine is.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import Any

from trainers.config import Config
from trainers.data.check.findings import Findings
from trainers.data.check.pictures import check_labels, check_looks
from trainers.data.check.records import check_source
from trainers.data.check.rules import Finding
from trainers.data.formats import record_pieces
from trainers.data.formats.recordio import RecordBytes
from trainers.errors import BadData
from trainers.sagemaker.aws.objects import Object, Objects
from trainers.sagemaker.preflight.data.facts import Channel, Facts, num_labels
from trainers.sagemaker.preflight.findings import finding, of_channel

WHOLE_BYTES = 8 * 2**20
PIECE_BYTES = 2**20
NUM_PIECES = 6
_LONGEST_INDEX_BYTES = 64 * 2**20
_LONGEST_RECORD_BYTES = 32 * 2**20


def check(channel: Channel, listed: list[Object], objects: Objects, config: Config) -> tuple[list[Finding], Facts]:
    """Findings and facts of a channel whose content type says RecordIO. Raises AwsError."""
    facts, found = Facts(objects=listed), Findings()
    files = [o for o in listed if o.suffix == ".rec"]
    strays = [o.key for o in listed if o.suffix != ".rec"]
    if not files:
        found.add_all("rec-extension", channel.uri, range(len(strays)), strays.__getitem__)
    elif len(files) > 1:
        found.add_all("channel-several-rec", channel.uri, range(len(files)), lambda at: files[at].key)
    if strays and files:
        found.add_all("channel-stray-file", channel.uri, range(len(strays)), strays.__getitem__)
    if len(files) == 1 and not files[0].archive:
        index = next((o for o in listed if o.key == files[0].key.removesuffix(".rec") + ".idx"), None)
        try:
            _contents(channel, files[0], index, objects, config, facts, found)
        except BadData as error:
            return [*of_channel(channel.name, found), finding("data-unchecked", f"{channel.name}: {error}")], facts
    return of_channel(channel.name, found), facts


def check_own(
    channel: Channel, listed: list[Object], objects: Objects, config: Config, *, several: bool
) -> tuple[list[Finding], Facts]:
    """The same for our own trainer, which uses the files beside a record file. ``several``: a file for each split."""
    facts = Facts(objects=listed)
    files = [o for o in listed if o.suffix == ".rec"]
    if not several and len(files) != 1:
        return check(channel, files, objects, config)
    findings: list[Finding] = []
    for file in files:
        found_here, learnt = check(channel, [file, *(o for o in listed if o.suffix == ".idx")], objects, config)
        findings += [finding for finding in found_here if finding.code != "channel-stray-file"]
        facts = replace(learnt, objects=listed) if len(files) == 1 else facts
    return findings, facts


def _contents(
    channel: Channel,
    file: Object,
    index: Object | None,
    objects: Objects,
    config: Config,
    facts: Facts,
    found: Findings,
) -> None:
    """The check of records, over the whole file or over the whole records in pieces of it."""
    uri = channel.uri_of(file.key)
    given: dict[str, Any] = {"num_labels": num_labels(config)}
    if file.size <= WHOLE_BYTES:
        source = RecordBytes(objects.read(channel.bucket, file.key, 0, file.size) if file.size else b"")
        frames = source.scan()
        if frames.fault is None:
            facts.num_images, facts.all_labels = len(frames), True
    else:
        pieces = _pieces(channel, file, objects, found)
        if pieces is None:
            return
        seen, data = pieces
        source, frames = RecordBytes(data), RecordBytes(data).scan()
        given["place"] = lambda at: f"the record at byte {seen[at].offset:,}"
        found.looked_at(uri, len(seen))
        sizes = [record.size for record in seen]
        facts.num_images = round(file.size / statistics.fmean(sizes))
        # Twice the standard error; pieces share neighbours, whose sizes are alike, so it is doubled once more.
        spread = statistics.stdev(sizes) / statistics.fmean(sizes) if len(sizes) > 1 else 1.0
        facts.error = facts.num_images * max(0.02, 4 * spread / math.sqrt(len(sizes)))
        if index is not None and index.size <= _LONGEST_INDEX_BYTES:
            lines = objects.read(channel.bucket, index.key).split(b"\n")
            facts.num_images, facts.error = sum(1 for line in lines if line.strip()), 0.0
    part = facts.part = check_source(source, frames, uri, channel.name, found, **given)
    if len(part):
        check_looks(part, config.shape if config.image_shape is not None else None, config.resize, found)
        check_labels(part, config.num_classes, found)
    if facts.all_labels and part.looks.digests is not None:
        digests = enumerate(part.looks.hex_digests())
        facts.packed = {digest: f"{file.key}, {part.place(at)}" for at, digest in digests}


def _pieces(
    channel: Channel, file: Object, objects: Objects, found: Findings
) -> tuple[list[record_pieces.Record], bytes] | None:
    """The whole records in pieces of a file, and their bytes in a row; None where one is damaged, which is found."""
    uri = channel.uri_of(file.key)
    try:
        head = objects.read(channel.bucket, file.key, 0, PIECE_BYTES)
        records, end = record_pieces.parse(head)
        if not records:  # one picture is larger than the piece
            head = objects.read(channel.bucket, file.key, 0, min(record_pieces.length_at(head), _LONGEST_RECORD_BYTES))
            records, end = record_pieces.parse(head)
        data = [head[:end]]
        stride = (file.size - PIECE_BYTES) // (NUM_PIECES - 1)
        for number in range(1, NUM_PIECES):
            is_last = number == NUM_PIECES - 1
            start = (file.size - PIECE_BYTES if is_last else number * stride) // 4 * 4
            piece = objects.read(channel.bucket, file.key, start, file.size - start if is_last else PIECE_BYTES)
            at = record_pieces.first(piece, start)
            if at is None:
                if records and max(record.size for record in records) < PIECE_BYTES // 2:
                    raise record_pieces.NotRecords(start)
                continue  # one picture is larger than the piece
            more, end = record_pieces.parse(piece[at - start :], at)
            records += more
            data.append(piece[at - start : end - start])
            if is_last and end != file.size:
                found.add("rec-truncated", uri, f"byte {end:,}: the last {file.size - end:,} bytes are no whole record")
                return None
    except record_pieces.NotRecords as error:
        found.add("rec-magic" if error.offset else "rec-not-recordio", uri, str(error))
        return None
    if not records:
        raise BadData(f"{uri}: no whole record fits into what was read")
    return records, b"".join(data)
