"""The built-in algorithm's log lines become events."""

from __future__ import annotations

import ast
import re
from typing import Any

from tracking import names

_EPOCH = re.compile(r"Epoch\[(\d+)\] (Train|Validation)-(\w+)=([-+0-9.eE]+|nan)")
_BATCH = re.compile(
    r"Epoch\[(\d+)\] Batch \[(\d+)\](?:\t|#011)Speed: ([\d.]+) samples/sec((?:(?:\t|#011)[\w-]+=[\d.]+)*)"
)
_TIME = re.compile(r"Epoch\[(\d+)\] Time cost=([\d.]+)")
_BEST = re.compile(r"Storing the best model with validation accuracy: ([\d.]+)")
_SAVED = re.compile(r'Saved checkpoint to "(?:[^"]*/)?(image-classification-(\d{4,})\.params)"')
_FINAL = re.compile(r"Final configuration: (\{.*\})\s*$")
_ERROR = re.compile(r"\b((?:Customer|Client|Algorithm|Input) ?Error: .*)")
_METRICS = {
    ("Train", "accuracy"): names.TRAIN_ACCURACY,
    ("Validation", "accuracy"): names.VALIDATION_ACCURACY,
    ("Train", "cross-entropy"): names.TRAIN_LOSS,
    ("Validation", "cross-entropy"): names.VALIDATION_LOSS,
}


def log_events(line: str) -> dict[str, Any] | None:
    """What a log line says, or None. Epochs count from 1, as everywhere in this project (the log's own from 0).

    ``metric`` is a journal event but for its time. The others inform: ``progress`` (epoch, batch, images_per_s,
    values), ``best`` (validation_accuracy of the epoch just reported), ``checkpoint`` (epoch, file), ``configuration``
    (values, as text) and ``error`` (text).
    """
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
    return None


def best_epoch(accuracies: dict[int, float]) -> tuple[int, float] | None:
    """The epoch whose weights the built-in keeps, and its validation accuracy: the first of the highest."""
    numbers = {epoch: value for epoch, value in sorted(accuracies.items()) if value == value}  # NaN is no best
    if not numbers:
        return None
    epoch = max(numbers, key=lambda e: numbers[e])
    return epoch, numbers[epoch]


def _epoch_event(line: str) -> dict[str, Any] | None:
    if match := _EPOCH.search(line):
        epoch, split, word, number = int(match[1]) + 1, match[2], match[3], float(match[4])
        key = _metric_key(split, word)
        return {"event": "metric", "step": epoch, "values": {key: number}} if key else None
    if match := _TIME.search(line):
        return {"event": "metric", "step": int(match[1]) + 1, "values": {names.EPOCH_TRAINING_TIME_S: float(match[2])}}
    if match := _BATCH.search(line):
        values = {}
        for part in re.split(r"\t|#011", match[4]):
            word, _, number_text = part.partition("=")
            if word:
                values[_metric_key("Train", word) or word] = float(number_text)
        return {
            "event": "progress",
            "epoch": int(match[1]) + 1,
            "batch": int(match[2]),
            "images_per_s": float(match[3]),
            "values": values,
        }
    return None


def _metric_key(split: str, word: str) -> str | None:
    """Our name of ``Train-top_k_accuracy_5`` and the like; unknown words keep theirs, with the split before it."""
    if match := re.fullmatch(r"top_k_accuracy_(\d+)", word):
        return names.top_k_accuracy(split.lower(), int(match[1]))
    return _METRICS.get((split, word), f"{split.lower()}_{word.replace('-', '_')}")


def _configuration(text: str) -> dict[str, Any] | None:
    try:
        values = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    if not isinstance(values, dict):
        return None
    return {"event": "configuration", "values": {str(key): str(value) for key, value in values.items() if value != ""}}
