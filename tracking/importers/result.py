"""One result of old notes or tables, and how a score in them is read."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tracking import names

JOBS_COMMAND = "`python -m trainers.jobs import --name-contains NAME` brings such jobs in"
MISSING = ("", "?", "-", "--", "—", "–", "n/a", "na", "none", "null", "tbd", "unknown", "missing", "#n/a", "#na#")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE)
_COUNTED = re.compile(r"(?P<share>[^()/]*?)\s*[(\[]?\s*(?P<hits>\d+)\s*/\s*(?P<all>\d+)\s*[)\]]?")
_SPREAD = re.compile(r"\s*(?:±|\+/-|\+-|\\pm)\s*[\d.,]+\s*%?$")
# Behind the number something that is no number: ``99.63% ← Winner``, ``0.86 (your run may vary)``.
_ASIDE = re.compile(r"(?P<value>[\d.,]+\s*%?)\s*(?P<aside>[^\w\s%./,±+\-\[][^\d]*)")
_DEPTH = re.compile(
    r"(?<![a-z])(?<!wide[\s_-])(?<!se[\s_-])resnet[\s_-]?(\d{2,3})(?!\d)(?:[\s_-]?(v1b|v1|v2)\b)?", re.I
)
# The lowest share that a number without its decimal point (994) is taken for; 105 is more likely something else.
_LEAST_WITHOUT_POINT = 0.5
_LONGEST = 100

Scale = Literal["percent", "share", ""]


@dataclass(frozen=True)
class Score:
    """One score: ``written`` as in the file, ``value`` as it was read (None: it was not), ``remark`` why so.

    ``remark`` is empty where the two say the same.
    """

    written: str
    value: float | None
    remark: str = ""


def _journal_id(key: str) -> str:
    return hashlib.sha256(f"import {key}".encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run as read from a file. ``key`` is its identity in the file, ``place`` where it is there, for people.

    ``former_key`` is the key that version 0.2.0 gave it, where that was another.
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
    former_key: str = ""

    @property
    def journal_id(self) -> str:
        """The same for the same run in the same file, wherever that is; with a tool's id of the run, in any file."""
        return _journal_id(self.key)

    @property
    def journal_ids(self) -> list[str]:
        """All that the run may be known by, today's first."""
        return [_journal_id(key) for key in (self.key, self.former_key) if key]

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


def number(text: str) -> float | None:
    """A number with a decimal point or comma; None where the text is something else."""
    bare = text.strip().replace(",", ".")
    value = float(bare) if _NUMBER.fullmatch(bare) else math.inf
    return value if math.isfinite(value) else None


def network(text: str) -> dict[str, str]:
    """The depth, and the version where it is named, of a ResNet: ``resnet34_v2``."""
    said = {(depth, version.lower()) for depth, version in _DEPTH.findall(text)}
    if len(said) != 1:  # none, or several
        return {}
    ((depth, version),) = said
    return {"num_layers": depth} | ({"resnet_version": version} if version else {})


def scale_of(written: Iterable[str]) -> Scale:
    """What most of a column's bare numbers can only be; ``""`` where they can be either, as 0 and 1 can."""
    values = [number(_SPREAD.sub("", text)) for text in written]
    percents = sum(value is not None and 1 < value <= 100 for value in values)
    shares = sum(value is not None and 0 < value < 1 for value in values)
    return "percent" if percents > shares else "share" if shares else ""


def read_scores(metric: str, text: str, *, percent: bool = False, others: Scale = "") -> dict[str, Score]:
    """The score, and of ``94.56% (9456/10000)`` the number of pictures too."""
    if len(text) > _LONGEST:
        return {metric: Score(text.strip(), None, f"{text[:20]!r}… was not read: it is not a number")}
    counted = _COUNTED.fullmatch(text.strip())
    split = metric.partition("_")[0]
    if counted is None or not 0 < int(counted["all"]) < 2**53 or int(counted["hits"]) > int(counted["all"]):
        return {metric: read_score(text, percent=percent, others=others)}
    share = int(counted["hits"]) / int(counted["all"])
    score = Score(text.strip(), share)
    if counted["share"]:
        score = replace(read_score(counted["share"], percent=percent, others=others), written=text.strip())
        if score.value is not None and abs(score.value - share) > 0.001:
            score = Score(text.strip(), None, f"{text.strip()!r} was not read: its two parts differ")
    if split not in names.SPLITS:
        return {metric: score}
    return {metric: score, names.num_images(split): Score(counted["all"], float(counted["all"]))}


def read_score(text: str, *, percent: bool = False, others: Scale = "") -> Score:
    """A share of pictures as people write it: 0.994, 99.4 %, 99,4, 994 where 0.994 is meant, ? where it is missing.

    ``percent``: the number's column says that it is one of percent. ``others``: what the others of its column are.
    """
    written = text.strip()
    if written.lower() in MISSING:
        return Score(written, None)
    mean = _SPREAD.sub("", written)
    if mean != written:
        score = read_score(mean, percent=percent, others=others)
        several = "" if score.value is None else f"{written} was read as {score.value:g}, the mean of several"
        return Score(written, score.value, "; ".join(filter(None, (score.remark, several))))
    aside = _ASIDE.fullmatch(written)
    if aside is not None:
        score = read_score(aside["value"], percent=percent, others=others)
        alone = "" if score.value is None else f"{written} was read as {score.value:g}, without what is behind it"
        return Score(written, score.value, "; ".join(filter(None, (score.remark, alone))))
    value = number(written.rstrip("%"))
    if value is None:
        return Score(written, None, f"{written!r} was not read: it is not a number")
    if written.startswith("+"):
        return Score(written, None, f"{written!r} was not read: with its sign it is a difference")
    if percent or written.endswith("%") or (others == "percent" and 0 < value <= 1):
        if 0 <= value <= 100:
            read_as = float(f"{value / 100:.12g}")
            odd = 0 < value <= 1 and not written.endswith("%")
            why = "its column says %" if percent else "the others of its column are in percent"
            return Score(written, read_as, f"{written} was read as {read_as:g}, since {why}" if odd else "")
    elif 0 <= value <= 1:
        return Score(written, value)
    elif 1 < value <= 100:
        read_as = float(f"{value / 100:.12g}")
        return Score(written, read_as, f"{written} was read as {read_as:g}, since it can only be percent")
    elif written.isdecimal() and others != "percent" and float(f"0.{written}") >= _LEAST_WITHOUT_POINT:
        read_as = float(f"0.{written}")
        return Score(written, read_as, f"{written} was read as {read_as:g}, since a share is at most 1")
    return Score(written, None, f"{written} was not read: it is not a possible share of pictures")
