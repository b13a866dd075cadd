"""From runs to configurations: one row a configuration and page, aggregated over its seeds, ranked.

The result is a plain frame. Per metric ``m``: ``m`` (mean), ``m_spread`` (sample standard deviation), ``m_n`` (runs
that have it); :mod:`reports.claims.pages` adds the interval, the possible ranks and the tier. A value the vocabulary
calls impossible takes part in nothing and is listed by ``impossible``. ``repeats`` are the runs that repeat
another of the row with the same seed, to the last digit: they are not independent and take part in nothing.
``seeded`` says that the runs the ranking metric is the mean of have a seed each, all different, and differ in no
setting: only those are seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.board.runs import METRICS, BoardQuery, column, is_seed, resolve_name
from reports.document import text
from reports.metrics import higher_is_better, is_legal
from reports.settings import HEAD, name_rows, setting_name
from tracking import names

_SCORES = (names.TRAIN_ACCURACY, names.VALIDATION_ACCURACY, names.BEST_VALIDATION_ACCURACY, names.TEST_ACCURACY)


def tabulate(runs: pd.DataFrame, ask: BoardQuery) -> pd.DataFrame:
    """``runs`` (finished candidates, with a ``page`` column) -> one row a configuration, best first on each page."""
    by = [resolve_name(runs, word) for word in ask.by]
    # Two experiments never share a row; the configuration's key holds its experiment.
    keys = [runs["page"], *([runs["experiment"], *(runs[c] for c in by)] if by else [runs["config"]])]
    codes, num_rows = _codes(keys)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(num_rows))
    first = order[starts]
    members = (order, [*starts.tolist(), len(order)])
    repeat = _repeats(runs, codes, ask)

    extra = [resolve_name(runs, word) for word in ask.columns]
    data: dict[str, Any] = {
        "page": runs["page"].to_numpy()[first],
        "config": runs["config"].to_numpy()[first],
        "n": np.bincount(codes[~repeat], minlength=num_rows),
        "run_ids": _lists(runs["run_id"], members),
        "repeats": [tuple(r for r in row if r) for row in _lists(runs["run_id"].where(repeat, ""), members)],
        "run_names": _lists(runs["run_name"], members),
        "seeds": _lists(runs["seed"], members),
        "seeded": _seeded(runs, codes, num_rows, repeat, ask),
        "experiment": runs["experiment"].to_numpy()[first],
        "experiment_id": runs["experiment_id"].to_numpy()[first],
        "dataset": runs["dataset"].to_numpy()[first],
        "where": [_common(row) for row in _lists(_place(runs), members)],
    }
    if by:
        # By what they share, so that a row stays the same row when another run joins it.
        data["config"] = [
            ", ".join(f"{word}={'' if text.is_missing(v) else v}" for word, v in zip(ask.by, values, strict=True))
            for values in zip(*(runs[c].astype(object).to_numpy()[first] for c in by), strict=True)
        ]
    wanted = [*METRICS, ask.metric, *(c[8:] for c in extra if c.startswith("metrics."))]
    for metric in dict.fromkeys(wanted):
        values = pd.to_numeric(column(runs, f"metrics.{metric}")).astype("float64")
        legal = is_legal(metric, values)
        data.update(_aggregate(metric, values.where(legal & ~repeat).to_numpy(), codes, num_rows))
        data[f"{metric}_bad"] = np.bincount(codes[(~legal & values.notna()).to_numpy()], minlength=num_rows) > 0
    data.update(_aggregate("time_s", runs["time_s"].to_numpy(), codes, num_rows))
    table = pd.DataFrame(data)
    # The kept checkpoint is the best by validation: its score belongs to the same weights as the test score.
    best = table[names.BEST_VALIDATION_ACCURACY].notna()
    for suffix in ("", "_spread", "_n", "_bad"):
        kept = table[names.BEST_VALIDATION_ACCURACY + suffix]
        table["validation" + suffix] = kept.where(best, table[names.VALIDATION_ACCURACY + suffix])
    table["gap"] = table[names.TRAIN_ACCURACY] - table[names.TEST_ACCURACY]
    if ask.at_step is not None:
        # The train accuracy of one epoch and the test accuracy of another do not compare.
        table["gap"] = np.nan
    called = _names(runs.iloc[first], table, ask.metric, by)
    base = by if by else [c for c in HEAD if c in runs.columns and runs[c].notna().any()]
    differ = sorted({c for one in called.values() for c in (*one["used"], *one["others"])} - {"experiment"})
    settings = [c for c in dict.fromkeys([*base, *differ, *extra]) if not c.startswith("metrics.")]
    # A setting called like a column of the table's own keeps its whole name.
    key = {c: c if setting_name(c) in table else setting_name(c) for c in settings}
    at = table.columns.get_loc(METRICS[0])
    shown = pd.DataFrame({key[c]: _of_rows(runs[c], codes, first) for c in settings}, index=table.index)
    table = pd.concat([table.iloc[:, :at], shown, table.iloc[:, at:]], axis=1)
    table.attrs["settings"] = list(key.values())
    table.attrs["pages"] = called
    table.attrs["others"] = _Shared({page: [key[c] for c in one["others"]] for page, one in called.items()})
    table.attrs["extra"] = [key[c] for c in extra if c in key]
    table.attrs["extra_metrics"] = [c[8:] for c in extra if c.startswith("metrics.")]
    table = _rank(table, ask)
    table.insert(2, "label", table.pop("label"))
    return table


class _Shared(dict[str, Any]):
    """One and the same in every copy of a frame: pandas copies the attributes with each column that is taken."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


def _names(rows: pd.DataFrame, table: pd.DataFrame, metric: str, by: Sequence[str]) -> _Shared:
    """Give ``table`` its column ``label``, unique within a page. Returns by page the settings that are ``used`` in
    names, the ``others`` that differ, the words that are the ``same`` in all, and each name's place in ``order``."""
    seeds = [] if by else [c for c in rows.columns if c.startswith("params.") and is_seed(c[7:])]
    shown = rows.drop(columns=seeds)
    labels = np.empty(len(table), dtype=object)
    called = _Shared()
    for page, indices in table.groupby("page", sort=False).indices.items():
        one = name_rows(shown.iloc[indices], table[metric].to_numpy()[indices], by)
        ids = [text.short(table["run_ids"].iloc[i][0]) for i in indices]
        run_names = [table["run_names"].iloc[i][0] for i in indices]
        said = [words or text.one_line(n or i) for words, n, i in zip(one.names, run_names, ids, strict=True)]
        twice = pd.Series(said).duplicated(keep=False).tolist()
        labels[indices] = [f"{words} ({run})" if t else words for words, run, t in zip(said, ids, twice, strict=True)]
        order = dict(zip(labels[indices], one.order, strict=True))
        called[str(page)] = {"used": one.used, "others": one.others, "same": one.same, "order": order}
    table["label"] = labels
    return called


def _repeats(runs: pd.DataFrame, codes: Any, ask: BoardQuery) -> Any:
    """``(n,)`` booleans: the runs that repeat an earlier one of their row, seed, settings and scores, bit for bit."""
    scored = (runs["seed"].notna() & column(runs, f"metrics.{ask.metric}").notna()).to_numpy()
    scores = {m: column(runs, f"metrics.{m}").to_numpy() for m in (*_SCORES, ask.metric)}
    alike = pd.DataFrame({"row": codes, "seed": runs["seed"].to_numpy(), **scores})
    places = np.flatnonzero(scored & alike.duplicated(keep=False).to_numpy())
    here = runs.iloc[places]
    same, _ = _codes(
        [alike.iloc[places][c] for c in alike] + [here[c] for c in here.columns if c.startswith("params.")]
    )
    repeat = np.zeros(len(runs), dtype=bool)
    repeat[places] = pd.Series(same).duplicated().to_numpy()
    return repeat


def _seeded(runs: pd.DataFrame, codes: Any, num_rows: int, repeat: Any, ask: BoardQuery) -> Any:
    """``(num_rows,)`` booleans: whether a row's runs are seeds of one configuration; of those scored where any is."""
    values = column(runs, f"metrics.{ask.metric}").astype("float64")
    frame = pd.DataFrame({"row": codes, "seed": runs["seed"].to_numpy(), "config": runs["config"].to_numpy()})
    frame["scored"] = (is_legal(ask.metric, values) & values.notna()).to_numpy()
    frame = frame.loc[~repeat]
    frame = frame.loc[frame["scored"] | ~frame.groupby("row")["scored"].transform("any")]
    rows = frame.groupby("row")
    distinct = (rows["seed"].nunique() == rows.size()) & (rows["config"].nunique() == 1)
    return distinct.reindex(range(num_rows), fill_value=False).to_numpy()


def _codes(keys: Sequence[pd.Series[Any]]) -> tuple[np.ndarray[Any, np.dtype[np.int64]], int]:
    """Number the distinct combinations of the keys; a missing value is a value of its own."""
    codes = np.zeros(len(keys[0]), dtype=np.int64)
    for key in keys:
        part, found = pd.factorize(key.astype(object), use_na_sentinel=False)
        codes, unique = pd.factorize(codes * (len(found) + 1) + part)
    return codes, int(codes.max()) + 1 if len(codes) else 0


def _lists(values: pd.Series[Any], members: tuple[Any, list[int]]) -> list[tuple[Any, ...]]:
    """The values of each row's runs: ``members`` are the runs in the rows' order and where each row begins and ends."""
    order, ends = members
    plain = values.to_numpy(dtype=object)[order].tolist()
    return [tuple(plain[a:b]) for a, b in zip(ends, ends[1:], strict=False)]


def _of_rows(values: pd.Series[Any], codes: Any, first: Any) -> Any:
    """A setting's value in each row; where the row's runs differ in it, all of them: ``0.1 / 0.2``."""
    found = pd.factorize(values.astype(object))[0]
    mixed = sorted(set(codes[found != found[first][codes]].tolist()))
    if not mixed:
        return values.array[first]
    shown = values.to_numpy(dtype=object)[first]
    for row in mixed:
        here = values[codes == row]
        said = sorted({text.MISSING if text.is_missing(v) else text.number(v) for v in here})
        shown[row] = " / ".join(said) if len(said) <= 4 else f"{len(said)} values"
    return shown


def _place(runs: pd.DataFrame) -> pd.Series[Any]:
    """Where each run ran: the launcher, and the machine in the cloud."""
    launcher, machine = (column(runs, f"tags.{tag}") for tag in (names.LAUNCHER, names.INSTANCE_TYPE))
    if not machine.notna().any():
        return launcher
    places = [", ".join(str(v) for v in both if isinstance(v, str)) for both in zip(launcher, machine, strict=True)]
    return pd.Series([place or None for place in places], index=runs.index, dtype=object)


def _common(values: tuple[Any, ...]) -> str | None:
    if len(set(values)) == 1 and isinstance(values[0], str):
        return values[0]
    found = sorted({str(v) for v in values if v is not None and v == v})
    return ", ".join(found) or None


def _aggregate(name: str, values: Any, codes: Any, num_rows: int) -> dict[str, Any]:
    """Mean, sample standard deviation and count of the values that are there, per row."""
    known = ~np.isnan(values)
    v, c = values[known], codes[known]
    n = np.bincount(c, minlength=num_rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(c, v, num_rows) / n
        square = np.bincount(c, (v - mean[c]) ** 2, num_rows)
        spread = np.where(n > 1, np.sqrt(square / (n - 1)), np.nan)
    return {name: np.where(n > 0, mean, np.nan), f"{name}_spread": spread, f"{name}_n": n}


def _rank(table: pd.DataFrame, ask: BoardQuery) -> pd.DataFrame:
    """Best first on each page, missing last and unranked, ties share a rank and are ordered by run id."""
    better = higher_is_better(ask.metric)
    value = table[ask.metric].to_numpy()
    sortable = np.where(np.isnan(value), np.inf, -value if better else value)
    # Ties, and what is not ranked, by their settings; the run's id decides between equal ones.
    columns = [_sortable(table[name]) for name in reversed(table.attrs["settings"])]
    ids = np.array([row[0] for row in table["run_ids"]], dtype=object).astype(str)
    # What has no score follows in the order of its validation, which chose it.
    validation = np.where(np.isnan(value), -table["validation"].fillna(-np.inf).to_numpy(dtype=np.float64), 0)
    order = np.lexsort((ids, *columns, validation, sortable, table["page"].to_numpy().astype(str)))
    settings = table.attrs
    table = table.iloc[order].reset_index(drop=True)
    table.attrs = dict(settings)
    ranks = table.groupby("page")[ask.metric].rank(method="min", ascending=not better)
    table.insert(0, "rank", ranks.astype("Int64"))
    return table


def _sortable(values: pd.Series[Any]) -> Any:
    """Ranks of a setting's values, numbers by size and texts by their letters, missing ones last."""
    if pd.api.types.is_numeric_dtype(values.dtype):
        numbers = values.to_numpy(dtype="float64", na_value=np.nan)
        return np.where(np.isnan(numbers), np.inf, numbers)
    return np.unique(["\U0010ffff" if text.is_missing(v) else str(v) for v in values], return_inverse=True)[1]
