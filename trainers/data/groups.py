"""``--group``: which source (patient, film, seller) a picture is of, and splits that keep each source on one side."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.errors import BadData

_LEGAL = (
    "legal are N, the N-th folder above the file (1: the one it is in); a regular expression with one group in"
    " parentheses, searched for in the path; or the name of a manifest's column"
)
_ORDERS, _STEPS = 16, 20_000


@dataclass(frozen=True)
class Group:
    """How to tell a picture's source: one of ``folder`` (1: the folder the file is in), ``pattern`` and ``column``."""

    text: str
    folder: int = 0
    pattern: re.Pattern[str] | None = None
    column: str | None = None

    @classmethod
    def parse(cls, text: str) -> Group:
        """From ``--group``'s value. BadData says what is legal."""
        if re.fullmatch(r"-?\d+", text):
            if int(text) < 1:
                raise BadData(f"--group {text}: {_LEGAL}.")
            return cls(text, folder=int(text))
        if "(" in text or "\\" in text:
            try:
                pattern = re.compile(text)
            except re.error as error:
                raise BadData(f"--group {text!r} is no regular expression ({error}); {_LEGAL}.") from error
            if pattern.groups != 1:
                raise BadData(f"--group {text!r} has {pattern.groups} groups, not one; {_LEGAL}.")
            return cls(text, pattern=pattern)
        if not text.strip():
            raise BadData(f"--group is empty; {_LEGAL}.")
        return cls(text, column=text)

    def of(self, keys: Sequence[str], data: str) -> list[str]:
        """The source of each picture by its path. BadData names the first that has none."""
        if self.column is not None:
            raise BadData(f"--group {self.text}: {data} is no manifest and has no columns; {_LEGAL}.")
        return [self._of(key, data) for key in keys]

    def _of(self, key: str, data: str) -> str:
        if self.pattern is not None:
            match = self.pattern.search(key)
            if match is None or match[1] is None:
                raise BadData(f"--group {self.text!r} does not match {key!r} of {data}; {_LEGAL}.")
            return match[1]
        folders = key.split("/")[:-1]
        if len(folders) < self.folder:
            raise BadData(f"--group {self.text}: {key!r} of {data} has {len(folders)} folder(s) above it; {_LEGAL}.")
        return folders[-self.folder]


def grouped(
    labels: NDArray[np.int64],
    image_digests: Sequence[str],
    sources: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
    class_names: Sequence[str],
) -> dict[str, NDArray[np.int64]]:
    """As ``dataset.stratified``, with all pictures of a source, and all copies of one picture, in one split.

    Sources are dealt out in several random orders, the large ones mostly first, each to the split whose counts per
    class it brings nearest to its share; then moved singly while that helps, and the best outcome is taken. Training
    gets each class. BadData where there are too few sources.
    """
    wanted = {name: share for name, share in fractions.items() if share > 0}
    if sum(wanted.values()) >= 1:
        raise BadData(
            f"the shares of {' and '.join(wanted)} add up to {sum(wanted.values()):g}; leave some to train on"
        )
    members = joined(image_digests, sources)
    names = sorted(members)
    splits = [*wanted, "train"]
    if len(names) < len(splits):
        raise BadData(
            f"--group finds {len(names)} source(s), too few to split into {', '.join(splits)}: group by something"
            " finer, or give splits of your own (train/, validation/, test/)"
        )
    counts = np.stack([np.bincount(labels[members[name]], minlength=len(class_names)) for name in names]).astype(float)
    total = counts.sum(axis=0)
    targets = np.stack([share * total for share in (*wanted.values(), 1 - sum(wanted.values()))])
    found = [_dealt(counts, targets, seed, number, names) for number in range(_orders(len(names)))]
    cost, places = min(found, key=lambda one: one[0])
    if not np.isfinite(cost):
        raise BadData(
            f"--group: no split of the {len(names)} sources fills {', '.join(splits)} and leaves training a picture of"
            " each class; group by something finer, or give splits of your own"
        )
    return {
        split: np.array(
            sorted(at for group in np.flatnonzero(places == place) for at in members[names[group]]), np.int64
        )
        for place, split in enumerate(splits)
    }


def joined(image_digests: Sequence[str], sources: Sequence[str]) -> dict[str, list[int]]:
    """Pictures of each source; sources that share a picture count as one, by the first name of them."""
    parent = {source: source for source in sources}

    def root(source: str) -> str:
        while parent[source] != source:
            parent[source] = parent[parent[source]]
            source = parent[source]
        return source

    first: dict[str, str] = {}
    for digest, source in zip(image_digests, sources, strict=True):
        one, other = sorted((root(first.setdefault(digest, source)), root(source)))
        parent[other] = one
    members: dict[str, list[int]] = {}
    for at, source in enumerate(sources):
        members.setdefault(root(source), []).append(at)
    return members


def _orders(groups: int) -> int:
    return max(1, min(_ORDERS, _STEPS // groups))


def _dealt(
    counts: NDArray[np.float64], targets: NDArray[np.float64], seed: int, number: int, names: Sequence[str]
) -> tuple[float, NDArray[np.int64]]:
    """(cost, split of each group). The cost is the squared distance of the counts from their targets, each in units
    of its target; infinite where a split is empty or training lacks a class."""
    weight = 1 / np.maximum(targets, 1e-9)
    weight[targets == 0] = 0
    chance = [int.from_bytes(hashlib.blake2b(f"{seed}:{number}:{name}".encode(), digest_size=4).digest(), "big")
              / 2**32 for name in names]  # fmt: skip
    order = np.argsort(-counts.sum(axis=1) * (0.5 + np.array(chance)), kind="stable")
    filled, places = np.zeros_like(targets), np.full(len(names), -1, np.int64)
    for group in order:
        one = counts[group]
        places[group] = ((2 * (filled - targets) + one) * one * weight).sum(axis=1).argmin()
        filled[places[group]] += one
    for _ in range(3):
        moved = False
        for group in order:
            one, here = counts[group], places[group]
            filled[here] -= one
            change = ((2 * (filled - targets) + one) * one * weight).sum(axis=1)
            bare = int((places == here).sum()) == 1
            lacking = here == len(targets) - 1 and bool(((filled[here] <= 0) & (one > 0)).any())
            there = here if bare or lacking or change.min() >= change[here] - 1e-9 else int(change.argmin())
            filled[there] += one
            moved |= there != here
            places[group] = there
        if not moved:
            break
    fits = (filled.sum(axis=1) > 0).all() and (filled[-1][counts.sum(axis=0) > 0] > 0).all()
    return float(((filled - targets) ** 2 * weight).sum()) if fits else float("inf"), places
