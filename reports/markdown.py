"""The leaderboard as CommonMark with GitHub's tables, aligned so that it reads well in a terminal too."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports import text
from reports.board import Board, Page
from reports.cells import Column, core_columns, run_text
from reports.text import markdown as md
from tracking import names


def table(heads: Sequence[str], rights: Sequence[bool], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table, padded. ``rows`` hold markdown already."""
    widths = [max(3, *(text.width(r[i]) for r in (heads, *rows))) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(text.pad(c, w, r) for c, w, r in zip(cells, widths, rights, strict=True)) + " |"

    rule = "| " + " | ".join("-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, rights, strict=True)) + " |"
    return "\n".join([line(heads), rule, *(line(r) for r in rows)])


def from_columns(columns: Sequence[Column]) -> str:
    """A pipe table of rendered columns."""
    rows = [[md(c) for c in cells] for cells in zip(*(c.cells for c in columns), strict=True)]
    return table([md(c.title) for c in columns], [c.right for c in columns], rows)


def leaderboard(board: Board) -> str:
    """The whole page."""
    parts = ["# Leaderboard"]
    for page in board.pages:
        parts += _page(page, board)
    if len(board.pages) > 1:
        parts.insert(1, f"{len(board.pages)} sets of test pictures; scores compare within one, never across.")
    if len(board.sources):
        listed = [
            f"{md(n)} (`{text.short(r)}`)"
            for r, n in zip(board.sources["run_id"], board.sources["run_name"], strict=True)
        ]
        parts.append(f"Sources for transfer, trained on a made-up task and no candidates: {text.join(listed)}.")
    if len(board.running):
        listed = [f"`{text.short(r)}`" for r in board.running["run_id"]]
        parts.append(f"Still running: {text.join(listed)}.")
    if len(board.failed):
        parts += ["## Failed runs", _failed(board.failed)]
    return "\n\n".join(parts) + "\n"


def _page(page: Page, board: Board) -> list[str]:
    digest = f"test data `{page.digest}`" if page.digest else "test data not recorded"
    parts = [f"## {md(page.dataset or 'data not recorded')}, {digest}"]
    columns = core_columns(page.table, board.ask)
    columns.append(Column("run", False, [run_text(ids) for ids in page.table["run_ids"]], []))
    parts.append(from_columns(columns))
    missing = page.table.loc[page.table["rank"].isna()]
    if len(missing) and board.ask.metric == names.TEST_ACCURACY:
        commands = [f"python -m trainers.evaluate {run}" for ids in missing["run_ids"] for run in ids]
        parts.append("Missing test accuracy, and the command that fills it:")
        parts.append("```sh\n" + "\n".join(commands) + "\n```")
    return parts


def _failed(runs: pd.DataFrame) -> str:
    from reports.source import column

    rows = [
        [f"`{text.short(r)}`", md(n), s, md(text.MISSING if text.is_missing(why) else why)]
        for r, n, s, why in zip(
            runs["run_id"], runs["run_name"], runs["status"], column(runs, f"tags.{names.STATUS_REASON}"), strict=True
        )
    ]
    return table(["run", "name", "status", "reason"], [False] * 4, rows)
