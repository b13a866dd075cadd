"""The figures of a page: learning curves, score against cost, confusion matrices of its leaders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports import metrics
from reports.board.board import Board, Page
from reports.charts import figures
from reports.charts.curves import curves_for
from reports.document.document import Figure
from reports.store import class_names, predictions
from tracking import names
from tracking.store.predictions import Predictions

MOST_CURVES = 6
MOST_CLASSES = 60
MOST_SEEDS = 10


def gather(board: Board, page: Page, name: str, *, with_figures: bool = True) -> list[Figure]:
    """The figures that the runs' data allow. ``name`` begins their names."""
    if not with_figures:
        return []
    ranked = page.table.loc[page.table["rank"].notna()]
    uris = dict(zip(page.runs["run_id"], page.runs["artifact_uri"], strict=True))
    leaders = [row for _, row in ranked.head(2).iterrows()] if metrics.is_proportion(board.ask.metric) else []
    predicted = [_of_row(board, page, row, uris) for row in leaders]
    drawn: list[Figure] = []
    shown = ranked if len(ranked) else page.table
    rows = [(str(row["label"]), tuple(row["run_ids"])) for _, row in shown.head(MOST_CURVES).iterrows()]
    curves = curves_for(board.store, rows)
    if curves:
        drawn.append(figures.learning_curves(f"{name}curves", curves))
    drawn += pareto(page, board, f"{name}cost")
    for place, (row, found) in enumerate(zip(leaders, predicted, strict=True), 1):
        if found:
            first = str(row["run_ids"][0])
            what = "seeds" if row["seeded"] else "runs"
            several = f", {len(found)} {what} together" if len(found) > 1 else ""
            title = f"{row['label']}{several}"
            drawn += confusion(board, first, uris.get(first), found, f"{name}confusion-{place}", title)
    return drawn


def _of_row(board: Board, page: Page, row: pd.Series[Any], uris: dict[str, Any]) -> list[Predictions] | None:
    """The predictions of a configuration's runs (of ten at most); None where one of them has none."""
    counted = [run for run in row["run_ids"] if run not in row["repeats"]]
    uri, split, read = board.store.tracking_uri, board.ask.split, page.claims.read
    found = [read.get(run) or predictions(uri, uris.get(run), split) for run in counted[:MOST_SEEDS]]
    return [f for f in found if f is not None] if all(f is not None for f in found) else None


def pareto(page: Page, board: Board, name: str) -> list[Figure]:
    """Score against money where it is known of two rows or more, else against time."""
    shown = page.table.iloc[: board.ask.top or None]
    ranked = shown.loc[shown["rank"].notna()]
    if not metrics.is_share(board.ask.metric) or not metrics.higher_is_better(board.ask.metric):
        return []
    for column, title, unit in ((names.COST_USD, "cost a run", "USD"), ("time_s", "time a run", "s")):
        known = ranked.loc[ranked[column].notna() & (ranked[column] > 0)]
        if len(known) < 2:
            continue
        front = on_front(known[column].to_numpy(), known[board.ask.metric].to_numpy())
        points = [
            figures.Point(
                label=label,
                cost=float(cost),
                score=float(score),
                low=float(low),
                high=float(high),
                front=bool(best),
            )
            for label, cost, score, low, high, best in zip(
                known["label"], known[column], known[board.ask.metric], known["low"], known["high"], front, strict=True
            )
        ]
        score_title = board.ask.metric.replace("_", " ")
        return [figures.cost_against_score(name, points, title, unit, score_title)]
    return []


def on_front(cost: Any, score: Any) -> list[bool]:
    """Which points are on the Pareto front of lowest cost and highest score. ``(n,)`` each."""
    order = np.lexsort((-score, cost))
    best, last_cost = -np.inf, np.nan
    front = [False] * len(cost)
    for i in order:
        if score[i] > best or (score[i] == best and cost[i] == last_cost):
            front[i] = True
            best, last_cost = score[i], cost[i]
    return front


def confusion(
    board: Board, run_id: str, artifact_uri: str | None, found: Sequence[Predictions], name: str, title: str
) -> list[Figure]:
    """The confusion matrix of one configuration, its seeds added up; none for very many classes."""
    size = 1 + max(int(max(one.label.max(), one.predicted.max())) for one in found)
    if size > MOST_CLASSES:
        return []
    counts = np.zeros((size, size), dtype=np.int64)
    for one in found:
        np.add.at(counts, (one.label, one.predicted), 1)
    classes = class_names(board.store, run_id, artifact_uri, size)
    return [figures.confusion(name, counts[: len(classes), : len(classes)].tolist(), classes[:size], title)]
