"""The leaderboard as data: runs sorted into candidates, sources and the failed; a page for each test digest."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from reports.baselines import Baseline, baseline
from reports.board.checks import Finding, findings
from reports.board.runs import PARENT, STUDY_DIRECTION, BoardQuery, column, read
from reports.board.table import tabulate
from reports.claims.pages import Claims, claim
from reports.document import text
from reports.metrics import judged
from tracking import names
from tracking.frame.query import HasUri

# Begins the key of a page whose pictures were not recorded; no digest begins so.
_NO_DIGEST = " "


@dataclass(frozen=True, kw_only=True)
class Page:
    """Scores that compare with one another: the same split of the same pictures.

    ``sweeps`` are the table's rows that one row stands for, the best of its sweep: parent run -> those below it.

    ``digest`` is empty where the runs did not log which pictures their score is from; ``runs`` are the finished
    candidates, ``table`` has a row for each of their configurations, ``claims`` what the tests of its rows say;
    ``baseline`` is what no network should be below.
    """

    dataset: str
    digest: str
    runs: pd.DataFrame
    table: pd.DataFrame
    baseline: Baseline | None
    sweeps: dict[str, list[int]]
    claims: Claims

    @property
    def key(self) -> str:
        return self.digest or self.dataset

    @property
    def name(self) -> str:
        """What to call the data: the last part of each path, with a folder where that says nothing (``test``)."""
        parts = [re.split(r"[/\\]", data.rstrip("/\\")) for data in self.dataset.split(", ")]
        called = [names.data_name(last, *reversed(folders)) if folders else last for *folders, last in parts]
        return ", ".join(dict.fromkeys(called))

    def __repr__(self) -> str:
        return f"Page({self.dataset!r}, {self.digest!r}, {text.plural(len(self.table), 'configuration')})"


@dataclass(frozen=True, kw_only=True)
class Board:
    """Everything a leaderboard says; of ``runs``, all that were read, the next five are parts.

    ``parents`` are the runs that only hold others: they have no score of their own, or repeat that of a run in them.
    """

    ask: BoardQuery
    store: HasUri
    runs: pd.DataFrame
    finished: pd.DataFrame
    failed: pd.DataFrame
    running: pd.DataFrame
    sources: pd.DataFrame
    parents: pd.DataFrame
    table: pd.DataFrame
    pages: list[Page]
    findings: list[Finding]

    @property
    def note(self) -> str:
        """Why the store had to be read the slow way; empty where it was not."""
        return str(self.runs.attrs.get("note", ""))

    def __repr__(self) -> str:
        return f"Board({text.plural(len(self.runs), 'run')}, {self.pages})"


def build(store: HasUri, ask: BoardQuery) -> Board:
    """Read, sort into pages, tabulate, look for what is wrong."""
    runs = read(store, ask)
    scores = column(runs, f"metrics.{ask.metric}")
    ask = replace(ask, metric=judged(ask.metric, scores, ask.better, _study_direction(runs.loc[scores.notna()])))
    pretext = column(runs, f"tags.{names.PRETEXT}").notna()
    status = runs["status"]
    report = column(runs, f"tags.{names.REPORT}").notna()
    ended_badly = status.isin(["FAILED", "KILLED"]) & ~report
    parent = _only_parents(runs, ask)
    finished = runs.loc[(status == "FINISHED") & ~pretext & ~report & ~parent].copy()
    finished["page"] = _page_keys(finished)
    table = tabulate(finished, ask)
    claims = claim(table, finished, store.tracking_uri, ask.metric, ask.split, ask.cluster)
    pages = _pages(store, ask, finished, table, claims)
    return Board(
        ask=ask,
        store=store,
        runs=runs,
        finished=finished,
        failed=runs.loc[ended_badly],
        running=runs.loc[~status.isin(["FAILED", "KILLED", "FINISHED"]) & ~report],
        sources=runs.loc[pretext & (status == "FINISHED")],
        parents=runs.loc[parent & (status == "FINISHED")],
        table=table,
        pages=pages,
        findings=findings(
            runs.loc[~report], finished, table, ask, {key: one.baseline for one in pages for key in one.table["page"]}
        ),
    )


def _study_direction(runs: pd.DataFrame) -> str:
    """The direction of the Optuna studies that the runs are trials of, where they have one and the same."""
    said = set(column(runs, f"tags.{STUDY_DIRECTION}").dropna())
    return {"MINIMIZE": "lower", "MAXIMIZE": "higher"}.get(said.pop(), "") if len(said) == 1 else ""


def _only_parents(runs: pd.DataFrame, ask: BoardQuery) -> pd.Series[Any]:
    """Which runs have nested ones, at least one of them scored, and no score but one that those have too."""
    score = pd.to_numeric(column(runs, f"metrics.{ask.metric}")).astype("float64")
    inside = score.notna() & column(runs, f"tags.{PARENT}").notna()
    scores_in: dict[str, set[str]] = {}  # in six digits: a best score may have been computed another way, or rounded
    for parent, value in zip(column(runs, f"tags.{PARENT}")[inside], score[inside], strict=True):
        scores_in.setdefault(str(parent), set()).add(f"{value:.6g}")
    own = zip(runs["run_id"], score, strict=True)
    alone = [run in scores_in and (value != value or f"{value:.6g}" in scores_in[run]) for run, value in own]
    return pd.Series(alone, index=runs.index, dtype=bool)


def _page_keys(runs: pd.DataFrame) -> pd.Series[Any]:
    """What decides comparability: the digest; a run without one joins its configuration's only digest, if any."""
    digest = runs["digest"].astype(object)
    known = runs.loc[digest.notna()].groupby("config")["digest"].agg(["first", "nunique"])
    only = known.loc[known["nunique"] == 1, "first"]
    digest = digest.where(digest.notna(), runs["config"].map(only))
    keys = [
        f"{_NO_DIGEST}{'' if text.is_missing(data) else data}" if text.is_missing(found) else str(found)
        for found, data in zip(digest, runs["dataset"], strict=True)
    ]
    return pd.Series(keys, index=runs.index, dtype=object)


def _sweeps(table: pd.DataFrame, runs: pd.DataFrame) -> dict[str, list[int]]:
    """Of each parent run with three ranked rows or more those after its first; none where the table is one sweep.

    Our own studies compare what was asked for by name: their rows stay.
    """
    parent = column(runs, f"tags.{PARENT}").where(column(runs, f"tags.{names.STUDY}").isna())
    parent_of = dict(zip(runs["run_id"], parent, strict=True))
    rows_of: dict[str, list[int]] = {}
    for row, (run_ids, rank) in enumerate(zip(table["run_ids"], table["rank"], strict=True)):
        if text.is_missing(rank):
            continue
        parents = {parent_of[run] for run in run_ids}
        if len(parents) == 1 and isinstance(parent := parents.pop(), str):
            rows_of.setdefault(parent, []).append(row)
    return {p: rows[1:] for p, rows in rows_of.items() if 2 < len(rows) < len(table)}


def _pages(
    store: HasUri, ask: BoardQuery, runs: pd.DataFrame, table: pd.DataFrame, claims: dict[str, Claims]
) -> list[Page]:
    """The page with most ranked rows first, then by key."""
    pages = []
    for key, rows in table.groupby("page", sort=True):
        digest = "" if str(key).startswith(_NO_DIGEST) else str(key)
        datasets = sorted({str(d) for d in runs.loc[runs["page"] == key, "dataset"].dropna()})
        rows = rows.reset_index(drop=True)
        rows.attrs = dict(table.attrs)
        here = runs.loc[runs["page"] == key]
        known = baseline(store, here, ask.split) if digest else None
        pages.append(
            Page(
                dataset=", ".join(datasets),
                digest=digest,
                runs=here,
                table=rows,
                claims=claims[str(key)],
                baseline=known,
                sweeps=_sweeps(rows, here),
            )
        )
    return sorted(pages, key=lambda p: (-int(p.table["rank"].notna().sum()), -len(p.table), p.key))
