"""What a reader hands over: labelled pictures in the splits the source itself has, before any cutting."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.data.dataset import Split

WHOLE = "all"  # the one split of a source that has none of its own


@dataclass(frozen=True)
class Found:
    """``splits`` holds either ``all`` alone, or ``train`` with or without ``validation`` and ``test``."""

    name: str
    class_names: tuple[str, ...]
    splits: dict[str, Split]
    source: str
    notes: tuple[str, ...] = ()
