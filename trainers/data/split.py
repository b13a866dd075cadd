"""Cut a labelled set into splits: stratified, by seed and picture content alone, equal pictures on one side."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trainers.data.pictures.pictures import Indices
from trainers.errors import BadData


def stratified(
    labels: NDArray[np.int64],
    image_digests: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
    class_names: Sequence[str],
) -> dict[str, Indices]:
    """Indices of each split in ``fractions`` (name -> share, each in 0..1) and of ``train``, which takes the rest.

    Class by class, pictures are ranked by a hash of seed and content and dealt out in that order, copies of one picture
    together. So the cut depends neither on the order nor on the container, and a duplicate never leaks between
    splits of one class. Each share rounds to the nearest count, but never below one picture of a class. Raises BadData
    when a class has fewer different pictures than there are splits to fill.
    """
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


def _rank(seed: int, image_digest: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{image_digest}".encode(), digest_size=16).digest()
