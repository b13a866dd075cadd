"""The answer in one sentence: what leads, by how much, whether by more than chance, and the time and cost."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports import metrics, stats
from reports.board import columns as cells
from reports.board.runs import BoardQuery
from reports.document import text
from reports.document.document import Column, Paragraph, Span, Strong, Table
from reports.significance import LEVEL, Verdict
from tracking import names


def sentence(table: pd.DataFrame, dataset: str, ask: BoardQuery, verdict: Verdict | None) -> tuple[Span, ...]:
    """The answer for one page; ``table`` is best first, ``verdict`` compares its first two rows."""
    ranked = table.loc[table["rank"].notna()]
    known = names.ALL.get(("metric", ask.metric))
    what = f"{known.title} accuracy" if known is not None and "accuracy" in ask.metric else ask.metric
    on = f" on {dataset}" if dataset else ""
    if ranked.empty:
        return (f"No configuration{on} has a {what} yet: nothing is ranked.",)
    places = cells.decimals(table, ask)
    first = ranked.iloc[0]
    score = Strong(metrics.value_text(ask.metric, first[ask.metric], places))
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
        f" ({metrics.value_text(ask.metric, second[ask.metric], places)}); {_chance(first, second, ask, verdict)}."
        f" {_took(first)}",
    )


def _basis(row: pd.Series[Any], ask: BoardQuery, places: int) -> str:
    """`` (95 % interval 95.7–98.9 %, one seed, 360 pictures)``; without seeds that differ, it counts runs."""
    parts = []
    if not text.is_missing(row["low"]):
        parts.append(f"95 % interval {metrics.interval_text(row['low'], row['high'], ask.metric, places)}")
    what, n = "seed" if row["seeded"] else "run", int(row[f"{ask.metric}_n"])
    parts.append(f"one {what}" if n == 1 else f"mean of {n} {what}s")
    images = row[names.num_images(ask.split)]
    if not text.is_missing(images):
        parts.append(f"{text.count(images)} pictures")
    return f" ({', '.join(parts)})"


def _lead(first: pd.Series[Any], second: pd.Series[Any], ask: BoardQuery, places: int) -> str:
    ahead = abs(float(first[ask.metric]) - float(second[ask.metric]))
    if ahead == 0:
        return "tied with"
    if not metrics.is_share(ask.metric):
        return f"{text.number(ahead, 2)} {'above' if metrics.higher_is_better(ask.metric) else 'below'}"
    points = text.points(ahead, places).lstrip("+")
    if float(points) == 0:
        return "less than a tenth of a point ahead of" if places == 1 else "less than 0.01 points ahead of"
    return f"{points} {'point' if float(points) == 1 else 'points'} ahead of"


def between_seeds(first: pd.Series[Any], second: pd.Series[Any], ask: BoardQuery) -> float:
    """The p value of Welch's t-test over two rows' seeds, or runs; NaN where one of them has a single one."""
    one, other = ([float(row[ask.metric + s]) for s in ("", "_spread", "_n")] for row in (first, second))
    return stats.welch(one, other)


def _chance(first: pd.Series[Any], second: pd.Series[Any], ask: BoardQuery, verdict: Verdict | None) -> str:
    """Whether the difference is more than chance: by the pictures for the networks, by the seeds for the settings."""
    seeds = between_seeds(first, second, ask)
    what = "seeds" if first["seeded"] and second["seeded"] else "runs"
    over_seeds = f"Welch's t-test over the {what}, {text.p_value(seeds)}"
    words = "" if verdict is None else verdict.words(what)
    if verdict is not None and not verdict.significant:
        return f"the difference is not significant ({words})"
    if verdict is not None and seeds >= LEVEL:
        return (
            f"between these networks the difference is significant ({words}), but it may not hold when both are trained"
            f" again ({over_seeds})"
        )
    if verdict is not None:
        return f"the difference is significant ({words}{'' if seeds != seeds else f'; {over_seeds}'})"
    if seeds == seeds:
        return f"the difference is {'' if seeds < LEVEL else 'not '}significant ({over_seeds})"
    said = (
        "whether the difference is more than chance cannot be tested, which needs predictions of both on the same"
        " pictures"
    )
    if any(text.is_missing(row[c]) for row in (first, second) for c in ("low", "high")):
        return said
    apart = first["low"] > second["high"] or second["low"] > first["high"]
    return f"{said}; their intervals {'do not ' if apart else ''}overlap"


def _took(row: pd.Series[Any]) -> str:
    """``It took 52 s a run and cost 0.42 USD.``"""
    each = "" if len(row["run_ids"]) == 1 else " a run"
    time, cost = row["time_s"], row[names.COST_USD]
    if text.is_missing(time) and text.is_missing(cost):
        return "Its time and cost were not recorded."
    if text.is_missing(cost):
        return f"It took {text.duration(time)}{each}; no cost was recorded."
    if text.is_missing(time):
        return f"It cost {text.money(cost)}{each}."
    return f"It took {text.duration(time)}{each} and cost {text.money(cost)}."


SCRATCH, TRANSFER = "scratch", "transfer"


def depth_by_start(table: pd.DataFrame, ask: BoardQuery) -> tuple[Table, Paragraph] | None:
    """The best ranked configuration of each depth and start; None where neither varies."""
    if "layers" not in table.columns or "init" not in table.columns:
        return None
    in_numbers = pd.to_numeric(table["layers"], errors="coerce").notna()  # another tool's may be a word
    ranked = table.loc[table["rank"].notna() & in_numbers & table["init"].notna()]
    start = ranked["init"].map(lambda init: SCRATCH if str(init).lower() == SCRATCH else TRANSFER)
    depths = sorted({int(d) for d in ranked["layers"]})
    starts = [s for s in (SCRATCH, TRANSFER) if (start == s).any()]
    if len(depths) < 2 and len(starts) < 2:
        return None
    places = cells.decimals(table, ask)
    best: dict[tuple[int, str], pd.Series[Any]] = {}
    said: dict[tuple[int, str], str] = {}
    for depth in depths:
        for one in starts:
            here = ranked.loc[(ranked["layers"] == depth) & (start == one)]
            said[depth, one] = text.MISSING
            if len(here):
                row = best[depth, one] = here.iloc[0]
                said[depth, one] = metrics.value_text(ask.metric, row[ask.metric], places)
                if not text.is_missing(row["low"]):
                    said[depth, one] += f" ({metrics.interval_text(row['low'], row['high'], ask.metric, places)})"
    columns = [Column("layers", True, [str(d) for d in depths], depths)]
    for one in starts:
        values = [best[d, one][ask.metric] if (d, one) in best else None for d in depths]
        columns.append(Column(_start_title(ranked, start, one), True, [said[d, one] for d in depths], values))
    scores = {place: float(row[ask.metric]) for place, row in best.items()}
    return Table(tuple(columns)), Paragraph(_words(scores, depths, starts, ask, places), "note")


def _start_title(ranked: pd.DataFrame, start: pd.Series[Any], one: str) -> str:
    """``transfer: imagenet`` where every transfer has the same source."""
    kinds = sorted({text.one_line(i) for i in ranked.loc[start == one, "init"]})
    if one == SCRATCH or len(kinds) != 1:
        return one
    return kinds[0] if kinds[0].startswith(TRANSFER) else f"{one}: {kinds[0]}"


def _words(
    scores: dict[tuple[int, str], float], depths: list[int], starts: list[str], ask: BoardQuery, places: int
) -> str:
    """What can be concluded from the table, and what cannot."""
    head = "Each cell is the best configuration of its kind. "
    sign = 1 if metrics.higher_is_better(ask.metric) else -1

    def difference(a: float, b: float) -> str:
        if metrics.is_share(ask.metric):
            return f"{text.points(a - b, places)} points"
        return f"{a - b:+.4g}"

    parts = []
    if len(starts) == 2:
        both = [d for d in depths if all((d, s) in scores for s in starts)]
        parts += [
            f"with {d} layers, transfer changes the score by {difference(scores[d, TRANSFER], scores[d, SCRATCH])}"
            for d in both
        ]
    for one in starts:
        there = [d for d in depths if (d, one) in scores]
        steps: list[str] = []
        for low, high in zip(there, there[1:], strict=False):
            change = difference(scores[high, one], scores[low, one])
            more = f"{high} instead of {low} by {change}"
            steps.append(more if steps else f"{high} layers instead of {low} change the score by {change}")
        if steps:
            parts.append(f"{'from scratch' if one == SCRATCH else 'with transfer'}, {text.join(steps)}")
    if parts:
        joined = "; ".join(parts)
        return f"{head}{joined[0].upper()}{joined[1:]}{'' if sign > 0 else ' (lower is better)'}."
    if len(starts) == 2 and len(depths) > 1:
        return (
            f"{head}No depth was trained both ways, so the effects of depth and start cannot be separated: a difference"
            " may come from either."
        )
    return head.strip()
