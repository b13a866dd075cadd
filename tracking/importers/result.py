"""One result of old notes or tables, and how a score in them is read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

MISSING = ("", "?", "-", "--", "n/a", "na", "none", "null", "tbd", "unknown", "missing")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Score:
    """One score: ``written`` as in the file, ``value`` as it was read (None: it was not), ``remark`` why so.

    ``remark`` is empty where the two say the same.
    """

    written: str
    value: float | None
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run as read from a file. ``key`` is its identity in the file, ``place`` where it is there, for people.

    ``series`` are metrics with more than one value: metric → (step, value) pairs. Times are milliseconds, None where
    nothing is known of them.
    """

    key: str
    place: str
    run_name: str
    params: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)
    series: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    status: str = "FINISHED"
    start_ms: int | None = None
    end_ms: int | None = None

    @property
    def journal_id(self) -> str:
        """The same for the same run in the same file, wherever that is."""
        return hashlib.sha256(f"import {self.key}".encode()).hexdigest()[:32]

    @property
    def digest(self) -> str:
        """12 hex digits of everything that was read."""
        parts = [self.params, {k: s.written for k, s in self.scores.items()}, self.series, self.tags, self.status]
        text = json.dumps([dict(p) if isinstance(p, Mapping) else p for p in parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def flags(self) -> list[str]:
        """What was read otherwise than written, a few words each."""
        return [f"{metric} {score.remark}" for metric, score in self.scores.items() if score.remark]


@dataclass(frozen=True)
class Reading:
    """What a file gave: runs, and remarks about what was not taken over."""

    results: tuple[Result, ...]
    remarks: tuple[str, ...] = ()


def storable(text: str) -> str:
    """The text with what no store takes (lone surrogates, NUL) spelled out."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def read_score(text: str, *, percent: bool = False) -> Score:
    """A share of pictures as people write it: 0.994, 99.4 %, 99,4, 994 where 0.994 is meant, ? where it is missing.

    ``percent``: the number's column says that it is one of percent.
    """
    written = text.strip()
    if written.lower() in MISSING:
        return Score(written, None)
    bare = written.rstrip("%").strip().replace(",", ".")
    if not _NUMBER.fullmatch(bare):
        return Score(written, None, f"{written!r} was not read: it is not a number")
    value = float(bare)
    if percent or written.endswith("%"):
        if 0 <= value <= 100:
            read_as = float(f"{value / 100:.12g}")
            odd = 0 < value <= 1 and not written.endswith("%")
            return Score(written, read_as, f"{written} was read as {read_as:g}, since its column says %" if odd else "")
    elif 0 <= value <= 1:
        return Score(written, value)
    elif 1 < value <= 100:
        read_as = float(f"{value / 100:.12g}")
        return Score(written, read_as, f"{written} was read as {read_as:g}, since it can only be percent")
    elif bare.isdigit():
        read_as = float(f"0.{bare}")
        return Score(written, read_as, f"{written} was read as {read_as:g}, since a share is at most 1")
    return Score(written, None, f"{written} was not read: it is not a possible share of pictures")
