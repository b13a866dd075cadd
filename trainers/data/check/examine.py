"""Look at every picture of a source once: header, bytes, content hash, and whether it can be decoded."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trainers.data.check import near
from trainers.data.formats.headers import FORMATS, HEAD, Heads, as_row, probe_many
from trainers.data.formats.image_record import HEADER_BYTES
from trainers.data.formats.recordio import Frames, Records, Window
from trainers.data.pictures import codec
from trainers.data.pictures.pictures import READERS, Encoded
from trainers.data.pictures.threads import in_order
from trainers.errors import BadData

_DIGEST_BYTES = 16
_AHEAD = 4
_BATCH, _BATCH_BYTES = 256, 1 << 22


@dataclass(kw_only=True)
class PictureFacts:
    """N pictures. ``digests`` (N,) raw 16-byte hashes, or None where they were not asked for; ``faults`` why a picture
    cannot be used, by index; ``records`` (N,) their headers (flag, label, id, id2) where they come from RecordIO;
    ``thumbnails`` what they look like, where they were decoded."""

    heads: Heads
    sizes: NDArray[np.int64]
    digests: NDArray[np.void] | None
    faults: dict[int, str] = field(default_factory=dict)
    records: NDArray[np.void] | None = None
    thumbnails: near.Thumbnails | None = None

    def __len__(self) -> int:
        return len(self.heads)

    def hex_digests(self) -> list[str]:
        """The content hashes as ``digest.of_bytes`` writes them."""
        assert self.digests is not None
        text = self.digests.tobytes().hex()
        return [text[at : at + 2 * _DIGEST_BYTES] for at in range(0, len(text), 2 * _DIGEST_BYTES)]


NO_PICTURE = "no picture behind its labels"  # the fault of a record that has a finding of its own
NOTHING = PictureFacts(heads=np.zeros(0, HEAD), sizes=np.zeros(0, np.int64), digests=None)


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """Pictures at bytes ``starts`` to ``ends`` of ``data``; ``first`` is the index of the first one."""

    first: int
    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    faults: dict[int, str]
    records: NDArray[np.void] | None = None


def look_at_files(source: Encoded, *, deep: bool = True, hashes: bool = True, threads: int = READERS) -> PictureFacts:
    """Every picture of ``source``; with ``deep`` each is decoded. Nothing is raised: see ``PictureFacts.faults``."""
    starts = range(0, len(source), _BATCH)
    look = functools.partial(_look_at_batch, source, deep, hashes)
    return _joined(in_order(look, starts, threads, _AHEAD))


def look_at_records(
    file: Records, frames: Frames, *, deep: bool = True, hashes: bool = True, threads: int = READERS
) -> PictureFacts:
    """Every picture of some records, as ``look_at_files``; without both it reads headers alone, in bulk."""
    if deep or hashes:
        windows: Iterator[Window] = file.windows(frames, head_bytes=1 << 30)
    else:
        windows = file.windows(frames)
    look = functools.partial(_look, deep=deep, hashes=hashes)
    found = _joined(in_order(lambda window: look(_images(window)), windows, threads, _AHEAD))
    found.sizes[:] = frames.lengths - HEADER_BYTES
    return found


def _images(window: Window) -> _Chunk:
    """The pictures in a window of records, behind their headers and label lists."""
    headers = window.headers()
    flags = headers["flag"].astype(np.int64)
    starts = np.minimum(window.starts + HEADER_BYTES + 4 * flags, window.ends)
    return _Chunk(
        first=window.records.start, data=window.data, starts=starts, ends=window.ends, faults={}, records=headers
    )


def _look_at_batch(source: Encoded, deep: bool, hashes: bool, start: int) -> list[PictureFacts]:
    """Read up to a batch of pictures; looked at whenever a few MB have come together."""
    found, pieces, faults = [], [], {}
    first, total, stop = start, 0, min(start + _BATCH, len(source))
    for index in range(start, stop):
        try:
            pieces.append(source.read(index))
        except BadData as error:
            faults[index] = str(error).removeprefix(f"{source.name(index)}: ")
            pieces.append(b"")
        total += len(pieces[-1])
        if total > _BATCH_BYTES or index == stop - 1:
            ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
            starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
            data = np.frombuffer(b"".join(pieces), np.uint8)
            found += _look(
                _Chunk(first=first, data=data, starts=starts, ends=ends, faults=faults), deep=deep, hashes=hashes
            )
            first, total, pieces, faults = index + 1, 0, [], {}
    return found


def _look(chunk: _Chunk, *, deep: bool, hashes: bool) -> list[PictureFacts]:
    heads = probe_many(chunk.data, chunk.starts, chunk.ends)
    count = len(heads)
    digests = np.zeros(count, f"V{_DIGEST_BYTES}") if hashes else None
    faults = dict(chunk.faults)
    thumbnails = np.zeros(count, near.LOOK) if deep else None
    too_large = codec.too_large(heads["height"], heads["width"], chunk.ends - chunk.starts)
    for at in range(count) if deep or hashes else ():
        index = chunk.first + at
        view = chunk.data[chunk.starts[at] : chunk.ends[at]]
        if digests is not None:
            digests[at] = hashlib.blake2b(view.data, digest_size=_DIGEST_BYTES).digest()
        if thumbnails is not None and index not in faults:
            looks = _decoded(view, heads, at, bool(too_large[at]))
            if isinstance(looks, str):
                faults[index] = looks
            else:
                thumbnails[at] = looks
    if not deep:
        for at in np.flatnonzero(heads["height"] <= 0):
            faults.setdefault(chunk.first + int(at), _headless(int(heads["format"][at])))
    return [
        PictureFacts(
            heads=heads,
            sizes=chunk.ends - chunk.starts,
            digests=digests,
            faults=faults,
            records=chunk.records,
            thumbnails=thumbnails,
        )
    ]


def _decoded(view: NDArray[np.uint8], heads: Heads, at: int, too_large: bool) -> near.Thumbnails | str:
    """A picture's thumbnail, or why it cannot be decoded; fills in the header of formats that only Pillow knows."""
    known = heads["height"][at] > 0 and heads["width"][at] > 0
    if known and not too_large and (pixels := codec.decoded(view)) is not None:
        return near.thumbnail(codec.upright(pixels, int(heads["orientation"][at]))[:, :, ::-1])
    data = view.tobytes()
    try:
        if not known:
            heads[at] = as_row(codec.header(data, ""))
        return near.thumbnail(codec.decode(data, 3, ""))
    except BadData as error:
        return str(error).removeprefix(": ").removesuffix("; repair or remove it")


def _headless(format_: int) -> str:
    return "not a picture" if format_ == 0 else f"{FORMATS[format_]} whose size is not in its first bytes"


def _joined(parts: Iterator[list[PictureFacts]]) -> PictureFacts:
    every = [looks for part in parts for looks in part]
    empty = np.zeros(0, HEAD)
    heads = np.concatenate([empty, *(part.heads for part in every)])
    sizes = np.concatenate([np.zeros(0, np.int64), *(part.sizes for part in every)])
    digests = None
    if every and every[0].digests is not None:
        digests = np.concatenate([part.digests for part in every if part.digests is not None])
    faults = {index: reason for part in every for index, reason in part.faults.items()}
    records = None
    if every and every[0].records is not None:
        records = np.concatenate([part.records for part in every if part.records is not None])
    thumbnails = None
    if every and every[0].thumbnails is not None:
        thumbnails = np.concatenate([part.thumbnails for part in every if part.thumbnails is not None])
    return PictureFacts(
        heads=heads, sizes=sizes, digests=digests, faults=faults, records=records, thumbnails=thumbnails
    )
