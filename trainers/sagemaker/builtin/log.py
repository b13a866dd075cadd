"""The built-in algorithm's log lines become events."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracking import names

# Terminal colours, also as CloudWatch writes them, and where a copy lost the escape itself.
_COLOUR = re.compile(r"(?:\x1b|#033|\\x1b|\\033)?\[\d{0,3}(?:;\d{1,3})*m")
_STAMP = re.compile(r"\[\d\d/\d\d/\d{4} \d\d:\d\d:\d\d [A-Z]+ \d+\]")
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)\b"
_GAP = r"(?:\t| {2,})"
_EPOCH = re.compile(rf"Epoch\[(\d{{1,9}})\] (Train|Validation)-([\w.-]+)=({_NUMBER})", re.IGNORECASE)
_BATCH = re.compile(
    rf"Epoch\[(\d{{1,9}})\] Batch \[(?:\d+-)?(\d{{1,9}})\]{_GAP}Speed: ({_NUMBER}) samples/sec"
    rf"((?:{_GAP}[\w.-]+={_NUMBER})*)"
)
_TIME = re.compile(r"Epoch\[(\d{1,9})\] Time cost=(\d+(?:\.\d+)?)")
_BEST = re.compile(rf"Storing the best model with validation accuracy: ({_NUMBER})")
_SAVED = re.compile(r'Saved checkpoint to "(?:[^"]*/)?(image-classification-(\d{4,9})\.params)"')
_FINAL = re.compile(r"Final configuration: (\{.*\})")
_PARAMETER = re.compile(r"([a-z][\w ]*): (\S+)")
_ERROR = re.compile(r"\b((?:Customer|Client|Algorithm|Input) ?Error: .*)")
_WORDS = {"cross_entropy": "loss", "nll_loss": "loss"}


def log_events(line: str) -> Iterator[dict[str, Any]]:
    """What a log line says; several things where messages were glued together. Epochs count from 1, as everywhere in
    this project (the log's own from 0).

    ``metric`` is a journal event but for its time. The others inform: ``progress`` (epoch, batch, images_per_s where
    it is a number, values), ``best`` (validation_accuracy of the epoch just reported), ``checkpoint`` (epoch, file),
    ``configuration`` and ``parameters`` (values, as text: what was asked for with the defaults, and what is used) and
    ``error`` (text).
    """
    plain = _COLOUR.sub("", line).replace("#011", "\t")  # CloudWatch's tab
    starts = [match.start() for match in _STAMP.finditer(plain)]
    for start, end in zip([0, *starts], [*starts, None], strict=True):
        event = _event(plain[start:end])
        if event is not None:
            yield event


def final_metrics(listed: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The last values that SageMaker read from the log itself (FinalMetricDataList), in this project's names."""
    found: dict[str, float] = {}
    # The names that end in ":epoch" come last: the others may be of the last batch.
    for item in sorted(listed, key=lambda item: str(item["MetricName"]).endswith(":epoch")):
        match = re.fullmatch(r"(train|validation):([\w.-]+)(?::epoch)?", str(item["MetricName"]))
        if match is not None:
            found[_metric_key(match[1], match[2])] = float(item["Value"])
    return found


def best_epoch(accuracies: dict[int, float]) -> tuple[int, float] | None:
    """The epoch whose weights the built-in keeps, and its validation accuracy: the first of the highest."""
    numbers = {epoch: value for epoch, value in sorted(accuracies.items()) if value == value}  # NaN is no best
    if not numbers:
        return None
    epoch = max(numbers, key=lambda e: numbers[e])
    return epoch, numbers[epoch]


def _event(line: str) -> dict[str, Any] | None:
    if "Epoch[" in line:
        return _epoch_event(line)
    if match := _BEST.search(line):
        return {"event": "best", "validation_accuracy": float(match[1])}
    if match := _SAVED.search(line):
        return {"event": "checkpoint", "epoch": int(match[2]), "file": match[1]}
    if match := _FINAL.search(line):
        return _configuration(match[1])
    if match := _ERROR.search(line):
        return {"event": "error", "text": match[1].strip()}
    stamp = _STAMP.match(line)
    if stamp is not None and (match := _PARAMETER.fullmatch(line[stamp.end() :].strip())):
        key = "resize" if match[1] == "image resize size" else match[1]
        if key in names.PARAMS and match[2] != "None":
            return {"event": "parameters", "values": {key: match[2]}}
    return None


def _epoch_event(line: str) -> dict[str, Any] | None:
    if match := _EPOCH.search(line):
        key = _metric_key(match[2], match[3])
        return {"event": "metric", "step": int(match[1]) + 1, "values": {key: float(match[4])}}
    if match := _TIME.search(line):
        return {"event": "metric", "step": int(match[1]) + 1, "values": {names.EPOCH_TRAINING_TIME_S: float(match[2])}}
    if match := _BATCH.search(line):
        speed = float(match[3])
        values = {
            _metric_key("train", word.removeprefix("Train-")): float(number)
            for word, number in re.findall(rf"([\w.-]+)=({_NUMBER})", match[4])
        }
        return {
            "event": "progress",
            "epoch": int(match[1]) + 1,
            "batch": int(match[2]),
            **({"images_per_s": speed} if math.isfinite(speed) else {}),
            "values": values,
        }
    return None


def _metric_key(split: str, word: str) -> str:
    """Our name of ``Train-top_k_accuracy_5`` and the like; unknown words keep theirs, with the split before it."""
    if match := re.fullmatch(r"top_k_accuracy_(\d+)", word):
        return names.top_k_accuracy(split.lower(), int(match[1]))
    plain = word.replace("-", "_")
    return f"{split.lower()}_{_WORDS.get(plain, plain)}"


def _configuration(text: str) -> dict[str, Any] | None:
    try:
        values = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    if not isinstance(values, dict):
        return None
    return {"event": "configuration", "values": {str(key): str(value) for key, value in values.items() if value != ""}}
