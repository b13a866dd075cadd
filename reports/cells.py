"""Which columns a table shows and what stands in their cells, as text; the renderers only lay them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports import text
from reports.source import Ask
from tracking import names

Row = Any


@dataclass(frozen=True)
class Column:
    """A column of a rendered table: its head, its side, its cells as text and the values they sort by."""

    title: str
    right: bool
    cells: list[str]
    values: list[Any]


def decimals(table: pd.DataFrame, ask: Ask) -> int:
    """Decimals of a percent: two where the scores come from 2,000 pictures or more."""
    images = table.get(names.num_images(ask.split))
    return 2 if images is not None and images.min() >= 2000 else 1


def core_columns(table: pd.DataFrame, ask: Ask) -> list[Column]:
    """The ranking's columns; those no row has a value for are left out, the ranking metric never."""
    places = decimals(table, ask)
    columns = [_column(table, "#", True, "rank", lambda v: text.MISSING if text.is_missing(v) else str(int(v)))]
    for name in table.attrs["settings"]:
        known = names.PARAMS.get(name)
        title = known.title if known else name
        columns.append(_column(table, title, pd.api.types.is_numeric_dtype(table[name].dtype), name, text.number))
    for name, title in ((names.TRAIN_ACCURACY, "train"), ("validation", "validation"), (names.TEST_ACCURACY, "test")):
        if name != names.TEST_ACCURACY and not table[name].notna().any():
            continue
        columns.append(_score(table, title, name, places))
    if ask.metric not in (names.TRAIN_ACCURACY, names.VALIDATION_ACCURACY, names.TEST_ACCURACY):
        columns.append(_metric(table, ask.metric, places))
    if table["low"].notna().any():
        share = is_share(ask.metric)
        show: Callable[[Any, Any], str] = (
            (lambda a, b: text.interval(a, b, places))
            if share
            else (lambda a, b: text.MISSING if text.is_missing(a) else f"{text.number(a)}–{text.number(b)}")
        )
        cells = [show(a, b) for a, b in zip(table["low"], table["high"], strict=True)]
        columns.append(Column("95 % interval", True, cells, table["low"].tolist()))
    images = names.num_images(ask.split)
    if table[images].notna().any():
        columns.append(_column(table, "images", True, images, text.count))
    if (table["n"] > 1).any():
        columns.append(_column(table, "seeds", True, "n", text.count))
    columns += [_metric(table, m, places) for m in table.attrs["extra_metrics"]]
    columns.append(_column(table, "time", True, "time_s", text.duration))
    return columns


def is_share(metric: str) -> bool:
    """A metric in 0..1 that reads well as a percentage."""
    known = names.ALL.get(("metric", metric))
    return known is not None and known.high == 1 and "accuracy" in metric


def run_text(run_ids: tuple[str, ...]) -> str:
    """The first run's short id and how many more there are."""
    head = text.short(run_ids[0])
    return head if len(run_ids) == 1 else f"{head} +{len(run_ids) - 1}"


def _metric(table: pd.DataFrame, name: str, places: int) -> Column:
    known = names.ALL.get(("metric", name))
    title = known.title if known else name
    if is_share(name):
        return _score(table, title, name, places)
    show = {"s": text.duration, "USD": text.money, "bytes": text.size}.get(known.unit if known else "", text.number)
    return _column(table, title, True, name, show)


def _score(table: pd.DataFrame, title: str, name: str, places: int) -> Column:
    cells = [
        text.score(m, s, n, places)
        for m, s, n in zip(table[name], table[f"{name}_spread"], table[f"{name}_n"], strict=True)
    ]
    return Column(title, True, cells, table[name].tolist())


def _column(table: pd.DataFrame, title: str, right: bool, name: str, show: Callable[[Any], str]) -> Column:
    values = table[name].tolist()
    return Column(title, right, [show(v) for v in values], values)
