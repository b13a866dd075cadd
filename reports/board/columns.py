"""The columns of a leaderboard's tables and the text of their cells; the renderers only lay them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.board.runs import BoardQuery
from reports.document import text
from reports.document.document import Column, Link, Range, RunId, Span, Text, plain
from reports.metrics import interval_text, is_plain, is_share, value_text
from tracking import names
from tracking.store import connection

IMPOSSIBLE = "!"


def decimals(table: pd.DataFrame, ask: BoardQuery) -> int:
    """Decimals of a percent: two where the scores come from 2,000 pictures or more."""
    images = table.get(names.num_images(ask.split))
    return 2 if images is not None and images.min() >= 2000 else 1


def ranking(table: pd.DataFrame, ask: BoardQuery, uri: str) -> tuple[tuple[Column, ...], list[str]]:
    """The ranking's columns, what decides first; those no row has a value for are left out, the ranking metric never.

    Settings that no name holds follow as far as a page's width takes them; the others' names are returned too.
    """
    places = decimals(table, ask)
    columns = [Column("#", True, _ranks(table), table["rank"].tolist())]
    columns.append(_names(table))
    scores = {ask.metric: "", names.TEST_ACCURACY: "test", "validation": "validation", names.TRAIN_ACCURACY: "train"}
    if table.loc[table["validation"].notna(), names.BEST_VALIDATION_ACCURACY].notna().all():
        scores["validation"] = "best validation" if table["validation"].notna().any() else "validation"
    scores |= {ask.metric: scores[ask.metric]} if scores[ask.metric] else {}
    if ask.metric == names.VALIDATION_ACCURACY:
        scores = {ask.metric: "validation"} | {k: v for k, v in scores.items() if k not in (ask.metric, "validation")}
    for name, title in scores.items():
        if not title:
            columns.append(_metric(table, name, places))
        elif name == ask.metric or table[name].notna().any() or table[f"{name}_bad"].any():
            columns.append(_score(table, title, name, places))
        if name == ask.metric and table["low"].notna().any():
            columns.append(_intervals(table, ask, places))
    if (table["n"] > 1).any():
        columns.append(
            Column("n" if of_what(table) == "runs" else "seeds", True, _counts(table, ask), table["n"].tolist())
        )
    for name, title, show in (
        (names.num_images(ask.split), "images", text.count),
        ("time_s", "time", text.duration),
        (names.COST_USD, "cost", text.money),
    ):
        if table[name].notna().any():
            columns.append(_column(table, title, True, name, show))
    columns += [_setting(table, name) for name in table.attrs["extra"]]
    columns += [_metric(table, m, places) for m in table.attrs["extra_metrics"]]
    if table["gap"].notna().any():
        columns.append(_column(table, "gap", True, "gap", lambda v: text.points(v, places)))
    last = runs_column(table, uri)
    room = _WIDTH - sum(map(_width, [*columns, last]))
    others = [name for name in table.attrs["others"].get(_page(table), []) if name not in table.attrs["extra"]]
    cut: list[str] = []
    for name in others:
        column = _setting(table, name)
        if cut or room < _width(column):
            cut.append(name)
        else:
            room -= _width(column)
            columns.append(column)
    return (*columns, last), cut


# What is visible at 1280 pixels without scrolling, in characters of the table; a name is wrapped.
_WIDTH, _NAME_WIDTH = 144, 30


def _width(column: Column) -> int:
    widest = max([text.width(plain(cell)) for cell in column.cells], default=0)
    return 2 + max(text.width(column.title), min(widest, _NAME_WIDTH))


def _page(table: pd.DataFrame) -> str:
    return str(table["page"].iloc[0])


def _names(table: pd.DataFrame) -> Column:
    """What each row is called; it sorts by the settings in the name, not by its letters."""
    labels = table["label"].tolist()
    order = table.attrs["pages"][_page(table)]["order"]
    return Column("configuration", False, labels, [order[label] for label in labels])


def of_what(rows: pd.DataFrame) -> str:
    """What the means of these rows are over: ``seeds`` where every row of several has them, else ``runs``."""
    return "seeds" if rows.loc[rows["n"] > 1, "seeded"].all() else "runs"


def effort(table: pd.DataFrame) -> tuple[Column, ...] | None:
    """What else each row took: speed, billed time, size, place; None where none of it is known."""
    wanted: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
        ("images/s", names.IMAGES_PER_S, text.count),
        ("billable time", names.BILLABLE_TIME_S, text.duration),
        ("parameters", names.NUM_PARAMETERS, text.count),
        ("model size", names.MODEL_SIZE_BYTES, text.size),
    )
    columns = [
        Column("#", True, _ranks(table), table["rank"].tolist()),
        _names(table),
        *(_column(table, title, True, name, show) for title, name, show in wanted if table[name].notna().any()),
    ]
    took = len(columns) > 2
    if table["where"].notna().any():
        columns.append(
            _column(table, "where", False, "where", lambda v: text.MISSING if text.is_missing(v) else str(v))
        )
    return tuple(columns) if took or table["where"].nunique(dropna=False) > 1 else None


def run_text(run_id: str, experiment_id: Any, uri: str) -> Link | RunId:
    """A run's short id, leading to the MLflow UI where the store is a server's, else to its first place on the page."""
    if uri.startswith(("http://", "https://")) and "@" not in uri:
        return Link(
            text.short(run_id), f"{connection.public(uri).rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
        )
    return RunId(text.short(run_id), run_id)


def runs_text(run_ids: Sequence[str], experiment_id: Any, uri: str, most: int = 1) -> Text:
    """The first few runs and how many more there are."""
    parts: list[Span] = []
    for run_id in run_ids[:most]:
        parts += [" ", run_text(run_id, experiment_id, uri)] if parts else [run_text(run_id, experiment_id, uri)]
    if len(run_ids) > most:
        parts.append(f" +{len(run_ids) - most}")
    return tuple(parts)


def runs_column(table: pd.DataFrame, uri: str) -> Column:
    """The runs behind each row."""
    cells = [runs_text(r, e, uri) for r, e in zip(table["run_ids"], table["experiment_id"], strict=True)]
    return Column(
        "runs" if any(len(r) > 1 for r in table["run_ids"]) else "run", False, cells, [r[0] for r in table["run_ids"]]
    )


def _ranks(table: pd.DataFrame) -> list[str]:
    """The ranks that a row may have: ``1``, or ``1–3`` where it cannot be told from two others."""
    ends = zip(table["rank_low"].tolist(), table["rank_high"].tolist(), strict=True)
    return [text.MISSING if text.is_missing(a) else f"{a}" if a == b else f"{a}–{b}" for a, b in ends]


def _counts(table: pd.DataFrame, ask: BoardQuery) -> list[str]:
    """How many runs each score is the mean of: ``3``, or ``2 of 3`` where some have none."""
    scored = zip(table[f"{ask.metric}_n"], table["n"], strict=True)
    return [text.count(n) if k in (0, n) else f"{text.count(k)} of {text.count(n)}" for k, n in scored]


def _setting(table: pd.DataFrame, name: str) -> Column:
    known = names.PARAMS.get(name)
    right = pd.api.types.is_numeric_dtype(table[name].dtype)
    return _column(table, known.title if known else text.one_line(name), right, name, text.number)


def _metric(table: pd.DataFrame, name: str, places: int) -> Column:
    known = names.ALL.get(("metric", name))
    title = known.title if known else name
    if is_share(name):
        return _score(table, title, name, places)
    values = table[name].tolist()
    if is_plain(name):
        spreads = table[f"{name}_spread"].tolist()
        said = [_with_spread(*one) for one in zip(text.numbers(values), spreads, strict=True)]
        return Column(title, True, said, values)
    return _column(table, title, True, name, lambda v: value_text(name, v))


def _with_spread(said: str, spread: Any) -> str:
    """A mean and its spread over seeds, with as many decimals."""
    if text.is_missing(spread):
        return said
    decimals = len(said.partition(".")[2])
    return f"{said} ± {float(spread):.{decimals}f}" if "e" not in said else said


def _intervals(table: pd.DataFrame, ask: BoardQuery, places: int) -> Column:
    """Each row's 95 % interval, in words and as a range on one scale for the whole column."""
    lows, highs = table["low"].tolist(), table["high"].tolist()
    if is_plain(ask.metric):
        said = text.numbers([*lows, *highs])
        pairs = zip(said[: len(lows)], said[len(lows) :], strict=True)
        words = [text.MISSING if low == text.MISSING else f"{low} – {high}" for low, high in pairs]
    else:
        words = [interval_text(low, high, ask.metric, places) for low, high in zip(lows, highs, strict=True)]
    ends = table[["low", ask.metric, "high"]].where(table["low"].notna())
    ends = ends.where(np.isfinite(ends.astype("float64")))
    least, most = ends.min().min(), ends.max().max()
    drawn = ((ends - least) / (most - least)).to_numpy(dtype="float64") if most > least else ends.to_numpy() * np.nan
    cells: list[Text] = [
        (Range(said, *map(float, at)),) if np.isfinite(at).all() else said
        for said, at in zip(words, drawn, strict=True)
    ]
    return Column("95 % interval", True, cells, lows)


def _score(table: pd.DataFrame, title: str, name: str, places: int) -> Column:
    """Mean and spread; an impossible value has a mark of its own, it is not missing."""
    bad = table[f"{name}_bad"]
    cells = [
        IMPOSSIBLE if wrong and text.is_missing(m) else text.score(m, s, n, places)
        for m, s, n, wrong in zip(table[name], table[f"{name}_spread"], table[f"{name}_n"], bad, strict=True)
    ]
    return Column(title, True, cells, table[name].tolist())


def _column(table: pd.DataFrame, title: str, right: bool, name: str, show: Callable[[Any], str]) -> Column:
    values = table[name].tolist()
    return Column(title, right, [show(v) for v in values], values)
