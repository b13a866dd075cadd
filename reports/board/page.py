"""The leaderboard's page: the answer, the table and its evidence, what is missing, what looks wrong."""

from __future__ import annotations

import shlex

import pandas as pd

from reports import baselines
from reports.board import answer, missing
from reports.board import columns as cells
from reports.board.board import Board, Page
from reports.board.evidence import gather
from reports.board.runs import column
from reports.claims import pages
from reports.document import Document, text
from reports.document.document import (
    Bullets,
    Code,
    Column,
    Folded,
    Heading,
    Listing,
    Paragraph,
    Span,
    Table,
    Text,
    joined,
    spans,
)
from reports.metrics import Metric, suggested, value_text
from reports.store import export_lines
from tracking import names
from tracking.frame import load
from tracking.store import connection

MOST_COMMANDS = 20
MOST_NAMED = 8
INTERVALS = {
    pages.WEIGHTS: "with one {one} the interval is Wilson's: it reflects the choice of test pictures",
    pages.BOTH: "with several {what} the interval reflects retraining as well as the choice of test pictures",
    pages.BOUND: (
        "without predictions of every run the interval of several {what} is an upper bound: it assumes that all fail"
        " on the same pictures"
    ),
    pages.SEEDS: "with several {what} the interval is Student's t: it reflects retraining alone",
}


def document(board: Board, *, with_figures: bool = True) -> Document:
    """The whole page."""
    many = len(board.pages) > 1
    paper = Document("Leaderboard", contents=many)
    if not board.pages:
        paper.add(Paragraph("No run has finished yet: nothing is ranked.", "answer"))
    for number, page in enumerate(board.pages, 1):
        name = f"{number}-" if many else ""
        drawn = gather(board, page, name, with_figures=with_figures)
        said = [Paragraph(answer.sentence(page, board.ask), "answer"), *answer.notes(page, board.ask)]
        if not many:
            paper.add(*said)
        elif number == 1:
            paper.add(
                *said,
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
            paper.add(*said)
        paper.add(*_ranking(page, board))
        if drawn:
            paper.add(Heading("Figures", 3), *drawn)
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


def _ranking(page: Page, board: Board) -> list[Table | Paragraph | Heading | Folded]:
    ask = board.ask
    whole = page.table
    below = {row for rows in page.sweeps.values() for row in rows}
    lines = whole.loc[[row not in below for row in range(len(whole))]] if below else whole
    table = lines.head(ask.top) if ask.top else lines
    table.attrs = dict(whole.attrs)
    leader = tuple(i for i, tier in enumerate(table["tier"]) if not text.is_missing(tier) and tier == 1)
    more = len(lines) - len(table)
    columns, cut = cells.ranking(table, ask, connection.public(board.store.tracking_uri))
    blocks: list[Table | Paragraph | Heading | Folded] = [
        Table(columns, leader, more, named=1),
        *_cut(cut),
        Paragraph(_legend(whole, board), "note"),
        *_direction(ask.metric),
        *(_sweep(page, board, parent) for parent in page.sweeps),
    ]
    same = whole.attrs["pages"][str(whole["page"].iloc[0])]["same"]
    if same:
        blocks.append(Paragraph(f"Unless a name says otherwise: {', '.join(same)}.", "note"))
    if page.baseline is not None and names.accuracy(ask.split) in whole.columns:
        blocks += baselines.blocks(whole, page.baseline, ask.split, cells.decimals(whole, ask))
    both = answer.depth_by_start(page, ask)
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


def _sweep(page: Page, board: Board, parent: str) -> Folded:
    """The rest of a sweep, whose best row is in the ranking."""
    ask, rows = board.ask, page.table.iloc[page.sweeps[parent]]
    place = dict(zip(board.runs["run_id"], board.runs["experiment_id"], strict=True))
    called = dict(zip(board.runs["run_id"], board.runs["run_name"], strict=True))
    uri = connection.public(board.store.tracking_uri)
    at = cells.run_text(parent, place.get(parent, rows["experiment_id"].iloc[0]), uri)
    places = cells.decimals(page.table, ask)
    items = [
        f"{label}: {value_text(ask.metric, score, places)}{'' if text.is_missing(rank) else f', rank {rank}'}"
        for label, score, rank in zip(rows["label"], rows[ask.metric], rows["rank"], strict=True)
    ]
    more = len(items) - ask.top if ask.top else 0
    listed = (*items[: ask.top], f"{more} more; --top 0 shows all") if more > 0 else tuple(items)
    name = f"{text.one_line(called.get(parent) or '')} ".lstrip()
    count = text.plural(len(rows), "more configuration")
    return Folded((f"Sweep {name}", at, f": {count}; its best is in the table"), listed)


def _direction(metric: str) -> list[Paragraph]:
    """Which way another metric was ranked, and how that is known."""
    if not isinstance(metric, Metric) or (metric.known_by == "vocabulary" and metric.better == "higher"):
        return []
    first, other = ("highest", "lower") if metric.better == "higher" else ("lowest", "higher")
    if not metric.known_by:
        said = (
            f"Whether a higher or a lower {metric} is better is not known; ranked highest first. Say which with ",
            *(Code("--higher-is-better"), " or ", Code("--lower-is-better"), "."),
        )
        return [Paragraph(said, "warning")]
    how: dict[str, Text] = {
        "flag": ", as asked.",
        "vocabulary": ".",
        "study": (", the direction of its Optuna study; ", Code(f"--{other}-is-better"), " reverses it."),
        "name": (", a guess from its name; ", Code(f"--{other}-is-better"), " reverses it."),
    }
    return [Paragraph((f"Ranked by {metric}, the {first} first", *spans(how[metric.known_by])), "note")]


def _legend(table: pd.DataFrame, board: Board) -> str:
    """What the numbers mean, as far as these need it."""
    ask = board.ask
    parts = []
    what = cells.of_what(table)
    if (table["n"] > 1).any():
        parts.append(f"± is one standard deviation over {what}")
    kinds = [(kind, table.loc[table["interval"] == kind]) for kind in INTERVALS]
    parts += [
        words.format(what=what, one="seed" if rows["seeded"].all() else "run")
        for (_, rows), words in zip(kinds, INTERVALS.values(), strict=True)
        if len(rows)
    ]
    if (table["rank_high"] > table["rank_low"]).any():
        parts.append("# is the rank, or the ranks that cannot be told apart")
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
    return " ".join(f"{said[0].upper()}{said[1:]}." for said in parts)


def _missing(page: Page, board: Board) -> list[Heading | Table | Paragraph | Listing]:
    if board.ask.metric != names.TEST_ACCURACY:
        return []
    lacking = missing.gaps(page)
    if not lacking.found and not lacking.foreign and not lacking.own:
        return []
    blocks: list[Heading | Table | Paragraph | Listing] = [Heading("What is missing", 3)]
    if lacking.found:
        again = [gap.settings for gap in lacking.found if gap.settings is not None]
        alone = [gap.command for gap in lacking.found if gap.settings is None or len(again) == 1]
        commands = [*dict.fromkeys(alone), *([missing.study(again)] if len(again) > 1 else [])]
        lines = [*export_lines(board.store), *commands[:MOST_COMMANDS]]
        fills = f"To fill the {'gap' if lacking.total == 1 else 'gaps'}:"
        blocks += [_gaps(lacking, page, board), Paragraph(fills), Listing("\n".join(lines))]
        if any("--dataset PATH" in command or 'dataset = "PATH"' in command for command in commands):
            said = (
                "PATH: test pictures for these runs, of the same classes; a folder without splits is used as a whole."
            )
            blocks.append(Paragraph(said, "note"))
        if len(commands) > MOST_COMMANDS:
            blocks.append(
                Paragraph(("To fill all of them at once: ", Code("python -m trainers.evaluate --missing"), "."))
            )
    if lacking.own:
        log = Code('run.log_metrics({"test_accuracy": …})')
        were = f"{text.plural(lacking.own, 'run')} of your own code {'has' if lacking.own == 1 else 'have'}"
        blocks.append(Paragraph((f"{were} no test_accuracy; where it is computed, log it: ", log, ".")))
    if lacking.foreign:
        were = f"{text.plural(lacking.foreign, 'run')} {'was' if lacking.foreign == 1 else 'were'}"
        blocks.append(Paragraph(f"{were} logged by another tool, without a metric test_accuracy."))
    if lacking.own or lacking.foreign:
        blocks += _other_metrics(board, own=bool(lacking.own))
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


def _other_metrics(board: Board, *, own: bool) -> list[Paragraph]:
    """The metrics that the runs of other code can be ranked by."""
    newest = load(board.store, board.ask.experiments, board.ask.filter, ["metrics.*"], limit=200)
    found = [c[8:] for c in newest.columns if c.startswith("metrics.")]
    known = (names.VALIDATION_ACCURACY,) if own else ()
    other = [m for m in found if m in known or ("metric", m) not in names.ALL][:12]
    if not other:
        return []
    listed = joined([(Code(m),) for m in other])
    best = suggested(other)
    if not best:
        return [Paragraph(("Other metrics: ", *listed, "."))]
    command = shlex.join(["python", "-m", "reports", "leaderboard", "--metric", best])
    return [Paragraph(("Other metrics: ", *listed, "; to rank by one: ", Code(command), "."))]


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
