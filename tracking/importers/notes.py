"""Training notes as people keep them: a heading with the settings, then lines of scores.

44 layers, 30 epochs, transfer learning w/ imagenet:
training accuracy:   0.994
validation accuracy: 98.2 %
test: ?
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tracking import names
from tracking.importers.result import Reading, Result, Score, read_score

_SCORE = re.compile(
    r"(?P<split>training|train|validation|valid|val|testing|test)\b[\s_-]*"
    r"(?P<what>accuracy|acc|top[\s_-]?5(?:[\s_-]*accuracy)?|loss)?\s*[:=]\s*(?P<value>.*)",
    re.IGNORECASE,
)
_SPLITS = {"training": "train", "valid": "validation", "val": "validation", "testing": "test"}
# What a heading may say, and the parameter it sets; the first group is the value.
_SETTINGS = (
    ("num_layers", re.compile(r"(\d+)[\s-]*layers?\b|\bresnet[\s-]?(\d+)", re.IGNORECASE)),
    ("epochs", re.compile(r"(?<!\d)(\d{1,9})[\s-]*epochs?\b", re.IGNORECASE)),
    ("mini_batch_size", re.compile(r"batch(?:[\s-]*size)?\s*(?:of|=|:)?\s*(\d+)", re.IGNORECASE)),
    ("learning_rate", re.compile(r"(?:learning[\s-]*rate|\blr)\s*(?:of|=|:)?\s*([\d.]+(?:e-?\d+)?)", re.IGNORECASE)),
    ("optimizer", re.compile(r"\b(sgd|adam|rmsprop|nag)\b", re.IGNORECASE)),
    ("seed", re.compile(r"\bseed\s*(?:=|:)?\s*(\d+)", re.IGNORECASE)),
)
_TRANSFER = re.compile(r"transfer|pre-?trained|image-?net|fine-?tun", re.IGNORECASE)
_SCRATCH = re.compile(r"scratch|\bdefault\b", re.IGNORECASE)


def read_notes(text: str, name: str) -> Reading:
    """The runs of notes; ``name`` is the file's. A heading counts when it names layers or epochs and scores follow."""
    results: list[Result] = []
    unread: list[int] = []
    seen: dict[str, int] = {}
    heading: tuple[int, str] | None = None
    scores: dict[str, Score] = {}

    def close() -> None:
        nonlocal heading, scores
        if heading is not None and scores:
            number, words = heading
            same = seen[words.lower()] = seen.get(words.lower(), 0) + 1
            results.append(_result(name, number, words, same, scores))
        elif heading is not None:
            unread.append(heading[0])
        heading, scores = None, {}

    for number, line in enumerate(text.splitlines(), start=1):
        words = " ".join(line.split())
        if not words:
            continue
        match = _SCORE.fullmatch(words)
        if match is not None and heading is not None:
            metric = _metric(match["split"], match["what"])
            if metric in scores:
                unread.append(number)  # a second value of the same score: which one is meant is unknown
            else:
                scores[metric] = read_score(match["value"]) if "loss" not in metric else _loss(match["value"])
        elif match is None and _settings(words.rstrip(":")):
            close()
            heading = (number, words.rstrip(": "))
        else:
            unread.append(number)
    close()
    remarks = (f"{name}: {_lines(sorted(unread))} hold no result and were left out",) if unread else ()
    return Reading(tuple(results), remarks)


def _result(name: str, number: int, heading: str, same: int, scores: dict[str, Score]) -> Result:
    params = _settings(heading)
    label = {}
    if _TRANSFER.search(heading):
        params |= {"use_pretrained_model": "1", "init": "imagenet"}
        label = {names.INIT_LABEL: "ImageNet, as the notes say"}
    elif _SCRATCH.search(heading):
        params |= {"use_pretrained_model": "0", "init": "scratch"}
    return Result(
        key=f"{name} {heading.lower()} {same}",
        place=f"{name}, line {number}",
        run_name=heading,
        params=params,
        scores=scores,
        tags=label,
    )


def _settings(heading: str) -> dict[str, str]:
    found = {}
    for key, pattern in _SETTINGS:
        match = pattern.search(heading)
        if match is not None:
            found[key] = next(group for group in match.groups() if group is not None).lower()
    return found if "num_layers" in found or "epochs" in found else {}


def _metric(split: str, what: str | None) -> str:
    split = _SPLITS.get(split.lower(), split.lower())
    if what is not None and what.lower() == "loss":
        return f"{split}_loss"
    if what is not None and what.lower().startswith("top"):
        return names.top_k_accuracy(split, 5)
    return f"{split}_accuracy"


def _loss(text: str) -> Score:
    try:
        return Score(text.strip(), float(text))
    except ValueError:
        return read_score("?") if not text.strip() else Score(text.strip(), None)


def _lines(numbers: Sequence[int]) -> str:
    """``lines 1 to 11 and 40``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    ranges = [str(first) if first == last else f"{first} to {last}" for first, last in spans]
    words = ranges[0] if len(ranges) == 1 else f"{', '.join(ranges[:-1])} and {ranges[-1]}"
    return f"line{'' if words.isdigit() else 's'} {words}"
