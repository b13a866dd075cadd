"""A channel of one RecordIO file: its frames, labels and pictures, out of a few pieces of it.

Up to ``WHOLE_BYTES`` the file is read in one go and counted; of a larger one pieces are read at its head, at its end
and between, and the count is an estimate, or the index's where there is one beside it. A gigabyte is never downloaded.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from dataclasses import replace

from trainers.config import Config
from trainers.data.check.rules import Finding
from trainers.data.formats import record_pieces
from trainers.data.formats.image_record import ImageRecord, is_protobuf_record
from trainers.sagemaker.aws.objects import Object, Objects
from trainers.sagemaker.preflight.data.facts import (
    Channel,
    Facts,
    label_fault,
    label_findings,
    picture_fault,
    picture_findings,
    some,
)
from trainers.sagemaker.preflight.findings import finding

WHOLE_BYTES = 8 * 2**20
PIECE_BYTES = 2**20
NUM_PIECES = 6
_LONGEST_INDEX_BYTES = 64 * 2**20
_LONGEST_RECORD_BYTES = 32 * 2**20
_DECODED = 8  # pictures decoded of a file; of the others in the pieces the header is read


def check(channel: Channel, listed: list[Object], objects: Objects, config: Config) -> tuple[list[Finding], Facts]:
    """Findings and facts of a channel whose content type says RecordIO. Raises AwsError."""
    facts = Facts(objects=listed)
    files = [o for o in listed if o.suffix == ".rec"]
    strays = [o.key for o in listed if o.suffix != ".rec"]
    findings = []
    if len(files) != 1:
        seen = some([o.key for o in files]) if files else "none ends in .rec: " + some(strays)
        findings.append(finding("rec-count", f"{channel.name}: {len(files)} record files in {channel.uri} ({seen})"))
    if strays and files:
        findings.append(finding("rec-stray", f"{channel.name}: beside the record file lie {some(strays)}"))
    if len(files) != 1:
        return findings, facts
    file = files[0]
    if file.size < 32:
        return [*findings, finding("rec-empty", f"{channel.name}: {file.key} has {file.size} bytes")], facts
    if file.archive:
        return findings, facts
    index = next((o for o in listed if o.key == file.key.removesuffix(".rec") + ".idx"), None)
    more = _contents(channel, file, index, objects, config, facts)
    return [*findings, *more], facts


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
        findings += [finding for finding in found_here if finding.code != "rec-stray"]
        facts = replace(learnt, objects=listed) if len(files) == 1 else facts
    return findings, facts


def _contents(
    channel: Channel, file: Object, index: Object | None, objects: Objects, config: Config, facts: Facts
) -> list[Finding]:
    name = f"{channel.name}: {file.key}"
    try:
        seen, is_whole = _records(channel, file, objects)
    except record_pieces.NotRecords as error:
        return [finding("rec-format", f"{name}: {error}")]
    except _Truncated as error:
        return [finding("rec-truncated", f"{name}: {error}")]
    if not seen:
        return [finding("data-unchecked", f"{name}: no whole record fits into what was read")]
    if is_whole:
        facts.num_images, facts.all_labels = len(seen), True
        pictures = [(r.offset, r.image.image) for r in seen if r.image is not None]
        facts.packed = {hashlib.md5(data).hexdigest(): f"{file.key} at byte {at:,}" for at, data in pictures}
    else:
        sizes = [r.size for r in seen]
        facts.num_images = round(file.size / statistics.fmean(sizes))
        # Twice the standard error; pieces share neighbours, whose sizes are alike, so it is doubled once more.
        spread = statistics.stdev(sizes) / statistics.fmean(sizes) if len(sizes) > 1 else 1.0
        facts.error = facts.num_images * max(0.02, 4 * spread / math.sqrt(len(sizes)))
        if index is not None and index.size <= _LONGEST_INDEX_BYTES:
            lines = objects.read(channel.bucket, index.key).split(b"\n")
            facts.num_images, facts.error = sum(1 for line in lines if line.strip()), 0.0
    images = [(r.offset, r.image) for r in seen if r.image is not None]
    if len(images) < len(seen):
        return [_payload(name, [r for r in seen if r.image is None], len(seen))]
    findings = _labels(name, images, config, facts)
    step = max(1, len(images) // _DECODED)
    faults = []
    for number, (offset, image) in enumerate(images):
        place = f"the record at byte {offset:,}"
        fault = picture_fault(image.image, place, config, is_whole=number % step == 0)
        if fault is not None:
            faults.append((fault[0], place, fault[1]))
    return [*findings, *picture_findings(name, faults, len(seen))]


class _Truncated(ValueError):
    """The file ends inside a record."""


def _records(channel: Channel, file: Object, objects: Objects) -> tuple[list[record_pieces.Record], bool]:
    """The records of the file's pieces, and whether those are all. Raises NotRecords, _Truncated."""
    whole = file.size <= WHOLE_BYTES
    head = objects.read(channel.bucket, file.key, 0, file.size if whole else PIECE_BYTES)
    found_records, end = record_pieces.parse(head)
    if not found_records and not whole:  # one picture is larger than the piece
        first_bytes = min(record_pieces.length_at(head), _LONGEST_RECORD_BYTES)
        found_records, end = record_pieces.parse(objects.read(channel.bucket, file.key, 0, first_bytes))
    if whole:
        if end != file.size:
            raise _Truncated(f"its last {file.size - end:,} bytes are no whole record")
        return found_records, True
    stride = (file.size - PIECE_BYTES) // (NUM_PIECES - 1)
    for number in range(1, NUM_PIECES):
        start = (file.size - PIECE_BYTES if number == NUM_PIECES - 1 else number * stride) // 4 * 4
        piece = objects.read(
            channel.bucket, file.key, start, file.size - start if number == NUM_PIECES - 1 else PIECE_BYTES
        )
        at = record_pieces.first(piece, start)
        if at is None:
            if found_records and max(r.size for r in found_records) < PIECE_BYTES // 2:
                raise record_pieces.NotRecords(start)
            continue  # one picture is larger than the piece
        some_records, end = record_pieces.parse(piece[at - start :], at)
        found_records += some_records
        if number == NUM_PIECES - 1 and end != file.size:
            raise _Truncated(f"its last {file.size - end:,} bytes are no whole record")
    return found_records, False


def _payload(name: str, wrong: list[record_pieces.Record], looked_at: int) -> Finding:
    """Records that hold no picture: SageMaker's protobuf begins with a field's tag."""
    protobuf = all(is_protobuf_record(r.payload) for r in wrong)
    return finding(
        "rec-protobuf" if protobuf else "rec-payload",
        f"{name}: {len(wrong)} of {looked_at} records looked at hold no JPEG or PNG, the first at byte"
        f" {wrong[0].offset:,} begins with {wrong[0].payload[:8].hex(' ')}",
    )


def _labels(name: str, images: list[tuple[int, ImageRecord]], config: Config, facts: Facts) -> list[Finding]:
    wanted = config.num_classes if config.multi_label and config.num_classes is not None else 0
    packed = [(offset, image) for offset, image in images if image.flag != wanted]
    if packed:
        offset, image = packed[0]
        expected = f"{wanted} labels" if wanted else "one label"
        return [
            finding(
                "rec-labels",
                f"{name}: {len(packed)} of {len(images)} records looked at carry {len(image.labels)} packed labels,"
                f" the first at byte {offset:,}; {expected} are expected",
                fix="" if not wanted else "Pack as many labels a picture as there are classes (--pack-label).",
            )
        ]
    if wanted:
        return []
    labels = [(offset, image.labels[0]) for offset, image in images]
    faults = [(f"byte {at:,}", fault) for at, label in labels if (fault := label_fault(label, config))]
    facts.labels = frozenset(int(label) for _, label in labels if label == label and abs(label) < 2**31)
    return label_findings("rec-label", name, faults, len(labels))
