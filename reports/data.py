"""The leaderboard for machines: CSV (one row a configuration) and JSON (the whole page, which ``--against`` reads)."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import numpy as np
import pandas as pd

from reports.board import Board
from reports.text import is_missing

FORMAT = 1


def plain(value: Any) -> Any:
    """Python's own types only: no numpy scalar, no NaN, tuples as lists."""
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
    """Raw numbers, one row a configuration; lists are joined by spaces, missing values empty."""
    out = io.StringIO()
    rows = [{k: v for k, v in r.items() if k != "page"} for r in records(board.table)]
    digests = {key: page.digest for page in board.pages for key in page.table["page"]}
    names = [str(c) for c in board.table.columns if c != "page"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["test_dataset_digest", *names])
    for row, page in zip(rows, board.table["page"], strict=True):
        cells = [" ".join(map(str, v)) if isinstance(v, list) else "" if v is None else v for v in row.values()]
        writer.writerow([digests[page], *cells])
    return out.getvalue()


def to_json(board: Board) -> str:
    """Keys sorted, two spaces, so that it diffs well."""
    pages = [
        {
            "dataset": page.dataset,
            "digest": page.digest,
            "rows": [{k: v for k, v in row.items() if k != "page"} for row in records(page.table)],
        }
        for page in board.pages
    ]
    body = {
        "format": FORMAT,
        "metric": board.ask.metric,
        "pages": pages,
        "failed": _runs(board.failed),
        "running": _runs(board.running),
        "sources": _runs(board.sources),
    }
    return json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _runs(runs: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"run_id": r, "run_name": plain(n), "status": s}
        for r, n, s in zip(runs["run_id"], runs["run_name"], runs["status"], strict=True)
    ]
