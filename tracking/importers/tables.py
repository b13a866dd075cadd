"""Results in tables, from a spreadsheet or another tracker: one run a row, or one epoch a row.

Columns are the vocabulary's names, with or without ``params.``, ``metrics.``, ``tags.`` before them, or the usual
other words (``layers``, ``lr``, ``val_acc``); what is in neither is kept as a tag. Empty means missing. A cell that
cannot be read is left out and said; the others count.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from tracking import names
from tracking.errors import TrackingError
from tracking.importers.headers import (
    SPLIT_HEADS,
    SPLIT_WORDS,
    is_metric,
    is_percent,
    is_score,
    key_of,
    scores_in,
    scores_named,
)
from tracking.importers.result import (
    MISSING,
    Reading,
    Result,
    Scale,
    Score,
    network,
    number,
    read_scores,
    scale_of,
    storable,
)
from tracking.journal.checks import check_name

# What lists of one value an epoch are called: Keras names the training's own without saying so.
_CURVES = {
    "accuracy": names.TRAIN_ACCURACY,
    "acc": names.TRAIN_ACCURACY,
    "loss": names.TRAIN_LOSS,
    "learning_rate": names.EPOCH_LEARNING_RATE,
}
_NETWORK = ("model", "network", "architecture", "network_architecture", "model_architecture", "arch", "backbone")
_NAME_KEYS = ("run_name", "name", "run")
_ID_KEYS = ("run_id", "id")
_MLFLOW_ID = re.compile(r"id [0-9a-f]{32}")
_MLFLOW_NAME = "mlflow.runName"
_START = ("start_time", "started", "date", "created", "created_at", "datetime_start")
_END = ("end_time", "ended", "datetime_complete")
_FACTS = (*_NAME_KEYS, *_ID_KEYS, *_START, *_END, "status", "duration")
MAX_RUNS, MAX_ROWS, MAX_COLUMNS = 10_000, 100_000, 1_000
_END_OF_TIME_MS = 253_402_300_800_000  # the year 10000
_TIME_FORMS = tuple(
    f"{day}{time}"
    for day in ("%Y/%m/%d", "%d.%m.%Y", "%b %d, %Y")
    for time in (" %H:%M:%S", " %H:%M", " %H:%M UTC", "")
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
# A spreadsheet writes its own language's words.
_YES = ("yes", "y", "true", "on", "1", "1.0", "ja", "wahr", "oui", "vrai")
_NO = ("no", "n", "false", "off", "0", "0.0", "nein", "falsch", "non", "faux")
_NOT_ENDED = "RUNNING"
ONE_CURVE = (
    "is one curve as TensorBoard exports it (ClearML and Neptune do alike), which names neither run nor metric; give a"
    " table with the columns epoch and val_acc (or another metric) instead"
)
_OF_A_CURVE = ("wall time", "step", "value", "timestamp", "relative time")
_WANDB_CHART = re.compile(r"(?:.+ - )?.+__(?:MIN|MAX)")
_KERAS = ("loss", "accuracy", "acc", "lr", "learning_rate")
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{2}(?:\.\d+)?)")
_STATUS = {
    **dict.fromkeys("finished completed complete done success succeeded ok 3".split(), "FINISHED"),
    **dict.fromkeys("fail failed failure error crashed crash 4".split(), "FAILED"),
    **dict.fromkeys("killed stopped aborted cancelled canceled interrupted terminated 5".split(), "KILLED"),
    **dict.fromkeys("running started scheduled pending queued submitted stopping inprogress 1 2".split(), _NOT_ENDED),
}


def read_csv(text: str, name: str) -> Reading:
    """The rows of a table with a header line; commas, semicolons or tabs between the columns."""
    said = re.match(r"\s*\"?sep=(.)\"?\r?\n", text)  # Excel's own first line
    body = text[said.end() :] if said else text
    first = body.splitlines()[0] if body.strip() else ""
    delimiter = said[1] if said else max(",;\t", key=first.count)
    rows = csv.reader(io.StringIO(body), delimiter=delimiter)
    objects: list[tuple[str, Mapping[str, Any]]] = []
    remarks: list[str] = []
    heads: list[str] = []
    try:
        first_row = next(rows, [])
        if len(first_row) > MAX_COLUMNS:
            raise TrackingError(f"{name} has {len(first_row):,} columns; up to {MAX_COLUMNS:,} are read")
        heads, twice = distinct(first_row)
        lower = [head.lower() for head in heads]
        if {"step", "value"} <= set(lower) <= set(_OF_A_CURVE):
            raise TrackingError(f"{name} {ONE_CURVE}")
        if any(map(_WANDB_CHART.fullmatch, heads)):
            raise TrackingError(
                f"{name} is one chart of Weights & Biases; export the table of the runs instead, or a run's curves:"
                f" wandb.Api().run(PATH).history().to_csv({name!r})"
            )
        # The index of pandas, of what Keras writes: each metric of the training pictures and as val_ of the others.
        if (
            lower[:1] == ["column 1"]
            and {"loss", "val_loss"} <= set(lower)
            and all(head.removeprefix("val_") in _KERAS for head in lower[1:])
        ):
            heads[0] = "epoch"
        remarks += [f"{name}: {words}" for words in twice]
        for cells in rows:
            if len(objects) >= MAX_ROWS:
                raise TrackingError(f"{name} has more than {MAX_ROWS:,} rows; give it in parts")
            place = f"{name}, line {rows.line_num + (said is not None)}"
            if any(cell.strip() for cell in cells[len(heads) :]):
                advice = ", unless decimal commas are meant: put such cells in quotes" if delimiter == "," else ""
                remarks.append(f"{place}: left out, since it has more cells than the header has columns{advice}")
            elif any(cell.strip() for cell in cells):
                objects.append((place, dict(zip(heads, cells, strict=False))))
    except csv.Error as error:
        hint = "; is a quote not closed?" if "limit" in str(error) else ""
        raise TrackingError(f"{name}, line {rows.line_num}: {error}{hint}") from error
    return read_rows(by_epoch(objects), name, remarks)


def is_table(text: str) -> bool:
    """Whether a text begins as a table does that a program or a spreadsheet wrote under another name than ``.csv``."""
    first = (text.splitlines() or [""])[0]
    tabs = first.split("\t")
    return re.match(r"epoch[,;\t]", first, re.I) is not None or (len(tabs) > 1 and any(map(is_score, tabs)))


def distinct(heads: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns' names, each once, and what there is to say of it. MLflow's CSV names a parameter as a metric."""
    out: list[str] = []
    remarks = []
    for n, head in enumerate(heads, start=1):
        base = head.strip() or f"column {n}"
        word = base
        while word in out:
            word = f"{base} ({out.count(base) + sum(o.startswith(f'{base} (') for o in out) + 1})"
        if word != base:
            remarks.append(f"the header has {base!r} twice; the first counts, the other is {word!r}")
        out.append(word)
    return out, remarks


def by_epoch(
    objects: list[tuple[str, Mapping[str, Any]]],
) -> list[tuple[str, Mapping[str, Any]]]:
    """Rows that are the epochs of one training become one object, its changing columns lists; others stay as they are.

    They are epochs where a column ``epoch`` counts up by one from 0 or 1, and every other is the same or numbers.
    """
    column = next((c for c in (objects[0][1] if len(objects) > 1 else ()) if key_of(c) == ("", "epoch")), None)
    if column is None:
        return objects
    found: list[float | None] = []
    for _, row in objects:  # a row without an epoch follows the one before it
        found.append(number(str(row.get(column, ""))) if row.get(column) is not None or not found else found[-1])
    epochs = [int(n) for n in found if n is not None and n == int(n)]
    steps = {after - before for before, after in zip(epochs, epochs[1:], strict=False)}
    if len(epochs) < len(objects) or not steps <= {0, 1} or epochs[0] not in (0, 1) or epochs[-1] == epochs[0]:
        return objects
    for head in [head for head in objects[0][1] if head.lower() in (*SPLIT_HEADS, "mode")]:
        splits = [str(row.get(head, "")).lower() for _, row in objects]
        if set(splits) <= set(SPLIT_WORDS):  # what a row is of goes before its columns' names
            objects = [
                (place, {c if c == column else f"{split} {c}": v for c, v in row.items() if c != head})
                for split, (place, row) in zip(splits, objects, strict=True)
            ]
    out: dict[str, Any] = {}
    for other in dict.fromkeys(other for _, row in objects for other in row):
        cells = [_in_seconds(str(row.get(other, "")).strip()) for _, row in objects]
        if other == column or len(set(cells)) == 1 and not is_metric(key_of(other)[1]):
            out[other] = "" if other == column else cells[0]
        elif any(cell.lower() not in (*MISSING, "nan") and number(cell.rstrip("% ")) is None for cell in cells):
            return objects
        else:
            percent = any(cell.endswith("%") for cell in cells)
            out[f"{other} (%)" if percent else other] = [
                {"step": epoch + (epochs[0] == 0), "value": cell.rstrip("% ")}
                for epoch, cell in zip(epochs, cells, strict=True)
                if cell.lower() not in MISSING
            ]
    for other in [other for other in out if key_of(other)[1] in ("epoch", "step", "global_step")]:
        del out[other]
    return [(f"{objects[0][0]} and after", out)]


def _in_seconds(cell: str) -> str:
    """``01:12`` as ``72``, which is how fastai writes the time of an epoch."""
    match = _CLOCK.fullmatch(cell)
    return f"{int(match[1] or 0) * 3600 + int(match[2]) * 60 + float(match[3]):g}" if match else cell


def read_rows(objects: Iterable[tuple[str, Mapping[str, Any]]], name: str, remarks: Iterable[str] = ()) -> Reading:
    """One run of each row, each with its place. How scores are scaled is decided for a column as a whole."""
    objects = list(objects)
    if len(objects) > MAX_RUNS:
        raise TrackingError(f"{name} holds {len(objects):,} runs; up to {MAX_RUNS:,} are read: give it in parts")
    objects, read_as = scores_named([(place, _apart(row)) for place, row in objects])
    results: list[Result] = []
    seen: dict[str, int] = {}
    unknown: dict[str, None] = {}
    notes = dict.fromkeys([*remarks, *(f"{name}: {remark}" for remark in read_as)])
    scales = _scales([row for _, row in objects])
    for place, row in objects:
        reader = _Row(place, row, scales)
        unknown |= dict.fromkeys(reader.unknown)
        notes |= dict.fromkeys(f"{name}: {remark}" for remark in reader.columns_left_out)
        notes |= dict.fromkeys(f"{place}: {remark}" for remark in reader.remarks)
        if reader.facts.get("status") == _NOT_ENDED:
            notes[f"{place}: left out, since it had not ended when this was written; import it when it has"] = None
            continue
        identity = reader.identity
        same = seen[identity] = seen.get(identity, 0) + 1
        if reader.scores or reader.series or reader.params:
            key = f"{name} {identity} {same}"
            # Such an id is MLflow's own: the same run in each file that was exported, whatever the file is called.
            results.append(reader.result(identity, key) if _MLFLOW_ID.fullmatch(identity) else reader.result(key))
        elif row:
            notes[f"{place}: left out, since no column of it is a setting or a score"] = None
    if unknown:
        notes[f"{name}: kept as tags: {', '.join(unknown)}"] = None
    return Reading(tuple(results), tuple(notes))


def _apart(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with a column for each score of one that names several, where its cell has as many."""
    out: dict[str, Any] = {}
    for column, cell in row.items():
        heads = scores_in(str(column))
        cells = str(cell).split("/") if heads else []
        out |= (
            dict(zip(heads, map(str.strip, cells), strict=True))
            if heads and len(cells) == len(heads)
            else {column: cell}
        )
    return out


def _scales(rows: Sequence[Mapping[str, Any]]) -> dict[str, Scale]:
    """What each accuracy's column is in; a column that could be either goes with the others of the file."""
    written: dict[str, list[str]] = {}
    for row in rows:
        for column, value in row.items():
            if key_of(str(column))[1].endswith(("accuracy", "acc")):
                values = value if isinstance(value, list) else [value]
                written.setdefault(str(column), []).extend(
                    str(v["value"] if isinstance(v, Mapping) and "value" in v else v) for v in values
                )
    found: dict[str, Scale] = {
        column: "percent" if is_percent(column) else scale_of(texts) for column, texts in written.items()
    }
    whole: Scale = "percent" if set(found.values()) <= {"percent", ""} and "percent" in found.values() else ""
    return {column: scale or whole for column, scale in found.items()}


class _Row:
    """One run's cells, each in its place."""

    def __init__(self, place: str, row: Mapping[str, Any], scales: Mapping[str, Scale]) -> None:
        self.place = place
        self.params: dict[str, str] = {}
        self.scores: dict[str, Score] = {}
        self.series: dict[str, list[tuple[int, float]]] = {}
        self.tags: dict[str, str] = {}
        self.facts: dict[str, str] = {}
        self.unknown: list[str] = []
        self.remarks: list[str] = []
        self.columns_left_out: list[str] = []
        self._scales = scales
        self._columns: dict[tuple[str, str], str] = {}
        for column, value in row.items():
            if isinstance(value, list):
                self._series(str(column), value)
            elif value is not None and str(value).strip().lower() not in ("", "null", "none", "nan"):
                self._cell(str(column), storable(str(value)).strip())
        self._given = dict(self.params)
        for key in _NETWORK:
            self.params = network(self.tags.get(key, "")) | self.params
        for key in [key for key in self.series if key in self.scores]:  # final_test_acc beside the list test_acc
            if self.scores[key].value == self.series[key][-1][1]:
                del self.scores[key]
            else:
                del self.series[key]
                self.remarks.append(f"the list of {key} was left out, since its final value is another")
        start = self.params.get("use_pretrained_model")
        if start is not None:
            self.params.setdefault("init", "imagenet" if start == "1" else "scratch")

    @property
    def identity(self) -> str:
        """An id where the row has one, else its name and settings."""
        for key in _ID_KEYS:
            if key in self.facts:
                return f"id {self.facts[key]}"
        settings = " ".join(f"{key}={value}" for key, value in sorted(self._given.items()))
        return f"{self._name()} {settings}".strip()

    def result(self, key: str, former_key: str = "") -> Result:
        """The run."""
        start_ms, end_ms = (self._time(words) for words in (_START, _END))
        lasted = _DURATION.fullmatch(self.facts.get("duration", ""))
        if start_ms is not None and end_ms is None and lasted is not None:
            end_ms = start_ms + round(float(lasted[1]) * _SECONDS[lasted[2]] * 1000)
        return Result(
            key=key,
            former_key=former_key,
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
        return next((self.facts[key] for key in _NAME_KEYS if key in self.facts), self.tags.get(_MLFLOW_NAME, ""))

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
            self._metric(column, key, text)
        elif where == "tags":
            self.tags[key] = text
            if key == "state" and (status := _STATUS.get(re.sub(r"[\s_-]", "", text.lower()))):  # of W&B and Optuna
                self.facts.setdefault("status", status)

    def _where(self, column: str, *, is_series: bool = False) -> tuple[str, str]:
        """Which of facts, params, metrics and tags a column is for, under which key; ``""`` where under none."""
        kind, key = key_of(column)
        if is_series:
            kind, key = "metrics", key if kind else _CURVES.get(key, key)
        elif kind == "" and key in _FACTS:
            kind = "facts"
        elif kind == "" and key in names.PARAMS:
            kind = "params"
        elif kind == "" and is_metric(key):
            kind = "metrics"
        elif kind == "" and key:
            kind = "tags"
            self.unknown.append(column if key == column.lower() else f"{column} as {key}")
        if not key:
            self.columns_left_out.append(f"column {column!r} names nothing and was left out")
            return "", key
        try:
            check_name(names.as_written(key) if kind == "metrics" else key)
        except TrackingError as error:
            self.columns_left_out.append(f"column {column[:80]!r} was left out: {error}")
            return "", key
        other = self._columns.setdefault(("series" if is_series else kind, key), column)
        if other != column:
            self.columns_left_out.append(f"columns {other!r} and {column!r} both mean {key}; the second was left out")
            return "", key
        return kind, key

    def _fact(self, key: str, text: str) -> None:
        if key == "status":
            status = _STATUS.get(re.sub(r"[\s_-]", "", text.lower()))
            if status is None:
                self._fault(key, text, "none of finished, failed, killed, running; the run counts as finished")
                return
            text = status
        elif key in (*_START, *_END) and _time_ms(text) is None:
            self._fault(key, text, "no time since 1970 such as 2019-05-08 or 2019-05-08T07:47Z")
            return
        elif key == "duration" and _DURATION.fullmatch(text) is None:
            self.tags[key] = text
        self.facts[key] = text

    def _param(self, key: str, text: str) -> None:
        wanted = names.PARAMS[key]
        if wanted.type is bool or wanted.choices == (0, 1):
            word = text.lower()
            yes = word in _YES or word.startswith("imagenet")
            if not yes and word not in (*_NO, "scratch"):
                self._fault(key, text, "not yes or no")
            else:
                self.params[key] = str(yes) if wanted.type is bool else str(int(yes))
            return
        plain = number(text)
        if wanted.type is not str and plain is not None and "," in text:
            text = text.replace(",", ".")
        try:
            value = names.parse(wanted, text)
            if isinstance(value, int) and abs(value) >= 2**63:
                raise OverflowError
            self.params[key] = str(value)
        except (ValueError, OverflowError):
            self._fault(key, text, "not a whole number" if wanted.type is int else "not a number")

    def _metric(self, column: str, key: str, text: str) -> None:
        percent = is_percent(column)
        if key.endswith("accuracy"):
            self.scores |= read_scores(key, text, percent=percent, others=self._scales.get(column, ""))
        elif text.lower() in MISSING:
            self.scores[key] = Score(text, None)
        else:
            value = number(text)
            if value is None and text.lower().lstrip("+-") in ("inf", "infinity"):
                self._fault(key, text, "not finite")
            elif value is None:
                self._fault(key, text, "not a number")
            else:
                self.scores[key] = Score(text, value)

    def _series(self, column: str, values: list[Any]) -> None:
        points = [v if isinstance(v, Mapping) else {"step": n, "value": v} for n, v in enumerate(values, start=1)]
        try:
            read = [
                (math.ceil(float(p["step"])), float(str(p["value"]).replace(",", ".")))
                for p in points
                if p["value"] is not None
            ]
        except (TypeError, ValueError, KeyError, OverflowError):
            self.columns_left_out.append(f"{column} was left out: it is not a list of numbers, one an epoch")
            return
        where, key = self._where(column, is_series=True)
        if not where:
            return
        top = 1.0
        if key.endswith("accuracy") and self._scales.get(column) == "percent":
            top = 100.0
            self.remarks.append(f"{key} was read as percent")
        bad = [
            step
            for step, value in read
            if not math.isfinite(value) or key.endswith("accuracy") and not 0 <= value <= top
        ]
        if bad:
            listed = ", ".join(map(str, bad[:10]))
            self.remarks.append(f"{key} is not a possible number after epoch {listed}; left out there")
        self.series[key] = [(s, float(f"{v / top:.12g}") if top > 1 else v) for s, v in read if s not in set(bad)]
        if not self.series[key]:
            del self.series[key]

    def _time(self, words: Iterable[str]) -> int | None:
        text = next((self.facts[key] for key in words if key in self.facts), None)
        return None if text is None else _time_ms(text)

    def _fault(self, key: str, text: str, why: str) -> None:
        self.remarks.append(f"{key} {text[:80]!r} was left out: it is {why}")


def _time_ms(text: str) -> int | None:
    """A time as people and programs write it, in milliseconds since 1970 (UTC where it says nothing else).

    None for what is neither, or before 1970: MLflow's times begin there.
    """
    if re.fullmatch(r"[0-9]{12,15}", text):
        return int(text)
    moment = None
    if re.fullmatch(r"[0-9]{9,10}(\.[0-9]+)?", text):
        moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=float(text))
    for form in ("", *_TIME_FORMS):
        if moment is None:
            with suppress(ValueError):
                iso = text.replace("Z", "+00:00")
                moment = datetime.strptime(text, form) if form else datetime.fromisoformat(iso)
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    time_ms = round(moment.timestamp() * 1000)
    return time_ms if 0 <= time_ms < _END_OF_TIME_MS else None
