"""The leaderboard for machines: CSV (one row a configuration) and JSON (the whole page, which ``--against`` reads)."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import numpy as np
import pandas as pd

from reports.board.answer import between_seeds, sentence
from reports.board.board import Board
from reports.board.evidence import gather
from reports.board.missing import gaps
from reports.document import document
from reports.document.text import is_missing, one_line
from tracking import names

FORMAT = 1
_INNER = ("page", "experiment_id")


def plain(value: Any) -> Any:
    """Python's own types only: no NumPy array or scalar, no NaN, tuples as lists."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, float):
        # Twelve digits: what is beyond is the order of additions, which may differ between versions of numpy.
        return float(f"{value:.12g}")
    return value


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The table's rows as dictionaries, missing values as None."""
    columns = [(c, table[c].tolist()) for c in table.columns]
    return [{str(c): plain(values[i]) for c, values in columns} for i in range(len(table))]


def to_csv(board: Board) -> str:
    """Raw numbers, one row a configuration and line; lists are joined by semicolons, missing values empty."""
    out = io.StringIO()
    rows = [{k: v for k, v in r.items() if k not in _INNER} for r in records(board.table)]
    digests = {key: page.digest for page in board.pages for key in page.table["page"]}
    heads = [str(c) for c in board.table.columns if c not in _INNER]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([f"{board.ask.split}_dataset_digest", *heads])
    for row, page in zip(rows, board.table["page"], strict=True):
        cells = ["; ".join(str(_word(w)) for w in v) if isinstance(v, list) else _word(v) for v in row.values()]
        writer.writerow([digests[page], *cells])
    return out.getvalue()


def _word(value: Any) -> Any:
    return "" if value is None else one_line(value) if isinstance(value, str) else value


def to_json(board: Board) -> str:
    """The whole page, keys sorted, two spaces, so that it diffs well."""
    return dumps(as_dict(board))


def as_dict(board: Board) -> dict[str, Any]:
    """The page as plain values: pages with their rows, what is missing, wrong, failed."""
    pages = []
    for number, page in enumerate(board.pages, 1):
        verdict = gather(board, page, f"{number}-", with_figures=False).verdict
        lacking = gaps(page).found if board.ask.metric == names.TEST_ACCURACY else []
        ranked = page.table.loc[page.table["rank"].notna()]
        over_seeds = between_seeds(ranked.iloc[0], ranked.iloc[1], board.ask) if len(ranked) > 1 else None
        pages.append(
            {
                "dataset": page.dataset,
                "digest": page.digest,
                "answer": document.plain(sentence(page.table, page.dataset, board.ask, verdict)),
                "significant": None if verdict is None else verdict.significant,
                "p_value": None if verdict is None else plain(verdict.difference.p_value),
                "p_value_over_seeds": plain(over_seeds),
                "rows": [{k: v for k, v in row.items() if k not in _INNER} for row in records(page.table)],
                "missing": [{"run_id": g.run_id, "why": g.why, "command": g.command} for g in lacking],
            }
        )
    return {
        "format": FORMAT,
        "metric": board.ask.metric,
        "by": list(board.ask.by),
        "pages": pages,
        "findings": [{"text": f.text, "run_ids": list(f.run_ids), "command": f.command} for f in board.findings],
        "failed": _runs(board.failed),
        "running": _runs(board.running),
        "sources": _runs(board.sources),
    }


def dumps(body: Any) -> str:
    """JSON that is the same text for the same values."""
    return json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _runs(runs: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"run_id": r, "run_name": plain(n), "status": s}
        for r, n, s in zip(runs["run_id"], runs["run_name"], runs["status"], strict=True)
    ]
