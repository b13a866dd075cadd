"""Depth against start: how 34 and 44 layers, scratch and transfer compare, and whether the runs can tell them apart."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.board import columns as cells
from reports.board.runs import Ask
from reports.board.table import higher_is_better
from reports.document import text
from reports.document.document import Column, Paragraph, Table

SCRATCH, TRANSFER = "scratch", "transfer"


def depth_by_start(table: pd.DataFrame, ask: Ask) -> tuple[Table, Paragraph] | None:
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
                said[depth, one] = cells.value_text(ask.metric, row[ask.metric], places)
                if not text.is_missing(row["low"]):
                    said[depth, one] += f" ({cells.interval_text(row['low'], row['high'], ask.metric, places)})"
    columns = [Column("layers", True, [str(d) for d in depths], depths)]
    for one in starts:
        values = [best[d, one][ask.metric] if (d, one) in best else None for d in depths]
        columns.append(Column(_start_title(ranked, start, one), True, [said[d, one] for d in depths], values))
    scores = {place: float(row[ask.metric]) for place, row in best.items()}
    return Table(tuple(columns)), Paragraph(_words(scores, depths, starts, ask, places), "note")


def _start_title(ranked: pd.DataFrame, start: pd.Series[Any], one: str) -> str:
    """``transfer: imagenet`` where all transfers began alike."""
    kinds = sorted({text.one_line(i) for i in ranked.loc[start == one, "init"]})
    if one == SCRATCH or len(kinds) != 1:
        return one
    return kinds[0] if kinds[0].startswith(TRANSFER) else f"{one}: {kinds[0]}"


def _words(scores: dict[tuple[int, str], float], depths: list[int], starts: list[str], ask: Ask, places: int) -> str:
    """What the table allows to be said, and what it does not."""
    head = "Each cell is the best configuration of its kind. "
    sign = 1 if higher_is_better(ask.metric) else -1

    def difference(a: float, b: float) -> str:
        if cells.is_share(ask.metric):
            return f"{text.points(a - b, places)} points"
        return f"{a - b:+.4g}"

    parts = []
    if len(starts) == 2:
        both = [d for d in depths if all((d, s) in scores for s in starts)]
        parts += [f"with {d} layers transfer makes {difference(scores[d, TRANSFER], scores[d, SCRATCH])}" for d in both]
    for one in starts:
        there = [d for d in depths if (d, one) in scores]
        steps = [
            f"{high} against {low} layers make {difference(scores[high, one], scores[low, one])}"
            for low, high in zip(there, there[1:], strict=False)
        ]
        if steps:
            parts.append(f"{'from scratch' if one == SCRATCH else 'by transfer'} {text.join(steps)}")
    if parts:
        joined = "; ".join(parts)
        return f"{head}{joined[0].upper()}{joined[1:]}{'' if sign > 0 else ' (lower is better)'}."
    if len(starts) == 2 and len(depths) > 1:
        return (
            f"{head}No depth was trained both ways, so depth and start cannot be told apart here: a difference may come"
            " from either."
        )
    return head.strip()
