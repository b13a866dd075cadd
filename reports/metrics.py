"""What is known about a metric: its direction, its legal values, how it is written.

Of a metric outside the vocabulary the direction is guessed by the words of its name: ``HIGHER`` and ``LOWER`` are all
that are known. The last of them counts, since the last names the thing: ``sentiment_f1``, ``mean_score_time``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import pandas as pd

from reports.document import text
from tracking import names

HIGHER = frozenset(
    "acc accuracy ami ap ari auc aucpr auprc auroc bleu chrf cider concordance corrcoef correlation coverage dice elbo"
    " elo em explained f1 fbeta fmeasure fps fscore gini hit hits iou jaccard kappa ks lift likelihood map match"
    " matthews mcc meteor miou mrr ndcg nmi npv pass pearson ppv precision psnr purity r2 recall return reward roc"
    " rocauc rouge rougel sacrebleu score sensitivity silhouette spearman specificity ssim success throughput tnr top"
    " tpr utility win winrate".split()
)
LOWER = frozenset(
    "aic bic bits bpb bpc brier ce cer cost crossentropy crps deviance distance divergence duration ece eer entropy"
    " err error false fde fid fnr fpr hausdorff hd huber inertia kid kl l1 l2 latency logloss loss lpips mae mape mce"
    " merror mlogloss mse msle nll nrmse perplexity ppl quantile regret residual rmse rmsle rmspe runtime seconds"
    " smape ter time wape wer xent".split()
)
# Of these every value is between 0 and 1, or written in percent.
_SHARES = frozenset(
    "acc accuracy ap auc aucpr auprc auroc dice em err error f1 fbeta fnr fpr fscore hit hits iou jaccard map match"
    " merror miou mrr ndcg npv pass ppv precision recall rocauc score sensitivity specificity success tnr top tpr win"
    " winrate".split()
)
# Shares of pictures: only of such a share does Wilson's interval hold, not of an F1 or an area under a curve.
_COUNTED = frozenset("acc accuracy em err error hit hits match merror pass success top".split())
_SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation", "eval", "dev"), "validation"
)


class Metric(str):
    """A metric's name, with what is known of it beyond the name: which way is better, by what, and if it is a share.

    ``known_by`` is ``flag``, ``vocabulary``, ``name`` (a guess), ``study`` (an Optuna study's direction) or empty: then
    the direction is not known, and higher is taken to be better.
    """

    better: Literal["higher", "lower"]
    known_by: Literal["flag", "vocabulary", "name", "study", ""]
    share: bool


def judged(name: str, values: pd.Series[Any], asked: str = "", study: str = "") -> Metric:
    """What is known of a metric with these values, over all runs; ``asked`` and ``study`` are a direction or empty."""
    metric = Metric(name)
    known = names.ALL.get(("metric", name))
    by_name = "" if known is not None and known.better else guess(name)
    ways = ((asked, "flag"), (known.better if known else "", "vocabulary"), (by_name, "name"), (study, "study"))
    better, known_by = next((way for way in ways if way[0]), ("higher", ""))
    metric.better = "lower" if better == "lower" else "higher"
    metric.known_by = known_by  # type: ignore[assignment]
    there = pd.to_numeric(values).dropna()
    metric.share = _is_known_share(name) or (
        known is None and bool(len(there)) and could_be_share(name) and between(there, 0, 1)
    )
    return metric


def could_be_share(metric: str) -> bool:
    """Whether the name is of something between 0 and 1, or 0 and 100 %, such as an accuracy, F1 or error rate."""
    return bool(_SHARES.intersection(words(metric)[-1:])) and not metric.lower().startswith(("rank", "neg"))


def between(values: pd.Series[Any], low: float, high: float) -> bool:
    """Whether all of them are; of none it is true."""
    return bool(values.between(low, high).all())


def words(metric: str) -> list[str]:
    """The words of a name that say what it measures: ``val/mAP50(B)`` -> ``["map"]``, lower case, in their order.

    Words end at any sign, at a capital and after digits, which count only where they belong to the word (``f1``). What
    follows ``at``, ``per`` or ``to`` is no part of it: ``precision_at_recall_90``.
    """
    found: list[str] = []
    if re.match(r"(std|stderr|var|variance)[^A-Za-z]", metric.lower()):
        return []  # the spread of a score is none: scikit-learn's std_test_score
    for part in re.split(r"[^A-Za-z0-9]+", metric):
        pieces = [part] if _word(part) else re.findall(r"[A-Z]+\d*(?![a-z])|[A-Z]?[a-z]+\d*", part)
        if found and part.lower() in ("at", "per", "to", "by", "over"):
            break
        found += [word for piece in pieces if (word := _word(piece))]
    return found


def _word(text: str) -> str:
    """A known word, also with a number behind it: ``top5``, ``map50b``, ``rouge2``; else empty."""
    lower = text.lower()
    tries = (lower, re.sub(r"\d+[a-z]?$", "", lower))
    return next((word for word in tries if word in HIGHER or word in LOWER), "")


def guess(metric: str) -> Literal["higher", "lower", ""]:
    """The direction that a name's words say, empty where none is known."""
    parts = [part.lower() for part in re.split(r"[^A-Za-z0-9]+", metric)]
    if re.search(r"per_(s|sec|second|minute|hour)$", "_".join(parts)):
        return "higher"
    found = words(metric)
    if parts[0] == "rank" and found:  # scikit-learn's rank_test_score: 1 is the best
        return "lower"
    if not found:
        return ""
    # scikit-learn's scorers turn an error's sign; the negative of a likelihood is a loss.
    turned = sum(part in ("neg", "negative", "negated", "minus") for part in parts) % 2 == 1
    return "higher" if (found[-1] in HIGHER) != turned else "lower"


def split_of(metric: str) -> str:
    """The split that a metric's name says it is of, or empty: ``val_acc``, ``eval/f1``, ``best_test_score``."""
    parts = re.split(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])", metric)
    return next((_SPLIT_WORDS[word] for part in parts if (word := part.lower()) in _SPLIT_WORDS), "")


def suggested(known: Collection[str]) -> str:
    """The metric to rank by instead: of test or validation, an accuracy first; never one of training or of time."""
    order = ("test", "validation", "")

    def place(metric: str) -> tuple[bool, int, bool, str]:
        last = words(metric)[-1]
        return last not in ("acc", "accuracy", "top"), order.index(split_of(metric)), last in LOWER, metric

    effort = {"cost", "duration", "fps", "latency", "runtime", "seconds", "throughput", "time"}
    others = [m for m in known if split_of(m) != "train" and words(m) and words(m)[-1] not in effort]
    return min(others, key=place, default="")


def nearest(metric: str, known: Collection[str]) -> list[str]:
    """Metrics like the one asked for first, by letters or by a word they share, then the rest by name."""
    like = [m for m in known if set(words(m)) & set(words(metric)) or metric.lower() in m.lower()]
    close = get_close_matches(metric, sorted(known), n=5, cutoff=0.7)
    return list(dict.fromkeys([*close, *sorted(like, key=lambda m: (split_of(m) == "train", m)), *sorted(known)]))


def value_text(metric: str, value: Any, places: int = 1) -> str:
    """A metric's value as a reader wants it: a share in percent, a time in minutes, dollars …"""
    if is_share(metric):
        return text.percent(value, places)
    known = names.ALL.get(("metric", metric))
    if metric.startswith("num_") or metric.endswith("_num_images"):
        return text.count(value)
    show = {"s": text.duration, "USD": text.money, "bytes": text.size}.get(known.unit if known else "", text.number)
    return show(value)


def interval_text(low: Any, high: Any, metric: str, places: int = 1) -> str:
    """``95.7–98.9 %``, or two plain numbers for a metric that is no share."""
    if is_share(metric):
        return text.interval(low, high, places)
    return text.MISSING if text.is_missing(low) else f"{value_text(metric, low)} – {value_text(metric, high)}"


def is_plain(metric: str) -> bool:
    """A metric without a unit that is no share and no count: shown as a bare number."""
    known = names.ALL.get(("metric", metric))
    counts = metric.startswith("num_") or metric.endswith("_num_images")
    return not is_share(metric) and not counts and (known is None or known.unit not in ("s", "USD", "bytes"))


def is_share(metric: str) -> bool:
    """A metric in 0..1 that reads well as a percentage."""
    return metric.share if isinstance(metric, Metric) else _is_known_share(metric)


def _is_known_share(metric: str) -> bool:
    known = names.ALL.get(("metric", metric))
    return known is not None and known.high == 1 and known.better == "higher"


def is_proportion(metric: str) -> bool:
    """A share of pictures, each right or wrong: Wilson's interval holds for it."""
    last = words(metric)[-1:]
    return is_share(metric) and bool(_COUNTED.intersection(last)) and "balanced" not in metric.lower()


def higher_is_better(metric: str) -> bool:
    """What ``judged`` found; of a bare name the vocabulary's direction, else the guess, else higher."""
    if isinstance(metric, Metric):
        return metric.better == "higher"
    known = names.ALL.get(("metric", metric))
    return (known.better if known is not None and known.better else guess(metric)) != "lower"


def is_accuracy(metric: str) -> bool:
    """Whether the name is of an accuracy: a share of pictures, or 0 to 100 %, and nothing else."""
    return words(metric)[-1:] in (["acc"], ["accuracy"], ["top"])


def in_percent(values: pd.Series[Any]) -> bool | None:
    """Whether most of a column's numbers can only be percents; None where all could be either, as 0 and 1 can."""
    percents, shares = int(((values > 1) & (values <= 100)).sum()), int(((values > 0) & (values < 1)).sum())
    return percents > shares if percents or shares else None


def impossible(runs: pd.DataFrame) -> list[tuple[str, str, float]]:
    """``(run_id, metric, value)`` of every value outside its metric's bounds, infinite ones included."""
    found = []
    for c in runs.columns:
        if not c.startswith("metrics."):
            continue
        bad = runs.loc[~is_legal(c, runs[c]) & runs[c].notna()]
        found += [(str(r), c[8:], float(v)) for r, v in zip(bad["run_id"], bad[c], strict=True)]
    return sorted(found)


def is_legal(name: str, values: pd.Series[Any]) -> pd.Series[Any]:
    """Which of a metric's values are finite and within the vocabulary's bounds; NaN is not."""
    known = names.ALL.get(("metric", name.removeprefix("metrics.")))
    low = -np.inf if known is None or known.low is None else known.low
    high = np.inf if known is None or known.high is None else known.high
    numbers = values.to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore"):
        legal = (numbers >= low) & (numbers <= high) & np.isfinite(numbers)
    return pd.Series(legal, index=values.index)
