"""Batches of one split: (B, C, H, W) uint8 pictures, raw 0..255, and (B,) int64 labels; fixed by seed and epoch."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tracking.models.serving.pictures import to_channels
from trainers.data.dataset import Split
from trainers.data.pictures import augment
from trainers.data.pictures.codec import Pixels
from trainers.data.pictures.pictures import READERS, ArrayPictures, Indices, Pictures
from trainers.data.pictures.sizing import Fit, Sizing
from trainers.data.pictures.threads import in_order
from trainers.errors import BadData

_AHEAD = 3  # batches decoded ahead when pictures do not fit into memory
Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


class Batches:
    """A split cut into batches of the network's size.

    image_shape: (C, H, W). resize: shortest side in px before the crop. fit: ``crop`` (as in training) or ``squash``
    (scaled to H x W whatever the aspect ratio). augmentation: None (centre crop) or one of ``augment.KINDS``.
    last: ``keep`` or ``discard`` a last batch that is not full. scaled: a JPEG of twice ``resize`` or more is decoded
    at a half, a quarter or an eighth of its size, which is faster and not the very same pixels. memory_bytes: pictures
    that would take more, decoded, are decoded anew in every epoch, ahead of time on threads. share: ``(which, of how
    many)`` equal parts of each batch to give, from 0; all parts together are the batch, with the same augmentation.
    Raises BadData for pictures that cannot be decoded or are smaller than the crop.
    """

    def __init__(
        self,
        split: Split,
        image_shape: tuple[int, int, int],
        batch_size: int,
        *,
        resize: int | None = None,
        fit: Fit = "crop",
        augmentation: str | None = None,
        shuffle: bool = False,
        seed: int = 0,
        last: Literal["keep", "discard"] = "keep",
        scaled: bool = False,
        memory_bytes: int | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.channels, self.height, self.width = image_shape
        if self.channels not in (1, 3) or min(self.height, self.width) < 1:
            raise BadData(f"image_shape {image_shape}: expected C,H,W with C 1 or 3 and H, W at least 1 px")
        if batch_size < 1:
            raise BadData(f"mini_batch_size {batch_size}: expected at least 1")
        if augmentation is not None and augmentation not in augment.KINDS:
            raise BadData(f"augmentation_type {augmentation!r}: legal are {', '.join(augment.KINDS)}")
        if last == "discard" and len(split) < batch_size:
            raise BadData(f"{len(split)} pictures are fewer than mini_batch_size {batch_size}; give a smaller one")
        self.labels, self.share = split.labels, share
        self.batch_size, self.augmentation, self.shuffle, self.seed = batch_size, augmentation, shuffle, seed
        full = len(split) // batch_size * batch_size
        self.num_images = full if last == "discard" else len(split)
        sizing = Sizing(
            channels=self.channels, height=self.height, width=self.width, resize=resize, fit=fit, own=split.pictures.own
        )
        limit = memory_limit_bytes() if memory_bytes is None else memory_bytes
        self._fetch, self.in_memory = make_pool(split.pictures, sizing, limit, scaled)

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self.num_images // self.batch_size)

    def order(self, epoch: int) -> Indices:
        """(num_images,) indices into the split, in the order of the epoch; a permutation when shuffled."""
        if not self.shuffle:
            return np.arange(self.num_images, dtype=np.int64)
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.labels))[: self.num_images]

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number`` (from 0 or 1, as the caller counts); depends on seed and number alone."""
        order = self.order(number)
        parts = [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]
        if self.in_memory:
            for place, indices in enumerate(parts):
                yield self._make(number, place, indices)
        else:
            make = functools.partial(self._make, number)
            with closing(in_order(lambda job: make(*job), enumerate(parts), READERS, _AHEAD)) as batches:
                yield from batches

    def _make(self, number: int, place: int, whole: Indices) -> Batch:
        own = share_of(len(whole), *self.share)
        indices = whole[own]
        images = self._fetch(indices)
        if self.augmentation is None:
            images = augment.centre_crop(images, self.height, self.width)
        else:
            rng = np.random.default_rng([self.seed, number, place])
            draws = augment.draw(rng, len(whole), self.augmentation).take(own)
            if draws.hls is not None:  # a grey picture takes on colour here, as the built-in's does
                images = _in_channels(images, self.channels)
            images = augment.augment(images, self.height, self.width, draws)
        return _planes(images, self.channels), self.labels[indices]


def share_of(size: int, which: int, of_how_many: int) -> Indices:
    """The places of a batch that one worker has, in order.

    The first and the last place stay together, the second and the last but one, and so on: a batch is mixed up with
    its reverse, and a share with its own.
    """
    first: Indices = np.array_split(np.arange((size + 1) // 2), of_how_many)[which]
    places: Indices = np.unique(np.concatenate([first, size - 1 - first]))
    return places


def _in_channels(images: Pixels | Sequence[Pixels], channels: int) -> Pixels | Sequence[Pixels]:
    if isinstance(images, np.ndarray):
        return to_channels(images, channels)
    return [to_channels(image, channels) for image in images]


def _planes(images: Pixels, channels: int) -> Pixels:
    """(B, H, W, c) to contiguous (B, channels, H, W)."""
    count, height, width, have = images.shape
    if have == 1 and channels == 3:
        return np.repeat(images.reshape(count, 1, height, width), 3, axis=1)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


_CHUNK = 64
_MOST_BYTES = 1 << 30

Fetch = Callable[[Indices], "Pixels | Sequence[Pixels]"]


def memory_limit_bytes() -> int:
    """What a pool may keep by default: 1 GiB, or an eighth of the machine's memory where that is less."""
    try:
        return min(_MOST_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8)
    except (ValueError, OSError):
        return _MOST_BYTES


def make_pool(pictures: Pictures, sizing: Sizing, memory_bytes: int, scaled: bool = False) -> tuple[Fetch, bool]:
    """A function from indices (B,) to sized pictures, and whether they are in memory.

    It returns (B, h, w, C) where all sized pictures are equally large, else a list of (h, w, C). Kept pictures are
    decoded here, at once: a corrupt one raises BadData before training starts. Grey arrays stay grey.
    """
    sizes = pictures.sizes()
    targets = sizing.targets(sizes)
    if sizing.fit == "crop":
        sizing.demand_fit(targets, pictures.name)
    uniform = bool(len(targets)) and bool((targets == targets[0]).all())
    least = sizing.resize if scaled else None
    if isinstance(pictures, ArrayPictures) and (targets == sizes[:, :2]).all():
        return _from_array(pictures, sizing.channels), True

    def sized(index: int) -> Pixels:
        return sizing.apply(pictures.load(index, channels, least), targets[index])

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
