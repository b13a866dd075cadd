"""A data set as training sees it: splits of labelled pictures, their digests, and pictures that two splits share."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.data.groups import grouped
from trainers.data.pictures import digest
from trainers.data.pictures.pictures import Indices, Pictures
from trainers.errors import BadData


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What the data decides. ``height`` and ``width`` are None when the training pictures differ in size (px)."""

    num_classes: int
    num_training_samples: int
    channels: int
    height: int | None
    width: int | None


class Split:
    """N pictures with labels (N,) int64 and keys (path, or index in the source); ``sources`` say which patient, film
    or seller each is of, where that was asked for."""

    def __init__(
        self,
        pictures: Pictures,
        labels: NDArray[np.int64],
        keys: Sequence[str],
        sources: Sequence[str] | None = None,
    ) -> None:
        assert len(pictures) == len(labels) == len(keys)
        self.pictures = pictures
        self.labels = np.asarray(labels, np.int64)
        self.keys = list(keys)
        self.sources = None if sources is None else list(sources)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> Split:
        """The pictures at ``indices``, in that order."""
        sources = None if self.sources is None else [self.sources[index] for index in indices]
        keys = [self.keys[index] for index in indices]
        return Split(self.pictures.take(indices), self.labels[indices], keys, sources)

    @functools.cached_property
    def image_digests(self) -> list[str]:
        """Content hash of each picture as stored: encoded bytes, or raw pixels with their shape."""
        return self.pictures.digests()

    @functools.cached_property
    def digest(self) -> str:
        """32 hex digits over all (picture, label) pairs; the same for any order and any container."""
        return digest.of_split(self.image_digests, self.labels)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Splits that share one class map. ``notes`` are remarks for the user: what was left out, and why.

    ``test`` is None where the source has splits of its own but no test split, and for a pretext task. ``held_out`` is
    the fold of the training pictures that is not in ``train``.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split | None
    source: str
    notes: tuple[str, ...] = field(default=())
    held_out: Split | None = None

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


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """One picture that is in two splits, with the keys it has in each."""

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
        Overlap(split_a=a, split_b=b, digest=shared, keys_a=tuple(places[a][shared]), keys_b=tuple(places[b][shared]))
        for a, b in itertools.combinations(places, 2)
        for shared in sorted(places[a].keys() & places[b].keys())
    ]


WHOLE = "all"  # the one split of a source that has none of its own


@dataclass(frozen=True, kw_only=True)
class SplitsRead:
    """``splits`` holds either ``all`` alone, or ``train`` with or without ``validation`` and ``test``."""

    name: str
    class_names: tuple[str, ...]
    splits: dict[str, Split]
    source: str
    notes: tuple[str, ...] = ()


def stratified(
    labels: NDArray[np.int64],
    image_digests: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
    class_names: Sequence[str],
    sources: Sequence[str] | None = None,
) -> dict[str, Indices]:
    """Indices of each split in ``fractions`` (name -> share, each in 0..1) and of ``train``, which takes the rest.

    Class by class, pictures are ranked by a hash of seed and content and dealt out in that order, copies of one picture
    together. So the cut depends neither on the order nor on the container, and a duplicate never leaks between
    splits of one class. Each share rounds to the nearest count, but never below one picture of a class. Raises BadData
    when a class has fewer different pictures than there are splits to fill. With ``sources`` see ``grouped``.
    """
    if sources is not None:
        return grouped(labels, image_digests, sources, fractions, seed, class_names)
    wanted = {name: share for name, share in fractions.items() if share > 0}
    if sum(wanted.values()) >= 1:
        raise BadData(
            f"the shares of {' and '.join(wanted)} add up to {sum(wanted.values()):g}; leave some for training"
        )
    parts: dict[str, list[int]] = {name: [] for name in (*wanted, "train")}
    for label in range(len(class_names)):
        members = np.flatnonzero(labels == label)
        groups: dict[str, list[int]] = defaultdict(list)
        for index in members:
            groups[image_digests[index]].append(int(index))
        if len(groups) <= len(wanted):
            raise BadData(
                f"class {class_names[label]!r} has {len(groups)} different picture(s), too few to split into"
                f" {', '.join(parts)}: add pictures, or give splits of your own (train/, validation/, test/)"
            )
        ranked = sorted(groups, key=lambda found: _rank(seed, found))
        _deal(parts, ranked, groups, wanted, len(members))
    return {name: np.array(sorted(indices), np.int64) for name, indices in parts.items()}


def _deal(
    parts: dict[str, list[int]],
    ranked: list[str],
    groups: dict[str, list[int]],
    wanted: Mapping[str, float],
    total: int,
) -> None:
    """Append one class's pictures to ``parts``; at least one group stays for each split still to be filled."""
    queue = deque(ranked)
    waiting = len(wanted)
    for name, share in wanted.items():
        quota, got = max(1, int(total * share + 0.5)), 0
        while got < quota and len(queue) > waiting:
            group = groups[queue.popleft()]
            parts[name] += group
            got += len(group)
        waiting -= 1
    for image_digest in queue:
        parts["train"] += groups[image_digest]


def copies(image_digests: Sequence[str]) -> dict[str, list[int]]:
    """The pictures of each content."""
    found: dict[str, list[int]] = defaultdict(list)
    for index, image_digest in enumerate(image_digests):
        found[image_digest].append(index)
    return dict(found)


def folds(labels: NDArray[np.int64], groups: Mapping[str, list[int]], count: int, seed: int) -> NDArray[np.int64]:
    """The fold of each picture, 0 to ``count`` - 1, (N,). ``groups`` are the pictures that stay together: copies, or
    all pictures of a source.

    Groups are ranked by a hash of seed and name and dealt out in that order, each to the fold that has the fewest
    pictures of its first label. So the folds are stratified, and depend neither on order nor on container. Raises
    BadData where there are fewer groups than folds.
    """
    if len(groups) < count:
        raise BadData(f"{len(groups)} different training pictures are too few for {count} folds")
    held = defaultdict[int, list[int]](lambda: [0] * count)
    total, out = [0] * count, np.zeros(len(labels), np.int64)
    for group in sorted(groups, key=lambda name: _rank(seed, name)):
        of_label = held[min(int(labels[index]) for index in groups[group])]
        fold = min(range(count), key=lambda f: (of_label[f], total[f], f))
        of_label[fold] += len(groups[group])
        total[fold] += len(groups[group])
        out[groups[group]] = fold
    return out


def _rank(seed: int, image_digest: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{image_digest}".encode(), digest_size=16).digest()


FILE = "classes.json"
MAX_CLASSES = 100_000  # more is a label column that was misread


def write(folder: Path, class_names: Sequence[str]) -> None:
    """Write the class map; the position of a name is its label."""
    text = json.dumps({"format": 1, "class_names": list(class_names)}, indent=1, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def find(*folders: Path) -> tuple[str, ...] | None:
    """The class names of the first of ``folders`` that has a class map, else None. BadData where it is broken."""
    for folder in folders:
        path = folder / FILE
        if not path.is_file():
            continue
        try:
            names = json.loads(path.read_text(encoding="utf-8"))["class_names"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadData(f"{path}: not a class map ({error}); expected {{'class_names': [...]}}") from error
        if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
            raise BadData(f"{path}: class_names must be a list of names")
        if len(set(names)) < len(names):
            raise BadData(f"{path}: a class name occurs twice; every class needs a name of its own")
        return tuple(names)
    return None


def alike(names: Sequence[str]) -> list[str]:
    """Pairs of class names that differ in case, blanks or leading zeros alone, in words."""
    first: dict[str, str] = {}
    found = []
    for name in names:
        key = " ".join(name.casefold().replace("_", " ").split())
        if (number := re.fullmatch(r"0*(\d+)(?:\.0*)?", key)) is not None:
            key = number[1]
        other = first.setdefault(key, name)
        if other != name:
            found.append(f"{other!r} and {name!r}")
    return found


def named(labels: NDArray[np.int64], known: tuple[str, ...] | None, source: str) -> tuple[str, ...]:
    """Class names for labels (N,): ``known``, else their numbers. BadData where a label is out of the map."""
    if len(labels) == 0:
        raise BadData(f"{source}: holds no picture")
    highest = int(labels.max())
    if int(labels.min()) < 0 or highest >= MAX_CLASSES:
        raise BadData(f"{source}: labels go from {labels.min()} to {highest}; legal are 0 to the number of classes - 1")
    if known is None:
        return tuple(str(label) for label in range(highest + 1))
    if highest >= len(known):
        raise BadData(f"{source}: label {highest}, but {FILE} names {len(known)} classes (0..{len(known) - 1})")
    return known


def integral(labels: NDArray[np.float32], source: str, name: str = "record") -> NDArray[np.int64]:
    """Labels as whole numbers; BadData names the first that is none."""
    whole = np.zeros(len(labels), np.int64)
    good = np.isfinite(labels) & (np.abs(labels) < 2**31)
    whole[good] = labels[good].astype(np.int64)
    wrong = np.flatnonzero(whole != labels)
    if len(wrong):
        first = int(wrong[0])
        raise BadData(
            f"{source}: {name} {first} has label {float(labels[first]):g}; legal are whole numbers from 0"
            f" ({len(wrong)} such); python -m trainers.data check {source} lists them"
        )
    return whole
