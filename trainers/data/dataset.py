"""A data set as training sees it: splits of labelled pictures, their digests, and pictures that two splits share."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trainers.data.pictures import digest
from trainers.data.pictures.pictures import Indices, Pictures


@dataclass(frozen=True)
class DataFacts:
    """What the data decides. ``height`` and ``width`` are None when the training pictures differ in size (px)."""

    num_classes: int
    num_training_samples: int
    channels: int
    height: int | None
    width: int | None


class Split:
    """N pictures with labels (N,) int64 and keys (path, or index in the source)."""

    def __init__(self, pictures: Pictures, labels: NDArray[np.int64], keys: Sequence[str]) -> None:
        assert len(pictures) == len(labels) == len(keys)
        self.pictures = pictures
        self.labels = np.asarray(labels, np.int64)
        self.keys = list(keys)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> Split:
        """The pictures at ``indices``, in that order."""
        return Split(self.pictures.take(indices), self.labels[indices], [self.keys[index] for index in indices])

    @functools.cached_property
    def image_digests(self) -> list[str]:
        """Content hash of each picture as stored: encoded bytes, or raw pixels with their shape."""
        return self.pictures.digests()

    @functools.cached_property
    def digest(self) -> str:
        """32 hex digits over all (picture, label) pairs; the same for any order and any container."""
        return digest.of_split(self.image_digests, self.labels)


@dataclass(frozen=True)
class Dataset:
    """Splits that share one class map. ``notes`` are remarks for the user: what was left out, and why.

    ``test`` is None where the source has splits of its own but no test split, and for a pretext task.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split | None
    source: str
    notes: tuple[str, ...] = field(default=())

    @property
    def splits(self) -> dict[str, Split]:
        """The splits there are, by name, in the order train, validation, test."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @functools.cached_property
    def facts(self) -> DataFacts:
        """Counts, and the native size of the training pictures."""
        sizes = self.train.pictures.sizes()
        heights, widths, channels = sizes[:, 0], sizes[:, 1], sizes[:, 2]
        uniform = bool((heights == heights[0]).all() and (widths == widths[0]).all())
        return DataFacts(
            num_classes=len(self.class_names),
            num_training_samples=len(self.train),
            channels=int(channels.max()),
            height=int(heights[0]) if uniform else None,
            width=int(widths[0]) if uniform else None,
        )


@dataclass(frozen=True)
class Overlap:
    """One picture that stands in two splits, with the keys it has in each."""

    split_a: str
    split_b: str
    digest: str
    keys_a: tuple[str, ...]
    keys_b: tuple[str, ...]


def find_overlap(dataset: Dataset) -> list[Overlap]:
    """Pictures with equal content in two splits, sorted by splits and digest."""
    places: dict[str, dict[str, list[str]]] = {}
    for name, split in dataset.splits.items():
        keys: dict[str, list[str]] = defaultdict(list)
        for image_digest, key in zip(split.image_digests, split.keys, strict=True):
            keys[image_digest].append(key)
        places[name] = keys
    return [
        Overlap(a, b, shared, tuple(places[a][shared]), tuple(places[b][shared]))
        for a, b in itertools.combinations(places, 2)
        for shared in sorted(places[a].keys() & places[b].keys())
    ]
