"""What changed since a saved leaderboard: short enough for a comment on a pull request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports import metrics
from reports.board import export
from reports.board.board import Board
from reports.board.runs import BoardQuery
from reports.document import Document, json_text, text
from reports.document.document import Code, Column, Paragraph, Table, Text
from reports.document.report import Report
from reports.errors import ReportError

MOST = 20


@dataclass(frozen=True)
class Change:
    """One configuration on one page: its rows before and now, None where it has none."""

    digest: str
    before: dict[str, Any] | None
    now: dict[str, Any] | None

    def kind(self, metric: str) -> str:
        """``new``, ``gone``, ``score``, ``rank``, ``runs``, or empty for no change."""
        if self.before is None or self.now is None:
            return "new" if self.before is None else "gone"
        for kind, key in (("score", metric), ("rank", "rank"), ("runs", "run_ids")):
            if self.before.get(key) != self.now.get(key):
                return kind
        return ""


def report(board: Board, saved: Path) -> Report:
    """The changes since the leaderboard saved as JSON at ``saved``. Raises ReportError where it does not compare."""
    before, now = load(saved, board.ask), export.as_dict(board)
    return Report(lambda _: document(before, now, board.ask), lambda: as_dict(before, now))


def as_dict(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The changes as plain values."""
    metric = now["metric"]
    found = [
        {"digest": c.digest, "change": c.kind(metric), "before": c.before, "now": c.now} for c in changes(before, now)
    ]
    return {"format": json_text.FORMAT, "metric": metric, "changes": found}


def load(path: Path, ask: BoardQuery) -> dict[str, Any]:
    """A leaderboard saved with ``--format json``. Raises ReportError for another file, metric or grouping."""
    how = "save one with: python -m reports leaderboard --format json --out main.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"--against {path}: {error.strerror or error}; {how}") from error
    except ValueError as error:
        raise ReportError(f"--against {path}: this is not JSON ({error}); {how}") from error
    if not isinstance(saved, dict) or saved.get("format") != json_text.FORMAT or "pages" not in saved:
        raise ReportError(f"--against {path}: this is not a leaderboard of format {json_text.FORMAT}; {how}")
    if saved.get("metric") != ask.metric:
        raise ReportError(
            f"--against {path}: it ranks by {saved.get('metric')!r}, this one by {ask.metric!r}; give --metric"
        )
    if tuple(saved.get("by", ())) != ask.by:
        kinds = [", ".join(by) or "whole configurations" for by in (saved.get("by", ()), ask.by)]
        raise ReportError(f"--against {path}: its rows are {kinds[0]}, here they are {kinds[1]}; give the same --by")
    return saved


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[Change]:
    """What differs, page by page: today's ranking first, then what is gone."""
    then, today = _rows(before), _rows(now)
    metric = str(now["metric"])
    every = [Change(key[0], then.get(key), row) for key, row in today.items()]
    every += [Change(key[0], row, None) for key, row in then.items() if key not in today]
    return [change for change in every if change.kind(metric)]


def document(before: dict[str, Any], now: dict[str, Any], ask: BoardQuery) -> Document:
    """The answer of today and a table of the changes."""
    paper = Document("What changed on the leaderboard")
    found = changes(before, now)
    answers = [page["answer"] for page in now["pages"]]
    former = {page["digest"]: page["rows"][0]["config"] for page in before["pages"] if page["rows"]}
    if not found:
        paper.add(
            Paragraph("Nothing changed: every configuration has the same score, rank and runs as before.", "answer")
        )
    for page, said in zip(now["pages"], answers, strict=True):
        leader = page["rows"][0]["config"] if page["rows"] else None
        if any(c.digest == page["digest"] for c in found):
            same = former.get(page["digest"]) == leader
            head = "" if page["digest"] not in former else "Same leader. " if same else "New leader. "
            paper.add(Paragraph(f"{head}{said}", "answer"))
    if found:
        shown = found[:MOST]
        paper.add(Table(_columns(shown, ask, len(now["pages"]) > 1), (), len(found) - len(shown)))
    return paper


def _rows(saved: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (str(page["digest"] or page["dataset"]), str(row["config"])): row
        for page in saved["pages"]
        for row in page["rows"]
    }


def _columns(found: list[Change], ask: BoardQuery, many: bool) -> tuple[Column, ...]:
    labels: list[Text] = [str((c.now or c.before or {}).get("label", "")) for c in found]
    columns = [Column("configuration", False, labels)]
    if many:
        columns.append(Column("test data", False, [(Code(text.short(c.digest)),) for c in found]))
    columns += [
        Column("change", False, [c.kind(ask.metric) for c in found]),
        Column("before", True, [_score(c.before, ask) for c in found]),
        Column("now", True, [_score(c.now, ask) for c in found]),
        Column("difference", True, [_difference(c, ask) for c in found]),
        Column("rank", True, [_rank(c) for c in found]),
    ]
    return tuple(columns)


def _score(row: dict[str, Any] | None, ask: BoardQuery) -> str:
    """``97.8 ± 0.4 % (n=3)``."""
    if row is None or row.get(ask.metric) is None:
        return text.MISSING
    num = row[f"{ask.metric}_n"]
    n = f" (n={num})" if num > 1 else ""
    if metrics.is_share(ask.metric):
        return text.score(row[ask.metric], row[f"{ask.metric}_spread"], num) + n
    return metrics.value_text(ask.metric, row[ask.metric]) + n


def _difference(change: Change, ask: BoardQuery) -> str:
    before, now = ((row or {}).get(ask.metric) for row in (change.before, change.now))
    if before is None or now is None:
        return text.MISSING
    return text.points(now - before, 2) if metrics.is_share(ask.metric) else f"{now - before:+.4g}"


def _rank(change: Change) -> str:
    """``3 → 1``."""
    before, now = ((row or {}).get("rank") for row in (change.before, change.now))
    shown = [text.MISSING if r is None else str(r) for r in (before, now)]
    return shown[0] if shown[0] == shown[1] else f"{shown[0]} → {shown[1]}"
