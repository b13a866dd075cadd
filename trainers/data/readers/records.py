"""RecordIO files of labelled images (``.rec``), as im2rec and ``trainers.data pack`` write them, to splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.data import dataset
from trainers.data.dataset import WHOLE, Split, SplitsRead
from trainers.data.formats.image_record import HEADER_BYTES, is_protobuf_record, unpack_image
from trainers.data.formats.recordio import Frames, RecordFile
from trainers.data.pictures.pictures import EncodedPictures
from trainers.errors import BadData

_ADVICE = {
    "magic": "it is no RecordIO file, or damaged",
    "truncated": "the file is cut off; fetch or pack it again",
    "trailing": "bytes were appended to it",
    "parts": "a split record is incomplete; pack it again",
}


class Records:
    """The pictures of a ``.rec``; read when asked for, never the whole file."""

    def __init__(self, file: RecordFile, frames: Frames) -> None:
        self.file, self.frames = file, frames

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, index: int) -> bytes:
        record = unpack_image(self.file.payload(self.frames, index))
        if record is None:
            raise BadData(f"{self.name(index)}: its header announces more than the record holds; pack the file again")
        return record.image

    def name(self, index: int) -> str:
        return f"{self.file.path}[{index}]"


def read_file(path: Path, *, salvage: bool = False) -> SplitsRead:
    """One ``.rec`` as a set without splits."""
    return read_files({WHOLE: path}, path, salvage=salvage)


def read_files(paths: Mapping[str, Path], source: Path, *, salvage: bool = False) -> SplitsRead:
    """One ``.rec`` for each split; labels mean the same in all of them (see ``classmap``).

    A damaged file raises BadData, or with ``salvage`` gives the whole records before the damage and a note.
    """
    notes: list[str] = []
    splits = {name: _read_split(path, notes if salvage else None) for name, path in paths.items()}
    some = next(iter(paths.values()))
    known = dataset.find(some.parent, some.parent.parent)
    labels = np.concatenate([split.labels for split in splits.values()])
    names = dataset.named(labels, known, str(source))
    return SplitsRead(name=source.stem, class_names=names, splits=splits, source=str(source), notes=tuple(notes))


def _read_split(path: Path, notes: list[str] | None) -> Split:
    file = RecordFile(path)
    frames = file.scan()
    if frames.fault is not None:
        fault = frames.fault
        if len(frames) and is_protobuf_record(file.payload(frames, 0)):
            raise BadData(_protobuf(path))
        found = (
            f"{path}: {_ADVICE[fault.kind]} (byte {fault.offset:,}, after {len(frames):,} whole records:"
            f" {fault.detail})"
        )
        if notes is None or len(frames) == 0:
            raise BadData(
                f"{found}. python -m trainers.data check {path} says more; pack --skip-bad saves what is whole"
            )
        notes.append(f"{found}: the {fault_bytes(file, frames):,} bytes from there on were left out")
    if len(frames) == 0:
        raise BadData(f"{path}: holds no record; the packing failed: pack it again")
    bare = _without_picture(file, frames)
    if len(bare) and notes is None:
        raise BadData(
            f"{path}: record {bare[0]} holds labels and no picture ({len(bare):,} such; InsightFace's packers keep"
            f" an index of persons in such records). Leave them out: python -m trainers.data pack {path} OUT --skip-bad"
        )
    if notes is not None and len(bare):
        notes.append(f"{path}: {len(bare):,} records without a picture were left out, the first is record {bare[0]}")
    labels = _labels(file, frames, bare)
    keys = [f"{path.name}[{index}]" for index in range(len(frames))]
    split = Split(EncodedPictures(Records(file, frames)), labels, keys)
    return split.take(np.setdiff1d(np.arange(len(frames)), bare)) if len(bare) else split


def _without_picture(file: RecordFile, frames: Frames) -> NDArray[np.int64]:
    """The records that end behind their list of labels; too short ones and protobuf records are not meant."""
    bare: list[int] = []
    for window in file.windows(frames):
        flags = window.headers()["flag"].astype(np.int64)
        lengths = frames.lengths[window.records.start : window.records.stop]
        bare += (window.records.start + np.flatnonzero(ends_behind_labels(flags, lengths))).tolist()
    return np.array(bare, np.int64)


def ends_behind_labels(flags: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) which records of ``lengths`` bytes hold ``flags`` labels and nothing behind them."""
    return np.asarray((flags > 0) & (lengths == HEADER_BYTES + 4 * flags), np.bool_)


def fault_bytes(file: RecordFile, frames: Frames) -> int:
    """Bytes from the first fault to the end of the file; 0 where there is none."""
    return file.size - frames.fault.offset if frames.fault else 0


def _labels(file: RecordFile, frames: Frames, bare: NDArray[np.int64]) -> NDArray[np.int64]:
    """The label of each record, 0 for those without a picture."""
    short = np.flatnonzero(frames.lengths <= HEADER_BYTES)
    if len(short):
        raise BadData(f"{file.path}: record {short[0]} has no room for a picture ({len(short)} such); pack it again")
    labels = np.zeros(len(frames), np.float32)
    without = set(bare.tolist())
    for window in file.windows(frames):
        headers = window.headers()
        labels[window.records] = headers["label"]
        for at in np.flatnonzero(headers["flag"] != 0):
            index = window.records.start + int(at)
            if index in without:
                labels[index] = 0
                continue
            labels[index] = _single_label(file, frames, index)
    return dataset.integral(labels, str(file.path))


def _single_label(file: RecordFile, frames: Frames, index: int) -> float:
    """The label of a record whose flag is not 0: legal is one label in a list of one."""
    payload = file.payload(frames, index)
    if is_protobuf_record(payload):
        raise BadData(_protobuf(file.path))
    record = unpack_image(payload)
    if record is None or record.flag != 1:
        count = "a broken header" if record is None else f"{record.flag} labels"
        raise BadData(
            f"{file.path}: record {index} has {count}; one label a picture is legal here (flag 0)."
            f" Write the list without --pack-label and pack it again: python -m trainers.data pack LIST OUT"
        )
    return record.labels[0]


def _protobuf(path: Path) -> str:
    return (
        f"{path}: RecordIO of protobuf records (application/x-recordio-protobuf), not of images; this job reads"
        " application/x-recordio: pack the pictures with python -m trainers.data pack SRC OUT --format rec"
    )
