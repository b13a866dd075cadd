"""The answer in one sentence: what leads, by how much, whether by more than chance, and the time and cost."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports import metrics
from reports.board import columns as cells
from reports.board.board import Page
from reports.board.runs import BoardQuery
from reports.claims.verdict import Judgement
from reports.document import text
from reports.document.document import Column, Paragraph, Span, Strong, Table
from tracking import names

# Two means closer than this are equal: their difference is rounding.
EQUAL = 1e-9


def sentence(page: Page, ask: BoardQuery) -> tuple[Span, ...]:
    """The answer for one page: whether its first row leads or is level with others, and the score."""
    table = page.table
    ranked = table.loc[table["rank"].notna()]
    what, on = _what(ask), f" on {page.dataset}" if page.dataset else ""
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
    judged = page.claims.judgement
    assert judged is not None
    of = f"{what}{_basis(first, ask, places)}"
    label = Strong(str(first["label"]))
    if judged.winner:
        ahead = _lead(first, ranked.iloc[1], ask, places)
        return label, f" leads{on} with ", score, f" {of}, {ahead}. {_took(first)}"
    others = [j for j in range(1, judged.size) if not judged.apart[0, j]] or [1]
    second = ranked.iloc[others[0]]
    other = str(second["label"])
    same = judged.difference[0, others[0]] < EQUAL
    if judged.networks[0, others[0]]:
        scored = f" and {other} have the same score{on}: " if same else f" scored best{on}: "
        ahead = "" if same else f", {_lead(first, second, ask, places)}"
        return label, scored, score, f" {of}{ahead}. {_of_weights(judged, others[0], first)}. {_took(first)}"
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    why = "the same score" if same else "which chance could explain"
    if judged.p_value[0, others[0]] != judged.p_value[0, others[0]]:
        why = "and whether they differ cannot be tested"
    against = metrics.value_text(ask.metric, second[ask.metric], places)
    return (
        label,
        f" is level with {other}{more}{on}: ",
        score,
        f" against {against} {of}, {why}. {_took(first)}",
    )


def _what(ask: BoardQuery) -> str:
    known = names.ALL.get(("metric", ask.metric))
    return f"{known.title} accuracy" if known is not None and metrics.is_share(ask.metric) else ask.metric


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
    """``2.6 points ahead of 34 layers (93.9 %)``."""
    other = f"{second['label']} ({metrics.value_text(ask.metric, second[ask.metric], places)})"
    ahead = abs(float(first[ask.metric]) - float(second[ask.metric]))
    if ahead < EQUAL:
        return f"as {other}"
    if not metrics.is_share(ask.metric):
        return f"{text.number(ahead, 2)} {'above' if metrics.higher_is_better(ask.metric) else 'below'} {other}"
    points = text.points(ahead, places).lstrip("+")
    if float(points) == 0:
        return f"less than {'a tenth of a point' if places == 1 else '0.01 points'} ahead of {other}"
    return f"{points} {'point' if float(points) == 1 else 'points'} ahead of {other}"


def _of_weights(judged: Judgement, other: int, first: pd.Series[Any]) -> str:
    """What a single seed allows to say."""
    one = "one seed" if first["seeded"] else "one run"
    if judged.p_value[0, other] != judged.p_value[0, other]:
        return f"Whether that is more than chance cannot be tested: {one} and no predictions of both"
    better = "the first is better" if judged.apart[0, other] else "neither is shown to be better"
    return f"Of these two networks {better}; {one} cannot tell a better setting from luck"


def notes(page: Page, ask: BoardQuery) -> list[Paragraph]:
    """How the answer was found, in small print: the test, and the smallest lead that these data can show."""
    judged = page.claims.judgement
    if judged is None or judged.p_value[0, 1] != judged.p_value[0, 1]:
        return []
    places = cells.decimals(page.table, ask)

    def written(value: float) -> str:
        return text.points(value, places) if metrics.is_share(ask.metric) else f"{value:+.4g}"

    ranked = page.table.loc[page.table["rank"].notna()]
    low, high, p = judged.low[0, 1], judged.high[0, 1], judged.p_value[0, 1]
    unit = " points" if metrics.is_share(ask.metric) else ""
    what = "seeds" if ranked.iloc[:2]["seeded"].all() else "runs"
    over = "pictures" if judged.networks[0, 1] else f"{what} and pictures"
    if page.claims.by_pictures < page.claims.tested:
        over = what
    said = f"First minus second: {written(low)} to {written(high)}{unit} over {over}, {text.p_value(p)}."
    if page.claims.tested > 2 or len(ranked) > page.claims.tested:
        every = "all" if len(ranked) == page.claims.tested else f"the first {page.claims.tested} of {len(ranked)}"
        said += f" Tiers and ranks hold for {every} together (Holm)."
    if not judged.winner and not judged.networks[0].any() and judged.smallest == judged.smallest:
        smallest = written(judged.smallest).lstrip("+")
        said += f" The smallest lead these data would show is {smallest}{unit} (four times in five)."
    if page.claims.unused:
        said += (
            f" The predictions of {text.plural(page.claims.unused, 'run')} were not used: they are of other pictures,"
            " or do not give the logged score."
        )
    return [Paragraph(said, "note")]


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
