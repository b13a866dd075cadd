"""Training notes as people keep them: a heading with the settings, then lines of scores, or a table.

44 layers, 30 epochs, transfer learning w/ imagenet:
training accuracy:   0.994
- **Validation accuracy:** 98.2 %
test: ?

34 layers, 50 epochs: train 0.99, validation 0.97

| layers | epochs | test acc |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tracking import names
from tracking.importers import tables
from tracking.importers.headers import is_score, is_start, scores_in
from tracking.importers.result import (
    JOBS_COMMAND,
    MISSING,
    Reading,
    Result,
    Score,
    network,
    number,
    read_score,
    read_scores,
    scale_of,
)

_SPLIT = r"(?:(?P<best>best|highest|max(?:imum)?)[\s_-]+)?(?:(?:final|last|avg|average|mean)[\s_-]+)?" + (
    r"(?<![a-z])(?P<split>training|train|trn|validation|valid|val|testing|test)"
)
_WHAT = r"(?:top[\s_-]?(?P<k>[15])[\s_-]*)?(?P<what>accuracy|acc|loss)\b|top[\s_-]?(?P<only>5)"
_BARE = r"(?:top[\s_-]?(?P<k2>[15])[\s_-]*)?\b(?P<what2>accuracy|acc|loss)\b"
_NUMBER = r"[+-]?(?:\d+(?:[.,]\d+)?|[.,]\d+)(?:e[+-]?\d+)?(?:\s*%)?"
_COUNTS = r"(?:\s*[(\[]\s*\d+\s*/\s*\d+\s*[)\]])?"
_SPREAD = r"(?:\s*(?:±|\+/-|\+-)\s*[\d.,]*\d(?:\s*%)?)?"
_VALUE = rf"(?P<value>{_NUMBER}{_SPREAD}{_COUNTS}|\d+\s*/\s*\d+)(?![\w/])(?!\.\d)"
# One score within a line: behind its pictures' name, behind a word alone (``Loss: 0.2 | Acc: 94 %``), or before both.
_NAMED = re.compile(
    rf"(?:{_SPLIT}(?:[\s_-]*(?:{_WHAT}))?|{_BARE})(?P<sep>\s*(?:[:=]>?|->|→|\bis\b|\bof\b|\s[-–]\s)\s*|\s+(?:[a-z]+\s+)?"
    rf"from\s+{_NUMBER}\s+to\s+|\s+){_VALUE}",
    re.I,
)
_BEHIND = re.compile(rf"(?<![~≈\d.,]){_VALUE}\s+{_SPLIT}[\s_-]*(?:{_WHAT})", re.I)
_WHOLE = re.compile(rf"{_SPLIT}\b[\s_-]*(?:{_WHAT})?\s*[:=]\s*(?P<value>.*)", re.I)
_SPLITS = {"training": "train", "trn": "train", "valid": "validation", "val": "validation", "testing": "test"}
# What a heading may say, and the parameter it sets; the first group is the value.
_EPOCHS = r"ep(?:oc|co)hs"
_SETTINGS = (
    ("num_layers", re.compile(r"(?<!last )(?<!first )(?<!top )(?<!frozen )(?<![\d.])(\d+)[\s-]*layers?\b", re.I)),
    ("num_layers", re.compile(r"\b(?:num_?)?(?:layers|depth)['\"]?\s*[:=]\s*(\d+)", re.I)),
    ("epochs", re.compile(rf"(?<![\d.a-z])(?<!resnet[\s_-])(\d{{1,9}})[\s-]*(?:{_EPOCHS}|epoch)\b", re.I)),
    ("epochs", re.compile(rf"{_EPOCHS}['\"]?\s*(?:[:=-]\s*)?(\d{{1,9}})(?![\d.])|\bepoch\s*=\s*(\d{{1,9}})", re.I)),
    ("mini_batch_size", re.compile(r"batch(?:[\s_-]*size)?['\"]?\s*(?:of|=|:)?\s*(\d+)", re.I)),
    (
        "learning_rate",
        re.compile(r"(?:learning[\s_-]*rate|\b(?:init_)?lr)['\"]?\s*(?:of|=|:)?\s*(\d*[.,]?\d+(?:e-?\d+)?)", re.I),
    ),
    ("optimizer", re.compile(r"\b(sgd|adam|rmsprop|nag)\b", re.I)),
    ("seed", re.compile(r"\bseed\s*(?:=|:)?\s*(\d+)", re.I)),
)
_LEARNED = r"(?:transfer\w*|pre-?train\w*|(?<!tiny)(?<!tiny[\s_-])image-?net\b|fine-?tun\w*)"
_NOT = r"(?:\b(?:not|no|non|without|never)\b|w/o|\bun(?=pre))"
_NOT_LEARNED = re.compile(
    rf"{_NOT}[\s-]*(?:(?:any|imagenet|the|use|using|a)[\s-]+)?{_LEARNED}(?:\s+(?:weights|learning|model))?"
    r"|pre-?train\w*(?:[\s_]+\w+)?['\"]?\s*[:=]\s*['\"]?(?:false|no|none|0)\b"
    r"|\bweights['\"]?\s*[:=]\s*['\"]?(?:none|false)\b",
    re.I,
)
_NOT_SCRATCH = re.compile(rf"{_NOT}\s+(?:trained\s+)?(?:from\s+)?scratch", re.I)
# Other pictures than ImageNet's: where the weights come from is then not what the vocabulary means.
_OTHER_WEIGHTS = re.compile(r"pre-?train\w*\s+(?:on|with)\s+(?!the\s|image-?net)\w", re.I)
_DATA_SET = re.compile(r"\b(?:on|data(?:\s?set)?\s*[:=])\s*image-?net\b", re.I)
_TRANSFER = re.compile(_LEARNED, re.I)
_SCRATCH = re.compile(r"scratch|random\w*[\s-]+init", re.I)
_DEFAULT = re.compile(r"\bdefault\b", re.I)
# A line of a log: Epoch 3/50, [Epoch 3], Epoch[3], Epoch: 3; "epoch 3" only where a line begins with it.
_EPOCH_LINE = re.compile(
    r"^\W*epoch\W{0,3}\d|\bepoch\s*\[\s*\d|\[\s*epoch\W{0,2}\d|(?<!\()(?<!at )\bepoch\W{0,2}\d+\s*/\s*\d", re.I
)
_OF_A_JOB = re.compile(r"\[\d\d/\d\d/\d{4} \d\d:\d\d:\d\d [A-Z]+ \d+\]")  # SageMaker's built-in stamps its lines so
_MARKUP = re.compile(r"</?(?:br|b|i|p|strong|em|li|ul)\s*/?>|\*\*|__|`|^\s*>+", re.I)
_LINK = re.compile(r"!?\[([^\]\[|]*)\]\([^()\s]*\)")
_BULLET = re.compile(r"^\s*(?:[-*+•–]|\d{1,2}[.)])\s+")
_SECTION = re.compile(r"^\s*(#+)\s*(.*?)\s*#*\s*$")
_RULE = re.compile(r"[|+]?\s*:?-+:?\s*(?:[|+]\s*:?-+:?\s*)*[|+]?")
# Columns whose ImageNet is no start: what pictures are normalised by, or trained on.
_NO_START = re.compile(r"normali[sz]|data|mean|stat", re.I)
_LEFT = re.compile(r"[^\W\d_]{2,}|\d")
_LIKE_A_SCORE = re.compile(r"\b(?:acc|accuracy|prec(?:ision)?|err|loss|error|f1|top[\s_-]?\d)\b.*\d|\d\s*%", re.I)
_LONGEST_SAID = 100
_LONGEST_LINE = 1000


@dataclass(kw_only=True)
class _Note:
    """A heading, and what the lines below it say: scores as written, and settings."""

    number: int
    heading: str
    said: str
    written: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    bulleted: bool = False  # its last score was an item of a list


def read_notes(text: str, name: str) -> Reading:
    """The runs of notes; ``name`` is the file's. A heading counts when it names layers or epochs and scores follow.

    A heading, and a blank line behind scores, end a run: what comes later is not its own.
    """
    reader = _Reader(name)
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        length = _table_length(lines, at)
        if length:
            reader.table(at + 1, lines[at : at + length])
        else:
            reader.line(at + 1, lines[at])
        at += max(length, 1)
    return reader.reading()


class _Reader:
    """Line after line of one file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._notes: list[_Note] = []
        self._note: _Note | None = None
        self._sections: list[tuple[int, str]] = []
        self._rows: list[tuple[str, Mapping[str, Any]]] = []
        self._left_out: list[int] = []
        self._log: list[int] = []
        self._remarks: list[str] = []
        self._last = 0  # the last line that said something
        self._in_log = False
        self._of_a_job = False

    def line(self, number: int, raw: str) -> None:
        """A line outside tables."""
        if len(raw) > _LONGEST_LINE:
            self._say(number, f"left out, since it is longer than {_LONGEST_LINE} characters")
            return
        section = _SECTION.match(raw)
        bulleted = _BULLET.match(raw) is not None
        words = " ".join(_BULLET.sub("", _MARKUP.sub("", raw).lstrip("# ")).split())
        if not re.search(r"\w|\?", words):
            return
        after_blank, self._last = number > self._last + 1, number
        note = self._note
        if section is not None:
            level = len(section[1])
            self._sections = [*(s for s in self._sections if s[0] < level), (level, words)]
        if section is not None or (after_blank and note and note.written and not (bulleted and note.bulleted)):
            self._close()
        if _EPOCH_LINE.search(words):
            self._close()
            self._log.append(number)
            self._in_log = True
            self._of_a_job |= _OF_A_JOB.search(raw) is not None
            return
        scores, before, rest = _scores(words)
        own = before if scores and _is_heading(_settings(before)[0]) else rest
        settings = _settings(own)[0]
        note = self._note
        if _is_heading(settings) and (own is before or note is None or not scores):
            self._heading(number, own.strip(" ,;:–|(-") if scores else words.rstrip(": "), settings, after_blank)
            self._in_log = False
        elif note is not None and (settings or _init(rest) is not None):
            note.said += f", {rest}"
        elif not scores:
            if _LIKE_A_SCORE.search(words):
                self._say(number, f"{_short(words)} was left out: a score is read in the form 'test accuracy: 0.95'")
            elif section is None or _init(words) is None:
                self._left_out.append(number)
            if note is not None and (note.written or words.endswith(":")):
                self._close()
        elif note is not None and _LEFT.search(rest):
            self._say(number, f"read in part; {_short(rest)} was left out")
        self._add(number, words, scores, bulleted)

    def _heading(self, number: int, heading: str, settings: Mapping[str, str], after_blank: bool) -> None:
        note = self._note
        if (
            note is not None
            and not note.written
            and not after_blank
            and not set(settings) & set(_settings(note.said)[0])
        ):
            note.said += f", {heading}"  # Model: resnet18, and below it Epochs: 25
            return
        self._close()
        section = next((words for _, words in reversed(self._sections) if _init(words) is not None), "")
        said = heading if _init(heading) is not None or not section else f"{heading}, {section}"
        self._note = _Note(number=number, heading=heading, said=said)

    def _add(self, number: int, words: str, scores: Sequence[tuple[str, str, str]], bulleted: bool) -> None:
        note = self._note
        if scores and self._in_log:
            self._log.append(number)
            return
        if scores and note is None:
            self._say(number, f"{_short(words)} was left out: no heading that names layers or epochs is above it")
            return
        for metric, written, remark in scores:
            assert note is not None
            if not metric:
                self._say(number, f"{_short(written)} was left out: it names none of train, validation and test")
            elif metric in note.written:
                self._say(number, f"{_short(words)} was left out: a second {metric} of {note.heading!r}")
            else:
                note.written[metric] = written
                note.bulleted = bulleted
                if remark:
                    note.remarks[metric] = remark

    def table(self, first: int, lines: Sequence[str]) -> None:
        """A markdown table: a header, a rule, and a run or an epoch a row."""
        cells = [_cells(line) for line in lines]
        named = [head or f"column {n}" for n, head in enumerate(cells[0], start=1)]
        heads, twice = tables.distinct(named)
        self._last = first + len(lines) - 1
        rows = [(first + n, dict(zip(heads, row, strict=False))) for n, row in enumerate(cells) if n > 1 and any(row)]
        if not any(is_score(head) or scores_in(head) for head in heads):
            if len(heads) == 2:  # | Test accuracy | 0.95 |
                for number, pair in ((first + n, row) for n, row in enumerate(cells) if n != 1 and any(row)):
                    self._last = number - 1
                    self.line(number, ": ".join(pair[:2]))
            else:
                said = ", ".join(_short(head)[1:-1] for head in heads[:8]) + (", …" if len(heads) > 8 else "")
                self._say(first, f"a table was left out, since no column is a score's (Test acc, Top-1 err): {said}")
            return
        self._close()
        self._remarks += [f"{self._name}, line {first}: {words}" for words in twice]
        said = next((init for _, words in reversed(self._sections) if (init := _init(words)) is not None), "")
        filled: list[tuple[str, Mapping[str, Any]]] = []
        for number, row in rows:
            one = _init(" ".join(cell for head, cell in row.items() if not _NO_START.search(head))) or said
            knows = any(is_start(head) for head in heads) or not one
            init = "imagenet" if one == "1" else "scratch"
            start = {} if knows else {"init": init, "use_pretrained_model": one}
            filled.append((f"{self._name}, line {number}", {**{k: v for k, v in row.items() if v}, **start}))
        self._rows += tables.by_epoch(filled)

    def reading(self) -> Reading:
        """All runs, and what was left out."""
        self._close()
        accuracies = [w for note in self._notes for metric, w in note.written.items() if metric.endswith("accuracy")]
        whole = scale_of(accuracies)
        seen: dict[str, int] = {}
        results = []
        for note in self._notes:
            words = note.heading.lower()
            same = seen[words] = seen.get(words, 0) + 1
            scores: dict[str, Score] = {}
            scale = scale_of(w for metric, w in note.written.items() if metric.endswith("accuracy")) or whole
            for metric, written in note.written.items():
                is_loss = metric.endswith("loss")
                scores |= {metric: _loss(written)} if is_loss else read_scores(metric, written, others=scale)
                if metric in note.remarks and scores[metric].value is not None:
                    both = "; ".join(filter(None, (scores[metric].remark, note.remarks[metric])))
                    scores[metric] = replace(scores[metric], remark=both)
            results.append(self._result(note, same, scores))
        rows = tables.read_rows(self._rows, self._name)
        for result in rows.results:
            if result.scores or result.series:
                results.append(result)
            else:
                self._remarks.append(f"{result.place}: left out, since it has no score")
        remarks = [*self._remarks, *rows.remarks]
        if self._log:
            remarks.append(
                f"{self._name}: {_lines(self._log)} belong to a log by epoch, not notes, and were left out; give the"
                " final scores under a heading (44 layers, 30 epochs), or the epochs as a table or as JSON with lists"
            )
        if self._of_a_job:
            remarks.append(
                f"{self._name}: the log of a SageMaker job; {JOBS_COMMAND} from the account, with its curves"
            )
        if self._left_out:
            verbs = "hold no result and were" if len(self._left_out) > 1 else "holds no result and was"
            remarks.append(f"{self._name}: {_lines(sorted(self._left_out))} {verbs} left out")

        return Reading(tuple(results), tuple(remarks))

    def _result(self, note: _Note, same: int, scores: Mapping[str, Score]) -> Result:
        params, unclear = _settings(note.said)
        if unclear:
            self._say(note.number, f"more than one value of {', '.join(unclear)}; none of them was taken")
        init = _init(note.said)
        label = {}
        if init == "1":
            params |= {"use_pretrained_model": "1", "init": "imagenet"}
            label = {names.INIT_LABEL: "ImageNet, as the notes say"}
        elif init == "0":
            params |= {"use_pretrained_model": "0", "init": "scratch"}
        return Result(
            key=f"{self._name} {note.heading.lower()} {same}",
            place=f"{self._name}, line {note.number}",
            run_name=note.heading,
            params=params,
            scores=scores,
            tags=label,
        )

    def _close(self) -> None:
        note, self._note = self._note, None
        if note is not None and note.written:
            self._notes.append(note)
        elif note is not None:
            self._left_out.append(note.number)

    def _say(self, number: int, what: str) -> None:
        self._remarks.append(f"{self._name}, line {number}: {what}")


def _scores(words: str) -> tuple[list[tuple[str, str, str]], str, str]:
    """The scores of a line as (metric, as written, remark), the text before the first, and all that is no score."""
    found: list[tuple[int, int, re.Match[str]]] = []
    for match in (*_NAMED.finditer(words), *_BEHIND.finditer(words)):
        plain = not _word(match) and "sep" in match.groupdict() and not re.search(r"[:=]", match["sep"])
        if plain and not re.search(r"[.,%]", match["value"]):
            continue
        if all(match.end() <= start or match.start() >= end for start, end, _ in found):
            found.append((match.start(), match.end(), match))
    found.sort(key=lambda item: item[0])
    if _are_parts([match for _, _, match in found]):
        return [], words, words
    if not found:
        whole = _WHOLE.fullmatch(words)
        if whole is None or not (whole["what"] or whole["only"] or whole["value"].strip().lower() in MISSING):
            return [], words, words
        return [_said(whole, None)], "", ""
    scores = []
    split = None
    for _, _, match in found:
        split = match["split"] or split
        scores.append(_said(match, split))
    rest = words
    for start, end, _ in reversed(found):
        rest = f"{rest[:start]} {rest[end:]}"
    return scores, words[: found[0][0]], " ".join(rest.split()).strip(" ,;:|.–-")


def _are_parts(found: Sequence[re.Match[str]]) -> bool:
    """Whether the values are the sizes of the splits: numbers of pictures, or shares that add up to all of them."""
    if any(_word(match) for match in found):
        return False
    if len(found) < 2:
        return any(match["value"].isdecimal() and len(match["value"]) > 3 for match in found)
    values = [read_score(match["value"]).value for match in found]
    counts = all(match["value"].isdecimal() and int(match["value"]) > 100 for match in found)
    return counts or abs(sum(value or 0 for value in values) - 1) < 0.001


def _word(match: re.Match[str]) -> str:
    return str(match["what"] or match["only"] or match.groupdict().get("what2") or "")


def _said(match: re.Match[str], split: str | None) -> tuple[str, str, str]:
    """A score's metric (empty where nothing says of which pictures), as written, and what to flag."""
    groups = match.groupdict()
    split = groups["split"] or split
    if split is None:
        return "", match[0].strip(), ""
    split = _SPLITS.get(split.lower(), split.lower())
    written = match["value"].strip()
    if (groups["what"] or groups.get("what2") or "").lower() == "loss":
        return f"{split}_loss", written, ""
    if groups["only"] or "5" in (groups["k"], groups.get("k2")):
        return names.top_k_accuracy(split, 5), written, ""
    if groups["best"] and split == "validation":
        return names.BEST_VALIDATION_ACCURACY, written, ""
    chosen = "is the best of its epochs, chosen on the test pictures" if groups["best"] and split == "test" else ""
    return names.accuracy(split), written, chosen


def _settings(text: str) -> tuple[dict[str, str], list[str]]:
    """The parameters a text names, and those of which it names several values."""
    values: dict[str, dict[str, None]] = {}
    for key, pattern in _SETTINGS:
        for match in pattern.finditer(text):
            value = next(group for group in match.groups() if group is not None).lower().replace(",", ".")
            values.setdefault(key, {})[value] = None
    found = network(text)
    if "num_layers" in found:
        values.setdefault("num_layers", {})[found["num_layers"]] = None
        if "resnet_version" in found:
            values["resnet_version"] = {found["resnet_version"]: None}
    unclear = [key for key, several in values.items() if len(several) > 1]
    return {key: next(iter(several)) for key, several in values.items() if len(several) == 1}, unclear


def _is_heading(settings: Mapping[str, str]) -> bool:
    return "num_layers" in settings or "epochs" in settings


def _init(text: str) -> str | None:
    """``1`` where the training began from ImageNet's weights, ``0`` from scratch; None where that is not clear."""
    scratch = _NOT_LEARNED.search(text) is not None
    text = _NOT_LEARNED.sub("", text)
    learned = _NOT_SCRATCH.search(text) is not None
    text = _NOT_SCRATCH.sub("", text)
    if _OTHER_WEIGHTS.search(text):
        return None
    text = _DATA_SET.sub("", text)
    learned = learned or _TRANSFER.search(text) is not None
    scratch = scratch or _SCRATCH.search(text) is not None
    if learned or scratch:
        return None if learned and scratch else "1" if learned else "0"
    return "0" if _DEFAULT.search(text) else None


def _table_length(lines: Sequence[str], at: int) -> int:
    """How many lines a markdown table has that begins here; 0 where none does."""
    if (
        at + 1 >= len(lines)
        or "|" not in lines[at]
        or len(lines[at + 1]) > _LONGEST_LINE
        or not _RULE.fullmatch(lines[at + 1].strip())
    ):
        return 0
    end = at + 2
    while end < len(lines) and "|" in lines[end]:
        end += 1
    return end - at


def _cells(line: str) -> list[str]:
    line = _LINK.sub(r"\1", line).replace("<br>", " ")
    return [
        " ".join(_MARKUP.sub("", cell).split()) for cell in line.strip().removeprefix("|").removesuffix("|").split("|")
    ]


def _short(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SAID else f"{text[:_LONGEST_SAID]}…")


def _loss(text: str) -> Score:
    value = number(text)
    if value is None and text.lower() not in MISSING:
        return Score(text, None, f"{text!r} was not read: it is not a number")
    return Score(text, value)


def _lines(numbers: Sequence[int]) -> str:
    """``lines 1 to 11 and 40``."""
    spans: list[list[int]] = []
    for line in numbers:
        if spans and line == spans[-1][1] + 1:
            spans[-1][1] = line
        else:
            spans.append([line, line])
    ranges = [str(first) if first == last else f"{first} to {last}" for first, last in spans]
    words = ranges[0] if len(ranges) == 1 else f"{', '.join(ranges[:-1])} and {ranges[-1]}"
    return f"line{'' if words.isdecimal() else 's'} {words}"
