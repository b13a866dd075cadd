"""The leaderboard's page: the answer, the table and its evidence, what is missing, what looks wrong."""

from __future__ import annotations

import shlex

import pandas as pd

from reports.board import answer, missing
from reports.board import columns as cells
from reports.board.board import Board, Page
from reports.board.evidence import gather
from reports.board.runs import column
from reports.document import Document, text
from reports.document.document import Bullets, Code, Column, Heading, Listing, Paragraph, Span, Table, joined
from reports.store import export_lines
from tracking import names
from tracking.frame import load
from tracking.store import connection

MOST_COMMANDS = 20
MOST_NAMED = 8


def document(board: Board, *, with_figures: bool = True) -> Document:
    """The whole page."""
    many = len(board.pages) > 1
    paper = Document("Leaderboard", contents=many)
    if not board.pages:
        paper.add(Paragraph("No run has finished yet: nothing is ranked.", "answer"))
    for number, page in enumerate(board.pages, 1):
        name = f"{number}-" if many else ""
        evidence = gather(board, page, name, with_figures=with_figures)
        said = Paragraph(answer.sentence(page.table, page.name, board.ask, evidence.verdict), "answer")
        if not many:
            paper.add(said)
        elif number == 1:
            paper.add(
                said,
                Paragraph(
                    f"There are {len(board.pages)} sets of {board.ask.split} pictures. Scores are only"
                    " comparable within one set, so each has its own ranking.",
                    "note",
                ),
            )
        paper.add(*_warnings(board) if number == 1 else ())
        paper.add(Heading(_title(page, board)))
        if page.name != page.dataset:
            paper.add(Paragraph(("Data: ", Code(page.dataset)), "note"))
        if many and number > 1:
            paper.add(said)
        paper.add(*_ranking(page, board))
        if evidence.figures:
            paper.add(Heading("Figures", 3), *evidence.figures)
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
                f"The epoch was chosen by {ask.best}, so these scores are too optimistic: the test split may only"
                " be used once, after validation has chosen.",
                "warning",
            )
        ]
    return []


def _title(page: Page, board: Board) -> tuple[Span, ...]:
    """``digits: 360 test pictures ab12…``."""
    split = board.ask.split
    images = page.table[names.num_images(split)].dropna()
    count = f"{text.count(images.max())} " if len(images) else ""
    data = f"{page.name}: " if page.dataset else ""
    if not page.digest:
        said = f"{data}{count}{split} pictures (which ones was not recorded)"
        return (said if data or count else f"{split.capitalize()} data not recorded",)
    return (f"{data}{count}{split} pictures ", Code(page.digest))


def _ranking(page: Page, board: Board) -> list[Table | Paragraph | Heading]:
    ask = board.ask
    whole = page.table
    table = whole.head(ask.top) if ask.top else whole
    table.attrs = dict(whole.attrs)
    leader = tuple(i for i, r in enumerate(table["rank"]) if not text.is_missing(r) and r == 1)
    more = len(whole) - len(table)
    columns, cut = cells.ranking(table, ask, connection.public(board.store.tracking_uri))
    blocks: list[Table | Paragraph | Heading] = [
        Table(columns, leader, more, named=1),
        *_cut(cut),
        Paragraph(_legend(whole, board), "note"),
    ]
    same = whole.attrs["pages"][str(whole["page"].iloc[0])]["same"]
    if same:
        blocks.append(Paragraph(f"Unless a name says otherwise: {', '.join(same)}.", "note"))
    both = answer.depth_by_start(whole, ask)
    if both is not None:
        blocks += [Heading("Depth and start", 3), *both]
    took = cells.effort(table)
    if took is not None:
        blocks += [Heading("What it took", 3), Table(took, (), more, named=1)]
    return blocks


def _cut(settings: list[str]) -> list[Paragraph]:
    """The settings that differ and have no place in the table."""
    if not settings:
        return []
    few = ",".join(settings[:MOST_NAMED])
    said = f"{text.plural(len(settings), 'more setting')} {'differs' if len(settings) == 1 else 'differ'}: "
    rest = f", and {len(settings) - MOST_NAMED} more" if len(settings) > MOST_NAMED else ""
    return [Paragraph((said, Code(f"--columns {few}"), f"{rest}."), "note")]


def _legend(table: pd.DataFrame, board: Board) -> str:
    """What the numbers mean, as far as these need it."""
    ask = board.ask
    parts = []
    what = cells.of_what(table)
    if (table["n"] > 1).any():
        parts.append(f"± is one standard deviation over {what}")
    wilson = table.loc[table["interval"] == "Wilson"]
    if len(wilson):
        alone = wilson[f"{ask.metric}_n"] == 1
        one = "one seed" if wilson.loc[alone, "seeded"].all() else "one run"
        kinds = ([one] if alone.any() else []) + ([f"{what} that agree"] if not alone.all() else [])
        parts.append(f"the interval of {text.join(kinds, 'or')} is Wilson's: it covers the choice of test pictures")
    if (table["interval"] == "t").any():
        parts.append(
            f"the interval of several {what} is Student's t: it covers repeated training, not the choice of test"
            " pictures"
        )
    if ask.best and board.finished["at_step"].isna().all():
        parts.append(
            f"{ask.best} was logged once a run, so there is no epoch to choose: train and validation are the last"
            " values"
        )
    elif ask.best:
        parts.append(f"train and validation are those of the epoch with the best {ask.best}")
    elif ask.at_step is not None:
        parts.append(f"train and validation are those of epoch {ask.at_step}")
    elif table[names.BEST_VALIDATION_ACCURACY].notna().any():
        parts.append("validation is that of the checkpoint that was kept and tested, train that of the last epoch")
    if table["gap"].notna().any():
        parts.append("gap is train minus test in points")
    if any(table[f"{m}_bad"].any() for m in (names.TRAIN_ACCURACY, "validation", names.TEST_ACCURACY)):
        parts.append(f"{cells.IMPOSSIBLE} marks an impossible value")
    if not parts:
        return "Each row is one run."
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}."


def _missing(page: Page, board: Board) -> list[Heading | Table | Paragraph | Listing]:
    if board.ask.metric != names.TEST_ACCURACY:
        return []
    lacking = missing.gaps(page)
    if not lacking.found and not lacking.foreign:
        return []
    blocks: list[Heading | Table | Paragraph | Listing] = [Heading("What is missing", 3)]
    if lacking.found:
        commands = list(dict.fromkeys(gap.command for gap in lacking.found))
        lines = [*export_lines(board.store), *commands[:MOST_COMMANDS]]
        fills = f"To fill the {'gap' if lacking.total == 1 else 'gaps'}:"
        blocks += [_gaps(lacking, page, board), Paragraph(fills), Listing("\n".join(lines))]
        if any("--dataset PATH" in command for command in commands):
            said = (
                "PATH: test pictures for these runs, of the same classes; a folder without splits is used as a whole."
            )
            blocks.append(Paragraph(said, "note"))
        if len(commands) > MOST_COMMANDS:
            blocks.append(
                Paragraph(("To fill all of them at once: ", Code("python -m trainers.evaluate --missing"), "."))
            )
    if lacking.foreign:
        blocks.append(_other_metrics(lacking.foreign, board))
    return blocks


def _gaps(lacking: missing.Gaps, page: Page, board: Board) -> Table:
    label_of = {
        run: label for ids, label in zip(page.table["run_ids"], page.table["label"], strict=True) for run in ids
    }
    found = lacking.found
    configurations = [label_of[gap.run_id] for gap in found]
    uri = connection.public(board.store.tracking_uri)
    place = dict(zip(page.runs["run_id"], page.runs["experiment_id"], strict=True))
    columns = (
        Column(
            "run", False, [(cells.run_text(g.run_id, place[g.run_id], uri),) for g in found], [g.run_id for g in found]
        ),
        Column("configuration", False, configurations, configurations),
        Column("why", False, [g.why for g in found], [g.why for g in found]),
    )
    return Table(columns, (), lacking.total - len(found))


def _other_metrics(num_runs: int, board: Board) -> Paragraph:
    """The metrics that the runs of another tool can be ranked by."""
    were = "was" if num_runs == 1 else "were"
    said = f"{text.plural(num_runs, 'run')} {were} logged by another tool, without a metric test_accuracy."
    newest = load(board.store, board.ask.experiments, board.ask.filter, ["metrics.*"], limit=200)
    found = [c[8:] for c in newest.columns if c.startswith("metrics.")]
    other = [m for m in found if ("metric", m) not in names.ALL][:12]
    if not other:
        return Paragraph(said)
    listed = joined([(Code(m),) for m in other])
    best = next((m for m in other if "acc" in m.lower()), other[0])
    command = shlex.join(["python", "-m", "reports", "leaderboard", "--metric", best])
    return Paragraph((f"{said} Other metrics: ", *listed, "; to rank by one: ", Code(command), "."))


def _findings(board: Board) -> list[Heading | Bullets]:
    if not board.findings:
        return []
    place = dict(zip(board.runs["run_id"], board.runs["experiment_id"], strict=True))
    uri = connection.public(board.store.tracking_uri)
    items: list[tuple[Span, ...]] = []
    for finding in board.findings:
        said: tuple[Span, ...] = (_sentence(finding.text),)
        if finding.command:
            said = (*said, f" {finding.purpose}: ", Code(finding.command), ".")
        if not finding.run_ids:
            items.append(said)
            continue
        ids = [cells.run_text(run, place[run], uri) for run in finding.run_ids[:4]]
        more = [f"{len(finding.run_ids) - 4} more"] if len(finding.run_ids) > 4 else []
        items.append((*joined([*((i,) for i in ids), *more]), ": ", *said))
    return [Heading("What looks wrong"), Bullets(tuple(items))]


def _sentence(said: str) -> str:
    """With a capital, unless it begins with the name of a setting or metric."""
    return said if "_" in said.split(" ", 1)[0] else said[0].upper() + said[1:]


def _failed(board: Board) -> list[Heading | Paragraph | Table | Listing]:
    runs = board.failed
    if runs.empty:
        return []
    uri = connection.public(board.store.tracking_uri)
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
    blocks: list[Heading | Paragraph | Table | Listing] = [
        Heading("Failed runs"),
        Paragraph(f"{text.plural(len(runs), 'run')} ended without a result, after {took}{spent} in total."),
        Table(tuple(columns), (), len(runs) - len(here)),
    ]
    begun = column(here, f"metrics.{names.TRAIN_ACCURACY}").notna()
    own = column(here, f"tags.{names.LAUNCHER}") == "local"
    stopped = here.loc[(here["status"] == "KILLED") & begun & own, "run_id"]
    if len(stopped):
        lines = [f"python -m trainers.run --resume {run}" for run in stopped.tail(MOST_COMMANDS)]
        blocks += [
            Paragraph("Stopped on this machine; to continue from the last complete epoch:"),
            Listing("\n".join([*export_lines(board.store), *lines])),
        ]
    return blocks


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
    uri = connection.public(board.store.tracking_uri)
    listed = [
        (f"{text.one_line(name or '')} ", cells.run_text(run, experiment, uri))
        for name, run, experiment in zip(runs["run_name"], runs["run_id"], runs["experiment_id"], strict=True)
    ]
    kinds = text.join(sorted({text.one_line(t) for t in column(runs, f"tags.{names.PRETEXT}")}))
    return [
        Paragraph(
            (
                f"Pretext runs ({kinds}), not ranked; they only provide starting weights: ",
                *joined(listed),
                ".",
            ),
            "note",
        )
    ]
