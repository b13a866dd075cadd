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
from tracking import names

LABELS = {"params.num_layers": "layers", "init": "init", "params.epochs": "epochs"}
_DERIVED = {"params.init", "params.use_pretrained_model", "params.dataset", "params.num_threads"}
_SCORES = (names.TRAIN_ACCURACY, names.VALIDATION_ACCURACY, names.BEST_VALIDATION_ACCURACY, names.TEST_ACCURACY)
_DECIDED = {"params.image_shape", "params.num_classes", "params.num_training_samples", "params.resize"}
MOST_VARIED = 6


def varied(runs: pd.DataFrame) -> list[str]:
    """Settings that differ between configurations and are not shown anyway, in the vocabulary's order.

    What data and depth decide is left out where they decide it.
    """
    known = [f"params.{name}" for name in (names.NETWORK, *names.PARAMS)]
    found = []
    for c in (*known, *sorted(c for c in runs.columns if c.startswith("params.") and c not in known)):
        if c not in runs.columns or c in LABELS or c in _DERIVED or is_seed(c[7:]) or runs[c].nunique(dropna=False) < 2:
            continue
        if c in _DECIDED:
            shown = [runs[s].astype(object) for s in (*LABELS, "page") if s in runs.columns]
            if runs[c].astype(object).groupby(shown, dropna=False).nunique(dropna=False).max() < 2:
                continue
        found.append(c)
    return found[:MOST_VARIED]


def tabulate(runs: pd.DataFrame, ask: BoardQuery) -> pd.DataFrame:
    """``runs`` (finished candidates, with a ``page`` column) -> one row a configuration, best first on each page."""
    by = [resolve_name(runs, word) for word in ask.by]
    keys = [runs["page"], *(runs[c] for c in by)] if by else [runs["page"], runs["config"]]
    codes, num_rows = _codes(keys)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(num_rows))
    first = order[starts]
    members = (order, [*starts.tolist(), len(order)])
    repeat = _repeats(runs, codes, ask)

    shown = by if by else [c for c in LABELS if c in runs.columns and runs[c].notna().any()]
    extra = [resolve_name(runs, word) for word in ask.columns]
    telling = [*shown, *([] if by else varied(runs))]
    settings = list(dict.fromkeys([*telling, *extra]))
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
    for c in settings:
        if c.startswith("metrics."):
            continue
        data[_setting_name(c)] = _of_rows(runs[c], codes, first)
    wanted = [*METRICS, ask.metric, *(c[8:] for c in settings if c.startswith("metrics."))]
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
    alike = [table[_setting_name(c)] for c in telling if not c.startswith("metrics.")]
    same, _ = _codes([table["page"], *alike])
    # Rows that differ in nothing else come from several experiments: the experiment is shown as a setting.
    more = ["experiment"] if not by and (table["experiment"].groupby(same).nunique() > 1).any() else []
    table.attrs["settings"] = [*(_setting_name(c) for c in settings if not c.startswith("metrics.")), *more]
    table.attrs["telling"] = [*(_setting_name(c) for c in telling if not c.startswith("metrics.")), *more]
    table.attrs["extra_metrics"] = [c[8:] for c in settings if c.startswith("metrics.")]
    table = _rank(table, ask)
    table.insert(2, "label", labels(table))
    return table


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


def _setting_name(c: str) -> str:
    return LABELS.get(c) or c.partition(".")[2] or c


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
    order = np.lexsort((ids, *columns, sortable, table["page"].to_numpy().astype(str)))
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


def labels(table: pd.DataFrame) -> list[str]:
    """What each row is called in a sentence: ``44 layers, scratch, 30 epochs``, unique within its page."""
    parts = [_setting_column(name, table[name].tolist()) for name in table.attrs["telling"]]
    said = [", ".join([w for w in words if w]) for words in zip(*parts, strict=True)] if parts else [""] * len(table)
    for i, words in enumerate(said):
        if not words:
            said[i] = text.one_line(table["run_names"].iloc[i][0] or text.short(table["run_ids"].iloc[i][0]))
    pages = table["page"].tolist()
    seen = pd.Series(list(zip(pages, said, strict=True))).duplicated(keep=False).tolist()
    ids = [text.short(r[0]) for r in table["run_ids"]]
    return [f"{words} ({run})" if twice else words for words, run, twice in zip(said, ids, seen, strict=True)]


def _setting_column(name: str, values: list[Any]) -> list[str]:
    """The words of a setting in each row, empty where it is missing; each value is put into words once."""
    known: dict[Any, str] = {}
    words = []
    for value in values:
        if value not in known:
            known[value] = "" if text.is_missing(value) else _setting_words(name, value)
        words.append(known[value])
    return words


def _setting_words(name: str, value: Any) -> str:
    shown = text.one_line(text.number(value))
    if name in ("layers", "epochs"):
        return f"{shown} {name if shown != '1' else name[:-1]}"
    if name == "init":
        return shown
    known = names.PARAMS.get(name)
    return f"{known.title if known else name} {shown}"
