"""Results in CSV or JSON, from a spreadsheet or another tracker: one run a row or an object.

Columns are the vocabulary's names, with or without ``params.``, ``metrics.``, ``tags.`` before them, or the usual
other words (``layers``, ``lr``, ``val_acc``); what is in neither is kept as a tag. Empty means missing.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from tracking import names
from tracking.errors import TrackingError
from tracking.importers.result import MISSING, Reading, Result, Score, read_score, storable
from tracking.journal.checks import STATUSES, check_name

_OTHER_WORDS = {
    "layers": "num_layers",
    "depth": "num_layers",
    "lr": "learning_rate",
    "batch_size": "mini_batch_size",
    "batch": "mini_batch_size",
    "classes": "num_classes",
    "pretrained": "use_pretrained_model",
    "cost": names.COST_USD,
}
_NAME_KEYS = ("run_name", "name", "run")
_ID_KEYS = ("run_id", "id")
_SPLIT_WORDS = {"training": "train", "val": "validation", "valid": "validation", "testing": "test"}
_SCORE = re.compile(r"(training|train|validation|valid|val|testing|test)_(acc|accuracy|loss)")
_METRIC = re.compile(r"(?:train|validation|test)_(?:top\d+_accuracy|num_images)")
_START, _END = ("start_time", "started", "date"), ("end_time", "ended")
_FACTS = (*_NAME_KEYS, *_ID_KEYS, *_START, *_END, "status")
_PERCENT = re.compile(r"[\s_]*(?:\(\s*%\s*\)|\[\s*%\s*\]|%)\s*")
_END_OF_TIME_MS = 253_402_300_800_000  # the year 10000


def read_csv(text: str, name: str) -> Reading:
    """The rows of a table with a header line; commas, semicolons or tabs between the columns."""
    first = text.splitlines()[0] if text.strip() else ""
    delimiter = max(",;\t", key=first.count)
    rows = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    objects = []
    try:
        heads = [head if head.strip() else f"column {n}" for n, head in enumerate(rows.fieldnames or (), start=1)]
        rows.fieldnames = heads
        twice = sorted({head for head in heads if heads.count(head) > 1})
        if twice:
            raise TrackingError(f"{name}: the header has {', '.join(map(repr, twice))} twice; rename one of them")
        for row in rows:
            if None in row:
                raise TrackingError(f"{name}, line {rows.line_num}: more cells than the header has columns")
            if any((value or "").strip() for value in row.values()):
                objects.append((f"{name}, line {rows.line_num}", row))
    except csv.Error as error:
        raise TrackingError(f"{name}, line {rows.line_num}: {error}") from error
    return _read(objects, name)


def read_json(text: str, name: str, *, lines: bool = False) -> Reading:
    """A list of objects (or one, or ``{"runs": […]}``, or one a line), flat or with params, metrics and tags inside.

    A metric may be a list: its values after epochs 1, 2, …
    """
    try:
        if lines:
            found: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = json.loads(text)
    except ValueError as error:
        raise TrackingError(f"{name} is not JSON: {error}") from error
    if isinstance(found, dict):
        found = found["runs"] if isinstance(found.get("runs"), list) else [found]
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise TrackingError(f"{name}: a list of objects is expected, one for each run")
    return _read([(f"{name}, run {n}", _flat(item)) for n, item in enumerate(found, start=1)], name)


def _flat(item: Mapping[str, Any]) -> dict[str, Any]:
    out = {key: value for key, value in item.items() if key not in ("params", "metrics", "tags")}
    for kind in ("params", "metrics", "tags"):
        inside = item.get(kind)
        if isinstance(inside, Mapping):
            out |= {f"{kind}.{key}": value for key, value in inside.items()}
    return out


def _read(objects: Iterable[tuple[str, Mapping[str, Any]]], name: str) -> Reading:
    results: list[Result] = []
    faults: list[str] = []
    seen: dict[str, int] = {}
    unknown: dict[str, None] = {}
    remarks: dict[str, None] = {}
    for place, row in objects:
        reader = _Row(place, row)
        faults += [fault for fault in reader.faults if fault not in faults]
        unknown |= dict.fromkeys(reader.unknown)
        remarks |= dict.fromkeys(f"{name}: {remark}" for remark in reader.remarks)
        if reader.facts.get("status") == "RUNNING":
            remarks[f"{place}: left out, since the run went on when this was written; import it when it has ended"] = (
                None
            )
            continue
        identity = reader.identity
        same = seen[identity] = seen.get(identity, 0) + 1
        if reader.scores or reader.series or reader.params:
            results.append(reader.result(f"{name} {identity} {same}"))
    if faults:
        listed = "\n  - ".join(faults)
        raise TrackingError(listed if len(faults) == 1 else f"{len(faults)} cells cannot be read:\n  - {listed}")
    if unknown:
        remarks[f"{name}: kept as tags: {', '.join(unknown)}"] = None
    return Reading(tuple(results), tuple(remarks))


class _Row:
    """One run's cells, each in its place."""

    def __init__(self, place: str, row: Mapping[str, Any]) -> None:
        self.place = place
        self.params: dict[str, str] = {}
        self.scores: dict[str, Score] = {}
        self.series: dict[str, list[tuple[int, float]]] = {}
        self.tags: dict[str, str] = {}
        self.facts: dict[str, str] = {}
        self.unknown: list[str] = []
        self.faults: list[str] = []
        self.remarks: list[str] = []
        self._columns: dict[tuple[str, str], str] = {}
        for column, value in row.items():
            if isinstance(value, list):
                self._series(str(column), value)
            elif value is not None and str(value).strip().lower() not in ("", "null", "none", "nan"):
                self._cell(str(column), storable(str(value)).strip())

    @property
    def identity(self) -> str:
        """An id where the row has one, else its name and settings."""
        for key in _ID_KEYS:
            if key in self.facts:
                return f"id {self.facts[key]}"
        settings = " ".join(f"{key}={value}" for key, value in sorted(self.params.items()))
        return f"{self._name()} {settings}".strip()

    def result(self, key: str) -> Result:
        """The run."""
        start_ms, end_ms = (self._time(words) for words in (_START, _END))
        return Result(
            key=key,
            place=self.place,
            run_name=self._name() or self.place,
            params=self.params,
            scores=self.scores,
            series=self.series,
            tags=self.tags,
            status=self.facts.get("status", "FINISHED"),
            start_ms=start_ms,
            end_ms=end_ms,
        )

    def _name(self) -> str:
        return next((self.facts[key] for key in _NAME_KEYS if key in self.facts), "")

    def _cell(self, column: str, text: str) -> None:
        where, key = self._where(column)
        if where == "facts":
            self._fact(key, text)
        elif where == "params" and key in names.PARAMS:
            if text.lower() not in MISSING:
                self._param(key, text)
        elif where == "params":
            self.params[key] = text
        elif where == "metrics":
            self._metric(key, text, percent=_PERCENT.sub("", column) != column)
        elif where == "tags":
            self.tags[key] = text

    def _where(self, column: str, *, is_series: bool = False) -> tuple[str, str]:
        """Which of facts, params, metrics and tags a column is for, under which key; ``""`` where under none."""
        kind, key = _key(column)
        if is_series:
            kind = "metrics"
        elif kind == "" and key in _FACTS:
            kind = "facts"
        elif kind == "" and key in names.PARAMS:
            kind = "params"
        elif kind == "" and _is_metric(key):
            kind = "metrics"
        elif kind == "" and key:
            kind = "tags"
            self.unknown.append(column if key == column.lower() else f"{column} as {key}")
        if not key:
            self.remarks.append(f"column {column!r} names nothing and was left out")
            return "", key
        other = self._columns.setdefault((kind, key), column)
        try:
            check_name(names.as_written(key) if kind == "metrics" else key)
        except TrackingError as error:
            self.faults.append(f"column {column!r}: {error}")
            return "", key
        if other != column:
            self.faults.append(f"columns {other!r} and {column!r} both mean {key}; rename or remove one")
            return "", key
        return kind, key

    def _fact(self, key: str, text: str) -> None:
        if key == "status":
            text = text.upper()
            if text not in STATUSES:
                self._fault(key, text, f"none of {', '.join(STATUSES)}")
        elif key in (*_START, *_END) and _time_ms(text) is None:
            self._fault(key, text, "no time since 1970 such as 2019-05-08 or 2019-05-08T07:47Z")
        self.facts[key] = text

    def _param(self, key: str, text: str) -> None:
        try:
            value = names.parse(names.PARAMS[key], text)
            if isinstance(value, int) and abs(value) >= 2**63:
                raise OverflowError
            self.params[key] = str(value)
        except (ValueError, OverflowError):
            kind = {bool: "true or false", int: "a whole number", float: "a number"}[names.PARAMS[key].type]
            self._fault(key, text, f"not {kind}")

    def _metric(self, key: str, text: str, *, percent: bool) -> None:
        if key.endswith("accuracy"):
            self.scores[key] = read_score(text, percent=percent)
        elif text.lower() in MISSING:
            self.scores[key] = Score(text, None)
        else:
            try:
                self.scores[key] = Score(text, float(text))
            except ValueError:
                self._fault(key, text, "not a number")

    def _series(self, column: str, values: list[Any]) -> None:
        where, key = self._where(column, is_series=True)
        if not where:
            return
        try:
            self.series[key] = [(n, float(v)) for n, v in enumerate(values, start=1) if v is not None]
        except (TypeError, ValueError):
            self._fault(key, str(values)[:40], "not a list of numbers")

    def _time(self, words: Iterable[str]) -> int | None:
        text = next((self.facts[key] for key in words if key in self.facts), None)
        return None if text is None else _time_ms(text)

    def _fault(self, key: str, text: str, why: str) -> None:
        self.faults.append(f"{self.place}: {key} {text!r} is {why}")


def _key(column: str) -> tuple[str, str]:
    """``("metrics", "validation_accuracy")`` of ``metrics.Val Acc (%)``; the key has only what MLflow takes."""
    kind, dot, rest = column.partition(".")
    if not dot or kind.strip().lower() not in ("params", "metrics", "tags"):
        kind, rest = "", column
    key = re.sub(r"[^\w./:]+", "_", _PERCENT.sub("", rest).strip()).strip("_")
    if kind.strip().lower() == "tags":
        return "tags", key
    key = _OTHER_WORDS.get(key.lower(), key.lower())
    match = _SCORE.fullmatch(key)
    if match is not None:
        word = "accuracy" if match[2].startswith("acc") else "loss"
        key = f"{_SPLIT_WORDS.get(match[1], match[1])}_{word}"
    return kind.strip().lower(), key


def _is_metric(key: str) -> bool:
    return ("metric", key) in names.ALL or _METRIC.fullmatch(key) is not None


def _time_ms(text: str) -> int | None:
    """An ISO time as milliseconds since 1970 (UTC where it says nothing else), or such a number as it is.

    None for what is neither, or before 1970: MLflow's times begin there.
    """
    if re.fullmatch(r"[0-9]{12,15}", text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    time_ms = round(moment.timestamp() * 1000)
    return time_ms if 0 <= time_ms < _END_OF_TIME_MS else None
