"""The leaderboard for machines: CSV (one row a configuration) and JSON (the whole page, which ``--against`` reads)."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from reports.board.answer import between_seeds, sentence
from reports.board.board import Board
from reports.board.evidence import gather
from reports.board.missing import gaps
from reports.board.runs import REPORT
from reports.document import Document, document
from reports.document.json_text import FORMAT, dumps, plain
from reports.document.text import one_line
from reports.errors import ReportError
from tracking import names

_INNER = ("page", "experiment_id")


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


def _runs(runs: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"run_id": r, "run_name": plain(n), "status": s}
        for r, n, s in zip(runs["run_id"], runs["run_name"], runs["status"], strict=True)
    ]


FORMATS = ("md", "html", "csv", "json")


def render(board: Board, format: str) -> str:
    """The text of ``board`` in one of ``FORMATS``, ending in one newline."""
    if format == "md":
        from reports.board.page import document
        from reports.document.markdown import render as as_markdown

        return as_markdown(document(board, with_figures=False))
    if format == "html":
        from reports.board.page import document
        from reports.document.html import render as as_html

        return as_html(document(board))
    if format == "csv":
        return to_csv(board)
    if format == "json":
        return to_json(board)
    raise ReportError(f"format {format!r}: legal are {', '.join(FORMATS)}")


def write(board: Board, path: Path, format: str) -> None:
    """Write the page to ``path``; markdown's figures go to a folder of the same name beside it."""
    if format == "md":
        from reports.board.page import document

        write_document(document(board), path, format)
    else:
        save(path, render(board, format))


def write_document(document: Document, path: Path, format: str) -> None:
    """Write a document as ``md`` with its figures beside it, or as ``html`` with them inside."""
    if format == "html":
        from reports.document.html import render as as_html

        save(path, as_html(document))
        return
    from reports.document.markdown import render as as_markdown

    folder = path.with_name(f"{path.stem}-figures")
    figures = {figure.name: f"{folder.name}/{figure.name}.svg" for figure in document.figures()}
    save(path, as_markdown(document, figures))
    for figure in document.figures():
        save(folder / f"{figure.name}.svg", figure.svg + "\n")


def save(path: Path, text: str) -> None:
    """Write a text file, making its folder. Raises ReportError where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}; give another --out") from error


EXPERIMENT = "reports"


def keep(board: Board) -> str:
    """Log the page as ``leaderboard.md``, ``.html`` and ``.json``; returns the run's id.

    The run carries the tag ``report``, so that no leaderboard takes it for a candidate.
    """
    from tracking.store import Store, connection

    uri = board.store.tracking_uri
    store = board.store if isinstance(board.store, Store) else Store(uri, None, Path("mlruns"))
    with TemporaryDirectory() as folder, connection.translated(uri):
        for format in ("md", "html", "json"):
            write(board, Path(folder) / f"leaderboard.{format}", format)
        client = store.client()
        run = client.create_run(store.experiment_id(EXPERIMENT), run_name="leaderboard", tags={REPORT: "leaderboard"})
        client.log_artifacts(run.info.run_id, folder)
        client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)
