"""The answer in one sentence: what leads, by how much, whether the difference is more than chance, what it took."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports import stats
from reports.board import columns
from reports.board.runs import Ask
from reports.board.table import higher_is_better
from reports.document import text
from reports.document.document import Span, Strong
from reports.significance import LEVEL, Verdict
from tracking import names


def sentence(table: pd.DataFrame, dataset: str, ask: Ask, verdict: Verdict | None) -> tuple[Span, ...]:
    """The answer for one page; ``table`` is best first, ``verdict`` compares its first two rows."""
    ranked = table.loc[table["rank"].notna()]
    known = names.ALL.get(("metric", ask.metric))
    what = f"{known.title} accuracy" if known is not None and columns.is_share(ask.metric) else ask.metric
    on = f" on {dataset}" if dataset else ""
    if ranked.empty:
        return (f"No configuration{on} has a {what} yet: nothing is ranked.",)
    places = columns.decimals(table, ask)
    first = ranked.iloc[0]
    score = Strong(columns.value_text(ask.metric, first[ask.metric], places))
    if len(ranked) == 1:
        alone = "the only one" if len(table) == 1 else f"the only one of {len(table)}"
        return (
            Strong(str(first["label"])),
            f" is {alone} with a {what}{on}: ",
            score,
            f"{_basis(first, ask, places)}. {_took(first)}",
        )
    second = ranked.iloc[1]
    lead = _lead(first, second, ask, places)
    return (
        Strong(str(first["label"])),
        f" leads{on} with ",
        score,
        f" {what}{_basis(first, ask, places)}, {lead} {second['label']}"
        f" ({columns.value_text(ask.metric, second[ask.metric], places)}); {_chance(first, second, ask, verdict)}."
        f" {_took(first)}",
    )


def _basis(row: pd.Series[Any], ask: Ask, places: int) -> str:
    """`` (95 % interval 95.7–98.9 %, one seed, 360 pictures)``; what has no seed, or not one of its own, is a run."""
    parts = []
    if not text.is_missing(row["low"]):
        parts.append(f"95 % interval {columns.interval_text(row['low'], row['high'], ask.metric, places)}")
    what, n = "seed" if row["seeded"] else "run", int(row[f"{ask.metric}_n"])
    parts.append(f"one {what}" if n == 1 else f"mean of {n} {what}s")
    images = row[names.num_images(ask.split)]
    if not text.is_missing(images):
        parts.append(f"{text.count(images)} pictures")
    return f" ({', '.join(parts)})"


def _lead(first: pd.Series[Any], second: pd.Series[Any], ask: Ask, places: int) -> str:
    ahead = abs(float(first[ask.metric]) - float(second[ask.metric]))
    if ahead == 0:
        return "level with"
    if not columns.is_share(ask.metric):
        return f"{text.number(ahead, 2)} {'above' if higher_is_better(ask.metric) else 'below'}"
    points = text.points(ahead, places).lstrip("+")
    if float(points) == 0:
        return "less than a tenth of a point ahead of" if places == 1 else "less than 0.01 points ahead of"
    return f"{points} {'point' if float(points) == 1 else 'points'} ahead of"


def between_seeds(first: pd.Series[Any], second: pd.Series[Any], ask: Ask) -> float:
    """The p value of Welch's t-test over two rows' seeds, or runs; NaN where one of them has a single one."""
    one, other = ([float(row[ask.metric + s]) for s in ("", "_spread", "_n")] for row in (first, second))
    return stats.welch(one, other)


def _chance(first: pd.Series[Any], second: pd.Series[Any], ask: Ask, verdict: Verdict | None) -> str:
    """More than chance? On the pictures, for the networks that were trained, and over the seeds, for their recipes."""
    seeds = between_seeds(first, second, ask)
    what = "seeds" if first["seeded"] and second["seeded"] else "runs"
    over_seeds = f"Welch's t-test over the {what}, {text.p_value(seeds)}"
    words = "" if verdict is None else verdict.words(what)
    if verdict is not None and not verdict.significant:
        return f"the difference is not significant ({words})"
    if verdict is not None and seeds >= LEVEL:
        return (
            f"between these networks the difference is significant ({words}), but training anew may undo it"
            f" ({over_seeds})"
        )
    if verdict is not None:
        return f"the difference is significant ({words}{'' if seeds != seeds else f'; {over_seeds}'})"
    if seeds == seeds:
        return f"the difference is {'' if seeds < LEVEL else 'not '}significant ({over_seeds})"
    said = "whether that is more than chance cannot be tested without predictions of both on the same pictures"
    if any(text.is_missing(row[c]) for row in (first, second) for c in ("low", "high")):
        return said
    apart = first["low"] > second["high"] or second["low"] > first["high"]
    return f"{said}, but their intervals {'do not ' if apart else ''}overlap"


def _took(row: pd.Series[Any]) -> str:
    """``It took 52 s a run and cost 0.42 USD.``"""
    each = "" if len(row["run_ids"]) == 1 else " a run"
    time, cost = row["time_s"], row[names.COST_USD]
    if text.is_missing(time) and text.is_missing(cost):
        return "What it cost was not recorded."
    if text.is_missing(cost):
        return f"It took {text.duration(time)}{each}; no cost was recorded."
    if text.is_missing(time):
        return f"It cost {text.money(cost)}{each}."
    return f"It took {text.duration(time)}{each} and cost {text.money(cost)}."
