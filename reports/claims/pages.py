"""From a leaderboard's table to its claims: reads what its first rows predicted, judges them, fills their columns.

Columns written: ``low``, ``high`` and ``interval`` (how it was made), ``rank_low`` and ``rank_high`` (the ranks a row
may have), ``tier`` (1: cannot be told from the first).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports import metrics, stats
from reports.claims import two_way
from reports.claims.sources import Sources, source_of
from reports.claims.verdict import Entry, Judgement, judge
from reports.store import UNREADABLE
from tracking import names
from tracking.store.predictions import Predictions, load

# The first rows of a page are tested; the predictions of thousands would take minutes to read.
MOST_ROWS = 30
BOTH, WEIGHTS, BOUND, SEEDS = "seeds and pictures", "these weights", "seeds and pictures, bound", "seeds"


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What the tests of a page say: ``judgement`` of its first ``tested`` ranked rows, None of fewer than two.

    ``by_pictures``: rows judged by their predictions. ``unused``: runs whose predictions could not be used.
    ``flattery``: by how much the first looks better than it is because it was chosen by this score. ``read`` has the
    predictions of the first two rows' runs, for the page's figures.
    """

    judgement: Judgement | None
    tested: int
    by_pictures: int
    unused: int
    clusters: int = 0
    flattery: float = float("nan")
    read: Mapping[str, Predictions] = field(default_factory=dict)


def claim(
    table: pd.DataFrame, runs: pd.DataFrame, uri: str, metric: str, split: str, cluster: str = ""
) -> dict[str, Claims]:
    """The claims of each page of ``table``, whose columns are filled in; ``runs`` are the candidates."""
    sources = source_of(cluster) if cluster else None
    scored = runs.get(f"metrics.{metric}")
    scores = dict(zip(runs["run_id"], [np.nan] * len(runs) if scored is None else scored, strict=True))
    places = dict(zip(runs["run_id"], runs["artifact_uri"], strict=True))
    table["rank_low"], table["rank_high"] = table["rank"], table["rank"]
    table["tier"] = pd.array([pd.NA] * len(table), dtype="Int64")
    intervals(table, metric, split)
    found = {}
    for key, rows in table.groupby("page", sort=False):
        first = rows.index[rows["rank"].notna()][:MOST_ROWS]
        found[str(key)] = _page(table, rows, first, scores, places, uri, metric, split, sources)
    if sources is not None:
        sources.check()
    return found


def intervals(table: pd.DataFrame, metric: str, split: str) -> None:
    """The intervals as far as the table alone allows: Wilson's for one run, the seeds' spread and a bound for several.

    Without predictions nothing says how much the seeds agree on the pictures: the bound takes them to agree on all.
    """
    mean, spread, n = (table[metric + s].to_numpy(dtype=np.float64) for s in ("", "_spread", "_n"))
    images = table.get(names.num_images(split))
    low, high = stats.t_interval(mean, spread, n)
    known = names.ALL.get(("metric", metric))
    least = -np.inf if known is None or known.low is None else known.low
    most = np.inf if known is None or known.high is None else known.high
    if metrics.is_share(metric):
        least, most = 0, 1
    low, high = np.clip(low, least, most), np.clip(high, least, most)
    kind = np.where(np.isnan(low), "", SEEDS).astype(object)
    if metrics.is_proportion(metric) and images is not None:
        pictures = images.to_numpy(dtype=np.float64)
        wilson_low, wilson_high = stats.wilson(mean, pictures)
        alone = (n == 1) & ~np.isnan(wilson_low)
        low, high = np.where(alone, wilson_low, low), np.where(alone, wilson_high, high)
        kind[alone] = WEIGHTS
        for i in np.flatnonzero((n > 1) & ~np.isnan(wilson_low)):
            parts = two_way.Parts(
                np.array([spread[i] ** 2 / n[i], mean[i] * (1 - mean[i]) / pictures[i]]),
                np.array([n[i] - 1, max(pictures[i] - 1, 1)]),
            )
            low[i], high[i] = two_way.score_interval(float(mean[i]), parts, float(pictures[i]))
            kind[i] = BOUND
    table["low"], table["high"], table["interval"] = low, high, kind


def _page(
    table: pd.DataFrame,
    rows: pd.DataFrame,
    first: pd.Index[Any],
    scores: dict[str, float],
    places: dict[str, Any],
    uri: str,
    metric: str,
    split: str,
    sources: Sources | None,
) -> Claims:
    members = [_members(table.loc[i], scores, metric) for i in first]
    wanted = [run for runs in members for run, _ in runs] if metric == f"{split}_accuracy" else []
    there, unreadable = _read(uri, wanted, places, split)
    found, unused = _usable(there, scores)
    groups = _groups(found, sources)
    entries = []
    images = names.num_images(split) if metrics.is_proportion(metric) else ""
    for i, runs in zip(first, members, strict=True):
        hits = None
        if runs and all(run in found for run, _ in runs):
            plain = np.stack([found[run].hits for run, _ in runs]).astype(np.float64)
            hits = two_way.by_cluster(plain, groups)
        entries.append(
            Entry(
                seeds=tuple(seed for _, seed in runs),
                scores=np.array([scores[run] for run, _ in runs], dtype=np.float64),
                hits=hits,
                answers=0 if hits is None else plain.shape[1],
                pictures=float(table.loc[i, images]) if images in table.columns else float("nan"),
            )
        )
    for i, entry in zip(first, entries, strict=True):
        if entry.hits is not None and entry.answers and len(entry.seeds) + (groups is not None) > 1:
            table.loc[i, ["low", "high"]] = two_way.score_interval(
                entry.mean, two_way.variance(entry.hits), two_way.answers(entry.hits)
            )
            table.loc[i, "interval"] = BOTH if len(entry.seeds) > 1 else WEIGHTS
    by_pictures = sum(e.hits is not None for e in entries)
    read = {run: there[run] for runs in members[:2] for run, _ in runs if run in there}
    if len(entries) < 2:
        table.loc[first, "tier"] = 1
        return Claims(
            judgement=None, tested=len(entries), by_pictures=by_pictures, unused=unused + unreadable, read=read
        )
    judgement = judge(entries, higher=metrics.higher_is_better(metric))
    table.loc[first, "rank_low"], table.loc[first, "rank_high"] = judgement.ranks
    table.loc[first, "tier"] = judgement.tiers
    return Claims(
        judgement=judgement,
        tested=len(entries),
        by_pictures=by_pictures,
        unused=unused + unreadable,
        clusters=0 if groups is None else int(groups.max()) + 1,
        flattery=_flattery(rows, entries, metric, split),
        read=read,
    )


def _members(row: pd.Series[Any], scores: dict[str, float], metric: str) -> list[tuple[str, Any]]:
    """The runs a row's score is the mean of, with their seeds; runs that are no seeds have none."""
    runs = [
        (run, seed if row["seeded"] else None)
        for run, seed in zip(row["run_ids"], row["seeds"], strict=True)
        if run not in row["repeats"]
    ]
    values = pd.Series([scores[run] for run, _ in runs], dtype="float64")
    legal = metrics.is_legal(metric, values)
    return [one for one, keep in zip(runs, legal, strict=True) if keep]


def _read(uri: str, runs: Sequence[str], places: dict[str, Any], split: str) -> tuple[dict[str, Predictions], int]:
    """The predictions that are there, and how many cannot be read."""

    def one(run: str) -> Predictions | None | Exception:
        try:
            return load(uri, places.get(run), split)
        except UNREADABLE as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(one, runs))
    found = {run: p for run, p in zip(runs, read, strict=True) if isinstance(p, Predictions) and len(p.label)}
    return found, sum(isinstance(p, Exception) for p in read)


def _usable(found: dict[str, Predictions], scores: dict[str, float]) -> tuple[dict[str, Predictions], int]:
    """Those of the pictures that most have, that give the score the run logged; and how many others there are."""
    pictures = {run: hash((tuple(p.digest), p.label.tobytes())) for run, p in found.items()}
    common = Counter(pictures.values()).most_common(1)
    usable = {
        run: p
        for run, p in found.items()
        if pictures[run] == common[0][0] and abs(float(p.hits.mean()) - scores[run]) <= 1 / len(p.label) + 1e-6
    }
    return usable, len(found) - len(usable)


def _groups(found: dict[str, Predictions], sources: Sources | None) -> NDArray[np.int64] | None:
    """The source of each picture, numbered; None where they are not asked for."""
    if sources is None or not found:
        return None
    return np.unique([sources(str(key)) for key in next(iter(found.values())).key], return_inverse=True)[1].ravel()


def _flattery(rows: pd.DataFrame, entries: Sequence[Entry], metric: str, split: str) -> float:
    """Over all ranked rows of the page; what they share on the pictures is that of the rows judged by them."""
    ranked = rows.loc[rows["rank"].notna()]
    mean, spread, n = (ranked[metric + s].to_numpy(dtype=np.float64) for s in ("", "_spread", "_n"))
    sign = 1 if metrics.higher_is_better(metric) else -1
    images = ranked.get(names.num_images(split))
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(n > 1, spread**2 / n, np.nan)
        if metrics.is_proportion(metric) and images is not None:
            share = mean * (1 - mean) / images.to_numpy(dtype=np.float64)
            variance = np.maximum(np.nan_to_num(variance), np.where(n > 1, share / n, share))
    columns = [e.hits.mean(axis=0) for e in entries if e.hits is not None and len(e.seeds) == 1]
    return stats.flattery(sign * mean, variance, shared=stats.shared_part(np.stack(columns)) if columns else 0.0)
