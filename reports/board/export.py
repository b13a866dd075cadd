"""The leaderboard as a report, and for machines: CSV (one row a configuration), JSON (all of it, for ``--against``)."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from reports.board import page
from reports.board.answer import sentence
from reports.board.board import Board
from reports.board.missing import gaps
from reports.document import document
from reports.document.json_text import FORMAT, plain
from reports.document.report import WITHOUT_CSV, Report
from reports.document.text import one_line
from reports.metrics import higher_is_better
from tracking import names
from tracking.errors.words import csv_cell

EXPERIMENT = "reports"
_INNER = ("page", "experiment_id")


def report(board: Board) -> Report:
    """The leaderboard, ready to be written in any format."""
    return Report(
        lambda figures: page.document(board, with_figures=figures), lambda: as_dict(board), lambda: to_csv(board)
    )


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The table's rows as dictionaries, missing values as None."""
    columns = [(c, table[c].tolist()) for c in table.columns]
    return [{str(c): plain(values[i]) for c, values in columns} for i in range(len(table))]


def to_csv(board: Board) -> str:
    """Raw numbers, one row a configuration and line; lists are joined by semicolons, missing values empty."""
    out = io.StringIO()
    rows = [{k: v for k, v in r.items() if k not in _INNER} for r in records(board.table)]
    digests = {key: one.digest for one in board.pages for key in one.table["page"]}
    heads = [str(c) for c in board.table.columns if c not in _INNER]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(csv_cell, [f"{board.ask.split}_dataset_digest", *map(one_line, heads)]))
    for row, key in zip(rows, board.table["page"], strict=True):
        cells = ["; ".join(str(_word(w)) for w in v) if isinstance(v, list) else _word(v) for v in row.values()]
        writer.writerow(map(csv_cell, [digests[key], *cells]))
    return out.getvalue()


def _word(value: Any) -> Any:
    return "" if value is None else one_line(value) if isinstance(value, str) else value


def as_dict(board: Board) -> dict[str, Any]:
    """The page as plain values: pages with their rows, what is missing, wrong, failed."""
    pages = []
    for one in board.pages:
        judged = one.claims.judgement
        lacking = gaps(one).found if board.ask.metric == names.TEST_ACCURACY else []
        pages.append(
            {
                "dataset": one.dataset,
                "digest": one.digest,
                "commonest_class_accuracy": None if one.baseline is None else one.baseline.accuracy,
                "answer": document.plain(sentence(one, board.ask)),
                "sole_winner": None if judged is None else judged.winner,
                "p_value": None if judged is None else plain(float(judged.p_value[0, 1])),
                "smallest_lead": None if judged is None or judged.smallest == float("inf") else plain(judged.smallest),
                "rows": [{k: v for k, v in row.items() if k not in _INNER} for row in records(one.table)],
                "missing": [{"run_id": g.run_id, "why": g.why, "command": g.command} for g in lacking],
            }
        )
    return {
        "format": FORMAT,
        "metric": board.ask.metric,
        "higher_is_better": higher_is_better(board.ask.metric),
        "by": list(board.ask.by),
        "pages": pages,
        "findings": [{"text": f.text, "run_ids": list(f.run_ids), "command": f.command} for f in board.findings],
        "failed": _runs(board.failed),
        "running": _runs(board.running),
        "sources": _runs(board.sources),
    }


def _runs(runs: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"run_id": r, "run_name": plain(n), "status": s}
        for r, n, s in zip(runs["run_id"], runs["run_name"], runs["status"], strict=True)
    ]


def keep(board: Board) -> str:
    """Log the page as ``leaderboard.md``, ``.html`` and ``.json``; returns the run's id.

    The run carries the tag ``report``, so that no leaderboard takes it for a candidate.
    """
    from tracking.store import Store, connection

    uri = board.store.tracking_uri
    store = board.store if isinstance(board.store, Store) else Store(uri, None, Path("mlruns"))
    with TemporaryDirectory() as folder, connection.translated(uri):
        for ending in WITHOUT_CSV:
            report(board).save(Path(folder) / f"leaderboard.{ending}")
        client = store.client()
        run = client.create_run(
            store.experiment_id(EXPERIMENT), run_name="leaderboard", tags={names.REPORT: "leaderboard"}
        )
        client.log_artifacts(run.info.run_id, folder)
        client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)
