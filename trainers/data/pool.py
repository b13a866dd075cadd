"""Pictures sized for the network, ready to be picked by index: kept in memory where they fit, else decoded anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from trainers.data.pictures.pictures import READERS, ArrayPictures, Indices, Pictures, Pixels, to_channels
from trainers.data.pictures.sizing import Sizing

_CHUNK = 64
_MOST_BYTES = 1 << 30

Fetch = Callable[[Indices], "Pixels | Sequence[Pixels]"]


def memory_limit_bytes() -> int:
    """What a pool may keep by default: 1 GiB, or an eighth of the machine's memory where that is less."""
    try:
        return min(_MOST_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8)
    except (ValueError, OSError):
        return _MOST_BYTES


def make_pool(pictures: Pictures, sizing: Sizing, memory_bytes: int) -> tuple[Fetch, bool]:
    """A function from indices (B,) to sized pictures, and whether they are in memory.

    It returns (B, h, w, C) where all sized pictures are equally large, else a list of (h, w, C). Kept pictures are
    decoded here, at once: a corrupt one raises BadData before training starts. Grey arrays stay grey.
    """
    sizes = pictures.sizes()
    targets = sizing.targets(sizes)
    if sizing.fit == "crop":
        sizing.demand_fit(targets, pictures.name)
    uniform = bool(len(targets)) and bool((targets == targets[0]).all())
    if isinstance(pictures, ArrayPictures) and (targets == sizes[:, :2]).all():
        return _from_array(pictures, sizing.channels), True

    def sized(index: int) -> Pixels:
        return sizing.apply(pictures.load(index, channels))

    # Grey pictures for a colour network are kept grey: a third of the memory, and repeated in the batch.
    channels = 1 if sizes[:, 2].max(initial=1) == 1 else sizing.channels
    if targets.prod(axis=1).sum() * channels > memory_bytes:

        def fetch(indices: Indices) -> Pixels | Sequence[Pixels]:
            found = [sized(int(index)) for index in indices]
            return np.stack(found) if uniform else found

        return fetch, False
    if not uniform:
        several = _decode_all(sized, len(pictures))
        return (lambda indices: [several[index] for index in indices]), True
    kept: Pixels = np.empty((len(pictures), *targets[0], channels), np.uint8)

    def place(index: int) -> Pixels:
        room: Pixels = kept[index]
        room[...] = sized(index)
        return room

    _decode_all(place, len(pictures))
    return _from_array(ArrayPictures(kept, "memory"), channels), True


def _from_array(pictures: ArrayPictures, channels: int) -> Fetch:
    array: Pixels = pictures.array
    rows = pictures.rows
    if array.shape[3] == 3 and channels == 1:
        array, rows = to_channels(array[rows], 1), np.arange(len(rows), dtype=np.int64)

    def fetch(indices: Indices) -> Pixels:
        picked: Pixels = array[rows[indices]]
        return picked

    return fetch


def _decode_all(load: Callable[[int], Pixels], count: int) -> list[Pixels]:
    def chunk(start: int) -> list[Pixels]:
        return [load(index) for index in range(start, min(start + _CHUNK, count))]

    with ThreadPoolExecutor(READERS) as readers:
        return [pixels for part in readers.map(chunk, range(0, count, _CHUNK)) for pixels in part]
