"""``check`` of one ``.rec``: frames, headers, ids, and the index and list that lie beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.data import dataset
from trainers.data.check.examine import NO_PICTURE, NOTHING, PictureFacts, look_at_records
from trainers.data.check.findings import CheckedSplit, Findings
from trainers.data.formats.image_record import HEADER_BYTES, is_protobuf_record, unpack_image
from trainers.data.formats.recordio import Frames, RecordFile, Records
from trainers.data.pictures.pictures import READERS
from trainers.data.readers import lists
from trainers.data.readers.layouts import Form
from trainers.data.readers.records import ends_behind_labels
from trainers.errors import BadData

_FAULTS = {"magic": "rec-magic", "truncated": "rec-truncated", "trailing": "rec-trailing", "parts": "rec-parts"}


def check_records(
    path: Path, name: str, findings: Findings, *, num_labels: int, fast: bool, threads: int
) -> CheckedSplit:
    """Look at every record; what cannot be read is in ``findings``, what can in the part."""
    file = RecordFile(path)
    if path.suffix != ".rec":
        findings.add("rec-extension", path)
    frames = file.scan()
    part = check_source(file, frames, path, name, findings, num_labels=num_labels, fast=fast, threads=threads)
    if len(part):
        part.class_names = dataset.find(path.parent, path.parent.parent)
        _check_index(path, frames, findings)
    return part


def check_source(
    file: Records,
    frames: Frames,
    path: Path | str,
    name: str,
    findings: Findings,
    *,
    num_labels: int,
    fast: bool = False,
    threads: int = READERS,
    place: Callable[[int], str] = "record {}".format,
) -> CheckedSplit:
    """The records of ``path``, all of them or some; ``place(i)`` says where record i is."""
    protobuf = len(frames) > 0 and is_protobuf_record(file.payload(frames, 0))
    if protobuf:
        findings.add("rec-protobuf", path)
    elif not _report_frames(path, file, frames, findings):
        looks = look_at_records(file, frames, deep=not fast, hashes=not fast, threads=threads)
        labels = _check_headers(path, file, frames, looks, num_labels, place, findings)
        return CheckedSplit(
            name=name,
            path=path,
            form=Form.RECORDS,
            looks=looks,
            labels=labels,
            place=place,
            file_name=lambda _: "",
        )
    kind = "RecordIO of protobuf records" if protobuf else "not RecordIO" if file.size else "an empty file"
    return CheckedSplit(
        name=name,
        path=path,
        form=Form.RECORDS,
        looks=NOTHING,
        labels=np.zeros(0),
        place=place,
        file_name=lambda _: "",
        instead=kind,
    )


def _report_frames(path: Path | str, file: Records, frames: Frames, findings: Findings) -> bool:
    """Report what is wrong with the framing; True where not one record can be read."""
    if file.size == 0 or (len(frames) == 0 and frames.fault is None):
        findings.add("rec-empty", path, f"{file.size} bytes")
    elif frames.fault is not None:
        fault = frames.fault
        code = "rec-not-recordio" if fault.offset == 0 and fault.kind == "magic" else _FAULTS[fault.kind]
        if fault.kind == "magic" and fault.offset > 0 and not _resumes(file, fault.offset):
            code = "rec-trailing"
        left = f"{file.size - fault.offset:,} bytes from there to the end"
        findings.add(code, path, f"byte {fault.offset:,}, after {len(frames):,} whole records: {fault.detail}; {left}")
    return len(frames) == 0


def _resumes(file: Records, offset: int) -> bool:
    """Whether a frame begins again within a MB after the damage."""
    data = file.at(offset, 1 << 20)
    return b"\x0a\x23\xd7\xce" in data


def _check_headers(
    path: Path | str,
    file: Records,
    frames: Frames,
    looks: PictureFacts,
    num_labels: int,
    place: Callable[[int], str],
    findings: Findings,
) -> NDArray[np.float64]:
    """The labels; NaN where there is none, or several."""
    assert looks.records is not None
    flags, labels = looks.records["flag"], looks.records["label"].astype(np.float64)
    short = np.flatnonzero(frames.lengths <= HEADER_BYTES)
    findings.add_all("rec-header", path, short, lambda index: f"{place(index)}: {frames.lengths[index]} bytes")
    labels[short] = np.nan
    for index in short:
        looks.faults.pop(int(index), None)  # one finding is enough
    bare = np.setdiff1d(np.flatnonzero(ends_behind_labels(flags.astype(np.int64), frames.lengths)), short)
    findings.add_all(
        "rec-no-picture", path, bare, lambda index: f"{place(index)}: {flags[index]} labels and no picture"
    )
    looks.faults.update(dict.fromkeys(bare.tolist(), NO_PICTURE))
    most = (
        int(np.bincount(np.minimum(np.delete(flags, np.union1d(short, bare)), 1000)).argmax())
        if len(flags) > len(short) + len(bare)
        else 0
    )
    wanted = 0 if num_labels == 1 else num_labels or most
    other = np.setdiff1d(np.flatnonzero(flags != wanted), np.union1d(short, bare))
    findings.add_all("rec-multi-label", path, other, lambda index: f"{place(index)}: flag {flags[index]}, not {wanted}")
    if wanted:
        labels[:] = np.nan
    else:
        for index in other:
            record = unpack_image(file.payload(frames, int(index)))
            labels[index] = record.labels[0] if record is not None and record.flag == 1 else np.nan
        labels[bare] = np.nan
        nothing = np.setdiff1d(np.flatnonzero(np.isnan(looks.records["label"]) & (flags == 0)), short)
        findings.add_all("label-not-integral", path, nothing, lambda index: f"{place(index)}: label nan")
    ids, counts = np.unique(np.delete(looks.records["id"], short), return_counts=True)
    again = np.flatnonzero(counts > 1)
    findings.add_all("rec-duplicate-id", path, again, lambda at: f"id {ids[at]} in {counts[at]} records")
    return labels


def _check_index(path: Path, frames: Frames, findings: Findings) -> None:
    """Compare with the .idx and the .lst beside, or in ``index/`` where ``pack`` puts them."""
    for folder in (path.parent, path.parent.parent / "index"):
        index, listed = folder / f"{path.stem}.idx", folder / f"{path.stem}.lst"
        if index.is_file():
            fault = _index_fault(index, frames)
            if fault:
                findings.add("idx-mismatch", index, fault)
        if listed.is_file():
            lines = sum(1 for _ in lists.parse(listed)[1])
            if lines > len(frames):
                findings.add("rec-fewer-than-list", path, f"{len(frames):,} records, {lines:,} lines in {listed}")


def _index_fault(path: Path, frames: Frames) -> str | None:
    starts = set(frames.offsets.tolist())
    seen = 0
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                fields = line.split("\t")
                if len(fields) != 2 or not fields[1].strip().isdecimal() or int(fields[1]) not in starts:
                    return f"line {number}: {line.strip()[:60]!r} points at no record"
                seen += 1
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    return None if seen == len(frames) else f"{seen:,} lines, but {len(frames):,} records"
