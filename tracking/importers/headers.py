"""What a column's head means: the vocabulary's name, or the accuracy or error rate that other people's words name.

``Val Acc (%)`` is ``validation_accuracy``; ``Acc@1``, ``Top-1 err``, ``prec1`` are accuracies of the split that is
named, else of the test pictures. Of several columns for one score the one that says so plainest is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tracking import names
from tracking.importers.result import number, read_score, scale_of

_OTHER_WORDS = {
    "layers": "num_layers",
    "depth": "num_layers",
    "lr": "learning_rate",
    "initial_lr": "learning_rate",
    "init_lr": "learning_rate",
    "epoch_count": "epochs",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "train_batch_size": "mini_batch_size",
    "batch_size": "mini_batch_size",
    "batch": "mini_batch_size",
    "classes": "num_classes",
    "pretrained": "use_pretrained_model",
    "cost": names.COST_USD,
    "best_val_acc": names.BEST_VALIDATION_ACCURACY,
    "best_val_accuracy": names.BEST_VALIDATION_ACCURACY,
}
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
_SPLIT = "|".join(sorted(SPLIT_WORDS, key=len, reverse=True))
_SCORE = re.compile(rf"(?:final_)?({_SPLIT})[_:/]?(acc|accuracy|loss)")
_METRIC = re.compile(r"(?:train|validation|test)_(?:top\d+_accuracy|num_images)")
_PERCENT = re.compile(r"[\s_]*(?:\(\s*(?:in\s*)?%\s*\)|\[\s*(?:in\s*)?%\s*\]|,\s*%|%)\s*")
_TOKEN = re.compile(rf"{_SPLIT}|top|accuracy|acc|precision|prec|errors|error|err|rate|[^\W\d_]+|\d+")
_RANK = re.compile(
    r"(?:top[\s_-]?|\b(?:\w*[\W_])?(?:acc(?:uracy)?|prec(?:ision)?|err(?:or)?)[\s_]?(?:@|at)?[\s_]?)(\d{1,3})(?![\d.]*\d)"
)
_RIGHT, _WRONG = ("accuracy", "acc", "precision", "prec"), ("error", "errors", "err")
# Of these a head is still the score's; with any other word ("acc drop", "Acc@1 (teacher)") it is something else.
_PLAIN = frozenset("at rate final score classification k in on set the of s".split())
_ASIDE = frozenset(
    "paper reported original orig official published ours our this impl implementation repo reproduced mine single crop"
    " center x imagenet image net ilsvrc cifar mnist lower higher is better".split()
)
SPLIT_HEADS = ("split", "subset", "set", "phase", "partition", "data_split")
_PUBLISHED = frozenset("paper reported original orig official published".split())


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What a head says of a score: which (``split`` empty: it names none), and what else beside it."""

    split: str
    k: int
    error: bool
    bare: bool  # neither a split nor a k is named
    aside: tuple[str, ...]


def is_percent(column: str) -> bool:
    """Whether a column's head says that its numbers are percents."""
    return _PERCENT.search(column) is not None


@lru_cache(4096)
def key_of(column: str) -> tuple[str, str]:
    """``("metrics", "validation_accuracy")`` of ``metrics.Val Acc (%)``; the key has only what MLflow takes."""
    kind, dot, rest = column.partition(".")
    if not dot or kind.strip().lower() not in ("params", "metrics", "tags"):
        kind, rest = "", column
    key = re.sub(r"[^\w./:]+", "_", _PERCENT.sub("", rest).strip()).strip("_")
    if kind.strip().lower() == "tags":
        return "tags", key
    key = _OTHER_WORDS.get(key.lower(), key.lower())
    own = key.removeprefix("params_")  # Optuna's table of trials
    own = _OTHER_WORDS.get(own, own)
    match = _SCORE.fullmatch(key.removesuffix("_epoch"))  # Lightning's, beside the one of each step
    if own in names.PARAMS:
        key = own
    elif match is not None:
        key = f"{SPLIT_WORDS[match[1]]}_{'accuracy' if match[2].startswith('acc') else 'loss'}"
    return kind.strip().lower(), key


def is_metric(key: str) -> bool:
    """Whether it is one of the vocabulary."""
    return ("metric", key) in names.ALL or _METRIC.fullmatch(key) is not None


def is_score(column: str) -> bool:
    """Whether a column's head names a metric of the vocabulary, or an accuracy or error rate in other words."""
    return is_metric(key_of(column)[1]) or _said(column) is not None


@lru_cache(4096)
def scores_in(column: str) -> tuple[str, ...]:
    """The heads of several scores that one head names: ``Val acc / test acc``, ``Top-1/Top-5 (%)``; else none."""
    parts = [part.strip() for part in column.split("/")]
    if not 1 < len(parts) < 4 or is_score(column):
        return ()
    if not all(map(is_score, parts)):  # train/test acc: what the last has behind its first word is of all
        parts = [*(f"{part} {parts[-1].partition(' ')[2]}" for part in parts[:-1]), parts[-1]]
    percent = " (%)" if is_percent(column) else ""
    parts = [part if is_percent(part) else part + percent for part in parts]
    return tuple(parts) if all(map(is_score, parts)) and len(set(parts)) == len(parts) else ()


def is_start(column: str) -> bool:
    """Whether a column's head names the initial weights."""
    return key_of(column)[1] in ("init", "use_pretrained_model")


def _said(column: str) -> _Said | None:
    """What a head says in words that are not the vocabulary's; None where it is no accuracy or error rate."""
    if len(column) > 100 or re.search(r"\d\.\d", column) or key_of(column)[0] in ("tags", "params"):
        return None
    words = _TOKEN.findall(re.sub(r"([a-z])([A-Z])", r"\1 \2", _PERCENT.sub(" ", column)).lower())
    words = words[1:] if words[:1] == ["metrics"] else words
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    right, wrong = (any(word in those for word in words) for those in (_RIGHT, _WRONG))
    ranks = {int(k) for k in _RANK.findall(column.lower())}
    others = [w for w in words if not w.isdecimal() and w not in {*SPLIT_WORDS, *_RIGHT, *_WRONG, *_PLAIN, "top"}]
    # A precision without a k is that of a class, an "error" without a split or a rate may be a message.
    plain = bool({"accuracy", "acc", "err"} & set(words)) or (wrong and (bool(splits) or "rate" in words))
    if len(splits) > 1 or len(ranks) > 1 or (right and wrong) or not _ASIDE.issuperset(others) or not (ranks or plain):
        return None
    k = min(ranks, default=1)
    if not k or (k not in (1, 5) and {"prec", "precision"} & set(words)) or ("rate" in words and not wrong):
        return None
    sizes = [word for word in words if word.isdecimal() and int(word) not in ranks]
    aside = (*others, *sizes)
    bare = not (splits or ranks)
    return _Said(split="".join(splits), k=k, error=wrong, bare=bare, aside=aside)


def scores_named(
    objects: Sequence[tuple[str, Mapping[str, Any]]],
) -> tuple[list[tuple[str, Mapping[str, Any]]], list[str]]:
    """The rows with the vocabulary's names over the accuracies and error rates, and what there is to say of it."""
    columns = dict.fromkeys(str(column) for _, row in objects for column in row)
    lists = {str(column) for _, row in objects for column, cell in row.items() if isinstance(cell, list)}
    taken = {key_of(column)[1] for column in columns}
    named = [split for split in names.SPLITS if any(word.startswith(f"{split}_") for word in taken)]
    wanted: dict[str, list[tuple[tuple[bool, int, bool], str, bool]]] = {}
    for column in columns:
        said = _said(column)
        if said is None or is_metric(key_of(column)[1]):
            continue
        split = said.split or _unsaid(said, column, named, column in lists)
        if said.bare and (key_of(column)[0] or not _numbers(objects, column)) or not split:
            continue
        metric = names.accuracy(split) if said.k == 1 else names.top_k_accuracy(split, said.k)
        place = (bool(_PUBLISHED & set(said.aside)), len(said.aside), said.error)
        wanted.setdefault(metric, []).append((place, column, said.error))
    renamed: dict[str, tuple[str, bool, bool]] = {}
    remarks = []
    losses = _losses(objects, wanted)
    for metric, found in wanted.items():
        found.sort(key=lambda one: one[0])
        place, column, error = found[0]
        if metric in taken:
            continue
        if error and losses:
            remarks.append(f"{column!r} was not read as an error rate, since {losses} are not 1 together")
            continue
        if len(found) > 1 and found[1][0] == place:
            alike = " and ".join(repr(c) for p, c, _ in found if p == place)
            remarks.append(f"{alike} could each be {metric}; none was taken, give each a table of its own")
            continue
        taken.add(metric)
        percent = is_percent(column) or (error and scale_of(_cells(objects, column)) == "percent")
        renamed[column] = metric, percent, error
        remarks.append(f"{column!r} was read as {metric}{': 1 minus the error' if error else ''}")
    rows: list[tuple[str, Mapping[str, Any]]] = []
    heads = [column for column in columns if key_of(column)[1] in SPLIT_HEADS]
    for where, row in objects:
        words = [str(row.get(column, "")).strip().lower() for column in heads]
        split = next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "")
        rows.append((where, dict(_renamed(renamed, str(column), cell, split) for column, cell in row.items())))
    return rows, remarks


def _losses(
    objects: Sequence[tuple[str, Mapping[str, Any]]], wanted: Mapping[str, Sequence[tuple[Any, str, bool]]]
) -> str:
    """Two columns that show that a table's errors are losses: an error and an accuracy of the same pictures."""
    columns = {key_of(str(column))[1]: str(column) for _, row in objects for column in row}
    for metric, found in wanted.items():
        errors = [column for place, column, error in found if error and not place[0]]
        rights = [columns[metric]] if metric in columns else [c for p, c, error in found if not error and not p[0]]
        for wrong, right in ((w, r) for w in errors for r in rights):
            for _, row in objects:
                shares = [read_score(str(row.get(c, "")), percent=is_percent(c)).value for c in (wrong, right)]
                if shares[0] is not None and shares[1] is not None and abs(shares[0] + shares[1] - 1) > 0.02:
                    return f"{wrong!r} and {right!r}"
    return ""


def _unsaid(said: _Said, column: str, named: Sequence[str], is_list: bool) -> str:
    """The split that a head means which names none: the test pictures, or of a log by epoch those it watches."""
    if is_list and "train" in named:  # fastai: train_loss, valid_loss, accuracy
        others = [split for split in named if split != "train"]
        return others[0] if len(others) == 1 else "test"
    if not said.bare:
        return "test"
    # Keras writes "accuracy" of the training pictures, beside val_accuracy.
    return "" if named or is_list else "test"


def _cells(objects: Iterable[tuple[str, Mapping[str, Any]]], column: str) -> list[str]:
    cells: list[str] = []
    for _, row in objects:
        cell = row.get(column, "")
        cells += [
            str(v["value"] if isinstance(v, Mapping) and "value" in v else v)
            for v in (cell if isinstance(cell, list) else [cell])
        ]
    return cells


def _numbers(objects: Iterable[tuple[str, Mapping[str, Any]]], column: str) -> bool:
    """Whether a column holds numbers from 0 to 100, beside what cannot be read."""
    values = [number(cell.rstrip("% ")) for cell in _cells(objects, column)]
    return any(value is not None for value in values) and all(v is None or 0 <= v <= 100 for v in values)


def _renamed(renamed: Mapping[str, tuple[str, bool, bool]], column: str, cell: Any, split: str) -> tuple[str, Any]:
    """A column's name and cell; ``split`` is what another column of the row says that its scores are of."""
    if column not in renamed:
        return column, cell
    metric, percent, error = renamed[column]
    said = _said(column)
    if split and said is not None and not said.split:
        metric = f"{split}_{metric.partition('_')[2]}"
    if not error:
        return f"{metric} (%)" if percent else metric, cell
    if isinstance(cell, list):
        whole = [{**v, "value": _right(v["value"], percent)[0]} if isinstance(v, Mapping) and "value" in v
                 else _right(v, percent)[0] for v in cell]  # fmt: skip
        return f"{metric} (%)" if percent else metric, whole
    value, is_share = _right(cell, percent)
    return metric, value if is_share or value is cell else f"{value} %"


def _right(cell: Any, percent: bool) -> tuple[Any, bool]:
    """What is right, of what is wrong, and whether it is a share and no percentage."""
    text = str(cell).strip()
    value = number(text.rstrip("% "))
    if value is None:
        return cell, True
    whole = 100 if percent or text.endswith("%") else 1
    return f"{whole - value:.12g}", whole == 1
