"""The leaderboard's page: the answer, the table and what stands behind it, what is missing, what looks wrong."""

from __future__ import annotations

import pandas as pd

from reports import answer, cells, missing, summary, text
from reports.board import Board, Page
from reports.document import Bullets, Code, Column, Document, Heading, Listing, Paragraph, Span, Table, joined
from reports.evidence import gather
from reports.source import column
from tracking import border, names

MOST_COMMANDS = 20


def document(board: Board, *, with_figures: bool = True) -> Document:
    """The whole page."""
    paper = Document("Leaderboard")
    many = len(board.pages) > 1
    if not board.pages:
        paper.add(Paragraph("No run has finished yet: nothing is ranked.", "answer"))
    for number, page in enumerate(board.pages, 1):
        name = f"{number}-" if many else ""
        evidence = gather(board, page, name, with_figures=with_figures)
        said = Paragraph(answer.sentence(page.table, page.dataset, board.ask, evidence.verdict), "answer")
        if not many:
            paper.add(said)
        elif number == 1:
            paper.add(
                said,
                Paragraph(
                    f"There are {len(board.pages)} sets of {board.ask.split} pictures. Scores compare within one, never"
                    " across, so each has a ranking of its own.",
                    "note",
                ),
            )
        paper.add(*_warnings(board) if number == 1 else ())
        paper.add(Heading(_title(page, board)))
        if many and number > 1:
            paper.add(said)
        paper.add(*_ranking(page, board))
        if evidence.figures:
            paper.add(Heading("Pictures", 3), *evidence.figures)
        paper.add(*_missing(page, board))
    paper.add(*_findings(board), *_failed(board), *_sources(board))
    if board.note:
        paper.add(Paragraph(f"The store was {board.note}.", "note"))
    return paper


def _warnings(board: Board) -> list[Paragraph]:
    ask = board.ask
    if ask.best.startswith("test_"):
        return [
            Paragraph(
                f"The epoch was chosen by {ask.best}, so these scores flatter: the test split may only be looked at"
                " once, after validation has chosen.",
                "warning",
            )
        ]
    return []


def _title(page: Page, board: Board) -> tuple[Span, ...]:
    """``digits: 360 test pictures ab12…``."""
    split = board.ask.split
    images = page.table[names.num_images(split)].dropna()
    count = f"{text.count(images.max())} " if len(images) else ""
    data = f"{page.dataset}: " if page.dataset else ""
    if not page.digest:
        said = f"{data}{count}{split} pictures, not recorded which"
        return (said if data or count else f"{split.capitalize()} pictures not recorded",)
    return (f"{data}{count}{split} pictures ", Code(page.digest))


def _ranking(page: Page, board: Board) -> list[Table | Paragraph | Heading]:
    ask = board.ask
    whole = page.table
    table = whole.head(ask.top) if ask.top else whole
    table.attrs = dict(whole.attrs)
    leader = tuple(i for i, r in enumerate(table["rank"]) if not text.is_missing(r) and r == 1)
    more = len(whole) - len(table)
    blocks: list[Table | Paragraph | Heading] = [
        Table(cells.ranking(table, ask, border.public(board.store.tracking_uri)), leader, more),
        Paragraph(_legend(whole, board), "note"),
    ]
    both = summary.depth_by_start(whole, ask)
    if both is not None:
        blocks += [Heading("Depth and start", 3), *both]
    took = cells.effort(table)
    if took is not None:
        blocks += [Heading("What it took", 3), Table(took, (), more)]
    return blocks


def _legend(table: pd.DataFrame, board: Board) -> str:
    """What the numbers mean, as far as these need it."""
    ask = board.ask
    parts = []
    if (table["n"] > 1).any():
        parts.append("± is one standard deviation over seeds")
    kinds = set(table["interval"])
    if "Wilson" in kinds:
        parts.append("the interval of one seed is Wilson's and covers other pictures of the kind")
    if "t" in kinds:
        parts.append("the interval of several seeds is Student's t and covers training anew, not other pictures")
    if ask.best:
        parts.append(f"train and validation are those of the epoch with the best {ask.best}")
    elif ask.at_step is not None:
        parts.append(f"train and validation are those of epoch {ask.at_step}")
    elif table[names.BEST_VALIDATION_ACCURACY].notna().any():
        parts.append("validation is that of the checkpoint that was kept and tested, train that of the last epoch")
    if table["gap"].notna().any():
        parts.append("gap is train minus test in points")
    if any(table[f"{m}_bad"].any() for m in (names.TRAIN_ACCURACY, "validation", names.TEST_ACCURACY)):
        parts.append(f"{cells.IMPOSSIBLE} marks a value that cannot be")
    if not parts:
        return "Each row is one run."
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}."


def _missing(page: Page, board: Board) -> list[Heading | Table | Paragraph | Listing]:
    if board.ask.metric != names.TEST_ACCURACY:
        return []
    found, total = missing.gaps(page.runs)
    if not found:
        return []
    label_of = {
        run: label for ids, label in zip(page.table["run_ids"], page.table["label"], strict=True) for run in ids
    }
    configurations = [label_of[gap.run_id] for gap in found]
    uri = border.public(board.store.tracking_uri)
    place = dict(zip(page.runs["run_id"], page.runs["experiment_id"], strict=True))
    columns = (
        Column(
            "run", False, [(cells.run_text(g.run_id, place[g.run_id], uri),) for g in found], [g.run_id for g in found]
        ),
        Column("configuration", False, configurations, configurations),
        Column("why", False, [g.why for g in found], [g.why for g in found]),
    )
    commands = "\n".join(gap.command for gap in found[:MOST_COMMANDS])
    blocks: list[Heading | Table | Paragraph | Listing] = [
        Heading("What is missing", 3),
        Table(columns, (), total - len(found)),
        Paragraph(f"What fills {'it' if total == 1 else 'them'}:"),
        Listing(commands),
    ]
    if total > MOST_COMMANDS:
        blocks.append(Paragraph(("All of them at once: ", Code("python -m trainers.evaluate --missing"), ".")))
    return blocks


def _findings(board: Board) -> list[Heading | Bullets]:
    if not board.findings:
        return []
    place = dict(zip(board.runs["run_id"], board.runs["experiment_id"], strict=True))
    uri = border.public(board.store.tracking_uri)
    items: list[tuple[Span, ...]] = []
    for finding in board.findings:
        said = _sentence(finding.text)
        if not finding.run_ids:
            items.append((said,))
            continue
        ids = [cells.run_text(run, place[run], uri) for run in finding.run_ids[:4]]
        more = [f"{len(finding.run_ids) - 4} more"] if len(finding.run_ids) > 4 else []
        items.append((*joined([*((i,) for i in ids), *more]), f": {said}"))
    return [Heading("What looks wrong"), Bullets(tuple(items))]


def _sentence(said: str) -> str:
    """With a capital, unless it begins with a name as it is typed."""
    return said if "_" in said.split(" ", 1)[0] else said[0].upper() + said[1:]


def _failed(board: Board) -> list[Heading | Paragraph | Table]:
    runs = board.failed
    if runs.empty:
        return []
    uri = border.public(board.store.tracking_uri)
    cost = pd.to_numeric(column(runs, f"metrics.{names.COST_USD}")).astype("float64")
    spent = f" and {text.money(cost.sum())}" if cost.notna().any() else ""
    took = text.duration(runs["time_s"].sum())
    top = board.ask.top or len(runs)
    here = runs.tail(top)
    reason = [_reason(*row) for row in zip(*(column(here, f"tags.{t}") for t in _WHY), strict=True)]
    named = [text.one_line(n or "") for n in here["run_name"]]
    columns = [
        Column(
            "run",
            False,
            [(cells.run_text(r, e, uri),) for r, e in zip(here["run_id"], here["experiment_id"], strict=True)],
        ),
        Column("name", False, named),
        Column("status", False, here["status"].tolist()),
        Column("reason", False, reason),
        Column("time", True, [text.duration(t) for t in here["time_s"]], here["time_s"].tolist()),
    ]
    if cost.notna().any():
        costs = cost.loc[here.index]
        columns.append(Column("cost", True, [text.money(c) for c in costs], costs.tolist()))
    return [
        Heading("Failed runs"),
        Paragraph(f"{text.plural(len(runs), 'run')} ended without a result, after {took}{spent} in all."),
        Table(tuple(columns), (), len(runs) - len(here)),
    ]


_WHY = (names.STATUS_REASON, names.ERROR_TYPE, names.FAILURE_KIND, names.ADVICE)


def _reason(reason: object, error: object, kind: object, advice: object) -> str:
    """``data: the manifest has no rows (check the bucket)``."""
    known = [text.one_line(w) if isinstance(w, str) else "" for w in (reason, error, kind, advice)]
    said = known[0] or known[1] or text.MISSING
    if len(said) > 160:
        said = said[:159].rstrip() + "…"
    return f"{known[2] + ': ' if known[2] else ''}{said}{f' ({known[3]})' if known[3] else ''}"


def _sources(board: Board) -> list[Paragraph]:
    runs = board.sources
    if runs.empty:
        return []
    uri = border.public(board.store.tracking_uri)
    listed = [
        (f"{text.one_line(name or '')} ", cells.run_text(run, experiment, uri))
        for name, run, experiment in zip(runs["run_name"], runs["run_id"], runs["experiment_id"], strict=True)
    ]
    kinds = text.join(sorted({text.one_line(t) for t in column(runs, f"tags.{names.PRETEXT}")}))
    return [
        Paragraph(
            (f"Trained on a made-up task ({kinds}), as sources for transfer and no candidates: ", *joined(listed), "."),
            "note",
        )
    ]
