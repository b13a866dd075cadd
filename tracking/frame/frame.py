"""The read side: the runs of any MLflow store as one typed pandas frame, one row a run.

In: a store (or a tracking URI), experiments, a filter in MLflow's own words, the columns wanted. Out: the frame. SQLite
and PostgreSQL are read with plain SQL (``sql``), MLflow's old file stores as files (``files``), all else page by page
through MLflow (``api``); all give the same frame, and none writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tracking import names
from tracking.errors import StoreError
from tracking.frame.query import CORE, Cells, HasUri, Input, Query, suits
from tracking.store import address

_TIMES = ("start_time", "end_time")
_KINDS = ("params", "metrics", "tags", "datasets")


def load(
    store: HasUri | str,
    experiments: str | Iterable[str] | None = None,
    filter: str = "",
    columns: Iterable[str] | None = None,
    *,
    order_by: str = "",
    descending: bool = True,
    limit: int | None = None,
) -> pd.DataFrame:
    """Read the active runs of ``store`` into a frame, one row a run.

    Columns: ``CORE``, then ``params.<k>``, ``metrics.<k>`` (the value at the highest step), ``tags.<k>`` and
    ``datasets.<context>`` (the digest of the input logged as ``train``, ``validation``, ``test`` …), each group sorted.
    ``experiments`` are names or ids (None: all that are active), ``filter`` is MLflow's filter language, ``columns``
    names what to read beside the core (``params.*`` for a whole group); what no run has is simply absent. Rows come by
    start time, or by ``order_by`` (a ``params.``, ``metrics.`` or ``tags.`` column) with missing values last; ``limit``
    reads only the first so many of that order, or the newest where none is given.

    Parameters of the vocabulary come back in its types (Int64, boolean, float64), metrics as float64, the rest as text
    (object, None where missing). What the vocabulary cannot read is missing and listed in
    ``frame.attrs["unreadable"]`` as ``(run_id, column, text)``; ``frame.attrs["nan"]`` lists the metrics logged as NaN
    as ``(run_id, column)``; ``frame.attrs["read_by"]`` is ``sql``, ``api`` or ``files``, and ``frame.attrs["note"]``
    says why it is not ``sql``, and what could not be read. Raises StoreError for an unknown experiment, and for what is
    no store that can be read: nothing is made, upgraded or changed there.
    """
    uri = store if isinstance(store, str) else store.tracking_uri
    query = Query(
        experiments=(experiments,)
        if isinstance(experiments, str)
        else None
        if experiments is None
        else tuple(experiments),
        filter=filter,
        columns=None if columns is None else tuple(columns),
        order_by=order_by,
        descending=descending,
        limit=limit,
    )
    _check(query)
    cells, read_by, note = _ask(uri, "read", query)
    frame = shaped(cells, query)
    if faults := list(dict.fromkeys(cells.faults)):
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        note = f"{note}; left out: {', '.join(faults[:3])}{more}"
    frame.attrs["read_by"] = read_by
    frame.attrs["note"] = note
    return frame


def histories(store: HasUri | str, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Every logged point of some runs' metrics: columns ``run_id``, ``metric``, ``step``, ``value``.

    Sorted by run, metric and step; of several values at one step the one logged last counts.
    """
    uri = store if isinstance(store, str) else store.tracking_uri
    points, _, _ = _ask(uri, "histories", list(run_ids), list(metrics))
    latest = {point[:3]: point[4] for point in sorted(points, key=lambda p: p[:4])}
    rows = [(*place, value) for place, value in latest.items()]
    frame = pd.DataFrame(rows, columns=["run_id", "metric", "step", "value"])
    frame["value"] = _typed("metrics.", frame["value"].tolist(), [], [])
    return frame.astype({"run_id": object, "metric": object, "step": "int64"})


def models(store: HasUri | str, run_id: str) -> list[tuple[str, str]]:
    """``(model_id, artifact_location)`` of the models a run logged as MLflow's own, oldest first."""
    uri = store if isinstance(store, str) else store.tracking_uri
    found: list[tuple[str, str]] = _ask(uri, "models", run_id)[0]
    return found


def inputs(store: HasUri | str, run_id: str) -> list[Input]:
    """The datasets a run logged as inputs."""
    uri = store if isinstance(store, str) else store.tracking_uri
    found: list[Input] = _ask(uri, "inputs", run_id)[0]
    return found


def _check(query: Query) -> None:
    for column in (*(query.columns or ()), *([query.order_by] if query.order_by else ())):
        kind, dot, key = column.partition(".")
        if column not in CORE and (kind not in _KINDS or not dot or not key):
            raise StoreError(
                f"column {column!r}: columns are {', '.join(CORE)} or begin with {', '.join(k + '.' for k in _KINDS)}"
            )
    if query.limit is not None and query.limit < 1:
        raise StoreError(f"limit {query.limit}: the number of runs to read is at least 1")


def _ask(uri: str, what: str, *asked: Any) -> tuple[Any, str, str]:
    """Have ``what`` of a reader: by SQL where that can be; also who answered, and why the slower one had to."""
    from tracking.frame import api, files, sql, tables

    if (folder := files.store_folder(uri)) is not None:
        return getattr(files, what)(uri, *asked), "files", f"read from the files that an older MLflow left in {folder}"
    address.check(uri)
    why = ""
    if suits(uri):
        try:
            return getattr(sql, what)(uri, *asked), "sql", ""
        except tables.Unsuitable as reason:
            why = str(reason)
    api.check(uri, why)
    return getattr(api, what)(uri, *asked), "api", f"read through MLflow, which is slower: {why}" if why else ""


def shaped(cells: Cells, query: Query) -> pd.DataFrame:
    """The frame of what a reader found: cells typed, columns in order."""
    unreadable: list[tuple[str, str, str]] = []
    nan: list[tuple[str, str]] = []
    data: dict[str, Any] = {}
    for column in CORE:
        values = cells.core[column]
        if column in _TIMES:
            data[column] = _times(values)
        else:
            data[column] = pd.Series(values, dtype=object)
    for kind in _KINDS:
        for column in sorted(c for c in cells.wide if c.startswith(f"{kind}.")):
            values = cells.wide[column]
            data[column] = _typed(column, values, cells.core["run_id"], unreadable)
            if kind == "metrics":
                nan += [(run, column) for run, v in zip(cells.core["run_id"], values, strict=True) if v != v]
    frame = pd.DataFrame(data, columns=list(data))
    if not query.order_by:
        order = np.lexsort(([str(r) for r in cells.core["run_id"]], [t or 0 for t in cells.core["start_time"]]))
        frame = frame.iloc[order].reset_index(drop=True)
    frame.attrs["unreadable"] = sorted(unreadable)
    frame.attrs["nan"] = sorted(nan)
    return frame


def _times(milliseconds: list[int | None]) -> pd.Series[Any]:
    numbers = np.array([np.iinfo(np.int64).min if t is None else t for t in milliseconds], dtype="datetime64[ms]")
    return pd.Series(numbers).dt.tz_localize("UTC")


def _typed(
    column: str, values: list[Any], run_ids: list[str], unreadable: list[tuple[str, str, str]]
) -> pd.Series[Any]:
    kind, _, key = column.partition(".")
    if kind == "metrics":
        numbers = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        # A database has no infinity: MLflow stores the largest float instead.
        largest = sys.float_info.max
        numbers[numbers >= largest] = np.inf
        numbers[numbers <= -largest] = -np.inf
        return pd.Series(numbers)
    name = names.PARAMS.get(key) if kind == "params" else None
    if name is None or name.type is str:
        return pd.Series(values, dtype=object)
    read: dict[str, Any] = {}
    typed: list[Any] = []
    for run_id, text in zip(run_ids, values, strict=True):
        if text is None:
            typed.append(None)
            continue
        if text not in read:
            try:
                read[text] = names.parse(name, text)
            except (ValueError, OverflowError):
                read[text] = None
        if read[text] is None:
            unreadable.append((run_id, column, text))
        typed.append(read[text])
    if name.type is float:
        return pd.Series(np.array([np.nan if v is None else v for v in typed], dtype=np.float64))
    return pd.Series(typed, dtype="Int64" if name.type is int else "boolean")
